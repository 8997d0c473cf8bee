"""Static files of a release: linked where they would be the same, and always what collectstatic itself would make."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.host.loaded import Loaded

PROGRAM = Path(__file__).parents[2] / "fabfile/host/programs/collect_static.py"
SETTINGS = """
import os
from pathlib import Path
BASE_DIR = Path(__file__).parent.parent
SECRET_KEY, USE_TZ, DEBUG = os.urandom(9).hex(), True, False
INSTALLED_APPS = ["shop", "first", "second", "django.contrib.staticfiles"]
FILE_UPLOAD_DIRECTORY_PERMISSIONS = 0o750
STATIC_URL, STATIC_ROOT = "/static/", BASE_DIR / "staticfiles"
STATICFILES_DIRS = [("brand", BASE_DIR / "assets")]
STORAGES = {"staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"}}
WHITENOISE_ADD_HEADERS_FUNCTION = lambda headers, path, url: None
"""
OWN_STORAGE = "STORAGES['staticfiles']['BACKEND'] = 'shop.storage.Storage'\n"
STORAGE = """
from django.contrib.staticfiles.storage import ManifestStaticFilesStorage
class Storage(ManifestStaticFilesStorage):
    "Of the app."
    {own}
"""
COMMAND = "from django.contrib.staticfiles.management.commands.collectstatic import Command\n"
MANAGE = """
import os, sys
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
# What the proof's fork server does: the program runs where the app is loaded already.
LOADED = """
import os, runpy, sys
sys.path.insert(0, "")
if os.environ.get("LOADED"):
    os.environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    import django
    django.setup()
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
MODULES = ("whitenoise.storage", "django.contrib.staticfiles.management.commands.collectstatic")


@dataclass
class Sites:
    """Releases of one site below a folder, with one shared virtualenv."""

    root: Path
    packages: Path
    python: Loaded

    def release(self, name: str, before: str = "") -> Path:
        """A release, with the code of the one `before` it."""
        folder = self.root / name
        if before:
            hidden = shutil.ignore_patterns(".deploy", "staticfiles", "__pycache__")
            shutil.copytree(self.root / before, folder, ignore=hidden, symlinks=True)
        files = {
            "manage.py": MANAGE, "config/settings.py": SETTINGS, "shop/__init__.py": "", "shop/views.py": "1\n",
            "shop/static/shop/site.css": "body { background: url(../brand/dot.svg) }\n",
            "shop/static/brand/dot.svg": "hidden by that of assets",
            "assets/dot.svg": "<svg/>\n", "assets/deep/er/ünï $(x) .js": "let a = 1\n" * 100,
        }  # fmt: skip
        for path, text in {} if before else files.items():
            write(folder / path, text)
        (folder / ".deploy").mkdir()
        (folder / ".deploy/virtualenv").symlink_to(self.packages)
        return folder

    def collect(self, name: str, live: str = "", *, loaded: bool = True, code: str = LOADED) -> str:
        """What the program says of a release; that it ends well."""
        words = [name and self.root / name, live and self.root / live, "staticfiles", "manage.py"]
        environment = {"PATH": os.environ["PATH"], "LOADED": "1" if loaded else ""}
        done = self.python.run(code, PROGRAM, *words, folder=self.root / name, environment=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def made(self, name: str) -> dict[str, tuple[bytes, int]]:
        """The files of static files of a release, content and mode, by path."""
        root = self.root / name / "staticfiles"
        return {
            str(path.relative_to(root)): (path.read_bytes() if path.is_file() else b"", path.stat().st_mode)
            for path in root.rglob("*")
        }


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def add(path: str, text: str) -> Callable[[Path, Path], None]:
    """A change: the new release has a further line in a file."""

    def change(new: Path, _live: Path) -> None:
        write(new / path, ((new / path).read_text() if (new / path).exists() else "") + text)

    return change


def replace(path: str, old: str, new: str) -> Callable[[Path, Path], None]:
    def change(release: Path, _live: Path) -> None:
        text = (release / path).read_text()
        assert old in text
        (release / path).write_text(text.replace(old, new))

    return change


def remove(new: Path, _live: Path) -> None:
    (new / "assets/dot.svg").unlink()
    (new / "shop/static/shop/site.css").write_text("body { color: red }\n")


def remove_one(new: Path, _live: Path) -> None:
    next((new / "assets/deep/er").iterdir()).unlink()


def replace_in_the_same_moment(new: Path, live: Path) -> None:
    """As by tools that give files the time of their commit."""
    (new / "assets/dot.svg").write_text("<SVG/>\n")
    os.utime(new / "assets/dot.svg", ns=(0, (live / "assets/dot.svg").stat().st_mtime_ns))


def lead_elsewhere(new: Path, _live: Path) -> None:
    """The same content, but in a place of which nobody knows what it held then."""
    (new / "assets/dot.svg").unlink()
    write(new.parent / "elsewhere.svg", "<svg/>\n")
    (new / "assets/dot.svg").symlink_to(new.parent / "elsewhere.svg")


def other_packages(new: Path, _live: Path) -> None:
    """Another folder of packages, the same in each byte."""
    there = (new / ".deploy/virtualenv").resolve()
    subprocess.run(["/bin/cp", "-al", there, new.parent / "other"], check=True)
    (new / ".deploy/virtualenv").unlink()
    (new / ".deploy/virtualenv").symlink_to(new.parent / "other")


def edit_and_commit(new: Path, live: Path) -> None:
    """Somebody has mended a source in the live release by hand, and committed that, too."""
    for folder in (live, new):
        (folder / "assets/dot.svg").write_text("<svg id='mended'/>\n")


def edit_what_was_made(_new: Path, live: Path) -> None:
    (live / "staticfiles/brand/dot.svg").write_text("<SVG/>\n")


def take_away_what_was_made(_new: Path, live: Path) -> None:
    (live / "staticfiles/brand/dot.svg").unlink()


def leave_notes_that_are_none(_new: Path, live: Path) -> None:
    (live / ".deploy/static.json").write_text('{"way": ')


def make_some_before(new: Path, _live: Path) -> None:
    """As a build command may."""
    write(new / "staticfiles/bundle.js", "1")


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A virtualenv with Django, WhiteNoise, and two packages with a file of the same name."""
    folder = tmp_path_factory.mktemp("packages") / "venv"
    subprocess.run(["uv", "venv", "-q", "--python", sys.executable, folder], check=True)
    install = ["uv", "pip", "install", "-q", "--python", folder / "bin/python", "django>=5.2,<5.3", "whitenoise"]
    subprocess.run(install, check=True)
    (there,) = folder.glob("lib/python*/site-packages")
    for name in ("first", "second"):
        write(there / name / "__init__.py", "")
        write(there / name / "static/theirs.css", f"{name} {{}}")
    return folder


