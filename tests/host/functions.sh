# What the steps of tests/host call; it travels with the library, as one more file of it.
set -euo pipefail

# Answer with a line for each parameter: its name, and its value in base64.
show_parameters() {
  local "$@"
  set -- "${@%%=*}"
  while [ "$#" != 0 ]; do
    printf '%s %s\n' "$1" "$(printf %s "${!1}" | base64 -w0)"
    shift
  done
}
