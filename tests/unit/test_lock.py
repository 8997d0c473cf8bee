"""The lock info, and what others are told of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fabfile.plan import lock
from fabfile.plan.lock import describe_holder, frozen, lock_info, locked, operator


def test_a_card_says_who_what_and_since(monkeypatch: pytest.MonkeyPatch) -> None:
    """What lock info holds is what another run is told, on one line."""
    monkeypatch.setenv("DEPLOY_USER", "ana")
    text = lock_info("deploy main", "release 1.0")
    assert "\n" not in text
    data = json.loads(text)
    assert data["since"].endswith("+00:00")
    assert describe_holder(text) == f"deploy main by ana since {data['since']}: release 1.0"
    error = locked("api", text)
    assert error.exit_code == 7
    assert error.message == f"api is held by deploy main by ana since {data['since']}: release 1.0"
    assert error.hint.endswith("fab -H api status")


def test_a_host_locked_by_hand_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who, why, and the command that opens it."""
    monkeypatch.setenv("DEPLOY_USER", "ana")
    error = frozen("api", lock_info("lock", "demo at noon"))
    assert error.exit_code == 7
    assert "locked by hand: lock by ana since" in error.message
    assert error.message.endswith("demo at noon")
    assert error.hint == "fab -H api unlock"


def test_work_that_left_no_card() -> None:
    """Root leaves none in a folder of another user's: that it may be an admin's is said."""
    assert locked("api", "").message == "api is held by work that left no name, like an admin's `remove`"


@pytest.mark.parametrize("text", ["{", "null", "[]", "3", '"x"', '{"who": "ana"}', "[" * 100_000, "\x00"])
def test_a_card_that_cannot_be_read_is_somebody_unknown(text: str) -> None:
    """Lock info that was cut does not hide that the host is held."""
    assert describe_holder(text) == "work of somebody unknown"


@given(st.text(), st.text())
def test_any_words_make_a_lock_info(what: str, message: str) -> None:
    """Whatever a branch or a message is called, it is one line of ASCII and reads back."""
    text = lock_info(what, message)
    assert text.isascii()
    assert "\n" not in text
    assert describe_holder(text).startswith(f"{what} by ")


def test_ci_is_told_by_its_actor(monkeypatch: pytest.MonkeyPatch) -> None:
    """CI's name of the person comes before the machine's; odd ones are made one short line."""
    for name in ("DEPLOY_USER", "GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        monkeypatch.delenv(name, raising=False)
    assert "@" in operator()
    monkeypatch.setenv("GITLAB_USER_LOGIN", "gita")
    assert operator() == "gita"
    monkeypatch.setenv("GITHUB_ACTOR", "git\nhub\tana " + "x" * 200)
    assert operator().startswith("git hub ana xxx")
    assert len(operator()) == 100


def test_a_user_without_a_name_is_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose uid has no entry still has an operator."""
    for name in ("DEPLOY_USER", "GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        monkeypatch.delenv(name, raising=False)

    def nobody() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(lock.getpass, "getuser", nobody)
    assert operator().startswith("uid ")
