"""Steps of a release as a folder: fetched, checked out, marked, recorded, pruned (host/lib/release.sh)."""

from ..config.layout import Release
from ..config.settings import Settings
from .step import Step

FETCH = "fetch_the_repository"
HISTORY = "read_the_history"


def fetch(settings: Settings, ref: str = "") -> Step:
    """Bring the mirror up to date; answers `commit SHA SUBJECT`, or `known NAME` lines when nothing is called so."""
    parameters = {"repo": settings.repo, "ref": ref or settings.branch}
    return Step(FETCH, "Fetch the repository", "fetch", parameters, timeout=settings.timeouts.fetch)


def check_out(settings: Settings, release: Release, commit: str) -> Step:
    """Check the commit out as a worktree; needs the files gunicorn.conf.py, gunicorn.json and release.json."""
    return Step(
        "lay_out_the_release",
        "Lay out the release",
        "check_out",
        {
            "release": release.root,
            "commit": commit,
            "project": settings.project,
            "manage_py": settings.manage,
            "linked_dirs": settings.linked_folders,
            "linked_files": settings.linked_files,
            "media": settings.media.folder,
        },
        timeout=settings.timeouts.fetch,
    )


def put_link(name: str) -> Step:
    """Put the file `content`, sent to the runner, in place below shared/."""
    return Step("put_the_file_in_place", "Put the file in place", "put_link", {"name": name})


def remove(release: Release) -> Step:
    """Remove a release that was never live."""
    title = "Remove the unfinished release"
    return Step("remove_the_unfinished_release", title, "remove_release", {"release": release.root}, timeout=120)


def mark_built(release: Release) -> Step:
    """Say that the release is whole, once the disk has it."""
    title = "Mark the release as whole"
    return Step("mark_the_release_as_whole", title, "mark_built", {"release": release.root}, timeout=120)


def mark_good(release: Release, leaves: Release | None = None) -> Step:
    """Say that the release is live and healthy, with its files; `leaves` is the one that a rollback went back from."""
    parameters = {"release": release.root, "left": leaves.root if leaves else None}
    return Step("mark_the_release_as_good", "Mark the release as good", "mark_good", parameters, live=True)


def record(entry: str) -> Step:
    """Append one line of JSON to the host's history."""
    return Step("record_the_deploy", "Record the deploy", "record", {"entry": entry})


def read_history(lines: int) -> Step:
    """Answer with the newest entries of the host's history."""
    return Step(HISTORY, "Read the history", "read_history", {"lines": lines})


def prune(settings: Settings) -> Step:
    """Remove old and half-made releases."""
    parameters = {"keep": settings.keep, "keep_static": settings.keep_static}
    return Step("prune_old_releases", "Prune old releases", "prune", parameters, timeout=120)
