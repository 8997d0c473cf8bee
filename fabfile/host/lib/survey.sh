# Reading a host in one trip: `key value` lines for plan/state.py. Writes nothing but the freeze.
set -euo pipefail

read_host() {
  local name space inodes disk=$BASE
  echo "now $(date +%s)"
  for name in git uv doppler nginx curl flock python3; do
    [ "$name $SECRETS_IN" != "doppler file" ] || continue
    type -P "$name" >/dev/null || [ -x "/usr/sbin/$name" ] || echo "missing the program $name"
  done
  for name in "$RELEASES" "$SHARED"; do [ -w "$name" ] || echo "missing the folder $name"; done
  [ -r "$SECRETS" ] || echo "missing the $([ "$SECRETS_IN" = file ] && echo secrets || echo token) file $SECRETS"
  if [ -L "$APP" ]; then echo "app link"; elif [ -e "$APP" ]; then echo "app folder"; else echo "app nothing"; fi
  echo "live $(readlink -e "$CURRENT" || true)"
  [ -d "$disk" ] || disk=/
  read -r space inodes < <(df --output=avail,iavail -k "$disk" | tail -n 1)
  echo "disk $space"
  echo "inodes ${inodes/#-/1000000}"
  read_releases
  read_files
  list_rights
  [ ! -f "$MAINTENANCE" ] || echo "maintenance $MAINTENANCE"
  [ ! -f "$HOLD" ] || echo "hold $(cat "$HOLD")"
  [ ! -s "$BASE/frozen" ] || echo "frozen $(tr '\n' ' ' <"$BASE/frozen")"
  echo "tls $(sed -n 's/^# tls //p' "$TLS_FILE" 2>/dev/null || true)"
  read_services
  read_processes
}

# A line for each release: `release ID MARKS NOTES`, marks like -,built,good; notes are its release.json.
read_releases() {
  local folder mark marks notes
  for folder in "$RELEASES"/[0-9]*Z-*; do
    [ -d "$folder" ] || continue
    marks=-
    for mark in built good bad left; do [ ! -e "$folder/.deploy/$mark" ] || marks=$marks,$mark; done
    notes=''
    [ ! -r "$folder/.deploy/release.json" ] || IFS= read -r notes <"$folder/.deploy/release.json" || true
    echo "release ${folder##*/} $marks $notes"
  done
}

# The digests of the files that root writes: `file DIGEST PATH` as installed, but for those that a cut run has left
# pending; `staged DIGEST PATH` as root has staged them, `before DIGEST PATH` what that replaces. With them what somebody
# has put beside them: `drop_in PATH`; and `loose FILE OWNER MODE` where others may read the secrets.
read_files() {
  local file rights
  local -a there=()
  for file in "${FILES[@]}"; do
    if [ -L "$file" ] && [ "$(readlink "$file")" = /dev/null ]; then echo "masked ${file##*/}"; fi
    [ -e "$PENDING/${file##*/}" ] || there+=("$file")
    there+=("$STAGED/next$file" "$STAGED/before$file")
  done
  drop_ins_of "${FILES[*]}" | sed 's/^/drop_in /'
  sha256sum -- "${there[@]}" 2>/dev/null | awk -v staged="$STAGED/next" -v before="$STAGED/before" '
    index($2, staged) == 1 { print "staged", $1, substr($2, length(staged) + 1); next }
    index($2, before) == 1 { print "before", $1, substr($2, length(before) + 1); next }
    { print "file", $1, $2 }' || true
  rights=$(stat -L -c '%U %a' "$SECRETS" 2>/dev/null || true)
  [ -z "$rights" ] || [ "$rights" = "$(id -un) 600" ] || echo "loose $SECRETS $rights"
}

# A line for each unit of a worker or timer: `unit NAME STATE`, with systemd's word for its state.
read_processes() {
  [ -e "${SERVICE_FILE%/*}/$NAME-processes.service" ] || return 0
  systemctl list-units --all --plain --no-legend --full "$NAME-*@*.service" "$NAME-*.timer" "$NAME-*.service" |
    awk '{ print "unit", $1, ($4 == "auto-restart" ? $4 : $3) }' # what has ended and waits for another try does not run
}

# Whether unit, socket and nginx run, and which release each worker serves (its cwd: decision 12).
read_services() {
  local master pid cwd
  local -a active
  mapfile -t active < <(systemctl is-active "$UNIT.service" "$UNIT.socket" nginx.service || true)
  echo "service ${active[0]:-}"
  echo "socket ${active[1]:-}"
  echo "nginx ${active[2]:-}"
  master=$(cat "$PID_FILE" 2>/dev/null || true)
  [ -n "$master" ] && kill -0 "$master" 2>/dev/null || return 0
  echo "master $master"
  for pid in $(pgrep -P "$master" || true); do
    cwd=$(readlink "/proc/$pid/cwd" || true)
    cwd=${cwd#"$RELEASES/"}
    echo "worker $pid ${cwd%%/*}"
  done
}

# Answer with the lock info of whoever works on the host, or nothing.
read_holder() {
  flock --nonblock --shared "$LOCK" true 2>/dev/null || cat "$LOCK" 2>/dev/null || true
}

# Close the host by hand; answers with the lock info that was there before, if one was.
freeze() {
  local info
  local "$@"
  if [ -s "$BASE/frozen" ]; then cat "$BASE/frozen"; else printf '%s' "$info" >"$BASE/frozen"; fi
}

# Open the host again; answers with the lock info that closed it, if one did.
unfreeze() {
  [ -s "$BASE/frozen" ] || return 0
  cat "$BASE/frozen"
  rm -f "$BASE/frozen"
}
