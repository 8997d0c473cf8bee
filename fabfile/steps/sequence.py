"""Which steps carry a plan out, in which order: build and proof, switch, the way back, the end. Pure."""

from ..config.layout import Release
from ..config.settings import Settings
from ..plan import rights
from ..plan.activation import Activation
from ..plan.plan import Plan
from . import commands, django, maintenance, nginx, preview, processes, proof, release, service
from .step import Step

AFTER_HOLD = 30  # seconds for the rest of a switch


def build_and_boot(plan: Plan) -> list[Step]:
    """Build the release if it is new, and boot it on a private socket. Nothing live changes."""
    settings, new = plan.settings, plan.release
    build = [
        release.check_out(settings, new, plan.commit),
        django.build_virtualenv(settings, new, anew=plan.anew),
        *commands.run(settings, new, "build"),  # the app may need what they make to boot, as collectstatic does
    ]
    while_it_boots = [django.collect_static(settings, new), *commands.prove(settings, new)]
    return [
        *(build if plan.commit else []),
        proof.start(settings, new),
        *(while_it_boots if plan.commit else []),
        *prove_processes(plan),
        proof.boot(settings, new, collected=bool(plan.commit)),
        proof.data(settings, new, new=bool(plan.commit)),
        proof.compare(new),
    ]


def look_aside(settings: Settings, aside: Release, commit: str) -> list[Step]:
    """What `build_and_boot` finds out, where it changes nothing: in a folder of the runner's."""
    return [
        preview.check_out(settings, aside, commit),
        preview.build_virtualenv(settings, aside),
        proof.start(settings, aside),
        *commands.prove(settings, aside),
        *([processes.prove(settings, aside)] if settings.processes else []),
        proof.boot(settings, aside, collected=False),
        proof.data(settings, aside, new=True),
        proof.compare(aside),
    ]


def prove_processes(plan: Plan) -> list[Step]:
    """See that workers and timers can start from the release; nothing of them is run."""
    return [processes.prove(plan.settings, plan.release)] if plan.settings.processes else []


def abandon_build(plan: Plan) -> list[Step]:
    """What is left to do on the host when the proof fails."""
    return [proof.stop(), *([release.remove(plan.release)] if plan.commit else [])]


def switch(plan: Plan, activation: Activation) -> list[Step]:
    """From the first step that can be felt outside to the last check, as one batch: the host brings it to its end."""
    change_files = [service.install(plan)] if plan.files else []
    return [
        *_rights(plan, activation),
        *(change_files if plan.beside else _take_up(plan, activation, change_files)),
        *([nginx.reload()] if plan.site else []),
        nginx.check_site(plan.settings),
        *([processes.roll(plan.settings, plan.release)] if _rolls(plan, activation) else []),
        release.mark_good(plan.release, plan.leaves),
    ]


def _take_up(plan: Plan, activation: Activation, change_files: list[Step]) -> list[Step]:
    settings, kind = plan.settings, activation.kind
    bring_data = [
        *_migrate(plan, activation),
        *commands.run(settings, plan.release, "before_switch"),
        release.mark_built(plan.release),
    ]
    return [
        *(bring_data if plan.commit else []),
        proof.health(settings),
        proof.visitors(settings, plan.release, new=bool(plan.commit)),
        proof.stop(),
        *change_files,
        service.switch(plan.release, kind) if plan.switches else service.activate(kind),
        service.wait_for_workers(settings, plan.release),
    ]


def _migrate(plan: Plan, activation: Activation) -> list[Step]:
    settings, new = plan.settings, plan.release
    if not activation.held:
        return [django.migrate(settings, new)]
    # Longer than the migrations may take, for when they are applied, only the new code can serve.
    wait = min(settings.hold + AFTER_HOLD, maintenance.LONGEST)
    return [
        *([django.migrate(settings, new, stop=activation.held)] if activation.prelude else []),
        maintenance.hold(wait, settings.hold),
        django.migrate(settings, new, held=True),
    ]


def _rights(plan: Plan, activation: Activation) -> list[Step]:
    names = _names_of_rights(plan, activation)
    return [service.require_rights(names)] if names else []


def root_commands(plan: Plan, activation: Activation) -> list[str]:
    """The commands that run as root in a switch with this activation, or on its way back."""
    every = rights.root_commands(plan.layout)
    return [every[name] for name in _names_of_rights(plan, activation)]


def _names_of_rights(plan: Plan, activation: Activation) -> list[str]:
    first, roll = plan.live is None, _rolls(plan, activation)
    return rights.needed(plan.layout, plan.files, activation.kind, first=first, roll=roll)


def _rolls(plan: Plan, activation: Activation) -> bool:
    return plan.rolls and activation.kind != "nginx"


def revert(plan: Plan, activation: Activation) -> list[Step]:
    """The way back from any point of the switch."""
    return [service.revert(plan, activation.kind, roll=_rolls(plan, activation))]


def after_switch(plan: Plan) -> list[Step]:
    """What hosts.toml wants done once a new release is live and stays."""
    return commands.run(plan.settings, plan.release, "after_switch") if plan.commit else []


def finish(plan: Plan, entry: str) -> list[Step]:
    """Record how the run went, and tidy up."""
    return [release.record(entry), release.prune(plan.settings)]
