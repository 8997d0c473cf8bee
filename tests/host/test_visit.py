"""A visitor on the host (host/programs/visit.py), who comes to a server that answers what a test says."""

import http.server
import socketserver
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from fabfile.output import advice

PROGRAM = Path(__file__).parents[2] / "fabfile/host/programs/visit.py"
Answers = Callable[["Request"], tuple[int, dict[str, str], str]]


@dataclass(frozen=True)
class Request:
    """What the app heard: who is asked, for what, and by which scheme the visitor came."""

    host: str
    path: str
    scheme: str
    cookie: str

    @property
    def secure(self) -> bool:
        return self.scheme == "https"


@dataclass
class App:
    """An app on a private socket, or at a port of this machine, and what a visitor finds there."""

    folder: Path
    answers: Answers = lambda _: (200, {}, "")
    heard: list[Request] = field(default_factory=list)
    port: int = 0

    @property
    def socket(self) -> Path:
        return self.folder / "sock"

    def visit(self, **words: str) -> tuple[int, str]:
        """How a visit ends, and the line that it says: in the proof, unless a port is given."""
        given = {"names": "app.example.org\nwww.example.org", "proxy": ""}
        given |= {} if "port" in words else {"socket": str(self.socket)}
        command = [sys.executable, "-IS", PROGRAM, *(f"{name}={value}" for name, value in (given | words).items())]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert done.stderr == ""
        return done.returncode, done.stdout.removesuffix("\n")


