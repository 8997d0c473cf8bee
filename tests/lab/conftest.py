"""Provisioned hosts for the tests of a session, each worker's own; each test finds the sample site live on one."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from testbed import load
from testbed.harness import Site, throw_away
from testbed.lab import LabHost, down, halt, names, set_secrets, standing_on, up
from testbed.lab.machine import locked
from tests.lab import BASE, BOOT


@pytest.fixture(scope="session")
def own(worker_id: str) -> Callable[[str], str]:
    """Names of hosts that no other worker has."""
    return lambda name: f"t-{worker_id}-{name}"


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[str]:
    """A halted host, provisioned by the command, with the sample site deployed.

    The first worker to ask makes it, the last one to leave removes it.
    """
    folder = tmp_path_factory.getbasetemp()
    made = (folder if worker_id == "master" else folder.parent) / BASE
    with locked(BASE):
        if not (made.exists() and BASE in names()):
            for name in (*standing_on(BASE), BASE):  # of a run that was interrupted
                down(name, say=str)
            host = up(BASE, memory=True, say=str)
            site = Site(host, tmp_path_factory.mktemp("first"), cold=True)
            site.provision().expect(0)
            site.deploy().expect(0)
            halt(host)
            made.touch()
    yield BASE
    with locked(BASE):
        if not standing_on(BASE):
            down(BASE, say=str)


@pytest.fixture(scope="session")
def server(base: str, own: Callable[[str], str]) -> Iterator[LabHost]:
    """A host with the sample site live."""
    with throw_away(own("site"), base=base) as host:
        yield host


@pytest.fixture(scope="session")
def live(base: str, own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The sample site, live, with an application that takes a second to boot, on a host of these tests' own."""
    with throw_away(own("switch"), base=base) as host:
        site = Site(host, tmp_path_factory.mktemp("switch"))
        load.begin(site, "t/switch", BOOT)
        yield site


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
