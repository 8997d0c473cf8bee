"""Steps of workers and timers, on real bash: proven with a release, rolled, and put back.

doppler, sudo, systemctl and systemd-analyze are stand-ins, and so is Django, of a few lines; tests/lab has real ones.
"""

import contextlib
import subprocess
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
    release = world.release_of_django(NEW, MANAGE)
    world.stub("doppler", 'while [ "$1" != -- ]; do shift; done; shift; exec "$@"')
    world.stub("systemd-analyze", '[ "$2" != nonsense ] || { echo "Failed to parse calendar: nonsense"; exit 1; }')
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


# The end of what a Celery beat says, under Python 3.11 and later.
BEAT = """\
  File "/srv/beat.py", line 558, in setup_schedule
    self._store = self._open_schedule()
                  ^^^^^^^^^^^^^^^^^^^^^
    return self.persistence.open(self.schedule_filename, writeback=True)
           ~~~~~~~~~~~~~~~~~~~~~^^^^^^^^^^^^^^^^^^^^^^^^^
{cause}
doppler: exit status 1
"""
STAYS = "consult-beat@X:1.service does not stay: it ended within 5 s"


def failed_roll(world: World, said: str, cause: str) -> StepError:
    """What is told of a roll that failed as the roller says, by a process whose journal has that cause."""
    release = world.release(NEW)
    for folder in ("apps/web/var", "apps/web/jobs"):
        Path(release.root, folder).mkdir(parents=True)
    Path(release.root, "apps/web/jobs/tasks.py").touch()
    (world.root / "beat").write_text(BEAT.format(cause=cause))
    (world.root / "roller").write_text(f"{said}\n")
    world.stub("sudo", "exit 1")
    world.stub("journalctl", f"case $2 in *processes*) cat {world.root}/roller ;; *) cat {world.root}/beat ;; esac")
    with pytest.raises(StepError) as caught:
        world.run(processes.roll(world.settings, release))
    return caught.value


READ_ONLY = "OSError: [Errno 30] Read-only file system: "


@pytest.mark.parametrize(
    ("cause", "path", "wanted"),
    [
        ("_gdbm.error: [Errno 30] Read-only file system: 'var/beat'", "var/beat", '["media", "apps/web/var"]'),
        (f"{READ_ONLY}'{{release}}/apps/web/var/beat'", "{release}/apps/web/var/beat", '["media", "apps/web/var"]'),
        (f"    os.mkdir(name)\n{READ_ONLY}'var/new'", "var/new", '["media", "apps/web/var/new"]'),
        (f"{READ_ONLY}'schedule'", "schedule", ""),
        (f"{READ_ONLY}'jobs/schedule'", "jobs/schedule", ""),
        (f"{READ_ONLY}'/etc/beat'", "/etc/beat", ""),
    ],
)
def test_a_process_that_cannot_write_is_told_where(world: World, cause: str, path: str, wanted: str) -> None:
    """With the line of hosts.toml that opens the place; for a folder with code, or outside of the release, the rule."""
    world.settings = world.settings.model_copy(update={"linked_dirs": ("media",)})
    root = world.layout.release(NEW).root
    error = failed_roll(world, f"{STAYS} (the old workers go on)", cause.format(release=root))
    why = f"{STAYS}: Read-only file system: '{path.format(release=root)}' (the old workers go on)"
    assert error.message.endswith(why)
    if wanted:
        assert error.hint == f"in hosts.toml: linked_dirs = {wanted}; then the same command again"
    else:
        assert error.hint.startswith(f"let the app write only below {world.layout.shared}, to a folder of linked_dirs")


def test_marks_below_a_traceback_are_no_evidence(world: World) -> None:
    """Of the journal stays what says something."""
    error = failed_roll(world, STAYS, "ValueError: no")
    assert "self._open_schedule()" in error.evidence
    assert "^^^" not in error.evidence


@pytest.mark.parametrize("said", [STAYS, f"{STAYS} (the old workers go on)"])
def test_that_old_workers_go_on_is_said_where_there_are_some(world: World, said: str) -> None:
    """The roller knows."""
    assert failed_roll(world, said, "ValueError: no").message.endswith(f": {said}")


ROLLER = Path(__file__).parents[2] / "fabfile/host/roll_processes.sh"


@pytest.mark.parametrize("kind", ["worker", "singleton"])
@pytest.mark.parametrize("old", [True, False])
def test_the_roller_says_whether_old_workers_go_on(world: World, kind: str, old: bool) -> None:
    """On a first deploy there are none; systemctl is a stand-in, by which each new one fails."""
    world.link(world.release(NEW))
    (world.root / "units").mkdir()
    text = ROLLER.read_text().replace("units=/etc/systemd/system", f"units={world.root}/units")
    mark = next(line for line in text.splitlines() if line.startswith("mark=")).split('"')[1].replace("$app", "consult")
    (world.root / "units/consult-beat@.service").write_text(f"{mark}\n")
    running = f"echo consult-beat@{OLD}:1.service loaded active" if old else "true"
    world.stub(
        "systemctl", f"case $* in list-units*) {running} ;; *--value*) echo inactive ;; show*) echo NRestarts=1 ;; esac"
    )
    command = ["bash", "-c", text, "roll", "consult", str(world.layout.current), "5", f"{kind}:beat:1"]
    done = subprocess.run(command, env=world.environment, capture_output=True, text=True, check=False)
    stays = f"consult-beat@{NEW}:1.service does not stay: it ended within 5 s"
    assert (done.returncode, done.stdout) == (1, f"{stays}{' (the old workers go on)' if old else ''}\n"), done.stderr


@pytest.mark.parametrize(
    "target",
    [
        f"releases/{NEW}\nssh.service",
        f"releases/x@y.service {NEW}",
        f"releases/{NEW}:1.service",
        f"elsewhere/{NEW}",
        "releases",
        "/",
    ],
)
def test_the_roller_takes_no_other_name_than_a_releases(world: World, target: str) -> None:
    """The link is the user's, and the roller is root: of what is no release it makes no unit."""
    Path(world.base, target).mkdir(parents=True, exist_ok=True)
    Path(world.layout.current).symlink_to(target)
    world.stub("systemctl", "case $* in *--value*) echo inactive ;; esac")
    command = ["bash", ROLLER, "consult", str(world.layout.current), "5", "worker:beat:1", "timer:nightly:1"]
    done = subprocess.run(command, env=world.environment, capture_output=True, text=True, check=False)
    assert (done.returncode, world.calls) == (1, []), done.stderr
    assert done.stdout.startswith(f"{world.layout.current} leads to ")
    assert done.stdout.endswith(", which is no release of consult: nothing is started or stopped\n")
    assert len(done.stdout.splitlines()) == 1


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
    world.stub("sudo", "case $2 in *-files.sh) sed '/^PATH=/d' $2 | bash -s -- \"${@:3}\" ;; esac")
    world.stub("systemctl")
    unit = services.roller(world.layout).files[0]
    text = "ExecStart=/bin/bash roll consult /srv/consult/current worker:worker:2 timer:nightly:1\n"
    plan = Plan(world.settings, world.layout, live, live, {unit: text})
    world.stage(plan.files)
    world.run(service.install(plan), processes.roll(world.settings, live), service.revert(plan, "processes", roll=True))
    assert Path(unit).read_text() == "ExecStart=/bin/bash roll consult /srv/consult/current\n"
    assert "systemctl --quiet enable consult-processes.service" in (world.root / "calls").read_text()
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
