"""provision's steps as far as they go without being root and without a package manager; the rest is tests/lab.

apt-get, runuser, systemctl and nginx are stand-ins; owner and group are whoever runs the test.
"""

import contextlib
import getpass
import grp
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fabfile.config.layout import Layout
from fabfile.config.settings import Tls
from fabfile.plan.rights import sudo_lines, too_wide
from fabfile.ssh.runner import StepError
from fabfile.steps import server, survey
from fabfile.steps.step import Step
from testbed.sample import sample
from tests.host.every_step import provision
from tests.host.local_host import HOSTILE, World

# Takes one token, and says no to another in the words of the real one (decision 13).
DOPPLER = """
case $DOPPLER_TOKEN in
  *WRONG*) printf 'Unable to fetch secrets from the Doppler API\\nDoppler Error: Invalid Service token\\n'; exit 1 ;;
  *FAR*) printf 'Unable to fetch secrets from the Doppler API\\nDoppler Error: dial tcp: no such host\\n'; exit 1 ;;
esac"""
RUNUSER = 'while [ "$1" != -- ]; do shift; done; shift; AS_USER=1 exec "$@"'
# What needs root, done by whoever runs the tests: nginx is the stand-in, and root's folders are theirs. What listens on
# port 80 of this machine is nobody's business.
WITHOUT_ROOT = """
eval "real_$(declare -f listeners)"
listeners() { :; }
/usr/sbin/nginx() { nginx "$@"; }
eval "as_told_$(declare -f folder)"
export -f as_told_folder
folder() { if [ "$1" = root ]; then as_told_folder "$(id -un)" "${@:2}"; else as_told_folder "$@"; fi; }
"""


@pytest.fixture(autouse=True)
def me(world: World) -> None:
    """The user of the settings is the one who runs the test."""
    me = {"user": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name, "default_server": False}
    world.settings = world.settings.model_copy(update=me)
    world.stub("systemctl")
    world.stub("runuser", RUNUSER)
    world.stub("doppler", DOPPLER)
    world.stub("nginx", f"! grep -qs broken {world.layout.site_file}")
    world.override(WITHOUT_ROOT)


def step(world: World, step_id: str) -> Step:
    """One of provision's steps."""
    [found] = [each for each in provision(world.settings, world.layout.installed_files) if each.id == step_id]
    return found


def changes(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("changed: ")]


def test_folders_are_made_once(world: World) -> None:
    """Every folder with its rights, the lock, the key of the digests and the link; a second run changes nothing."""
    layout = world.layout
    folders = step(world, "make_the_folders")
    first, second = world.twice(folders)
    assert changes(first)
    assert second == ""
    assert str(Path(layout.app).readlink()) == str(layout.current)
    modes = {
        path: Path(path).stat().st_mode & 0o777 for path in (layout.releases, layout.doppler_home, layout.digest_key)
    }
    assert list(modes.values()) == [0o755, 0o700, 0o600]
    key = Path(layout.digest_key).read_bytes()
    assert len(key) == 32
    Path(layout.releases).chmod(0o777)
    assert changes(world.output(folders)) == [f"changed: folder {layout.releases}"]
    assert Path(layout.digest_key).read_bytes() == key


# Notes what root itself does below the user's folders.
NOTE_ROOT = """
if [ -z "${{AS_USER-}}" ]; then
  for word; do case $word in {base}/* | {var}/*) echo "$0 $word" >>{root}/as_root ;; esac; done
fi
exec /usr/bin/${{0##*/}} "$@"
"""


def test_root_makes_nothing_in_a_folder_of_the_users(world: World) -> None:
    """Who owns a folder may put a link anywhere in it: what lies there is made by that user."""
    layout = world.layout
    shutil.rmtree(world.base)
    note = NOTE_ROOT.format(base=layout.base, var=layout.doppler_home.parent, root=world.root)
    for program in ("install", "mkdir", "ln", "chmod", "chown"):
        world.stub(program, note)
    world.override(f"APP={layout.base}/deep/app")
    first, second = world.twice(step(world, "make_the_folders"))
    assert f"changed: link {layout.base}/deep/app" in changes(first)
    assert second == ""
    assert not (world.root / "as_root").exists(), (world.root / "as_root").read_text()


