"""`fab init`: the hosts.toml that it writes for repositories of many shapes, and what it says of what they lack."""

import io
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import fabfile.commands.init as module
from fabfile.commands.check import check_hosts
from fabfile.config.hosts_file import load
from fabfile.errors import ConfigError
from fabfile.output.console import Console
from testbed.lab.furnish import SITE

PROJECT = Path(__file__).parents[2]
ORIGIN = "git@github.com:team/shop.git"
MANAGE = """
import os
from django.core.management import execute_from_command_line
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "{}")
raise SystemExit("nobody may run this")
"""
WSGI = MANAGE.replace("django.core.management", "django.core.wsgi")
URLS = """
urlpatterns = [path("admin/", admin.site.urls), path("healthz", healthz), path("", home)]
"""
PYPROJECT = """
[project]
name = "shop"
version = "1"
requires-python = ">=3.11"
dependencies = ["django", "gunicorn"]
"""
LOCK = """
version = 1
[[package]]
name = "shop"
source = { virtual = "." }
dependencies = [{ name = "django" }, { name = "web" }]
[package.optional-dependencies]
server = [{ name = "gunicorn" }]
[package.dev-dependencies]
production = [{ name = "gunicorn" }]
[[package]]
name = "web"
dependencies = [{ name = "gunicorn" }]
[[package]]
name = "gunicorn"
version = "23.0.0"
[[package]]
name = "celery"
"""
# The settings of `django-admin startproject`, with uploads.
SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent.parent
DEBUG = True
ALLOWED_HOSTS = []
ROOT_URLCONF = "shop.urls"
WSGI_APPLICATION = "shop.wsgi.application"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
MEDIA_URL = "media/"
MEDIA_ROOT = BASE_DIR / "media"
"""
PLAIN = {
    "manage.py": MANAGE.format("shop.settings"),
    "shop/settings.py": SETTINGS,
    "shop/urls.py": URLS,
    "shop/wsgi.py": WSGI.format("shop.settings"),
    "pyproject.toml": PYPROJECT,
    "uv.lock": LOCK,
}


@dataclass
class Init:
    """What a run wrote and said."""

    text: str
    said: str

    def todo(self) -> list[str]:
        part = self.said.partition("To do, before the first deploy:\n")[2]
        return [line.removeprefix("  - ") for line in part.splitlines() if line.startswith("  - ")]

    def app(self) -> str:
        """The file without its first lines and its host."""
        return self.text.partition("[app]\n")[2].partition("\n[environments")[0]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever calls stands in an empty folder, without a terminal."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("DJANGO_DEPLOY_HOSTS", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO())


@pytest.fixture
def repository(tmp_path: Path) -> Any:
    """Makes a repository of files; `None` leaves one out."""

    def make(files: dict[str, str | None], origin: str = ORIGIN) -> Path:
        root = tmp_path / "shop"
        for name, text in files.items():
            if text is not None:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_text(textwrap.dedent(text))
        git(root, "init", "--quiet", "--initial-branch=main")
        if origin:
            git(root, "remote", "add", "origin", origin)
        return root

    return make


def git(folder: Path, *words: str) -> None:
    identity = ("-c", "user.name=x", "-c", "user.email=x@example.org", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *identity, "-C", folder, *words], check=True, capture_output=True)


def init(where: Path | str | None, to: str = "", **given: str) -> Init:
    stream = io.StringIO()
    module.init(Console(stream=stream), None if where is None else str(where), given, to)
    file = Path(to or "hosts.toml")
    return Init(file.read_text() if file.exists() else "", stream.getvalue())


def test_an_app_in_one_folder(repository: Any) -> None:
    """manage.py at the top, SQLite and uploads: the whole file, which lacks nothing but domain and address."""
    root = repository(PLAIN)
    found = init(root)
    assert found.text == textwrap.dedent("""\
        # How `fab` puts shop live. `fab check` tells every mistake; what else can be set:
        # docs/hosts-toml.md of the tool.

        [app]
        name = "shop"
        repo = "git@github.com:team/shop.git"
        domain = "" # FILL IN: the server name, like shop.example.com
        wsgi = "shop.wsgi:application"
        static_root = "staticfiles"
        health_path = "/healthz"
        media = { folder = "media" } # uploads (MEDIA_ROOT)
        linked_files = ["db.sqlite3"] # the database
        # tls = { letsencrypt = "you@example.com" } # https, once the domain leads to the server: then provision

        [environments.production.hosts.web]
        address = "" # FILL IN: the server's IP address or DNS name
        """)
    assert found.todo() == []
    assert "gunicorn 23.0.0, uv.lock" in found.said
    assert found.said.endswith(
        "hosts.toml is written; fill in its lines marked FILL IN\n  next:\n    fab check\n"
        "    DOPPLER_TOKEN=... fab -H production provision\n    fab -H production deploy\n"
    )
    result, _ = check_hosts(Path("hosts.toml"), {})
    assert [line.strip() for line in result.output.splitlines()[1:-1]] == [
        'app.domain: must be a host name like api.consult.dev, not ""',
        'environments.production.hosts.web.address: must be an IP address, a DNS name or an ssh_config alias, not ""',
    ]


def test_with_an_address_the_file_is_whole(repository: Any) -> None:
    """What cannot be found can be given: `check` has nothing to say then, and the deploy knows its paths."""
    init(repository(PLAIN), domain="shop.example.com", address="203.0.113.7", name="store")
    (host,) = load(Path("hosts.toml"), {}).select("production")
    assert check_hosts(Path("hosts.toml"), {})[0].state == "ok"
    settings = host.settings
    assert (settings.name, settings.domain, host.address) == ("store", "shop.example.com", "203.0.113.7")
    assert (settings.path, settings.project, settings.static_folder) == ("/app", ".", "staticfiles")


COOKIECUTTER = {
    "manage.py": MANAGE.format("config.settings.local"),
    "config/wsgi.py": WSGI.format("config.settings.production"),
    "config/settings/__init__.py": "",
    "config/settings/base.py": """
        from pathlib import Path
        import environ
        ROOT_DIR = Path(__file__).resolve(strict=True).parent.parent.parent
        APPS_DIR = ROOT_DIR / "my_shop"
        env = environ.Env()
        DATABASES = {"default": env.db("DATABASE_URL", default="postgres:///my_shop")}
        DATABASES["default"]["ATOMIC_REQUESTS"] = True
        ROOT_URLCONF = "config.urls"
        WSGI_APPLICATION = "config.wsgi.application"
        DJANGO_APPS = ["django.contrib.auth"]
        THIRD_PARTY_APPS = ["django_celery_beat"]
        INSTALLED_APPS = DJANGO_APPS + THIRD_PARTY_APPS
        STATIC_ROOT = str(ROOT_DIR / "staticfiles")
        STATIC_URL = "/static/"
        MEDIA_ROOT = str(APPS_DIR / "media")
        CELERY_BEAT_SCHEDULER = "django_celery_beat.schedulers:DatabaseScheduler"
        """,
    "config/settings/production.py": """
        from .base import *  # noqa
        from .base import env
        ALLOWED_HOSTS = env.list("DJANGO_ALLOWED_HOSTS", default=["myshop.com", "www.myshop.com"])
        """,
    "config/settings/local.py": "from .base import *\nALLOWED_HOSTS = ['localhost', '0.0.0.0']\n",
    "config/celery_app.py": 'from celery import Celery\napp = Celery("my_shop")\n',
    "config/urls.py": 'urlpatterns = [path("users/", include("my_shop.users.urls", namespace="users"))]\n',
    "my_shop/users/urls.py": 'urlpatterns = [path("ping/", ping), path("redirect/", redirect)]\n',
    "pyproject.toml": PYPROJECT,
    ".python-version": "3.13\n",
    "uv.lock": LOCK.replace(', { name = "web" }', ""),
}


def test_settings_in_a_package(repository: Any) -> None:
    """The settings for production are read, through what they take over; the secret that leads to them is asked for."""
    found = init(repository(COOKIECUTTER))
    assert found.app() == textwrap.dedent("""\
        name = "shop"
        repo = "git@github.com:team/shop.git"
        domain = "myshop.com" # from ALLOWED_HOSTS
        aliases = ["www.myshop.com"]
        wsgi = "config.wsgi:application"
        static_root = "staticfiles"
        health_path = "/users/ping/"
        media = { folder = "my_shop/media" } # uploads (MEDIA_ROOT)
        sync_args = ["--frozen", "--group=production"] # gunicorn is in the group production
        # tls = { letsencrypt = "you@example.com" } # https, once the domain leads to the server: then provision

        [app.processes] # beside the website
        worker = { command = "celery -A config.celery_app worker" }
        beat = { command = "celery -A config.celery_app beat", singleton = true }
        """)
    assert found.todo() == [
        "make DJANGO_SETTINGS_MODULE=config.settings.production a secret in Doppler: manage.py falls back to "
        "config.settings.local, wsgi.py to config.settings.production",
        "make DATABASE_URL a secret in Doppler: it names the database (without it: postgres)",
    ]
    assert "Python: requires-python >=3.11, .python-version 3.13; uv reads it" in found.said


WORKSPACE = {
    "pyproject.toml": '[tool.uv.workspace]\nmembers = ["apps/web", "packages/greeting"]\n',
    "uv.lock": LOCK.replace('virtual = "."', 'virtual = "apps/web"'),
    "apps/web/pyproject.toml": PYPROJECT,
    "apps/web/manage.py": MANAGE.format("config.settings"),
    "apps/web/config/settings.py": """
        import os
        BASE_DIR = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        REPOSITORY = os.path.dirname(os.path.dirname(BASE_DIR))
        ALLOWED_HOSTS = [host.strip() for host in os.environ.get("HOSTS", "localhost,.shop.example.org").split(",")]
        ROOT_URLCONF = "config.urls"
        DATABASES = {"default": {"ENGINE": "django.db.backends.postgresql", "NAME": os.environ["DB_NAME"]}}
        STATIC_ROOT = os.path.join(REPOSITORY, "var", "static")
        STATIC_URL = "/assets/"
        MEDIA_ROOT = os.getenv("MEDIA", os.path.join(REPOSITORY, "var/media"))
        CACHES = {"default": {
            "BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": f"{REPOSITORY}/var/cache",
        }}
        """,
    "apps/web/config/wsgi.py": WSGI.format("config.settings"),
    "apps/web/config/urls.py": "urlpatterns = [re_path(r'^up/$', up), path('ht/', include('health_check.urls'))]\n",
    "packages/greeting/pyproject.toml": '[project]\nname = "greeting"\nversion = "1"\n',
    "Procfile": """
        release: python manage.py migrate
        web: gunicorn config.wsgi
        worker: python manage.py db_worker --queue-name "mail"
        mail-beat: uv run celery -A config beat --schedule=var/beat
        bad: celery worker --concurrency=$WORKERS
        """,
}


def test_a_member_of_a_workspace(repository: Any) -> None:
    """The project lies in a folder, its static files above it; a Procfile says what runs beside it."""
    found = init(repository(WORKSPACE, origin="https://x-token:hunter2@git.example.org/team/shop"))
    assert found.app() == textwrap.dedent("""\
        name = "shop"
        repo = "https://git.example.org/team/shop"
        domain = "shop.example.org" # from ALLOWED_HOSTS
        project = "apps/web"
        wsgi = "config.wsgi:application"
        static_root = "../../var/static"
        static_url = "/assets/"
        health_path = "/up/"
        media = { folder = "var/media" } # uploads (MEDIA_ROOT)
        linked_dirs = ["var/cache"] # cache of files
        # tls = { letsencrypt = "you@example.com" } # https, once the domain leads to the server: then provision

        [app.processes] # beside the website
        worker = { command = "manage.py db_worker --queue-name mail" }
        mail_beat = { command = "celery -A config beat --schedule /var/lib/shop-mail_beat/schedule", singleton = true }
        """)
    assert "database: postgresql, from DB_NAME: secrets in Doppler" in found.said
    assert found.todo() == [
        "Procfile, bad: not taken over, no shell runs it, and it has what only a shell reads: "
        "celery worker --concurrency=$WORKERS",
        "the address of origin holds a login, which was left out: a server needs a deploy key",
    ]
    assert "hunter2" not in found.text + found.said


@pytest.mark.parametrize(
    ("metadata", "todo"),
    [
        (PYPROJECT + '[build-system]\nrequires = ["hatchling"]\n', []),
        (
            PYPROJECT,
            ["shop.wsgi lies in src, where gunicorn does not look: a gunicorn.conf.py beside manage.py with "
             'pythonpath = "src"'],
        ),
    ],
)  # fmt: skip
def test_a_src_layout(metadata: str, todo: list[str], repository: Any) -> None:
    """A package below src is found, whether uv installs it or not; its static files lie where BASE_DIR puts them."""
    moved = {f"src/{name}" if name.startswith("shop/") else name: text for name, text in PLAIN.items()}
    found = init(repository({**moved, "pyproject.toml": metadata}))
    assert 'wsgi = "shop.wsgi:application"\nstatic_root = "src/staticfiles"' in found.text
    assert 'media = { folder = "src/media" }' in found.text
    assert found.todo() == todo


def test_of_several_projects_the_shallowest_counts(repository: Any) -> None:
    """The others are named; the folder of one of them, given, chooses it."""
    other = {f"examples/demo/{name}": text.replace("shop", "demo") for name, text in PLAIN.items() if "/" not in name}
    root = repository({**PLAIN, **other, "examples/demo/demo/wsgi.py": WSGI.format("demo.settings")})
    found = init(root)
    assert "manage.py: manage.py (not: examples/demo/manage.py)" in found.said
    assert 'wsgi = "shop.wsgi:application"' in found.text
    chosen = init(root / "examples", to="demo.toml")
    assert 'project = "examples/demo"\nwsgi = "demo.wsgi:application"' in chosen.text


@pytest.mark.parametrize(
    ("files", "commands"),
    [
        ({"requirements.txt": "django"}, ["uv init --bare", "uv add -r requirements.txt", "uv add gunicorn"]),
        (
            {"requirements/base.txt": "django", "requirements/production.txt": "-r base.txt"},
            ["uv init --bare", "uv add -r requirements/production.txt", "uv add gunicorn"],
        ),
        ({"pyproject.toml": "[tool.poetry]\nname = 'x'"}, ["uvx migrate-to-uv", "uv add gunicorn"]),
        ({}, ["uv init --bare", "uv add django gunicorn"]),
    ],
)
def test_what_is_no_uv_project_is_refused(files: dict[str, str], commands: list[str], repository: Any) -> None:
    """The commands that make one of it are given, and nothing is written."""
    with pytest.raises(ConfigError, match="this is no uv project") as caught:
        init(repository({**PLAIN, "pyproject.toml": None, "uv.lock": None, **files}))
    assert [line.strip() for line in caught.value.hint.splitlines()[1:]] == commands
    assert not Path("hosts.toml").exists()


def test_what_is_no_django_is_refused(repository: Any) -> None:
    """A manage.py of something else is none."""
    root = repository({"manage.py": "print('hello')", "pyproject.toml": PYPROJECT})
    with pytest.raises(ConfigError, match=r"there is no manage\.py of Django in .*/shop$"):
        init(root)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"uv.lock": None}, "there is no uv.lock: uv lock, and commit it"),
        ({"uv.lock": LOCK.replace("gunicorn", "waitress")}, "gunicorn is not among the dependencies: uv add gunicorn"),
        (
            {"shop/settings.py": SETTINGS.replace("STATIC_ROOT", "X")},
            "STATIC_ROOT is not set: in the settings, STATIC_",
        ),
        (
            {"shop/settings.py": SETTINGS + "STATIC_ROOT = '/var/www/x'"},
            "STATIC_ROOT is /var/www/x, and must be a folder",
        ),
        (
            {"shop/settings.py": SETTINGS + "STATIC_ROOT = BASE_DIR"},
            "STATIC_ROOT is ., and must be a folder of its own",
        ),
        ({"shop/settings.py": SETTINGS + "STATIC_ROOT = f()"}, "what STATIC_ROOT is, the settings do not tell"),
        ({"shop/settings.py": SETTINGS + "MEDIA_ROOT = '/mnt/up'"}, "MEDIA_ROOT is /mnt/up: the app may write only to"),
        (
            {"shop/settings.py": SETTINGS + "MEDIA_ROOT = BASE_DIR / 'a b'"},
            "media: must be a path inside the repository",
        ),
        (
            {"shop/settings.py": SETTINGS + "STATIC_URL = 'https://cdn.x/'"},
            "STATIC_URL is https://cdn.x/: nginx serves",
        ),
        ({"shop/settings.py": SETTINGS + "DATABASES = {'default': env.db()}"}, "make DATABASE_URL a secret in Doppler"),
        (
            {"shop/urls.py": "urlpatterns = []"},
            "no path looks like a health check: add these lines at the end of shop/urls.py",
        ),
        ({"shop/urls.py": "urlpatterns = i18n_patterns(path('up/', up))"}, "no path looks like a health check: add"),
        ({".python-version": "my-env"}, ".python-version says my-env, which uv does not know"),
        ({"manage.py": "import django"}, "make DJANGO_SETTINGS_MODULE=shop.settings a secret in Doppler"),
    ],
)
def test_what_is_not_as_it_must_be_is_told(changes: dict[str, str | None], told: str | None, repository: Any) -> None:
    """Each with what to do about it, and the file is written all the same."""
    found = init(repository({**PLAIN, **changes}), address="192.0.2.1", domain="shop.example")
    assert any(line.startswith(told) for line in found.todo()) if told else found.todo() == []
    assert check_hosts(Path("hosts.toml"), {})[0].state == "ok"


def test_a_database_in_a_folder_of_its_own(repository: Any) -> None:
    """Its folder is linked: SQLite writes beside the file too, and nobody has to put a first one there."""
    settings = SETTINGS.replace('"db.sqlite3"', '"var/data/db.sqlite3"')
    assert 'linked_dirs = ["var/data"]' in init(repository({**PLAIN, "shop/settings.py": settings})).text


@pytest.mark.parametrize(
    ("url", "line"),
    [
        ("", 'media = { folder = "media" }'),
        ("'uploads/'", 'media = { folder = "media", url = "/uploads/" }'),
        ("'/'", 'linked_dirs = ["media"]'),
        ("'https://cdn.example.org/'", 'linked_dirs = ["media"]'),
    ],
)
def test_uploads_are_shown_where_pages_look_for_them(url: str, line: str, repository: Any) -> None:
    """At MEDIA_URL, when that is a path on this site; else they are only kept."""
    settings = SETTINGS + (f"MEDIA_URL = {url}\n" if url else "")
    assert f"{line} # uploads (MEDIA_ROOT)" in init(repository({**PLAIN, "shop/settings.py": settings})).text


def test_the_lines_for_a_health_path_work(repository: Any) -> None:
    """What is shown to be added to urls.py can be copied as it stands: six lines, after which `init` finds the path."""
    root = repository({**PLAIN, "shop/urls.py": "urlpatterns = []\n"})
    lines = init(root).said.partition("shop/urls.py\n\n")[2].splitlines()[:6]
    with (root / "shop/urls.py").open("a") as urls:
        urls.write("\n".join(lines))
    compile((root / "shop/urls.py").read_text(), "urls.py", "exec")
    again = init(root, to="again.toml")
    assert 'health_path = "/healthz"' in again.text
    assert again.todo() == []


@pytest.mark.parametrize(
    ("expression", "folder"),
    [
        ("BASE_DIR.parent / 'x'", None),
        ("os.path.join(BASE_DIR, 'public', 'x')", "public/x"),
        ("BASE_DIR.joinpath('a').joinpath('b')", "a/b"),
        ("str(BASE_DIR / 'a') + '/b'", "a/b"),
        ("f'{BASE_DIR}/a/b'", "a/b"),
        ("env('STATIC_ROOT', default=str(BASE_DIR / 'a'))", "a"),
        ("env.str('STATIC_ROOT', str(BASE_DIR / 'a'))", "a"),
        ("os.environ.get('STATIC_ROOT', BASE_DIR / 'a')", "a"),
        ("os.environ.get('STATIC_ROOT') or os.path.join(BASE_DIR, 'a')", "a"),
        ("config('STATIC_ROOT', default=BASE_DIR / 'a')", "a"),
        ("Path(__file__).parents[1] / 'a'", "a"),
        ("(environ.Path(__file__) - 2)('a')", None),
        ("ROOT('a')", "a"),
        ("ROOT.path('a', 'b')", "a/b"),
        ("os.path.normpath(os.path.join(os.path.dirname(__file__), '../a'))", "a"),
        ("'a' if DEBUG else BASE_DIR / 'b'", "b"),
        ("'collected'", "collected"),
        ("f()", None),
    ],
)
def test_static_root_is_read_in_many_words(expression: str, folder: str | None, repository: Any) -> None:
    """As Django's own template, Wagtail's, cookiecutter-django's and others write it."""
    root = "import os, environ\nROOT = environ.Path(__file__) - 2\n"
    found = init(repository({**PLAIN, "shop/settings.py": f"{root}{SETTINGS}STATIC_ROOT = {expression}\n"}))
    assert (f'static_root = "{folder}"' in found.text) if folder else ("static_root" not in found.text)


