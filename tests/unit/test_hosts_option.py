"""-H through the real `fab`: all of its names are one call of a task, and one report."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from invoke import Context

from fabfile.config.places import PROJECT
from fabfile.executor import hosts_of

HOSTS = """
[app]
repo = "git@example.org:team/app.git"
name = "shop"
wsgi = "shop.wsgi:application"
domain = "shop.example"
address = "127.0.0.1"
[environments.production.hosts]
web1.port = 9
web2.port = 19
[environments.staging.hosts]
stage.port = 29
"""
# As `fab` starts, but with recipes that touch no host.
FAB = """
import sys
from fabric.main import program
from fabfile.commands import releases, status
releases.releases = status.status = lambda *_, **__: None
program.run(["fab", *sys.argv[1:]])
"""


def documents(tmp_path: Path, *words: str) -> list[dict]:
    """The documents on stdout of `fab WORDS...`."""
    (tmp_path / "hosts.toml").write_text(HOSTS)
    environ = {"DJANGO_DEPLOY_HOSTS": str(tmp_path / "hosts.toml"), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    command = [sys.executable, "-c", FAB, *words]
    text = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=True).stdout
    found, place = [], 0
    while place < len(text):
        document, place = json.JSONDecoder().raw_decode(text, place)
        found.append(document)
        place += len(text[place:]) - len(text[place:].lstrip())
    return found


@pytest.mark.parametrize(
    ("names", "hosts"),
    [
        ("web1,web2", ["web1", "web2"]),
        ("web2,web1", ["web2", "web1"]),
        ("web2,production,stage", ["web2", "web1", "stage"]),
        ("web1,web1,staging,web1", ["web1", "stage"]),
    ],
)
def test_json_of_several_names_is_one_document(names: str, hosts: list[str], tmp_path: Path) -> None:
    """Hosts and environments, mixed and named twice: each host once, in the order of the names, in one document."""
    (document,) = documents(tmp_path, "-H", names, "status", "--json")
    assert [(host["server"], host["status"]) for host in document["hosts"]] == [(name, "success") for name in hosts]


def test_several_tasks_have_a_document_each(tmp_path: Path) -> None:
    """The first task runs on all of its hosts before the second begins."""
    first, second = documents(tmp_path, "-H", "web1,web2", "status", "--json", "releases", "--json")
    assert [(host["verb"], host["server"]) for host in first["hosts"]] == [("status", "web1"), ("status", "web2")]
    assert [(host["verb"], host["server"]) for host in second["hosts"]] == [("releases", "web1"), ("releases", "web2")]


def test_invoke_has_no_hosts() -> None:
    """Under `invoke` there is no -H; the tasks then say so."""
    assert hosts_of(Context()) == ""


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-i", "/keys/own"], "/keys/own"),
        (["--identity=/keys/own", "-i", "/keys/second"], "/keys/own"),
        ([], "None"),
        (["-t", "5"], "fab --connect-timeout has no effect on these tasks"),
        (["-S", "/etc/ssh/ssh_config"], "fab --ssh-config has no effect on these tasks"),
    ],
)
def test_fabrics_own_options(words: list[str], told: str, tmp_path: Path) -> None:
    """-i names a key file; what would be silently ignored is refused."""
    (tmp_path / "hosts.toml").write_text(HOSTS)
    environ = {"DJANGO_DEPLOY_HOSTS": str(tmp_path / "hosts.toml"), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    program = FAB.replace("lambda *_, **__: None", "lambda run, **_: print(run.settings.key)")
    command = [sys.executable, "-c", program, *words, "-H", "web1", "status"]
    done = subprocess.run(command, cwd=PROJECT, env=environ, capture_output=True, text=True, check=False)
    assert told in done.stdout, done.stderr
    assert done.returncode == (2 if "no effect" in told else 0)
