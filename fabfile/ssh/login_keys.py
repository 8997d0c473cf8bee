"""The private keys that a login offers, in OpenSSH's order; a passphrase is asked for in a terminal."""

import base64
import contextlib
import copy
import getpass
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
    load_ssh_private_key,
)
from paramiko.message import Message
from paramiko.pkey import PublicBlob
from paramiko.ssh_exception import BadAuthenticationType

from ..errors import ConfigError
from . import certificates
from .agent import Agent, AgentKey
from .known_hosts import fingerprint
from .route import Hop

TRIES = 3  # at a passphrase
TOUCH_SECONDS = 60  # for a finger to reach a security key
UNLOCKED: dict[bytes, paramiko.PKey] = {}  # of this run: one with several logins asks once
OPENSSH_KEY = b"-----BEGIN OPENSSH PRIVATE KEY-----"


class NoKeyAccepted(paramiko.AuthenticationException):
    """The server let nobody in: which keys were offered, and what stood in the way of others.

    `allowed` are the ways to log in that it has, `further` those that it wants after a key. `cut` says that it hung up
    before all keys were offered (MaxAuthTries).
    """

    def __init__(self, keys: "LoginKeys", allowed: tuple[str, ...] = (), *, cut: bool = False) -> None:
        super().__init__("no key was accepted")
        self.offered = keys.offered
        self.troubles = keys.troubles
        self.further = keys.further
        self.allowed = allowed
        self.cut = cut


@dataclass
class LoginKeys:
    """What paramiko calls an authentication strategy, for one hop.

    Its own tries every key in one order, asks for no passphrase, and takes half of a two-factor login for a whole one.
    """

    hop: Hop
    offered: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    further: tuple[str, ...] = ()

    def authenticate(self, transport: paramiko.Transport) -> None:
        """Log in. Raises NoKeyAccepted, ConfigError for a key of hosts.toml that is none."""
        with Agent(self.hop.config.agent) as agent:
            seen = set()
            for name, key in self._keys(agent):
                public = key.public_blob.key_blob if key.public_blob else key.asbytes()
                if public in seen:
                    continue
                seen.add(public)
                self.offered.append(name)
                self._try(transport, name, key)
                if transport.is_authenticated():
                    return
                if not transport.is_active():
                    raise NoKeyAccepted(self, cut=True)
        raise NoKeyAccepted(self, _allowed(transport, self.hop.user))

    def _try(self, transport: paramiko.Transport, name: str, key: paramiko.PKey) -> None:
        """Offer one key; note what the server wants besides, or why it could not be offered."""
        if _is_fido(key.get_name()):
            transport.auth_timeout = TOUCH_SECONDS
        try:
            self.further = tuple(transport.auth_publickey(self.hop.user, key))
        except paramiko.AuthenticationException:
            pass
        except (paramiko.SSHException, EOFError, OSError) as error:
            if transport.is_active():  # an agent that refuses to sign, or asked in vain
                self.troubles.append(f"{name}: {error}")

    def _keys(self, agent: Agent) -> Iterator[tuple[str, paramiko.PKey]]:
        """What to offer, each with its name for a person; some of it twice."""
        hop, config = self.hop, self.hop.config
        if hop.key_text:
            key = _from_text(hop)
            yield _name("key_text", key), key
            return
        held = agent.keys()
        if hop.key:
            own = Path(hop.key).expanduser()
            if not own.exists():
                raise ConfigError(f"{hop.host}: the key file {own} is missing", hint="correct key in hosts.toml")
            yield from self._file(own, held)
        files = [file for file in config.identities if file.exists()]
        yield from self._certificates(held, files)
        for key in [key for file in files for key in _copies(held, file)]:
            yield _agents_name(key), key
        if not config.identities_only:
            for key in held:
                yield _agents_name(key), key
        for file in files:
            yield from self._file(file, held)

    def _certificates(self, held: list[AgentKey], files: list[Path]) -> Iterator[tuple[str, paramiko.PKey]]:
        """The CertificateFile lines of ssh_config, each with the agent's key or the file that it belongs to."""
        for file in self.hop.config.certificates:
            blob = self._certificate(file)
            if blob is None:
                continue
            public = certificates.certified_key(blob)
            key: paramiko.PKey | None = next((key.fresh() for key in held if key.blob == public), None)
            key = key or next((self._load(own) for own in files if _public_of(own) == public), None)
            if key is None:
                self.troubles.append(f"{file}: neither the agent nor an IdentityFile has the key of this certificate")
                continue
            key.public_blob = blob
            yield _name(f"{file} (certificate)", key), key

    def _file(self, file: Path, held: list[AgentKey]) -> Iterator[tuple[str, paramiko.PKey]]:
        """A key file: the agent's copies of it, else itself; first with the certificate beside it, if there is one."""
        if copies := _copies(held, file):
            yield from ((_agents_name(key), key) for key in copies)
            return
        kind = _kind(file)
        if _is_fido(kind):
            self.troubles.append(f"{file} is a FIDO key ({kind}), which only an agent can use: ssh-add {file}")
        elif kind and file.suffix == ".pub":
            self.troubles.append(f"{file} is a public key, and the agent does not have its private one")
        elif key := self._load(file):
            beside = Path(f"{file}-cert.pub")
            if beside.exists() and (blob := self._certificate(beside)):
                with_it = copy.copy(key)
                with_it.public_blob = blob
                yield _name(f"{beside} (certificate)", with_it), with_it
            yield _name(str(file), key), key

    def _certificate(self, file: Path) -> PublicBlob | None:
        """Read a certificate; None, and the trouble, if that cannot be, or it is over."""
        try:
            blob = PublicBlob.from_file(str(file))
            trouble = certificates.expired(certificates.certificate_of(blob))
        except (OSError, *certificates.UNREADABLE) as error:
            trouble = getattr(error, "strerror", None) or "cannot be read"
        if trouble:
            self.troubles.append(f"the certificate {file} {trouble}")
            return None
        return blob

    def _load(self, file: Path) -> paramiko.PKey | None:
        """Read a key file, asking for its passphrase in a terminal; None, and the trouble, if that cannot be."""
        try:
            data = file.read_bytes()
            try:
                return private_key(data)
            except TypeError:  # cryptography's error for one that is encrypted
                return UNLOCKED.get(data) or self._unlock(file, data)
        except OSError as error:
            self.troubles.append(f"{file}: {error.strerror}")
        except (ValueError, UnsupportedAlgorithm):
            self.troubles.append(f"{file} is no private key that can be read (ed25519, ECDSA or RSA)")
        return None

    def _unlock(self, file: Path, data: bytes) -> paramiko.PKey | None:
        if not sys.stdin.isatty():
            self.troubles.append(
                f"{file} is encrypted, and there is no terminal to ask for its passphrase: ssh-add {file}"
            )
            return None
        for _ in range(TRIES):
            passphrase = getpass.getpass(f"Enter passphrase for key '{file}': ")
            if not passphrase:
                break
            with contextlib.suppress(ValueError):
                UNLOCKED[data] = private_key(data, passphrase.encode())
                return UNLOCKED[data]
        self.troubles.append(f"{file}: wrong passphrase")
        return None