def test_wagtails_template(repository: Any) -> None:
    """`wagtail start` lets manage.py and wsgi.py fall back to dev: production is read, and asked for as a secret."""
    found = init(
        repository(
            {
                **PLAIN,
                "manage.py": MANAGE.format("shop.settings.dev"),
                "shop/wsgi.py": WSGI.format("shop.settings.dev"),
                "shop/settings.py": None,
                "shop/settings/__init__.py": "",
                "shop/settings/base.py": SETTINGS.replace(".parent.parent", ".parent.parent.parent"),
                "shop/settings/dev.py": 'from .base import *\nALLOWED_HOSTS = ["*"]\n',
                "shop/settings/production.py": """
                    from .base import *
                    try:
                        from .local import *
                    except ImportError:
                        pass
                    """,
            }
        )
    )
    assert found.todo() == [
        "make DJANGO_SETTINGS_MODULE=shop.settings.production a secret in Doppler: manage.py falls back to "
        "shop.settings.dev, wsgi.py to shop.settings.dev"
    ]
    assert 'static_root = "staticfiles"' in found.text


@pytest.mark.parametrize(
    ("urls", "path"),
    [
        ("urlpatterns = [path('ping', v), path('health/', v)]", "/health/"),
        ("urlpatterns = [path('api/', include(('shop.api', 'api')))]", "/api/livez"),
        ("urlpatterns = [path('ht/', include('health_check.urls'))]", "/ht/"),
        ("urlpatterns = [url(r'^health/?$', View.as_view(), name='up')]", "/health/"),
        ("urlpatterns = [path('', include('shop.urls')), path('<int:n>/up', v)] + [path('up', v)]", "/up"),
        ("urlpatterns = [path('', include(router.urls)), *more, path('healthz/', v)]", "/healthz/"),
    ],
)
def test_a_health_path_is_found(urls: str, path: str, repository: Any) -> None:
    """In the URL modules, and in those that they include; of several, the best known name."""
    found = init(repository({**PLAIN, "shop/urls.py": urls, "shop/api.py": "urlpatterns = [path('livez', v)]"}))
    assert f'health_path = "{path}"' in found.text


