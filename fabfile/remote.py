"""The way to a host: one checked SSH connection, and on it a conductor that runs steps.

The only module that knows fabric and paramiko connections. What the steps say is not its business.
"""

import base64
import contextlib
import io
import logging
import secrets
import shlex
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import paramiko
from fabric import Connection as FabricConnection
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

from fabfile import advice
from fabfile.errors import ConnectError, NoForwarding, ProvisionError, StepFailed
from fabfile.inventory import Host
from fabfile.lock import Lock, describe_holder, locked
from fabfile.step import Step, StepEnd

logging.getLogger("paramiko").addHandler(logging.NullHandler())  # what it would print, the errors here say

PATIENCE = 30  # seconds that a conductor keeps the lock without a sign of life, between batches
HEARTBEAT = 5  # seconds between signs of life
SILENCE = 45  # seconds after which a network that swallows everything counts as gone


class StepError(StepFailed):
    """A step ended with a code that is not 0; `end` has its output, `rescue` what was done about it.

    `before` are the steps of the batch that had gone well.
    """

    def __init__(self, host: str, ends: Sequence[StepEnd]) -> None:
        number = next(number for number, end in enumerate(ends) if not end.ok)
        end = ends[number]
        late = end.code in (124, 137)
        how = f"took longer than {end.step.timeout} s and was ended" if late else f"exit {end.code}"
        why = advice.reason(end.output)
        hint = "see why, or raise its limit (timeouts in hosts.toml)" if late else advice.next_command(host, end.output)
        super().__init__(
            f"{end.step.title}: failed ({how}){f': {why}' if why and not late else ''}", hint=hint, evidence=end.output
        )
        self.end = end
        self.before = tuple(ends[:number])
        self.rescue = tuple(ends[number + 1 :])


class ConnectionLost(ConnectError):
    """The connection went away while `step` ran; the host ends a batch it has begun."""

    def __init__(self, host: str, step: Step | None) -> None:
        during = f" during: {step.title}" if step else ""
        super().__init__(
            f"{host}: the connection was lost{during}; what the host had begun, it brings to its end",
            hint=f"fab -H {host} status",
        )
        self.step = step


class BashFailed(StepFailed):
    """What was to run the steps ended before the first one."""


class Progress(Protocol):
    """Who is told of steps while they run."""

    def begin(self, step: Step) -> None: ...
    def end(self, end: StepEnd) -> None: ...
    def say(self, text: str) -> None: ...


class Silence:
    """Progress for nobody."""

    def begin(self, step: Step) -> None: ...
    def end(self, end: StepEnd) -> None: ...
    def say(self, text: str) -> None: ...


class Channel(Protocol):
    """Both ends of a process on the host: bytes in, bytes out."""

    def sendall(self, data: bytes, /) -> Any: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> Any: ...


