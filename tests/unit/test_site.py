"""The lab's sample site, installed from its lock and served by its own gunicorn on a unix socket."""

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.unit.test_rendering import accepts

SITE = Path(__file__).parents[2] / "testbed" / "lab" / "site"
RELEASE = "20260102-030405-abcdef0"
LEFTOVERS = shutil.ignore_patterns(".venv", "__pycache__", "staticfiles", "*.sqlite3")


def environment(root: Path, **changes: str) -> dict[str, str]:
    """Return this process's environment with what the site needs."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DJANGO_", "VIRTUAL_ENV"))}
    return clean | {"SECRET_KEY": "trial", "DATABASE_URL": f"sqlite:///{root}/trial.sqlite3"} | changes


def manage(root: Path, *words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """Run one management command of the installed site."""
    return subprocess.run(
        [root / ".venv/bin/python", "manage.py", *words],
        cwd=root / "apps/web",
        env=environment(root, **changes),
        capture_output=True,
        text=True,
        check=False,
    )


@contextmanager
def serve(root: Path, **changes: str) -> Generator[httpx.Client]:
    """Serve the installed site while the block runs."""
    # Not below tmp_path: a socket's path has room for 107 bytes.
    with tempfile.TemporaryDirectory() as folder:
        socket = Path(folder) / "site.sock"
        server = subprocess.Popen(
            [
                root / ".venv/bin/python",
                "-m",
                "gunicorn",
                "--bind",
                f"unix:{socket}",
                "config.wsgi:application",
            ],
            cwd=root / "apps/web",
            env=environment(root, **changes),
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 20
            while not accepts(socket):
                assert server.poll() is None, "gunicorn ended before it listened"
                assert time.monotonic() < deadline, "gunicorn does not listen"
                time.sleep(0.05)
            transport = httpx.HTTPTransport(uds=str(socket))
            with httpx.Client(transport=transport, base_url="http://localhost", timeout=20) as client:
                yield client
        finally:
            server.terminate()
            server.wait(timeout=20)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release of the site, ready to serve."""
    root = tmp_path_factory.mktemp("releases") / RELEASE
    shutil.copytree(SITE, root, ignore=LEFTOVERS)
    (root / ".deploy").mkdir()
    (root / ".deploy/release.json").write_text(json.dumps({"id": RELEASE, "commit": "abcdef0123"}))
    subprocess.run(["uv", "sync", "--frozen", "--quiet"], cwd=root / "apps/web", env=environment(root), check=True)
    for words in (["migrate"], ["collectstatic", "--noinput"]):
        result = manage(root, *words)
        assert result.returncode == 0, result.stderr
    return root


@pytest.fixture(scope="module")
def site(root: Path) -> Iterator[httpx.Client]:
    """The site as a visitor meets it."""
    with serve(root) as client:
        yield client


def test_the_page_names_its_release_and_links_hashed_files(root: Path, site: httpx.Client) -> None:
    """The page tells release, commit and greeting, and its static files lie where nginx serves them."""
    page = site.get("/")
    assert page.status_code == 200
    assert f'<meta name="release" content="{RELEASE}">' in page.text
    assert "abcdef0123" in page.text
    assert "Good day, visitor." in page.text
    assert '<link rel="canonical" href="http://localhost/">' in page.text
    manifest = json.loads((root / "apps/web/staticfiles/staticfiles.json").read_text())["paths"]
    for name in ("pages/site.css", "pages/mark.svg"):
        assert manifest[name] != name
        assert f"/static/{manifest[name]}" in page.text
        assert (root / "apps/web/staticfiles" / manifest[name]).is_file()


@pytest.mark.parametrize(
    ("path", "status"), [("/", 200), ("/healthz", 200), ("/nothing", 404), ("/boom/", 500), ("/upload/", 405)]
)
def test_every_answer_names_release_and_worker(site: httpx.Client, path: str, status: int) -> None:
    """Errors are marked too, so that a watcher can tell old workers from new ones."""
    answer = site.get(path)
    assert answer.status_code == status
    assert answer.headers["X-Release"] == RELEASE
    assert answer.headers["X-Worker"].isdigit()


def test_the_proxy_tells_whether_the_visitor_came_by_https(root: Path) -> None:
    """X-Forwarded-Proto counts (asked of Django alone: gunicorn on a unix socket believes the header too)."""
    request = "RequestFactory().get('/', headers={'X-Forwarded-Proto': 'https'})"
    result = manage(root, "shell", "-v0", "-c", f"from django.test import RequestFactory; print({request}.is_secure())")
    assert result.stdout == "True\n", result.stderr


