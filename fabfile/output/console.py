"""Live progress for a person, and the document at the end. Nothing else prints."""

import json
import os
import re
import sys
import threading
from collections.abc import Mapping
from typing import Any, TextIO

from ..errors import DeployError
from ..steps.step import Step, StepResult
from .outcome import TAIL

GREEN, RED, DIM, BOLD = "32", "31", "2", "1"
CONTROL = re.compile(r"[^\t\n\x20-\x7e\xa0-\U0010ffff]")  # what a host's output could do to a terminal


def printable(text: str) -> str:
    """`text` without the characters that would steer a terminal."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class Console:
    """Tells a person what happens while it happens; with `as_json` only the document at the end, on stdout.

    `echo` shows the output of every step, not only of failed ones.
    """

    def __init__(self, *, as_json: bool = False, echo: bool = False, stream: TextIO | None = None) -> None:
        self.as_json = as_json
        self.echo = echo
        self.stream = stream or (sys.stderr if as_json else sys.stdout)
        self.live = self.stream.isatty() and os.environ.get("TERM") != "dumb"
        self.colour = self.live and not os.environ.get("NO_COLOR")
        self.timing: dict[str, float] = {}
        self._open: Step | None = None
        self._writing = threading.RLock()

    def begin(self, step: Step) -> None:
        with self._writing:
            self._open = step
            if self.live:
                self.write(f"  {step.title} ...")

    def end(self, result: StepResult) -> None:
        with self._writing:
            self._open = None
            step, seconds = result.step, result.seconds
            self.timing[step.id] = round(self.timing.get(step.id, 0) + seconds, 3)
            sign = self._paint(GREEN, "ok") if result.ok else self._paint(RED, "FAILED")
            start = "\r\x1b[K" if self.live else ""
            self.write(f"{start}  {step.title:<44} {self._paint(DIM, f'{seconds:6.2f} s')}  {sign}\n")
            if result.output and (self.echo or not result.ok):
                lines = result.output.splitlines()
                shown = lines if self.echo else lines[-TAIL:]
                if len(shown) < len(lines):
                    self.write(f"    ... {len(lines) - len(shown)} lines before (all of them: -e)\n")
                self.write("".join(f"    {printable(line)}\n" for line in shown))

    def say(self, text: str) -> None:
        """A line for a person."""
        with self._writing:
            if self._open and self.live:
                self.write("\r\x1b[K")
            self.write(f"{text}\n")
            if self._open and self.live:
                self.write(f"  {self._open.title} ...")

    def waiting(self, holder: str) -> None:
        """Say who holds the host while this run queues for it."""
        self.say(f"  waiting for {holder}")

    def headline(self, text: str, *, good: bool = True) -> None:
        """The line that says how it ended."""
        self.say(self._paint(f"{BOLD};{GREEN if good else RED}", text))

    def error(self, error: DeployError) -> None:
        """Say what went wrong; its evidence too, unless that stands above already."""
        self.say(self._paint(f"{BOLD};{RED}", printable(error.message)))
        if error.evidence and not error.shown:
            self.say("".join(f"    {printable(line)}\n" for line in error.evidence.splitlines()[-TAIL:]).rstrip("\n"))
        if error.hint:
            self.say(f"  next: {error.hint}")

    def finish(self, documents: list[Mapping[str, Any]]) -> None:
        """Print the one JSON document: the outcome, or `hosts` with one each when there are several."""
        if self.as_json:
            one = documents[0] if len(documents) == 1 else {"hosts": documents}
            print(json.dumps(one, indent=2), file=sys.stdout)  # noqa: T201

    def _paint(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self.colour else text

    def write(self, text: str) -> None:
        """Raw text for a person; neither a reader that went away nor a character it cannot show ends the work."""
        try:
            encoding = getattr(self.stream, "encoding", None) or "utf-8"
            self.stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
            self.stream.flush()
        except BrokenPipeError:
            self.stream = open(os.devnull, "w")  # noqa: SIM115, PTH123 - nobody reads any more; the work goes on
