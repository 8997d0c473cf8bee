"""What ssh_config says, by OpenSSH and without it: the same for all that paramiko can read."""

import os
import pwd
import shutil
from pathlib import Path

import pytest

from fabfile.config.inventory import Host
from fabfile.errors import ConfigError
from fabfile.ssh import route, ssh_config
from testbed.sample import sample

CONFIG = """
Host web1
  HostName 203.0.113.5
  Port 2222
  User ana
  IdentityFile ~/.ssh/%h_key
  IdentityFile "/keys/b"
  IdentitiesOnly yes
  CertificateFile ~/c-cert.pub
  UserKnownHostsFile ~/a ~/b
  HashKnownHosts yes
  HostKeyAlias the-web
  ProxyCommand nc -X %n %h %p %%
Host web2
  ProxyJump ana@bastion:2200
  IdentityAgent ~/agent
  UserKnownHostsFile none
Host web3
  ProxyJump none
  IdentityFile none
"""


@pytest.fixture(params=["openssh", "paramiko"])
def home(home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """A home with CONFIG, read by one or the other."""
    (home / ".ssh/config").write_text(CONFIG)
    monkeypatch.setenv("USER", "me")
    if request.param == "paramiko":
        monkeypatch.setattr(shutil, "which", lambda _: None)
    return home


def test_every_option_that_counts(home: Path) -> None:
    """With ~ and % filled in; what the caller knows wins."""
    found = ssh_config.look_up("web1", "deploy")
    assert (found.address, found.port, found.user) == ("203.0.113.5", 2222, "deploy")
    assert found.identities == (home / ".ssh/203.0.113.5_key", Path("/keys/b"))
    assert (found.identities_only, found.hash_known_hosts, found.key_alias) == (True, True, "the-web")
    assert found.certificates == (home / "c-cert.pub",)
    assert found.known_hosts == (home / "a", home / "b")
    assert found.proxy_command == "nc -X web1 203.0.113.5 2222 %"
    assert ssh_config.look_up("web1", port=22).port == 22
    assert ssh_config.look_up("web1").user == "ana"


def test_what_is_turned_off(home: Path) -> None:
    """None is none, and not a file or host of that name."""
    found = ssh_config.look_up("web2")
    assert (found.proxy_jump, found.known_hosts) == ("ana@bastion:2200", ())
    assert found.agent == str(home / "agent")
    found = ssh_config.look_up("web3")
    assert (found.proxy_jump, found.identities) == ("", ())


def test_a_host_that_no_file_knows(home: Path) -> None:
    """The defaults of OpenSSH."""
    found = ssh_config.look_up("203.0.113.9", "deploy")
    assert (found.address, found.port, found.proxy_jump, found.proxy_command) == ("203.0.113.9", 22, "", "")
    assert {home / ".ssh/id_rsa", home / ".ssh/id_ed25519"} <= set(found.identities)
    assert found.known_hosts[0] == home / ".ssh/known_hosts"
    assert Path("/etc/ssh/ssh_known_hosts") in found.global_known_hosts
    assert found.agent == "SSH_AUTH_SOCK"


def test_a_file_with_a_mistake(home: Path) -> None:
    """The file, and what is wrong with it."""
    (home / ".ssh/config").write_text("Host web1\n  IdentitiesOnly\n")
    with pytest.raises(ConfigError, match=r"\.ssh/config") as caught:
        ssh_config.look_up("web1")
    assert caught.value.hint


def test_a_user_without_a_name(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CI may run as a number that the password file does not have; ssh itself would refuse to start."""

    def no_user(_uid: int) -> None:
        raise KeyError("getpwuid(): uid not found")

    for name in ("USER", "LOGNAME", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_user)
    with pytest.raises(ConfigError, match=rf"config cannot be read: user {os.getuid()} has no name"):
        ssh_config.look_up("web1")
    (home / ".ssh/config").unlink()
    assert ssh_config.look_up("web1").user == str(os.getuid())
    assert ssh_config.look_up("web1", "deploy").known_hosts[0] == home / ".ssh/known_hosts"


@pytest.mark.parametrize(
    ("settings", "way"),
    [
        ({"address": "web1"}, ["deploy@203.0.113.5:2222"]),
        ({"address": "web2"}, ["the jump host ana@bastion:2200", "deploy@web2:22"]),
        ({"address": "web2", "jump": "none"}, ["deploy@web2:22"]),
        ({"address": "web2", "jump": "bob@[2001:db8::5]:23"}, ["the jump host bob@[2001:db8::5]:23", "deploy@web2:22"]),
        (
            {"address": "web3", "jump": "bob@one,bob@web1"},
            ["the jump host bob@one:22", "the jump host bob@203.0.113.5:2222", "deploy@web3:22"],
        ),
        (
            {"address": "web3", "jump": "bob@web2"},
            ["the jump host ana@bastion:2200", "the jump host bob@web2:22", "deploy@web3:22"],
        ),
        ({"address": "2001:db8::7", "port": 2200}, ["deploy@[2001:db8::7]:2200"]),
    ],
)
@pytest.mark.usefixtures("home")
def test_the_way_to_a_host(settings: dict[str, object], way: list[str]) -> None:
    """Jump hosts in their order, each as its own ssh_config has it."""
    assert [hop.where for hop in route.hops(Host("web", "test", sample(**settings)))] == way


@pytest.mark.parametrize("jump", ["a b", "-oProxyCommand=x", "ana@", "one,,two", "one;two", "one:port", "[::1"])
def test_what_is_no_jump_host(jump: str) -> None:
    """Told before any connection, with how it is written."""
    with pytest.raises(ValueError, match="must be the servers on the way, as for ssh -J"):
        sample(jump=jump)


def test_one_key_is_for_one_jump_host() -> None:
    """A pinned key without a jump host, or with two, would count for nobody knows whom."""
    key = "ssh-ed25519 AAAA"
    for settings in ({}, {"jump": "none"}, {"jump": "one,two"}):
        with pytest.raises(ValueError, match="jump_host_key is the key of the one server in jump"):
            sample(jump_host_key=key, **settings)
    assert sample(jump="one", jump_host_key=key).jump == "one"
