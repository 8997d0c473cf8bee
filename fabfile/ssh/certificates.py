"""OpenSSH certificates (PROTOCOL.certkeys), of hosts and of people: what they are for, until when, by whom."""

import base64
from datetime import UTC, datetime

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    SSHCertificate,
    SSHCertificateType,
    SSHCertPublicKeyTypes,
    load_ssh_public_identity,
)
from paramiko.pkey import PublicBlob

SUFFIX = "-cert-v01@openssh.com"  # ends the name of a key type that comes with one
UNREADABLE = (ValueError, UnsupportedAlgorithm)


def certificate_of(blob: PublicBlob) -> SSHCertificate:
    """A certificate from what paramiko keeps of it. Raises one of UNREADABLE."""
    made = load_ssh_public_identity(f"{blob.key_type} {base64.b64encode(blob.key_blob).decode()}".encode())
    if not isinstance(made, SSHCertificate):
        raise ValueError("no certificate")
    return made


def certified_key(blob: PublicBlob) -> bytes:
    """The public key that a certificate is for. Raises one of UNREADABLE."""
    return base64.b64decode(_public(certificate_of(blob).public_key()))


def authority_of(certificate: SSHCertificate) -> str:
    """The public key of whoever signed it, in base64."""
    return _public(certificate.signature_key())


def expired(certificate: SSHCertificate) -> str:
    """When it expired, if it has."""
    over = datetime.now(UTC).timestamp() >= certificate.valid_before
    return f"expired on {_moment(certificate.valid_before)}" if over else ""


def trouble_with_hosts(certificate: SSHCertificate) -> str:
    """Why it cannot be a host's, whatever that one is called."""
    try:
        certificate.verify_cert_signature()
    except InvalidSignature:
        return "its signature is not the authority's"
    if certificate.type is not SSHCertificateType.HOST:
        return "it is a user's certificate, no host's"
    if datetime.now(UTC).timestamp() < certificate.valid_after:
        return f"it is not valid before {_moment(certificate.valid_after)}"
    if when := expired(certificate):
        return f"it {when}"
    return "it has critical options, which nobody knows" if certificate.critical_options else ""


def _public(key: SSHCertPublicKeyTypes) -> str:
    return key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode().split()[1]


def _moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")
