"""Virtualenvs on real bash and uv: what releases of one lock file share, and what each has for itself."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile.config.layout import Release
from fabfile.steps import django
from fabfile.steps import release as steps
from testbed.sample import sample

from .local_host import World, eventually

FIRST, SECOND, THIRD = (f"2026010{day}T000000Z-abcdef0" for day in (1, 2, 3))
SYSTEM = "[build-system]\nrequires = ['hatchling']\nbuild-backend = 'hatchling.build'\n"
SCRIPT = "[project.scripts]\nshop = 'shop:main'\n"


@pytest.fixture(scope="module")
def locks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """pyproject.toml and uv.lock of a plain project, of one with a package more, and of a packaged one."""
    start = "[project]\nname = 'shop'\nversion = '1'\nrequires-python = '>=3.9'\n"
    texts = {
        "plain": f"{start}dependencies = ['gunicorn']\n",
        "more": f"{start}dependencies = ['gunicorn', 'iniconfig']\n",
        "packaged": f"{start}dependencies = ['gunicorn']\n{SCRIPT}{SYSTEM}",
    }
    found = {}
    for name, text in texts.items():
        folder = tmp_path_factory.mktemp(name)
        (folder / "pyproject.toml").write_text(text)
        subprocess.run(["uv", "lock", "--quiet"], cwd=folder, check=True)
        found[name] = (text, (folder / "uv.lock").read_text())
    return found


def commit(world: World, name: str, files: tuple[str, str], greeting: str = "") -> Release:
    """A release as `check_out` leaves it, with a project of these files and, if it greets, a package `shop`."""
    release = world.release(name)
    texts = dict(zip(("pyproject.toml", "uv.lock"), files, strict=True))
    if greeting:
        texts["shop/__init__.py"] = f"def main():\n    print({greeting!r})\n"
    for path, text in texts.items():
        Path(release.project, path).parent.mkdir(exist_ok=True)
        Path(release.project, path).write_text(text)
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=release.root, check=True)
    return release


def packages(release: Release) -> Path:
    return next(Path(release.venv).glob("lib/python*/site-packages"))


def said(release: Release, *words: str) -> str:
    """What a program of its virtualenv prints."""
    command = [f"{release.venv}/bin/{words[0]}", *words[1:]]
    return subprocess.run(command, cwd="/", capture_output=True, text=True, check=True).stdout.strip()


def share(one: Release, other: Release) -> bool:
    """Whether gunicorn is the same folder for both."""
    return (packages(one) / "gunicorn").samefile(packages(other) / "gunicorn")


def test_releases_of_one_lock_file_share_their_packages(world: World, locks: dict[str, tuple[str, str]]) -> None:
    """Nothing is installed for the second one, not even when uv's cache is gone; another lock file has its own."""
    first, second = (commit(world, each, locks["plain"]) for each in (FIRST, SECOND))
    third = commit(world, THIRD, locks["more"])
    world.run(django.build_virtualenv(world.settings, first))
    shutil.rmtree(world.layout.cache)
    world.override('uv() { [ "$1" != sync ] || exit 3; command uv "$@"; }')
    world.twice(django.build_virtualenv(world.settings, second))
    world.overrides.pop()
    world.run(django.build_virtualenv(world.settings, third))
    assert share(first, second)
    assert not share(first, third)
    assert said(second, "gunicorn", "--version").startswith("gunicorn")
    assert [(packages(each) / "iniconfig").exists() for each in (first, second, third)] == [False, False, True]


def test_a_packaged_project_is_each_releases_own(world: World, locks: dict[str, tuple[str, str]]) -> None:
    """Its code and its scripts lead to their release, with another one gone too; only the other packages are shared."""
    first, second = commit(world, FIRST, locks["packaged"], "first"), commit(world, SECOND, locks["packaged"], "second")
    world.run(django.build_virtualenv(world.settings, first))
    world.twice(django.build_virtualenv(world.settings, second))
    assert share(first, second)
    assert (said(first, "shop"), said(second, "shop")) == ("first", "second")
    shutil.rmtree(first.root)
    assert said(second, "shop") == said(second, "python", "-c", "import shop; shop.main()") == "second"
    assert said(second, "python", "-c", "import gunicorn; print(gunicorn.__file__)").startswith(str(second.venv))
    assert said(second, "gunicorn", "--version").startswith("gunicorn")
    shared = Path(second.notes, "virtualenv").resolve()
    script = Path(second.venv, "bin/gunicorn").read_text()
    assert f"{second.venv}/bin/python" in script
    assert str(shared) not in script
    assert [path.name for path in shared.rglob("*shop*")] == []


