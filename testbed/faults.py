"""`just faults`: every step of deploy, rollback and other changes, hit by every fault, on real hosts.

After each the site must serve one whole release, the lock must be free, and the next plain deploy must end with 0,
make the wanted release live and leave nothing behind.
"""

import argparse
import json
import queue
import signal
import sys
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from fabfile.errors import DeployError
from testbed import lab
from testbed.driver import PACE, Order
from testbed.harness import wait_for
from testbed.target import Broken, Target

LAST_CHECK = "check_the_site"
RIGHTS = "ask_sudo_for_the_rights_it_needs"
FAULTS = {
    "fail": "the step does nothing and fails",
    "fail-late": "the step does all of its work and fails",
    "killed/": "the step and its children are killed in its middle",
    "sigkill": "the client is killed before the step begins",
    "sigkill/": "the client is killed in its middle",
    "sigkill-next": "the client is killed, and the next deploy does not wait a moment",
    "sigint": "Ctrl-C",
    "sigint-twice": "Ctrl-C, and once more 0.2 s later",
    "cut": "the network goes, and comes back after the client gave up",
    "minute": "the network is away for a minute (and every wait of the tool for a network, times --pace)",
    "blip": "the network is away for less than anybody's patience (15 s, times --pace)",
    "power": "the host loses power before the step begins, and boots",
    "power/": "the host loses power in the middle of the step, and boots",
    "runner/": "what runs the steps on the host is killed in the middle of the step",
    "master": "the gunicorn that serves the site is killed",
    "renewal": "meanwhile the certificate is renewed",
}
NOTICED = {"power", "master"}  # visitors lose what they have asked for
TIDYING = ("record_the_deploy", "prune_old_releases", "read_the_journal", "read_nginx_s_error_log")


@dataclass(frozen=True)
class TracedStep:
    """A step as it went in a run without faults."""

    id: str
    title: str
    live: bool
    seconds: float
    commands: int


@dataclass(frozen=True)
class Scenario:
    """What is broken: a command, and the change that it is to bring live.

    `begin` makes the change and returns the command's words; it ends with `code` when no fault comes. Its steps are
    broken from `first` on, or from behind `after`; or those alone whose id begins with one of `only`. `broken` fails in
    every run. `settings` stand meanwhile. `way_back` says that what fails behind the switch is taken back. `end` gets
    the command's exit code, sees whether it did what it says, and leaves the site open.
    """

    begin: Callable[[Target], list[str]]
    code: int = 0
    first: str = ""
    after: str = ""
    only: tuple[str, ...] = ()
    broken: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    way_back: bool = True
    end: Callable[[Target, int], None] | None = None

    def steps(self, traced: Sequence[TracedStep]) -> list[TracedStep]:
        """Those that are to be broken."""
        ids = [step.id for step in traced]
        start = ids.index(self.first) if self.first else ids.index(self.after) + 1 if self.after else 0
        return [step for step in traced[start:] if not self.only or step.id.startswith(self.only)]


def new_code(target: Target) -> list[str]:
    target.push()
    return ["deploy", "--branch", "faults"]


def new_files(target: Target) -> list[str]:
    target.change_files()
    return new_code(target)


def older_code(target: Target) -> list[str]:
    while target.version_before() != target.version - 1:  # twice, after a rollback that left the newest release
        target.push()
        target.deploy()
    return ["rollback"]


def new_secret(target: Target) -> list[str]:
    value_file(target).write_text(f"{uuid.uuid4()}")
    return ["secrets.set", "MOTTO", "--file", str(value_file(target))]


def value_file(target: Target) -> Path:
    return target.folder / "value"


def secret_is_set(target: Target, code: int) -> None:
    """It is if the command said so; else, and after any fault, the same command sets it."""
    value = value_file(target).read_text()
    if code == 0 and not runs_with(target, value):
        raise Broken("exit 0, and the service runs without the new value")
    again = target.fab("secrets.set", "MOTTO", "--file", str(value_file(target)))
    if again.code:
        raise Broken(f"secrets.set, once more, ends with {again.code}: {again.err[-600:]}")
    if again.json["status"] == "unchanged" and not runs_with(target, value):
        restarted = target.fab("restart")
        if restarted.code or not runs_with(target, value):
            raise Broken(f"the value is set, and a restart does not take it up: {restarted.err[-600:]}")


def runs_with(target: Target, value: str) -> bool:
    unit = "systemctl show -p MainPID --value consult-django"
    return f"MOTTO={value}\0" in target.site.run(f"cat /proc/$({unit})/environ")


