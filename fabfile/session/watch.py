"""The watch on the site during a switch: many requests a second, and whether it settles afterwards."""

import contextlib
import re
import threading
import time
from collections import deque
from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from ..errors import DeployError
from ..plan.request import mark
from ..ssh.http import BLIND, client, look

if TYPE_CHECKING:
    from ..config.settings import Settings
    from ..ssh.connection import Connection

INTERVAL = 0.05  # seconds between two requests of a watch
PATIENCE = 10  # seconds for an answer, where nothing makes visitors wait
MOMENT = 3  # seconds that a watch has for its first answer after a switch, if it had no good one before
STEADY = 5  # answers in a row that must be 200 at a public address; of its own site the host has seen as many


# What goes wrong between here and a public address, in the words of Python and OpenSSL, and in ours.
WORDS = (
    (
        r"Name or service not known|nodename nor servname|No address associated|Temporary failure in name",
        "DNS does not know the name",
    ),
    (r"CERTIFICATE_VERIFY_FAILED.*?: (.*?)( \(_ssl.*)?$", r"its certificate is refused: \1"),
    (r"(?i)\bssl\b|TLSV1|WRONG_VERSION_NUMBER", "it speaks no TLS"),
    (r"Connection refused", "nobody listens there (connection refused)"),
    (r"Timeout", "no answer in time"),
)


@dataclass
class Watch:
    """What a watch saw: requests, failures (anything but 200), the slowest answer in ms.

    `place` says where it looks, `ours` whether an answer had the app's mark, and so came from its nginx; `enough` how
    many answers in a row make the site steady. `last` and `ours` tell of what was asked since a switch was over, and
    `had` what `ours` was before.
    """

    place: str = "through nginx"
    enough: int = 1
    ours: bool = False
    had: bool = False
    requests: int = 0
    failed: int = 0
    slowest_ms: float = 0.0
    first: str = ""
    last: deque[str] = field(default_factory=lambda: deque(maxlen=STEADY))
    since: float = 0.0
    hurries: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, answer: str, began: float, *, ours: bool = False) -> None:
        """Count an answer to what was asked at `began` (time.monotonic)."""
        self.requests += 1
        self.first = self.first or answer
        self.slowest_ms = max(self.slowest_ms, round((time.monotonic() - began) * 1000, 1))
        if answer != "200":
            self.failed += 1
        with self.lock:
            if began >= self.since:
                self.ours |= ours
                self.last.append(answer)

    def look_anew(self) -> None:
        """Have `last` and `ours` tell only of what is asked from now on."""
        with self.lock:
            self.since = time.monotonic()
            self.last.clear()
            self.had, self.ours = self.ours, False

    @property
    def tells(self) -> bool:
        """Whether it says something about a release: its very first answer was good."""
        return self.first == "200"

    @property
    def blind(self) -> bool:
        """Whether the host lets this watch see nothing: what it counted says nothing about the site."""
        return self.first.startswith(BLIND)

    @property
    def trouble(self) -> str:
        """The newest of the last answers that was not 200; empty when all were, or none came yet."""
        # A copy, as the watch's own thread appends while this one looks.
        return next((answer for answer in reversed(tuple(self.last)) if answer != "200"), "")

    @property
    def steady(self) -> bool:
        """Whether enough answers came, and all of the last ones were 200."""
        return len(self.last) >= self.enough and not self.trouble

    @property
    def settled(self) -> bool:
        """Whether it is steady, and by the app's own nginx, where that has answered before."""
        return self.steady and self.ours >= self.had


