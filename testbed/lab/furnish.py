"""What a new lab host gets on its disk beyond its image: name, keys, secrets, and the lab's own services."""

import json
import os
import secrets
import shutil
from collections.abc import Iterable
from pathlib import Path

from .machine import run
from .repository import bare_repository, commit

GUEST = Path(__file__).parent / "guest"
SITE = Path(__file__).parent / "site"

DOPPLER = Path("srv/lab/doppler")
REPOSITORY = Path("srv/lab/git/consult.git")
ACME = Path("srv/lab/acme")
API = "http://127.0.0.1:8089"

ENABLED = {
    "lab-doppler-api.service": "multi-user.target.wants",
    "lab-git.path": "multi-user.target.wants",
    "lab-database.service": "postgresql.service.wants",
}
SSHD = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
UseDNS no
"""
DATABASE = """\
SELECT 'CREATE ROLE consult LOGIN' WHERE NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'consult') \\gexec
ALTER ROLE consult PASSWORD '{password}';
SELECT 'CREATE DATABASE consult OWNER consult'
 WHERE NOT EXISTS (SELECT FROM pg_database WHERE datname = 'consult') \\gexec
"""
SKIPPED = {"__pycache__", ".venv", "staticfiles", ".git", ".pytest_cache", ".ruff_cache"}


def furnish(root: Path, name: str, address: str, keys: Path, token: str) -> None:
    """Write everything onto a host's disk; `keys` gets the client's key and the known_hosts line."""
    _identify(root, name)
    _pin_host_key(root, address, keys)
    _let_in(root, keys)
    _install_services(root)
    _fill_doppler(root, token, address)
    seed_repository(root / REPOSITORY)


def rename(root: Path, name: str, address: str, keys: Path, base_keys: Path) -> None:
    """Give the copy of a host's disk a name and a host key of its own; whoever got into the base gets in."""
    _identify(root, name)
    _pin_host_key(root, address, keys)
    for key in ("id_ed25519", "id_ed25519.pub"):
        shutil.copy2(base_keys / key, keys / key)


def _identify(root: Path, name: str) -> None:
    _write(root, "etc/hostname", f"{name}\n")
    _write(root, "etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost\n")
    # Without one, systemd takes the boot for the first ever and turns on every unit there is.
    _write(root, "etc/machine-id", f"{secrets.token_hex(16)}\n")
    (root / "etc/resolv.conf").unlink(missing_ok=True)
    _write(root, "etc/resolv.conf", "nameserver 10.0.2.3\n")


def _pin_host_key(root: Path, address: str, keys: Path) -> None:
    """Make a new host key, the one that known_hosts has."""
    host_key = root / "etc/ssh/ssh_host_ed25519_key"
    _make_key(host_key, "lab host")
    host_public = host_key.with_suffix(".pub").read_text().split()
    (keys / "known_hosts").write_text(f"{address} {' '.join(host_public[:2])}\n")


def _let_in(root: Path, keys: Path) -> None:
    """Let a new client key in as root, the only way in."""
    _make_key(keys / "id_ed25519", "lab client")
    _write(root, "etc/ssh/sshd_config.d/lab.conf", SSHD)
    (root / "root/.ssh").mkdir(mode=0o700, exist_ok=True)
    _write(root, "root/.ssh/authorized_keys", (keys / "id_ed25519.pub").read_text(), 0o600)


def _make_key(path: Path, comment: str) -> None:
    path.unlink(missing_ok=True)
    options = ("-q", "-t", "ed25519", "-N", "", "-C", comment)
    run("ssh-keygen", *options, "-f", path, trouble="cannot make an SSH key")


def _install_services(root: Path) -> None:
    units = root / "etc/systemd/system"
    for source in (*GUEST.glob("*.service"), *GUEST.glob("*.path")):
        shutil.copyfile(source, units / source.name)
    drop_in = units / "postgresql@.service.d"
    drop_in.mkdir()
    shutil.copyfile(GUEST / "postgresql.conf", drop_in / "lab.conf")
    for unit, wants in ENABLED.items():
        (units / wants).mkdir(exist_ok=True)
        (units / wants / unit).symlink_to(f"../{unit}")
    _write(root, "usr/bin/doppler", (GUEST / "doppler.py").read_text(), 0o755)
    _write(root, DOPPLER / "api.py", (GUEST / "doppler_api.py").read_text())
    _write(root, "etc/doppler-lab-api", f"{API}\n")
    for name in ("prepare_acme.sh", "pebble.json"):
        _write(root, ACME / name, (GUEST / name).read_text())


def _fill_doppler(root: Path, token: str, address: str) -> None:
    password = secrets.token_hex(16)
    _write(root, DOPPLER / "tokens", f"{token}\n", 0o600)
    _write(root, "srv/lab/database.sql", DATABASE.format(password=password), 0o600)
    write_secrets(
        root,
        {
            "ALLOWED_HOSTS": f"consult.lab,127.0.0.1,localhost,{address}",
            "DATABASE_URL": f"postgres://consult:{password}@127.0.0.1:5432/consult",
            "DOPPLER_CONFIG": "lab",
            "DOPPLER_ENVIRONMENT": "lab",
            "DOPPLER_PROJECT": "consult",
            "SECRET_KEY": secrets.token_urlsafe(48),
        },
    )


def name_itself(root: Path, *names: str) -> None:
    """Let names lead the host to itself, as a DNS does that knows them; besides those that do so already."""
    hosts = root / "etc/hosts"
    text = hosts.read_text()
    new = [name for name in names if name not in text.split()]
    if new:
        _write(root, "etc/hosts", f"{text}127.0.0.1 {' '.join(new)}\n")


def read_secrets(root: Path) -> dict[str, str]:
    """What the host's Doppler API answers."""
    return json.loads((root / DOPPLER / "secrets.json").read_text())


def write_secrets(root: Path, values: dict[str, str]) -> None:
    """Make the host's Doppler API answer with these, from the next request on."""
    _write(root, DOPPLER / "secrets.json", json.dumps(values, indent=1, sort_keys=True) + "\n", 0o600)


def seed_repository(folder: Path) -> None:
    """Make the bare repository with the sample site as the one commit on `main`."""
    bare_repository(folder)
    files = {str(path.relative_to(SITE)): path.read_bytes() for path in _site_files()}
    if files:
        commit(folder, dict(files), message="Sample site")


def _site_files() -> Iterable[Path]:
    for path in sorted(SITE.rglob("*")):
        if path.is_file() and not SKIPPED.intersection(path.relative_to(SITE).parts):
            yield path


def _write(root: Path, name: str | Path, text: str, mode: int = 0o644) -> None:
    """Replace a file as a whole: a reader on the host sees the old text or the new one."""
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, mode)  # whatever the umask is
        file.write(text)
    part.replace(path)
