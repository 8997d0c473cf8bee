"""What keeps a commit from going live by accident, and what is told of commits that do not go live."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from fabfile.config.inventory import Host
from fabfile.config.settings import Settings
from fabfile.errors import ConfigError, StepFailed
from fabfile.output.console import Console
from fabfile.output.outcome import Outcome
from fabfile.plan.commits import Found
from fabfile.session import guards
from fabfile.session.run import Run
from testbed.sample import VALUES, sample
from tests.host.local_host import HOSTILE

COMMIT, LIVE = "abcdef0" + "1" * 33, "fedcba9" + "2" * 33


def a_run(**values: object) -> Run:
    return Run(Host("api", "production", sample(**values)), Console(), Outcome("deploy", "api"))


def git(folder: Path, *words: str) -> str:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    who = ["-c", "user.name=Ana", "-c", "user.email=ana@example.org"]
    done = subprocess.run(["git", *who, *words], cwd=folder, env=clean, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_a_commit_that_follows_what_is_live_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    """As does one of which nothing is known."""
    run = a_run()
    guards.refuse_backwards(run, Found(COMMIT, "x", adds=3), LIVE, backwards=False)
    assert run.outcome.details == {"lacks": []}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("found", "said"),
    [
        (
            Found(COMMIT, "x", 0, 1, ("fedcba9 Fix it",)),
            "main (abcdef0) is older than what is live (fedcba9), and lacks of it: fedcba9 Fix it",
        ),
        (
            Found(COMMIT, "x", 2, 5, ("fedcba9 Fix it", "2222222 \x1b[2J", "3333333 c")),
            "main (abcdef0) does not follow what is live (fedcba9), and lacks of it: "
            "fedcba9 Fix it; 2222222 \ufffd[2J; 3333333 c and 2 more",
        ),
    ],
)
def test_a_commit_that_lacks_what_is_live_has_to_be_meant(
    found: Found, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is refused with what it lacks; by the option, or where hosts.toml says so, it is only told."""
    with pytest.raises(ConfigError) as refused:
        guards.refuse_backwards(a_run(), found, LIVE, backwards=False)
    assert refused.value.message == f"api: {said}"
    assert refused.value.hint.endswith("fab -H api deploy --branch main --backwards")
    for run, backwards in ((a_run(), True), (a_run(backwards=True), False)):
        guards.refuse_backwards(run, found, LIVE, backwards=backwards)
        assert capsys.readouterr().out == f"  {said}\n"
        assert run.outcome.details["lacks"] == list(found.lacking)


def test_branches_that_a_host_takes() -> None:
    """The branch, wherever it comes from, is one of them; a pattern goes over slashes, and is as small and large."""
    for branch in ("main", "release/1", "release/1/x"):
        assert sample(branches=["main", "release/*"], branch=branch).branch == branch
    for branch in ("Main", "releases/1", "feature/main", "a" * 40):
        with pytest.raises(ValueError, match=rf"branch {branch} is none of branches: main, release/\*"):
            sample(branches=["main", "release/*"], branch=branch)
    with pytest.raises(ValueError, match="must be the name of a branch or tag"):
        Settings.model_validate({**VALUES, "branches": ["-x"]})


@pytest.fixture
def beside(tmp_path: Path, mocker: MockerFixture) -> Path:
    """The folder of hosts.toml."""
    mocker.patch.dict(os.environ, DJANGO_DEPLOY_HOSTS=str(tmp_path / "hosts.toml"))
    guards._ended.cache_clear()
    return tmp_path


