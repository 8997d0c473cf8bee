"""Release steps on real bash and git: fetched, laid out, switched, recorded, pruned; each of them twice."""

import contextlib
import json
import os
import sqlite3
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fabfile.config.settings import Settings
from fabfile.errors import ConfigError
from fabfile.plan import commits
from fabfile.ssh.runner import StepError
from fabfile.steps import release as steps
from testbed.bash import shell
from testbed.sample import VALUES, sample
from tests.host.local_host import HOSTILE, World, alive, eventually

FILES = {"gunicorn.conf.py": b"workers = 2\n", "gunicorn.json": b"{}\n", "release.json": b'{"commit": "x"}\n'}
ID = "20260102T030405Z-abcdef0"


class Origin:
    """A repository that somebody pushes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.git("init", "--quiet", "--initial-branch=main")
        self.git("config", "user.name", "Ana")
        self.git("config", "user.email", "ana@example.org")

    def git(self, *words: str) -> str:
        command = ["git", "-c", "protocol.file.allow=always", *words]
        clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        done = subprocess.run(command, cwd=self.folder, env=clean, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def commit(self, subject: str = "work", **files: str) -> str:
        for name, text in files.items():
            self.write(name, text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.git("rev-parse", "HEAD")

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.fixture
def origin(world: World) -> Origin:
    """A repository with a Django project at apps/web; the host's settings name it."""
    origin = Origin(world.root / "origin")
    origin.write("apps/web/manage.py", "")
    origin.commit("first")
    world.settings = sample(repo=f"file://{origin.folder}")
    return origin


def fetch(world: World, ref: str = "main") -> tuple[str, str]:
    """Fetch twice; both answers must name the same commit, which is returned with its subject."""
    settings = world.settings.model_copy(update={"branch": ref})
    first, second = (commits.parse(answer, "api", settings) for answer in world.twice(steps.fetch(settings)))
    assert first == second
    return first.commit, first.subject


def lay_out(world: World, commit: str, release_id: str = ID, **changes: Any) -> Path:
    """Fetch and lay a commit out, and return the release's folder."""
    world.settings = Settings.model_validate({**world.settings.model_dump(), **changes})
    release = world.layout.release(release_id)
    world.run(
        steps.fetch(world.settings),
        steps.check_out(world.settings, release, commit),
        files=FILES,
    )
    return Path(release.root)


def test_fetch_finds_branches_tags_and_commits(world: World, origin: Origin) -> None:
    """A branch (with a slash too), a tag (annotated too), a whole or short commit: all lead to the commit."""
    first = origin.git("rev-parse", "HEAD")
    origin.git("tag", "v1")
    origin.git("tag", "--annotate", "v2", "--message", "two")
    origin.git("branch", "feature/one#2")
    second = origin.commit("second")
    assert fetch(world) == (second, "second")
    for ref in ("v1", "v2", "feature/one#2", first, first[:7]):
        assert fetch(world, ref) == (first, "first")


def test_fetch_prefers_a_branch_and_sees_pushes(world: World, origin: Origin) -> None:
    """A branch wins over a tag or commit of the same name; force-pushed, moved and deleted names are followed."""
    first = origin.git("rev-parse", "HEAD")
    origin.git("tag", "same")
    origin.git("checkout", "--quiet", "-b", "same")
    second = origin.commit("second")
    origin.git("branch", first[:8], "heads/same")
    assert fetch(world, "same") == (second, "second")
    assert fetch(world, first[:8]) == (second, "second")
    origin.git("reset", "--quiet", "--hard", first)
    third = origin.commit("third")
    origin.git("tag", "--force", "moved")
    assert fetch(world, "same") == (third, "third")
    assert fetch(world, "moved") == (third, "third")
    origin.git("checkout", "--quiet", "main")
    origin.git("branch", "-D", "same")
    origin.git("checkout", "--quiet", "-b", "same/below")
    assert fetch(world, "same/below") == (first, "first")


