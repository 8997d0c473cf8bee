"""Which way a new release is brought to life, and why: the lightest that is right. Pure; asks nobody."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypedDict

from .preview import Migration

Kind = Literal["nothing", "nginx", "processes", "hup", "restart", "start", "hold"]


@dataclass(frozen=True)
class Activation:
    """A way to bring a release to life, with the reason a person is told; `secrets` are names of those that changed.

    In a `hold` requests wait while the migration `held` and those behind it are applied, and until the release is up;
    others come before it if `prelude` says so.
    """

    kind: Kind
    reason: str
    secrets: tuple[str, ...] = ()
    held: str = ""
    prelude: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.reason}"


class Python(TypedDict):
    """The Python of a gunicorn master; `version` is its sys.version."""

    version: str
    executable: str


class Comparison(TypedDict, total=False):
    """The answer of compare_masters: `running` alone when no master runs; in pairs the running one stands first.

    `modules`, `pth` and `environment` name what differs; None means that the host cannot tell.
    """

    running: bool
    python: Sequence[Python]
    gunicorn: Sequence[str]
    preload: bool
    worker_class: Sequence[str]
    modules: Sequence[str]
    pth: Sequence[str]
    environment: Sequence[str] | None


def choose(comparison: Comparison, units_changed: Sequence[str] = (), *, running: bool = True) -> Activation:
    """Choose from what `compare_masters` said and the unit files whose text changed.

    HUP carries code, packages, static files, migrations and the number of workers. It never carries what the master
    itself imported, Python, the environment or unit flags (decisions 4 and 6).
    """
    if not running or not comparison["running"]:
        return Activation("start", "the service does not run")
    reasons = [*_master_reasons(comparison), *(f"{name} changed" for name in units_changed)]
    if reasons:
        return Activation("restart", "; ".join(reasons), tuple(comparison["environment"] or ()))
    return Activation("hup", "gunicorn's master can stay: only what its workers load changed")


def hold(activation: Activation, migrations: Sequence[Migration]) -> Activation:
    """The activation for these migrations, which are to come: a hold, if one of them breaks the code that runs."""
    first = next((each for each in migrations if each.breaks), None)
    if first is None:
        return activation
    further = [activation.reason] if activation.kind != "hup" else []
    reason = "; ".join([f"{first.name} breaks the code that runs: {first.breaks[0]}", *further])
    return replace(activation, kind="hold", reason=reason, held=first.name, prelude=first is not migrations[0])


def migrations_of(activation: Activation, migrations: Sequence[Migration]) -> list[Migration]:
    """Those that are applied while requests wait; none without a hold."""
    names = [each.name for each in migrations]
    return list(migrations[names.index(activation.held) :]) if activation.held else []


def _master_reasons(comparison: Comparison) -> list[str]:
    reasons = []
    old_python, new_python = comparison["python"]
    if old_python != new_python:
        before, after = (python["version"].split()[0] for python in comparison["python"])
        reasons.append(f"Python {before} -> {after}" if before != after else "Python was built anew")
    old, new = comparison["gunicorn"]
    if old != new:
        reasons.append(f"gunicorn {old} -> {new}")
    old_class, new_class = comparison["worker_class"]
    if old_class != new_class:
        reasons.append(f"worker class {old_class} -> {new_class}")
    if comparison["preload"]:
        reasons.append("preload_app: the master itself holds the app")
    if comparison["modules"] and old == new:
        names = comparison["modules"]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        reasons.append(f"the master has imported {names[0]}{more}, which changed")
    if names := comparison["pth"]:
        reasons.append(f"{', '.join(names)} changed")
    if comparison["environment"] is None:
        reasons.append("whether secrets changed cannot be told")
    elif names := comparison["environment"]:
        reasons.append(f"secrets changed: {', '.join(names[:5])}{' ...' if len(names) > 5 else ''}")
    return reasons
