# The logs of the service and of nginx.
set -euo pipefail

# Answer with the runner's folder, once journalctl takes `since`; else with its words.
see_since() {
  local since
  local "$@"
  [ -z "$since" ] || journalctl --since "$since" --lines 0 --quiet
  echo "work $DEPLOY_WORK"
}

# The end of the journal of units, as journalctl names them: one a line, patterns too. With `since`, what is younger;
# with `pattern`, what has it.
read_journal() {
  local units lines since pattern
  local "$@"
  local unit
  local -a options=(--no-pager --output short-iso --lines "$lines")
  while read -r unit; do options+=(--unit "$unit"); done <<<"$units"
  [ -z "$since" ] || options+=(--since "$since")
  if [ -n "$pattern" ]; then
    # With a pattern, some versions turn the lines round unasked.
    journalctl "${options[@]}" --grep "$pattern" --case-sensitive=no --reverse 2>&1 | tac || true
  else
    journalctl "${options[@]}" 2>&1 || true
  fi
}

# What nginx itself has to say: the end of its journal, and what it holds against its files.
read_nginx() {
  local lines
  local "$@"
  journalctl --unit nginx.service --lines "$lines" --no-pager --output short-iso 2>&1 || true
  as_root test_nginx 2>&1 || true
}

# The end of nginx's logs together, by their own times. With `since`, what is younger; with `text`, what has it.
read_nginx_log() {
  local files lines since text
  local "$@"
  local path from
  local -a paths
  mapfile -t paths <<<"$files"
  from=$(seconds_of "$since")
  for path in "${paths[@]}"; do
    [ ! -e "$path" ] || [ -r "$path" ] ||
      echo "$path: $(id -un) may not read it; fab -H NAME provision puts it into the group adm"
  done
  if [ -z "$since$text" ]; then
    tail --quiet --lines "$lines" -- "${paths[@]}" 2>/dev/null || true
  else # the day before, too: logrotate leaves it as it is
    grep --no-messages --no-filename --ignore-case --fixed-strings -e "$text" -- "${paths[@]/%/.1}" "${paths[@]}" || true
  fi | python3 -IS "$DEPLOY_LIBRARY/programs/order_log.py" "$lines" "$from"
}

# A time, in the words of journalctl, as seconds since 1970; nothing for none.
seconds_of() { [ -z "$1" ] || systemd-analyze timestamp -- "$1" | sed -n 's/.*UNIX seconds: @//p'; }

# The same, and what comes, until it is ended; in a channel of its own.
follow_nginx_log() {
  local files lines since text
  local "$@"
  local -a paths
  mapfile -t paths <<<"$files"
  echo $$ >"$DEPLOY_WORK/command.pid" # with the runner goes this group
  read_nginx_log "$@"
  tail --quiet --lines 0 -F -- "${paths[@]}" 2>/dev/null |
    grep --line-buffered --ignore-case --fixed-strings -e "$text"
}
