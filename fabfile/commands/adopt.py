"""adopt: a server that was deployed into in place moves over, and back, while it serves."""

import contextlib
import json
from collections.abc import Generator, Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from textwrap import indent
from typing import Any

from ..config.layout import Release
from ..errors import ConfigError, ProvisionError
from ..output.console import printable
from ..plan import commits, rendering, services
from ..plan.activation import Activation
from ..plan.adoption import judge as adoption
from ..plan.adoption.findings import Finding
from ..plan.adoption.judge import Adoption
from ..plan.lock import Lock
from ..plan.plan import Plan
from ..session import deployment, staging
from ..session.run import Run
from ..session.session import lock_for, open_session
from ..ssh import library
from ..ssh.connection import connect
from ..ssh.host_keys import REFUSE, FirstContact
from ..ssh.runner import Runner, StepError
from ..steps import adopt as steps
from ..steps import proof, release, sequence, server, tls
from ..steps.step import Step
from .deploy import fingerprint, next_id, send_release_files
from .provision import DEPLOY_KEY, RIGHT, let_in, not_done


@dataclass(frozen=True)
class HowFar:
    """How far an adopt is on a server: `state` is adopted, begun, or empty; `word` says since when, or of which unit.

    `release` is the one that is live, or about to be.
    """

    state: str = ""
    word: str = ""
    release: str = ""


def require_one(run: Run, *, plan: bool, undo: bool, leave_out: bool) -> None:
    """Raise ConfigError where options do not go together."""
    if plan + undo + leave_out > 1:
        raise ConfigError(
            "--plan shows what adopt would do, --undo takes it back, --leave-out is for adopt itself: one at a time",
            hint=f"fab -H {run.name} adopt --plan",
        )


def adopt(run: Run, contact: FirstContact, *, token: str | None, leave_out: bool, wait: int) -> None:
    """The recipe: look, judge, make ready, build and prove beside it, change hands, check."""
    far = look_how_far(run, contact, lock_for(run, "adopt", wait))
    if far.state == "adopted":
        make_up(run, far, wait)
        return
    if far.state == "begun":
        run.console.say(f"  an adopt was cut while {far.word} changed hands: it goes on from there")
        live = run.host.layout.release(far.release)
    else:
        found = look(run)
        if is_ours(run, found):
            return
        seen = adoption.judge(run.settings, found)
        show(run, seen)
        refuse(run, seen, leave_out=leave_out)
        make_ready(run, seen, found, token)
        run.outcome.git_branch = found["git"]["branch"] or run.settings.branch
        live = build(run, seen, wait)
    change_hands(run, live, wait)
    settle(run, wait)


def plan(run: Run, contact: FirstContact) -> None:
    """Say what adopt would do; nothing is written on the server."""
    far = look_how_far(run, contact)
    if far.state:
        run.outcome.status = "unchanged"
        run.headline(
            f"adopted since {far.word}" if far.state == "adopted"
            else f"an adopt was cut while {far.word} changed hands; the same command goes on, with --undo back"
        )  # fmt: skip
        return
    found = look(run)
    if is_ours(run, found):
        return
    seen = adoption.judge(run.settings, found)
    show(run, seen)
    differences = adoption.differences(run.settings, seen)
    run.outcome.details["differences"] = differences.splitlines()
    run.console.say(printable(differences).rstrip())
    for finding in (*seen.stops, *seen.needed):
        tell(run, finding)
    run.outcome.status = "planned"
    open_ends = len(seen.stops) + len(seen.needed)
    first = f"{open_ends} to see to before fab -H {run.name} adopt" if open_ends else f"next: fab -H {run.name} adopt"
    run.headline(f"not a byte was written; {first}", good=not open_ends)


