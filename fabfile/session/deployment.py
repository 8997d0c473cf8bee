"""Making a release live: proof, activation, check, and the way back. What deploy, rollback and restart share."""

import contextlib
import hashlib
import json
import shlex
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import PurePosixPath

from fabfile.config.inventory import Host
from fabfile.config.layout import Layout, Release
from fabfile.config.settings import Settings
from fabfile.errors import DeployError, ProvisionError, StepFailed, Unhealthy
from fabfile.output.report import Outcome, Report
from fabfile.plan import lock, rendering
from fabfile.plan.activation import Activation, Comparison, choose
from fabfile.plan.lock import Lock
from fabfile.plan.state import HostState, parse
from fabfile.session import watch as health
from fabfile.ssh.connection import Remote, connect
from fabfile.ssh.runner import Conductor, StepError
from fabfile.steps import django, logs, nginx, proof, survey, systemd
from fabfile.steps import release as release_steps
from fabfile.steps.step import Step, StepEnd

ROOM = 100 * 1024  # kB of disk that must be free before a release is built
INODES = 5000
LONG = 3600  # seconds to queue when --wait has no number


@dataclass
class Work:
    """One run of a verb on one host: what it works with, and the outcome it fills."""

    host: Host
    remote: Remote
    conductor: Conductor
    report: Report
    outcome: Outcome
    state: HostState
    answers: list[str]

    @property
    def settings(self) -> Settings:
        return self.host.settings

    @property
    def layout(self) -> Layout:
        return self.host.layout

    @property
    def live(self) -> Release | None:
        return self.layout.release(self.state.live) if self.state.live else None

    def changed_files(self) -> dict[PurePosixPath, str]:
        """The rendered unit, socket and site whose text is not what the host has."""
        return {
            path: text
            for path, text in rendering.files(self.settings).items()
            if self.state.files.get(str(path)) != hashlib.sha256(text.encode()).hexdigest()
        }


@contextlib.contextmanager
def work_on(host: Host, report: Report, outcome: Outcome, what: str, wait: int, *further: Step) -> Generator[Work]:
    """Connect, take the host's lock for `what`, and read the host in one trip with `further` steps.

    `wait` is how many seconds to queue for the lock; True means as long as anybody would. Raises Locked, or
    ProvisionError for a host that is not ready.
    """
    seconds = LONG if wait is True else wait
    taken = Lock(host.layout.lock, lock.card(what), seconds)
    with connect(host) as remote, remote.conduct(report, lock=taken, on_wait=report.waiting) as conductor:
        surveyed, *others = conductor.run([survey.read_host(host.layout, host.settings.linked_files), *further])
        state = parse(surveyed.output.splitlines())
        outcome.previous = state.live or None
        require_ready(state, host)
        yield Work(host, remote, conductor, report, outcome, state, [end.output for end in others])


def require_ready(state: HostState, host: Host) -> None:
    """Refuse a host that is locked by hand or lacks what a deploy needs."""
    if state.frozen:
        raise lock.frozen(host.name, state.frozen)
    if state.app_is == "folder":
        raise ProvisionError(
            f"{host.name}: {host.settings.path} is a real folder, not the link to the live release",
            hint=f"move it away (mv {host.settings.path} {host.settings.path}.old), then: fab -H {host.name} provision",
        )
    if state.masked:
        raise ProvisionError(
            f"{host.name}: {state.masked} is masked: somebody has decided that it must not run",
            hint=f"if it may run again: ssh {host.settings.address or host.name} sudo systemctl unmask {state.masked}",
        )
    if state.disk_free < ROOM or state.inodes_free < INODES:
        raise StepFailed(
            f"{host.name}: {host.layout.base} has room for {state.disk_free // 1024} MB and {state.inodes_free} files; "
            f"a release needs at least {ROOM // 1024} MB and {INODES}",
            hint=f"make room, or lower keep (now {host.settings.keep}) in hosts.toml",
        )
    missing = [*state.missing, *([f"the link {host.settings.path}"] if state.app_is == "nothing" else [])]
    if missing:
        raise ProvisionError(
            f"{host.name} is not ready for a deploy; missing: {', '.join(missing)}",
            hint=f"fab -H {host.name} provision",
        )


