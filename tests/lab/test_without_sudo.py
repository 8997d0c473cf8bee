"""What needs no root goes well on a host without sudo; rights that are more than a deploy needs are told."""

from collections.abc import Callable, Iterator

import pytest

from testbed.harness import Site, throw_away

pytestmark = pytest.mark.lab

OWN = "/etc/sudoers.d/consult-django"
SERVICE = "consult-django.service"
OLD = f"/usr/bin/install -m 644 -o root -g root /srv/consult/staged/{SERVICE} /etc/systemd/system/{SERVICE}"


@pytest.fixture(scope="module")
def site(base: str, own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The sample site, live, without processes, on a host of these tests' own."""
    with throw_away(own("sudo"), base=base) as host:
        yield Site(host, tmp_path_factory.mktemp("sudo"), "t/sudo")


def test_routine_needs_no_root(site: Site) -> None:
    """New commits by HUP, a rollback, `reload`, pruning and `status`, with neither a right nor sudo on the host."""
    site.settings["keep"] = 2
    site.run(f"mv {OWN} /root/sudoers; mv /usr/bin/sudo /root/sudo")
    try:
        deployed = []
        for title in ("One", "Two", "Three"):
            site.commit(site.titled(title))
            document = site.deploy().expect(0).json
            assert document["activation"] == "hup"
            assert site.heading() == title
            deployed.append(document["release"])
        assert deployed[0] not in site.releases()  # the one before is that of gunicorn's master
        site.fab("rollback", "--json").expect(0)
        assert site.heading() == "Two"
        site.fab("reload", "--json").expect(0)
        document = site.fab("status", "--json").expect(0).json
        assert document["sudo_too_wide"] == []
        site.assert_sound()
    finally:
        site.run(f"mv /root/sudo /usr/bin/sudo; mv /root/sudoers {OWN}")
    site.fab("restart", "--json").expect(0)


@pytest.mark.parametrize("given", ["ALL", OLD, "SETENV: /usr/sbin/nginx -t -q"])
def test_rights_of_an_older_provision_are_told_and_narrowed(site: Site, given: str) -> None:
    """In the tool's own file: `deploy` and `status` tell them, with what to do; `provision` does it."""
    site.run(f"echo 'deploy ALL=(ALL) NOPASSWD: {given}' >>{OWN}")
    narrows = f"fab -H {site.name} provision narrows what deploy may run as root, or says that other files give it"
    document = site.fab("status", "--json").expect(0).json
    assert document["sudo_too_wide"] == [given]
    assert narrows in document["suggestions"]
    assert f"deploy may run more as root than any deploy needs: {given}" in site.fab("status").expect(0).text
    site.commit(site.titled(given[:3]))
    assert narrows in site.deploy().expect(0).json["suggestions"]
    site.commit(site.titled(given[:4]))
    said = site.fab("deploy", "--branch", site.branch).expect(0).text
    assert f"may run more as root than any deploy needs: {given}" in said
    document = site.provision().expect(0).json
    assert OWN in document["changes"]
    assert document["sudo_too_wide"] == []
    assert site.fab("status", "--json").expect(0).json["sudo_too_wide"] == []


def test_rights_that_another_file_gives_are_told(site: Site) -> None:
    """`provision` leaves that file alone, says what it gives, and how to find it."""
    other = "/etc/sudoers.d/admins"
    site.run(f"echo 'deploy ALL=(ALL) NOPASSWD: ALL' >{other}; chmod 440 {other}")
    try:
        result = site.provision().expect(0)
        assert result.json["sudo_too_wide"] == ["ALL"]
        assert any("grep -rn NOPASSWD /etc/sudoers" in text for text in result.json["suggestions"])
        told = "deploy may run more all the same, by lines that are not this tool's: ALL"
        assert told in site.fab("provision").expect(0).text
        assert site.fab("status", "--json").expect(0).json["sudo_too_wide"] == ["ALL"]
    finally:
        site.run(f"rm {other}")
    assert site.fab("status", "--json").expect(0).json["sudo_too_wide"] == []
