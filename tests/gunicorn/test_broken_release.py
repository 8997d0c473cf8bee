"""A release that does not boot, or is not healthy: the old workers serve on."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.gunicorn.servers import Server, Visitors, wait_for

TROUBLES: dict[str, dict[str, Any]] = {
    "import error": {"at_import": "import nothing_of_that_name"},
    "syntax error": {"at_import": "def"},
    "missing attribute": {"after": "del application"},
    "sys.exit": {"at_import": "sys.exit(3)"},
    "settings": {"conf": "import nothing_of_that_name"},
    "worker class": {"conf": "worker_class = 'no.such.Worker'"},
}
EACH = [("23.0.0", trouble) for trouble in TROUBLES]
OTHERS = [(version, trouble) for version in ("20.1.0", "newest") for trouble in ("missing attribute", "settings")]


@pytest.mark.parametrize(("version", "trouble"), EACH + OTHERS)
def test_a_reload_into_a_broken_release_leaves_the_old_one_serving(make_server, version: str, trouble: str):
    """Nobody notices; the link back and one more HUP heal it."""
    server: Server = make_server(version)
    server.release("one")
    server.release("broken", **TROUBLES[trouble])
    server.link("one")
    server.start()
    server.wait_served_by("one")
    with Visitors(server.socket).coming() as visitors:
        server.deploy("broken")
        time.sleep(1.5)
        assert server.master.poll() is None
        # A worker that follows a failed one waits a second: else there were dozens by now.
        assert server.said().count("Booting worker") <= 8
        started = time.monotonic()
        server.deploy("one")
        wait_for(lambda: len(server.up()) == 2 and min(server.up()) > 2 and server.served_by("one"))
        healed_in = time.monotonic() - started
    assert visitors.failed == []
    assert visitors.slowest < 1
    assert healed_in < 5
    assert server.stop() < 5


def test_a_release_that_hangs_while_it_boots_leaves_the_old_one_serving(server: Server):
    """The old workers stay as long as it hangs, and the way back ends the hanging ones at once."""
    server.release("one")
    server.release("hangs", boot=1000, reload_timeout=1)
    server.link("one")
    server.start("--timeout", "1")
    server.wait_served_by("one")
    with Visitors(server.socket).coming() as visitors:
        server.deploy("hangs")
        time.sleep(3)
        server.deploy("one")
        wait_for(lambda: len(server.up()) == 2 and min(server.up()) > 2 and server.served_by("one"), 10)
    assert visitors.failed == []
    assert visitors.slowest < 1
    assert visitors.releases == {"one"}


@pytest.mark.parametrize("worker_class", ["sync", "gevent"])
def test_an_unhealthy_release_is_told_and_never_seen(server: Server, worker_class: str):
    """New workers that fail their health path keep out of the way until the reload's time is over."""
    server.release("one")
    server.release("ill", health="status = '503 Down'")
    server.link("one")
    server.start("--worker-class", worker_class, "--threads", "2")
    server.wait_served_by("one")
    with Visitors(server.socket).coming() as visitors:
        server.deploy("ill")
        wait_for(lambda: sum(not mark["healthy"] for mark in server.up().values()) == 2)
        assert {mark["status"] for mark in server.up().values()} == {200, 503}
        server.deploy("one")
        wait_for(lambda: min(server.up()) > 4 and server.served_by("one"))
    assert visitors.failed == []
    assert visitors.releases == {"one"}


def test_a_release_that_becomes_healthy_late_is_taken(server: Server):
    """A health path that fails at first (a cold cache, say) delays the reload and nothing else."""
    server.release("one")
    server.release("two", health="status = '200 OK' if len(FIRST) > 3 else '500 Cold'")
    server.link("one")
    server.start()
    server.wait_served_by("one")
    with Visitors(server.socket).coming() as visitors:
        server.deploy("two")
        server.wait_served_by("two")
    assert visitors.failed == []


@pytest.mark.parametrize("version", ["23.0.0", "newest"])
def test_an_unhealthy_release_takes_over_when_the_time_is_up(make_server, version: str):
    """The wait has a bound: past it, workers that have booted at all replace the old ones."""
    server: Server = make_server(version)
    server.release("one")
    server.release("ill", health="raise SystemExit('no database')", reload_timeout=2)
    server.link("one")
    server.start()
    server.wait_served_by("one")
    with Visitors(server.socket).coming() as visitors:
        server.deploy("ill")
        wait_for(lambda: server.get().body.startswith("ill"))
        wait_for(lambda: len(server.workers()) == 2)
    assert visitors.failed == []
    assert {mark["healthy"] for mark in server.up().values()} == {False}
    assert {mark["status"] for mark in server.up().values()} == {None}


@pytest.mark.parametrize(("version", "trouble"), EACH)
def test_a_first_start_with_broken_code_fails(make_server, version: str, trouble: str):
    """The service must not look started when nothing was ever served."""
    server: Server = make_server(version)
    server.release("broken", **TROUBLES[trouble])
    server.link("broken")
    # gunicorn 23 may miss one of two workers that fail at once, and waits for it in vain.
    assert server.start("--graceful-timeout", "2", wait=False).wait(10) not in (0, None)


def test_a_later_worker_that_does_not_boot_leaves_the_master_running(server: Server):
    """A recycled worker that cannot boot (the database is away, say) must not take the others down."""
    server.release("one", at_import="assert not os.path.exists('../down')")
    server.link("one")
    server.start()
    server.wait_served_by("one")
    (server.releases / "one/down").touch()
    victim = min(server.workers())

    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: "Exception in worker process" in server.said())
    time.sleep(0.5)
    assert server.master.poll() is None
    assert server.get().status == 200
    (server.releases / "one/down").unlink()
    server.wait_served_by("one")


def without_workers(values: Path) -> None:
    told = json.loads(values.read_text())
    del told["workers"]
    values.write_text(json.dumps(told))


def with_a_colour(values: Path) -> None:
    values.write_text(json.dumps({**json.loads(values.read_text()), "colour": "red"}))


@pytest.mark.parametrize("version", ["20.1.0", "23.0.0", "newest"])
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (Path.unlink, "No such file or directory"),
        (lambda values: values.write_text("{"), "Expecting property name"),
        (without_workers, "missing 1 required positional argument: 'workers'"),
        (with_a_colour, "unexpected keyword argument 'colour'"),
    ],
    ids=["no file", "no JSON", "a missing value", "an unknown value"],
)
def test_values_that_do_not_fit_start_nothing(make_server, version: str, spoil: Callable[[Path], object], told: str):
    """A reload leaves the old workers, a first start fails, and both say which file is wrong and why."""
    server: Server = make_server(version)
    server.release("one")
    spoil(server.release("broken") / ".deploy/gunicorn.json")
    error = f"RuntimeError: {server.app}/.deploy/gunicorn.json cannot be used: "
    server.link("one")
    server.start()
    server.wait_served_by("one")
    workers = server.workers()
    server.deploy("broken")
    wait_for(lambda: "The reload failed: the old workers stay" in server.said())
    of_the_reload = server.said()
    assert told in of_the_reload.partition(error)[2].splitlines()[0]
    assert server.workers() == workers
    assert server.get().status == 200
    assert server.start(socket="t", run="trial", wait=False).wait(10) not in (0, None)
    of_the_start = server.said().removeprefix(of_the_reload)
    assert told in of_the_start.partition(error)[2].splitlines()[0]
