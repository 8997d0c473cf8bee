"""A plan carried out: proven, made live, checked, and put back when it is not healthy."""

import contextlib
import importlib
import json
import re
from datetime import UTC, datetime

from ..errors import AfterSwitchFailed, DeployError, StepFailed, Unhealthy
from ..output import advice
from ..plan import certificate
from ..plan.activation import Activation, Comparison, choose, hold, migrations_of
from ..plan.lock import operator
from ..plan.plan import Plan
from ..plan.preview import Migration
from ..ssh.runner import StepError
from ..steps import commands, django, maintenance, nginx, proof, sequence
from ..steps.step import Results, Step
from .session import Session, evidence, meanwhile, read_logs
from .staging import stage

FRONT_PAGE = "/ answers 200"  # how host/programs/visit.py says that there is nothing to say


def deploy(session: Session, plan: Plan, *, overwrite: bool = False, keep_schema: bool = True) -> None:
    """Stage, prove the plan, switch to it, tidy up; the host's history says how it went, whatever that is.

    `overwrite` says that what was edited on the host is replaced; without `keep_schema`, a release that cannot run on
    the present schema is refused.
    """
    stage(session, plan, overwrite=overwrite)
    meanwhile(lambda: importlib.import_module(".watch", __package__))  # httpx takes 0.1 s
    try:
        switch(session, plan, prove(session, plan, keep_schema=keep_schema))
    except (DeployError, KeyboardInterrupt) as error:
        if session.runner.busy:  # a second Ctrl-C, or no connection: the host ends its batch alone
            raise
        how = "interrupted" if isinstance(error, KeyboardInterrupt) else str(error)
        with contextlib.suppress(DeployError):
            session.runner.run(sequence.finish(plan, history_entry(session, plan, how)))
            if isinstance(error, Unhealthy):
                show_logs(session, error)
        raise
    failure = after_switch(session, plan)
    how = "live" if failure is None else f"live; {str(failure) or 'after_switch was interrupted'}"
    finish(session, plan, how)
    if session.runner.interrupted or isinstance(failure, KeyboardInterrupt):
        raise KeyboardInterrupt
    announce(session, plan, failure)
    if failure:
        raise failure


def prove(session: Session, plan: Plan, *, keep_schema: bool = True) -> Activation:
    """Build the release if it is new and boot it on a private socket; return the activation that it needs.

    Raises StepFailed.
    """
    if plan.beside:
        session.runner.run(sequence.prove_processes(plan))
        return plan.beside
    results = session.runner.run(sequence.build_and_boot(plan), rescue=sequence.abandon_build(plan))
    tell_notes(session, results.output(django.BUILD))
    warn_of_schema(session, proof.ahead(results[proof.DATA].output))
    tell_notes(session, results[proof.DATA].output)
    tell_verdicts(session, to_come(plan, results))
    warn_of_uploads(session, proof.unseen(results[proof.DATA].output))
    try:
        judge_schema(session, plan, proof.breaking(results[proof.DATA].output), keep=keep_schema)
        return choose_activation(session, plan, results)
    except StepFailed:
        session.runner.run(sequence.abandon_build(plan))
        raise


def choose_activation(session: Session, plan: Plan, results: Results) -> Activation:
    """The activation that was asked for, or that a proof has shown to be right.

    Raises StepFailed for migrations that would need a hold and cannot be cancelled in one.
    """
    comparison = _read_comparison(results[proof.COMPARE].output)
    units = [path.name for path in plan.units]
    chosen = plan.forced or choose(comparison, units, running=session.state.service == "active")
    # Where nobody is served by the code of before, nobody has to wait.
    if chosen.kind == "start" or session.state.maintenance or not session.settings.hold:
        return chosen
    migrations = to_come(plan, results)
    held = hold(chosen, migrations)
    if lasting := [each.name for each in migrations_of(held, migrations) if not each.atomic]:
        name = session.run.name
        raise StepFailed(
            f"{name}: {held.reason}; and {lasting[0]} cannot be rolled back (it is not atomic, or its database never "
            "rolls a table back), so requests cannot wait for it",
            hint=f"two deploys: first code that does without; or fab -H {name} maintenance.on, this command again, and "
            "maintenance.off; or hold = 0 in hosts.toml, and some requests fail",
        )
    return held


