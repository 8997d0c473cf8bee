"""plan: everything that a deploy would do; not a byte of the host changes."""

import dataclasses
import sys
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath

from ..config.layout import Release
from ..errors import ConfigError, DeployError
from ..output.console import printable
from ..plan import commits, preview, rendering
from ..plan.commits import Found
from ..plan.plan import Plan
from ..plan.preview import File, Migration, Package, Preview
from ..session import deployment, guards, index
from ..session.run import Run
from ..session.session import Session, open_session
from ..steps import preview as steps
from ..steps import proof, release, sequence, service
from ..steps.django import BUILD
from ..steps.step import Results
from .deploy import changed_settings, decide, nothing_to_do, require_repo, send_release_files

ROWS = 20  # of each kind, and lines of a migration's SQL, that a person sees; the document has all
LINES = 40  # of a file's difference


class Troubles(list[DeployError]):
    """What would end the deploy, as far as that was found out."""

    @contextmanager
    def noting(self) -> Generator[None]:
        """Note what ends this part, and go on with the next."""
        try:
            yield
        except DeployError as error:
            self.append(error)


def plan(run: Run, *, force: bool = False, overwrite: bool = False, backwards: bool = False) -> str:
    """The recipe: read, decide as a deploy does, look at what it would bring, show that.

    Returns the commit that it would bring; nothing when there is nothing to do. Raises what would end the deploy.
    """
    require_repo(run)
    troubles = Troubles()
    with open_session(run, "", 0, steps.fetch(run.settings), release.read_history(200), locked=False) as session:
        found = commits.parse(session.results[release.FETCH].output, run.name, run.settings)
        run.outcome.git_branch, run.outcome.git_commit = run.settings.branch, found.commit
        guards.tell_unpushed(run, found.commit)
        with troubles.noting():
            guards.refuse_backwards(run, found, session.commit, backwards=backwards)
        wanted = decide(session, found.commit, force=force)
        if wanted is None:
            nothing_to_do(session, found.commit)
            return ""
        if session.edited and not overwrite:
            with troubles.noting():
                session.runner.run([service.refuse_edited(session.edited)])
        looked = look(session, wanted, found, troubles)
        run.outcome.details |= looked.model_dump(mode="json")
        show(session, found, looked)
    if troubles:
        raise troubles[0]
    run.headline(f"this is what a deploy would do; nothing was changed (fab -H {run.name} deploy does it)")
    return found.commit


def confirm(run: Run, *, force: bool, overwrite: bool, backwards: bool) -> str:
    """Show what a deploy would do, and ask; return the commit that somebody said yes to, or nothing."""
    if not sys.stdin.isatty():
        raise ConfigError("--confirm asks a person, and nobody is at a terminal here", hint=f"fab -H {run.name} plan")
    commit = plan(run, force=force, overwrite=overwrite, backwards=backwards)
    if commit and input("  Deploy that (yes/no)? ").strip().lower() not in ("y", "yes"):
        run.outcome.status = "unchanged"
        run.headline("nothing was deployed")
        return ""
    return commit


def look(session: Session, wanted: Plan, found: Found, troubles: Troubles) -> Preview:
    """Find out what the deploy would do, as far as it would get."""
    settings, state, outcome = session.settings, session.state, session.outcome
    brought = ""
    if wanted.commit:
        brought = session.runner.run([steps.compare_commits(settings, found.commit)]).output(steps.COMPARE_COMMITS)
    packages, untold = index.with_yanked(preview.packages(brought))
    for line in untold:
        session.run.console.say(f"  whether it was yanked could not be asked for: {line}")
    results, activation = Results(), None
    with troubles.noting():
        results = prove(session, wanted, found.commit)
        activation = wanted.beside or deployment.choose_activation(session, wanted, results)
        outcome.activation, outcome.reason = activation.kind, activation.reason
    commits_brought = preview.commits(brought)
    commands = ("build", "before_switch", "after_switch") if wanted.commit else ()
    history, staged = session.results.output(release.HISTORY), state.staged == rendering.digests(session.files)
    return Preview(
        commits=commits_brought,
        further_commits=max(0, found.adds - len(commits_brought)),
        packages=packages,
        to_migrate=proof.migrations(results.output(proof.DATA)),
        files=differences(session, wanted),
        changed_settings=changed_settings(settings, state.live_release) if wanted.commit else [],
        secrets=list(activation.secrets) if activation else [],
        commands={name: list(getattr(settings, name)) for name in commands},
        root=sequence.root_commands(wanted, activation) if activation else [],
        staged_by=settings.admin if wanted.files and not staged else "",
        disk_free_mb=state.disk_free // 1024,
        last_seconds=preview.last_seconds(history, activation.kind) if activation else None,
        trouble=troubles[0].message if troubles else None,
    )


