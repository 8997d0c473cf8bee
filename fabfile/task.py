"""What every verb that touches hosts shares: -H to hosts, the lab made on demand, errors to exit codes, one report."""

import functools
import inspect
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from invoke import Context, Exit, task

from fabfile.errors import ConfigError, DeployError
from fabfile.executor import hosts_of
from fabfile.output.report import Outcome, Report

if TYPE_CHECKING:
    from fabfile.config.inventory import Host

LabState = Literal["ready", "up", "running"]
HELP = {
    "branch": "branch, tag or commit; the one of hosts.toml when not given",
    "json": "print one JSON document on stdout, and nothing else there",
    "doppler_config": "Doppler config instead of the one in hosts.toml",
    "wait": "queue when the host is busy, up to this many seconds (3600 when no number is given)",
}


def verb(
    help: Mapping[str, str] | None = None, *, lab: LabState = "ready", over: Sequence[str] = ()
) -> Callable[[Callable[..., None]], Any]:
    """Make a task of `body(host, report, outcome, **options)`; it runs on each host of -H, one after the other.

    The task gets the options --json and --doppler-config besides its own, and one for each setting of hosts.toml named
    in `over`. `lab` is what a lab host must be before: made and provisioned (ready), made (up), or there (running).
    """

    def decorate(body: Callable[..., None]) -> Any:
        own = list(inspect.signature(body).parameters.values())[3:]
        over_settings = [*over, "doppler_config"]
        parameters = [
            _parameter("context"),
            *(_parameter(name, default=None) for name in over),
            *own,
            _parameter("doppler_config", default=None),
            _parameter("json", default=False),
        ]

        @functools.wraps(body)
        def run(context: Context, **given: Any) -> None:
            report = Report(as_json=given.pop("json", False), echo=bool(context.config.run.echo))
            settings = {name: given.pop(name, None) for name in over_settings}
            Run(run.__name__, functools.partial(body, **given), report, lab).on_hosts_of(context, settings)

        del run.__wrapped__
        setattr(run, "__signature__", inspect.Signature(parameters))  # noqa: B010 - where invoke finds the options
        texts = {**HELP, **(help or {})}
        names = {p.name for p in parameters}
        known = {name: text for name, text in texts.items() if name in names}
        return task(help=known, optional=sorted(names & {"wait"}))(run)

    return decorate


@dataclass(frozen=True)
class Run:
    """One call of a verb: its name, what it does on one host, where it reports."""

    name: str
    body: Callable[["Host", Report, Outcome], None]
    report: Report
    lab: LabState

    def on_hosts_of(self, context: Context, settings: Mapping[str, Any]) -> None:
        """Run on every host of -H until one fails; raise Exit with the worst exit code."""
        outcomes: list[Outcome] = []
        try:
            for host in self._hosts(context, settings):
                outcomes.append(self._on(host))
                if outcomes[-1].exit_code:
                    break
        except DeployError as error:
            outcomes.append(Outcome(self.name, server=str(context.config.get("hosts", ""))))
            outcomes[-1].fail(error)
            self.report.error(error)
        self.report.finish([outcome.document() for outcome in outcomes])
        if worst := max((outcome.exit_code for outcome in outcomes), default=0):
            raise Exit(code=worst)

    def _hosts(self, context: Context, settings: Mapping[str, Any]) -> list["Host"]:
        """The hosts that -H names. Without -H a task would run on the operator's own machine (facts 16): it refuses."""
        from fabfile.config import hosts_file

        known = hosts_file.load()
        if names := hosts_of(context):
            return known.select(names, settings)
        names = ", ".join(dict.fromkeys([*known.environments, *known.hosts]))
        raise ConfigError(
            f"{self.name} needs to know where: -H with a host or an environment of hosts.toml ({names})",
            hint=f"fab -H {known.hosts[0] if known.hosts else 'NAME'} {self.name}",
        )

    def _on(self, host: "Host") -> Outcome:
        outcome = Outcome(self.name, server=host.name)
        began = time.monotonic()
        self.report.timing.clear()
        try:
            if host.settings.lab:
                from fabfile import lab

                host = lab.module("prepare").prepare(host, self.report, self.lab)
            self.body(host, self.report, outcome)
        except DeployError as error:
            outcome.fail(error)
            self.report.error(error, shown=hasattr(error, "end"))
        except KeyboardInterrupt:
            outcome.interrupt()
            self.report.headline(f"{host.name}: interrupted; the site is {outcome.site_state}", good=False)
        outcome.timing = {**self.report.timing, "total": round(time.monotonic() - began, 3)}
        return outcome


def _parameter(name: str, **more: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, **more)
