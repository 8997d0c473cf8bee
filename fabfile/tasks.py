"""Every verb that touches hosts, with its options; each imports its recipe when it runs, so that --list is quick."""

from typing import TYPE_CHECKING

from fabfile.task import verb

if TYPE_CHECKING:
    from fabfile.config.inventory import Host
    from fabfile.output.report import Outcome, Report


@verb({"force": "do every step, even when nothing changed"}, over=["branch"])
def deploy(host: "Host", report: "Report", outcome: "Outcome", force: bool = False, wait: int = 0) -> None:
    """Put a branch, tag or commit live, and nobody who uses the site notices."""
    from fabfile.commands.deploy import deploy

    deploy(host, report, outcome, force, wait)


@verb({"to": "a release id, its beginning, or a commit; the newest good release before the live one when not given"})
def rollback(host: "Host", report: "Report", outcome: "Outcome", to: str = "", wait: int = 0) -> None:
    """Make an earlier release the live one."""
    from fabfile.commands.rollback import rollback

    rollback(host, report, outcome, to, wait)


@verb()
def restart(host: "Host", report: "Report", outcome: "Outcome", wait: int = 0) -> None:
    """Restart gunicorn behind its socket: new secrets are taken up, and no request fails."""
    from fabfile.commands.restart import again
    from fabfile.plan.activation import Activation

    again(host, report, outcome, Activation("restart", "asked for"), wait)


@verb()
def reload(host: "Host", report: "Report", outcome: "Outcome", wait: int = 0) -> None:
    """Give the live release new workers (HUP), without a stall."""
    from fabfile.commands.restart import again
    from fabfile.plan.activation import Activation

    again(host, report, outcome, Activation("hup", "asked for"), wait)


@verb(lab="running")
def status(host: "Host", report: "Report", outcome: "Outcome") -> None:
    """Show what is live, who works on it, and the four checks; exit 6 when one fails."""
    from fabfile.commands.status import status

    status(host, report, outcome)


@verb(lab="running")
def releases(host: "Host", report: "Report", outcome: "Outcome") -> None:
    """List the releases on the host."""
    from fabfile.commands.status import releases

    releases(host, report, outcome)


@verb({"lines": "how many lines", "follow": "go on showing new lines until Ctrl-C"}, lab="running")
def logs(host: "Host", report: "Report", outcome: "Outcome", lines: int = 50, follow: bool = False) -> None:
    """Show the journal of the service."""
    from fabfile.commands.status import logs

    logs(host, report, outcome, lines, follow)


@verb({"message": "why, for everybody who is refused"}, lab="running")
def lock(host: "Host", report: "Report", outcome: "Outcome", message: str = "") -> None:
    """Close the host to deploys by hand, until unlock."""
    from fabfile.commands.freeze import close

    close(host, report, outcome, message)


@verb(lab="running")
def unlock(host: "Host", report: "Report", outcome: "Outcome") -> None:
    """Open a host that was closed by lock."""
    from fabfile.commands.freeze import open_

    open_(host, report, outcome)


@verb({"token_stdin": "read the Doppler service token from standard input instead of DOPPLER_TOKEN"}, lab="up")
def provision(host: "Host", report: "Report", outcome: "Outcome", token_stdin: bool = False) -> None:
    """Make a bare Debian or Ubuntu server ready for deploys; safe to run again."""
    from fabfile.commands.provision import provision, read_token

    provision(host, report, outcome, read_token(host, stdin=token_stdin))
