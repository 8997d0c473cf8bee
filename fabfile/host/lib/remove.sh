# Taking an app off its server, as root: what is its own goes, what people left stays.
set -euo pipefail

CERTBOT_LIVE=/etc/letsencrypt/live/$UNIT
CERTBOT_RENEWAL=/etc/letsencrypt/renewal/$UNIT.conf
MENTIONED="${BASE}/|/run/${NAME}/|${UNIT}[.]s(ocket|ervice)"

# What would go, a line each: `gone PATH`; and what would stay: `kept PATH`. With it `frozen INFO`, if somebody has
# closed the host. Refuses what others of this server lean on.
look_what_goes() {
  local other
  other=$(leaning_on_it | paste -sd ' ' || true)
  if [ -n "$other" ]; then
    echo "failed: other things on this server lean on $NAME: $other"
    echo "next: see what they want of it, and change or remove them first"
    exit 1
  fi
  [ ! -s "$BASE/frozen" ] || echo "frozen $(tr '\n' ' ' <"$BASE/frozen")"
  own_lines | sed 's/^/gone /'
  [ -z "$(kept)" ] || kept | sed 's/^/kept /'
}

# Files and links of others that name the app's places or units, one a line.
leaning_on_it() {
  local link
  { grep -rlE "$MENTIONED" /etc/nginx /etc/systemd/system /etc/cron.d /etc/cron.daily 2>/dev/null || true; } |
    { grep -vxF -f <(own_lines) || true; } | { grep -v -e "^$TLS_FILE$" -e "^$SITE_LINK$" -e "^$SERVICE_FILE.d/" -e '\.wants/' || true; }
  for link in /srv/*/shared/* /srv/*/app /app; do
    case $link in "$APP" | "$BASE"/*) continue ;; esac
    case $(readlink "$link" || true) in "$BASE" | "$BASE"/*) echo "$link" ;; esac
  done
}

# All that is the app's and goes, files and folders that are there, a NUL behind each: the names in its folder are the
# user's, who may have put a line break into one.
own() {
  local path
  {
    unit_files | tr '\n' '\0'
    for path in "$SITE_LINK" "$SITE_FILE" "$TLS_FILE" "${TLS_FILE%.conf}-placeholder" "$CERTBOT_LIVE" \
      "$SUDOERS" "$ETC" "$SERVICE_FILE.d" "/usr/local/lib/$NAME-processes.sh" "$INSTALLER" "${DOPPLER_HOME%/*}" \
      "/run/$NAME" "/run/$UNIT" /var/log/nginx/"$UNIT".{access,error}.log*; do
      printf '%s\0' "$path"
    done
    find "$BASE" -mindepth 1 -maxdepth 1 -not -name "${SHARED##*/}" -print0 2>/dev/null || true
    for path in "$SHARED" $(process_folders); do has_something "$path" || printf '%s\0' "$path"; done
    case $APP in "$BASE"/*) ;; *) [ "$(readlink "$APP" || true)" != "$CURRENT" ] || printf '%s\0' "$APP" ;; esac
  } | sort -zu | while IFS= read -rd '' path; do if [ -e "$path" ] || [ -L "$path" ]; then printf '%s\0' "$path"; fi; done
}

# The same to be shown, one a line, with ? for a line break in a name.
own_lines() { own | tr '\n\0' '?\n'; }

# The unit files of website, processes and what starts them.
unit_files() {
  local units=${SERVICE_FILE%/*}
  printf '%s\n' "$units/$UNIT.service" "$units/$UNIT.socket" "$units/$NAME-processes.service"
  grep -lF "# A process of $NAME. Written by the deploy tool" "$units/$NAME"-*.service "$units/$NAME"-*.timer 2>/dev/null ||
    true
}

# The processes of the app, by what their units are called: not by a pattern, for that might name another app's, too.
processes() { unit_files | sed -nE 's#.*/##; s#@?[.](service|timer)$##p' | { grep -vx -e "$UNIT" -e "$NAME-processes" || true; } | sort -u; }

# The units of a worker's instances, one a line: instances_of PROCESS
instances_of() { systemctl list-units --all --plain --no-legend --full "$1@*.service" | cut -d ' ' -f 1 || true; }

# The folders of processes, one a line.
process_folders() { processes | sed 's#^#/var/lib/#'; }

# What people and processes have left, one a line.
kept() {
  local folder
  for folder in "$SHARED" $(process_folders); do
    ! has_something "$folder" || echo "$folder"
  done
  if [ -d "$OLD_FOLDER" ] && [ ! -L "$OLD_FOLDER" ]; then echo "$OLD_FOLDER"; fi # of before adopt
}

# Whether a folder has something in it: has_something FOLDER
has_something() { [ -d "$1" ] && [ -n "$(find "$1" -not -type d -print -quit)" ]; }

# Take the app off; answers with `gone` and `kept` lines, and `user NAME` if that is kept as well.
remove_app() {
  local user
  local "$@"
  local path units stays process
  local -a all
  mapfile -d '' -t all < <(own)
  stays=$(kept)
  # The site first, so that whatever ends this run, nginx can start with what is left.
  rm -f "$SITE_LINK"
  ! systemctl is-active --quiet nginx.service || systemctl reload nginx.service
  units=$(unit_files | sed 's#.*/##' | { grep -v '@' || true; })
  for process in $(processes); do
    units="$units $(instances_of "$process")"
  done
  # shellcheck disable=SC2086 # names of units, without spaces
  {
    systemctl disable --now --quiet $units || true
    systemctl reset-failed $units || true
  } 2>/dev/null
  if [ -e "$CERTBOT_RENEWAL" ]; then # after the site, which names it
    certbot delete --non-interactive --cert-name "$UNIT" >/dev/null 2>&1 || fail "certbot does not delete $UNIT"
  fi
  for path in "${all[@]}"; do rm -rf "$path"; done
  rmdir "$BASE/shared" "$BASE" 2>/dev/null || true
  systemctl daemon-reload
  printf 'gone %s\n' "${all[@]//$'\n'/?}"
  [ -z "$stays" ] || printf 'kept %s\n' "${stays//$'\n'/$'\n'kept }"
  forget_user
}

# Remove the caller's `user`, if no other app has it, and nothing of its own `stays`: another would get its number.
forget_user() {
  local end=$((SECONDS + 20))
  [ "$user" != root ] && id "$user" >/dev/null 2>&1 || return 0
  if [ -n "$stays" ] || grep -qsE "^$user " /etc/sudoers.d/*-django || [ -z "$(system_user)" ]; then
    echo "user $user"
    return
  fi
  # systemd keeps something of a user for a while after the last login, and userdel deletes nobody of whom something runs.
  loginctl terminate-user "$user" 2>/dev/null || true
  while pgrep -u "$user" >/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.1; done
  userdel --remove "$user" >"$DEPLOY_WORK/userdel" 2>&1 || {
    cat "$DEPLOY_WORK/userdel"
    echo "user $user"
    return
  }
  echo "gone user $user"
}

# Whether the user is of the kind that provision makes.
system_user() { getent passwd "$user" | awk -F: '$3 < 1000'; }