@pytest.mark.parametrize("place", ["releases", "shared", "cache", "doppler_home", "lock", "digest_key"])
def test_a_link_to_what_is_not_the_users_is_refused(world: World, place: str) -> None:
    """It is named with what it leads to, in one line whatever that is called; there nothing is another."""
    path, target = Path(getattr(world.layout, place)), world.root / "else\nwhere"
    if place not in ("lock", "digest_key"):
        with contextlib.suppress(FileNotFoundError):
            path.rmdir()
        if os.geteuid() == 0:  # else it leads to nothing, which is no more the user's
            target.mkdir(mode=0o700)
            os.chown(target, 65534, -1)
    path.symlink_to(target)
    with pytest.raises(StepError) as caught:
        world.run(step(world, "make_the_folders"))
    assert (
        f"{path} is a link to $'{world.root}/else\\nwhere': that is not {getpass.getuser()}'s own"
        in caught.value.message
    )
    assert caught.value.hint.startswith(f"rm {path} on the server")
    assert not target.exists() or target.stat().st_mode & 0o777 == 0o700


def test_a_folder_may_lie_on_another_disk(world: World) -> None:
    """A link to a folder of the user's own is as good: nobody's rights are another by it."""
    path, target = Path(world.layout.shared), world.root / "disk"
    path.rmdir()
    target.mkdir(mode=0o755)
    path.symlink_to(target)
    world.twice(step(world, "make_the_folders"))
    assert path.readlink() == target


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_what_is_somebody_elses_is_told(world: World) -> None:
    """The user cannot take it, and root does not give it."""
    os.chown(world.layout.cache, 65534, -1)
    with pytest.raises(StepError, match=f"{world.layout.cache} belongs to nobody, not to {getpass.getuser()}"):
        world.run(step(world, "make_the_folders"))


def test_the_folder_of_the_secrets_becomes_roots(world: World) -> None:
    """Of an earlier version it is the user's, and what is in it stays; what is made anew is so from the start."""
    world.settings = world.settings.model_copy(update={"secrets": "file"})
    path = Path(world.layout.secrets)
    secrets = step(world, "make_the_secrets_file")
    path.parent.mkdir(mode=0o700)
    path.write_text('A="1"\n')
    first, second = world.twice(secrets)
    assert (changes(first), second) == ([f"changed: folder {path.parent}"], "")
    assert path.parent.stat().st_mode & 0o777 == 0o750
    assert path.read_text() == 'A="1"\n'
    path.unlink()
    first, second = world.twice(secrets)
    assert (len(changes(first)), second) == (1, "")
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("kind", ["link", "dangling link", "hard link", "folder"])
def test_what_is_no_file_of_secrets_is_refused(world: World, kind: str) -> None:
    """systemd would read another app's file for it; it is looked at when nobody can put another one there."""
    world.settings = world.settings.model_copy(update={"secrets": "file"})
    path, other = Path(world.layout.secrets), world.root / "other.env"
    path.parent.mkdir(mode=0o700)
    if kind != "dangling link":
        other.write_text('OTHER="1"\n')
    {"hard link": path.hardlink_to, "folder": lambda _: path.mkdir()}.get(kind, path.symlink_to)(other)
    with pytest.raises(StepError, match=f"{path} is no plain file of") as caught:
        world.run(step(world, "make_the_secrets_file"))
    assert caught.value.hint.startswith(f"rm {path} on the server")
    assert path.parent.stat().st_mode & 0o777 == 0o750
    assert not os.path.lexists(other) or other.read_text() == 'OTHER="1"\n'


