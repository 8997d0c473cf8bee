"""Virtualenvs on real bash and uv: what releases of one lock file share, what each has for itself, what is refused."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile.config.layout import Release
from fabfile.config.settings import Settings
from fabfile.config.texts import VALUED_SYNC_OPTIONS
from fabfile.ssh.runner import StepError
from fabfile.steps import django
from fabfile.steps import release as steps
from fabfile.steps.step import Step
from testbed.sample import VALUES, sample
from tests.host.local_host import World, eventually

BEFORE, FIRST, SECOND, THIRD = (f"2026010{day}T000000Z-abcdef0" for day in (1, 2, 3, 4))
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


def repository(release: Release) -> None:
    """Make a release what `check_out` makes it: a working tree of git."""
    for words in (["init", "--quiet"], ["add", "--all"]):
        subprocess.run(["git", *words], cwd=release.root, check=True)


def commit(world: World, name: str, files: tuple[str, str], greeting: str = "") -> Release:
    """A release as `check_out` leaves it, with a project of these files and, if it greets, a package `shop`."""
    release = world.release(name)
    texts = dict(zip(("pyproject.toml", "uv.lock"), files, strict=True))
    if greeting:
        texts["shop/__init__.py"] = f"def main():\n    print({greeting!r})\n"
    for path, text in texts.items():
        Path(release.project, path).parent.mkdir(exist_ok=True)
        Path(release.project, path).write_text(text)
    repository(release)
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


# A gunicorn put in by hand, which later runs leave there.
SYNC = """
uv() {
  [ "$1" != sync ] || set -- "$@" --inexact
  command uv "$@" || return
  [ "$1" != sync ] || touch "$(echo "$UV_PROJECT_ENVIRONMENT"/lib/python*/site-packages)/gunicorn.py"
}
"""


def a_virtualenv(world: World, name: str) -> tuple[Release, Path, Step]:
    """A release with a virtualenv of its own, its site-packages, and the step that has built it."""
    world.override(SYNC)
    release = world.release(name)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    world.settings = sample(python=version, sync_args=("--frozen", "--no-dev", "--offline"))
    package = '[[package]]\nname = "site"\nversion = "1"\nsource = { virtual = "." }\n'
    lock = f'version = 1\nrequires-python = ">={version}"\n\n{package}'
    Path(release.project, "pyproject.toml").write_text(
        f'[project]\nname = "site"\nversion = "1"\nrequires-python = ">={version}"\ndescription = "{name}"\n'
    )
    Path(release.project, "uv.lock").write_text(lock)
    repository(release)
    step = django.build_virtualenv(world.settings, release)
    world.run(step)
    return release, next(Path(release.venv).glob("lib/python*/site-packages")), step


def test_sync_builds_the_releases_virtualenv(world: World) -> None:
    """uv sync with the given arguments; the Python is the release's, and the second run changes nothing."""
    release, _, step = a_virtualenv(world, FIRST)
    before = Path(release.python).lstat().st_ino
    world.twice(step)
    assert Path(release.python).lstat().st_ino == before
    assert not Path(release.project, ".venv").exists()


def test_what_is_compiled_already_is_not_compiled_again(world: World) -> None:
    """Of sources that are the same file in the live release, or say the same, the compiled files are taken over."""
    old, packages, _ = a_virtualenv(world, BEFORE)
    Path(world.layout.current).symlink_to(f"releases/{old.id}")
    cached = f"__pycache__/{{}}.{sys.implementation.cache_tag}.pyc"
    for name in ("same", "equal", "other", "gone", "plain"):
        (packages / "pack" / name).mkdir(parents=True)
        (packages / "pack" / name / "module.py").write_text(name)
        (packages / "pack" / name / "__pycache__").mkdir()
        (packages / "pack" / name / cached.format("module")).write_text(f"compiled {name}")
    (packages / "pack/plain" / cached.format("module")).unlink()
    _, packages_now, step = a_virtualenv(world, FIRST)
    for name in ("same", "plain"):
        (packages_now / "pack" / name).mkdir(parents=True)
        (packages_now / "pack" / name / "module.py").hardlink_to(packages / "pack" / name / "module.py")
    for name, text in {"equal": "equal", "other": "OTHER"}.items():
        (packages_now / "pack" / name).mkdir()
        (packages_now / "pack" / name / "module.py").write_text(text)
        os.utime(packages_now / "pack" / name / "module.py", (1, 1))
    world.twice(step)
    found = {str(path.relative_to(packages_now)) for path in (packages_now / "pack").rglob("*.pyc")}
    assert found == {f"pack/{name}/{cached.format('module')}" for name in ("same", "equal")}
    for name in ("same", "equal"):
        assert (packages_now / "pack" / name / cached.format("module")).read_text() == f"compiled {name}"
        times = [(folder / "pack" / name / "module.py").stat().st_mtime_ns for folder in (packages, packages_now)]
        assert times[0] == times[1]
    assert (packages_now / "pack/other/module.py").stat().st_mtime == 1
    assert not (packages_now / "pack/gone").exists()


