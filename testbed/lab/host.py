"""A lab host's life: made, booted, found, cut off, and removed without a trace."""

import contextlib
import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import cgroup, furnish, image, network
from .machine import (
    ENV,
    HOSTS,
    LOCKS,
    LabError,
    Say,
    discard,
    locked,
    memory_is_roomy,
    mount_memory,
    mount_overlay,
    require,
    unmount,
)

NAME = re.compile(r"[a-z][a-z0-9-]{0,20}")
BOOT_SECONDS = 60
ACME_DIRECTORY = "https://localhost:14000/dir"
# As certbot's timer does it; and once more as somebody new, for an ACME server that has started anew forgets everybody.
RENEWAL = """
renew() { certbot -q renew --force-renewal --no-random-sleep-on-renew "$@"; }
renew || {
  rm -r /etc/letsencrypt/accounts
  sed -i '/^account = /d' /etc/letsencrypt/renewal/*.conf
  renew --agree-tos --email ops@consult.lab
}
"""
ENGINE = Path("/run/systemd/nspawn")


@dataclass(frozen=True)
class LabHost:
    """A running lab host. `root` is its disk and `pid` its PID 1, both as seen from this machine."""

    name: str
    address: str
    key_file: Path
    known_hosts: Path
    root: Path
    doppler_token: str = field(repr=False)
    pid: int
    netns: str
    user: str = "root"


@dataclass(frozen=True)
class Record:
    """What is kept about a host on this machine, running or not; `index` numbers its network."""

    name: str
    suite: str
    image: str
    layers: list[str]
    index: int
    doppler_token: str = field(repr=False)

    @property
    def folder(self) -> Path:
        """Everything that the host has on this machine's disk."""
        return folder_of(self.name)

    @property
    def address(self) -> str:
        """The host's address."""
        return network.address(self.index)


def up(
    name: str = "lab", *, suite: str = "", image: str = "", base: str = "", memory: bool = False, say: Say = print
) -> LabHost:
    """A running host of that name: the one that runs, or one that stopped, or a new one (bookworm, ready).

    A new one may have a `base`: a host that was halted, of whose disk it gets a copy. With `memory` what a new one
    writes is kept in this machine's memory, where there is enough of it: some work there takes a tenth of the time.
    Raises LabError when this machine cannot hold it, or when one of that name runs from another image.
    """
    check(name)
    require(say)
    with locked(f"host-{name}"):
        record = _read(name)
        if record is None or not (record.folder / "furnished").exists():
            _remove(name)  # half-made: somebody's first boot was cut short
            memory = memory and memory_is_roomy()
            if base:
                record = _copy(name, base, memory=memory)
            else:
                record = _make(name, suite or "bookworm", image or "ready", memory=memory, say=say)
        elif (record.suite, record.image) != (suite or record.suite, image or record.image):
            raise LabError(
                f"{name} is there already, as {record.suite} {record.image}, "
                f"not {suite or record.suite} {image or record.image}",
                hint=f"fab lab.down --name {name}",
            )
        if host := _running(record):
            return host if _was_ready(record, host.pid) else _wait(record, host, say)
        say(f"Booting {name} at {record.address}")
        return _boot(record, say)


def boot(host: LabHost, say: Say = lambda _: None) -> LabHost:
    """Start a host that lost its power: same disk, same address, same keys."""
    with locked(f"host-{host.name}"):
        record = _read(host.name)
        if record is None:
            raise LabError(f"no lab host {host.name}", hint=f"fab lab.up --name {host.name}")
        return _running(record) or _boot(record, say)


def find(name: str) -> LabHost | None:
    """The host of that name, if it runs."""
    check(name)
    record = _read(name)
    return _running(record) if record else None


def running() -> list[LabHost]:
    """All hosts that run, by name."""
    hosts = [_running(record) for record in records()]
    return [host for host in hosts if host]


