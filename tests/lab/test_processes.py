"""Workers and timers on a real host: no job is lost or done twice, whatever happens to the website's releases."""

import itertools
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from testbed.harness import Site, running, throw_away, wait_for
from testbed.lab import boot, power_cut, set_secrets

pytestmark = pytest.mark.lab

WORKER = {"command": "manage.py db_worker --interval 0.2 --no-startup-delay", "instances": 2}
TIMER = {"command": "manage.py tick --seconds 3", "schedule": "daily"}
# Says when it begins and ends: two of them at once would be seen.
BEAT = {
    "command": 'python -c \'from signal import *; pthread_sigmask(SIG_BLOCK, [SIGTERM]); print("begins", flush=True); '
    'sigwait([SIGTERM]); print("ends", flush=True)\'',
    "singleton": True,
}


@contextmanager
def with_everything(name: str, folder: Path, branch: str, base: str) -> Generator[Site]:
    """The sample site with its queue, live on a host of that name: a worker twice, a timer, and a singleton."""
    with throw_away(name, base=base) as host:
        set_secrets(host, JOBS="1")
        site = Site(host, folder, branch, {"processes": everything()})
        site.commit(site.titled("The first"))
        site.provision().expect(0)
        site.deploy().expect(0)
        yield site


@pytest.fixture(scope="module")
def server(base: str, own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The same, on a host of these tests' own."""
    with with_everything(own("processes"), tmp_path_factory.mktemp("first"), "t/processes", base) as site:
        yield site


@pytest.fixture
def site(server: Site) -> Iterator[Site]:
    """The same, as it began; after a test that changed settings or failed, that takes a deploy."""
    server.settings.clear()
    server.settings["processes"] = everything()
    server.deploy().expect(0)
    yield server
    server.assert_sound()


def everything() -> dict[str, Any]:
    return {"worker": dict(WORKER), "nightly": dict(TIMER), "beat": dict(BEAT)}


def order(site: Site, name: str, seconds: float) -> None:
    """Put a job in the queue."""
    headers, data = {"Host": site.domain}, {"name": name, "seconds": str(seconds)}
    answer = httpx.post(f"http://{site.host.address}/jobs/", headers=headers, data=data, timeout=20)
    assert answer.status_code == 202, answer.text


def runs(site: Site, name: str = "") -> list[dict[str, Any]]:
    """The runs of jobs, the oldest first; of one name, or of all."""
    found = reversed(site.get("/jobs/").json()["runs"])
    return [run for run in found if not name or run["name"] == name]


def ended(site: Site, name: str) -> list[dict[str, Any]]:
    """The runs of a job that are over."""
    return [run for run in runs(site, name) if run["ended"]]


def units(site: Site, pattern: str, state: str = "active") -> list[str]:
    """The units of a pattern that are in a state."""
    return site.run(f"systemctl list-units --plain --no-legend --state={state} '{pattern}' | cut -d ' ' -f 1").split()


def releases_of(site: Site, process: str) -> list[str]:
    """The releases of a process's running instances."""
    return [unit.partition("@")[2].partition(":")[0] for unit in units(site, f"consult-{process}@*.service")]


def pids(site: Site, process: str) -> set[str]:
    """The main processes of a process's instances."""
    return set(site.run(f"systemctl show --property MainPID --value 'consult-{process}@*.service'").split())


def new_release(site: Site, title: str) -> str:
    """Deploy a commit that changes the front page; return the release."""
    site.commit(site.titled(title))
    return site.deploy().expect(0).json["release"]


@contextmanager
def orders(site: Site) -> Generator[list[str]]:
    """A job ordered twice a second meanwhile, each fifth of them longer than a deploy's pause; yields their names."""
    ordered: list[str] = []
    over = threading.Event()

    def go_on() -> None:
        while not over.wait(0.5):
            name = f"job {len(ordered)}"
            order(site, name, 4 if len(ordered) % 5 == 0 else 0.1)
            ordered.append(name)

    thread = threading.Thread(target=go_on, daemon=True)
    thread.start()
    try:
        yield ordered
    finally:
        over.set()
        thread.join()


def killed_while_it_rolls(site: Site, title: str) -> None:
    """Deploy, and kill the client while old and new workers run side by side; the host brings it to its end."""
    site.commit(site.titled(title))
    with running(site, "deploy", "--branch", site.branch, "--json") as process:
        wait_for(lambda: units(site, "consult-processes.service", "activating"))
        os.killpg(process.pid, signal.SIGKILL)
    wait_for(lambda: site.leftovers() == "", seconds=60)


def test_no_job_is_lost_or_done_twice_over_ten_deploys(site: Site) -> None:
    """Every job that was ordered is done once, with the client killed in three of the ten deploys."""
    with orders(site) as ordered:
        for number in range(10):
            if number % 3 == 2:
                killed_while_it_rolls(site, f"round {number}")
            else:
                new_release(site, f"round {number}")
            assert set(releases_of(site, "worker")) == {site.live()}
    wait_for(lambda: len([run for run in runs(site) if run["ended"] and run["name"] in ordered]) >= len(ordered))
    done = [run for run in runs(site) if run["name"].startswith("job")]
    assert sorted(run["name"] for run in done) == sorted(ordered)
    assert all(run["ended"] for run in done)
    assert len({run["release"] for run in done}) >= 10


def test_a_long_job_ends_on_its_own_release(site: Site) -> None:
    """A long job goes on where it began, over two deploys that prune; the next job runs on the new release."""
    site.settings["keep"] = 2
    old = site.live()
    order(site, "long", 280)  # less than the worker has to end its work
    wait_for(lambda: runs(site, "long"))
    new_release(site, "the first after")
    newest = new_release(site, "the second after")
    order(site, "short", 0.1)
    wait_for(lambda: ended(site, "short"))
    [long], [short] = runs(site, "long"), runs(site, "short")
    assert (long["release"], long["ended"]) == (old, None)
    assert short["release"] == newest
    assert old in site.releases()
    order(site, "long may end", 0)
    wait_for(lambda: ended(site, "long"))
    told = site.run(f"journalctl _PID={long['pid']} --output cat")
    assert told.count("Received Terminated") == 1, told
    assert len(runs(site, "long")) == 1
    wait_for(lambda: site.run(f"ls -d /proc/{long['pid']} 2>/dev/null; true") == "")
    new_release(site, "the third after")
    assert old not in site.releases()


def test_a_timer_is_neither_cut_nor_doubled_by_a_deploy(site: Site) -> None:
    """Jobs of 3 s every 5 s, over two deploys: each of them ends, and none begins before the last one has ended."""
    site.settings["processes"]["nightly"]["schedule"] = "*:*:0/5"
    site.deploy().expect(0)
    wait_for(lambda: runs(site, "tick"))
    before = len(runs(site, "tick"))
    new_release(site, "tick")
    new_release(site, "tock")
    wait_for(lambda: len(runs(site, "tick")) >= before + 3 and runs(site, "tick")[-1]["ended"])
    ticks = runs(site, "tick")[before:]
    for tick, after in itertools.pairwise(ticks):
        assert tick["ended"] is not None
        assert tick["ended"] <= after["began"]


def test_a_singleton_never_runs_twice(site: Site) -> None:
    """Over deploy and rollback one ends before the next one begins, and the workers go back with the release."""
    old = site.live()
    new = new_release(site, "one at a time")
    assert releases_of(site, "beat") == [new]
    site.fab("rollback", "--json").expect(0)
    assert releases_of(site, "beat") == [old]
    assert releases_of(site, "worker") == [old, old]
    said = site.run("journalctl --unit 'consult-beat@*' --output cat | grep -x -e begins -e ends").split()
    assert said[:-1] == ["begins", "ends"] * (len(said) // 2)
    assert said[-1] == "begins"


def test_restart_takes_up_secrets(site: Site) -> None:
    """After `restart` the workers have the new secret; the old ones had one SIGTERM."""
    before = pids(site, "worker")
    set_secrets(site.host, WORD="new")
    site.fab("restart", "--json").expect(0)
    wait_for(lambda: not before & pids(site, "worker"))
    for pid in pids(site, "worker"):
        assert "WORD=new" in site.run(f"cat /proc/$(pgrep -P {pid})/environ | tr '\\0' '\\n'")


@pytest.mark.parametrize(
    ("process", "words"),
    [
        ({"command": "manage.py no_such_command"}, "spare: manage.py no_such_command does not start"),
        ({"command": "manage.py db_worker --no-such-option"}, "spare: manage.py db_worker --no-such-option"),
        ({"command": "celery -A config worker"}, "spare: the virtualenv has no program celery"),
        ({"command": "manage.py tick", "schedule": "each noon"}, "spare: systemd knows no schedule like each noon"),
    ],
)
def test_what_cannot_start_is_told_in_the_proof(site: Site, process: dict[str, Any], words: str) -> None:
    """The website and the workers stay as they are."""
    before = pids(site, "worker")
    site.settings["processes"]["spare"] = process
    document = site.deploy().expect(5).json
    assert words in document["error"]
    assert document["site_state"] == "as before"
    assert pids(site, "worker") == before


def test_a_worker_that_does_not_stay_is_no_deploy(site: Site) -> None:
    """The old release is live again, and its workers have gone on all the time."""
    live, before = site.live(), pids(site, "worker")
    site.settings["processes"]["worker"]["command"] = "python -c 'raise SystemExit(\"no luck today\")'"
    site.commit(site.titled("bad workers"))
    result = site.deploy().expect(6)
    assert "does not stay" in result.json["error"]
    assert "no luck today" in result.text
    assert site.live() == live
    assert pids(site, "worker") == before


def test_a_worker_that_may_not_write_is_told_where(site: Site) -> None:
    """Its sandbox forbids it: the place is named, and the line of hosts.toml that opens it."""
    command = "python -c 'from pathlib import Path; Path(\"var\").mkdir()'"
    site.settings["processes"]["worker"]["command"] = command
    document = site.deploy().expect(6).json
    assert "Read-only file system: 'var' (the old workers go on)" in document["error"]
    assert document["suggestions"] == ['in hosts.toml: linked_dirs = ["apps/web/var"]; then the same command again']


def test_a_process_that_leaves_hosts_toml_goes(site: Site) -> None:
    """A job under way ends, gunicorn is left alone, and the next roll takes the unit file away."""
    master = site.master_pid()
    order(site, "last", 5)
    wait_for(lambda: runs(site, "last"))
    del site.settings["processes"]["worker"]
    del site.settings["processes"]["nightly"]
    assert site.deploy().expect(0).json["activation"] == "processes"
    assert site.master_pid() == master
    assert units(site, "consult-worker@*.service") == units(site, "consult-nightly.timer") == []
    wait_for(lambda: ended(site, "last"))
    site.settings["processes"]["worker"] = dict(WORKER)
    assert site.deploy().expect(0).json["activation"] == "processes"
    assert releases_of(site, "worker") == [site.live(), site.live()]
    assert "consult-nightly" not in site.run("ls /etc/systemd/system")
    assert site.deploy().expect(0).json["activation"] == "nothing"


def test_status_and_logs_show_processes(site: Site) -> None:
    """`status` counts the instances by release, `logs --process` shows what one of them says."""
    told = site.fab("status").expect(0).text
    assert f"2 of {site.live()}" in told
    assert "daily" in told
    assert "Starting worker" in site.fab("logs", "--process", "worker").expect(0).text
    assert "did you mean worker?" in site.fab("logs", "--process", "worke").expect(2).text


def test_a_power_cut_brings_the_same_workers_back(site: Site) -> None:
    """After it the workers and timers of the live release run, and jobs are done."""
    power_cut(site.host)
    site.host = boot(site.host)
    wait_for(lambda: releases_of(site, "worker") == [site.live(), site.live()])
    wait_for(lambda: units(site, "consult-nightly.timer"))
    assert releases_of(site, "beat") == [site.live()]
    order(site, "after the cut", 0.1)
    wait_for(lambda: ended(site, "after the cut"))