def test_the_token_is_written_once_and_kept_private(world: World) -> None:
    """0600, never in the output; a new one replaces it, none keeps it, and none at all is refused."""
    path = Path(world.layout.secrets)
    token = step(world, "write_the_doppler_token")
    with pytest.raises(StepError) as caught:
        world.run(token)
    assert "there is no Doppler token yet" in caught.value.evidence
    first, second = world.twice(token, files={"doppler.env": b"DOPPLER_TOKEN=dp.st.prd.SENTINEL\n"})
    assert changes(first) == [f"changed: token file {path}"]
    assert second == ""
    assert "SENTINEL" not in first
    assert path.read_text() == "DOPPLER_TOKEN=dp.st.prd.SENTINEL\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert world.output(token) == ""
    path.chmod(0o644)
    assert changes(world.output(token)) == [f"changed: rights of {path}"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert changes(world.output(token, {"doppler.env": b"DOPPLER_TOKEN=dp.st.prd.OTHER\n"}))
    assert "OTHER" in path.read_text()


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("WRONG", "Doppler refuses the token that was given: Invalid Service token; "),
        ("FAR", "Doppler cannot be reached to try the token that was given: dial tcp: no such host; "),
    ],
)
def test_a_token_that_doppler_does_not_take_replaces_none(world: World, given: str, said: str) -> None:
    """It is tried first, by the environment and no argument; what was there stays, and that is said."""
    path = Path(world.layout.secrets)
    world.settings = world.settings.model_copy(update={"doppler_config": "prd"})
    token = step(world, "write_the_doppler_token")
    sent = {"doppler.env": f"DOPPLER_TOKEN=dp.st.prd.{given}\n".encode()}
    with pytest.raises(StepError) as caught:
        world.run(token, files=sent)
    assert said + "there is none yet" in caught.value.message
    assert not path.exists()
    world.run(token, files={"doppler.env": b"DOPPLER_TOKEN=dp.st.prd.GOOD\n"})
    with pytest.raises(StepError) as caught:
        world.run(token, files=sent)
    assert said + f"{path} stays as it was" in caught.value.message
    assert "GOOD" in path.read_text()
    assert given not in "".join(world.calls) + caught.value.evidence
    path.write_text(f"DOPPLER_TOKEN=dp.st.prd.{given}\n")
    if given == "FAR":  # the old one may be good
        world.run(token)
        return
    with pytest.raises(StepError) as caught:
        world.run(token)
    assert said.replace("was given", "is there") in caught.value.message


def test_what_stands_in_the_token_file_is_not_run(world: World) -> None:
    """The user may write it, and provision is root: it is text, and Doppler is asked as that user."""
    path = Path(world.layout.secrets)
    path.write_text(f"touch {world.root}/bait\nDOPPLER_TOKEN=$(touch {world.root}/bait)\n")
    path.chmod(0o600)
    world.stub("runuser", RUNUSER)
    world.run(step(world, "write_the_doppler_token"))
    assert not world.bait()
    assert any(call.startswith(f"runuser -u {world.settings.user} -- ") for call in world.calls)


def test_a_missing_token_is_told_before_anything_is_installed(world: World) -> None:
    """With the command that brings it, by the first step; a host that has one goes on without."""
    (world.root / "os-release").write_text(DEBIAN)
    known_server(world)
    look = step(world, "look_at_the_server")
    with pytest.raises(StepError) as caught:
        world.run(look)
    assert caught.value.message.endswith("there is no Doppler token yet")
    assert caught.value.hint.startswith("DOPPLER_TOKEN=dp.st.xxx fab -H there provision")
    Path(world.layout.secrets).write_text("DOPPLER_TOKEN=x\n")
    assert world.twice(look) == ("", "")


def service_files(world: World, site: str = "site") -> dict[str, bytes]:
    layout = world.layout
    return {
        layout.service_file.name: b"service",
        layout.socket_file.name: b"socket",
        layout.site_file.name: site.encode(),
    }


def test_units_and_site_are_installed_once(world: World) -> None:
    """Installed and enabled when there are none; a second run neither writes nor reloads."""
    layout = world.layout
    install = server.install_service(world.settings, layout.installed_files)
    first, second = world.twice(install, files=service_files(world))
    assert len(changes(first)) == 4
    assert second == ""
    assert Path(layout.site_link).read_text() == "site"
    calls = world.calls
    assert len([call for call in calls if "reload-or-restart" in call]) == 1


def test_a_live_hosts_files_are_the_next_deploys_business(world: World) -> None:
    """With a release live, a file that differs is told and stays."""
    layout = world.layout
    install = server.install_service(world.settings, layout.installed_files)
    world.run(install, files=service_files(world))
    world.release("20260101T000000Z-abcdef0")
    Path(layout.current).symlink_to("releases/20260101T000000Z-abcdef0")
    first, second = world.twice(install, files=service_files(world, "another site"))
    assert first == second == f"{layout.site_file} differs: the next deploy installs it"
    assert Path(layout.site_file).read_text() == "site"


