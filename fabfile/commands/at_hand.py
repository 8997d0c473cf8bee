"""manage, run, shell, dbshell, ssh: a person's commands on the host, mostly in the live release. They take no lock."""

import shlex
from collections.abc import Sequence

from ..errors import ConfigError, StepFailed
from ..session.run import Run
from ..ssh.connection import Connection, connect
from ..ssh.runner import Runner
from ..ssh.terminal import Ends, ends_here
from ..steps import at_hand
from ..steps.step import Step

CLIENTS = (
    "the database's client, where it is missing on the host: apt install postgresql-client, default-mysql-client or "
    "sqlite3"
)


def manage(run: Run, command: str) -> None:
    """Run a command of the live release's manage.py."""
    words = words_of(run, command, "createsuperuser")
    hint = CLIENTS if words[0] == "dbshell" else f'fab -H {run.name} manage "help {words[0]}"'
    _run(run, words, manage=True, hint=hint)


def run_any(run: Run, command: str) -> None:
    """Run any command in the folder of the live release's manage.py; no shell reads it."""
    words = words_of(run, command, "python --version")
    hint = f"""see what it says; what a shell is to read: fab -H {run.name} run "sh -c '...'\""""
    _run(run, words, manage=False, hint=hint)


def words_of(run: Run, command: str, example: str) -> list[str]:
    """The words of a command, as a shell parts them. ConfigError for none, and for a quote that is never closed."""
    hint = f'fab -H {run.name} {run.outcome.verb} "{example}"'
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise ConfigError(f"{run.outcome.verb}: {str(error).lower()} in: {command}", hint=hint) from None
    if not words or not words[0]:
        raise ConfigError(f"{run.outcome.verb} needs a command, as one word", hint=hint)
    return words


def ssh(run: Run) -> None:
    """Log in with the checked connection, as everything else does; how the last command there ended is no matter."""
    ends = ends_here(alone=run.alone)
    if run.console.as_json or not ends.terminal:
        raise ConfigError("ssh needs a terminal", hint=f'for one command: fab -H {run.name} run "COMMAND"')
    with connect(run.host) as connection:
        connection.log_in(ends)


def _run(run: Run, words: Sequence[str], *, manage: bool, hint: str) -> None:
    said = {"stdout": bytearray(), "stderr": bytearray()}
    ends = ends_here(alone=run.alone)
    if run.console.as_json:
        ends = Ends(None if ends.terminal else ends.stdin, said["stdout"].extend, said["stderr"].extend)
    with connect(run.host) as connection, connection.runner() as runner:
        runner.put(at_hand.WORDS, at_hand.words(words))
        # When the runner has answered, it has the words, too: what runs in a channel of its own does not wait for it.
        answer = runner.run([at_hand.find_live()]).output(at_hand.LIVE)
        found = dict(line.split(" ", 1) for line in answer.splitlines())
        release = run.host.layout.release(found["release"].rpartition("/")[2])
        run.outcome.release, run.outcome.site_state = release.id, f"{release.id} is live"
        code = attach(
            connection, runner, at_hand.run_by_hand(run.settings, release, manage=manage), found["work"], ends
        )
    run.outcome.details = {"command_exit_code": code}
    if run.console.as_json:
        run.outcome.details |= {name: text.decode(errors="replace") for name, text in said.items()}
    if code == 130 and ends.terminal:
        raise KeyboardInterrupt
    if code:
        how = "was ended by a signal" if code < 0 else f"exit {code}"
        raise StepFailed(f"{run.name}: {'manage.py ' if manage else ''}{words[0]}: {how}", hint=hint)


def attach(connection: Connection, runner: Runner, step: Step, work: str, ends: Ends) -> int:
    """Run a step joined to `ends`; at Ctrl-C on this side, or when nobody reads any more, it ends with its children."""
    try:
        return connection.attach(step, work, ends)
    except (KeyboardInterrupt, BrokenPipeError):
        runner.run([at_hand.end_command()])
        raise KeyboardInterrupt from None
