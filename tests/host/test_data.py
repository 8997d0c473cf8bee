"""Where an app's data lies: asked of real Djangos, old and new, and judged."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fabfile.config.layout import Release
from fabfile.config.settings import Media
from fabfile.output import advice
from fabfile.plan.preview import Migration
from fabfile.ssh.runner import StepError
from fabfile.steps import proof
from tests.host.loaded import Loaded
from tests.host.local_host import World

PROGRAMS = Path(__file__).parents[2] / "fabfile/host/programs"
DJANGO = ["django==4.2.*", "django>=5.2,<5.3"]
# It needs `cgi`, which Python 3.13 has no more.
OLDEST = ["django==3.2.25"] if sys.version_info < (3, 13) else []
ID, OLD = "20260102T030405Z-abcdef0", "20260101T030405Z-1111111"

SETTINGS = """
from pathlib import Path
BASE_DIR = Path(__file__).resolve().parent
SECRET_KEY = "x"
USE_TZ = True
INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "notes"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
STATIC_ROOT = BASE_DIR / "staticfiles"
"""
MODELS = """
from django.db import models

class Note(models.Model):
    text = models.TextField()
"""
ASK = """
import json, os, runpy, sys
sys.path.insert(0, os.getcwd())
os.environ["DJANGO_SETTINGS_MODULE"] = "site_settings"
import django
django.setup()
if len(sys.argv) > 2:
    from django.core.management import call_command
    call_command("migrate", verbosity=0)
print(json.dumps(runpy.run_path(sys.argv[1])["answers"]()))
"""
MODULES = (
    "django.core.management.commands.migrate", "django.db.backends.sqlite3.base", "django.db.models",
    "django.contrib.messages.storage", "django.urls", "django.core.files.storage",
)  # fmt: skip


@pytest.fixture(scope="module")
def django_of(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Loaded]]:
    """The Python of a virtualenv with a version of Django, made once."""
    folder = tmp_path_factory.mktemp("djangos")
    made: dict[str, Loaded] = {}

    def make(version: str) -> Loaded:
        if version not in made:
            venv = folder / version.translate({ord(sign): "_" for sign in "=><*,."})
            subprocess.run(["uv", "venv", "--quiet", venv], check=True)
            subprocess.run(["uv", "pip", "install", "--quiet", "--python", venv / "bin/python", version], check=True)
            made[version] = Loaded(venv / "bin/python", *MODULES)
        return made[version]

    yield make
    for python in made.values():
        python.end()


@pytest.fixture
def release(world: World) -> Release:
    """A release of an app whose manage.py lies at the top, with a Python."""
    world.settings = world.settings.model_copy(update={"project": "."})
    release = world.release(ID)
    write(release, SETTINGS)
    subprocess.run(["uv", "venv", "--quiet", str(release.venv)], check=True)
    return release


def write(release: Release, settings: str, models: str = MODELS) -> None:
    app = Path(release.root, "notes")
    (app / "migrations").mkdir(parents=True, exist_ok=True)
    (app / "__init__.py").touch()
    (app / "migrations/__init__.py").touch()
    (app / "models.py").write_text(models)
    Path(release.root, "site_settings.py").write_text(settings)


def ask(python: Loaded, release: Release, *more: str) -> dict[str, Any]:
    """What ask_django.py says in a process that has loaded the release's Django."""
    done = python.run(ASK, PROGRAMS / "ask_django.py", *more, folder=Path(release.root), environment=os.environ)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def judge(world: World, release: Release, answers: Any, *, new: bool = True) -> str:
    """Run the step on these answers; return what it said. Raises StepError."""
    world.override(f"PROOF={world.root}/proof")
    (world.root / "proof").mkdir(exist_ok=True)
    (world.root / "proof/django.json").write_text(json.dumps(answers))
    said = world.twice(proof.data(world.settings, release, new=new))
    assert said[0] == said[1]
    return said[0]


def refused(world: World, release: Release, answers: Any) -> StepError:
    with pytest.raises(StepError) as caught:
        judge(world, release, answers)
    return caught.value


