"""`invoke check`: what it finds, how it tells, and that it needs no host; and the recipes of the justfile."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest
from invoke import Context, Exit

import fabfile.commands.check  # noqa: F401 -- the module, which the task of the same name hides
from fabfile.commands.check import Result, check, check_code, check_hosts, find, run_checks, told
from fabfile.config import places
from fabfile.config.settings import example
from testbed.sample import APP, sample

MODULE = sys.modules["fabfile.commands.check"]
PROJECT = Path(__file__).parent.parent.parent
BROKEN = """
[app]
worker = 1
[environments.e.hosts.h]
port = "x"
"""


@pytest.fixture
def no_linters(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of the project is not what these tests are about."""
    monkeypatch.setattr(MODULE, "check_code", lambda command: Result(command, "ok"))


def by_name(results: list[Result]) -> dict[str, Result]:
    return {result.check: result for result in results}


@pytest.mark.usefixtures("no_linters")
def test_the_project_passes() -> None:
    """What the repository holds is good, and what could not be looked at is said."""
    results = by_name(run_checks(environ={}))
    assert {result.state for result in results.values()} <= {"ok", "not installed"}, told(results.values())
    assert "DJANGO_SERVER_IP" in results["hosts.toml"].note
    assert results["nginx -t"].state == ("ok" if find("nginx") else "not installed")
    assert results["systemd-analyze verify"].state == ("ok" if find("systemd-analyze") else "not installed")


def test_check_is_whole() -> None:
    """hosts.toml, what is rendered, and the code."""
    names = [result.check for result in run_checks()]
    assert names == [
        *("hosts.toml", "templates", "systemd-analyze verify", "nginx -t"),
        *("ruff check", "ruff format", "ty check"),
    ]


@pytest.mark.usefixtures("no_linters")
def test_mistakes_of_hosts_toml_do_not_hide_others(tmp_path: Path) -> None:
    """With a hosts.toml that cannot be used the templates are checked with an example."""
    path = tmp_path / "hosts.toml"
    path.write_text(BROKEN)
    results = by_name(run_checks(path, {}))
    assert results["hosts.toml"].state == "failed"
    assert "app.worker" in results["hosts.toml"].output
    assert "environments.e.hosts.h.port" in results["hosts.toml"].output
    assert results["templates"].state == "ok"


def test_wrong_values_of_the_environment_are_told(tmp_path: Path) -> None:
    """A variable that is set is checked like any value."""
    path = tmp_path / "hosts.toml"
    path.write_text(f'[environments.e.hosts.h]\n{APP}port = {{ env = "PORT" }}')
    assert check_hosts(path, {"PORT": "22"})[0].state == "ok"
    result, settings = check_hosts(path, {"PORT": "ssh"})
    assert (result.state, settings) == ("failed", {"an example": example()})
    assert "environments.e.hosts.h.port: must be a whole number" in result.output


