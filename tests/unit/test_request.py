"""How the health path is asked: said once, for curl on the host and httpx here."""

from pathlib import Path

import pytest
from pytest_mock import MockerFixture

from fabfile.plan.request import header_lines, headers
from fabfile.ssh import http
from fabfile.steps import nginx, proof
from testbed.sample import sample

PRODUCT = Path(__file__).parents[2] / "fabfile"
SETTINGS = sample(repo="git@example.org:team/app.git", domain="app.example.org")


def test_one_place_says_how_nginx_hands_a_request_on() -> None:
    """Nobody else in the product spells the header that tells https; gunicorn's settings read it for themselves."""
    files = [path for path in PRODUCT.rglob("*") if path.suffix in (".py", ".sh") and path.name != "gunicorn.conf.py"]
    spelling = [str(path.relative_to(PRODUCT)) for path in files if "x-forwarded" in path.read_text().lower()]
    assert spelling == ["plan/request.py"]
    agents = [path for path in files if "user-agent" in path.read_text().lower()]
    assert [path.name for path in agents] == ["request.py"]


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