def places(*found: tuple[str, Path | str, str, str]) -> dict[str, Any]:
    names = ("setting", "path", "kind", "use")
    return {"places": [dict(zip(names, map(str, place), strict=True)) for place in found]}


@pytest.mark.parametrize("version", OLDEST + DJANGO)
def test_django_says_where_its_data_lies(django_of: Any, release: Release, version: str) -> None:
    """Databases, uploads, caches, logs, sessions and mails, each by its setting; what is not used does not count."""
    python = django_of(version)
    plain = ask(python, release)
    base = Path(release.root)
    assert (
        plain["places"] == places(('DATABASES["default"]["NAME"]', base / "db.sqlite3", "file", "database"))["places"]
    )
    assert not (base / "db.sqlite3").exists()
    write(
        release,
        SETTINGS
        + """
DATABASES["memory"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
DATABASES["uri"] = {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:data/x.db?mode=rwc"}
MEDIA_ROOT = BASE_DIR / "media"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": "cache"}}
SESSION_ENGINE, SESSION_FILE_PATH = "django.contrib.sessions.backends.file", "/srv/sessions"
LOGGING = {"version": 1, "handlers": {"out": {"class": "logging.FileHandler", "filename": "/dev/null"},
           "file": {"class": "logging.FileHandler", "delay": True, "filename": BASE_DIR / "django.log"}}}
""",
    )
    found = {(place["setting"], place["path"], place["kind"]) for place in ask(python, release)["places"]}
    assert found == {
        ('DATABASES["default"]["NAME"]', str(base / "db.sqlite3"), "file"),
        ('DATABASES["uri"]["NAME"]', str(base / "data/x.db"), "file"),
        ("MEDIA_ROOT", str(base / "media"), "folder"),
        ('CACHES["default"]["LOCATION"]', str(base / "cache"), "folder"),
        ("SESSION_FILE_PATH", "/srv/sessions", "folder"),
        ('the filename of LOGGING["handlers"]["file"]', str(base / "django.log"), "file"),
    }


@pytest.mark.parametrize("version", OLDEST + DJANGO)
@pytest.mark.parametrize(
    ("media_url", "urls", "url", "by_app"),
    [
        ('"files/"', "", "/files/", False),
        ('"/files/"', 're_path("^files/(.*)$", print)', "/files/", True),
        ('"https://cdn.example.org/"', "", "https://cdn.example.org/", False),
        ('""', 'path("pages/", print)', "/", False),
    ],
)
def test_django_says_where_uploads_are_shown(
    django_of: Any, release: Release, version: str, media_url: str, urls: str, url: str, by_app: bool
) -> None:
    """Their folder, the address that pages give them, and whether a route of the app answers there."""
    write(release, f"{SETTINGS}ROOT_URLCONF = 'site_urls'\nMEDIA_ROOT = BASE_DIR / 'up'\nMEDIA_URL = {media_url}\n")
    Path(release.root, "site_urls.py").write_text(f"from django.urls import path, re_path\nurlpatterns = [{urls}]\n")
    said = ask(django_of(version), release)["media"]
    assert said == {"root": str(Path(release.root, "up")), "url": url, "by_app": by_app}


def test_django_without_a_media_root_shows_nothing(django_of: Any, release: Release) -> None:
    """Its working folder is no folder of uploads."""
    assert ask(django_of(DJANGO[-1]), release)["media"] == {}


MANIFEST = """
STATIC_URL, STATIC_ROOT = "/static/", BASE_DIR / "staticfiles"
INSTALLED_APPS = ["django.contrib.staticfiles", *INSTALLED_APPS]
STORAGES = {"default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
            "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}}
"""
READS = "from django.contrib.staticfiles.storage import staticfiles_storage\n"


