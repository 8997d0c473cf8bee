"""restart and reload: the live release again, with its secrets as they are now, or with new workers."""

from fabfile.commands.deploy import done
from fabfile.config.inventory import Host
from fabfile.errors import ConfigError
from fabfile.output.report import Outcome, Report
from fabfile.plan.activation import Activation
from fabfile.session import deployment as live
from fabfile.session.deployment import Change


def again(host: Host, report: Report, outcome: Outcome, activation: Activation, wait: int) -> None:
    """The recipe: read, prove that the live release still boots, activate it as asked, check."""
    with live.work_on(host, report, outcome, outcome.verb, wait) as work:
        if work.live is None:
            raise ConfigError(f"{host.name}: nothing is live yet", hint=f"fab -H {host.name} deploy")
        now = work.state.live_release
        outcome.git_commit, outcome.git_branch = (now.commit, now.branch) if now else (None, None)
        if work.state.service != "active":
            activation = Activation("start", "the service does not run")
        live.bring(work, Change(work.live, forced=activation))
        done(work, Change(work.live))
