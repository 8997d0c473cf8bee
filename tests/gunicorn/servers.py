"""A small server for the settings file: real gunicorn processes, releases behind a live link, and visitors."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path

from fabfile.plan import rendering

REQUIREMENTS = {
    "20.1.0": ["gunicorn==20.1.0", "setuptools<81"],  # imports pkg_resources
    "23.0.0": ["gunicorn==23.0.0"],
    "newest": ["gunicorn>=27"],
}
PYTHON = "3.11"
USUAL = [700, 10, 10]  # how often it looks for garbage

WSGI = """
import importlib, os, sys, time
time.sleep({boot})
{at_import}
import greeting

RELEASE = {release!r}
FIRST = []

def application(environ, start_response):
    path = environ["PATH_INFO"]
    FIRST.append((path, environ["HTTP_HOST"], environ["wsgi.url_scheme"], environ["REMOTE_ADDR"]))
    status, body = "200 OK", f"{{RELEASE}} {{os.getpid()}}"
    if path == "/healthz":
        {health}
    elif path == "/slow":
        time.sleep(1)
    elif path == "/first":
        body = repr(FIRST[0])
    elif path == "/seen":
        body = ascii(FIRST)
    elif path == "/page":
        {at_page}
    elif path == "/world":
        body = repr(dict(greeting=greeting.TEXT, cwd=os.getcwd(), path=sys.path, prefix=sys.prefix,
                         executable=sys.executable, virtual_env=os.environ.get("VIRTUAL_ENV"),
                         search=os.environ["PATH"]))
    elif path.startswith("/import/"):
        module = importlib.import_module(path[8:])
        body = getattr(module, "TEXT", repr(module))
    start_response(status, [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body.encode()]

{after}
"""


@dataclass
class Visit:
    """One request: its answer (status and body) or the error that cut it, and how long it took in seconds."""

    at: float
    seconds: float = 0.0
    status: int = 0
    body: str = ""
    error: str = ""


def get(address: Path, path: str = "/", timeout: float = 30) -> Visit:
    """Ask `path` once over the unix socket; nothing is tried again."""
    visit = Visit(at=time.monotonic())
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(timeout)
            client.connect(str(address))
            client.sendall(f"GET {path} HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n".encode())
            answer = b"".join(iter(lambda: client.recv(65536), b"")).decode()
        head, _, visit.body = answer.partition("\r\n\r\n")
        visit.status = int(head.split()[1]) if head else 0
        visit.error = "" if head else "closed without an answer"
    except OSError as error:
        visit.error = f"{type(error).__name__}: {error}"
    visit.seconds = time.monotonic() - visit.at
    return visit


@dataclass
class Visitors:
    """Two threads that ask all the time, and what they saw."""

    address: Path
    visits: list[Visit] = field(default_factory=list)

    @contextlib.contextmanager
    def coming(self) -> Generator["Visitors"]:
        over = threading.Event()

        def visit_until_over() -> None:
            while not over.wait(0.005):
                self.visits.append(get(self.address))

        threads = [threading.Thread(target=visit_until_over) for _ in range(2)]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            over.set()
            for thread in threads:
                thread.join()

    @property
    def failed(self) -> list[Visit]:
        return [visit for visit in self.visits if visit.status != 200]

    @property
    def slowest(self) -> float:
        return max(visit.seconds for visit in self.visits)

    @property
    def releases(self) -> set[str]:
        return {visit.body.split()[0] for visit in self.visits if visit.status == 200}


class Server:
    """One application server in a folder: `releases/<id>`, the live link `app`, and a gunicorn master."""

    def __init__(self, root: Path, venv: Path):
        self.root, self.venv = root, venv
        self.app, self.releases, self.run = root / "app", root / "releases", root / "run"
        self.socket, self.log, self.key = root / "s", root / "log", root / "key"
        self.run.mkdir()
        self.releases.mkdir()
        self.key.write_bytes(b"key of this server")
        self.processes: list[subprocess.Popen[bytes]] = []

    def release(
        self, name: str, *, boot: float = 0, at_import: str = "", health: str = "pass", after: str = "",
        at_page: str = "pass", conf: str | None = None, **settings: object,
    ) -> Path:  # fmt: skip
        """Make a release: code that boots in `boot` seconds, its own virtualenv, and `settings` for gunicorn."""
        folder = self.releases / name
        (folder / "web" / "config").mkdir(parents=True)
        (folder / ".deploy").mkdir()
        text = WSGI.format(release=name, boot=boot, at_import=at_import, health=health, after=after, at_page=at_page)
        (folder / "web/config/wsgi.py").write_text(text)
        (folder / "web/lazy.py").write_text(f"TEXT = 'lazy of {name}'")
        (folder / "lib").mkdir()
        (folder / "lib/editable.py").write_text(f"TEXT = 'editable of {name}'")
        subprocess.run(["/bin/cp", "-al", self.venv, folder / ".venv"], check=True)
        packages = folder / f".venv/lib/python{PYTHON}/site-packages"
        (packages / "greeting.py").write_text(f"TEXT = 'greeting of {name}'")
        (packages / "member.pth").write_text(f"{folder}/lib\n")
        if conf is not None:
            (folder / "web/gunicorn.conf.py").write_text(conf)
        (folder / ".deploy/gunicorn.conf.py").write_text(rendering.gunicorn_conf())
        (folder / ".deploy/gunicorn.json").write_text(json.dumps({**self.values(), **settings}))
        return folder

    def values(self) -> dict[str, object]:
        """What gunicorn.json says when a test asks for nothing else."""
        return {
            "app_path": str(self.app), "releases_path": str(self.releases), "project": "web", "workers": 2,
            "health_path": "/healthz", "health_host": "api.test", "warm_up": (), "reload_timeout": 60,
            "graceful_timeout": None, "digest_key_path": str(self.key),
            "unhealthy_after": 1,  # the tests are in a hurry
        }  # fmt: skip

    def link(self, name: str) -> None:
        (self.root / "app.new").symlink_to(self.releases / name)
        (self.root / "app.new").rename(self.app)

    def start(
        self, *options: str, root: Path | None = None, run: str | None = "run", socket: str = "s",
        wait: bool = True, session: bool = False, **environment: str,
    ) -> subprocess.Popen[bytes]:  # fmt: skip
        """Start a master the way the service does; with `root`, the way a proof of that release does.

        With `session` it is the leader of a session of its own.
        """
        root = root or self.app
        command = [
            root / ".venv/bin/python", "-m", "gunicorn", "--config", root / ".deploy/gunicorn.conf.py",
            "--chdir", root / "web", "--bind", f"unix:{self.root / socket}", *options,
            "config.wsgi:application",
        ]  # fmt: skip
        variables = {"PATH": f"{root}/.venv/bin:/usr/bin:/bin", "HOME": str(self.root), "LANG": "C.UTF-8"}
        if run:
            (self.root / run).mkdir(exist_ok=True)
            variables["RUNTIME_DIRECTORY"] = str(self.root / run)
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                command,
                cwd=root / "web",
                env={**variables, **environment},
                stdout=log,
                stderr=log,
                start_new_session=session,
            )
        self.processes.append(process)
        if wait:
            wait_for(lambda: process.poll() is not None or get(self.root / socket, timeout=10).status == 200, 15)
        return process

    @property
    def master(self) -> subprocess.Popen[bytes]:
        return self.processes[0]

    def hup(self) -> None:
        self.master.send_signal(signal.SIGHUP)

    def deploy(self, name: str) -> None:
        self.link(name)
        self.hup()

    def get(self, path: str = "/") -> Visit:
        return get(self.socket, path)

    def state(self, name: str) -> dict:
        return json.loads((self.run / name).read_text())

    def up(self) -> dict[int, dict]:
        """The marks of the workers, by age."""
        with contextlib.suppress(FileNotFoundError):  # a mark may go between the listing and the look
            return {int(p.name): json.loads(p.read_text()) for p in (self.run / "up").glob("[0-9]*")}
        return self.up()

    def workers(self) -> set[int]:
        listing = Path(f"/proc/{self.master.pid}/task/{self.master.pid}/children").read_text()
        return {int(pid) for pid in listing.split()}

    def served_by(self, name: str, count: int = 2) -> bool:
        """Whether exactly `count` workers live, all of them up, healthy and of this release."""
        up = self.up().values()
        return (
            {mark["pid"] for mark in up} == self.workers()
            and len(up) == count
            and all(mark["release"] == str(self.releases / name) and mark["healthy"] for mark in up)
        )

    def wait_served_by(self, name: str, count: int = 2, seconds: float = 60) -> None:
        wait_for(lambda: self.served_by(name, count), seconds)

    def stop(self) -> float:
        """Stop the service as systemd does; returns how many seconds it took."""
        started = time.monotonic()
        self.master.send_signal(signal.SIGTERM)
        self.master.wait(40)
        return time.monotonic() - started

    def said(self) -> str:
        return self.log.read_text()


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a master and the workers that it leaves behind."""
    with contextlib.suppress(FileNotFoundError):
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        process.kill()
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(child), signal.SIGKILL)
    process.wait(10)