@dataclass(frozen=True)
class Change:
    """What is to become live: a release, files to install, what runs on the host between proof and switch.

    `forced` names an activation that was asked for, with its reason; `leaves` is the release that no later rollback
    goes to, as this one goes back from it.
    """

    release: Release
    files: Mapping[PurePosixPath, str] = field(default_factory=dict)
    build: Sequence[Step] = ()
    during_boot: Sequence[Step] = ()
    before_health: Sequence[Step] = ()
    undo_build: Sequence[Step] = ()
    forced: Activation | None = None
    leaves: Release | None = None


def bring(work: Work, change: Change) -> None:
    """Prove the change, make it live, tidy up; the host's history says how it went, whatever that is."""
    try:
        go_live(work, change, prove(work, change))
    except (DeployError, KeyboardInterrupt) as error:
        how = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        if work.conductor.busy:  # a second Ctrl-C, or no connection: the host ends its batch alone
            raise
        with contextlib.suppress(DeployError):
            work.conductor.run([record(work, change, how), release_steps.prune(work.layout, work.settings)])
            if isinstance(error, Unhealthy):
                work.outcome.logs |= read_logs(work.conductor, work.layout)
        raise
    _tidy(work, change)
    if work.conductor.interrupted:
        raise KeyboardInterrupt


def _tidy(work: Work, change: Change) -> None:
    """Note the success and prune; what fails here is told and no more, for the release is live and healthy."""
    try:
        work.conductor.run([record(work, change, "live"), release_steps.prune(work.layout, work.settings)])
    except StepError as error:
        work.report.say(f"  {error.message}; the release is live all the same, and the next deploy tries it again")
        work.outcome.suggestions.append(f"{error.message}: look at it with fab -H {work.host.name} status")


def record(work: Work, change: Change, how: str) -> Step:
    """The history's line about this run: who, what, when (ISO 8601, UTC), seconds, how it ended."""
    outcome = work.outcome
    entry = {
        "at": datetime.fromtimestamp(work.state.now, UTC).isoformat(),
        "by": lock.operator(),
        "verb": outcome.verb,
        "release": change.release.id,
        "previous": work.state.live,
        "commit": outcome.git_commit,
        "branch": outcome.git_branch,
        "activation": outcome.activation,
        "outcome": how,
        "seconds": round(sum(work.report.timing.values()), 1),
        "watch": outcome.watch,
    }
    return release_steps.record(work.layout, json.dumps(entry))


def read_logs(conductor: Conductor, layout: Layout) -> dict[str, list[str]]:
    """The ends of the logs, for the outcome."""
    service, site = conductor.run([logs.tail(layout, 40), logs.nginx_errors(layout, 20)])
    return {"django_service": service.output.splitlines(), "nginx_error": site.output.splitlines()}


def prove(work: Work, change: Change) -> Activation:
    """Build the release if it is new and boot it on a private socket; return the activation that it needs."""
    if change.release == work.live and set(change.files) == {work.layout.site_file}:
        return Activation("nginx", f"only the nginx site {work.layout.site_file.name} changed")
    steps = [
        *change.build,
        proof.start(work.layout, change.release, work.settings),
        *change.during_boot,
        proof.booted(work.settings),
        proof.compare(work.layout, change.release),
    ]
    ends = work.conductor.run(steps, rescue=[proof.stop(), *change.undo_build])
    comparison = _json(ends[-1].output)
    if change.forced:
        return change.forced
    units = [path.name for path in change.files if path != work.layout.site_file]
    return choose(comparison, units, running=work.state.service == "active")


