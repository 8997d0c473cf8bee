# A server that was deployed into in place changes hands, and back, while it serves (adopt). Run as root, under the lock.
#
# A second website, the bridge, serves a release while the first one's unit, folder and nginx site change. Each step asks
# the disk how far things are, so all may run again, in either direction. After a power cut there is no bridge, and the
# site leads to whichever of the two websites is installed (decision 38).
set -euo pipefail

BRIDGE=$UNIT-bridge
RUNTIME_UNITS=/run/systemd/system # gone with a reboot, as the bridge is to be

# Keep what is about to change, for the way back: `units`, `site` and `rights` are paths, there or not, and `gone` those
# of them that have no place in ours; `unit` is the one that runs the app, `socket` the unit that starts it, if one does,
# `address` where it listens, `certificate` two paths, or none, `uploads` are names in the folder. Once the change has
# begun, what was kept counts.
keep_what_is_there() {
  local unit socket address certificate uploads units site rights gone
  local "$@"
  local new=$ADOPTED.new starts
  [ ! -e "$ADOPTED/begun" ] || return 0
  [ -d "$ETC" ] || install -d -m 750 "$ETC"
  rm -rf "$new"
  install -d -m 700 "$new" "$new/tree"
  starts=$(links_of "$unit"; links_of "${socket:-none}")
  gone="$gone"$'\n'$(grep -v -e "/$UNIT.service$" -e "/$UNIT.socket$" <<<"$starts" || true)
  note unit "$unit"
  note socket "$socket"
  note address "$address"
  note certificate "$certificate"
  note uploads "$uploads"
  note gone "$gone"
  keep_paths units "$units $starts"
  keep_paths site "$site"
  keep_paths rights "$rights"
  find "$new" -not -type l -exec sync {} +
  rm -rf "$ADOPTED"
  mv -T "$new" "$ADOPTED"
}

# Keep a text in the caller's `new` folder: note NAME TEXT
note() { printf '%s\n' "$2" >"$new/$1"; }

# The links by which systemd starts a unit at boot: links_of UNIT
links_of() { find /etc/systemd/system -path "*.wants/$1" -type l; }

# Copy paths into the caller's `new` folder, and note those that are not there, too: keep_paths GROUP PATHS
keep_paths() {
  local path from
  touch "$new/$1"
  for path in $2; do
    if grep -qsxF "$path" "$new/$1"; then continue; fi
    echo "$path" >>"$new/$1"
    from=''
    # Ours by now, where an earlier adopt did not come as far as the change.
    if [ "$path" = "$SUDOERS" ] && [ -e "$ADOPTED/rights" ]; then from=$ADOPTED/tree; fi
    if [ -e "$from$path" ] || [ -L "$from$path" ]; then (cd "$from/" && cp -a --parents ".$path" "$new/tree"); fi
  done
}

begin_adopting() {
  touch "$ADOPTED/begun"
  rm -f "$ADOPTED/done"
}

# Those paths of a group that have no place in ours: gone_of GROUP
gone_of() { grep -xF -f "$ADOPTED/gone" "$ADOPTED/$1" | grep . || true; }

# Make a group of what was kept be as it was: put_kept_back GROUP
put_kept_back() {
  local path
  [ -e "$ADOPTED/$1" ] || return 0
  while IFS= read -r path; do
    if [ -e "$ADOPTED/tree$path" ] || [ -L "$ADOPTED/tree$path" ]; then
      mkdir -p "${path%/*}"
      cp -a --remove-destination "$ADOPTED/tree$path" "$path.new"
      mv -T "$path.new" "$path"
    else
      remove_path "$path"
    fi
  done <"$ADOPTED/$1"
}

