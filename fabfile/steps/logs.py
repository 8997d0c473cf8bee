"""Steps that read the logs of the service and of nginx (host/lib/logs.sh)."""

from fabfile.steps.step import Step

JOURNAL = "read_the_journal"
NGINX_ERRORS = "read_nginx_s_error_log"


def journal(lines: int) -> Step:
    """The last lines of the service's journal."""
    return Step(JOURNAL, "Read the journal", "read_journal", {"lines": lines})


def follow(unit: str, lines: int) -> list[str]:
    """The words of the command that shows the journal and goes on showing it."""
    return ["journalctl", "--unit", unit, "--lines", str(lines), "--no-pager", "--output", "short-iso", "--follow"]


def nginx_errors(lines: int) -> Step:
    """The last lines of the site's nginx error log, as far as this user may read it."""
    return Step(NGINX_ERRORS, "Read nginx's error log", "read_nginx_errors", {"lines": lines})
