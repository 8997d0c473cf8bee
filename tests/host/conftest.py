"""The host that every test here has."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from testbed.sample import sample
from tests.host.local_host import World


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A provisioned host with nothing live."""
    run = Path(tempfile.mkdtemp(prefix="w", dir="/tmp"))
    world = World(tmp_path, run, sample(repo="file:///nowhere"))
    for folder in ("home", "tmp", "bin"):
        (tmp_path / folder).mkdir()
    layout = world.layout
    for path in (
        layout.releases, layout.shared, layout.kept_static, layout.cache, layout.state,
        layout.socket.parent, layout.secrets.parent, layout.doppler_home.parent, layout.service_file.parent,
        layout.site_file.parent, layout.site_link.parent,
    ):  # fmt: skip
        Path(path).mkdir(parents=True, exist_ok=True)
    yield world
    for connection in world.connections:
        connection.kill()
    shutil.rmtree(run)
