"""HTTP through an SSH connection: httpx asks the host's own nginx, as a visitor would."""

import contextlib
from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Any

import httpcore
import httpx

from ..errors import ConnectError, NoForwarding
from ..plan.request import MARK, headers

if TYPE_CHECKING:
    from ..config.settings import Settings
    from .connection import Connection

BLIND = "cannot look"  # begins the answer of a question that has no way to the site


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

    def __init__(self, connection: "Connection") -> None:
        self._connection = connection
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
            return _Stream(self._connection.open_stream(host, port))
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

    def __init__(self, connection: "Connection") -> None:
        self._way = _ThroughSSH(connection)
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


def client(connection: "Connection", settings: "Settings", patience: float = 10) -> httpx.Client:
    """An HTTP client that speaks to the host's nginx as a visitor of `domain` would, over https or not.

    In nginx's log its requests differ from those that the host's own checks send.
    """
    return httpx.Client(
        transport=_Transport(connection),
        base_url="http://127.0.0.1",
        headers=headers(settings, "django-deploy (watch)"),
        timeout=patience,
    )


def ask(http: httpx.Client, path: str) -> str:
    """One request; the status, or what went wrong instead of one."""
    return look(http, path)[0]


def look(http: httpx.Client, path: str) -> tuple[str, str]:
    """The same, and the mark of the app whose nginx has answered, if it has one (`plan.request`)."""
    try:
        response = http.get(path)
    except NoForwarding as error:
        return f"{BLIND}: {error.message}", ""
    except httpx.HTTPError as error:
        return f"{type(error).__name__}: {error}", ""
    target = response.headers.get("Location")
    leads = f", to {target}" if response.is_redirect and target else ""
    return f"{response.status_code}{leads}", response.headers.get(MARK, "")
