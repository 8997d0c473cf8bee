"""history: who changed what is live, when, and how it ended. Writes nothing."""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ..output.console import printable
from ..session.run import Run
from ..ssh.connection import connect
from ..steps import release

HEAD = ("when (UTC)", "who", "verb", "branch", "release", "seconds", "how it ended")
LONGEST = 100  # characters of a failure that a row shows


def history(run: Run, lines: int) -> None:
    """Show the newest entries of the host's history, the newest last."""
    with connect(run.host) as connection, connection.runner() as runner:
        said = runner.run([release.read_history(lines)]).output(release.HISTORY)
    entries = [entry for line in said.splitlines() if (entry := parse(line))]
    run.outcome.details = {"history": entries}
    if not entries:
        run.console.say(f"{run.name}: nothing was deployed yet")
        return
    rows = [HEAD, *map(row, entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for each in rows:
        cells = (f"{cell:<{width}}" for cell, width in zip(each, widths, strict=True))
        run.console.say(f"  {'  '.join(cells)}".rstrip())


def parse(line: str) -> dict[str, Any] | None:
    """An entry of the history; None for half a line of a run that was cut."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def row(entry: Mapping[str, Any]) -> tuple[str, ...]:
    """What a person reads of an entry: one line, whatever an older version or a failure has put into it."""
    how = str(entry.get("outcome", ""))
    if how == "live" and entry.get("activation"):
        how = f"live ({entry['activation']})"
    cells = [entry.get(key) for key in ("by", "verb", "branch", "release", "seconds")]
    how = next(iter(how.splitlines()), "")[:LONGEST]
    return tuple(printable(" ".join(str(cell or "-").split())) for cell in (when(entry), *cells, how))


def when(entry: Mapping[str, Any]) -> str:
    """The time as a person reads it."""
    try:
        return f"{datetime.fromisoformat(str(entry.get('at'))):%Y-%m-%d %H:%M}"
    except ValueError:
        return ""