def undo(run: Run, contact: FirstContact, *, wait: int) -> None:
    """Have the old website serve again, from its folder, with its unit, site and rights as they were."""
    far, settings = look_how_far(run, contact, lock_for(run, "adopt --undo", wait)), run.settings
    if not far.state:
        run.outcome.status = "unchanged"
        run.headline("nothing is adopted here")
        return
    live = run.host.layout.release(far.release)
    forward = [steps.lead_aside(), *steps.take_over(settings, live, rendering.files(settings))]
    with changing(run, live, "adopt --undo", wait) as runner:
        runner.run(
            [steps.begin(), steps.start_bridge(settings, live), *steps.bring_back(settings)],
            rescue=[*forward, steps.end_bridge(), steps.mark_adopted()],
            finish=True,
        )
        runner.run([steps.end_bridge(), steps.forget(settings)], finish=True)
    run.outcome.site_state = "as before adopt"
    run.console.say(
        f"  releases and token stay, in {run.host.layout.base} and {run.host.layout.etc}, for another adopt"
    )
    run.headline(f"{settings.path} is a folder again, and serves as before adopt")


def look_how_far(run: Run, contact: FirstContact, lock: Lock | None = None) -> HowFar:
    """Ask the server how far an adopt is; it may be the first time that anybody here comes there.

    With a `lock`, not while somebody holds that: a run that was cut may go on there. Raises Locked.
    """
    with as_admin(run, contact=contact) as runner:
        words = _how_far(runner)
    if lock and "lock" in words:
        with as_admin(run, lock) as runner:
            words = _how_far(runner)
    state = next((state for state in ("adopted", "begun") if state in words), "")
    return HowFar(state, words.get(state, ""), PurePosixPath(words.get("live", "")).name)


def _how_far(runner: Runner) -> dict[str, str]:
    lines = runner.run([steps.how_far()]).output(steps.HOW_FAR).splitlines()
    return dict(line.partition(" ")[::2] for line in lines)


def look(run: Run) -> dict[str, Any]:
    """Read what is on the server."""
    with as_admin(run) as runner:
        runner.put("read_server.py", library.program("read_server.py"))
        return json.loads(runner.run([steps.read(run.settings)]).output(steps.READ))


def is_ours(run: Run, found: Mapping[str, Any]) -> bool:
    """Say that there is nothing to adopt where the server is this tool's from the beginning; return whether it is."""
    folder, layout = found["folder"], run.host.layout
    if (folder["kind"], folder["target"]) != ("link", str(layout.current)):
        return False
    run.outcome.status = "unchanged"
    run.headline(f"nothing to adopt, {layout.app} is this tool's already; next: fab -H {run.name} deploy")
    return True


def show(run: Run, seen: Adoption) -> None:
    """Say what adopt does here, and what somebody should know of it."""
    settings, layout = run.settings, run.host.layout
    run.outcome.git_commit = seen.commit or None
    run.outcome.details |= {
        "unit": seen.unit,
        "gone": [*seen.gone, *seen.sudoers],
        "uploads": list(seen.uploads),
        "stops": [asdict(finding) for finding in seen.stops],
        "needed": [asdict(finding) for finding in seen.needed],
        "told": list(seen.told),
    }
    say = run.console.say
    if seen.unit:
        say(f"  {seen.unit} serves {seen.commit[:7]} from {settings.path}, at {seen.address}")
        say(f"  {settings.path} becomes a link to the live release; the folder is kept as {layout.old_folder}")
    for name in seen.uploads:
        say(f"  {settings.path}/{name} moves to {layout.shared}/{name}, and nothing is lost meanwhile")
    for path in (*seen.gone, *seen.sudoers):
        say(f"  {path} goes, and is kept in {layout.adopted} for adopt --undo")
    for line in seen.told:
        say(f"  {printable(line)}")


def tell(run: Run, finding: Finding) -> None:
    """Say what is to be seen to, and how."""
    run.console.say(f"  {printable(finding.what)}\n{indent(printable(finding.mend), '      ')}")