def to_come(plan: Plan, results: Results) -> list[Migration]:
    """The migrations that are to be applied; for a release that is there already, none is."""
    return proof.migrations(results[proof.DATA].output) if plan.commit else []


def tell_notes(session: Session, output: str) -> None:
    """Say what a step has to tell although it went well."""
    for note in django.notes(output):
        session.run.console.say(f"  {note}")


def warn_of_schema(session: Session, ahead: list[str]) -> None:
    """Say which migrations stay applied that the release to come does not know."""
    session.outcome.details["migrations_ahead"] = ahead
    if ahead:
        session.run.console.say(f"  the database is ahead of this release, whose code may fail on it: {_stay(ahead)}")


def judge_schema(session: Session, plan: Plan, breaking: list[str], *, keep: bool) -> None:
    """Tell which applied migrations the release to come cannot run with; StepFailed unless the schema is to be kept."""
    session.outcome.details["breaking"] = breaking
    if not breaking:
        return
    if not keep:
        name = session.run.name
        raise StepFailed(
            f"{name}: {plan.release.id} cannot run on the present schema: {'; '.join(breaking)}",
            hint=f"deploy a commit that can; or, if its code bears that: fab -H {name} rollback --keep-schema",
        )
    for line in breaking:
        session.run.console.say(f"  its code cannot run on the present schema: {line}")


def tell_verdicts(session: Session, migrations: list[Migration]) -> None:
    """Say which migrations to come the code that runs cannot bear, and which lock tables for long."""
    for migration in migrations:
        for line in migration.felt:
            session.run.console.say(f"  {migration.name} {line}")


def warn_of_uploads(session: Session, lines: list[str]) -> None:
    """Tell that uploads are kept and visitors get 404 for them, before that is anybody's surprise."""
    for line in lines:
        session.outcome.suggestions.append(f"so that visitors see uploads, in hosts.toml: {line}")
        session.run.console.say(f"  uploads are kept, but nobody shows them; in hosts.toml: {line}")


def _stay(ahead: list[str]) -> str:
    return f"{', '.join(ahead)} stay{'s' if len(ahead) == 1 else ''} applied"


def switch(session: Session, plan: Plan, activation: Activation) -> None:
    """Switch to a proven release and see it answer; the host itself puts the old one back if it does not.

    Raises StepFailed (site untouched) or Unhealthy (the old release is back).
    """
    from . import watch  # imported by now

    outcome, settings = session.outcome, session.settings
    outcome.activation, outcome.reason = activation.kind, activation.reason
    outcome.site_state = "unknown: the host was in the middle of the switch, and brings it to its end"
    session.run.console.say(f"  {activation}")
    revert = sequence.revert(plan, activation)
    patience = maintenance.LONGEST if activation.held else watch.PATIENCE
    with watch.watching(session.connection, settings, outcome.watch, patience) as watches:

        def begun(step: Step) -> None:
            if step.id == nginx.CHECK:  # all that changes the site is done
                watch.look_anew(watches)

        try:
            results = session.runner.run(sequence.switch(plan, activation), revert, finish=True, begun=begun)
        except StepError as error:
            raise _failed(session, plan, error) from error
        schema = add_migrations(session, results)
        tell_notes(session, results.output(django.PRELUDE))
        tell_notes(session, results.output(django.MIGRATE))
        checks = nginx.parse_checks(results[nginx.CHECK].output)
        outcome.add_checks(checks)
        note_certificate(session, results[nginx.CHECK].output)
        answer = watch.settle(watches, settings.timeouts.health)
        public = watch.public_trouble(watches, closed=bool(session.state.maintenance))
        outcome.checks["http_200"] = not answer
        if answer:
            outcome.failed_check = "http_200"
            session.runner.run(revert, finish=True)
            failure = _reverted(session, plan, f"{settings.health_path} answers {answer}")
            if watches["ssh"].steady:  # so it is not in the app
                failure.hint = _look_outside(session)
            outcome.site_state += schema
            raise failure
    if watches["ssh"].blind:
        session.run.console.say(f"  the host's own checks are all there is: {watches['ssh'].first}")
    outcome.site_state = f"{plan.release.id} is live"
    tell_of_the_visitor(session, results.output(proof.VISITORS), checks.found.get("visitor", ""))
    if settings.public_url:
        outcome.details["public_trouble"] = public or None


