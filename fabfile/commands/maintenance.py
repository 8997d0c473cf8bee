"""maintenance.on and maintenance.off: the site closed to visitors, and open again."""

import ipaddress
from pathlib import Path

from ..errors import ConfigError
from ..plan import rendering
from ..plan.lock import Lock, lock_info
from ..session.run import Run
from ..ssh.connection import connect
from ..steps import maintenance, nginx, service


def on(run: Run, *, message: str, page: str, allow: str, hold: int) -> None:
    """Close the site until `off`: a page with 503 for all but `allow`; or, with `hold`, requests wait for seconds."""
    if hold:
        return _hold(run, hold, given=bool(message or page or allow))
    addresses, text = read_addresses(allow), read_page(page) if page else rendering.maintenance_page(message)
    with connect(run.host) as connection, connection.runner(run.console) as runner:
        runner.put("maintenance.html", text.encode())
        runner.run([maintenance.close(addresses)])
    run.outcome.details = {"maintenance": True, "allowed": addresses}
    but = f", but for {', '.join(addresses)}" if addresses else ""
    run.headline(
        f"closed: visitors get the page, with 503{but}; deploys work; fab -H {run.name} maintenance.off opens it"
    )
    return None


def _hold(run: Run, seconds: int, *, given: bool) -> None:
    if given or not 1 <= seconds <= maintenance.LONGEST:
        raise ConfigError(
            "--hold takes no message, page or addresses: nobody sees them"
            if given
            else f"--hold takes 1 to {maintenance.LONGEST} seconds, not {seconds}: visitors wait as long",
            hint=f"fab -H {run.name} maintenance.on --hold 30; for longer: maintenance.on -m TEXT",
        )
    taken = Lock(run.host.layout.lock, lock_info("maintenance.on --hold"))
    with connect(run.host) as connection, connection.runner(run.console, lock=taken) as runner:
        runner.run([service.require_rights(["restart_service"]), maintenance.hold(seconds)])
    run.outcome.details = {"maintenance": True, "hold": seconds}
    run.headline(f"requests wait, {seconds} s at most; fab -H {run.name} maintenance.off lets them in before")


def off(run: Run) -> None:
    """Open the site, and see that it answers."""
    with connect(run.host) as connection, connection.runner(run.console) as runner:
        results = runner.run([maintenance.open_again(), nginx.check_site(run.settings)])
    was = results.output(maintenance.OPEN).split()
    run.outcome.details = {"maintenance": False, "was": was}
    run.outcome.add_checks(nginx.parse_checks(results[nginx.CHECK].output))
    if not was:
        run.outcome.status = "unchanged"
    run.headline("open, and answers" if was else "was not closed")


def read_page(path: str) -> str:
    """The page that is to be shown. ConfigError when it cannot be read."""
    try:
        return Path(path).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no text in UTF-8"
        raise ConfigError(f"--page {path} cannot be read: {reason}", hint="name one HTML file") from None


def read_addresses(text: str) -> list[str]:
    """The addresses in a list with commas, as nginx writes them. ConfigError for what is none."""
    found = []
    for word in filter(None, (each.strip() for each in text.split(","))):
        try:
            found.append(str(ipaddress.ip_address(word)))
        except ValueError:
            raise ConfigError(
                f"--allow takes IP addresses, with commas between them, not {word}",
                hint="curl https://ifconfig.co shows yours, as a server sees it",
            ) from None
    return found
