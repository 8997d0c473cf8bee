"""Runs on the host: collects the static files of a release, or links those of the live one where they are the same.

collect_static.py RELEASE LIVE STATIC_ROOT MANAGE - LIVE may be empty; STATIC_ROOT is seen from a release, MANAGE is
manage.py. In a fork of the proof, which has the app loaded, it asks Django what would be collected, and how (decision
41). The app's Python runs it, so no syntax is newer than Python 3.9.

Each release notes in .deploy/static.json: `way` (a digest of all that decides what collectstatic makes of its sources),
`sources` (by the name that a file gets: its place, size and time) and `made` (the same of what lies in the folder).
"""

import contextlib
import filecmp
import hashlib
import json
import os
import runpy
import shutil
import sys
from pathlib import Path

# Their code is the same in two releases with the same packages, and reads no other settings than these.
KNOWN_CODE = ("builtins", "django", "whitenoise")
OF_EVERY_CLASS = (
    "__annotations__", "__dict__", "__doc__", "__firstlineno__", "__module__", "__static_attributes__", "__weakref__",
)  # fmt: skip
SETTINGS = ("DEBUG", "FORCE_SCRIPT_NAME", "FILE_UPLOAD_", "STATIC", "STORAGES", "WHITENOISE_")


class Unknown(Exception):
    """What collectstatic would make cannot be told beforehand, for this reason."""


class Release:
    """A release on this host, with the folder of its static files."""

    def __init__(self, root, static_root):
        self.root = os.path.realpath(root)
        self.static = Path(self.root, static_root)
        self.packages = os.path.realpath(Path(self.root, ".deploy/virtualenv"))
        self.notes = Path(self.root, ".deploy/static.json")

    def place(self, path):
        """Where a file really is, as it is called in every release. Raises Unknown."""
        for name, folder in (("packages", self.packages), ("release", self.root)):
            if path.startswith(folder + os.sep):
                return f"{name}/{path[len(folder) + 1 :]}"
        raise Unknown(f"{path} lies outside the release")

    def text(self, value):
        """A value of a setting, equal for two releases that have the same. Raises Unknown."""
        if isinstance(value, dict):
            return f"{{{', '.join(sorted(f'{key!r}: {self.text(item)}' for key, item in value.items()))}}}"
        if isinstance(value, (list, tuple)):
            return f"[{', '.join(map(self.text, value))}]"
        if isinstance(value, (str, os.PathLike)):
            return repr(os.fspath(value).replace(self.root, "RELEASE"))
        if value is None or isinstance(value, (bool, int, float)):
            return repr(value)
        if callable(value) and hasattr(value, "__qualname__"):  # what WhiteNoise does with it is when it serves
            return f"{value.__module__}.{value.__qualname__}"
        raise Unknown(f"a setting has a {type(value).__name__}")


def planned(release, manage):
    """The `way` and the `sources` of what collectstatic is about to make. Raises Unknown."""
    if "django" not in sys.modules or not Path(release.packages).is_dir():
        raise Unknown("nothing can be asked")
    from django.apps import apps  # ty: ignore[import-not-found] -- the app's own

    if not apps.ready or not apps.is_installed("django.contrib.staticfiles"):
        raise Unknown("nothing can be asked")
    ignored = apps.get_app_config("staticfiles").ignore_patterns
    return {"way": way(release, Path(manage).read_bytes()), "sources": sources(release, ignored)}


def way(release, program):
    """A digest of what decides how sources become static files; manage.py's text too, which may do more than Django."""
    from django.conf import settings  # ty: ignore[import-not-found] -- the app's own
    from django.contrib.staticfiles.storage import staticfiles_storage  # ty: ignore[import-not-found] -- the app's own
    from django.core.management import get_commands  # ty: ignore[import-not-found] -- the app's own

    if get_commands().get("collectstatic") != "django.contrib.staticfiles":
        raise Unknown("collectstatic is a command of the app's own")
    values = {name: getattr(settings, name) for name in dir(settings) if name.startswith(SETTINGS)}
    if "STORAGES" in values:  # the others may hold secrets, and change nothing here
        values["STORAGES"] = values["STORAGES"].get("staticfiles")
    classes = [[found.__qualname__, *own_values(found)] for found in staticfiles_storage.__class__.__mro__]
    decides = [release.packages, hashlib.sha256(program).hexdigest(), release.text(values), release.text(classes)]
    return hashlib.sha256(json.dumps(decides).encode()).hexdigest()


