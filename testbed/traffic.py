"""Visitors of the sample site: a steady mix of requests, every answer checked, asked again only as browsers do."""

import asyncio
import contextlib
import ctypes
import itertools
import json
import math
import re
import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from urllib.parse import urlencode

RATE = 50  # short requests a second
PATIENCE = 30  # seconds until a request without an answer counts as failed
AT_ONCE = 400  # requests under way; one more counts as failed, unasked
CLONE_NEWNET = 0x40000000  # of sched.h
IDLE = 4  # kept-alive connections that wait for their next request
SLOW_SECONDS = 3
CHUNK, CHUNKS, CHUNK_PAUSE = 16 * 1024, 30, 0.1  # an upload: bytes, how many, seconds between two


class ClosedIdle(ConnectionResetError):
    """A connection was reset or closed before a byte of the answer.

    If it was a kept one, the server had mostly closed it when the request came.
    """


@dataclass(frozen=True)
class Answer:
    """A whole HTTP answer: as many bytes of body as its Content-Length says."""

    status: int
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Visit:
    """One kind of request; `check` says what is wrong with an answer, or ""."""

    method: str
    path: str
    check: Callable[[Answer], str]
    form: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Sample:
    """One request that was made. Times are of time.monotonic(); a long request takes its time by its nature."""

    name: str
    began: float
    ended: float
    trouble: str
    long: bool

    @property
    def ms(self) -> float:
        """Milliseconds from before the connection to after the last byte."""
        return (self.ended - self.began) * 1000

    @property
    def repeatable(self) -> bool:
        """Whether a proxy may ask it again when the application closes the connection (RFC 9110, 9.2.2)."""
        return self.name.startswith("GET ")


@dataclass(frozen=True)
class Numbers:
    """What a number of samples come to; `slowest_ms` is that of the short requests."""

    requests: int
    failed: int
    slowest_ms: float
    troubles: tuple[str, ...]


def count(samples: Iterable[Sample], begin: float = -math.inf, end: float = math.inf) -> Numbers:
    """Sum up the samples that were under way between `begin` and `end`."""
    those = [sample for sample in samples if sample.began < end and sample.ended > begin]
    failed = [sample for sample in those if sample.trouble]
    slowest = max((sample.ms for sample in those if not sample.long), default=0.0)
    kinds = Counter(f"{sample.name}: {sample.trouble}" for sample in failed)
    troubles = tuple(f"{times} x {kind}" for kind, times in kinds.most_common(5))
    return Numbers(len(those), len(failed), round(slowest, 1), troubles)


