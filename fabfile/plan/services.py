"""What runs of an app on its host, each as a value: the website, its workers, its timers. Nothing else names a unit."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from fabfile.config.layout import Layout
from fabfile.config.processes import MANAGE, Process
from fabfile.plan import rendering

if TYPE_CHECKING:
    from fabfile.config.settings import Settings

Kind = Literal["web", "worker", "timer", "roller"]

UNITS = PurePosixPath("/etc/systemd/system")
ROLL = Path(__file__).parents[1] / "host/roll_processes.sh"


@dataclass(frozen=True)
class Service:
    """One of the things that run: the files that only root may write, and its units for systemctl and journalctl.

    `units` may be patterns: the instances of a worker are named after their releases.
    """

    name: str
    kind: Kind
    files: Mapping[PurePosixPath, str]
    units: tuple[str, ...]


def services(settings: "Settings") -> tuple[Service, ...]:
    """Return all that is to run, the website first; where there are processes, what starts them comes last."""
    processes = [process(settings, name, value) for name, value in settings.processes.items()]
    return (web(settings), *processes, *([roller(settings)] if processes else []))


def web(settings: "Settings") -> Service:
    """Return the website: gunicorn behind its socket, and the site of nginx."""
    layout = Layout.of(settings)
    files = {
        layout.service_file: rendering.service(settings),
        layout.socket_file: rendering.socket(settings),
        layout.site_file: rendering.site(settings),
    }
    return Service("web", "web", files, (f"{layout.unit}.service",))


def process(settings: "Settings", name: str, value: Process) -> Service:
    """Return a worker, or a timer with its job."""
    unit = f"{settings.name}-{name}"
    if value.schedule is None:
        files = {UNITS / f"{unit}@.service": rendering.process(settings, name)}
        return Service(name, "worker", files, (f"{unit}@*.service",))
    files = {
        UNITS / f"{unit}.service": rendering.process(settings, name),
        UNITS / f"{unit}.timer": rendering.timer(settings, name),
    }
    return Service(name, "timer", files, (f"{unit}.service", f"{unit}.timer"))


def roller(settings: "Settings") -> Service:
    """Return what brings the processes to the live release: at boot, and whenever somebody starts it.

    A host that has one keeps it when its last process has left hosts.toml, for it takes that one away.
    """
    unit, script = roller_unit(settings), PurePosixPath("/usr/local/lib") / settings.name / ROLL.name
    files = {
        UNITS / unit: rendering.roller(settings, script, [_word(*item) for item in settings.processes.items()]),
        script: ROLL.read_text(),
    }
    return Service("processes", "roller", files, (unit,))


def roller_unit(settings: "Settings") -> str:
    return f"{settings.name}-processes.service"


def _word(name: str, value: Process) -> str:
    """A process as `roll_processes.sh` is told of it."""
    kind = "timer" if value.schedule is not None else "singleton" if value.singleton else "worker"
    return f"{kind}:{name}:{value.instances}"


def is_manage(value: Process) -> bool:
    """Whether the command is one of manage.py."""
    return value.words[0] == MANAGE