@pytest.fixture
def app(world: Any) -> Iterator[App]:
    found = App(world.run_folder)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            of = self.headers
            request = Request(of["Host"], self.path, of.get("X-Forwarded-Proto", ""), of.get("Cookie", ""))
            found.heard.append(request)
            status, headers, body = found.answers(request)
            if not status:
                return
            self.send_response(status)
            for name, value in {"Content-Type": "text/html; charset=utf-8", **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

        def address_string(self) -> str:
            return "nobody"

    with (
        socketserver.ThreadingUnixStreamServer(str(found.socket), Handler) as private,
        http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as public,
    ):
        found.port = public.server_port
        for server in (private, public):
            threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        for server in (private, public):
            server.shutdown()


def to(target: str, **headers: str) -> tuple[int, dict[str, str], str]:
    return 302, {"Location": target, **{name.replace("_", "-"): value for name, value in headers.items()}}, ""


def listens(port: int) -> bool:
    """Whether somebody on this machine does."""
    tables = [Path("/proc/net", name).read_text() for name in ("tcp", "tcp6")]
    return any(f":{port:04X} " in line and " 0A " in line for table in tables for line in table.splitlines())


no_https = pytest.mark.skipif(listens(443), reason="somebody listens on 443 here")


def test_a_visitor_has_no_header_that_makes_things_better(app: App) -> None:
    """He comes by http, with the site's name; nginx adds only that he does."""
    assert app.visit() == (0, "/ answers 200")
    assert app.heard == [Request("app.example.org", "/", "http", "")]


def test_nginx_is_asked_as_he_asks(app: App) -> None:
    """Through nginx there is nothing beside his Host."""
    assert app.visit(port=str(app.port)) == (0, "/ answers 200")
    assert app.heard == [Request("app.example.org", "/", "", "")]


@no_https
@pytest.mark.parametrize("way", ["proof", "nginx"])
def test_https_that_nobody_speaks(app: App, way: str) -> None:
    """SECURE_SSL_REDIRECT on plain http: the closed port is named, and all ways out."""
    app.answers = lambda request: (200, {}, "") if request.secure else to(f"https://{request.host}{request.path}")
    code, said = app.visit(**({"port": str(app.port)} if way == "nginx" else {}))
    assert code == 2
    assert said == "the app redirects / to https://app.example.org/, but nothing on this host answers https"
    words = advice.next_command("api", f"failed: {said}")
    for setting in (
        "tls = {",
        "fab -H api provision",
        "SECURE_SSL_REDIRECT = False",
        'public_url = "https://..."',
        "SECURE_PROXY_SSL_HEADER",
    ):
        assert setting in words


@pytest.mark.parametrize("way", ["proof", "nginx"])
def test_https_that_a_proxy_speaks(app: App, way: str) -> None:
    """With an https `public_url` visitors come by https, and the app is told so as the proxy does it."""
    app.answers = lambda request: (200, {}, "") if request.secure else to(f"https://{request.host}{request.path}")
    assert app.visit(proxy="1", **({"port": str(app.port)} if way == "nginx" else {})) == (0, "/ answers 200")
    assert [request.scheme for request in app.heard] == ["https"]


@pytest.mark.parametrize(("cookie", "times"), [("seen=1", 2), ("csrftoken={}", 6)], ids=["the same", "a new one"])
def test_an_app_that_does_not_believe_the_proxy(app: App, cookie: str, times: int) -> None:
    """It redirects https to https for ever: the header that it has to believe is named, whatever cookies it sets."""
    app.answers = lambda request: to(f"https://{request.host}/", Set_Cookie=cookie.format(len(app.heard)))
    code, said = app.visit(proxy="1")
    assert (code, len(app.heard)) == (2, times)
    assert said.startswith("https://app.example.org/ is redirected to itself: the app does not see")
    assert "SECURE_PROXY_SSL_HEADER" in advice.next_command("api", said)


def test_redirects_on_the_site_are_followed(app: App) -> None:
    """To a language and to the login, by path or by name, with the cookies that were set on the way."""
    ways = {"/": to("/en/", Set_Cookie="lang=en; Path=/"), "/en/": to("http://www.example.org/login/?next=/en/")}
    app.answers = lambda request: ways.get(request.path, (200, {}, ""))
    assert app.visit() == (0, "/ leads to http://www.example.org/login/?next=/en/, 200")
    assert app.heard[1:] == [
        Request("app.example.org", "/en/", "http", "lang=en"),
        Request("www.example.org", "/login/?next=/en/", "http", "lang=en"),
    ]


def test_a_site_that_wants_to_see_its_cookie(app: App) -> None:
    """The same address again, but with the cookie that it has set, is no circle."""
    app.answers = lambda request: (200, {}, "") if request.cookie else to("/", Set_Cookie="seen=1")
    assert app.visit()[0] == 0


def test_circles_and_ways_without_an_end(app: App) -> None:
    """A visitor's browser gives up, and so does this one: five redirects are followed."""
    app.answers = lambda request: to("/" if request.path == "/a/" else "/a/")
    assert app.visit() == (2, "the app sends a visitor in a circle: / -> /a/ -> /")
    app.answers = lambda request: to(f"{request.path}x")
    assert app.visit() == (2, "the app redirects a visitor more than 5 times, at last to /xxxxxx")
    app.answers = lambda request: to(f"{request.path}x") if len(request.path) < 6 else (200, {}, "")
    assert app.visit() == (0, "/ leads to /xxxxx, 200")


@pytest.mark.parametrize("target", ["https://login.elsewhere.example/x", "http://elsewhere.example/", "mailto:ana@x"])
def test_another_site_is_not_ours_to_judge(app: App, target: str) -> None:
    """A start page elsewhere, a single sign-on: said, and nobody goes there."""
    app.answers = lambda _: to(target)
    assert app.visit() == (0, f"/ leads to {target}")


@pytest.mark.parametrize("target", ["http://[x/", "http://app.example.org:99999/", "//[", "http://app.example.org:x/"])
def test_what_is_no_address_is_told(app: App, target: str) -> None:
    """No traceback for a redirect that no browser follows."""
    app.answers = lambda _: to(target)
    code, said = app.visit()
    assert code == 2
    assert said.endswith("which is no URL")


def test_a_port_of_this_host_that_is_closed(app: App) -> None:
    """A redirect to the port of somebody's own machine."""
    app.answers = lambda _: to("http://app.example.org:9/")
    assert app.visit() == (
        2,
        "the app redirects / to http://app.example.org:9/, but nothing on this host answers at port 9",
    )


@pytest.mark.parametrize(
    ("status", "code"), [(404, 0), (401, 0), (403, 0), (405, 0), (204, 0), (500, 1), (502, 1), (503, 1)]
)
def test_what_the_page_answers(app: App, status: int, code: int) -> None:
    """An API without a start page is fine, and said; an error is none that a visitor should get, but may pass."""
    app.answers = lambda _: (status, {}, "")
    ended, said = app.visit()
    assert (ended, said.startswith(f"/ answers {status}")) == (code, True)


def test_a_name_that_the_app_does_not_know(app: App) -> None:
    """400 is Django's answer to a Host that is not in ALLOWED_HOSTS: the name is told, also of an alias."""
    app.answers = lambda request: to("http://www.example.org/") if request.host.startswith("app") else (400, {}, "")
    code, said = app.visit()
    assert code == 2
    assert said.endswith("answers 400 to a visitor: ALLOWED_HOSTS of the app lacks www.example.org")
    assert "ALLOWED_HOSTS" in advice.next_command("api", said)


def page(*lines: str) -> Answers:
    return lambda request: (200, {}, "\n".join(lines)) if request.path == "/" else (404, {}, "")


def proof(static: Path, new: str = "1", url: str = "/static/") -> dict[str, str]:
    return {"static_url": url, "static_root": str(static), "new": new}


PAGE = """
<link rel="Stylesheet" href="/static/css/site.0123abcd.css?v=1"><script src="static/a%20b.js"></script>
<link rel=icon href="/static/icon.png"><img src="/static/logo.png"><img>
<script>let x = '<link href="/static/no">'</script>
<script src="https://cdn.example/static/x.js"></script><!-- <script src="/static/gone.js"></script> -->
<base href="http://[bad"><a href="/static/report.pdf">Report</a><link rel=stylesheet href="data:text/css,x"><script src="http://[bad"></script>
"""


def test_the_files_of_a_page_are_there(app: App, tmp_path: Path) -> None:
    """Hashed or not, by any way to write the address; those of others, of links and in comments are not looked for."""
    app.answers = page(PAGE)
    for name in ("css/site.0123abcd.css", "a b.js", "icon.png", "logo.png"):
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).touch()
    assert app.visit(**proof(tmp_path / "out")) == (0, "/ answers 200")
    for name in ("logo.png", "icon.png"):
        (tmp_path / "out" / name).unlink()
    assert app.visit(**proof(tmp_path / "out")) == (
        0,
        "/ answers 200; a page without /static/icon.png, /static/logo.png",
    )


