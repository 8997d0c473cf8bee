"""Logging in to a real SSH server on this machine: which host keys count, and what is said when it fails."""

import io
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import paramiko
import pytest
from paramiko.hostkeys import HostKeys

from fabfile.config.inventory import Host
from fabfile.config.settings import Timeouts
from fabfile.errors import ConfigError, ConnectError, DeployError
from fabfile.ssh.connection import connect
from fabfile.ssh.terminal import Ends
from testbed.sample import sample

pytestmark = pytest.mark.usefixtures("home")
SERVER_KEY = paramiko.ECDSAKey.generate(bits=256)
SAME_KIND = paramiko.ECDSAKey.generate(bits=256)
OTHER_KIND = paramiko.ECDSAKey.generate(bits=384)
USER_KEY = paramiko.ECDSAKey.generate(bits=256)


class Door(paramiko.ServerInterface):
    """Lets in whoever has USER_KEY."""

    def get_allowed_auths(self, username: str) -> str:  # noqa: ARG002
        return "publickey"

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        known = username == "deploy" and key == USER_KEY
        return paramiko.AUTH_SUCCESSFUL if known else paramiko.AUTH_FAILED


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """The port of an SSH server with SERVER_KEY."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield listener.getsockname()[1]


def serve(listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        transport = paramiko.Transport(client)
        transport.add_server_key(SERVER_KEY)
        transport.start_server(threading.Event(), Door())


def text_of(key: paramiko.PKey) -> str:
    file = io.StringIO()
    key.write_private_key(cast("Any", file))
    return file.getvalue()


def public(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.get_base64()}"


def known(path: Path, port: int, key: paramiko.PKey, *, hashed: bool = False) -> str:
    """Write a known_hosts file that has `key` for the server; its path."""
    entry = f"[127.0.0.1]:{port}"
    path.write_text(f"{HostKeys.hash_host(entry) if hashed else entry} {public(key)}\n")
    return str(path)


def log_in(port: int, **settings: object) -> None:
    """Log in to the server on `port`, and out again."""
    given = {"key_text": text_of(USER_KEY), "timeouts": Timeouts(connect=5), **settings}
    with connect(Host("web1", "test", sample(**({"address": "127.0.0.1", "port": port} | given)))):
        pass


def test_a_server_that_opens_no_session_is_not_taken_for_a_lost_one(port: int) -> None:
    """sshd may allow no second session, or no terminal: what to look at is told."""
    settings = {"key_text": text_of(USER_KEY), "host_key": public(SERVER_KEY), "address": "127.0.0.1", "port": port}
    with (
        connect(Host("web1", "test", sample(**settings))) as connection,
        pytest.raises(ConnectError, match=r"^web1: its sshd opens no session for a command: ") as caught,
    ):
        connection.log_in(Ends(None, bytearray().extend, bytearray().extend))
    assert "MaxSessions" in caught.value.hint


def refusal(port: int, **settings: object) -> DeployError:
    """The error of a login that fails; it has a next command."""
    with pytest.raises((ConnectError, ConfigError)) as caught:
        log_in(port, **settings)
    assert caught.value.message.startswith("web1: ")
    assert caught.value.hint
    return caught.value


def test_a_known_or_a_pinned_key_is_let_in(port: int, home: Path) -> None:
    """The operator's own known_hosts, another file, or a key in hosts.toml."""
    log_in(port, host_key=public(SERVER_KEY))
    log_in(port, known_hosts=known(home / "other", port, SERVER_KEY, hashed=True))
    known(home / ".ssh/known_hosts", port, SERVER_KEY)
    log_in(port)


@pytest.mark.parametrize("pinned", [SAME_KIND, OTHER_KIND], ids=["same kind", "other kind"])
@pytest.mark.parametrize("hashed", [True, False])
def test_a_pinned_key_is_the_only_one_that_counts(port: int, home: Path, pinned: paramiko.PKey, hashed: bool) -> None:
    """What known_hosts files say beside it lets nobody in."""
    file = known(home / "other", port, SERVER_KEY, hashed=hashed)
    known(home / ".ssh/known_hosts", port, SERVER_KEY, hashed=hashed)
    error = refusal(port, host_key=public(pinned), known_hosts=file)
    assert "host key changed" in error.message
    assert f"host_key in hosts.toml is {pinned.fingerprint}" in error.message
    assert public(SERVER_KEY) in error.hint


