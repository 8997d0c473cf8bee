"""A warm run is as one of its own process: streams, words, environment, signals, exit code, and death."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed import warm
from testbed.harness import wait_for


def main() -> None:
    """What the warm process runs here."""
    sys.stdout.write(f"{sys.argv[1:]} {Path.cwd()} {os.environ.get('COLOUR')} {sys.stdin.read(5)}\n")
    sys.stdout.flush()
    try:
        sys.stderr.write(f"{os.getpid()}\n")
        sys.stderr.flush()
        for _ in range(600 if "wait" in sys.argv else 0):  # a signal just before one long sleep would not end it
            time.sleep(0.1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(7)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run that waits."""
    process = start("wait", folder=tmp_path)
    yield process
    process.kill()
    process.communicate()


def start(*words: str, folder: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [*warm.command(__name__), *words],
        cwd=folder, env={"COLOUR": "green"}, stdin=pipe, stdout=pipe, stderr=pipe, text=True, start_new_session=True,
    )  # fmt: skip
    assert process.stdin
    process.stdin.write("hello")
    process.stdin.flush()
    return process


def pid_of(run: subprocess.Popen[str]) -> int:
    assert run.stderr
    return int(run.stderr.readline())


def test_it_gets_what_a_process_gets(tmp_path: Path) -> None:
    """Words, folder, environment and stdin arrive; stdout, stderr and the exit code come back."""
    process = start("one", "two words", folder=tmp_path)
    out, err = process.communicate(timeout=20)
    assert out == f"['one', 'two words'] {tmp_path} green hello\n"
    assert int(err) != process.pid
    assert process.returncode == 7


def test_ctrl_c_reaches_it(run: subprocess.Popen[str]) -> None:
    """A signal for the process that stands for it is one for it."""
    pid_of(run)
    run.send_signal(signal.SIGINT)
    assert run.wait(20) == 130


def test_it_dies_with_the_process_that_stands_for_it(run: subprocess.Popen[str]) -> None:
    """kill -9 leaves no run behind."""
    pid = pid_of(run)
    run.kill()
    wait_for(lambda: not Path(f"/proc/{pid}").exists())


def test_its_death_is_told(run: subprocess.Popen[str]) -> None:
    """A run that is killed ends as a process that was killed."""
    os.kill(pid_of(run), signal.SIGKILL)
    assert run.wait(20) == -signal.SIGKILL
