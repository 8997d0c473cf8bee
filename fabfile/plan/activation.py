"""Which way a new release is brought to life, and why: the lightest that is right. Pure; asks nobody."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Kind = Literal["nothing", "nginx", "hup", "restart", "start"]


@dataclass(frozen=True)
class Activation:
    """A way to bring a release to life, with the reason a person is told."""

    kind: Kind
    reason: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


def choose(comparison: Mapping[str, Any], units_changed: Sequence[str] = (), *, running: bool = True) -> Activation:
    """Choose from what `compare_masters` said and the unit files whose text changed.

    HUP carries code, packages, static files, migrations and the number of workers. It never carries what the master
    itself imported, Python, the environment or unit flags (facts 4 and 6).
    """
    if not running or not comparison.get("running"):
        return Activation("start", "the service does not run")
    reasons = [*_master_reasons(comparison), *(f"{name} changed" for name in units_changed)]
    if reasons:
        return Activation("restart", "; ".join(reasons))
    return Activation("hup", "gunicorn's master can stay: only what its workers load changed")


def _master_reasons(comparison: Mapping[str, Any]) -> list[str]:
    reasons = []
    old_python, new_python = (_version(value) for value in comparison["python"])
    if comparison["python"][0] != comparison["python"][1]:
        reasons.append(f"Python {old_python} -> {new_python}" if old_python != new_python else "Python was built anew")
    old, new = comparison["gunicorn"]
    if old != new:
        reasons.append(f"gunicorn {old} -> {new}")
    old_class, new_class = comparison.get("worker_class", (None, None))
    if old_class != new_class:
        reasons.append(f"worker class {old_class} -> {new_class}")
    if comparison["preload"]:
        reasons.append("preload_app: the master itself holds the app")
    if comparison["modules"] and old == new:
        names = comparison["modules"]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        reasons.append(f"the master has imported {names[0]}{more}, which changed")
    if names := comparison.get("pth"):
        reasons.append(f"{', '.join(names)} changed")
    if comparison["environment"] is None:
        reasons.append("whether secrets changed cannot be told")
    elif names := comparison["environment"]:
        reasons.append(f"secrets changed: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")
    return reasons


def _version(python: Any) -> str:
    """`sys.version`, or a mapping or list that begins with it, as 3.12.1."""
    if isinstance(python, Mapping):
        python = python.get("version", "")
    if isinstance(python, Sequence) and not isinstance(python, str):
        python = python[0] if python else ""
    return str(python).split(" ", 1)[0]
