"""A person's commands: their words, and which ends of this side they are joined to."""

import os
import pty
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from fabfile.commands import at_hand
from fabfile.config.inventory import Host
from fabfile.errors import ConfigError
from fabfile.output.console import Console
from fabfile.output.outcome import Outcome
from fabfile.session.run import Run
from fabfile.ssh import terminal
from fabfile.ssh.terminal import Ends
from testbed.sample import sample


def run_of(verb: str) -> Run:
    host = Host("web", "test", sample(repo="git@example.org:team/app.git"))
    return Run(host, Console(), Outcome(verb, server="web"))


def words(command: str) -> list[str]:
    return at_hand.words_of(run_of("manage"), command, "check")


def test_a_command_is_parted_as_a_shell_would() -> None:
    """Quotes keep words together; nothing is expanded."""
    assert words("""loaddata 'a b' "c;d" $HOME *""") == ["loaddata", "a b", "c;d", "$HOME", "*"]


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("", "manage needs a command, as one word"),
        ("  ", "manage needs a command, as one word"),
        ("shell -c 'x", "manage: no closing quotation in: shell -c 'x"),
        ("shell \\", "manage: no escaped character in: shell \\"),
    ],
)
def test_a_command_that_is_none_is_refused(command: str, why: str) -> None:
    """With an example, before anything connects."""
    with pytest.raises(ConfigError) as refused:
        words(command)
    assert (refused.value.message, refused.value.hint) == (why, 'fab -H web manage "check"')


def test_the_host_has_the_words_before_the_command_starts(mocker: MockerFixture) -> None:
    """The channel of the command does not wait for the runner, so the runner has answered since it was sent them."""
    connection = mocker.patch.object(at_hand, "connect").return_value.__enter__.return_value
    runner = connection.runner.return_value.__enter__.return_value
    runner.run.return_value.output.return_value = "release /srv/web/releases/20260101T000000Z-1\nwork /tmp/deploy-1"
    connection.attach.return_value = 0
    runner.attach_mock(connection.attach, "attach")
    at_hand.manage(run_of("manage"), "check")
    assert [call[0] for call in runner.mock_calls if "." not in call[0]] == ["put", "run", "attach"]


@pytest.mark.parametrize(
    ("stdin", "stdout", "alone", "expected"),
    [
        ("terminal", "terminal", True, (True, True)),
        ("terminal", "terminal", False, (True, True)),
        ("terminal", "pipe", True, (False, False)),
        ("pipe", "terminal", True, (True, False)),
        ("pipe", "pipe", True, (True, False)),
        ("pipe", "pipe", False, (False, False)),
    ],
)
def test_what_is_read_and_when_there_is_a_terminal(
    stdin: str, stdout: str, alone: bool, expected: tuple[bool, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A terminal needs both ends; a pipe is read for one host alone; of a terminal beside a pipe nothing is taken."""

    class Stdin:
        isatty = staticmethod(lambda: stdin == "terminal")

    monkeypatch.setattr(sys, "__stdin__", Stdin)
    monkeypatch.setattr(os, "isatty", lambda _descriptor: stdout == "terminal")
    ends = terminal.ends_here(alone=alone)
    assert (ends.stdin is not None, ends.terminal) == expected


@dataclass
class Command:
    """A far command that says what it is given, until that ends."""

    code: int = 0
    takes: int = 1 << 30
    given: bytes = b""
    told: threading.Event = field(default_factory=threading.Event)
    sizes: list[tuple[int, int]] = field(default_factory=list)

    def recv(self, _size: int, /) -> bytes:
        assert self.told.wait(20)
        said, self.given = self.given, b""
        return said

    def recv_stderr(self, _size: int, /) -> bytes:
        return b""

    def sendall(self, data: bytes, /) -> None:
        self.given += data
        if len(self.given) > self.takes:
            self.told.set()
            raise OSError

    def shutdown_write(self) -> None:
        self.told.set()

    def resize_pty(self, *, width: int, height: int) -> None:
        self.sizes.append((width, height))
        self.told.set()

    def recv_exit_status(self) -> int:
        return self.code


def joined(command: Command, stdin: int | None, write: Callable[[bytes], None]) -> int:
    return terminal.join(command, Ends(stdin, write, write))


def test_bytes_go_through_as_they_are(tmp_path: Path) -> None:
    """No text is made of them, none is lost, and the exit code is the command's."""
    content = bytes(range(256)) * 1000
    (tmp_path / "in").write_bytes(content)
    said = bytearray()
    with (tmp_path / "in").open("rb") as file:
        assert joined(Command(code=3), file.fileno(), said.extend) == 3
    assert bytes(said) == content
    assert joined(Command(), None, said.extend) == 0


def test_a_stdout_that_takes_a_part_gets_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a pipe does whose reader is slow."""
    taken: list[bytes] = []

    def write(_descriptor: int, data: bytes) -> int:
        taken.append(data[:3])
        return len(taken[-1])

    monkeypatch.setattr(os, "write", write)
    terminal.ends_here(alone=True).stdout(b"0123456789")
    assert taken == [b"012", b"345", b"678", b"9"]


def test_a_command_need_not_read_all(tmp_path: Path) -> None:
    """One that ends before is no trouble."""
    (tmp_path / "in").write_bytes(b"x" * 1_000_000)
    with (tmp_path / "in").open("rb") as file:
        assert joined(Command(takes=10), file.fileno(), bytearray().extend) == 0


def test_what_is_typed_after_the_command_is_not_taken() -> None:
    """The next to read gets it: a command that is over reads no more."""
    master, slave = pty.openpty()
    command = Command()
    command.told.set()
    assert joined(command, slave, bytearray().extend) == 0
    os.write(master, b"next\n")
    assert os.read(slave, 100) == b"next\n"
    os.close(master)
    os.close(slave)


def test_a_new_size_is_told_though_the_command_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal that comes while this side waits, whichever thread takes it, does not wait for the next output."""
    master, slave = pty.openpty()
    usual = os.dup(0)
    os.dup2(slave, 0)
    monkeypatch.setattr(terminal, "size", lambda: (70, 20))
    handler = signal.getsignal(signal.SIGWINCH)
    command = Command()
    other = threading.Thread(target=command.told.wait, args=(20,))

    def recv(size: int) -> bytes:
        """Wait, with the signal on its way to another thread."""
        other.start()
        signal.pthread_kill(other.ident or 0, signal.SIGWINCH)
        return Command.recv(command, size)

    monkeypatch.setattr(command, "recv", recv)
    try:
        assert terminal.join(command, Ends(slave, bytearray().extend, bytearray().extend, terminal=True)) == 0
    finally:
        os.dup2(usual, 0)
        for descriptor in (usual, master, slave):
            os.close(descriptor)
    assert command.sizes == [(70, 20)]
    assert signal.getsignal(signal.SIGWINCH) == handler
    assert signal.set_wakeup_fd(-1) == -1