def private_key(data: bytes, passphrase: bytes | None = None) -> paramiko.PKey:
    """Make paramiko's key of a file in OpenSSH's format, PEM or PKCS#8, of which it reads the first two itself.

    Raises TypeError where a passphrase is missing, ValueError and UnsupportedAlgorithm for what cannot be used.
    """
    load = load_ssh_private_key if data.lstrip().startswith(OPENSSH_KEY) else load_pem_private_key
    loaded = load(data, passphrase)
    kinds = {RSAPrivateKey: paramiko.RSAKey, EllipticCurvePrivateKey: paramiko.ECDSAKey}
    kinds[Ed25519PrivateKey] = paramiko.Ed25519Key
    kind = next((kind for its, kind in kinds.items() if isinstance(loaded, its)), None)
    if kind is None:
        raise ValueError("a key of another type")
    text = loaded.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()
    return kind.from_private_key(io.StringIO(text))


def _allowed(transport: paramiko.Transport, user: str) -> tuple[str, ...]:
    """Which ways to log in the server has."""
    try:
        transport.auth_none(user)
    except BadAuthenticationType as error:
        return tuple(error.allowed_types)
    except (paramiko.SSHException, EOFError, OSError):
        pass
    return ()


def _from_text(hop: Hop) -> paramiko.PKey:
    try:
        return private_key(hop.key_text.encode())
    except TypeError:
        reason = "is encrypted, and nobody is asked for its passphrase"
        hint = "take a key of its own without one for this: ssh-keygen -t ed25519 -N ''; or an agent"
    except (ValueError, UnsupportedAlgorithm):
        reason = "is no private key that can be read (ed25519, ECDSA or RSA)"
        hint = "put the whole file into it, from its first line (BEGIN) to its last (END)"
    raise ConfigError(f"{hop.host}: key_text {reason}", hint=hint)


def _copies(held: list[AgentKey], file: Path) -> list[AgentKey]:
    """What the agent has of a key file, with a certificate first."""
    public = _public_of(file)
    copies = [key for key in held if public and key.bare == public]
    return sorted(copies, key=lambda key: key.public_blob is None)


def _public_of(file: Path) -> bytes:
    """The public part of a key file, if it can be had without a passphrase; `file` may be the .pub file itself."""
    for path in (file, Path(f"{file}.pub")):
        try:
            text = path.read_bytes()
            public = _public_of_openssh(text) if text.startswith(OPENSSH_KEY) else _public_of_line(text)
        except (OSError, ValueError):
            continue
        if public:
            return public
    return b""


def _public_of_line(text: bytes) -> bytes:
    """The key of a line as .pub files have it; nothing for what looks otherwise. Raises ValueError."""
    words = text.split(None, 2)
    return base64.b64decode(words[1], validate=True) if len(words) > 1 and not text.startswith(b"-----") else b""


def _public_of_openssh(text: bytes) -> bytes:
    """The public key that stands unencrypted in front of the private one (PROTOCOL.key of OpenSSH)."""
    lines = [line for line in text.splitlines() if not line.startswith(b"-----")]
    message = Message(base64.b64decode(b"".join(lines)).removeprefix(b"openssh-key-v1\0"))
    for _ in range(3):  # cipher, key derivation and its options
        message.get_string()
    message.get_int()
    return message.get_string()


def _kind(file: Path) -> str:
    """The type of the key in a file, or nothing where that cannot be seen."""
    public = _public_of(file)
    return Message(public).get_text() if public else ""


def _is_fido(kind: str) -> bool:
    return kind.startswith("sk-")


def _agents_name(key: AgentKey) -> str:
    return _name(f"{key.comment or 'a key'} (agent)", key)


def _name(what: str, key: paramiko.PKey) -> str:
    public = key.bare if isinstance(key, AgentKey) else key.asbytes()
    return f"{what} {fingerprint(base64.b64encode(public).decode())}"
