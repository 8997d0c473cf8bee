"""Every verb with its options, but for `check`; each imports its recipe when it runs, so that --list is quick."""

from typing import TYPE_CHECKING

from .task import local_task, task

if TYPE_CHECKING:
    from .output.console import Console
    from .session.run import Run


OVERWRITE = "replace what was edited on the server; copies are kept in /srv/NAME/overwritten"


@task(
    {
        "force": "do every step, even when nothing changed, and install all packages anew",
        "overwrite": OVERWRITE,
        "backwards": "take a commit that lacks some of what is live: an older one, or one from beside it",
        "confirm": "show what would be done, as `plan` does, and ask",
    },
    settings=["branch"],
)
def deploy(
    run: "Run",
    force: bool = False,
    overwrite: bool = False,
    backwards: bool = False,
    confirm: bool = False,
    wait: int = 0,
) -> None:
    """Put a branch, tag or commit live, and nobody who uses the site notices."""
    from .commands.deploy import deploy

    planned = ""
    if confirm:
        from .commands import plan

        planned = plan.confirm(run, force=force, overwrite=overwrite, backwards=backwards)
        if not planned:
            return
    deploy(run, force=force, overwrite=overwrite, backwards=backwards, wait=wait, planned=planned)


@task(settings=["branch"])
def plan(run: "Run") -> None:
    """Show everything that `deploy` would do; nothing on the host changes."""
    from .commands.plan import plan

    plan(run)


@task(
    {
        "to": "a release id, its beginning, or a commit; the newest good release before the live one when not given",
        "keep_schema": "go back although the present schema breaks the earlier code, as far as its migrations tell",
    }
)
def rollback(run: "Run", to: str = "", keep_schema: bool = False, wait: int = 0) -> None:
    """Make an earlier release the live one."""
    from .commands.rollback import rollback

    rollback(run, to=to, keep_schema=keep_schema, wait=wait)


@task()
def restart(run: "Run", wait: int = 0) -> None:
    """Restart gunicorn behind its socket: new secrets are taken up, and no request fails."""
    from .commands.restart import restart

    restart(run, kind="restart", wait=wait)


@task()
def reload(run: "Run", wait: int = 0) -> None:
    """Give the live release new workers (HUP), without a stall."""
    from .commands.restart import restart

    restart(run, kind="hup", wait=wait)


@task(lab="running")
def status(run: "Run") -> None:
    """Show what is live, who works on it, and the five checks; exit 6 when one fails."""
    from .commands.status import status

    status(run)


@task(lab="running")
def releases(run: "Run") -> None:
    """List the releases on the host."""
    from .commands.releases import releases

    releases(run)


@task({"lines": "how many entries"}, lab="running")
def history(run: "Run", lines: int = 20) -> None:
    """Show who changed what is live, when, and how it ended."""
    from .commands.history import history

    history(run, lines)


@task(
    {
        "lines": "how many lines; 50 when not given, 5000 with --since",
        "follow": "go on showing new lines until Ctrl-C",
        "process": "a worker or timer of hosts.toml, or nginx: its log of the site; the website when not given",
        "since": "only what is younger: 30m, 1h, 2d, or what journalctl takes, as yesterday or '2026-11-26 10:00'",
        "grep": "only lines with this text, in capitals or not",
    },
    lab="running",
)
def logs(run: "Run", lines: int = 0, follow: bool = False, process: str = "", since: str = "", grep: str = "") -> None:
    """Show the journal of the website, or of a process beside it, or nginx's log."""
    from .commands.logs import logs, wanted

    logs(run, wanted(lines, since, grep), follow=follow, process=process)


@task({"command": "of manage.py, with its arguments, as one word"}, lab="running", by_hand=True)
def manage(run: "Run", command: str | None = None) -> None:
    """Run a manage.py command in the live release, with its secrets: fab -H NAME manage "createsuperuser"."""
    from .commands.at_hand import manage

    manage(run, command or "")


@task({"command": "any, with its arguments, as one word"}, lab="running", by_hand=True)
def run(run: "Run", command: str | None = None) -> None:
    """Run any command in the live release, with its secrets and its virtualenv."""
    from .commands.at_hand import run_any

    run_any(run, command or "")


@task(lab="running", by_hand=True, one_host=True)
def shell(run: "Run") -> None:
    """Open Django's shell in the live release, with its secrets."""
    from .commands.at_hand import manage

    manage(run, "shell")


@task(lab="running", by_hand=True, one_host=True)
def dbshell(run: "Run") -> None:
    """Open the database's own client, as Django's settings have it."""
    from .commands.at_hand import manage

    manage(run, "dbshell")


@task(lab="running", by_hand=True, one_host=True)
def ssh(run: "Run") -> None:
    """Log in to the host, as the user that deploys."""
    from .commands.at_hand import ssh

    ssh(run)


@task(
    {
        "path": "one of linked_files, or a file in one of linked_dirs",
        "file": "the file here; standard input when not given",
    },
    verb="link.put",
)
def put(run: "Run", path: str, file: str = "") -> None:
    """Put a file where releases find it, below shared/ of the host."""
    from .commands.link import put

    put(run, path, file)


