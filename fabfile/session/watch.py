"""Whether the site answers: httpx through the SSH connection, once or many times a second."""

import contextlib
import threading
import time
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from fabfile.errors import ConnectError, DeployError, NoForwarding

if TYPE_CHECKING:
    from fabfile.config.settings import Settings
    from fabfile.ssh.connection import Remote

INTERVAL = 0.05  # seconds between two requests of a watch
BLIND = "cannot look"  # begins the answer of a watch that has no way to the site
STEADY = 5  # answers in a row that must be 200 after a switch for a site to count as healthy


class _Stream(httpcore.NetworkStream):
    """An SSH channel as httpcore's network stream."""

    def __init__(self, channel: Any) -> None:
        self._channel = channel

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._channel.settimeout(timeout)
        with _translated():
            return self._channel.recv(max_bytes)

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._channel.settimeout(timeout)
        with _translated():
            self._channel.sendall(buffer)

    def close(self) -> None:
        self._channel.close()

    def get_extra_info(self, info: str) -> Any:
        # How httpcore sees that nginx has closed a kept connection, as its reload does.
        return self._channel.closed or self._channel.eof_received if info == "is_readable" else None


class _ThroughSSH(httpcore.NetworkBackend):
    """Opens TCP connections on the far side of an SSH connection."""

    def __init__(self, remote: "Remote") -> None:
        self._remote = remote
        self.opened = 0

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ARG002 - open_stream has its own
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002
    ) -> httpcore.NetworkStream:
        self.opened += 1
        try:
            return _Stream(self._remote.open_stream(host, port))
        except NoForwarding:
            raise
        except ConnectError as error:
            raise httpcore.ConnectError(error.message) from error


@contextlib.contextmanager
def _translated() -> Generator[None]:
    try:
        yield
    except TimeoutError as error:
        raise httpcore.ReadTimeout(str(error)) from error
    except (OSError, EOFError) as error:
        raise httpcore.ReadError(str(error)) from error


class _Transport(httpx.BaseTransport):
    """httpx's way out, through SSH."""

    def __init__(self, remote: "Remote") -> None:
        self._way = _ThroughSSH(remote)
        self._pool = httpcore.ConnectionPool(network_backend=self._way, max_connections=4)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        opened = self._way.opened
        try:
            return self._ask(request)
        except httpx.NetworkError:
            if self._way.opened != opened:
                raise
            # A kept connection, which nginx closes when it reloads: browsers open another one too (RFC 9112, 9.3.1).
            return self._ask(request)

    def _ask(self, request: httpx.Request) -> httpx.Response:
        try:
            answer = self._pool.request(
                request.method,
                str(request.url),
                headers=request.headers.raw,
                content=request.read(),
                extensions=request.extensions,
            )
        except httpcore.TimeoutException as error:
            raise httpx.ReadTimeout(str(error)) from error
        except (httpcore.NetworkError, httpcore.ProtocolError) as error:
            raise httpx.NetworkError(str(error)) from error
        return httpx.Response(answer.status, headers=answer.headers, content=answer.content)

    def close(self) -> None:
        self._pool.close()


def client(remote: "Remote", settings: "Settings") -> httpx.Client:
    """An HTTP client that speaks to the host's nginx as a visitor of `domain` would, over https or not."""
    return httpx.Client(
        transport=_Transport(remote),
        base_url="http://127.0.0.1",
        headers={"Host": settings.domain, "X-Forwarded-Proto": "https", "User-Agent": "django-deploy"},
        timeout=10,
    )


def ask(http: httpx.Client, path: str) -> str:
    """One request; the status, or what went wrong instead of one."""
    try:
        return str(http.get(path).status_code)
    except NoForwarding as error:
        return f"{BLIND}: {error.message}"
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}"


@dataclass
class Watch:
    """What a watch saw: requests, failures (anything but 200), the slowest answer in ms."""

    requests: int = 0
    failed: int = 0
    slowest_ms: float = 0.0
    first: str = ""
    last: deque[str] = field(default_factory=lambda: deque(maxlen=STEADY))
    hurries: threading.Event = field(default_factory=threading.Event)

    def count(self, answer: str, seconds: float) -> None:
        self.requests += 1
        self.first = self.first or answer
        self.slowest_ms = max(self.slowest_ms, round(seconds * 1000, 1))
        self.last.append(answer)
        if answer != "200":
            self.failed += 1

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
        return len(self.last) == STEADY and not self.trouble


@contextlib.contextmanager
def watching(remote: "Remote", settings: "Settings", counts: dict[str, float | int]) -> Generator[dict[str, Watch]]:
    """Ask for the health path many times a second while the block runs: through SSH, and at `public_url` if set.

    However the block ends, `counts` then has what was seen.
    """
    over = threading.Event()
    watches = {"ssh": Watch()}
    clients = {"ssh": client(remote, settings)}
    if settings.public_url:
        watches["public"] = Watch()
        clients["public"] = httpx.Client(base_url=settings.public_url, timeout=10)
    threads = [
        threading.Thread(target=_watch, args=(clients[name], settings.health_path, watches[name], over), daemon=True)
        for name in watches
    ]
    for thread in threads:
        thread.start()
    try:
        yield watches
    finally:
        over.set()
        for thread in threads:
            thread.join(timeout=15)
        for http in clients.values():
            with contextlib.suppress(DeployError, httpx.HTTPError, OSError):
                http.close()
        counts |= numbers(watches)


def settle(watches: Mapping[str, Watch], seconds: float) -> str:
    """Wait until every watch has seen only 200 from now on; return the trouble of one that did not within `seconds`.

    Only answers from now on count, as the switch is over: those of before are of the old workers. They are asked for
    without a pause. A watch whose very first answer was no 200 (no way through SSH, a public URL that never worked)
    says nothing about this release; the host's own check has spoken.
    """
    end = time.monotonic() + seconds
    telling = [watch for watch in watches.values() if watch.first == "200"]
    for watch in telling:
        watch.last.clear()
        watch.hurries.set()
    while not all(watch.steady for watch in telling) and time.monotonic() < end:
        time.sleep(0.005)
    for watch in telling:
        watch.hurries.clear()
    # A health path too slow for so many answers within `seconds` is healthy as long as it does answer.
    return next((watch.trouble or "nothing" for watch in telling if watch.trouble or not watch.last), "")


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


def _watch(http: httpx.Client, path: str, watch: Watch, over: threading.Event) -> None:
    while not over.is_set():
        began = time.monotonic()
        answer = ask(http, path)
        watch.count(answer, time.monotonic() - began)
        if watch.blind:
            return
        if not watch.hurries.is_set():
            over.wait(max(0.0, INTERVAL - (time.monotonic() - began)))
