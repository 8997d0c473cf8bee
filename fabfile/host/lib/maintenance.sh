# The site closed for maintenance: a page instead of it, or requests that wait in the socket.
set -euo pipefail

# Show the page (sent to the runner as the file maintenance.html) to all but some addresses, one a line.
close_site() {
  local addresses
  local "$@"
  local address
  rm -rf "$LET_IN.new"
  mkdir "$LET_IN.new"
  for address in $addresses; do : >"$LET_IN.new/$address"; done
  chmod -R a+rX "$LET_IN.new"
  rm -rf "$LET_IN"
  mv -T "$LET_IN.new" "$LET_IN"
  install -m 644 "$DEPLOY_FILES/maintenance.html" "$MAINTENANCE.new"
  mv -T "$MAINTENANCE.new" "$MAINTENANCE"
}

# Let requests wait in the socket for so many seconds: the service ends what it has begun, for which it has `patience`
# seconds, and does not start before that.
hold_requests() {
  local seconds patience
  local "$@"
  local master end=$((SECONDS + patience))
  date +%s >"$DEPLOY_WORK/hold"
  grep -qsF "$HOLD" "$SERVICE_FILE" || {
    echo "failed: the unit of this host does not know how to wait: it was made by an earlier version"
    echo "next: fab -H NAME deploy installs its unit; then the same command again"
    exit 1
  }
  master=$(cat "$PID_FILE" 2>/dev/null) || fail "gunicorn does not run: requests wait already, or fail"
  echo "$(($(date +%s) + seconds))" >"$HOLD.new"
  mv -T "$HOLD.new" "$HOLD"
  # It ends with the waiting, which is longer than this step.
  as_root restart_service </dev/null >/dev/null 2>&1 &
  disown
  while kill -0 "$master" 2>/dev/null; do
    [ "$SECONDS" -lt "$end" ] || {
      rm -f "$HOLD"
      fail "gunicorn does not end within $patience s, for a request takes longer: others are not held up"
    }
    sleep 0.05
  done
}

# Open the site again; answers with what had closed it: `page`, `hold`.
open_site() {
  [ ! -e "$MAINTENANCE" ] || echo page
  if [ -e "$HOLD" ] && [ "$(date +%s)" -lt "$(cat "$HOLD")" ]; then echo hold; fi
  rm -f "$HOLD" "$MAINTENANCE"
  rm -rf "$LET_IN"
}
