"""What the state folder tells the deploy tool."""

import ast
import hashlib
import hmac
import os
import signal
import stat

import pytest

from tests.gunicorn.servers import PYTHON, Server, Visitors, wait_for

VERSIONS = ["20.1.0", "23.0.0", "newest"]


@pytest.mark.parametrize("version", VERSIONS)
def test_master_json_tells_what_only_a_restart_can_change(make_server, version: str):
    """The release that the master came from, its Python, gunicorn, modules and .pth files."""
    server: Server = make_server(version)
    one, two = server.release("one"), server.release("two", workers=3)
    server.link("one")
    server.start("--worker-class", "gthread")
    server.wait_served_by("one")
    master = server.state("master.json")
    assert master["pid"] == server.master.pid
    assert master["release"] == str(one)
    assert master["python"]["version"].startswith(PYTHON)
    assert master["python"]["executable"] == os.path.realpath(one / ".venv/bin/python")
    assert master["preload"] is False
    assert (master["workers"], master["worker_class"]) == (2, "gthread")
    arbiter = f".venv/lib/python{PYTHON}/site-packages/gunicorn/arbiter.py"
    assert master["modules"][arbiter] == hashlib.sha256((one / arbiter).read_bytes()).hexdigest()
    assert all((two / name).is_file() for name in master["modules"])
    # Paths of the release itself read as the live link, so that the same editable install compares equal.
    pth = f"{server.app}/lib\n".encode()
    assert master["pth"]["member.pth"] == hashlib.sha256(pth).hexdigest()

    server.deploy("two")
    server.wait_served_by("two", count=3)
    after = server.state("master.json")
    assert after["workers"] == 3
    assert {key: after[key] for key in after if key not in ("workers", "modules")} == {
        key: master[key] for key in master if key not in ("workers", "modules")
    }
    assert master["modules"].items() <= after["modules"].items()


def test_the_environment_is_told_by_keyed_digests_alone(server: Server):
    """No value leaves the process; what systemd, a shell, Doppler or gunicorn set is left out."""
    server.release("one", conf="raw_env = ['ADDED=later']")
    server.link("one")
    server.start(SECRET_KEY="s3ntinel-value", DOPPLER_TOKEN="dp.st.token", INVOCATION_ID="1", SSH_TTY="x")  # noqa: S106
    server.hup()
    wait_for(lambda: min(server.up(), default=0) > 2)
    digests = server.state("master.json")["environment"]
    assert digests == {"SECRET_KEY": hmac.new(server.key.read_bytes(), b"s3ntinel-value", "sha256").hexdigest()}
    everything = "".join(path.read_text() for path in server.run.rglob("*") if path.is_file())
    assert "s3ntinel" not in everything + server.said()


@pytest.mark.parametrize("key", ["missing", "empty"])
def test_without_a_key_no_digest_is_told(server: Server, key: str):
    """An unkeyed digest of a short secret could be guessed."""
    server.key.unlink()
    if key == "empty":
        server.key.touch()
    server.release("one")
    server.link("one")
    server.start(SECRET_KEY="x")  # noqa: S106
    assert server.state("master.json")["environment"] is None


def test_marks_tell_who_is_up(server: Server):
    """One mark per living worker, readable by the user of the service alone; a killed worker's mark goes."""
    server.release("one")
    server.link("one")
    server.start()
    server.wait_served_by("one")
    assert {mark["pid"] for mark in server.up().values()} == server.workers()
    assert all(mark["status"] == 200 and mark["healthy"] for mark in server.up().values())
    assert all("django_settings" in mark for mark in server.up().values())
    for path in server.run.rglob("*"):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)
    victim = min(server.workers())
    os.kill(victim, signal.SIGKILL)
    wait_for(lambda: victim not in {mark["pid"] for mark in server.up().values()})
    server.wait_served_by("one")
    server.hup()
    wait_for(lambda: min(server.up(), default=0) > 3)
    reload = server.state("reload")
    assert (reload["after"], reload["workers"], reload["release"]) == (3, 2, str(server.releases / "one"))
    assert not list(server.run.rglob(".*")), "a temporary file is left"


