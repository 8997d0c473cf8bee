"""The load generator: it counts what a visitor would notice, and asks again only where every browser does."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from testbed import traffic
from testbed.traffic import Sample, Traffic, count
from tests.unit.nginx import self_signed

PAGE = '<html><link href="/static/a.0123456789ab.css"><meta name="release" content="{release}"></html>\n'  # fmt: skip


def answer(body: str, status: str = "200 OK", *headers: str, length: int | None = None) -> bytes:
    """An HTTP answer; `length` is what it claims to have."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {size}", *headers, "", body]
    return "\r\n".join(lines).encode()


class Server:
    """A site on loopback; `answers` may be changed while visitors come. b"" closes the connection without an answer."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.tls = tls
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=200)
        self.port = self.listener.getsockname()[1]
        self.asked: list[str] = []
        self.connections = 0
        self.known: set[tuple[str, int]] = set()
        self.pause = 0.0
        self.closes_idle = False
        self.closes_new = False  # which ask for their health
        self.answers = {
            "/": answer(PAGE.format(release="r1"), "200 OK", "X-Release: r1"),
            "/healthz": answer('{"status": "ok"}'),
            "/notes/": answer('{"notes": []}'),
            "POST /notes/": answer('{"id": 1}', "201 Created"),
            "/static/a.0123456789ab.css": answer("p {}"),
        }
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection: socket.socket) -> None:
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True)
        with connection, connection.makefile("rb") as lines:
            while head := lines.readline():
                new = connection.getpeername() not in self.known
                if self.closes_idle and not new:
                    farewell(connection)
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset
                    return
                self.known.add(connection.getpeername())
                method, path, _ = head.decode().split()
                fields = dict(line.decode().strip().split(": ") for line in iter(lines.readline, b"\r\n"))
                lines.read(int(fields.get("Content-Length", 0)))
                self.asked.append(f"{method} {path}")
                time.sleep(self.pause)
                reply = self.answers.get(f"{method} {path}", self.answers[path])
                if self.closes_new and new and path == "/healthz":
                    reply = b""
                connection.sendall(reply)
                if not reply or fields["Connection"] == "close":
                    return


def farewell(connection: socket.socket) -> None:
    """End TLS, if it is spoken, without waiting for the other side, as nginx does with an idle connection."""
    if isinstance(connection, ssl.SSLSocket):
        connection.setblocking(False)
        with suppress(ssl.SSLWantReadError):
            connection.unwrap()


@pytest.fixture
def server() -> Iterator[Server]:
    """A site that answers as it should."""
    server = Server()
    yield server
    server.listener.close()


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[Server]:
    """The same, by https."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(*self_signed(tmp_path, "consult.lab"))
    server = Server(tls)
    yield server
    server.listener.close()


def visitors(server: Server, rate: int = 200) -> Traffic:
    scheme = "https" if server.tls else "http"
    return Traffic("127.0.0.1", "consult.lab", scheme=scheme, port=server.port, rate=rate, long=False)


def test_a_sound_site_fails_nobody(server: Server) -> None:
    """Every kind of request is made, at the rate asked for, half of them on connections that are used again."""
    with visitors(server) as traffic:
        time.sleep(1)
    seen = traffic.count()
    assert (seen.failed, seen.troubles) == (0, ())
    assert 100 <= seen.requests <= 260  # 200, on a machine with time
    assert {sample.name for sample in traffic.samples} >= {"GET /", "GET /healthz", "GET /notes/", "POST /notes/"}
    assert 0.4 < server.connections / seen.requests < 0.65


@pytest.mark.parametrize(
    ("path", "reply", "trouble"),
    [
        ("/", answer("down", "502 Bad Gateway"), "status 502"),
        ("/", answer(PAGE.format(release="r1"), "200 OK", "X-Release: r2"), "not the whole page of one release"),
        ("/", answer("<html>", "200 OK", "X-Release: r1"), "not the whole page of one release"),
        ("/", b"", "IncompleteReadError"),
        ("/healthz", answer('{"status": "unavailable"}', "503 Unavailable"), "status 503"),
        ("/healthz", answer("not JSON"), "JSONDecodeError"),
        ("/healthz", b"HTTP/1.1 200 OK\r\n\r\n", "no Content-Length"),
        ("/healthz", b"SSH-2.0 hello\r\n\r\n", "no HTTP"),
        ("/notes/", answer("{}"), "KeyError"),
        ("POST /notes/", answer("{}", "200 OK"), "status 200"),
        ("/static/a.0123456789ab.css", answer("other"), "another content"),
        ("/static/a.0123456789ab.css", answer("", "404 Not Found"), "status 404"),
    ],
)
def test_every_wrong_answer_counts(server: Server, path: str, reply: bytes, trouble: str) -> None:
    """A wrong status, a wrong or mixed body, a closed connection: each is a failed request, told by name."""
    with visitors(server) as traffic:
        time.sleep(0.1)
        server.answers[path] = reply
        time.sleep(0.5)
    name = path if path.startswith("POST") else f"GET {path}"
    failed = [sample for sample in traffic.samples if sample.trouble]
    assert failed
    assert {sample.name for sample in failed} == {name}
    assert all(trouble in sample.trouble for sample in failed)
    assert f"x {name}: " in traffic.count().troubles[0]


