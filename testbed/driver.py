"""`fab` with a fault in it: started by `testbed.target` with an order, it breaks one step of the run at one point.

The tool runs in this process as ever; only what is sent for the chosen step differs: it says on the host where it is,
and waits there until the fault has come.
"""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fabric.main import program

from fabfile.output.console import Console
from fabfile.ssh import library, login
from fabfile.ssh import runner as runners
from fabfile.ssh.runner import Runner
from fabfile.steps.step import Step, StepResult
from testbed import lab

HOLD = 0.6  # seconds that a step waits for its fault
HOLDS = {"renewal": 4}  # which takes longer
FAULT = Path(__file__).with_name("fault.sh")
TOKEN = "@fault"  # noqa: S105 - begins a line by which a step speaks to this driver, as in fault.sh
BESIDE = 1  # command of fault.sh that counts as the step's
LONG = 0.4  # seconds from which on a step is broken by time, not between two of its commands

PACE = 0.2  # of the times that the tool waits for a network, and of those that the network is away


@dataclass(frozen=True)
class Order:
    """What is to go wrong, where: `seconds` and `commands` are those of the step in a run without faults.

    `half` breaks the step in its middle, else before its first command. `mark` is a file that says when it happened;
    `trace`, one that gets a line of JSON for each step. `broken` names a step that fails besides.
    `pace` is what the tool's waits for a network are multiplied by.
    """

    host: str
    fault: str = ""
    step: str = ""
    half: bool = False
    seconds: float = 0.0
    commands: int = 0
    mark: str = ""
    trace: str = ""
    broken: str = ""
    pace: float = PACE


class Driver:
    """Puts the order's fault into a run."""

    def __init__(self, order: Order) -> None:
        self.order = order
        self.over = False
        self.commands = 0

    def change(self, step: Step) -> Step:
        """The step as it is sent to the host."""
        if step.id == self.order.broken:
            return with_fault(step, "broken")
        if self.order.trace:
            return with_fault(step, "count")
        if step.id != self.order.step or self.over:
            return step
        return self._break(step)

    def _break(self, step: Step) -> Step:
        fault, half = self.order.fault, self.order.half
        if fault in ("fail", "fail-late"):
            return with_fault(step, fault.replace("-", "_"))
        kind = "killed" if fault == "killed" else "hold"
        if half and self.order.seconds >= LONG:
            return with_fault(step, f"{kind}_later", f"{self.order.seconds / 3:.2f}")  # it may be quicker than it was
        return with_fault(step, kind, str(self.order.commands // 2 + 1 if half else 1), HOLDS.get(fault, HOLD))

    def hear(self, runner: Runner, line: bytes) -> None:
        """A line of a step that is meant for us: how many commands it ran, or that it is where the fault belongs."""
        words = line.decode().split()
        if len(words) > 1:
            self.commands = int(words[1]) - BESIDE
        elif not self.over:
            self.over = True
            fault = FAULTS.get(self.order.fault, lambda *_: None)
            if self.order.fault in SUICIDES:
                self._mark()
            fault(self.order, runner)
            self._mark()

    def _mark(self) -> None:
        if self.order.mark:
            Path(self.order.mark).touch()

    def trace(self, result: StepResult) -> None:
        """Note how a step went."""
        entry = {
            "id": result.step.id,
            "title": result.step.title,
            "live": result.step.live,
            "seconds": result.seconds,
            "commands": self.commands,
        }
        with Path(self.order.trace).open("a") as file:
            file.write(f"{json.dumps(entry)}\n")


def with_fault(step: Step, fault: str, at: str = "", hold: float = HOLD) -> Step:
    """The step with a function of fault.sh around its own."""
    around = {"fault": fault, "at": at, "hold": str(hold), "function": step.function}
    return replace(step, function="with_fault", parameters={**around, **step.parameters})


def interrupt(*_: Any) -> None:
    """Press Ctrl-C, while the main thread waits for the host."""
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()


def interrupt_twice(*_: Any) -> None:
    """Press Ctrl-C twice."""
    for seconds in (0.05, 0.25):
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def cut_power(order: Order, _runner: Runner) -> None:
    """Cut the power; the cable first, for a dead machine sends no farewell."""
    host = found(order)
    lab.cut_network(host)
    lab.power_cut(host)


def kill_runner(order: Order, runner: Runner) -> None:
    """Kill what runs the steps on the host."""
    lab.execute(found(order), "kill", "-KILL", str(runner.pid))


def kill_master(order: Order, _runner: Runner) -> None:
    """Kill the gunicorn that serves the site."""
    lab.execute(found(order), "sh", "-c", "kill -KILL $(cat /run/consult-django/gunicorn.pid)")


def found(order: Order) -> lab.LabHost:
    host = lab.find(order.host)
    if host is None:
        raise SystemExit(f"{order.host} does not run")
    return host


FAULTS: dict[str, Callable[[Order, Runner], None]] = {
    "sigkill": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "sigkill-next": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "sigint": interrupt,
    "sigint-twice": interrupt_twice,
    "cut": lambda order, _: lab.cut_network(found(order)),
    "minute": lambda order, _: lab.cut_network(found(order)),
    "blip": lambda order, _: lab.cut_network(found(order)),
    "power": cut_power,
    "runner": kill_runner,
    "master": kill_master,
    "renewal": lambda order, _: lab.renew_certificates(found(order)),
}


SUICIDES = ("sigkill", "sigkill-next")


def install(driver: Driver) -> None:
    """Put the driver between the tool and the host."""
    call, next_line, end = runners._call, Runner._line, Console.end
    sent = {**library.files(), "lib/fault.sh": FAULT.read_bytes()}

    def changed_call(number: int, step: Step) -> str:
        return call(number, driver.change(step))

    def heard_line(runner: Runner) -> bytes | None:
        while (line := next_line(runner)) is not None and line.startswith(TOKEN.encode()):
            driver.hear(runner, line)
        return line

    def traced_end(console: Console, result: StepResult) -> None:
        if driver.order.trace:
            driver.trace(result)
        end(console, result)

    for place, name, value in (
        (library, "files", lambda: sent),
        (runners, "_call", changed_call),
        (Runner, "_line", heard_line),
        (Console, "end", traced_end),
    ):
        setattr(place, name, value)
    for place, name in (
        (login, "KEEPALIVE_TIMEOUT"),
        (login, "KEEPALIVE_INTERVAL"),
        (runners, "PATIENCE"),
        (runners, "HEARTBEAT"),
    ):
        setattr(place, name, max(1, round(getattr(place, name) * driver.order.pace)))


def main() -> None:
    """`python -m testbed.driver ORDER WORDS...`: run `fab WORDS...` with the order's fault."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script starts with &
    install(Driver(Order(**json.loads(sys.argv[1]))))
    program.run(["fab", *sys.argv[2:]])


if __name__ == "__main__":
    main()
