"""lock and unlock: a host closed to deploys by hand, with a message, until somebody opens it."""

from fabfile.config.inventory import Host
from fabfile.output.report import Outcome, Report
from fabfile.plan.lock import Lock, card, describe_holder, frozen
from fabfile.ssh.connection import connect
from fabfile.steps import survey


def close(host: Host, report: Report, outcome: Outcome, message: str) -> None:
    """Refuse deploys, rollbacks and restarts from now on. Raises Locked if somebody did so before."""
    with connect(host) as remote, remote.conduct(lock=Lock(host.layout.lock, card("lock"))) as conductor:
        [before] = conductor.run([survey.freeze(host.layout, card("lock", message))])
        if before.output:
            raise frozen(host.name, before.output)
    outcome.reason = message or None
    report.headline(f"{host.name}: locked{f': {message}' if message else ''}; open it with: fab -H {host.name} unlock")


def open_(host: Host, report: Report, outcome: Outcome) -> None:
    """Allow deploys again."""
    with connect(host) as remote, remote.conduct() as conductor:
        [was] = conductor.run([survey.unfreeze(host.layout)])
    if was.output:
        outcome.reason = describe_holder(was.output)
        report.headline(f"{host.name}: open again; it was locked: {outcome.reason}")
    else:
        outcome.status = "unchanged"
        report.headline(f"{host.name}: was not locked")