def refuse(run: Run, seen: Adoption, *, leave_out: bool) -> None:
    """Raise ProvisionError for what makes adopting unsafe, or would be lost by it."""
    against = [*seen.stops, *([] if leave_out else seen.needed)]
    if not against:
        return
    for finding in against:
        tell(run, finding)
    if seen.stops:
        first = seen.stops[0]
        raise ProvisionError(f"{run.name}: {first.what}", hint=first.mend)
    raise ProvisionError(
        f"{run.name}: {len(seen.needed)} things that the server has, hosts.toml or the app lacks, and adopt would lose",
        hint=f"take them over, as said above; or go on without them: fab -H {run.name} adopt --leave-out",
    )


def make_ready(run: Run, seen: Adoption, found: Mapping[str, Any], token: str | None) -> None:
    """As provision does, but for unit and site; what is about to change is kept first."""
    settings, layout = run.settings, run.host.layout
    unit_file = next(unit["path"] for unit in found["units"] if unit["name"] == seen.unit)
    with as_admin(run) as runner:
        if token:
            runner.put("doppler.env", f"DOPPLER_TOKEN={token}\n".encode())
        runner.put("old_secrets.py", library.program("old_secrets.py"))
        staging.send(settings, runner, {})
        leaving = [layout.site_file, *nginx_files(seen)]
        results = runner.run(server.prepare(settings, adopting=True, leaving=map(str, leaving)))
        results |= runner.run([keep(run, seen)])
        results |= let_in(run, runner, server.let_in(settings, secrets_of=unit_file))
        results |= runner.run([server.reach_repository(settings)])
    lines = [line for result in results.values() for line in result.output.splitlines()]
    for line in lines:
        if line.startswith(DEPLOY_KEY):
            raise ProvisionError(
                f"{run.name}: {settings.repo} refuses this server",
                hint=f"add this deploy key there (read only): {line.removeprefix(DEPLOY_KEY)}",
            )
        if not line.startswith(RIGHT):
            run.console.say(f"  {line}")


def nginx_files(seen: Adoption) -> list[str]:
    """Those of the files that go which nginx reads."""
    return [path for path in seen.gone if path.startswith("/etc/nginx/")]


def keep(run: Run, seen: Adoption) -> Step:
    """The step that keeps what is about to change: in the order in which the way back puts it in place."""
    layout, settings = run.host.layout, run.settings
    service, socket, site = layout.service_file, layout.socket_file, layout.site_file
    wants = {file: file.parent / f"{target}.target.wants" / file.name for file, target in
             ((service, "multi-user"), (socket, "sockets"))}  # fmt: skip
    further = [path for path in rendering.files(settings) if path not in (service, socket, site)]
    nginx = nginx_files(seen)
    default = [str(layout.site_link.with_name("default"))] if settings.default_server else []
    return steps.keep(
        seen.unit,
        seen.address,
        socket=seen.socket,
        certificate=seen.certificate or (),
        uploads=seen.uploads,
        gone=[*seen.gone, *default, *seen.sudoers],
        units=[
            service, wants[service], wants[socket], socket, *further,
            *(path for path in seen.gone if path not in nginx),
        ],
        site=[site, layout.site_link, layout.tls_file, *default, *nginx],
        rights=[*seen.sudoers, layout.sudoers, layout.installer],
    )  # fmt: skip


def build(run: Run, seen: Adoption, wait: int) -> Release:
    """Build the commit that is live as a release, and see it answer on a private socket; nobody else sees it."""
    settings, layout = run.settings, run.host.layout
    first = (release.fetch(settings, seen.commit), steps.take_commit(seen.commit), steps.save_changes())
    with open_session(run, "adopt", wait, *first, in_place=True) as session:
        found = commits.parse(session.results[steps.COMMIT].output, run.name, settings)
        commit = found.commit
        run.console.say(f"  {commit[:7]} is live: {printable(found.subject)}")
        for line in session.results[steps.CHANGES].output.splitlines():
            run.console.say(f"  {printable(line)}")
        now = session.state.live_release
        if session.live and now and now.built and (now.commit, now.fingerprint) == (commit, fingerprint(settings)):
            return session.live  # of an adopt that was cut, or undone
        new = layout.release(next_id(session.state.now, [each.id for each in session.state.releases], commit))
        built = Plan(settings, layout, new, commit=commit)
        send_release_files(session, built)
        rescue = sequence.abandon_build(built)
        deployment.prove(session, built)
        session.runner.run(
            [
                proof.health(settings),
                proof.visitors(settings, new, new=True),
                proof.stop(),
                steps.keep_static(settings),
                release.mark_built(new),
                steps.make_current(new),
            ],
            rescue=rescue,
        )
        return new