def test_what_is_required_knows_what_is_to_go_live(beside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It runs beside hosts.toml, once for a commit; it is shown as a step, and its output only when it fails."""
    tell = "import json, os; print(json.dumps({k: v for k, v in os.environ.items() if k.startswith('DJANGO_DEPLOY_')}))"
    (beside / "tell.py").write_text(f"{tell}; open('told', 'a').write(os.getcwd())")
    run = a_run(require="python3 -c \"exec(open('tell.py').read())\"")
    guards.require(run, COMMIT)
    guards.require(run, COMMIT)
    assert (beside / "told").read_text() == str(beside)
    said = capsys.readouterr().out
    assert "require: python3" in said
    assert "DJANGO_DEPLOY_COMMIT" not in said
    assert run.console.timing["require"] > 0
    output = guards._ended(run.settings.require or "", "production", "main", COMMIT)[1]
    about = {"ENVIRONMENT": "production", "BRANCH": "main", "COMMIT": COMMIT, "HOSTS": str(beside / "hosts.toml")}
    told = json.loads(output)
    assert {name: told[f"DJANGO_DEPLOY_{name}"] for name in about} == about
    guards.require(run, LIVE)
    assert (beside / "told").read_text() == str(beside) * 2


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (
            "sh -c 'echo working; echo Error: 3 tests failed >&2; exit 4'",
            "failed on this machine (exit 4): Error: 3 tests",
        ),
        ("no-such-program --all", "(exit 127): no-such-program: No such file or directory"),
        ("sh -c 'kill -9 $$'", "failed on this machine (exit -9)"),
    ],
)
@pytest.mark.usefixtures("beside")
def test_what_is_required_and_fails(command: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit 5, with the command, its reason, and all that it said."""
    with pytest.raises(StepFailed) as failed:
        guards.require(a_run(require=command), COMMIT)
    assert failed.value.message.startswith(f"require: {command}: ")
    assert said in failed.value.message
    assert "correct require in hosts.toml" in failed.value.hint
    assert "FAILED" in capsys.readouterr().out


def test_nothing_is_required_by_default() -> None:
    """And no shell is taken for a program."""
    guards.require(a_run(), COMMIT)
    with pytest.raises(ValueError, match="must not have && outside of quotes"):
        sample(require="just test && just lint")
    with pytest.raises(ValueError, match="must name a program"):
        sample(require="")


@pytest.fixture
def clone(tmp_path: Path, mocker: MockerFixture) -> Path:
    """A clone of a repository, in which somebody works."""
    origin, clone = tmp_path / "origin", tmp_path / "clone"
    origin.mkdir()
    git(origin, "init", "--quiet", "--initial-branch=main")
    git(origin, "commit", "--quiet", "--allow-empty", "--message", "first")
    git(tmp_path, "clone", "--quiet", str(origin), str(clone))
    mocker.patch.object(Path, "cwd", return_value=clone)
    return clone


def test_commits_that_were_never_pushed(clone: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They are told with the newest; what another branch of the remote has was pushed."""
    pushed = git(clone, "rev-parse", "HEAD")
    run = a_run()
    guards.tell_unpushed(run, pushed)
    assert run.outcome.details == {"unpushed": []}
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "Fix the totals")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", HOSTILE)
    guards.tell_unpushed(run, pushed)
    assert [line.partition(" ")[2] for line in run.outcome.details["unpushed"]] == [HOSTILE, "Fix the totals"]
    assert capsys.readouterr().out.startswith("  never pushed from this machine, and so no part of this: ")
    assert run.outcome.suggestions[0].startswith("git push origin main, to deploy ")
    assert run.outcome.suggestions[0].endswith(" and 1 more of main")
    git(clone, "push", "--quiet", "origin", "main:review")
    assert guards.unpushed("main", pushed, clone) == []


def test_a_folder_that_says_nothing_of_pushes(clone: Path, tmp_path: Path) -> None:
    """No repository, another one, one without that branch."""
    pushed = git(clone, "rev-parse", "HEAD")
    git(clone, "commit", "--quiet", "--allow-empty", "--message", "Here alone")
    assert len(guards.unpushed("main", pushed, clone)) == 1
    assert guards.unpushed("main", COMMIT, clone) == []
    assert guards.unpushed("other", pushed, clone) == []
    assert guards.unpushed("main", pushed, tmp_path) == []
    assert guards.unpushed("main", pushed, tmp_path / "nowhere") == []
