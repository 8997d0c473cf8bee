"""A deployed site as its people see it: the command line on one side, HTTP and the host's own tools on the other."""

import fcntl
import json
import os
import pty
import re
import select
import signal
import socket
import ssl
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from testbed import warm
from testbed.lab import LabHost, Repository, down, execute, get_secrets, start_acme, up
from testbed.sample import VALUES
from testbed.traffic import trusting

PROJECT = Path(__file__).parents[1]
FAB = Path(sys.executable).with_name("fab")
PAGE = "apps/web/pages/templates/pages/index.html"
CSS = "apps/web/pages/static/pages/site.css"
VIEWS = "apps/web/pages/views.py"
URLS = "apps/web/config/urls.py"
WSGI = "apps/web/config/wsgi.py"
SETTINGS = "apps/web/config/settings.py"
WEB = "apps/web/pyproject.toml"
# The sample site's health, and two that are not so good.
HEALTHY = '    return JsonResponse({"status": "ok", "release": release.ID})'
UNHEALTHY = '    return JsonResponse({"status": "bad day"}, status=503)'
UNHEALTHY_WHEN_LIVE = f"""
    import os
    if os.environ.get("RUNTIME_DIRECTORY") == "/run/consult-django":
    {UNHEALTHY}
{HEALTHY}"""
CHECKS = ("gunicorn_socket", "systemd_active", "nginx_running", "http_200", "visitor")
Lines = list[tuple[float, str]]  # when (time.monotonic()) each line for people came
# What the team's agents parse.
FIELDS = set(
    "status phase failed_check error server url admin_url git_branch git_commit release previous activation reason "  # noqa: SIM905
    "site_state timing checks watch logs suggestions".split()
)
# The operator's own: it must not decide what a test sees.
FOREIGN = re.compile(
    r"(SSH|GIT|DJANGO|DOPPLER|GITHUB|GITLAB|INVOKE|FABRIC|UV)_.*|VIRTUAL_ENV|CI|TERM|(PYTEST|PYTHON|COVERAGE).*"
)


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one document on stdout."""
        return json.loads(self.out)

    @property
    def text(self) -> str:
        return self.out + self.err

    def expect(self, code: int) -> "Result":
        """This result, if it ended with `code`."""
        assert self.code == code, f"exit {self.code}, not {code}\n{self.text}"
        return self


@dataclass
class Site:
    """One app on one lab host, and the folder of somebody who deploys it.

    `settings` are the host's in hosts.toml beyond where it is, `hosts_file` is another text for the whole file.
    `branch` is what `commit` writes to and `deploy` takes. `cold` starts `fab` itself, as people do, not a warm one.
    `scheme` is how its visitors come; by https they take any certificate. `under` are words in front of `fab`.
    """

    host: LabHost
    folder: Path
    branch: str = "main"
    settings: dict[str, Any] = field(default_factory=dict)
    app: str = "consult"
    domain: str = "consult.lab"
    app_link: str = "/app"
    environment: dict[str, str] = field(default_factory=dict)
    other_packages: bool = False
    hosts_file: str = ""
    cold: bool = False
    scheme: str = "http"
    under: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What stands behind -H."""
        return self.host.name

    @property
    def repository(self) -> Repository:
        return Repository(self.host)

    def fab(self, *words: str, name: str | None = None, stdin: str = "") -> Result:
        """Run the real command against this host and wait for it."""
        process = self.start(*words, name=name)
        out, err = process.communicate(stdin, timeout=240)
        return Result(process.returncode, out, err)

    def start(self, *words: str, name: str | None = None) -> subprocess.Popen[str]:
        """Start the real command in a process group of its own and return at once."""
        flags = [word for word in words if word == "-e"]
        rest = [word for word in words if word != "-e"]
        return self.start_raw(*flags, "-H", name or self.name, *rest)

    def start_raw(self, *words: str, terminal: int = subprocess.PIPE) -> subprocess.Popen[str]:
        """Start `fab` with exactly these words; `terminal` is one end of a pty, in place of pipes."""
        hosts = self.folder / "hosts.toml"
        hosts.write_text(self.hosts_file or hosts_toml({self.name: self.host_settings()}))
        clean = {name: value for name, value in os.environ.items() if not FOREIGN.fullmatch(name)}
        own = {"HOME": str(self.folder), "DJANGO_DEPLOY_HOSTS": str(hosts), "DEPLOY_USER": "ana"}
        return subprocess.Popen(
            [*self.under, *([str(FAB)] if self.cold else warm.command("fab")), *words],
            cwd=PROJECT,
            env=clean | own | self.environment,
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
            text=True,
            start_new_session=True,
        )

    def host_settings(self) -> dict[str, Any]:
        """This host's table in hosts.toml."""
        where = {
            "address": self.host.address,
            "key": str(self.host.key_file),
            "known_hosts": str(self.host.known_hosts),
            "repo": Repository.url,
            "name": self.app,
            "domain": self.domain,
            "path": self.app_link,
            "project": VALUES["project"],
            "wsgi": VALUES["wsgi"],
            "backwards": True,  # tests take turns on a host, each with its own branch
        }
        return where | self.settings

    def deploy(self, *words: str, branch: str | None = None) -> Result:
        """`deploy --branch BRANCH --json`, with `words` behind it."""
        return self.fab("deploy", "--branch", branch or self.branch, "--json", *words)

    def provision(self, *words: str) -> Result:
        """`provision --json` with the host's Doppler token in the environment, as CI does it."""
        self.environment["DOPPLER_TOKEN"] = self.host.doppler_token
        try:
            return self.fab("provision", "--json", *words)
        finally:
            del self.environment["DOPPLER_TOKEN"]

    def want_https(self) -> None:
        """Say in hosts.toml that the host's own ACME server certifies the site; its visitors come by https then."""
        directory = start_acme(self.host, self.domain)
        self.settings["tls"] = {"letsencrypt": "ops@consult.lab", "acme_server": directory}
        self.scheme = "https"

    def fill_secrets_file(self, **own: str) -> None:
        """Say in hosts.toml that the secrets are in a file, and put Doppler's there, or `own`; not yet live."""
        self.settings["secrets"] = "file"
        self.provision().expect(0)
        for name, value in {**get_secrets(self.host), **own}.items():
            self.fab("secrets.set", name, "--later", stdin=value).expect(0)

    def commit(self, changes: Mapping[str, str | None], message: str = "Change") -> str:
        """Push a commit to this site's branch, which begins at main."""
        self.other_packages |= "uv.lock" in changes
        known = self.repository.folder / "refs/heads" / self.branch
        base = None if known.exists() else "main"
        return self.repository.commit(changes, message, self.branch, base)

    def edited(self, path: str, old: str, new: str, ref: str = "main") -> dict[str, str]:
        """The sample site's file `path` with `old` replaced by `new`, to be committed."""
        text = self.repository.read(path, ref)
        assert old in text, f"{old!r} is not in {path}"
        return {path: text.replace(old, new)}

    def titled(self, title: str) -> dict[str, str]:
        """The front page with another heading: the smallest change that a visitor sees."""
        return self.edited(PAGE, "{{ greeting }}", title)

    def locked(self, changes: Mapping[str, str]) -> dict[str, str]:
        """These changes with the uv.lock that `uv lock` makes of them, as a developer would commit them."""
        checkout = self.folder / "checkout"
        subprocess.run(
            ["git", "-c", "safe.directory=*", "clone", "--quiet", self.repository.folder, checkout], check=True
        )
        for path, text in changes.items():
            (checkout / path).write_text(text)
        subprocess.run(["uv", "lock", "--quiet"], cwd=checkout, check=True)
        return dict(changes) | {"uv.lock": (checkout / "uv.lock").read_text()}

    def run(self, script: str, *, check: bool = True) -> str:
        """What a script prints that root runs on the host (not through SSH)."""
        done = execute(self.host, "bash", "-c", script, timeout=120)
        assert not check or done.returncode == 0, f"{script}\nexit {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def get(self, path: str = "/", host: str | None = None) -> httpx.Response:
        """Ask the host's nginx, as a visitor does."""
        with self.visitor(host) as visitor:
            return visitor.get(path)

    def visitor(self, host: str | None = None) -> httpx.Client:
        """A browser that comes to the host by the site's name."""
        address = f"{self.scheme}://{self.host.address}"
        return httpx.Client(base_url=address, headers={"Host": host or self.domain}, timeout=20, verify=trusting())

    def post(self, path: str, body: bytes) -> httpx.Response:
        """Send a body of bytes."""
        headers = {"Host": self.domain, "Content-Type": "application/octet-stream"}
        return httpx.post(f"http://{self.host.address}{path}", headers=headers, content=body, timeout=20)

    def page(self) -> str:
        """The front page."""
        answer = self.get("/")
        assert answer.status_code == 200, answer.text
        return answer.text

    def my_address(self) -> str:
        """The address that the host sees when this machine asks it."""
        with socket.create_connection((self.host.address, 80), 10) as way:
            return way.getsockname()[0]

    def certificate(self) -> str:
        """The certificate, in PEM, that visitors get."""
        with (
            socket.create_connection((self.host.address, 443), 10) as opened,
            trusting().wrap_socket(opened, server_hostname=self.domain) as spoken,
        ):
            found = spoken.getpeercert(binary_form=True)
        assert found
        return ssl.DER_cert_to_PEM_cert(found)

    def heading(self) -> str:
        found = re.search(r"<h1>(.*?)</h1>", self.page())
        assert found
        return found[1]

    def stylesheet(self) -> str:
        """The address of the front page's CSS, with a hash in its name."""
        found = re.search(r'"(/static/[^"]*\.css)"', self.page())
        assert found
        return found[1]

    def add_note(self, text: str) -> None:
        """Write a row over HTTP."""
        answer = httpx.post(
            f"http://{self.host.address}/notes/", headers={"Host": self.domain}, data={"text": text}, timeout=20
        )
        assert answer.status_code == 201, answer.text

    def notes(self) -> list[str]:
        """The newest rows, read over HTTP."""
        return [note["text"] for note in self.get("/notes/").json()["notes"]]

    def live(self) -> str:
        """The id of the live release, by the link."""
        return self.run(f"readlink -e {self.app_link}").strip().rpartition("/")[2]

    def releases(self) -> list[str]:
        """The folders of releases/, by name."""
        return self.run(f"ls /srv/{self.app}/releases").split()

    def marks(self, release: str) -> list[str]:
        """What the tool noted about a release."""
        return self.run(f"cd /srv/{self.app}/releases/{release}/.deploy; ls built good bad 2>/dev/null; true").split()

    def master_pid(self) -> int:
        return int(self.run(f"cat /run/{self.app}-django/gunicorn.pid"))

    def worker_pids(self) -> set[int]:
        return {int(pid) for pid in self.run(f"pgrep -P {self.master_pid()}").split()}

    def history(self) -> list[dict[str, Any]]:
        """Every line of the host's history."""
        return [json.loads(line) for line in self.run(f"cat /srv/{self.app}/deploys.jsonl").splitlines()]

    def journal(self) -> str:
        return self.run(f"journalctl --unit {self.app}-django --no-pager --output cat")

    def assert_sound(self) -> None:
        """The site serves one whole release, and nothing of a run is left on the host."""
        live = self.live()
        answer = self.get("/")
        assert (answer.status_code, answer.headers["X-Release"]) == (200, live)
        folders = self.run(f"for pid in $(pgrep -P {self.master_pid()}); do readlink /proc/$pid/cwd; done").split()
        assert {folder.split("/")[4] for folder in folders} == {live}
        wait_for(lambda: self.leftovers() == "", seconds=30, what=lambda: f"left behind: {self.leftovers()}")

    def leftovers(self) -> str:
        """Processes of a proof, work folders, the lock: what must be gone when no run is under way."""
        return self.run(f"""
            grep -lz '^DEPLOY_PROOF=1$' /proc/[0-9]*/environ 2>/dev/null
            ls -d /tmp/deploy-* 2>/dev/null
            flock --nonblock /srv/{self.app}/deploy.lock true || echo the lock
            true""").strip()

    def ages(self) -> dict[str, str]:
        """Inode, change time, size and target of every file that a deploy might touch, once the last one has pruned."""
        wait_for(lambda: ".trash" not in self.run(f"ls -A /srv/{self.app}/releases"), seconds=120)
        # The lock says who holds it; git notes each fetch; the kernel and systemd keep their own below /run.
        ours = f"/srv/{self.app} /etc {self.app_link} /var/lib/{self.app}-django"
        ignored = rf"/srv/{self.app}/(deploy\.lock|repo\.git|repo\.git/FETCH_HEAD)"
        lines = self.run(
            f"find {ours} -regextype posix-extended -regex '{ignored}' -o -printf '%p\\t%i %C@ %s %l\\n'"
        ).splitlines()
        return dict(line.split("\t", 1) for line in lines)


