"""provision: a bare Debian or Ubuntu server becomes ready for deploys."""

import os
import re
import sys

from fabfile.config.inventory import Host
from fabfile.errors import ConfigError, ProvisionError
from fabfile.output.report import Outcome, Report
from fabfile.plan import rendering
from fabfile.ssh.connection import connect
from fabfile.ssh.runner import StepError
from fabfile.steps import server

TOKEN = re.compile(r"dp\.[A-Za-z0-9._-]+")


def provision(host: Host, report: Report, outcome: Outcome, token: str | None) -> None:
    """The recipe: look, install, make, write, grant; every step may run again and says what it changed."""
    settings, layout = host.settings, host.layout
    admin = Host(host.name, host.environment, settings.model_copy(update={"user": settings.admin}))
    files = rendering.files(settings)
    steps = [
        server.look(layout),
        server.packages(),
        server.uv(),
        server.doppler(),
        server.user(settings),
        server.folders(layout, settings),
        server.token(layout, settings),
        server.sudo(layout, settings),
        server.service(layout, settings, list(files)),
        *([server.repository(layout, settings)] if settings.repo else []),
    ]
    with connect(admin) as remote, remote.conduct(report, as_root=settings.admin != "root") as conductor:
        if token:
            conductor.put("doppler.env", f"DOPPLER_TOKEN={token}\n".encode())
        for path, text in files.items():
            conductor.put(path.name, text.encode())
        try:
            ends = conductor.run(steps)
        except StepError as error:
            raise ProvisionError(
                f"{host.name}: {error.message}", evidence=error.evidence, hint=f"fab -H {host.name} provision"
            ) from error
    lines = [line for end in ends for line in end.output.splitlines()]
    tell(host, report, outcome, lines)


def tell(host: Host, report: Report, outcome: Outcome, lines: list[str]) -> None:
    """Say what changed, what the user may run as root, and what is left to do."""
    changes = [line.removeprefix("changed: ") for line in lines if line.startswith("changed: ")]
    outcome.details = {"changes": changes, "sudo": server.sudo_lines(host.layout, host.settings)}
    for change in changes:
        report.say(f"  changed: {change}")
    for line in lines:
        if line.startswith("deploy-key "):
            key = line.removeprefix("deploy-key ")
            outcome.suggestions.append(f"let this key read {host.settings.repo}: {key}")
            report.say(f"  {host.settings.repo} lets nobody in yet; add this deploy key there (read only):\n  {key}")
        elif not line.startswith("changed: "):
            report.say(f"  {line}")
    if changes:
        report.say(f"  {host.settings.user} may run as root, without a password, exactly:")
        for line in outcome.details["sudo"]:
            report.say(f"    {line.split('NOPASSWD: ', 1)[1]}")
    else:
        outcome.status = "unchanged"
    outcome.suggestions.append(f"fab -H {host.name} deploy")
    report.headline(f"{host.name}: ready for deploys" + ("" if changes else "; nothing had to be changed"))


def read_token(host: Host, *, stdin: bool) -> str | None:
    """The Doppler service token from standard input or DOPPLER_TOKEN; None when neither is there. ConfigError if odd.

    A lab host has its own, so that no real token ever gets there.
    """
    if host.settings.lab:
        from fabfile import lab

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
