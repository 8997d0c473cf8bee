"""The rendered files: what systemd and nginx say about them, and how a real nginx serves the site."""

import gzip
import http.client
import json
import os
import runpy
import shutil
import socket
import subprocess
import tempfile
import urllib.parse
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import pytest

from fabfile.commands.check import Rendering, find, nginx_conf, verify_site, verify_units
from fabfile.config.layout import Layout
from fabfile.config.settings import Settings, Timeouts
from fabfile.plan import rendering
from fabfile.plan.request import MARK, mark
from fabfile.steps import logs
from fabfile.steps.logs import Lines
from fabfile.steps.step import as_text
from testbed.sample import sample
from tests.unit.nginx import Upstream, needs_nginx, serving

HASHED = "css/site.0123456789ab.css"
needs_systemd = pytest.mark.skipif(not find("systemd-analyze"), reason="systemd-analyze is not installed")

ODD = sample(
    name="shop-2",
    path="/opt/shop.live",
    project=".",
    static_root="web/assets/out",
    static_url="/assets/v1.2/",
    domain="shop.example",
    aliases=("www.shop.example", "m.shop.example"),
    default_server=False,
    body_size="1G",
    wsgi="shop.wsgi:create_app()",
    linked_dirs=("web/assets/out",),
    media={"folder": "web/up.d", "url": "/up.d/files/"},
    workers=3,
    doppler_project="shop",
    doppler_config="prd_eu",
    unit_options={"MemoryMax": "50%", "Environment": '"A=b c" D=e', "ProtectSystem": "full"},
    timeouts=Timeouts(boot=7),
    tls={"certificate": "/etc/ssl/shop.pem", "key": "/etc/ssl/private/shop.key"},
    trusted_proxies=("10.0.0.0/8", "2001:db8::/32", "cloudflare"),
)


ABOVE = sample(static_root="../../public/static")


def rendered(settings: Settings) -> Rendering:
    return Rendering(
        Layout.of(settings).unit,
        rendering.service(settings),
        rendering.socket(settings),
        rendering.site(settings),
    )


def section(unit: str, name: str) -> dict[str, str]:
    """The last value of each option of a unit's section, continued lines joined."""
    body = unit.replace("\\\n", " ").split(f"[{name}]\n")[1].split("\n[")[0]
    return dict(line.split("=", 1) for line in body.splitlines() if line and not line.startswith("#"))


def test_service_runs_gunicorn_under_doppler() -> None:
    """The unit runs what the team runs today, by the paths that the server shows today."""
    options = section(rendering.service(sample()), "Service")
    assert options["User"] == options["Group"] == "deploy"
    assert options["WorkingDirectory"] == "/app/apps/web"
    assert options["ExecStart"].split() == [
        *("/usr/bin/doppler", "run", "--", "/bin/sh", "-c", "'LISTEN_PID=$$$$", "exec", '"$$@"\'', "sh"),
        *("/app/.venv/bin/python", "-m", "gunicorn"),
        *("--config", "/app/.deploy/gunicorn.conf.py"),
        *("--chdir", "/app/apps/web"),
        *("--bind", "unix:/run/consult/gunicorn.sock"),
        *("--pid", "/run/consult-django/gunicorn.pid"),
        '"config.wsgi:application"',
    ]


def test_service_leaves_the_sockets_folder_alone() -> None:
    """A RuntimeDirectory of the socket's own would take the socket away at every restart (decision 10)."""
    service, socket_unit = rendering.service(sample()), rendering.socket(sample())
    assert section(service, "Service")["RuntimeDirectory"] == "consult-django"
    assert section(service, "Unit")["Requires"] == "consult-django.socket"
    assert section(socket_unit, "Socket")["ListenStream"] == "/run/consult/gunicorn.sock"
    assert section(socket_unit, "Socket")["SocketUser"] == "deploy"


def test_failing_service_is_tried_for_ever() -> None:
    """At a start limit systemd fails the socket too, and requests no longer wait but fail (seen on 252)."""
    service = rendering.service(sample())
    assert section(service, "Unit")["StartLimitIntervalSec"] == "0"
    assert section(service, "Service")["Restart"] == "always"


