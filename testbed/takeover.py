"""What visitors notice when the playbook's server is taken over, deployed to, and given back; on both Debians.

Prints a table; with `--transcript` what somebody types and reads between the playbook's server and the third deploy;
with `--cuts` how each step of both ways ends that is cut, and the same command after it.
"""

import argparse
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import astuple, dataclass, fields
from pathlib import Path

import httpx

from fabfile.errors import DeployError
from testbed.faults import TracedStep
from testbed.harness import Result, Site, hosts_toml
from testbed.lab.image import SUITES
from testbed.load import a_title
from testbed.playbook import ADOPTED, deployed_by_playbook
from testbed.playbook.cuts import BACK, FAULTS, THERE, Cut
from testbed.shapes import Transcript
from testbed.target import Broken
from testbed.traffic import RATE, Traffic

CALM = 3  # seconds of visits before and after each command
HOST = "api"  # what the transcript's hosts.toml calls the server


@dataclass(frozen=True)
class Row:
    """What visitors noticed of one command. Milliseconds are of the slowest short request.

    `idle_ms` is that of the time just before; `late_ms` says how late the visitors themselves came, for want of a CPU.
    """

    debian: str
    command: str
    seconds: float
    requests: int
    failed: int
    idle_ms: float
    slowest_ms: float
    late_ms: float
    troubles: tuple[str, ...] = ()

    def line(self) -> str:
        """The row as the table has it."""
        cells = [f"{value}" for value in astuple(self)[:-1]]
        return "  ".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))


HEAD = [field.name for field in fields(Row)][:-1]
WIDTHS = (8, 24, 7, 8, 6, 7, 10, 7)


def watch(site: Site, suite: str, name: str, *words: str) -> Row:
    """Type a command while visitors come. Raises AssertionError unless it ends with 0."""
    with Traffic(site.host.address, site.domain) as traffic:
        time.sleep(CALM)
        begin = time.monotonic()
        idle = traffic.count(end=begin).slowest_ms
        site.fab(*words, "--json").expect(0)
        end = time.monotonic()
        time.sleep(CALM)
    seen = traffic.count(begin)
    late = traffic.late_ms(begin, end)
    return Row(
        suite, name, round(end - begin, 1), seen.requests, seen.failed, idle, seen.slowest_ms, late, seen.troubles
    )


