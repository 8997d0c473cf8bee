"""Steps that take an app off its server, run as root (host/lib/remove.sh)."""

from ..config.settings import Settings
from .step import Step

LOOK = "look_what_goes"
REMOVE = "remove_the_app"


def look() -> Step:
    """Answer with what would go and what would stay; refuses an app that others lean on."""
    return Step(LOOK, "Look what goes", "look_what_goes")


def remove(settings: Settings) -> Step:
    """Take it off, and answer with what is gone and what is kept."""
    return Step(REMOVE, "Remove the app", "remove_app", {"user": settings.user}, timeout=300, live=True)
