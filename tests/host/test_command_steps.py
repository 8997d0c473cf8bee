"""Steps of the commands that a new release brings with it, on real bash: run in the release, and proven before.

doppler is a stand-in that adds a secret, and so is Django, of a few lines; tests/lab has real ones.
"""

import json
from pathlib import Path

import pytest

from fabfile.config.layout import Release
from fabfile.config.settings import Timeouts
from fabfile.ssh.runner import StepError
from fabfile.steps import commands
from fabfile.steps.commands import When
from fabfile.steps.step import Step
from tests.host.local_host import HOSTILE, World, alive, eventually

# Says with what, where and with which environment it was started.
TELL = """#!/usr/bin/env python3
import json, os, sys
print(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]))
"""
MANAGE = """
import json, os, sys
if len(sys.argv) > 1 and sys.argv[1] == "tell":
    print(json.dumps([sys.argv, os.getcwd(), dict(os.environ)]))
    sys.exit()
from django.core.management.base import BaseCommand
if sys.argv[1:] != ["clear_cache"]:
    print(f"Unknown command: {sys.argv[1]!r}. Did you mean clear_cache?")
    print("Type 'manage.py help' for usage.")
    sys.exit(1)
BaseCommand().execute()
"""
Told = tuple[list[str], str, dict[str, str]]


@pytest.fixture
def release(world: World) -> Release:
    """A release with a Python, a Django, a manage.py and a program of its own in the virtualenv."""
    release = world.release_of_django("20260102T030405Z-abcdef0", MANAGE)
    world.stub("doppler", 'while [ "$1" != -- ]; do shift; done; shift; SECRET=SENTINEL exec "$@"')
    program(Path(release.venv, "bin/tell"), TELL)
    return release


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def a_command(world: World, release: Release, command: str, when: When = "build", timeout: int = 60) -> Step:
    """The step of one command."""
    settings = world.settings.model_copy(update={when: (command,), "timeouts": Timeouts(commands=timeout)})
    (step,) = commands.run(settings, release, when)
    return step


def told(world: World, step: Step) -> Told:
    """What a command says that tells how it was started; twice, for every step can be run again."""
    arguments, folder, environment = json.loads(world.twice(step)[1])
    return arguments, folder, environment


def failed(world: World, step: Step) -> StepError:
    with pytest.raises(StepError) as caught:
        world.run(step)
    return caught.value


def test_a_command_of_the_build_has_its_words_and_no_secrets(world: World, release: Release) -> None:
    """In the project's folder, with the virtualenv's programs first and a HOME for caches; nothing is taken apart."""
    world.stub("tell", "exit 1")
    arguments, folder, environment = told(world, a_command(world, release, """tell "a  b" '' '$(touch bait)' *"""))
    assert arguments == [f"{release.venv}/bin/tell", "a  b", "", "$(touch bait)", "*"]
    assert folder == str(release.project)
    assert environment["PATH"].startswith(f"{release.venv}/bin:")
    assert environment["HOME"] == str(world.root / "home")
    assert environment["LANG"] == "C.UTF-8"  # a build has files with any name
    assert not {"SECRET", "DOPPLER_TOKEN"} & set(environment)
    assert not world.bait()


def test_any_words_arrive_whole(world: World, release: Release) -> None:
    """What a shell could take for more is only text."""
    step = a_command(world, release, "tell x")
    words = ["tell", HOSTILE, "-rf", "[0]=$(touch bait)", ""]
    arguments, *_ = told(world, Step(step.id, step.title, step.function, {**step.parameters, "words": words}))
    assert arguments[1:] == words[1:]
    assert not world.bait()


@pytest.mark.parametrize("when", ["before_switch", "after_switch"])
def test_a_command_of_the_switch_has_the_secrets(world: World, release: Release, when: When) -> None:
    """Under Doppler, with the service's environment."""
    arguments, folder, environment = told(world, a_command(world, release, "tell all", when))
    assert arguments[1:] == ["all"]
    assert folder == str(release.project)
    assert environment["SECRET"] == "SENTINEL"  # noqa: S105 - made up
    assert environment["PATH"].startswith(f"{release.venv}/bin:")


@pytest.mark.parametrize("when", ["build", "before_switch", "after_switch"])
def test_manage_py_runs_as_in_migrate(world: World, release: Release, when: When) -> None:
    """With the release's Python and its secrets, in a build as well."""
    arguments, folder, environment = told(world, a_command(world, release, "manage.py tell 'a  b'", when))
    assert arguments == ["manage.py", "tell", "a  b"]
    assert folder == str(release.project)
    assert environment["SECRET"] == "SENTINEL"  # noqa: S105 - made up
    assert "DEPLOY_WEBSITE" not in environment


