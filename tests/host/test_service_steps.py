"""Steps around the service and nginx, on real bash: staged, installed, restored, activated, checked; and the way back.

sudo is a stand-in that notes what it is asked and does it without being root; systemctl and nginx are stand-ins too.
Processes, signals, files, curl and the unix socket are real.
"""

import contextlib
import http.server
import json
import os
import shutil
import signal
import socketserver
import subprocess
import threading
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath

import pytest

from fabfile.config.layout import Release
from fabfile.config.settings import Timeouts
from fabfile.plan import rendering, rights
from fabfile.plan.activation import Activation, Kind
from fabfile.plan.plan import Plan
from fabfile.plan.state import parse
from fabfile.ssh.runner import NO_RIGHT, StepError
from fabfile.steps import logs, nginx, sequence, service, survey
from fabfile.steps import release as release_steps
from fabfile.steps.step import Step
from testbed.bash import shell
from testbed.sample import sample
from tests.host.local_host import World, alive, eventually

OLD, NEW = "20260101T000000Z-abcdef0", "20260102T000000Z-abcdef1"
BROKEN = 'nginx: [emerg] unknown directive "broken"'
SUDO = """
[ "$1" = -n ] || exit 99; shift
[ "$1" != -l ] || [ -e refuse ] || exit 0
[ ! -e refuse ] || [[ $* != *"$(cat refuse)"* ]] || { echo 'sudo: a password is required' >&2; exit 1; }
case $1 in
  */consult-files.sh) sed '/^PATH=/d' "$1" | bash -s -- "${@:2}" ;;
  /usr/sbin/nginx) exec nginx "${@:2}" ;;
  /usr/bin/systemctl) exec systemctl "${@:2}" ;;
  *) exit 98 ;;
esac
"""


@pytest.fixture(autouse=True)
def programs(world: World) -> None:
    """Stand-ins for what needs root."""
    world.settings = world.settings.model_copy(update={"timeouts": Timeouts(reload=2, health=1)})
    world.stub("sudo", f"cd {world.root}; {SUDO}")
    world.stub(
        "systemctl",
        "case $1 in is-active) shift; for unit in $*; do case $unit in -*) ;; *) echo active ;; esac; done ;; esac",
    )
    world.stub("nginx", f"! grep -q broken {world.layout.site_file} || {{ echo '{BROKEN}' >&2; exit 1; }}")
    world.stub("journalctl", "echo the journal")
    world.override("unshare() { false; }")  # root may run these tests, and its own nginx is none of theirs


def asked(world: World) -> list[str]:
    """What sudo was asked, without the -n."""
    return [call.removeprefix("sudo -n ") for call in world.calls if call.startswith("sudo")]


def files(world: World, site: str = "new site") -> dict[PurePosixPath, str]:
    layout = world.layout
    return {layout.service_file: "new service", layout.socket_file: "new socket", layout.site_file: site}


def some(world: World, *paths: PurePosixPath, site: str = "new site") -> dict[PurePosixPath, str]:
    return {path: text for path, text in files(world, site).items() if path in paths}


def install(world: World, texts: Mapping[PurePosixPath, str]) -> Step:
    live = world.layout.release(OLD)
    return service.install(Plan(world.settings, world.layout, live, live, texts))


def installed(world: World) -> list[str]:
    paths = [Path(path) for path in (world.layout.service_file, world.layout.socket_file, world.layout.site_file)]
    return [path.read_text() if path.exists() else "" for path in paths]


def before(world: World) -> None:
    """The three files as an earlier deploy left them."""
    for path, word in (
        (world.layout.service_file, "service"),
        (world.layout.socket_file, "socket"),
        (world.layout.site_file, "site"),
    ):
        Path(path).write_text(f"old {word}")


def test_files_are_installed_by_one_exact_command(world: World) -> None:
    """All that root has staged, each only if it differs; systemd hears of it once, and nginx tests only a site."""
    layout = world.layout
    before(world)
    texts = some(world, layout.service_file, layout.socket_file)
    world.stage(texts)
    world.twice(install(world, texts))
    assert asked(world) == [f"{layout.installer} {layout.staged} next"] * 2
    assert installed(world) == ["new service", "new socket", "old site"]
    assert Path(f"{layout.staged}/before{layout.service_file}").read_text() == "old service"
    assert {path.stat().st_mode & 0o777 for path in map(Path, texts)} == {0o644}
    assert not list(Path(layout.service_file).parent.glob("*.new"))


def test_systemd_and_nginx_hear_of_what_they_read(world: World) -> None:
    """A daemon-reload for a changed unit, a test for a changed site; neither for the other, nor for nothing."""
    layout = world.layout
    before(world)
    for path, heard in (
        (layout.service_file, ["systemctl daemon-reload"]),
        (layout.site_file, ["nginx -t -q"]),
    ):
        texts = some(world, path)
        world.stage(texts)
        for expected in (heard, []):
            world.run(install(world, texts))
            assert [call for call in world.calls if not call.startswith("sudo")] == expected