def project(release: Release, text: str = "", lock: str | None = "version = 1\nrequires-python = '>=3.9'\n") -> None:
    """Make a uv project of a release's folder."""
    start = '[project]\nname = "site"\nversion = "1"\nrequires-python = ">=3.9"\n'
    Path(release.project, "pyproject.toml").write_text(start + text)
    if lock is not None:
        Path(release.project, "uv.lock").write_text(lock)
    repository(release)


def not_built(world: World, release: Release) -> StepError:
    with pytest.raises(StepError) as caught:
        world.run(django.build_virtualenv(world.settings, release))
    assert not Path(release.venv).exists()
    return caught.value


def test_a_repository_that_is_no_uv_project_is_told(world: World) -> None:
    """With the commands that make it one, before anything is built."""
    release = world.release(FIRST)
    error = not_built(world, release)
    assert "the commit has no pyproject.toml in apps/web or above (project in hosts.toml)" in error.message
    Path(release.root, "requirements.txt").write_text("django\n")
    error = not_built(world, release)
    assert "the commit has requirements.txt, but no uv.lock: it is no uv project yet" in error.message
    assert "uv init --bare && uv add -r" in error.hint
    assert "uv add gunicorn" in error.hint
    project(release, lock=None)  # one that configures tools, say
    assert not_built(world, release).hint.startswith("uv add -r ")
    Path(release.root, "Pipfile").touch()
    exported = "uvx pipenv requirements > requirements.txt && uv add -r requirements.txt && uv add gunicorn;"
    assert not_built(world, release).hint.startswith(exported)
    Path(release.root, "poetry.lock").touch()
    assert not_built(world, release).hint.startswith("uvx migrate-to-uv && uv add gunicorn;")
    for name in ("Pipfile", "poetry.lock", "requirements.txt"):
        Path(release.root, name).unlink()
    assert not_built(world, release).hint.startswith("uv lock;")


def test_a_lock_file_that_was_left_behind_is_told(world: World) -> None:
    """Packages that pyproject.toml asks for and uv.lock lacks are named, before anything is built."""
    release = world.release(FIRST)
    project(release)
    subprocess.run(["uv", "lock", "--quiet"], cwd=release.project, check=True)
    project(release, 'dependencies = ["iniconfig>=2"]\n', lock=None)
    error = not_built(world, release)
    assert re.search(r"uv\.lock is behind pyproject\.toml: it would add iniconfig v2", error.message)
    assert error.hint.startswith("uv lock; commit uv.lock, push")


def test_a_lock_file_that_uv_cannot_judge_is_told(world: World) -> None:
    """The build goes on, with one line that has the real uv's own reason: here, an index that nobody answers at."""
    release, _, build = a_virtualenv(world, FIRST)
    assert django.notes(world.output(build)) == []
    closed = "UV_DEFAULT_INDEX=http://127.0.0.1:9/simple UV_HTTP_RETRIES=0"
    world.override(f'eval "uv_as_told() $(declare -f uv | tail -n +2)"; uv() {{ {closed} uv_as_told "$@"; }}')
    project(release, 'dependencies = ["iniconfig>=2"]\n', lock=None)
    [note] = django.notes(world.output(build))
    assert note == "uv cannot tell whether uv.lock is behind pyproject.toml: Connection refused (os error 111)"


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("error: Failed to fetch: `x`\n  Caused by: dns error\n", "dns error"),
        ("error: No solution found\n  cause: it is not in the cache\n\nhint: no network\n", "it is not in the cache"),
        ("", "it does not say why"),
    ],
)
def test_why_uv_cannot_judge_is_its_last_word(world: World, said: str, why: str) -> None:
    """Of all that it says, the innermost cause; hints and empty lines are none."""
    release = world.release(FIRST)
    project(release)
    world.stub("uv", f"[ $1 != lock ] || {{ printf {said!r} >&2; exit 2; }}; echo built by $*")
    with pytest.raises(StepError) as caught:
        world.run(django.build_virtualenv(world.settings, release))
    assert django.notes(caught.value.evidence) == [f"uv cannot tell whether uv.lock is behind pyproject.toml: {why}"]
    assert "built by sync --frozen" in caught.value.evidence


