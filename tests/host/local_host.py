"""A host made of this machine's bash: runners over pipes instead of SSH, every path below one temporary folder."""

import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, cast

from fabfile.config.inventory import Host
from fabfile.config.layout import Layout, Release
from fabfile.config.settings import Settings
from fabfile.plan import rendering
from fabfile.plan.lock import Lock
from fabfile.ssh import library
from fabfile.ssh.connection import Connection
from fabfile.steps import server
from fabfile.steps.step import Results, Step
from testbed import bash
from testbed.bash import shell

DJANGO = """
class BaseCommand:
    def execute(self):
        open("taken", "w").close()
"""
# What a shell, a marker or a terminal could take for something else. None of them may do anything.
HOSTILE = """a'b"c`touch bait`$(touch bait);touch bait|touch bait&\\\\ * ? [x] {a,b} ~ ! #$HOME $$ %s \\n ünï→ -x"""


@contextlib.contextmanager
def closed_is_lost() -> Generator[None]:
    """Python's ValueError for a closed pipe, as paramiko says it."""
    try:
        yield
    except ValueError as error:
        raise OSError(str(error)) from error


@dataclass
class Wire:
    """Both ends of a local process, in the words of an SSH channel."""

    process: subprocess.Popen[bytes]

    def sendall(self, data: bytes) -> None:
        assert self.process.stdin
        with closed_is_lost():
            self.process.stdin.write(data)
            self.process.stdin.flush()

    def recv(self, size: int) -> bytes:
        assert self.process.stdout
        with closed_is_lost():
            return os.read(self.process.stdout.fileno(), size)

    def recv_exit_status(self) -> int:
        return self.process.wait()

    def close(self) -> None:
        """Close both pipes, as a lost connection does."""
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with contextlib.suppress(OSError):
                    pipe.close()


