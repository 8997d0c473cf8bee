"""Doppler's HTTP API on a lab host, as far as the CLI uses it (decision 13); files are read at every request.

Usage: doppler_api.py FOLDER ADDRESS PORT. FOLDER holds secrets.json (a flat object) and tokens (one a line).
"""

import hashlib
import json
import os
import socket
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ROUTE = "/v3/configs/config/secrets/download"


class Api(BaseHTTPRequestHandler):
    """Answers for the secrets of one config."""

    folder: Path

    def do_GET(self) -> None:
        """Secrets for a known token, 304 for those who have them, an error for everybody else."""
        scheme, _, token = self.headers.get("Authorization", "").partition(" ")
        if self.path.partition("?")[0] != ROUTE:
            self.refuse(404, "This resource does not exist")
        elif not token:
            self.refuse(401, "Missing Authorization header")
        elif scheme != "Bearer" or token not in (self.folder / "tokens").read_text().split():
            self.refuse(401, "Invalid Service token")
        else:
            self.give(json.loads((self.folder / "secrets.json").read_text()))

    def refuse(self, status: int, message: str) -> None:
        """Send an error as Doppler does."""
        self.answer(status, {"messages": [message], "success": False})

    def give(self, secrets: dict[str, str]) -> None:
        """Send the secrets, unless the caller has this very version."""
        etag = f'"{hashlib.sha256(json.dumps(secrets).encode()).hexdigest()}"'
        if self.headers.get("If-None-Match") == etag:
            self.answer(304, None, etag)
        else:
            self.answer(200, secrets, etag)

    def answer(self, status: int, content: object, etag: str = "") -> None:
        """Send one answer."""
        body = b"" if content is None else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        self.wfile.write(body)


def tell_systemd() -> None:
    """Say that the port is open: units that need secrets are ordered after this one."""
    if path := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
            notify.connect("\0" + path[1:] if path.startswith("@") else path)
            notify.send(b"READY=1")


def main(folder: str, address: str, port: str) -> None:
    """Serve until killed."""
    Api.folder = Path(folder)
    with ThreadingHTTPServer((address, int(port)), Api) as server:
        tell_systemd()
        server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
