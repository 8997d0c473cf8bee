"""The operator's machine: its folders, its locks, what it must have, and running commands on it."""

import fcntl
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path

from fabfile.errors import ConfigError

Say = Callable[[str], object]

HOSTS = Path("/var/lib/django-deploy-lab")
LOCKS = Path("/run/django-deploy-lab")
CACHE = Path(os.environ.get("DJANGO_DEPLOY_LAB_CACHE") or "/var/cache/django-deploy-lab")

# A root shell from `su` or cron has no sbin in its path; LC_ALL keeps the messages that we read in English.
ENV = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "PATH": os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/local/sbin:/usr/sbin:/sbin",
    "LC_ALL": "C.UTF-8",
    "DEBIAN_FRONTEND": "noninteractive",
}

PACKAGE_OF = {
    "mmdebstrap": "mmdebstrap",
    "systemd-nspawn": "systemd-container",
    "ip": "iproute2",
    "slirp4netns": "slirp4netns",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
    "git": "git",
    "nsenter": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
}
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


class LabError(ConfigError):
    """The lab cannot be made or used on this machine."""

    phase = "lab"


def run(*argv: str | Path, trouble: str, stdin: str | None = None, timeout: float = 120) -> str:
    """Output of a command on this machine; `timeout` in seconds.

    Raises LabError: `trouble` and the last line that the command wrote.
    """
    try:
        done = subprocess.run(
            [str(word) for word in argv],
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            env=ENV,
            timeout=timeout,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{trouble}: {error}") from error
    if done.returncode:
        raise LabError(f"{trouble}: {last_line(done.stderr or done.stdout) or f'exit {done.returncode}'}")
    return done.stdout


def succeeds(*argv: str | Path) -> bool:
    """Whether a command on this machine exits with 0."""
    try:
        run(*argv, trouble="", timeout=600)
    except LabError:
        return False
    return True


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = text.strip().splitlines()
    return lines[-1].strip() if lines else ""


@contextmanager
def locked(name: str) -> Generator[None]:
    """Hold the lock of that name; the kernel frees it when this process dies, and no file stays behind."""
    path = LOCKS / f"{name}.lock"
    descriptor = _lock(path)
    try:
        yield
    finally:
        path.unlink()
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except FileNotFoundError:
            continue  # the last `down` removed the folder in between
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        # The one before us unlinks the file as it leaves: a lock on an unlinked file guards nothing.
        try:
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)


def require(say: Say) -> None:
    """See that this machine can hold a lab; packages that are missing are installed.

    Raises LabError with the one thing that is missing and what to do.
    """
    if platform.system() != "Linux":
        raise LabError(
            "the lab needs Linux: it boots a Debian on this machine's kernel",
            hint="run it on a Linux machine, or name a server of your own in hosts.toml",
        )
    if os.geteuid() != 0:
        raise LabError(
            "the lab needs root: it mounts file systems and makes network namespaces",
            hint="run it as root: sudo ./run fab ...",
        )
    with locked("packages"):  # apt-get refuses a second one
        if missing := missing_packages():
            install(missing, say)
    if not cgroup_mounts():
        raise LabError(
            "the lab needs cgroup v2, and none is mounted on this machine",
            hint="mount -t cgroup2 none /sys/fs/cgroup",
        )
    if not Path("/dev/net/tun").exists():
        raise LabError(
            "the lab needs /dev/net/tun for its way out, and this machine has none",
            hint="modprobe tun, or in a container: --device /dev/net/tun",
        )


def missing_packages() -> list[str]:
    """Debian packages that the lab needs and this machine does not have."""
    missing = {package for tool, package in PACKAGE_OF.items() if not shutil.which(tool, path=ENV["PATH"])}
    if not KEYRING.exists():
        missing.add("debian-archive-keyring")
    return sorted(missing)


def install(packages: list[str], say: Say) -> None:
    """Install Debian packages on this machine."""
    names = " ".join(packages)
    if not shutil.which("apt-get", path=ENV["PATH"]):
        raise LabError(
            f"the lab needs {names}, and this machine has no apt-get to install them",
            hint=f"install them by hand: {names}",
        )
    say(f"Installing {names} on this machine")
    command = ("apt-get", "install", "--yes", "--no-install-recommends", *packages)
    if not succeeds(*command):  # the package lists may be old or were never fetched
        run("apt-get", "update", trouble=f"cannot install {names}", timeout=600)
        run(*command, trouble=f"cannot install {names}", timeout=600)


def cgroup_mounts() -> list[Path]:
    """Mounts of the hierarchies that a host's systemd uses: cgroup v2, then v1 name=systemd if there."""
    unified, named = [], []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, folder, kind, options, *_ = line.split()
        if kind == "cgroup2":
            unified.append(Path(folder))
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            named.append(Path(folder))
    return unified[:1] + named[:1] if unified else []


def mounts_below(folder: Path) -> list[Path]:
    """Mount points at or below a folder, the innermost first."""
    points = (line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines())
    paths = [Path(re.sub(r"\\(\d{3})", lambda octal: chr(int(octal[1], 8)), point)) for point in points]
    return [path for path in reversed(paths) if path == folder or folder in path.parents]


def unmount(folder: Path) -> None:
    """Unmount what is mounted at or below a folder."""
    for point in mounts_below(folder):
        # Lazily: a process that is just dying must not keep us from going on.
        run("umount", "--lazy", point, trouble=f"cannot unmount {point}")


def discard(folder: Path) -> None:
    """Unmount what is mounted at or below a folder, and remove it."""
    unmount(folder)
    if folder.is_dir():
        shutil.rmtree(folder)


def memory_is_roomy() -> bool:
    """Whether this machine has memory to spare for the disks of some hosts, of a few hundred MB each."""
    found = re.search(r"^MemAvailable: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return found is not None and int(found[1]) > 6 << 20


def mount_memory(folder: Path) -> None:
    """Mount a file system in memory there, of root alone."""
    run("mount", "-t", "tmpfs", "-o", "mode=700", "tmpfs", folder, trouble="cannot mount a file system in memory")


def mount_overlay(lower: list[Path], folder: Path) -> Path:
    """Mount folder/root: what is written goes to folder/upper, all else comes from the lower folders."""
    root, upper, work = (folder / part for part in ("root", "upper", "work"))
    for path in (root, upper, work):
        path.mkdir(parents=True, exist_ok=True)
    if not os.path.ismount(root):
        layers = ":".join(str(path) for path in lower)
        # redirect_dir: rename(2) of a folder works as on a plain disk, and does not fail with EXDEV.
        options = f"lowerdir={layers},upperdir={upper},workdir={work},redirect_dir=on"
        run("mount", "-t", "overlay", "overlay", "-o", options, root, trouble="cannot mount an overlay")
    return root
