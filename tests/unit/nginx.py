"""A real nginx that serves a rendered site below a folder, and what stands in for gunicorn behind it."""

import json
import os
import socket
import socketserver
import subprocess
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from fabfile.commands.check import find

needs_nginx = pytest.mark.skipif(not find("nginx"), reason="nginx is not installed")


class Upstream(BaseHTTPRequestHandler):
    """Stands in for gunicorn: tells what it was asked; closes the first connection that asks for /reset."""

    resets: list[str] = []  # noqa: RUF012 -- cleared by the fixture

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path.startswith("/reset"):
            self.resets.append(self.command)
            if len(self.resets) == 1:
                self.connection.shutdown(socket.SHUT_RDWR)
                return
        told = {"path": self.path, "headers": dict(self.headers.items()), "body": len(body)}
        answer = json.dumps(told).encode() + b" " * 2000
        self.send_response(503 if self.path == "/unwell" else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        if self.path == "/careful":
            self.send_header("X-Content-Type-Options", "nosniff")
            self.send_header("Referrer-Policy", "no-referrer")
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = answer  # noqa: N815 -- the names that http.server calls

    def address_string(self) -> str:
        return "nginx"

    def log_message(self, format: str, *args: object) -> None:
        pass


class Threaded(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def self_signed(folder: Path, name: str) -> tuple[Path, Path]:
    """A certificate for `name`, signed by its own key, and that key: two new files in `folder`."""
    certificate, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
         f"/CN={name}", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    return certificate, key


@contextmanager
def serving(root: Path, conf: str, ready: Callable[[], bool]) -> Generator[None]:
    """Run nginx with a whole nginx.conf, and its upstream at run/consult/gunicorn.sock, until `ready` and on."""
    owner = "user root;\n" if os.geteuid() == 0 else ""
    (root / "nginx.conf").write_text(owner + conf)
    with Threaded(str(root / "run/consult/gunicorn.sock"), Upstream) as upstream:
        threading.Thread(target=upstream.serve_forever, daemon=True).start()
        server = subprocess.Popen(
            [find("nginx") or "nginx", "-p", root, "-c", root / "nginx.conf", "-g", "daemon off;"],
            stderr=subprocess.DEVNULL,
        )
        try:
            until = time.monotonic() + 10
            while not ready():
                assert server.poll() is None
                assert time.monotonic() < until
                time.sleep(0.01)
            yield
        finally:
            server.terminate()
            server.wait(10)
            upstream.shutdown()
