"""rollback: an earlier release becomes the live one, proven first like a new one; the schema stays as it is."""

import difflib
from pathlib import PurePosixPath

from ..errors import ConfigError
from ..plan.plan import Plan
from ..plan.state import HostState, ReleaseState
from ..session import deployment
from ..session.run import Run
from ..session.session import Session, open_session


def rollback(run: Run, *, to: str, keep_schema: bool, wait: int) -> None:
    """The recipe: read, choose, prove, switch, check."""
    with open_session(run, f"rollback {to}".strip(), wait) as session:
        state = session.state
        target = find_release(state, to, run.name)
        run.outcome.git_commit, run.outcome.git_branch = target.commit, target.branch
        if target.id == state.live and state.serves_live:
            session.nothing_to_do(f"{target.id} is live", target.id)
            return
        run.console.say(f"  back to {target.id}")
        release = session.layout.release(target.id)
        leaves = session.live if target.id < state.live else None
        plan = Plan(session.settings, session.layout, release, session.live, files_to_install(session), leaves=leaves)
        deployment.deploy(session, plan, keep_schema=keep_schema)


def files_to_install(session: Session) -> dict[PurePosixPath, str]:
    """The changed files; none where somebody has edited some on the host, for a way back asks nothing."""
    if not session.edited:
        return session.changed_files()
    session.run.console.say(f"  edited on the server, and left as it is: {', '.join(session.edited)}")
    return {}


def find_release(state: HostState, to: str, host: str) -> ReleaseState:
    """The release that `to` names (an id, its beginning, or a commit), or the newest good one before the live one.

    One that a rollback has left counts as good only by its name: deployed, left, and deployed anew, a commit has two
    releases, and the way back from the second is not the first.
    """
    if not to:
        if before := state.before_live():
            return before
        raise ConfigError(
            f"{host}: there is no good release before {state.live or 'the first deploy'}",
            hint=listing(host),
        )
    found = [r for r in state.releases if r.id == to]
    found = found or [r for r in state.releases if r.id.startswith(to) or (len(to) >= 4 and r.commit.startswith(to))]
    if not found:
        nearest = difflib.get_close_matches(to, [r.id for r in state.releases], n=1, cutoff=0.5)
        more = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(f"{host} has no release {to}{more}", hint=listing(host))
    if len({r.id for r in found}) > 1:
        raise ConfigError(f"{host}: {to} may be {' or '.join(r.id for r in found)}", hint="name one of them whole")
    if not found[0].built:
        raise ConfigError(f"{host}: {found[0].id} was never finished", hint=listing(host))
    return found[0]


def listing(host: str) -> str:
    return f"fab -H {host} releases"
