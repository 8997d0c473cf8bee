"""Images that lab hosts boot from: made once, kept in a cache, and only ever read by the hosts.

`bare` is a Debian as a cloud provider gives it. `ready` is a layer over it with what takes long to install.
"""

import hashlib
import json
import re
import shutil
import subprocess
from collections import deque
from collections.abc import Callable
from pathlib import Path

from . import cgroup
from .machine import CACHE, ENV, HOSTS, KEYRING, LabError, Say, discard, last_line, locked, mount_overlay, run

SUITES = ("bookworm", "trixie")
KINDS = ("ready", "bare")

BARE_PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "libpam-systemd",
    "openssh-server",
    "ca-certificates",
    "python3",
)
READY_PACKAGES = (
    "nginx-light",
    "git",
    "sudo",
    "curl",
    "python3-venv",
    "postgresql",
    "procps",
    "iproute2",
    "util-linux",
    "acl",
    "certbot",
    "openssl",
    "pebble",
)
# Timers that would take dpkg's lock or the disk at a moment of their own, and consoles that nobody looks at.
MASKED = (
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "console-getty.service",
    "getty@.service",
    "systemd-networkd.service",
)
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
BARE_FILES = {
    "etc/default/locale": "LANG=C.UTF-8\n",
    "etc/uv/uv.toml": "system-certs = true\n",
    "etc/pip.conf": f"[global]\ncert = {BUNDLE}\n",
}
TIDY = "apt-get clean && rm -rf /var/lib/apt/lists/* /etc/ssh/ssh_host_*"
READY_SCRIPT = f"""\
apt-get -qq update
apt-get -qq -o APT::Status-Fd=1 -o Dpkg::Use-Pty=0 install --yes --no-install-recommends \\
  {" ".join(READY_PACKAGES)}
{TIDY}
python3 -m venv /opt/uv
/opt/uv/bin/pip -q install uv
ln -s /opt/uv/bin/uv /opt/uv/bin/uvx /usr/local/bin/
"""
# It stays in the image. A lab survives no power failure of this machine anyway: no fsync for each unpacked file.
DPKG_OPTION = "force-unsafe-io"
BOOTSTRAP_LINES = 10  # how many lines starting with "I: " mmdebstrap writes
AUTHORITIES = Path("/usr/local/share/ca-certificates")


