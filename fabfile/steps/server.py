"""What makes a bare server ready: packages, user, folders, token, sudo rights, unit and site. Run as root.

Every step may run again: it changes what is not as it should be and says so in `changed ...` lines.
"""

from collections.abc import Sequence
from pathlib import PurePosixPath
from shlex import quote

from fabfile.config.layout import Layout
from fabfile.config.settings import Settings
from fabfile.steps import nginx, systemd
from fabfile.steps.release import GIT
from fabfile.steps.step import Step

# command that shows it is there, package that brings it
PROGRAMS = {
    "git": "git",
    "nginx": "nginx",
    "curl": "curl",
    "sudo": "sudo",
    "python3": "python3",
    "pgrep": "procps",
    "flock": "util-linux",
    "update-ca-certificates": "ca-certificates",
    "ssh-keygen": "openssh-client",
}
SUPPORTED = ("debian 12", "debian 13", "ubuntu 22.04", "ubuntu 24.04")


def look(layout: Layout) -> Step:
    """Refuse a server that this tool does not know, or that holds something else where the app should be."""
    known = " | ".join(f'"{name}"' for name in SUPPORTED)
    app = quote(str(layout.app))
    return Step(
        "Look at the server",
        f"""
[ "$(id -u)" = 0 ] || {{ echo "this login is not root and has no passwordless sudo"; exit 1; }}
[ -d /run/systemd/system ] || {{ echo "systemd does not run here"; exit 1; }}
. /etc/os-release
case "$ID $VERSION_ID" in
  {known}) ;;
  *) echo "$PRETTY_NAME is not one of: {", ".join(SUPPORTED)}"; exit 1 ;;
esac
if [ -e {app} ] && [ ! -L {app} ]; then echo "{layout.app} is a real folder; move it away first: mv {layout.app} {layout.app}.old"; exit 1; fi
etc={quote(str(layout.secrets.parent))}
if [ -d "$etc" ] && [ -n "$(ls -A "$etc")" ] && [ ! -e {quote(str(layout.secrets))} ]; then
  echo "$etc belongs to something else: give the app another name in hosts.toml"; exit 1
fi
if [ -L {app} ] && [ "$(readlink {app})" != {quote(str(layout.current))} ]; then
  echo "{layout.app} is a link to $(readlink {app}), not to {layout.current}; move it away first"; exit 1
fi
""",
    )


def packages() -> Step:
    """Install the Debian packages that are missing."""
    checks = "\n".join(
        f"PATH=$PATH:/usr/sbin:/sbin command -v {program} >/dev/null || missing+=({package})"
        for program, package in PROGRAMS.items()
    )
    return Step(
        "Install the packages",
        f"""
missing=()
{checks}
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
if [ ${{#missing[@]}} != 0 ]; then
  export DEBIAN_FRONTEND=noninteractive
  apt-get -qq update
  apt-get -qq -o Dpkg::Use-Pty=0 install --yes --no-install-recommends "${{missing[@]}}" >"$DEPLOY_WORK/apt" 2>&1 || {{ tail -n 40 "$DEPLOY_WORK/apt"; exit 1; }}
  echo "changed: installed ${{missing[*]}}"
fi
""",
        timeout=900,
    )


def uv() -> Step:
    """Install uv from PyPI into its own virtualenv: the one way that is the same on every distribution."""
    return Step(
        "Install uv",
        """
if ! command -v uv >/dev/null; then
  python3 -m venv /opt/uv
  /opt/uv/bin/pip install --quiet --disable-pip-version-check uv
  ln -sfn /opt/uv/bin/uv /usr/local/bin/uv
  echo "changed: installed $(uv --version)"
fi
""",
        timeout=600,
    )


def doppler() -> Step:
    """Install the Doppler CLI from Doppler's own package repository, its key pinned to that repository."""
    return Step(
        "Install the Doppler CLI",
        """
if ! [ -x /usr/bin/doppler ]; then
  key=/usr/share/keyrings/doppler-archive-keyring.asc
  curl --fail --silent --show-error --location --retry 3 --proto '=https' \\
    https://packages.doppler.com/public/cli/gpg.DE2A7741A397C129.key -o "$DEPLOY_WORK/doppler.asc"
  install -m 644 "$DEPLOY_WORK/doppler.asc" "$key"
  echo "deb [signed-by=$key] https://packages.doppler.com/public/cli/deb/debian any-version main" \\
    >/etc/apt/sources.list.d/doppler-cli.list
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install --yes doppler >/dev/null
  echo "changed: installed Doppler CLI $(doppler --version)"
fi
""",
        timeout=600,
    )