def test_a_python_that_the_host_lacks_is_told(world: World) -> None:
    """What is asked for, what there is, and the three places that name one."""
    release = world.release(FIRST)
    project(release)
    subprocess.run(["uv", "lock", "--quiet"], cwd=release.project, check=True)
    (Path(release.project) / "pyproject.toml").write_text(
        '[project]\nname = "site"\nversion = "1"\nrequires-python = ">=3.99"\n'
    )
    error = not_built(world, release)
    assert re.search(r"No interpreter found for Python >=3\.99.*; this host has Python 3\.", error.message)
    assert "python in hosts.toml, requires-python in pyproject.toml, .python-version" in error.hint


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ('[dependency-groups]\nprod = ["gunicorn>=23"]\n', '"--group", "prod"'),
        ('[project.optional-dependencies]\nweb = ["gunicorn-x", "gunicorn"]\n', '"--extra", "web"'),
        ('[dependency-groups]\nprod = ["gunicorn-x"]\n', ""),
    ],
)
def test_gunicorn_in_a_group_is_told(world: World, text: str, option: str) -> None:
    """The option of uv sync that brings it, as a line for hosts.toml; else how to add it."""
    release = world.release(FIRST)
    world.settings = world.settings.model_copy(update={"sync_args": ("--frozen", "--no-dev")})
    project(release, text)
    make = f'command uv venv --quiet --python {sys.executable} "$UV_PROJECT_ENVIRONMENT"'
    world.override(f'uv() {{ [ "$1" != sync ] || {make}; }}')
    with pytest.raises(StepError) as caught:
        world.run(django.build_virtualenv(world.settings, release))
    assert "gunicorn is not among the dependencies that uv sync installed" in caught.value.message
    wanted = f'in hosts.toml: sync_args = ["--frozen", "--no-dev", {option}]' if option else "uv add gunicorn"
    assert caught.value.hint.startswith(wanted)


@pytest.mark.parametrize(
    "argument", ["--x;touch bait", "$(touch bait)", "a b", "--index=https://a:b@c/", "-", "--a'b", "--a\n"]
)
def test_sync_arguments_with_odd_characters_are_refused(argument: str) -> None:
    """An argument of uv is one option without anything that a shell could take for more."""
    with pytest.raises(ValueError, match="must be one option each"):
        Settings.model_validate({**VALUES, "sync_args": [argument]})


@pytest.mark.parametrize(
    "words",
    [
        ["--group", "prod"],
        ["--frozen", "--extra=s3", "--no-group", "dev"],
        ["--group=prod", "--frozen"],
        ["--index", "own=https://pypi.example/simple"],
    ],
)
def test_sync_options_may_have_values(words: list[str]) -> None:
    """As uv takes them: in the next word, or behind an equals sign."""
    assert Settings.model_validate({**VALUES, "sync_args": words}).sync_args == tuple(words)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["prod"], "prod stands behind no option, like --group prod"),
        (["--extra=s3", "prod"], "prod stands behind no option"),
        (["--project", "x"], "--project cannot stand here: `project` in hosts.toml"),
        (["--python=3.12"], "--python cannot stand here: `python` in hosts.toml"),
        (["--frozen", "--group"], '--group lacks its value, like "--group", "x"'),
        (["--group", "--frozen"], "--group lacks its value"),
        (["--extra=", "--frozen"], "--extra lacks its value"),
        (["-P"], "-P lacks its value"),
    ],
)
def test_sync_options_that_cannot_stand_there_are_refused(words: list[str], said: str) -> None:
    """With the reason, and the setting that stands for it."""
    with pytest.raises(ValueError, match=re.escape(said)):
        Settings.model_validate({**VALUES, "sync_args": words})


def test_the_sync_options_with_a_value_are_uvs() -> None:
    """To the real uv each of them lacks its value when it stands alone."""
    for option in sorted(VALUED_SYNC_OPTIONS):
        done = subprocess.run(["uv", "sync", option], capture_output=True, text=True, check=False)
        assert "a value is required for" in done.stderr, option


def test_sync_arguments_are_single_words(world: World) -> None:
    """Had one come through, it would be one argument of uv and nothing else."""
    release = world.release(FIRST)
    project(release)
    world.stub("uv", f'for word in "$@"; do echo "<$word>"; done >>{world.root}/words')
    settings = world.settings.model_copy(
        update={"sync_args": ("--a b", "$(touch bait)", "'`touch bait`'", "*"), "python": ";touch bait"}
    )
    with pytest.raises(StepError):
        world.run(django.build_virtualenv(settings, release))
    words = (world.root / "words").read_text().splitlines()
    assert words == [
        "<--version>",
        "<sync>",
        "<--a b>",
        "<$(touch bait)>",
        "<'`touch bait`'>",
        "<*>",
        "<--python>",
        "<;touch bait>",
    ]
    assert not world.bait()


def test_no_sync_arguments_are_none(world: World) -> None:
    """An empty list in hosts.toml gives uv no argument, not an empty one."""
    release = world.release(FIRST)
    project(release)
    world.stub("uv", f'echo "$#" >{world.root}/count')
    settings = world.settings.model_copy(update={"sync_args": (), "python": None})
    with pytest.raises(StepError):
        world.run(django.build_virtualenv(settings, release))
    assert (world.root / "count").read_text() == "1\n"
