"""One provisioned host for all tests of a session; each test finds the sample site live on it."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed.harness import Site, throw_away
from testbed.lab import LabHost, set_secrets


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHost]:
    """A host, provisioned by the command, with the sample site deployed."""
    with throw_away("t-deploy") as host:
        site = Site(host, tmp_path_factory.mktemp("first"))
        site.provision().expect(0)
        site.deploy().expect(0)
        yield host


@pytest.fixture
def site(server: LabHost, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    """The sample site, live in some version of its code, and a branch of the test's own.

    Afterwards the site must be sound; settings and packages are put back, code is not, for that costs time.
    """
    branch = "t/" + re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    site = Site(server, tmp_path, branch)
    try:
        yield site
        site.assert_sound()
    finally:
        if site.settings or site.other_packages:
            site.settings.clear()
            site.deploy(branch="main").expect(0)


@pytest.fixture
def secrets(site: Site) -> Iterator[Callable[..., None]]:
    """Adds secrets in Doppler; afterwards they are gone again, and the service knows."""
    added: set[str] = set()

    def change(**values: str) -> None:
        added.update(values)
        set_secrets(site.host, **values)

    yield change
    set_secrets(site.host, **dict.fromkeys(added))
    site.fab("restart", "--json").expect(0)
