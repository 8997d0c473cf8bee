"""The lab without a host: names, addresses, progress, and the stand-in's command line."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from testbed.lab import host, image, machine, network, repository

DOPPLER = [sys.executable, "-ISE", str(Path(image.__file__).parent / "guest" / "doppler.py")]


@pytest.mark.parametrize("name", ["", "Lab", "1lab", "lab_1", "../lab", "lab\n", "a" * 22])
def test_a_host_name_is_fit_for_a_folder(name: str) -> None:
    """Nothing that is no plain name gets to be a folder that `down` removes."""
    for use in (host.check, host.find, host.down):
        with pytest.raises(machine.LabError, match="no name for a lab host"):
            use(name)


def test_each_host_has_a_network_of_its_own() -> None:
    """Networks lie in the range for benchmarks, do not overlap, and their links' names are short enough."""
    last = network.RANGE.num_addresses // 4 - 1
    assert (network.address(0), network.address(1)) == ("198.18.0.2", "198.18.0.6")
    assert network.subnet(last).subnet_of(network.RANGE)
    assert not network.subnet(0).overlaps(network.subnet(1))
    assert len(network.link(last)) <= 15


def test_a_network_that_somebody_uses_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither another host's network nor one that this machine has a route to is given away."""
    routes = [{"dst": "default"}, {"dst": "198.18.0.4"}, {"dst": "198.18.0.8/29"}]
    monkeypatch.setattr(network, "run", lambda *_words, trouble: json.dumps(routes))  # noqa: ARG005
    assert network.free_index({0}) == 4
    routes.append({"dst": "198.18.0.0/15"})
    with pytest.raises(machine.LabError, match="no free network"):
        network.free_index(set())


def test_progress_is_told_in_tenths() -> None:
    """Each tenth once, never backwards, and never 100 before it is done."""
    said: list[str] = []
    progress = image.Progress(said.append, "Work")
    for percent in (3, 12, 14, 8, 35, 250):
        progress.at(percent)
    assert said[1:] == ["Work: 10 %", "Work: 30 %", "Work: 90 %"]


def test_apt_tells_how_far_it_is() -> None:
    """Fetching comes before installing, and other lines tell nothing."""
    lines = ["dlstatus:1:50.0:Retrieving", "pmstatus:dpkg-exec:0.0:Running", "pmstatus:git:100:Installed git"]
    assert [image.apt_percent(line) for line in lines] == [10, 20, 90]
    assert image.apt_percent("Setting up git:amd64 (1:2.39)") is None


def test_an_image_has_another_name_when_its_recipe_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cached image is never taken for another one; what `ready` stands on is part of its name."""
    before = image.recipes("bookworm")
    assert before == image.recipes("bookworm")
    monkeypatch.setattr(image, "BARE_PACKAGES", (*image.BARE_PACKAGES, "vim"))
    after = image.recipes("bookworm")
    assert not set(before) & set(after)


def test_an_unknown_image_is_refused_with_the_known_ones() -> None:
    """The trouble names what there is."""
    with pytest.raises(machine.LabError) as refused:
        image.layers("woody", "ready", print)
    assert refused.value.hint == "one of: bookworm, trixie"


@pytest.mark.parametrize(("system", "user", "reason"), [("Darwin", 0, "needs Linux"), ("Linux", 1000, "needs root")])
def test_a_machine_that_cannot_hold_a_lab_is_told_so(
    monkeypatch: pytest.MonkeyPatch, system: str, user: int, reason: str
) -> None:
    """One line says what is missing, before anything is tried."""
    monkeypatch.setattr("platform.system", lambda: system)
    monkeypatch.setattr("os.geteuid", lambda: user)
    with pytest.raises(machine.LabError, match=reason) as refused:
        host.up("lab", say=pytest.fail)
    assert refused.value.exit_code == 2
    assert refused.value.hint


def test_missing_packages_are_named_where_there_is_no_apt(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without apt-get the user is told what to install."""
    monkeypatch.setitem(machine.ENV, "PATH", "/nonexistent")
    with pytest.raises(machine.LabError, match=r"needs .*mmdebstrap .*slirp4netns.* no apt-get"):
        machine.install(machine.missing_packages(), pytest.fail)


def test_packages_are_installed_once_by_whoever_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hosts that are made side by side on a bare machine do not get into each other's apt-get."""
    lock = tmp_path / "locks/packages.lock"
    seen: list[bool] = []

    def missing() -> list[str]:
        seen.append(lock.is_file())
        return ["git"] if len(seen) == 1 else []

    def install(packages: list[str], _say: object) -> None:
        seen.append(lock.is_file() and packages == ["git"])

    monkeypatch.setattr(machine, "LOCKS", lock.parent)
    monkeypatch.setattr(machine, "missing_packages", missing)
    monkeypatch.setattr(machine, "install", install)
    monkeypatch.setattr("os.geteuid", lambda: 0)
    for _ in range(2):
        with suppress(machine.LabError):  # for what else a lab needs
            machine.require(str)
    assert seen == [True, True, True]