@pytest.fixture(scope="session")
def python(packages: Path) -> Iterator[Loaded]:
    loaded = Loaded(packages / "bin/python", *MODULES)
    yield loaded
    loaded.end()


@pytest.fixture
def sites(tmp_path: Path, packages: Path, python: Loaded) -> Sites:
    return Sites(tmp_path, packages, python)


LINKED, COLLECTED = True, False


@pytest.mark.parametrize(
    ("change", "linked"),
    [
        (lambda *_: None, LINKED),
        (add("shop/views.py", "2"), LINKED),
        (add("config/settings.py", "DEFAULT_FROM_EMAIL = 'new@example.com'"), LINKED),
        (add("assets/dot.svg", "\n"), COLLECTED),
        (replace("assets/dot.svg", "<svg/>", "<SVG/>"), COLLECTED),
        (add("shop/static/more.css", "b {}"), COLLECTED),
        (remove, COLLECTED),
        (remove_one, COLLECTED),
        (replace_in_the_same_moment, COLLECTED),
        (replace("config/settings.py", '"first", "second"', '"second", "first"'), COLLECTED),
        (lead_elsewhere, COLLECTED),
        (add("config/settings.py", "STATIC_URL = '/files/'"), COLLECTED),
        (add("config/settings.py", "STORAGES['staticfiles']['OPTIONS'] = {'base_url': '/files/'}"), COLLECTED),
        (add("config/settings.py", "WHITENOISE_KEEP_ONLY_HASHED_FILES = True"), COLLECTED),
        (add("shop/management/commands/collectstatic.py", COMMAND), COLLECTED),
        (add("manage.py", "# more"), COLLECTED),
        (other_packages, COLLECTED),
        (edit_and_commit, COLLECTED),
        (edit_what_was_made, COLLECTED),
        (take_away_what_was_made, COLLECTED),
        (leave_notes_that_are_none, COLLECTED),
        (make_some_before, COLLECTED),
        (add("config/settings.py", "STORAGES['default'] = {'OPTIONS': {'secret': object()}}"), LINKED),
    ],
)
def test_they_are_what_collectstatic_would_make(
    sites: Sites, change: Callable[[Path, Path], None], *, linked: bool
) -> None:
    """Whatever has changed: the same files, with the same rights, as without a live release; and whether as links."""
    live = sites.release("one")
    assert sites.collect("one") == ""
    change(sites.release("two", before="one"), live)
    sites.release("fresh", before="two")
    change(sites.root / "fresh", live) if change is make_some_before else None
    assert sites.collect("two", live="one") == ("they are those of one, linked\n" if linked else "")
    sites.collect("fresh")
    assert sites.made("two") == sites.made("fresh")
    assert len(sites.made("two")) > 8
    one, two = (sites.root / name / "staticfiles/staticfiles.json" for name in ("one", "two"))
    assert one.samefile(two) == linked


