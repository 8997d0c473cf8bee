# The service: brought to life, its workers told apart; and the way back.
set -euo pipefail

# Make a release the live one, unless it is, and bring it to life: by `hup`, `restart` or `start`.
# One step, which ends what it has begun: were it two, a runner that is killed between them would leave a link to one
# release and workers of another.
activate() {
  local release activation
  local "$@"
  [ -z "$release" ] || make_live "${release##*/}"
  bring_to_life "$activation"
}

# Activate the live link's release, and note what wait_for_workers needs to know of before: bring_to_life KIND
bring_to_life() {
  local master
  { read -r master <"$PID_FILE" && pgrep -P "$master"; } >"$DEPLOY_WORK/old_workers" 2>/dev/null || true
  case $1 in
    hup) hup ;;
    restart) as_root restart_service ;;
    hold) # the service has ended, and waits for its start (hold_requests)
      rm -f "$HOLD"
      # With another unit it has to begin anew; and where it no longer waits, for that took too long.
      if [ -e "$INSTALLED_NOW" ] || kill -0 "$(cat "$PID_FILE" 2>/dev/null || echo no)" 2>/dev/null; then
        as_root restart_service
      fi
      ;;
    start)
      systemctl is-active --quiet "$UNIT.socket" || as_root restart_socket
      as_root restart_service
      ;;
  esac
  # How often systemd has started the service again since somebody started it.
  systemctl show --property NRestarts --value "$UNIT.service" >"$DEPLOY_WORK/starts" || true
}

# HUP goes to the master itself: same user, no root, no signal lost (decision 9).
hup() {
  kill -HUP "$(cat "$PID_FILE" 2>/dev/null || echo no)" 2>/dev/null && return
  # Without a master, systemd is about to start one, and that one begins with the live link.
  case $(systemctl is-active "$UNIT.service" || true) in
    active | activating) echo "gunicorn has no master: systemd starts one" ;;
    *) as_root restart_service ;;
  esac
}

# Wait until workers of the release, and only those, answer: told by PIDs and their folders, not by time.
wait_for_workers() {
  local release health_path limit patience
  local "$@"
  python3 -IS "$DEPLOY_LIBRARY/programs/wait_for_workers.py" "state=$STATE" "unit=$UNIT" "work=$DEPLOY_WORK" "$@"
}

# The way back, safe at every point: ends the proof; restores files, link and workers as far as they changed.
# `old` is the release that was live before, empty when none was; `units` and `site` are the changed files.
revert() {
  local old new activation units site health_path limit patience
  local "$@"
  local again=start switched='' units_differ='' site_differs=''
  [ "$activation" != hup ] || again=hup
  stop_proof
  if [ -n "$old" ] && [ "$old" != "$new" ]; then touch "$new/.deploy/bad"; fi
  ! differ_now "$site" || site_differs=1
  ! differ_now "$units" || units_differ=1
  restore_files
  [ "$activation" != hold ] || rm -f "$HOLD"
  [ -z "$site_differs" ] || as_root reload_nginx
  if [ "$(readlink "$CURRENT")" = "releases/${new##*/}" ]; then switched=1; fi
  if [ -z "$old" ]; then
    if [ -n "$switched" ]; then
      rm -f "$CURRENT"
      as_root stop_units
    fi
  elif [ "$old" != "$new" ]; then
    if [ -n "$switched" ]; then
      make_live "${old##*/}"
      bring_to_life "$again"
    fi
    if [ -n "$switched" ] || [ -e "$DEPLOY_WORK/hold" ]; then
      wait_for_workers "release=$old" "health_path=$health_path" "limit=$limit" "patience=$patience"
    fi
  elif [ -n "$units_differ" ]; then
    bring_to_life start
  fi
  roll_back
  [ ! -e "$INSTALLED_NOW" ] || [ -e "$WAS_PENDING" ] || forget_pending
}