def prove(session: Session, wanted: Plan, commit: str) -> Results:
    """Build and boot the release in the runner's folder, as a deploy does beside the live one."""
    if wanted.beside:
        return session.runner.run(sequence.prove_processes(wanted))
    folder = steps.folder(session.results[release.FETCH].output)
    aside = Release(PurePosixPath(folder) / wanted.release.id, session.settings.project)
    send_release_files(session, dataclasses.replace(wanted, commit=commit))
    results = session.runner.run(sequence.look_aside(session.settings, aside, commit))
    deployment.tell_notes(session, results.output(BUILD))
    deployment.warn_of_schema(session, proof.ahead(results[proof.DATA].output))
    deployment.judge_schema(session, wanted, proof.breaking(results[proof.DATA].output), keep=True)
    deployment.warn_of_uploads(session, proof.unseen(results[proof.DATA].output))
    return results


def differences(session: Session, wanted: Plan) -> list[File]:
    """How the files that root installs would differ from those that are there."""
    if not wanted.files:
        return []
    for path, text in wanted.files.items():
        session.runner.put(path.name, text.encode())
    output = session.runner.run([service.compare(wanted.files)]).output(service.COMPARE)
    return preview.differences(output, map(str, wanted.files))


def show(session: Session, found: Found, looked: Preview) -> None:
    """Show it to a person, section by section."""
    run, outcome = session.run, session.outcome
    place = f"in place of {session.state.live}" if session.state.live else "as the first release"
    run.console.say(f"{run.settings.branch} ({found.commit[:7]} {printable(found.subject)}) would go live {place}")
    sections = {
        "commits": [f"{each.commit} {each.date[:10]} {each.author}: {each.subject}" for each in looked.commits],
        "packages": [_package(each) for each in looked.packages],
        "migrations": [line for each in looked.to_migrate for line in _migration(each)],
        "files": [line for each in looked.files for line in _file(each)],
        "settings": ["nobody can tell which changed"] if looked.changed_settings is None else looked.changed_settings,
        "secrets": looked.secrets,
        "commands": [f"{when}: {command}" for when, each in looked.commands.items() for command in each],
        "activation": [f"{outcome.activation}: {outcome.reason}"] if outcome.activation else [],
        "as root": looked.root,
        "staged": [f"by the login of {looked.staged_by}, before anything else"] if looked.staged_by else [],
        "room": [f"{looked.disk_free_mb} MB are free"],
        "time": [f"{looked.last_seconds} s, the last time with this activation"] if looked.last_seconds else [],
    }
    further = {"commits": looked.further_commits}
    for name, lines in sections.items():
        long = name in ("files", "migrations")
        _show_section(
            run, name, lines if long else lines[:ROWS], (0 if long else len(lines[ROWS:])) + further.get(name, 0)
        )


def _show_section(run: Run, name: str, lines: Sequence[str], further: int) -> None:
    more = [f"... and {further} more"] if further else []
    for number, line in enumerate([*lines, *more]):
        run.console.say(f"  {name if not number else '':<11} {printable(line)}".rstrip())


def _file(file: File) -> list[str]:
    lines = file.difference.splitlines()
    if lines[2:] and lines[2].startswith("@@ -0,0 "):
        return [f"{file.path} is new, {len(lines) - 3} lines"]
    return [*lines[:LINES], *([f"... and {len(lines) - LINES} lines more"] if len(lines) > LINES else [])]


def _package(package: Package) -> str:
    if not package.before or not package.after:
        what = f"+ {package.name} {package.after}" if package.after else f"- {package.name} {package.before}"
    else:
        what = f"{package.name} {package.before} -> {package.after}"
    return what if package.yanked is None else f"{what} (YANKED: {package.yanked})"


def _migration(migration: Migration) -> list[str]:
    what = "; ".join(migration.operations)
    sql = [line for statement in migration.sql for line in statement.splitlines() if not line.startswith("--")]
    more = [f"... and {len(sql) - ROWS} lines more"] if len(sql) > ROWS else []
    trouble = [f"no SQL: {migration.trouble}"] if migration.trouble else []
    whole = "" if migration.atomic else " (not atomic)"
    below = [*migration.verdict, *sql[:ROWS], *more, *trouble]
    return [f"{migration.name}{whole}: {what}", *(f"  {line}" for line in below)]