@pytest.mark.parametrize("killed", [False, True])
def test_a_site_that_nginx_refuses_is_taken_away_again(world: World, killed: bool) -> None:
    """Whatever ends the step, nginx finds what it found before: no file, no link, and the default site."""
    layout = world.layout
    default = Path(layout.site_link).with_name("default")
    default.symlink_to("/nowhere")
    world.settings = world.settings.model_copy(update={"default_server": True})
    if killed:
        world.override("nginx_test() { [ -L $SITE_LINK ] && kill -TERM $$ || true; }")
    install = server.install_service(world.settings, layout.installed_files)
    with pytest.raises(StepError) as caught:
        world.run(install, files=service_files(world, "broken"))
    assert killed or "nginx -t refuses the site; what was there before is back" in caught.value.message
    assert not [path for path in (*layout.installed_files, layout.site_link) if os.path.lexists(path)]
    assert default.is_symlink()


# Says what the real one says: a mistake is told by its file, of two default servers the last is named.
NGINX = """
if grep -qs broken {link}; then echo 'nginx: [emerg] unexpected "}}" in {link}:1'
elif [ -L {link} ] && [ -L {default} ]; then echo 'nginx: [emerg] a duplicate default server in {default}:22'
elif [ -e {root}/other ]; then echo 'nginx: [emerg] unknown directive "x" in /etc/nginx/conf.d/y.conf:1'
else exit 0
fi
exit 1
"""


@dataclass
class Killed:
    """A provision that is killed at a command, and leaves what it has installed."""

    world: World
    default: Path

    @property
    def install(self) -> Step:
        return server.install_service(self.world.settings, self.world.layout.installed_files)

    def at(self, command: str, site: str) -> None:
        self.world.override(
            f'{command}() {{ [ -e {self.world.root}/over ] || [ ! -L "$SITE_LINK" ] || kill -KILL $$; '
            f'command {command} "$@"; }}'
        )
        with pytest.raises(StepError) as caught:
            self.world.run(self.install, files=service_files(self.world, site))
        assert caught.value.failed.code == 137
        assert Path(self.world.layout.site_link).read_text() == site
        (self.world.root / "over").touch()


@pytest.fixture
def killed(world: World) -> Killed:
    """On a host with Debian's default site, whose nginx complains as the real one."""
    default = Path(world.layout.site_link).with_name("default")
    default.symlink_to("/nowhere")
    world.settings = world.settings.model_copy(update={"default_server": True})
    world.stub("nginx", NGINX.format(link=world.layout.site_link, default=default, root=world.root))
    world.stub("unshare", f"[ ! -e {world.root}/other ]")  # nginx -t without our site
    return Killed(world, default)


def test_a_provision_that_was_killed_between_two_default_servers(world: World, killed: Killed) -> None:
    """nginx names Debian's, which was to go next: the mistake is ours all the same, and the next run mends it."""
    (world.root / "os-release").write_text(DEBIAN)
    known_server(world)
    Path(world.layout.secrets).write_text("DOPPLER_TOKEN=x\n")
    killed.at("rm", "site")
    assert killed.default.is_symlink()
    world.run(step(world, "look_at_the_server"), killed.install, files=service_files(world))
    assert Path(world.layout.site_link).read_text() == "site"
    assert not killed.default.is_symlink()
    assert world.output(killed.install, files=service_files(world)) == ""


def test_a_broken_site_of_a_provision_that_was_killed(world: World, killed: Killed) -> None:
    """A better one takes its place; if nginx refuses that too, it finds neither of them."""
    killed.at("nginx", "broken")
    with pytest.raises(StepError) as caught:
        world.run(killed.install, files=service_files(world, "broken again"))
    assert "nginx -t refuses the site; what was there before is back" in caught.value.message
    assert not [path for path in (world.layout.site_file, world.layout.site_link) if os.path.lexists(path)]
    (world.root / "over").unlink()
    killed.at("nginx", "broken")
    world.run(killed.install, files=service_files(world))
    assert Path(world.layout.site_link).read_text() == "site"


