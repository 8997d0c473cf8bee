"""What the caller gets: live progress for a person, one outcome for everybody. Nothing else prints."""

import json
import os
import re
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TextIO

from fabfile.errors import DeployError
from fabfile.steps.step import Step, StepEnd

GREEN, RED, DIM, BOLD = "32", "31", "2", "1"
CONTROL = re.compile(r"[^\t\n\x20-\x7e\xa0-\U0010ffff]")  # what a host's output could do to a terminal
TAIL = 40  # lines of a failed step's output that a person sees


@dataclass
class Outcome:
    """How a run on one host ended; the fields of the JSON document. Times are in seconds unless they say ms."""

    verb: str
    server: str
    status: str = "success"
    phase: str = "done"
    failed_check: str | None = None
    error: str | None = None
    url: str | None = None
    admin_url: str | None = None
    git_branch: str | None = None
    git_commit: str | None = None
    release: str | None = None
    previous: str | None = None
    activation: str | None = None
    reason: str | None = None
    site_state: str = "as before"
    timing: dict[str, float] = field(default_factory=dict)
    checks: dict[str, bool] = field(default_factory=dict)
    watch: dict[str, float | int] = field(default_factory=dict)
    logs: dict[str, list[str]] = field(default_factory=dict)
    suggestions: list[str] = field(default_factory=list)
    details: dict[str, Any] = field(default_factory=dict)
    exit_code: int = 0

    def fail(self, error: DeployError) -> None:
        """Take over what `error` says."""
        self.status = error.status
        self.phase = error.phase
        self.error = error.message
        self.exit_code = error.exit_code
        if error.evidence:
            self.logs.setdefault("output", error.evidence.splitlines()[-TAIL:])
        if error.hint:
            self.suggestions.append(error.hint)

    def interrupt(self) -> None:
        """Take over that somebody pressed Ctrl-C."""
        self.status = self.phase = self.error = "interrupted"
        self.exit_code = 130

    def document(self) -> dict[str, Any]:
        fields = asdict(self)
        return {**fields.pop("details"), **fields}


def printable(text: str) -> str:
    """`text` without the characters that would steer a terminal."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


class Report:
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

    def end(self, end: StepEnd) -> None:
        with self._writing:
            self._open = None
            key = "_".join("".join(c if c.isalnum() else " " for c in end.step.title.lower()).split())
            self.timing[key] = round(self.timing.get(key, 0) + end.seconds, 3)
            sign = self._paint(GREEN, "ok") if end.ok else self._paint(RED, "FAILED")
            start = "\r\x1b[K" if self.live else ""
            self.write(f"{start}  {end.step.title:<44} {self._paint(DIM, f'{end.seconds:6.2f} s')}  {sign}\n")
            if end.output and (self.echo or not end.ok):
                lines = end.output.splitlines()
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

    def error(self, error: DeployError, *, shown: bool = False) -> None:
        """Say what went wrong; `shown` means that the evidence stands above already."""
        self.say(self._paint(f"{BOLD};{RED}", printable(error.message)))
        if error.evidence and not shown:
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
