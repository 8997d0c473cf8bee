"""What every verb shares, through the real command line: -H to hosts, errors to exit codes, one report."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fabric import Config
from fabric.main import Fab
from invoke import Collection
from pytest_mock import MockerFixture

import fabfile
from fabfile.config.inventory import Host
from fabfile.config.places import PROJECT
from fabfile.errors import (
    AfterSwitchFailed,
    ConfigError,
    ConnectError,
    DeployError,
    Locked,
    ProvisionError,
    StepFailed,
    Unhealthy,
)
from fabfile.executor import Executor
from fabfile.session.run import Run
from fabfile.ssh.runner import StepError
from fabfile.steps.step import Step, StepResult
from fabfile.task import LabState, task
from testbed.sample import sample

HOSTS = """
[app]
repo = "git@example.org:team/app.git"
name = "shop"
wsgi = "shop.wsgi:application"
domain = "shop.example"

[environments.production.hosts.web1]
address = "192.0.2.1"

[environments.production.hosts.web2]
address = "192.0.2.2"
keep = 9

[environments.staging.hosts.stage]
"""
ran: list[tuple[str, dict[str, Any]]] = []
trouble: dict[str, BaseException] = {}


def dig(run: Run, depth: int = 1, wide: bool = False, wait: int = 0) -> None:
    """Dig a hole."""
    given: dict[str, Any] = {"depth": depth, "wide": wide, "wait": wait, "config": run.settings.doppler_config}
    ran.append((run.name, given))
    run.console.say(f"digging at {run.name}")
    if error := trouble.get(run.name):
        raise error
    run.outcome.site_state = "dug"


@pytest.fixture(autouse=True)
def inventory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hosts.toml of two environments, and nothing remembered."""
    (tmp_path / "hosts.toml").write_text(HOSTS)
    monkeypatch.setenv("DJANGO_DEPLOY_HOSTS", str(tmp_path / "hosts.toml"))
    ran.clear()
    trouble.clear()


def fab(*words: str) -> int:
    """Run the command line; return its exit code."""
    namespace = Collection(task({"depth": "how deep"})(dig))
    program = Fab(version="1", executor_class=Executor, config_class=Config, namespace=namespace)
    try:
        program.run(["fab", *words])
    except SystemExit as end:
        return int(end.code or 0)
    return 0


def test_a_verb_runs_on_its_host_with_its_options() -> None:
    """Own options, --doppler-config and defaults reach the verb."""
    assert fab("-H", "web1", "dig", "--depth", "3", "--wide", "--doppler-config", "prd_eu") == 0
    assert ran == [("web1", {"depth": 3, "wide": True, "wait": 0, "config": "prd_eu"})]


@pytest.mark.parametrize(
    ("names", "hosts"), [("production", ["web1", "web2"]), ("web2", ["web2"]), ("stage", ["stage"])]
)
def test_an_environment_is_its_hosts(names: str, hosts: list[str]) -> None:
    """-H takes a host or an environment; each host has its own settings."""
    assert fab("-H", names, "dig") == 0
    assert [name for name, _ in ran] == hosts


def test_without_a_host_nothing_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A verb without -H would run on the operator's machine: it refuses, and says what -H takes."""
    assert fab("dig") == 2
    assert ran == []
    said = capsys.readouterr().out
    assert "production, staging" in said
    assert "web1" in said
    assert "next: fab -H " in said