def test_a_good_site_of_a_provision_that_was_killed(world: World, killed: Killed) -> None:
    """It is not only there: the next run lets nginx take it up."""
    world.stub(
        "systemctl",
        f'[ "$1" != is-enabled ] || [ -e {world.root}/enabled ] || {{ touch {world.root}/enabled; exit 1; }}',
    )
    killed.at("nginx", "site")
    assert not [call for call in world.calls if "reload-or-restart" in call]
    world.run(killed.install, files=service_files(world))
    assert "systemctl reload-or-restart nginx.service" in world.calls


def test_a_broken_site_of_a_live_release(world: World, killed: Killed) -> None:
    """It is replaced by the one of today; should nginx refuse that too, it stays."""
    layout = world.layout
    killed.at("nginx", "broken")
    world.release("20260101T000000Z-abcdef0")
    Path(layout.current).symlink_to("releases/20260101T000000Z-abcdef0")
    with pytest.raises(StepError) as caught:
        world.run(killed.install, files=service_files(world, "broken again"))
    assert "nginx -t refuses the site; what was there before is back" in caught.value.message
    assert Path(layout.site_link).read_text() == "broken"
    world.run(killed.install, files=service_files(world))
    assert Path(layout.site_link).read_text() == "site"


def test_a_killed_provision_is_no_excuse_for_another_site(world: World, killed: Killed) -> None:
    """What nginx refuses without our site, too, is not ours to mend."""
    killed.at("nginx", "site")
    (world.root / "other").touch()
    with pytest.raises(StepError) as caught:
        world.run(killed.install, files=service_files(world))
    assert 'nginx -t fails on this server already: nginx: [emerg] unknown directive "x"' in caught.value.message
    assert Path(world.layout.site_link).read_text() == "site"


def test_a_mistake_of_another_site_is_told_as_that(world: World) -> None:
    """An nginx that is not sound before is not ours to mend: its words, and nothing is changed."""
    world.stub("nginx", "echo 'nginx: [emerg] unknown directive \"x\" in /etc/nginx/conf.d/y.conf:1'; exit 1")
    install = server.install_service(world.settings, world.layout.installed_files)
    with pytest.raises(StepError) as caught:
        world.run(install, files=service_files(world))
    assert 'nginx -t fails on this server already: nginx: [emerg] unknown directive "x"' in caught.value.message
    assert not os.path.lexists(world.layout.site_link)


NGINX_READS = """\
# configuration file /etc/nginx/nginx.conf:
http {{ include x; }}
# configuration file {file}:
server {{
    {line}
    listen 443 ssl default_server;
}}
"""


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("listen 80 default_server;", True),
        ("listen [::]:80 default_server ipv6only=on;", True),
        ("listen 10.0.0.1:80 default_server;", True),
        ("listen default_server;", True),
        ("# listen 80 default_server;", False),
        ("listen 8080 default_server;", False),
        ("listen 80;", False),
    ],
)
def test_another_default_server_is_found_beforehand(world: World, line: str, found: bool) -> None:
    """By name, before anything of nginx is changed, with the setting; not our own, nor Debian's, which goes."""
    world.settings = world.settings.model_copy(update={"default_server": True})
    read = world.root / "read"
    world.stub("nginx", f'[ "$1" != -T ] || cat {read}')
    install = server.install_service(world.settings, world.layout.installed_files)
    for file in (world.layout.site_link, world.layout.site_link.with_name("default")):
        read.write_text(NGINX_READS.format(file=file, line=line))
        world.run(install, files=service_files(world))
    read.write_text(NGINX_READS.format(file="/etc/nginx/conf.d/shop.conf", line=line))
    if not found:
        world.run(install, files=service_files(world))
        return
    with pytest.raises(StepError) as caught:
        world.run(install, files=service_files(world))
    assert caught.value.message.endswith("/etc/nginx/conf.d/shop.conf is the default server of port 80 already")
    assert caught.value.hint.startswith("default_server = false in hosts.toml")
    world.settings = world.settings.model_copy(update={"default_server": False})
    world.run(server.install_service(world.settings, world.layout.installed_files), files=service_files(world))


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("server_name api.consult.dev;", "api.consult.dev"),
        ("listen 80; server_name  other.example   www.consult.dev;", "www.consult.dev"),
        ("server_name old.api.consult.dev api.consult.dev.example;", ""),
        ("# server_name api.consult.dev;", ""),
    ],
)
def test_a_name_that_another_site_has_is_found_beforehand(world: World, line: str, found: str) -> None:
    """nginx would only warn, and one of the two never answer; our own site may have it."""
    (world.root / "os-release").write_text(DEBIAN)
    known_server(world)
    Path(world.layout.secrets).write_text("DOPPLER_TOKEN=x\n")
    world.settings = world.settings.model_copy(update={"aliases": ("www.consult.dev",)})
    read = world.root / "read"
    world.stub("nginx", f'[ "$1" != -T ] || cat {read}')
    look = step(world, "look_at_the_server")
    read.write_text(NGINX_READS.format(file=world.layout.site_link, line=line))
    world.run(look)
    read.write_text(NGINX_READS.format(file="/etc/nginx/conf.d/shop.conf", line=line))
    if not found:
        world.run(look)
        return
    with pytest.raises(StepError, match=f"/etc/nginx/conf.d/shop.conf answers for {found} already"):
        world.run(look)