def test_staged_files_are_root_s_choice_alone(world: World) -> None:
    """What was staged by somebody else meanwhile is not installed in its place."""
    before(world)
    world.stage(files(world, "somebody else's site"))
    with pytest.raises(StepError, match="no longer holds what this run is to install") as caught:
        world.run(install(world, files(world)))
    assert caught.value.hint == "the same command again"
    assert installed(world) == ["old service", "old socket", "old site"]
    assert asked(world) == []


def test_staging_again_changes_nothing(world: World) -> None:
    """Told once for each file that is to be installed; once it is, what it replaced is still known."""
    before(world)
    texts = files(world)
    said = [f"changed: {path} is staged for the next deploy" for path in texts]
    assert world.stage(texts).splitlines() == [f"changed: {world.layout.installer}", *said]
    assert Path(world.layout.installer).stat().st_mode & 0o777 == 0o755
    world.run(install(world, texts))
    ours = [Path(world.layout.installer), *Path(world.layout.staged).rglob("*")]
    ages = [path.stat().st_ctime_ns for path in ours]
    assert world.stage(texts) == ""
    assert [path.stat().st_ctime_ns for path in ours] == ages
    assert Path(f"{world.layout.staged}/before{world.layout.site_file}").read_text() == "old site"


def test_a_process_that_left_is_staged_no_more(world: World) -> None:
    """What stands there is what hosts.toml makes, no more; and what an earlier version had staged is gone."""
    before(world)
    Path(world.layout.base, "staged").mkdir()
    world.stage(files(world))
    world.stage(some(world, world.layout.site_file))
    found = {path.name for path in Path(world.layout.staged).rglob("*") if path.is_file()}
    assert found == {world.layout.site_file.name}
    assert not Path(world.layout.base, "staged").exists()


def test_a_site_that_nginx_refuses_is_not_staged(world: World) -> None:
    """Told before anything is built, in nginx's words; what was staged before stays."""
    before(world)
    world.override("nginx_test_with() { grep -qv broken $1 || { echo '[emerg] unknown directive'; return 1; }; }")
    world.override("unshare() { true; }")
    world.stage(files(world))
    with pytest.raises(StepError, match=r"nginx -t fails with the site.*: \[emerg\] unknown directive") as caught:
        world.stage(files(world, "broken"))
    assert "[emerg] unknown directive" in caught.value.evidence
    assert Path(f"{world.layout.staged}/next{world.layout.site_file}").read_text() == "new site"
    assert not Path(f"{world.layout.staged}.new").exists()


@pytest.mark.parametrize("busy", [True, False])
def test_nothing_is_staged_under_a_deploy_s_hands(world: World, busy: bool) -> None:
    """Who holds the lock may be about to go back to what it has replaced: `provision` waits for its end."""
    before(world)
    world.override("flock() { command flock --nonblock 8; }")
    with world.connect().runner(lock=world.lock()) if busy else contextlib.nullcontext():
        if busy:
            with pytest.raises(StepError, match="a deploy works on this host"):
                world.stage(files(world))
        else:
            world.stage(files(world))
    assert Path(world.layout.staged).exists() is not busy


def test_what_differs_is_shown(world: World) -> None:
    """For somebody who may not be root: the installed text against the one of hosts.toml, also where there is none."""
    before(world)
    Path(world.layout.socket_file).unlink()
    texts = files(world)
    said, _ = world.twice(service.compare(texts), {path.name: text.encode() for path, text in texts.items()})
    assert f"--- {world.layout.site_file}\n+++ {world.layout.site_file}, from hosts.toml" in said
    assert "-old site" in said
    assert "+new socket" in said
    assert installed(world) == ["old service", "", "old site"]


SECRETS = """[Service]
Environment=PASSWORD=old-sentinel
"""


def edit(world: World) -> tuple[Path, Path]:
    """Stage and install all files, edit the unit, and put a drop-in beside it; return both."""
    before(world)
    texts = files(world)
    world.stage(texts)
    world.run(install(world, texts), release_steps.mark_good(world.release(OLD)))
    unit = Path(world.layout.service_file)
    unit.write_text("new service\nMemoryMax=1G\nSetCredential=key:cred-sentinel\n")
    drop_in = unit.with_name(f"{unit.name}.d") / "override.conf"
    drop_in.parent.mkdir()
    drop_in.write_text(SECRETS)
    return unit, drop_in


def test_what_was_edited_on_the_host_is_known(world: World) -> None:
    """A text that root has never staged; not one that is staged and not installed yet, nor one that it replaced."""
    unit, drop_in = edit(world)
    Path(f"{world.layout.site_file}.d").mkdir()
    Path(f"{world.layout.site_file}.d/own.conf").touch()  # systemd does not read it
    state = parse(world.output(survey.read_host()).splitlines())
    assert (state.edited({}), state.drop_ins) == ([str(unit)], (str(drop_in),))
    drop_in.unlink()
    for text in ("old service", "new service"):
        unit.write_text(text)
        state = parse(world.output(survey.read_host()).splitlines())
        assert (state.edited({}), state.drop_ins) == ([], ())