def names() -> list[str]:
    """Names of all hosts that left something on this machine: running, stopped or half-made."""
    return sorted(path.name for path in HOSTS.iterdir()) if HOSTS.is_dir() else []


def standing_on(base: str) -> list[str]:
    """Names of the hosts that began with the disk of that one, and cannot do without it."""
    return [record.name for record in records() if str(folder_of(base) / "upper") in record.layers]


def records() -> list[Record]:
    """All hosts that this machine knows, running or not, by name."""
    known = [_read(name) for name in names()]
    return [record for record in known if record]


def down(name: str, say: Say = print) -> None:
    """Remove a host and all that is its own on this machine, in whatever state it is."""
    check(name)
    if os.geteuid() != 0:
        raise LabError("the lab needs root to take a host down", hint="run it as root: sudo ./run fab ...")
    with locked(f"host-{name}"):
        known = folder_of(name).exists()
        _remove(name)
    for folder in (HOSTS, LOCKS):
        with contextlib.suppress(OSError):  # not empty: other hosts are there
            folder.rmdir()
    say(f"{name} is gone" if known else f"there is no lab host {name}")


def power_cut(host: LabHost) -> None:
    """Stop a host as a power cut does: nothing on it gets to run another instruction.

    What it had written is on its disk, synced or not: this machine keeps its page cache.
    """
    with contextlib.suppress(ProcessLookupError):
        os.kill(host.pid, signal.SIGKILL)
    cgroup.end(f"{host.name}/host")


def halt(host: LabHost) -> None:
    """Shut a host down in order; its disk can be the base of other hosts. Raises LabError if it does not end."""
    record = _known(host)
    os.kill(host.pid, signal.SIGRTMIN + 4)  # to systemd: poweroff
    deadline = time.monotonic() + BOOT_SECONDS
    while cgroup.processes(f"{host.name}/host"):
        if time.monotonic() > deadline:
            raise _stuck(record, "does not shut down")
        time.sleep(0.02)
    network.remove(host.name, record.index)
    unmount(record.folder / "root")


def cut_network(host: LabHost) -> None:
    """Pull the cable: packets vanish, nobody gets a reset; the host's own way out stays."""
    network.switch(_known(host).index, "down")


def join_network(host: LabHost) -> None:
    """Plug the cable in again."""
    network.switch(_known(host).index, "up")


def give_six(host: LabHost) -> str:
    """Give the host an IPv6 address beside the other, until its next boot; return it."""
    return network.give_six(host.name, _known(host).index)


def put_behind(host: LabHost, jump: LabHost) -> tuple[str, str]:
    """Let nobody but `jump` come to the host; return its IPv4 and IPv6 addresses there. Its own way out stays."""
    addresses = network.cable(host.name, jump.name)
    cut_network(host)
    return addresses


def get_secrets(host: LabHost) -> dict[str, str]:
    """What the host's Doppler API answers."""
    return furnish.read_secrets(host.root)


def set_secrets(host: LabHost, **changes: str | None) -> None:
    """Change what the host's Doppler API answers, from the next request on; None removes a secret."""
    values: dict[str, str | None] = {**get_secrets(host), **changes}
    furnish.write_secrets(host.root, {name: value for name, value in values.items() if value is not None})


def start_acme(host: LabHost, *names: str) -> str:
    """Start the host's own ACME server, now and at boot; `names` lead to the host. Returns its directory's address."""
    furnish.name_itself(host.root, *names)
    started = execute(host, "systemctl", "enable", "--now", "lab-acme.service")
    if started.returncode:
        raise LabError(
            f"the ACME server of {host.name} does not start",
            hint=f"fab lab.ssh --name {host.name} --command 'journalctl -u lab-acme'",
            evidence=started.stderr,
        )
    return ACME_DIRECTORY


def renew_certificates(host: LabHost) -> None:
    """Renew the host's certificates now, as certbot's timer would one day."""
    done = execute(host, "bash", "-euc", RENEWAL, timeout=120)
    if done.returncode:
        raise LabError(
            f"certbot renews no certificate on {host.name}",
            hint=f"fab lab.ssh --name {host.name} --command 'certbot renew --force-renewal'",
            evidence=done.stderr,
        )


