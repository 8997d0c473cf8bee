"""provision: a bare Debian or Ubuntu server becomes ready for deploys."""

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from ..config.inventory import Host
from ..errors import ConfigError, DeployError, NotLetIn, ProvisionError
from ..output import advice
from ..output.console import Console
from ..plan import rendering
from ..plan.rights import sudo_lines, too_wide
from ..session import staging
from ..session.run import Run
from ..ssh.connection import connect
from ..ssh.known_hosts import fingerprint
from ..ssh.runner import Runner, StepError
from ..steps import server
from ..steps.step import Results, Step

TOKEN = re.compile(r"dp\.[A-Za-z0-9._-]+")
FINGERPRINT = re.compile(r"SHA256:[A-Za-z0-9+/]{43}")
SHOW_KEY = "ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"
KEY = re.compile(r"AAAA[A-Za-z0-9+/]+=*")  # a public key in base64, in a line of authorized_keys
# Begin the lines of host/lib/server.sh that are more than words.
CHANGED, DEPLOY_KEY, RIGHT = "changed: ", "deploy-key ", "right "


def provision(run: Run, *, token: str | None, overwrite: bool = False, accept_host_key: str = "") -> None:
    """The recipe: look, install, let in, see that logins work, write, stage; every step may run again."""
    host, settings = run.host, run.settings
    files = rendering.files(settings)
    with (
        connect(host.as_admin(), ByHand(run.console, accept_host_key)) as connection,
        connection.runner(run.console, as_root=True) as runner,
    ):
        if token:
            runner.put("doppler.env", f"DOPPLER_TOKEN={token}\n".encode())
        staging.send(settings, runner, files)
        try:
            results = runner.run(server.prepare(settings))
            results |= let_in(run, runner, server.let_in(settings))
            results |= runner.run(server.install(settings, files, overwrite=overwrite))
        except StepError as error:
            raise not_done(run, error) from error
    show(run, results)


def let_in(run: Run, runner: Runner, steps: Sequence[Step]) -> Results:
    """Run the steps of `server.let_in`, and see that logins work; else what they changed of logins goes back."""
    results = runner.run(steps, rescue=[server.put_logins_back()])
    see_logins(run, runner)
    return Results(results | runner.run([server.confirm_logins()]))


def see_logins(run: Run, runner: Runner) -> None:
    """Log in anew as admin and as user; put back what changed of logins, and raise ProvisionError, if one fails."""
    for host in (run.host.as_admin(), run.host):
        try:
            with connect(host) as connection, connection.runner(as_root=host is not run.host):
                pass
        except NotLetIn as error:
            if host is run.host and run.settings.authorized_keys and not allowed(run) & set(error.offered):
                run.console.say(f"  not seen: a login as {host.settings.user}; authorized_keys has none of your keys")
                continue
            raise _locked_out(runner, error) from error
        except DeployError as error:
            raise _locked_out(runner, error) from error


def allowed(run: Run) -> set[str]:
    """The fingerprints of `authorized_keys`; without that setting, whoever may log in as admin may do so as user."""
    words = " ".join(run.settings.authorized_keys).split()
    return {fingerprint(word) for word in words if KEY.fullmatch(word) and len(word) % 4 == 0}


def _locked_out(runner: Runner, error: DeployError) -> ProvisionError:
    runner.run([server.put_logins_back()])
    return ProvisionError(
        f"{error.message}. So what this run had changed of logins is back as it was",
        hint=error.hint,
        evidence=error.evidence,
    )


class ByHand:
    """Accepts an unknown host key that was named on the command line, or to which somebody at a terminal says yes."""

    def __init__(self, console: Console, named: str) -> None:
        self._console = console
        self._named = [name.strip() for name in named.split(",") if name.strip()]
        if wrong := [name for name in self._named if not FINGERPRINT.fullmatch(name)]:
            raise ConfigError(
                f"--accept-host-key {wrong[0]} is no fingerprint of a host key (SHA256:...)",
                hint=f"on the server: {SHOW_KEY}",
            )

    def accept(self, where: str, kind: str, fingerprint: str) -> bool:
        if fingerprint in self._named:
            return True
        if self._named or not sys.stdin.isatty():
            return False
        self._console.say(
            f"  nobody here has seen {where} before; its {kind} key is {fingerprint}\n"
            f"  compare it with your provider's console, or on the server: {SHOW_KEY}"
        )
        return input("  Is that the server (yes/no)? ").strip().lower() == "yes"

    def accepted(self, where: str, kind: str, fingerprint: str, file: Path) -> None:
        self._console.say(f"  {where} is known from now on, in {file}: {kind} {fingerprint}")


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