def test_what_was_edited_on_the_host_stops_a_run(world: World) -> None:
    """With the lines, but no value that may be a secret, and the place where they belong; nothing is another."""
    unit, drop_in = edit(world)
    site = Path(world.layout.site_file)
    site.write_text("new site\nlocation /extra {}\n")
    edited = [str(unit), str(site), str(drop_in)]
    staged = {path: path.read_bytes() for path in Path(world.layout.staged).rglob("*") if path.is_file()}
    for refused in (
        lambda: world.run(service.refuse_edited(edited)),
        lambda: world.stage(files(world, "another site")),
    ):
        with pytest.raises(StepError, match="edited on the server: ") as caught:
            refused()
        error = caught.value
        named = {unit.name, site.name, f"{drop_in.parent.name}/override.conf"}
        assert set(error.message.partition("edited on the server: ")[2].split(", ")) == named
        for line in (
            f"--- {unit}, as it was installed\n+++ {unit}, as it is\n", "+MemoryMax=1G", "+location /extra {}",
            "+Environment=PASSWORD= (not shown)", "+SetCredential=key: (not shown)",
        ):  # fmt: skip
            assert line in error.evidence
        assert "sentinel" not in error.evidence
        assert "unit_options for what belongs into a unit" in error.hint
        assert "nginx_include" in error.hint
        assert error.hint.endswith("the same command with --overwrite")
    assert {path: path.read_bytes() for path in staged} == staged
    assert drop_in.read_text() == SECRETS


def test_what_was_edited_is_shown_against_what_it_was_made_of(world: World) -> None:
    """A text that is staged and not installed yet is nothing that somebody has edited."""
    site, lines = world.layout.site_file, "one\ntwo\nthree\n"
    Path(site).write_text(lines)
    world.stage({site: "another\nsite\naltogether\n"})
    Path(site).write_text(f"{lines}by hand\n")
    with pytest.raises(StepError) as caught:
        world.run(service.refuse_edited([str(site)]))
    shown = [line for line in caught.value.evidence.splitlines() if line[0] in "+-" and line[1] not in "+-"]
    assert shown == ["+by hand"]


def test_what_installs_finds_its_programs_by_itself(world: World) -> None:
    """Whatever PATH its caller has: as root it runs nothing of the caller's."""
    world.stub("cp")
    world.stub("cmp")
    target = world.root / "installed"
    staged = Path(f"{world.root}/staged/next{target}")
    staged.parent.mkdir(parents=True)
    staged.write_text("a text of root's")
    words = ["/bin/bash", str(rendering.INSTALLER), str(world.root / "staged"), "next"]
    subprocess.run(words, env=world.environment, check=True)
    assert (target.read_text(), world.calls) == ("a text of root's", [])


@pytest.mark.parametrize("site", ["another site", "new site"])
def test_to_overwrite_keeps_copies(world: World, site: str) -> None:
    """Below the app's own folder; drop-ins are gone, and the text that was edited is what a failed run goes back to."""
    world.override('as_user() { "$@"; }')
    unit, drop_in = edit(world)
    text, texts = unit.read_text(), files(world, site)
    asked(world)  # what edit itself has called is none of it
    said = world.stage(texts, overwrite=True)
    assert f"changed: {drop_in} is gone" in said
    assert "systemctl daemon-reload" in world.calls
    assert not drop_in.parent.exists()
    [folder] = (world.base / "overwritten").iterdir()
    assert f"changed: copies of what was edited here are in {folder}" in said
    assert Path(f"{folder}{unit}").read_text() == text
    assert Path(f"{folder}{drop_in}").read_text() == SECRETS
    assert Path(f"{world.layout.staged}/before{unit}").read_text() == text
    state = parse(world.output(survey.read_host()).splitlines())
    assert (state.edited({}), state.drop_ins) == ([], ())
    world.run(install(world, texts))
    assert installed(world) == ["new service", "new socket", site]


def test_what_is_as_it_is_to_be_was_edited_by_nobody(world: World) -> None:
    """As provision leaves it where nothing is live: installed first, and staged then."""
    before(world)
    world.stage(files(world))
    for path, text in files(world, "another site").items():
        Path(path).write_text(text)
    world.stage(files(world, "another site"))
    assert parse(world.output(survey.read_host()).splitlines()).edited({}) == []


@pytest.mark.parametrize(("mode", "loose"), [(0o600, False), (0o640, True), (0o604, True)])
def test_secrets_that_others_may_read_are_told(world: World, mode: int, loose: bool) -> None:
    """The file with its owner and mode."""
    path = Path(world.layout.secrets)
    path.touch()
    path.chmod(mode)
    state = parse(world.output(survey.read_host()).splitlines())
    assert state.loose == (f"{path} {path.owner()} {mode:o}" if loose else "")


def test_files_of_a_run_that_was_cut_are_installed_again(world: World) -> None:
    """Installed, but not yet in use: until the run's last step the next one takes them for files that differ."""
    layout = world.layout
    before(world)
    texts = some(world, layout.service_file, layout.site_file)
    live = world.release(NEW, "built")
    world.stage(texts)
    world.run(install(world, texts))

    def known() -> set[str]:
        return set(parse(world.output(survey.read_host()).splitlines()).files)

    assert known() == {str(layout.socket_file)}
    world.stage(texts | some(world, layout.socket_file))  # what comes back is what was in use
    for site in ("another site", "a third site"):  # nor has anybody edited what the cut run has installed
        world.stage(files(world, site))
        assert Path(f"{layout.staged}/before{layout.site_file}").read_text() == "old site"
    assert parse(world.output(survey.read_host()).splitlines()).edited({}) == []
    world.twice(release_steps.mark_good(live))
    assert known() == {str(path) for path in (*texts, layout.socket_file)}


