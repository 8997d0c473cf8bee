"""What holds for every test: those on a real lab host say clearly when this machine cannot hold one."""

import os
import sys

import pytest


def why_no_lab() -> str:
    """The reason why no lab host can run here, or nothing."""
    if sys.platform != "linux":
        return f"a lab host needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "a lab host needs root: sudo -E env PATH=$PATH pytest -m lab"
    return ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip lab tests where no lab can run; in CI that is an error, so that nobody takes it for a pass."""
    reason = why_no_lab() if item.get_closest_marker("lab") else ""
    if reason and os.environ.get("CI", "").lower() not in ("", "0", "false"):
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
