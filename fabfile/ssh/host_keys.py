"""Host keys: which ones count, what is said of one that does not, and how a new one is accepted."""

import base64
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import paramiko
from paramiko.hostkeys import HostKeys

from ..errors import ConfigError, ConnectError
from . import certificates
from .known_hosts import KnownHosts, Line, certificate_trouble
from .route import Hop

RSA = ("rsa-sha2-512", "rsa-sha2-256")  # how a key of the type ssh-rsa signs


class FirstContact(Protocol):
    """Whoever decides whether a key that nobody knows is the right one."""

    def accept(self, where: str, kind: str, fingerprint: str) -> bool: ...
    def accepted(self, where: str, kind: str, fingerprint: str, file: Path) -> None: ...


class Refuse:
    """Accepts none."""

    def accept(self, where: str, kind: str, fingerprint: str) -> bool:  # noqa: ARG002
        return False

    def accepted(self, where: str, kind: str, fingerprint: str, file: Path) -> None: ...


REFUSE = Refuse()


@dataclass
class Check(paramiko.MissingHostKeyPolicy):
    """Judges the key of one host. Paramiko asks it of every key, as it is told of no known_hosts file.

    Fabric's own policy accepts every key (decision 15); paramiko's reading of known_hosts prefers the first type of
    several, and has no patterns and no authorities.
    """

    hop: Hop
    known: KnownHosts
    first_contact: FirstContact

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        """Raise ConnectError for a key that is not the host's."""
        names = self.hop.known_names
        if line := self.known.revoked(names, key.get_base64()):
            raise ConnectError(
                f"{self.hop.host}: the host key of {self.hop.where} is revoked (@revoked): {_shown(key)}, {line.place}",
                hint="ask who revoked it; give the server a new key",
            )
        trouble = certificate_trouble(key, names, self.known)
        if trouble == "":
            return
        if trouble:
            raise ConnectError(
                f"{self.hop.host}: the host certificate of {self.hop.where} does not count: {trouble}",
                hint="have the server's certificate signed anew: ssh-keygen -s CA -h -n NAMES KEY.pub",
            )
        lines = self.known.keys(names)
        if any(line.data == key.get_base64() for line in lines):
            return
        if lines:
            raise self._changed(key, lines)
        self._meet(key)

    def transport(self, sock: Any, **options: Any) -> "Transport":
        """Make paramiko's part of a connection, that asks the host for keys which are known here."""
        return Transport(self._wanted(), sock, **options)

    def _wanted(self) -> tuple[str, ...]:
        names, every = self.hop.known_names, paramiko.Transport._preferred_keys
        known = {line.type for line in self.known.keys(names)}
        first = [kind for kind in every if kind in known or (kind in RSA and "ssh-rsa" in known)]
        certified = [f"{kind}{certificates.SUFFIX}" for kind in every] if self.known.authorities(names) else []
        return (*certified, *first, *(kind for kind in every if kind not in first))

    def _changed(self, key: paramiko.PKey, lines: Sequence[Line]) -> ConnectError:
        line = next((line for line in lines if line.type == key.get_name()), lines[0])
        name = next(name for name in self.hop.known_names if line.is_about(name))
        return ConnectError(
            f"{self.hop.host}: host key changed (REMOTE HOST IDENTIFICATION HAS CHANGED): {name} shows {_shown(key)}, "
            f"{line.place} is {line.fingerprint}. The server was installed again, or somebody listens in",
            hint=f"{self._pin(key)}, only when you know why"
            if self.hop.host_key
            else f"ssh-keygen -R '{name}' -f {line.file}   (only when you know why)",
        )

    def _meet(self, key: paramiko.PKey) -> None:
        """Accept an unknown key if whoever decides says so; remember it."""
        where, kind = self.hop.known_names[0], key.get_name()
        if self.first_contact.accept(where, kind, key.fingerprint):
            self.first_contact.accepted(where, kind, key.fingerprint, self._remember(key))
            return
        missing = "" if self.hop.known_hosts[0].exists() else f"; there is no {self.hop.known_hosts[0]}"
        pin = f"\n  if it is the right one: {self._pin(key)}, or" if self.hop.pin else ""
        raise ConnectError(
            f"{self.hop.host}: unknown host key (Host key verification failed): "
            f"{where} shows {_shown(key)}{missing}{pin}",
            hint=f"fab -H {self.hop.host} provision --accept-host-key {key.fingerprint} (in a terminal it asks); "
            f"or, to let ssh remember it: {self.hop.ssh}",
        )

    def _pin(self, key: paramiko.PKey) -> str:
        return f'{self.hop.pin} = "{_public(key)}" in hosts.toml'

    def _remember(self, key: paramiko.PKey) -> Path:
        """Write the key to the file that is asked first. Raises ConfigError."""
        file, name = self.hop.known_hosts[0], self.hop.known_names[0]
        entry = HostKeys.hash_host(name) if self.hop.config.hash_known_hosts else name
        try:
            file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = file.read_text(errors="replace") if file.exists() else ""
            with open(file, "a", opener=_private) as lines:
                lines.write("" if not text or text.endswith("\n") else "\n")
                lines.write(f"{entry} {_public(key)}\n")
        except OSError as error:
            raise ConfigError(
                f"{self.hop.host}: the host key cannot be written to {file}: {error.strerror}",
                hint=self._pin(key) if self.hop.pin else f"make {file} writable",
            ) from error
        return file


class Transport(paramiko.Transport):
    """Paramiko's, with an order of host key types of its own."""

    def __init__(self, wanted: tuple[str, ...], sock: Any, **options: Any) -> None:
        self._wanted = wanted
        super().__init__(sock, **options)

    @property
    def preferred_keys(self) -> tuple[str, ...]:
        return self._wanted


def check(hop: Hop, first_contact: FirstContact) -> Check:
    """Make the check of a host: by the key of hosts.toml, which counts alone, or by known_hosts. Raises ConfigError."""
    try:
        known = KnownHosts([_pinned(hop)]) if hop.host_key else KnownHosts.read(hop.known_hosts)
    except OSError as error:
        raise ConfigError(
            f"{hop.host}: {error.filename} cannot be read: {error.strerror}", hint="correct known_hosts in hosts.toml"
        ) from error
    return Check(hop, known, first_contact)


def _pinned(hop: Hop) -> Line:
    kind, data, *_ = hop.host_key.split()
    try:
        paramiko.PKey.from_type_string(kind, base64.b64decode(data))
    except (ValueError, paramiko.SSHException) as error:
        raise ConfigError(
            f"{hop.host}: {hop.pin} is no {kind} key: {error}", hint=f"ssh-keyscan {hop.scanned}"
        ) from error
    return Line("", hop.known_names, kind, data, f"{hop.pin} in hosts.toml")


def _shown(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


def _public(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
