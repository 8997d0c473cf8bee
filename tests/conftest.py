"""What holds for every test: those on a real lab host say clearly when this machine cannot hold one."""

import os
import shutil
import signal
import subprocess
import sys

import hypothesis
import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

# How fast a machine is says nothing about the code: no example may fail for its time.
hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
# A shell without job control starts `just test &` with SIGINT ignored, and so would be every program under test.
signal.signal(signal.SIGINT, signal.default_int_handler)
IN_CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
# What the code under test calls on a host; a bare Debian does not have all of it.
NEEDED = {"git": "git", "curl": "curl", "pgrep": "procps", "ssh-keygen": "openssh-client", "setfacl": "acl"}
# Programs of Debian that judge what is rendered; where one is missing, its tests are skipped, but never in CI.
JUDGES = {"nginx": "nginx-light", "visudo": "sudo", "systemd-analyze": "systemd"}
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


# Files, or tests, that share something that is made once; each stays with one worker, and the longest begins first.
TOGETHER = (
    "tests/lab/test_faults.py",
    "tests/lab/test_processes.py",
    "tests/lab/test_adopt.py",
    "tests/lab/test_attacker.py",
    "tests/lab/test_changes.py",
    "tests/lab/test_switch.py::test_hup_fails_nobody_with_any_worker_and_gunicorn",
    "tests/lab/test_switch.py",
    "tests/lab/test_provision.py",
    "tests/lab/test_at_hand.py",
    "tests/lab/test_remove.py",
    "tests/lab/test_ssh.py",
    "tests/lab/test_secrets.py",
    "tests/lab/test_without_sudo.py",
    "tests/lab/test_tls.py",
    "tests/lab/test_commands.py",
    "tests/lab/test_lab.py",
    "tests/host/test_data.py",
    "tests/host/test_static_files.py",
    "tests/unit/test_wheel.py",
    "tests/unit/test_site.py",
    "tests/unit/test_warm.py",
)


class Scheduler(LoadScopeScheduling):
    """Gives a worker the next test, or the next file of TOGETHER (pytest-xdist's groups need an older pytest)."""

    def _split_scope(self, nodeid: str) -> str:
        return together(nodeid) or nodeid


def together(nodeid: str) -> str:
    """The name in TOGETHER that a test stays with, or nothing."""
    names = [name for name in TOGETHER if nodeid.startswith(name)]
    return max(names, key=len, default="")


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduler:
    """Distribute tests our way."""
    return Scheduler(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what one worker is busy with for long."""
    items.sort(key=lambda item: (*TOGETHER, "").index(together(item.nodeid)))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Install what is missing, or say what to install; RUNLEVEL=1 keeps a service that comes along from starting."""
    if hasattr(session.config, "workerinput"):
        return  # one of many workers: whoever started them has done so
    wanted = NEEDED | (JUDGES if IN_CI else {})
    missing = " ".join(package for program, package in wanted.items() if not shutil.which(program, path=PATH))
    if not missing:
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.exit(f"the tests need {missing}: as root: apt-get install {missing}", returncode=2)
    sys.stderr.write(f"Installing {missing} on this machine\n")
    environment = {**os.environ, "PATH": PATH, "RUNLEVEL": "1", "DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "-qq", "update"], check=True, env=environment)
    install = ["apt-get", "-qq", "install", "--yes", "--no-install-recommends", *missing.split()]
    subprocess.run(install, check=True, env=environment, stdout=subprocess.DEVNULL)


def why_no_lab() -> str:
    """The reason why no lab host can run here, or nothing."""
    if sys.platform != "linux":
        return f"a lab host needs Linux, this is {sys.platform}"
    if os.geteuid() != 0:
        return "a lab host needs root: sudo ./run just test"
    return ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip lab tests where no lab can run; in CI that is an error, so that nobody takes it for a pass."""
    reason = why_no_lab() if item.get_closest_marker("lab") else ""
    if reason and IN_CI:
        pytest.fail(reason, pytrace=False)
    if reason:
        pytest.skip(reason)
