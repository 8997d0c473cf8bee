"""What is judged of the folder that an old deploy wrote into: its checkout, its data, the room for a release. Pure."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from ...config.texts import NO_PLACE_FOR_THE_APP
from .findings import Findings

if TYPE_CHECKING:
    from ...config.settings import Settings

MEGABYTE = 1024  # kB
ROOM = 1.3  # of the old tree: a release of it, with the packages and their cache
SPARE = 300 * MEGABYTE
SHOWN = 10  # names in one sentence
# Made by a deploy, or by nobody in particular.
OF_NO_INTEREST = re.compile(
    r"(.*/)?(\.venv|venv|__pycache__|node_modules|\.doppler-token|\.doppler(\.ya?ml)?|\.git|\.(pytest|ruff|mypy)_cache"
    r"|[^/]*\.(egg-info|py[co]|log|sock|pid)|dist|build|\.DS_Store)/?"
)
READ_BY_APPS = re.compile(
    r"(.*/)?(\.env(\..*)?|.*\.env|local_settings\.py|settings_local\.py|secrets?\.(json|toml|ya?ml))"
)


def judge_folder(settings: "Settings", found: Mapping[str, Any], findings: Findings) -> bool:
    """Judge what lies at the app's path; return whether it is a folder that a release can take the place of."""
    folder, git = found["folder"], found["git"]
    path = folder["path"]
    if folder["kind"] == "nothing":
        _stop_elsewhere(settings, found, findings)
    elif folder["kind"] == "link":
        findings.stop(
            f"{path} is a link to {folder['target']}: adopt takes the place of a real folder that was deployed into",
            "another deploy tool switches that link: end it, and in a quiet minute put the folder itself in its place, "
            f"on the server: rm {path}; mv {folder['target']} {path}, and adopt",
        )
    elif folder["kind"] != "folder":
        findings.stop(f"{path} is no folder", f'name the folder of the checkout in hosts.toml: path = "{path}"')
    elif folder["mount"]:
        findings.stop(
            f"{path} is a mount point: nothing can take its place while it is in use",
            f"move the checkout into a folder of the disk below, and mount nothing at {path}",
        )
    elif not git["checkout"]:
        findings.stop(
            f"{path} is not a git checkout ({git['why']}): which commit is live cannot be told",
            f"make it one as its owner: git -C {path} init; git -C {path} fetch {settings.repo or 'REPOSITORY'}; git "
            f"-C {path} reset COMMIT, with the commit that was copied there",
        )
    else:
        return True
    return False


def _stop_elsewhere(settings: "Settings", found: Mapping[str, Any], findings: Findings) -> None:
    """Tell where the app may lie instead."""
    path = found["folder"]["path"]
    others = [each["folder"] for each in found["others"] if each["folder"]]
    near = [each for each in others if settings.name in each] or others
    if not near:
        findings.stop(
            f"{path} is not there",
            'name the folder of the checkout in hosts.toml: path = "/FOLDER"; or, where nothing runs yet: provision',
        )
        return
    if NO_PLACE_FOR_THE_APP.fullmatch(near[0]):
        findings.stop(
            f"{path} is not there; an app runs from {near[0]}, which the new service cannot see (ProtectHome)",
            f"move it first, in a quiet minute: stop its service, mv {near[0]} {path}, write {path} into its unit and "
            "site, start it",
        )
        return
    findings.stop(
        f"{path} is not there; an app runs from {', '.join(near)}",
        f"path = {json.dumps(near[0])} in hosts.toml (the folder of the checkout, in which .git lies)",
    )


def judge_checkout(settings: "Settings", found: Mapping[str, Any], findings: Findings) -> None:
    """Tell what was changed by hand, and what a release will not have."""
    path, git = found["folder"]["path"], found["git"]
    if git["changed"]:
        findings.tell(
            f"{path} has local changes in {listed(git['changed'])}: they are saved as a patch, but a release is of "
            "the commit alone; commit them if they matter"
        )
    if untracked := [
        name for name in git["untracked"] if not _is_kept(settings, name) and not OF_NO_INTEREST.fullmatch(name)
    ]:
        findings.tell(
            f"{path} has files that git does not know: {listed(untracked, git['more'])}; they stay in {path}.adopted, "
            "and no release has them"
        )
    if not git["pushed"]:
        findings.tell(
            f"commit {git['commit'][:12]} is on no branch of the remote: it is taken from {path}, but the next deploy "
            f"takes {settings.branch} of the repository; push it if it matters"
        )
    if settings.repo and git["origin"] and _place(settings.repo) != _place(git["origin"]):
        findings.tell(
            f"{path} was cloned from {git['origin']}, while repo in hosts.toml is another: the next deploy takes that"
        )
    _judge_files_of_the_app(settings, git, findings)
    _judge_python(settings, found["folder"], findings)


