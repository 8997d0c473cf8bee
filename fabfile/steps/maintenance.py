"""Steps that close the site and open it again (host/lib/maintenance.sh)."""

from collections.abc import Iterable

from .step import Step

OPEN = "open_the_site"
LONGEST = 60  # seconds for which requests can wait: after that nginx would answer some of them itself


def close(addresses: Iterable[str]) -> Step:
    """Show the page, sent as `maintenance.html`, to all who do not come from these addresses."""
    return Step("close_the_site", "Close the site", "close_site", {"addresses": list(addresses)})


def hold(seconds: int, patience: int = 60) -> Step:
    """Let requests wait in the socket for so many seconds; what has begun has `patience` seconds to end."""
    parameters = {"seconds": seconds, "patience": patience}
    return Step("let_requests_wait", "Let requests wait", "hold_requests", parameters, timeout=90)


def open_again() -> Step:
    """Answers with a line for each thing that had closed it: `page`, `hold`."""
    return Step(OPEN, "Open the site", "open_site")