def test_what_is_copied_from_the_commit_is_never_shared(world: World, locks: dict[str, tuple[str, str]]) -> None:
    """With --no-editable, the commit's own code lies among the packages."""
    world.settings = sample(sync_args=("--frozen", "--no-editable"))
    first, second = commit(world, FIRST, locks["packaged"], "first"), commit(world, SECOND, locks["packaged"], "second")
    for release in (first, second):
        world.run(django.build_virtualenv(world.settings, release))
    assert not share(first, second)
    assert (said(first, "shop"), said(second, "shop")) == ("first", "second")


def test_what_was_not_built_to_its_end_is_not_shared(world: World, locks: dict[str, tuple[str, str]]) -> None:
    """After a cut build, or a power cut, unless the disk had all of it; and `deploy --force` wants none of before."""
    first, second, third = (commit(world, each, locks["plain"]) for each in (FIRST, SECOND, THIRD))
    world.run(django.build_virtualenv(world.settings, first))
    mark = Path(first.notes, "virtualenv", ".whole")
    for text in ("", "0f3c2f0e-1c1b-4b1a-9d0e-000000000000\n"):  # a cut build; another boot
        mark.write_text(text)
        world.run(django.build_virtualenv(world.settings, second))
        assert not share(first, second)
        for folder in (second.venv, Path(second.notes, "virtualenv").resolve()):
            shutil.rmtree(folder)
    world.run(steps.mark_built(first))
    world.run(django.build_virtualenv(world.settings, second))
    assert share(first, second)
    world.run(django.build_virtualenv(world.settings, third, anew=True))
    assert not share(first, third)


def test_virtualenvs_go_with_the_last_release_that_leads_to_them(
    world: World, locks: dict[str, tuple[str, str]]
) -> None:
    """The newest stays even so: that of a release that failed is what the next one needs."""
    first, second, third = (commit(world, each, locks["plain"]) for each in (FIRST, SECOND, THIRD))
    for release in (first, second, third):
        world.run(django.build_virtualenv(world.settings, release, anew=True))
    built = [Path(each.notes, "virtualenv").resolve() for each in (first, second, third)]
    for release in (first, third):
        shutil.rmtree(release.root)
    Path(second.notes, "good").touch()
    world.run(steps.prune(world.settings))
    assert [path.exists() for path in built] == [False, True, True]
    assert said(second, "gunicorn", "--version").startswith("gunicorn")


def test_code_that_did_not_change_stays_compiled(world: World, locks: dict[str, tuple[str, str]]) -> None:
    """A new release takes over what the live one has of the same sources, though git has written them anew."""
    first, second, third = (
        commit(world, name, locks["plain"], greeting)
        for name, greeting in ((FIRST, "same"), (SECOND, "same"), (THIRD, "other"))
    )
    world.run(django.build_virtualenv(world.settings, first))
    world.link(first)
    compiled = f"shop/__pycache__/__init__.{sys.implementation.cache_tag}.pyc"
    said(first, "python", "-m", "compileall", "-q", f"{first.project}/shop")
    for release in (second, third):
        world.run(django.build_virtualenv(world.settings, release))
    assert Path(second.project, compiled).samefile(Path(first.project, compiled))
    assert not Path(third.project, compiled).exists()


def test_a_release_that_installs_more_changes_no_other(world: World, locks: dict[str, tuple[str, str]]) -> None:
    """What is shared is closed, but for compiled files; what a command of a release adds is its own. Both can go."""
    first, second = (commit(world, each, locks["plain"]) for each in (FIRST, SECOND))
    for release in (first, second):
        world.run(django.build_virtualenv(world.settings, release))
    shared = Path(second.notes, "virtualenv").resolve()
    folders = [path for path in next(shared.glob("lib/*/site-packages")).rglob("*") if path.is_dir()]
    closed = [path for path in folders if path.name != "__pycache__"]
    assert {path.stat().st_mode & 0o222 for path in closed} == {0}
    assert all(Path(folder).stat().st_mode & 0o200 for folder, _, _ in os.walk(second.root))  # so it can be taken away
    assert all((path / "__pycache__").stat().st_mode & 0o200 for path in closed if any(path.glob("*.py")))
    install = ["uv", "pip", "install", "--quiet", "--python", second.python, "iniconfig"]
    subprocess.run(install, check=True)
    assert [(packages(each) / "iniconfig").exists() for each in (first, second)] == [False, True]
    assert not list(shared.rglob("iniconfig*"))
    for release in (first, second):
        shutil.rmtree(release.root)
    newer = commit(world, THIRD, locks["plain"])
    world.run(django.build_virtualenv(world.settings, newer, anew=True))
    world.run(steps.prune(world.settings))
    assert eventually(lambda: not list(Path(world.layout.releases).glob(".trash-*")))
