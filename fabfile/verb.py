"""What every verb that touches hosts shares: -H to hosts, the lab made on demand, errors to exit codes, one report."""

import functools
import inspect
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from fabric import Connection
from fabric import task as fabric_task
from invoke import Context, Exit

from fabfile.errors import ConfigError, DeployError
from fabfile.report import Outcome, Report

if TYPE_CHECKING:
    from fabfile.inventory import Host

LabState = Literal["ready", "up", "running"]
HELP = {
    "json": "print one JSON document on stdout, and nothing else there",
    "doppler_config": "Doppler config instead of the one in hosts.toml",
    "wait": "queue up to this many seconds when the host is busy",
}
JSON = inspect.Parameter("json", inspect.Parameter.KEYWORD_ONLY, default=False)
DOPPLER = inspect.Parameter("doppler_config", inspect.Parameter.KEYWORD_ONLY, default="")


def verb(help: dict[str, str] | None = None, *, lab: LabState = "ready") -> Callable[[Callable[..., None]], Any]:
    """Make a task of `body(host, report, outcome, **options)`; it runs on each host of -H, one after the other.

    The task gets the options --json and --doppler-config besides its own. `lab` is what a lab host must be before:
    made and provisioned (ready), made (up), or there already (running).
    """

    def decorate(body: Callable[..., None]) -> Any:
        signature = inspect.signature(body)
        options = [p for p in signature.parameters.values() if p.name not in ("host", "report", "outcome")]

        @functools.wraps(body)
        def run(context: Context, **given: Any) -> None:
            as_json, config = given.pop("json", False), given.pop("doppler_config", "")
            report = Report(as_json=as_json, echo=bool(context.config.run.echo))
            _run(body, context, report, config, given, lab)

        parameters = [inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
        parameters += [p.replace(kind=inspect.Parameter.POSITIONAL_OR_KEYWORD) for p in (*options, DOPPLER, JSON)]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        del run.__wrapped__
        known = {p.name for p in parameters}
        texts = {name: text for name, text in {**HELP, **(help or {})}.items() if name in known}
        return fabric_task(help=texts)(run)

    return decorate


def _run(
    body: Callable[..., None], context: Context, report: Report, config: str, options: dict[str, Any], lab: LabState
) -> None:
    name = body.__name__.rstrip("_")
    outcomes = []
    try:
        hosts = _hosts(context, name, {"doppler_config": config or None})
    except DeployError as error:
        outcome = Outcome(name, server=getattr(context, "original_host", ""))
        outcome.fail(error)
        report.error(error)
        outcomes.append(outcome)
        hosts = []
    for host in hosts:
        outcome = Outcome(name, server=host.name)
        outcomes.append(outcome)
        _run_on(host, body, report, outcome, options, lab)
        if outcome.exit_code:
            break
    report.finish([outcome.document() for outcome in outcomes])
    worst = max((outcome.exit_code for outcome in outcomes), default=0)
    if worst:
        raise Exit(code=worst)


def _run_on(
    host: "Host", body: Callable[..., None], report: Report, outcome: Outcome, options: dict[str, Any], lab: LabState
) -> None:
    began = time.monotonic()
    try:
        if host.settings.lab:
            from fabfile.lab.prepare import prepare

            host = prepare(host, report, lab)
        body(host, report, outcome, **options)
    except DeployError as error:
        outcome.fail(error)
        report.error(error, shown=bool(getattr(error, "end", None)))
    except KeyboardInterrupt:
        outcome.status, outcome.phase, outcome.exit_code = "interrupted", "interrupted", 130
        outcome.error = "interrupted"
        report.headline(f"{host.name}: interrupted; the site is {outcome.site_state}", good=False)
    outcome.timing = {**report.timing, "total": round(time.monotonic() - began, 3)}


def _hosts(context: Context, name: str, overrides: dict[str, Any]) -> list["Host"]:
    """The hosts that -H names. A task without -H would run on the operator's own machine (facts 16): it refuses."""
    from fabfile import inventory

    if not isinstance(context, Connection):
        known = inventory.load()
        raise ConfigError(
            f"{name} needs to know where: -H with a host or an environment of hosts.toml "
            f"({', '.join([*known.environments, *known.hosts])})",
            hint=f"fab -H {known.hosts[0] if known.hosts else 'NAME'} {name}",
        )
    return inventory.load().select(context.original_host, overrides)