def test_doppler_options_and_unit_options_stand_where_they_work() -> None:
    """--project and --config are doppler's, so before the --; unit_options win, so after all others."""
    service = rendering.service(ODD)
    command = section(service, "Service")["ExecStart"]
    assert command.index("--project shop") < command.index("--config prd_eu") < command.index(" -- ")
    assert '"shop.wsgi:create_app()"' in command
    assert section(service, "Service")["ProtectSystem"] == "full"
    assert section(service, "Service")["MemoryMax"] == "50%"


def test_no_secret_can_stand_in_a_unit() -> None:
    """The token comes from a file that few may read, not from the unit or a command line."""
    service = rendering.service(sample())
    assert section(service, "Service")["EnvironmentFile"] == "/etc/consult/doppler.env"
    assert "--token" not in service


def test_files_stand_where_the_layout_says() -> None:
    """The three files that need root, and no others."""
    assert set(rendering.files(sample())) == {
        PurePosixPath("/etc/systemd/system/consult-django.service"),
        PurePosixPath("/etc/systemd/system/consult-django.socket"),
        PurePosixPath("/etc/nginx/sites-available/consult-django"),
    }


@pytest.mark.parametrize("settings", [sample(), ODD], ids=["defaults", "odd"])
def test_gunicorn_conf_takes_its_values(settings: Settings, tmp_path: Path) -> None:
    """The program finds in the file beside it what it asks for, and nothing else."""
    (tmp_path / "gunicorn.conf.py").write_text(rendering.gunicorn_conf())
    (tmp_path / "gunicorn.json").write_text(rendering.gunicorn_json(settings))
    values = runpy.run_path(str(tmp_path / "gunicorn.conf.py"))["VALUES"]
    assert values._asdict() == {**rendering.gunicorn_values(settings), "unhealthy_after": 5}
    assert values.health_host == settings.domain


@needs_systemd
@pytest.mark.parametrize("settings", [sample(), ODD], ids=["defaults", "odd"])
def test_systemd_takes_the_units(settings: Settings, tmp_path: Path) -> None:
    """systemd-analyze has nothing to say."""
    assert verify_units(rendered(settings), tmp_path) == ""


@needs_systemd
def test_exposure_stays_low(tmp_path: Path) -> None:
    """`systemd-analyze security` rates the service 1.5 at most; the playbook's unit had 8.6."""
    unit = tmp_path / "consult-django.service"
    unit.write_text(rendering.service(sample()))
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", unit],
        capture_output=True,
        text=True,
        check=False,
    )
    assert said.returncode == 0, said.stdout[-500:] + said.stderr


@needs_systemd
@pytest.mark.parametrize(
    ("good", "bad", "told"),
    [
        ("OOMPolicy=", "OomPolicy=", "OomPolicy"),
        ("Restart=always", "Restart=often", "often"),
        ("=/bin/sh -c 'read", "=/bin/nothing -c 'read", "/bin/nothing"),
    ],
)
def test_broken_units_are_told(good: str, bad: str, told: str, tmp_path: Path) -> None:
    """A misspelt option, a wrong value, a missing program: told, though systemd-analyze lets some pass."""
    whole = rendered(sample())
    assert good in whole.service
    broken = Rendering(whole.unit, whole.service.replace(good, bad), whole.socket, whole.site)
    assert told in verify_units(broken, tmp_path)


@needs_nginx
@pytest.mark.parametrize("settings", [sample(), ODD, ABOVE], ids=["defaults", "odd", "above"])
def test_nginx_takes_the_site(settings: Settings, tmp_path: Path) -> None:
    """nginx -t has nothing to say."""
    assert verify_site(rendered(settings), tmp_path) == ""


@needs_nginx
def test_two_apps_share_a_host(tmp_path: Path) -> None:
    """Names in nginx's one name space are the app's own."""
    both = Rendering("both", "", "", rendering.site(sample()) + rendering.site(ODD))
    assert verify_site(both, tmp_path) == ""


@needs_nginx
def test_broken_site_is_told(tmp_path: Path) -> None:
    """What nginx refuses is told with its words."""
    broken = Rendering("x", "", "", rendering.site(sample()).replace("proxy_pass", "proxy_past"))
    assert 'unknown directive "proxy_past"' in verify_site(broken, tmp_path)