def test_a_certificate_that_will_not_do_is_told_beforehand(world: World) -> None:
    """Where openssl is there already; and a port that is taken, whatever is there."""
    (world.root / "os-release").write_text(DEBIAN)
    known_server(world)
    Path(world.layout.secrets).write_text("DOPPLER_TOKEN=x\n")
    pair = Tls(certificate=f"{world.root}/none.pem", key=f"{world.root}/none.key")
    world.settings = world.settings.model_copy(update={"tls": pair})
    with pytest.raises(StepError, match=f"{world.root}/none.pem is not on this server"):
        world.run(step(world, "look_at_the_server"))
    world.override('listeners() { [ "$1" != 443 ] || echo caddy; }')
    with pytest.raises(StepError, match="caddy listens on port 443, where nginx is to speak https"):
        world.run(step(world, "look_at_the_server"))


IPV6 = Path("/proc/net/if_inet6")
needs_ipv6 = pytest.mark.skipif(not IPV6.exists() or not IPV6.read_text(), reason="no IPv6 here")
LISTEN = """
import socket, sys
open("/proc/self/comm", "w").write(sys.argv[2])
server = socket.create_server((sys.argv[1], 0), family=socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET)
print(server.getsockname()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def listening(address: str, program: str) -> Generator[int]:
    """A process of that name, and the port at which it listens."""
    command = [sys.executable, "-c", LISTEN, address, program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        yield int(process.stdout.readline())
        assert process.stdin
        process.stdin.close()


@pytest.mark.parametrize("address", ["127.0.0.1", pytest.param("::1", marks=needs_ipv6)])
def test_another_web_server_is_told_beforehand(world: World, address: str) -> None:
    """What listens on port 80 is named, also where there is no ss; nginx may."""
    (world.root / "os-release").write_text(DEBIAN)
    known_server(world)
    Path(world.layout.secrets).write_text("DOPPLER_TOKEN=x\n")
    world.stub("ss", "exit 127")
    look = step(world, "look_at_the_server")
    with listening(address, "nginx") as port:
        world.override(f'listeners() {{ [ "$1" = 80 ]; real_listeners {port}; }}')
        world.run(look)
    with listening(address, "apache2") as port:
        world.override(f'listeners() {{ [ "$1" = 80 ]; real_listeners {port}; }}')
        with pytest.raises(StepError) as caught:
            world.run(look)
    assert caught.value.message.endswith("apache2 listens on port 80, where nginx is to listen")
    assert "systemctl disable --now apache2" in caught.value.hint
    world.run(look)  # nobody is there any more


def test_packages_are_installed_only_when_missing(world: World) -> None:
    """Only what is missing is named to apt-get; a host that has all is not asked; its words are the evidence."""
    for program in server.PROGRAMS:
        world.stub(program)
    world.stub("python3")
    world.stub("apt-get")
    packages = step(world, "install_the_packages")
    assert world.twice(packages) == ("", "")
    assert not [call for call in world.calls if call.startswith("apt-get")]
    world.stub("python3", "exit 1")
    assert world.output(packages) == "changed: installed python3-venv"
    calls = [call for call in world.calls if call.startswith("apt-get")]
    assert calls[0] == "apt-get -qq update"
    assert calls[1].endswith("--no-install-recommends python3-venv")
    world.stub("apt-get", "echo E: no space left; [ $2 = update ]")
    with pytest.raises(StepError) as caught:
        world.run(packages)
    assert "E: no space left" in caught.value.evidence


def test_a_repository_that_can_be_read(world: World) -> None:
    """Nothing to say, twice."""
    subprocess.run(["git", "init", "--quiet", world.root / "origin"], check=True)
    world.settings = world.settings.model_copy(update={"repo": f"file://{world.root}/origin"})
    world.stub("runuser", RUNUSER)
    assert world.twice(server.reach_repository(world.settings)) == ("", "")


@pytest.mark.parametrize("readable", [True, False])
def test_reaching_the_repository_writes_nothing_to_tmp(world: World, readable: bool) -> None:
    """Where everybody may put a link, root opens no file: what git says goes into a pipe or nowhere."""
    world.stub("runuser", RUNUSER)
    world.stub(
        "git", f"readlink /proc/$$/fd/* >>{world.root}/open || true; echo said >&2; exit {0 if readable else 128}"
    )
    before = set(Path("/tmp").glob(".*"))
    said, _ = world.twice(server.reach_repository(world.settings))
    assert (said == "said") is not readable
    opened = (world.root / "open").read_text().split()
    assert opened
    assert [name for name in opened if name.startswith("/tmp/") and not name.startswith(str(world.root))] == []
    assert set(Path("/tmp").glob(".repository*")) <= before


def test_a_repository_that_cannot_be_read_is_told(world: World) -> None:
    """git's words; for an address over SSH, the deploy key to add: made once, the same the second time."""
    world.stub("runuser", RUNUSER)
    (world.root / "home/.ssh").mkdir()
    said, _ = world.twice(server.reach_repository(world.settings))
    assert "/nowhere" in said
    assert "deploy-key" not in said
    world.stub("ssh", "echo 'Permission denied (publickey).' >&2; exit 255")
    world.settings = world.settings.model_copy(update={"repo": "git@git.example.org:team/app.git"})
    first, second = world.twice(server.reach_repository(world.settings))
    key = (world.root / "home/.ssh/id_ed25519.pub").read_text().strip()
    assert "changed: made a deploy key" in first
    assert f"deploy-key {key}" in first
    assert f"deploy-key {key}" in second
    assert "changed" not in second
    assert "Permission denied" in second


