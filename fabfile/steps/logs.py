"""Steps that read the logs of the service and of nginx (host/lib/logs.sh)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ..config.layout import Layout
from ..plan.services import Service
from .step import Step, Value

SINCE = "see_the_time"
JOURNAL = "read_the_journal"
NGINX = "see_what_nginx_says"
NGINX_ERRORS = "read_nginx_s_error_log"
NGINX_LOG = "read_the_site_s_nginx_logs"


@dataclass(frozen=True)
class Lines:
    """The newest `count` lines; none older than `since`, as journalctl takes it; only those with `text`."""

    count: int
    since: str = ""
    text: str = ""

    @property
    def pattern(self) -> str:
        """`text` as a regular expression."""
        return re.escape(self.text)


def see_since(since: str) -> Step:
    """Answer with `work` and the runner's folder; fails with journalctl's words for a time that is none."""
    return Step(SINCE, "See the time", "see_since", {"since": since})


def journal(service: Service, lines: Lines) -> Step:
    """The last lines of a service's journal."""
    parameters = {"units": service.units, "lines": lines.count, "since": lines.since, "pattern": lines.pattern}
    return Step(JOURNAL, "Read the journal", "read_journal", parameters)


def follow(service: Service, lines: Lines) -> list[str]:
    """The words of the command that shows a service's journal and goes on showing it."""
    units = [word for unit in service.units for word in ("--unit", unit)]
    only = ["--since", lines.since] if lines.since else []
    only += ["--grep", lines.pattern, "--case-sensitive=no"] if lines.text else []
    return ["journalctl", *units, "--lines", str(lines.count), "--no-pager", "--output", "short-iso", "--follow", *only]


def nginx(lines: int) -> Step:
    """The last lines of nginx's own journal, and what `nginx -t` holds against its files."""
    return Step(NGINX, "See what nginx says", "read_nginx", {"lines": lines})


def nginx_errors(layout: Layout, lines: Lines) -> Step:
    """The last lines of the site's nginx error log, as far as this user may read it."""
    return Step(NGINX_ERRORS, "Read nginx's error log", "read_nginx_log", _log([layout.error_log], lines))


def nginx_log(layout: Layout, lines: Lines) -> Step:
    """The last of the site's requests and of nginx's errors, by their times."""
    return Step(NGINX_LOG, "Read the site's nginx logs", "read_nginx_log", _log(_both(layout), lines))


def follow_nginx_log(layout: Layout, lines: Lines) -> Step:
    """The same, and what comes; to be run in a channel of its own."""
    title = "Follow the site's nginx logs"
    return Step("follow_the_site_s_nginx_logs", title, "follow_nginx_log", _log(_both(layout), lines))


def _both(layout: Layout) -> list[PurePosixPath]:
    return [layout.access_log, layout.error_log]


def _log(files: Sequence[PurePosixPath], lines: Lines) -> dict[str, Value]:
    return {"files": files, "lines": lines.count, "since": lines.since, "text": lines.text}
