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
        self.stops.append(Finding(plain(what), plain(mend)))

    def need(self, what: str, mend: str) -> None:
        """Note what the old server has, and hosts.toml or the app lacks."""
        self.needed.append(Finding(plain(what), plain(mend)))

    def tell(self, what: str) -> None:
        """Note what a person should know."""
        self.told.append(plain(what))


def plain(text: str) -> str:
    """Return a text that does nothing to a terminal: the app's user may name files and processes as they like."""
    return "".join(sign if sign.isprintable() or sign in "\n\t" else "?" for sign in text)