def test_the_survey_tells_what_is_staged_and_which_rights_there_are(world: World) -> None:
    """By which a deploy knows whether root is needed, and whether the rights are too wide."""
    before(world)
    texts = files(world)
    world.stage(texts)
    world.stub("sudo", "echo 'Matching Defaults: secure_path'; echo '    (root) NOPASSWD: /usr/sbin/nginx -t -q'")
    state = parse(world.output(survey.read_host()).splitlines())
    assert state.staged == {str(path): rendering.digest(text) for path, text in texts.items()}
    assert state.files == {str(path): rendering.digest(text.replace("new", "old")) for path, text in texts.items()}
    assert state.rights == ("/usr/sbin/nginx -t -q",)


def test_a_broken_site_is_never_left_installed(world: World) -> None:
    """nginx says what is wrong, and all is as before; twice over."""
    layout = world.layout
    before(world)
    texts = files(world, "broken")
    world.stage(texts)
    for _ in range(2):
        with pytest.raises(StepError) as caught:
            world.run(install(world, texts))
        assert 'unknown directive "broken"' in caught.value.evidence
        assert installed(world) == ["old service", "old socket", "old site"]
    texts = files(world)
    world.stage(texts)
    world.run(install(world, texts), nginx.reload())
    assert installed(world)[2] == "new site"
    assert asked(world)[-1] == "/usr/bin/systemctl reload nginx.service"
    assert layout.site_file in texts


def test_a_missing_right_is_told(world: World) -> None:
    """sudo's refusal is followed by what mends it."""
    (world.root / "refuse").touch()
    for _ in range(2):
        with pytest.raises(StepError) as caught:
            world.run(nginx.reload())
        assert "a password is required" in caught.value.evidence
        assert caught.value.failed.code == NO_RIGHT
        assert caught.value.hint == "fab -H there provision"


def test_rights_are_asked_for_before_anything_changes(world: World) -> None:
    """sudo is asked for each command that is to come, runs none, and each that is missing is named with the hint."""
    layout = world.layout
    needed = rights.needed(layout, layout.installed_files, "restart")
    commands = [rights.root_commands(layout)[name] for name in needed]
    assert world.twice(service.require_rights(needed)) == ("", "")
    assert asked(world) == [f"-l {command}" for command in commands] * 2
    (world.root / "refuse").touch()
    with pytest.raises(StepError) as caught:
        world.run(service.require_rights(needed))
    for command in commands:
        assert f"may not run as root: {command}" in caught.value.evidence
    assert caught.value.failed.code == NO_RIGHT
    assert caught.value.hint == "fab -H there provision"


def test_without_a_master_there_are_no_old_workers(world: World) -> None:
    """A first start waits for nobody to leave, whoever runs it."""
    results = world.run(service.activate("start"), shell("count them", 'wc -l <"$DEPLOY_WORK/old_workers"'))
    assert results["count them"].output == "0"


def test_restart_and_start(world: World) -> None:
    """A restart touches only the service; a start sees to the socket first, when it does not listen."""
    world.twice(service.activate("restart"))
    assert asked(world) == ["/usr/bin/systemctl restart consult-django.service"] * 2
    world.stub("systemctl", "[ $1 != is-active ]")
    world.twice(service.activate("start"))
    restarts = ["/usr/bin/systemctl restart consult-django.socket", "/usr/bin/systemctl restart consult-django.service"]
    assert asked(world) == restarts * 2


MASTER = """
import json, os, pathlib, signal, sys, time
state = pathlib.Path(sys.argv[1])
current, form, count = sys.argv[2], json.loads(sys.argv[3]), 0
def worker():
    global count
    count += 1
    folder = os.path.realpath(current)
    pid = os.fork()
    if pid == 0:
        os.chdir(folder)
        sick = os.path.exists("sick")
        mark = {"pid": os.getpid(), "release": folder, "status": 503 if sick else 200, "healthy": not sick}
        (state / "up" / str(count)).write_text(json.dumps(mark, **form))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        time.sleep(100)
        os._exit(0)
    return pid, state / "up" / str(count)
def renew():
    global now
    old, now = now, [worker(), worker()]
    for pid, mark in [] if os.path.exists(current + "/sick") else old:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        mark.unlink(missing_ok=True)
now = []
(state / "up").mkdir(exist_ok=True)
hup = []
signal.signal(signal.SIGHUP, lambda *_: hup.append(1))
renew()
about = {"pid": os.getpid(), "workers": 2, "release": os.path.realpath(current)}
(state / "master.json").write_text(json.dumps(about, **form))
(state / "gunicorn.pid").write_text(f"{os.getpid()}\\n")
while True:
    time.sleep(0.02)
    if hup:
        hup.clear()
        renew()
"""