def execute(host: LabHost, *argv: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
    """Run a command as root on the host without SSH; `timeout` in seconds."""
    command = ["nsenter", "--target", str(host.pid), "--all", *argv]
    clean = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    return subprocess.run(
        [str(shutil.which(command[0], path=ENV["PATH"])), *command[1:]],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=clean,
        timeout=timeout,
        check=False,
    )


def ssh_command(host: LabHost) -> list[str]:
    """An ssh that uses this host's keys and nothing of the user's."""
    options = ("IdentitiesOnly=yes", f"UserKnownHostsFile={host.known_hosts}", "StrictHostKeyChecking=yes")
    settings = [word for option in options for word in ("-o", option)]
    return ["ssh", "-F", "none", "-i", str(host.key_file), *settings, f"{host.user}@{host.address}"]


def check(name: str) -> None:
    """Raise LabError unless the name is fit for a host, a folder and a namespace."""
    if not NAME.fullmatch(name):
        raise LabError(
            f'"{name}" is no name for a lab host',
            hint="a small letter, then up to 20 small letters, digits and hyphens",
        )


def folder_of(name: str) -> Path:
    """Everything that a host has on this machine's disk."""
    return HOSTS / name


def _read(name: str) -> Record | None:
    try:
        return Record(**json.loads((folder_of(name) / "host.json").read_text()))
    except PermissionError as error:
        raise LabError("the lab hosts of this machine are root's", hint="run it as root: sudo ./run fab ...") from error
    except (FileNotFoundError, ValueError, TypeError):
        return None


def _known(host: LabHost) -> Record:
    if record := _read(host.name):
        return record
    raise LabError(f"no lab host {host.name}", hint=f"fab lab.up --name {host.name}")


def _make(name: str, suite: str, kind: str, *, memory: bool, say: Say) -> Record:
    """Give a new host its address, its disk and its keys."""
    layers = [str(folder) for folder in image.layers(suite, kind, say)]
    record = _register(name, suite, kind, layers, f"dp.st.lab.{secrets.token_urlsafe(32)}", memory=memory)
    furnish.furnish(_mount(record), name, record.address, record.folder, record.doppler_token)
    (record.folder / "furnished").touch()
    return record


def _copy(name: str, base: str, *, memory: bool) -> Record:
    """The same for a host that begins with the disk of another one; nothing is written to that one's any more."""
    below = _read(base)
    if below is None or _running(below):
        raise LabError(f"{base} is no lab host that was halted: nothing can stand on its disk")
    layers = [str(below.folder / "upper"), *below.layers]
    record = _register(name, below.suite, below.image, layers, below.doppler_token, memory=memory)
    furnish.rename(_mount(record), name, record.address, record.folder, below.folder)
    (record.folder / "furnished").touch()
    return record


def _register(name: str, suite: str, kind: str, layers: list[str], token: str, *, memory: bool) -> Record:
    with locked("addresses"):
        index = network.free_index({record.index for record in records()})
        record = Record(name, suite, kind, layers, index, token)
        record.folder.mkdir(parents=True, mode=0o700)
        if memory:
            mount_memory(record.folder)
        part = record.folder / "host.json.part"
        part.write_text(json.dumps(record.__dict__))
        part.chmod(0o600)
        part.rename(record.folder / "host.json")
    return record


def _mount(record: Record) -> Path:
    return mount_overlay([Path(layer) for layer in record.layers], record.folder)


def _boot(record: Record, say: Say) -> LabHost:
    if above := standing_on(record.name):
        raise LabError(f"{record.name} cannot boot: {', '.join(above)} stand on its disk")
    cgroup.end(f"{record.name}/host")
    # A newer systemd-nspawn that was killed leaves it, and the next one refuses it.
    unmount(ENGINE / "unix-export" / f"ddl-{record.name}")
    root = _mount(record)
    log = record.folder / "console.log"
    network.make(record.name, record.index, log)
    cgroup.spawn(f"{record.name}/host", _nspawn(record, root), log)
    deadline = time.monotonic() + BOOT_SECONDS
    while not (host := _running(record)):
        if time.monotonic() > deadline or not cgroup.processes(f"{record.name}/host"):
            raise _stuck(record, "does not start")
        time.sleep(0.02)
    return _wait(record, host, say)


def _nspawn(record: Record, root: Path) -> list[str]:
    return [
        # Without it the host gets this machine's cgroup layout, and trixie does not boot in a hybrid one.
        "env",
        "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1",
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        f"--directory={root}",
        f"--machine=ddl-{record.name}",
        f"--hostname={record.name}",
        f"--network-namespace-path=/run/netns/{network.namespace(record.name)}",
        "--capability=CAP_NET_ADMIN",
        "--console=read-only",
        "--resolv-conf=off",
        "--timezone=off",
        "--link-journal=no",
    ]


def _running(record: Record) -> LabHost | None:
    pid = cgroup.first_process(f"{record.name}/host")
    if pid is None:
        return None
    return LabHost(
        name=record.name,
        address=record.address,
        key_file=record.folder / "id_ed25519",
        known_hosts=record.folder / "known_hosts",
        root=record.folder / "root",
        doppler_token=record.doppler_token,
        pid=pid,
        netns=network.namespace(record.name),
    )


def _wait(record: Record, host: LabHost, say: Say) -> LabHost:
    """Wait until all units have started and sshd answers; a unit that failed is told, and not waited for."""
    deadline = time.monotonic() + BOOT_SECONDS
    while (state := _state(host)) not in ("running", "degraded") or not _sshd_answers(host.address):
        if time.monotonic() > deadline or not Path(f"/proc/{host.pid}").exists():
            raise _stuck(record, f"does not come up (systemd says: {state or 'nothing'})")
        time.sleep(0.05)
    if state == "degraded":
        failed = execute(host, "systemctl", "list-units", "--failed", "--plain", "--no-legend").stdout
        units = ", ".join(line.split()[0] for line in failed.splitlines())
        say(f"{host.name} is up, but these units failed: {units}")
    (record.folder / "ready").write_text(_birth(host.pid))
    return host


def _was_ready(record: Record, pid: int) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return (record.folder / "ready").read_text() == _birth(pid)
    return False


def _birth(pid: int) -> str:
    """A process by its id and start time: ids come again, pairs do not."""
    return f"{pid} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"


def _state(host: LabHost) -> str:
    with contextlib.suppress(subprocess.TimeoutExpired):
        return execute(host, "systemctl", "is-system-running", timeout=10).stdout.strip()
    return ""


def _sshd_answers(address: str) -> bool:
    try:
        with socket.create_connection((address, 22), 2) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def _stuck(record: Record, what: str) -> LabError:
    console = (record.folder / "console.log").read_text(errors="replace").splitlines()
    return LabError(
        f"lab host {record.name} {what}",
        hint=f"fab lab.down --name {record.name}, then lab.up again",
        evidence="\n".join(console[-15:]),
    )


def _remove(name: str) -> None:
    """Undo everything that `up` does, each part on its own: any of them may be missing."""
    record, folder = _read(name), folder_of(name)
    cgroup.end(name)
    if record:
        network.remove(name, record.index)
    network.remove_namespace(name)
    root = folder / "root"
    traces = [ENGINE / "propagate" / f"ddl-{name}", ENGINE / "unix-export" / f"ddl-{name}"]
    if root.exists():
        there = root.stat()
        traces.append(ENGINE / "locks" / f"inode-{there.st_dev}:{there.st_ino}")
    discard(folder)
    for trace in traces:
        if trace.is_dir():
            discard(trace)
        else:
            trace.unlink(missing_ok=True)
