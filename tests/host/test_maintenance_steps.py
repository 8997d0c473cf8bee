"""The site closed and opened, by its functions; systemctl and what it does are stand-ins."""

import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from fabfile.ssh.runner import StepError
from fabfile.steps import maintenance
from tests.host.local_host import World


@pytest.fixture
def master(world: World) -> Iterator[subprocess.Popen[bytes]]:
    """A process in gunicorn's place, which ends when the service is restarted."""
    with subprocess.Popen(["sleep", "600"]) as process:
        Path(world.layout.pid_file).write_text(f"{process.pid}\n")
        # It does not come back before the hold is over, as its unit has it.
        world.stub("sudo", f"kill {process.pid}; while [ -e {world.layout.hold} ]; do sleep 0.05; done")
        threading.Thread(target=process.wait, daemon=True).start()  # a zombie counts as alive
        yield process
        process.kill()


def knows(world: World) -> None:
    """The unit of this version."""
    Path(world.layout.service_file).write_text(f"ExecStartPre=until {world.layout.hold}\n")


def test_a_page_closes_the_site_and_goes_again(world: World) -> None:
    """With those who are let in; another time brings others, and the end leaves nothing."""
    page, let_in = Path(world.layout.maintenance), Path(world.layout.let_in)
    for addresses in (["192.0.2.1", "2001:db8::1"], []):
        world.run(maintenance.close(addresses), files={"maintenance.html": b"<h1>Soon</h1>"})
        assert page.read_text() == "<h1>Soon</h1>"
        assert sorted(each.name for each in let_in.iterdir()) == addresses
        assert (page.stat().st_mode & 0o777, let_in.stat().st_mode & 0o005) == (0o644, 0o005)
    assert world.output(maintenance.open_again()) == "page"
    assert world.output(maintenance.open_again()) == ""
    assert not [each for each in Path(world.layout.base).iterdir() if "maintenance" in each.name]


def test_requests_wait_until_they_are_let_in(world: World, master: subprocess.Popen[bytes]) -> None:
    """The step ends when nobody serves any more, and does not wait for the end of the waiting."""
    knows(world)
    before = int(subprocess.run(["date", "+%s"], check=True, capture_output=True, text=True).stdout)
    world.run(maintenance.hold(600))
    assert master.wait(10) == -15
    assert [each for each in world.calls if each.startswith("sudo")] == [
        f"sudo -n /usr/bin/systemctl restart {world.layout.unit}.service"
    ]
    assert before + 600 <= int(Path(world.layout.hold).read_text()) <= before + 660
    assert world.output(maintenance.open_again()) == "hold"
    assert not Path(world.layout.hold).exists()


def test_what_cannot_wait_is_told(world: World) -> None:
    """A unit of an earlier version would start at once; and without gunicorn there is nobody to wait for."""
    with pytest.raises(StepError, match="the unit of this host does not know how to wait") as caught:
        world.run(maintenance.hold(30))
    assert "next: fab -H NAME deploy" in caught.value.evidence
    knows(world)
    with pytest.raises(StepError, match="gunicorn does not run"):
        world.run(maintenance.hold(30))
    assert not Path(world.layout.hold).exists()


def test_a_gunicorn_that_does_not_end_is_not_held(world: World, master: subprocess.Popen[bytes]) -> None:
    """It is told, and nothing stays that would keep the service from starting."""
    knows(world)
    world.stub("sudo")
    world.override("sleep() { SECONDS=$((SECONDS + 61)); }")
    with pytest.raises(StepError, match="gunicorn does not end within 60 s, for a request takes longer"):
        world.run(maintenance.hold(30))
    assert master.poll() is None
    assert not Path(world.layout.hold).exists()


def test_a_hold_that_is_over_is_no_hold(world: World) -> None:
    """Its file stays until somebody opens the site; nothing waits for it."""
    Path(world.layout.hold).write_text("1000\n")
    assert world.output(maintenance.open_again()) == ""
    assert not Path(world.layout.hold).exists()