def test_a_login_without_rights_is_told(world: World) -> None:
    """provision begins by looking whether it may."""
    world.override("id() { echo 1000; }")
    with pytest.raises(StepError) as caught:
        world.run(step(world, "look_at_the_server"))
    assert "not root" in caught.value.evidence


DEBIAN = "ID=debian\nVERSION_ID=12\n"


def known_server(world: World) -> None:
    """A login that is root, systemd, and the test's own /etc/os-release."""
    world.override(
        f"is_root() {{ true; }}; has_systemd() {{ true; }}; load_os_release() {{ . {world.root}/os-release; }}"
    )


@pytest.mark.parametrize(
    ("system", "said"),
    [
        (
            "ID=fedora\nVERSION_ID=41\nPRETTY_NAME='Fedora $(touch bait)'\n",
            "Fedora $(touch bait) is not one of: debian 12",
        ),
        (DEBIAN, ""),
    ],
)
def test_only_known_systems_are_taken(world: World, system: str, said: str) -> None:
    """Another distribution is refused by name."""
    (world.root / "os-release").write_text(system)
    known_server(world)
    Path(world.layout.secrets).write_text("DOPPLER_TOKEN=x\n")
    look = step(world, "look_at_the_server")
    if said:
        with pytest.raises(StepError) as caught:
            world.run(look)
        assert said in caught.value.evidence
    else:
        assert world.twice(look) == ("", "")
    assert not world.bait()


@pytest.mark.parametrize("kind", ["folder", "link elsewhere"])
def test_what_stands_where_the_app_should_be_is_told(world: World, kind: str) -> None:
    """A real folder, or somebody else's link, is not touched."""
    app = Path(world.layout.app)
    if kind == "folder":
        app.mkdir()
    else:
        app.symlink_to("/opt/other\nnext: no")
    (world.root / "os-release").write_text(DEBIAN)
    known_server(world)
    with pytest.raises(StepError) as caught:
        world.run(step(world, "look_at_the_server"))
    assert str(app) in caught.value.evidence
    assert "move it away" in caught.value.evidence
    assert "next: no" not in caught.value.evidence.splitlines()


