"""Logging in: from hop to hop, each host's key checked, each failure told in one line with what to try."""

import contextlib
import random
import socket
import subprocess
import threading
import time
from collections.abc import Generator, Sequence
from typing import Any

import fabric
import paramiko
from paramiko.common import OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED

from ..errors import ConnectError, NotLetIn
from . import host_keys
from .host_keys import FirstContact
from .login_keys import LoginKeys, NoKeyAccepted
from .route import Hop

KEEPALIVE_INTERVAL = 5  # seconds between two questions whether the far side is there
KEEPALIVE_TIMEOUT = 45  # seconds after which a network that swallows everything counts as gone


@contextlib.contextmanager
def log_in(hops: Sequence[Hop], seconds: int, first_contact: FirstContact) -> Generator[fabric.Connection]:
    """Log in to the last of `hops` through those before it, each within so many seconds. Raises ConnectError."""
    with contextlib.ExitStack() as opened:
        before: paramiko.Transport | None = None
        for hop in hops:
            connection, before = _open(hop, before, seconds, first_contact, opened)
        yield connection


def _open(
    hop: Hop,
    before: paramiko.Transport | None,
    seconds: int,
    first_contact: FirstContact,
    opened: contextlib.ExitStack,
) -> tuple[fabric.Connection, paramiko.Transport]:
    """Log in to one hop; what has to be closed for it is left to `opened`."""
    check, end = host_keys.check(hop, first_contact), time.monotonic() + seconds
    while True:
        with contextlib.ExitStack() as begun:
            try:
                way = begun.enter_context(_way(hop, before, seconds))
                connection, transport = _shake_hands(hop, way, seconds, check)
                begun.callback(connection.close)
                opened.push(begun.pop_all())
                return connection, transport
            except NoKeyAccepted as error:
                raise _not_let_in(hop, error) from error
            except (paramiko.SSHException, OSError, EOFError) as error:
                if not _was_dropped(error) or time.monotonic() > end:
                    raise _unreachable(hop, error, through_another=before is not None) from error
        time.sleep(random.uniform(0.2, 1))  # noqa: S311 - so that those who wait do not come back together


def _was_dropped(error: Exception) -> bool:
    """An sshd that is asked for many logins at once hangs up on some of them (MaxStartups of sshd_config)."""
    return isinstance(error, ConnectionResetError | EOFError) or "banner" in str(error)


def _shake_hands(
    hop: Hop, way: Any, seconds: int, check: host_keys.Check
) -> tuple[fabric.Connection, paramiko.Transport]:
    arguments = {
        "sock": way,
        "banner_timeout": seconds,
        "auth_timeout": seconds,
        "transport_factory": check.transport,
        "auth_strategy": LoginKeys(hop),
    }
    connection = fabric.Connection(
        hop.address,
        user=hop.user,
        port=hop.port,
        gateway=False,  # that is `way`; Fabric would let a second jump host show any key
        config=fabric.Config(overrides={"load_ssh_configs": False}),  # what it says, ssh_config.py has asked
        connect_timeout=seconds,
        connect_kwargs=arguments,
    )
    client = connection.client
    assert client is not None  # noqa: S101 - Fabric makes it with the connection
    client.set_missing_host_key_policy(check)
    try:
        connection.open()
    except BaseException:
        client.close()
        raise
    transport = client.get_transport()
    assert transport is not None  # noqa: S101 - it was opened just now
    threading.Thread(target=_listen, args=(transport,), daemon=True).start()
    return connection, transport


@contextlib.contextmanager
def _way(hop: Hop, before: paramiko.Transport | None, seconds: int) -> Generator[Any]:
    """What carries the bytes: a channel of the jump host's, a program (ProxyCommand), or a connection of our own."""
    if before is not None:
        with before.open_channel("direct-tcpip", (hop.address, hop.port), ("", 0), timeout=seconds) as channel:
            yield channel
    elif hop.config.proxy_command:
        with _program(hop.config.proxy_command) as ours:
            yield ours
    else:
        with socket.create_connection((hop.address, hop.port), seconds) as connection:
            with contextlib.suppress(AttributeError, OSError):
                # Keepalives that nobody answers end the connection, instead of waiting for ever (decision 15).
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, KEEPALIVE_TIMEOUT * 1000)
            # Or each small write waits for an ACK.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield connection


