"""Steps of the app's code: its virtualenv, static files and migrations (host/lib/virtualenv.sh, django.sh)."""

import re

from ..config.layout import Release
from ..config.settings import Settings
from .step import Step, Value

BUILD = "build_the_virtualenv"
MIGRATE = "migrate_the_database"
PRELUDE = "migrate_what_breaks_nothing"
NOTE = "note: "  # begins a line that a person is to see although the step goes well


def build_virtualenv(settings: Settings, release: Release, *, anew: bool = False) -> Step:
    """Build the release's virtualenv from its lock file with `uv sync`; `anew` takes nothing that is there already."""
    python = ["--python", settings.python] if settings.python else []
    arguments = [*settings.sync_args, *python]
    parameters = {"release": release.root, "project": settings.project, "arguments": arguments, "anew": anew}
    timeout = settings.timeouts.sync
    return Step(BUILD, "Build the virtualenv", "build_virtualenv", parameters, timeout=timeout)


def collect_static(settings: Settings, release: Release) -> Step:
    """Collect the static files into the release, and keep those with hashed names for pages of earlier releases."""
    return Step(
        "collect_the_static_files",
        "Collect the static files",
        "collect_static",
        {**manage(settings, release), "static_root": settings.static_folder, "limit": settings.timeouts.boot},
        timeout=settings.timeouts.collectstatic,
    )


def migrate(settings: Settings, release: Release, *, stop: str = "", held: bool = False) -> Step:
    """Apply the migrations of the release, or only those before `stop`; `held` says that requests wait meanwhile."""
    step, title = (PRELUDE, "Migrate what breaks nothing") if stop else (MIGRATE, "Migrate the database")
    timeout, limit = (settings.hold, "hold") if held else (settings.timeouts.migrate, "timeouts.migrate")
    own = {"lock": settings.timeouts.lock, "stop": stop or None, "limit": settings.hold if held else None}
    return Step(step, title, "migrate", {**manage(settings, release), **own}, timeout=timeout, limit=limit)


def doppler(settings: Settings) -> dict[str, Value]:
    """The parameters of every function that runs something under Doppler."""
    return {"doppler_project": settings.doppler_project, "doppler_config": settings.doppler_config}


def manage(settings: Settings, release: Release) -> dict[str, Value]:
    """The parameters of every function that runs manage.py of a release."""
    where = {"release": release.root, "project": settings.project, "manage_py": settings.manage}
    return {**where, **doppler(settings)}


def notes(output: str) -> list[str]:
    """What a step has to tell although it went well."""
    return [line.removeprefix(NOTE) for line in output.splitlines() if line.startswith(NOTE)]


def migrations(output: str) -> tuple[list[str], str]:
    """What `manage.py migrate` says: the migrations that it applied, and the one that it began and did not end."""
    _, *pieces = re.split(r"Applying (\S+)\.\.\.", output)
    applied, begun = [], ""
    for name, said in zip(pieces[::2], pieces[1::2], strict=True):
        if re.search(r" OK$", said, re.MULTILINE):
            applied.append(name)
            begun = ""  # it may have been tried before
        else:
            begun = name
    return applied, begun
