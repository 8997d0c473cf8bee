"""How a server changes hands, as far as it goes without systemd and nginx: what moves, what is kept, and the way back.

runuser, systemctl and nginx are stand-ins; whoever runs the test is the user.
"""

import getpass
import grp
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fabfile.steps import adopt
from fabfile.steps.step import Step
from testbed.bash import shell
from tests.host.local_host import World

PROGRAM = Path("fabfile/host/programs/change_places.py")
RUNUSER = 'while [ "$1" != -- ]; do shift; done; shift; AS_USER=1 exec "$@"'
MEDIA = "web/media"


@pytest.fixture(autouse=True)
def old(world: World) -> Path:
    """The folder of before, with uploads; the user of the settings is the one who runs the test."""
    update = {"user": getpass.getuser(), "group": grp.getgrgid(os.getgid()).gr_name, "media": {"folder": None}}
    world.settings = world.settings.model_copy(update={**update, "media": world.settings.media})
    world.stub("runuser", RUNUSER)
    world.stub("systemctl")
    world.stub("sync")  # a busy disk takes seconds for it
    folder = Path(world.layout.app)
    (folder / MEDIA).mkdir(parents=True)
    (folder / MEDIA / "ana.png").write_text("ana")
    return folder


def keep(**paths: list[str]) -> Step:
    """Keep these, in the groups units, site, rights; `gone` and `uploads` too."""
    groups = {name: paths.get(name, []) for name in ("uploads", "gone", "units", "site", "rights")}
    return adopt.keep("consult-django.service", "/run/consult/gunicorn.sock", socket="", certificate=[], **groups)


def put_back(group: str) -> Step:
    return shell("put back", f"put_kept_back {group}")


def lend() -> Step:
    return shell(
        "lend", f'share_with_user; user=$(id -un); group=$(id -gn); as_user lend "$APP/{MEDIA}" "$SHARED/{MEDIA}"'
    )


def take_back() -> Step:
    return shell(
        "take back",
        f'share_with_user; user=$(id -un); group=$(id -gn); as_user take_back "$APP/{MEDIA}" "$SHARED/{MEDIA}"',
    )


def change(one: Path, other: Path, *python: str) -> None:
    subprocess.run([sys.executable, *(python or (str(PROGRAM),)), str(one), str(other)], check=True)


def written(path: Path) -> tuple[int, int]:
    """Which file it is, and when it was written."""
    return path.stat().st_ino, path.stat().st_mtime_ns


@pytest.mark.parametrize("exchange", [True, False])
def test_a_folder_and_a_link_change_places(tmp_path: Path, exchange: bool) -> None:
    """Neither is followed; where the file system knows no exchange, three renames do it."""
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    (one / "file").touch()
    other.symlink_to("nowhere")
    text = PROGRAM.read_text()
    broken = text.replace("if libc.renameat2", "if True or libc.renameat2")
    assert broken != text
    change(one, other, "-c", text if exchange else broken)
    assert one.readlink() == Path("nowhere")
    assert [path.name for path in other.iterdir()] == ["file"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.name in ("one", "other", "other.aside")) == [
        "one", "other",
    ]  # fmt: skip


def test_what_cannot_change_places_stays(tmp_path: Path) -> None:
    """With nothing in the other place, there is no half of it."""
    one = tmp_path / "one"
    one.mkdir()
    with pytest.raises(subprocess.CalledProcessError):
        change(one, tmp_path / "other")
    assert one.is_dir()


def test_uploads_are_lent_and_taken_back(world: World, old: Path) -> None:
    """By both paths it is the same folder, whoever writes to it; each way may run again."""
    shared = Path(world.layout.shared) / MEDIA
    inode = (old / MEDIA).stat().st_ino
    first, second = world.twice(lend())
    assert "is" in first
    assert second == ""
    assert (old / MEDIA).readlink() == shared
    assert shared.stat().st_ino == inode
    assert not shared.is_symlink()
    (old / MEDIA / "of the old one").touch()
    (shared / "of the new one").touch()
    world.twice(take_back())
    assert (old / MEDIA).stat().st_ino == inode
    assert not (old / MEDIA).is_symlink()
    assert sorted(path.name for path in (old / MEDIA).iterdir()) == ["ana.png", "of the new one", "of the old one"]
    assert not os.path.lexists(shared)


def test_what_the_commit_has_among_the_uploads_comes_along(world: World) -> None:
    """Where both have a file, the visitors' one counts."""
    shared = Path(world.layout.shared) / MEDIA
    shared.mkdir(parents=True)
    (shared / ".gitkeep").touch()
    (shared / "ana.png").write_text("of the commit")
    world.run(lend())
    assert (shared / "ana.png").read_text() == "ana"
    assert (shared / ".gitkeep").exists()


def test_lending_goes_on_where_it_was_cut(world: World) -> None:
    """The link was there, and had not changed places yet."""
    shared = Path(world.layout.shared) / MEDIA
    shared.parent.mkdir(parents=True)
    shared.symlink_to(shared)
    world.run(lend())
    assert (shared / "ana.png").read_text() == "ana"


def test_nothing_is_taken_back_that_was_not_lent(world: World, old: Path) -> None:
    """A link of the team's own stays, and so does a folder."""
    world.run(take_back())
    assert (old / MEDIA / "ana.png").exists()
    own = world.root / "own"
    (old / MEDIA).rename(own)
    (old / MEDIA).symlink_to(own)
    world.run(take_back())
    assert (old / MEDIA).readlink() == own


