"""https: what may be set, what is told of a certificate, and how a real nginx speaks it and whom it believes."""

import http.client
import json
import shutil
import socket
import ssl
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from fabfile.commands.check import nginx_conf
from fabfile.config.layout import Layout
from fabfile.errors import ConfigError
from fabfile.plan import certificate, proxies, rendering
from fabfile.plan.certificate import DAY, Certificate
from fabfile.plan.request import by_https, proxied
from testbed.sample import sample
from tests.unit.nginx import needs_nginx, self_signed, serving

MAIL = {"letsencrypt": "ops@example.org"}
PAIR = {"certificate": "/etc/ssl/a.pem", "key": "/etc/ssl/private/a.key"}
NOW = 1_800_000_000


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tls": MAIL | PAIR}, "takes letsencrypt or certificate and key, not both"),
        ({"tls": {"certificate": "/etc/ssl/a.pem"}}, "takes certificate and key together"),
        ({"tls": {"key": "/etc/ssl/a.key"}}, "takes certificate and key together"),
        ({"tls": {"letsencrypt": "nobody"}}, "must be a mail address like ops@example.com"),
        ({"tls": {"letsencrypt": "a@b.c; listen 81"}}, "must be a mail address"),
        ({"tls": PAIR | {"key": "/etc/ssl/a.key;"}}, "must be an absolute path"),
        ({"tls": MAIL | {"acme_server": "http://ca.internal/dir"}}, "must be the https address of an ACME directory"),
        ({"trusted_proxies": ("10.0.0.1/8",)}, "must be an IP address, a network like 10.0.0.0/8, or cloudflare"),
        ({"trusted_proxies": ("everybody",)}, "must be an IP address, a network like 10.0.0.0/8, or cloudflare"),
        ({"public_url": "https://x.example"}, "public_url is https, but nothing says who speaks it: tls"),
        ({"nginx_include": "../outside.conf"}, "must be a path inside the repository"),
    ],
)
def test_what_cannot_be_is_a_mistake(settings: dict[str, Any], words: str) -> None:
    """Told by `check`, before anything changes."""
    with pytest.raises(ValidationError, match=words):
        sample(**settings)


def test_who_speaks_https_is_known() -> None:
    """A visitor comes by https in each case; only behind a proxy nginx is told so."""
    by_nginx = sample(tls=MAIL, public_url="https://x.example")
    by_proxy = sample(public_url="https://x.example", trusted_proxies=("10.0.0.5",))
    assert [(by_https(each), proxied(each)) for each in (by_nginx, by_proxy, sample())] == [
        (True, False), (True, True), (False, False),
    ]  # fmt: skip


def test_what_a_certificate_is_made_for() -> None:
    """Another server, name or file is another certificate; nothing else is."""
    own = certificate.words(sample(tls=PAIR))
    assert own == "/etc/ssl/a.pem /etc/ssl/private/a.key"
    plain = certificate.words(sample(tls=MAIL))
    assert plain == "https://acme-v02.api.letsencrypt.org/directory api.consult.dev"
    assert certificate.words(sample(tls={"letsencrypt": "other@example.org"})) == plain
    assert certificate.words(sample(tls=MAIL, aliases=("www.consult.dev",))) == f"{plain} www.consult.dev"
    assert certificate.words(sample()) == ""


def shown(days: float, lifetime: float = 90, misses: str = "") -> Certificate:
    ends = int(NOW + days * DAY)
    return Certificate(int(ends - lifetime * DAY), ends, "Let's Encrypt", misses)


@pytest.mark.parametrize(
    ("days", "lifetime", "due"),
    [(22, 90, False), (20, 90, True), (12, 45, False), (11, 45, True), (2, 6, False), (1, 6, True), (22, 3650, False)],
)
def test_a_renewal_that_is_late_is_told_in_time(days: float, lifetime: float, due: bool) -> None:
    """After the day on which certbot should have done it, before the day on which visitors notice."""
    found = shown(days, lifetime)
    assert (found.due(NOW), bool(found.trouble(NOW)), found.refused(NOW)) == (due, due, False)


