"""Runs on the host: waits until workers of one release, and only those, answer.

Takes name=value words: `state` (the service's runtime folder), `unit`, `work` (the run's folder, with what was seen
before the activation), `release` (its real path), `health_path`, `limit` and `patience` (seconds).

Old workers leave when the new ones are healthy; new ones that are not end the wait after `patience`, long before
gunicorn.conf.py would let them take over. Without old ones (a restart) they serve as soon as they can, and the check
that comes next waits for their health.
"""

import contextlib
import json
import os
import sys
import time
from enum import Enum
from pathlib import Path

POLL = 0.05  # seconds
# Seconds between two looks whether it is hopeless; the first comes after twice as long, when what was counted before
# this activation is cleared.
LOOK = 1

# When the service has stopped so many times in a row, or each of its workers while it booted, it is no accident, and to
# wait on would help nobody. The proof has shown that the code boots: this is what only the unit forbids, as its
# sandbox.
ENOUGH = 3


class Kind(Enum):
    """What keeps an activation from being finished."""

    NO_MASTER = 1
    OLD_WORKER = 2
    BOOTING = 3
    OTHER_RELEASE = 4


class Trouble(Exception):
    """The activation is not finished yet: of what kind the reason is, and the reason in words."""

    def __init__(self, kind, words):
        super().__init__(words)
        self.kind = kind


class Hopeless(Exception):
    """It never will be."""


class Activation:
    """One activation, looked at again and again."""

    def __init__(self, state, unit, work, release, health_path, limit, patience):
        self.state, self.unit, self.release, self.health_path = Path(state), unit, Path(release), health_path
        self.began = time.monotonic()
        self.limit, self.patience = int(limit), int(patience)
        self.old = [int(pid) for pid in read_text(Path(work, "old_workers")).split()]
        self.starts = read_number(Path(work, "starts"))
        self.wanted = 1

    def wait(self):
        """Return when it is finished. Raises Hopeless with the reason."""
        next_look = self.began + 2 * LOOK
        while True:
            now = time.monotonic()
            try:
                self.check()
                return
            except Trouble as trouble:
                if now > self.began + self.limit:
                    raise Hopeless(str(trouble)) from None
                if now > next_look:
                    next_look = now + LOOK
                    self.give_up_if_hopeless(trouble.kind)
            time.sleep(POLL)

    def check(self):
        """Raise Trouble unless nobody but booted workers of the release is there, and enough of them."""
        master = read_number(self.state / "gunicorn.pid")
        if not master or not alive(master):
            raise Trouble(Kind.NO_MASTER, "gunicorn has no master")
        for pid in self.old:
            if alive(pid):
                raise Trouble(Kind.OLD_WORKER, f"worker {pid} of before still serves")
        self.wanted = read_json(self.state / "master.json").get("workers", self.wanted)
        marks = self.marks()
        if len(marks) < self.wanted:
            raise Trouble(Kind.BOOTING, f"not all of {self.wanted} workers have booted")
        booted = {mark.get("pid") for mark in marks}
        workers = children(master)
        for pid in workers:
            if pid not in booted:
                raise Trouble(Kind.BOOTING, f"worker {pid} has not booted")
            folder = working_folder(pid)
            if self.release not in (folder, *folder.parents):
                raise Trouble(Kind.OTHER_RELEASE, f"worker {pid} serves {folder}")
        if len(workers) < self.wanted:
            raise Trouble(Kind.BOOTING, f"{len(workers)} of {self.wanted} workers are up")

    def give_up_if_hopeless(self, kind):
        """Raise Hopeless when to wait on would help nobody."""
        if kind is Kind.NO_MASTER:
            starts = self.restarts()
            if starts is not None and self.starts is not None and starts - self.starts >= ENOUGH:
                raise Hopeless(f"gunicorn has stopped {ENOUGH} times in a row")
            return
        if kind is Kind.OLD_WORKER and time.monotonic() > self.began + self.patience:
            for mark in self.marks():
                if mark.get("healthy") is False and mark.get("pid") not in self.old:
                    status = mark.get("status") or "nothing"
                    raise Hopeless(f"worker {mark.get('pid')}: {self.health_path} answers {status}")
        failures = read_number(self.state / "failures") or 0
        if failures >= self.wanted * ENOUGH:
            raise Hopeless(f"{failures} workers in a row have died while they booted")

    def marks(self):
        """What workers that have booted say of themselves (gunicorn.conf.py)."""
        with contextlib.suppress(OSError):
            paths = [path for path in (self.state / "up").iterdir() if path.name.isdigit()]
            return [mark for mark in map(read_json, paths) if mark]
        return []

    def restarts(self):
        """How often systemd has started the service again since somebody started it; None when it does not say."""
        show = ["systemctl", "show", "--property", "NRestarts", "--value", f"{self.unit}.service"]
        return number(output_of(show))


def read_text(path):
    try:
        return path.read_text()
    except OSError:
        return ""


def read_number(path):
    return number(read_text(path))


def number(text):
    return int(text) if text.strip().isdigit() else None


def read_json(path):
    try:
        found = json.loads(read_text(path))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def alive(pid):
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True


def children(pid):
    return [int(child) for child in read_text(Path(f"/proc/{pid}/task/{pid}/children")).split()]


def working_folder(pid):
    try:
        return Path(f"/proc/{pid}/cwd").readlink()
    except OSError:
        raise Trouble(Kind.BOOTING, f"worker {pid} has gone") from None


def without_halts(journal):
    """The journal but for the tracebacks of gunicorn's own end: behind them, the app's would be out of sight."""
    import re  # see output_of

    begin = r"^(During handling of the above exception, another exception occurred:\n\n*)?Traceback .*\n"
    return re.sub(rf"(?m){begin}(^[ \t].*\n)+gunicorn\.errors\.HaltServer: .*\n+", "", journal)


def output_of(command):
    import subprocess  # its import takes as long as all the rest, and a good activation has no use for it

    return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=False).stdout


activation = Activation(**dict(word.split("=", 1) for word in sys.argv[1:]))
try:
    activation.wait()
except Hopeless as error:
    # Enough for a whole traceback, however many of the next start's lines stand behind it.
    journal = ["journalctl", "--unit", activation.unit, "--lines", "200", "--no-pager", "--output", "cat"]
    sys.stdout.write(without_halts(output_of(journal)))
    seconds = time.monotonic() - activation.began
    sys.stdout.write(f"failed: after {seconds:.0f} s: {error}\n")  # last: of a long output a person sees the end
    sys.exit(1)
