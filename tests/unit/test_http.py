"""HTTP through an SSH connection: what is asked, and what an answer comes to when there is none."""

from collections.abc import Callable

import httpx
import pytest

from fabfile.errors import ConnectError, NoForwarding
from fabfile.ssh import http
from testbed.sample import sample

SETTINGS = sample(repo="git@example.org:team/app.git", domain="app.example.org")
HEALTHY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Channel:
    """One connection to the host's nginx: gives `answers` in turn, and keeps what was sent."""

    eof_received = False

    def __init__(self, *answers: bytes | Exception) -> None:
        self.answers = list(answers)
        self.sent = b""
        self.closed = False

    def settimeout(self, seconds: float | None) -> None:
        assert seconds

    def sendall(self, data: bytes) -> None:
        if self.closed:
            raise OSError("Socket is closed")
        self.sent += data

    def recv(self, _: int) -> bytes:
        answer = self.answers.pop(0) if self.answers else b""
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self) -> None:
        self.closed = True


class Connection:
    """An SSH connection that opens these channels, or fails to, in turn; refuses what nobody prepared."""

    def __init__(self, *ways: Channel | Exception) -> None:
        self.ways = list(ways)
        self.asked: list[tuple[str, int]] = []

    def open_stream(self, host: str, port: int) -> Channel:
        self.asked.append((host, port))
        assert self.ways, "nobody prepared another connection"
        way = self.ways.pop(0)
        if isinstance(way, Exception):
            raise way
        return way


def ask(connection: Connection, times: int = 1) -> list[str]:
    with http.client(connection, SETTINGS) as client:  # ty: ignore[invalid-argument-type]
        return [http.ask(client, "/healthz") for _ in range(times)]


def test_the_host_s_own_nginx_is_asked_as_by_a_visitor() -> None:
    """On the far side of SSH, at port 80, with the site's domain and as if over https."""
    channel = Channel(HEALTHY)
    connection = Connection(channel)
    assert ask(connection) == ["200"]
    assert connection.asked == [("127.0.0.1", 80)]
    head = channel.sent.decode().split("\r\n")
    assert head[0] == "GET /healthz HTTP/1.1"
    assert {"Host: app.example.org", "X-Forwarded-Proto: https"} <= set(head)


def test_one_connection_serves_many_requests() -> None:
    """A watch asks many times a second: it keeps its connection."""
    assert ask(Connection(Channel(HEALTHY, HEALTHY, HEALTHY)), times=3) == ["200"] * 3


@pytest.mark.parametrize("end", [b"", OSError("gone"), EOFError()])
def test_a_kept_connection_that_nginx_closed_is_no_failure(end: bytes | Exception) -> None:
    """Its reload closes kept connections, and browsers open another one too."""
    assert ask(Connection(Channel(HEALTHY, end), Channel(HEALTHY)), times=2) == ["200", "200"]


@pytest.mark.parametrize(
    ("connection", "answer"),
    [
        (lambda: Connection(Channel(b"")), "NetworkError: "),
        (lambda: Connection(Channel(OSError("gone"))), "NetworkError: "),
        (lambda: Connection(Channel(TimeoutError("slow"))), "ReadTimeout: slow"),
        (lambda: Connection(Channel(b"no HTTP\r\n\r\n")), "NetworkError: "),
        (lambda: Connection(ConnectError("refused")), "NetworkError: refused"),
        (lambda: Connection(NoForwarding("api passes nothing on")), f"{http.BLIND}: api passes nothing on"),
        (lambda: Connection(Channel(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")), "503"),
    ],
)
def test_what_went_wrong_is_told_instead_of_a_status(connection: Callable[[], Connection], answer: str) -> None:
    """A fresh connection that fails counts at once; a host that passes nothing on is no site that is down."""
    (said,) = ask(connection())
    assert said.startswith(answer)


def test_a_client_that_is_closed_closes_its_channel() -> None:
    """Nothing stays open on the SSH connection."""
    channel = Channel(HEALTHY)
    ask(Connection(channel))
    assert channel.closed


def test_an_error_of_the_tool_is_not_taken_for_an_answer() -> None:
    """Only what a network does becomes an answer."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise ZeroDivisionError

    with (
        httpx.Client(transport=httpx.MockTransport(fail), base_url="http://x") as client,
        pytest.raises(ZeroDivisionError),
    ):
        http.ask(client, "/")