def go_live(work: Work, change: Change, activation: Activation) -> None:
    """Switch to a proven release and see it answer; the host itself puts the old one back if it does not.

    Raises StepFailed (site untouched) or Unhealthy (the old release is back).
    """
    outcome = work.outcome
    outcome.activation, outcome.reason = activation.kind, activation.reason
    outcome.site_state = "unknown: the host was in the middle of the switch, and brings it to its end"
    work.report.say(f"  {activation}")
    for path, text in change.files.items():
        work.conductor.put(path.name, text.encode())
    rescue = [put_back(work, change, activation)]
    with health.watching(work.remote, work.settings, outcome.watch) as watches:
        try:
            ends = work.conductor.run(_live_steps(work, change, activation), rescue, finish=True)
        except StepError as error:
            schema = note_migrations(outcome, [*error.before, error.end])
            failure = _judge(work, change, error)
            outcome.site_state += schema
            raise failure from error
        schema = note_migrations(outcome, ends)
        note_checks(outcome, ends[-2].output)
        answer = health.settle(watches, work.settings.timeouts.health)
        outcome.checks["http_200"] = not answer
        if answer:
            outcome.failed_check = "http_200"
            work.conductor.run(rescue, finish=True)
            failure = _fallen_back(work, change, f"{work.settings.health_path} answers {answer} through nginx")
            outcome.site_state += schema
            raise failure
    if watches["ssh"].blind:
        work.report.say(f"  the host's own checks are all there is: {watches['ssh'].first}")
    outcome.site_state = f"{change.release.id} is live"


def _live_steps(work: Work, change: Change, activation: Activation) -> list[Step]:
    """From the first step that can be felt outside to the last check, as one batch: the host brings it to its end."""
    layout, settings = work.layout, work.settings
    units = [path for path in change.files if path != layout.site_file]
    site = layout.site_file in change.files
    first: list[Step] = []
    if change.files or activation.kind in ("restart", "start"):
        first = [systemd.ask_for_rights(layout, list(change.files), activation.kind)]
    before = [systemd.stage(layout, list(change.files))] if change.files else []
    before += [nginx.test_site(layout)] if site else []
    after = [nginx.reload()] if site else []
    after += [systemd.check_site(layout, settings), release_steps.mark_good(layout, change.release, change.leaves)]
    if activation.kind == "nginx":
        return [*first, *before, *after]
    return [
        *first,
        *change.before_health,
        proof.healthy(settings),
        proof.stop(),
        *before,
        *([systemd.install_units(layout, units)] if units else []),
        systemd.activate(layout, activation.kind)
        if change.release == work.live
        else systemd.switch(layout, change.release, activation.kind),
        systemd.settled(layout, change.release, settings),
        *after,
    ]


def put_back(work: Work, change: Change, activation: Activation) -> Step:
    """The way back, safe at every point: stops the proof; restores files, link and workers as far as they changed."""
    layout, settings, old = work.layout, work.settings, work.live
    new = change.release
    units = [path for path in change.files if path != layout.site_file]
    lines = [proof.stop().script, systemd.SUDO]
    if old and old.id != new.id:
        lines.append(f"touch {shlex.quote(str(new.notes / 'bad'))}")
    if layout.site_file in change.files:
        lines.append(nginx.put_back(layout))
    restart = systemd.bring_to_life(layout, "start")
    again = systemd.bring_to_life(layout, "hup") if activation.kind == "hup" else restart
    if units:
        lines.append(
            f"units_differ=''; for unit in {' '.join(shlex.quote(str(unit)) for unit in units)}; do "
            f'[ ! -e "{systemd.STAGED}" ] || '
            f'cmp -s "$unit" {shlex.quote(str(layout.staged))}/"${{unit##*/}}".before || units_differ=1; done\n'
            f'if [ -n "$units_differ" ]; then\n{systemd.restore(layout, units)}\n'
            f"as_root {systemd.SYSTEMCTL} daemon-reload\nfi"
        )
    touched = f'[ "$(readlink {shlex.quote(str(layout.current))})" = {shlex.quote(f"releases/{new.id}")} ]'
    if old and old.id != new.id:
        body = release_steps.make_live(layout, old.id) + again
        lines.append(f"if {touched}; then\n{body}\n{systemd.wait_for_workers(layout, old, settings)}\nfi")
    elif not old:
        lines.append(
            f"if {touched}; then\nrm -f {shlex.quote(str(layout.current))}\n"
            f"as_root {systemd.SYSTEMCTL} stop {layout.unit}.socket {layout.unit}.service\nfi"
        )
    elif units:
        lines.append(f'if [ -n "$units_differ" ]; then\n{restart}\nfi')
    if change.files:
        lines.append(
            f'[ ! -e "{systemd.STAGED}" ] || [ -e "{systemd.WAS_PENDING}" ] || rm -f {layout.staged}/*.pending'
        )
    title = "Put the old release back" if old and old.id != new.id else "Put everything back"
    return Step(title, "\n".join(lines), timeout=settings.timeouts.reload + 180, live=True)