@pytest.fixture
def releases(world: World) -> tuple[Release, Release]:
    """An old release, live, and a new one."""
    old, new = world.release(OLD, "built", "good"), world.release(NEW, "built")
    world.link(old)
    return old, new


@pytest.fixture
def master(world: World, releases: tuple[Release, Release], request: pytest.FixtureRequest) -> Iterator[int]:
    """A process that forks two workers into the live release, and two others at HUP, as gunicorn does.

    Its JSON is written as gunicorn.conf.py writes it, or as the test's parameter says.
    """
    form = json.dumps(getattr(request, "param", {"indent": 1, "sort_keys": True}))
    layout = world.layout
    assert Path(layout.current).resolve() == Path(releases[0].root)
    with subprocess.Popen(
        ["python3", "-c", MASTER, str(layout.state), str(layout.current), form], start_new_session=True
    ) as process:
        assert eventually(Path(layout.pid_file).exists)
        yield process.pid
        os.killpg(process.pid, signal.SIGKILL)


# A master that never hears HUP.
DEAF = 'kill() { [ "$1" = -HUP ] || command kill "$@"; }'


def switch(world: World, new: Release, kind: Kind = "hup") -> list[Step]:
    return [service.switch(new, kind), service.wait_for_workers(world.settings, new)]


def test_hup_is_seen_to_bring_the_new_release(world: World, releases: tuple[Release, Release], master: int) -> None:
    """HUP goes to the master itself, without root, and the step ends when every worker is new; twice over."""
    for release in (releases[1], releases[0], releases[0]):
        world.run(*switch(world, release))
        marks = [json.loads(path.read_text()) for path in Path(world.layout.state, "up").iterdir()]
        assert {mark["release"] for mark in marks} == {str(release.root)}
    assert asked(world) == []
    assert alive(master)


@pytest.mark.usefixtures("master")
def test_workers_that_stay_old_are_told(world: World, releases: tuple[Release, Release]) -> None:
    """Without an activation the old workers still serve, and the journal is the evidence."""
    world.override(DEAF)
    with pytest.raises(StepError) as caught:
        world.run(*switch(world, releases[1]))
    assert "of before still serves" in caught.value.evidence
    assert "the journal" in caught.value.evidence


@pytest.mark.usefixtures("master")
def test_workers_of_another_release_are_told(world: World, releases: tuple[Release, Release]) -> None:
    """New workers, but of the wrong folder."""
    with pytest.raises(StepError) as caught:
        world.run(service.activate("hup"), service.wait_for_workers(world.settings, releases[1]))
    assert f"serves {releases[0].root}" in caught.value.evidence


@pytest.mark.usefixtures("master")
def test_workers_that_are_not_healthy_are_told(world: World, releases: tuple[Release, Release]) -> None:
    """Workers whose own look at the health path went wrong let the old ones serve, and are not waited for for long."""
    world.settings = world.settings.model_copy(update={"timeouts": Timeouts(reload=500, health=1)})
    Path(releases[1].root, "sick").touch()
    with pytest.raises(StepError, match=r"after [1-9] s: worker \d+: /healthz answers 503"):
        world.run(*switch(world, releases[1]))


@pytest.mark.usefixtures("master")
def test_without_old_workers_the_check_of_the_site_waits_for_health(
    world: World, releases: tuple[Release, Release]
) -> None:
    """After a restart workers serve as soon as they can, and what their first look at the health path saw is past."""
    for mark in Path(world.layout.state, "up").iterdir():
        mark.write_text(mark.read_text().replace('"healthy": true', '"healthy": false'))
    nobody = shell("nobody is old", ': >"$DEPLOY_WORK/old_workers"')
    world.run(nobody, service.wait_for_workers(world.settings, releases[0]))


@pytest.mark.usefixtures("master")
def test_old_workers_that_are_not_healthy_are_no_reason_to_give_up(
    world: World, releases: tuple[Release, Release]
) -> None:
    """What they say was so before: a reload may be what mends them."""
    world.settings = world.settings.model_copy(update={"timeouts": Timeouts(reload=5, health=1)})
    for mark in Path(world.layout.state, "up").iterdir():
        mark.write_text(mark.read_text().replace('"healthy": true', '"healthy": false'))
    world.override(DEAF)
    with pytest.raises(StepError, match="of before still serves"):
        world.run(*switch(world, releases[1]))


COMPACT = {"separators": [",", ":"]}


@pytest.mark.parametrize("master", [COMPACT], indirect=True)
def test_marks_are_read_as_json(world: World, releases: tuple[Release, Release], master: int) -> None:
    """Written on one line without spaces, keys in any order: the new workers are known all the same."""
    world.run(*switch(world, releases[1]))
    assert alive(master)


@pytest.mark.parametrize("master", [COMPACT], indirect=True)
@pytest.mark.usefixtures("master")
def test_what_marks_say_of_health_is_read_as_json(world: World, releases: tuple[Release, Release]) -> None:
    """The same for a worker that is not healthy: it is told, with its status, long before the limit."""
    world.settings = world.settings.model_copy(update={"timeouts": Timeouts(reload=60, health=1)})
    Path(releases[1].root, "sick").touch()
    with pytest.raises(StepError, match=r"after [1-9] s: worker \d+: /healthz answers 503"):
        world.run(*switch(world, releases[1]))