def test_what_root_has_staged_is_no_stranger(world: World) -> None:
    """Nothing else may be left of an app whose token is gone: what is missing is that, and is told."""
    Path(world.layout.staged).mkdir(parents=True)
    (world.root / "os-release").write_text(DEBIAN)
    known_server(world)
    with pytest.raises(StepError, match="there is no Doppler token yet"):
        world.run(step(world, "look_at_the_server"))


def test_granting_rights_tells_all_that_there_are(world: World) -> None:
    """Those of other files too: sudo is asked for the user's."""
    world.override("cmp() { true; }")  # the tool's own file is as it should be
    world.stub("sudo", "printf '    (%s) NOPASSWD: %s\\n' root /usr/bin/one ALL ALL")
    assert world.output(step(world, "grant_the_exact_sudo_rights")).splitlines() == ["right /usr/bin/one", "right ALL"]
    assert world.calls == [f"sudo -n --list --other-user={world.settings.user}"]


def test_sudo_lines_are_exact() -> None:
    """No wildcard, no shell, no path that the deploying user may write; each line is one whole command."""
    lines = sudo_lines(Layout.of(sample()), sample().user)
    assert lines
    for line in lines:
        assert re.fullmatch(
            r"deploy ALL=\(root\) NOPASSWD: /usr/(s?bin/(systemctl|nginx)|local/lib/consult-files.sh) [a-z0-9 /._-]+",
            line,
        ), line


LISTED = """
User deploy may run the following commands on host:
    (root) NOPASSWD: /usr/sbin/nginx -t -q
    (ALL : ALL) NOPASSWD: ALL
    (root) SETENV: NOPASSWD: /usr/sbin/nginx -t -q
    (ALL) CWD=* NOEXEC: NOPASSWD: /bin/cat, /bin/ls
    (ALL) /bin/dd
"""


def test_rights_are_told_with_their_tags(world: World) -> None:
    """What sudo lists before NOPASSWD is part of a right: a command of ours that keeps the environment is too much."""
    world.stub("sudo", f"cat <<'X'\n{LISTED}\nX")
    found = [line for line in world.output(survey.read_host()).splitlines() if line.startswith("right ")]
    assert found == [
        "right /usr/sbin/nginx -t -q",
        "right ALL",
        "right SETENV: /usr/sbin/nginx -t -q",
        "right CWD=* NOEXEC: /bin/cat, /bin/ls",
    ]
    rights = [line.removeprefix("right ") for line in found]
    assert too_wide(Layout.of(sample()), rights) == rights[1:]


def test_visudo_takes_the_sudo_lines(world: World) -> None:
    """The real visudo reads them."""
    if not Path("/usr/sbin/visudo").exists() and not os.environ.get("CI"):
        pytest.skip("visudo is not installed")
    path = world.root / "sudoers"
    path.write_text("\n".join(sudo_lines(Layout.of(sample()), sample().user)) + "\n")
    path.chmod(0o440)
    subprocess.run(["/usr/sbin/visudo", "-cqf", path], check=True)


def test_a_key_is_only_text(world: World) -> None:
    """What stands in authorized_keys reaches the file as it is, once."""
    home = world.root / "home"
    key = f"ssh-ed25519 AAAA {HOSTILE}"
    world.settings = world.settings.model_copy(update={"authorized_keys": (key, "-e other")})
    for name in ("usermod", "useradd", "groupadd"):
        world.stub(name)
    world.stub("getent", f'[ "$1" = group ] && exit 0; echo "{world.settings.user}:x:0:0::{home}:/bin/bash"')
    first, second = world.twice(step(world, "make_the_user"))
    assert len([line for line in changes(first) if "a key may log in" in line]) == 2
    assert not [line for line in changes(second) if "a key may log in" in line]
    assert (home / ".ssh/authorized_keys").read_text() == f"{key}\n-e other\n"
    assert (home / ".ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    assert not world.bait()
    other = world.root / "roots_keys"
    (home / ".ssh/authorized_keys").unlink()
    (home / ".ssh/authorized_keys").symlink_to(other)
    with pytest.raises(StepError, match=f"authorized_keys is a link to {other}: that is not"):
        world.run(step(world, "make_the_user"))
    assert not other.exists()
