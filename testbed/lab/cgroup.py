"""The processes of a lab host, held together in a cgroup of their own: found, counted and ended by it.

A record of process ids can be stale; the kernel's own list cannot. It also keeps two hosts apart:
systemd-nspawn makes its `payload` group below the caller's, and two hosts of one caller would share it.
"""

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from .machine import ENV, LabError, cgroup_mounts

FOLDER = "django-deploy-lab"


def entering(group: str, argv: list[str]) -> list[str]:
    """A command that joins the group (`HOST/PART`) first, in every hierarchy, and then becomes `argv`."""
    folders = [mount / FOLDER / group for mount in cgroup_mounts()]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    joins = "".join(f'echo $$ > "{folder}/cgroup.procs"; ' for folder in folders)
    return ["/bin/sh", "-euc", f'{joins}exec "$@"', "sh", *argv]


def spawn(group: str, argv: list[str], log: Path, pass_fds: tuple[int, ...] = ()) -> None:
    """Start a command in the group that outlives us; its output goes to `log`."""
    # `setsid --fork` hands it to PID 1, so that no zombie waits for a long-lived caller to reap it.
    detached = entering(group, ["setsid", "--fork", *argv])
    with log.open("ab") as output:
        subprocess.run(
            detached,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=ENV,
            pass_fds=pass_fds,
            check=True,
        )


def processes(group: str) -> list[int]:
    """Ids of the processes in the group and below it."""
    pids = []
    for folder, _, _ in os.walk(_unified(group)):
        with contextlib.suppress(OSError):  # the group may go while we look
            pids += [int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()]
    return pids


def first_process(group: str) -> int | None:
    """The process in the group that is PID 1 of a PID namespace of its own, as a PID of this machine."""
    for pid in processes(group):
        with contextlib.suppress(OSError):
            status = Path(f"/proc/{pid}/status").read_text()
            own = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()[1:]
            if len(own) > 1 and own[-1] == "1":
                return pid
    return None


def end(group: str, seconds: float = 10) -> None:
    """Kill everything in the group and remove it; what dies comes back to life nowhere."""
    deadline = time.monotonic() + seconds
    while not _gone(group):
        for pid in processes(group):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            raise LabError(f"processes of {group} do not end: {processes(group)}", hint="look at them with ps")
        time.sleep(0.01)


def _gone(group: str) -> bool:
    for mount in cgroup_mounts():
        top = mount / FOLDER / group
        for folder, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):
                os.rmdir(folder)  # noqa: PTH106 (Path.rmdir would make a Path per folder for nothing)
        if top.exists():
            return False
        with contextlib.suppress(OSError):
            (mount / FOLDER).rmdir()
    return True


def _unified(group: str) -> Path:
    mounts = cgroup_mounts()
    return mounts[0] / FOLDER / group if mounts else Path("/nonexistent")
