"""A command on a host joined to this side's terminal or pipes: bytes both ways as they come, nothing added.

Fabric's own `run` is not for that: it takes what is piped in at 100 bytes a second (decision 14), passes output on as
text, and leaves Ctrl-Z and Ctrl-\\ of a terminal to this side.
"""

import contextlib
import os
import select
import signal
import sys
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from types import FrameType
from typing import Protocol


class Channel(Protocol):
    """What is used of a channel of paramiko."""

    def recv(self, size: int, /) -> bytes: ...
    def recv_stderr(self, size: int, /) -> bytes: ...
    def sendall(self, data: bytes, /) -> object: ...
    def shutdown_write(self) -> None: ...
    def resize_pty(self, *, width: int, height: int) -> None: ...
    def recv_exit_status(self) -> int: ...


@dataclass(frozen=True)
class Ends:
    """This side of a command: `stdin` is a file descriptor, None for nothing to read."""

    stdin: int | None
    stdout: Callable[[bytes], None]
    stderr: Callable[[bytes], None]
    terminal: bool = False


def ends_here(*, alone: bool) -> Ends:
    """A terminal, when both ends of this process are one; else pipes.

    What is piped in goes to a host that is `alone`. Of a terminal beside a pipe nothing is read: it stays the shell's.
    """
    stdin, stdout, stderr = sys.__stdin__, 1, 2
    is_terminal = stdin is not None and stdin.isatty()
    terminal = is_terminal and os.isatty(stdout)
    reads = stdin is not None and (terminal or (alone and not is_terminal))
    return Ends(0 if reads else None, _writer(stdout), _writer(stderr), terminal)


def size() -> tuple[int, int]:
    """Columns and lines of the terminal."""
    try:
        return os.get_terminal_size(1)
    except OSError:
        return 80, 24


def join(channel: Channel, ends: Ends) -> int:
    """Carry everything between a started command and this side until it has ended; its exit code, -1 without one."""
    over, end = os.pipe()
    others = [threading.Thread(target=_feed, args=(channel, ends.stdin, over), daemon=True)]
    if not ends.terminal:  # which has one stream
        others.append(threading.Thread(target=_drain, args=(channel.recv_stderr, ends.stderr), daemon=True))
    with _raw(channel) if ends.terminal else contextlib.nullcontext():
        for thread in others:
            thread.start()
        try:
            while data := channel.recv(65536):
                ends.stdout(data)
            for thread in others[1:]:
                thread.join()
            return channel.recv_exit_status()
        finally:
            os.close(end)
            others[0].join(timeout=1)  # or it would take what is typed next; where it sends, it is left to the channel
            if not others[0].is_alive():
                os.close(over)


def _feed(channel: Channel, stdin: int | None, over: int) -> None:
    """Send what is typed or piped in, until it ends or the command is over."""
    with contextlib.suppress(OSError):  # a command may end without having read all
        while stdin is not None:
            ready, _, _ = select.select([stdin, over], [], [])
            data = b"" if over in ready else os.read(stdin, 32768)
            if not data:
                break
            channel.sendall(data)
        channel.shutdown_write()


def _drain(receive: Callable[[int], bytes], write: Callable[[bytes], None]) -> None:
    with contextlib.suppress(OSError):
        while data := receive(65536):
            write(data)


def _writer(descriptor: int) -> Callable[[bytes], None]:
    def write(data: bytes) -> None:
        while data:
            data = data[os.write(descriptor, data) :]

    return write


@contextlib.contextmanager
def _raw(channel: Channel) -> Generator[None]:
    """Let every key, Ctrl-C too, go to the far side, and tell it of a new size of the window."""
    import termios  # not everywhere, and no deploy needs them
    import tty

    # Told by a thread: Python's own handler runs in the main one, which may not wake up before the far side speaks.
    changes, change = os.pipe()
    os.set_blocking(change, False)
    threading.Thread(target=_tell_sizes, args=(channel, changes), daemon=True).start()
    before = termios.tcgetattr(0)
    usual = signal.signal(signal.SIGWINCH, _leave_it)
    usual_descriptor = signal.set_wakeup_fd(change, warn_on_full_buffer=False)
    try:
        tty.setraw(0, termios.TCSADRAIN)
        yield
    finally:
        signal.set_wakeup_fd(usual_descriptor)
        signal.signal(signal.SIGWINCH, usual)
        os.close(change)
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def _leave_it(_number: int, _frame: FrameType | None) -> None:
    """A handler, or no byte would be written for the signal."""


def _tell_sizes(channel: Channel, changes: int) -> None:
    """The size of the window, each time that a signal has come."""
    while os.read(changes, 100):
        width, height = size()
        with contextlib.suppress(Exception):  # it has ended meanwhile
            channel.resize_pty(width=width, height=height)
    os.close(changes)
