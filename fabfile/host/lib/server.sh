# What makes a bare server ready: packages, user, folders, token, sudo rights, unit and site. Run as root.
#
# Every step may run again: it changes what is not as it should be and says so in `changed: ...` lines.
set -euo pipefail

# Refuse a server that this tool does not know, or that holds something else where the app should be.
check_server() {
  local supported default_server names tls certificate key adopting leaving
  local "$@"
  local ID='' VERSION_ID='' PRETTY_NAME=''
  leaving=${leaving//$'\n'/ }
  is_root || fail "this login is not root and has no passwordless sudo"
  has_systemd || fail "systemd does not run here"
  load_os_release
  grep -qxF "$ID $VERSION_ID" <<<"$supported" || fail "$PRETTY_NAME is not one of: ${supported//$'\n'/, }"
  if [ -z "$adopting" ] && [ -e "$APP" ] && [ ! -L "$APP" ]; then
    echo "failed: $APP is a real folder, not the link to the live release"
    echo "next: fab -H NAME adopt --plan, if it is this app, deployed in place; else move it away: mv $APP $APP.old"
    exit 1
  fi
  if [ -d "$ETC" ] && [ -n "$(ls -A "$ETC")" ] && [ ! -e "$ETC/doppler.env" ] && [ ! -e "$ETC/secrets" ] && [ ! -e "$STAGED" ] &&
    [ ! -e "$ADOPTED" ]; then
    fail "$ETC belongs to something else: give the app another name in hosts.toml"
  fi
  if [ -L "$APP" ] && [ "$(readlink "$APP")" != "$CURRENT" ]; then
    fail "$APP is a link to $(printf %q "$(readlink "$APP")"), not to $CURRENT; move it away first, or" \
      "give this app another path in hosts.toml: path = \"$BASE/app\""
  fi
  [ "$SECRETS_IN" = file ] || [ -n "$adopting" ] || [ -e "$DEPLOY_FILES/doppler.env" ] || [ -s "$SECRETS" ] || lacks_token
  if type -P nginx >/dev/null || [ -x /usr/sbin/nginx ]; then
    see_nginx_is_sound
    [ -z "$default_server" ] || refuse_other_default_server
    refuse_other_site
  fi
  refuse_other_listener 80 "to listen"
  [ -z "$tls" ] || judge_tls "$certificate" "$key" "$names"
}

# Refuse to go on without a token, before minutes are spent on packages.
lacks_token() {
  echo "failed: there is no Doppler token yet"
  echo "next: DOPPLER_TOKEN=dp.st.xxx fab -H NAME provision (a service token of your config), or pipe it in: --token-stdin"
  exit 1
}

# Refuse a server whose nginx has a mistake that is not ours: with it, no site of ours can be loaded either. One of ours
# makes `broken` of the caller: what is put in its place may be better.
see_nginx_is_sound() {
  ! nginx_test >"$DEPLOY_WORK/nginx" || return 0
  if our_site_is_broken; then
    broken=1
    return 0
  fi
  cat "$DEPLOY_WORK/nginx"
  echo "failed: nginx -t fails on this server already: $(grep -m 1 emerg "$DEPLOY_WORK/nginx" || tail -n 1 "$DEPLOY_WORK/nginx")"
  echo "next: mend that file on the server, then the same command again"
  exit 1
}

# Whether nginx names our site, or fails by it before it serves anybody, as a provision that was killed leaves it. Of two
# default servers nginx names the one that it reads last, and so maybe Debian's, which was to go.
our_site_is_broken() {
  ! grep -q "$SITE_LINK\|$SITE_FILE" "$DEPLOY_WORK/nginx" || return 0
  [ ! -e "$CURRENT" ] && [ -e "$SITE_FILE" ] && nginx_test_without_ours
}

nginx_test() { /usr/sbin/nginx -t -q 2>&1; }

# The same with an empty site of ours, which it is for this one command alone.
nginx_test_without_ours() {
  # shellcheck disable=SC2016 # the other bash's
  unshare --mount bash -c 'mount --bind /dev/null "$1" && /usr/sbin/nginx -t -q' bash "$SITE_FILE" >/dev/null 2>&1
}

# Refuse to become a second default server of port 80: nginx would not start again. Debian's own default site goes.
refuse_other_default_server() {
  local other
  other=$(nginx_files | awk -v "ours=$SITE_LINK ${leaving-}" -v debian="${SITE_LINK%/*}/default" '
    BEGIN { split(ours, list); for (i in list) mine[list[i]] = 1 }
    /^# configuration file .*:$/ { file = $4; sub(/:$/, "", file); next }
    { sub(/#.*/, "") }
    /(^|[ \t;{])listen[ \t]/ && /default_server/ && /([ \t:]80[ \t;]|listen[ \t]+default_server)/ &&
      !(file in mine) && file != debian { print file; exit }')
  [ -n "$other" ] || return 0
  echo "failed: $other is the default server of port 80 already"
  echo "next: default_server = false in hosts.toml, or take default_server out of that file"
  exit 1
}

# Refuse a name that another site of this server has already: nginx warns of that, and one of the two never answers.
refuse_other_site() {
  local other
  other=$(nginx_files | awk -v "ours=$SITE_LINK ${leaving-}" -v "names=${names//$'\n'/ }" '
    BEGIN {
      split(names, list, " "); for (i in list) wanted[list[i]] = 1
      split(ours, own); for (i in own) mine[own[i]] = 1
    }
    /^# configuration file .*:$/ { file = $4; sub(/:$/, "", file); next }
    { sub(/#.*/, "") }
    !(file in mine) && match($0, /(^|[ \t;{])server_name[ \t]/) {
      text = substr($0, RSTART + RLENGTH); sub(/;.*/, "", text)
      count = split(text, found, /[ \t]+/)
      for (i = 1; i <= count; i++) if (found[i] in wanted) { print file, found[i]; exit }
    }')
  [ -n "$other" ] || return 0
  echo "failed: ${other% *} answers for ${other#* } already: of two sites of one name, nginx asks one alone"
  echo "next: give this app another domain (or alias) in hosts.toml; or take the name out of that file, then the same command again"
  exit 1
}

# Everything that nginx reads, each file under its name; nothing while it refuses one of them.
nginx_files() { /usr/sbin/nginx -T 2>/dev/null || true; }

# Refuse a server on which something else than nginx listens where visitors come: refuse_other_listener PORT WHAT-FOR [OR]
refuse_other_listener() {
  local other
  other=$(listeners "$1" | grep -vx nginx | sort -u | paste -sd ' ' || true)
  [ -n "$other" ] || return 0
  echo "failed: $other listens on port $1, where nginx is $2"
  echo "next: stop it for good on the server (systemctl disable --now $other)${3-}, then the same command again"
  exit 1
}

# The programs that listen on a port, one a line. By the kernel's tables: a bare server may have no ss, and no Python yet.
listeners() {
  local port socket folder
  port=$(printf :%04X "$1")
  awk -v "port=$port" '$4 == "0A" && $2 ~ port "$" { print $10 }' /proc/net/tcp{,6} 2>/dev/null |
    while read -r socket; do find /proc/[0-9]*/fd -lname "socket:\[$socket\]" -printf '%h\n'; done 2>/dev/null |
    while read -r folder; do cat "${folder%/fd}/comm"; done 2>/dev/null || true # one has ended meanwhile
}

is_root() { [ "$(id -u)" = 0 ]; }

has_systemd() { [ -d /run/systemd/system ]; }

# What the system calls itself: ID, VERSION_ID, PRETTY_NAME.
load_os_release() {
  # shellcheck source=/dev/null # the host's
  . /etc/os-release
}

# Install the Debian packages that are missing; `programs` are lines `PROGRAM PACKAGE`.
install_packages() {
  local programs
  local "$@"
  local program package
  local -a missing=()
  while read -r program package; do
    PATH=$PATH:/usr/sbin:/sbin type -P "$program" >/dev/null || missing+=("$package") # git is a function, too
  done <<<"$programs"
  python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
  [ "${#missing[@]}" != 0 ] || return 0
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${missing[@]}" >"$DEPLOY_WORK/apt" 2>&1 || {
    tail -n 40 "$DEPLOY_WORK/apt"
    exit 1
  }
  echo "changed: installed ${missing[*]}"
}

# Install uv from PyPI into its own virtualenv: the one way that is the same on every distribution.
install_uv() {
  if type -P uv >/dev/null; then return 0; fi
  python3 -m venv /opt/uv
  /opt/uv/bin/pip install --quiet --disable-pip-version-check uv
  ln -sfn /opt/uv/bin/uv /usr/local/bin/uv
  echo "changed: installed $(uv --version)"
}

# Install the Doppler CLI from Doppler's own package repository, its key pinned to that repository.
install_doppler() {
  local key=/usr/share/keyrings/doppler-archive-keyring.asc
  if [ -x "$DOPPLER" ]; then return 0; fi
  curl --fail --silent --show-error --location --retry 3 --proto '=https' \
    https://packages.doppler.com/public/cli/gpg.DE2A7741A397C129.key -o "$DEPLOY_WORK/doppler.asc"
  install -m 644 "$DEPLOY_WORK/doppler.asc" "$key"
  echo "deb [signed-by=$key] https://packages.doppler.com/public/cli/deb/debian any-version main" \
    >/etc/apt/sources.list.d/doppler-cli.list
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install --yes doppler >/dev/null
  echo "changed: installed Doppler CLI $(doppler --version)"
}

# Make the user that deploys and runs the app, who may read the logs and logs in with the keys it is given.
make_user() {
  local user group keys
  local "$@"
  local log_group home
  getent group "$group" >/dev/null || {
    groupadd --system "$group"
    echo "changed: made the group $group"
  }
  if ! id "$user" >/dev/null 2>&1; then
    useradd --system --create-home --shell /bin/bash --gid "$group" "$user"
    echo "changed: made the user $user"
  fi
  for log_group in systemd-journal adm; do
    case " $(id -nG "$user") " in *" $log_group "*) continue ;; esac
    usermod -aG "$log_group" "$user"
    echo "changed: $user is in $log_group"
  done
  home=$(getent passwd "$user" | cut -d: -f6)
  [ -n "$keys" ] || keys=$(admin_keys)
  as_user let_log_in "$user" "$group" "$home/.ssh" "$keys"
}

# Do as the caller's `user`, of its `group`, what is done in folders of that user's, who may put a link there at any
# time: as root, what it leads to would be written, or given away: as_user FUNCTION [ARGUMENT]...
as_user() {
  export -f lacks folder refuse_others own_folders own_files make_link let_log_in keep_copies
  export -f lend take_back change_places let_nginx_read
  runuser -u "$user" -g "$group" -- bash --norc -euo pipefail -c 'cd /; "$@"' bash "$@"
}

# As the user: let keys log in, one a line: let_log_in USER GROUP FOLDER KEYS
let_log_in() {
  local key file=$3/authorized_keys
  own_folders "$1" "$2" 700 "$3"
  refuse_others "$file"
  [ -e "$file" ] || install -m 600 /dev/null "$file"
  while IFS= read -r key; do
    if [ -z "$key" ] || grep -qxF -- "$key" "$file"; then continue; fi
    printf '%s\n' "$key" >>"$file"
    echo "changed: a key may log in as $1"
  done <<<"$4"
}

# The keys that may log in as whoever provisions.
admin_keys() {
  local admin
  admin=$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)
  cat "$admin/.ssh/authorized_keys" 2>/dev/null || cat /root/.ssh/authorized_keys 2>/dev/null || true
}

# Keep who may log in as the user, and what that one may run as root, before either is changed. Unless confirm_logins comes
# within so many seconds, the host puts both back by itself: one that nobody can log in to any more cannot be told to.
keep_logins() {
  local user seconds
  local "$@"
  if [ ! -d "$LOGINS" ]; then # else a run was cut; what that one found counts
    rm -rf "$LOGINS.new"
    install -d -m 700 "$LOGINS.new"
    [ ! -e "$SUDOERS" ] || cp -p "$SUDOERS" "$LOGINS.new/sudoers"
    if own_keys test -f 2>/dev/null; then
      own_keys cat >"$LOGINS.new/keys"
    elif ! own_keys test -L 2>/dev/null; then # a link that leads nowhere is somebody's all the same
      touch "$LOGINS.new/no_keys"
    fi
    {
      declare -f put_kept_logins_back own_keys
      printf 'user=%q\nput_kept_logins_back %q %q\n' "$user" "$LOGINS" "$SUDOERS"
    } >"$LOGINS.new/back.sh"
    mv "$LOGINS.new" "$LOGINS"
  fi
  stop_clock
  systemd-run --quiet --collect --unit="${LOGINS##*/}" --on-active="$seconds" bash -euo pipefail "$LOGINS/back.sh"
}

# Run a command on the file of keys of the caller's `user`, as that one, who may have put a link there: own_keys WORD...
own_keys() { runuser -u "$user" -- bash -c 'cd && "$@" .ssh/authorized_keys' bash "$@"; }

stop_clock() { systemctl stop "${LOGINS##*/}.timer" 2>/dev/null || true; }

# Put back what keep_logins has kept, in a shell that knows this function and own_keys alone: put_kept_logins_back KEPT SUDOERS
put_kept_logins_back() {
  if [ -e "$1/sudoers" ]; then cp -p "$1/sudoers" "$2"; else rm -f "$2"; fi
  if [ -e "$1/keys" ]; then
    own_keys tee <"$1/keys" >/dev/null
  elif [ -e "$1/no_keys" ] && id "$user" >/dev/null 2>&1; then
    own_keys rm -f
  fi
  rm -rf "$1"
}

# Put it back now.
put_logins_back() {
  [ -d "$LOGINS" ] || return 0
  stop_clock
  bash -euo pipefail "$LOGINS/back.sh"
}

# Logins have been seen to work: what was kept goes.
confirm_logins() {
  stop_clock
  rm -rf "$LOGINS"
}

# Make a folder with its owner and mode: folder OWNER GROUP MODE PATH
folder() {
  [ "$(stat -L -c '%U %G %a' "$4" 2>/dev/null)" != "$1 $2 $3" ] || return 0
  install -d -o "$1" -g "$2" -m "$3" "$4"
  echo "changed: folder $4"
}

# Make the app's folders, its link, and the key of the digests.
make_folders() {
  local user group
  local "$@"
  folder "$user" "$group" 755 "$BASE"
  folder "$user" "$group" 700 "${DOPPLER_HOME%/*}"
  folder root "$group" 750 "$ETC"
  as_user own_folders "$user" "$group" 755 "$RELEASES" "$SHARED" "$KEPT_STATIC" "$VIRTUALENVS" "$CACHE" "$PYTHONS"
  as_user own_folders "$user" "$group" 700 "$DOPPLER_HOME"
  as_user own_files "$LOCK" "$DIGEST_KEY"
  if [ ! -L "$APP" ] && [ ! -e "$APP" ]; then
    case $APP in
      "$BASE"/*) as_user make_link "$CURRENT" "$APP" ;;
      *) make_link "$CURRENT" "$APP" ;;
    esac
  fi
}

# As the user: make folders: own_folders USER GROUP MODE PATH...
own_folders() {
  local path
  for path in "${@:4}"; do
    refuse_others "$path"
    folder "$1" "$2" "$3" "$path"
  done
}

# As the user: make the lock file and the key of the digests: own_files LOCK KEY
own_files() {
  refuse_others "$1"
  refuse_others "$2"
  if [ ! -e "$1" ]; then
    install -m 644 /dev/null "$1"
    echo "changed: lock file"
  fi
  if [ ! -s "$2" ]; then
    head -c 32 /dev/urandom | install -m 600 /dev/stdin "$2"
    echo "changed: key of the digests"
  fi
}

# As the user: refuse what is somebody else's where its own is to be, and a link that leads there: refuse_others PATH
refuse_others() {
  [ ! -L "$1" ] || [ -O "$1" ] || lacks "$1 is a link to $(printf %q "$(readlink "$1")"): that is not $(id -un)'s own" \
    "rm $1 on the server, then the same command again"
  [ ! -e "$1" ] || [ -O "$1" ] || lacks "$1 belongs to $(stat -c %U "$1"), not to $(id -un)" \
    "chown $(id -un):$(id -gn) $1 on the server, then the same command again"
}

# Make a link where nothing is: make_link TARGET PATH
make_link() {
  mkdir -p "${2%/*}/"
  ln -sT "$1" "$2"
  echo "changed: link $2"
}

# Make the file of secrets, which is the user's own, in a folder of root's: systemd reads as root what is there, and of a
# link to another app's file it would hand on the secrets. An earlier version gave the folder to the user.
make_secrets_file() {
  local user group
  local "$@"
  folder root "$group" 750 "${SECRETS%/*}"
  # From here on nobody else puts anything there.
  if [ ! -e "$SECRETS" ] && [ ! -L "$SECRETS" ]; then
    install -m 600 -o "$user" -g "$group" /dev/null "$SECRETS"
    echo "changed: secrets file $SECRETS, still empty (fab secrets.set NAME)"
  fi
  case $(stat -c '%F, %U, %h' "$SECRETS") in
    "regular file, $user, 1" | "regular empty file, $user, 1") ;;
    *) lacks "$SECRETS is no plain file of $user's own: services would get what it leads to" \
      "rm $SECRETS on the server, then the same command again; then set the secrets anew: fab -H NAME secrets.set" ;;
  esac
}

# Write the token file from the file doppler.env sent to the runner, if one was; refuse to go without, and to put one
# that Doppler does not take over one that is there.
write_token() {
  local user group doppler_project doppler_config
  local "$@"
  local sent=$DEPLOY_FILES/doppler.env
  if [ -e "$sent" ]; then
    try_token "$sent" runuser -u "$user" -- || refuse_token "the token that was given"
    cmp -s "$sent" "$SECRETS" || {
      install -m 600 -o "$user" -g "$group" "$sent" "$SECRETS.new"
      mv "$SECRETS.new" "$SECRETS"
      echo "changed: token file $SECRETS"
    }
  elif [ ! -s "$SECRETS" ]; then
    lacks_token
  else
    try_token "$SECRETS" runuser -u "$user" -- || ! doppler_answers || refuse_token "the token that is there"
  fi
  [ "$(stat -c '%U %a' "$SECRETS")" = "$user 600" ] || {
    chown "$user:$group" "$SECRETS"
    chmod 600 "$SECRETS"
    echo "changed: rights of $SECRETS"
  }
}

# Ask Doppler with the token of a file, which it has in its environment alone; its words are in $DEPLOY_WORK/doppler.
# Never as root: the file is the user's, and so may be what Doppler answers (LD_PRELOAD); it is text, and no shell's. Root
# puts words before it that make it the user's: try_token FILE [WORD]...
try_token() {
  (
    local -a doppler
    DOPPLER_TOKEN=$(sed -n 's/^DOPPLER_TOKEN=//p' "$1" | head -n 1 | tr -d "\"'")
    export DOPPLER_TOKEN DOPPLER_CONFIG_DIR=$DOPPLER_HOME DOPPLER_ENABLE_VERSION_CHECK=false
    cd /
    doppler_run "$doppler_project" "$doppler_config"
    "${@:2}" "${doppler[@]:0:2}" --no-fallback --attempts 2 "${doppler[@]:2}" true
  ) >"$DEPLOY_WORK/doppler" 2>&1
}

# Whether Doppler said something about the last token that was tried, and not the network.
doppler_answers() {
  ! grep -qiE 'dial|lookup|no such host|refused$|connection refused|unreachable|time(d )?out|Errno|HTTP 5' "$DEPLOY_WORK/doppler"
}

# Say why Doppler gives nothing for WHICH token, and that nothing was changed.
refuse_token() {
  local kept='there is none yet'
  [ ! -s "$SECRETS" ] || kept="$SECRETS stays as it was"
  cat "$DEPLOY_WORK/doppler"
  if doppler_answers; then
    echo "failed: Doppler refuses $1: $(tail -n 1 "$DEPLOY_WORK/doppler" | sed 's/^Doppler Error: //'); $kept"
    echo "next: DOPPLER_TOKEN=dp.st.xxx fab -H NAME provision (a service token of your config)"
  else
    echo "failed: Doppler cannot be reached to try $1: $(tail -n 1 "$DEPLOY_WORK/doppler" | sed 's/^Doppler Error: //'); $kept"
    echo "next: see that the server reaches api.doppler.com, then the same command again"
  fi
  exit 1
}

# Install the sudo lines (sent to the runner as the file sudoers), checked by visudo first; answers with all that the user
# may run then, by `right COMMAND`, for other files may say more.
grant_rights() {
  local user
  local "$@"
  local sent=$DEPLOY_FILES/sudoers
  if ! cmp -s "$sent" "$SUDOERS"; then
    /usr/sbin/visudo -cqf "$sent"
    install -m 440 -o root -g root "$sent" "$SUDOERS"
    echo "changed: $SUDOERS"
  fi
  list_rights --other-user="$user"
}

# Install unit, socket and site (sent to the runner by name) where there is none yet, or nothing is live yet.
# With a release live, a changed file is the next deploy's business: that knows how to activate it unnoticed. But for a
# site that nginx refuses: with that, it would not start again.
install_service() {
  local files default_server
  local "$@"
  local file unit changed='' broken='' default=${SITE_LINK%/*}/default
  # Once more, as nginx itself may be new here.
  see_nginx_is_sound
  if [ -n "$broken" ] && [ ! -e "$CURRENT" ]; then # nor is it to come back, should nginx refuse the new one too
    rm -f "$SITE_LINK" "$SITE_FILE"
    echo "changed: $SITE_FILE is gone: nginx refused it, left by a run that was cut"
  fi
  [ -z "$default_server" ] || refuse_other_default_server
  # shellcheck disable=SC2086 # one a line, without spaces
  remember $files "$SITE_LINK" "$default"
  trap put_remembered_back EXIT
  for file in $files; do
    ! cmp -s "$DEPLOY_FILES/${file##*/}" "$file" || continue
    if [ -e "$CURRENT" ] && [ -e "$file" ] && [ "$broken $file" != "1 $SITE_FILE" ]; then
      echo "$file differs: the next deploy installs it"
      continue
    fi
    install -m 644 -o root -g root "$DEPLOY_FILES/${file##*/}" "$file"
    changed=1
    echo "changed: $file"
  done
  if [ ! -L "$SITE_LINK" ]; then
    ln -s "$SITE_FILE" "$SITE_LINK"
    changed=1
    echo "changed: $SITE_LINK"
  fi
  if [ -n "$default_server" ] && [ -L "$default" ]; then
    rm "$default"
    changed=1
    echo "changed: $default is gone (default_server)"
  fi
  nginx_test || fail "nginx -t refuses the site; what was there before is back"
  trap - EXIT
  for unit in "$UNIT.service" "$UNIT.socket" nginx.service "$NAME-processes.service"; do
    [ "$unit" != "$NAME-processes.service" ] || [ -e "/etc/systemd/system/$unit" ] || continue
    systemctl is-enabled --quiet "$unit" || {
      systemctl --quiet enable "$unit" 2>/dev/null
      changed=1 # maybe by a run that was killed before it came to this
      echo "changed: enabled $unit"
    }
  done
  if [ -n "$changed" ]; then
    systemctl daemon-reload
    systemctl reload-or-restart nginx.service
  fi
  systemctl is-active --quiet nginx.service || {
    systemctl start nginx.service
    echo "changed: started nginx"
  }
}

# Keep files and links as they are now, for put_remembered_back: remember PATH...
remember() {
  local path number=0
  rm -rf "$DEPLOY_WORK/before"
  mkdir "$DEPLOY_WORK/before"
  for path in "$@"; do
    number=$((number + 1))
    if [ -e "$path" ] || [ -L "$path" ]; then cp -a "$path" "$DEPLOY_WORK/before/$number"; fi
    echo "$path" >>"$DEPLOY_WORK/before/list"
  done
}

# Bring back what was remembered: a site that nginx refuses would take it down at its next start.
put_remembered_back() {
  local path copy number=0
  while read -r path; do
    number=$((number + 1))
    copy=$DEPLOY_WORK/before/$number
    rm -f "$path"
    if [ -e "$copy" ] || [ -L "$copy" ]; then cp -a "$copy" "$path"; fi
  done <"$DEPLOY_WORK/before/list"
}

# See that the user can read the repository.
reach_repository() {
  local user repo over_ssh
  local "$@"
  export -f git list_repository
  runuser -u "$user" -- bash --norc -euo pipefail -c 'list_repository "$@"' bash "$repo" "$over_ssh" "$UNIT@$(hostname)"
}

# As the user: answers `deploy-key KEY` when an SSH address refuses it: list_repository REPO OVER_SSH COMMENT
list_repository() {
  local said
  cd
  if [ -n "$2" ] && [ ! -e .ssh/id_ed25519 ] && [ ! -e .ssh/id_rsa ]; then
    ssh-keygen -q -t ed25519 -N '' -C "$3" -f .ssh/id_ed25519
    echo "changed: made a deploy key"
  fi
  said=$(git ls-remote --quiet "$1" HEAD 2>&1 >/dev/null) || {
    printf '%s\n' "$said"
    [ -z "$2" ] || echo "deploy-key $(cat .ssh/*.pub | head -n 1)"
  }
}
