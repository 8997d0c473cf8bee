"""known_hosts files as sshd(8) has them: several keys of a host, hashed names, patterns, certificate authorities."""

import base64
import hashlib
import hmac
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from . import certificates

AUTHORITY, REVOKED = "@cert-authority", "@revoked"


@dataclass(frozen=True)
class Line:
    """One line of a known_hosts file, or a setting: who it is about, a public key in base64, and where it stands."""

    marker: str
    names: tuple[str, ...]
    type: str
    data: str
    file: str
    number: int = 0

    @property
    def place(self) -> str:
        return f"{self.file}:{self.number}" if self.number else self.file

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.data)

    def is_about(self, name: str) -> bool:
        """Whether one of its patterns is `name`, and none with ! before it."""
        found = [pattern for pattern in self.names if _matches(pattern.removeprefix("!"), name)]
        return bool(found) and not any(pattern.startswith("!") for pattern in found)


class KnownHosts:
    """Lines in their order; a host is looked for by names of which the first that is known counts."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = tuple(lines)

    @classmethod
    def read(cls, files: Iterable[Path]) -> "KnownHosts":
        """All lines of the files that are there. Raises OSError for one that cannot be read."""
        return cls(line for file in files if file.exists() for line in _lines(file))

    def keys(self, names: Sequence[str]) -> list[Line]:
        return self._about(names, "")

    def authorities(self, names: Sequence[str]) -> list[Line]:
        return self._about(names, AUTHORITY)

    def revoked(self, names: Sequence[str], data: str) -> Line | None:
        """The line that takes this key, of the host or of an authority, out of use."""
        return next((line for line in self._about(names, REVOKED) if line.data == data), None)

    def _about(self, names: Sequence[str], marker: str) -> list[Line]:
        marked = [line for line in self._lines if line.marker == marker]
        return next((found for name in names if (found := [line for line in marked if line.is_about(name)])), [])


def names_of(address: str, port: int) -> tuple[str, ...]:
    """What known_hosts calls a host; without a line for its port, OpenSSH takes one without any port."""
    address = address.lower()
    return (address,) if port == 22 else (f"[{address}]:{port}", address)


def fingerprint(data: str) -> str:
    """The fingerprint of a public key in base64, as ssh-keygen -l shows it."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(base64.b64decode(data)).digest()).decode().rstrip("=")


def certificate_trouble(key: paramiko.PKey, names: Sequence[str], known: KnownHosts) -> str | None:
    """Why the certificate of a host's key does not count; "" if it does; None when no authority here made it."""
    if key.public_blob is None:
        return None
    try:
        certificate = certificates.certificate_of(key.public_blob)
        authority = certificates.authority_of(certificate)
    except certificates.UNREADABLE as error:
        return f"it cannot be read: {error}"
    if line := known.revoked(names, authority):
        return f"its authority is revoked (@revoked), {line.place}"
    if authority not in [line.data for line in known.authorities(names)]:
        return None
    principals = [principal.decode() for principal in certificate.valid_principals]
    if not principals or any(_matches(principal, names[-1]) for principal in principals):
        return certificates.trouble_with_hosts(certificate)
    return f"it is for {', '.join(principals)}, not for {names[-1]}"


def _lines(file: Path) -> Iterable[Line]:
    for number, text in enumerate(file.read_text(errors="replace").split("\n"), 1):
        words = text.split()
        marker = words.pop(0) if words and words[0].startswith("@") else ""
        if len(words) >= 3 and not words[0].startswith("#") and _is_base64(words[2]):
            yield Line(marker, tuple(words[0].split(",")), words[1], words[2], str(file), number)


def _is_base64(text: str) -> bool:
    try:
        return bool(base64.b64decode(text, validate=True))
    except ValueError:
        return False


def _matches(pattern: str, name: str) -> bool:
    """Whether a name, a pattern with * and ?, or a hashed name (|1|SALT|HASH) means `name`."""
    if pattern.startswith("|1|"):
        salt, _, digest = pattern.removeprefix("|1|").partition("|")
        if not (_is_base64(salt) and _is_base64(digest)):
            return False
        made = hmac.new(base64.b64decode(salt), name.encode(), hashlib.sha1).digest()
        return hmac.compare_digest(made, base64.b64decode(digest))
    text = re.escape(pattern.lower()).replace(r"\*", ".*").replace(r"\?", ".")
    return re.fullmatch(text, name) is not None
