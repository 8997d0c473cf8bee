"""Private keys in every form that people have them in, and what is said of one that cannot be used."""

import getpass
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography.exceptions import UnsupportedAlgorithm

from fabfile.config.inventory import Host
from fabfile.errors import ConfigError
from fabfile.ssh import login_keys, route
from fabfile.ssh.agent import Agent
from fabfile.ssh.login_keys import LoginKeys, private_key
from testbed.sample import sample

pytestmark = pytest.mark.usefixtures("home")
FORMS = [
    ("ed25519", "RFC4716"),
    *((kind, form) for kind in ("rsa", "ecdsa") for form in ("RFC4716", "PEM", "PKCS8")),
]


def make(path: Path, kind: str, form: str, passphrase: str = "") -> bytes:
    """A key as ssh-keygen writes it (RFC4716 is its own format)."""
    words = ["ssh-keygen", "-q", "-t", kind, "-m", form, "-N", passphrase, "-f", path]
    subprocess.run([*words, *(["-b", "2048"] if kind == "rsa" else [])], check=True)
    return path.read_bytes()


def public(path: Path) -> str:
    return path.with_suffix(".pub").read_text().split()[1]


@pytest.mark.parametrize(("kind", "form"), FORMS)
def test_every_form_of_a_key(tmp_path: Path, kind: str, form: str) -> None:
    """Encrypted or not; without its passphrase an encrypted one is told apart from one that is broken."""
    plain, locked = tmp_path / "plain", tmp_path / "locked"
    assert private_key(make(plain, kind, form)).get_base64() == public(plain)
    data = make(locked, kind, form, "correct horse")
    assert private_key(data, b"correct horse").get_base64() == public(locked)
    with pytest.raises(TypeError):
        private_key(data)
    with pytest.raises(ValueError, match=r"\w"):
        private_key(data, b"wrong")
    with pytest.raises((ValueError, UnsupportedAlgorithm)):
        private_key(data[:200])


def login(**settings: object) -> LoginKeys:
    [hop] = route.hops(Host("web1", "test", sample(address="192.0.2.1", **settings)))
    return LoginKeys(hop)


def offered(keys: LoginKeys) -> list[str]:
    return [key.get_base64() for _, key in keys._keys(Agent("none"))]


@pytest.mark.parametrize("ends", ["\n", "\r\n", ""])
def test_a_key_of_the_environment(home: Path, ends: str) -> None:
    """However CI has kept its line ends; nothing else is offered beside it, and no file is written."""
    text = make(home / "key", "ed25519", "RFC4716").decode().strip().replace("\n", ends or "\n") + ends
    make(home / ".ssh/id_ed25519", "ed25519", "RFC4716")
    before = sorted(home.rglob("*"))
    assert offered(login(key_text=text)) == [public(home / "key")]
    assert sorted(home.rglob("*")) == before


def test_a_key_of_the_environment_that_is_encrypted(home: Path) -> None:
    """Nobody is asked for its passphrase, and none of it is shown."""
    text = make(home / "key", "ed25519", "RFC4716", "correct horse").decode()
    with pytest.raises(ConfigError, match="key_text is encrypted, and nobody is asked") as caught:
        offered(login(key_text=text))
    assert text.splitlines()[1] not in caught.value.message + caught.value.hint


def test_the_own_key_comes_first_and_each_once(home: Path) -> None:
    """`key` of hosts.toml before those of ssh_config; the default files only where no IdentityFile is named."""
    for name in ("id_rsa", "id_ed25519", "own"):
        make(home / ".ssh" / name, name.removeprefix("id_").replace("own", "ed25519"), "RFC4716")
    keys = login(key=str(home / ".ssh/own"))
    assert offered(keys) == [public(home / ".ssh" / name) for name in ("own", "id_rsa", "id_ed25519")]
    (home / ".ssh/config").write_text(f"Host 192.0.2.*\n  IdentityFile {home}/.ssh/id_ed25519\n")
    assert offered(login()) == [public(home / ".ssh/id_ed25519")]


def test_a_passphrase_is_asked_for_three_times(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a terminal; then the key is given up, and the reason told."""
    file = home / ".ssh/id_ed25519"
    make(file, "ed25519", "RFC4716", "correct horse")
    answers = ["wrong", "correct horse", "a", "b", "c"]
    asked: list[str] = []
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda _: True})())
    monkeypatch.setattr(getpass, "getpass", lambda prompt: asked.append(prompt) or answers.pop(0))
    assert offered(login()) == [public(file)]
    assert offered(login()) == [public(file)], "a second login of the same run asks no more"
    assert asked == [f"Enter passphrase for key '{file}': "] * 2
    login_keys.UNLOCKED.clear()
    keys = login()
    assert offered(keys) == []
    assert keys.troubles == [f"{file}: wrong passphrase"]
    assert answers == []


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("id_rsa", "hunter2", "is no private key that can be read (ed25519, ECDSA or RSA)"),
        ("id_rsa", "-----BEGIN OPENSSH PRIVATE KEY-----\nhunter2\n", "is no private key that can be read"),
        ("id_ed25519_sk", "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t", "is a FIDO key (sk-"),
    ],
)
def test_files_that_are_no_use(home: Path, name: str, text: str, told: str) -> None:
    """Each is told; what stands in it is not."""
    (home / ".ssh" / name).write_text(text)
    keys = login()
    assert offered(keys) == []
    assert told in keys.troubles[0]
    assert "hunter2" not in keys.troubles[0]