def change_hands(run: Run, live: Release, wait: int) -> None:
    """Have the release serve in place of what runs in the folder; the host goes on, or back, by itself."""
    settings = run.settings
    files = rendering.files(settings)
    with changing(run, live, "adopt", wait) as runner:
        runner.run(
            [
                steps.begin(),
                *([steps.show_certificate(), tls.prepare(settings)] if settings.tls else []),
                *steps.change_hands(settings, live, files),
            ],
            rescue=[*steps.bring_back(settings), steps.end_bridge(), steps.forget(settings)],
            finish=True,
        )
        # Nobody is led to the old website any more: what fails from here on is made up for by the same command.
        staged = server.stage(settings, files, locked=True)
        runner.run([steps.end_bridge(), staged, steps.narrow_rights(), steps.mark_adopted()], finish=True)
        if settings.tls.letsencrypt:
            runner.run([tls.obtain(settings)])
    run.outcome.site_state = f"{live.id} is live"


def settle(run: Run, wait: int) -> None:
    """See that the site is sound, with workers and timers; from here on it is a host like any other."""
    with open_session(run, "adopt", wait) as session:
        started = Activation("start", "the website was taken over")
        amiss = services.amiss(session.settings, session.state)
        found = Plan(
            session.settings, session.layout, session.live or session.layout.live, session.live,
            session.changed_files(), amiss=amiss, started=started,
        )  # fmt: skip
        deployment.deploy(session, found)
        run.invite()


def make_up(run: Run, far: HowFar, wait: int) -> None:
    """Say that nothing is left to do; or do what a run that was cut has left."""
    with open_session(run, "adopt", wait) as session:
        live = session.state.live_release
        if live and live.good:
            session.nothing_to_do(f"adopted since {far.word}; fab -H {run.name} adopt --undo goes back", live.id)
            return
    settle(run, wait)


@contextlib.contextmanager
def as_admin(run: Run, lock: Lock | None = None, contact: FirstContact = REFUSE) -> Generator[Runner]:
    """A runner of root's. Its StepError is a ProvisionError."""
    with (
        connect(run.host.as_admin(), contact) as connection,
        connection.runner(run.console, lock=lock, on_wait=run.console.waiting, as_root=True) as runner,
    ):
        try:
            yield runner
        except StepError as error:
            raise not_done(run, error) from error


@contextlib.contextmanager
def changing(run: Run, live: Release, what: str, wait: int) -> Generator[Runner]:
    """A runner of root's that holds the lock, and has all that the change of hands needs."""
    settings = run.settings
    with as_admin(run, lock_for(run, what, wait)) as runner:
        staging.send(settings, runner, rendering.files(settings))
        for name, text in rendering.bridge(settings, live).items():
            runner.put(name, text.encode())
        run.outcome.site_state = "unknown: the host was in the middle of changing hands, and brings it to its end"
        try:
            yield runner
        except StepError as error:
            step = error.failed.step
            if not error.rescue:
                run.outcome.site_state = f"served, and not all is done: {step.title}: failed; the same command goes on"
            elif all(result.ok for result in error.rescue.values()):
                run.outcome.site_state = "as before"
            else:
                run.outcome.site_state = f"unknown: {step.title} failed, and the way back"
            raise
