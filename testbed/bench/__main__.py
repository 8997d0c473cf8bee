"""What a deploy costs: this tool beside a bare script, pyinfra, Ansible and `ssh HOST true`, on one lab host.

All of them take turns, through a relay that makes each round trip as long as `--rtt` says. A first round, which is not
timed, warms every cache and has sshd count. Prints Markdown tables; `x bare` is the median of the ratios of runs that
stood side by side.
"""

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path

from fabfile.errors import DeployError
from testbed.bench import contestants, growth, real_app
from testbed.bench.contestants import CODE, DEPENDENCY, DEPLOYS, LOGIN, ROLLBACK, SCENARIOS, Task
from testbed.bench.figures import BARE, OURS, Run, groups_table, rows, table
from testbed.bench.relay import Way, way
from testbed.bench.server import HERE, IN_PLACE, Server
from testbed.harness import Site, throw_away

APPS: dict[str, Callable[[Site], object]] = {"sample": lambda _: None, "real": real_app.commit}

PAUSE = 2  # seconds after each run: its second worker boots, its old releases go; that is not to be the next one's cost


@dataclass
class Bench:
    """A server, the ways to it, and where each contestant is."""

    app: str
    server: Server
    ways: Sequence[Way]
    tools: Path
    wanted: Sequence[str]
    at: dict[str, str] = field(default_factory=dict)

    @property
    def head(self) -> str:
        return self.server.site.repository.sha()

    def task(self, way: Way, scenario: str, commit: str) -> Task:
        """What a contestant is to do."""
        return Task(self.server, way, scenario, commit, self.server.site.folder / "usage.json", self.tools)

    def level(self, names: Sequence[str]) -> None:
        """Have these contestants at the newest commit, untimed."""
        for name in names:
            if self.at.get(name) != self.head:
                self.run(self.ways[0], CODE, name, 1, self.head)

    def run(self, way: Way, scenario: str, name: str, number: int, commit: str) -> Run:
        """One run, after which the contestant's app shows the commit."""
        found = contestants.measure(self.task(way, scenario, commit), self.app, name, number)
        if name in DEPLOYS:
            self.server.expect(name, commit)
            self.at[name] = commit
        time.sleep(PAUSE)
        return found

    def scenario(self, scenario: str, number: int) -> Iterator[Run]:
        """One round of a scenario: on every way each contestant once, the first one another each time."""
        names = contestants.contestants(scenario, self.wanted)
        turn = number % len(names) if names else 0
        for each in self.ways:
            commit = self.prepare(scenario, names)
            for name in names[turn:] + names[:turn]:
                yield self.run(each, scenario, name, number, commit)

    def prepare(self, scenario: str, names: Sequence[str]) -> str:
        """Make what the scenario is about; return the commit that is live after it."""
        if scenario == LOGIN:
            return self.head
        if scenario == CODE:
            return self.server.change_code()
        if scenario == DEPENDENCY:
            return self.server.change_dependency()
        self.level(names)
        before = self.head
        if scenario == ROLLBACK:
            self.server.change_code()
            self.level(names)
        return before


def bench(app: str, options: argparse.Namespace, tools: Path) -> Iterator[Run]:
    """Measure an app, on a host of its own."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        host = stack.enter_context(throw_away(options.name))
        server = Server(Site(host, folder, cold=True))
        APPS[app](server.site)
        server.furnish([name for name in IN_PLACE if name in options.contestants])
        ways = [stack.enter_context(way(host, rtt, folder)) for rtt in options.rtt]
        race = Bench(app, server, ways, tools, options.contestants)
        server.let_sshd_tell(all_of_it=True)
        for number in range(options.runs + 1):
            for scenario in SCENARIOS:
                if scenario in options.scenarios:
                    yield from race.scenario(scenario, number)
            if number == 0:
                server.let_sshd_tell(all_of_it=False)


def grow(name: str, options: argparse.Namespace, tools: Path) -> Iterator[Run]:
    """Measure a code-only deploy of a pair's two sizes, by the script and by this tool."""
    pair = growth.PAIRS[name]
    for size in (pair.small, pair.large):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            host = stack.enter_context(throw_away(options.name))
            server = Server(Site(host, folder, cold=True))
            pair.make(server.site, size)
            server.furnish([BARE])
            near = stack.enter_context(way(host, 0, folder))
            race = Bench(growth.named(name, size), server, [near], tools, [BARE, OURS])
            for number in range(options.runs + 1):
                pair.again(server.site, size)
                yield from race.scenario(CODE, number)