@pytest.mark.parametrize("master", [COMPACT], indirect=True)
@pytest.mark.usefixtures("master")
def test_how_many_workers_there_are_to_be_is_read_as_json(world: World, releases: tuple[Release, Release]) -> None:
    """A master that says three is not finished with two."""
    Path(world.layout.state, "master.json").write_text('{"release":"x","workers":3}')
    with pytest.raises(StepError, match="not all of 3 workers have booted"):
        world.run(*switch(world, releases[1]))


def test_no_master_is_told(world: World, releases: tuple[Release, Release]) -> None:
    """A service that does not come up has no master."""
    with pytest.raises(StepError) as caught:
        world.run(*switch(world, releases[1], "restart"))
    assert "gunicorn has no master" in caught.value.evidence


def test_a_service_that_stops_again_and_again_is_not_waited_for(
    world: World, releases: tuple[Release, Release]
) -> None:
    """Three starts by systemd since the activation are enough, long before the limit."""
    world.settings = world.settings.model_copy(update={"timeouts": Timeouts(reload=60, health=1)})
    world.stub("systemctl", f"case $1 in show) echo x >>{world.root}/starts; wc -l <{world.root}/starts ;; esac")
    with pytest.raises(StepError) as caught:
        world.run(*switch(world, releases[1], "restart"))
    assert "gunicorn has stopped 3 times in a row" in caught.value.evidence


# What gunicorn says when it ends while it is ending already, behind what the app has said.
HALTED = """\
Traceback (most recent call last):
  File "/app/config/wsgi.py", line 3, in <module>
OSError: [Errno 30] Read-only file system: 'written'
[ERROR] Worker (pid:7) exited with code 3
Traceback (most recent call last):
  File "/app/.venv/lib/python3.11/site-packages/gunicorn/arbiter.py", line 208, in run
    self.sleep()
gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>
During handling of the above exception, another exception occurred:
Traceback (most recent call last):
  File "/app/.deploy/gunicorn.conf.py", line 258, in reap
    reap_workers()
gunicorn.errors.HaltServer: <HaltServer 'Worker failed to boot.' 3>
consult-django.service: Main process exited
"""


def test_the_end_of_gunicorn_hides_no_reason(world: World, releases: tuple[Release, Release]) -> None:
    """Its own tracebacks are left out of the journal, of which a person sees the end."""
    world.settings = world.settings.model_copy(update={"timeouts": Timeouts(reload=1, health=1)})
    (world.root / "halted").write_text(HALTED)
    world.stub("journalctl", f"cat {world.root}/halted")
    with pytest.raises(StepError) as caught:
        world.run(*switch(world, releases[1], "restart"))
    lines = caught.value.evidence.splitlines()
    shown = [*HALTED.splitlines()[:4], HALTED.splitlines()[-1]]
    assert lines[-len(shown) - 1 : -1] == shown


@pytest.mark.usefixtures("master")
def test_workers_that_die_again_and_again_are_not_waited_for(world: World, releases: tuple[Release, Release]) -> None:
    """The same for workers, as their master counts them; old numbers are left alone for a moment."""
    world.settings = world.settings.model_copy(update={"timeouts": Timeouts(reload=60, health=1)})
    Path(world.layout.state, "failures").write_text("6")
    world.override(DEAF)
    with pytest.raises(StepError) as caught:
        world.run(*switch(world, releases[1]))
    assert "6 workers in a row have died while they booted" in caught.value.evidence


def way_back(
    world: World, live: Release | None, new: Release, files: Iterable[PurePosixPath] = (), kind: Kind = "hup"
) -> Step:
    return service.revert(Plan(world.settings, world.layout, new, live, dict.fromkeys(files, "")), kind)


@pytest.mark.usefixtures("master")
def test_the_way_back_after_the_switch(world: World, releases: tuple[Release, Release]) -> None:
    """The old release is live again with its workers, the new one marked bad, the files as before; twice over."""
    layout = world.layout
    before(world)
    old, new = releases
    texts = files(world)
    world.stage(texts)
    back = way_back(world, old, new, texts)
    with world.connect().runner() as runner:
        runner.run([install(world, texts), *switch(world, new)])
        assert installed(world) == ["new service", "new socket", "new site"]
        runner.run([back, back])
    assert installed(world) == ["old service", "old socket", "old site"]
    assert str(Path(layout.current).readlink()) == f"releases/{OLD}"
    assert Path(new.notes, "bad").exists()
    assert not Path(old.notes, "bad").exists()
    workers = [json.loads(path.read_text())["release"] for path in Path(layout.state, "up").iterdir()]
    assert workers == [str(old.root)] * 2


