"""Steps of the workers and timers beside the website (host/lib/processes.sh)."""

from ..config.layout import Release
from ..config.settings import Settings
from ..plan.services import patience
from .django import doppler
from .step import Step


def prove(settings: Settings, release: Release) -> Step:
    """See that each can start from this release: its program or command is there, and systemd knows its schedule."""
    processes = settings.processes.items()
    return Step(
        "prove_that_workers_and_timers_can_start",
        "Prove that workers and timers can start",
        "prove_processes",
        {
            "release": release.root,
            "project": settings.project,
            "manage_py": settings.manage,
            **doppler(settings),
            "commands": [f"{name} {process.command}" for name, process in processes],
            "schedules": [f"{name} {process.schedule}" for name, process in processes if process.schedule],
        },
        timeout=settings.timeouts.boot,
    )


def roll(settings: Settings, release: Release) -> Step:
    """Start the live release's workers and timers; the old ones get one SIGTERM, and are not waited for."""
    return Step(
        "bring_workers_and_timers_to_it",
        "Bring workers and timers to it",
        "roll_processes",
        {"release": release.root, "project": settings.project, "linked_dirs": settings.linked_dirs},
        timeout=patience(settings) + 30,
        live=True,
    )
