"""Fixtures: real gunicorn masters of a chosen version."""

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.gunicorn.servers import PYTHON, REQUIREMENTS, Server, end


@pytest.fixture(scope="session")
def make_venv(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A virtualenv per gunicorn version, made once per session."""
    folder = tmp_path_factory.mktemp("venvs")

    def make(version: str) -> Path:
        venv = folder / version
        if not venv.exists():
            # The gevent worker of gunicorn 27 imports packaging without requiring it.
            packages = [*REQUIREMENTS[version], "gevent", "packaging", "django>=5.2,<5.3"]
            subprocess.run(["uv", "venv", "-q", "--python", PYTHON, venv], check=True)
            subprocess.run(["uv", "pip", "install", "-q", "--python", venv / "bin/python", *packages], check=True)
        return venv

    return make


@pytest.fixture
def make_server(make_venv) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def make(version: str = "23.0.0") -> Server:
        # Short: the path of a unix socket has 107 characters.
        servers.append(Server(Path(tempfile.mkdtemp(prefix="gu-")), make_venv(version)))
        return servers[-1]

    yield make
    for server in servers:
        for process in server.processes:
            end(process)
        if server.log.exists():
            sys.stdout.write(server.said())  # pytest shows it when the test has failed
        shutil.rmtree(server.root)


@pytest.fixture
def server(make_server) -> Server:
    return make_server()