# The conductor writes only to its log, never to the channel: with the client gone, a write would end it in the midst of
# a migration (facts 17). `tail` carries the log to the client. The lock is an flock of file descriptor 9; the
# steps inherit it, so it lasts as long as the work. Batches arrive whole before they begin. TERM ends the running step.
CONDUCTOR = r"""
set -u
umask 022
mark=$1 lock=$2 holder=$3 wait=$4 patience=$5
work=$(mktemp -d "${TMPDIR:-/tmp}/deploy-$$-XXXX") || exit 1
files=$work/files; mkdir "$files"
log=$work/log
child='' failed='' cancelled='' held='' mute=''
export LC_ALL=C.UTF-8
leave() {
  for pid in "$work"/*.pid; do [ -s "$pid" ] && kill -KILL -- "-$(cat "$pid")" 2>/dev/null; done
  [ -z "$held" ] || : >"$lock"
  rm -rf "$work"
}
trap leave EXIT
export DEPLOY_WORK=$work DEPLOY_FILES=$files DEPLOY_CONDUCTOR=$$
: >"$log" || exit 1
exec 8<"$log" # a conductor that is refused may be gone, with its log, before tail can open it
tail -c +1 -s 0.01 --pid=$$ -f /dev/fd/8 2>/dev/null &
exec 8<&-
exec >>"$log" 2>&1
trap 'cancelled=1; [ -n "$child" ] && kill -TERM "$child"' TERM
tell() { printf '\n%s %s\n' "$mark" "$*" || mute=1; }
end_group() {
  kill -TERM -- "-$1" 2>/dev/null || return 0
  for _ in {1..50}; do sleep 0.1; kill -0 -- "-$1" 2>/dev/null || return 0; done
  kill -KILL -- "-$1" 2>/dev/null
}
if [ -n "$lock" ]; then
  exec 9>>"$lock" || { tell refused; exit 1; }
  if ! flock -w 0.5 9; then # `holder` takes it for a moment, to see whether somebody has it
    tell held "$(base64 -w0 <"$lock")"
    [ "$wait" -gt 0 ] && flock -w "$wait" 9 || { tell locked "$(base64 -w0 <"$lock")"; exit 7; }
  fi
  held=1
  printf '%s' "$holder" >"$lock"
  for left in "${TMPDIR:-/tmp}"/deploy-*-*; do # of a killed conductor; its last step held the lock, and is gone too
    pid=${left##*/deploy-}
    [ ! -O "$left" ] || kill -0 "${pid%%-*}" 2>/dev/null || rm -rf "$left"
  done
fi
step() {
  [ -z "$failed" ] || return 0
  tell begin "$1"
  if [ -n "$cancelled" ]; then code=130; else
    timeout --kill-after=5 "$2" bash --norc -euo pipefail -c "$3" </dev/null &
    child=$!
    [ -z "$cancelled" ] || kill -TERM "$child" 2>/dev/null
    wait "$child"; code=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
    # timeout looks no further than its own child: another one may take its time, or ignore TERM and keep the lock.
    [ "$code" = 0 ] || end_group "$child"
    child=''
    [ -z "$cancelled" ] || code=130
  fi
  tell end "$1" "$code"
  [ "$code" = 0 ] || failed=$1
}
rescue() { [ -n "$failed" ] || return 1; failed='' cancelled=''; }
tell ready $$
while IFS=' ' read -r -t "$patience" word size name; do
  case $word in
    file)
      (umask 077; timeout "$patience" head -c "$size" >"$files/$name")
      [ "$(stat -c %s "$files/$name")" = "$size" ] || exit 1 ;;
    batch)
      timeout "$patience" head -c "$size" >"$work/batch"
      [ "$(stat -c %s "$work/batch")" = "$size" ] || exit 1
      failed=''
      . "$work/batch"
      tell "done"
      [ -z "$mute" ] || exit 1 ;; # a full disk swallowed what the client waits for
    bye) exit 0 ;;
  esac
done
"""


