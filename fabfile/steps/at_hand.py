"""Steps of a person's commands in the live release (host/lib/at_hand.sh)."""

from collections.abc import Sequence

from ..config.layout import Release
from ..config.settings import Settings
from . import django
from .step import Step

LIVE = "find_the_live_release"
WORDS = "words"  # the file with the words of a command


def find_live() -> Step:
    """Answer with the live release and the runner's folder; fails when nothing is live."""
    return Step(LIVE, "Find the live release", "find_live")


def run_by_hand(settings: Settings, release: Release, *, manage: bool) -> Step:
    """Run what the file `words` says, of manage.py or any; to be run in a channel of its own."""
    parameters = {
        "release": release.root,
        "project": settings.project,
        "manage_py": settings.manage if manage else None,
        **django.doppler(settings),
        "lock": settings.timeouts.lock,
    }
    return Step("run_the_command", "Run the command", "run_by_hand", parameters)


def end_command() -> Step:
    """End the command that runs in a channel of its own, with its children."""
    return Step("end_the_command", "End the command", "end_command")


def words(command: Sequence[str]) -> bytes:
    """The words of a command as the host reads them."""
    return "".join(f"{word}\0" for word in command).encode()