def followed(process: subprocess.Popen[str]) -> tuple[int, str, Lines]:
    """Wait for a command; return its exit code, its stdout, and the lines of its stderr."""
    lines: Lines = []

    def note(stream: Iterable[str]) -> None:
        for line in stream:
            lines.append((time.monotonic(), line))

    reader = threading.Thread(target=note, args=(process.stderr,))
    reader.start()
    out = process.stdout.read() if process.stdout else ""
    reader.join()
    return process.wait(), out, lines


def hosts_toml(hosts: Mapping[str, Mapping[str, Any]]) -> str:
    """A hosts.toml with these hosts, all in the environment `test`."""
    return "\n".join(
        f"[environments.test.hosts.{name}]\n" + "".join(f"{key} = {toml(value)}\n" for key, value in settings.items())
        for name, settings in hosts.items()
    )


def toml(value: object) -> str:
    """A value as TOML writes it: JSON, but for tables."""
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def wait_for(
    condition: Callable[[], object], seconds: float = 120, what: Callable[[], str] = lambda: "it did not happen"
) -> None:
    """Wait until `condition` holds; fail with `what` after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what()
        time.sleep(0.05)


@dataclass
class Terminal:
    """A person at a terminal with a command in it."""

    process: subprocess.Popen[str]
    master: int
    seen: str = ""

    def expect(self, text: str) -> str:
        """Wait until the terminal shows `text`, behind all that was waited for before; return all up to it."""
        end = time.monotonic() + 120
        while text not in self.seen:
            assert time.monotonic() < end, f"no {text!r} in {self.seen!r}"
            assert self.read(), f"it ended without {text!r}: {self.seen!r}"
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def read(self) -> bool:
        """Take what there is; False when there will be no more."""
        ready, _, _ = select.select([self.master], [], [], 0.2)
        if ready:
            self.seen += os.read(self.master, 65536).decode(errors="replace")
        return bool(ready) or self.process.poll() is None

    def type(self, text: str) -> None:
        os.write(self.master, text.encode())

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def end(self) -> int:
        """The exit code, once the command has ended."""
        end = time.monotonic() + 120
        while self.read():
            assert time.monotonic() < end, f"it does not end: {self.seen!r}"
        return self.process.wait(timeout=60)


@contextmanager
def at_terminal(start: Callable[[int], subprocess.Popen[str]]) -> Generator[Terminal]:
    """A command at a terminal of 90 columns and 30 lines, of which `start` gets one end; ended afterwards."""
    master, slave = pty.openpty()
    try:
        before = termios.tcgetattr(slave)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 90, 0, 0))
        process = start(slave)
        end = os.dup(slave)
        os.close(slave)
        try:
            yield Terminal(process, master)
            assert termios.tcgetattr(end) == before, "the terminal is as it was"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            os.close(end)
    finally:
        os.close(master)


@contextmanager
def throw_away(name: str, image: str = "ready", base: str = "") -> Generator[LabHost]:
    """A host that is gone afterwards, as is one of that name that an earlier run left behind.

    On a `base` the sample site is live, and answers.
    """

    def quiet(_text: str) -> None:
        """Say nothing."""

    down(name, say=quiet)
    try:
        host = up(name, image="" if base else image, base=base, memory=True, say=quiet)
        if base:
            ask = ("curl", "-sf", "--max-time", "30", "-H", "Host: consult.lab", "http://127.0.0.1/healthz")
            wait_for(lambda: execute(host, *ask).returncode == 0, what=lambda: f"{name} does not serve its site")
        yield host
    finally:
        down(name, say=quiet)


@contextmanager
def watching_ps() -> Generator[set[str]]:
    """Every command line that this machine shows meanwhile; those of its lab hosts are among them."""
    seen: set[str] = set()
    over = threading.Event()

    def look() -> None:
        while not over.wait(0.02):
            for process in Path("/proc").glob("[0-9]*"):
                with suppress(OSError):
                    seen.add((process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()


@contextmanager
def running(site: Site, *words: str) -> Generator[subprocess.Popen[str]]:
    """The command under way; whatever the test does, it has ended afterwards."""
    process = site.start(*words)
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def interrupted(site: Site) -> Result:
    """A deploy of the site's branch, with Ctrl-C while the new release boots: exit 130, and nothing of it is left."""
    before = site.releases()
    with running(site, "deploy", "--branch", site.branch, "--json") as process:
        wait_for(lambda: "/environ" in site.leftovers())
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    result = Result(process.returncode, out, err).expect(130)
    assert (result.json["status"], result.json["site_state"]) == ("interrupted", "as before")
    wait_for(lambda: site.leftovers() == "")
    assert set(site.releases()) <= set(before)
    assert site.history()[-1]["outcome"] == "interrupted"
    return result
