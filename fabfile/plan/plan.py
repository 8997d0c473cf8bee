"""What a run has decided to make live, as a value. Pure: which steps carry it out is said in steps/sequence.py."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from ..config.layout import Layout, Release
from ..config.settings import Settings
from .activation import Activation


@dataclass(frozen=True)
class Plan:
    """A release to make live in place of `live`, and the files to install with it.

    `commit` is what the release is to be built from, empty when it is there already. `forced` is an activation that was
    asked for; `leaves` is the release that no later rollback goes to, as this one goes back from it. `amiss` says what
    does not run beside the website as it should. `started` says what has started the release already, for which only
    the rest is to be done. `anew` says that the release shares no packages with earlier ones.
    """

    settings: Settings
    layout: Layout
    release: Release
    live: Release | None = None
    files: Mapping[PurePosixPath, str] = field(default_factory=dict)
    commit: str = ""
    forced: Activation | None = None
    leaves: Release | None = None
    amiss: Sequence[str] = ()
    started: Activation | None = None
    anew: bool = False

    @property
    def switches(self) -> bool:
        """Whether another release becomes the live one."""
        return self.live is None or self.live.id != self.release.id

    @property
    def units(self) -> list[PurePosixPath]:
        """The changed files of the website that systemd reads."""
        return [path for path in self.files if path in (self.layout.service_file, self.layout.socket_file)]

    @property
    def site(self) -> list[PurePosixPath]:
        """The changed nginx site, or nothing."""
        return [path for path in self.files if path == self.layout.site_file]

    @property
    def processes(self) -> list[PurePosixPath]:
        """The changed files of workers and timers."""
        return [path for path in self.files if path not in self.layout.installed_files]

    @property
    def rolls(self) -> bool:
        """Whether workers and timers are brought to the release."""
        return bool(self.settings.processes or self.processes or self.amiss)

    @property
    def beside(self) -> Activation | None:
        """The activation that leaves gunicorn alone: when nothing of it changes, but something beside it."""
        if self.started:
            return self.started
        if self.switches or self.forced or self.units:
            return None
        if self.processes or self.amiss:
            changed = [f"{path.name} changed" for path in self.files]
            return Activation("processes", "; ".join([*changed, *self.amiss]))
        if self.site:
            return Activation("nginx", f"only the nginx site {self.layout.site_file.name} changed")
        return None
