"""Processes beside the website: what hosts.toml may say of one, and what it may not."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from fabfile.config import hosts_file
from fabfile.config.processes import Process
from fabfile.errors import ConfigError
from testbed.sample import sample


def test_a_command_is_split_like_a_command_line() -> None:
    """Quotes hold words together, and nothing of a shell has a meaning."""
    process = Process(command="""manage.py send --subject "Good day" --from 'a;b $HOME *'""")
    assert process.argv("src/manage.py")[:2] == ("python", "src/manage.py")
    assert process.argv("manage.py")[1:] == ("manage.py", "send", "--subject", "Good day", "--from", "a;b $HOME *")


def test_a_process_needs_a_command_alone() -> None:
    """A worker has one instance that takes its time to end, and no schedule."""
    process = Process(command="celery -A config worker")
    assert (process.instances, process.singleton, process.schedule, process.stop_timeout) == (1, False, None, 300)


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("manage.py send 'half", "words as a shell splits them .no closing quotation"),
        ("celery worker\nrm x", "must be one line"),
        ("./manage.py send", "must begin with manage.py or a program of the virtualenv"),
        ("/usr/bin/celery worker", "named without its folder"),
        ("DEBUG=1 celery worker", "no shell runs it"),
        ("$(reboot)", "no shell runs it"),
        ("-c worker", "must begin with"),
    ],
)
def test_a_command_that_cannot_be_run_is_refused(command: str, words: str) -> None:
    """The reason says what is wrong with it."""
    with pytest.raises(ValidationError, match=words):
        Process(command=command)


@pytest.mark.parametrize("schedule", ["daily", "*-*-* 03:30", "Mon..Fri *:0/15", "*-*~1 00:00:00 Europe/Berlin"])
def test_a_schedule_is_what_systemd_writes(schedule: str) -> None:
    """Every form of OnCalendar passes; whether it makes sense is asked of systemd."""
    assert Process(command="manage.py clearsessions", schedule=schedule).schedule == schedule


@pytest.mark.parametrize("schedule", ["", " ", "daily\nExecStart=/bin/sh", "%n", "daily; weekly", "daily\\"])
def test_a_schedule_cannot_leave_its_line(schedule: str) -> None:
    """What could become another line of the unit, or a specifier, is refused."""
    with pytest.raises(ValidationError, match="must be a time as systemd writes it"):
        Process(command="manage.py clearsessions", schedule=schedule)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"schedule": "daily", "instances": 2}, "a timer never runs its job twice at once"),
        ({"schedule": "daily", "singleton": True}, "a timer never runs its job twice at once"),
        ({"singleton": True, "instances": 2}, "a singleton has one instance"),
        ({"instances": 0}, "greater than or equal to 1"),
        ({"stop_timeout": 0}, "greater than or equal to 1"),
        ({"instance": 2}, "Extra inputs"),
        ({"unit_options": {"memory_max": "1G"}}, "is not written like a systemd option"),
        ({"unit_options": {"MemoryMax": "1G\\"}}, "must not end with a backslash"),
    ],
)
def test_what_does_not_fit_together_is_refused(settings: dict, words: str) -> None:
    """A process that would do something else than its lines say is no process."""
    with pytest.raises(ValidationError, match=words):
        Process(command="celery beat", **settings)


@pytest.mark.parametrize("name", ["web", "django", "processes", "Worker", "1st", "email-queue", "a b", "", "x" * 32])
def test_a_name_that_could_be_another_unit_is_refused(name: str) -> None:
    """The website's own units, and a name that one of another app could have, are nobody else's."""
    with pytest.raises(ValidationError, match=r"names of processes are|no process may be named"):
        sample(processes={name: Process(command="celery worker")})


def test_two_processes_of_one_name_are_told(tmp_path: Path) -> None:
    """TOML itself refuses a table that stands there twice, with its line."""
    table = '[app.processes.worker]\ncommand = "celery worker"\n'
    path = tmp_path / "hosts.toml"
    path.write_text(table + table)
    with pytest.raises(ConfigError, match=r"is no TOML: Cannot declare .* twice"):
        hosts_file.load(path, {})


def test_no_release_is_built_from_processes() -> None:
    """A worker that comes, changes or goes needs no new release."""
    worker = sample(processes={"worker": Process(command="celery worker")})
    assert worker.built_from() == sample().built_from()