@pytest.mark.parametrize("name", ["web3", "prodution", "$(reboot)", "localhost"])
def test_an_unknown_host_is_refused(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Only names of hosts.toml are taken, and the nearest one is told."""
    assert fab("-H", name, "dig") == 2
    assert ran == []
    assert "no host or environment of hosts.toml" in capsys.readouterr().out


def test_a_wrong_option_is_refused_before_any_host(capsys: pytest.CaptureFixture[str]) -> None:
    """What --doppler-config cannot be is told with its name."""
    assert fab("-H", "production", "dig", "--doppler-config", "$(x)") == 2
    assert ran == []
    assert "--doppler-config" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("x"), 2), (ConnectError("x"), 3), (ProvisionError("x"), 4), (StepFailed("x"), 5),
        (DeployError("x"), 5), (Unhealthy("x"), 6), (Locked("x"), 7), (AfterSwitchFailed("x"), 8),
        (KeyboardInterrupt(), 130),
    ],
)  # fmt: skip
def test_every_trouble_has_its_exit_code(error: BaseException, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The codes that CI and agents know; the message is told, no traceback."""
    trouble["web1"] = error
    assert fab("-H", "web1", "dig") == code
    said = capsys.readouterr()
    assert ("interrupted; the site is as before" if code == 130 else "x") in said.out
    assert "Traceback" not in said.out + said.err


def test_what_is_no_trouble_of_the_user_keeps_its_traceback() -> None:
    """A mistake of the tool is not dressed up as an error of the deploy."""
    trouble["web1"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        fab("-H", "web1", "dig")


def test_a_failure_stops_before_the_next_host() -> None:
    """What failed on one host is not tried on the others."""
    trouble["web1"] = StepFailed("x")
    assert fab("-H", "production", "dig") == 5
    assert [name for name, _ in ran] == ["web1"]


def test_a_failure_stops_before_the_next_name() -> None:
    """The same for hosts that are named one by one."""
    trouble["web2"] = StepFailed("x")
    assert fab("-H", "web1,web2,stage", "dig") == 5
    assert [name for name, _ in ran] == ["web1", "web2"]


def test_json_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """One host: its outcome; stdout has nothing else, a person's lines are on stderr."""
    assert fab("-H", "web1", "dig", "--json") == 0
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert (document["verb"], document["server"], document["status"], document["site_state"]) == (
        "dig",
        "web1",
        "success",
        "dug",
    )
    assert document["timing"]["total"] >= 0
    assert "digging at web1" in said.err


def test_json_of_several_hosts_is_one_document(capsys: pytest.CaptureFixture[str]) -> None:
    """An environment of two hosts: one document on stdout."""
    trouble["web2"] = Unhealthy("down", hint="look")
    assert fab("-H", "production", "dig", "--json") == 6
    web1, web2 = json.loads(capsys.readouterr().out)["hosts"]
    assert (web1["status"], web1["exit_code"]) == ("success", 0)
    assert (web2["status"], web2["exit_code"], web2["error"], web2["suggestions"]) == ("failed", 6, "down", ["look"])


@pytest.mark.parametrize("words", [("dig", "--json"), ("-H", "nope", "dig", "--json")])
def test_json_of_a_refusal_is_a_document_too(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    """A run that never reached a host answers in JSON as well."""
    assert fab(*words) == 2
    document = json.loads(capsys.readouterr().out)
    assert (document["status"], document["phase"], document["exit_code"]) == ("failed", "configuration", 2)
    assert document["suggestions"]


def test_json_of_an_interruption(capsys: pytest.CaptureFixture[str]) -> None:
    """Ctrl-C is told in the document, with what it left."""
    trouble["web1"] = KeyboardInterrupt()
    assert fab("-H", "web1", "dig", "--json") == 130
    document = json.loads(capsys.readouterr().out)
    assert (document["status"], document["exit_code"], document["site_state"]) == ("interrupted", 130, "as before")


def test_options_have_their_help(capsys: pytest.CaptureFixture[str]) -> None:
    """--help shows each option with what it means, the shared ones too."""
    assert fab("dig", "--help") == 0
    said = capsys.readouterr().out
    for word in (
        "Dig a hole",
        "--depth",
        "how deep",
        "--wide",
        "--json",
        "one JSON document",
        "--doppler-config",
        "--wait",
    ):
        assert word in said


def test_wait_takes_a_number_or_none() -> None:
    """--wait alone queues for long; with a number, for so many seconds."""
    assert fab("-H", "web1", "dig", "--wait=600") == 0
    assert fab("-H", "web1", "dig", "--wait") == 0
    assert [given["wait"] for _, given in ran] == [600, True]


LIST = """
import fabfile, json
tasks = {name: fabfile.namespace[name] for name in fabfile.namespace.task_names}
print(json.dumps({n: [t.__doc__, {a.name: a.help for a in t.get_arguments()}] for n, t in tasks.items()}))
"""


def test_every_verb_is_there_with_help_for_each_option() -> None:
    """The table of contents has the verbs; no option goes without a word, and each can answer in JSON."""
    said = subprocess.run([sys.executable, "-c", LIST], cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    tasks = json.loads(said)
    verbs = {"deploy", "rollback", "restart", "reload", "status", "releases", "logs", "lock", "unlock", "provision"}
    verbs |= {"history", "manage", "run", "shell", "dbshell", "ssh", "remove", "link.put"}
    verbs |= {"maintenance.on", "maintenance.off", "secrets.list", "secrets.set", "secrets.unset", "secrets.token"}
    assert verbs <= set(tasks)
    for name in verbs:
        text, options = tasks[name]
        assert text.strip()
        assert "json" in options
        assert [option for option, words in options.items() if not words] == []


@pytest.mark.parametrize(
    "words",
    [["secrets.list"], ["secrets.set", "A"], ["secrets.unset", "A"], ["secrets.token"], ["link.put", "a.ini"],
     ["maintenance.on"], ["maintenance.off"], ["remove"]],
    ids=" ".join,
)  # fmt: skip
def test_a_verb_is_called_as_it_is_typed(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """In messages and in the document, with what stands before its dot."""
    program = Fab(version="1", executor_class=Executor, config_class=Config, namespace=fabfile.namespace)
    program.run(["fab", *words], exit=False)
    assert f"{words[0]} needs to know where" in capsys.readouterr().out


def test_a_setting_on_the_command_line_wins_over_the_file() -> None:
    """A task offers the settings it names as options, with their own help, and nothing else of hosts.toml."""
    branches: list[str] = []

    def look(run: Run) -> None:
        """Look at the branch."""
        branches.append(run.settings.branch)

    namespace = Collection(task(settings=["branch"])(look))
    program = Fab(version="1", executor_class=Executor, config_class=Config, namespace=namespace)
    for words in ([], ["--branch", "v2"]):
        program.run(["fab", "-H", "web1", "look", *words], exit=False)
    assert branches == ["main", "v2"]
    assert {"branch", "doppler_config", "json"} == {each.name for each in namespace["look"].get_arguments()}


@pytest.mark.parametrize("name", ["ana@web1", "web1:2222"])
def test_a_name_of_hosts_toml_stands_alone(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Fabric would take user@NAME and NAME:port apart; here no such name stands in hosts.toml, and it is refused."""
    assert fab("-H", name, "dig") == 2
    assert ran == []
    assert f'"{name}" is no host or environment of hosts.toml; did you mean web1?' in capsys.readouterr().out


def test_what_a_step_has_shown_is_not_shown_again(capsys: pytest.CaptureFixture[str]) -> None:
    """The output of a failed step stands under the step; evidence of any other error follows its message."""
    failed = StepResult(Step("dig_deep", "Dig deep", "dig"), 1, "a stone", 0.1)
    trouble["web1"] = StepError("web1", [failed])
    assert fab("-H", "web1", "dig") == 5
    assert capsys.readouterr().out.splitlines()[1:] == [
        "Dig deep: failed (exit 1): a stone",
        "  next: mend that, then the same command again",
    ]
    trouble["web1"] = StepFailed("x", evidence="a stone")
    assert fab("-H", "web1", "dig") == 5
    assert capsys.readouterr().out.splitlines()[1:] == ["x", "    a stone"]


@pytest.mark.parametrize("state", ["ready", "up", "running"])
def test_a_lab_host_is_made_as_the_verb_needs_it(state: LabState, mocker: MockerFixture) -> None:
    """A host that says `lab = true` goes through the lab first; the verb then works on what the lab returns."""
    seen: list[Run] = []

    def look(run: Run) -> None:
        seen.append(run)

    host = Host("lab", "lab", sample(repo="git@example.org:team/app.git", lab=True))
    module = mocker.patch("fabfile.lab.module")
    module.return_value.prepare.return_value = made = dataclasses.replace(host, name="made")
    mocker.patch("fabfile.config.hosts_file.load").return_value.select.return_value = [host]
    program = Fab(
        version="1", executor_class=Executor, config_class=Config, namespace=Collection(task(lab=state)(look))
    )
    program.run(["fab", "-H", "lab", "look"], exit=False)
    module.assert_called_once_with("prepare")
    module.return_value.prepare.assert_called_once_with(host, seen[0].console, state)
    assert seen[0].host is made


def test_the_list_is_quick() -> None:
    """`fab --list` loads nothing heavy: no settings, no templates, no HTTP client."""
    code = """
import sys
from fabric.main import program
program.run(["fab", "--list"], exit=False)
print("LOADED", *sys.modules, file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert {"deploy", "rollback", "lab.down"} <= set(done.stdout.split())
    loaded = set(done.stderr.rpartition("LOADED")[2].split())
    assert "fabfile.task" in loaded
    heavy = {"pydantic", "jinja2", "httpx", "httpcore", "fabfile.config.settings", "fabfile.ssh.connection"}
    assert loaded & heavy == set()


def by_hand(*words: str, one_host: bool = False) -> list[tuple[str, str, bool]]:
    """Which hosts a verb with a command ran on, with which, and whether alone."""
    seen: list[tuple[str, str, bool]] = []

    def take(run: Run, command: str | None = None) -> None:
        """Take a command."""
        seen.append((run.name, command or "", run.alone))
        run.console.say("taken")

    namespace = Collection(task({"command": "any"}, by_hand=True, one_host=one_host)(take))
    program = Fab(version="1", executor_class=Executor, config_class=Config, namespace=namespace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["fab", *words])
        program.run(["fab", *words], exit=False)
    return seen


def test_a_command_is_one_word_or_none(capsys: pytest.CaptureFixture[str]) -> None:
    """It needs no flag, and stdout has no word of ours; each host is told whether it is the only one."""
    assert by_hand("-H", "web1", "take", "x --y") == [("web1", "x --y", True)]
    assert by_hand("-H", "web1", "take") == [("web1", "", True)]
    assert by_hand("-H", "web1,web2", "take", "x") == [("web1", "x", False), ("web2", "x", False)]
    assert capsys.readouterr().out == ""


def test_a_verb_for_one_host_refuses_several(capsys: pytest.CaptureFixture[str]) -> None:
    """None of them is begun; the next command names one."""
    assert by_hand("-H", "production", "take", one_host=True) == []
    said = capsys.readouterr().err
    assert "take is for one host, and production are 2: web1, web2\n  next: fab -H web1 take" in said
    assert by_hand("-H", "stage", "take", one_host=True) == [("stage", "", True)]