def test_what_was_there_comes_back_as_it_was(world: World) -> None:
    """Bytes, modes, times and links; what was not there goes, with the folder that it was alone in."""
    units = Path(world.layout.service_file).parent
    service, link, drop_in = units / "consult-django.service", units / "some.link", units / "x.service.d/own.conf"
    service.write_text("[Service]\n")
    service.chmod(0o640)
    os.utime(service, (1000, 1000))
    link.symlink_to("/usr/lib/some")
    paths = [str(path) for path in (service, link, drop_in)]
    world.run(keep(units=paths))
    drop_in.parent.mkdir()
    for path in (service, drop_in):
        path.write_text("other\n")
    service.chmod(0o600)
    link.unlink()
    for _ in range(2):
        world.run(put_back("units"))
        assert service.read_text() == "[Service]\n"
        assert (service.stat().st_mode & 0o777, service.stat().st_mtime) == (0o640, 1000)
        assert link.readlink() == Path("/usr/lib/some")
        assert not drop_in.parent.exists()
    assert sorted(path.name for path in units.iterdir()) == ["consult-django.service", "some.link"]


def test_what_was_kept_counts_once_the_change_has_begun(world: World) -> None:
    """Before, an adopt that comes later keeps anew; but rights, which are ours by then, as they were first."""
    site, sudoers = Path(world.layout.site_file), Path(world.layout.sudoers)
    sudoers.parent.mkdir(parents=True)
    groups = {"site": [str(site)], "rights": [str(sudoers)]}
    site.write_text("first")
    sudoers.write_text("theirs")
    world.run(keep(**groups))
    site.write_text("second")
    sudoers.write_text("ours")
    world.run(keep(**groups), adopt.begin())
    site.write_text("third")
    world.run(keep(**groups), put_back("site"), put_back("rights"))
    assert (site.read_text(), sudoers.read_text()) == ("second", "theirs")


def test_how_far_it_is(world: World) -> None:
    """Nothing, begun with the unit's name, adopted since when; what is kept is root's alone."""
    Path(world.layout.lock).unlink(missing_ok=True)
    assert world.output(adopt.how_far()) == "live "
    world.run(keep())
    assert (Path(world.layout.adopted).stat().st_mode & 0o777) == 0o700
    assert "begun" not in world.output(adopt.how_far())
    world.run(adopt.begin())
    assert world.output(adopt.how_far()).splitlines()[0] == "begun consult-django.service"
    world.run(adopt.mark_adopted())
    assert world.output(adopt.how_far()).startswith("adopted 20")


def test_only_what_has_no_place_in_ours_goes(world: World) -> None:
    """Each group knows its own; a path that only begins like one is another."""
    world.run(keep(gone=["/etc/a", "/etc/sudoers.d/deploy"], units=["/etc/a", "/etc/a.b"], rights=[
        "/etc/sudoers.d/deploy", str(world.layout.sudoers)]))  # fmt: skip
    assert world.output(shell("gone", "gone_of units; gone_of rights; gone_of site")).split() == [
        "/etc/a", "/etc/sudoers.d/deploy",
    ]  # fmt: skip


def test_the_commit_comes_from_the_folder_where_nobody_else_has_it(world: World, old: Path) -> None:
    """Also from a shallow clone, as Ansible makes them; one that is not live there any more is refused."""
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "init.defaultBranch=main")
    origin = world.root / "origin"
    for words in (
        ("init", "--quiet", origin),
        *((("-C", origin, "commit", "--quiet", "--allow-empty", "-m", name)) for name in "ab"),
    ):
        subprocess.run([*git, *map(str, words)], check=True)
    subprocess.run(["rm", "-r", str(old)], check=True)
    subprocess.run([*git, "clone", "--quiet", "--depth=1", f"file://{origin}", str(old)], check=True)
    subprocess.run([*git, "-C", str(old), "commit", "--quiet", "--allow-empty", "-m", "by hand"], check=True)
    commit = subprocess.run(
        [*git, "-C", str(old), "rev-parse", "HEAD"], check=True, capture_output=True, text=True
    ).stdout.strip()
    subprocess.run([*git, "init", "--quiet", "--bare", str(world.layout.repo)], check=True)
    first, second = world.twice(adopt.take_commit(commit))
    assert "it was taken from" in first
    assert second == f"commit {commit} by hand"
    with pytest.raises(Exception, match="has another commit by now"):
        world.run(adopt.take_commit("1" * 40))


def test_local_changes_are_saved_as_a_patch(world: World, old: Path) -> None:
    """It applies to the commit; where nothing was changed, there is none. git's index is not written anew."""
    git = ("git", "-C", str(old), "-c", "user.name=a", "-c", "user.email=a@b")
    (old / "a.txt").write_text("a\n")
    seen = (old / "a.txt").stat().st_mtime_ns
    config = ("config", "core.trustctime", "false")
    for words in (("init", "--quiet"), config, ("add", "a.txt"), ("commit", "--quiet", "-m", "a")):
        subprocess.run([*git, *words], check=True)
    patch = world.base / "local-changes.patch"
    world.run(adopt.save_changes())
    assert not patch.exists()
    (old / "a.txt").write_text("b\n")
    for name in ("a.txt", ".git/index"):  # as if all of it had been in one second, by which git does not see a change
        os.utime(old / name, ns=(seen, seen))
    index = written(old / ".git/index")
    (old / "a.txt").chmod(0o600)
    assert str(patch) in world.output(adopt.save_changes())
    assert written(old / ".git/index") == index
    subprocess.run([*git, "checkout", "--quiet", "a.txt"], check=True)
    subprocess.run([*git, "apply", str(patch)], check=True)
    assert (old / "a.txt").read_text() == "b\n"
    assert not (world.base / "local-changes.patch.new").exists()
