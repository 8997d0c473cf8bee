"""The site closed and opened under visitors: a page through deploys, and requests that wait."""

import threading
import time

import httpx
import pytest

from testbed.harness import Site, wait_for

pytestmark = pytest.mark.lab


def ask(site: Site, path: str = "/") -> httpx.Response:
    return httpx.get(f"http://{site.host.address}{path}", headers={"Host": site.domain}, timeout=90)


def test_a_page_stays_through_deploys_and_lets_some_in(site: Site) -> None:
    """503 with the message and Retry-After; the health path and an address are open; status and deploy tell of it."""
    me = site.my_address()
    site.fab("maintenance.on", "-m", "Back <at> noon").expect(0)
    closed = ask(site)
    assert (closed.status_code, closed.headers["Retry-After"]) == (503, "60")
    assert "Back &lt;at&gt; noon" in closed.text
    assert ask(site, "/healthz").status_code == 200
    site.commit(site.titled("Behind the page"))
    document = site.deploy().expect(0)
    assert "the maintenance page is on" in document.err
    assert ask(site).status_code == 503
    look = site.fab("status", "--json").expect(0).json
    assert look["maintenance"]
    opened = site.fab("maintenance.on", "--allow", me, "--json").expect(0).json
    assert (opened["verb"], opened["allowed"]) == ("maintenance.on", [me])
    assert "Behind the page" in ask(site).text
    assert site.run(f"curl -s -o /dev/null -w %{{http_code}} -H 'Host: {site.domain}' http://127.0.0.1/") == "503"
    assert site.fab("maintenance.off", "--json").expect(0).json["was"] == ["page"]
    assert site.run(f"curl -s -o /dev/null -w %{{http_code}} -H 'Host: {site.domain}' http://127.0.0.1/") == "200"
    assert site.fab("maintenance.off", "--json").expect(0).json["status"] == "unchanged"


def test_requests_wait_and_none_fails(site: Site) -> None:
    """Those that have begun end; those that come wait until the site is opened, or the seconds are over."""
    answers: list[tuple[str, float]] = []

    def visit(path: str) -> None:
        began = time.monotonic()
        answers.append((f"{path} {ask(site, path).status_code}", time.monotonic() - began))

    before = site.master_pid()
    site.fab("maintenance.on", "--hold", "60").expect(0)
    threads = [threading.Thread(target=visit, args=(path,)) for path in ("/", "/healthz", "/")]
    for thread in threads:
        thread.start()
    look = site.fab("status")
    assert "requests wait, for " in look.out
    assert not answers
    opened = site.fab("maintenance.off", "--json").expect(0).json
    assert opened["was"] == ["hold"]
    for thread in threads:
        thread.join()
    assert sorted(name for name, _ in answers) == ["/ 200", "/ 200", "/healthz 200"]
    assert site.master_pid() != before
    site.fab("maintenance.on", "--hold", "3").expect(0)
    assert ask(site).status_code == 200
    wait_for(lambda: "gunicorn_socket  ok" in site.fab("status").out)
    site.commit(site.titled("After the wait"))
    assert site.deploy().expect(0).json["activation"] == "hup"