def test_half_an_answer_counts(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A body that is shorter than its Content-Length never becomes an answer."""
    monkeypatch.setattr(traffic, "PATIENCE", 0.3)
    with visitors(server) as visits:
        server.answers["/healthz"] = answer('{"status": "ok"}', length=500)
        time.sleep(0.4)
    assert {sample.name for sample in visits.samples if sample.trouble} == {"GET /healthz"}


def test_a_closed_port_counts(server: Server) -> None:
    """Nobody listens: as many failures as visitors."""
    with visitors(server) as traffic:
        server.answers = dict.fromkeys(server.answers, b"")  # ends each connection that is kept
        server.listener.shutdown(socket.SHUT_RDWR)
        server.listener.close()
        time.sleep(0.5)
        gone = time.monotonic()
        time.sleep(0.3)
    seen = traffic.count(begin=gone)
    assert seen.requests > 20
    assert seen.failed == seen.requests


def test_nothing_is_asked_twice(server: Server) -> None:
    """As many requests reach the site as are counted, whatever becomes of them; but for those of the next test."""
    with visitors(server) as traffic:
        server.answers["/healthz"] = b""
        time.sleep(0.6)
    assert traffic.count().failed > 10
    assert len(server.asked) == traffic.count().requests + 2  # and the first page with its file


def test_a_kept_connection_that_was_closed_is_no_failure(server: Server) -> None:
    """A reset before any answer, on a connection that was used before: a GET is asked on another one, a POST is not."""
    with visitors(server) as traffic:
        server.closes_idle = True
        time.sleep(0.8)
    assert server.connections > 0.7 * traffic.count().requests  # half of them, were none closed
    assert {sample.name for sample in traffic.samples if sample.trouble} <= {"POST /notes/"}


def test_by_https_the_same_is_no_failure(secure: Server) -> None:
    """A kept connection that TLS has ended before any answer: a GET is asked on another one."""
    with visitors(secure, rate=60) as traffic:
        secure.closes_idle = True
        time.sleep(0.8)
    assert secure.connections > 0.7 * traffic.count().requests
    assert {sample.name for sample in traffic.samples if sample.trouble} <= {"POST /notes/"}


def test_by_https_a_new_connection_that_is_closed_counts(secure: Server) -> None:
    """Nobody asks again who has opened it for this request."""
    with visitors(secure, rate=60) as traffic:
        secure.closes_new = True
        time.sleep(0.8)
    seen = [sample for sample in traffic.samples if sample.name == "GET /healthz"]
    assert 0 < sum(bool(sample.trouble) for sample in seen) < len(seen)
    assert secure.asked.count("GET /healthz") == len(seen)


def test_a_stall_is_measured(server: Server) -> None:
    """The slowest answer is as slow as it was, and only in the window in which it was under way."""
    with visitors(server) as traffic:
        time.sleep(0.3)
        server.pause, begin = 0.4, time.monotonic()
        time.sleep(0.1)
        server.pause = 0.0
        time.sleep(0.6)
        end = time.monotonic()
        time.sleep(0.3)
    assert 400 <= traffic.count(begin, end).slowest_ms < 1000
    assert traffic.count(end=begin - 0.05).slowest_ms < 400
    assert traffic.count(begin=end).slowest_ms < 400


def test_too_many_at_once_fail(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that never answers does not get ever more requests; those not made count as failed."""
    monkeypatch.setattr(traffic, "AT_ONCE", 20)
    monkeypatch.setattr(traffic, "PATIENCE", 1)
    with visitors(server) as visits:
        server.pause = 3
        time.sleep(0.5)
    assert any("too many wait" in sample.trouble for sample in visits.samples)
    assert len(server.asked) < 40


def test_long_requests_count_as_requests_but_not_as_slow() -> None:
    """What takes seconds by its nature says nothing about a stall; when it fails it has failed."""
    samples = [
        Sample("GET /", 1.0, 1.02, "", long=False),
        Sample("GET /slow/", 1.0, 4.0, "", long=True),
        Sample("POST /upload/", 2.0, 5.0, "status 502", long=True),
        Sample("GET /", 9.0, 9.5, "", long=False),
    ]
    seen = count(samples, 0.0, 6.0)
    assert (seen.requests, seen.failed, round(seen.slowest_ms)) == (3, 1, 20)
    assert seen.troubles == ("1 x POST /upload/: status 502",)
    assert [sample.repeatable for sample in samples] == [True, True, False, True]
