# What makes a bare server ready: packages, user, folders, token, sudo rights, unit and site. Run as root.
#
# Every step may run again: it changes what is not as it should be and says so in `changed: ...` lines.
set -euo pipefail

# Refuse a server that this tool does not know, or that holds something else where the app should be.
check_server() {
  local supported
  local "$@"
  local etc=${SECRETS%/*} ID='' VERSION_ID='' PRETTY_NAME=''
  is_root || fail "this login is not root and has no passwordless sudo"
  has_systemd || fail "systemd does not run here"
  load_os_release
  grep -qxF "$ID $VERSION_ID" <<<"$supported" || fail "$PRETTY_NAME is not one of: ${supported//$'\n'/, }"
  if [ -e "$APP" ] && [ ! -L "$APP" ]; then fail "$APP is a real folder; move it away first: mv $APP $APP.old"; fi
  if [ -d "$etc" ] && [ -n "$(ls -A "$etc")" ] && [ ! -e "$SECRETS" ]; then
    fail "$etc belongs to something else: give the app another name in hosts.toml"
  fi
  if [ -L "$APP" ] && [ "$(readlink "$APP")" != "$CURRENT" ]; then
    fail "$APP is a link to $(readlink "$APP"), not to $CURRENT; move it away first, or" \
      "give this app another path in hosts.toml: path = \"$BASE/app\""
  fi
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
  local log_group home file key
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
  install -d -m 700 -o "$user" -g "$group" "$home/.ssh"
  file=$home/.ssh/authorized_keys
  [ -e "$file" ] || install -m 600 -o "$user" -g "$group" /dev/null "$file"
  while IFS= read -r key; do
    if [ -z "$key" ] || grep -qxF -- "$key" "$file"; then continue; fi
    printf '%s\n' "$key" >>"$file"
    echo "changed: a key may log in as $user"
  done <<<"$keys"
}

# The keys that may log in as whoever provisions.
admin_keys() {
  local admin
  admin=$(getent passwd "${SUDO_USER:-root}" | cut -d: -f6)
  cat "$admin/.ssh/authorized_keys" 2>/dev/null || cat /root/.ssh/authorized_keys 2>/dev/null || true
}

# Make a folder with its owner and mode: folder OWNER GROUP MODE PATH
folder() {
  [ "$(stat -c '%U %G %a' "$4" 2>/dev/null)" != "$1 $2 $3" ] || return 0
  install -d -o "$1" -g "$2" -m "$3" "$4"
  echo "changed: folder $4"
}

# Make the app's folders, its link, and the key of the digests.
make_folders() {
  local user group
  local "$@"
  local path
  for path in "$BASE" "$RELEASES" "$SHARED" "$STAGED" "$KEPT_STATIC" "$CACHE" "$PYTHONS"; do
    folder "$user" "$group" 755 "$path"
  done
  for path in "${DOPPLER_HOME%/*}" "$DOPPLER_HOME"; do folder "$user" "$group" 700 "$path"; done
  folder root "$group" 750 "${SECRETS%/*}"
  if [ ! -e "$LOCK" ]; then
    install -m 644 -o "$user" -g "$group" /dev/null "$LOCK"
    echo "changed: lock file"
  fi
  if [ ! -s "$DIGEST_KEY" ]; then
    (umask 077 && head -c 32 /dev/urandom >"$DEPLOY_WORK/key")
    install -m 600 -o "$user" -g "$group" "$DEPLOY_WORK/key" "$DIGEST_KEY"
    echo "changed: key of the digests"
  fi
  if [ ! -L "$APP" ]; then
    mkdir -p "${APP%/*}/"
    ln -s "$CURRENT" "$APP"
    echo "changed: link $APP"
  fi
}

# Write the token file from the file doppler.env sent to the runner, if one was; refuse to go without.
write_token() {
  local user group
  local "$@"
  local sent=$DEPLOY_FILES/doppler.env
  if [ -e "$sent" ]; then
    cmp -s "$sent" "$SECRETS" || {
      install -m 600 -o "$user" -g "$group" "$sent" "$SECRETS.new"
      mv "$SECRETS.new" "$SECRETS"
      echo "changed: token file $SECRETS"
    }
  elif [ ! -s "$SECRETS" ]; then
    fail "there is no token yet: set DOPPLER_TOKEN to a service token, or pipe it in with --token-stdin"
  fi
  [ "$(stat -c '%U %a' "$SECRETS")" = "$user 600" ] || {
    chown "$user:$group" "$SECRETS"
    chmod 600 "$SECRETS"
    echo "changed: rights of $SECRETS"
  }
}

# Install the sudo lines (sent to the runner as the file sudoers), checked by visudo first.
grant_rights() {
  local sent=$DEPLOY_FILES/sudoers file=/etc/sudoers.d/$UNIT
  ! cmp -s "$sent" "$file" || return 0
  /usr/sbin/visudo -cqf "$sent"
  install -m 440 -o root -g root "$sent" "$file"
  echo "changed: $file"
}

# Install unit, socket and site (sent to the runner by name) where there is none yet, or nothing is live yet.
# With a release live, a changed file is the next deploy's business: that knows how to activate it unnoticed.
install_service() {
  local files default_server
  local "$@"
  local file unit changed='' default=/etc/nginx/sites-enabled/default
  for file in $files; do
    ! cmp -s "$DEPLOY_FILES/${file##*/}" "$file" || continue
    if [ -e "$CURRENT" ] && [ -e "$file" ]; then
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
  /usr/sbin/nginx -t -q
  for unit in "$UNIT.service" "$UNIT.socket" nginx.service "$NAME-processes.service"; do
    [ "$unit" != "$NAME-processes.service" ] || [ -e "/etc/systemd/system/$unit" ] || continue
    systemctl is-enabled --quiet "$unit" || {
      systemctl --quiet enable "$unit" 2>/dev/null
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