def test_fetch_names_what_there_is(world: World, origin: Origin) -> None:
    """A name that is not there: exit 2, and the nearest ones."""
    origin.git("branch", "feature/login")
    origin.git("tag", "v1.0")
    with pytest.raises(ConfigError) as caught:
        fetch(world, "feature/logn")
    assert "no branch, tag or commit feature/logn" in caught.value.message
    assert caught.value.hint == "did you mean feature/login?"
    for ref in ("nothing-like-it", "0000000", "f" * 40, "HEAD", "refs/heads/main", "origin/main", "main^{tree}"):
        with pytest.raises(ConfigError):
            fetch(world, ref)


@pytest.mark.parametrize(
    "ref", ["--upload-pack=touch bait", "-x", "$(touch bait)", "`touch bait`", "a b", "a;touch bait", "*", HOSTILE]
)
def test_a_ref_is_never_more_than_a_name(world: World, origin: Origin, ref: str) -> None:
    """Settings and --branch refuse such names; had one come through, the shell and git would take it for a name."""
    with pytest.raises(ValueError, match="must name a branch"):
        Settings.model_validate({**VALUES, "branch": ref})
    with pytest.raises(ConfigError):
        fetch(world, ref)
    assert origin.git("branch", "--list") == "* main"
    assert not world.bait()


def test_a_subject_is_only_text(world: World, origin: Origin) -> None:
    """What a commit says runs nowhere and comes through as it is."""
    commit = origin.commit(HOSTILE)
    assert fetch(world) == (commit, HOSTILE)
    assert not world.bait()


def test_how_a_commit_stands_to_the_live_one(world: World, origin: Origin) -> None:
    """How many commits it adds and lacks, and which it lacks; nothing where no commit is live, or one unknown here."""
    first = origin.git("rev-parse", "HEAD")
    second = origin.commit(HOSTILE)
    live = lay_out(world, second)

    def stands(ref: str = "main") -> tuple[int, int, tuple[str, ...]]:
        answers = world.twice(steps.fetch(world.settings, ref))
        found, again = (commits.parse(answer, "api", world.settings) for answer in answers)
        assert found == again
        return found.adds, found.lacks, found.lacking

    assert stands() == (0, 0, ())
    world.link(world.layout.release(ID))
    assert stands() == (0, 0, ())
    assert stands(first) == (0, 1, (f"{second[:7]} {HOSTILE}",))
    assert not world.bait()
    origin.git("checkout", "--quiet", "-b", "beside", first)
    for number in range(4):
        origin.commit(f"beside {number}")
    assert stands("beside") == (4, 1, (f"{second[:7]} {HOSTILE}",))
    subprocess.run(["git", "checkout", "--quiet", "beside"], cwd=live, check=True)
    adds, lacks, lacking = stands()
    assert (adds, lacks) == (1, 4)
    assert [line.partition(" ")[2] for line in lacking] == ["beside 3", "beside 2", "beside 1"]
    origin.git("checkout", "--quiet", "main")
    assert stands()[0] == 1
    Path(world.layout.releases, "20260102T030406Z-copied").mkdir()
    world.link(world.layout.release("20260102T030406Z-copied"))  # which git does not know, as a folder that was adopted
    assert stands() == (0, 0, ())


@pytest.mark.usefixtures("origin")
def test_an_unreachable_repository_is_told(world: World) -> None:
    """git's words are the evidence, and the mirror is as before: the next fetch goes on."""
    fetch(world)
    address = world.settings.repo
    world.settings = sample(repo="file:///nowhere/at/all")
    with pytest.raises(StepError) as caught:
        fetch(world)
    assert "/nowhere/at/all" in caught.value.evidence
    world.settings = sample(repo=address)
    assert fetch(world)[1] == "first"


@pytest.mark.usefixtures("origin")
def test_a_first_fetch_that_was_cut_is_taken_up(world: World) -> None:
    """Half a mirror is made anew."""
    (world.base / "repo.git.new/refs").mkdir(parents=True)
    assert fetch(world)[1] == "first"


def test_a_fetch_that_was_killed_does_not_stand_in_the_way(world: World, origin: Origin) -> None:
    """What git locked when the power went is no obstacle: the deploy's lock says that nobody else is there."""
    fetch(world)
    commit = origin.commit("second")
    repo = world.base / "repo.git"
    for name in ("refs/heads/main.lock", "packed-refs.lock", "config.lock", "shallow.lock", "HEAD.lock"):
        (repo / name).touch()
    assert fetch(world) == (commit, "second")


