"""A file of nginx, read into its directives."""

import shutil
import subprocess
from pathlib import Path

import pytest

from fabfile.commands.check import find
from fabfile.plan import rendering
from fabfile.plan.adoption import nginx_file
from testbed.sample import sample

TEXT = r"""
# a comment with { and ;
map $uri $odd { default ""; "~^/a b" 1; }
server {
    listen 80; listen [::]:80; # both
    server_name shop.example "www.shop.example";
    location ~ "^/x(?<name>[a-z]{2})/" { return 301 https://${host}/\$; }
    log_format main '$remote_addr "it''s" \'quoted\'';
}
"""


def test_directives_are_read_with_words_and_braces() -> None:
    """Quotes, comments, braces in quotes and in variables are what nginx takes them for."""
    odd, server = nginx_file.parse(TEXT)
    assert odd.summary == "map $uri $odd"
    assert [each.words for each in odd.inner or ()] == [("default", ("",), None), ("~^/a b", ("1",), None)]
    assert server.value("server_name") == "shop.example www.shop.example"
    assert [each.arguments for each in server.all("listen")] == [("80",), ("[::]:80",)]
    (location,) = server.all("location")
    assert location.arguments == ("~", "^/x(?<name>[a-z]{2})/")
    assert location.value("return") == r"301 https://${host}/\$"


def test_a_directive_keeps_its_own_text() -> None:
    """What is pasted elsewhere is what stood in the file, to the letter."""
    (location,) = nginx_file.parse(TEXT)[1].all("location")
    assert location.text == r"""location ~ "^/x(?<name>[a-z]{2})/" { return 301 https://${host}/\$; }"""


def test_white_space_and_comments_mean_nothing() -> None:
    """Two directives that mean the same have the same words."""
    one, other = "location / { # all\n  proxy_pass   http://a; }", 'location "/" {\nproxy_pass http://a;}'
    assert nginx_file.parse(one)[0].words == nginx_file.parse(other)[0].words
    assert nginx_file.parse(one)[0].words != nginx_file.parse(one.replace("a;", "b;"))[0].words


@pytest.mark.parametrize("text", ["server {", "}", "listen 80", "listen 80; }", '"open', "; listen 80;", "a { b }"])
def test_what_nginx_would_not_take_is_refused(text: str) -> None:
    """A file that does not end as it should is no tree of directives."""
    with pytest.raises(ValueError, match=r"character \d+|not"):
        nginx_file.parse(text)


def test_the_site_of_the_tool_is_read_whole() -> None:
    """Every directive of the rendered site is found, also those in braces."""
    text = rendering.site(sample(media={"folder": "apps/web/media"}, tls={"letsencrypt": "ops@shop.example"}))
    found = [each.name for each in nginx_file.walk(nginx_file.parse(text))]
    assert found.count("server") == 3  # two of the upstream
    assert found.count("location") == text.count("\n    location ")
    assert "ssl_protocols" in found


@pytest.mark.skipif(not find("nginx"), reason="nginx is not installed")
@pytest.mark.parametrize(
    "line",
    [
        "return 200 a#b;",
        "return 200 'a;b';",
        r"return 200 a\ b;",
        "return 200 ${host}x;",
        "return 200 a{b;",
    ],
)
def test_nginx_agrees_on_what_is_one_directive(line: str, tmp_path: Path) -> None:
    """A line is taken, or refused, as nginx takes or refuses it."""
    conf = tmp_path / "nginx.conf"
    conf.write_text(f"pid {tmp_path}/pid; error_log stderr; events {{}} http {{ server {{ listen 1; {line} }} }}")
    program = find("nginx") or shutil.which("nginx") or "nginx"
    done = subprocess.run([program, "-t", "-c", conf], capture_output=True, text=True, check=False)
    try:
        (directive,) = nginx_file.parse(line)
    except ValueError:
        assert done.returncode != 0
    else:
        assert done.returncode == 0, done.stderr
        assert directive.name == "return"