class Conductor:
    """Runs batches of steps on one host, one after the other, over one channel; `busy` while one is under way.

    Raises StepError at the first step that fails, Locked when somebody holds the lock, ConnectionLost.
    """

    def __init__(self, channel: Channel, mark: str, host: str, progress: Progress, cancel: Callable[[int], None]):
        self._channel = channel
        self._mark = mark.encode()
        self._host = host
        self._progress = progress
        self._cancel = cancel
        self._lines: deque[bytes] = deque()
        self._rest = b""
        self._sending = threading.Lock()
        self._closed = threading.Event()
        self.pid = 0
        self.interrupted = False
        self.busy = False

    def start(self, lock: Lock | None, on_wait: Callable[[str], None]) -> None:
        """Wait until the conductor is ready; tell `on_wait` who holds the lock meanwhile."""
        said = b""
        while (line := self._line()) is not None:
            match self._event(line):
                case ["ready", pid]:
                    self.pid = int(pid)
                    threading.Thread(target=self._beat, daemon=True).start()
                    return
                case ["held", *holder]:
                    if lock and lock.wait:
                        on_wait(describe_holder(_decode(holder)))
                case ["locked", *holder]:
                    raise locked(self._host, _decode(holder))
                case ["refused"]:
                    break
                case None:
                    said += line + b"\n"
        text = said.decode(errors="replace").strip()
        if lock and ("No such file or directory" in text or "Permission denied" in text):
            raise ProvisionError(
                f"{self._host} has no {lock.path.parent} that this user may write: it was not provisioned",
                hint=f"fab -H {self._host} provision",
                evidence=text,
            )
        if text:
            raise BashFailed(f"{self._host}: bash could not start the work", evidence=text)
        raise ConnectionLost(self._host, None)

    def put(self, name: str, content: bytes) -> None:
        """Send a file; steps find it as "$DEPLOY_FILES/name", mode 0600, gone when the conductor is."""
        self._send(f"file {len(content)} {name}\n".encode() + content)

    def run(self, steps: Sequence[Step], rescue: Sequence[Step] = (), *, finish: bool = False) -> list[StepEnd]:
        """Run `steps` in order; if one fails, the host itself runs `rescue` (each of them must be safe to run).

        At Ctrl-C the running step is ended with its children, and KeyboardInterrupt raised after the rescue. With
        `finish` the batch goes on, and `interrupted` is set. A second Ctrl-C no longer waits for the host.
        """
        every = [*steps, *rescue]
        program = [_call(number, step) for number, step in enumerate(every)]
        if rescue:
            program.insert(len(steps), "if rescue; then")
            program.append("fi")
        text = ("\n".join(program) + "\n").encode()
        self.busy = True
        self._send(f"batch {len(text)}\n".encode() + text)
        ends = self._follow(every, finish)
        self.busy = False
        failed = next((end for end in ends if not end.ok), None)
        if failed:
            if failed.code == 130:
                raise KeyboardInterrupt
            raise StepError(self._host, ends)
        return ends

    def close(self) -> None:
        """Let the conductor go; what it runs it runs to its end."""
        self._closed.set()
        with contextlib.suppress(OSError, ConnectionLost):
            self._send(b"bye\n")
        with contextlib.suppress(OSError):
            self._channel.close()

    def finish(self) -> None:
        """Let the conductor go and wait until it is gone, and the lock with it."""
        self._closed.set()
        self._send(b"bye\n")
        while self._line() is not None:
            pass
        self._channel.close()

    def _follow(self, steps: Sequence[Step], finish: bool) -> list[StepEnd]:
        ends: list[StepEnd] = []
        step: Step | None = None
        output: list[bytes] = []
        began = 0.0
        while True:
            try:
                line = self._line()
            except KeyboardInterrupt:
                if self.interrupted:
                    raise
                self._interrupt(finish=finish)
                continue
            if line is None:
                raise ConnectionLost(self._host, step)
            match self._event(line):
                case ["begin", number]:
                    step, output, began = steps[int(number)], [], time.monotonic()
                    self._progress.begin(step)
                case ["end", number, code]:
                    text = b"\n".join(output).decode(errors="replace").strip("\n")
                    end = StepEnd(steps[int(number)], int(code), text, time.monotonic() - began)
                    ends.append(end)
                    self._progress.end(end)
                    step = None
                case ["done"]:
                    return ends
                case _:
                    output.append(line)

    def _event(self, line: bytes) -> list[str] | None:
        if not line.startswith(self._mark + b" "):
            return None
        return line[len(self._mark) + 1 :].decode(errors="replace").split(" ")

    def _interrupt(self, *, finish: bool) -> None:
        self.interrupted = True
        if finish:
            self._progress.say("  Ctrl-C: the switch has begun and goes to its end; once more leaves it to the host")
        else:
            self._progress.say("  Ctrl-C: stopping here; once more does not wait for it")
            self._cancel(self.pid)

    def _line(self) -> bytes | None:
        """The next line from the host; None when there will be no more."""
        while not self._lines:
            try:
                data = self._channel.recv(65536)
            except (OSError, EOFError):
                data = b""
            if not data:
                last, self._rest = self._rest, b""
                return last or None
            *lines, self._rest = (self._rest + data).split(b"\n")
            self._lines.extend(lines)
        return self._lines.popleft()

    def _send(self, data: bytes) -> None:
        try:
            with self._sending:
                self._channel.sendall(data)
        except (OSError, EOFError) as error:
            raise ConnectionLost(self._host, None) from error

    def _beat(self) -> None:
        with contextlib.suppress(ConnectionLost):
            while not self._closed.wait(HEARTBEAT):
                self._send(b"\n")


