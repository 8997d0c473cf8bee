"""Services as values: their files, their units, their rights, and what does not run as hosts.toml says."""

import shlex
import shutil
import subprocess
from pathlib import PurePosixPath

import pytest

from fabfile.config.layout import Layout
from fabfile.config.processes import Process
from fabfile.config.settings import Settings
from fabfile.plan import rendering, rights, services
from fabfile.plan.activation import Activation
from fabfile.plan.plan import Plan
from fabfile.plan.state import HostState
from testbed.sample import sample

WORKER = Process(command="celery -A config worker", instances=2, stop_timeout=600)
BEAT = Process(command="celery -A config beat", singleton=True, stop_timeout=20)
NIGHTLY = Process(command="manage.py clearsessions", schedule="daily")
PLAIN = sample()
FULL = sample(processes={"worker": WORKER, "beat": BEAT, "nightly": NIGHTLY})
UNITS = PurePosixPath("/etc/systemd/system")
LIVE, OLD = "20260102T030405Z-abcdef0", "20260101T030405Z-1234567"


def text(settings: Settings, name: str) -> str:
    """The text of the unit file of that name."""
    return rendering.files(settings)[UNITS / name]


def state(**units: str) -> HostState:
    """A host with these units; the first words of their names are left out."""
    return HostState(live=LIVE, units={f"consult-{name}": value for name, value in units.items()})


def sound(**changes: str | None) -> HostState:
    """A host on which everything runs, but for some units that are in another state, or not there."""
    units = {
        f"worker@{LIVE}:1.service": "active",
        f"worker@{LIVE}:3.service": "active",
        f"beat@{LIVE}:1.service": "active",
        "nightly.timer": "active",
        "nightly.service": "inactive",
    }
    return state(**{name: value for name, value in (units | changes).items() if value})


def test_a_plain_site_has_the_website_alone() -> None:
    """Without processes there is no file, no unit and no right beyond those of the website."""
    assert [service.name for service in services.services(Layout.of(PLAIN))] == ["web"]
    assert not [line for line in rights.sudo_lines(Layout.of(PLAIN), "deploy") if "processes" in line]


def test_every_service_names_its_files_and_units() -> None:
    """Worker, singleton and timer have files of their own, and what starts them comes last."""
    found = {service.name: service for service in services.services(Layout.of(FULL))}
    assert list(found) == ["web", "worker", "beat", "nightly", "processes"]
    assert [service.kind for service in found.values()] == ["web", "worker", "singleton", "timer", "roller"]
    assert found["worker"].files == (UNITS / "consult-worker@.service",)
    assert found["worker"].units == ("consult-worker@*.service",)
    assert found["nightly"].files == (UNITS / "consult-nightly.service", UNITS / "consult-nightly.timer")
    assert set(rendering.files(FULL)) == {file for service in found.values() for file in service.files}


def test_no_two_files_are_staged_under_one_name() -> None:
    """A file waits in the staging folder by its last name."""
    names = [path.name for path in rendering.files(FULL)]
    assert len(set(names)) == len(names)


def test_a_worker_runs_in_the_folder_of_its_release() -> None:
    """The instance names the release; nothing of the unit goes by the link to the live one."""
    unit = text(FULL, "consult-worker@.service")
    assert "release=/srv/consult/releases/$${0%%:*}" in unit
    assert '"$$release/.venv/bin/celery" "$$@"\'' in unit
    assert '%i "-A" "config" "worker"\n' in unit
    assert "/app" not in unit.replace("/apps/", "")
    assert "TimeoutStopSec=600\n" in unit
    assert "KillMode=mixed\n" in unit


def test_a_job_finds_the_live_release_when_it_starts() -> None:
    """And takes its real folder, for a deploy may come."""
    unit = text(FULL, "consult-nightly.service")
    assert "release=$$(readlink -e /srv/consult/current)" in unit
    assert "Type=oneshot\n" in unit
    assert "Restart=" not in unit
    assert "OnCalendar=daily\nPersistent" not in text(FULL, "consult-nightly.timer")
    assert "OnCalendar=daily\n" in text(FULL, "consult-nightly.timer")


def test_processes_are_hardened_like_the_website() -> None:
    """Each line of the sandbox stands in each unit; the one that old gunicorns need, in gunicorn's alone."""
    web = text(FULL, "consult-django.service").split("\n\n")[3].splitlines()
    assert "NoNewPrivileges=yes" in web
    sandbox = [line for line in web if "gunicorn" not in line and line != "SystemCallFilter=setuid"]
    for name in ("consult-worker@.service", "consult-beat@.service", "consult-nightly.service"):
        assert "\n".join(sandbox) in text(FULL, name)


def test_words_of_a_command_arrive_as_they_are() -> None:
    """What means something to systemd or a shell is passed on."""
    word = r"""a %i $HOME ${X} "b" 'c' \n ; *"""
    settings = sample(processes={"worker": Process(command=shlex.join(["celery", word]))})
    line = text(settings, "consult-worker@.service").partition("%i ")[2].partition("\n")[0]
    assert line == r'''"a %%i $$HOME $${X} \"b\" 'c' \\n ; *"'''