class Traffic:
    """A context in which visitors come: RATE short requests a second, one slow request and one upload always under way.

    Half of the short requests open a connection of their own, the others use one that was kept alive. Static files are
    those of the page as it was when the visitors came. The requests under way at the end are waited for.
    With `netns`, the name of a network namespace, the visitors live in there, whatever happens to the way to it.
    By the `scheme` https they take any certificate.
    """

    def __init__(
        self,
        address: str,
        domain: str,
        *,
        scheme: str = "http",
        port: int = 0,
        rate: int = RATE,
        long: bool = True,
        netns: str = "",
    ) -> None:
        self.address, self.domain, self.rate, self.long = address, domain, rate, long
        self.port = port or (443 if scheme == "https" else 80)
        self.tls = trusting() if scheme == "https" else None
        self.netns = netns
        self.samples: list[Sample] = []
        self._late: list[tuple[float, float]] = []
        self._idle: list[_Connection] = []
        self._over = threading.Event()
        self._come = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Traffic":
        self._thread.start()
        if not self._come.wait(PATIENCE + 5):
            raise RuntimeError(f"no page at {self.address}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join(PATIENCE + 15)
        if self._thread.is_alive() and not error:
            raise RuntimeError("the visitors do not leave")

    def count(self, begin: float = -math.inf, end: float = math.inf) -> Numbers:
        """Sum up the requests that were under way between two moments of time.monotonic()."""
        return count(list(self.samples), begin, end)

    def late_ms(self, begin: float, end: float) -> float:
        """By how much a visitor came too late at most: a busy machine's share in what the visitors see as slow."""
        late = list(self._late)
        return round(max((seconds * 1000 for at, seconds in late if begin < at < end), default=0.0), 1)

    def _run(self) -> None:
        if self.netns:
            enter_namespace(self.netns)
        asyncio.run(self._live())

    async def _live(self) -> None:
        page = await self._ask(Visit("GET", "/", page_is_whole), keep=False)
        visits = itertools.cycle(await self._mix(page))
        self._come.set()
        under_way: set[asyncio.Task[None]] = set()
        if self.long:
            under_way |= {asyncio.create_task(self._again_and_again(one)) for one in (self._slow, self._upload)}
        start = time.monotonic()
        for number, visit in enumerate(visits):
            await asyncio.sleep(max(0.0, start + number / self.rate - time.monotonic()))
            if self._over.is_set():
                break
            now = time.monotonic()
            self._late.append((now, now - start - number / self.rate))
            if len(under_way) > AT_ONCE:
                self.samples.append(
                    Sample(f"{visit.method} {visit.path}", now, now, "too many wait already", long=False)
                )
                continue
            task = asyncio.create_task(self._note(visit, keep=number % 2 == 0))
            under_way.add(task)
            task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)
        for connection in self._idle:
            connection.close()

    async def _mix(self, page: Answer) -> list[Visit]:
        """A round of visits, with the static files that `page` names."""
        paths = sorted(set(re.findall(r'"(/static/[^"]+)"', page.body.decode())))
        files = [
            Visit("GET", path, is_still((await self._ask(Visit("GET", path, no_check), keep=False)).body))
            for path in paths
        ]
        index, health = Visit("GET", "/", page_is_whole), Visit("GET", "/healthz", is_healthy)
        notes = Visit("GET", "/notes/", has_notes)
        note = Visit("POST", "/notes/", is_kept, {"text": "from a visitor", "author": "load"})
        usual = [index, health, *files, index, health, notes, *files]
        return [*usual * 4, note]

    async def _note(self, visit: Visit, *, keep: bool) -> None:
        """Make one request and note how it went."""
        await self._sample(f"{visit.method} {visit.path}", lambda: self._checked(visit, keep=keep))

    async def _checked(self, visit: Visit, *, keep: bool) -> str:
        return visit.check(await self._ask(visit, keep=keep))

    async def _sample(self, name: str, work: Callable, *, long: bool = False) -> None:
        began = time.monotonic()
        try:
            async with asyncio.timeout(PATIENCE):
                trouble = await work()
        except TimeoutError:
            trouble = f"no answer within {PATIENCE} s"
        except (OSError, EOFError, ValueError, LookupError) as error:
            trouble = f"{type(error).__name__}: {error}"
        self.samples.append(Sample(name, began, time.monotonic(), trouble, long))

    async def _ask(self, visit: Visit, *, keep: bool) -> Answer:
        kept = self._kept() if keep else None
        try:
            return await self._exchange(kept or await self._open(), visit, keep=keep)
        except ClosedIdle:
            if not kept or visit.method != "GET":
                raise
            # A server may close an idle connection at any time, as nginx does when it reloads: whoever asks at that
            # moment opens another one (RFC 9112, 9.3.1), as every browser does.
            return await self._exchange(await self._open(), visit, keep=keep)

    async def _open(self) -> "_Connection":
        return await _Connection.open(self.address, self.port, self.tls, self.domain)

    async def _exchange(self, connection: "_Connection", visit: Visit, *, keep: bool) -> Answer:
        try:
            connection.send(self._head(visit, keep=keep))
            answer = await connection.answer()
        except BaseException:
            connection.close()
            raise
        if keep and answer.headers.get("connection") != "close" and len(self._idle) < IDLE:
            self._idle.append(connection)
        else:
            connection.close()
        return answer

    def _kept(self) -> "_Connection | None":
        """A connection that waits for its next request and that the server has not closed, as every browser looks."""
        while self._idle:
            connection = self._idle.pop(0)
            if connection.is_open:
                return connection
            connection.close()
        return None

    def _head(self, visit: Visit, *, keep: bool, length: int | None = None, kind: str = "") -> bytes:
        body = urlencode(visit.form).encode()
        lines = [
            f"{visit.method} {visit.path} HTTP/1.1",
            f"Host: {self.domain}",
            "User-Agent: visitor",
            f"Connection: {'keep-alive' if keep else 'close'}",
        ]
        if visit.method == "POST":
            lines.append(f"Content-Type: {kind or 'application/x-www-form-urlencoded'}")
            lines.append(f"Content-Length: {len(body) if length is None else length}")
        return "\r\n".join([*lines, "", ""]).encode() + body

    async def _again_and_again(self, one: Callable) -> None:
        while not self._over.is_set():
            await one()
            await asyncio.sleep(0.05)

    async def _slow(self) -> None:
        """A request that the application takes seconds for."""
        path = f"/slow/?seconds={SLOW_SECONDS}"
        visit = Visit("GET", path, lambda answer: says(answer, "slept", float(SLOW_SECONDS)))
        await self._sample(f"GET {path}", lambda: self._checked(visit, keep=False), long=True)

    async def _upload(self) -> None:
        """A body that comes in slow pieces."""
        await self._sample("POST /upload/", self._send_slowly, long=True)

    async def _send_slowly(self) -> str:
        size = CHUNK * CHUNKS
        connection = await self._open()
        visit = Visit("POST", "/upload/", no_check)
        try:
            connection.send(self._head(visit, keep=False, length=size, kind="application/octet-stream"))
            for _ in range(CHUNKS):
                connection.send(b"x" * CHUNK)
                await connection.drain()
                await asyncio.sleep(CHUNK_PAUSE)
            return says(await connection.answer(), "bytes", size)
        finally:
            connection.close()