@pytest.mark.parametrize("steps", range(4))
@pytest.mark.usefixtures("master")
def test_the_way_back_from_every_point(world: World, releases: tuple[Release, Release], steps: int) -> None:
    """However far the switch came, the way back ends with the old release live, its workers and its files."""
    layout = world.layout
    before(world)
    new = releases[1]
    texts = some(world, layout.service_file, layout.site_file)
    world.stage(texts)
    forward = [install(world, texts), *switch(world, new)]
    with world.connect().runner() as runner, pytest.raises(StepError) as caught:
        runner.run(
            [*forward[:steps], shell("fails", "false")],
            [way_back(world, releases[0], new, texts)],
        )
    reverted = caught.value.rescue[service.REVERT]
    assert reverted.ok, reverted.output
    assert list(caught.value.rescue) == [service.REVERT]
    assert installed(world) == ["old service", "old socket", "old site"]
    assert str(Path(layout.current).readlink()) == f"releases/{OLD}"
    workers = [json.loads(path.read_text())["release"] for path in Path(layout.state, "up").iterdir()]
    assert workers == [str(releases[0].root)] * 2


@pytest.mark.parametrize(("cut", "again"), [(False, True), (True, True), (True, False)])
@pytest.mark.usefixtures("master")
def test_the_way_back_forgets_no_file_that_a_cut_run_left_pending(
    world: World, releases: tuple[Release, Release], cut: bool, again: bool
) -> None:
    """What this run has installed is put back and pending no more; what an earlier one had, the next run installs."""
    layout = world.layout
    before(world)
    texts = some(world, layout.site_file)
    world.stage(texts)
    if cut:
        world.run(install(world, texts))
    asked(world)
    world.run(*([install(world, texts)] if again else []), way_back(world, *releases, texts))
    assert ("/usr/bin/systemctl reload nginx.service" in asked(world)) is again
    assert Path(layout.pending, layout.site_file.name).exists() is cut
    assert installed(world)[2] == ("old site" if again else "new site")


def test_the_way_back_from_a_first_deploy(world: World) -> None:
    """With nothing live before, nothing is live after, and the service is stopped."""
    new = world.release(NEW, "built")
    world.link(new)
    back = way_back(world, None, new, kind="start")
    world.twice(back)
    assert not Path(world.layout.current).is_symlink()
    assert asked(world) == ["/usr/bin/systemctl stop consult-django.socket consult-django.service"]


class Site(http.server.BaseHTTPRequestHandler):
    """Answers what the test says, as gunicorn or as nginx before it, and remembers what it heard."""

    status = 200
    by_nginx = 0  # another status than the app's
    flaps = 0  # every so manieth answer by nginx is 503
    leads: str | None = None  # where the front page sends a visitor
    heard: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.heard.append((self.path, self.headers["Host"]))
        target = self.leads if self.path == "/" else None
        status = 302 if target else self.status
        by_nginx = self.by_nginx or (503 if self.flaps and not len(self.heard) % self.flaps else status)
        self.send_response(by_nginx if isinstance(self.server, http.server.HTTPServer) else status)
        if target:
            self.send_header("Location", target)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass

    def address_string(self) -> str:
        return "nobody"


@pytest.fixture
def site(world: World) -> Iterator[type[Site]]:
    """A web server on gunicorn's socket, and at a port of its own, where all look for nginx."""

    class This(Site):
        heard: list[tuple[str, str | None]] = []  # noqa: RUF012 - one for each test

    path = str(world.layout.socket)
    with (
        socketserver.ThreadingUnixStreamServer(path, This) as gunicorn,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), This) as as_nginx,
    ):
        port = as_nginx.server_port
        nginx_at = f'case "$*" in *--unix-socket*) ;; *) set -- "$@" --connect-to ::127.0.0.1:{port} ;; esac'
        world.stub("curl", f'{nginx_at}; exec {shutil.which("curl")} "$@"')
        at = f'case "$*" in *visit.py*) set -- "$@" port={port} ;; esac'
        world.stub("python3", f'{at}; exec {shutil.which("python3")} "$@"')
        for server in (gunicorn, as_nginx):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield This
        for server in (gunicorn, as_nginx):
            server.shutdown()


CHECKS = ["gunicorn_socket", "systemd_active", "nginx_running", "http_200", "visitor"]


def test_the_checks_of_a_healthy_site(world: World, site: type[Site]) -> None:
    """All are ok, asked with the site's own name; the last says what a visitor finds."""
    world.settings = sample(domain="api.consult.dev", health_path="/healthz?a=1&b=%27", timeouts=Timeouts(health=1))
    expected = "\n".join(f"check {name} ok" for name in CHECKS) + " / answers 200"
    assert world.twice(nginx.check_site(world.settings)) == (expected, expected)
    assert world.twice(nginx.look_at_site(world.settings)) == (expected, expected)
    assert set(site.heard) == {(path, "api.consult.dev") for path in ("/healthz?a=1&b=%27", "/")}


def failed(output: str) -> list[str]:
    return [line.split()[1] for line in output.splitlines() if line.split()[2] == "failed"]


