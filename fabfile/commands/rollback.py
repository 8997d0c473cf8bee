"""rollback: an earlier release becomes the live one, proven first like a new one; the schema stays as it is."""

import difflib

from fabfile.commands.deploy import done
from fabfile.config.inventory import Host
from fabfile.errors import ConfigError
from fabfile.output.report import Outcome, Report
from fabfile.plan.state import HostState, ReleaseState
from fabfile.session import deployment as live
from fabfile.session.deployment import Change


def rollback(host: Host, report: Report, outcome: Outcome, to: str, wait: int) -> None:
    """The recipe: read, choose, prove, switch, check."""
    with live.work_on(host, report, outcome, f"rollback {to}".strip(), wait) as work:
        target = find_release(work.state, to, host)
        outcome.git_commit, outcome.git_branch = target.commit, target.branch
        if target.id == work.state.live and work.state.serves_live:
            outcome.status, outcome.release = "unchanged", target.id
            report.headline(f"{host.name}: nothing to do, {target.id} is live")
            return
        report.say(f"  back to {target.id}")
        leaves = work.live if target.id < work.state.live else None
        change = Change(work.layout.release(target.id), work.changed_files(), leaves=leaves)
        live.bring(work, change)
        done(work, change)


def find_release(state: HostState, to: str, host: Host) -> ReleaseState:
    """The release that `to` names (an id, its beginning, or a commit), or the newest good one before the live one.

    One that a rollback has left counts as good only by its name: deployed, left, and deployed anew, a commit has two
    releases, and the way back from the second is not the first.
    """
    if not to:
        if before := state.before_live():
            return before
        raise ConfigError(
            f"{host.name}: there is no good release before {state.live or 'the first deploy'}",
            hint=listing(host),
        )
    found = [r for r in state.releases if r.id == to]
    found = found or [r for r in state.releases if r.id.startswith(to) or (len(to) >= 4 and r.commit.startswith(to))]
    if not found:
        nearest = difflib.get_close_matches(to, [r.id for r in state.releases], n=1, cutoff=0.5)
        more = f"; did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(f"{host.name} has no release {to}{more}", hint=listing(host))
    if len({r.id for r in found}) > 1:
        raise ConfigError(f"{host.name}: {to} may be {' or '.join(r.id for r in found)}", hint="name one of them whole")
    if not found[0].built:
        raise ConfigError(f"{host.name}: {found[0].id} was never finished", hint=listing(host))
    return found[0]


def listing(host: Host) -> str:
    return f"fab -H {host.name} releases"
