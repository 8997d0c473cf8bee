"""A Django repository, read as a whole: what hosts.toml has to say of it, and what it lacks."""

import re

from ..errors import ConfigError
from . import django, packages, processes, urls
from .files import Repository
from .report import Report


def survey(repository: Repository, within: str, origin: str) -> Report:
    """Return what was found below the folder `within`; `origin` is the repository's address, or nothing.

    Raises ConfigError where there is no Django project, or none that uv can install.
    """
    report = Report()
    found = django.find(repository, within, report)
    if found is None:
        raise ConfigError(
            f"there is no manage.py of Django in {repository.root / within}",
            hint="fab init PATH-OR-ADDRESS, of a repository with a Django project in it",
        )
    if commands := packages.what_is_missing(repository, found.project):
        raise ConfigError(
            "this is no uv project: a release is built by `uv sync` from pyproject.toml and uv.lock",
            hint="these in the repository, commit what they write, and fab init again\n"
            + "\n".join(f"    {command}" for command in commands),
        )
    report.set("name", _name(repository, found.project, origin))
    django.application(repository, found, report)
    django.static_files(found, report)
    django.kept_places(repository, found, report)
    django.domains(found, report)
    packages.python(repository, found.project, report)
    packages.gunicorn(repository, found.project, report)
    urls.health_path(repository, found, report)
    processes.processes(repository, found, report)
    return report


def _name(repository: Repository, project: str, origin: str) -> str:
    """Return a name for the app: that of the repository, else of its package or its folder."""
    path = repository.upwards("pyproject.toml", project)
    metadata = repository.toml(path).get("project", {}) if path else {}
    address = re.split(r"[/:]", origin.rstrip("/"))[-1].removesuffix(".git")
    for text in (address, str(metadata.get("name", "")), repository.root.name):
        if name := re.sub(r"[^a-z0-9]+", "-", text.lower()).lstrip("-0123456789")[:31].strip("-"):
            return name
    return "app"