def close(target: Target) -> list[str]:
    return ["maintenance.on", "-m", "Back soon", "--allow", f"127.0.0.1,{target.site.my_address()}"]


def close_and_open(target: Target) -> list[str]:
    target.site.fab(*close(target)).expect(0)
    return ["maintenance.off"]


def hold(_target: Target) -> list[str]:
    return ["maintenance.on", "--hold", "8"]


def closed(target: Target, code: int) -> None:
    """It is if the command said so; then it is opened."""
    if code == 0 and not is_closed(target):
        raise Broken("exit 0, and the site is open")
    open_again(target)


def opened(target: Target, code: int) -> None:
    """It is if the command said so; else, and after any fault, the same command opens it."""
    if code == 0 and is_closed(target):
        raise Broken("exit 0, and the site is closed")
    open_again(target)


def open_again(target: Target) -> None:
    """Open the site, once nobody is about to close it any more."""
    wait_for(lambda: not target.site.run("ls -d /tmp/deploy-* 2>/dev/null; true"), what=lambda: "a runner is left")
    again = target.fab("maintenance.off")
    if again.code or is_closed(target):
        raise Broken(f"maintenance.off ends with {again.code}: {again.err[-600:]}")


def is_closed(target: Target) -> bool:
    """Whether somebody whom the page does not let in finds it."""
    ask = "curl -sk --interface 127.0.0.2 -o /dev/null -w '%{http_code}'"
    return target.site.run(f"{ask} -H 'Host: {target.site.domain}' https://127.0.0.1/") == "503"


COMMANDS = {
    "build": ["python -c 'import time; time.sleep(0.5)'"],
    "before_switch": ["manage.py check"],
    "after_switch": ["manage.py check"],
}
SCENARIOS = {
    "deploy": Scenario(new_code),
    "rollback": Scenario(older_code),
    # Changes unit and nginx site too, so it restarts; broken from where it differs from `deploy`.
    "files": Scenario(new_files, first=RIGHTS),
    # The last check fails; broken in the steps that put the old release back.
    "way-back": Scenario(new_code, code=6, after=LAST_CHECK, broken=LAST_CHECK),
    "commands": Scenario(
        new_code, only=("build_", "before_switch_", "after_switch_", "prove_that_its_com"), settings=COMMANDS
    ),
    "secret": Scenario(new_secret, settings={"secrets": "file"}, end=secret_is_set),
    "closed": Scenario(close, way_back=False, end=closed),
    "opened": Scenario(close_and_open, way_back=False, end=opened),
    "hold": Scenario(hold, way_back=False, end=opened),
}


@dataclass(frozen=True)
class Cell:
    """One fault in one step of one scenario."""

    scenario: str
    step: TracedStep
    fault: str

    @property
    def kind(self) -> str:
        return self.fault.rstrip("/")

    @property
    def half(self) -> bool:
        return self.fault.endswith("/")


@dataclass
class Row:
    """How a cell went."""

    cell: Cell
    code: int | None = None
    served: str = "-"
    rest: float = 0.0
    seconds: float = 0.0
    requests: int = 0
    failed: int = 0
    trouble: str = ""

    def line(self) -> str:
        cell = self.cell
        result = "ok" if not self.trouble else f"BAD  {self.trouble}"
        return (
            f"{cell.scenario:<9}{cell.step.title:<43}{cell.fault:<13}exit {self.code!s:<4} {self.served:<4}"
            f"rest {self.rest:4.1f} s  {self.seconds:5.1f} s  {self.requests:>3}/{self.failed}  {result}"
        )


def discover(target: Target, name: str) -> list[TracedStep]:
    """The steps of a scenario that are to be broken, learnt by a run that works."""
    scenario, trace = SCENARIOS[name], target.folder / f"trace-{name}"
    words = begin(target, name)
    result = target.fab(*words, order=Order(target.name, trace=str(trace), broken=scenario.broken))
    if result.code != scenario.code:
        raise Broken(f"{name} ends with {result.code} without any fault: {result.err[-900:]}")
    if scenario.end:
        scenario.end(target, result.code)
    target.deploy()
    target.clean()
    return scenario.steps([TracedStep(**json.loads(line)) for line in trace.read_text().splitlines()])


def begin(target: Target, name: str) -> list[str]:
    """Make the change that a scenario is about, and return the command."""
    target.stand(SCENARIOS[name].settings)
    return SCENARIOS[name].begin(target)


def try_cell(target: Target, cell: Cell) -> Row:
    """Break a run as the cell says and look at what is left."""
    row, began = Row(cell), time.monotonic()
    try:
        _try(target, cell, row)
    except (Broken, AssertionError, httpx.HTTPError, DeployError, OSError, RuntimeError, ValueError) as error:
        row.trouble = " ".join(f"{type(error).__name__}: {error}".split())[:600]
    row.seconds = time.monotonic() - began
    return row


