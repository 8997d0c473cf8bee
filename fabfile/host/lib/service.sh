# The service and its files: staged, installed, brought to life, its workers told apart; and the way back.
set -euo pipefail

# There when this run has staged files: what an earlier run has kept is not what is to come back.
STAGED_NOW=$DEPLOY_WORK/staged
# There when an earlier run was cut with files installed that are not in use: the way back cannot put those right.
WAS_PENDING=$DEPLOY_WORK/was_pending

# Put the rendered files (sent to the runner by name) in place to be installed; keep what is installed now.
# Until the end of the run each is marked as pending: after a run that was cut, it counts as one that differs, for it
# may be installed, but in use it is not.
stage_files() {
  local files
  local "$@"
  local file place
  for file in $files; do
    place=$STAGED/${file##*/}
    if [ -e "$file" ]; then cp "$file" "$place.before"; else rm -f "$place.before"; fi
    [ ! -e "$place.pending" ] || touch "$WAS_PENDING"
    touch "$place.pending"
    cp "$DEPLOY_FILES/${file##*/}" "$place.new"
    chmod 644 "$place.new"
    mv "$place.new" "$place"
  done
  touch "$STAGED_NOW"
}

# Install staged files, each only if it differs: install_staged FILES
install_staged() {
  local file
  for file in $1; do
    cmp -s "$STAGED/${file##*/}" "$file" || as_root "install:$file"
  done
}

install_units() {
  local files
  local "$@"
  install_staged "$files"
  as_root reload_units
}

# Bring back what stage_files kept: restore_staged FILES
restore_staged() {
  local file place
  for file in $1; do
    place=$STAGED/${file##*/}
    if [ -e "$place.before" ]; then cp "$place.before" "$place"; fi
  done
  install_staged "$1"
}

# Whether one of these files is another than before this run: differ_now FILES
differ_now() {
  local file
  [ -e "$STAGED_NOW" ] || return 1
  for file in $1; do
    cmp -s "$file" "$STAGED/${file##*/}.before" || return 0
  done
  return 1
}

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
# `old` is the release that was live before, empty when none was; `units`, `site` and `processes` are the changed files.
revert() {
  local old new activation units site processes health_path limit patience
  local "$@"
  local again=start switched='' units_differ=''
  [ "$activation" != hup ] || again=hup
  stop_proof
  if [ -n "$old" ] && [ "$old" != "$new" ]; then touch "$new/.deploy/bad"; fi
  if [ -n "$site" ] && differ_now "$site"; then
    restore_staged "$site"
    as_root reload_nginx
  fi
  if [ -n "$units" ] && differ_now "$units"; then
    units_differ=1
    restore_staged "$units"
    as_root reload_units
  fi
  [ -z "$processes" ] || restore_processes "$processes"
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
      wait_for_workers "release=$old" "health_path=$health_path" "limit=$limit" "patience=$patience"
    fi
  elif [ -n "$units_differ" ]; then
    bring_to_life start
  fi
  roll_back
  [ ! -e "$STAGED_NOW" ] || [ -e "$WAS_PENDING" ] || rm -f "$STAGED"/*.pending
}