def conductor_command(mark: str, lock: Lock | None, *, as_root: bool = False) -> str:
    """The command line that starts a conductor; holds no secret, for `ps` shows it."""
    words = [
        *(["sudo", "-n"] if as_root else []),
        "bash", "--norc", "-c", CONDUCTOR, "conductor", mark,
        str(lock.path) if lock else "", lock.holder if lock else "", str(lock.wait if lock else 0),
        str(PATIENCE),
    ]  # fmt: skip
    return "exec " + shlex.join(words)


@dataclass
class Remote:
    """An open SSH connection to one host."""

    host: Host
    fabric: FabricConnection
    conductors: list[Conductor] = field(default_factory=list)

    @contextlib.contextmanager
    def conduct(
        self,
        progress: Progress | None = None,
        *,
        lock: Lock | None = None,
        on_wait: Callable[[str], None] = lambda _: None,
        as_root: bool = False,
    ) -> Generator[Conductor]:
        """Start a conductor on the host; with `lock`, it holds the lock until the block ends."""
        mark = "@" + secrets.token_hex(8)
        channel = self._execute(conductor_command(mark, lock, as_root=as_root))
        conductor = Conductor(channel, mark, self.host.name, progress or Silence(), self._end_step)
        try:
            self._start(conductor, lock, on_wait)
            yield conductor
        except BaseException:
            conductor.close()
            raise
        conductor.finish()

    def _start(self, conductor: Conductor, lock: Lock | None, on_wait: Callable[[str], None]) -> None:
        """Start a conductor. Raises ProvisionError when it ends at once on a connection that is alive."""
        try:
            conductor.start(lock, on_wait)
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
                raise NoForwarding(f"{self.host.name}: its sshd forwards nothing (AllowTcpForwarding)") from error
            raise ConnectError(f"{self.host.name}: no way to {address}:{port} through SSH: {error}") from error

    def stream(self, command: str, write: Callable[[str], None]) -> int:
        """Run a command and pass its output on as it comes; return its exit code."""
        channel = self._execute(command)
        channel.set_combine_stderr(True)
        while data := channel.recv(65536):
            write(data.decode(errors="replace"))
        return channel.recv_exit_status()

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self.fabric.close()

    def _end_step(self, conductor_pid: int) -> None:
        self._execute(f"kill -TERM {conductor_pid}")

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
def connect(host: Host) -> Generator[Remote]:
    """Log in to `host` with its key checked. Raises ConnectError that says what stands in the way."""
    connection = _connection(host)
    remote = Remote(host, connection)
    try:
        _open(host, connection)
        yield remote
    finally:
        remote.close()


def _connection(host: Host) -> FabricConnection:
    settings = host.settings
    limit = settings.timeouts.connect
    arguments: dict[str, Any] = {"banner_timeout": limit, "auth_timeout": limit}
    if settings.key_text:
        arguments["pkey"] = _private_key(host, settings.key_text)
    elif settings.key:
        arguments["key_filename"] = str(Path(settings.key).expanduser())
    connection = FabricConnection(
        settings.address or host.name,
        user=settings.user,
        port=settings.port,
        connect_timeout=limit,
        connect_kwargs=arguments,
    )
    _check_host_keys(connection, host)
    if isinstance(connection.gateway, FabricConnection):
        _check_host_keys(connection.gateway, None)
    return connection


