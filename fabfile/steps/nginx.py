"""Steps of the nginx site, and the checks of the site (host/lib/nginx.sh)."""

from dataclasses import dataclass, field

from ..config.settings import Settings
from ..plan import certificate
from ..plan.request import header_lines, mark, names, proxied
from .step import Step

CHECK = "check_the_site"
LOOK = "look_at_the_site"


def reload() -> Step:
    """Let nginx take the site up."""
    return Step("reload_nginx", "Reload nginx", "reload_nginx", live=True)


def check_site(settings: Settings) -> Step:
    """The checks from inside the host, in order; health may take `timeouts.health` seconds."""
    wait = settings.timeouts.health
    return Step(CHECK, "Check the site", "check_site", _checks(settings, wait), timeout=wait + 60, live=True)


def look_at_site(settings: Settings) -> Step:
    """The same checks once, without waiting; the step itself does not fail."""
    return Step(LOOK, "Look at the site", "check_site", {**_checks(settings, 0), "only_look": True})


def _checks(settings: Settings, wait: int) -> dict:
    asked = {"health_path": settings.health_path, "headers": header_lines(settings), "mark": mark(settings)}
    visitors = {"names": names(settings), "proxy": proxied(settings)}
    certified = certificate.names(settings) if settings.tls else None
    return {**asked, **visitors, "certified": certified, "wait": wait, "only_look": False}


@dataclass(frozen=True)
class Checks:
    """What the checks found, by their names, in order: whether each holds, and what is wrong with those that do not.

    `found` is what those have to tell that hold.
    """

    held: dict[str, bool] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    found: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> str | None:
        """The first check that fails."""
        return next(iter(self.details), None)

    @property
    def trouble(self) -> str:
        """The first failure in words, or nothing."""
        return f"{self.failed} fails: {self.details[self.failed]}" if self.failed else ""

    def add(self, name: str, *, ok: bool, detail: str = "") -> None:
        """Add how a check went; one that has failed before stays so."""
        self.held[name] = ok and self.held.get(name, True)
        if detail:
            (self.found if ok else self.details).setdefault(name, detail)


def parse_checks(output: str) -> Checks:
    """Read the lines `check NAME ok [FOUND]` and `check NAME failed DETAIL`."""
    checks = Checks()
    for line in output.splitlines():
        match line.split(" ", 3):
            case ["check", name, "ok", *found]:
                checks.add(name, ok=True, detail="".join(found))
            case ["check", name, "failed", *detail]:
                checks.add(name, ok=False, detail="".join(detail))
    return checks
