"""deploy: put a branch, tag or commit live, and nobody who uses the site notices."""

import hashlib
import json
from datetime import UTC, datetime
from pathlib import PurePosixPath

from ..config.settings import Settings
from ..errors import ConfigError, ProvisionError
from ..output.console import printable
from ..plan import commits, rendering, services
from ..plan.activation import Activation
from ..plan.lock import operator
from ..plan.plan import Plan
from ..plan.state import HostState, ReleaseState
from ..session import deployment, guards
from ..session.run import Run
from ..session.session import Session, open_session
from ..steps import release, service


def deploy(run: Run, *, force: bool, overwrite: bool, backwards: bool, wait: int, planned: str = "") -> None:
    """The recipe: read, decide, build, prove, switch, check, tidy; `planned` is the one commit that may be meant."""
    require_repo(run)
    ref = run.outcome.git_branch = run.settings.branch
    with open_session(run, f"deploy {ref}", wait, release.fetch(run.settings)) as session:
        found = commits.parse(session.results[release.FETCH].output, run.name, run.settings)
        commit = run.outcome.git_commit = found.commit
        guards.refuse_another(run, commit, planned)
        guards.tell_unpushed(run, commit)
        guards.refuse_backwards(run, found, session.commit, backwards=backwards)
        edited = session.edited
        if edited and not overwrite:
            session.runner.run([service.refuse_edited(edited)])
        plan = decide(session, commit, force=force)
        if plan is None:
            nothing_to_do(session, commit)
            return
        run.console.say(f"  {ref} is {commit[:7]} {printable(found.subject)}")
        if plan.commit:
            guards.require(run, commit)
            send_release_files(session, plan)
        deployment.deploy(session, plan, overwrite=bool(edited))
        run.invite()


def require_repo(run: Run) -> None:
    """Refuse a host of which nobody knows what to deploy."""
    if not run.settings.repo:
        raise ConfigError(f"{run.name} has no repo", hint="set repo in hosts.toml")


def nothing_to_do(session: Session, commit: str) -> None:
    """Say that the commit is live, and all as it should be."""
    run, live = session.run, session.state.live
    run.outcome.activation = "nothing"
    run.outcome.reason = f"{commit[:7]} is live and every file is as it should be"
    session.nothing_to_do(f"{run.settings.branch} ({commit[:7]}) is live as {live}", live)
    run.invite()


def decide(session: Session, commit: str, *, force: bool) -> Plan | None:
    """What has to change on the host for `commit` to be live; None when nothing has."""
    settings, layout, state = session.settings, session.layout, session.state
    if session.lacks_certificate:
        raise without_certificate(session)
    files, now = session.changed_files(), state.live_release
    amiss, forced = services.amiss(settings, state), without_drop_ins(state)
    same = now is not None and now.commit == commit and now.fingerprint == fingerprint(settings)
    if session.live and now and same and not now.bad and not force and state.serves_live:
        # Not marked good: the run that made it live was cut before its last check, which is made up for.
        plan = Plan(settings, layout, session.live, session.live, files, forced=forced, amiss=amiss)
        return plan if files or forced or amiss or not now.good else None
    new = layout.release(next_id(state.now, [each.id for each in state.releases], commit))
    return Plan(settings, layout, new, session.live, files, commit, forced, amiss=amiss, anew=force)


def without_drop_ins(state: HostState) -> Activation | None:
    """A restart of what runs with drop-ins, which are about to go; None when nothing does."""
    if not state.drop_ins or not state.live or state.service != "active":
        return None
    names = ", ".join(PurePosixPath(path).name for path in state.drop_ins)
    return Activation("restart", f"drop-ins taken away: {names}")


def without_certificate(session: Session) -> ProvisionError:
    """The error for a host that has another certificate than hosts.toml asks for."""
    name, made_for = session.run.name, session.state.tls
    what = (
        "no certificate yet"
        if made_for in ("", "placeholder")
        else f"a certificate made for other settings: {made_for}"
    )
    return ProvisionError(
        f"{name}: tls is set in hosts.toml, but this host has {what}",
        hint=f"fab -H {name} provision; or, to go on without https for now, take tls out of hosts.toml",
    )


def send_release_files(session: Session, plan: Plan) -> None:
    """Send the files that a new release gets from us."""
    notes = {
        "id": plan.release.id,
        "commit": plan.commit,
        "branch": session.outcome.git_branch,
        "created": datetime.fromtimestamp(session.state.now, UTC).isoformat(),
        "by": operator(),
        "fingerprint": fingerprint(session.settings),
        "settings": setting_digests(session.settings),
    }
    session.runner.put("gunicorn.conf.py", rendering.gunicorn_conf().encode())
    session.runner.put("gunicorn.json", rendering.gunicorn_json(session.settings).encode())
    session.runner.put("release.json", f"{json.dumps(notes)}\n".encode())


def fingerprint(settings: Settings) -> str:
    """A digest of all that a release is built from besides its commit: a change of it needs a new release."""
    return _digest({"settings": settings.built_from(), "gunicorn": rendering.gunicorn_conf()})


def setting_digests(settings: Settings) -> dict[str, str]:
    """A short digest of each setting that a release is built from, to tell which has changed; no value shows."""
    return {name: _digest(value)[:6] for name, value in settings.built_from().items()}


def changed_settings(settings: Settings, live: ReleaseState | None) -> list[str] | None:
    """Names of the settings with which the live release would be built otherwise; None when nobody can tell."""
    if live is None or live.fingerprint == fingerprint(settings):
        return []
    if live.settings is None:
        return None
    now = setting_digests(settings)
    return sorted(name for name in {*now, *live.settings} if now.get(name) != live.settings.get(name))


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


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