def test_a_start_clears_what_a_dead_master_left(server: Server):
    """Marks, reload and stop of a master that was killed must not speak for the next one."""
    server.release("one")
    server.link("one")
    (server.run / "up").mkdir()
    (server.run / "up/77").write_text('{"pid": 1, "release": "/old", "status": 200, "healthy": true}')
    (server.run / "reload").write_text('{"after": 99, "workers": 2, "deadline": 1e12}')
    (server.run / "stopping").write_text("{}")
    server.start()
    server.wait_served_by("one")
    assert not (server.run / "reload").exists()
    assert not (server.run / "stopping").exists()


def test_the_warm_up_is_the_first_request_and_looks_like_the_proxy(server: Server):
    """Host, scheme and address as nginx passes them, so that redirects and allowed hosts do not get in the way."""
    server.release("one", health_path="/healthz", health_host="shop.test")
    server.link("one")
    server.start("--workers", "1")
    assert ast.literal_eval(server.get("/first").body) == ("/healthz", "shop.test", "https", "127.0.0.1")


@pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
def test_pages_are_warm_before_a_new_worker_replaces_an_old_one(make_server, worker_class: str):
    """The first page of a new worker has been asked by itself, as nginx would; those of a first start come at once."""
    server: Server = make_server()
    for name in ("one", "two"):
        server.release(name, warm_up=("/", "/%C3%A9?q=1"))
    server.link("one")
    server.start("--worker-class", worker_class, "--threads", "2", "--workers", "1")
    assert [path for path, *_ in ast.literal_eval(server.get("/seen").body)] == ["/healthz", "/", "/seen"]
    server.deploy("two")
    server.wait_served_by("two", count=1)
    seen = ast.literal_eval(server.get("/seen").body)
    # Paths in environ are the bytes of the URL, read as Latin-1 (PEP 3333).
    assert [path for path, *_ in seen] == ["/healthz", "/", "/Ã©", "/seen"]
    assert seen[1][1:] == ("api.test", "https", "127.0.0.1")


@pytest.mark.parametrize("page", ["raise RuntimeError", "time.sleep(1000)"])
def test_a_page_that_cannot_be_warmed_up_holds_nobody_up(make_server, page: str):
    """A page that fails, or that gunicorn has to kill the worker for, is a matter of its visitors alone."""
    server: Server = make_server()
    server.release("one")
    server.release("two", at_page=page, warm_up=("/page",))
    server.link("one")
    server.start("--timeout", "2")
    server.wait_served_by("one")
    with Visitors(server.socket).coming() as visitors:
        server.deploy("two")
        server.wait_served_by("two")
    assert visitors.failed == []
    assert visitors.slowest < 1


def test_workers_that_do_not_boot_are_counted(server: Server):
    """`failures` says how many in a row, and the next reload begins anew."""
    server.release("one")
    server.release("broken", at_import="import nothing_of_that_name")
    server.link("one")
    server.start()
    server.wait_served_by("one")
    server.deploy("broken")
    wait_for(lambda: (server.run / "failures").exists() and int((server.run / "failures").read_text()) >= 3)
    server.deploy("one")
    wait_for(lambda: len(server.up()) == 2 and min(server.up()) > 2 and server.served_by("one"))
    assert (server.run / "failures").read_text() == "0"


@pytest.mark.parametrize("version", VERSIONS)
def test_without_a_state_folder_of_systemd_reloads_are_seamless_too(make_server, version: str):
    """Started by hand the file makes its own folder, and takes it away at the end."""
    server: Server = make_server(version)
    server.release("one")
    server.release("two", boot=1.5)
    server.link("one")
    temporary = server.root / "tmp"
    temporary.mkdir()
    server.start(run=None, TMPDIR=str(temporary))
    with Visitors(server.socket).coming() as visitors:
        server.deploy("two")
        wait_for(lambda: len(server.workers()) == 2 and server.get().body.startswith("two"))
    assert visitors.failed == []
    assert visitors.slowest < 1
    assert server.stop() < 5
    assert not list(temporary.iterdir())


@pytest.mark.parametrize("version", VERSIONS)
def test_a_state_folder_that_cannot_be_written_takes_nothing_down(make_server, version: str):
    """The site matters more than what is told about it."""
    server: Server = make_server(version)
    server.release("one")
    server.release("two")
    server.link("one")
    (server.root / "file").touch()
    server.start(run=None, RUNTIME_DIRECTORY=str(server.root / "file"))
    assert server.get().status == 200
    server.deploy("two")
    wait_for(lambda: server.get().body.startswith("two"))
    assert server.stop() < 5
    assert "Cannot write" in server.said()