# Remove a file, and the folder of drop-ins or wants that it was alone in: remove_path PATH
remove_path() {
  rm -f "$1"
  case $1 in *.d/* | *.wants/*) rmdir --ignore-fail-on-non-empty "${1%/*}" 2>/dev/null || true ;; esac
}

# Take the token, or the secrets, from where the old unit has them, unless they were given or are there: into the file
# that write_token takes, or the app's own. old_secrets.py was sent to the runner.
take_secrets() {
  local user group unit_file
  local "$@"
  local sent=$DEPLOY_FILES/doppler.env
  if [ "$SECRETS_IN" = file ]; then
    [ ! -s "$SECRETS" ] || return 0
    sent=$DEPLOY_FILES/app.env
  elif [ -e "$sent" ] || [ -s "$SECRETS" ]; then
    return 0
  fi
  (
    umask 077
    python3 -IS "$DEPLOY_FILES/old_secrets.py" "app=$APP" "unit=$unit_file" "secrets_in=$SECRETS_IN" >"$sent" \
      2>"$DEPLOY_WORK/why"
  ) || rm -f "$sent"
  [ ! -s "$DEPLOY_WORK/why" ] || fail "$(tail -n 1 "$DEPLOY_WORK/why")"
  [ "$SECRETS_IN" = file ] && [ -s "$sent" ] || return 0
  folder root "$group" 750 "$ETC"
  folder root "$group" 750 "${SECRETS%/*}"
  [ ! -L "$SECRETS" ] || fail "$SECRETS is a link"
  install -m 600 -o "$user" -g "$group" "$sent" "$SECRETS.new"
  mv -T "$SECRETS.new" "$SECRETS"
  echo "changed: $SECRETS has what the old unit's files of variables said"
}

# Have the new site show the certificate of before, where there is none of its own yet: nobody takes a placeholder.
show_old_certificate() {
  local -a pair
  [ ! -e "$TLS_FILE" ] || return 0
  mapfile -t pair <"$ADOPTED/certificate"
  [ -z "${pair[0]}" ] || write_tls 'of before' "${pair[@]}"
}

# Let uploads lie below shared/, and a link in their old place: both change places at once, so whoever writes by either
# path writes to the same folder. As the user, who owns both sides.
lend_uploads() {
  # shellcheck disable=SC2034 # as_user reads some
  local user group media
  local "$@"
  local name
  if [ -n "$media" ] && [ ! -e "$ADOPTED/acl" ] && [ ! -L "$APP/$media" ] && [ -d "$APP/$media" ]; then
    as_user getfacl --recursive --physical --absolute-names "$APP/$media" >"$ADOPTED/acl.new"
    mv "$ADOPTED/acl.new" "$ADOPTED/acl"
  fi
  share_with_user
  while IFS= read -r name; do
    [ -z "$name" ] || as_user lend "$APP/$name" "$SHARED/$name" </dev/null
  done <"$ADOPTED/uploads"
  [ -z "$media" ] || as_user let_nginx_read "$media"
}

# What functions that run as the user take from here: as_user's shell has nothing else.
share_with_user() {
  CHANGE_PLACES=$(<"$DEPLOY_LIBRARY/programs/change_places.py")
  export CHANGE_PLACES SHARED
}

# As the user: lend PATH SHARED
lend() {
  if [ -L "$1" ] || [ ! -e "$1" ]; then return 0; fi
  mkdir -p "${2%/*}"
  if [ -d "$2" ] && [ ! -L "$2" ]; then # what the commit has there
    tar -C "$2" -c . | tar -C "$1" -x --skip-old-files
    rm -rf "$2"
  fi
  ln -sfnT "$2" "$2" # leads nowhere until it is in the other's place
  change_places "$1" "$2"
  echo "changed: $1 is $2 from now on"
}

# As the user: the way back of lend: take_back PATH SHARED
take_back() {
  [ "$(readlink "$1")" = "$2" ] && [ -e "$2" ] && [ ! -L "$2" ] || return 0
  change_places "$1" "$2"
  rm -f "$2"
  echo "changed: $1 has its own again"
}

# change_places ONE OTHER
change_places() { python3 -IS -c "$CHANGE_PLACES" "$@"; }

# Start the bridge (unit and socket sent to the runner by their names), and wait until its workers are warm. One that
# runs stays, for visitors may be on it; but not one of another release, that a cut run has left.
start_bridge() {
  local release health_path limit patience
  local "$@"
  if ! systemctl is-active --quiet "$BRIDGE.service" ||
    ! cmp -s "$DEPLOY_FILES/$BRIDGE.service" "$RUNTIME_UNITS/$BRIDGE.service"; then
    end_bridge
    install -m 644 "$DEPLOY_FILES/$BRIDGE.service" "$DEPLOY_FILES/$BRIDGE.socket" "$RUNTIME_UNITS"
    systemctl daemon-reload
    systemctl restart "$BRIDGE.socket"
    systemctl start "$BRIDGE.service"
  fi
  await_workers "$BRIDGE"
}

# Wait until the workers of a unit of ours are up, with the caller's release: await_workers UNIT
await_workers() {
  : >"$DEPLOY_WORK/old_workers"
  systemctl show --property NRestarts --value "$1.service" >"$DEPLOY_WORK/starts" || true
  python3 -IS "$DEPLOY_LIBRARY/programs/wait_for_workers.py" "state=/run/$1" "unit=$1" "work=$DEPLOY_WORK" \
    "release=$release" "health_path=$health_path" "limit=$limit" "patience=$patience"
}

end_bridge() {
  local unit
  for unit in "$BRIDGE.socket" "$BRIDGE.service"; do
    systemctl stop "$unit" 2>/dev/null || true # there is none any more
    rm -f "$RUNTIME_UNITS/$unit"
  done
  systemctl daemon-reload
  systemctl reset-failed "$BRIDGE.service" 2>/dev/null || true
  rm -rf "/var/lib/$BRIDGE"
}

# Make our nginx site what `site` says (sent to the runner by that name), in place of any other of before; whoever comes
# from then on is led there, and whoever came before has been answered. What nginx refuses is not left installed.
lead_visitors() {
  local site
  local "$@"
  local file gone
  gone=$(gone_of site)
  # shellcheck disable=SC2086 # one a line, without spaces
  remember "$SITE_FILE" "$SITE_LINK" $gone
  for file in $gone; do rm -f "$file"; done
  install -m 644 -o root -g root "$DEPLOY_FILES/$site" "$SITE_FILE.new"
  mv -T "$SITE_FILE.new" "$SITE_FILE"
  ln -sfnT "$SITE_FILE" "$SITE_LINK"
  nginx_test >"$DEPLOY_WORK/nginx" || {
    put_remembered_back
    cat "$DEPLOY_WORK/nginx"
    fail "nginx -t refuses the site; what was there before is back: $(grep -m 1 emerg "$DEPLOY_WORK/nginx")"
  }
  reload_nginx_and_wait
}

# The same for the bridge, if it runs: whatever website is about to stop, nobody is to be there.
lead_visitors_aside() {
  ! systemctl is-active --quiet "$BRIDGE.service" || lead_visitors "site=$BRIDGE"
}

# Reload nginx, and wait until those of its workers are gone that read the site of before: a request that they are
# about to receive will be led as it says. So also those that an earlier reload has told to leave, as that for the
# certificate. A minute, for a connection may stay open for ever.
reload_nginx_and_wait() {
  local pid workers end=$((SECONDS + 60))
  workers=$(pgrep -xf 'nginx: worker process( is shutting down)?' || true)
  systemctl reload nginx.service
  for pid in $workers; do
    while kill -0 "$pid" 2>/dev/null; do
      if [ "$SECONDS" -ge "$end" ]; then
        echo "some connections of before are open after a minute (WebSockets, or long downloads)"
        return
      fi
      sleep 0.05
    done
  done
}

# Stop the old website, which nobody is led to any more, and give the folder's name to a link: the folder is
# OLD_FOLDER from then on. Where ours serves, there is nothing to stop.
change_folder() {
  if [ -L "$APP" ] && ! cmp -s "$SERVICE_FILE" "$ADOPTED/tree$SERVICE_FILE" && systemctl is-active --quiet "$UNIT.service"; then
    return
  fi
  sync "$SITE_FILE" "${SITE_FILE%/*}"
  stop_old
  if [ ! -L "$APP" ]; then
    [ ! -e "$OLD_FOLDER" ] || [ -L "$OLD_FOLDER" ] || fail "$OLD_FOLDER is there already"
    ln -sfnT "$CURRENT" "$OLD_FOLDER"
    share_with_user
    change_places "$APP" "$OLD_FOLDER"
  fi
  rmdir --ignore-fail-on-non-empty "${SOCKET%/*}" 2>/dev/null || true # systemd makes it anew, as root's
}

# Stop the old website, its socket first: that would start it again.
stop_old() {
  local socket
  socket=$(cat "$ADOPTED/socket")
  [ -z "$socket" ] || systemctl stop "$socket"
  systemctl stop "$(cat "$ADOPTED/unit")"
}

# Install the units (sent to the runner by name, the socket first) in place of those of before, and wait until they serve.
install_units() {
  local files release health_path limit patience
  local "$@"
  local file
  for file in $files; do
    install -m 644 -o root -g root "$DEPLOY_FILES/${file##*/}" "$file.new"
    mv -T "$file.new" "$file"
  done
  for file in $(gone_of units); do remove_path "$file"; done
  systemctl daemon-reload
  for file in $files; do
    case $file in
      *@.service | *.sh) ;;
      "$SERVICE_FILE" | "$SOCKET_FILE" | *-processes.service) systemctl --quiet enable "${file##*/}" ;;
    esac
  done
  systemctl is-active --quiet "$UNIT.socket" || systemctl restart "$UNIT.socket"
  systemctl start "$UNIT.service"
  await_workers "$UNIT"
}