def test_a_certificate_is_told_of() -> None:
    """Its end and who signed it; one that has ended, or is for others, is refused by browsers."""
    assert shown(40.5).told(NOW) == "ends on 2027-02-24, in 40 days (by Let's Encrypt)"
    assert shown(1.2).told(NOW).endswith("in 1 day (by Let's Encrypt)")
    assert (shown(-0.1).refused(NOW), shown(-0.1).trouble(NOW)) == (True, "ended on 2027-01-15 (by Let's Encrypt)")
    other = shown(80, misses="www.example.org, it is for example.org")
    assert (other.refused(NOW), other.trouble(NOW)) == (True, "is not for www.example.org, it is for example.org")
    assert shown(40.5).document(NOW) == {
        "ends": "2027-02-24T20:00:00+00:00", "days_left": 40, "issuer": "Let's Encrypt", "renewal_due": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("issuer", "name"),
    [
        ("C = US, O = Let's Encrypt, CN = E5", "Let's Encrypt"),
        ("C=US, O=Let's Encrypt, CN=E5", "Let's Encrypt"),
        ("CN = Pebble Intermediate CA 7a", "Pebble Intermediate CA 7a"),
        ("C = DE", "C = DE"),
    ],
)
def test_what_the_host_says_of_a_certificate_is_read(issuer: str, name: str) -> None:
    """Between the lines of the checks."""
    lines = ["check http_200 ok", f"certificate 100 200 {issuer}", "check visitor ok"]
    assert certificate.parse(lines) == Certificate(100, 200, name)
    assert certificate.parse([*lines, "certificate_misses a.example, it is for b"]) == Certificate(
        100, 200, name, "a.example, it is for b"
    )
    assert certificate.parse(lines[:1]) is None


def test_networks_are_spelled_out_once() -> None:
    """The host itself is always one of those whose word counts."""
    assert proxies.networks(["10.0.0.1/32", "10.0.0.1/32"]) == ("127.0.0.1", "::1", "10.0.0.1")
    assert set(proxies.CLOUDFLARE) <= set(proxies.networks(["cloudflare"]))


