"""lock and unlock: a host closed to deploys by hand, with a message, until somebody opens it."""

from ..plan.lock import Lock, describe_holder, frozen, lock_info
from ..session.run import Run
from ..ssh.connection import connect
from ..steps import survey


def lock(run: Run, *, message: str) -> None:
    """Refuse deploys, rollbacks and restarts from now on. Raises Locked if somebody did so before."""
    taken = Lock(run.host.layout.lock, lock_info("lock"))
    with connect(run.host) as connection, connection.runner(lock=taken) as runner:
        before = runner.run([survey.freeze(lock_info("lock", message))]).output(survey.FREEZE)
        if before:
            raise frozen(run.name, before)
    run.outcome.reason = message or None
    run.headline(f"locked{f': {message}' if message else ''}; open it with: fab -H {run.name} unlock")


def unlock(run: Run) -> None:
    """Allow deploys again."""
    with connect(run.host) as connection, connection.runner() as runner:
        was = runner.run([survey.unfreeze()]).output(survey.UNFREEZE)
    if was:
        run.outcome.reason = describe_holder(was)
        run.headline(f"open again; it was locked: {run.outcome.reason}")
    else:
        run.outcome.status = "unchanged"
        run.headline("was not locked")