def test_static_files_above_the_project_are_served_from_there() -> None:
    """nginx gets the folder's own path, without .. and as the live release has it."""
    text = rendering.site(ABOVE)
    assert "alias /app/public/static/;" in text
    assert "try_files /app/public/static/$" in text
    assert ".." not in text.replace("[.]", "")


def accepts(path: Path) -> bool:
    """Whether somebody listens at a socket: its file is there a moment before."""
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(path)) == 0


class Site:
    """A real nginx that serves the rendered site, with the host's places below `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.static = root / "app/apps/web/staticfiles"
        self.kept = root / "srv/consult/static"
        self.media = root / "srv/consult/shared/var/up"
        self.maintenance = root / "srv/consult/maintenance.html"

    def ask(
        self, path: str, method: str = "GET", body: bytes = b"", **headers: str
    ) -> tuple[http.client.HTTPResponse, bytes]:
        connection = http.client.HTTPConnection("api.consult.dev", timeout=10)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(10)
        connection.sock.connect(str(self.root / "0.sock"))
        connection.request(
            method, path, body or None, {name.replace("_", "-"): value for name, value in headers.items()}
        )
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        return answer, content


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture(scope="module")
def nginx() -> Iterator[Site]:
    # Not tmp_path: the path of a socket has room for 107 bytes.
    root = Path(tempfile.mkdtemp(prefix="ddn-"))
    site = Site(root)
    for path in ("app/apps/web/staticfiles", "srv/consult/static", "run/consult", "srv/consult/shared/var/up"):
        (root / path).mkdir(parents=True)
    text = rendering.site(sample(body_size="1k", media={"folder": "var/up", "url": "/up/"}, error_page="apps/5xx.html"))
    for place in ("/app/", "/srv/consult/", "/run/consult/"):
        text = text.replace(place, f"{root}{place}")
    with serving(root, nginx_conf(text, root), lambda: accepts(root / "0.sock")):
        yield site
    shutil.rmtree(root)


@pytest.fixture
def site(nginx: Site) -> Site:
    for folder in (nginx.static, nginx.kept, nginx.media):
        shutil.rmtree(folder)
        folder.mkdir()
    nginx.maintenance.unlink(missing_ok=True)
    shutil.rmtree(nginx.maintenance.with_suffix(".allow"), ignore_errors=True)
    Upstream.resets.clear()
    return nginx


@needs_nginx
@pytest.mark.parametrize(
    ("name", "kind", "plain"),
    [
        ("photo.png", "image/png", True),
        ("Übung 1.pdf", "application/pdf", True),
        ("song.mp3", "audio/mpeg", True),
        ("page.html", "text/html", False),
        ("drawing.svg", "image/svg+xml", False),
        ("unknown", "application/octet-stream", False),
    ],
)
def test_uploads_are_shown_and_run_nothing(name: str, kind: str, plain: bool, site: Site) -> None:
    """With their own type and no other; what could hold a script gets a sandbox, and none of the site's cookies."""
    write(site.media / "2026" / name, "content")
    answer, body = site.ask(f"/up/2026/{urllib.parse.quote(name)}")
    assert (answer.status, body, answer.headers["Content-Type"]) == (200, b"content", kind)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    policy = answer.headers["Content-Security-Policy"]
    assert policy is None if plain else policy.startswith("default-src 'none'; ") and policy.endswith("; sandbox")


@needs_nginx
def test_what_is_no_upload_is_not_shown(site: Site) -> None:
    """No list of a folder, no hidden file, nothing beside the folder, no link to what is somebody else's."""
    write(site.media / "2026/.hidden/x", "secret")
    write(site.media.parent / "secret", "secret")
    (site.media / "link").symlink_to("/etc/hostname")
    for path in ("/up/2026/", "/up/", "/up/2026/.hidden/x", "/up/2026/none"):
        assert site.ask(path)[0].status == 404
    for path in ("/up/../secret", "/up/%2e%2e/secret", "/up/..%2fsecret", "/up../secret"):
        assert site.ask(path)[1] != b"secret"
    if os.geteuid() == 0:  # whose link it is tells, and only root can give one away
        os.lchown(site.media / "link", 65534, 65534)
        assert site.ask("/up/link")[0].status == 404