def user(settings: Settings) -> Step:
    """Make the user that deploys and runs the app, who may read the logs and logs in with the keys it is given."""
    keys = quote("\n".join(settings.authorized_keys))
    name, group = quote(settings.user), quote(settings.group)
    return Step(
        "Make the user",
        f"""
user={name} group={group} keys={keys}
getent group "$group" >/dev/null || {{ groupadd --system "$group"; echo "changed: made the group $group"; }}
if ! id "$user" >/dev/null 2>&1; then
  useradd --system --create-home --shell /bin/bash --gid "$group" "$user"
  echo "changed: made the user $user"
fi
for log_group in systemd-journal adm; do
  case " $(id -nG "$user") " in *" $log_group "*) ;; *) usermod -aG "$log_group" "$user"; echo "changed: $user is in $log_group" ;; esac
done
home=$(getent passwd "$user" | cut -d: -f6)
[ -n "$keys" ] || keys=$(cat ~"${{SUDO_USER:-root}}/.ssh/authorized_keys" 2>/dev/null || cat /root/.ssh/authorized_keys 2>/dev/null || true)
install -d -m 700 -o "$user" -g "$group" "$home/.ssh"
file=$home/.ssh/authorized_keys
[ -e "$file" ] || install -m 600 -o "$user" -g "$group" /dev/null "$file"
printf '%s\\n' "$keys" | while IFS= read -r key; do
  [ -z "$key" ] || grep -qxF -- "$key" "$file" || {{ printf '%s\\n' "$key" >>"$file"; echo "changed: a key may log in as $user"; }}
done
""",
    )


def folders(layout: Layout, settings: Settings) -> Step:
    """Make the app's folders, its link, and the key of the digests."""
    owner, group = quote(settings.user), quote(settings.group)
    ours = [
        layout.base,
        layout.releases,
        layout.shared,
        layout.staged,
        layout.kept_static,
        layout.cache,
        layout.pythons,
    ]
    private = [layout.doppler_home.parent, layout.doppler_home]
    return Step(
        "Make the folders",
        f"""
folder() {{
  if [ "$(stat -c '%U %G %a' "$4" 2>/dev/null)" != "$1 $2 $3" ]; then
    install -d -o "$1" -g "$2" -m "$3" "$4"; echo "changed: folder $4"
  fi
}}
for path in {" ".join(quote(str(path)) for path in ours)}; do folder {owner} {group} 755 "$path"; done
for path in {" ".join(quote(str(path)) for path in private)}; do folder {owner} {group} 700 "$path"; done
folder root {group} 750 {quote(str(layout.secrets.parent))}
if [ ! -e {quote(str(layout.lock))} ]; then install -m 644 -o {owner} -g {group} /dev/null {quote(str(layout.lock))}; echo "changed: lock file"; fi
if [ ! -s {quote(str(layout.digest_key))} ]; then
  (umask 077; head -c 32 /dev/urandom >"$DEPLOY_WORK/key"); install -m 600 -o {owner} -g {group} "$DEPLOY_WORK/key" {quote(str(layout.digest_key))}
  echo "changed: key of the digests"
fi
if [ ! -L {quote(str(layout.app))} ]; then
  mkdir -p {quote(str(layout.app.parent))}
  ln -s {quote(str(layout.current))} {quote(str(layout.app))}; echo "changed: link {layout.app}"
fi
""",
    )


def token(layout: Layout, settings: Settings) -> Step:
    """Write the token file from the file `doppler.env` sent to the conductor, if one was; refuse to go without."""
    path = quote(str(layout.secrets))
    return Step(
        "Write the Doppler token",
        f"""
if [ -e "$DEPLOY_FILES/doppler.env" ]; then
  cmp -s "$DEPLOY_FILES/doppler.env" {path} || {{
    install -m 600 -o {quote(settings.user)} -g {quote(settings.group)} "$DEPLOY_FILES/doppler.env" {path}.new
    mv {path}.new {path}
    echo "changed: token file {layout.secrets}"
  }}
elif [ ! -s {path} ]; then
  echo "there is no token yet: set DOPPLER_TOKEN to a service token, or pipe it in with --token-stdin"
  exit 1
fi
[ "$(stat -c '%U %a' {path})" = {quote(f"{settings.user} 600")} ] || {{
  chown {quote(settings.user)}:{quote(settings.group)} {path}; chmod 600 {path}; echo "changed: rights of {layout.secrets}"
}}
""",
    )