def test_a_pinned_key_counts_whatever_the_files_say(port: int, home: Path) -> None:
    """A file with the server's former key does not shut out the pinned one."""
    known(home / ".ssh/known_hosts", port, SAME_KIND)
    log_in(port, host_key=public(SERVER_KEY), known_hosts=known(home / "other", port, OTHER_KIND))


def test_a_changed_host_key(port: int, home: Path) -> None:
    """Both fingerprints, the words that OpenSSH has for it, and the command that forgets the old one."""
    file = known(home / "other", port, SAME_KIND)
    error = refusal(port, known_hosts=file)
    shown = f"{SERVER_KEY.fingerprint}, {file}:1 is"
    for words in ("host key changed", "REMOTE HOST IDENTIFICATION HAS CHANGED", shown):
        assert words in error.message
    assert SAME_KIND.fingerprint in error.message
    assert error.hint.startswith(f"ssh-keygen -R '[127.0.0.1]:{port}' -f {file}")


def test_an_unknown_host_key(port: int) -> None:
    """The line that pins it can be taken as it stands."""
    error = refusal(port)
    assert f"unknown host key (Host key verification failed): [127.0.0.1]:{port} shows" in error.message
    assert error.hint.endswith(f"; or, to let ssh remember it: ssh -p {port} deploy@127.0.0.1")
    assert error.hint.startswith(f"fab -H web1 provision --accept-host-key {SERVER_KEY.fingerprint} (in a terminal")
    log_in(port, host_key=error.message.split('"')[1])
    assert "there is no /none" in refusal(port, known_hosts="/none").message


def test_the_host_key_of_a_jump_host(port: int, home: Path) -> None:
    """It is checked too, by the operator's known_hosts: what is pinned is the key of the host behind it."""
    jump = f"Host localhost\n  ProxyJump jump\nHost jump\n  HostName 127.0.0.1\n  Port {port}\n"
    (home / ".ssh/config").write_text(jump)
    behind = {"address": "localhost", "host_key": public(SERVER_KEY)}
    error = refusal(port, **behind)
    assert f"unknown host key (Host key verification failed): [127.0.0.1]:{port} shows" in error.message
    assert "hosts.toml" not in error.message
    known(home / ".ssh/known_hosts", port, SAME_KIND)
    error = refusal(port, **behind)
    assert f"/known_hosts:1 is {SAME_KIND.fingerprint}" in error.message
    assert error.hint.startswith(f"ssh-keygen -R '[127.0.0.1]:{port}' ")


def test_authentication_failed(port: int, home: Path) -> None:
    """Another key, another user, or no key at all: the words of OpenSSH, and how to look further."""
    accepted = {"host_key": public(SERVER_KEY)}
    for settings in ({"key_text": text_of(SAME_KIND)}, {"user": "ana"}, {"key_text": None}):
        error = refusal(port, **accepted, **settings)
        assert "authentication failed for " in error.message
        user = settings.get("user", "deploy")
        assert error.hint.startswith(f"if this server is new: fab -H web1 provision; else: ssh -p {port} {user}@")
    assert refusal(port, **accepted, key_text=None, user="root").hint.startswith(f"ssh -p {port} root@")
    (home / "id").write_text(text_of(SAME_KIND))
    assert f" -i {home}/id deploy@" in refusal(port, **accepted, key_text=None, key=f"{home}/id").hint


def test_a_server_that_is_not_there() -> None:
    """The reason is the system's own."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    error = refusal(port, host_key=public(SERVER_KEY))
    assert error.message == f"web1: cannot reach deploy@127.0.0.1:{port}: Connection refused"


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"host_key": None, "known_hosts": "/"}, "/ cannot be read: Is a directory"),
        ({"host_key": "ssh-ed25519 AAAA"}, "host_key is no ssh-ed25519 key"),
        ({"host_key": "ssh-nonsense AAAAC3Nza"}, "host_key is no ssh-nonsense key"),
        ({"key_text": "hunter2"}, "key_text is no private key"),
        ({"key_text": None, "key": "/none"}, "the key file /none is missing"),
    ],
)
def test_keys_that_cannot_be_read(port: int, settings: dict[str, object], told: str) -> None:
    """A mistake in hosts.toml or on the operator's machine, not a traceback."""
    error = refusal(port, **{"host_key": public(SERVER_KEY), **settings})
    assert told in error.message
    assert "hunter2" not in error.message