def test_the_checks_of_a_sick_site(world: World, site: type[Site]) -> None:
    """What fails is named, and what answers is not accused; looking does not fail."""
    site.status = 503
    with pytest.raises(StepError) as caught:
        world.run(nginx.check_site(world.settings))
    assert failed(caught.value.evidence) == ["http_200", "visitor"]
    assert "/healthz answers 503" in caught.value.evidence
    assert failed(world.output(nginx.look_at_site(world.settings))) == ["http_200", "visitor"]


@pytest.mark.parametrize(("flaps", "trouble"), [(5, ["http_200"]), (100, [])])
def test_the_checks_of_a_site_that_flaps(world: World, site: type[Site], flaps: int, trouble: list[str]) -> None:
    """One worker of several may be ill: the health path has to answer 200 several times in a row."""
    site.flaps = flaps
    world.settings = sample(timeouts=Timeouts(health=1))
    if trouble:
        with pytest.raises(StepError) as caught:
            world.run(nginx.check_site(world.settings))
        output = caught.value.evidence
    else:
        output = world.output(nginx.check_site(world.settings))
    assert [name for name in failed(output) if name != "visitor"] == trouble
    assert site.heard.count(("/healthz", "api.consult.dev")) >= 7


def test_the_checks_of_a_site_that_sends_visitors_away(world: World, site: type[Site]) -> None:
    """All is healthy, and no visitor gets in: that check alone fails, with the place where he ends."""
    site.leads = "http://api.consult.dev:9/"
    with pytest.raises(StepError) as caught:
        world.run(nginx.check_site(world.settings))
    assert failed(caught.value.evidence) == ["visitor"]
    said = "the app redirects / to http://api.consult.dev:9/, but nothing on this host answers at port 9"
    assert nginx.parse_checks(caught.value.evidence).trouble == f"visitor fails: {said}"


def test_the_checks_under_a_maintenance_page(world: World, site: type[Site]) -> None:
    """nginx hides what works behind the page: gunicorn is asked, and the page is known for what it is."""
    site.by_nginx = 503
    for step in (nginx.check_site, nginx.look_at_site):
        Path(world.layout.maintenance).write_text("Back soon")
        checks = nginx.parse_checks(world.output(step(world.settings)))
        assert (list(checks.held), checks.failed) == (CHECKS, None)
        assert checks.found["visitor"] == "/ answers 503: the maintenance page is on"
    assert parse(world.output(survey.read_host()).splitlines()).maintenance
    site.status = 500
    assert failed(world.output(nginx.look_at_site(world.settings))) == ["http_200"]
    Path(world.layout.maintenance).unlink()
    assert failed(world.output(nginx.look_at_site(world.settings))) == ["http_200", "visitor"]
    assert not parse(world.output(survey.read_host()).splitlines()).maintenance


def test_the_checks_where_another_site_answers(world: World, site: type[Site]) -> None:
    """Once the site sets its mark, an nginx that answers without it serves somebody else."""
    Path(world.layout.site_file).write_text(rendering.site(world.settings))
    output = world.output(nginx.look_at_site(world.settings))
    assert failed(output) == ["visitor"]
    assert "for api.consult.dev nginx answers with another site" in output
    assert site.heard


def test_the_checks_where_nothing_runs(world: World) -> None:
    """No socket, no service, no nginx: an answer each, no crash."""
    world.stub("systemctl", "echo inactive; echo failed; exit 3")
    world.stub("curl", "printf 000; exit 7")
    world.stub("python3", f'exec {shutil.which("python3")} "$@" port=9')
    output = world.output(nginx.look_at_site(world.settings))
    assert failed(output) == CHECKS
    assert "consult-django is inactive" in output
    assert "nginx is failed" in output
    world.stub("systemctl", "exit 1")
    assert failed(world.output(nginx.look_at_site(world.settings))) == CHECKS


@pytest.mark.parametrize("may", [True, False])
def test_what_nginx_says(world: World, may: bool) -> None:
    """Its journal and what it holds against its files; a right that is missing hides no journal."""
    (world.root / "refuse").write_text("nginx -t")
    if may:
        (world.root / "refuse").unlink()
    Path(world.layout.site_file).write_text("broken")
    for said in world.twice(logs.nginx(7)):
        assert said.startswith("the journal")
        assert ('[emerg] unknown directive "broken"' in said) is may
    assert "journalctl --unit nginx.service --lines 7 --no-pager --output short-iso" in world.calls


def test_a_change_of_the_site_alone_touches_no_service(world: World, site: type[Site]) -> None:
    """The whole switch of a plan with nothing but a new nginx site: nginx takes it up, gunicorn hears nothing."""
    layout = world.layout
    before(world)
    live = world.release(OLD, "built", "good")
    world.link(live)
    texts = some(world, layout.site_file)
    world.stage(texts)
    plan = Plan(world.settings, layout, live, live, texts)
    assert plan.beside == Activation("nginx", "only the nginx site consult-django changed")
    results = world.run(*sequence.switch(plan, Activation("nginx", "")))
    assert not nginx.parse_checks(results[nginx.CHECK].output).failed
    assert installed(world) == ["old service", "old socket", "new site"]
    assert [call for call in asked(world) if not call.startswith("-l ")] == [
        rights.root_commands(layout)[name] for name in ("install_next", "reload_nginx")
    ]
    assert site.heard
