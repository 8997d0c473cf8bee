"""What keeps a commit from going live by accident: it lacks what is live, `require` says no; or it was never pushed."""

import functools
import os
import shlex
import subprocess
import time
from pathlib import Path

from ..config import places
from ..errors import ConfigError, StepFailed
from ..output import advice
from ..output.console import printable
from ..plan.commits import Found
from ..steps.step import Step, StepResult
from .run import Run


def refuse_backwards(run: Run, found: Found, live: str, *, backwards: bool) -> None:
    """Refuse a commit that lacks some of the `live` one, unless that is meant."""
    run.outcome.details["lacks"] = list(found.lacking)
    if not found.lacks:
        return
    ref, further = run.settings.branch, found.lacks - len(found.lacking)
    how = "does not follow" if found.adds else "is older than"
    lacking = "; ".join(printable(line) for line in found.lacking) + (f" and {further} more" if further else "")
    what = f"{ref} ({found.commit[:7]}) {how} what is live ({live[:7]}), and lacks of it: {lacking}"
    if backwards or run.settings.backwards:
        run.console.say(f"  {what}")
        return
    raise ConfigError(
        f"{run.name}: {what}",
        hint=f"merge or rebase {ref}, and push it; or, if it is to go live as it is: "
        f"fab -H {run.name} deploy --branch {ref} --backwards",
    )


def refuse_another(run: Run, commit: str, planned: str) -> None:
    """Refuse a commit that is not the one that was shown, if one was."""
    if planned and commit != planned:
        ref = run.settings.branch
        raise ConfigError(
            f"{run.name}: {ref} has moved since it was shown: {planned[:7]} -> {commit[:7]}",
            hint="the same command again",
        )


def require(run: Run, commit: str) -> None:
    """Run the command of `require` on this machine, if there is one; StepFailed when it does not succeed.

    It succeeds once for each commit, however many hosts the run has.
    """
    if not (command := run.settings.require):
        return
    step = Step(id="require", title=f"require: {command}", function="")  # nothing of the host
    run.console.begin(step)
    began = time.monotonic()
    code, output = _ended(command, run.host.environment, run.settings.branch, commit)
    run.console.end(StepResult(step, code, output, time.monotonic() - began))
    if code:
        why = advice.reason(output)
        raise StepFailed(
            f"{step.title}: failed on this machine (exit {code}){f': {why}' if why else ''}",
            hint="mend that, then the same command again; or correct require in hosts.toml",
            evidence=output,
            shown=True,
        )


@functools.cache
def _ended(command: str, environment: str, branch: str, commit: str) -> tuple[int, str]:
    """How a command ended that knows what is to go live, beside hosts.toml: its exit code, and what it said."""
    words = shlex.split(command)
    about = {"ENVIRONMENT": environment, "BRANCH": branch, "COMMIT": commit}
    try:
        done = subprocess.run(
            words,
            cwd=places.hosts_file().absolute().parent,
            env=os.environ | {f"DJANGO_DEPLOY_{name}": value for name, value in about.items()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
        )
    except OSError as error:
        return 127, f"failed: {words[0]}: {error.strerror} (on this machine)"
    return done.returncode, done.stdout.rstrip("\n")


def tell_unpushed(run: Run, commit: str) -> None:
    """Say which commits of the branch stand on this machine alone: who made them may think that they go live."""
    branch = run.settings.branch
    lines = unpushed(branch, commit, Path.cwd())
    run.outcome.details["unpushed"] = lines
    if lines:
        what = f"{printable(lines[0])}{f' and {len(lines) - 1} more of {branch}' if lines[1:] else ''}"
        run.console.say(f"  never pushed from this machine, and so no part of this: {what}")
        run.outcome.suggestions.append(f"git push origin {branch}, to deploy {what}")


def unpushed(branch: str, commit: str, folder: Path) -> list[str]:
    """The commits of a local branch, as `abc1234 subject`, that neither `commit` nor any remote has.

    None where the repository around `folder` does not know `commit`: then it is not the app's.
    """

    def git(*words: str) -> list[str]:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, errors="replace", check=True)
        return done.stdout.splitlines()

    try:
        git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
        return git("log", "--format=%h %s", f"refs/heads/{branch}", "--not", commit, "--remotes", "--")
    except (OSError, subprocess.CalledProcessError):  # no git, no repository, no such commit, no such branch
        return []
