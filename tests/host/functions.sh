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

# What would be root's belongs to whoever runs the tests.
install() {
  local -a words=()
  local word before=''
  for word; do
    case "$before $word" in
      "-o root") word=$(id -un) ;;
      "-g root") word=$(id -gn) ;;
    esac
    words+=("$word")
    before=$word
  done
  command install "${words[@]}"
}
