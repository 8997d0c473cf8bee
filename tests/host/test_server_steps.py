"""provision's steps as far as they go without being root and without a package manager; the rest is tests/lab.

apt-get, runuser, systemctl and nginx are stand-ins; owner and group are whoever runs the test.
"""

import getpass
import grp
import os
import re
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from fabfile.config.layout import Layout
from fabfile.config.settings import Settings
from fabfile.ssh.runner import StepError
from fabfile.steps import server
from fabfile.steps.step import Step
from tests.host.local_host import HOSTILE, World


@pytest.fixture(autouse=True)
def me(world: World) -> None:
    """The user of the settings is the one who runs the test."""
    me = {"user": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name, "default_server": False}
    world.settings = world.settings.model_copy(update=me)
    world.stub("systemctl")
    world.stub("nginx", f"! grep -qs broken {world.layout.site_file}")


def tempered(world: World, step: Step) -> Step:
    """The step without root: files of root become files of whoever runs this, nginx the stand-in."""
    script = step.script.replace("-o root -g root", f"-o {world.settings.user} -g {world.settings.group}")
    script = script.replace("folder root ", f"folder {world.settings.user} ").replace("/usr/sbin/nginx", "nginx")
    return replace(step, script=script)


def changes(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("changed: ")]


def test_folders_are_made_once(world: World) -> None:
    """Every folder with its rights, the lock, the key of the digests and the link; a second run changes nothing."""
    layout = world.layout
    step = tempered(world, server.folders(layout, world.settings))
    first, second = world.twice(step)
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
    assert changes(world.run(step)[0].output) == [f"changed: folder {layout.releases}"]
    assert Path(layout.digest_key).read_bytes() == key