def sudo_lines(layout: Layout, settings: Settings) -> list[str]:
    """Exactly what the deploying user may run as root: restart the service, install and load its three files."""
    unit = layout.unit
    commands = [
        f"{systemd.SYSTEMCTL} restart {unit}.service",
        f"{systemd.SYSTEMCTL} stop {unit}.socket {unit}.service",
        f"{systemd.SYSTEMCTL} restart {unit}.socket",
        f"{systemd.SYSTEMCTL} daemon-reload",
        f"{systemd.SYSTEMCTL} reload nginx.service",
        f"{nginx.NGINX} -t -q",
        *(
            f"{systemd.INSTALL} {systemd.staged(layout, target)} {target}"
            for target in (layout.service_file, layout.socket_file, layout.site_file)
        ),
    ]
    return [f"{settings.user} ALL=(root) NOPASSWD: {command}" for command in commands]


def sudo(layout: Layout, settings: Settings) -> Step:
    """Install the sudo lines, checked by visudo first."""
    text = "\n".join(["# Written by provision of the deploy tool.", *sudo_lines(layout, settings)])
    path = f"/etc/sudoers.d/{layout.unit}"
    return Step(
        "Grant the exact sudo rights",
        f"""
printf '%s\\n' {quote(text)} >"$DEPLOY_WORK/sudoers"
if ! cmp -s "$DEPLOY_WORK/sudoers" {quote(path)}; then
  /usr/sbin/visudo -cqf "$DEPLOY_WORK/sudoers"
  install -m 440 -o root -g root "$DEPLOY_WORK/sudoers" {quote(path)}
  echo "changed: {path}"
fi
""",
    )


def service(layout: Layout, settings: Settings, targets: Sequence[PurePosixPath]) -> Step:
    """Install unit, socket and site (sent to the conductor by name) where there is none yet, or nothing is live yet.

    With a release live, a changed file is the next deploy's business: that knows how to activate it unnoticed.
    """
    lines = "\n".join(f"place {quote(str(target))} {quote(target.name)}" for target in targets)
    default = "/etc/nginx/sites-enabled/default"
    drop_default = (
        f"if [ -L {default} ]; then rm {default}; site_changed=1; echo 'changed: {default} is gone (default_server)'; fi"
        if settings.default_server
        else ""
    )
    return Step(
        "Install the units and the nginx site",
        f"""
live='' site_changed=''
[ ! -e {quote(str(layout.current))} ] || live=1
place() {{
  cmp -s "$DEPLOY_FILES/$2" "$1" && return 0
  if [ -n "$live" ] && [ -e "$1" ]; then echo "$1 differs: the next deploy installs it"; return 0; fi
  install -m 644 -o root -g root "$DEPLOY_FILES/$2" "$1"; site_changed=1; echo "changed: $1"
}}
{lines}
if [ ! -L {quote(str(layout.site_link))} ]; then
  ln -s {quote(str(layout.site_file))} {quote(str(layout.site_link))}; site_changed=1; echo "changed: {layout.site_link}"
fi
{drop_default}
{nginx.NGINX} -t -q
for unit in {layout.unit}.service {layout.unit}.socket nginx.service; do
  systemctl is-enabled --quiet "$unit" || {{ systemctl --quiet enable "$unit" 2>/dev/null; echo "changed: enabled $unit"; }}
done
if [ -n "$site_changed" ]; then
  systemctl daemon-reload
  systemctl reload-or-restart nginx.service
fi
systemctl is-active --quiet nginx.service || {{ systemctl start nginx.service; echo "changed: started nginx"; }}
""",
        timeout=120,
    )


def repository(layout: Layout, settings: Settings) -> Step:
    """See that the user can read the repository; answers `deploy-key KEY` when an SSH address refuses it."""
    over_ssh = "1" if not (settings.repo or "").startswith(("http", "git://", "file://")) else ""
    script = f"""{GIT}
cd
if [ -n "{over_ssh}" ] && [ ! -e .ssh/id_ed25519 ] && [ ! -e .ssh/id_rsa ]; then
  ssh-keygen -q -t ed25519 -N '' -C {quote(f"{layout.unit}@")}"$(hostname)" -f .ssh/id_ed25519; echo "changed: made a deploy key"
fi
if ! git ls-remote --quiet {quote(settings.repo or "")} HEAD >/dev/null 2>/tmp/.repository.$$; then
  cat /tmp/.repository.$$
  [ -z "{over_ssh}" ] || echo "deploy-key $(cat .ssh/*.pub | head -n 1)"
fi
rm -f /tmp/.repository.$$
"""
    return Step(
        "Reach the repository",
        f"runuser -u {quote(settings.user)} -- bash --norc -euo pipefail -c {quote(script)}",
        timeout=60,
    )
