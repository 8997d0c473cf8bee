"""restart and reload: the live release again, with its secrets as they are now, or with new workers."""

from fabfile import live
from fabfile.activation import Activation
from fabfile.deploy import done
from fabfile.errors import ConfigError
from fabfile.inventory import Host
from fabfile.live import Change, Work
from fabfile.remote import connect
from fabfile.report import Outcome, Report


def again(host: Host, report: Report, outcome: Outcome, activation: Activation, wait: int) -> None:
    """The recipe: read, prove that the live release still boots, activate it as asked, check."""
    lock = live.lock_for(host, outcome.verb, wait)
    with connect(host) as remote, remote.conduct(report, lock=lock, on_wait=report.waiting) as conductor:
        work = Work(host, remote, conductor, report, outcome)
        work.read()
        live.require_ready(work.state, host)
        if work.live is None:
            raise ConfigError(f"{host.name}: nothing is live yet", hint=f"fab -H {host.name} deploy")
        now = work.state.live_release
        outcome.git_commit, outcome.git_branch = (now.commit, now.branch) if now else (None, None)
        if work.state.service != "active":
            activation = Activation("start", "the service does not run")
        live.bring(work, Change(work.live, forced=activation))
        done(work, Change(work.live))