def test_the_token_is_written_once_and_kept_private(world: World) -> None:
    """0600, never in the output; a new one replaces it, none keeps it, and none at all is refused."""
    path = Path(world.layout.secrets)
    step = tempered(world, server.token(world.layout, world.settings))
    with pytest.raises(StepError) as caught:
        world.run(step)
    assert "there is no token yet" in caught.value.evidence
    first, second = world.twice(step, files={"doppler.env": b"DOPPLER_TOKEN=dp.st.prd.SENTINEL\n"})
    assert changes(first) == [f"changed: token file {path}"]
    assert second == ""
    assert "SENTINEL" not in first
    assert path.read_text() == "DOPPLER_TOKEN=dp.st.prd.SENTINEL\n"
    assert path.stat().st_mode & 0o777 == 0o600
    assert world.run(step)[0].output == ""
    path.chmod(0o644)
    assert changes(world.run(step)[0].output) == [f"changed: rights of {path}"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert changes(world.run(step, files={"doppler.env": b"DOPPLER_TOKEN=dp.st.prd.OTHER\n"})[0].output)
    assert "OTHER" in path.read_text()


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
    step = tempered(
        world, server.service(layout, world.settings, [layout.service_file, layout.socket_file, layout.site_file])
    )
    first, second = world.twice(step, files=service_files(world))
    assert len(changes(first)) == 4
    assert second == ""
    assert Path(layout.site_link).read_text() == "site"
    calls = world.calls
    assert len([call for call in calls if "reload-or-restart" in call]) == 1


def test_a_live_hosts_files_are_the_next_deploys_business(world: World) -> None:
    """With a release live, a file that differs is told and stays."""
    layout = world.layout
    step = tempered(
        world, server.service(layout, world.settings, [layout.service_file, layout.socket_file, layout.site_file])
    )
    world.run(step, files=service_files(world))
    world.release("20260101T000000Z-abcdef0")
    Path(layout.current).symlink_to("releases/20260101T000000Z-abcdef0")
    first, second = world.twice(step, files=service_files(world, "another site"))
    assert first == second == f"{layout.site_file} differs: the next deploy installs it"
    assert Path(layout.site_file).read_text() == "site"


def test_packages_are_installed_only_when_missing(world: World) -> None:
    """Only what is missing is named to apt-get; a host that has all is not asked; its words are the evidence."""
    for program in server.PROGRAMS:
        world.stub(program)
    world.stub("python3")
    world.stub("apt-get")
    step = server.packages()
    assert world.twice(step) == ("", "")
    assert not [call for call in world.calls if call.startswith("apt-get")]
    world.stub("python3", "exit 1")
    assert world.run(step)[0].output == "changed: installed python3-venv"
    calls = [call for call in world.calls if call.startswith("apt-get")]
    assert calls[0] == "apt-get -qq update"
    assert calls[1].endswith("--no-install-recommends python3-venv")
    world.stub("apt-get", "echo E: no space left; [ $2 = update ]")
    with pytest.raises(StepError) as caught:
        world.run(step)
    assert "E: no space left" in caught.value.evidence


def test_a_repository_that_can_be_read(world: World) -> None:
    """Nothing to say, twice; nothing left in /tmp."""
    subprocess.run(["git", "init", "--quiet", world.root / "origin"], check=True)
    world.settings = world.settings.model_copy(update={"repo": f"file://{world.root}/origin"})
    world.stub("runuser", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    assert world.twice(server.repository(world.layout, world.settings)) == ("", "")


def test_a_repository_that_cannot_be_read_is_told(world: World) -> None:
    """git's words; for an address over SSH, the deploy key to add: made once, the same the second time."""
    world.stub("runuser", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    (world.root / "home/.ssh").mkdir()
    said, _ = world.twice(server.repository(world.layout, world.settings))
    assert "/nowhere" in said
    assert "deploy-key" not in said
    world.stub("ssh", "echo 'Permission denied (publickey).' >&2; exit 255")
    world.settings = world.settings.model_copy(update={"repo": "git@git.example.org:team/app.git"})
    first, second = world.twice(server.repository(world.layout, world.settings))
    key = (world.root / "home/.ssh/id_ed25519.pub").read_text().strip()
    assert "changed: made a deploy key" in first
    assert f"deploy-key {key}" in first
    assert f"deploy-key {key}" in second
    assert "changed" not in second
    assert "Permission denied" in second


@pytest.mark.skipif(os.getuid() == 0, reason="whoever runs this is root")
def test_a_login_without_rights_is_told(world: World) -> None:
    """provision begins by looking whether it may."""
    with pytest.raises(StepError) as caught:
        world.run(server.look(world.layout))
    assert "not root" in caught.value.evidence


@pytest.mark.parametrize(
    ("system", "said"),
    [
        (
            "ID=fedora\nVERSION_ID=41\nPRETTY_NAME='Fedora $(touch bait)'\n",
            "Fedora $(touch bait) is not one of: debian 12",
        ),
        ("ID=debian\nVERSION_ID=12\n", ""),
    ],
)
def test_only_known_systems_are_taken(world: World, system: str, said: str) -> None:
    """Another distribution is refused by name."""
    (world.root / "os-release").write_text(system)
    (world.root / "systemd").mkdir()
    script = server.look(world.layout).script.replace("/etc/os-release", str(world.root / "os-release"))
    script = script.replace("/run/systemd/system", str(world.root / "systemd")).replace('"$(id -u)"', "0")
    step = Step("Look", script)
    if said:
        with pytest.raises(StepError) as caught:
            world.run(step)
        assert said in caught.value.evidence
    else:
        assert world.twice(step) == ("", "")
    assert not world.bait()


@pytest.mark.parametrize("kind", ["folder", "link elsewhere"])
def test_what_stands_where_the_app_should_be_is_told(world: World, kind: str) -> None:
    """A real folder, or somebody else's link, is not touched."""
    app = Path(world.layout.app)
    if kind == "folder":
        app.mkdir()
    else:
        app.symlink_to("/opt/other")
    script = server.look(world.layout).script
    with pytest.raises(StepError) as caught:
        world.run(Step("Look", script[script.index("if [ -e") :]))
    assert str(app) in caught.value.evidence
    assert "move it away" in caught.value.evidence


def test_sudo_lines_are_exact() -> None:
    """No wildcard, no shell, no path that the deploying user may write; each line is one whole command."""
    lines = server.sudo_lines(Layout.of(Settings()), Settings())
    assert lines
    for line in lines:
        assert re.fullmatch(
            r"deploy ALL=\(root\) NOPASSWD: /usr/s?bin/(systemctl|nginx|install) [A-Za-z0-9 /._-]+", line
        ), line


def test_visudo_takes_the_sudo_lines(world: World) -> None:
    """The real visudo reads them."""
    if not Path("/usr/sbin/visudo").exists() and not os.environ.get("CI"):
        pytest.skip("visudo is not installed")
    path = world.root / "sudoers"
    path.write_text("\n".join(server.sudo_lines(Layout.of(Settings()), Settings())) + "\n")
    path.chmod(0o440)
    subprocess.run(["/usr/sbin/visudo", "-cqf", path], check=True)


def test_a_key_is_only_text(world: World) -> None:
    """What stands in authorized_keys reaches the file as it is, once."""
    home = world.root / "home"
    key = f"ssh-ed25519 AAAA {HOSTILE}"
    settings = world.settings.model_copy(update={"authorized_keys": (key, "-e other")})
    for name in ("usermod", "useradd", "groupadd"):
        world.stub(name)
    world.stub("getent", f'[ "$1" = group ] && exit 0; echo "{settings.user}:x:0:0::{home}:/bin/bash"')
    first, second = world.twice(tempered(world, server.user(settings)))
    assert len([line for line in changes(first) if "a key may log in" in line]) == 2
    assert not [line for line in changes(second) if "a key may log in" in line]
    assert (home / ".ssh/authorized_keys").read_text() == f"{key}\n-e other\n"
    assert (home / ".ssh/authorized_keys").stat().st_mode & 0o777 == 0o600
    assert not world.bait()
