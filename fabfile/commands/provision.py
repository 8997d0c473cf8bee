"""provision: a bare Debian or Ubuntu server becomes ready for deploys."""

import os
import re
import sys

from ..config.inventory import Host
from ..errors import ConfigError, ProvisionError
from ..output import advice
from ..plan import rendering
from ..plan.rights import sudo_lines, too_wide
from ..session import staging
from ..session.run import Run
from ..ssh.connection import connect
from ..ssh.runner import StepError
from ..steps import server
from ..steps.step import Results

TOKEN = re.compile(r"dp\.[A-Za-z0-9._-]+")
# Begin the lines of host/lib/server.sh that are more than words.
CHANGED, DEPLOY_KEY, RIGHT = "changed: ", "deploy-key ", "right "


def provision(run: Run, *, token: str | None, overwrite: bool) -> None:
    """The recipe: look, install, make, write, grant, stage; every step may run again and says what it changed."""
    host, settings = run.host, run.settings
    files = rendering.files(settings)
    with (
        connect(host.as_admin()) as connection,
        connection.runner(run.console, as_root=True) as runner,
    ):
        if token:
            runner.put("doppler.env", f"DOPPLER_TOKEN={token}\n".encode())
        staging.send(settings, runner, files)
        try:
            results = runner.run(server.provision(settings, files, overwrite=overwrite))
        except StepError as error:
            raise not_done(run, error) from error
    show(run, results)


def not_done(run: Run, error: StepError) -> ProvisionError:
    """The error for a step of root's that failed."""
    then = advice.said_next(run.name, error.evidence) or f"fab -H {run.name} {run.outcome.verb}"
    return ProvisionError(f"{run.name}: {error.message}", evidence=error.evidence, hint=then, shown=True)


def show(run: Run, results: Results) -> None:
    """Show what changed, what the user may run as root, and what is left to do."""
    settings, say = run.settings, run.console.say
    lines = [line for result in results.values() for line in result.output.splitlines()]
    held = [line.removeprefix(RIGHT) for line in lines if line.startswith(RIGHT)]
    wide = too_wide(run.host.layout, held)
    changes = [line.removeprefix(CHANGED) for line in lines if line.startswith(CHANGED)]
    rights = sudo_lines(run.host.layout, settings.user)
    run.outcome.details = {"changes": changes, "sudo": rights, "sudo_too_wide": wide}
    for change in changes:
        say(f"  changed: {change}")
    for line in lines:
        if line.startswith(DEPLOY_KEY):
            key = line.removeprefix(DEPLOY_KEY)
            run.outcome.suggestions.append(f"let this key read {settings.repo}: {key}")
            say(f"  {settings.repo} refuses this server; add this deploy key there (read only):\n  {key}")
        elif not line.startswith((CHANGED, RIGHT)):
            say(f"  {line}")
    if changes:
        say(f"  {settings.user} may run as root, without a password, exactly:")
        for line in rights:
            say(f"    {line.split('NOPASSWD: ', 1)[1]}")
    else:
        run.outcome.status = "unchanged"
    if wide:
        say(f"  {settings.user} may run more all the same, by lines that are not this tool's: {', '.join(wide)}")
        run.outcome.suggestions.append(
            f"take from {settings.user} what other files give: ssh {run.host.address} sudo grep -rn NOPASSWD "
            "/etc/sudoers /etc/sudoers.d"
        )
    run.outcome.suggestions.append(f"fab -H {run.name} deploy")
    if any(not line.startswith(CHANGED) for line in results.output("reach_the_repository").splitlines()):
        run.headline(f"ready for deploys as soon as it can read {settings.repo}")
    else:
        run.headline("ready for deploys" + ("" if changes else "; nothing had to be changed"))


def read_token(host: Host, *, stdin: bool) -> str | None:
    """The Doppler service token from standard input or DOPPLER_TOKEN; None when neither is there. ConfigError if odd.

    A lab host has its own, so that no real token ever gets there.
    """
    if host.settings.lab:
        from .. import lab

        there = lab.module("host").find(host.name)
        return there.doppler_token if there else None
    token = (sys.stdin.readline() if stdin else os.environ.get("DOPPLER_TOKEN", "")).strip()
    if not token and not stdin:
        return None
    if not TOKEN.fullmatch(token):
        where = "standard input" if stdin else "DOPPLER_TOKEN"
        raise ConfigError(
            f"what stands in {where} is no Doppler token (they look like dp.st.CONFIG.XXXX)",
            hint="doppler configs tokens create deploy --plain",
        )
    return token