def _try(target: Target, cell: Cell, row: Row) -> None:
    scenario, step = SCENARIOS[cell.scenario], cell.step
    words = begin(target, cell.scenario)
    old = target.whole()
    new = old - 1 if cell.scenario == "rollback" else target.version
    order = Order(
        target.name,
        cell.kind,
        step.id,
        cell.half,
        step.seconds,
        step.commands,
        mark=str(target.folder / "mark"),
        broken=scenario.broken,
    )
    names = {old: "same"} if old == new else {old: "old", new: "new"}
    if cell.kind not in NOTICED:
        with target.visitors(rate=8) as traffic:
            _break_and_go_on(target, cell, row, order, words, names)
        numbers = traffic.count()
        row.requests, row.failed = numbers.requests, numbers.failed
        if numbers.failed:
            raise Broken(f"{numbers.failed} requests failed: {'; '.join(numbers.troubles)}")
    else:
        _break_and_go_on(target, cell, row, order, words, names)
    target.clean()


def _break_and_go_on(
    target: Target, cell: Cell, row: Row, order: Order, words: list[str], names: dict[int, str]
) -> None:
    scenario = SCENARIOS[cell.scenario]
    result = target.broken_run(order, *words)
    row.code = result.code
    if cell.kind != "sigkill-next":
        row.rest = target.at_rest()
        served = target.whole()
        row.served = names.get(served, f"v{served}")
        document = result.json if result.out.strip() else {}
        if trouble := broken_promise(cell, result.code, row.served, document):
            raise Broken(f"{trouble}; {document.get('error')}; {result.err[-300:]}")
        if scenario.end:
            scenario.end(target, result.code)
        target.deploy()
    else:
        target.deploy("--wait", "120")
        if scenario.end:
            scenario.end(target, result.code)


def broken_promise(cell: Cell, code: int, served: str, document: dict) -> str:
    """What the exit code and the document say that is not so; "" when all is true."""
    scenario, step, kind = SCENARIOS[cell.scenario], cell.step, cell.kind
    after_switch = step.id.startswith("after_switch_")
    if served not in ("old", "new", "same"):
        return f"{served} is live, neither the old nor the new version"
    allowed = {
        "fail": {0} if step.id in TIDYING else {8} if after_switch else {6} if step.live and scenario.way_back else {5},
        "sigkill": {-9},
        "sigint": {130},
        "sigint-twice": {130},
        "cut": {3},
        "minute": {3},
        "blip": {0},
        "power": {3},
        "runner": {3},
        "master": {0, 5, 6},
        "renewal": {0},
    }
    allowed["fail-late"] = allowed["killed"] = allowed["fail"]
    right = allowed[kind]
    if scenario.broken:  # that it failed is said, whatever happens to the tidying or to a first Ctrl-C
        right = {6 if code in (0, 5) else code for code in right}
        right |= {6} if step.id in TIDYING or kind.startswith("sigint") else set()
    if code not in right:
        return f"exit {code}, not {' or '.join(map(str, sorted(right)))}"
    if document.get("site_state", "").startswith("unknown"):
        return ""  # it says so, and the next deploy will see
    if code in (5, 6) and served == "new":
        return f"exit {code}, and the {served} release is live"
    if code in (0, 8) and served == "old":
        return f"exit {code}, and the {served} release is live"
    state = document.get("site_state", "")
    if code == 130 and state.startswith("as before") and served == "new":
        return f"site_state is {state!r}, and the {served} release is live"
    if code == 130 and state.endswith("is live") and "as before" not in state and served == "old":
        return f"site_state is {state!r}, and the {served} release is live"
    return ""


def cells(steps: dict[str, list[TracedStep]], faults: Sequence[str], rounds: int = 0) -> list[Cell]:
    """Every fault in every step, in rounds: in each, every step meets one fault, and its neighbour the next fault.

    Only the first `rounds` of them, if given: a sample that nobody picked by hand.
    """
    every = [(scenario, step) for scenario, those in steps.items() for step in those]
    return [
        Cell(scenario, step, faults[(number + turn) % len(faults)])
        for turn in range(min(rounds, len(faults)) or len(faults))
        for number, (scenario, step) in enumerate(every)
    ]