def test_options_of_a_process_stand_in_its_own_unit() -> None:
    """They come after the tool's own, and so over them."""
    settings = sample(processes={"worker": Process(command="celery worker", unit_options={"MemoryMax": "1G"})})
    assert text(settings, "consult-worker@.service").endswith("# unit_options of hosts.toml\nMemoryMax=1G\n")
    assert "MemoryMax" not in text(settings, "consult-django.service")


def test_the_roller_knows_every_process() -> None:
    """It is told how long they must stay, and kind, name and number of each; it waits as long as a singleton takes."""
    unit = text(FULL, "consult-processes.service")
    assert "/current 5 worker:worker:2 singleton:beat:1 timer:nightly:1\n" in unit
    assert "TimeoutStartSec=85\n" in unit
    assert "WantedBy=multi-user.target" in unit


def test_the_roller_knows_the_unit_files_by_their_first_line() -> None:
    """What `roll_processes.sh` looks for stands at the top of each file that it may remove, and in no other."""
    script = rendering.ROLL.read_text()
    marked = rendering.mark(FULL)
    assert f'mark="{marked.replace("consult", "$app")}"' in script
    for path, content in rendering.files(FULL).items():
        is_process = "-worker" in path.name or "-beat" in path.name or "-nightly" in path.name
        assert content.startswith(f"{marked}\n") == is_process


def test_rights_of_processes_are_exact() -> None:
    """One command starts the roller; no pattern, no release, and no other unit."""
    more = set(rights.sudo_lines(Layout.of(FULL), "deploy")) - set(rights.sudo_lines(Layout.of(PLAIN), "deploy"))
    assert more == {"deploy ALL=(root) NOPASSWD: /usr/bin/systemctl start consult-processes.service"}


def test_a_process_that_has_left_can_still_be_taken_away() -> None:
    """The calls of the roller are known to a run whose hosts.toml has no process any more."""
    assert "roll_processes" in rights.root_commands(Layout.of(PLAIN))


def test_nothing_is_amiss_where_everything_runs() -> None:
    """Two instances of the worker, one singleton, the timer; how they are numbered means nothing."""
    assert services.amiss(FULL, sound()) == []
    assert services.amiss(PLAIN, HostState(live=LIVE)) == []


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({f"worker@{LIVE}:3.service": None}, ["1 of 2 worker run of the live release"]),
        ({f"worker@{LIVE}:3.service": "failed"}, ["1 of 2 worker run of the live release"]),
        ({f"worker@{OLD}:1.service": "active"}, [f"worker of {OLD} still runs"]),
        ({f"worker@{OLD}:1.service": "deactivating"}, []),
        ({f"beat@{LIVE}:1.service": "inactive"}, ["0 of 1 beat run of the live release"]),
        ({"nightly.timer": "inactive"}, ["the timer of nightly does not run"]),
        ({"nightly.service": "failed"}, []),
        ({f"gone@{LIVE}:1.service": "active"}, ["gone still runs"]),
        ({f"b-gone@{LIVE}:1.service": "active"}, []),
    ],
)
def test_what_is_amiss_is_told(changes: dict[str, str | None], words: list[str]) -> None:
    """Too few instances, old ones, a timer that does not run; not what ends its work, or is another app's."""
    assert services.amiss(FULL, sound(**changes)) == words


def plan(*files: str, live: str = LIVE, amiss: tuple[str, ...] = (), forced: Activation | None = None) -> Plan:
    """A plan for the release that is live, or for another one, with changed files."""
    layout = Layout.of(FULL)
    every = {path.name: path for path in rendering.files(FULL)}
    changed = {every[name]: "" for name in files}
    return Plan(FULL, layout, layout.release(LIVE), layout.release(live), changed, amiss=amiss, forced=forced)


def test_gunicorn_is_left_alone_when_only_processes_change() -> None:
    """Workers and timers have a way of their own, with the reason; so has the nginx site."""
    worker = plan("consult-worker@.service", amiss=("a timer does not run",))
    assert str(worker.beside) == "processes: consult-worker@.service changed; a timer does not run"
    assert plan("consult-django").beside == Activation("nginx", "only the nginx site consult-django changed")
    assert plan("consult-django", "consult-nightly.timer").beside is not None
    assert plan("consult-django", "consult-django.service").beside is None
    assert plan("consult-worker@.service", live=OLD).beside is None
    assert plan("consult-worker@.service", forced=Activation("restart", "asked for")).beside is None
    assert plan().beside is None


@pytest.mark.skipif(not shutil.which("sh"), reason="no shell")
def test_the_command_line_of_a_worker_is_what_was_meant() -> None:
    """The shell of the unit goes into the release's folder and passes every word on."""
    settings = sample(processes={"worker": Process(command="""celery -A config "two words" '%h' "it's" """)})
    unit = text(settings, "consult-worker@.service").replace("\\\n", " ")
    line = next(each for each in unit.splitlines() if each.startswith("ExecStart=")).removeprefix("ExecStart=")
    plain = line.replace("%i", f"{LIVE}:2").replace("%%", "%").replace("$$", "$")
    words = shlex.split(plain)
    script = words[2].replace('cd "$release/apps/web"', "true").replace("exec /usr/bin/doppler run", "printf '%s\\n'")
    said = subprocess.run([*words[:2], script, *words[3:]], capture_output=True, text=True, check=True).stdout
    release = f"/srv/consult/releases/{LIVE}"
    assert said.splitlines() == ["--", f"{release}/.venv/bin/celery", "-A", "config", "two words", "%h", "it's"]