def note_certificate(session: Session, output: str) -> None:
    """Keep what the host has to say of the site's certificate, and what of it is to be told at the end."""
    if shown := certificate.parse(output.splitlines()):
        now = session.state.now
        session.outcome.details |= {
            "certificate": shown.document(now),
            "certificate_trouble": shown.trouble(now) or None,
        }


def tell_of_the_visitor(session: Session, *found: str) -> None:
    """Say what a visitor found, in the proof and through nginx, unless it is just a front page."""
    said = list(dict.fromkeys(text for text in found if text))
    session.outcome.details["visitor"] = "; ".join(said)
    as_ever = (FRONT_PAGE, f"/ leads to https://{session.settings.domain}/, 200" if session.settings.tls else "")
    for text in said:
        if text not in as_ever:
            session.run.console.say(f"  a visitor finds: {text}")


def after_switch(session: Session, plan: Plan) -> AfterSwitchFailed | KeyboardInterrupt | None:
    """Run the commands for a release that is live; return what ended them, for there is no way back from here."""
    steps, outcome = sequence.after_switch(plan), session.outcome
    if not steps:
        return None
    live = outcome.site_state
    outcome.site_state = f"{live}; of its after_switch commands nothing is known"
    try:
        session.runner.run(steps)
    except StepError as error:
        outcome.site_state = f"{live}, but {error.failed.step.title}: failed"
        # The same command would find nothing to do.
        mend, name = re.sub("[,;] then the same command again$", "", error.hint), session.run.name
        return AfterSwitchFailed(
            f"{error.message}; {live} all the same",
            hint=f"{mend}, and do what is left by hand (fab -H {name} manage, or run), "
            f"or with a new release: fab -H {name} deploy --force",
            evidence=error.evidence,
            shown=True,
        )
    except KeyboardInterrupt as interrupt:
        if not session.runner.busy:
            outcome.site_state = f"{live}, but its after_switch commands were interrupted"
            return interrupt
        raise
    outcome.site_state = live
    return None


def finish(session: Session, plan: Plan, how: str) -> None:
    """Note the success and prune, the last work on the host; what fails here is told and no more, for the release is
    live and healthy."""
    run = session.run
    try:
        session.runner.run(sequence.finish(plan, history_entry(session, plan, how)), last=True)
    except StepError as error:
        run.console.say(f"  {error.message}; the release is live all the same, and the next deploy tries it again")
        run.outcome.suggestions.append(f"{error.message}: look at it with fab -H {run.name} status")


def announce(session: Session, plan: Plan, failure: AfterSwitchFailed | None) -> None:
    """Say what is live now, and that it is not all that was wanted if there is a `failure`."""
    run, outcome, watched = session.run, session.outcome, session.outcome.watch
    outcome.release, outcome.url = plan.release.id, run.url
    outcome.admin_url = f"{run.url}/admin/"
    seen = ""
    if session.live and "requests" in watched:
        seen = f"; watched {watched['requests']} requests, {watched['failed']} failed"
        seen += f", slowest {watched['slowest_ms']:.0f} ms"
    if session.state.maintenance:
        seen += "; the maintenance page is on"
    trouble = outcome.details.get("public_trouble")
    if trouble:
        seen += f"; BUT {_public_trouble(session, trouble)}"
        outcome.suggestions.append(_look_outside(session))
    elif "public_requests" in watched:
        seen += f"; at {session.settings.public_url} {watched['public_requests']}, {watched['public_failed']} failed"
    if refused := outcome.details.get("certificate_trouble"):
        seen += f"; BUT the certificate {refused}"
        outcome.suggestions.append(certificate.renewal(run.name, session.settings))
    if failure:
        seen += "; BUT a command of after_switch failed"
    ahead = outcome.details.get("migrations_ahead")
    schema = f"; {_stay(ahead)}, which this release does not know" if ahead else ""
    run.headline(
        f"{plan.release.id} is live ({outcome.activation}){seen}{schema}", good=not (trouble or refused or failure)
    )