class Matrix:
    """Hosts that work off a list of cells side by side; a host that something broke is made anew."""

    def __init__(self, targets: list[Target]) -> None:
        self.targets = targets
        self.rows: list[Row] = []
        self._speaking = threading.Lock()
        self._over = threading.Event()

    def run(self, todo: Iterable[Cell]) -> list[Row]:
        """Try every cell; each row is printed when it is known."""
        waiting: queue.SimpleQueue[Cell] = queue.SimpleQueue()
        for cell in todo:
            waiting.put(cell)
        threads = [threading.Thread(target=self._work, args=(target, waiting)) for target in self.targets]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except BaseException:  # told to stop: each host finishes its cell
            self._over.set()
            raise
        finally:
            for thread in threads:
                thread.join()
        return self.rows

    def _work(self, target: Target, waiting: "queue.SimpleQueue[Cell]") -> None:
        sound = True
        while not self._over.is_set():
            try:
                cell = waiting.get_nowait()
            except queue.Empty:
                return
            if not sound:
                target.prepare()
            row = try_cell(target, cell)
            sound = not row.trouble
            with self._speaking:
                self.rows.append(row)
                tell(row.line())


def summary(rows: list[Row], seconds: float) -> dict:
    """The totals."""
    bad = [row for row in rows if row.trouble]
    served = Counter(row.served for row in rows)
    return {
        "cells": len(rows),
        "held": len(rows) - len(bad),
        "by_fault": {
            fault: f"{sum(not r.trouble for r in rows if r.cell.fault == fault)}/{n}"
            for fault, n in sorted(Counter(row.cell.fault for row in rows).items())
        },
        "served_old": served["old"],
        "served_new": served["new"],
        "requests": sum(row.requests for row in rows),
        "failed_requests": sum(row.failed for row in rows),
        "longest_rest_s": round(max((row.rest for row in rows), default=0.0), 1),
        "seconds": round(seconds),
    }


def tell(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def matrix(
    *,
    scenarios: Sequence[str] = tuple(SCENARIOS),
    faults: Sequence[str] = tuple(FAULTS),
    titles: Sequence[str] = (),
    sample: int = 0,
    hosts: int = 1,
    skip: int = 0,
    prefix: str = "f",
    pace: float = PACE,
) -> list[Row]:
    """Run the matrix, or a part of it, on new hosts that are gone afterwards; not the first `skip` cells."""
    with tempfile.TemporaryDirectory() as folder:
        targets = [
            Target(f"{prefix}-{number}", Path(folder) / str(number), pace=pace) for number in range(1, hosts + 1)
        ]
        try:
            with ThreadPoolExecutor() as pool:
                list(pool.map(Target.prepare, targets))
            steps = {scenario: discover(targets[0], scenario) for scenario in scenarios}
            todo = cells(steps, faults, sample)
            if titles:
                todo = [cell for cell in todo if any(part.lower() in cell.step.title.lower() for part in titles)]
            tell(f"{sum(map(len, steps.values()))} steps, {len(faults)} faults, {len(todo)} cells, {hosts} hosts")
            return Matrix(targets).run(todo[skip:])
        finally:
            for target in targets:
                lab.down(target.name, say=lambda _: None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="faults:\n" + "\n".join(f"  {name:<13} {text}" for name, text in FAULTS.items()),
    )
    parser.add_argument("--scenarios", default=",".join(SCENARIOS), help="some of " + ", ".join(SCENARIOS))
    parser.add_argument("--faults", default=",".join(FAULTS), help="some of those below, with commas")
    parser.add_argument("--steps", default="", help="parts of titles, with commas; all steps when not given")
    parser.add_argument("--sample", type=int, default=0, help="only so many faults per step, by a fixed rule")
    parser.add_argument("--hosts", type=int, default=1, help="lab hosts side by side")
    parser.add_argument("--skip", type=int, default=0, help="go on after so many cells of an earlier run")
    parser.add_argument("--pace", type=float, default=PACE, help=f"1: a minute is a minute (default: {PACE})")
    given = parser.parse_args()
    faults = given.faults.split(",")
    if unknown := set(faults) - set(FAULTS):
        parser.error(f"unknown faults: {', '.join(sorted(unknown))}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no host is left
    began = time.monotonic()
    rows = matrix(
        scenarios=given.scenarios.split(","),
        faults=faults,
        titles=[part for part in given.steps.split(",") if part],
        sample=given.sample,
        hosts=given.hosts,
        skip=given.skip,
        pace=given.pace,
    )
    totals = summary(rows, time.monotonic() - began)
    for row in rows:
        if row.trouble:
            tell(row.line())
    tell(f"{totals['held']} of {totals['cells']} hold")
    tell(json.dumps(totals))
    sys.exit(0 if rows and totals["held"] == totals["cells"] else 1)


if __name__ == "__main__":
    main()