def test_lines_of_the_teams_own_come_into_the_site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a file beside hosts.toml; one that is not there is told with its name."""
    monkeypatch.setenv("DJANGO_DEPLOY_HOSTS", str(tmp_path / "hosts.toml"))
    (tmp_path / "hosts.toml").write_text("")
    settings = sample(nginx_include="deploy/extra.conf")
    with pytest.raises(ConfigError, match=r"nginx_include deploy/extra.conf: .* cannot be read: No such file"):
        rendering.site(settings)
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy/extra.conf").write_text("location /old/ {\n    return 410;\n}\n")
    text = rendering.site(settings)
    assert text.endswith("\n    # deploy/extra.conf\n    location /old/ {\n        return 410;\n    }\n}\n")
    assert text.replace(text[text.index("\n    # deploy/extra.conf") :], "}\n") == rendering.site(sample())


@dataclass
class Nginx:
    """A real nginx with the rendered site at two ports of loopback."""

    plain: int
    secure: int

    def ask(self, path: str, *, https: bool = False, source: str = "127.0.0.2", **headers: str) -> tuple[Any, bytes]:
        opened: socket.socket = socket.create_connection(
            ("127.0.0.1", self.secure if https else self.plain), 10, source_address=(source, 0)
        )
        if https:
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            opened = context.wrap_socket(opened, server_hostname="api.consult.dev")
        connection = http.client.HTTPConnection("api.consult.dev", timeout=10)
        connection.sock = opened
        connection.request("GET", path, headers={name.replace("_", "-"): text for name, text in headers.items()})
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content

    def told(self, path: str = "/", **words: Any) -> dict[str, str]:
        """The headers that the app got."""
        return json.loads(self.ask(path, **words)[1])["headers"]


def free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return held.getsockname()[1]


@pytest.fixture(scope="module")
def nginx() -> Iterator[Nginx]:
    root = Path(tempfile.mkdtemp(prefix="ddt-"))
    found = Nginx(free_port(), free_port())
    for path in ("srv/consult", "run/consult", "acme/.well-known/acme-challenge"):
        (root / path).mkdir(parents=True)
    (root / "acme/.well-known/acme-challenge/token").write_text("answer")
    certificate, key = self_signed(root, "api.consult.dev")
    (root / "tls.conf").write_text(
        f"listen 127.0.0.1:{found.secure} ssl;\nssl_certificate {certificate};\nssl_certificate_key {key};\n"
    )
    settings = sample(tls=MAIL, trusted_proxies=("127.0.0.3", "127.0.1.0/24"))
    layout = Layout.of(settings)
    text = rendering.site(settings)
    for place, here in (
        ("/srv/consult/", f"{root}/srv/consult/"), ("/run/consult/", f"{root}/run/consult/"),
        (str(layout.acme_root), f"{root}/acme"), (str(layout.tls_file), f"{root}/tls.conf"),
    ):  # fmt: skip
        text = text.replace(place, here)
    conf = nginx_conf(text, root).replace(f"unix:{root}/0.sock", f"127.0.0.1:{found.plain}")
    with serving(root, conf, lambda: accepts(found.plain) and accepts(found.secure)):
        yield found
    shutil.rmtree(root)


def accepts(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@needs_nginx
def test_who_comes_by_http_is_sent_to_https(nginx: Nginx) -> None:
    """With path and query; but for the health path, an ACME server, and who comes from a proxy that speaks https."""
    answer, _ = nginx.ask("/a/b?c=d")
    assert (answer.status, answer.headers["Location"]) == (301, "https://api.consult.dev/a/b?c=d")
    assert nginx.ask("/static/none.css")[0].status == 301
    assert nginx.ask("/", X_Forwarded_Proto="https")[0].status == 301
    assert nginx.ask("/healthz")[0].status == 200
    assert nginx.ask("/.well-known/acme-challenge/token")[1] == b"answer"
    assert nginx.ask("/.well-known/acme-challenge/none")[0].status == 404
    assert nginx.ask("/.well-known/other")[0].status == 301
    assert nginx.ask("/", source="127.0.0.3", X_Forwarded_Proto="https")[0].status == 200
    assert nginx.ask("/", source="127.0.0.3", X_Forwarded_Proto="http")[0].status == 301
    assert nginx.ask("/", https=True, source="127.0.0.3", X_Forwarded_Proto="http")[0].status == 301
    assert nginx.ask("/", source="127.0.0.1", X_Forwarded_Proto="https")[0].status == 200


@needs_nginx
def test_https_is_https_for_the_app(nginx: Nginx) -> None:
    """And nobody less than a proxy that is trusted can say otherwise."""
    told = nginx.told("/x?y=1", https=True, Host="shop.example")
    assert (told["X-Forwarded-Proto"], told["Host"]) == ("https", "shop.example")
    assert nginx.told(https=True, X_Forwarded_Proto="http")["X-Forwarded-Proto"] == "https"


@needs_nginx
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_old_protocols_are_not_spoken(version: ssl.TLSVersion, nginx: Nginx) -> None:
    """Those that no browser of today needs; the two newer ones are."""
    for spoken in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        handshake(nginx, spoken)
    with pytest.warns(DeprecationWarning, match="TLSVersion"), pytest.raises((ssl.SSLError, OSError)):
        handshake(nginx, version)


def handshake(nginx: Nginx, version: ssl.TLSVersion) -> None:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    with socket.create_connection(("127.0.0.1", nginx.secure), 10) as opened, context.wrap_socket(opened):
        pass


@needs_nginx
@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.3", "127.0.1.77"])
def test_a_trusted_proxy_is_believed(source: str, nginx: Nginx) -> None:
    """It says for whom it asks, by which scheme, name and port; the first address that is not trusted is the client."""
    told = nginx.told(
        source=source, X_Forwarded_For="192.0.2.9, 127.0.1.5", X_Forwarded_Proto="https",
        X_Forwarded_Host="out.example", X_Forwarded_Port="8443",
    )  # fmt: skip
    client = {name: told[name] for name in ("X-Real-IP", "X-Forwarded-For")}
    assert client == {"X-Real-IP": "192.0.2.9", "X-Forwarded-For": "192.0.2.9"}
    seen = [told[f"X-Forwarded-{name}"] for name in ("Proto", "Host", "Port")]
    assert seen == ["https", "out.example", "8443"]


@needs_nginx
def test_nobody_else_is_believed(nginx: Nginx) -> None:
    """What a visitor writes into these headers does not reach the app."""
    told = nginx.told(
        "/healthz", X_Forwarded_For="192.0.2.9", X_Real_IP="192.0.2.9", X_Forwarded_Proto="https",
        X_Forwarded_Host="evil.example", X_Forwarded_Port="1", X_Forwarded_Ssl="on", X_Forwarded_Protocol="ssl",
    )  # fmt: skip
    assert [told[name] for name in ("X-Real-IP", "X-Forwarded-For", "X-Forwarded-Proto")] == [
        "127.0.0.2", "127.0.0.2", "http",
    ]  # fmt: skip
    names = [f"X-Forwarded-{name}" for name in ("Host", "Port", "Ssl", "Protocol")]
    assert [name for name in names if name in told] == []
