"""Root's part of a deploy that changes units, site or processes: their texts, staged over the admin's login."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath

from ..config.settings import Settings
from ..errors import ConnectError, DeployError, ProvisionError
from ..plan import rendering
from ..plan.plan import Plan
from ..ssh.connection import connect
from ..ssh.runner import BashFailed, Runner
from ..steps import server, service
from .session import Session

# Lines of a unit whose values may be secrets, whatever they were meant to be.
VALUES = re.compile(r"^([ +-](?:Environment|SetCredential)\w*=\"?\w*[=:]).*", re.MULTILINE)


def stage(session: Session, plan: Plan) -> None:
    """See that root has staged what the plan installs; do it as the admin if not, with one more connection.

    Raises ProvisionError with the differences where that login is not at hand, StepError for a site that nginx refuses.
    """
    files, host, console = session.files(), session.run.host, session.run.console
    if not plan.files or session.state.staged == {str(path): rendering.digest(text) for path, text in files.items()}:
        return
    console.say(f"  root stages what changed, by the login of {host.settings.admin}: {_names(plan)}")
    try:
        with (
            connect(host.as_admin()) as connection,
            connection.runner(console, as_root=host.admin_needs_sudo) as runner,
        ):
            send(session.settings, runner, files)
            runner.run([server.grant_rights(session.settings), server.stage(files, locked=True)])
    except (ConnectError, BashFailed, ProvisionError) as error:
        raise _without_admin(session, plan, error) from error


def send(settings: Settings, runner: Runner, files: Mapping[PurePosixPath, str]) -> None:
    """Send a runner of root's what the steps `grant_rights` and `stage` take."""
    runner.put("sudoers", rendering.sudoers(settings).encode())
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
        f"{run.name}: {_names(plan)}: {why}",
        hint=f"fab -H {run.name} provision, by somebody who may log in as {run.settings.admin}, then this one again",
        evidence=VALUES.sub(r"\1 (not shown)", differences),
    )


def _names(plan: Plan) -> str:
    return ", ".join(map(str, plan.files))