@needs_nginx
def test_closed_connection_is_tried_again(site: Site) -> None:
    """A gunicorn that resets a connection costs no visitor a page."""
    answer, _ = site.ask("/reset")
    assert answer.status == 200
    assert Upstream.resets == ["GET", "GET"]
    assert site.ask("/")[0].status == 200


@needs_nginx
def test_who_is_let_in_sees_the_site_all_the_same(site: Site) -> None:
    """By the file of that name; others see the page."""
    write(site.maintenance, "<h1>Back soon</h1>")
    for name, status in (("192.0.2.1", 503), ("unix:", 200)):  # what nginx calls who comes by a Unix socket
        write(site.maintenance.with_suffix(".allow") / name, "")
        assert site.ask("/")[0].status == status


@needs_nginx
def test_post_is_not_repeated(site: Site) -> None:
    """What may have had an effect is not done twice."""
    answer, _ = site.ask("/reset", "POST", b"order=1")
    assert answer.status == 502
    assert Upstream.resets == ["POST"]


@needs_nginx
def test_missing_socket_is_not_remembered(site: Site) -> None:
    """The first request after gunicorn is back is served: nginx puts no server aside."""
    place = site.root / "run/consult/gunicorn.sock"
    place.rename(place.with_suffix(".away"))
    assert [site.ask("/")[0].status for _ in range(3)] == [502, 502, 502]
    assert b"<center>nginx" in site.ask("/")[1]
    write(site.root / "app/apps/5xx.html", "<h1>Ours</h1>")
    answer, content = site.ask("/")
    assert (answer.status, content, answer.headers["Cache-Control"]) == (502, b"<h1>Ours</h1>", "no-store")
    assert site.ask("/_unavailable")[0].status == 404
    place.with_suffix(".away").rename(place)
    assert site.ask("/")[0].status == 200


@needs_nginx
def test_security_headers_come_once(site: Site) -> None:
    """nginx adds what the app leaves out, also to errors and files, and doubles nothing."""
    write(site.static / "logo.svg", "<svg/>")
    write(site.static / HASHED, "a")
    for path in ("/", "/unwell", "/static/logo.svg", "/static/" + HASHED, "/static/none.css"):
        headers = site.ask(path)[0].headers
        assert headers.get_all("X-Content-Type-Options") == ["nosniff"], path
        assert headers.get_all("Referrer-Policy") == ["same-origin"], path
        assert headers["Server"] == "nginx"
    headers = site.ask("/careful")[0].headers
    assert headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert headers.get_all("Referrer-Policy") == ["no-referrer"]


@needs_nginx
def test_hashed_file_is_good_for_ever(site: Site) -> None:
    """A name with Django's hash never changes its content."""
    write(site.static / HASHED, "new")
    write(site.kept / HASHED, "old")
    answer, content = site.ask("/static/" + HASHED)
    assert (answer.status, content) == (200, b"new")
    assert answer.headers.get_all("Cache-Control") == ["public, max-age=31536000, immutable"]
    assert answer.headers["Content-Type"] == "text/css"


@needs_nginx
def test_pages_of_an_earlier_release_find_their_files(site: Site) -> None:
    """A hashed file that the live release lacks comes from the kept ones, with its type."""
    write(site.kept / HASHED, "old")
    answer, content = site.ask("/static/" + HASHED)
    assert (answer.status, content, answer.headers["Content-Type"]) == (200, b"old", "text/css")


@needs_nginx
@pytest.mark.parametrize("name", ["site.css", "report.20260122.css", "a.0123456789ab.d/site.css", "site.0123ab.css"])
def test_other_files_are_the_live_releases(name: str, site: Site) -> None:
    """Without a hash in the name an old file could be served for a new one: only the live release's is."""
    write(site.kept / name, "old")
    assert site.ask("/static/" + name)[0].status == 404
    write(site.static / name, "new")
    answer, content = site.ask("/static/" + name)
    assert (answer.status, content) == (200, b"new")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert site.ask("/static/" + name, If_None_Match=answer.headers["ETag"])[0].status == 304