@pytest.mark.parametrize(
    ("app", "command"),
    [
        ("django_q", "manage.py qcluster"),
        ("procrastinate.contrib.django", "manage.py procrastinate worker"),
        ("django_tasks_db", "manage.py db_worker"),
    ],
)
def test_a_queue_that_is_installed_has_a_worker(app: str, command: str, repository: Any) -> None:
    """The packages that have a command for it."""
    settings = SETTINGS + f"INSTALLED_APPS = ['shop']\nINSTALLED_APPS.append('{app}')\n"
    assert f'worker = {{ command = "{command}" }}' in init(repository({**PLAIN, "shop/settings.py": settings})).text


def test_a_schedule_of_celery_needs_a_file(repository: Any) -> None:
    """beat keeps it where it may write, in a folder that systemd makes for it."""
    celery = "from celery import Celery\napp = Celery('shop')\napp.conf.beat_schedule = {}\n"
    found = init(repository({**PLAIN, "shop/celery.py": celery}), address="192.0.2.1", domain="shop.example")
    assert 'worker = { command = "celery -A shop worker" }' in found.text
    (host,) = load(Path("hosts.toml"), {}).select("web")
    assert host.settings.processes["beat"].command == ("celery -A shop beat --schedule /var/lib/shop-beat/schedule")
    assert host.settings.processes["beat"].kind == "singleton"