def _judge(work: Work, change: Change, error: StepError) -> DeployError:
    """The error that a failed step of the switch stands for: before it was live, or after."""
    title, evidence = error.end.step.title, error.end.output
    if not all(end.ok for end in error.rescue):
        failed = "\n".join([evidence, *(end.output for end in error.rescue)])
        work.outcome.site_state = f"unknown: after {title}, the way back failed too"
        return Unhealthy(
            f"{title}: failed, and the way back failed too", evidence=failed, hint=f"fab -H {work.host.name} status"
        )
    if not error.end.step.live:
        work.outcome.site_state = "as before"
        return error
    trouble = note_checks(work.outcome, evidence)
    return _fallen_back(work, change, f"{title}: {trouble}" if trouble else error.message, evidence)


def _fallen_back(work: Work, change: Change, what: str, evidence: str = "") -> Unhealthy:
    """The error for a release that was live and is no more, or for a live one that no longer answers."""
    old, name = work.live, work.host.name
    if old and old != change.release:
        work.outcome.site_state = f"as before: {old.id} is live again"
        error = Unhealthy(f"{what}; {old.id} is live again", evidence=evidence, hint=f"fab -H {name} logs --lines 200")
        error.status = "rolled_back"
        return error
    work.outcome.site_state = (
        f"{old.id} is live and does not answer as it should" if old else "as before: nothing is live"
    )
    return Unhealthy(what, evidence=evidence, hint=f"fab -H {name} logs --lines 200")


def note_checks(outcome: Outcome, output: str) -> str:
    """Take the answers of the checks (`check NAME ok|failed DETAIL`) into the outcome; return the first failure."""
    troubles = {}
    for line in output.splitlines():
        word, _, rest = line.partition(" ")
        if word == "check":
            name, _, result = rest.partition(" ")
            outcome.checks[name] = result == "ok"
            if result != "ok":
                troubles[name] = f"{name} {result}".replace(" failed ", " fails: ", 1)
    outcome.failed_check = next(iter(troubles), None)
    return next(iter(troubles.values()), "")


def note_migrations(outcome: Outcome, ends: Sequence[StepEnd]) -> str:
    """Take the migrations that were applied into the outcome; return what the site's state is to say of the schema."""
    output = "\n".join(end.output for end in ends if end.step.title == django.MIGRATE)
    applied, begun = django.migrations(output)
    outcome.details["migrations"] = applied
    kept = [f"{', '.join(applied)} stays applied"] if applied else []
    kept += [f"{begun} had begun (if it is not atomic, a part of it may stay)"] if begun else []
    return f", but the schema: {'; '.join(kept)}" if kept else ""


def _json(text: str) -> Comparison:
    try:
        return json.loads(text.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise StepFailed("comparing the new release with the running gunicorn gave no answer", evidence=text) from error
