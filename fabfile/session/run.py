"""One call of a verb on one host: what every recipe gets."""

from dataclasses import dataclass

from ..config.inventory import Host
from ..config.settings import Settings
from ..output.console import Console
from ..output.outcome import Outcome


@dataclass
class Run:
    """The host, the console that tells of progress, and the outcome that the recipe fills.

    `alone` says that the command is for no other host: what is piped into it is this one's.
    """

    host: Host
    console: Console
    outcome: Outcome
    alone: bool = True

    @property
    def name(self) -> str:
        """What stands behind -H."""
        return self.host.name

    @property
    def settings(self) -> Settings:
        return self.host.settings

    @property
    def url(self) -> str:
        """The site's address for a person; of a lab host, whose domain is known nowhere, the one that opens here."""
        host = self.settings.address if self.settings.lab else self.settings.domain
        scheme = "https" if self.settings.tls else "http"
        return (self.settings.public_url or f"{scheme}://{host}").rstrip("/")

    def invite(self) -> None:
        """Say where a lab's site opens, for nobody can know it."""
        if self.settings.lab:
            self.console.say(f"open {self.url}")

    def headline(self, text: str, *, good: bool = True) -> None:
        """Say how it ended, with the host's name."""
        self.console.headline(f"{self.name}: {text}", good=good)
