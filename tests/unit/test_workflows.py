"""The workflow files of the forge: well-formed, without a known weakness, and on the Pythons that are supported."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
WORKFLOWS = PROJECT / ".github" / "workflows"
WORKFLOW = """\
name: broken
on: push
permissions: {}
jobs:
  job:
    runs-on: ubuntu-latest
    steps:
      - STEP
"""


def judge(folder: Path) -> subprocess.CompletedProcess[str]:
    """What zizmor says of the workflows in `folder`, without asking anybody on the network."""
    zizmor = Path(sys.executable).parent / "zizmor"
    command = [zizmor, "--offline", "--strict-collection", "--persona=pedantic", "--no-progress", "--quiet", folder]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "NO_COLOR": "1"})


def test_zizmor_has_nothing_to_say() -> None:
    """Every key is one that the forge knows, nobody gets more rights than needed, no text becomes code."""
    found = judge(WORKFLOWS.parent)
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ("ran: make", "validation schema"),
        ("run: echo ${{ github.head_ref }}", "template-injection"),
        ("uses: somebody/something@v1", "unpinned-uses"),
    ],
)
def test_zizmor_would_have_something_to_say(tmp_path: Path, step: str, complaint: str) -> None:
    """The check can fail: a misspelt key, a branch name that becomes code, a stranger's movable tag."""
    workflows = tmp_path / ".github" / "workflows"
    workflows.mkdir(parents=True)
    (workflows / "broken.yml").write_text(WORKFLOW.replace("STEP", step))
    found = judge(tmp_path)
    assert found.returncode != 0
    assert complaint in found.stdout + found.stderr


def test_every_supported_python_is_tested() -> None:
    """The oldest in the matrix is the one that pyproject.toml asks for, and none is left out up to the newest."""
    oldest = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["requires-python"]
    matrix = re.search(r"python: \[(.*)\]", (WORKFLOWS / "quick.yml").read_text())
    assert matrix is not None
    versions = [tuple(map(int, version.split("."))) for version in re.findall(r"[0-9.]+", matrix[1])]
    assert oldest == ">={}.{}".format(*versions[0])
    assert versions == [(3, minor) for minor in range(versions[0][1], versions[-1][1] + 1)]