def _judge_files_of_the_app(settings: "Settings", git: Mapping[str, Any], findings: Findings) -> None:
    """Ask for the files that are in no commit, but that the app may read."""
    there = [name.rstrip("/") for name in (*git["untracked"], *git["ignored"])]
    there = [name for name in there if not _is_kept(settings, name)]
    read = [name for name in there if READ_BY_APPS.fullmatch(name)]
    if read:
        lines = json.dumps([*settings.linked_files, *read])
        findings.need(
            f"no commit has {listed(read)}, which the app may read: a release lacks it",
            f"linked_files = {lines}",
        )
    rest = [name for name in there if name in {each.rstrip("/") for each in git["ignored"]} - set(read)]
    rest = [name for name in rest if not OF_NO_INTEREST.fullmatch(name)]
    if rest:
        findings.tell(
            f"git ignores {listed(rest)}: no release has them; what the app reads or writes there goes into "
            "linked_dirs or linked_files"
        )


def _judge_python(settings: "Settings", folder: Mapping[str, Any], findings: Findings) -> None:
    if not folder["lock_files"]:
        findings.stop(
            "the checkout has no uv.lock: a release's packages are those of uv.lock (uv sync)",
            "make one and deploy it in the old way first: uv init --bare and uv add -r requirements.txt; git add "
            "pyproject.toml uv.lock; commit and push",
        )
    old = ".".join(folder["python"].split(".")[:2])
    wanted = settings.python or ""
    if old and not wanted and not folder["by_uv"]:
        findings.need(
            f"the old virtualenv has Python {folder['python']} and was not made by uv, which would choose one itself",
            f"python = {json.dumps(old)}",
        )
    elif old and re.match(r"\d+\.\d+", wanted) and not f"{wanted}.".startswith(f"{old}."):
        findings.tell(
            f"the old virtualenv has Python {folder['python']}; the new one gets {wanted}, as hosts.toml says"
        )


def judge_data(settings: "Settings", found: Mapping[str, Any], findings: Findings) -> tuple[str, ...]:
    """Judge what outlives releases; return the linked folders and files that the old folder has."""
    path = found["folder"]["path"]
    uploads = []
    for each in found["linked"]:
        where = f"{path}/{each['path']}"
        if each["kind"] == "nothing":
            continue
        uploads.append(each["path"])
        if each["kind"] == "link":
            findings.stop(
                f"{where} is a link to {each['target']}: what outlives releases has to lie in the folder itself",
                f"take {each['path']} out of hosts.toml if the app names {each['target']} itself; or put a bind mount "
                f"in place of the link after the adoption (mount --bind {each['target']} "
                f"/srv/{settings.name}/shared/...)",
            )
        elif each["mount"] or not each["same_disk"]:
            findings.stop(
                f"{where} lies on another file system than /srv: it cannot be moved there in one step",
                "move it to the disk of /srv, or take it out of hosts.toml and let the app name it by a path outside "
                f"of {path}",
            )
        elif each["owner"] != settings.user:
            findings.stop(
                f"{where} belongs to {each['owner']}, and {settings.user} is to write there",
                f"chown -R {settings.user}:{settings.group} {where}",
            )
    if databases := found["folder"]["databases"]:
        findings.stop(
            f"{listed(databases)} in {path} is an SQLite database: two processes that know it by two names would "
            "spoil it",
            "if the app does not use it, move it away. If it does, adopt cannot take this server while it serves: "
            f"stop the old service, move {path} away and provision; copy the database into the shared folder before "
            "the first deploy (linked_dirs)",
        )
    return tuple(uploads)


def judge_room(found: Mapping[str, Any], findings: Findings) -> None:
    """Stop where the disk has no room for a release beside the old folder."""
    folder = found["folder"]
    wanted = int(folder["size"] * ROOM) + SPARE
    if folder["free"] < wanted:
        findings.stop(
            f"the disk of /srv has {folder['free'] // MEGABYTE} MB free, and a release beside {folder['path']} takes "
            f"some {wanted // MEGABYTE} MB",
            "make room on the server, e.g.: apt-get clean; journalctl --vacuum-size=100M; du -xh / | sort -h | tail",
        )


def listed(names: Iterable[str], more: int = 0) -> str:
    """Return names as part of a sentence; of many, the first."""
    names = list(names)
    rest = max(0, len(names) - SHOWN) + more
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")


def _is_kept(settings: "Settings", name: str) -> bool:
    """Return whether a name in the checkout is of something that releases have, or hold it."""
    kept = (*settings.linked_folders, *settings.linked_files, settings.static_folder)
    return any(_within(name, each) or _within(each, name.rstrip("/")) for each in kept)


def _within(path: str, folder: str) -> bool:
    return f"{path}/".startswith(f"{folder}/")


def _place(address: str) -> str:
    """Return what two addresses of one repository have in common: host and path."""
    match = re.fullmatch(r"(?:\w+://)?(?:[^@/]*@)?([^/:]+)(?::\d+(?=/))?[:/]/?(.*?)(?:\.git)?/?", address)
    return f"{match[1]}/{match[2]}".lower() if match else address
