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
from shlex import quote
from typing import Any

from fabric.main import program

from fabfile.output.report import Report
from fabfile.ssh import connection as remote
from fabfile.ssh import runner as conductor
from fabfile.ssh.runner import Conductor
from fabfile.steps.step import Step, StepEnd
from testbed import lab

HOLD = 0.6  # seconds that a step waits for its fault
TOKEN = "@fault"  # noqa: S105 - begins a line by which a step speaks to this driver
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
        if step.title == self.order.broken:
            return replace(step, script="echo broken on purpose; exit 1")
        if self.order.trace:
            return replace(step, script=f"{COUNT}\n{step.script}")
        if step.title != self.order.step or self.over:
            return step
        return replace(step, script=self._break(step.script))

    def _break(self, script: str) -> str:
        fault, half = self.order.fault, self.order.half
        if fault == "fail":
            return f"echo '{TOKEN}'; echo broken on purpose; exit 1"
        if fault == "fail-late":
            return f"trap 'echo {TOKEN}; echo broken on purpose; exit 1' EXIT\n{script}"
        # The group's leader is `timeout`, with this bash and all that it runs in its group.
        then = "kill -KILL -- -$PPID" if fault == "killed" else f"sleep {HOLD}"
        if half and self.order.seconds >= LONG:
            pause = self.order.seconds / 3  # it may be quicker than it was
            return f"(sleep {pause:.2f}; echo '{TOKEN}'; {then}) 9>&- &\n{script}"
        here = self.order.commands // 2 + 1 if half else 1
        at = f"if [ $((DEPLOY_N += 1)) = {here} ]; then echo '{TOKEN}' >&7; {then}; fi"
        return f"exec 7>&1; DEPLOY_N=0; trap {quote(at)} DEBUG\n{script}"

    def hear(self, conductor: Conductor, line: bytes) -> None:
        """A line of a step that is meant for us: how many commands it ran, or that it is where the fault belongs."""
        words = line.decode().split()
        if len(words) > 1:
            self.commands = int(words[1]) - 2  # the two of COUNT that come after its first trap
        elif not self.over:
            self.over = True
            fault = FAULTS.get(self.order.fault, lambda *_: None)
            if self.order.fault in SUICIDES:
                self._mark()
            fault(self.order, conductor)
            self._mark()

    def _mark(self) -> None:
        if self.order.mark:
            Path(self.order.mark).touch()

    def trace(self, end: StepEnd) -> None:
        """Note how a step went."""
        entry = {"title": end.step.title, "live": end.step.live, "seconds": end.seconds, "commands": self.commands}
        with Path(self.order.trace).open("a") as file:
            file.write(f"{json.dumps(entry)}\n")


COUNT = (
    "exec 7>&1; DEPLOY_N=0; trap 'DEPLOY_N=$((DEPLOY_N + 1))' DEBUG; "
    f"trap 'trap - DEBUG; echo {TOKEN} $DEPLOY_N >&7' EXIT"
)


def interrupt(*_: Any) -> None:
    """Press Ctrl-C, while the main thread waits for the host."""
    threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()


def interrupt_twice(*_: Any) -> None:
    """Press Ctrl-C twice."""
    for seconds in (0.05, 0.25):
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def cut_power(order: Order, _conductor: Conductor) -> None:
    """Cut the power; the cable first, for a dead machine sends no farewell."""
    host = found(order)
    lab.cut_network(host)
    lab.power_cut(host)


def kill_conductor(order: Order, conductor: Conductor) -> None:
    """Kill what runs the steps on the host."""
    lab.execute(found(order), "kill", "-KILL", str(conductor.pid))


def kill_master(order: Order, _conductor: Conductor) -> None:
    """Kill the gunicorn that serves the site."""
    lab.execute(found(order), "sh", "-c", "kill -KILL $(cat /run/consult-django/gunicorn.pid)")


def found(order: Order) -> lab.LabHost:
    host = lab.find(order.host)
    if host is None:
        raise SystemExit(f"{order.host} does not run")
    return host


FAULTS: dict[str, Callable[[Order, Conductor], None]] = {
    "sigkill": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "sigkill-next": lambda *_: os.kill(os.getpid(), signal.SIGKILL),
    "sigint": interrupt,
    "sigint-twice": interrupt_twice,
    "cut": lambda order, _: lab.cut_network(found(order)),
    "minute": lambda order, _: lab.cut_network(found(order)),
    "blip": lambda order, _: lab.cut_network(found(order)),
    "power": cut_power,
    "conductor": kill_conductor,
    "master": kill_master,
}


SUICIDES = ("sigkill", "sigkill-next")


def install(driver: Driver) -> None:
    """Put the driver between the tool and the host."""
    call, next_line, end = conductor._call, Conductor._line, Report.end

    def changed_call(number: int, step: Step) -> str:
        return call(number, driver.change(step))

    def heard_line(conductor: Conductor) -> bytes | None:
        while (line := next_line(conductor)) is not None and line.startswith(TOKEN.encode()):
            driver.hear(conductor, line)
        return line

    def traced_end(report: Report, step_end: StepEnd) -> None:
        if driver.order.trace:
            driver.trace(step_end)
        end(report, step_end)

    for place, name, value in (
        (conductor, "_call", changed_call),
        (Conductor, "_line", heard_line),
        (Report, "end", traced_end),
    ):
        setattr(place, name, value)
    for place, name in (
        (remote, "KEEPALIVE_TIMEOUT"),
        (remote, "KEEPALIVE_INTERVAL"),
        (conductor, "PATIENCE"),
        (conductor, "HEARTBEAT"),
    ):
        setattr(place, name, max(1, round(getattr(place, name) * driver.order.pace)))


def main() -> None:
    """`python -m testbed.driver ORDER WORDS...`: run `fab WORDS...` with the order's fault."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in what a script starts with &
    install(Driver(Order(**json.loads(sys.argv[1]))))
    program.run(["fab", *sys.argv[2:]])


if __name__ == "__main__":
    main()