# The old rights go, which are more than a deploy needs; the exact ones are there.
narrow_rights() {
  local file
  for file in $(gone_of rights); do
    [ ! -e "$file" ] || echo "changed: $file is gone"
    rm -f "$file"
  done
  /usr/sbin/visudo -cq
}

mark_adopted() {
  date -u +%Y-%m-%dT%H:%M:%SZ >"$ADOPTED/done"
  sync "$ADOPTED/done" "$ADOPTED"
}

# Say how far adopting is: `adopted WHEN`, `begun UNIT`, or nothing; which release is live, or about to be; and `lock PATH`,
# where there is one that somebody may hold.
read_adopted() {
  if [ -e "$ADOPTED/done" ]; then
    echo "adopted $(cat "$ADOPTED/done")"
  elif [ -e "$ADOPTED/begun" ]; then
    echo "begun $(cat "$ADOPTED/unit")"
  fi
  echo "live $(readlink -e "$CURRENT" || true)"
  [ ! -f "$LOCK" ] || echo "lock $LOCK"
}

# Have the folder its name again, with its unit; the old website serves when this ends, warm.
bring_back_old() {
  local headers paths limit
  local "$@"
  local unit socket file
  unit=$(cat "$ADOPTED/unit")
  socket=$(cat "$ADOPTED/socket")
  [ ! -L "$APP" ] || [ -d "$OLD_FOLDER" ] || fail "$OLD_FOLDER is gone, the $APP of before adopt: there is no way back"
  if [ -L "$APP" ]; then # so the old one does not serve
    stop_processes_of_ours
    systemctl stop "$UNIT.socket" "$UNIT.service" 2>/dev/null || true # they may not be installed yet
    for file in "${FILES[@]}" $(unit_files); do
      grep -qxF "$file" "$ADOPTED/units" "$ADOPTED/site" || remove_path "$file" # of a process that came later
    done
    share_with_user
    change_places "$APP" "$OLD_FOLDER"
  fi
  if [ -L "$OLD_FOLDER" ]; then rm -f "$OLD_FOLDER"; fi
  put_kept_back units
  systemctl daemon-reload
  systemd-tmpfiles --create --prefix="${SOCKET%/*}" 2>/dev/null || true
  systemctl reset-failed "$unit" 2>/dev/null || true
  # shellcheck disable=SC2086 # there may be no socket
  systemctl start $socket "$unit"
  await_old
}

