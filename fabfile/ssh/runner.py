"""The runner: one bash process on a host per run, which runs the batches of steps that it is sent.

Python's side of it; the bash side is host/runner.sh. What the steps say is not its business, nor how the host is
reached.
"""

import base64
import contextlib
import shlex
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from ..errors import ConnectError, ProvisionError, StepFailed
from ..output import advice
from ..plan.lock import Lock, describe_holder, locked
from ..steps.step import Results, Step, StepResult

PATIENCE = 30  # seconds that a runner keeps the lock without a sign of life, between batches
HEARTBEAT = 5  # seconds between signs of life
NO_RIGHT = 77  # how a step ends to which sudo refuses a command (host/lib/common.sh)
ENDED = (124, 137)  # how a step ends at its time limit (timeout of coreutils)
BYE = b"bye\n"
PROGRAM = (Path(__file__).parents[1] / "host/runner.sh").read_text()


class StepError(StepFailed):
    """A step ended with a code that is not 0: `failed`, after `before` had gone well.

    `rescue` is what the host did about it.
    """

    def __init__(self, host: str, ended: Sequence[StepResult]) -> None:
        number = next(number for number, result in enumerate(ended) if not result.ok)
        self.failed = failed = ended[number]
        self.before = Results.of(ended[:number])
        self.rescue = Results.of(ended[number + 1 :])
        late = failed.code in ENDED
        how = f"took longer than {failed.step.timeout} s and was ended" if late else f"exit {failed.code}"
        why = "" if late else advice.reason(failed.output)
        super().__init__(
            f"{failed.step.title}: failed ({how}){f': {why}' if why else ''}",
            hint=self._next(host, late=late),
            evidence=failed.output,
            shown=True,
        )

    def _next(self, host: str, *, late: bool) -> str:
        if late:
            return f"see why, or raise its limit ({self.failed.step.limit} in hosts.toml)"
        if self.failed.code == NO_RIGHT:
            return f"fab -H {host} provision"
        return advice.next_command(host, self.failed.output)


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
    def end(self, result: StepResult) -> None: ...
    def say(self, text: str) -> None: ...


class Silence:
    """Progress for nobody."""

    def begin(self, step: Step) -> None: ...
    def end(self, result: StepResult) -> None: ...
    def say(self, text: str) -> None: ...


class Channel(Protocol):
    """Both ends of a process on the host: bytes in, bytes out."""

    def sendall(self, data: bytes, /) -> Any: ...
    def recv(self, size: int, /) -> bytes: ...
    def close(self) -> Any: ...


