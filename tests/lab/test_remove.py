"""Two apps on one server, each with a user of its own: neither feels or sees the other, and one is taken off again."""

import threading
from collections.abc import Callable, Iterator

import httpx
import pytest

from testbed.harness import Result, Site, throw_away, wait_for
from testbed.lab import set_secrets

pytestmark = pytest.mark.lab

SECOND = {"user": "second", "group": "second", "default_server": False, "linked_dirs": ["apps/web/media"]}


@pytest.fixture(scope="module")
def first(base: str, own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The app that was there before."""
    with throw_away(own("apps"), base=base) as host:
        set_secrets(host, ALLOWED_HOSTS=f"consult.lab,second.lab,127.0.0.1,{host.address}")
        site = Site(host, tmp_path_factory.mktemp("first"), "t/first")
        site.commit(site.titled("The first"))
        site.deploy().expect(0)
        yield site


@pytest.fixture(scope="module")
def second(first: Site, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One that comes to the same server, with a domain, a user and a worker of its own."""
    site = Site(
        first.host, tmp_path_factory.mktemp("second"), "t/second", SECOND.copy(), "second", "second.lab",
        "/srv/second/app",
    )  # fmt: skip
    site.settings["processes"] = {"ticker": {"command": "python -c 'import time; time.sleep(86400)'"}}
    site.commit(site.titled("The second"))
    return site


def page(site: Site) -> str:
    return httpx.get(f"http://{site.host.address}/", headers={"Host": site.domain}, timeout=30).text


def live(second: Site) -> None:
    second.provision().expect(0)
    second.deploy().expect(0)


def test_two_apps_live_side_by_side(first: Site, second: Site) -> None:
    """Deployed at the same time, each with its own page; neither user reads the other's secrets."""
    second.provision().expect(0)
    second.deploy().expect(0)
    for site in (first, second):
        site.commit(site.titled(f"{site.app}, at the same time"))
    ended: dict[str, Result] = {}

    def deploy(site: Site) -> None:
        ended[site.app] = site.deploy()

    threads = [threading.Thread(target=deploy, args=(site,)) for site in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for site in (first, second):
        assert ended[site.app].expect(0).json["watch"]["failed"] == 0
        assert f"{site.app}, at the same time" in page(site)
    for user, other in (("deploy", "second"), ("second", "consult")):
        for path in (f"/etc/{other}/doppler.env", f"/var/lib/{other}-django/doppler", f"/srv/{other}/digest.key"):
            said = first.run(f"runuser -u {user} -- ls -l {path} 2>&1; runuser -u {user} -- cat {path} 2>&1; true")
            assert "ermission denied" in said, (user, path, said)


def test_what_would_go_is_said_first(first: Site, second: Site) -> None:
    """And nothing is done; what others lean on is not taken away, nor what somebody works on."""
    live(second)
    first.run("install -o second -g second -m 644 /dev/null /srv/second/shared/apps/web/media/a.png")
    refused = second.fab("remove").expect(2)
    assert "would go: /etc/nginx/sites-available/second-django" in refused.text
    assert "would stay: /srv/second/shared" in refused.text
    assert f"next: fab -H {second.name} remove --yes" in refused.text
    first.run("ln -s /srv/second/shared/apps /srv/consult/shared/theirs")
    leaning = second.fab("remove", "--yes", "--json").expect(4).json
    assert leaning["error"].endswith("other things on this server lean on second: /srv/consult/shared/theirs")
    first.run("rm /srv/consult/shared/theirs")
    second.fab("lock", "-m", "not now").expect(0)
    assert "not now" in second.fab("remove", "--yes", "--json").expect(7).json["error"]
    second.fab("unlock").expect(0)
    second.commit(second.titled("While it is deployed"))
    deploying = second.start("deploy", "--branch", second.branch, "--json")
    wait_for(lambda: first.run("flock -n /srv/second/deploy.lock true || echo taken"))
    assert second.fab("remove", "--yes", "--json").expect(7).json["error"]
    out, err = deploying.communicate(timeout=240)
    assert deploying.returncode == 0, out + err
    assert "While it is deployed" in page(second)


def left_of(site: Site, name: str) -> list[str]:
    """All on the disk that has the app's name."""
    found = site.run(
        f"find / -xdev \\( -path /proc -o -path /sys -o -path /srv/lab -o -path /var/log/journal \\) -prune -o "
        f"-name '*{name}*' -print | sort"
    )
    others = ("/usr/share", "/usr/lib", "/opt", "/tmp", "/srv/consult")
    return [path for path in found.splitlines() if not path.startswith(others)]


def test_removed_it_leaves_what_it_said(first: Site, second: Site) -> None:
    """Other apps do not notice, not even one whose name begins so; what people left is there when it comes back."""
    second.commit(second.titled("To be removed"))
    live(second)
    first.run("install -o second -g second -m 644 /dev/null /srv/second/shared/apps/web/media/a.png")
    first.commit(first.titled("The first stays"))
    first.deploy().expect(0)
    first.run("mkdir /var/lib/second-hand-django")
    answers: list[int] = []
    over = threading.Event()

    def visit() -> None:
        while not over.wait(0.05) and len(answers) < 5000:
            answers.append(
                httpx.get(f"http://{first.host.address}/healthz", headers={"Host": first.domain}).status_code
            )

    visitor = threading.Thread(target=visit)
    visitor.start()
    try:
        document = second.fab("remove", "--yes", "--json").expect(0).json
    finally:
        over.set()
        visitor.join()
    assert set(answers) == {200}
    assert document["kept"] == ["/srv/second/shared"]
    assert document["user_kept"]
    assert left_of(first, "second") == ["/home/second", "/srv/second", "/var/lib/second-hand-django"]
    first.run("rmdir /var/lib/second-hand-django")
    assert first.run("ls -A /srv/second").split() == ["shared"]
    assert first.run("systemctl list-units --all --plain --no-legend 'second*'") == ""
    assert "The first stays" in page(second), "the default server answers that name now"
    first.fab("status").expect(0)
    assert second.fab("remove", "--yes", "--json").expect(0).json["status"] == "unchanged"

    live(second)
    assert "To be removed" in page(second)
    assert first.run("ls /srv/second/app/apps/web/media").split() == ["a.png"]
    first.run("rm /srv/second/shared/apps/web/media/a.png")
    document = second.fab("remove", "--yes", "--json").expect(0).json
    assert (document["kept"], document["user_kept"]) == ([], False)
    assert left_of(first, "second") == []
    assert first.run("id second 2>&1; true").endswith("no such user\n")
    first.commit(first.titled("As ever"))
    assert first.deploy().expect(0).json["watch"]["failed"] == 0
