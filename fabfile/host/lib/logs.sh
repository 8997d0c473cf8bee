# The logs of the service and of nginx.
set -euo pipefail

# The end of the journal of units, as journalctl names them: one a line, patterns too.
read_journal() {
  local units lines
  local "$@"
  local unit
  local -a options=()
  while read -r unit; do options+=(--unit "$unit"); done <<<"$units"
  journalctl "${options[@]}" --lines "$lines" --no-pager --output short-iso 2>&1 || true
}

# What nginx itself has to say: the end of its journal, and what it holds against its files.
read_nginx() {
  local lines
  local "$@"
  journalctl --unit nginx.service --lines "$lines" --no-pager --output short-iso 2>&1 || true
  as_root test_nginx 2>&1 || true
}

# The end of the site's nginx error log, as far as this user may read it.
read_nginx_errors() {
  local lines
  local "$@"
  tail -n "$lines" "/var/log/nginx/$UNIT.error.log" 2>/dev/null || true
}
