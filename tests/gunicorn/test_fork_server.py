"""Commands of manage.py in forks of a proof that has the app loaded: as programs of their own, but for the loading."""

import fcntl
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gunicorn.servers import USUAL, Server, wait_for

PROGRAMS = Path(__file__).parents[2] / "fabfile/host/programs"
SETTINGS = """
import os
ROOT_URLCONF, SECRET_KEY, USE_TZ = "config.urls", "x", True
INSTALLED_APPS = ["shop"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": "{database}"}}}}
"""
WSGI = """
import os, sys
open("loads", "a").write("once ")
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
{after}
"""
MANAGE = """
import os, sys
if __name__ == "__main__":
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{settings}")
    from django.core.management import execute_from_command_line
    execute_from_command_line(sys.argv)
"""
URLS = """
from django.http import HttpResponse
from django.urls import path
urlpatterns = [path("", lambda request: HttpResponse("here")), path("healthz", lambda request: HttpResponse("here"))]
"""
TELL = """
import gc, json, os, sys, threading, time
from django.core.management.base import BaseCommand

class Command(BaseCommand):
    requires_system_checks = []  # which would load the URLs

    def add_arguments(self, parser):
        parser.add_argument("how")

    def handle(self, how, **options):
        print(json.dumps(dict(
            environment=dict(os.environ), argv=sys.argv, cwd=os.getcwd(), group=os.getpgrp(), umask=os.umask(0o22),
            urls="config.urls" in sys.modules, main=sys.modules["__main__"].__file__,
            stdin=os.readlink("/proc/self/fd/0"), garbage=gc.get_threshold(), frozen=gc.get_freeze_count(),
        )), flush=True)
        if how == "fail":
            raise ValueError("it failed")
        if how == "exit":
            sys.exit(5)
        if how == "thread":
            threading.Thread(target=lambda: (time.sleep(0.2), print("the thread too"))).start()
        if how == "long":
            held = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]
            with open("begun.new", "w") as begun:
                begun.write("\\n".join(os.readlink(path) for path in held if os.path.exists(path)))
            os.rename("begun.new", "begun")
            try:
                while not os.path.exists("go"):
                    time.sleep(0.05)
            except KeyboardInterrupt:
                open("stopped", "w").close()
                raise
            open("ended", "w").close()
"""


def proof(server: Server, *options: str, manage: str = "config.settings", after: str = "") -> Path:
    """Boot a Django in a proof; return its project folder."""
    project = server.release("one") / "web"
    files = {
        "config/settings.py": SETTINGS.format(database=server.root / "db.sqlite3"),
        "config/wsgi.py": WSGI.format(after=after),
        "config/urls.py": URLS,
        "manage.py": MANAGE.format(settings=manage),
        "shop/management/commands/tell.py": TELL,
    }
    for name, text in files.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    server.start(
        "--workers", "1", *options, root=project.parent, wait=False, session=True, DEPLOY_PROOF="1", OWN="a value",
        DEPLOY_FORK_SERVER=str(PROGRAMS / "fork_server.py"),
    )  # fmt: skip
    wait_for(lambda: bool(server.up()))
    return project


def command(server: Server, *words: str, at: str = "warm") -> list[str]:
    ask = [sys.executable, "-IS", PROGRAMS / "ask_fork_server.py", server.run / at]
    return [str(word) for word in [*ask, PROGRAMS / "manage.py", "manage.py", *words]]


def run(server: Server, *words: str, at: str = "warm", **environment: str) -> subprocess.CompletedProcess[str]:
    variables = {**os.environ, **environment}
    return subprocess.run(
        command(server, *words, at=at), capture_output=True, text=True, timeout=60, check=False, env=variables
    )


