"""The way to a host: one checked SSH connection. The only module that knows fabric and paramiko connections."""

import contextlib
import io
import logging
import os
import random
import secrets
import shlex
import socket
import threading
import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fabric
import paramiko
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED
from paramiko.ssh_exception import NoValidConnectionsError

from ..config.inventory import Host
from ..errors import ConnectError, NoForwarding, ProvisionError
from ..plan.lock import Lock
from ..steps.step import Step
from . import host_keys, library, terminal
from .runner import BashFailed, ConnectionLost, Progress, Runner, Silence, runner_command

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it would print, the errors here say

KEEPALIVE_INTERVAL = 5  # seconds between two questions whether the far side is there
KEEPALIVE_TIMEOUT = 45  # seconds after which a network that swallows everything counts as gone


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
        runner.finish()

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

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.fabric.close()

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
def connect(host: Host) -> Generator[Connection]:
    """Log in to `host` with its key checked. Raises ConnectError that says what stands in the way."""
    connection = _connection(host)
    opened = Connection(host, connection)
    try:
        _open(host, connection)
        yield opened
    finally:
        opened.close()


def _connection(host: Host) -> fabric.Connection:
    settings = host.settings
    limit = settings.timeouts.connect
    arguments: dict[str, Any] = {"banner_timeout": limit, "auth_timeout": limit}
    if settings.key_text:
        arguments["pkey"] = _private_key(host, settings.key_text)
    elif settings.key:
        arguments["key_filename"] = str(Path(settings.key).expanduser())
    connection = fabric.Connection(
        settings.address or host.name,
        user=settings.user,
        port=settings.port,
        connect_timeout=limit,
        connect_kwargs=arguments,
    )
    host_keys.check(connection, host)
    if isinstance(connection.gateway, fabric.Connection):
        host_keys.check_jump_host(connection.gateway, host)
    return connection


def _private_key(host: Host, text: str) -> paramiko.PKey:
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text.rstrip("\n") + "\n"))
        except paramiko.SSHException:
            continue
    raise ConnectError(
        f"{host.name}: key_text is no private key that can be read without a passphrase",
        hint="put the whole file into it, from its first line (BEGIN) to its last (END)",
    )


def _open(host: Host, connection: fabric.Connection) -> None:
    try:
        _log_in(connection, host.settings.timeouts.connect)
    except ConnectError:
        raise
    except paramiko.BadHostKeyException as error:
        raise host_keys.changed(connection, host, error) from error
    except paramiko.SSHException as error:
        # What no key could be found for is an SSHException of its own, told apart by its text alone.
        if not isinstance(error, paramiko.AuthenticationException) and "authentication" not in str(error):
            raise _unreachable(connection, host, error) from error
        reason = str(error).removeprefix("Authentication failed").strip(".: ") or "no key was accepted"
        hint = _ssh(connection, host)
        if connection.user == host.settings.user != host.settings.admin:
            # Until then there is no such user, and sshd does not say so.
            hint = f"if this server is new: fab -H {host.name} provision; else: {hint}"
        raise ConnectError(
            f"{host.name}: authentication failed for {_where(connection)}: {reason}", hint=hint
        ) from error
    except FileNotFoundError as error:
        raise ConnectError(
            f"{host.name}: the key file {error.filename} is missing", hint="correct key in hosts.toml"
        ) from error
    except (OSError, EOFError) as error:
        raise _unreachable(connection, host, error) from error
    transport = connection.transport
    assert transport is not None  # noqa: S101 - it was opened just now
    threading.Thread(target=_listen, args=(transport,), daemon=True).start()
    with contextlib.suppress(AttributeError, OSError):
        # Keepalives that nobody answers end the connection, instead of waiting for ever (decision 15).
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, KEEPALIVE_TIMEOUT * 1000)
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each small write waits for an ACK


def _unreachable(connection: fabric.Connection, host: Host, error: Exception) -> ConnectError:
    inner = next(iter(error.errors.values())) if isinstance(error, NoValidConnectionsError) else error
    reason = getattr(inner, "strerror", None) or str(inner) or type(inner).__name__
    return ConnectError(f"{host.name}: cannot reach {_where(connection)}: {reason}", hint=_ssh(connection, host))


def _where(connection: fabric.Connection) -> str:
    return f"{connection.user}@{connection.host}:{connection.port}"


def _ssh(connection: fabric.Connection, host: Host) -> str:
    """Return the command that shows what OpenSSH has to say."""
    port = f" -p {connection.port}" if connection.port != 22 else ""
    key = f" -i {host.settings.key}" if host.settings.key else ""
    return f"ssh{port}{key} {connection.user}@{connection.host}"


def _log_in(connection: fabric.Connection, seconds: int) -> None:
    """Open the connection; one that is dropped before the login is tried again for so many seconds.

    An sshd that is asked for many logins at once hangs up on some of them (MaxStartups of sshd_config).
    """
    end = time.monotonic() + seconds
    while True:
        try:
            connection.open()
            return
        except (paramiko.SSHException, ConnectionResetError, EOFError) as error:
            dropped = isinstance(error, OSError | EOFError) or "banner" in str(error)
            if not dropped or time.monotonic() > end:
                raise
        time.sleep(random.uniform(0.2, 1))  # noqa: S311 - so that those who wait do not come back together


def _listen(transport: paramiko.Transport) -> None:
    """Close a connection whose far side answers no keepalive: nothing waits for ever (decision 15).

    TCP alone does not tell: a stalled relay or a stopped sshd still acknowledges every packet.
    """
    while transport.is_active():
        end = threading.Timer(KEEPALIVE_TIMEOUT, transport.close)
        end.daemon = True
        end.start()
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            transport.global_request("keepalive@openssh.com", wait=True)
        end.cancel()
        time.sleep(KEEPALIVE_INTERVAL)
