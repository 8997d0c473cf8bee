"""What every verb that touches hosts shares: -H to hosts, the lab made on demand, errors to exit codes, one report."""

import functools
import inspect
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from invoke import Argument, Context, Exit, Task
from invoke import task as invoke_task

from .errors import ConfigError, DeployError
from .executor import hosts_of, identity_of

if TYPE_CHECKING:
    from .config.inventory import Host
    from .output.console import Console
    from .output.outcome import Outcome
    from .session.run import Run

LabState = Literal["ready", "up", "running"]
HELP = {
    "branch": "branch, tag or commit; the one of hosts.toml when not given",
    "json": "print one JSON document on stdout, and nothing else there",
    "doppler_config": "Doppler config instead of the one in hosts.toml",
    "wait": "queue when the host is busy, up to this many seconds (3600 when no number is given)",
}


def task(
    help: Mapping[str, str] | None = None,
    *,
    verb: str = "",
    lab: LabState = "ready",
    settings: Sequence[str] = (),
    by_hand: bool = False,
    one_host: bool = False,
) -> Callable[[Callable[..., None]], Any]:
    """Make a task of `body(run, **options)`; it runs on each host of -H, one after the other.

    The task gets the options --json and --doppler-config besides its own, and one for each setting of hosts.toml named
    in `settings`. `verb` is what stands on the command line, where that is not the function's name. `lab` is what a lab
    host must be before: made and provisioned (ready), made (up), or there (running).
    `by_hand` leaves stdout to a command on the host; the first argument of `body`, None when not given, needs no flag.
    With `one_host`, -H may name no more.
    """

    def decorate(body: Callable[..., None]) -> Any:
        _, *own = inspect.signature(body).parameters.values()
        over = [*settings, "doppler_config"]
        parameters = [
            _parameter("context"),
            *(_parameter(name, default=None) for name in settings),
            *own,
            _parameter("doppler_config", default=None),
            _parameter("json", default=False),
        ]

        @functools.wraps(body)
        def call(context: Context, **given: Any) -> None:
            from .output.console import Console

            stream = sys.stderr if by_hand else None
            console = Console(as_json=given.pop("json", False), echo=bool(context.config.run.echo), stream=stream)
            overrides = {name: given.pop(name, None) for name in over}
            called = Verb(verb or call.__name__, functools.partial(body, **given), console, lab, one_host=one_host)
            called.on_hosts_of(context, overrides)

        del call.__wrapped__
        setattr(call, "__signature__", inspect.Signature(parameters))  # noqa: B010 - where invoke finds the options
        names = {parameter.name for parameter in parameters}
        texts = {name: text for name, text in {**HELP, **(help or {})}.items() if name in names}
        kind = MayBeNamed if by_hand and own else Task
        return invoke_task(help=texts, optional=sorted(names & {"wait"}), klass=kind)(call)

    return decorate


class MayBeNamed(Task):
    """A task whose first argument may stand without a flag, or be left out.

    Invoke knows only positional arguments that must be there: so it is one when the command line has a word for it.
    """

    def get_arguments(self, ignore_unknown_help: bool | None = None) -> list[Argument]:
        arguments = super().get_arguments(ignore_unknown_help)
        flags = {f"--{argument.names[0]}" for argument in arguments if argument.takes_value}
        arguments[0].positional = _has_a_word(self.name, flags)
        return arguments


def _has_a_word(task: str, flags: set[str]) -> bool:
    """Return whether a word follows the task on the command line that belongs to none of its flags."""
    words = iter(sys.argv[1:])
    if task not in words:  # goes on until there
        return False
    for word in words:
        if word in flags:
            next(words, None)
        elif not word.startswith("-") or word == "-":
            return True
    return False


def local_task(help: Mapping[str, str]) -> Callable[[Callable[..., None]], Any]:
    """Make a task of `body(console, ...)`, which touches no host; its first argument is a `MayBeNamed`."""

    def decorate(body: Callable[..., None]) -> Any:
        _, *own = inspect.signature(body).parameters.values()

        @functools.wraps(body)
        def call(_context: Context, **given: Any) -> None:
            from .output.console import Console

            console = Console(stream=sys.stderr if given.get("to") == "-" else None)
            try:
                body(console, **given)
            except DeployError as error:
                console.error(error)
                raise Exit(code=error.exit_code) from None

        del call.__wrapped__
        setattr(call, "__signature__", inspect.Signature([_parameter("context"), *own]))  # noqa: B010
        return invoke_task(help=dict(help), auto_shortflags=False, klass=MayBeNamed)(call)

    return decorate


@dataclass(frozen=True)
class Verb:
    """One call of a verb on the command line: its name, what it does on one host, where it tells of it."""

    name: str
    body: Callable[["Run"], None]
    console: "Console"
    lab: LabState
    one_host: bool = False

    def on_hosts_of(self, context: Context, overrides: Mapping[str, Any]) -> None:
        """Run on every host of -H until one fails; raise Exit with the worst exit code."""
        from .output.outcome import Outcome

        outcomes: list[Outcome] = []
        try:
            hosts = self._hosts(context, overrides)
            for host in hosts:
                outcomes.append(self._on(host, alone=len(hosts) == 1))
                if outcomes[-1].exit_code:
                    break
        except DeployError as error:
            outcomes.append(Outcome(self.name, server=str(context.config.get("hosts", ""))))
            outcomes[-1].fail(error)
            self.console.error(error)
        self.console.finish([outcome.document() for outcome in outcomes])
        if worst := max((outcome.exit_code for outcome in outcomes), default=0):
            raise Exit(code=worst)

    def _hosts(self, context: Context, overrides: Mapping[str, Any]) -> list["Host"]:
        """The hosts that -H names; without it a task would run on the operator's own machine (decision 16)."""
        from .config import hosts_file

        known, identity = hosts_file.load(), identity_of(context)
        if names := hosts_of(context):
            hosts = known.select(names, overrides)
            if identity:
                hosts = [host.with_key(identity) for host in hosts]
            if self.one_host and len(hosts) > 1:
                raise ConfigError(
                    f"{self.name} is for one host, and {names} are {len(hosts)}: {', '.join(h.name for h in hosts)}",
                    hint=f"fab -H {hosts[0].name} {self.name}",
                )
            return hosts
        names = ", ".join(dict.fromkeys([*known.environments, *known.hosts]))
        raise ConfigError(
            f"{self.name} needs to know where: -H with a host or an environment of hosts.toml ({names})",
            hint=f"fab -H {known.hosts[0] if known.hosts else 'NAME'} {self.name}",
        )

    def _on(self, host: "Host", *, alone: bool) -> "Outcome":
        from .output.outcome import Outcome
        from .session.run import Run

        outcome = Outcome(self.name, server=host.name)
        began = time.monotonic()
        self.console.timing.clear()
        try:
            if host.settings.lab:
                from . import lab

                host = lab.module("prepare").prepare(host, self.console, self.lab)
            self.body(Run(host, self.console, outcome, alone))
        except DeployError as error:
            outcome.fail(error)
            self.console.error(error)
        except KeyboardInterrupt:
            outcome.interrupt()
            self.console.headline(f"{host.name}: interrupted; the site is {outcome.site_state}", good=False)
        outcome.timing = {**self.console.timing, "total": round(time.monotonic() - began, 3)}
        return outcome


def _parameter(name: str, **more: Any) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD, **more)
