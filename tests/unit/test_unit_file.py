"""What a unit file says, and how its command starts a web server."""

import shutil
import subprocess

import pytest

from fabfile.plan.adoption import unit_file
from fabfile.plan.adoption.old_command import lacking, start

TEXT = """\
# A comment
[Unit]
After = network.target
[Service]
; another
Environment=A=1 "B=two words"
Environment='C=it''s'
ExecStart=/usr/bin/doppler run \\
    # in between
    --config=prd -- /app/.venv/bin/gunicorn \\
    shop.wsgi
ReadWritePaths=/a
[Install]
WantedBy=multi-user.target
"""


def test_options_are_those_of_one_section() -> None:
    """Comments, continued lines and white space around the sign are read as systemd does."""
    options = unit_file.options([TEXT])
    assert [name for name, _ in options] == ["Environment", "Environment", "ExecStart", "ReadWritePaths"]
    command = "/usr/bin/doppler run --config=prd -- /app/.venv/bin/gunicorn shop.wsgi"
    assert unit_file.last(options, "ExecStart") == command
    assert unit_file.options([TEXT], "Unit") == [("After", "network.target")]
    assert unit_file.variables(options)["B"] == "two words"


def test_drop_ins_come_after_the_unit() -> None:
    """A drop-in adds to what the unit says, and an empty value takes that away."""
    options = unit_file.options([TEXT, "[Service]\nReadWritePaths=/b\nExecStart=\nExecStart=/bin/true\n"])
    assert unit_file.every(options, "ReadWritePaths") == ["/a", "/b"]
    assert unit_file.every(options, "ExecStart") == ["/bin/true"]
    assert unit_file.last(options, "Nice", "0") == "0"


@pytest.mark.parametrize("value", ["plain", "two words", 'a"b', "it's", "back\\slash", "50%", ""])
def test_a_variable_is_read_back_as_it_was(value: str) -> None:
    """One that is written for Environment= means the same to whoever reads it."""
    written = unit_file.assignment("NAME", value)
    assert unit_file.variables([("Environment", written)]) == {"NAME": value}


def test_words_lose_the_signs_before_a_program() -> None:
    """What systemd reads before a program is no part of its name, and doubled signs are single ones."""
    assert unit_file.words("-@/bin/sh -c 'kill $$PID; date +%%s' x") == ["/bin/sh", "-c", "kill $PID; date +%s", "x"]
    assert unit_file.words("") == []
    assert unit_file.words("/bin/echo it's") == ["/bin/echo", "it's"]


# A command, and the server that it starts, the words before it, the app, the settings.
COMMANDS: dict[str, tuple[str, str, str, dict[str, object]]] = {
    "plain": ("/app/.venv/bin/gunicorn -w 3 shop.wsgi", "gunicorn", "shop.wsgi", {"workers": 3}),
    "joined": ("gunicorn -w3 -b=:80 shop.wsgi:app", "gunicorn", "shop.wsgi:app", {"workers": 3, "bind": [":80"]}),
    "several addresses": ("gunicorn -b :1 --bind=:2 x", "gunicorn", "x", {"bind": [":1", ":2"]}),
    "flags": ("gunicorn --preload -D --no-sendfile x:y", "gunicorn", "x:y",
              {"preload_app": True, "daemon": True, "sendfile": False}),
    "other names": ("gunicorn --access-logfile - --log-level debug -n shop x", "gunicorn", "x",
                    {"accesslog": "-", "loglevel": "debug", "proc_name": "shop"}),
    "a module": ("/usr/bin/python3 -m gunicorn --threads 4 x", "gunicorn", "x", {"threads": 4}),
    "a shell": ("/bin/bash -lc 'source .env && exec gunicorn -t 90 x >>log'", "gunicorn", "x", {"timeout": 90}),
    "uvicorn": ("uvicorn x:y --host 10.0.0.1 --port 9", "uvicorn", "x:y", {"host": "10.0.0.1", "port": 9}),
    "another program": ("/usr/bin/celery -A x worker", "", "", {}),
    "nothing": ("", "", "", {}),
}  # fmt: skip


@pytest.mark.parametrize(("command", "server", "app", "settings"), COMMANDS.values(), ids=COMMANDS)
def test_a_command_line_is_read_as_gunicorn_does(
    command: str, server: str, app: str, settings: dict[str, object]
) -> None:  # fmt: skip
    """The server, its app and its settings are found however it is started."""
    found = start(command)
    assert (found.server, found.app, found.settings) == (server, app, settings)


def test_the_command_line_wins_over_the_environment() -> None:
    """Of GUNICORN_CMD_ARGS counts what the command line does not say."""
    assert start("gunicorn -w 3 x", "--workers 9 --timeout 5").settings == {"workers": 3, "timeout": 5}


def test_dopplers_options_are_known_by_their_long_names() -> None:
    """What stands between `doppler run` and its command is Doppler's."""
    assert start("doppler run -p shop --config=prd -- gunicorn -c conf.py x").doppler == {
        "--project": "shop",
        "--config": "prd",
    }
    assert start("gunicorn -c conf.py x").doppler is None


def test_a_setting_that_the_file_has_is_not_lacking() -> None:
    """A setting lacks when the file has it with no value, or another; what Python works out counts as there."""
    given = {"timeout": 90, "worker_class": "gthread", "threads": 4, "accesslog": "-"}
    conf = "import os\ntimeout = 90\nworker_class = 'sync'\nthreads = int(os.environ['T'])\n"
    assert lacking(given, conf) == {"worker_class": "gthread", "accesslog": "-"}
    assert lacking(given, "this is no Python") == given


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze is not installed")
def test_systemd_takes_what_is_written(tmp_path: object) -> None:
    """A unit with such an assignment is one that systemd takes without a word."""
    unit = f"{tmp_path}/odd.service"
    with open(unit, "w") as file:  # noqa: PTH123
        file.write(f"[Service]\nExecStart=/bin/true\nEnvironment={unit_file.assignment('A', 'a b%')}\n")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    assert "Environment" not in done.stderr
