"""secrets.list, .set, .unset, .token: names are shown, values never; a change is taken up at once."""

import getpass
import re
import sys
from collections.abc import Mapping

from ..errors import ConfigError
from ..session.run import Run
from ..session.session import open_session
from ..ssh.connection import connect
from ..steps import secrets as steps
from ..steps.step import Step
from .link import read_content
from .restart import restart_live

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
# What systemd, the login or the tool itself decides.
NOT_OURS = re.compile(r"PATH|HOME|USER|LOGNAME|SHELL|LD_.*|DEPLOY_.*|LISTEN_.*|BASH_ENV|ENV|IFS")


def list_names(run: Run) -> None:
    """Show the names of all secrets."""
    with connect(run.host) as connection, connection.runner() as runner:
        found = runner.run([steps.names(run.settings)]).output(steps.LIST).splitlines()
    run.outcome.details = {"names": found}
    run.console.say("\n".join(found) or f"{run.name} has no secrets yet")


def set_value(run: Run, name: str, file: str, *, later: bool) -> None:
    """Set one in the file on the host to what comes from `file` or standard input, and restart."""
    require_file(run, f"doppler secrets set {name}")
    check_name(name)
    value = read_value(name, file)
    said = {"changed": f"{name} is set", "same": f"{name} was set to that already"}
    _change(run, steps.set_value(name), {"value": value}, said, later=later)


def unset(run: Run, name: str, *, later: bool) -> None:
    """Take one out of the file on the host, and restart."""
    require_file(run, f"doppler secrets delete {name}")
    check_name(name)
    _change(run, steps.unset(name), {}, {"changed": f"{name} is gone", "none": f"{name} was not set"}, later=later)


def token(run: Run, token: str | None, *, later: bool) -> None:
    """Give the host another token of Doppler's, which is tried first, and restart."""
    if run.settings.secrets == "file":
        raise ConfigError(f"{run.name} has its secrets in a file, and no token", hint=f"fab -H {run.name} secrets.list")
    if not token:
        raise ConfigError(
            "there is no token, neither in DOPPLER_TOKEN nor on standard input",
            hint=f"DOPPLER_TOKEN=dp.st.xxx fab -H {run.name} secrets.token, or pipe it in: --token-stdin",
        )
    sent = {"doppler.env": f"DOPPLER_TOKEN={token}\n".encode()}
    said = {"changed": "the token is replaced", "same": "the token was this one already"}
    _change(run, steps.replace_token(run.settings), sent, said, later=later)


def _change(run: Run, step: Step, sent: Mapping[str, bytes], said: Mapping[str, str], *, later: bool) -> None:
    with open_session(run, run.outcome.verb, 0) as session:
        for name, content in sent.items():
            session.runner.put(name, content)
        answer = session.runner.run([step]).output(step.id).strip()
        live = session.live
        if answer != "changed":
            run.outcome.status = "unchanged"
            run.headline(said[answer])
        elif later or live is None:
            then = f"fab -H {run.name} {'restart' if live else 'deploy'}"
            run.outcome.suggestions.append(then)
            run.headline(f"{said[answer]}, and {then} takes it up")
        else:
            run.console.say(f"  {said[answer]}")
            restart_live(session, live, "restart")


def require_file(run: Run, instead: str) -> None:
    """Refuse to set what is Doppler's."""
    if run.settings.secrets != "file":
        raise ConfigError(
            f"{run.name} has its secrets in Doppler, not on the host",
            hint=f'{instead}, and fab -H {run.name} restart; or secrets = "file" in hosts.toml, and provision',
        )


def check_name(name: str) -> None:
    """Refuse what is no name of a variable, or is not the app's to set."""
    if not NAME.fullmatch(name):
        raise ConfigError(
            f"{name!r} is no name of a variable: letters, digits and _, and no digit first", hint="like SECRET_KEY"
        )
    if NOT_OURS.fullmatch(name):
        raise ConfigError(f"{name} is set by the system or by this tool", hint="take another name")


def read_value(name: str, file: str) -> bytes:
    """The value, without the line break that echo puts behind it. ConfigError for what systemd does not take."""
    content = getpass.getpass(f"{name}: ").encode() if not file and sys.stdin.isatty() else read_content(file)
    value = re.sub(rb"\r?\n\Z", b"", content)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise ConfigError(
            f"the value of {name} is no text in UTF-8", hint="base64 it, and decode it in the app"
        ) from None
    if re.search(r"[\x00-\x08\x0a-\x1f\x7f\x85\u2028\u2029]", text):
        raise ConfigError(
            f"the value of {name} has line breaks or control characters, which systemd hands on to no service",
            hint="base64 it, and decode it in the app; or put it into a linked file (fab link.put)",
        )
    if not text:
        raise ConfigError(f"the value of {name} is empty", hint=f"fab -H NAME secrets.unset {name} takes it away")
    return value