@pytest.mark.parametrize("gone", ["css/site.0123abcd.css", "a b.js"])
def test_a_page_without_its_styles_or_scripts(app: App, tmp_path: Path, gone: str) -> None:
    """A build that was not done: the file and the step are named; of a release that was live before it is only said."""
    app.answers = page(PAGE)
    (tmp_path / "css").mkdir()
    for name in ("css/site.0123abcd.css", "a b.js", "icon.png", "logo.png"):
        (tmp_path / name).touch()
    (tmp_path / gone).unlink()
    code, said = app.visit(**proof(tmp_path))
    path = f"/static/{gone.replace(' ', '%20')}"
    assert (code, said) == (2, f"/ needs {path}, which is not in {tmp_path}")
    assert "npm run build" in advice.next_command("api", said)
    assert app.visit(**proof(tmp_path, new="")) == (0, f"/ answers 200; a page without {path}")


def test_a_static_url_that_is_not_the_apps(app: App, tmp_path: Path) -> None:
    """What nginx would hand on to the app, the app is asked for; STATIC_URL is the setting to look at."""
    (tmp_path / "site.css").touch()
    app.answers = page('<base href="/assets/v1/"><link rel=stylesheet href="site.css">')
    assert app.visit(**proof(tmp_path, url="/assets/v1/")) == (0, "/ answers 200")
    code, said = app.visit(**proof(tmp_path))
    assert (code, said) == (2, "/ needs /assets/v1/site.css, which the app answers with 404")
    assert "static_url in hosts.toml" in advice.next_command("api", said)
    app.answers = lambda _: (200, {}, '<script src="/jsi18n/"></script>')
    assert app.visit(**proof(tmp_path)) == (0, "/ answers 200")


def test_another_site_of_the_same_nginx(app: App) -> None:
    """The mark of the health path is not there: what answers for the domain is another site, if it does not pass."""
    words = {"port": str(app.port), "health_path": "/healthz?x=1", "mark": "0123"}
    app.answers = lambda request: (200, {"X-Django-Deploy": "0123"} if request.path == "/healthz?x=1" else {}, "")
    assert app.visit(**words) == (0, "/ answers 200")
    app.answers = lambda _: (200, {}, "Welcome to nginx!")
    code, said = app.visit(**words)
    assert (code, said) == (1, "for app.example.org nginx answers with another site")
    assert "grep -r server_name" in advice.next_command("api", said)


def test_the_maintenance_page_is_known(app: App, tmp_path: Path) -> None:
    """503 with the page there is what somebody has asked for; without it, it is not."""
    app.answers = lambda _: (503, {}, "Back soon")
    words = {"port": str(app.port), "page": str(tmp_path / "maintenance.html")}
    assert app.visit(**words) == (1, "/ answers 503 to a visitor")
    (tmp_path / "maintenance.html").touch()
    assert app.visit(**words) == (0, "/ answers 503: the maintenance page is on")


def test_nobody_answers(app: App) -> None:
    """A port at which nobody listens, a gunicorn that hangs up: told in one line."""
    assert app.visit(port="9")[0] == 2

    app.answers = lambda _: (0, {}, "")
    code, said = app.visit()
    assert (code, said) == (1, "/ gives a visitor no answer (RemoteDisconnected)")