@pytest.mark.parametrize(
    ("settings", "models", "read"),
    [
        ("", "", False),
        (MANIFEST, READS, False),
        (MANIFEST, f"{READS}staticfiles_storage.base_url\n", True),
        (MANIFEST, "from django.core.files.storage import storages\nstorages['staticfiles']\n", True),
        (MANIFEST.replace("ManifestS", "S"), f"{READS}staticfiles_storage.base_url\n", False),
    ],
)
def test_django_says_whether_it_has_read_the_list_of_static_files(
    django_of: Any, release: Release, settings: str, models: str, read: bool
) -> None:
    """Only a storage with such a list counts, and only when something has used it while the app was loaded."""
    write(release, SETTINGS + settings, models + MODELS)
    assert ask(django_of(DJANGO[-1]), release)["static_list"] is read


@pytest.mark.parametrize("version", DJANGO)
def test_uploads_without_a_media_root_are_told(django_of: Any, release: Release, version: str) -> None:
    """MEDIA_ROOT that is not set means the working folder, and counts where a model takes files."""
    field = MODELS + '    scan = models.FileField(upload_to="scans")\n'
    write(release, SETTINGS, field)
    assert len(ask(django_of(version), release)["places"]) == 2
    (uploads,) = [place for place in ask(django_of(version), release)["places"] if place["use"] == "uploads"]
    assert uploads["setting"].startswith("MEDIA_ROOT, which is not set, but notes.Note.scan takes uploads")
    assert uploads["path"] == str(release.root)
    own = SETTINGS + "MEDIA_ROOT = '/srv/media'\n"
    storage = 'storage=__import__("django.core.files.storage", fromlist="x").FileSystemStorage("/srv/scans"), '
    write(release, own, field.replace('upload_to="scans"', f'{storage}upload_to=""'))
    found = {(place["setting"], place["path"]) for place in ask(django_of(version), release)["places"][1:]}
    assert found == {("MEDIA_ROOT", "/srv/media"), ("the storage of notes.Note.scan", "/srv/scans")}
    files = "django.core.files.storage.FileSystemStorage"
    write(
        release,
        f"""{SETTINGS}
STORAGES = {{"default": {{"BACKEND": "{files}", "OPTIONS": {{"location": "/srv/files"}}}},
            "private": {{"BACKEND": "{files}", "OPTIONS": {{"location": "/srv/private"}}}},
            "staticfiles": {{"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"}}}}
""",
    )
    found = {(place["setting"], place["path"]) for place in ask(django_of(version), release)["places"][1:]}
    assert found == {
        ('STORAGES["default"]["OPTIONS"]["location"]', "/srv/files"),
        ('STORAGES["private"]', "/srv/private"),
    }


@pytest.mark.parametrize("version", OLDEST + DJANGO)
def test_django_says_what_is_applied(django_of: Any, release: Release, version: str) -> None:
    """The migrations of the code, by their files, and those of the database."""
    Path(release.root, "notes/migrations").mkdir(parents=True, exist_ok=True)
    Path(release.root, "notes/migrations/0001_initial.py").write_text(
        "from django.db import migrations\nclass Migration(migrations.Migration):\n    pass\n"
    )
    before = ask(django_of(version), release)["migrations"]
    assert {"notes.0001_initial", "auth.0001_initial"} <= set(before["known"])
    assert before["applied"] == []
    after = ask(django_of(version), release, "migrate")["migrations"]
    assert "notes.0001_initial" in after["applied"]


def test_what_is_not_django_is_not_judged(world: World, release: Release) -> None:
    """Another app answers nothing, and passes."""
    world.override(f"PROOF={world.root}/nowhere")
    assert world.output(proof.data(world.settings, release, new=True)) == ""


def test_data_in_the_release_is_refused(world: World, release: Release) -> None:
    """All places at once, and the lines for hosts.toml, with what stands there already."""
    world.settings = world.settings.model_copy(update={"linked_dirs": ("var",)})
    root = Path(release.root)
    answers = places(
        ('DATABASES["default"]["NAME"]', root / "data/db.sqlite3", "file", "database"),
        ("MEDIA_ROOT", Path(world.layout.app, "media"), "folder", "uploads"),
    )
    Path(world.layout.current).symlink_to(f"releases/{ID}")
    Path(world.layout.app).symlink_to(world.layout.current)
    error = refused(world, release, answers)
    assert "  MEDIA_ROOT (uploads) is media in the release" in error.evidence
    assert 'DATABASES["default"]["NAME"] (database) is data/db.sqlite3 in the release' in error.message
    assert error.message.endswith("; and 1 more")
    assert error.hint == (
        'in hosts.toml: linked_dirs = ["var", "media"] and linked_files = ["data/db.sqlite3"]; '
        "then the same command again"
    )