@task(
    {
        "message": "what visitors read on the page",
        "page": "an HTML file here, instead of the tool's page",
        "allow": "IP addresses that get in all the same, with commas",
        "hold": "instead of a page: let requests wait, so many seconds at most (60)",
    },
    verb="maintenance.on",
    lab="running",
)
def on(run: "Run", message: str = "", page: str = "", allow: str = "", hold: int = 0) -> None:
    """Close the site to visitors; deploys work as ever, and its health path stays open."""
    from .commands import maintenance

    maintenance.on(run, message=message, page=page, allow=allow, hold=hold)


@task(verb="maintenance.off", lab="running")
def off(run: "Run") -> None:
    """Open a site that maintenance.on has closed, and see that it answers."""
    from .commands import maintenance

    maintenance.off(run)


@task(verb="secrets.list", lab="running")
def list_secrets(run: "Run") -> None:
    """Show the names of the app's secrets; values are never shown."""
    from .commands import secrets

    secrets.list_names(run)


LATER = "change it only; `restart` or the next deploy takes it up"


@task(
    {"name": "of the variable", "file": "whose content is the value; standard input when not given", "later": LATER},
    verb="secrets.set",
)
def set_secret(run: "Run", name: str, file: str = "", later: bool = False) -> None:
    """Set a secret in the file on the host (secrets = "file"), and restart gunicorn behind its socket."""
    from .commands import secrets

    secrets.set_value(run, name, file, later=later)


@task({"name": "of the variable", "later": LATER}, verb="secrets.unset")
def unset_secret(run: "Run", name: str, later: bool = False) -> None:
    """Take a secret out of the file on the host, and restart gunicorn behind its socket."""
    from .commands import secrets

    secrets.unset(run, name, later=later)


@task(
    {"token_stdin": "read the Doppler service token from standard input instead of DOPPLER_TOKEN", "later": LATER},
    verb="secrets.token",
)
def replace_token(run: "Run", token_stdin: bool = False, later: bool = False) -> None:
    """Give the host another Doppler token, if Doppler takes it, and restart gunicorn behind its socket."""
    from .commands import secrets
    from .commands.provision import read_token

    secrets.token(run, read_token(run.host, stdin=token_stdin), later=later)


@task({"message": "why, for everybody who is refused"}, lab="running")
def lock(run: "Run", message: str = "") -> None:
    """Close the host to deploys by hand, until unlock."""
    from .commands.lock import lock

    lock(run, message=message)


@task(lab="running")
def unlock(run: "Run") -> None:
    """Open a host that was closed by lock."""
    from .commands.lock import unlock

    unlock(run)


@task(
    {
        "token_stdin": "read the Doppler service token from standard input instead of DOPPLER_TOKEN",
        "overwrite": OVERWRITE,
        "accept_host_key": "fingerprint of the host's key (SHA256:...), where nobody is asked; several with commas",
    },
    lab="up",
)
def provision(run: "Run", token_stdin: bool = False, overwrite: bool = False, accept_host_key: str = "") -> None:
    """Make a bare Debian or Ubuntu server ready for deploys; safe to run again."""
    from .commands.provision import provision, read_token

    token = read_token(run.host, stdin=token_stdin)
    provision(run, token=token, overwrite=overwrite, accept_host_key=accept_host_key)


@task(
    {
        "plan": "say what would happen, with every difference; nothing is written on the server",
        "undo": "put the server back as it was before adopt",
        "leave_out": "go on without what the server has and hosts.toml lacks",
        "accept_host_key": "fingerprint of the host's key (SHA256:...), where nobody is asked; several with commas",
    },
    lab="up",
)
def adopt(
    run: "Run",
    plan: bool = False,
    undo: bool = False,
    leave_out: bool = False,
    accept_host_key: str = "",
    wait: int = 0,
) -> None:
    """Take over a server where the app was deployed in place, as by a playbook; nobody who uses the site notices."""
    from .commands import adopt
    from .commands.provision import ByHand, read_token

    contact = ByHand(run.console, accept_host_key)
    adopt.require_one(run, plan=plan, undo=undo, leave_out=leave_out)
    if plan:
        adopt.plan(run, contact)
    elif undo:
        adopt.undo(run, contact, wait=wait)
    else:
        adopt.adopt(run, contact, token=read_token(run.host, stdin=False), leave_out=leave_out, wait=wait)


@task({"yes": "do it; without it, say what would go and what would stay"}, lab="running")
def remove(run: "Run", yes: bool = False) -> None:
    """Take an app off its server, but for what people left in it; nothing else there is touched."""
    from .commands.remove import remove

    remove(run, yes=yes)


@local_task(
    {
        "repository": "a folder, or a git address; here when not given",
        "name": "what unit, site and folders on the server are called",
        "domain": "the site's name",
        "address": "the server's IP address or DNS name",
        "to": "another file than hosts.toml; - for standard output",
    }
)
def init(
    console: "Console", repository: str | None = None, name: str = "", domain: str = "", address: str = "", to: str = ""
) -> None:
    """Write a hosts.toml for a Django repository (here, or `fab init PATH-OR-ADDRESS`); asks no server."""
    from .commands.init import init

    given = {"name": name, "domain": domain, "address": address}
    init(console, repository, {key: value for key, value in given.items() if value}, to)
