"""known_hosts is read as OpenSSH reads it: ssh-keygen -F is asked the same of the same files."""

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import paramiko
import pytest
from hypothesis import given
from hypothesis import strategies as st
from paramiko.hostkeys import HostKeys
from paramiko.pkey import PublicBlob

from fabfile.ssh.known_hosts import KnownHosts, certificate_trouble, fingerprint, names_of

KEY = base64.b64encode(b"\0\0\0\x0bssh-ed25519\0\0\0 " + b"k" * 32).decode()
NAMES = ("web1.example.com", "203.0.113.5", "2001:db8::5", "[web1.example.com]:2222", "[2001:db8::5]:22022")
ENTRIES = (
    *NAMES,
    "*.example.com",
    "web?.example.com",
    "WEB1.example.com",
    "*",
    "203.0.113.*,!203.0.113.5",
    "!203.0.113.5,*",
    "[*.example.com]:2222",
    "web1",
    "a.example.com,web1.example.com,203.0.113.5",
    *(HostKeys.hash_host(name) for name in NAMES),
    "|1|nonsense|nonsense",
)
LINES = ("", "# a comment", "web1.example.com", "@revoked")


def found_by_openssh(file: Path, name: str) -> set[int]:
    """The numbers of the lines that ssh-keygen -F finds."""
    command = ["ssh-keygen", "-F", name, "-f", file]
    said = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    return {int(line.rsplit("line ", 1)[1].split()[0]) for line in said.splitlines() if line.startswith("# Host ")}


def test_every_line_is_found_by_the_names_that_openssh_finds_it_by(tmp_path: Path) -> None:
    """Plain, hashed, with patterns and exceptions, with ports, with markers; and what is no line is passed over."""
    lines = [
        f"{marker}{entry} ssh-ed25519 {KEY} ana@laptop" for entry in ENTRIES for marker in ("", "@cert-authority ")
    ]
    file = tmp_path / "known_hosts"
    file.write_text("\n".join([*lines, *LINES]))
    known = KnownHosts.read([file, tmp_path / "none"])
    for name in NAMES:
        ours = {line.number for line in (*known.keys([name]), *known.authorities([name]))}
        assert ours == found_by_openssh(file, name), name
        assert ours


def test_the_first_name_that_is_known_counts(tmp_path: Path) -> None:
    """A key for a port hides the one without; where there is none for it, that one counts, as for ssh."""
    file = tmp_path / "known_hosts"
    file.write_text(f"web1 ssh-ed25519 {KEY}\n[web1]:2222 ssh-rsa {KEY}\n")
    known = KnownHosts.read([file])
    assert [line.type for line in known.keys(names_of("web1", 2222))] == ["ssh-rsa"]
    assert [line.type for line in known.keys(names_of("web1", 2223))] == ["ssh-ed25519"]
    assert names_of("WEB1", 22) == ("web1",)


@given(st.binary())
def test_nothing_in_a_file_raises(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Whatever stands in it."""
    file = tmp_path_factory.mktemp("known") / "known_hosts"
    file.write_bytes(content)
    KnownHosts.read([file]).keys(["web1"])


def test_the_fingerprint_is_that_of_ssh_keygen(tmp_path: Path) -> None:
    """It is what people compare."""
    file = tmp_path / "key.pub"
    file.write_text(f"ssh-ed25519 {KEY} ana\n")
    said = subprocess.run(["ssh-keygen", "-lf", file], capture_output=True, text=True, check=True).stdout
    assert fingerprint(KEY) == said.split()[1]


@pytest.fixture
def signed(tmp_path: Path) -> Callable[..., paramiko.PKey]:
    """Makes a host's key with a certificate, and known_hosts with its authority."""
    for name in ("authority", "host"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    kind, data, *_ = (tmp_path / "authority.pub").read_text().split()
    (tmp_path / "known_hosts").write_text(f"@cert-authority * {kind} {data}\n")

    def sign(*options: str) -> paramiko.PKey:
        command = ["ssh-keygen", "-q", "-s", tmp_path / "authority", "-I", "web1", *options, tmp_path / "host.pub"]
        subprocess.run(command, check=True, capture_output=True)
        key = paramiko.Ed25519Key.from_private_key_file(str(tmp_path / "host"))
        key.public_blob = PublicBlob.from_file(str(tmp_path / "host-cert.pub"))
        return key

    return sign


def test_a_certificate_that_is_no_hosts(tmp_path: Path, signed: Callable[..., paramiko.PKey]) -> None:
    """A user's of the same authority, one that was changed after it was signed, and one that is cut."""
    known = KnownHosts.read([tmp_path / "known_hosts"])
    assert certificate_trouble(signed("-h", "-n", "web1"), ["web1"], known) == ""
    assert certificate_trouble(signed("-h", "-n", "w*1,web2"), ["[web1]:2222", "web1"], known) == ""
    assert certificate_trouble(signed("-n", "web1"), ["web1"], known) == "it is a user's certificate, no host's"
    key = signed("-h", "-n", "web2")
    blob = key.public_blob
    assert blob is not None
    for forged, told in (
        (blob.key_blob.replace(b"web2", b"web1"), "its signature is not the authority's"),
        (blob.key_blob[:-20], "it cannot be read"),
    ):
        key.public_blob = PublicBlob(blob.key_type, forged)
        assert (certificate_trouble(key, ["web1"], known) or "").startswith(told)
    key.public_blob = None
    assert certificate_trouble(key, ["web1"], known) is None
