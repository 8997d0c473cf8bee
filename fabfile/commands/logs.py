"""logs: the journal of the website, or of a worker or timer, or nginx's log. Writes nothing."""

import re

from ..config.mistakes import nearest
from ..errors import ConfigError
from ..plan.services import Service, services
from ..session.run import Run
from ..ssh.connection import Connection, connect
from ..ssh.runner import Runner, StepError
from ..ssh.terminal import Ends
from ..steps import logs as steps
from ..steps.logs import Lines
from .at_hand import attach

NGINX = "nginx"
AGO = re.compile(r"\d+ ?(s|m|min|h|d|w)")
EXAMPLES = '--since 30m, --since 2d, --since yesterday, --since "10 min ago", --since "2026-11-26 10:00"'


def logs(run: Run, lines: Lines, *, follow: bool, process: str) -> None:
    """Show the end of a log; with `follow` also what comes, until Ctrl-C."""
    service = find(run, process or "web")
    follow = follow and not run.console.as_json
    with connect(run.host) as connection:
        if follow and service and not lines.since:
            connection.stream(steps.follow(service, lines), run.console.write)
            return
        with connection.runner() as runner:
            work = see_since(run, runner, lines.since)
            if follow and service:
                connection.stream(steps.follow(service, lines), run.console.write)
            elif follow:
                _follow_nginx(run, connection, runner, lines, work)
            else:
                _read(run, runner, service, lines)


def wanted(count: int, since: str, text: str) -> Lines:
    """What the options ask for: `since` may be a time that has gone by, as 30m or 2d."""
    since = since.strip()
    return Lines(count or (5000 if since else 50), f"-{since}" if AGO.fullmatch(since) else since, text)


def see_since(run: Run, runner: Runner, since: str) -> str:
    """The runner's folder; ConfigError with journalctl's words when `since` is no time."""
    try:
        return runner.run([steps.see_since(since)]).output(steps.SINCE).removeprefix("work ")
    except StepError as error:
        why = error.failed.output.strip()
        raise ConfigError(f"{run.name}: --since {since.removeprefix('-')}: {why}", hint=EXAMPLES) from None


def _read(run: Run, runner: Runner, service: Service | None, lines: Lines) -> None:
    layout = run.host.layout
    if service is None:
        said = runner.run([steps.nginx_log(layout, lines)]).output(steps.NGINX_LOG)
        run.outcome.logs = {"nginx_site": said.splitlines()}
    else:
        results = runner.run([steps.journal(service, lines), steps.nginx_errors(layout, lines)])
        said = results.output(steps.JOURNAL)
        run.outcome.logs = {
            "django_service" if service.kind == "web" else service.name: said.splitlines(),
            "nginx_error": results.output(steps.NGINX_ERRORS).splitlines(),
        }
    run.console.say(said)


def _follow_nginx(run: Run, connection: Connection, runner: Runner, lines: Lines, work: str) -> None:
    def show(data: bytes) -> None:
        run.console.write(data.decode(errors="replace"))

    attach(connection, runner, steps.follow_nginx_log(run.host.layout, lines), work, Ends(None, show, show))


def find(run: Run, name: str) -> Service | None:
    """The service of that name, None for nginx; ConfigError tells the nearest one."""
    known = {service.name: service for service in services(run.host.layout)}
    if name not in known and name != NGINX:
        names = [*known, NGINX]
        raise ConfigError(
            f"{run.name} has no process {name}{nearest(name, names)}", hint=f"--process takes: {', '.join(names)}"
        )
    return known.get(name)
