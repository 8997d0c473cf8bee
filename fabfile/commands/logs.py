"""logs: the journal of the website, or of a worker or timer. Writes nothing."""

from ..config.mistakes import nearest
from ..errors import ConfigError
from ..plan.services import Service, services
from ..session.run import Run
from ..ssh.connection import connect
from ..steps import logs as steps


def logs(run: Run, *, lines: int, follow: bool, process: str) -> None:
    """Show the end of a service's journal; with `follow` also what comes, until Ctrl-C."""
    service = find(run, process or "web")
    with connect(run.host) as connection:
        if follow and not run.console.as_json:
            connection.stream(steps.follow(service, lines), run.console.write)
            return
        with connection.runner() as runner:
            results = runner.run([steps.journal(service, lines), steps.nginx_errors(lines)])
    run.outcome.logs = {
        "django_service" if service.kind == "web" else service.name: results[steps.JOURNAL].output.splitlines(),
        "nginx_error": results[steps.NGINX_ERRORS].output.splitlines(),
    }
    run.console.say(results[steps.JOURNAL].output)


def find(run: Run, name: str) -> Service:
    """The service of that name; ConfigError tells the nearest one."""
    known = {service.name: service for service in services(run.host.layout)}
    if name not in known:
        hint = f"--process takes: {', '.join(known)}"
        raise ConfigError(f"{run.name} has no process {name}{nearest(name, known)}", hint=hint)
    return known[name]