class Progress:
    """Says how far a long work is, each time it has come another tenth."""

    def __init__(self, say: Say, title: str) -> None:
        self.say, self.title, self.told = say, title, 0
        say(f"{title} (once; it is kept in {CACHE})")

    def at(self, percent: float) -> None:
        """Note that the work is that far; it never goes back, and never says that it is done."""
        tenth = min(int(percent // 10), 9)
        if tenth > self.told:
            self.told = tenth
            self.say(f"{self.title}: {tenth * 10} %")


def layers(suite: str, kind: str, say: Say) -> list[Path]:
    """Folders of an image, topmost first, made if they are not in the cache: about half a minute each.

    Raises LabError when the image cannot be made, with the tool's last lines as evidence.
    """
    if suite not in SUITES:
        raise LabError(f'no lab image "{suite}"', hint=f"one of: {', '.join(SUITES)}")
    if kind not in KINDS:
        raise LabError(f'no lab image kind "{kind}"', hint=f"one of: {', '.join(KINDS)}")
    bare, ready = recipes(suite)
    wanted = [ready, bare] if kind == "ready" else [bare]
    if all(folder.is_dir() for folder in wanted):
        return wanted
    with locked(f"image-{suite}"):
        _keep(bare, lambda part: _build_bare(suite, part, say))
        if kind == "ready":
            _keep(ready, lambda part: _build_ready(bare, part, say))
        _forget_old(bare.parent, {bare, ready})
    return wanted


def recipes(suite: str) -> tuple[Path, Path]:
    """Cache folders of the bare and the ready image; their names change with what goes into them."""
    own = [path.read_bytes().hex() for path in _authorities()]
    bare = _digest(suite, BARE_PACKAGES, DPKG_OPTION, MASKED, BARE_FILES, TIDY, own)
    return CACHE / suite / f"bare-{bare}", CACHE / suite / f"ready-{_digest(bare, READY_SCRIPT)}"


def bootstrap_percent(lines: int) -> float:
    """How far mmdebstrap is, by the lines it has written."""
    return 100 * lines / BOOTSTRAP_LINES


def apt_percent(line: str) -> float | None:
    """How far apt is, by a line of its status output: a fifth of the time is fetching."""
    found = re.match(r"(dl|pm)status:[^:]*:([0-9.]+):", line)
    if not found:
        return None
    part = float(found[2])
    return part * 0.2 if found[1] == "dl" else 20 + part * 0.7


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _authorities() -> list[Path]:
    return sorted(AUTHORITIES.glob("*.crt"))


def _keep(folder: Path, build: Callable[[Path], Path]) -> None:
    """Build into a temporary folder and rename the whole result into its place."""
    if folder.is_dir():
        return
    part = folder.with_name(f"{folder.name}.part")
    _abandon(part)
    part.mkdir(parents=True)
    try:
        build(part).rename(folder)
    finally:
        _abandon(part)


def _forget_old(folder: Path, current: set[Path]) -> None:
    """Remove images of earlier recipes, except those that a host still stands on."""
    in_use = "".join(record.read_text() for record in HOSTS.glob("*/host.json"))
    for old in set(folder.iterdir()) - current:
        if f'"{old}"' not in in_use:
            discard(old)


def _abandon(part: Path) -> None:
    cgroup.end(_group(part))
    discard(part)


def _group(part: Path) -> str:
    return f"image-{part.parent.name}-{part.name.partition('-')[0]}"


def _build_bare(suite: str, part: Path, say: Say) -> Path:
    progress = Progress(say, f"Making a bare Debian {suite}")
    root = part / "root"
    seen = 0

    def count(line: str) -> None:
        nonlocal seen
        seen += line.startswith("I: ")
        progress.at(bootstrap_percent(seen))

    # Not every machine's apt trusts Debian's keys.
    options = ["--variant=minbase", f"--keyring={KEYRING}", f"--dpkgopt={DPKG_OPTION}"]
    include = f"--include={','.join(BARE_PACKAGES)}"
    mirror = [found] if (found := own_mirror()) else []
    _follow(part, ["mmdebstrap", *options, include, suite, str(root), *mirror], count)
    for name, text in BARE_FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for unit in MASKED:
        (root / "etc/systemd/system" / unit).symlink_to("/dev/null")
    for authority in _authorities():
        shutil.copy(authority, root / AUTHORITIES.relative_to("/"))
    _inside(part, root, f"update-ca-certificates\n{TIDY}\n", lambda _: None)
    return root


def _build_ready(bare: Path, part: Path, say: Say) -> Path:
    progress = Progress(say, f"Installing nginx, PostgreSQL, git and uv over the bare Debian {bare.parent.name}")

    def watch(line: str) -> None:
        if (percent := apt_percent(line)) is not None:
            progress.at(percent)

    root = mount_overlay([bare], part)
    _inside(part, root, READY_SCRIPT, watch)
    discard(root)
    return part / "upper"


def _inside(part: Path, root: Path, script: str, watch: Callable[[str], None]) -> None:
    """Run a script in the image, on this machine's network."""
    # LC_ALL: PostgreSQL makes its cluster in the encoding of the locale that it is installed under.
    settings = [f"--setenv={name}={ENV[name]}" for name in ("LC_ALL", "DEBIAN_FRONTEND")]
    nspawn = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--as-pid2", "--pipe"]
    place = [f"--directory={root}", "--resolv-conf=replace-host", "--timezone=off"]
    _follow(part, [*nspawn, *place, *settings, "/bin/sh", "-euc", script], watch)


def _follow(part: Path, argv: list[str], watch: Callable[[str], None]) -> None:
    """Run a command line by line; its last lines are the evidence when it fails."""
    last: deque[str] = deque(maxlen=15)
    process = subprocess.Popen(
        cgroup.entering(_group(part), argv),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=ENV,
    )
    with process:
        for line in process.stdout or ():
            watch(line)
            if not re.match(r"(dl|pm)status:", line):
                last.append(line)
    if process.returncode:
        image, reason = part.name.removesuffix(".part"), last_line("".join(last))
        raise LabError(
            f"cannot make the image {image}: {argv[0]} says: {reason}",
            hint="see that this machine reaches a Debian mirror and PyPI, then: fab lab.up",
            evidence="".join(last),
        )


def own_mirror() -> str:
    """The Debian mirror that this machine's apt uses, empty where it has none."""
    if not shutil.which("apt-get", path=ENV["PATH"]):
        return ""
    wanted = ("Created-By: Packages", "Origin: Debian", "Label: Debian", "Component: main")
    listing = run("apt-get", "indextargets", "--format", "$(REPO_URI)", *wanted, trouble="cannot ask apt")
    return next((line for line in listing.splitlines() if line.startswith("http")), "")