@pytest.mark.usefixtures("no_linters")
def test_every_hosts_own_unit_is_verified(tmp_path: Path) -> None:
    """An option that systemd does not know is told with the host that has it."""
    if not find("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "hosts.toml"
    path.write_text(
        f"[app]\n{APP}[environments.e.hosts.fine]\n[environments.e.hosts.alike]\n"
        '[environments.e.hosts.odd]\nunit_options = { MemoryMaks = "1G" }'
    )
    result = by_name(run_checks(path, {}))["systemd-analyze verify"]
    assert result.state == "failed"
    assert result.output.startswith("odd:\n")
    assert "MemoryMaks" in result.output
    assert "fine" not in result.output


@pytest.mark.usefixtures("no_linters")
def test_units_of_workers_and_timers_are_verified(tmp_path: Path) -> None:
    """A schedule or an option that systemd does not know is told before any connection, and a good one is not."""
    if not find("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed")
    path = tmp_path / "hosts.toml"
    path.write_text(
        f"[app]\n{APP}[environments.e.hosts.fine.processes]\n"
        'worker = { command = "celery -A config worker", instances = 2 }\n'
        'nightly = { command = "manage.py send --to \'a % $b\'", schedule = "Mon..Fri 03:30" }\n'
        "[environments.e.hosts.odd.processes]\n"
        'noon = { command = "manage.py send", schedule = "each noon" }\n'
        'beat = { command = "celery beat", singleton = true, unit_options = { MemoryMaks = "1G" } }'
    )
    result = by_name(run_checks(path, {}))["systemd-analyze verify"]
    assert result.state == "failed"
    assert result.output.startswith("odd:\n")
    assert "each noon" in result.output
    assert "MemoryMaks" in result.output
    assert "fine" not in result.output


@pytest.mark.usefixtures("no_linters")
@pytest.mark.parametrize("broken", ["{{ settings.nosuch }}", "{% if %}", None])
def test_broken_template_is_told(broken: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A template that does not render, or is not there, is a failed check and no traceback."""
    from fabfile.plan import rendering

    for source in places.ours():
        (tmp_path / source.name).write_text(source.read_text())
    template = tmp_path / "consult-django.socket.j2"
    template.write_text(broken) if broken else template.unlink()
    monkeypatch.setattr(rendering, "TEMPLATES", tmp_path)
    monkeypatch.setattr(rendering, "own_templates", lambda: tmp_path)
    result = by_name(run_checks(environ={}))["templates"]
    assert result.state == "failed"
    assert result.output.startswith("api: ")


def test_missing_programs_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is called good that was not looked at."""
    monkeypatch.setattr(MODULE, "find", lambda _program: None)
    states = {result.check: result.state for result in run_checks(environ={})}
    assert [name for name, state in states.items() if state == "not installed"] == [
        *("systemd-analyze verify", "nginx -t", "ruff check", "ruff format", "ty check")
    ]


def test_failing_program_fails_the_check(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A linter's finding is a failed check that shows it."""
    (tmp_path / "bad.py").write_text("import os\n")
    monkeypatch.setattr(MODULE, "PROJECT", tmp_path)
    result = check_code("ruff check --output-format concise")
    assert result.state == "failed"
    assert "bad.py:1:8: F401" in result.output
    (tmp_path / "bad.py").write_text("")
    assert check_code("ruff check").state == "ok"


def test_person_sees_output_of_failed_checks_only() -> None:
    """One line for each check, and what was said below those that failed."""
    text = told([Result("a", "ok", seconds=0.1), Result("b", "failed", output="x\ny"), Result("c", "not installed")])
    assert [line.split()[0] for line in text.splitlines()] == ["ok", "failed", "x", "y", "not"]


@pytest.mark.parametrize("state", ["ok", "failed"])
def test_json_is_one_document(state: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """An agent reads the same as a person, and the exit code says whether all is well."""
    monkeypatch.setattr(MODULE, "run_checks", lambda: [Result("nginx -t", state, output="why")])
    if state == "failed":
        with pytest.raises(Exit) as caught:
            check(Context(), json=True)
        assert caught.value.code == 2
    else:
        check(Context(), json=True)
    document = json.loads(capsys.readouterr().out)
    assert document["status"] == ("failed" if state == "failed" else "success")
    assert document["checks"][0]["check"] == "nginx -t"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_check_needs_no_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """nginx and systemd-analyze are asked in a way that anybody may."""
    monkeypatch.setattr(MODULE, "PROJECT", Path("/"))
    monkeypatch.setattr(tempfile, "tempdir", "/tmp")  # pytest's own folder is root's
    _, rendered = MODULE.check_templates({"h": sample()})
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.setgid(65534)
            os.setuid(65534)
            results = [
                MODULE.check_each("systemd-analyze verify", MODULE.verify_units, rendered),
                MODULE.check_each("nginx -t", MODULE.verify_site, rendered),
            ]
            code = any(result.state == "failed" for result in results)
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_warnings_of_an_old_systemd_are_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before 250 systemd-analyze only warned, and of every unit of the machine: ours alone count."""
    said = "/x/ssh.service:1: Unknown key name 'A'\n/x/consult-django.service:1: Unknown key name 'B'"

    def old(command: list[str]) -> tuple[int, str]:
        return (1, "unrecognized option '--rec'") if command[-1].startswith("--rec") else (0, said)

    monkeypatch.setattr(MODULE, "run", old)
    _, rendered = MODULE.check_templates({"h": sample()})
    assert MODULE.verify_units(rendered["h"], tmp_path) == said.splitlines()[1]


class Recipes:
    """The justfile with a `uv` that only tells what it was called with."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        uv = folder / "uv"
        uv.write_text(f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n")
        uv.chmod(0o755)

    def call(self, *arguments: str) -> list[str]:
        done = subprocess.run(
            [find("just") or "just", "--justfile", PROJECT / "justfile", *arguments],
            env={**os.environ, "PATH": f"{self.folder}:{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout.splitlines()[-1])  # `test` lints first


@pytest.fixture
def just(tmp_path: Path) -> Recipes:
    return Recipes(tmp_path)


@pytest.mark.parametrize(
    ("typed", "run"),
    [
        ("ansible-deploy api", "fab --hosts=api deploy"),
        ("ansible-deploy api main", "fab --hosts=api deploy --branch=main"),
        ("ansible-deploy api main prd", "fab --hosts=api deploy --branch=main --doppler-config=prd"),
        ("ansible-deploy-force api", "fab --hosts=api deploy --force"),
        ("ansible-deploy-force api main", "fab --hosts=api deploy --force --branch=main"),
        ("ansible-setup api", "fab --hosts=api provision"),
        ("ansible-setup api prd", "fab --hosts=api provision --doppler-config=prd"),
        ("ansible-check", "invoke check"),
        ("server-logs api", "fab --hosts=api logs"),
        ("server-logs api prd 20", "fab --hosts=api logs --doppler-config=prd --lines=20"),
        ("server-status api prd", "fab --hosts=api status --doppler-config=prd"),
        ("test -k name", "pytest -k name"),
    ],
)
def test_recipes_call_the_tool(typed: str, run: str, just: Recipes) -> None:
    """What the team types today, with optional arguments left out where they are not given."""
    assert just.call(*typed.split()) == ["run", *run.split()]


@pytest.mark.parametrize(
    "text", ["a b", "$(touch x)", "`id`", "'; id; '", '"; id; "', "{{ env('HOME') }}", "--help", "*"]
)
def test_recipe_arguments_are_never_code(text: str, just: Recipes) -> None:
    """An argument of a recipe reaches the tool as it was typed, whatever it is."""
    assert just.call("ansible-deploy", "api", text, text) == [
        *("run", "fab", "--hosts=api", "deploy"),
        *(f"--branch={text}", f"--doppler-config={text}"),
    ]
    assert just.call("server-status", text) == ["run", "fab", f"--hosts={text}", "status"]
