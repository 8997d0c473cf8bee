"""remove: an app taken off its server; what people left in it stays, and so does everything else there."""

from ..errors import ConfigError
from ..plan import lock
from ..plan.lock import Lock, lock_info
from ..session.run import Run
from ..ssh.connection import Connection, connect
from ..ssh.runner import StepError
from ..steps import remove as steps
from .provision import not_done


def remove(run: Run, *, yes: bool) -> None:
    """Say what goes and what stays; with `yes`, take it off. Raises ConfigError without it, Locked, ProvisionError."""
    settings = run.settings
    with connect(run.host.as_admin()) as connection:
        goes, stays = look(run, connection)
        run.outcome.details = {"gone": [], "kept": stays}
        if not goes:
            run.outcome.status = "unchanged"
            run.headline(f"{settings.name} is not on this server")
            return
        if not yes:
            for path in goes:
                run.console.say(f"  would go: {path}")
            for path in stays:
                run.console.say(f"  would stay: {path}")
            raise ConfigError(
                f"{run.name}: this would take {settings.name} off the server, with every release of it",
                hint=f"fab -H {run.name} remove --yes",
            )
        taken = Lock(run.host.layout.lock, lock_info("remove"))
        with connection.runner(run.console, lock=taken, as_root=True) as runner:
            try:
                results = runner.run([steps.look(), steps.remove(settings)], finish=True)
            except StepError as error:
                raise not_done(run, error) from error
    show(run, results.output(steps.REMOVE).splitlines())


def look(run: Run, connection: Connection) -> tuple[list[str], list[str]]:
    """Return what would go and what would stay."""
    with connection.runner(as_root=True) as runner:
        try:
            lines = runner.run([steps.look()]).output(steps.LOOK).splitlines()
        except StepError as error:
            raise not_done(run, error) from error
    if frozen := told(lines, "frozen"):
        raise lock.frozen(run.name, frozen[0])
    return told(lines, "gone"), told(lines, "kept")


def told(lines: list[str], word: str) -> list[str]:
    """What stands behind a word."""
    return [line.removeprefix(f"{word} ") for line in lines if line.startswith(f"{word} ")]


def show(run: Run, lines: list[str]) -> None:
    """Say what is gone, and what is left for a person to look after."""
    name, user = run.settings.name, told(lines, "user")
    gone, kept = told(lines, "gone"), told(lines, "kept")
    run.outcome.details = {"gone": gone, "kept": kept, "user_kept": bool(user)}
    run.outcome.site_state = "removed"
    for path in gone:
        run.console.say(f"  gone: {path}")
    for path in kept:
        run.console.say(f"  kept: {path}")
    why = "it owns what is kept, or other apps run as it"
    run.console.say(f"  kept: its databases on servers{f', and the user {user[0]}: {why}' if user else ''}")
    run.headline(f"{name} is off the server{'; what people left in it is kept' if kept else ''}")