@dataclass
class LocalConnection(Connection):
    """A Connection whose commands run in bash on this machine, as sshd would start them."""

    environment: dict[str, str] = field(default_factory=dict)
    overrides: list[str] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)

    def _execute(self, command: str) -> Any:
        wire = Wire(
            subprocess.Popen(
                ["bash", "-c", command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.environment["HOME"],
                start_new_session=True,
            )
        )
        self.wires.append(wire)
        threading.Thread(target=wire.process.wait, daemon=True).start()  # a zombie counts as alive to `tail --pid`
        return wire

    def _library(self) -> bytes:
        """The library with functions of the tests, loaded after the product's own: those of the same name win."""
        files = [bash.FUNCTION, Path(__file__).with_name("functions.sh")]
        functions = "\n".join([*(file.read_text() for file in files), *self.overrides])
        return library.archive(self.host.layout, {"lib/zz_tests.sh": functions.encode()})

    @property
    def wire(self) -> Wire:
        return self.wires[-1]

    def kill(self) -> None:
        """End whatever still runs in the sessions that this connection began."""
        sessions = {wire.process.pid for wire in self.wires}
        for pid in processes():
            with contextlib.suppress(OSError):
                if os.getsid(pid) in sessions:
                    os.kill(pid, signal.SIGKILL)
        for wire in self.wires:
            wire.process.kill()
            wire.process.wait()
            wire.close()


@dataclass(frozen=True)
class TemporaryLayout(Layout):
    """The layout of a host whose / is a temporary folder; the socket lies in a short path of its own."""

    root: PurePosixPath
    run: PurePosixPath

    def _below(self, path: PurePosixPath) -> PurePosixPath:
        return self.root / path.relative_to("/")

    @property
    def base(self) -> PurePosixPath:
        return self._below(super().base)

    @property
    def doppler(self) -> PurePosixPath:
        return self.root / "bin/doppler"

    @property
    def etc(self) -> PurePosixPath:
        return self._below(super().etc)

    @property
    def doppler_home(self) -> PurePosixPath:
        return self._below(super().doppler_home)

    @property
    def installer(self) -> PurePosixPath:
        return self._below(super().installer)

    @property
    def sudoers(self) -> PurePosixPath:
        return self._below(super().sudoers)

    @property
    def logins(self) -> PurePosixPath:
        return self._below(super().logins)

    @property
    def service_file(self) -> PurePosixPath:
        return self._below(super().service_file)

    @property
    def socket_file(self) -> PurePosixPath:
        return self._below(super().socket_file)

    @property
    def site_file(self) -> PurePosixPath:
        return self._below(super().site_file)

    @property
    def site_link(self) -> PurePosixPath:
        return self._below(super().site_link)

    @property
    def tls_file(self) -> PurePosixPath:
        return self._below(super().tls_file)

    @property
    def acme_root(self) -> PurePosixPath:
        return self._below(super().acme_root)

    @property
    def socket(self) -> PurePosixPath:
        return self.run / super().socket.relative_to("/run")

    @property
    def state(self) -> PurePosixPath:
        return self.run / super().state.relative_to("/run")


@dataclass(frozen=True)
class LocalHost(Host):
    """A host whose paths are those of a temporary folder."""

    place: Layout

    @property
    def layout(self) -> Layout:
        return self.place


@dataclass
class World:
    """One host: its root folder, its programs (stubs in `bin` come first) and everything a test asks of it."""

    root: Path
    run_folder: Path
    settings: Settings
    connections: list[LocalConnection] = field(default_factory=list)
    overrides: list[str] = field(default_factory=list)

    @property
    def layout(self) -> TemporaryLayout:
        plain = Layout.of(self.settings)
        return TemporaryLayout(
            plain.name,
            PurePosixPath(self.root / "app"),
            plain.project,
            plain.static_root,
            PurePosixPath(self.root),
            PurePosixPath(self.run_folder),
            secrets_in=self.settings.secrets,
        )

    @property
    def host(self) -> Host:
        return LocalHost("there", "there", self.settings, self.layout)

    @property
    def base(self) -> Path:
        return Path(self.layout.base)

    @property
    def tmp(self) -> Path:
        return self.root / "tmp"

    @property
    def bin(self) -> Path:
        return self.root / "bin"

    @property
    def environment(self) -> dict[str, str]:
        """A login's environment; nothing of git's or this test run's gets in."""
        return {
            "HOME": str(self.root / "home"),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "TMPDIR": str(self.tmp),
            "LC_ALL": "C.UTF-8",
            "GIT_ALLOW_PROTOCOL": "file:https:ssh",
            **{k: v for k, v in os.environ.items() if k.startswith(("UV_", "SSL_", "REQUESTS_", "PIP_"))},
        }

    def connect(self) -> LocalConnection:
        nothing = cast("Any", None)
        connection = LocalConnection(self.host, nothing, environment=self.environment, overrides=self.overrides)
        self.connections.append(connection)
        return connection

    def override(self, functions: str) -> None:
        """Put functions of bash in place of the library's, or of a program, for the steps of runners to come."""
        self.overrides.append(functions)

    def lock(self, wait: int = 0, holder: str = '{"what": "deploy main", "who": "ana", "since": "now"}') -> Lock:
        return Lock(self.layout.lock, holder, wait)

    def run(self, *steps: Step, files: dict[str, bytes] | None = None) -> Results:
        """Run steps as a task would; raises StepError."""
        with self.connect().runner() as runner:
            for name, content in (files or {}).items():
                runner.put(name, content)
            return runner.run(steps)

    def output(self, step: Step, files: dict[str, bytes] | None = None) -> str:
        """Run one step, and return what it said."""
        return self.run(step, files=files)[step.id].output

    def twice(self, step: Step, files: dict[str, bytes] | None = None) -> tuple[str, str]:
        """Run a step twice, and return both outputs."""
        return self.output(step, files), self.output(step, files)

    def stub(self, name: str, script: str = "exit 0") -> Path:
        """Put a program first in PATH that notes its arguments in `calls` and does what `script` says."""
        self.bin.mkdir(exist_ok=True)
        path = self.bin / name
        path.write_text(
            f"#!/bin/bash\nprintf '%s\\n' \"{name} $*\" >>{shlex.quote(str(self.root / 'calls'))}\n{script}\n"
        )
        path.chmod(0o755)
        return path

    @property
    def calls(self) -> list[str]:
        """The stubs' calls since the last look."""
        path = self.root / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return lines

    def release(self, release_id: str, *marks: str, notes: object = None) -> Release:
        """Make a release folder as earlier deploys left it."""
        release = self.layout.release(release_id)
        folder = Path(release.notes)
        folder.mkdir(parents=True)
        Path(release.project).mkdir(parents=True, exist_ok=True)
        for mark in marks:
            (folder / mark).touch()
        if notes is not None:
            text = notes if isinstance(notes, str) else json.dumps(notes) + "\n"
            (folder / "release.json").write_text(text)
        return release

    def release_of_django(self, release_id: str, manage: str) -> Release:
        """Make a release with a Python, a Django of few lines that notes that it was executed, and a manage.py."""
        release = self.release(release_id)
        Path(self.layout.secrets).write_text("DOPPLER_TOKEN=token\n")
        subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(release.venv)], check=True)
        package = next(Path(release.venv).glob("lib/python*/site-packages")) / "django/core/management"
        package.mkdir(parents=True)
        (package / "base.py").write_text(DJANGO)
        Path(release.project, "manage.py").write_text(manage)
        return release

    def stage(self, texts: Mapping[PurePosixPath, str], *, overwrite: bool = False) -> str:
        """Stage files as root does; return what it said."""
        Path(self.layout.installer).parent.mkdir(parents=True, exist_ok=True)
        sent = {"install_files.sh": rendering.installer().encode()}
        sent |= {path.name: text.encode() for path, text in texts.items()}
        return self.output(server.stage(self.settings, texts, overwrite=overwrite), sent)

    def link(self, release: Release) -> None:
        """Make a release the live one, without a service."""
        self.run(shell("move the link", f"make_live {release.id}"))

    def bait(self) -> list[Path]:
        """Files that only a value taken for a command could have made."""
        found = [Path(folder, name) for folder, folders, names in os.walk(self.root) for name in folders + names]
        return [path for path in found if path.name.startswith("bait")]


def processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def eventually(true: Callable[[], object], seconds: float = 20) -> bool:
    """Whether something becomes true in time; by itself, what a test asks for would take longer, or never come."""
    end = time.monotonic() + seconds
    while not true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True
