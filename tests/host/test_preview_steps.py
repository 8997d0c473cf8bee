"""What a deploy would do, looked at on real bash and git: nothing outside of the runner's folder changes."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from fabfile.config.layout import Release
from fabfile.plan import commits
from fabfile.plan import preview as values
from fabfile.ssh.runner import Runner, StepError
from fabfile.steps import preview as steps
from fabfile.steps import release
from fabfile.steps.release import FETCH
from testbed.bash import shell
from testbed.sample import sample
from tests.host.local_host import HOSTILE, World, eventually
from tests.host.test_release_steps import FILES, ID, Origin, lay_out, origin

__all__ = ["origin"]

LOCK = """version = 1
requires-python = ">=3.11"

[[package]]
name = "django"
version = "{django}"
source = {{ registry = "https://pypi.example/simple" }}
dependencies = [
    {{ name = "asgiref" }},
]

[[package]]
name = "shop"
version = "0.1.0"
source = {{ virtual = "." }}

[package.metadata]
requires-dist = [{{ name = "django", specifier = "==5.2" }}]
"""


@contextmanager
def looking(world: World, ref: str = "main") -> Generator[tuple[Runner, str, PurePosixPath]]:
    """A runner that has fetched aside, its answer and its folder; afterwards nothing is other than before."""
    before = everything(world.root)
    settings = world.settings.model_copy(update={"branch": ref})
    with world.connect().runner() as runner:
        for name, content in FILES.items():
            runner.put(name, content)
        answer = runner.run([steps.fetch(settings)]).output(FETCH)
        folder = PurePosixPath(steps.folder(answer))
        yield runner, answer, folder
        after = everything(world.root)
        assert {path: before.get(path) for path, about in after.items() if before.get(path) != about} == {}
        assert set(after) == set(before)
    assert eventually(lambda: not Path(folder).exists())


def everything(root: Path) -> dict[str, tuple[float, ...]]:
    """Inode, links, size and times of change of all below a folder, but for where runners have their own folders."""
    found = {}
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if Path(folder, name) != root / "tmp"]
        for name in [*folders, *names]:
            path = Path(folder, name)
            about = path.lstat()
            found[str(path)] = (about.st_ino, about.st_nlink, about.st_size, about.st_ctime)
    return found


def test_a_ref_is_found_as_a_deploy_finds_it(world: World, origin: Origin) -> None:
    """On a host that has no mirror yet, one that is behind, and one with a live release."""
    first = origin.git("rev-parse", "HEAD")
    with looking(world) as (_, answer, _):
        assert commits.parse(answer, "api", world.settings).commit == first
    lay_out(world, first)
    world.link(world.layout.release(ID))
    second = origin.commit(HOSTILE)
    with looking(world) as (_, answer, _):
        assert commits.parse(answer, "api", world.settings) == commits.Found(second, HOSTILE, adds=1)
    world.run(release.fetch(world.settings))
    with looking(world, first[:9]) as (_, answer, _):
        assert commits.parse(answer, "api", world.settings) == commits.Found(first, "first")
    assert not world.bait()


def test_what_a_commit_brings(world: World, origin: Origin) -> None:
    """Its commits and packages against those of the live release, by the lock file nearest to the project."""
    first = origin.commit("locked", **{"apps/uv.lock": LOCK.format(django="5.2.1"), "uv.lock": "another one"})
    lay_out(world, first)
    world.link(world.layout.release(ID))
    with looking(world) as (runner, _, _):
        assert (
            runner.run([steps.compare_commits(world.settings, first)]).output(steps.COMPARE_COMMITS).count("adds") == 0
        )
    origin.commit(HOSTILE)
    second = origin.commit("update", **{"apps/uv.lock": LOCK.format(django="5.2.3")})
    with looking(world) as (runner, _, _):
        told = runner.run([steps.compare_commits(world.settings, second)]).output(steps.COMPARE_COMMITS)
    found = values.commits(told)
    assert [(each.author, each.subject) for each in found] == [("Ana", "update"), ("Ana", HOSTILE)]
    assert found[0].commit == second[:7]
    registry = "https://pypi.example/simple"
    assert values.packages(told) == [values.Package(name="django", before="5.2.1", after="5.2.3", registry=registry)]
    assert not world.bait()


def test_before_a_first_release_all_packages_are_new(world: World, origin: Origin) -> None:
    """And of the commits the newest is told; without a lock file there are no packages."""
    commit = origin.git("rev-parse", "HEAD")
    with looking(world) as (runner, _, _):
        told = runner.run([steps.compare_commits(world.settings, commit)]).output(steps.COMPARE_COMMITS)
    assert ([each.subject for each in values.commits(told)], values.packages(told)) == (["first"], [])


def test_a_release_that_is_only_looked_at_links_what_outlives_releases(world: World, origin: Origin) -> None:
    """Folders of folders, files, what is there and what is not; what lies in shared/ is not touched by any of it."""
    for name in ("media/inner", "other"):
        Path(world.layout.shared, name).mkdir(parents=True)
    for name in ("media/photo", "media/inner/photo", "other/conf.ini"):
        Path(world.layout.shared, name).write_text("kept")
    commit = origin.commit("data", **{"media/inner/photo": "of the commit", "other/conf.ini": "of the commit"})
    world.settings = sample(
        repo=world.settings.repo,
        linked_dirs=("media", "media/inner", "new/folder"),
        linked_files=("other/conf.ini", "not/there.ini"),
    )
    with looking(world) as (runner, _, folder):
        aside = Release(folder / ID, world.settings.project)
        runner.run([steps.check_out(world.settings, aside, commit)])
        made = Path(aside.root)
        assert (made / "apps/web/manage.py").is_file()
        assert (made / ".deploy/gunicorn.json").read_bytes() == FILES["gunicorn.json"]
        for name in ("media/photo", "media/inner/photo", "other/conf.ini"):
            assert (made / name).read_text() == "kept"
        for name in ("new/folder", "not/there.ini"):
            assert os.path.realpath(made / name) == f"{world.layout.shared}/{name}"


def test_the_live_static_files_stand_in_for_those_that_are_not_collected(world: World, origin: Origin) -> None:
    """Unless the commit has a folder of that name itself."""
    first = origin.git("rev-parse", "HEAD")
    live = lay_out(world, first)
    (live / "apps/web/staticfiles").mkdir()
    (live / "apps/web/staticfiles/site.css").write_text("x")
    world.link(world.layout.release(ID))
    with looking(world) as (runner, _, folder):
        runner.run([steps.check_out(world.settings, Release(folder / ID, "apps/web"), first)])
        assert Path(folder, ID, "apps/web/staticfiles/site.css").read_text() == "x"
    second = origin.commit("own", **{"apps/web/staticfiles/own.css": "y"})
    with looking(world) as (runner, _, folder):
        runner.run([steps.check_out(world.settings, Release(folder / ID, "apps/web"), second)])
        assert [path.name for path in Path(folder, ID, "apps/web/staticfiles").iterdir()] == ["own.css"]


def test_a_commit_that_cannot_be_laid_out_is_refused_as_by_a_deploy(world: World, origin: Origin) -> None:
    """The project folder and manage.py have to be there."""
    commit = origin.git("rev-parse", "HEAD")
    other = world.settings.model_copy(update={"project": "nowhere"})
    with looking(world) as (runner, _, folder), pytest.raises(StepError, match="the commit has no folder nowhere"):
        runner.run([steps.check_out(other, Release(folder / ID, "nowhere"), commit)])


def test_doppler_writes_no_fallback_file_meanwhile(world: World) -> None:
    """Its option is there in such a run, and in no other."""
    say = shell("say", 'doppler_run "" "" && echo "${doppler[*]}"')
    assert world.output(say) == f"{world.layout.doppler} run --silent --"
    make = shell("make", 'mkdir "$DEPLOY_WORK/aside"')
    assert world.run(make, replace(say, id="again"))["again"].output.endswith("run --silent --no-fallback --")