def machine(tools: Path) -> dict[str, str]:
    """What it was measured on, and with."""
    said = subprocess.run(["uv", "pip", "list", "--python", tools / "python"], capture_output=True, text=True)
    versions = dict(line.split()[:2] for line in said.stdout.splitlines()[2:])
    names = ("ansible-core", "pyinfra")
    return {
        "host": "Debian 12, on the operator's machine",
        "cores": str(len(os.sched_getaffinity(0))),
        "python": platform.python_version(),
        **{name: versions.get(name, "") for name in names},
    }


def measured(options: argparse.Namespace, tools: Path) -> Iterator[Run]:
    """All that was asked for, run by run."""
    if options.merge:
        for earlier in options.merge:
            yield from earlier
    elif options.growth is None:
        for app in options.apps:
            yield from bench(app, options, tools)
    else:
        for name in options.growth or growth.PAIRS:
            yield from grow(name, options, tools)


def tell(text: str) -> None:
    """Say a line at once."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def line(run: Run) -> str:
    """A run, as it is told at once."""
    what = f"{run.app:<7}{run.rtt:>4g} ms  {run.scenario:<11}{run.contestant:<10}"
    return f"  round {run.number}  {what}{run.seconds:7.2f} s  cpu {run.cpu:5.2f} s  {run.memory_mb:4.0f} MB"


def report(options: argparse.Namespace, tools: Path, runs: Sequence[Run]) -> None:
    """Print the tables; write the JSON file and the plot."""
    found = rows(runs)
    shown = growth.table(runs) or [*table(found), "", f"Where the seconds of {OURS} went:", "", *groups_table(found)]
    tell("\n".join(["", *shown]))
    document = {
        "machine": machine(tools),
        "rows": [asdict(row) for row in found],
        "runs": [asdict(run) for run in runs],
    }
    options.output.write_text(json.dumps(document, indent=1) + "\n")
    if options.plot and any(row.groups for row in found):
        subprocess.run([tools / "python", HERE / "plot.py", options.output, options.plot], check=True)


def written(file: str) -> list[Run]:
    """The runs that an earlier bench wrote. Raises ArgumentTypeError."""
    try:
        return [Run(**run) for run in json.loads(Path(file).read_text())["runs"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise argparse.ArgumentTypeError(f"{file} is nothing that --output wrote: {error}") from error


def at_least_one(text: str) -> int:
    """A number of runs. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is no number of runs: 1 or more")
    return int(text)


def arguments(words: Sequence[str]) -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(prog="just bench", description=__doc__)
    parser.add_argument("--apps", nargs="+", choices=APPS, default=list(APPS), help="the sample site, one of real size")
    parser.add_argument("--rtt", nargs="+", type=int, default=[0, 50, 150], help="round trips in ms (0 50 150)")
    parser.add_argument("--runs", type=at_least_one, default=5, help="timed runs of each (5)")
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS), help="only these")
    parser.add_argument("--contestants", nargs="+", choices=DEPLOYS, default=list(DEPLOYS), help="only these")
    parser.add_argument(
        "--growth",
        nargs="*",
        choices=growth.PAIRS,
        help="instead: how a code-only deploy's cost grows with what is there (all of these pairs, or some)",
    )
    parser.add_argument(
        "--merge",
        nargs="+",
        type=written,
        metavar="FILE",
        help="instead: the tables and the plot of what earlier runs wrote",
    )
    parser.add_argument("--output", type=Path, default=Path("bench.json"), help="where all figures go (bench.json)")
    parser.add_argument("--plot", type=Path, help="an SVG file for where this tool's seconds went")
    parser.add_argument("--name", default="bench", help="the lab host's name")
    return parser.parse_args(words)


def main() -> int:
    """Measure; 0 once every command of every contestant has ended with 0."""
    options = arguments(sys.argv[1:])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no host is left
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as folder:
        tools = contestants.install(Path(folder))
        try:
            for run in measured(options, tools):
                runs.append(run)
                tell(line(run))
        except DeployError as error:
            tell("\n  -> ".join(filter(None, (error.message, error.hint))))
            return error.exit_code
        finally:
            if any(run.number for run in runs):
                report(options, tools, runs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
