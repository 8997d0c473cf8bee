"""The choice of an activation: the lightest that is right, with a reason that names what changed."""

import json
from pathlib import Path

import pytest

from fabfile.plan.activation import Activation, Comparison, Python, choose

# An answer of compare_masters when nothing differs; tests/gunicorn/test_comparison.py holds it against real ones.
SAME: Comparison = json.loads(Path(__file__).with_name("comparison.json").read_text())
SAME_PYTHON = SAME["python"][0]
NEWER_PYTHON: Python = {**SAME_PYTHON, "version": SAME_PYTHON["version"].replace("3.12.1", "3.13.0")}
REBUILT_PYTHON: Python = {**SAME_PYTHON, "version": SAME_PYTHON["version"].replace("Dec", "Jan")}
MOVED_PYTHON: Python = {**SAME_PYTHON, "executable": "/usr/bin/python3.12"}


@pytest.mark.parametrize(
    ("changes", "units", "kind", "reason"),
    [
        ({}, [], "hup", "gunicorn's master can stay: only what its workers load changed"),
        ({"python": [SAME_PYTHON, NEWER_PYTHON]}, [], "restart", "Python 3.12.1 -> 3.13.0"),
        ({"python": [SAME_PYTHON, REBUILT_PYTHON]}, [], "restart", "Python was built anew"),
        ({"python": [SAME_PYTHON, MOVED_PYTHON]}, [], "restart", "Python was built anew"),
        ({"gunicorn": ["23.0.0", "27.0.1"]}, [], "restart", "gunicorn 23.0.0 -> 27.0.1"),
        (
            {"gunicorn": ["23.0.0", "27.0.1"], "modules": ["gunicorn/app.py"]},
            [],
            "restart",
            "gunicorn 23.0.0 -> 27.0.1",
        ),
        ({"worker_class": ["sync", "gthread"]}, [], "restart", "worker class sync -> gthread"),
        ({"preload": True}, [], "restart", "preload_app: the master itself holds the app"),
        ({"modules": ["a.py"]}, [], "restart", "the master has imported a.py, which changed"),
        (
            {"modules": ["a.py", "b.py", "c.py"]},
            [],
            "restart",
            "the master has imported a.py and 2 more, which changed",
        ),
        ({"pth": ["a.pth", "b.pth"]}, [], "restart", "a.pth, b.pth changed"),
        ({"environment": None}, [], "restart", "whether secrets changed cannot be told"),
        ({"environment": ["KEY"]}, [], "restart", "secrets changed: KEY"),
        ({"environment": list("abcdefg")}, [], "restart", "secrets changed: a, b, c, d, e ..."),
        ({}, ["consult-django.service"], "restart", "consult-django.service changed"),
        ({"environment": ["KEY"]}, ["x.socket"], "restart", "secrets changed: KEY; x.socket changed"),
        ({"running": False}, [], "start", "the service does not run"),
        ({"running": False}, ["x.service"], "start", "the service does not run"),
    ],
)
def test_the_lightest_activation_that_is_right(changes: Comparison, units: list[str], kind: str, reason: str) -> None:
    """HUP unless something changed that only a restart carries; all reasons are told."""
    chosen = choose({**SAME, **changes}, units)
    assert (chosen.kind, chosen.reason) == (kind, reason)
    assert str(chosen) == f"{kind}: {reason}"


def test_a_service_that_does_not_run_is_started() -> None:
    """Whatever the files say: systemd's word counts."""
    assert choose(SAME, running=False) == Activation("start", "the service does not run")
    assert choose({"running": False}).kind == "start"
