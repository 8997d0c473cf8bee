"""Reading a host, on real bash: what is there becomes the right HostState, also where things are half there."""

import hashlib
import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabfile.plan.lock import describe_holder, lock_info
from fabfile.plan.state import HostState, parse
from fabfile.ssh.runner import StepError
from fabfile.steps import survey
from tests.host.local_host import HOSTILE, World, eventually

ONE, TWO = "20260101T000000Z-abcdef0", "20260102T000000Z-abcdef1"
NOTES = {"commit": "abcdef1" + "0" * 33, "branch": "feature/ünï 'x'", "created": "2026-01-02", "fingerprint": "f0"}


@pytest.fixture(autouse=True)
def programs(world: World) -> None:
    """Stand-ins: systemctl says that everything is active, the other programs only exist."""
    for name in ("uv", "doppler", "nginx"):
        world.stub(name)
    world.stub("systemctl", "shift; for _ in $*; do echo active; done")
    Path(world.layout.secrets).touch()
    Path(world.layout.app).symlink_to(world.layout.current)


def read(world: World) -> HostState:
    """Read the host twice; what was read and what is in its folders must be the same."""
    before = sorted(world.base.rglob("*"))
    first, second = (parse(said.splitlines()) for said in world.twice(survey.read_host()))
    assert sorted(world.base.rglob("*")) == before
    assert first.releases == second.releases
    assert (first.live, first.missing, first.files) == (second.live, second.missing, second.files)
    return second


def test_a_host_without_releases(world: World) -> None:
    """A provisioned host before its first deploy lacks nothing, and nothing is live."""
    state = read(world)
    assert abs(state.now - time.time()) < 20
    assert (state.live, state.releases, state.missing, state.app_is) == ("", (), (), "link")
    assert (state.service, state.socket, state.nginx, state.master) == ("active", "active", "active", 0)
    assert state.disk_free > 0
    assert state.inodes_free > 0
    assert not state.serves_live


def test_a_host_with_releases(world: World) -> None:
    """Marks, notes and the live link come through; releases are sorted; what is no release is left out."""
    world.release(TWO, "built", "good", notes=NOTES)
    world.release(ONE, "built", "bad", "left", notes=NOTES)
    Path(world.layout.releases / ".trash-x").mkdir()
    Path(world.layout.releases / "lost+found").mkdir()
    Path(world.layout.releases / "my $(touch bait) backup").mkdir()
    Path(world.layout.current).symlink_to(f"releases/{TWO}")
    state = read(world)
    assert [release.id for release in state.releases] == [ONE, TWO]
    assert state.live == TWO
    live = state.live_release
    assert live
    assert (live.built, live.good, live.bad, live.left) == (True, True, False, False)
    assert (live.commit, live.branch, live.fingerprint) == (NOTES["commit"], NOTES["branch"], "f0")
    assert (state.releases[0].bad, state.releases[0].left) == (True, True)
    assert not world.bait()


@pytest.mark.parametrize(
    "notes",
    [
        "",
        "{",
        "null\n",
        "[1]\n",
        '{"commit": null}',
        "\x00\x01",
        "a\nb",
        '{"commit": "x"',
        "[" * 100_000,
        HOSTILE,
        "é" * 9,
    ],
)
def test_notes_that_cannot_be_read(world: World, notes: str) -> None:
    """A release whose notes were cut or overwritten is there all the same, and hurts no other."""
    world.release(ONE, notes=notes)
    world.release(TWO, "built", notes=NOTES)
    state = read(world)
    assert [(release.id, release.built) for release in state.releases] == [(ONE, False), (TWO, True)]
    assert state.releases[1].commit == NOTES["commit"]
    assert not world.bait()


@pytest.mark.parametrize("target", ["releases/gone", "/nowhere/at/all", "current"])
def test_a_live_link_that_leads_nowhere(world: World, target: str) -> None:
    """A dangling link means that nothing is live, not a live release of that name."""
    world.release(ONE, "built", "good")
    Path(world.layout.current).symlink_to(target)
    assert read(world).live == ""


