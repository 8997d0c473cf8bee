"""status, releases, logs: looking at a host. Nothing here writes."""

from fabfile import health, lock
from fabfile.deploy import site_url
from fabfile.errors import Unhealthy
from fabfile.inventory import Host
from fabfile.live import note_checks
from fabfile.remote import connect
from fabfile.report import Outcome, Report
from fabfile.state import parse
from fabfile.steps import logs as log_steps
from fabfile.steps import survey, systemd


def status(host: Host, report: Report, outcome: Outcome) -> None:
    """Read the host and make the four checks. Raises Unhealthy that names the first that fails."""
    settings, layout = host.settings, host.layout
    with connect(host) as remote, remote.conduct() as conductor:
        surveyed, checked, held = conductor.run(
            [
                survey.read_host(layout, settings.linked_files),
                systemd.look_at_site(layout, settings),
                survey.holder(layout),
            ]
        )
        state = parse(surveyed.output.splitlines())
        note_checks(outcome, checked.output)
        with health.client(remote, settings) as http:
            answer = health.ask(http, settings.health_path)
        outcome.checks["http_200"] = answer == "200"
        outcome.failed_check = next((name for name, good in outcome.checks.items() if not good), None)
        now = state.live_release
        outcome.release, outcome.url = state.live or None, site_url(settings)
        outcome.admin_url = f"{outcome.url}/admin/"
        if now:
            outcome.git_commit, outcome.git_branch = now.commit, now.branch
        outcome.site_state = f"{state.live} is live" if state.live else "nothing is live"
        outcome.details = {
            "releases": len(state.releases),
            "workers": {str(pid): folder for pid, folder in state.workers.items()},
            "master": state.master or None,
            "locked": lock.describe_holder(held.output) if held.output else None,
            "frozen": lock.describe_holder(state.frozen) if state.frozen else None,
            "missing": list(state.missing),
        }
        report.say(f"{host.name}: {outcome.site_state}" + (f", {now.branch} {now.commit[:7]}" if now else ""))
        report.say(f"  {outcome.url}")
        for line in checked.output.splitlines():
            name, _, rest = line.removeprefix("check ").partition(" ")
            if line.startswith("check ") and name != "http_200":
                report.say(f"  {name:<16} {rest}")
        report.say(
            f"  {'http_200':<16} {'ok' if answer == '200' else f'failed {settings.health_path} answers {answer}'}"
        )
        for pid, folder in state.workers.items():
            note = "" if folder == state.live else "  (not the live release)"
            report.say(f"  worker {pid:<9} {folder}{note}")
        for key in ("locked", "frozen"):
            if text := outcome.details[key]:
                report.say(f"  {key:<16} {text}")
        for text in state.missing:
            report.say(f"  missing          {text}")
        if outcome.failed_check:
            tail = conductor.run([log_steps.tail(layout, 20), log_steps.nginx_errors(layout, 10)])
            outcome.logs = {
                "django_service": tail[0].output.splitlines(),
                "nginx_error": tail[1].output.splitlines(),
            }
            raise Unhealthy(
                f"{host.name}: the check {outcome.failed_check} fails",
                evidence=tail[0].output,
                hint=f"fab -H {host.name} logs --lines 200" if state.live else f"fab -H {host.name} deploy",
            )


def releases(host: Host, report: Report, outcome: Outcome) -> None:
    """List the releases on the host, oldest first, with the live one marked."""
    with connect(host) as remote, remote.conduct() as conductor:
        [surveyed] = conductor.run([survey.read_host(host.layout)])
    state = parse(surveyed.output.splitlines())
    before = state.before_live()
    outcome.release, outcome.previous = state.live or None, before.id if before else None
    rows = []
    for release in state.releases:
        word = (
            "live" if release.id == state.live else "bad" if release.bad else "good" if release.good else "unfinished"
        )
        rows.append(
            {
                "id": release.id,
                "state": word,
                "branch": release.branch,
                "commit": release.commit,
                "created": release.created,
            }
        )
        note = "  <- rollback goes here" if before and release.id == before.id else ""
        report.say(f"  {release.id:<26} {word:<11} {release.branch}{note}")
    if not rows:
        report.say(f"{host.name}: no releases yet")
    outcome.details = {"releases": rows}
    outcome.site_state = f"{state.live} is live" if state.live else "nothing is live"


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