def test_an_asgi_app_alone(repository: Any) -> None:
    """What gunicorn needs to serve it is said."""
    asgi = {"shop/wsgi.py": None, "shop/asgi.py": WSGI.format("shop.settings")}
    found = init(repository({**PLAIN, **asgi, "shop/settings.py": SETTINGS.replace("WSGI_APPLICATION", "X")}))
    assert 'wsgi = "shop.asgi:application"' in found.text
    assert 'worker_class = "uvicorn_worker.UvicornWorker"' in found.todo()[0]


def test_a_python_that_contradicts_the_project(repository: Any) -> None:
    """`python` is set only where the two files that uv reads disagree."""
    found = init(repository({**PLAIN, ".python-version": "3.9.1\n"}))
    assert 'python = "3.11" # .python-version says 3.9.1, requires-python >=3.11' in found.text


def test_the_sample_site(repository: Any) -> None:
    """What the lab's own hosts.toml says of the sample site is found in it."""
    root = repository({"README": ""})
    shutil.copytree(SITE, root, dirs_exist_ok=True)
    init(root, domain="consult.lab", address="192.0.2.1", name="consult")
    (host,) = load(Path("hosts.toml"), {}).select("web")
    ours = load(PROJECT / "hosts.toml", {}).draft("lab")[0].settings
    for key in ("name", "project", "wsgi", "static_root", "static_url", "health_path", "path", "sync_args", "manage"):
        assert getattr(host.settings, key) == getattr(ours, key), key


