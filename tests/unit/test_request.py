"""How the health path is asked: said once, for curl on the host and httpx here."""

from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from fabfile.plan.request import MARK, header_lines, headers, mark, names, open_path, proxied
from fabfile.ssh import http
from fabfile.steps import nginx, proof
from testbed.sample import sample

PRODUCT = Path(__file__).parents[2] / "fabfile"
SETTINGS = sample(repo="git@example.org:team/app.git", domain="app.example.org")


def test_one_place_says_how_nginx_hands_a_request_on() -> None:
    """Nobody else in the product spells the header that tells https, but a visitor, what is advised about his way, and
    who reads the site of an old server.

    gunicorn's settings read it for themselves.
    """
    files = [path for path in PRODUCT.rglob("*") if path.suffix in (".py", ".sh") and path.name != "gunicorn.conf.py"]
    spelling = [str(path.relative_to(PRODUCT)) for path in files if "x-forwarded" in path.read_text().lower()]
    assert sorted(spelling) == [
        "config/settings.py", "host/programs/visit.py", "plan/adoption/locations.py", "plan/proxies.py",
        "plan/request.py",
    ]  # fmt: skip
    agents = [path for path in files if "user-agent" in path.read_text().lower()]
    assert sorted(path.name for path in agents) == ["request.py", "visit.py"]


def test_the_request_is_a_visitor_s_over_https() -> None:
    """The site's own domain, and https: a site that redirects all else would answer 301."""
    assert headers(SETTINGS)["Host"] == "app.example.org"
    assert headers(SETTINGS)["X-Forwarded-Proto"] == "https"


def test_curl_and_httpx_send_the_same(mocker: MockerFixture) -> None:
    """In the proof, the check and the watch; only the watch's name differs, for nginx's log."""
    lines = header_lines(SETTINGS)
    assert lines == [f"{name}: {value}" for name, value in headers(SETTINGS).items()]
    for step in (nginx.check_site(SETTINGS), nginx.look_at_site(SETTINGS), proof.health(SETTINGS)):
        assert step.parameters["headers"] == lines
    with http.client(mocker.Mock(), SETTINGS) as client:
        sent = {name.title(): value for name, value in client.headers.items()}
        assert headers(SETTINGS, "django-deploy (watch)").items() <= sent.items()
        assert client.base_url == "http://127.0.0.1"


def test_the_lines_cannot_be_torn() -> None:
    """They are sent one a line: no value brings another line."""
    with pytest.raises(ValueError, match="domain"):
        sample(repo="git@example.org:team/app.git", domain="a.example\nX-Evil: 1")
    assert not any("\n" in line for line in header_lines(SETTINGS))


def test_a_site_knows_its_names() -> None:
    """`domain` first, aliases, the host of `public_url`; each once."""
    settings = SETTINGS.model_copy(
        update={"aliases": ("www.example.org", "app.example.org"), "public_url": "https://pub.example.org:8443/x"}
    )
    assert names(settings) == ["app.example.org", "www.example.org", "pub.example.org"]
    assert names(SETTINGS) == ["app.example.org"]
    assert (proxied(settings), proxied(SETTINGS)) == (True, False)
    assert not proxied(SETTINGS.model_copy(update={"public_url": "http://pub.example.org"}))


def test_hosts_behind_one_address_have_one_mark() -> None:
    """Whatever each is called itself; another app or another address is told apart."""

    def of(**changes: str) -> str:
        return mark(SETTINGS.model_copy(update=changes))

    first = of(public_url="https://x", domain="one.internal", address="10.0.0.1")
    assert first == of(public_url="https://x", domain="two.internal", address="10.0.0.2")
    others = [of(public_url="https://y"), of(public_url="https://x", name="shop"), of(), of(domain="b.example")]
    assert len({first, *others}) == 5


@pytest.mark.parametrize(
    ("health_path", "opened"),
    [
        ("/healthz", "/healthz"), ("/up/?deep=1", "/up/"), ("/.well-known/up", "/.well-known/up"), ("/", ""),
        ("/?x", ""), ("/a%20b", ""), ("/a//b", ""), ("/a/../b", ""), ("/a/.", ""), ("/a&b", ""),
    ],
)  # fmt: skip
def test_a_health_path_that_nginx_can_keep_open(health_path: str, opened: str) -> None:
    """Not the front page, which visitors get; and only what nginx compares as it stands."""
    assert open_path(SETTINGS.model_copy(update={"health_path": health_path})) == opened


def test_a_program_on_the_host_knows_the_mark_s_name() -> None:
    """visit.py and the check that looks for it in the site cannot import it."""
    assert f'MARK = "{MARK}"' in (PRODUCT / "host/programs/visit.py").read_text()
    assert f'grep -qs "{MARK} $mark"' in (PRODUCT / "host/lib/nginx.sh").read_text()
