"""The watch: what it counts, and when it calls a site healthy after a switch."""

import contextlib
import time
from collections.abc import Callable

import httpx
import pytest
from pytest_mock import MockerFixture

from fabfile.errors import NoForwarding
from fabfile.session import watch
from fabfile.session.watch import STEADY, Watch
from testbed.sample import sample

SETTINGS = sample(repo="git@example.org:team/app.git")
Statuses = Callable[[int], int]


def settle(mocker: MockerFixture, statuses: Statuses, seconds: float = 0.3, before: int = 2) -> tuple[str, Watch]:
    """What `settle` says of a site whose n-th answer has the status `statuses(n)`, asked `before` times before."""
    asked: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        asked.append(1)
        return httpx.Response(statuses(len(asked)))

    fake = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://127.0.0.1")
    mocker.patch("fabfile.session.watch.client", return_value=fake)
    with watch.watching(mocker.Mock(), SETTINGS, {}) as watches:
        while watches["ssh"].requests < before:
            time.sleep(0.001)
        return watch.settle(watches, seconds), watches["ssh"]


def test_a_sound_site_is_healthy_at_once(mocker: MockerFixture) -> None:
    """Some good answers in a row are enough; nobody waits longer."""
    trouble, seen = settle(mocker, lambda _: 200, seconds=60)
    assert (trouble, seen.failed, seen.steady) == ("", 0, True)


@pytest.mark.parametrize(
    "statuses",
    [
        lambda n: 200 if n <= 2 else 503,
        lambda n: 200 if n <= 2 or n % 2 else 503,
        lambda n: 200 if n <= 2 or n % STEADY else 503,
    ],
    ids=["down", "every other", "one in five"],
)
def test_a_site_that_flaps_is_not(mocker: MockerFixture, statuses: Statuses) -> None:
    """However the answers are spread: some in a row must be good."""
    trouble, seen = settle(mocker, statuses)
    assert trouble == "503"
    assert seen.failed


def test_what_was_before_the_switch_does_not_count(mocker: MockerFixture) -> None:
    """A failure of old workers is told, and no reason to go back; good answers of theirs are none to stay."""
    trouble, seen = settle(mocker, lambda n: 503 if n == 2 else 200)
    assert (trouble, seen.failed) == ("", 1)
    trouble, _ = settle(mocker, lambda n: 200 if n <= 8 else 503, before=8)
    assert trouble == "503"


def test_a_slow_start_has_its_time(mocker: MockerFixture) -> None:
    """New workers that need a moment are no failure, as long as they settle in time."""
    trouble, seen = settle(mocker, lambda n: 503 if 2 < n < 40 else 200, seconds=60)
    assert (trouble, seen.failed) == ("", 37)


def test_a_slow_health_path_is_healthy_as_long_as_it_answers(mocker: MockerFixture) -> None:
    """Fewer answers than asked for, all of them good; and none at all."""
    trouble, seen = settle(mocker, lambda _: time.sleep(0.2) or 200, seconds=0.7)
    assert (trouble, seen.steady) == ("", False)
    trouble, _ = settle(mocker, lambda n: time.sleep(0 if n <= 2 else 1) or 200)
    assert trouble == "nothing"


def test_a_site_that_did_not_answer_before_says_nothing(mocker: MockerFixture) -> None:
    """A first deploy, a public URL that never worked."""
    trouble, seen = settle(mocker, lambda _: 502)
    assert (trouble, seen.requests > 0) == ("", True)


def test_a_watch_that_cannot_look_says_nothing(mocker: MockerFixture) -> None:
    """A host that passes no connection on: the watch ends at once, nothing is counted, nobody waits for it."""
    counts: dict[str, float | int] = {}

    def refuse(_: httpx.Request) -> httpx.Response:
        raise NoForwarding("api passes nothing on")

    fake = httpx.Client(transport=httpx.MockTransport(refuse), base_url="http://127.0.0.1")
    mocker.patch("fabfile.session.watch.client", return_value=fake)
    with watch.watching(mocker.Mock(), SETTINGS, counts) as watches:
        while not watches["ssh"].requests:
            time.sleep(0.001)
        began = time.monotonic()
        assert watch.settle(watches, 60) == ""
        assert time.monotonic() - began < 5
        time.sleep(3 * watch.INTERVAL)
    assert (watches["ssh"].requests, counts) == (1, {})
    assert watches["ssh"].first == "cannot look: api passes nothing on"


def test_counts_are_told_however_it_ends(mocker: MockerFixture) -> None:
    """The outcome has what was seen, also when the switch fails; the public address counts apart."""
    fake = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), base_url="http://127.0.0.1")
    mocker.patch("fabfile.session.watch.client", return_value=fake)
    mocker.patch("fabfile.session.watch.httpx.Client", return_value=fake)
    counts: dict[str, float | int] = {"kept": 1}
    public = SETTINGS.model_copy(update={"public_url": "https://app.example.org"})
    with contextlib.suppress(ZeroDivisionError), watch.watching(mocker.Mock(), public, counts) as watches:
        while not all(each.requests for each in watches.values()):
            time.sleep(0.001)
        raise ZeroDivisionError
    names = [f"{start}{name}" for start in ("", "public_") for name in ("requests", "failed", "slowest_ms")]
    assert list(counts) == ["kept", *names]
    assert counts["requests"] == watches["ssh"].requests > 0
    assert counts["public_requests"] == watches["public"].requests > 0
    assert (counts["failed"], counts["public_failed"]) == (0, 0)
