"""https as visitors find it: certified by the host's own ACME server, renewed, changed, refused, taken away."""

import socket
import ssl
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from testbed.harness import Site, throw_away, wait_for
from testbed.lab import start_acme

pytestmark = pytest.mark.lab

ROOTS = "curl -sk https://localhost:15000/roots/0 https://localhost:15000/intermediates/0"
WWW = "www.consult.lab"
PAIR = ("/etc/ssl/own.pem", "/etc/ssl/private/own.key")


@pytest.fixture(scope="module")
def plain(base: str, own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The sample site, which is live by http, on a host of these tests' own."""
    with throw_away(own("tls"), base=base) as host:
        site = Site(host, tmp_path_factory.mktemp("tls"), "t/tls")
        site.commit(site.titled("By https"))
        yield site


@pytest.fixture
def secure(plain: Site) -> Site:
    """The same, live by https."""
    plain.settings = {}
    plain.want_https()
    plain.provision().expect(0)
    plain.deploy().expect(0)
    return plain


def browser(site: Site) -> httpx.Client:
    """A client that believes the lab's authority and nobody else, and finds every name at the host."""
    context = ssl.create_default_context(cadata=site.run(ROOTS))

    class Transport(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            where = request.url.copy_with(host=site.host.address)
            more = {**request.extensions, "sni_hostname": request.url.host}
            return super().handle_request(
                httpx.Request(request.method, where, headers=request.headers, extensions=more)
            )

    return httpx.Client(transport=Transport(verify=context), follow_redirects=True, timeout=30)


def test_a_site_that_is_live_gets_https(plain: Site) -> None:
    """A deploy before it says what is missing; `provision` certifies it, the next deploy speaks https."""
    secure = plain
    secure.deploy().expect(0)
    secure.provision().expect(0)
    secure.want_https()
    before = secure.deploy().expect(4).json
    assert "tls is set in hosts.toml, but this host has no certificate yet" in before["error"]
    assert before["suggestions"][0].startswith(f"fab -H {secure.name} provision; or")
    made = secure.provision().expect(0).json
    assert any("-tls.conf" in change for change in made["changes"]), made
    assert "certbot.timer" in secure.run("systemctl list-timers --all certbot.timer")
    document = secure.deploy().expect(0).json
    assert (document["url"], document["watch"]["failed"]) == ("https://consult.lab", 0)
    assert document["certificate"]["days_left"] == 89
    with browser(secure) as client:
        page = client.get("http://consult.lab/?a=b")
        assert str(page.url) == "https://consult.lab/?a=b"
        assert "By https" in page.text
        assert client.get("https://consult.lab/healthz").status_code == 200
    look = secure.fab("status").expect(0).out
    assert "certificate      ok: ends on " in look
    again = secure.provision().expect(0).json
    assert (again["status"], again["changes"]) == ("unchanged", [])


def test_a_name_more_needs_another_certificate(secure: Site) -> None:
    """The deploy says so and the site stays; what the ACME server cannot reach is told in its words."""
    secure.settings["aliases"] = [WWW]
    before = secure.deploy().expect(4).json
    assert "this host has a certificate made for other settings" in before["error"]
    refused = secure.provision().expect(4).json
    assert f"no certificate for {WWW} (" in refused["error"] or f"no certificate for {WWW}:" in refused["error"]
    assert WWW in refused["suggestions"][0]
    assert "port 80" in refused["suggestions"][0] or "lead to this server" in refused["suggestions"][0]
    secure.settings["aliases"] = []
    secure.deploy().expect(0)
    start_acme(secure.host, WWW)
    secure.settings["aliases"] = [WWW]
    wait_for(lambda: secure.provision().code == 0)  # the ACME server looks at /etc/hosts every five seconds
    secure.deploy().expect(0)
    with browser(secure) as client:
        assert client.get(f"https://{WWW}/healthz").status_code == 400, (
            "ALLOWED_HOSTS lacks it, the certificate does not"
        )


def test_a_pair_of_ones_own_and_its_end(secure: Site) -> None:
    """Taken up by `provision`; one that is about to end is told by deploy and status, one that has ended fails it."""
    make(secure, 4)
    secure.settings |= {"aliases": [], "tls": {"certificate": PAIR[0], "key": PAIR[1]}}
    secure.provision().expect(0)
    secure.commit(secure.titled("With a pair"))
    said = secure.fab("deploy", "--branch", secure.branch).expect(0)
    assert "BUT the certificate ends on " in said.text
    assert "in 4 days (by consult.lab)" in said.text
    assert "With a pair" in secure.get().text
    look = secure.fab("status", "--json").expect(0).json
    assert look["certificate"]["renewal_due"]
    assert look["suggestions"] == [f"put a renewed certificate at {PAIR[0]}, then: fab -H {secure.name} provision"]
    make(secure, -1)
    secure.run("systemctl reload nginx")
    wait_for(lambda: secure.fab("status", "--json").code == 6)
    ended = secure.fab("status", "--json").expect(6).json
    assert (ended["failed_check"], ended["checks"]["http_200"]) == ("certificate", True)
    assert "certificate fails: ended on " in ended["error"]
    assert f"put a renewed certificate at {PAIR[0]}, then: fab -H {secure.name} provision" in ended["suggestions"]
    refused = secure.provision().expect(4).json
    assert f"the certificate {PAIR[0]} ended on" in refused["error"]


def make(site: Site, days: int) -> None:
    """Put a pair on the host, signed by itself nearly a year ago, that ends in so many days and a half."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, site.domain)])
    made = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=350))
        .not_valid_after(now + timedelta(days=days, hours=12))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(site.domain)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem, plain = serialization.Encoding.PEM, serialization.NoEncryption()
    texts = made.public_bytes(pem), key.private_bytes(pem, serialization.PrivateFormat.PKCS8, plain)
    for place, text in zip(PAIR, texts, strict=True):
        (site.host.root / place.lstrip("/")).write_bytes(text)


def test_taken_away_http_is_back(secure: Site) -> None:
    """By a deploy, which nobody feels; `provision` then says what is kept."""
    secure.settings = {}
    document: dict[str, Any] = secure.deploy().expect(0).json
    assert (document["activation"], document["watch"]["failed"]) == ("nginx", 0)
    secure.scheme = "http"
    assert secure.get().status_code == 200
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((secure.host.address, 443), 10)
    said = secure.provision().expect(0).text
    assert "the certificate is kept, and renewed; to end that: certbot delete --cert-name consult-django" in said
    assert secure.run("ls /etc/nginx/snippets | grep consult; true") == ""
    secure.fab("status").expect(0)


def test_who_is_believed_and_lines_of_ones_own(plain: Site) -> None:
    """X-Forwarded-For counts from a trusted proxy alone; nginx_include adds a location, and a mistake in it is told."""
    secure = plain
    secure.settings, secure.scheme = {}, "http"
    (secure.folder / "extra.conf").write_text('location = /who {\n    return 200 "$remote_addr";\n}\n')
    secure.settings["nginx_include"] = "extra.conf"

    def who() -> str:
        with secure.visitor() as visitor:
            return visitor.get("/who", headers={"X-Forwarded-For": "192.0.2.9"}).text

    secure.deploy().expect(0)
    client = who()
    assert client.startswith("198.18.")
    secure.settings["trusted_proxies"] = [client]
    secure.deploy().expect(0)
    assert who() == "192.0.2.9"
    (secure.folder / "extra.conf").write_text("locution = /who {\n}\n")
    refused = secure.deploy().expect(5).json
    assert 'unknown directive "locution"' in refused["error"]
    assert refused["site_state"].startswith("as before")
    assert who() == "192.0.2.9"
    (secure.folder / "extra.conf").unlink()
    refused = secure.deploy().expect(2).json
    assert "nginx_include extra.conf" in refused["error"]
    assert "cannot be read: No such file" in refused["error"]
    secure.settings = {}
    secure.deploy().expect(0)
    assert "192.0.2.9" not in who()
