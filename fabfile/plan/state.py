"""What a host looked like when it was read: parsed from the survey, decided upon by the verbs."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..errors import StepFailed


@dataclass(frozen=True)
class ReleaseState:
    """One folder in releases/: `built` means whole, `good` that it once was live and healthy, `bad` that it failed.

    `left` is one that a rollback went back from. `settings` are digests of the settings that it was built from; None
    where an older version of this tool built it.
    """

    id: str
    built: bool = False
    good: bool = False
    bad: bool = False
    left: bool = False
    commit: str = ""
    branch: str = ""
    created: str = ""
    fingerprint: str = ""
    settings: Mapping[str, str] | None = None


@dataclass(frozen=True)
class HostState:
    """A host at one moment. Paths are the host's; `files` holds the SHA-256 of each file the tool installs, `staged`
    that of each that root has staged to be installed, `before` that of what it replaces; `drop_ins` are files beside a
    unit. `rights` are what the user may run as root; `loose` says how others may read the secrets.

    `tls` is what the certificate was made for (plan/certificate.py). `units` are those of workers and timers, with
    systemd's word for their state. `maintenance` is the page that closes the site, if it is there; `hold` is until when
    requests wait, in seconds since 1970.
    """

    now: int = 0
    live: str = ""
    app_is: str = ""
    releases: tuple[ReleaseState, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    staged: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, str] = field(default_factory=dict)
    drop_ins: tuple[str, ...] = ()
    rights: tuple[str, ...] = ()
    loose: str = ""
    service: str = ""
    socket: str = ""
    nginx: str = ""
    master: int = 0
    workers: Mapping[int, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    disk_free: int = 0
    inodes_free: int = 0
    frozen: str = ""
    maintenance: str = ""
    tls: str = ""
    hold: int = 0
    masked: str = ""
    missing: tuple[str, ...] = ()

    @property
    def live_release(self) -> ReleaseState | None:
        return self.release(self.live)

    def release(self, release_id: str) -> ReleaseState | None:
        return next((release for release in self.releases if release.id == release_id), None)

    def edited(self, wanted: Mapping[str, str]) -> list[str]:
        """The files whose text is neither as root has staged it nor as it is `wanted`: somebody has edited them.

        `wanted` has SHA-256 by path. Where nothing is staged yet, nobody can tell.
        """
        return [
            path
            for path, digest in self.files.items()
            if path in self.staged and digest not in (self.staged[path], self.before.get(path), wanted.get(path))
        ]

    @property
    def serves_live(self) -> bool:
        """Whether the service runs and every worker is of the live release."""
        folders = set(self.workers.values())
        return self.service == "active" and self.socket == "active" and folders == {self.live}

    def before_live(self) -> ReleaseState | None:
        """The newest release before the live one that was good, is not marked bad, and was not rolled back from."""
        older = [r for r in self.releases if r.built and r.good and not r.bad and not r.left and r.id < self.live]
        return max(older, key=lambda r: r.id, default=None)


def parse(lines: Iterable[str]) -> HostState:
    """Read the survey's answer: `key value` lines. Raises StepFailed for an answer that makes no sense."""
    single: dict[str, str] = {}
    releases: list[ReleaseState] = []
    files: dict[str, str] = {}
    staged: dict[str, str] = {}
    before: dict[str, str] = {}
    drop_ins: list[str] = []
    rights: list[str] = []
    workers: dict[int, str] = {}
    units: dict[str, str] = {}
    missing: list[str] = []
    try:
        for line in lines:
            key, _, value = line.partition(" ")
            if key == "release":
                releases.append(_release(value))
            elif key in ("file", "staged", "before"):
                digest, _, path = value.partition(" ")
                {"file": files, "staged": staged, "before": before}[key][path] = digest
            elif key == "drop_in":
                drop_ins.append(value)
            elif key == "right":
                rights.append(value)
            elif key == "worker":
                pid, _, folder = value.partition(" ")
                workers[int(pid)] = folder
            elif key == "unit":
                unit, _, units[unit] = value.partition(" ")
            elif key == "missing":
                missing.append(value)
            elif key:
                single[key] = value
        return HostState(
            now=int(single["now"]),
            live=PurePosixPath(single.get("live", "")).name,
            app_is=single.get("app", ""),
            releases=tuple(sorted(releases, key=lambda r: r.id)),
            files=files,
            staged=staged,
            before=before,
            drop_ins=tuple(drop_ins),
            rights=tuple(rights),
            loose=single.get("loose", ""),
            service=single.get("service", ""),
            socket=single.get("socket", ""),
            nginx=single.get("nginx", ""),
            master=int(single.get("master") or 0),
            workers=workers,
            units=units,
            disk_free=int(single["disk"]),
            inodes_free=int(single["inodes"]),
            maintenance=single.get("maintenance", ""),
            tls=single.get("tls", ""),
            hold=int(single.get("hold") or 0),
            frozen=single.get("frozen", ""),
            masked=single.get("masked", ""),
            missing=tuple(missing),
        )
    except (ValueError, KeyError) as error:
        raise StepFailed(f"the host's answer to the survey makes no sense ({error!r})") from error


def _release(value: str) -> ReleaseState:
    release_id, flags, *rest = value.split(" ", 2)
    try:
        notes = json.loads(rest[0]) if rest else {}
    except (ValueError, RecursionError):
        notes = {}
    if not isinstance(notes, dict):
        notes = {}
    marks = flags.split(",")
    return ReleaseState(
        id=release_id,
        built="built" in marks,
        good="good" in marks,
        bad="bad" in marks,
        left="left" in marks,
        commit=str(notes.get("commit", "")),
        branch=str(notes.get("branch", "")),
        created=str(notes.get("created", "")),
        fingerprint=str(notes.get("fingerprint", "")),
        settings=notes["settings"] if isinstance(notes.get("settings"), dict) else None,
    )
