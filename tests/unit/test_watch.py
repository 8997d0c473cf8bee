"""The watch: what it counts, and when it calls a site healthy after a switch."""

import time
from collections.abc import Callable

import httpx
import pytest
from pytest_mock import MockerFixture

from fabfile.config.settings import Settings
from fabfile.session import watch as health

SETTINGS = Settings.model_validate({"repo": "git@example.org:team/app.git"})
Statuses = Callable[[int], int]


def settle(
    mocker: MockerFixture, statuses: Statuses, seconds: float = 0.3, before: int = 2
) -> tuple[str, health.Watch]:
    """What `settle` says of a site whose n-th answer has the status `statuses(n)`, asked `before` times before."""
    asked: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        asked.append(1)
        return httpx.Response(statuses(len(asked)))

    fake = httpx.Client(transport=httpx.MockTransport(answer), base_url="http://127.0.0.1")
    mocker.patch("fabfile.session.watch.client", return_value=fake)
    with health.watching(mocker.Mock(), SETTINGS, {}) as watches:
        while len(asked) < before:
            time.sleep(0.001)
        time.sleep(0.01)
        return health.settle(watches, seconds), watches["ssh"]


def test_a_sound_site_is_healthy_at_once(mocker: MockerFixture) -> None:
    trouble, watch = settle(mocker, lambda _: 200, seconds=60)
    assert (trouble, watch.failed, watch.steady) == ("", 0, True)


@pytest.mark.parametrize(
    "statuses",
    [
        lambda n: 200 if n <= 2 else 503,
        lambda n: 200 if n <= 2 or n % 2 else 503,
        lambda n: 200 if n <= 2 or n % health.STEADY else 503,
    ],
    ids=["down", "every other", "one in five"],
)
def test_a_site_that_flaps_is_not(mocker: MockerFixture, statuses: Statuses) -> None:
    """However the answers are spread: some in a row must be good."""
    trouble, watch = settle(mocker, statuses)
    assert trouble == "503"
    assert watch.failed


def test_what_was_before_the_switch_does_not_count(mocker: MockerFixture) -> None:
    """A failure of old workers is told, and no reason to go back; good answers of theirs are none to stay."""
    trouble, watch = settle(mocker, lambda n: 503 if n == 2 else 200)
    assert (trouble, watch.failed) == ("", 1)
    trouble, _ = settle(mocker, lambda n: 200 if n <= 8 else 503, before=8)
    assert trouble == "503"


def test_a_slow_start_has_its_time(mocker: MockerFixture) -> None:
    trouble, watch = settle(mocker, lambda n: 503 if 2 < n < 40 else 200, seconds=60)
    assert (trouble, watch.failed) == ("", 37)


def test_a_slow_health_path_is_healthy_as_long_as_it_answers(mocker: MockerFixture) -> None:
    """Fewer answers than asked for, all of them good; and none at all."""
    trouble, watch = settle(mocker, lambda _: time.sleep(0.2) or 200)
    assert (trouble, watch.steady) == ("", False)
    trouble, _ = settle(mocker, lambda n: time.sleep(0 if n <= 2 else 1) or 200)
    assert trouble == "nothing"


def test_a_site_that_did_not_answer_before_says_nothing(mocker: MockerFixture) -> None:
    """A first deploy, a public URL that never worked."""
    trouble, watch = settle(mocker, lambda _: 502)
    assert (trouble, watch.requests > 0) == ("", True)
