# What steps of every noun use. A function that is a step takes its parameters by name: local a b; local "$@".
set -euo pipefail

NO_RIGHT=77 # EX_NOPERM of sysexits.h: sudo refused; the client then says which command mends it

# Say why the step fails, as its last word, and end it.
fail() {
  echo "failed: $*"
  exit 1
}

# Run a command of the table of root commands (plan/rights.py), by its name there.
as_root() {
  local -a command
  local code
  read -ra command <<<"${ROOT[$1]}"
  sudo -n "${command[@]}" 2>"$DEPLOY_WORK/sudo" && return
  code=$?
  cat "$DEPLOY_WORK/sudo" >&2
  # sudo -n never asks: where a right is missing, it refuses.
  grep -q -e 'password is required' -e 'not allowed' -e 'may not run' "$DEPLOY_WORK/sudo" || return "$code"
  echo "failed: this user may not run as root: ${ROOT[$1]}"
  return "$NO_RIGHT"
}

# See that sudo allows all that is to come, before anything changes.
require_rights() {
  local rights
  local "$@"
  local name denied=''
  for name in $rights; do
    # shellcheck disable=SC2086 # the words of one command of the table
    sudo -n -l ${ROOT[$name]} >/dev/null 2>&1 || {
      echo "failed: $(id -un) may not run as root: ${ROOT[$name]}"
      denied=1
    }
  done
  [ -z "$denied" ] || exit "$NO_RIGHT"
}

# What a user may run as somebody else without a password, a line each, `right COMMAND`, with the tags that sudo lists
# before NOPASSWD (with SETENV: even a command of our own is more than ours): list_rights [OPTION]
list_rights() { sudo -n --list "$@" 2>/dev/null | sed -nE 's/^ +\([^)]*\) (.*)NOPASSWD: (.*)/right \1\2/p' || true; }

# Come to the site as a visitor does, again where that may help, and say what was found: visit TRIES NAME=VALUE...
visit() {
  local said code tries=$1
  while code=0; do
    said=$(python3 -IS "$DEPLOY_LIBRARY/programs/visit.py" "${@:2}") || code=$?
    tries=$((tries - 1))
    [ "$code" = 1 ] && [ "$tries" -gt 0 ] || break
    sleep 0.5
  done
  echo "$said"
  return "$code"
}

# Ask for a path as nginx does for a visitor, and print the status, 000 without an answer: ask PATH HEADERS ANSWER
# [OPTION]... - HEADERS, one a line, are those of plan/request.py; ANSWER is the file for the body. Further URLs among
# the options, with their --output, are asked before it, on the same connection; a line each.
ask() {
  local header
  local -a options=()
  while IFS= read -r header; do options+=(--header "$header"); done <<<"$2"
  curl --silent --max-time 10 --output "$3" --write-out '%{http_code}\n' "${options[@]}" "${@:4}" "http://127.0.0.1$1" ||
    true
}
