"""restart and reload: the live release again, with its secrets as they are now, or with new workers."""

from ..config.layout import Release
from ..errors import ConfigError
from ..plan.activation import Activation, Kind
from ..plan.plan import Plan
from ..session import deployment
from ..session.run import Run
from ..session.session import Session, open_session


def restart(run: Run, *, kind: Kind, wait: int) -> None:
    """The recipe: read, prove that the live release still boots, activate it as asked, check."""
    with open_session(run, run.outcome.verb, wait) as session:
        if session.live is None:
            raise ConfigError(f"{run.name}: nothing is live yet", hint=f"fab -H {run.name} deploy")
        restart_live(session, session.live, kind)


def restart_live(session: Session, live: Release, kind: Kind) -> None:
    """Prove that the live release still boots, activate it as asked, check."""
    if now := session.state.live_release:
        session.outcome.git_commit, session.outcome.git_branch = now.commit, now.branch
    activation = Activation(kind, "asked for")
    if session.state.service != "active":
        activation = Activation("start", "the service does not run")
    deployment.deploy(session, Plan(session.settings, session.layout, live, live, forced=activation))