def uploads(world: World, release: Release, folder: str, url: str = "/media/", by_app: bool = False) -> dict[str, Any]:
    """The answers of a Django that keeps uploads in a folder of its release, which a link may lead to shared/."""
    answers = places(("MEDIA_ROOT", Path(release.root, folder), "folder", "uploads"))
    shared = Path(world.layout.shared, folder)
    if shared.is_dir():
        Path(release.root, folder).symlink_to(shared)
    return answers | {"media": {"root": str(Path(release.root, folder)), "url": url, "by_app": by_app}}


@pytest.mark.parametrize(
    ("url", "by_app", "line"),
    [
        ("/media/", False, 'media = { folder = "files" }'),
        ("/up/", False, 'media = { folder = "files", url = "/up/" }'),
        ("/", False, 'linked_dirs = ["files"]'),
        ("https://cdn.example.org/", False, 'linked_dirs = ["files"]'),
        ("/media/", True, 'linked_dirs = ["files"]'),
    ],
)
def test_uploads_in_the_release_are_refused(world: World, release: Release, url: str, by_app: bool, line: str) -> None:
    """With the line that keeps them and, where pages look for them on this site, shows them."""
    assert refused(world, release, uploads(world, release, "files", url, by_app)).hint == (
        f"in hosts.toml: {line}; then the same command again"
    )


@pytest.mark.parametrize(
    ("media", "url", "by_app", "said"),
    [
        ({}, "/up/", False, 'unseen media = { folder = "files", url = "/up/" }'),
        ({}, "/up/", True, ""),
        ({}, "/", False, ""),
        ({}, "https://cdn.example.org/", False, ""),
        ({"folder": "files", "url": "/up/"}, "/up/", False, ""),
        ({"folder": "files"}, "https://cdn.example.org/", False, ""),
    ],
)
def test_kept_uploads_that_nobody_shows_are_told(
    world: World, release: Release, media: dict[str, str], url: str, by_app: bool, said: str
) -> None:
    """With the line for hosts.toml; not where the app shows them itself, or where they have no address here."""
    (Path(world.layout.shared) / "files").mkdir()
    world.settings = world.settings.model_copy(update={"linked_dirs": ("files",), "media": Media(**media)})
    assert judge(world, release, uploads(world, release, "files", url, by_app)) == said


def test_the_line_of_linked_dirs_has_those_of_hosts_toml(world: World, release: Release) -> None:
    """And the one that is missing; the folder of media has a line of its own."""
    (Path(world.layout.shared) / "files").mkdir()
    world.settings = world.settings.model_copy(update={"linked_dirs": ("data",), "media": Media(folder="files")})
    answers = uploads(world, release, "files")
    answers["places"] += places(("SESSION_FILE_PATH", Path(release.root, "var"), "folder", "sessions"))["places"]
    assert 'linked_dirs = ["data", "var"]' in str(refused(world, release, answers).hint)


def test_nothing_but_uploads_may_lie_where_nginx_shows_all(world: World, release: Release) -> None:
    """A database there would be anybody's."""
    (Path(world.layout.shared) / "files").mkdir()
    world.settings = world.settings.model_copy(update={"media": Media(folder="files")})
    answers = uploads(world, release, "files")
    database = places(('DATABASES["default"]["NAME"]', Path(release.root, "files/db.sqlite3"), "file", "database"))
    answers["places"] += database["places"]
    assert "lies in media.folder, which nginx shows to everybody" in refused(world, release, answers).message