def _check_host_keys(connection: FabricConnection, host: Host | None) -> None:
    """Fabric itself accepts every key (facts 15): load what is known, and refuse the rest."""
    client, address = connection.client, str(connection.host)
    assert client is not None  # noqa: S101 - fabric makes it with the connection
    client.set_missing_host_key_policy(_Refuse(address if host is None else host.name))
    client.load_system_host_keys()
    if host is None:
        return
    if host.settings.known_hosts:
        client.load_host_keys(str(Path(host.settings.known_hosts).expanduser()))
    if host.settings.host_key:
        kind, data = host.settings.host_key.split()[:2]
        entry = address if connection.port == 22 else f"[{address}]:{connection.port}"
        client._system_host_keys.clear()  # a pinned key is the only one that counts
        key = paramiko.PKey.from_type_string(kind, base64.b64decode(data))
        client.get_host_keys().add(entry, kind, key)


class _Refuse(paramiko.MissingHostKeyPolicy):
    def __init__(self, name: str) -> None:
        self.name = name

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        address = hostname.strip("[]").replace("]:", " -p ")
        raise ConnectError(
            f"{self.name}: the key of {hostname} is unknown: {key.get_name()} {key.fingerprint}\n"
            f'  if it is the right one: host_key = "{key.get_name()} {key.get_base64()}" in hosts.toml, or',
            hint=f"ssh-keyscan {address} >> ~/.ssh/known_hosts",
        )


def _private_key(host: Host, text: str) -> paramiko.PKey:
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        try:
            return kind.from_private_key(io.StringIO(text.rstrip("\n") + "\n"))
        except paramiko.SSHException:
            continue
    raise ConnectError(f"{host.name}: key_text is no private key that can be read without a passphrase")


def _open(host: Host, connection: FabricConnection) -> None:
    name, where = host.name, f"{connection.user}@{connection.host}:{connection.port}"
    try:
        connection.open()
    except ConnectError:
        raise
    except paramiko.BadHostKeyException as error:
        raise ConnectError(
            f"{name}: the key of {connection.host} is not the one that is known; "
            f"it shows {error.key.get_name()} {error.key.fingerprint}, known is {error.expected_key.fingerprint}. "
            "Somebody may listen in, or the server was made anew",
            hint=f"ssh-keygen -R {connection.host}   (only when you know why)",
        ) from error
    except paramiko.AuthenticationException as error:
        raise ConnectError(
            f"{name}: {where} lets nobody in with the keys at hand ({error})",
            hint=f"ssh {connection.user}@{connection.host}",
        ) from error
    except FileNotFoundError as error:
        raise ConnectError(f"{name}: the key file {error.filename} is missing") from error
    except (TimeoutError, socket.gaierror, paramiko.SSHException, OSError, EOFError) as error:
        reason = str(error) or type(error).__name__
        raise ConnectError(
            f"{name}: cannot reach {where}: {reason}", hint=f"ssh {connection.user}@{connection.host}"
        ) from error
    transport = connection.transport
    assert transport is not None  # noqa: S101 - it was opened just now
    threading.Thread(target=_listen, args=(transport,), daemon=True).start()
    with contextlib.suppress(AttributeError, OSError):
        # Keepalives that nobody answers end the connection, instead of waiting for ever (facts 15).
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE * 1000)
        transport.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # or each small write waits for an ACK


def _listen(transport: paramiko.Transport) -> None:
    """Close a connection whose far side answers nothing for SILENCE seconds, so that nothing waits for ever (facts 15).

    TCP alone does not tell: a stalled relay or a stopped sshd still acknowledges every packet.
    """
    while transport.is_active():
        end = threading.Timer(SILENCE, transport.close)
        end.daemon = True
        end.start()
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            transport.global_request("keepalive@openssh.com", wait=True)
        end.cancel()
        time.sleep(HEARTBEAT)


def _call(number: int, step: Step) -> str:
    return f"step {number} {step.timeout} {shlex.quote(step.script)}"


def _decode(words: Sequence[str]) -> str:
    return base64.b64decode("".join(words)).decode(errors="replace")
