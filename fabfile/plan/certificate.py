"""The certificate of a site: what one is made for, and whether the one that visitors see is about to end. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..config.settings import Settings

DAY = 86400
LATEST = 21  # days before its end at which any certificate should have been renewed


def names(settings: "Settings") -> list[str]:
    """The names that it has to be for."""
    return [settings.domain, *settings.aliases]


def words(settings: "Settings") -> str:
    """What a certificate of these settings is made for, as `provision` notes it on the host; empty without https."""
    tls = settings.tls
    if tls.letsencrypt:
        return " ".join([tls.acme_server, *names(settings)])
    return f"{tls.certificate} {tls.key}" if tls else ""


def renewal(host: str, settings: "Settings") -> str:
    """What to do about a certificate that should have been renewed, or is not for all names."""
    if settings.tls.letsencrypt:
        return f"fab -H {host} provision renews the certificate, or says why it cannot be"
    return f"put a renewed certificate at {settings.tls.certificate}, then: fab -H {host} provision"


@dataclass(frozen=True)
class Certificate:
    """What nginx shows: from when until when it holds, in seconds since 1970, and who has signed it.

    `misses` says for which of the site's names it is not, and for which it is.
    """

    begins: int
    ends: int
    issuer: str
    misses: str = ""

    def days_left(self, now: int) -> int:
        """Whole days; negative when it has ended."""
        return (self.ends - now) // DAY

    def due(self, now: int) -> bool:
        """Whether it should have been renewed: certbot does so when a third of its time is left."""
        return self.ends - now < min(LATEST * DAY, (self.ends - self.begins) / 4)

    def trouble(self, now: int) -> str:
        """Why browsers refuse it, or will before long; empty when it is as it should be."""
        if self.misses:
            return f"is not for {self.misses}"
        return self.told(now) if self.due(now) else ""

    def refused(self, now: int) -> bool:
        """Whether browsers refuse it by now."""
        return bool(self.misses) or self.ends <= now

    def told(self, now: int) -> str:
        """Its end, for a person."""
        days, day = self.days_left(now), f"{datetime.fromtimestamp(self.ends, UTC):%Y-%m-%d}"
        left = f"ends on {day}, in {days} day{'' if days == 1 else 's'}" if days >= 0 else f"ended on {day}"
        return f"{left} (by {self.issuer})"

    def document(self, now: int) -> dict[str, Any]:
        """The same for the JSON document."""
        end = datetime.fromtimestamp(self.ends, UTC).isoformat()
        return {"ends": end, "days_left": self.days_left(now), "issuer": self.issuer, "renewal_due": self.due(now)}


def parse(lines: Iterable[str]) -> Certificate | None:
    """Read what the host's look has to say of it (host/lib/tls.sh), if it says anything."""
    found = misses = None
    for line in lines:
        found = re.fullmatch(r"certificate (\d+) (\d+) (.*)", line) or found
        misses = re.fullmatch(r"certificate_misses (.*)", line) or misses
    if not found:
        return None
    return Certificate(int(found[1]), int(found[2]), _issuer(found[3]), misses[1] if misses else "")


def _issuer(name: str) -> str:
    """The organization of a name as openssl writes it (C = US, O = Let's Encrypt, CN = E5), or what it is called."""
    parts = dict(part.split("=", 1) for part in re.split(r", (?=[A-Z]+ ?=)", name.replace(" = ", "=")) if "=" in part)
    return parts.get("O") or parts.get("CN") or name
