"""status, releases, logs: looking at a host. Nothing here writes."""

from fabfile.commands.deploy import site_url
from fabfile.config.inventory import Host
from fabfile.errors import Unhealthy
from fabfile.output.report import Outcome, Report
from fabfile.plan import lock
from fabfile.plan.state import HostState, ReleaseState, parse
from fabfile.session import watch as health
from fabfile.session.deployment import note_checks, read_logs
from fabfile.ssh.connection import connect
from fabfile.steps import logs as log_steps
from fabfile.steps import survey, systemd


def status(host: Host, report: Report, outcome: Outcome) -> None:
    """Read the host and make the four checks. Raises Unhealthy that names the first that fails."""
    settings, layout = host.settings, host.layout
    look = [
        survey.read_host(layout, settings.linked_files),
        systemd.look_at_site(layout, settings),
        survey.holder(layout),
    ]
    with connect(host) as remote, remote.conduct() as conductor:
        surveyed, checked, held = conductor.run(look)
        with health.client(remote, settings) as http:
            answer = health.ask(http, settings.health_path)
        state = parse(surveyed.output.splitlines())
        trouble = note_checks(outcome, checked.output)
        note_state(outcome, host, state, held.output)
        if not answer.startswith(health.BLIND):  # then the host's own look is all there is
            outcome.checks["http_200"] = answer == "200" and outcome.checks.get("http_200", True)
            if not trouble and answer != "200":
                outcome.failed_check, trouble = "http_200", f"http_200 fails: {settings.health_path} answers {answer}"
        tell(report, outcome, state, checked.output)
        if outcome.failed_check:
            outcome.logs = read_logs(conductor, layout)
            raise Unhealthy(
                f"{host.name}: {trouble}",
                evidence="\n".join(outcome.logs["django_service"]),
                hint=f"fab -H {host.name} logs --lines 200" if state.live else f"fab -H {host.name} deploy",
            )


def note_state(outcome: Outcome, host: Host, state: HostState, holder: str) -> None:
    """Take what the host looks like into the outcome."""
    if now := state.live_release:
        outcome.git_commit, outcome.git_branch = now.commit, now.branch
    outcome.release, outcome.url = state.live or None, site_url(host.settings)
    outcome.admin_url = f"{outcome.url}/admin/"
    outcome.site_state = f"{state.live} is live" if state.live else "nothing is live"
    outcome.details = {
        "releases": len(state.releases),
        "workers": {str(pid): folder for pid, folder in state.workers.items()},
        "master": state.master or None,
        "locked": lock.describe_holder(holder) if holder else None,
        "frozen": lock.describe_holder(state.frozen) if state.frozen else None,
        "missing": list(state.missing),
    }


def tell(report: Report, outcome: Outcome, state: HostState, checks: str) -> None:
    """Say the status, a line for each thing."""
    commit = f", {outcome.git_branch} {outcome.git_commit[:7]}" if outcome.git_commit else ""
    report.say(f"{outcome.server}: {outcome.site_state}{commit}")
    reasons = dict(
        line.removeprefix("check ").split(" ", 1) for line in checks.splitlines() if line.startswith("check ")
    )
    rows = [(name, "ok" if good else reasons.get(name, "failed")) for name, good in outcome.checks.items()]
    rows += [
        (f"worker {pid}", folder if folder == state.live else f"{folder} (not the live release)")
        for pid, folder in state.workers.items()
    ]
    rows += [(key, str(outcome.details[key])) for key in ("locked", "frozen") if outcome.details[key]]
    rows += [("missing", text) for text in state.missing]
    for name, text in [("url", outcome.url), *rows]:
        report.say(f"  {name:<16} {text}")


def releases(host: Host, report: Report, outcome: Outcome) -> None:
    """List the releases on the host, oldest first, with the live one marked."""
    with connect(host) as remote, remote.conduct() as conductor:
        [surveyed] = conductor.run([survey.read_host(host.layout)])
    state = parse(surveyed.output.splitlines())
    before = state.before_live()
    outcome.release, outcome.previous = state.live or None, before.id if before else None
    rows = []
    for release in state.releases:
        rows.append(
            {
                "id": release.id,
                "state": state_of(release, state.live),
                "branch": release.branch,
                "commit": release.commit,
                "created": release.created,
            }
        )
        note = "  <- rollback goes here" if before and release.id == before.id else ""
        report.say(f"  {release.id:<26} {rows[-1]['state']:<11} {release.branch}{note}")
    if not rows:
        report.say(f"{host.name}: no releases yet")
    outcome.details = {"releases": rows}
    outcome.site_state = f"{state.live} is live" if state.live else "nothing is live"


def state_of(release: ReleaseState, live: str) -> str:
    """One word for a person: live, bad (failed), left (a rollback went back from it), good, unfinished."""
    marks = {"live": release.id == live, "bad": release.bad, "left": release.left, "good": release.good}
    return next((word for word, true in marks.items() if true), "unfinished")


def logs(host: Host, report: Report, outcome: Outcome, lines: int, follow: bool) -> None:
    """Show the service's journal."""
    with connect(host) as remote:
        if follow and not report.as_json:
            remote.stream(log_steps.follow(host.layout, lines), report.write)
            return
        with remote.conduct() as conductor:
            tail, nginx = conductor.run(
                [log_steps.tail(host.layout, lines), log_steps.nginx_errors(host.layout, lines)]
            )
    outcome.logs = {"django_service": tail.output.splitlines(), "nginx_error": nginx.output.splitlines()}
    report.say(tail.output)