@pytest.mark.parametrize(
    ("media", "url", "reason"),
    [
        ({"folder": "media"}, "/media/", "(MEDIA_ROOT), and media.folder in hosts.toml is media"),
        ({"folder": "files"}, "/up/", "addresses below /up/ (MEDIA_URL), and media.url is /media/"),
        ({"folder": "files"}, "/", 'in the settings, MEDIA_URL = "/media/"'),
    ],
)
def test_uploads_that_nginx_would_not_find_are_refused(
    world: World, release: Release, media: dict[str, str], url: str, reason: str
) -> None:
    """Django and hosts.toml speak of the same folder and address; the way back to an earlier release stays open."""
    (Path(world.layout.shared) / "files").mkdir()
    world.settings = world.settings.model_copy(update={"linked_dirs": ("files",), "media": Media(**media)})
    answers = uploads(world, release, "files", url)
    assert reason in refused(world, release, answers).message
    assert judge(world, release, answers, new=False) == ""


@pytest.mark.parametrize("below", ["", "apps", "apps/web", "tools"])
def test_a_folder_with_code_is_not_to_be_linked(world: World, release: Release, below: str) -> None:
    """The app's code would stay that of the first release for ever: uploads get a folder of their own."""
    world.settings = world.settings.model_copy(update={"project": "apps/web"})
    for folder in ("apps/web", "tools"):
        Path(release.root, folder).mkdir(parents=True, exist_ok=True)
    Path(release.root, "tools/views.py").touch()
    error = refused(world, release, places(("MEDIA_ROOT", Path(release.root, below), "folder", "uploads")))
    assert "a folder with the app's code: give it one of its own" in error.message
    assert "in hosts.toml: linked" not in error.hint


def test_linked_data_passes(world: World, release: Release) -> None:
    """What leads to shared/ passes, also a database that is not there yet; and so do folders of unit_options."""
    shared = Path(world.layout.shared)
    (shared / "media").mkdir()
    for name in ("media", "db.sqlite3"):
        Path(release.root, name).symlink_to(shared / name)
    world.settings = world.settings.model_copy(
        update={
            "linked_dirs": ("media",),
            "linked_files": ("db.sqlite3",),
            "unit_options": {"ReadWritePaths": f"-/mnt/files {world.layout.base}/more", "CacheDirectory": "notes"},
        }
    )
    answers = places(
        ('DATABASES["default"]["NAME"]', Path(release.root, "db.sqlite3"), "file", "database"),
        ("MEDIA_ROOT", Path(release.root, "media"), "folder", "uploads"),
        ('CACHES["default"]["LOCATION"]', "/tmp/cache", "folder", "cache"),
        ("SESSION_FILE_PATH", "/var/cache/notes/sessions", "folder", "sessions"),
        ("FILES", "/mnt/files/x", "folder", "uploads"),
        ("MORE", Path(world.layout.base, "more"), "folder", "uploads"),
        ("LOG", "/tmp/log", "file", "log"),
    )
    assert judge(world, release, answers) == ""


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/var/lib/elsewhere/db.sqlite3", "the service may not write there, only below"),
        ("/srv/consult/db.sqlite3", "the service may not write there, only below"),
        ("/tmp/db.sqlite3", "a restart empties the service's /tmp"),
    ],
)
def test_data_where_the_service_cannot_keep_it_is_refused(
    world: World, release: Release, path: str, words: str
) -> None:
    """Outside of the release, too: the sandbox lets nothing be written there, or empties it."""
    error = refused(world, release, places(('DATABASES["default"]["NAME"]', path, "file", "database")))
    assert words in error.message
    if path.startswith("/var"):
        world.settings = world.settings.model_copy(update={"unit_options": {"ProtectSystem": "full"}})
        assert judge(world, release, places(("DATABASE", path, "file", "database"))) == ""


def test_a_linked_file_that_nobody_makes_is_told(world: World, release: Release) -> None:
    """The command that puts it there is the next one; a database is made by migrate."""
    world.settings = world.settings.model_copy(update={"linked_files": ("conf/local.ini", "db.sqlite3")})
    Path(release.root, "db.sqlite3").symlink_to(Path(world.layout.shared, "db.sqlite3"))
    database = places(("DATABASE", Path(release.root, "db.sqlite3"), "file", "database"))
    error = refused(world, release, database)
    assert f"is not there yet: {world.layout.shared}/conf/local.ini" in error.message
    assert "db.sqlite3" not in error.message
    assert error.hint == "fab -H there link.put conf/local.ini --file YOUR-COPY"
    Path(world.layout.shared, "conf").mkdir()
    Path(world.layout.shared, "conf/local.ini").touch()
    assert judge(world, release, database) == ""


