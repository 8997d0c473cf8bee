"""Steps of the service and its files, and the way back (host/lib/service.sh, files.sh)."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from ..config.layout import Release
from ..config.settings import Settings
from ..plan.activation import Kind
from ..plan.plan import Plan
from ..plan.rendering import digest
from ..plan.services import patience
from .step import Step, Value

COMPARE = "compare_the_files"
WAIT = "see_only_new_workers_answer"
REVERT = "put_the_old_release_back"
ACTIVATE = {
    "hup": ("reload_gunicorn_hup", "Reload gunicorn (HUP)"),
    "restart": ("restart_gunicorn_behind_its_socket", "Restart gunicorn behind its socket"),
    "start": ("start_gunicorn", "Start gunicorn"),
}
SWITCH = {
    "hup": ("switch_to_the_new_release_hup", "Switch to the new release (HUP)"),
    "restart": ("switch_to_the_new_release_restart", "Switch to the new release (restart)"),
    "start": ("switch_to_the_new_release_start", "Switch to the new release (start)"),
    "hold": ("switch_to_the_new_release_hold", "Switch to the new release (hold)"),
}


def require_rights(names: Iterable[str]) -> Step:
    """See that sudo allows these root commands, before anything changes."""
    title = "Ask sudo for the rights it needs"
    return Step("ask_sudo_for_the_rights_it_needs", title, "require_rights", {"rights": names})


def compare(files: Iterable[PurePosixPath]) -> Step:
    """Answer with how the rendered files (sent to the runner by name) differ from the installed ones."""
    return Step(COMPARE, "Compare the files with the installed ones", "compare_files", {"files": files})


def refuse_edited(files: Iterable[str]) -> Step:
    """Fail with what somebody has edited on the host, or put beside units, and where it belongs."""
    title = "Look for edited files"
    return Step("look_for_edited_files", title, "refuse_edited", {"files": files})


def install(plan: Plan) -> Step:
    """Install the files that root has staged, if they are those of the plan."""
    digests = [f"{digest(text)}  {plan.layout.staged_next}{path}" for path, text in plan.files.items()]
    parameters = {"files": plan.files, "digests": digests}
    return Step("install_the_changed_files", "Install the changed files", "install_files", parameters)


def activate(kind: Kind) -> Step:
    """Bring the live link's release to life."""
    step_id, title = ACTIVATE[kind]
    return Step(step_id, title, "activate", {"release": None, "activation": kind}, timeout=120, live=True)


def switch(release: Release, kind: Kind) -> Step:
    """Make `release` the live one and bring it to life."""
    step_id, title = SWITCH[kind]
    return Step(step_id, title, "activate", {"release": release.root, "activation": kind}, timeout=120, live=True)


def wait_for_workers(settings: Settings, release: Release) -> Step:
    """Wait until workers of `release`, and only those, answer."""
    parameters = {"release": release.root, **_waiting(settings)}
    timeout = settings.timeouts.reload + 30
    return Step(WAIT, "See only new workers answer", "wait_for_workers", parameters, timeout=timeout, live=True)


def revert(plan: Plan, kind: Kind, *, roll: bool = False) -> Step:
    """The way back, safe at every point: ends the proof; restores files, link and workers as far as they changed.

    `roll` says that the switch brings the processes beside the website along.
    """
    goes_back = plan.live is not None and plan.switches
    return Step(
        REVERT if goes_back else "put_everything_back",
        "Put the old release back" if goes_back else "Put everything back",
        "revert",
        {
            "old": plan.live.root if plan.live else None,
            "new": plan.release.root,
            "activation": kind,
            "units": plan.units,
            "site": plan.site,
            **_waiting(plan.settings),
        },
        timeout=plan.settings.timeouts.reload + 180 + (patience(plan.settings) if roll else 0),
        live=True,
    )


def _waiting(settings: Settings) -> dict[str, Value]:
    limit = settings.timeouts.reload
    patience = min(settings.timeouts.health, limit // 2)
    return {"health_path": settings.health_path, "limit": limit, "patience": patience}
