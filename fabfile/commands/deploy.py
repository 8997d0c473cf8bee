"""deploy: put a branch, tag or commit live, and nobody who uses the site notices."""

import difflib
import hashlib
import json
from datetime import UTC, datetime

from fabfile.config.inventory import Host
from fabfile.config.layout import Release
from fabfile.config.settings import Settings
from fabfile.errors import ConfigError
from fabfile.output.report import Outcome, Report, printable
from fabfile.plan import rendering
from fabfile.plan.lock import operator
from fabfile.session import deployment as live
from fabfile.session.deployment import Change, Work
from fabfile.steps import django, python
from fabfile.steps import release as steps


def deploy(host: Host, report: Report, outcome: Outcome, force: bool, wait: int) -> None:
    """The recipe: read, build, prove, switch, check, tidy."""
    if not host.settings.repo:
        raise ConfigError(f"{host.name} has no repo", hint="set repo in hosts.toml")
    ref = outcome.git_branch = host.settings.branch
    fetch = steps.fetch(host.layout, host.settings, ref)
    with live.work_on(host, report, outcome, f"deploy {ref}", wait, fetch) as work:
        commit, subject = find_commit(work.answers[0], ref, host)
        outcome.git_commit = commit
        change = plan(work, commit, ref, force=force)
        if change is None:
            nothing_to_do(work, ref, commit)
            return
        report.say(f"  {ref} is {commit[:7]} {printable(subject)}")
        live.bring(work, change)
        done(work, change)


def plan(work: Work, commit: str, ref: str, *, force: bool) -> Change | None:
    """What has to change on the host for `commit` to be live; None when nothing has."""
    files = work.changed_files()
    now = work.state.live_release
    same = now is not None and now.commit == commit and now.fingerprint == fingerprint(work.settings)
    if work.live and now and same and not now.bad and not force and work.state.serves_live:
        # Not marked good: the run that made it live was cut before its last check, which is made up for.
        return Change(work.live, files) if files or not now.good else None
    release = work.layout.release(next_id(work.state.now, [r.id for r in work.state.releases], commit))
    return new_release(work, release, commit, ref, files=files)


def new_release(work: Work, release: Release, commit: str, ref: str, *, files: dict) -> Change:
    """The change that builds `release` from `commit` and makes it live."""
    layout, settings = work.layout, work.settings
    notes = {
        "id": release.id,
        "commit": commit,
        "branch": ref,
        "created": datetime.fromtimestamp(work.state.now, UTC).isoformat(),
        "by": operator(),
        "fingerprint": fingerprint(settings),
    }
    work.conductor.put("gunicorn.conf.py", rendering.gunicorn_conf().encode())
    work.conductor.put("gunicorn.json", rendering.gunicorn_json(settings).encode())
    work.conductor.put("release.json", f"{json.dumps(notes)}\n".encode())
    return Change(
        release,
        files,
        build=[steps.lay_out(layout, release, commit, settings), python.sync(layout, release, settings)],
        during_boot=[django.collect_static(layout, release, settings)],
        before_health=[django.migrate(layout, release, settings), steps.mark_built(release)],
        undo_build=[steps.drop(release)],
    )


def find_commit(answer: str, ref: str, host: Host) -> tuple[str, str]:
    """Read the answer of `fetch`: the commit that `ref` names and its subject. ConfigError names the nearest refs."""
    known = []
    for line in answer.splitlines():
        word, _, rest = line.partition(" ")
        if word == "commit":
            commit, _, subject = rest.partition(" ")
            return commit, subject
        if word == "known":
            known.append(rest)
    nearest = difflib.get_close_matches(ref, known, n=3)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"git push origin {ref}"
    raise ConfigError(f"{host.name}: {host.settings.repo} has no branch, tag or commit {ref}", hint=hint)


def fingerprint(settings: Settings) -> str:
    """A digest of every setting that a release is built from: a change of one needs a new release."""
    names = (
        "repo",
        "project",
        "manage",
        "wsgi",
        "static_root",
        "python",
        "sync_args",
        "linked_dirs",
        "linked_files",
    )
    built_from = {
        **settings.model_dump(mode="json", include=set(names)),
        "conf": [rendering.gunicorn_conf(), rendering.gunicorn_values(settings)],
    }
    return hashlib.sha256(json.dumps(built_from, sort_keys=True).encode()).hexdigest()[:16]


def next_id(now: int, existing: list[str], commit: str) -> str:
    """A release id like 20260131T235959Z-abc1234, after every existing one even when the host's clock went back."""
    newest = max((_seconds(release_id) for release_id in existing), default=0)
    moment = datetime.fromtimestamp(max(now, newest + 1), UTC)
    return f"{moment:%Y%m%dT%H%M%SZ}-{commit[:7]}"


def _seconds(release_id: str) -> int:
    try:
        stamp = datetime.strptime(release_id.split("-")[0], "%Y%m%dT%H%M%SZ")
    except ValueError:
        return 0
    return int(stamp.replace(tzinfo=UTC).timestamp())


def nothing_to_do(work: Work, ref: str, commit: str) -> None:
    """Say why nothing is touched."""
    outcome = work.outcome
    outcome.status, outcome.release = "unchanged", work.state.live
    outcome.activation, outcome.reason = "nothing", f"{commit[:7]} is live and every file is as it should be"
    outcome.url = site_url(work.settings)
    work.report.headline(f"{work.host.name}: nothing to do, {ref} ({commit[:7]}) is live as {work.state.live}")


def done(work: Work, change: Change) -> None:
    """Say what is live now."""
    outcome, settings = work.outcome, work.settings
    outcome.release = change.release.id
    outcome.site_state = f"{change.release.id} is live"
    outcome.url = site_url(settings)
    outcome.admin_url = f"{outcome.url}/admin/"
    watched, seen = outcome.watch, ""
    if work.state.live and "requests" in watched:
        seen = f"; watched {watched['requests']} requests, {watched['failed']} failed"
        seen += f", slowest {watched['slowest_ms']:.0f} ms"
    work.report.headline(f"{work.host.name}: {change.release.id} is live ({outcome.activation}){seen}")


def site_url(settings: Settings) -> str:
    return (settings.public_url or f"http://{settings.domain}").rstrip("/")
