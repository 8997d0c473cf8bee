"""Reading the logs of the service and of nginx."""

from shlex import quote

from fabfile.config.layout import Layout
from fabfile.steps.step import Step


def tail(layout: Layout, lines: int) -> Step:
    """The last lines of the service's journal."""
    return Step(
        "Read the journal",
        f"journalctl --unit {layout.unit} --lines {int(lines)} --no-pager --output short-iso 2>&1 || true",
    )


def nginx_errors(layout: Layout, lines: int) -> Step:
    """The last lines of the site's nginx error log, as far as this user may read it."""
    log = quote(f"/var/log/nginx/{layout.unit}.error.log")
    return Step("Read nginx's error log", f"tail -n {int(lines)} {log} 2>/dev/null || true")


def follow(layout: Layout, lines: int) -> str:
    """The command that shows the journal and goes on showing it."""
    return f"journalctl --unit {layout.unit} --lines {int(lines)} --no-pager --output short-iso --follow"
