"""Steps that find out what a deploy would do, and change nothing of the host (host/lib/preview.sh)."""

from ..config.layout import Release
from ..config.settings import Settings
from .django import BUILD
from .release import FETCH
from .step import Step

COMPARE_COMMITS = "compare_the_commits"


def fetch(settings: Settings) -> Step:
    """Fetch into the runner's folder; answers as `release.fetch` does, and `aside FOLDER`."""
    parameters = {"repo": settings.repo, "ref": settings.branch}
    return Step(FETCH, "Fetch the repository", "fetch_aside", parameters, timeout=settings.timeouts.fetch)


def compare_commits(settings: Settings, commit: str) -> Step:
    """Answer with the commits and packages that the commit brings, for plan/preview.py."""
    parameters = {"commit": commit, "project": settings.project}
    return Step(COMPARE_COMMITS, "Compare the commits", "compare_commits", parameters)


def check_out(settings: Settings, release: Release, commit: str) -> Step:
    """Check the commit out; needs the files that `release.check_out` needs."""
    return Step(
        "lay_out_the_release",
        "Lay out the release",
        "check_out_aside",
        {
            "release": release.root,
            "commit": commit,
            "project": settings.project,
            "manage_py": settings.manage,
            "linked_dirs": settings.linked_folders,
            "linked_files": settings.linked_files,
            "static_root": settings.static_folder,
        },
        timeout=settings.timeouts.fetch,
    )


def build_virtualenv(settings: Settings, release: Release) -> Step:
    """Build its virtualenv from a copy of the one that is most alike."""
    python = ["--python", settings.python] if settings.python else []
    parameters = {"release": release.root, "project": settings.project, "arguments": [*settings.sync_args, *python]}
    timeout = settings.timeouts.sync
    return Step(BUILD, "Build the virtualenv", "build_virtualenv_aside", parameters, timeout=timeout)


def folder(output: str) -> str:
    """The folder of the runner's in which all of it happens, as `fetch` answers it."""
    return next(line.partition(" ")[2] for line in output.splitlines() if line.startswith("aside "))
