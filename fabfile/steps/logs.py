"""Steps that read the logs of the service and of nginx (host/lib/logs.sh)."""

from ..plan.services import Service
from .step import Step

JOURNAL = "read_the_journal"
NGINX = "see_what_nginx_says"
NGINX_ERRORS = "read_nginx_s_error_log"


def journal(service: Service, lines: int) -> Step:
    """The last lines of a service's journal."""
    return Step(JOURNAL, "Read the journal", "read_journal", {"units": service.units, "lines": lines})


def follow(service: Service, lines: int) -> list[str]:
    """The words of the command that shows a service's journal and goes on showing it."""
    units = [word for unit in service.units for word in ("--unit", unit)]
    return ["journalctl", *units, "--lines", str(lines), "--no-pager", "--output", "short-iso", "--follow"]


def nginx(lines: int) -> Step:
    """The last lines of nginx's own journal, and what `nginx -t` holds against its files."""
    return Step(NGINX, "See what nginx says", "read_nginx", {"lines": lines})


def nginx_errors(lines: int) -> Step:
    """The last lines of the site's nginx error log, as far as this user may read it."""
    return Step(NGINX_ERRORS, "Read nginx's error log", "read_nginx_errors", {"lines": lines})
