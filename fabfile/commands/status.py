"""status: what is live, who works on it, whether it is healthy. Writes nothing."""

from ..errors import Unhealthy
from ..plan import lock, services
from ..plan.state import HostState, parse
from ..session.run import Run
from ..session.session import read_logs
from ..ssh import http
from ..ssh.connection import connect
from ..steps import nginx, survey

# What a timer's job does, by systemd's word for the state of its unit.
JOBS = {"activating": "runs now", "active": "runs now", "failed": "failed when it last ran"}


def status(run: Run) -> None:
    """Read the host and make the four checks. Raises Unhealthy that names the first that fails."""
    settings, outcome = run.settings, run.outcome
    look = [survey.read_host(), nginx.look_at_site(settings), survey.holder()]
    with connect(run.host) as connection, connection.runner() as runner:
        results = runner.run(look)
        with http.client(connection, settings) as client:
            answer = http.ask(client, settings.health_path)
        state = parse(results[survey.READ].output.splitlines())
        checks = nginx.parse_checks(results[nginx.LOOK].output)
        if not answer.startswith(http.BLIND):  # then the host's own look is all there is
            checks.add("http_200", ok=answer == "200", detail=f"{settings.health_path} answers {answer}")
        outcome.add_checks(checks)
        add_state(run, state, results[survey.HOLDER].output)
        show(run, state, checks)
        if checks.failed:
            outcome.logs = read_logs(runner, run.host.layout)
            raise Unhealthy(
                f"{run.name}: {checks.trouble}",
                evidence="\n".join(outcome.logs["django_service"]),
                hint=f"fab -H {run.name} logs --lines 200" if state.live else f"fab -H {run.name} deploy",
            )


def add_state(run: Run, state: HostState, holder: str) -> None:
    """Add what the host looks like to the outcome."""
    outcome = run.outcome
    if now := state.live_release:
        outcome.git_commit, outcome.git_branch = now.commit, now.branch
    outcome.release, outcome.url = state.live or None, run.url
    outcome.admin_url = f"{run.url}/admin/"
    outcome.site_state = f"{state.live} is live" if state.live else "nothing is live"
    outcome.details = {
        "releases": len(state.releases),
        "workers": {str(pid): folder for pid, folder in state.workers.items()},
        "master": state.master or None,
        "processes": dict(state.units),
        "locked": lock.describe_holder(holder) if holder else None,
        "frozen": lock.describe_holder(state.frozen) if state.frozen else None,
        "missing": list(state.missing),
    }


def show(run: Run, state: HostState, checks: nginx.Checks) -> None:
    """Show the status, a line for each thing."""
    outcome = run.outcome
    commit = f", {outcome.git_branch} {outcome.git_commit[:7]}" if outcome.git_commit else ""
    run.console.say(f"{run.name}: {outcome.site_state}{commit}")
    rows = [("url", outcome.url)]
    rows += [(name, "ok" if good else f"failed: {checks.details[name]}") for name, good in checks.held.items()]
    rows += [
        (f"worker {pid}", folder if folder == state.live else f"{folder} (not the live release)")
        for pid, folder in state.workers.items()
    ]
    rows += processes(run, state)
    rows += [(key, outcome.details[key]) for key in ("locked", "frozen") if outcome.details[key]]
    rows += [("missing", text) for text in state.missing]
    for name, text in rows:
        run.console.say(f"  {name:<16} {text}")


def processes(run: Run, state: HostState) -> list[tuple[str, str]]:
    """A row for each worker and timer: what runs of it, and of which release."""
    settings, rows = run.settings, []
    running = services.instances(settings, state)
    ending = services.instances(settings, state, "deactivating")
    for name, process in settings.processes.items():
        if process.schedule is None:
            row = _counted(running.get(name, []), state.live) or "does not run"
        else:
            row = JOBS.get(state.units.get(f"{settings.name}-{name}.service", ""), process.schedule)
        if name in ending:
            row += f"; ends its work: {_counted(ending[name], state.live)}"
        rows.append((name, row))
    return [*rows, *(("amiss", trouble) for trouble in services.amiss(settings, state))]


def _counted(releases: list[str], live: str) -> str:
    """Say how many instances there are of which release."""
    return ", ".join(
        f"{releases.count(each)} of {each}{'' if each == live else ' (not the live release)'}"
        for each in sorted(set(releases))
    )
