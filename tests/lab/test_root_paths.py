"""Whoever has the key of `deploy` may put a link wherever that user may write: root never follows one."""

from collections.abc import Callable, Iterator

import pytest

from testbed.harness import Result, Site, throw_away
from testbed.lab import execute

pytestmark = pytest.mark.lab

# What an attacker would have root write, give away or take away; a line for each, with its content.
ROOTS = """
stat -c '%n %U %G %a' /etc /etc/shadow /root /root/.ssh /root/.ssh/* /var/lib/victim
sha256sum /etc/shadow /root/.ssh/*
"""
# Where `deploy` may put one, and what root would do there.
PLACES = {
    "/srv/consult/releases": "/etc",
    "/srv/consult/shared": "/root",
    "/srv/consult/cache": "/var/lib/victim",
    "/srv/consult/deploy.lock": "/etc/made-by-root",
    "/srv/consult/digest.key": "/etc/made-by-root",
    "/srv/consult/in/app": "/etc",
    "/var/lib/consult-django/doppler": "/etc",
    "/home/deploy/.ssh": "/root/.ssh",
    "/home/deploy/.ssh/authorized_keys": "/root/.ssh/authorized_keys",
}
SECRETS = "/etc/consult/secrets"


@pytest.fixture(scope="module")
def site(own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """An app that is made ready, its link in its own folder, its secrets in a file."""
    with throw_away(own("paths")) as host:
        folder = tmp_path_factory.mktemp("paths")
        site = Site(host, folder, settings={"secrets": "file"}, app_link="/srv/consult/in/app")
        site.run("install -d -m 700 /var/lib/victim")
        site.provision().expect(0)
        yield site


def as_deploy(site: Site, script: str, code: int = 0) -> None:
    done = execute(site.host, "runuser", "-u", "deploy", "--", "bash", "-c", script)
    assert done.returncode == code, (script, done.stdout + done.stderr)


@pytest.mark.parametrize(("place", "target"), PLACES.items())
def test_provision_follows_no_link_of_the_users(site: Site, place: str, target: str) -> None:
    """It says where there is one, or makes there what the user itself could; what is root's stays root's."""
    path = place.removesuffix("/app")
    before = site.run(ROOTS)
    as_deploy(site, f"mv {path} {path}.away && ln -s {target} {path}")
    refused = site.provision().expect(4).json
    assert site.run(ROOTS) == before
    assert site.run(f"ls -d /etc/made-by-root {target}/app 2>/dev/null; true") == ""
    if path == place:
        assert f"{place} is a link to {target}" in refused["error"]
        assert refused["suggestions"][0].startswith(f"rm {place} on the server")
    as_deploy(site, f"rm {path} && mv {path}.away {path}")
    assert site.provision().expect(0).json["status"] == "unchanged"


def test_the_secrets_of_another_app_are_not_read(site: Site) -> None:
    """systemd reads the file as root: who could put a link in its place would get what that leads to."""
    assert site.run(f"stat -c '%U %G %a' {SECRETS} {SECRETS}/app.env").splitlines() == [
        "root deploy 750", "deploy deploy 600",
    ]  # fmt: skip
    as_deploy(site, f"rm -f {SECRETS}/app.env || ln -sf /etc/other/secrets/app.env {SECRETS}/app.env", code=1)
    for value in ("a long first value", "short"):
        site.fab("secrets.set", "MOTTO", "--later", stdin=value).expect(0)
        assert site.run(f"cat {SECRETS}/app.env") == f'MOTTO="{value}"\n'
    # As an earlier version left it.
    site.run(f"chown deploy {SECRETS} && chmod 700 {SECRETS}")
    site.fab("secrets.set", "MOTTO", "--later", stdin="of before").expect(0)
    as_deploy(site, f"mv {SECRETS}/app.env {SECRETS}/mine && ln -s /etc/shadow {SECRETS}/app.env")
    before = site.run(ROOTS)
    refused = site.provision().expect(4).json
    assert f"{SECRETS}/app.env is no plain file of deploy's own" in refused["error"]
    assert site.run(ROOTS) == before
    as_deploy(site, f"rm -f {SECRETS}/app.env", code=1)  # from there on nobody but root puts anything there
    site.run(f"mv {SECRETS}/mine {SECRETS}/app.env && chown deploy {SECRETS} && chmod 700 {SECRETS}")
    assert site.provision().expect(0).json["changes"] == [f"folder {SECRETS}"]
    assert site.fab("secrets.list", "--json").expect(0).json["names"] == ["MOTTO"]


@pytest.mark.parametrize("place", ["/var/lib/consult-django/doppler", "/srv/consult/shared"])
def test_systemd_gives_nothing_away_by_a_link(site: Site, place: str) -> None:
    """Two of the folders that a unit names lie in one of the user's: where a link leads from there stays root's."""
    start = (
        "systemd-run --quiet --wait --unit linked -p User=deploy -p Group=deploy -p ProtectSystem=strict "
        "-p 'StateDirectory=consult-django consult-django/doppler' -p StateDirectoryMode=0700 "
        "-p ReadWritePaths=-/srv/consult/shared bash -c 'echo runs; touch /etc/made-by-deploy' 2>&1; "
        "journalctl --unit linked --output cat --no-pager; systemctl reset-failed linked 2>/dev/null; true"
    )
    assert "runs" in site.run(start)
    before = site.run(ROOTS)
    for target in ("/etc", "/var/lib/victim"):
        as_deploy(site, f"rm -rf {place} && ln -s {target} {place}")
        said = site.run(start)
        assert site.run(ROOTS) == before, said
        assert site.run("ls /etc/made-by-deploy 2>/dev/null; true") == "", said
    as_deploy(site, f"rm {place}")
    site.provision().expect(0)


def removed(site: Site) -> Result:
    return site.fab("remove", "--yes", "--json")


def test_remove_takes_nothing_else(site: Site) -> None:
    """The lock is no way to write, nor is a name with a line break one to another path."""
    before = site.run(ROOTS)
    as_deploy(site, "cd /srv/consult && mv deploy.lock away && ln -s /etc/shadow deploy.lock")
    refused = removed(site).expect(4).json
    assert "/srv/consult/deploy.lock is no plain file" in refused["error"]
    assert site.run(ROOTS) == before
    as_deploy(site, "cd /srv/consult && mv away deploy.lock && mkdir $'x\\n.ssh' '  ' ..x")
    as_deploy(site, "cd /srv/consult && rmdir shared && ln -s /etc shared")
    assert removed(site).expect(0).json["kept"] == ["/srv/consult/shared"]
    assert site.run(ROOTS) == before
    assert site.run("ls -A /srv/consult; ls -d /etc/consult 2>/dev/null; true") == "shared\n"
