"""What the Tab key completes, by the script that `fab` prints, in a real bash."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile.config.places import PROJECT
from testbed.sample import APP

HOSTS = f"""
[app]
{APP}
[environments.production.hosts.web1]
address = {{ env = "NOT_SET" }}

[environments.production.hosts.web2]
"""
# As bash calls it: the words so far, and the one at which the cursor is.
ASK = """
eval "$(fab --print-completion-script bash)"
complete -p fab >&2
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_complete_fab fab "${COMP_WORDS[-1]}"
printf '%s\\n' "${COMPREPLY[@]}"
"""


def completed(tmp_path: Path, *words: str, hosts: str = HOSTS) -> list[str]:
    """What bash offers for the last of the words of a command line."""
    (tmp_path / "hosts.toml").write_text(hosts)
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "DJANGO_DEPLOY_HOSTS": str(tmp_path / "hosts.toml")}
    command = ["bash", "--norc", "-c", ASK, "bash", *words]
    done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=True)
    assert done.stderr.split() == ["complete", "-o", "default", "-F", "_complete_fab", "fab"], done.stderr
    return done.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("fab -H ''", ["production", "web1", "web2"]),
        ("fab -H we", ["web1", "web2"]),
        ("fab --hosts prod", ["production"]),
        ("fab -H web1,we", ["web1,web1", "web1,web2"]),
        ("fab -H web1 rolb", []),
        ("fab -H web1 rol", ["rollback"]),
        ("fab rol", ["rollback"]),
        ("fab -H web1 rollback --t", ["--to"]),
        ("""fab -H web1 manage '"crea'""", []),
    ],
)
def test_the_tab_key_knows_hosts_verbs_and_options(line: str, expected: list[str], tmp_path: Path) -> None:
    """Behind -H environments and hosts, also where an address is not set; else verbs and their options."""
    assert completed(tmp_path, *shlex.split(line)) == expected


def test_a_verb_follows_a_whole_name(tmp_path: Path) -> None:
    """A shell does not tell whether the name has ended."""
    assert {"deploy", "rollback"} <= set(completed(tmp_path, "fab", "-H", "web1", ""))
    assert "deploy" not in completed(tmp_path, "fab", "-H", "")


def test_a_hosts_file_with_mistakes_completes_nothing(tmp_path: Path) -> None:
    """It is told by `fab` itself, and not at the Tab key."""
    assert completed(tmp_path, "fab", "-H", "we", hosts="[app]\nnonsense = 1\n") == []
