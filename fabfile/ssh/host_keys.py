"""Host keys: which ones count, and what is said of one that does not."""

import base64
from pathlib import Path

import fabric
import paramiko

from ..config.inventory import Host
from ..errors import ConfigError, ConnectError


def check(connection: fabric.Connection, host: Host) -> None:
    """Let `connection` accept the host's known key alone; Fabric itself accepts every key (decision 15)."""
    settings, client = host.settings, _client(connection)
    client.set_missing_host_key_policy(_Refuse(host.name, settings.known_hosts))
    if settings.host_key:
        _pin(client, entry_of(connection), host)
        return
    client.load_system_host_keys()
    if settings.known_hosts:
        try:
            client.load_host_keys(str(Path(settings.known_hosts).expanduser()))
        except OSError as error:
            raise ConfigError(
                f"{host.name}: {settings.known_hosts} cannot be read: {error.strerror}",
                hint="correct known_hosts in hosts.toml",
            ) from error


def check_jump_host(connection: fabric.Connection, host: Host) -> None:
    """Let a connection to the jump host before `host` accept what the operator's known_hosts has."""
    client = _client(connection)
    client.set_missing_host_key_policy(_Refuse(host.name, jump=True))
    client.load_system_host_keys()


def _client(connection: fabric.Connection) -> paramiko.SSHClient:
    assert connection.client is not None  # noqa: S101 - Fabric makes it with the connection
    return connection.client


def _pin(client: paramiko.SSHClient, entry: str, host: Host) -> None:
    """Make the key of hosts.toml the only one that counts: no file is read beside it."""
    kind, data, *_ = (host.settings.host_key or "").split()
    try:
        key = paramiko.PKey.from_type_string(kind, base64.b64decode(data))
    except (ValueError, paramiko.SSHException) as error:
        raise ConfigError(
            f"{host.name}: host_key is no {kind} key: {error}", hint=f"ssh-keyscan {_scanned(entry)}"
        ) from error
    client.get_host_keys().add(entry, key.get_name(), key)


def entry_of(connection: fabric.Connection) -> str:
    """Return the host as known_hosts names it."""
    return str(connection.host) if connection.port == 22 else f"[{connection.host}]:{connection.port}"


def _scanned(entry: str) -> str:
    """Return the arguments of ssh-keyscan for an entry of known_hosts."""
    address, _, port = entry.removeprefix("[").partition("]:")
    return f"-p {port} {address}" if port else address


class _Refuse(paramiko.MissingHostKeyPolicy):
    """Refuses a key that nobody knows, and says how to accept it."""

    def __init__(self, name: str, known_hosts: str | None = None, *, jump: bool = False) -> None:
        self.name = name
        self.known_hosts = known_hosts or "~/.ssh/known_hosts"
        self.jump = jump

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:  # noqa: ARG002
        pin = f'host_key = "{key.get_name()} {key.get_base64()}" in hosts.toml, or'
        raise ConnectError(
            f"{self.name}: unknown host key (Host key verification failed): "
            f"{hostname} shows {key.get_name()} {key.fingerprint}"
            + ("" if self.jump else f"\n  if it is the right one: {pin}"),
            hint=f"ssh-keyscan {_scanned(hostname)} >> {self.known_hosts}",
        )


def changed(connection: fabric.Connection, host: Host, error: paramiko.BadHostKeyException) -> ConnectError:
    """Return what to say when `connection` met another key than the known one; on a jump host, its own."""
    failed, settings = connection, host.settings
    if isinstance(connection.gateway, fabric.Connection) and error.hostname == str(connection.gateway.host):
        failed, settings = connection.gateway, None
    pinned = settings is not None and settings.host_key
    entry, key = entry_of(failed), error.key
    file = f" -f {settings.known_hosts}" if settings and settings.known_hosts else ""
    return ConnectError(
        f"{host.name}: host key changed (REMOTE HOST IDENTIFICATION HAS CHANGED): "
        f"{entry} shows {key.get_name()} {key.fingerprint}, "
        f"{'host_key in hosts.toml' if pinned else 'known_hosts'} is {error.expected_key.fingerprint}. "
        "The server was installed again, or somebody listens in",
        hint=f'host_key = "{key.get_name()} {key.get_base64()}" in hosts.toml, only when you know why'
        if pinned
        else f"ssh-keygen -R '{entry}'{file}   (only when you know why)",
    )
