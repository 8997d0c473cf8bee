"""Root's part of a deploy that changes units, site or processes: their texts, staged over the admin's login."""

from collections.abc import Mapping
from pathlib import PurePosixPath

from ..config.layout import Layout
from ..config.settings import Settings
from ..errors import ConnectError, DeployError, ProvisionError
from ..plan import rendering, services
from ..plan.plan import Plan
from ..ssh.connection import connect
from ..ssh.runner import BashFailed, Runner
from ..steps import server, service
from .session import Session


def stage(session: Session, plan: Plan, *, overwrite: bool = False) -> None:
    """See that root has staged what the plan installs; do it as the admin if not, with one more connection.

    With `overwrite`, what was edited on the host is replaced, and copies of it are kept. Raises ProvisionError with the
    differences where that login is not at hand, StepError for a site that nginx refuses.
    """
    files, host, console = session.files, session.run.host, session.run.console
    staged = session.state.staged == rendering.digests(files)
    if not overwrite and (staged or not plan.files):
        return
    console.say(f"  root stages what changed, by the login of {host.settings.admin}: {_names(session, plan)}")
    try:
        with (
            connect(host.as_admin()) as connection,
            connection.runner(console, as_root=True) as runner,
        ):
            send(session.settings, runner, files)
            stage_files = server.stage(session.settings, files, locked=True, overwrite=overwrite)
            said = runner.run([server.grant_rights(session.settings), stage_files]).output(stage_files.id)
    except (ConnectError, BashFailed, ProvisionError) as error:
        raise _without_admin(session, plan, error) from error
    if overwrite:
        console.say("".join(f"  {line}\n" for line in said.splitlines()).rstrip())


def send(settings: Settings, runner: Runner, files: Mapping[PurePosixPath, str]) -> None:
    """Send a runner of root's what the steps `grant_rights` and `stage` take."""
    roller, _ = services.roller(Layout.of(settings)).files
    runner.put("sudoers", rendering.sudoers(settings, leaving=roller in files).encode())
    runner.put("install_files.sh", rendering.installer().encode())
    for path, text in files.items():
        runner.put(path.name, text.encode())


def _without_admin(session: Session, plan: Plan, error: DeployError) -> ProvisionError:
    """The error for a deploy that needs root, with what is to be changed."""
    run, runner = session.run, session.runner
    for path, text in plan.files.items():
        runner.put(path.name, text.encode())
    differences = runner.run([service.compare(plan.files)]).output(service.COMPARE)
    why = f"root alone may stage what changed, and root is not at hand: {error.message}"
    return ProvisionError(
        f"{run.name}: {_names(session, plan)}: {why}",
        hint=f"fab -H {run.name} provision, by somebody who may log in as {run.settings.admin}, then this one again",
        evidence=differences,
    )


def _names(session: Session, plan: Plan) -> str:
    return ", ".join([*map(str, plan.files), *session.state.drop_ins])