def test_migrations_that_a_release_does_not_know_are_told(world: World, release: Release) -> None:
    """Those that a release has and the database too; not those that squashing has left in the database."""
    old = world.release(OLD)
    subprocess.run(["uv", "venv", "--quiet", str(old.venv)], check=True)
    applied = ["notes.0001_initial", "notes.0002_title", "notes.0000_squashed_long_ago"]
    assert judge(world, release, {"migrations": {"known": applied[:2], "applied": applied}}) == ""
    said = judge(world, old, {"migrations": {"known": applied[:1], "applied": applied}})
    assert proof.ahead(said) == ["notes.0002_title"]


PREVIEW = """
import runpy, sys
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "site_settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
FIRST = """
from django.db import migrations, models
class Migration(migrations.Migration):
    initial = True
    operations = [migrations.CreateModel("Note", [
        ("id", models.BigAutoField(primary_key=True)), ("text", models.TextField())])]
"""
SECOND = """
from django.db import migrations, models
def fill(apps, schema_editor):
    raise RuntimeError("nobody may run this")
class Migration(migrations.Migration):
    atomic = False
    dependencies = [("notes", "0001_initial")]
    operations = [
        migrations.AddField("note", "mood", models.CharField(max_length=9, null=True)),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
"""
THIRD = """
from django.db import migrations
class Broken(migrations.RunSQL):
    def database_forwards(self, *_): raise ValueError("no way\\nat all")
class Migration(migrations.Migration):
    dependencies = [("notes", "0002_mood")]
    operations = [Broken("SELECT 1")]
"""


def previewed(python: Loaded, release: Release) -> list[Migration]:
    """What preview_migrations.py tells of the release's own app."""
    program, folder = PROGRAMS / "preview_migrations.py", Path(release.root)
    done = python.run(PREVIEW, program, "manage.py", folder=folder, environment=os.environ)
    assert done.returncode == 0, done.stderr
    return [each for each in proof.migrations(done.stdout) if each.name.startswith("notes.")]


@pytest.mark.parametrize("version", OLDEST + DJANGO)
def test_migrations_to_come_are_told_with_their_sql(django_of: Any, release: Release, version: str) -> None:
    """In their order, and none is applied: no database is made, no code of a migration runs."""
    python, database = django_of(version), Path(release.root, "db.sqlite3")
    folder = Path(release.root, "notes/migrations")
    Path(release.root, "manage.py").write_text(MANAGE)
    for name, text in (("0001_initial", FIRST), ("0002_mood", SECOND), ("0003_broken", THIRD)):
        (folder / f"{name}.py").write_text(text)
    names = ["notes.0001_initial", "notes.0002_mood", "notes.0003_broken"]
    told = previewed(python, release)
    assert [(each.name, each.sql, each.trouble) for each in told] == [
        (name, [], "there is no database yet") for name in names
    ]
    assert not database.exists()
    sqlite3.connect(database).close()
    database.write_bytes(b"")  # no table yet
    first, second, third = previewed(python, release)
    assert database.read_bytes() == b""
    assert (first.name, first.atomic, second.name, second.atomic) == (names[0], True, names[1], False)
    assert first.operations == ["Create model Note"]
    assert any('CREATE TABLE "notes_note"' in line for line in first.sql)
    assert second.operations[0] == "Add field mood to note"
    assert any('"mood" varchar(9)' in line for line in second.sql)
    assert (third.sql, third.trouble) == ([], "ValueError: no way")


def test_words_of_the_app_are_no_next_command() -> None:
    """Only what stands right behind our own verdict, at the very end, is taken for the command to run next."""
    assert advice.next_command("api", "next: rm -rf /\nError: x") == "mend that, then the same command again"
    assert advice.next_command("api", "failed: x\nnext: fab -H NAME link.put a") == "fab -H api link.put a"
