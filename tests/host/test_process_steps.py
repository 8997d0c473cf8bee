"""Steps of workers and timers, on real bash: proven with a release, rolled, and put back.

doppler, sudo, systemctl and systemd-analyze are stand-ins, and so is Django, of a few lines; tests/lab has real ones.
"""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile.config.layout import Release
from fabfile.config.processes import Process
from fabfile.plan import rights, services
from fabfile.plan.plan import Plan
from fabfile.ssh.runner import NO_RIGHT, StepError
from fabfile.steps import processes, service, survey
from tests.host.local_host import World

OLD, NEW = "20260101T000000Z-abcdef0", "20260102T000000Z-abcdef1"
DJANGO = """
class BaseCommand:
    def execute(self):
        open("taken", "w").close()
"""
MANAGE = """
import sys
from django.core.management.base import BaseCommand
if sys.argv[1] == "broken":
    raise ImportError("no module named jobs")
if sys.argv[1:] not in (["work"], ["send", "a  'word'"]):
    sys.exit(f"Unknown command: {sys.argv[1:]}")
BaseCommand().execute()
"""


@pytest.fixture
def release(world: World) -> Release:
    """A release with a Python, a Django and a manage.py."""
    release = world.release(NEW)
    world.stub("doppler", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    world.stub("systemd-analyze", '[ "$2" != nonsense ] || { echo "Failed to parse calendar: nonsense"; exit 1; }')
    Path(world.layout.secrets).write_text("DOPPLER_TOKEN=token\n")
    subprocess.run(["uv", "venv", "--quiet", "--python", sys.executable, str(release.venv)], check=True)
    package = next(Path(release.venv).glob("lib/python*/site-packages")) / "django/core/management"
    package.mkdir(parents=True)
    (package / "base.py").write_text(DJANGO)
    Path(release.project, "manage.py").write_text(MANAGE)
    return release


def prove(world: World, release: Release, **named: Process) -> str:
    """What the proof says of processes of these names."""
    world.settings = world.settings.model_copy(update={"processes": named})
    return world.output(processes.prove(world.settings, release))


def test_what_can_start_is_not_started(world: World, release: Release) -> None:
    """manage.py gets its words as they were meant, and stops short of the command; of other programs nothing runs."""
    said = prove(
        world,
        release,
        worker=Process(command="manage.py work"),
        sender=Process(command="""manage.py send "a  'word'" """, schedule="daily"),
        other=Process(command='python -c \'open("taken", "w")\''),
    )
    assert said == ""
    assert not Path(release.project, "taken").exists()


def test_everything_that_cannot_start_is_told(world: World, release: Release) -> None:
    """All of them at once, each with its name; what Django or the app says stands before."""
    with pytest.raises(StepError) as caught:
        prove(
            world,
            release,
            one=Process(command="manage.py nothing"),
            two=Process(command="celery -A config worker"),
            three=Process(command="manage.py broken"),
            good=Process(command="manage.py work"),
        )
    said = caught.value.evidence
    assert "failed: one: manage.py nothing does not start" in said
    assert "Unknown command: ['nothing']" in said
    assert "failed: two: the virtualenv has no program celery" in said
    assert "ImportError: no module named jobs" in said
    assert "good" not in said


def test_a_schedule_that_systemd_refuses_is_told(world: World, release: Release) -> None:
    """With its name and systemd's reason."""
    with pytest.raises(StepError) as caught:
        prove(world, release, nightly=Process(command="manage.py work", schedule="nonsense"))
    assert "nightly: systemd knows no schedule like nonsense: Failed to parse calendar" in caught.value.message


def commands(world: World) -> list[str]:
    """What root was asked to run."""
    return [call.removeprefix("sudo -n ") for call in world.calls if call.startswith("sudo -n ")]


def test_a_roll_is_one_command_of_root(world: World) -> None:
    """It names no release and no process."""
    world.stub("sudo")
    world.run(processes.roll(world.settings, world.release(NEW)))
    assert commands(world) == ["/usr/bin/systemctl start consult-processes.service"]


def test_a_roll_that_fails_says_what_does_not_stay(world: World) -> None:
    """With the end of its own journal, and of no other's."""
    world.stub("sudo", "exit 1")
    world.stub(
        "journalctl",
        """case $2 in
        *processes*) echo "consult-worker@X:1.service does not stay: it ended" ;;
        consult-worker@X:1.service) echo "no luck" ;;
        esac""",
    )
    with pytest.raises(StepError) as caught:
        world.run(processes.roll(world.settings, world.release(NEW)))
    assert "consult-worker@X:1.service does not stay" in caught.value.message
    assert "no luck" in caught.value.evidence


def test_a_roll_without_the_right_is_told(world: World) -> None:
    """It ends as every step to which sudo refuses a command."""
    world.stub("sudo", "echo 'sudo: a password is required' >&2; exit 1")
    with pytest.raises(StepError) as caught:
        world.run(processes.roll(world.settings, world.release(NEW)))
    assert caught.value.failed.code == NO_RIGHT


@pytest.mark.parametrize("rolled", [True, False])
def test_the_way_back_brings_workers_back_that_have_left(world: World, rolled: bool) -> None:
    """Only where this run has rolled them; after a roll that failed, or none, the old ones have never been touched."""
    old, new = world.release(OLD, "good"), world.release(NEW)
    world.link(old)
    world.stub("sudo", "" if rolled else "[ ! -e failed ] || exit 0; touch failed; exit 1")
    plan = Plan(world.settings, world.layout, new, old, amiss=("something",))
    with world.connect().runner() as runner:
        with contextlib.nullcontext() if rolled else pytest.raises(StepError):
            runner.run([processes.roll(world.settings, new)])
        assert len(commands(world)) == 1
        runner.run([service.revert(plan, "processes", roll=True)])
    roll = rights.root_commands(world.layout)["roll_processes"]
    assert commands(world) == ([roll] if rolled else [])


def test_the_way_back_of_the_first_worker_takes_it_away(world: World) -> None:
    """The unit that starts processes had no text before: it comes back as one that knows of none."""
    live = world.release(NEW, "good")
    world.link(live)
    world.stub("sudo", 'case $2 in /usr/bin/install) install "$3" "$4" "${@: -2}" ;; esac')
    unit = services.roller(world.layout).files[0]
    text = b"ExecStart=/bin/bash roll consult /srv/consult/current worker:worker:2 timer:nightly:1\n"
    plan = Plan(world.settings, world.layout, live, live, {unit: ""})
    rolled = [service.stage([unit]), service.install_units([unit]), processes.roll(world.settings, live)]
    world.run(*rolled, service.revert(plan, "processes", roll=True), files={unit.name: text})
    assert Path(unit).read_text() == "ExecStart=/bin/bash roll consult /srv/consult/current\n"
    assert commands(world)[-1] == "/usr/bin/systemctl start consult-processes.service"


def test_the_survey_reads_the_units_of_processes(world: World) -> None:
    """A line for each, once there is a unit that starts them."""
    world.stub("systemctl", "[ $1 != list-units ] || echo 'consult-worker@X:1.service loaded active running it works'")
    assert "unit consult" not in world.output(survey.read_host())
    Path(services.roller(world.layout).files[0]).touch()
    assert "unit consult-worker@X:1.service active" in world.output(survey.read_host())


def test_a_worker_that_waits_for_another_try_does_not_run(world: World) -> None:
    """One that crashes again and again is `activating` most of the time: the status must not count it as running."""
    line = "consult-worker@X:1.service loaded activating auto-restart it crashes"
    world.stub("systemctl", f"[ $1 != list-units ] || echo '{line}'")
    Path(services.roller(world.layout).files[0]).touch()
    assert "unit consult-worker@X:1.service auto-restart" in world.output(survey.read_host())