def test_a_foreign_host_is_refused(site: httpx.Client) -> None:
    """ALLOWED_HOSTS is in force, for the health path as well."""
    assert site.get("/healthz", headers={"Host": "elsewhere.example"}).status_code == 400


def test_a_note_is_kept_and_listed(site: httpx.Client) -> None:
    """A posted note shows in the list and on the page, escaped; a bad one is refused."""
    before = site.get("/notes/").json()["count"]
    assert site.post("/notes/", data={"text": "a <b> note", "author": "ana"}).status_code == 201
    for refused in ("", "x" * 501, "a\0b"):
        assert site.post("/notes/", data={"text": refused}).status_code == 400
    listed = site.get("/notes/").json()
    assert listed["count"] == before + 1
    assert (listed["notes"][0]["text"], listed["notes"][0]["author"]) == ("a <b> note", "ana")
    assert "a &lt;b&gt; note" in site.get("/").text


def test_slow_sleeps_as_told_and_refuses_nonsense(site: httpx.Client) -> None:
    """The answer takes the seconds asked for; what is no number is a 400."""
    start = time.monotonic()
    assert site.get("/slow/?seconds=0.4").json() == {"slept": 0.4}
    assert time.monotonic() - start >= 0.4
    assert site.get("/slow/?seconds=nan").json() == {"slept": 0.0}
    assert site.get("/slow/?seconds=soon").status_code == 400


def test_a_large_upload_is_counted(site: httpx.Client) -> None:
    """A body beyond Django's 2.5 MB in-memory limit is read to its end."""
    assert site.post("/upload/", content=b"x" * 5_000_001).json() == {"bytes": 5_000_001}


def test_health_is_503_without_a_database(root: Path) -> None:
    """Health asks the database, not only the process."""
    with serve(root, DATABASE_URL="postgres://nobody:secret@127.0.0.1:1/none") as client:
        answer = client.get("/healthz")
        assert (answer.status_code, answer.json()) == (503, {"status": "unavailable"})
        assert answer.headers["X-Release"] == RELEASE


@pytest.mark.parametrize("name", ["SECRET_KEY", "DATABASE_URL"])
def test_a_missing_secret_is_named(root: Path, name: str) -> None:
    """The site does not start without its secrets, and says which one it misses."""
    result = manage(root, "check", **{name: ""})
    assert result.returncode != 0
    assert f"The environment variable {name} is not set." in result.stderr


def test_boot_takes_as_long_as_told(root: Path) -> None:
    """Importing the WSGI application sleeps for BOOT_SECONDS, and only it: a management command does not."""
    command = "import time; time.sleep = lambda seconds: print('slept', seconds); import config.wsgi"
    result = subprocess.run(
        [root / ".venv/bin/python", "-c", command],
        cwd=root / "apps/web",
        env=environment(root, BOOT_SECONDS="1.5"),
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.stdout == "slept 1.5\n", result.stderr
    assert manage(root, "check", BOOT_SECONDS="no number").returncode == 0


def test_models_and_migrations_agree(root: Path) -> None:
    """No migration is missing."""
    result = manage(root, "makemigrations", "--check", "--dry-run")
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_job_is_queued_and_done_once(root: Path, tmp_path: Path) -> None:
    """With JOBS=1 a posted job waits for a worker, and its run tells which release and process did it."""
    trial = {"JOBS": "1", "DATABASE_URL": f"sqlite:///{tmp_path}/trial.sqlite3"}
    for words in (["migrate"], ["makemigrations", "--check", "--dry-run"]):
        done = manage(root, *words, **trial)
        assert done.returncode == 0, done.stdout + done.stderr
    with serve(root, **trial) as client:
        assert client.post("/jobs/", data={"name": "first", "seconds": "0.1"}).status_code == 202
        for refused in ({"name": "", "seconds": "1"}, {"name": "a", "seconds": "-1"}, {"name": "a", "seconds": "nan"}):
            assert client.post("/jobs/", data=refused).status_code == 400
        assert client.get("/jobs/").json() == {"runs": []}
        for words in (["db_worker", "--batch", "--no-startup-delay"], ["tick"]):
            done = manage(root, *words, **trial)
            assert done.returncode == 0, done.stdout + done.stderr
        tick, first = client.get("/jobs/").json()["runs"]
    assert (tick["name"], first["name"]) == ("tick", "first")
    assert first["release"] == tick["release"] == RELEASE
    assert first["pid"] != tick["pid"]
    assert first["began"] < first["ended"]
