# The logs of the service and of nginx.
set -euo pipefail

read_journal() {
  local lines
  local "$@"
  journalctl --unit "$UNIT" --lines "$lines" --no-pager --output short-iso 2>&1 || true
}

# The end of the site's nginx error log, as far as this user may read it.
read_nginx_errors() {
  local lines
  local "$@"
  tail -n "$lines" "/var/log/nginx/$UNIT.error.log" 2>/dev/null || true
}