# Workers and timers of ours end with our website, and nothing starts them at boot any more.
stop_processes_of_ours() {
  local process units=$NAME-processes.service
  for process in $(processes); do
    units="$units $process.timer $process.service $(instances_of "$process")"
  done
  # shellcheck disable=SC2086 # names of units, without spaces
  systemctl disable --now --quiet $units 2>/dev/null || true # a process has not all of these
}

# Wait until the old website answers, and ask it until no worker of it is new to that: the first request of each costs
# as long as its imports. The caller's `paths` are asked, as nginx would with `headers`, for `limit` seconds at most.
await_old() {
  local address path end=$((SECONDS + limit)) code
  local -a way
  address=$(cat "$ADOPTED/address")
  case $address in
    /*) way=(--unix-socket "$address") ;;
    *) way=(--connect-to "127.0.0.1:80:$address") ;;
  esac
  path=${paths%%$'\n'*}
  until code=$(ask "$path" "$headers" /dev/null "${way[@]}") && [ "$code" != 000 ] && [ "${code#5}" = "$code" ]; do
    if [ "$SECONDS" -ge "$end" ]; then
      journalctl --unit "$(cat "$ADOPTED/unit")" --lines 40 --no-pager --output cat
      fail "after $limit s $path answers $code at $address"
    fi
    sleep 0.2
  done
  warm_old
}

# Ask the caller's paths, many at once, until a round of that is quick.
warm_old() {
  local round path slow
  for round in {1..12}; do
    slow=$(
      for path in $paths $paths $paths $paths; do
        for _ in 1 2 3 4; do
          ask "$path" "$headers" /dev/null "${way[@]}" --write-out '%{time_total}\n' &
        done
      done
      wait
    )
    ! awk '$1 > 0.2 { found = 1 } END { exit found }' <<<"$slow" || [ "$round" -lt 3 ] || return 0
  done
}

# Have nginx its old site again.
bring_back_site() {
  put_kept_back site
  nginx_test || fail "nginx -t refuses the site of before"
  reload_nginx_and_wait
}

# Bring back uploads, rights and whatever is left of ours among the files that were kept; then nothing was ever adopted.
forget_adopted() {
  # shellcheck disable=SC2034 # as_user reads some
  local user group
  local "$@"
  local name
  share_with_user
  while IFS= read -r name; do
    [ -z "$name" ] || as_user take_back "$APP/$name" "$SHARED/$name" </dev/null
  done <"$ADOPTED/uploads"
  if [ -e "$ADOPTED/acl" ]; then
    sed -n 's/^# file: //p' "$ADOPTED/acl" | head -n 1 | {
      read -r name
      as_user setfacl --recursive --physical --remove-all -- "$name"
    }
    as_user setfacl --restore=- <"$ADOPTED/acl" 2>/dev/null || true # of files that are there no more
  fi
  put_kept_back rights
  rm -rf "$ADOPTED"
}
