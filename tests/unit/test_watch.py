"""The watch: what it counts, and when it calls a site healthy after a switch."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable

import httpx
import pytest
from pytest_mock import MockerFixture

from fabfile.errors import NoForwarding
from fabfile.plan.request import MARK, mark
from fabfile.session import watch
from fabfile.session.watch import STEADY, Watch
from testbed.sample import sample

SETTINGS = sample(repo="git@example.org:team/app.git")
PUBLIC = SETTINGS.model_copy(update={"public_url": "https://app.example.org"})
OURS = {MARK: mark(PUBLIC)}
Statuses = Callable[[int], int]
Client = httpx.Client  # tests put something else into its place


def settle(mocker: MockerFixture, statuses: Statuses, seconds: float = 0.3, before: int = 2) -> tuple[str, Watch]:
    """What `settle` says of a public URL whose n-th answer is `statuses(n)`, asked `before` times before."""
    asked: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        asked.append(1)
        return httpx.Response(statuses(len(asked)))

    sound = Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), base_url="http://127.0.0.1")
    fake = Client(transport=httpx.MockTransport(answer), base_url="https://app.example.org")
    mocker.patch("fabfile.session.watch.client", return_value=sound)
    mocker.patch("fabfile.session.watch.httpx.Client", return_value=fake)
    with watch.watching(mocker.Mock(), PUBLIC, {}) as watches:
        while not watches["ssh"].requests or watches["public"].requests < before:
            time.sleep(0.001)
        watch.look_anew(watches)
        return watch.settle(watches, seconds), watches["public"]


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
    assert trouble == "503 at https://app.example.org"
    assert seen.failed


def test_what_was_before_the_switch_does_not_count(mocker: MockerFixture) -> None:
    """A failure of old workers is told, and no reason to go back; good answers of theirs are none to stay."""
    trouble, seen = settle(mocker, lambda n: 503 if n == 2 else 200)
    assert (trouble, seen.failed) == ("", 1)
    trouble, _ = settle(mocker, lambda n: 200 if n <= 8 else 503, before=8)
    assert trouble == "503 at https://app.example.org"


@pytest.mark.parametrize(("now", "said"), [(200, ""), (503, "503 through nginx")])
def test_what_was_asked_before_the_switch_ended_does_not_count(mocker: MockerFixture, now: int, said: str) -> None:
    """Through nginx one answer is enough, as the host has asked several times; but an old worker's is none."""
    last_of_old, switched = threading.Event(), threading.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        if switched.is_set():
            time.sleep(0.1)
            return httpx.Response(now)
        if last_of_old.is_set():
            switched.wait(10)
        return httpx.Response(200)

    fake = Client(transport=httpx.MockTransport(answer), base_url="http://127.0.0.1")
    mocker.patch("fabfile.session.watch.client", return_value=fake)
    with watch.watching(mocker.Mock(), SETTINGS, {}) as watches:
        while not watches["ssh"].requests:
            time.sleep(0.001)
        last_of_old.set()
        time.sleep(3 * watch.INTERVAL)  # it is asked now
        threading.Timer(0.2, switched.set).start()
        watch.look_anew(watches)
        assert watch.settle(watches, 1) == said


def test_what_was_asked_since_the_switch_ended_counts(mocker: MockerFixture) -> None:
    """While the host makes its own checks, the answer has come: nobody waits for another one."""
    over = threading.Event()

    def answer(_: httpx.Request) -> httpx.Response:
        over.wait(10)
        return httpx.Response(200)

    fake = Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), base_url="http://127.0.0.1")
    mocker.patch("fabfile.session.watch.client", return_value=fake)
    with watch.watching(mocker.Mock(), SETTINGS, {}) as watches:
        while not watches["ssh"].requests:
            time.sleep(0.001)
        watch.look_anew(watches)
        while not watches["ssh"].last:
            time.sleep(0.001)
        fake._transport = httpx.MockTransport(answer)
        time.sleep(3 * watch.INTERVAL)  # it is asked now, and does not answer
        assert watch.settle(watches, 0) == ""
        over.set()


def test_a_slow_start_has_its_time(mocker: MockerFixture) -> None:
    """New workers that need a moment are no failure, as long as they settle in time."""
    trouble, seen = settle(mocker, lambda n: 503 if 2 < n < 40 else 200, seconds=60)
    assert (trouble, seen.failed) == ("", 37)


