"""What a run has decided to make live, as a value. Pure: which steps carry it out is said in steps/sequence.py."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from fabfile.config.layout import Layout, Release
from fabfile.config.settings import Settings
from fabfile.plan.activation import Activation


@dataclass(frozen=True)
class Plan:
    """A release to make live in place of `live`, and the files to install with it.

    `commit` is what the release is to be built from, empty when it is there already. `forced` is an activation that was
    asked for; `leaves` is the release that no later rollback goes to, as this one goes back from it.
    """

    settings: Settings
    layout: Layout
    release: Release
    live: Release | None = None
    files: Mapping[PurePosixPath, str] = field(default_factory=dict)
    commit: str = ""
    forced: Activation | None = None
    leaves: Release | None = None

    @property
    def switches(self) -> bool:
        """Whether another release becomes the live one."""
        return self.live is None or self.live.id != self.release.id

    @property
    def units(self) -> list[PurePosixPath]:
        """The changed files that systemd reads."""
        return [path for path in self.files if path != self.layout.site_file]

    @property
    def site(self) -> list[PurePosixPath]:
        """The changed nginx site, or nothing."""
        return [path for path in self.files if path == self.layout.site_file]

    @property
    def only_site(self) -> bool:
        """Whether nginx alone has something to take up."""
        return not self.switches and bool(self.site) and not self.units
