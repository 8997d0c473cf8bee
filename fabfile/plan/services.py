"""What runs of an app on its host, each as a value: the website, its workers, its timers, and what starts those."""

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from ..config.layout import Layout

if TYPE_CHECKING:
    from ..config.settings import Settings
    from .state import HostState

Kind = Literal["web", "worker", "singleton", "timer", "roller"]

PROGRAMS = PurePosixPath("/usr/local/lib")


@dataclass(frozen=True)
class Service:
    """One of the things that run: the files that only root may write, and its units for systemctl and journalctl.

    `units` may be patterns: the instances of a worker are named after their releases.
    """

    name: str
    kind: Kind
    files: tuple[PurePosixPath, ...]
    units: tuple[str, ...]


def services(layout: Layout, *, leaving: bool = False) -> tuple[Service, ...]:
    """Return all that is to run, the website first and the roller last, where there are processes.

    A host whose last process is `leaving` hosts.toml keeps the roller, for that takes it away.
    """
    beside = [process(layout, name, kind) for name, kind in layout.processes]
    return (web(layout), *beside, *([roller(layout)] if beside or leaving else []))


def web(layout: Layout) -> Service:
    """Return the website: gunicorn behind its socket, and the site of nginx."""
    return Service("web", "web", layout.installed_files, (f"{layout.unit}.service",))


def process(layout: Layout, name: str, kind: Kind) -> Service:
    """Return a worker, or a timer with its job."""
    unit, units = f"{layout.name}-{name}", layout.service_file.parent
    if kind == "timer":
        return Service(name, kind, (units / f"{unit}.service", units / f"{unit}.timer"), (f"{unit}.service",))
    return Service(name, kind, (units / f"{unit}@.service",), (f"{unit}@*.service",))


def roller(layout: Layout) -> Service:
    """Return what brings the processes to the live release: at boot, and whenever somebody starts it."""
    unit = f"{layout.name}-processes.service"
    files = (layout.service_file.parent / unit, PROGRAMS / f"{layout.name}-processes.sh")
    return Service("processes", "roller", files, (unit,))


def patience(settings: "Settings") -> int:
    """Seconds that the roller may take: it sees that new workers stay, and waits for a singleton to end."""
    ends = (process.stop_timeout for process in settings.processes.values() if process.singleton)
    return 60 + settings.timeouts.stay + max(ends, default=0)


def amiss(settings: "Settings", state: "HostState") -> list[str]:
    """Return what does not run of the live release as hosts.toml says, a few words each; nothing when all does."""
    running = instances(settings, state)
    wrong = [f"{name} still runs" for name in running if name not in settings.processes]
    for name, process in settings.processes.items():
        if process.schedule is None:
            releases = running.get(name, [])
            if releases.count(state.live) != process.instances:
                wrong.append(f"{releases.count(state.live)} of {process.instances} {name} run of the live release")
            wrong += [f"{name} of {each} still runs" for each in sorted(set(releases) - {state.live})]
        elif state.units.get(f"{settings.name}-{name}.timer") != "active":
            wrong.append(f"the timer of {name} does not run")
    return wrong


def instances(settings: "Settings", state: "HostState", *states: str) -> dict[str, list[str]]:
    """Return the releases of each worker's instances in one of these states, by the worker's name."""
    found: dict[str, list[str]] = {}
    for unit, unit_state in state.units.items():
        match = re.fullmatch(rf"{re.escape(settings.name)}-([a-z0-9_]+)@([^:]+):[0-9]+\.service", unit)
        if match and unit_state in (states or ("active", "activating")):
            found.setdefault(match[1], []).append(match[2])
    return found
