"""releases: those on the host, and where a rollback would go. Writes nothing."""

from ..plan.state import ReleaseState, parse
from ..session.run import Run
from ..ssh.connection import connect
from ..steps import survey


def releases(run: Run) -> None:
    """List the releases on the host, oldest first, with the live one marked."""
    with connect(run.host) as connection, connection.runner() as runner:
        answer = runner.run([survey.read_host()]).output(survey.READ)
    state = parse(answer.splitlines())
    before = state.before_live()
    run.outcome.release, run.outcome.previous = state.live or None, before.id if before else None
    run.outcome.site_state = f"{state.live} is live" if state.live else "nothing is live"
    run.outcome.details = {"releases": [row(release, state.live) for release in state.releases]}
    for release in run.outcome.details["releases"]:
        note = "  <- rollback goes here" if before and release["id"] == before.id else ""
        run.console.say(f"  {release['id']:<26} {release['state']:<11} {release['branch']}{note}")
    if not state.releases:
        run.console.say(f"{run.name}: no releases yet")


def row(release: ReleaseState, live: str) -> dict[str, str]:
    """What the document tells of a release."""
    return {
        "id": release.id,
        "state": state_of(release, live),
        "branch": release.branch,
        "commit": release.commit,
        "created": release.created,
    }


def state_of(release: ReleaseState, live: str) -> str:
    """One word for a person: live, bad (failed), left (a rollback went back from it), good, unfinished."""
    marks = {"live": release.id == live, "bad": release.bad, "left": release.left, "good": release.good}
    return next((word for word, true in marks.items() if true), "unfinished")