class Runner:
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

    def send_library(self, archive: bytes) -> None:
        """Send what the steps call; there is no need to wait until the runner is ready."""
        with contextlib.suppress(ConnectionLost):  # `start` finds out why
            self._send(f"library {len(archive)}\n".encode() + archive)

    def start(self, lock: Lock | None, on_wait: Callable[[str], None]) -> None:
        """Wait until the runner is ready; tell `on_wait` who holds the lock meanwhile."""
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
        if next_command := advice.said_next(self._host, text):
            raise ProvisionError(f"{self._host}: {advice.reason(text)}", hint=next_command, evidence=text)
        if text:
            raise BashFailed(f"{self._host}: bash could not start the work", evidence=text)
        raise ConnectionLost(self._host, None)

    def put(self, name: str, content: bytes) -> None:
        """Send a file; steps find it as "$DEPLOY_FILES/name", mode 0600, gone when the runner is."""
        self._send(f"file {len(content)} {name}\n".encode() + content)

    def run(
        self,
        steps: Sequence[Step],
        rescue: Sequence[Step] = (),
        *,
        finish: bool = False,
        last: bool = False,
        begun: Callable[[Step], object] = lambda _: None,
    ) -> Results:
        """Run `steps` in order; if one fails, the host itself runs `rescue` (each of them must be safe to run).

        `begun` is told of each as it begins. With `last` the runner goes when it has done them, which saves a round
        trip; it can run no more then.

        At Ctrl-C the running step is ended with its children, and KeyboardInterrupt raised after the rescue. With
        `finish` the batch goes on, and `interrupted` is set. A second Ctrl-C no longer waits for the host.
        """
        every = [*steps, *rescue]
        calls = [_call(number, step) for number, step in enumerate(every)]
        calls[len(steps) :] = [f"rescue {call}" for call in calls[len(steps) :]]
        text = ("\n".join(calls) + "\n").encode()
        interrupted_before = self.interrupted
        with self._minding_ctrl_c(finish=finish):
            self.busy = True
            self._send(f"batch {len(text)}\n".encode() + text + (BYE if last else b""))
            if last:
                self._closed.set()
            ended = self._follow(every, begun)
            self.busy = False
        failed = next((result for result in ended if not result.ok), None)
        if failed:
            if failed.code == 130:
                raise KeyboardInterrupt
            raise StepError(self._host, ended)
        if self.interrupted and not interrupted_before and not finish:  # it came too late to end a step
            if rescue:
                self.run(rescue)
            raise KeyboardInterrupt
        return Results.of(ended)

    def close(self) -> None:
        """Let the runner go; what it runs it runs to its end."""
        self._closed.set()
        with contextlib.suppress(OSError, ConnectionLost):
            self._send(BYE)
        with contextlib.suppress(OSError):
            self._channel.close()

    def finish(self) -> None:
        """Let the runner go and wait until it is gone, and the lock with it."""
        if not self._closed.is_set():
            self._closed.set()
            self._send(BYE)
        while self._line() is not None:
            pass
        self._channel.close()

    def _follow(self, steps: Sequence[Step], begun: Callable[[Step], object]) -> list[StepResult]:
        ended: list[StepResult] = []
        step: Step | None = None
        output: list[bytes] = []
        began = 0.0
        while True:
            line = self._line()
            if line is None:
                raise ConnectionLost(self._host, step)
            match self._event(line):
                case ["begin", number]:
                    step, output, began = steps[int(number)], [], time.monotonic()
                    self._progress.begin(step)
                    begun(step)
                case ["end", number, code]:
                    text = b"\n".join(output).decode(errors="replace").strip("\n")
                    result = StepResult(steps[int(number)], int(code), text, time.monotonic() - began)
                    ended.append(result)
                    self._progress.end(result)
                    step = None
                case ["done"]:
                    return ended
                case _:
                    output.append(line)

    def _event(self, line: bytes) -> list[str] | None:
        if not line.startswith(self._mark + b" "):
            return None
        return line[len(self._mark) + 1 :].decode(errors="replace").split(" ")

    @contextlib.contextmanager
    def _minding_ctrl_c(self, *, finish: bool) -> Generator[None]:
        """The first Ctrl-C raises nothing, or what the host says at that moment could be lost; a second one raises."""
        usual = signal.getsignal(signal.SIGINT)
        if threading.current_thread() is not threading.main_thread() or not callable(usual):
            yield
            return

        telling: list[threading.Thread] = []

        def pressed(number: int, frame: FrameType | None) -> None:
            if self.interrupted:
                usual(number, frame)
                return
            self.interrupted = True
            # A thread, as the main one may hold locks that this needs.
            telling.append(threading.Thread(target=self._interrupt, args=[finish], daemon=True))
            telling[0].start()

        signal.signal(signal.SIGINT, pressed)
        try:
            yield
            for thread in telling:  # or its TERM could end a step of the next batch
                thread.join()
        finally:
            signal.signal(signal.SIGINT, usual)

    def _interrupt(self, finish: bool) -> None:
        if finish:
            self._progress.say("  Ctrl-C: the switch has begun and goes to its end; once more leaves it to the host")
            return
        self._progress.say("  Ctrl-C: stopping here; once more does not wait for it")
        try:
            self._cancel(self.pid)
        except ConnectionLost:  # or sshd allows no second session (MaxSessions)
            self._progress.say("  the host cannot be told; stopping when it has done what it has begun")

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


def runner_command(mark: str, lock: Lock | None, *, sudo: bool = False) -> str:
    """The command line that starts a runner; holds no secret, for `ps` shows it."""
    words = [
        *(["sudo", "-n"] if sudo else []),
        "bash", "--norc", "-c", PROGRAM, "runner", mark,
        str(lock.path) if lock else "", lock.holder if lock else "", str(lock.wait if lock else 0),
        str(PATIENCE),
    ]  # fmt: skip
    return "exec " + shlex.join(words)


def _call(number: int, step: Step) -> str:
    return shlex.join(["step", str(number), str(step.timeout), *step.words])


def _decode(words: Sequence[str]) -> str:
    return base64.b64decode("".join(words)).decode(errors="replace")