def test_a_lock_keeps_others_out_and_leaves_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of many who want it at once, one has it at a time, though each removes the file as it leaves."""
    monkeypatch.setattr(machine, "LOCKS", tmp_path / "locks")
    inside, most = 0, 0

    def enter() -> None:
        nonlocal inside, most
        for _ in range(50):
            with machine.locked("one"):
                inside += 1
                most = max(most, inside)
                os.sched_yield()
                inside -= 1

    threads = [threading.Thread(target=enter, daemon=True) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert not any(thread.is_alive() for thread in threads), "somebody waits for a lock that nobody holds"
    assert most == 1
    assert list((tmp_path / "locks").iterdir()) == []


def test_commits_hold_what_was_given(tmp_path: Path) -> None:
    """Odd names, bytes and modes survive; a deleted file is gone; an older base starts a branch from there."""
    folder = tmp_path / "repo.git"
    repository.bare_repository(folder)
    odd = 'a "b"\\c\nd é'
    first = repository.commit(folder, {odd: b"\0\xff", "run": "#!/bin/sh\n", "x": "1"}, message="One\n\nbody")
    repository.commit(folder, {"x": None}, message="Two")
    branch = repository.commit(folder, {"y": "2"}, message="Three", branch="b", base=first)
    listed = repository.git(folder, "ls-tree", "-z", "main").decode().split("\0")[:-1]
    assert {line.split("\t")[1]: line[:6] for line in listed} == {odd: "100644", "run": "100755"}
    assert repository.git(folder, "cat-file", "blob", f"main:{odd}") == b"\0\xff"
    assert repository.git(folder, "ls-tree", "--name-only", branch, "x", "y") == b"x\ny\n"
    assert repository.git(folder, "log", "--format=%s", "main") == b"Two\nOne\n"


@contextmanager
def api(*answers: tuple[int, str]) -> Generator[tuple[str, list[str]]]:
    """An API that gives these answers, one a request, and notes what it was asked."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = answers[len(asked)]
            asked.append(f"{self.path} {self.headers['Authorization']} {self.headers['If-None-Match']}")
            self.send_response(status)
            self.send_header("ETag", f'"{len(asked)}"')
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()


def doppler(home: Path, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the stand-in in a home of its own."""
    env = {"PATH": os.environ["PATH"], "HOME": str(home), "DOPPLER_TOKEN": "t", **env}
    return subprocess.run([*DOPPLER, *words], env=env, capture_output=True, text=True, check=False)


def test_doppler_asks_as_the_real_one_does(tmp_path: Path) -> None:
    """Token in the header, project and config in the query, and the last answer's ETag the next time."""
    with api((200, '{"A": "1"}'), (304, "")) as (url, asked):
        for _ in range(2):
            words = ("--project", "p", "--config=c", "--api-host", url, "--", "printenv", "A")
            assert doppler(tmp_path, "run", *words).stdout == "1\n"
    path = "/v3/configs/config/secrets/download?format=json&include_dynamic_secrets=true&project=p&config=c"
    assert asked == [f"{path} Bearer t None", f'{path} Bearer t "1"']


def test_doppler_takes_the_command_without_dashes_and_the_flags_before_it(tmp_path: Path) -> None:
    """After the first word of the command every word is the command's."""
    with api((200, '{"A": "1"}')) as (url, _):
        answer = doppler(tmp_path, "run", "--no-fallback", "echo", "--config", "x", DOPPLER_API_HOST=url)
    assert answer.stdout == "--config x\n"


def test_doppler_lets_no_secret_replace_path_or_home(tmp_path: Path) -> None:
    """These three stay the caller's; every other name is the secret's."""
    with api((200, '{"HOME": "/x", "PATH": "/x", "B": "2"}')) as (url, _):
        answer = doppler(tmp_path, "run", "--api-host", url, "--", "sh", "-c", "echo $HOME $B", B="1")
    assert answer.stdout == f"{tmp_path} 2\n"


def test_doppler_tries_again_after_a_server_error(tmp_path: Path) -> None:
    """A 500 is no answer; a 403 is one, and is not asked twice."""
    with api((500, ""), (200, '{"A": "1"}')) as (url, _):
        answer = doppler(tmp_path, "run", "--attempts", "2", "--api-host", url, "--", "printenv", "A")
    assert answer.stdout == "1\n"
    with api((403, '{"messages": ["No access"], "success": false}')) as (url, _):
        answer = doppler(tmp_path, "run", "--api-host", url, "--", "true")
    assert (answer.returncode, answer.stderr) == (
        1,
        "Unable to fetch secrets from the Doppler API\nDoppler Error: No access\n",
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "--nonsense", "--", "true"), "unknown flag: --nonsense"),
        (("run", "--config"), "flag needs an argument: --config"),
        (("run",), "requires at least 1 arg(s)"),
        (("login",), 'unknown command "login"'),
    ],
)
def test_doppler_refuses_what_it_does_not_know(tmp_path: Path, words: tuple[str, ...], message: str) -> None:
    """A flag that the stand-in lacks is an error, never ignored."""
    answer = doppler(tmp_path, *words)
    assert (answer.returncode, message in answer.stderr) == (1, True)


def test_doppler_gives_its_child_default_signals(tmp_path: Path) -> None:
    """A child that writes to a closed pipe dies of it, as under the real one."""
    with api((200, "{}")) as (url, _):
        answer = doppler(tmp_path, "run", "--api-host", url, "--", "grep", "Sig[IB]", "/proc/self/status")
    ignored = next(line for line in answer.stdout.splitlines() if line.startswith("SigIgn"))
    blocked = next(line for line in answer.stdout.splitlines() if line.startswith("SigBlk"))
    assert not int(ignored.split()[1], 16) & 1 << (signal.SIGPIPE - 1)
    assert int(blocked.split()[1], 16) == 0
