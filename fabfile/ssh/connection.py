"""The way to a host: one checked SSH connection. The only module that knows fabric and paramiko connections."""

import contextlib
import logging
import os
import secrets
import shlex
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass

import fabric
import paramiko
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

from ..config.inventory import Host
from ..errors import ConnectError, NoForwarding, ProvisionError
from ..plan.lock import Lock
from ..steps.step import Step
from . import library, route, terminal
from .host_keys import REFUSE, FirstContact
from .login import log_in
from .runner import BashFailed, ConnectionLost, Progress, Runner, Silence, runner_command

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it would print, the errors here say


@dataclass
class Connection:
    """An open SSH connection to one host."""

    host: Host
    fabric: fabric.Connection

    @contextlib.contextmanager
    def runner(
        self,
        progress: Progress | None = None,
        *,
        lock: Lock | None = None,
        on_wait: Callable[[str], None] = lambda _: None,
        as_root: bool = False,
    ) -> Generator[Runner]:
        """Start a runner on the host; with `lock`, it holds the lock until the block ends.

        `as_root` is for the admin's login: by sudo, where that is not root itself.
        """
        mark = "@" + secrets.token_hex(8)
        sudo = as_root and self.host.settings.user != "root"
        channel = self._execute(runner_command(mark, lock, sudo=sudo))
        runner = Runner(channel, mark, self.host.name, progress or Silence(), self._end_step)
        runner.send_library(self._library())
        try:
            self._start(runner, lock, on_wait)
            yield runner
        except BaseException:
            runner.close()
            raise
        if lock:
            runner.finish()
        else:  # there is nothing that the next command would find held
            runner.close()

    def _library(self) -> bytes:
        return library.archive(self.host.layout)

    def _start(self, runner: Runner, lock: Lock | None, on_wait: Callable[[str], None]) -> None:
        """Start a runner. Raises ProvisionError when it ends at once on a connection that is alive."""
        try:
            runner.start(lock, on_wait)
        except (ConnectionLost, BashFailed) as error:
            transport = getattr(self.fabric, "transport", None)
            if transport is None or not transport.is_active():
                raise
            user, address = self.host.settings.user, self.host.settings.address or self.host.name
            raise ProvisionError(
                f"{self.host.name}: {user} may log in, but its login shell runs no bash",
                hint=f"on the host: usermod --shell /bin/bash {user}; see: ssh {user}@{address} bash --version",
                evidence=error.evidence,
            ) from error

    def open_stream(self, address: str, port: int) -> paramiko.Channel:
        """Open a TCP connection from the host to `address`. Raises ConnectError."""
        try:
            return self._transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=10)
        except (paramiko.SSHException, OSError, EOFError) as error:
            if getattr(error, "code", 0) == OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
                raise NoForwarding(
                    f"{self.host.name}: port forwarding is administratively prohibited: "
                    "its sshd forwards nothing (AllowTcpForwarding)",
                    hint="on the host: AllowTcpForwarding yes in /etc/ssh/sshd_config, then systemctl reload ssh",
                ) from error
            raise ConnectError(f"{self.host.name}: no way to {address}:{port} through SSH: {error}") from error

    def stream(self, words: Sequence[str], write: Callable[[str], None]) -> int:
        """Run a command, given as words, and pass its output on as it comes; return its exit code."""
        channel = self._execute(shlex.join(words))
        channel.set_combine_stderr(True)
        while data := channel.recv(65536):
            write(data.decode(errors="replace"))
        return channel.recv_exit_status()

    def attach(self, step: Step, work: str, ends: terminal.Ends) -> int:
        """Run a step's function beside the runner whose folder is `work`, joined to `ends`; return its exit code.

        In its channel there is nothing but what the function reads and writes. Raises ConnectError.
        """
        places = {"DEPLOY_WORK": work, "DEPLOY_FILES": f"{work}/files", "DEPLOY_LIBRARY": f"{work}/library"}
        words = ["env", *(f"{name}={place}" for name, place in places.items())]
        words += ["bash", "--norc", "-euo", "pipefail", f"{work}/library/main.sh", *step.words]
        return self._join(ends, "exec " + shlex.join(words))

    def log_in(self, ends: terminal.Ends) -> int:
        """Join `ends` to a login shell until it is left; return its exit code. Raises ConnectError."""
        return self._join(ends)

    def _join(self, ends: terminal.Ends, command: str = "") -> int:
        transport = self._transport
        try:
            channel = transport.open_session(timeout=30)
            if ends.terminal:
                width, height = terminal.size()
                channel.get_pty(term=os.environ.get("TERM", "vt100"), width=width, height=height)
            if command:
                channel.exec_command(command)
            else:
                channel.invoke_shell()
        except (paramiko.SSHException, OSError, EOFError) as error:
            if not transport.is_active():
                raise ConnectionLost(self.host.name, None) from error
            raise ConnectError(
                f"{self.host.name}: its sshd opens no session for a command: {error}",
                hint="see MaxSessions and PermitTTY in the host's /etc/ssh/sshd_config",
            ) from error
        with contextlib.closing(channel):
            code = terminal.join(channel, ends)
        if code == -1 and not transport.is_active():
            raise ConnectionLost(self.host.name, None)
        return code

    def _end_step(self, runner_pid: int) -> None:
        self._execute(f"kill -TERM {runner_pid}").recv_exit_status()

    @property
    def _transport(self) -> paramiko.Transport:
        transport = self.fabric.transport
        if transport is None or not transport.is_active():
            raise ConnectionLost(self.host.name, None)
        return transport

    def _execute(self, command: str) -> paramiko.Channel:
        try:
            channel = self._transport.open_session(timeout=30)
            channel.set_combine_stderr(True)
            channel.exec_command(command)
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise ConnectionLost(self.host.name, None) from error
        return channel


@contextlib.contextmanager
def connect(host: Host, first_contact: FirstContact = REFUSE) -> Generator[Connection]:
    """Log in to `host`, through its jump hosts, with every key checked. Raises ConnectError that says what stands in
    the way; what `first_contact` accepts of unknown host keys is remembered."""
    with log_in(route.hops(host), host.settings.timeouts.connect, first_contact) as connection:
        yield Connection(host, connection)