@dataclass(frozen=True)
class _Connection:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def open(cls, address: str, port: int, tls: ssl.SSLContext | None, name: str) -> "_Connection":
        return cls(*await asyncio.open_connection(address, port, ssl=tls, server_hostname=name if tls else None))

    @property
    def is_open(self) -> bool:
        return not self.reader.at_eof() and not self.writer.is_closing()

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def drain(self) -> None:
        await self.writer.drain()

    async def answer(self) -> Answer:
        """Read one answer.

        Raises ValueError when it is no HTTP or has no Content-Length, EOFError when it is half, ClosedIdle.
        """
        try:
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except ConnectionResetError as error:
            raise ClosedIdle(*error.args) from error
        except asyncio.IncompleteReadError as error:
            if error.partial or not await self._met_an_end():
                raise
            raise ClosedIdle("closed before an answer") from error
        version, status, *_ = head[0].split(" ")
        if not version.startswith("HTTP/1."):
            raise ValueError(f"no HTTP: {head[0]!r}")
        pairs = (line.partition(":") for line in head[1:] if line)
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        if "content-length" not in headers:
            raise ValueError(f"no Content-Length in an answer with status {status}")
        return Answer(int(status), headers, await self.reader.readexactly(int(headers["content-length"])))

    async def _met_an_end(self) -> bool:
        """Whether the request met a connection that was closed already: its end is read first, the reset comes then.

        Who reads a request and closes sends no reset. TLS says its end in its own words, which is all that is seen.
        """
        if self.writer.get_extra_info("ssl_object"):
            return True
        opened = self.writer.get_extra_info("socket")
        for _ in range(20):
            if opened.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                return True
            await asyncio.sleep(0.01)
        return False

    def close(self) -> None:
        with contextlib.suppress(OSError, RuntimeError):
            self.writer.close()


def trusting() -> ssl.SSLContext:
    """For a client of https that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def enter_namespace(name: str) -> None:
    """Move this thread, and no other, into a network namespace, as `ip netns` names it. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/run/netns", name).open() as file:
        if libc.setns(file.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter the network namespace {name}")


def no_check(_answer: Answer) -> str:
    """Any answer will do."""
    return ""


def page_is_whole(answer: Answer) -> str:
    """The front page, to its end, with the release in its text that its header names."""
    release = answer.headers.get("x-release", "")
    text = answer.body.decode(errors="replace")
    if answer.status != 200:
        return f"status {answer.status}"
    if not release or f'content="{release}"' not in text or not text.rstrip().endswith("</html>"):
        return "not the whole page of one release"
    return ""


def is_healthy(answer: Answer) -> str:
    """200 and the JSON that the health path answers."""
    return says(answer, "status", "ok")


def has_notes(answer: Answer) -> str:
    """200 and a list of notes."""
    if answer.status != 200:
        return f"status {answer.status}"
    return "" if isinstance(json.loads(answer.body)["notes"], list) else "no list of notes"


def is_kept(answer: Answer) -> str:
    """201 and the note with its number."""
    if answer.status != 201:
        return f"status {answer.status}"
    return "" if isinstance(json.loads(answer.body)["id"], int) else "a note without a number"


def is_still(body: bytes) -> Callable[[Answer], str]:
    """The check for a file whose content never changes."""

    def check(answer: Answer) -> str:
        if answer.status != 200:
            return f"status {answer.status}"
        return "" if answer.body == body else "another content under the same name"

    return check


def says(answer: Answer, key: str, value: object) -> str:
    """The check for a 200 whose JSON has `value` at `key`."""
    if answer.status != 200:
        return f"status {answer.status}"
    found = json.loads(answer.body).get(key)
    return "" if found == value else f"{key} is {found!r}, not {value!r}"
