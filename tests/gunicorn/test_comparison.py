"""What differs between the running master and the one of a proof, told by both themselves."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fabfile.plan.activation import Comparison, choose
from tests.gunicorn.servers import PYTHON, Server, wait_for

PROGRAM = Path(__file__).parents[2] / "fabfile/host/programs/compare_masters.py"
SAME = Path(__file__).parents[1] / "unit/comparison.json"
# The running master imports it in its first reload, which no proof has.
LATE_IMPORT = "def on_reload(server): import imported_late"


def compare(server: Server, candidate: Path, **environment: Any) -> Comparison:
    """Prove `candidate` beside the service and run the program with its Python, as a deploy does."""
    live, proof = server.run / "master.json", server.root / "proof/master.json"
    options = ("--workers", "1")
    server.start(
        *options, root=candidate, run="proof", socket="p", DEPLOY_PROOF="1", DEPLOY_LIVE_MASTER=str(live), **environment
    )
    command = [candidate / ".venv/bin/python", PROGRAM, live, proof]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def shape(value: object) -> object:
    """The names and types in a JSON document."""
    if isinstance(value, dict):
        return {name: shape(item) for name, item in value.items()}
    if isinstance(value, list):
        return [shape(item) for item in value]
    return type(value)


@pytest.mark.parametrize("version", ["20.1.0", "23.0.0", "newest"])
def test_nothing_but_code_differs(make_server, version: str):
    """HUP is enough, and the answer has the shape that the unit tests of the choice are fed with."""
    server: Server = make_server(version)
    server.release("one")
    candidate = server.release("two")
    server.link("one")
    server.start(SECRET_KEY="same")  # noqa: S106
    answer = compare(server, candidate, SECRET_KEY="same")  # noqa: S106
    assert choose(answer).kind == "hup"
    assert shape(answer) == shape(json.loads(SAME.read_text()))


@pytest.mark.parametrize("version", ["20.1.0", "23.0.0", "newest"])
def test_what_only_a_restart_carries_is_told(make_server, version: str):
    """Files that the running master has imported, .pth files, the worker class, secrets by name."""
    server: Server = make_server(version)
    packages = f".venv/lib/python{PYTHON}/site-packages"
    for name in ("one", "two"):
        release = server.release(name, conf=LATE_IMPORT)
        (release / packages / "imported_late.py").write_text(f"TEXT = {name!r}")
    (release / packages / "new.pth").touch()
    server.link("one")
    server.start(SECRET_KEY="old", KEPT="same")  # noqa: S106
    server.hup()
    late = f"{packages}/imported_late.py"
    wait_for(lambda: late in server.state("master.json")["modules"])
    answer = compare(server, release, SECRET_KEY="new", KEPT="same", GUNICORN_CMD_ARGS="--worker-class gthread")  # noqa: S106
    assert choose(answer).reason == "; ".join(
        [
            "worker class sync -> gthread",
            f"the master has imported {late}, which changed",
            "new.pth changed",
            "secrets changed: SECRET_KEY",
        ]
    )


@pytest.mark.parametrize("changed", ["file", "nothing"])
def test_a_file_that_the_proof_has_not_imported_compares_too(server: Server, changed: str):
    """The proof tells digests of what the running master has imported: the same file is no reason for a restart."""
    packages = f".venv/lib/python{PYTHON}/site-packages"
    for name in ("one", "two"):
        release = server.release(name, conf=LATE_IMPORT)
        text = name if changed == "file" else f"made in {release}"
        (release / packages / "imported_late.py").write_text(f"TEXT = {text!r}")
    server.link("one")
    server.start()
    server.hup()
    late = f"{packages}/imported_late.py"
    wait_for(lambda: late in server.state("master.json")["modules"])
    answer = compare(server, release)
    assert answer["modules"] == ([late] if changed == "file" else [])


def test_a_master_that_was_killed_is_not_compared_with(server: Server):
    """What a dead master has left says that the service does not run."""
    server.release("one")
    server.link("one")
    server.start()
    server.master.kill()
    server.master.wait()
    assert compare(server, server.releases / "one") == {"running": False}