def test_the_default_branch_is_the_remotes(repository: Any, tmp_path: Path) -> None:
    """Of a clone, whatever is checked out there; `main` needs no line."""
    origin = repository({**PLAIN})
    git(origin, "checkout", "-q", "-b", "trunk")
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message=all")
    git(tmp_path, "clone", "--quiet", str(origin), "clone")
    git(tmp_path / "clone", "checkout", "-q", "-b", "work")
    found = init(tmp_path / "clone")
    assert 'branch = "trunk"' in found.text
    assert 'repo = "" # FILL IN' in found.text
    assert found.todo() == [f"a server cannot clone from the address of origin: {origin}"]


def test_an_address_is_cloned_and_gone(repository: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`fab init ADDRESS` looks into a clone of its own, and leaves nothing of it."""
    origin = repository(PLAIN)
    git(origin, "add", "--all")
    git(origin, "commit", "--quiet", "--message=all")
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "tmp").mkdir()
    found = init(f"file://{origin}")
    assert f'repo = "file://{origin}"' in found.text
    assert 'wsgi = "shop.wsgi:application"' in found.text
    assert list((tmp_path / "tmp").iterdir()) == []
    with pytest.raises(ConfigError, match="cannot be cloned here") as caught:
        init(f"file://{tmp_path}/none", to="-")
    assert "does not" in caught.value.evidence
    with pytest.raises(ConfigError, match=r"^https://127\.0\.0\.1:9/none cannot") as caught:
        init("https://hunter2@127.0.0.1:9/none", to="-")
    assert "hunter2" not in f"{caught.value.message}{caught.value.evidence}"


@pytest.mark.parametrize("where", ["nowhere", "ext::sh -c id", "--upload-pack=id", "https://a:b@x.example/y"])
def test_what_is_neither_folder_nor_address_is_refused(where: str) -> None:
    """No command is run for it."""
    with pytest.raises(ConfigError, match="is no folder, and no git address"):
        init(where)


def test_a_hosts_toml_is_never_written_over(repository: Any) -> None:
    """It stays as it is; --to names another file, or standard output."""
    root = repository(PLAIN)
    Path("hosts.toml").write_text("mine")
    with pytest.raises(ConfigError, match=r"hosts\.toml is there already, and stays as it is") as caught:
        init(root)
    assert "--to=-" in caught.value.hint
    assert Path("hosts.toml").read_text() == "mine"
    assert f"export DJANGO_DEPLOY_HOSTS={Path('other.toml').absolute()}" in init(root, to="other.toml").said
    assert Path("other.toml").read_text().startswith("# How `fab` puts shop live")


def test_without_a_path_the_file_stands_at_the_top_of_the_repository(
    repository: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There a run finds it, from wherever in the repository it is called."""
    root = repository(PLAIN)
    monkeypatch.chdir(root / "shop")
    stream = io.StringIO()
    module.init(Console(stream=stream), None, {}, "")
    assert (root / "hosts.toml").exists()
    assert "DJANGO_DEPLOY_HOSTS" not in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_person_is_asked_for_what_no_file_says(repository: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal domain and address are asked for, until they fit; what stays open is marked as ever."""
    asked: list[str] = []
    answers = iter(["my shop", "shop.example.com", ""])
    monkeypatch.setattr("builtins.input", lambda prompt: asked.append(prompt) or next(answers))
    monkeypatch.setattr(sys, "stdin", Terminal())
    root = repository(PLAIN)
    module.init(Console(stream=Terminal()), str(root), {}, "")
    text = Path("hosts.toml").read_text()
    assert 'domain = "shop.example.com"\n' in text
    assert 'address = "" # FILL IN' in text
    assert [prompt.split(",")[0] for prompt in asked] == ["the server name", "the server name", asked[2].split(",")[0]]
    assert asked[2] == "the server's IP address or DNS name (Enter leaves it open): "


def test_options_are_checked_before_anything_is_read() -> None:
    """A wrong one is told by its name."""
    with pytest.raises(ConfigError, match=r"^--name: must be a-z, 0-9 and -"):
        init("nowhere", name="My Shop")


def test_nothing_of_the_app_is_run(repository: Any, tmp_path: Path) -> None:
    """Every module of the repository would leave a mark if it were imported; links out of it are not followed."""
    mark = f"\n__import__('pathlib').Path({str(tmp_path / 'ran')!r}).touch()\n"
    root = repository({name: text + mark if name.endswith(".py") else text for name, text in COOKIECUTTER.items()})
    (tmp_path / "secret.py").write_text("STATIC_ROOT = 'hunter2'")
    (root / "config/settings/production.py").unlink()
    (root / "config/settings/production.py").symlink_to(tmp_path / "secret.py")
    found = init(root)
    assert "hunter2" not in found.text + found.said
    assert 'wsgi = "config.wsgi:application"' in found.text
    assert not (tmp_path / "ran").exists()


def test_broken_files_are_borne(repository: Any) -> None:
    """A module or a TOML file that cannot be read is one that says nothing."""
    broken = dict.fromkeys(("shop/urls.py", "uv.lock", "shop/settings.py"), "def (\0")
    found = init(repository({**PLAIN, **broken, ".python-version": "", "Procfile": "\xff: ???\n"}))
    assert 'wsgi = "shop.wsgi:application"' in found.text


@pytest.fixture
def fab(repository: Any, tmp_path: Path) -> Any:
    root = repository(PLAIN)

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        environment = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        command = [Path(sys.executable).with_name("fab"), "--search-root", PROJECT, *words]
        return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize(
    ("words", "code", "name"),
    [
        (("init", "--to=-"), 0, "shop"),
        (("init", ".", "--to=-"), 0, "shop"),
        (("init", "--to", "-", "."), 0, "shop"),
        (("init", "--name", "store", "--to", "-"), 0, "store"),
        (("init", "--name=store", "--to=-", "--repository=."), 0, "store"),
        (("init", "nowhere", "--to=-"), 2, ""),
    ],
)
def test_the_path_may_be_left_out(words: tuple[str, ...], code: int, name: str, fab: Any) -> None:
    """With a word behind it or without; with --to=- the file alone is on standard output."""
    done = fab(*words)
    assert done.returncode == code, done.stderr
    assert (f'name = "{name}"' in done.stdout) if name else done.stdout == ""
    assert ("Found:" in done.stderr) if name else ("is no folder" in done.stderr)


def test_a_health_path_to_add_comes_before_a_route_that_takes_everything(repository: Any) -> None:
    """A site of pages, or an app in the browser, mostly ends with one."""
    found = init(repository({**PLAIN, "shop/urls.py": "urlpatterns = [re_path('.*', page)]\n"}))
    assert '\nurlpatterns = [path("healthz", healthz), *urlpatterns]\n' in found.said