def test_lay_out_makes_a_worktree(world: World, origin: Origin) -> None:
    """The release holds the commit's files and the tool's own, and git has nothing to say about it."""
    commit = origin.commit("second", **{"a file with spaces": "x"})
    root = lay_out(world, commit)
    assert (root / "apps/web/manage.py").exists()
    assert (root / "a file with spaces").read_text() == "x"
    assert {name: (root / ".deploy" / name).read_bytes() for name in FILES} == FILES
    assert (root / ".deploy/release.json").stat().st_mode & 0o777 == 0o644
    status = ["git", "-c", "safe.directory=*", "status", "--porcelain"]
    assert subprocess.run(status, cwd=root, capture_output=True, text=True, check=True).stdout == ""


def test_lay_out_again_after_a_cut(world: World, origin: Origin) -> None:
    """What a cut run left of the same release is made anew; a whole one is not touched."""
    commit = origin.commit("second")
    root = lay_out(world, commit)
    (root / "apps/web/manage.py").unlink()
    (world.base / "repo.git/worktrees" / ID / "locked").write_text("initializing")
    assert (lay_out(world, commit) / "apps/web/manage.py").exists()
    (root / ".deploy/built").touch()
    (root / "precious").touch()
    with pytest.raises(StepError):
        lay_out(world, commit)
    assert (root / "precious").exists()