def test_what_is_missing_is_named(world: World) -> None:
    """Programs, folders, the token: each by its name."""
    layout = world.layout
    Path(layout.secrets).unlink()
    Path(layout.shared).rmdir()
    (world.bin / "doppler").unlink()
    Path(layout.app).unlink()
    state = read(world)
    assert state.app_is == "nothing"
    assert set(state.missing) == {
        "the program doppler",
        f"the folder {layout.shared}",
        f"the token file {layout.secrets}",
    }
    Path(layout.app).mkdir()
    assert read(world).app_is == "folder"


def test_a_bare_host(world: World) -> None:
    """A host that was never provisioned can be read: everything is missing."""
    world.settings = world.settings.model_copy(update={"name": "other"})
    world.stub("systemctl", "echo inactive; exit 3")
    state = parse(world.output(survey.read_host()).splitlines())
    assert len([text for text in state.missing if text.startswith("the folder")]) == 2
    assert (state.live, state.service, state.socket) == ("", "inactive", "")


def test_files_are_told_by_their_digest(world: World) -> None:
    """The unit and the site as they are installed; a file that is missing has none."""
    Path(world.layout.service_file).write_text("[Service]\n")
    state = read(world)
    assert state.files == {str(world.layout.service_file): hashlib.sha256(b"[Service]\n").hexdigest()}


@pytest.fixture
def master(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """A process with one child in each of two releases, as the pid file says."""
    for release_id in (ONE, TWO):
        world.release(release_id, "built", "good")
    folders = [str(world.layout.release(release_id).project) for release_id in (ONE, TWO)]
    script = f"(cd {folders[0]}; exec sleep 60) & (cd {folders[1]}; exec sleep 60) & echo; wait"
    with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, start_new_session=True) as process:
        Path(world.layout.pid_file).write_text(f"{process.pid}\n")
        yield process
        subprocess.run(["pkill", "-P", str(process.pid)], check=False)
        process.kill()


def test_workers_are_told_apart_by_their_folder(world: World, master: subprocess.Popen[bytes]) -> None:
    """Each worker with the release that it serves; only all of the live one counts as serving it."""
    Path(world.layout.current).symlink_to(f"releases/{TWO}")
    assert eventually(lambda: sorted(read(world).workers.values()) == [ONE, TWO])
    state = read(world)
    assert state.master == master.pid
    assert not state.serves_live


@pytest.mark.parametrize("pid", ["", "999999999", "nonsense"])
def test_a_pid_file_of_a_dead_master(world: World, pid: str) -> None:
    """A pid file that was left behind is no master."""
    Path(world.layout.pid_file).write_text(pid)
    assert read(world).master == 0


def test_locking_by_hand(world: World) -> None:
    """The first lock info stays, whatever it says, and is read with the host; unlock answers with it, once."""
    mine = lock_info("lock", HOSTILE + "\n" + HOSTILE)
    assert world.twice(survey.freeze(mine)) == ("", mine)
    assert world.output(survey.freeze(lock_info("lock", "another"))) == mine
    assert describe_holder(read(world).frozen).endswith(HOSTILE)
    assert world.twice(survey.unfreeze()) == (mine, "")
    assert read(world).frozen == ""
    assert not world.bait()


def test_who_works_on_it(world: World) -> None:
    """The lock info of a running work, and nothing when nobody works, nothing of a dead one either."""
    path = Path(world.layout.lock)
    path.write_text(lock_info("deploy main"))
    assert world.twice(survey.holder()) == ("", "")
    with world.connect().runner(lock=world.lock(holder=lock_info("deploy", HOSTILE))):
        said, again = world.twice(survey.holder())
    assert json.loads(said)["message"] == HOSTILE
    assert said == again


def test_who_looks_keeps_nobody_out(world: World) -> None:
    """A status at the very moment does not refuse a deploy."""
    blocker = subprocess.Popen(["flock", "--shared", str(world.layout.lock), "sleep", "0.2"])
    time.sleep(0.1)
    with world.connect().runner(lock=world.lock()) as runner:
        assert runner.run([survey.holder()])[survey.HOLDER].output
    blocker.wait()


def test_a_survey_that_fails_is_told(world: World) -> None:
    """A host where even the survey does not run gives its output as evidence."""
    world.stub("df", "echo 'df: input/output error' >&2; exit 1")
    with pytest.raises(StepError) as caught:
        world.run(survey.read_host())
    assert "input/output error" in caught.value.evidence