def test_variables_of_the_login_do_not_reach_a_build(world: World, release: Release) -> None:
    """A build must not depend on who deploys from where."""
    connection = world.connect()
    connection.environment = {**connection.environment, "SSH_CLIENT": "10.0.0.1", "NODE_ENV": "test"}
    step = a_command(world, release, "tell x")
    with connection.runner() as runner:
        _, _, environment = json.loads(runner.run([step])[step.id].output)
    assert not {"SSH_CLIENT", "NODE_ENV"} & set(environment)


@pytest.mark.parametrize("name", ["git", "fail", "eval", "cd", "visit"])
def test_a_program_is_a_program(world: World, release: Release, name: str) -> None:
    """Not the function of this library, or the word of bash, that is called so."""
    program(Path(release.venv, "bin", name), TELL)
    assert told(world, a_command(world, release, f"{name} x"))[0] == [f"{release.venv}/bin/{name}", "x"]


def test_what_a_command_leaves_running_has_no_lock(world: World, release: Release) -> None:
    """A build tool's daemon lives on, and the next deploy is not kept out by it."""
    step = a_command(world, release, "sh -c 'sleep 300 & echo $! >pid'")
    with world.connect().runner(lock=world.lock()) as runner:
        runner.run([step])
    pid = int(Path(release.project, "pid").read_text())
    assert alive(pid)
    with world.connect().runner(lock=world.lock()) as runner:
        runner.run([a_command(world, release, "tell x")])


def test_a_command_that_never_ends_goes_with_its_children(world: World, release: Release) -> None:
    """At its limit, which is named with its setting."""
    step = a_command(world, release, "sh -c 'sleep 300 & echo $! >pid; wait'", timeout=1)
    error = failed(world, step)
    assert error.message.endswith("failed (took longer than 1 s and was ended)")
    assert "timeouts.commands" in error.hint
    assert eventually(lambda: not alive(int(Path(release.project, "pid").read_text())))


def test_a_program_that_the_host_lacks_is_told(world: World, release: Release) -> None:
    """By its name, with the command that installs it; one of the release, with what git has to know."""
    world.override('type() { [ "$2" != npx ] && builtin type "$@"; }')
    missing = failed(world, a_command(world, release, "npx vite build"))
    assert missing.message == (
        "build: npx vite build: failed (exit 1): npx: command not found, neither on the host nor in the virtualenv"
    )
    assert "apt install npm" in missing.hint
    own = failed(world, a_command(world, release, "./build.sh"))
    assert "the release has no program ./build.sh, seen from its folder" in own.message
    Path(release.project, "build.sh").write_text("#!/bin/sh\n")
    assert "chmod=+x" in failed(world, a_command(world, release, "./build.sh")).hint


@pytest.mark.parametrize("when", ["build", "before_switch"])
@pytest.mark.parametrize(
    ("code", "told"),
    [(3, "failed (exit 3): error: out"), (137, "failed (exit 1): the command was killed"), (124, "124"), (77, "77")],
)
def test_how_a_command_ended_is_told(world: World, release: Release, when: When, code: int, told: str) -> None:
    """A code that the runner has a use for is not taken for its own: no limit was reached, no right is missing."""
    error = failed(world, a_command(world, release, f"sh -c 'echo error: out; exit {code}'", when))
    assert told in error.message
    assert "took longer" not in error.message
    assert "provision" not in error.hint
    assert error.evidence.startswith("error: out")


def prove(world: World, release: Release, before: tuple[str, ...] = (), after: tuple[str, ...] = ()) -> str:
    """What the proof says of these commands."""
    settings = world.settings.model_copy(update={"before_switch": before, "after_switch": after})
    (step,) = commands.prove(settings, release)
    return world.twice(step)[1]


def test_commands_that_can_start_are_not_started(world: World, release: Release) -> None:
    """Of programs it is looked whether they are there; manage.py stops short of the command."""
    Path(release.project, "own.sh").write_text("#!/bin/sh\ntouch taken\n")
    Path(release.project, "own.sh").chmod(0o755)
    assert prove(world, release, ("tell x", "./own.sh"), ("manage.py clear_cache",)) == ""
    assert not Path(release.project, "taken").exists()


def test_nothing_is_proven_where_there_is_nothing(world: World, release: Release) -> None:
    """No Python is started for programs alone, and no step is there without commands."""
    assert commands.prove(world.settings, release) == []
    prove(world, release, ("tell x",))
    assert world.calls == []


def test_a_command_that_django_does_not_know_is_told_before_it_is_needed(world: World, release: Release) -> None:
    """In Django's words, with the setting it stands in."""
    with pytest.raises(StepError) as caught:
        prove(world, release, after=("manage.py clear_cach",))
    assert caught.value.message == (
        "Prove that its commands can start: failed (exit 1): after_switch: manage.py clear_cach does not start: "
        "Unknown command: 'clear_cach'. Did you mean clear_cache?"
    )


def test_a_program_that_is_missing_is_told_before_it_is_needed(world: World, release: Release) -> None:
    """With the setting it stands in."""
    with pytest.raises(StepError) as caught:
        prove(world, release, ("no-such-program x",))
    assert "before_switch: no-such-program: command not found" in caught.value.message