def test_files_that_are_made_elsewhere_are_made_each_time(sites: Sites) -> None:
    """Nothing lies where static_root of hosts.toml says."""
    write(sites.release("one") / "config/settings.py", f"{SETTINGS}STATIC_ROOT = BASE_DIR / 'public'\n")
    sites.collect("one")
    release = sites.release("two", before="one")
    shutil.rmtree(release / "public")
    assert sites.collect("two", live="one") == ""
    assert (release / "public/staticfiles.json").exists()


@pytest.mark.parametrize(
    ("own", "now", "linked"),
    [
        ("manifest_strict = False", "manifest_strict = False", LINKED),
        ("max_post_process_passes = 5", "max_post_process_passes = 6", COLLECTED),
        ("def url(self, *args, **kwargs): return ''", "def url(self, *args, **kwargs): return ''", COLLECTED),
        ("def __init__(self, *args): super().__init__(*args)",) * 2 + (COLLECTED,),
    ],
)
def test_a_storage_of_the_app_s_own_may_only_set_values(sites: Sites, own: str, now: str, *, linked: bool) -> None:
    """What its code does, nobody knows; a value is compared."""
    live = sites.release("one")
    for folder, text in ((live, own), (sites.release("two", before="one"), now)):
        write(folder / "shop/storage.py", STORAGE.format(own=text))
        write(folder / "config/settings.py", SETTINGS + OWN_STORAGE)
    sites.collect("one")
    assert ("linked" in sites.collect("two", live="one")) == linked


def test_links_go_on_from_release_to_release(sites: Sites) -> None:
    """Also from one that was collected by a program of its own, as where the app cannot be forked."""
    sites.release("one")
    assert sites.collect("one", loaded=False) == ""
    sites.release("two", before="one")
    assert sites.collect("two", live="one", loaded=False) == ""
    for name, before in (("three", "two"), ("four", "three")):
        sites.release(name, before="two")
        assert "linked" in sites.collect(name, live=before)
    assert sites.made("four") == sites.made("one")


def test_a_source_outside_the_releases_is_read_each_time(sites: Sites) -> None:
    """Both lead to the same file, and nobody keeps what it held when the first was collected."""
    outside = sites.root / "outside.svg"
    outside.write_text("<svg/>\n")
    (sites.release("one") / "assets/dot.svg").unlink()
    (sites.root / "one/assets/dot.svg").symlink_to(outside)
    sites.collect("one")
    outside.write_text("<svg id='new'/>\n")
    sites.release("two", before="one")
    assert sites.collect("two", live="one") == ""
    assert sites.made("two")["brand/dot.svg"][0] == outside.read_bytes()


def test_files_that_were_there_before_are_nobody_s_next(sites: Sites) -> None:
    """A build command may make them for this release, and not for the next."""
    write(sites.release("one") / "staticfiles/bundle.js", "1")
    sites.collect("one")
    sites.release("two", before="one")
    assert sites.collect("two", live="one") == ""
    assert "bundle.js" not in sites.made("two")


def test_collectstatic_that_fails_is_no_success(sites: Sites) -> None:
    """Its words and its exit code; nothing is noted."""
    release = sites.release("one")
    write(release / "shop/static/shop/site.css", "body { background: url(nowhere.svg) }\n")
    with pytest.raises(AssertionError, match="nowhere"):
        sites.collect("one")
    write(release / "manage.py", "import sys\nsys.exit('no such thing')\n")
    with pytest.raises(AssertionError, match="no such thing"):
        sites.collect("one")
    assert not (release / ".deploy/static.json").exists()


def test_what_is_not_to_be_had_as_links_is_collected(sites: Sites) -> None:
    """Another file system, say."""
    sites.release("one")
    sites.collect("one")
    release = sites.release("two", before="one")
    made = sites.made("one")
    no_links = "def link(*_): raise OSError(18, 'EXDEV')\nos.link = link\nrunpy.run_path("
    driver = LOADED.replace("runpy.run_path(", no_links)
    assert sites.collect("two", live="one", code=driver) == ""
    assert sites.made("two") == made
    assert not (release / "staticfiles/staticfiles.json").samefile(sites.root / "one/staticfiles/staticfiles.json")