def test_a_slow_health_path_is_healthy_as_long_as_it_answers(mocker: MockerFixture) -> None:
    """Fewer answers than asked for, all of them good; and none at all."""
    trouble, seen = settle(mocker, lambda _: time.sleep(0.2) or 200, seconds=0.7)
    assert (trouble, seen.steady) == ("", False)
    trouble, _ = settle(mocker, lambda n: time.sleep(0 if n <= 2 else 1) or 200)
    assert trouble == "nothing at https://app.example.org"


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
        watch.look_anew(watches)
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
    with contextlib.suppress(ZeroDivisionError), watch.watching(mocker.Mock(), PUBLIC, counts) as watches:
        while not all(each.requests for each in watches.values()):
            time.sleep(0.001)
        raise ZeroDivisionError
    names = [f"{start}{name}" for start in ("", "public_") for name in ("requests", "failed", "slowest_ms")]
    assert list(counts) == ["kept", *names]
    assert counts["requests"] == watches["ssh"].requests > 0
    assert counts["public_requests"] == watches["public"].requests > 0
    assert (counts["failed"], counts["public_failed"]) == (0, 0)


Public = Callable[[int], httpx.Response | Exception]


def seen_from_outside(mocker: MockerFixture, before: Public, after: Public, seconds: float = 0.3) -> tuple[str, str]:
    """What `settle` and `public_trouble` say when `public_url` gives these answers before and after a switch."""
    switched: list[bool] = []
    asked: list[int] = []

    def answer(_: httpx.Request) -> httpx.Response:
        asked.append(1)
        given = (after if switched else before)(len(asked))
        if isinstance(given, Exception):
            raise given
        return given

    inside = httpx.Client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), base_url="http://127.0.0.1")
    outside = httpx.Client(transport=httpx.MockTransport(answer), base_url="https://app.example.org")
    mocker.patch("fabfile.session.watch.client", return_value=inside)
    mocker.patch("fabfile.session.watch.httpx.Client", return_value=outside)
    with watch.watching(mocker.Mock(), PUBLIC, {}) as watches:
        while not all(each.requests > 1 for each in watches.values()):
            time.sleep(0.001)
        switched.append(True)
        watch.look_anew(watches)
        return watch.settle(watches, seconds), watch.public_trouble(watches)


def ours(_: int) -> httpx.Response:
    return httpx.Response(200, headers=OURS)


def others(_: int) -> httpx.Response:
    return httpx.Response(200, text="Welcome!")


@pytest.mark.parametrize(
    ("answer", "words"),
    [(httpx.Response(502), "502"), (httpx.ConnectError("refused"), "ConnectError: refused")],
)
def test_a_public_url_that_breaks_is_a_failure(
    mocker: MockerFixture, answer: httpx.Response | Exception, words: str
) -> None:
    """It answered before the switch and does not now: the release is not healthy, whatever the host itself sees."""
    trouble, _ = seen_from_outside(mocker, ours, lambda _: answer)
    assert trouble == f"{words} at https://app.example.org"


def test_a_public_url_that_leads_elsewhere_now_is_a_failure(mocker: MockerFixture) -> None:
    """200 from another site is none of ours: it was this app before."""
    trouble, _ = seen_from_outside(mocker, ours, others)
    assert trouble == "with another site at https://app.example.org"


def test_a_host_beside_this_one_that_has_no_mark_yet(mocker: MockerFixture) -> None:
    """Behind a load balancer another host may answer, with a site of before: one answer of ours is enough."""
    trouble = seen_from_outside(mocker, ours, lambda n: others(n) if n < 60 else ours(n), seconds=60)
    assert trouble == ("", "")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (httpx.ConnectError("[Errno -2] Name or service not known"), "DNS does not know the name"),
        (httpx.ConnectError("[Errno 111] Connection refused"), "nobody listens there (connection refused)"),
        (httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: Hostname mismatch, "
                            "certificate is not valid for 'x'. (_ssl.c:1)"),
         "its certificate is refused: Hostname mismatch, certificate is not valid for 'x'."),
        (httpx.ConnectError("[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1)"), "it speaks no TLS"),
        (httpx.ConnectTimeout("timed out"), "no answer in time"),
        (httpx.ReadError("odd"), "ReadError: odd"),
        (httpx.Response(404), "it answers 404"),
        (httpx.Response(301, headers={"Location": "https://x/"}), "it answers 301, to https://x/"),
        (httpx.Response(200, text="Welcome!"), "another site answers there"),
    ],
)  # fmt: skip
def test_a_public_url_that_never_was_this_site(
    mocker: MockerFixture, answer: httpx.Response | Exception, words: str
) -> None:
    """It is no reason to go back, but told, with what is wrong there."""
    assert seen_from_outside(mocker, lambda _: answer, lambda _: answer) == ("", words)


def test_a_public_url_that_works_from_now_on(mocker: MockerFixture) -> None:
    """A first deploy: what was before does not count, and the first answer after it is waited for."""
    assert seen_from_outside(mocker, lambda _: httpx.Response(502), ours, seconds=60) == ("", "")


def test_a_public_url_with_the_maintenance_page() -> None:
    """503 is what visitors are to get then."""
    closed = Watch(last=deque(["503"]))
    assert watch.public_trouble({"public": closed}, closed=True) == ""
    assert watch.public_trouble({"public": closed}) == "it answers 503"
    assert watch.public_trouble({}) == ""