@contextlib.contextmanager
def watching(
    connection: "Connection", settings: "Settings", counts: dict[str, float | int], patience: float = PATIENCE
) -> Generator[dict[str, Watch]]:
    """Ask for the health path many times a second while the block runs: through SSH, and at `public_url` if set.

    An answer that has not come after `patience` seconds counts as a failure.
    However the block ends, `counts` then has what was seen.
    """
    over = threading.Event()
    watches = {"ssh": Watch()}
    clients = {"ssh": client(connection, settings, patience)}
    if settings.public_url:
        watches["public"] = Watch(f"at {settings.public_url}", STEADY)
        clients["public"] = httpx.Client(base_url=settings.public_url, timeout=patience)
    asked = settings.health_path, mark(settings)
    threads = [
        threading.Thread(target=_watch, args=(clients[name], *asked, watches[name], over), daemon=True)
        for name in watches
    ]
    for thread in threads:
        thread.start()
    try:
        yield watches
    finally:
        over.set()
        for watch in watches.values():
            watch.hurries.set()
        for thread in threads:
            thread.join(timeout=15)
        for http in clients.values():
            with contextlib.suppress(DeployError, httpx.HTTPError, OSError):
                http.close()
        counts |= numbers(watches)


def look_anew(watches: Mapping[str, Watch]) -> None:
    """Say that a switch is over: only what is asked from now on tells of the new release."""
    for watch in watches.values():
        watch.look_anew()


def settle(watches: Mapping[str, Watch], seconds: float) -> str:
    """Wait until every watch has seen only 200 since the switch was over (`look_anew`); return the trouble of one that
    did not within `seconds`.

    It is asked without a pause. Where the app's own nginx has answered before, it has to answer now. A watch whose very
    first answer was no 200 (no way through SSH, a public URL that never worked) says nothing about this release; the
    host's own check has spoken. It gets a moment to see how it is now, for `public_trouble`.
    """
    began = time.monotonic()
    telling = [watch for watch in watches.values() if watch.tells]
    others = [watch for watch in watches.values() if not watch.tells and not watch.blind]
    for watch in telling:
        watch.hurries.set()
    while not all(watch.settled for watch in telling) and time.monotonic() < began + seconds:
        time.sleep(0.005)
    while not all(watch.last for watch in others) and time.monotonic() < began + min(seconds, MOMENT):
        time.sleep(0.005)
    for watch in telling:
        watch.hurries.clear()
    for watch in telling:
        # A health path too slow for so many answers within `seconds` is healthy as long as it does answer.
        if trouble := watch.trouble or ("" if watch.last else "nothing"):
            return f"{trouble} {watch.place}"
        if watch.had and not watch.ours:
            return f"with another site {watch.place}"
    return ""


def public_trouble(watches: Mapping[str, Watch], *, closed: bool = False) -> str:
    """What is wrong at `public_url` after a switch that has settled, in words; empty when it is as it should be.

    `closed` says that the site shows its maintenance page.
    """
    watch = watches.get("public")
    if watch is None:
        return ""
    answer = watch.last[-1] if watch.last else watch.first or "Timeout"
    if answer == "200":
        return "" if watch.ours else "another site answers there"
    if closed and answer == "503":
        return ""
    if answer[0].isdigit():
        return f"it answers {answer}"
    for pattern, words in WORDS:
        if found := re.search(pattern, answer):
            return found.expand(words)
    return answer


def numbers(watches: Mapping[str, Watch]) -> dict[str, float | int]:
    """The counts of all watches for the outcome; those of the public URL begin with `public_`."""
    counts: dict[str, float | int] = {}
    for name, watch in watches.items():
        if watch.blind:
            continue
        start = "" if name == "ssh" else f"{name}_"
        counts |= {
            f"{start}requests": watch.requests,
            f"{start}failed": watch.failed,
            f"{start}slowest_ms": watch.slowest_ms,
        }
    return counts


def _watch(http: httpx.Client, path: str, own: str, watch: Watch, over: threading.Event) -> None:
    while not over.is_set():
        began = time.monotonic()
        answer, found = look(http, path)
        watch.count(answer, began, ours=found == own)
        if watch.blind:
            return
        watch.hurries.wait(max(0.0, INTERVAL - (time.monotonic() - began)))