def test_lay_out_checks_submodules_out(world: World, origin: Origin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A submodule's files are there."""
    inner = Origin(world.root / "inner")
    inner.commit("inner", **{"inner.txt": "inside"})
    origin.git("submodule", "--quiet", "add", f"file://{inner.folder}", "vendor/inner")
    commit = origin.commit("with a submodule")
    # git fetches submodules over file:// only when told to; over https and ssh it does so by itself.
    (world.root / "home/.gitconfig").write_text('[protocol "file"]\nallow = always\n')
    monkeypatch.delenv("GIT_ALLOW_PROTOCOL", raising=False)
    assert (lay_out(world, commit) / "vendor/inner/inner.txt").read_text() == "inside"


def test_linked_folders_and_files_outlive_releases(world: World, origin: Origin) -> None:
    """Linked folders begin with what git has, keep what users put there, and are the same in each release."""
    commit = origin.commit("media", **{"apps/web/media/logo.svg": "logo", "apps/web/media/.hidden/x": "x"})
    shared = Path(world.layout.shared)
    (shared / "conf").mkdir()
    (shared / "conf/local.ini").write_text("local")
    links: dict[str, Any] = {"linked_dirs": ["apps/web/media", "var/data"], "linked_files": ["conf/local.ini"]}
    first = lay_out(world, commit, **links)
    assert (first / "apps/web/media").is_symlink()
    assert (first / "apps/web/media/logo.svg").read_text() == "logo"
    assert (shared / "apps/web/media/.hidden/x").read_text() == "x"
    (first / "apps/web/media/upload.png").write_text("upload")
    (first / "apps/web/media/logo.svg").write_text("changed by a user")
    (first / "var/data/db").write_text("data")
    second = lay_out(world, commit, "20260102T030406Z-abcdef0", **links)
    assert (second / "apps/web/media/upload.png").read_text() == "upload"
    assert (second / "apps/web/media/logo.svg").read_text() == "changed by a user"
    assert (second / "var/data/db").read_text() == "data"
    assert (second / "conf/local.ini").read_text() == "local"
    assert (second / "conf/local.ini").is_symlink()


def acl(path: Path, *options: str) -> list[str]:
    command = ["getfacl", "--omit-header", "--absolute-names", *options, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_nginx_may_read_uploads(world: World, origin: Origin) -> None:
    """What is there, and what comes, whatever the service's umask; nothing else of shared/. Done once."""
    shared = Path(world.layout.shared)
    (shared / "var/media/old").mkdir(parents=True, mode=0o750)
    (shared / "var/media/old/photo.png").touch(mode=0o640)
    (shared / "var/private").mkdir(mode=0o750)
    root = lay_out(world, origin.commit(), media={"folder": "var/media"})
    assert (root / "var/media/old/photo.png").exists()
    assert "group:www-data:--x" in acl(shared / "var")
    assert "group:www-data:r-x" in acl(shared / "var/media/old")
    assert "group:www-data:r--" in acl(shared / "var/media/old/photo.png")
    before = os.umask(0o027)
    try:
        (root / "var/media/new").mkdir()
        (root / "var/media/new/photo.png").write_text("new")
    finally:
        os.umask(before)
    assert "group:www-data:r-x" in acl(shared / "var/media/new")
    assert any(line.startswith("group:www-data:r") for line in acl(shared / "var/media/new/photo.png"))
    assert not [line for line in acl(shared / "var/private") if "www-data" in line]
    world.stub("setfacl", "exit 1")
    lay_out(world, origin.commit("another"), "20260102T030406Z-abcdef0")


def test_uploads_beside_code_are_refused(world: World, origin: Origin) -> None:
    """nginx would show the code to everybody."""
    with pytest.raises(StepError) as caught:
        lay_out(world, origin.commit("code", **{"files/views/x.py": ""}), media={"folder": "files"})
    assert "media.folder in hosts.toml is files, where the commit has code: files/views/x.py" in caught.value.message


def test_uploads_that_are_not_the_users_are_told(world: World, origin: Origin) -> None:
    """Somebody copied them as root: the command that gives them to the app."""
    world.stub("setfacl", "echo 'Operation not permitted' >&2; exit 1")
    with pytest.raises(StepError) as caught:
        lay_out(world, origin.commit(), media={"folder": "media"})
    assert f"{world.layout.shared}/media cannot be opened to nginx" in caught.value.message
    assert "chown -R" in (caught.value.hint or caught.value.evidence)


def test_a_host_without_setfacl_is_told(world: World, origin: Origin) -> None:
    """It was provisioned before uploads were a setting."""
    world.override('type() { [ "$2" != setfacl ] && builtin type "$@"; }')
    with pytest.raises(StepError) as caught:
        lay_out(world, origin.commit(), media={"folder": "media"})
    assert "needs setfacl, and this host has none" in caught.value.message


@pytest.mark.parametrize("folders", [["media", "media/private"], ["media/private", "media"]])
def test_linked_folders_inside_each_other_lose_nothing(world: World, origin: Origin, folders: list[str]) -> None:
    """A linked folder inside a linked folder keeps what users put there."""
    commit = origin.commit("media", **{"media/logo.svg": "logo", "media/private/readme": "readme"})
    shared = Path(world.layout.shared)
    (shared / "media/private").mkdir(parents=True)
    (shared / "media/private/contract.pdf").write_text("precious")
    for number in (1, 2):
        root = lay_out(world, commit, f"20260102T03040{number}Z-abcdef0", linked_dirs=folders)
        assert (shared / "media/private/contract.pdf").read_text() == "precious"
        assert (root / "media/private/contract.pdf").read_text() == "precious"
        assert (root / "media/logo.svg").read_text() == "logo"
        assert not (shared / "media/private/private").exists()


def test_a_linked_file_begins_with_what_git_has(world: World, origin: Origin) -> None:
    """The commit's file comes along once; what is written to it later is the same in each release."""
    commit = origin.commit("data", **{"conf/local.ini": "of the commit"})
    first = lay_out(world, commit, linked_files=["conf/local.ini"])
    (first / "conf/local.ini").write_text("of a user")
    second = lay_out(world, commit, "20260102T030406Z-abcdef0", linked_files=["conf/local.ini"])
    assert (second / "conf/local.ini").read_text() == "of a user"
    assert Path(world.layout.shared, "conf/local.ini").read_text() == "of a user"


def test_a_linked_file_may_be_made_through_its_link(world: World, origin: Origin) -> None:
    """SQLite makes its database, and the files beside it, in shared/ where nothing is there yet."""
    root = lay_out(world, origin.commit(), linked_files=["data/db.sqlite3"])
    with contextlib.closing(sqlite3.connect(root / "data/db.sqlite3", isolation_level=None)) as database:
        database.execute("PRAGMA journal_mode=wal")
        database.execute("CREATE TABLE note (text)")
        assert not any(path.name.endswith("-wal") for path in (root / "data").iterdir())
    assert Path(world.layout.shared, "data/db.sqlite3").stat().st_size


def test_data_of_the_live_release_is_not_left_behind(world: World, origin: Origin) -> None:
    """A folder linked anew takes over what the live release has in it; a file with data of its own is refused."""
    commit = origin.commit("data", **{"media/logo.svg": "logo", "db.sqlite3": "of the commit"})
    live = lay_out(world, commit)
    (live / "media/upload.png").write_text("upload")
    (live / "db.sqlite3").write_text("rows of users")
    world.link(world.layout.release(live.name))
    new = lay_out(world, commit, "20260102T030406Z-abcdef0", linked_dirs=["media"])
    assert (new / "media/upload.png").read_text() == "upload"
    with pytest.raises(StepError) as caught:
        lay_out(world, commit, "20260102T030407Z-abcdef0", linked_files=["db.sqlite3"])
    assert "the live release has a db.sqlite3 of its own" in caught.value.message
    assert caught.value.hint.startswith("while nobody writes to it, on the host: cp -a")
    shared = Path(world.layout.shared, "db.sqlite3")
    assert not shared.exists()
    shared.write_text("rows of users")
    new = lay_out(world, commit, "20260102T030408Z-abcdef0", linked_files=["db.sqlite3"])
    assert (new / "db.sqlite3").read_text() == "rows of users"


def test_a_file_is_put_in_place_in_one_step(world: World) -> None:
    """link.put makes the folders, replaces what was there, and lets only its user and group read it."""
    shared = Path(world.layout.shared, "conf d/lo'cal.ini")
    world.twice(steps.put_link("conf d/lo'cal.ini"), {"content": b"one\0two"})
    assert shared.read_bytes() == b"one\0two"
    assert shared.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in shared.parent.iterdir()] == [shared.name]
    Path(f"{shared}-wal").touch()
    with pytest.raises(StepError) as caught:
        world.run(steps.put_link("conf d/lo'cal.ini"), files={"content": b"three"})
    assert "is a database in use: conf d/lo'cal.ini-wal lies beside it" in caught.value.message
    assert shared.read_bytes() == b"one\0two"


def test_a_missing_manage_py_is_told(world: World, origin: Origin) -> None:
    """The settings to look at stand in the message, and where the commit has one."""
    commit = origin.commit("moved", **{"backend/manage.py": ""})
    with pytest.raises(StepError) as caught:
        lay_out(world, commit, manage="tools/manage.py")
    assert "the commit has no file apps/web/tools/manage.py (project and manage in hosts.toml)" in caught.value.message
    assert "backend/manage.py" in caught.value.message


def test_a_missing_project_folder_is_told(world: World, origin: Origin) -> None:
    """The setting to look at stands in the message."""
    with pytest.raises(StepError) as caught:
        lay_out(world, origin.commit(), project="apps/api")
    assert "the commit has no folder apps/api (project in hosts.toml)" in caught.value.evidence


@pytest.mark.parametrize("field", ["linked_dirs", "linked_files", "project", "manage", "static_root"])
@pytest.mark.parametrize(
    "path", ["$(touch bait)", "a;b", "a b", "a/../up", "/abs", "-rf", "a'b", 'a"b', "a\nb", "`x`", "a*", "ü"]
)
def test_paths_with_odd_characters_are_refused(field: str, path: str) -> None:
    """Where a path goes into a script, the settings let nothing through that a shell could take for more."""
    with pytest.raises(ValueError, match="must be a path inside the repository"):
        Settings.model_validate({**VALUES, field: [path] if field.startswith("linked") else path})


def test_the_switch_is_never_seen_half_done(world: World) -> None:
    """Whoever looks at the live link at any time sees one whole release or the other."""
    ids = [f"2026010{number}T000000Z-abcdef0" for number in (1, 2)]
    releases = [world.release(release_id) for release_id in ids]
    for release in releases:
        Path(release.root / "page").write_text(release.id)
    world.link(releases[0])
    current, over, seen, problems = Path(world.layout.current), threading.Event(), set(), []

    def read() -> None:
        while not over.is_set():
            try:
                seen.add((current / "page").read_text())
            except OSError as error:
                problems.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    with world.connect().runner() as runner:
        for number in range(60):
            runner.run([shell("move the link", f"make_live {ids[number % 2]}")])
    over.set()
    thread.join()
    assert problems == []
    assert seen == set(ids)
    assert str(current.readlink()) == f"releases/{ids[1]}"


def test_the_switch_after_a_cut_one(world: World) -> None:
    """The half-made link of a cut switch is no obstacle."""
    release = world.release(ID)
    (world.base / "current.new").symlink_to("releases/gone")
    for _ in range(2):
        world.link(release)
        assert str(Path(world.layout.current).readlink()) == f"releases/{ID}"
        assert not (world.base / "current.new").is_symlink()


@pytest.mark.usefixtures("origin")
def test_a_fetch_takes_away_what_a_cut_run_left(world: World) -> None:
    """The half-made link and thrown away releases, also when there is nothing else to do."""
    world.release(ID)
    (world.base / "current.new").symlink_to("releases/gone")
    trash = world.base / "releases/.trash-20260101T000000Z-abcdef0"
    (trash / "deep").mkdir(parents=True)
    fetch(world)
    assert eventually(lambda: not trash.exists())
    assert not (world.base / "current.new").is_symlink()
    assert releases(world) == [ID]


def test_marks(world: World) -> None:
    """Good takes bad away; both runs leave the same."""
    release = world.release(ID, "bad")
    for _ in range(2):
        world.run(steps.mark_built(release), steps.mark_good(release))
        assert sorted(path.name for path in Path(release.notes).iterdir()) == ["built", "good"]


def test_marks_of_a_rollback(world: World) -> None:
    """The release that it leaves says so, and the one that it goes to no longer does."""
    left, back = world.release("20260103T000000Z-abcdef0", "built", "good"), world.release(ID, "built", "good", "left")
    for _ in range(2):
        world.run(steps.mark_good(back, left))
        assert sorted(path.name for path in Path(left.notes).iterdir()) == ["built", "good", "left"]
        assert sorted(path.name for path in Path(back.notes).iterdir()) == ["built", "good"]


def test_history_takes_any_text(world: World) -> None:
    """An entry is one line, whatever the branch or the person is called."""
    entry = json.dumps({"by": HOSTILE, "branch": HOSTILE + "\n"})
    world.twice(steps.record(entry))
    lines = Path(world.layout.history).read_text().splitlines()
    assert [json.loads(line)["by"] for line in lines] == [HOSTILE, HOSTILE]
    assert not world.bait()


def test_history_is_read_from_its_end(world: World) -> None:
    """The newest entries, the newest last; none where nothing was deployed."""
    assert world.output(steps.read_history(2)) == ""
    for number in range(3):
        world.run(steps.record(json.dumps({"number": number})))
    assert world.output(steps.read_history(2)) == '{"number": 1}\n{"number": 2}'


def test_history_after_a_cut_line(world: World) -> None:
    """Half a line, left by a power cut, does not swallow the next one."""
    Path(world.layout.history).write_text('{"at": "2026')
    world.run(steps.record('{"verb": "deploy"}'))
    assert Path(world.layout.history).read_text().splitlines()[-1] == '{"verb": "deploy"}'


def releases(world: World) -> list[str]:
    return sorted(path.name for path in Path(world.layout.releases).iterdir())


def test_prune_keeps_what_is_needed(world: World) -> None:
    """The newest N good ones stay, the live one always, and the newest that failed; others go. Twice is once."""
    good = [f"202601{day:02}T000000Z-abcdef0" for day in range(1, 8)]
    for release_id in good:
        world.release(release_id, "built", "good")
    world.release("20260109T000000Z-abcdef0")
    world.release("20260108T000000Z-abcdef0", "built", "bad")
    failed = world.release("20260110T000000Z-abcdef0", "built", "bad").id
    world.release("20260102T120000Z-abcdef0", "built")
    world.settings = sample(keep=3)
    world.link(world.layout.release(good[1]))
    world.run(steps.prune(world.settings))
    expected = [good[1], *good[-3:], failed]
    assert eventually(lambda: releases(world) == expected), releases(world)
    world.run(steps.prune(world.settings))
    time.sleep(0.2)
    assert releases(world) == expected


def test_prune_keeps_the_ways_back(world: World) -> None:
    """Releases that rollbacks have left push out no release that one may go to."""
    ids = [f"202601{day:02}T000000Z-abcdef0" for day in range(1, 9)]
    for number, release_id in enumerate(ids):
        world.release(release_id, "built", "good", *(["left"] if number in (1, 4, 5, 6) else []))
    world.settings = sample(keep=3)
    world.link(world.layout.release(ids[7]))
    world.run(steps.prune(world.settings))
    assert eventually(lambda: releases(world) == [ids[2], ids[3], *ids[5:]]), releases(world)


def test_prune_keeps_what_a_process_uses(world: World) -> None:
    """A release in which something runs (an old worker, somebody's shell), or whose master runs, stays."""
    used, mastered, gone = (f"2026010{n}T000000Z-abcdef0" for n in (1, 2, 3))
    for release_id in (used, mastered, gone):
        world.release(release_id)
    live = world.release("20260104T000000Z-abcdef0", "built", "good")
    world.link(live)
    master = {"release": str(world.layout.release(mastered).root), "pid": 1}
    Path(world.layout.state / "master.json").write_text(json.dumps(master))
    project = world.layout.release(used).project
    process = subprocess.Popen(["sleep", "60"], cwd=project)
    try:
        world.run(steps.prune(world.settings))
        assert eventually(lambda: releases(world) == [used, mastered, live.id]), releases(world)
    finally:
        process.kill()
        process.wait()


def test_prune_with_nothing_there(world: World) -> None:
    """No release, no static files, no logs: nothing to do, and no error."""
    world.twice(steps.prune(world.settings))
    assert releases(world) == []


def test_prune_ends_without_the_lock(world: World) -> None:
    """The deleting goes on after the runner, and the next deploy does not wait for it."""
    release = world.release("20260101T000000Z-abcdef0")
    for number in range(3000):
        Path(release.root / f"{number}").touch()
    world.stub("rm", f'case "$*" in *.trash-*) echo $$ >{world.root}/rm; sleep 1 ;; esac; exec /bin/rm "$@"')
    with world.connect().runner(lock=world.lock()) as runner:
        runner.run([steps.prune(world.settings)])
    assert eventually((world.root / "rm").exists)
    with world.connect().runner(lock=world.lock()):
        assert alive(int((world.root / "rm").read_text()))
    assert eventually(lambda: releases(world) == [])


def test_prune_leaves_strangers_alone(world: World) -> None:
    """What is no release of ours is not removed, whatever it is called."""
    folder = Path(world.layout.releases)
    strangers = ["*", "my backup", "-rf", "$(touch bait)", ".hidden", "lost+found"]
    for name in strangers:
        (folder / name).mkdir()
    world.release("20260101T000000Z-abcdef0")
    world.run(steps.prune(world.settings))
    assert eventually(lambda: releases(world) == sorted(strangers)), releases(world)
    assert not world.bait()


def test_prune_takes_unused_static_files_away(world: World) -> None:
    """Static files that only releases beyond keep_static had go; others, listed or of the kept ones, stay."""
    kept = Path(world.layout.kept_static)
    (kept / ".lists").mkdir()
    for number in range(1, 5):
        names = ["css/all.00000000.css", f"css/only {number}.0000000{number}.css"]
        for name in names:
            (kept / name).parent.mkdir(exist_ok=True)
            (kept / name).write_text(name)
        listed = kept / ".lists" / f"2026010{number}T000000Z-abcdef0"
        listed.write_text("".join(f"{name}\n" for name in names))
        os.utime(listed, (number, number))
    world.settings = sample(keep_static=2)
    left = ["all.00000000.css", "only 3.00000003.css", "only 4.00000004.css"]
    for _ in range(2):
        world.run(steps.prune(world.settings))
        assert eventually(lambda: sorted(path.name for path in (kept / "css").iterdir()) == left)
    assert eventually(lambda: len(list((kept / ".lists").iterdir())) == 2)


def test_drop_removes_only_its_release(world: World) -> None:
    """An unfinished release goes; twice is once."""
    mine, other = world.release(ID), world.release("20260101T000000Z-abcdef0")
    world.twice(steps.remove(mine))
    assert releases(world) == [other.id]
    assert steps.remove(mine).parameters == {"release": mine.root}