def _public_trouble(session: Session, trouble: str) -> str:
    """What is wrong at `public_url`: since when, and why."""
    before = " before this deploy either" if session.live else ""
    verb = "did not answer as this site" if before else "does not answer as this site"
    return f"{session.settings.public_url} {verb}{before}: {trouble}"


def _look_outside(session: Session) -> str:
    """What to look at when the host answers and its public address does not."""
    return (
        f"see where {session.settings.public_url} leads: its name (in ALLOWED_HOSTS, too), port and certificate, "
        "the proxy before this host"
    )


def show_logs(session: Session, error: Unhealthy) -> None:
    """Keep the ends of the logs; show those of nginx, if it was nginx that failed and not the service."""
    failed = session.outcome.failed_check
    session.outcome.logs |= read_logs(session.runner, session.layout, failed)
    if failed == "nginx_running":
        error.evidence, error.shown = evidence(session.outcome.logs, failed), False


def history_entry(session: Session, plan: Plan, how: str) -> str:
    """The history's line about this run: who, what, when (ISO 8601, UTC), seconds, how it ended."""
    outcome = session.outcome
    entry = {
        "at": datetime.fromtimestamp(session.state.now, UTC).isoformat(),
        "by": operator(),
        "verb": outcome.verb,
        "release": plan.release.id,
        "previous": session.state.live,
        "commit": outcome.git_commit,
        "branch": outcome.git_branch,
        "activation": outcome.activation,
        "outcome": how,
        "seconds": round(sum(session.run.console.timing.values()), 1),
        "watch": outcome.watch,
    }
    return json.dumps(entry)


def add_migrations(session: Session, results: Results) -> str:
    """Add the migrations that were applied to the outcome; return what the site's state is to say of the data."""
    output = "\n".join(results.output(step) for step in (django.PRELUDE, django.MIGRATE))
    applied, begun = django.migrations(output)
    session.outcome.details["migrations"] = applied
    kept = [f"{', '.join(applied)} stays applied"] if applied else []
    kept += [f"{begun} had begun (if it is not atomic, a part of it may stay)"] if begun else []
    schema = f", but the schema: {'; '.join(kept)}" if kept else ""
    return f"{schema}, and what before_switch did stays" if commands.began(results, "before_switch") else schema


def _failed(session: Session, plan: Plan, error: StepError) -> DeployError:
    """The error that a failed step of the switch stands for: before it was live, or after."""
    outcome, failed = session.outcome, error.failed
    schema = add_migrations(session, Results.of([*error.before.values(), failed]))
    if not all(result.ok for result in error.rescue.values()):
        outcome.site_state = f"unknown: after {failed.step.title}, the way back failed too{schema}"
        return Unhealthy(
            f"{failed.step.title}: failed, and the way back failed too",
            evidence="\n".join([failed.output, *(result.output for result in error.rescue.values())]),
            hint=f"fab -H {session.run.name} status",
            shown=True,
        )
    if not failed.step.live:
        outcome.site_state = f"as before{schema}"
        return error
    checks = nginx.parse_checks(failed.output)
    outcome.add_checks(checks)
    what = f"{failed.step.title}: {checks.trouble}" if checks.trouble else error.message
    failure = _reverted(session, plan, what, failed.output)
    failure.shown = True
    outcome.site_state += schema
    return failure


def _reverted(session: Session, plan: Plan, what: str, evidence: str = "") -> Unhealthy:
    """The error for a release that was live and is no more, or for a live one that no longer answers."""
    old, outcome = session.live, session.outcome
    name = session.run.name
    hint = advice.said_next(name, evidence) or advice.look(name, outcome.failed_check, f"{evidence}\n{what}")
    if old and plan.switches:
        outcome.site_state = f"as before: {old.id} is live again"
        error = Unhealthy(f"{what}; {old.id} is live again", evidence=evidence, hint=hint)
        error.status = "rolled_back"
        return error
    outcome.site_state = f"{old.id} is live and does not answer as it should" if old else "as before: nothing is live"
    return Unhealthy(what, evidence=evidence, hint=hint)


def _read_comparison(output: str) -> Comparison:
    try:
        return json.loads(output.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise StepFailed(
            "comparing the new release with the running gunicorn gave no answer", evidence=output
        ) from error