@contextlib.contextmanager
def _program(command: str) -> Generator[socket.socket]:
    """Run a ProxyCommand. (paramiko's own reads its end of file for ever when the program has died.)

    It is in a session of its own, as Ctrl-C is for the deploy and must not cut the connection.
    """
    ours, its = socket.socketpair()
    words = ["sh", "-c", command if command.startswith("exec ") else f"exec {command}"]
    with ours, its, subprocess.Popen(words, stdin=its.fileno(), stdout=its.fileno(), start_new_session=True) as process:
        its.close()
        try:
            yield ours
        finally:
            ours.close()
            process.terminate()


def _not_let_in(hop: Hop, error: NoKeyAccepted) -> NotLetIn:
    if error.cut:
        reason = f"too many authentication failures: it hung up after {len(error.offered)} keys (MaxAuthTries)"
    elif error.further:
        reason = f"it takes the key, and then wants {' or '.join(error.further)} too; deploys need a key alone"
    elif error.allowed and "publickey" not in error.allowed:
        reason = f"it takes no keys, only {', '.join(error.allowed)} (PubkeyAuthentication of sshd_config)"
    elif error.offered:
        reason = f"permission denied ({','.join(error.allowed) or 'publickey'}), offered: {', '.join(error.offered)}"
    else:
        reason = "there is no key to offer"
    reason = "; ".join([reason, *error.troubles])
    hints = []
    if error.cut:
        hints.append('key = "FILE" in hosts.toml, or IdentitiesOnly yes in your ssh_config')
    elif hop.may_be_missing:
        hints.append(f"if this server is new: fab -H {hop.host} provision")  # sshd does not say that there is no user
    elif "password" in error.allowed:
        hints.append(f"ssh-copy-id {hop.user}@{hop.name}")
    return NotLetIn(
        f"{hop.host}: authentication failed for {hop.where}: {reason}",
        hint="; else: ".join([*hints, hop.ssh]),
        offered=[name.rpartition(" ")[2] for name in error.offered],
    )


def _unreachable(hop: Hop, error: Exception, *, through_another: bool) -> ConnectError:
    if isinstance(error, paramiko.ChannelException):
        reason = _refused_channel(error)
    elif isinstance(error, paramiko.ssh_exception.IncompatiblePeer):
        reason = f"no matching key exchange, cipher or host key type: {error}"
    elif isinstance(error, socket.gaierror):
        reason = f"could not resolve the name {hop.address}: {error.strerror}"
    else:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
    way = " through the jump host" if through_another else ""
    if not through_another and hop.config.proxy_command:
        way = f" through ProxyCommand {hop.config.proxy_command.split()[0]}"
    return ConnectError(f"{hop.host}: cannot reach {hop.where}{way}: {reason}", hint=hop.ssh)


def _refused_channel(error: paramiko.ChannelException) -> str:
    if error.code == OPEN_FAILED_ADMINISTRATIVELY_PROHIBITED:
        return "port forwarding is administratively prohibited there (AllowTcpForwarding, PermitOpen of sshd_config)"
    return f"it cannot connect to it ({error.text})"


def _listen(transport: paramiko.Transport) -> None:
    """Close a connection whose far side answers no keepalive: nothing waits for ever (decision 15).

    TCP alone does not tell: a stalled relay or a stopped sshd still acknowledges every packet.
    """
    while transport.is_active():
        end = threading.Timer(KEEPALIVE_TIMEOUT, transport.close)
        end.daemon = True
        end.start()
        with contextlib.suppress(paramiko.SSHException, OSError, EOFError):
            transport.global_request("keepalive@openssh.com", wait=True)
        end.cancel()
        time.sleep(KEEPALIVE_INTERVAL)
