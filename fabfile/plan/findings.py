"""What is found when an old server is judged: what stops its adoption, what is needed for it, what is told. Pure."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Finding:
    """One thing that somebody has to mend: `what` names it and the reason, `mend` is a command or lines to paste."""

    what: str
    mend: str


@dataclass
class Findings:
    """What the judges of one server have found so far."""

    stops: list[Finding] = field(default_factory=list)
    needed: list[Finding] = field(default_factory=list)
    told: list[str] = field(default_factory=list)

    def stop(self, what: str, mend: str) -> None:
        """Note what makes an adoption unsafe until it is gone."""
        self.stops.append(Finding(what, mend))

    def need(self, what: str, mend: str) -> None:
        """Note what the old server has, and hosts.toml or the app lacks."""
        self.needed.append(Finding(what, mend))

    def tell(self, what: str) -> None:
        """Note what a person should know."""
        self.told.append(what)
