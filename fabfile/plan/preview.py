"""What a deploy would do, as values that `plan` tells: read from what the host answered. Pure.

`uv run python -m fabfile.plan.preview` writes the schema of the document to docs/plan.schema.json.
"""

import json
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict, Field

SCHEMA = Path(__file__).parents[2] / "docs/plan.schema.json"


class Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Commit(Value):
    """A commit that would go live; `date` is ISO 8601."""

    commit: str
    date: str
    author: str
    subject: str


class Package(Value):
    """A package whose version differs between the two lock files; empty where one of them has none of it.

    `yanked` is why its index takes the new version back, null when it does not; `registry` is that index.
    """

    name: str
    before: str
    after: str
    registry: str = ""
    yanked: str | None = None


class Lock(NamedTuple):
    """A table that is locked for long, why, and about how many rows it has; null when nobody knows."""

    table: str
    why: str
    rows: int | None


class Migration(Value):
    """A migration that would be applied: `operations` in words, `sql` as statements.

    `trouble` says why there is no SQL. `breaks` is what the code that runs meanwhile cannot bear, `locks` what keeps it
    waiting, `irreversible` what cannot be turned back, `own` what nobody can judge: code and SQL of the app's own.
    """

    name: str
    atomic: bool
    operations: list[str]
    sql: list[str]
    trouble: str
    breaks: list[str] = []
    locks: list[Lock] = []
    irreversible: list[str] = []
    own: list[str] = []

    @property
    def felt(self) -> list[str]:
        """What the code that runs feels of it, in words."""
        return [
            *(f"BREAKS THE RUNNING CODE: {what}" for what in self.breaks),
            *(
                f"locks {lock.table}{f' (about {lock.rows} rows)' if lock.rows else ''}: {lock.why}"
                for lock in self.locks
            ),
        ]

    @property
    def verdict(self) -> list[str]:
        """All that a person is told of it; a migration that only adds something has nothing."""
        return [
            *self.felt,
            *(f"cannot be reversed: {what}" for what in self.irreversible),
            *(f"nobody can judge: {what}" for what in self.own),
        ]


class File(Value):
    """A file of root's that would change, with its unified difference; values of Environment= are not shown."""

    path: str
    difference: str


class Preview(Value):
    """What a deploy would do, beside the fields that every document has; seconds and MB where it says so.

    `changed_settings` are names in hosts.toml that need a new release, null where nobody can tell. `secrets` are names
    that differ from what gunicorn runs with. `root` are the commands that run as root; `staged_by` is who logs in to
    stage files before, empty when nobody has to. `trouble` is what would end the deploy.
    """

    commits: list[Commit] = []
    further_commits: int = 0
    packages: list[Package] = []
    to_migrate: list[Migration] = []
    files: list[File] = []
    changed_settings: list[str] | None = []
    secrets: list[str] = []
    commands: dict[str, list[str]] = Field({}, description="of build, before_switch and after_switch")
    root: list[str] = []
    staged_by: str = ""
    disk_free_mb: int = 0
    last_seconds: float | None = Field(None, description="how long the last deploy with this activation took")
    trouble: str | None = None


def commits(output: str) -> list[Commit]:
    """Read the commits of `compare_commits`, the newest first."""
    rows = [line.removeprefix("adds ").split("\t", 3) for line in output.splitlines() if line.startswith("adds ")]
    return [
        Commit(commit=sha, date=date, author=author, subject=subject)
        for sha, date, author, subject in (row for row in rows if len(row) == 4)
    ]


def packages(output: str) -> list[Package]:
    """Read the packages of `compare_commits` that differ, by their names."""
    versions: dict[str, dict[str, list[str]]] = {"before": defaultdict(list), "after": defaultdict(list)}
    registries: dict[str, str] = {}
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        if word in versions and rest:
            name, version, registry = [*rest.split(" "), "", ""][:3]
            versions[word][name].append(version)
            if word == "after":
                registries[name] = registry
    before, after = versions["before"], versions["after"]
    return [
        Package(
            name=name,
            before=", ".join(before.get(name, [])),
            after=", ".join(after.get(name, [])),
            registry=registries.get(name, ""),
        )
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]


def differences(output: str, paths: Iterable[str]) -> list[File]:
    """Read the unified differences of `compare_files` for these files, in this order."""
    found: dict[str, list[str]] = {path: [] for path in paths}
    now: list[str] = []
    for line in output.splitlines():
        if line.startswith("--- ") and line[4:] in found:
            now = found[line[4:]]
        now.append(line)
    return [File(path=path, difference="\n".join(lines)) for path, lines in found.items()]


def last_seconds(history: str, activation: str) -> float | None:
    """How many seconds the last deploy with this activation took that went well, by the host's history."""
    took = None
    for line in history.splitlines():
        try:
            entry = json.loads(line)
            if (entry["verb"], entry["activation"], entry["outcome"]) == ("deploy", activation, "live"):
                took = float(entry["seconds"])
        except (ValueError, KeyError, TypeError):  # half a line, or an older version's
            continue
    return took


def schema() -> str:
    """The JSON schema of what `plan` adds to its document."""
    return json.dumps(Preview.model_json_schema(), indent=2) + "\n"


if __name__ == "__main__":
    SCHEMA.write_text(schema())
