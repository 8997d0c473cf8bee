"""status: what is live, who works on it, whether it is healthy. Writes nothing."""

from concurrent.futures import ThreadPoolExecutor

from ..config.settings import Settings
from ..errors import Unhealthy
from ..output import advice
from ..plan import certificate, lock, rendering, rights, services
from ..plan.state import HostState, parse
from ..session.run import Run
from ..session.session import evidence, meanwhile, read_logs, rights_to_mend
from ..ssh.connection import Connection, connect
from ..steps import nginx, secrets, survey

# What a timer's job does, by systemd's word for the state of its unit.
JOBS = {"activating": "runs now", "active": "runs now", "failed": "failed when it last ran"}


def status(run: Run) -> None:
    """Read the host and make the checks. Raises Unhealthy that names the first that fails."""
    settings, outcome = run.settings, run.outcome
    look = [survey.read_host(), nginx.look_at_site(settings), survey.holder(), secrets.look(settings)]
    with connect(run.host) as connection, connection.runner() as runner:
        meanwhile(lambda: rendering.files(settings))
        asked = ThreadPoolExecutor(1).submit(ask_nginx, connection, settings)
        results = runner.run(look)
        state, answer = parse(results[survey.READ].output.splitlines()), asked.result()
        checks = nginx.parse_checks(results[nginx.LOOK].output)
        hidden = state.maintenance and answer == "503"  # the host's own look asks gunicorn then
        if answer and not hidden:  # else the host's own look is all there is
            checks.add("http_200", ok=answer == "200", detail=f"{settings.health_path} answers {answer}")
        shown = certificate.parse(results[nginx.LOOK].output.splitlines())
        if shown:
            told = shown.trouble(state.now) or shown.told(state.now)
            checks.add("certificate", ok=not shown.refused(state.now), detail=told)
        outcome.add_checks(checks)
        add_state(run, state, results[survey.HOLDER].output)
        if shown:
            outcome.details["certificate"] = shown.document(state.now)
            if shown.trouble(state.now):
                outcome.suggestions.append(certificate.renewal(run.name, settings))
        outcome.details["secrets_changed"] = changed = results.output(secrets.LOOK).splitlines()
        if changed:
            outcome.suggestions.append(f"fab -H {run.name} restart takes up {', '.join(changed)}")
        if outcome.details["edited"]:
            outcome.suggestions.append(
                f"fab -H {run.name} deploy says what was edited on the server, and where it belongs"
            )
        outcome.suggestions += rights_to_mend(run, state).values()
        outcome.details["visitor"] = (checks.found | checks.details).get("visitor", "")
        show(run, state, checks)
        for text in outcome.suggestions:
            run.console.say(f"  next: {text}")
        if checks.failed:
            outcome.logs = read_logs(runner, run.host.layout, checks.failed)
            raise Unhealthy(
                f"{run.name}: {checks.trouble}",
                evidence=evidence(outcome.logs, checks.failed),
                hint=next_command(run, state, checks),
            )


def ask_nginx(connection: Connection, settings: Settings) -> str:
    """What nginx answers for the health path, through SSH; nothing where the host passes no connection on."""
    from ..ssh import http  # httpx takes 0.1 s

    with http.client(connection, settings) as client:
        answer = http.ask(client, settings.health_path)
    return "" if answer.startswith(http.BLIND) else answer


def next_command(run: Run, state: HostState, checks: nginx.Checks) -> str:
    """What to do about the check that fails."""
    if not state.live:
        return f"fab -H {run.name} deploy"
    if checks.failed == "certificate":
        return certificate.renewal(run.name, run.settings)
    return advice.look(run.name, checks.failed, checks.trouble)


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
        "secrets_file_rights": state.loose or None,
        "edited": [*state.edited(rendering.digests(rendering.files(run.settings))), *state.drop_ins],
        "sudo_too_wide": rights.too_wide(run.host.layout, state.rights),
        "maintenance": bool(state.maintenance),
    }


def show(run: Run, state: HostState, checks: nginx.Checks) -> None:
    """Show the status, a line for each thing."""
    outcome = run.outcome
    commit = f", {outcome.git_branch} {outcome.git_commit[:7]}" if outcome.git_commit else ""
    run.console.say(f"{run.name}: {outcome.site_state}{commit}")
    rows = [("url", outcome.url)]
    for name, good in checks.held.items():
        found = f": {checks.found[name]}" if name in checks.found else ""
        rows.append((name, f"ok{found}" if good else f"failed: {checks.details[name]}"))
    if state.maintenance:
        rows.append(("maintenance", f"the page is on, and visitors see it: {state.maintenance}"))
    if state.hold > state.now:
        rows.append(("maintenance", f"requests wait, for {state.hold - state.now} s more"))
    rows += [
        (f"worker {pid}", folder if folder == state.live else f"{folder} (not the live release)")
        for pid, folder in state.workers.items()
    ]
    rows += processes(run, state)
    rows += [(key, outcome.details[key]) for key in ("locked", "frozen") if outcome.details[key]]
    if changed := outcome.details["secrets_changed"]:
        rows.append(("secrets", f"set otherwise since gunicorn started: {', '.join(changed)}"))
    rows += [("missing", text) for text in state.missing]
    rows += [("edited", path) for path in outcome.details["edited"]]
    rows += [("rights", what) for what in rights_to_mend(run, state)]
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
