"""logs: the journal of the service. Writes nothing."""

from fabfile.session.run import Run
from fabfile.ssh.connection import connect
from fabfile.steps import logs as steps


def logs(run: Run, *, lines: int, follow: bool) -> None:
    """Show the end of the service's journal; with `follow` also what comes, until Ctrl-C."""
    with connect(run.host) as connection:
        if follow and not run.console.as_json:
            connection.stream(steps.follow(run.host.layout.unit, lines), run.console.write)
            return
        with connection.runner() as runner:
            results = runner.run([steps.journal(lines), steps.nginx_errors(lines)])
    run.outcome.logs = {
        "django_service": results[steps.JOURNAL].output.splitlines(),
        "nginx_error": results[steps.NGINX_ERRORS].output.splitlines(),
    }
    run.console.say(results[steps.JOURNAL].output)
