"""What may be a secret's name and value, and what is said of the rest; nothing here shows a value."""

import io
from pathlib import Path
from typing import Any

import pytest
from pytest_mock import MockerFixture

from fabfile.commands import secrets
from fabfile.errors import ConfigError
from testbed.sample import sample
from tests.unit.test_decisions import a_run

IN_A_FILE = sample(secrets="file")


@pytest.mark.parametrize("name", ["SECRET_KEY", "_x", "a1", "DATABASE_URL"])
def test_names_of_variables_are_taken(name: str) -> None:
    """As a shell and systemd take them."""
    secrets.check_name(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("1ST", "no digit first"), ("A-B", "is no name of a variable"), ("A B", "is no name of a variable"),
        ("", "is no name of a variable"), ("A=1", "is no name of a variable"), ("É", "is no name of a variable"),
        ("PATH", "is set by the system"), ("LD_PRELOAD", "is set by the system"), ("DEPLOY_X", "is set by the system"),
    ],
)  # fmt: skip
def test_other_names_are_told(name: str, words: str) -> None:
    """Before any connection."""
    with pytest.raises(ConfigError, match=words):
        secrets.check_name(name)


@pytest.mark.parametrize(
    ("content", "value"),
    [
        (b"abc\n", b"abc"),
        (b"abc\r\n", b"abc"),
        (b"a b\t'\"$`\\", b"a b\t'\"$`\\"),
        (b" x ", b" x "),
        ("ü\n".encode(), "ü".encode()),
    ],
)
def test_a_value_is_what_stands_there(content: bytes, value: bytes, tmp_path: Path) -> None:
    """But for one line break at its end, which nobody means."""
    (tmp_path / "value").write_bytes(content)
    assert secrets.read_value("A", str(tmp_path / "value")) == value


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"-----BEGIN-----\nSENTINEL\n", "has line breaks or control characters"),
        (b"a\n\n", "has line breaks"), (b"a\0b", "control characters"), ("a\u2028b".encode(), "has line breaks"),
        (b"\xffSENTINEL", "is no text in UTF-8"), (b"", "is empty"), (b"\n", "is empty"),
    ],
)  # fmt: skip
def test_a_value_that_no_service_would_get_is_told(content: bytes, words: str, tmp_path: Path) -> None:
    """By the secret's name, and never by its value."""
    (tmp_path / "value").write_bytes(content)
    with pytest.raises(ConfigError, match=words) as caught:
        secrets.read_value("TOKEN", str(tmp_path / "value"))
    assert "TOKEN" in caught.value.message
    assert "SENTINEL" not in f"{caught.value.message} {caught.value.hint}"


def test_a_person_is_asked_without_an_echo(mocker: MockerFixture) -> None:
    """At a terminal; elsewhere it is read from standard input."""
    mocker.patch("sys.stdin", mocker.Mock(isatty=lambda: True))
    asked = mocker.patch("getpass.getpass", return_value="typed")
    assert secrets.read_value("A", "") == b"typed"
    asked.assert_called_once_with("A: ")
    mocker.patch("sys.stdin", mocker.Mock(isatty=lambda: False, buffer=io.BytesIO(b"piped\n")))
    assert secrets.read_value("A", "") == b"piped"


def test_each_place_has_its_own_verbs() -> None:
    """What is Doppler's is set there, and a file needs no token; both say what to do instead."""
    with pytest.raises(ConfigError, match="has its secrets in Doppler") as caught:
        secrets.set_value(a_run(sample()), "A", "", later=False)
    assert caught.value.hint.startswith("doppler secrets set A, and fab -H api restart")
    with pytest.raises(ConfigError, match="has its secrets in Doppler"):
        secrets.unset(a_run(sample()), "A", later=False)
    with pytest.raises(ConfigError, match="in a file, and no token"):
        secrets.token(a_run(IN_A_FILE), "dp.st.x", later=False)
    with pytest.raises(ConfigError, match="there is no token"):
        secrets.token(a_run(sample()), None, later=False)


@pytest.mark.parametrize("settings", [{"secrets": "vault"}, {"secrets": ""}])
def test_another_place_is_a_mistake(settings: dict[str, Any]) -> None:
    """There are two."""
    with pytest.raises(ValueError, match="must be doppler or file"):
        sample(**settings)