@pytest.fixture
def long(server: Server) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A command that works until somebody says `go`, and who has asked for it; it holds a lock."""
    project = proof(server)
    lock = os.open(server.root / "lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    asking = subprocess.Popen(
        ["/bin/bash", "-c", f'exec "$@" 9>&{lock}', "bash", *command(server, "tell", "long")],
        pass_fds=[lock],
        stdout=subprocess.DEVNULL,
    )
    os.close(lock)
    try:
        wait_for((project / "begun").exists)
        yield project, asking
    finally:
        (project / "go").touch()
        asking.kill()
        asking.wait()


def locked(server: Server) -> bool:
    """Whether somebody has the lock."""
    with (server.root / "lock").open() as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        return False


@pytest.mark.parametrize(
    ("version", "options"),
    [("20.1.0", []), ("23.0.0", []), ("newest", []), ("newest", ["--threads", "2"])],
    ids=["20.1.0", "23.0.0", "newest", "gthread"],
)
def test_a_command_finds_what_it_would_as_a_program(
    make_server: Callable[..., Server], version: str, options: list[str]
) -> None:
    """Its environment, folder, words and streams; the app is not loaded again, and its code is the exit code."""
    server = make_server(version)
    project = proof(server, *options)
    for at in ("loaded", "warm"):
        done = run(server, "tell", "well", at=at, OTHER="of who asks")
        assert (done.returncode, done.stderr) == (0, "")
        seen = json.loads(done.stdout)
        assert seen["environment"]["OWN"] == "a value"
        assert seen["environment"]["DJANGO_SETTINGS_MODULE"] == "config.settings"
        assert {"OTHER", "RUNTIME_DIRECTORY", "DEPLOY_PROOF", "DEPLOY_FORK_SERVER"}.isdisjoint(seen["environment"])
        assert (seen["argv"], seen["cwd"], seen["umask"]) == (["manage.py", "tell", "well"], str(project), 0o22)
        assert (seen["main"], seen["stdin"]) == ("manage.py", "/dev/null")
        assert seen["group"] not in (os.getpgrp(), os.getpgid(server.master.pid))
        assert seen["urls"] == (at == "warm")
        assert (seen["garbage"], seen["frozen"] > 1000) == (USUAL, True)
    assert (project / "loads").read_text() == "once "
    assert server.get("/healthz").status == 200


def test_a_rule_of_the_app_s_own_for_garbage_holds_in_its_commands(server: Server) -> None:
    """As it does in its workers."""
    proof(server, after="import gc; gc.set_threshold(200_000, 5, 5)")
    for at in ("loaded", "warm"):
        assert json.loads(run(server, "tell", "well", at=at).stdout)["garbage"] == [200_000, 5, 5]


def test_a_command_ends_as_a_program_does(server: Server) -> None:
    """By its own code, by an exception with its traceback, by words that Django does not know; with its threads."""
    proof(server)
    assert run(server, "tell", "exit").returncode == 5
    failed = run(server, "tell", "fail")
    assert (failed.returncode, failed.stderr.splitlines()[-1]) == (1, "ValueError: it failed")
    unknown = run(server, "nonsense")
    assert unknown.returncode == 1
    assert "Unknown command: 'nonsense'" in unknown.stderr
    assert run(server, "tell", "thread").stdout.splitlines()[-1] == "the thread too"


def test_a_command_is_stopped_by_who_asked_for_it(server: Server, long: tuple[Path, subprocess.Popen[bytes]]) -> None:
    """SIGTERM reaches it as KeyboardInterrupt, by which it cancels the query that it waits for."""
    project, asking = long
    asking.send_signal(signal.SIGTERM)
    assert asking.wait(30) == 130
    assert (project / "stopped").exists()
    assert not (project / "ended").exists()
    wait_for(lambda: not locked(server))


def test_a_command_is_stopped_when_nobody_waits_for_it(
    server: Server, long: tuple[Path, subprocess.Popen[bytes]]
) -> None:
    """Who asked for it was killed."""
    project, asking = long
    asking.kill()
    wait_for((project / "stopped").exists)
    wait_for(lambda: not locked(server))


def test_a_migration_outlives_the_proof(server: Server, long: tuple[Path, subprocess.Popen[bytes]]) -> None:
    """All of the proof is killed: the command goes on, with the lock, and whoever asked hears how it ended."""
    project, asking = long
    os.killpg(server.master.pid, signal.SIGKILL)
    server.master.wait(10)
    assert locked(server)
    assert str(server.root / "lock") in (project / "begun").read_text().splitlines()
    (project / "go").touch()
    assert asking.wait(30) == 0
    assert (project / "ended").exists()
    wait_for(lambda: not locked(server))


def test_manage_py_with_other_settings_is_refused(server: Server) -> None:
    """It is manage.py that runs, with the settings that it falls back to."""
    proof(server, manage="config.other")
    done = run(server, "tell", "well", DEPLOY_WEBSITE=str(server.run / "up"))
    assert done.returncode == 1
    assert "manage.py takes the settings config.other, the website config.settings" in done.stderr


@pytest.mark.parametrize(
    ("options", "after"),
    [
        ([], "import threading, time; threading.Thread(target=time.sleep, args=(60,), daemon=True).start()"),
        ([], "from django.db import connection; connection.ensure_connection()"),
        ([], "sys.modules.pop('django')"),
        (["--worker-class", "gevent"], ""),
    ],
    ids=["thread", "connection", "no-django", "gevent"],
)
def test_what_cannot_be_forked_is_not(server: Server, options: list[str], after: str) -> None:
    """A fork would share what it must not. The proof says so, and is one all the same."""
    proof(server, *options, after=after)
    assert sorted(path.name for path in server.run.iterdir() if path.name.startswith(("loaded", "warm"))) == [
        "loaded.none",
        "warm.none",
    ]