def own_values(storage):
    """What a class of a storage adds to those it is made of: nothing where its code is known, else only values."""
    if storage.__module__.partition(".")[0] in KNOWN_CODE:
        return []
    values = {name: value for name, value in vars(storage).items() if name not in OF_EVERY_CLASS}
    if not all(isinstance(value, (str, bool, int, float, type(None))) for value in values.values()):
        raise Unknown(f"{storage.__qualname__} has code of its own")
    return [values]


def sources(release, ignored):
    """The files that collectstatic would take, by the names that they get: place, size, time."""
    from django.contrib.staticfiles.finders import get_finders  # ty: ignore[import-not-found] -- the app's own

    found, folders = {}, {}
    for finder in get_finders():
        for path, storage in finder.list(list({os.path.normpath(pattern) for pattern in ignored})):
            name = os.path.join(getattr(storage, "prefix", None) or "", path)  # noqa: PTH118 - some thousand paths
            if name in found:  # as collectstatic does
                continue
            folder, base = os.path.split(storage.path(path))
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            real = f"{folders[folder]}/{base}"
            if os.path.islink(real):  # noqa: PTH114
                real = os.path.realpath(real)
            found[name] = [release.place(real), *described(real)]
    return found


def described(path):
    """Size and time of a file: who has written to it since has changed them."""
    status = os.lstat(path)
    return [status.st_size, status.st_mtime_ns]


def made(release):
    """What lies in the folder of static files: size and time by path."""
    found = {}
    for folder, _, names in os.walk(release.static):
        for name in names:
            path = f"{folder}/{name}"
            found[path[len(str(release.static)) + 1 :]] = described(path)
    return found


def same(plan, release, live):
    """What was made of the live release's sources, if the plan would make the same of this one's; else nothing."""
    try:
        notes = json.loads(live.notes.read_text(encoding="utf-8"))
        if notes["way"] != plan["way"] or notes["sources"].keys() != plan["sources"].keys():
            return {}
        for name, (place, *_) in plan["sources"].items():
            before, *description = notes["sources"][name]
            kind, _, path = place.partition("/")
            if place != before:
                return {}
            if kind == "release":
                there = f"{live.root}/{path}"
                if described(there) != description or not filecmp.cmp(f"{release.root}/{path}", there, shallow=False):
                    return {}
        untouched = all(described(live.static / name) == description for name, description in notes["made"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return notes["made"] if untouched else {}


def link(names, release, live):
    """Have the live release's files, as links to them. Returns whether that was possible."""
    innermost = {Path(os.path.dirname(name)) for name in names}  # noqa: PTH120 - some thousand paths
    try:
        for folder in sorted(innermost | {above for each in innermost for above in each.parents}):
            (release.static / folder).mkdir(parents=True)
            shutil.copymode(live.static / folder, release.static / folder)
        for name in names:
            os.link(f"{live.static}/{name}", f"{release.static}/{name}")
    except OSError:
        shutil.rmtree(release.static, ignore_errors=True)
        return False
    return True


def collect(manage):
    """Run manage.py collectstatic in this process."""
    program = Path(__file__).with_name("manage.py")
    sys.argv = [str(program), manage, "collectstatic", "--noinput", "--verbosity", "0"]
    try:
        runpy.run_path(str(program), run_name="__main__")
    except SystemExit as end:
        if end.code:
            raise


def main(root, live_root, static_root, manage):
    """Link or collect, and note what for the next release."""
    release = Release(root, static_root)
    plan, alone = None, not release.static.exists()
    with contextlib.suppress(Exception):  # collectstatic tells of it in its own words
        plan = planned(release, manage)
    if plan and live_root and alone:
        live = Release(live_root, static_root)
        names = same(plan, release, live)
        if names and link(names, release, live):
            print(f"they are those of {Path(live.root).name}, linked")
            note(release, plan)
            return
    collect(manage)
    with contextlib.suppress(Exception):
        if alone:
            note(release, plan or planned(release, manage))


def note(release, plan):
    """Say what was made of what, for the next release."""
    release.notes.write_text(json.dumps({**plan, "made": made(release)}), encoding="utf-8")


main(*sys.argv[1:])