@needs_nginx
@pytest.mark.parametrize(
    "path",
    ["", "css", "css/", ".env", ".git/config", ".git/a.0123456789ab.css", "../manage.py", "%2e%2e/manage.py"],
)
def test_nothing_else_is_served(path: str, site: Site) -> None:
    """Folders, hidden files and what lies beside the folder are not there."""
    for name in ("css/a.css", ".env", ".git/config", ".git/a.0123456789ab.css"):
        write(site.static / name, "secret")
        write(site.kept / name, "secret")
    write(site.static.parent / "manage.py", "secret")
    answer, content = site.ask("/static/" + path)
    # With the dots resolved the path is the app's, not a file's.
    assert answer.status == 404 or json.loads(content)["path"]
    assert b"secret" not in content


@needs_nginx
def test_text_is_compressed(site: Site) -> None:
    """Files and answers of the app are compressed where the browser takes it."""
    write(site.static / HASHED, "body { color: teal }\n" * 200)
    for path in ("/static/" + HASHED, "/"):
        answer, content = site.ask(path, Accept_Encoding="gzip")
        assert answer.headers["Content-Encoding"] == "gzip"
        assert len(content) < len(gzip.decompress(content)) / 2


@needs_nginx
def test_body_size_is_bounded(site: Site) -> None:
    """`body_size` is nginx's limit."""
    assert site.ask("/", "POST", b"x" * 1000)[0].status == 200
    assert site.ask("/", "POST", b"x" * 1100)[0].status == 413


@needs_nginx
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_maintenance_page(method: str, site: Site) -> None:
    """While the file is there, visitors see it, with 503 and when to come back; its name is no address."""
    write(site.maintenance, "<h1>Back soon</h1>")
    answer, content = site.ask("/page", method, b"x=1" if method == "POST" else b"")
    assert answer.headers[MARK] is None
    assert (answer.status, content) == (503, b"<h1>Back soon</h1>")
    assert answer.headers["Content-Type"].startswith("text/html")
    assert answer.headers["Retry-After"] == "60"
    assert site.ask("/_maintenance")[0].status == 404
    assert [site.ask(path)[0].status for path in ("/", "/healthz/", "/healthz")] == [503, 503, 200]
    site.maintenance.unlink()
    assert site.ask("/page", method)[0].status == 200


@needs_nginx
def test_the_health_path_has_the_mark_of_the_app(site: Site) -> None:
    """By which a deploy knows whom it has asked; the app gets the request as any other, and other pages have none."""
    answer, content = site.ask("/healthz?deep=1")
    assert answer.headers.get_all(MARK) == [mark(sample())]
    assert answer.headers.get_all("X-Content-Type-Options") == ["nosniff"]
    assert json.loads(content)["path"] == "/healthz?deep=1"
    assert json.loads(content)["headers"]["Host"] == "api.consult.dev"
    assert site.ask("/")[0].headers[MARK] is None


@pytest.mark.parametrize("health_path", ["/", "/a%20b"])
def test_a_health_path_of_visitors_is_not_kept_open(health_path: str) -> None:
    """The page shows there, too; the mark is on every answer of the app then."""
    text = rendering.site(sample(health_path=health_path))
    assert text.count("proxy_pass") == text.count(MARK) == 1
    assert "location = /_maintenance" in text


def test_the_site_has_logs_of_its_own() -> None:
    """Where `logs` and `status` look for them."""
    site = rendering.site(sample())
    files = as_text(logs.nginx_log(Layout.of(sample()), Lines(1)).parameters["files"]).splitlines()
    assert files == ["/var/log/nginx/consult-django.access.log", "/var/log/nginx/consult-django.error.log"]
    for path, kind in zip(files, ("access_log", "error_log"), strict=True):
        assert f"{kind} {path};" in site


@needs_nginx
def test_own_503_of_the_app_is_passed_on(site: Site) -> None:
    """An app that answers 503 says why itself."""
    answer, content = site.ask("/unwell")
    assert answer.status == 503
    assert json.loads(content)["path"] == "/unwell"