def measure(suite: str, counts: list[int], name: str) -> Iterator[Row]:
    """Take a server over, deploy so many times, and give it back, for each count; on one server."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        host = stack.enter_context(deployed_by_playbook(name, suite=suite))
        site = Site(host, folder, settings=dict(ADOPTED))
        for count in counts:
            yield watch(site, suite, "adopt", "adopt")
            for number in range(count):
                site.commit(a_title(site, f"Number {number + 1} of {count}"))
                row = watch(site, suite, f"deploy {number + 1}", "deploy")
                if row.failed:
                    yield row
            yield watch(site, suite, f"undo after {count} deploys", "adopt", "--undo")


def cut_every_step(suite: str, faults: list[str], only: list[str], name: str) -> int:
    """Cut each step of adopt and of the way back, or `only` some, by each fault; return how many went wrong."""
    bad = 0
    cells: list[tuple[tuple[str, ...], TracedStep, str]] = []
    while True:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            host = stack.enter_context(deployed_by_playbook(name, suite=suite))
            cut = Cut(Site(host, folder, settings=dict(ADOPTED)))
            traced = [(words, cut.steps(*words)) for words in (THERE, BACK)]
            if not bad:
                cells = [
                    (words, step, fault)
                    for fault in faults
                    for words, steps in traced
                    for step in steps
                    if not only or step.id in only
                ]
            try:
                while cells:
                    _cut_one(cut, suite, *cells.pop(0))
            except (Broken, AssertionError, httpx.HTTPError, DeployError, OSError, RuntimeError, ValueError) as error:
                bad += 1
                tell(f"BAD  {type(error).__name__}: {error}; {'; '.join(getattr(error, '__notes__', ()))}")
                continue  # on another server
            return bad


def _cut_one(cut: Cut, suite: str, words: tuple[str, ...], step: TracedStep, fault: str) -> None:
    began = time.monotonic()
    if words == THERE:
        code = cut.there(step, fault)
        cut.site.fab(*BACK, "--json").expect(0)
    else:
        cut.site.fab(*THERE, "--json").expect(0)
        code = cut.back(step, fault)
    seconds = time.monotonic() - began
    tell(f"{suite:<9}{' '.join(words):<13}{step.title:<50}{fault:<10}exit {code:<4}{seconds:5.1f} s  ok")


def transcript(suite: str, name: str) -> Transcript:
    """From the playbook's server to the third deploy, as somebody types it."""
    told = Transcript()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        host = stack.enter_context(deployed_by_playbook(name, suite=suite))
        site = Site(host, folder, cold=True)
        site.environment["NO_COLOR"] = "1"
        type_(site, told, "adopt", "--plan")
        site.settings = dict(ADOPTED)
        told.lines.append("$ $EDITOR hosts.toml   # the lines that it asks for")
        with Traffic(host.address, site.domain) as traffic:
            promise(told, type_(site, told, "adopt", "--plan"))
            promise(told, type_(site, told, "adopt"))
            for number in ("first", "second", "third"):
                site.commit(a_title(site, f"The {number} deploy"), f"The {number} deploy")
                promise(told, type_(site, told, "deploy"))
        seen = traffic.count()
        told.promise(seen.failed == 0, f"{seen.requests} requests, {seen.failed} failed, slowest {seen.slowest_ms} ms")
    return told


def promise(told: Transcript, result: Result) -> None:
    """Note whether a command ended well."""
    told.promise(result.code == 0, f"exit {result.code}")


def type_(site: Site, told: Transcript, *words: str) -> Result:
    """Type a `fab` command, and note how it went."""
    site.hosts_file = hosts_toml({HOST: site.host_settings()})
    began = time.monotonic()
    process = site.start_raw("-H", HOST, *words)
    out, err = process.communicate(timeout=240)
    result = Result(process.returncode, out, err)
    told.ran(" ".join(("fab", "-H", HOST, *words)), result, time.monotonic() - began)
    return result


def tell(text: str) -> None:
    """Say a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def main() -> int:
    """Measure, or tell the story."""
    parser = argparse.ArgumentParser(prog="python -m testbed.takeover", description=__doc__)
    parser.add_argument("--suites", nargs="+", choices=SUITES, default=list(SUITES), help="which Debians (both)")
    parser.add_argument(
        "--deploys",
        nargs="+",
        type=int,
        default=[0, 3, 10],
        help="how many deploys lie between adopt and undo (0 3 10)",
    )
    parser.add_argument("--transcript", action="store_true", help="what is typed and read, for the docs")
    parser.add_argument(
        "--cuts", nargs="*", choices=FAULTS, help=f"cut every step by these faults (all: {', '.join(FAULTS)})"
    )
    parser.add_argument("--steps", nargs="+", default=[], help="of those steps alone, by their ids")
    parser.add_argument("--name", default="takeover", help="the lab host's name")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no host is left
    if given.transcript:
        story = transcript(given.suites[0], given.name)
        tell("\n".join(story.lines))
        return 1 if story.broken else 0
    if given.cuts is not None:
        bad = sum(cut_every_step(suite, given.cuts or list(FAULTS), given.steps, given.name) for suite in given.suites)
        tell(f"{bad} went wrong")
        return 1 if bad else 0
    tell(f"{RATE} requests a second\n" + "  ".join(word.rjust(width) for word, width in zip(HEAD, WIDTHS, strict=True)))
    failed = 0
    for suite in given.suites:
        for row in measure(suite, given.deploys, given.name):
            tell("\n".join((row.line(), *(f"          {trouble}" for trouble in row.troubles))))
            failed += row.failed
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
