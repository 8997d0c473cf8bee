"""Where things lie on the operator's machine: the tool is a clone, or a wheel in the app's virtualenv."""

import importlib.metadata
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigError

PACKAGE = Path(__file__).parents[1]
PROJECT = PACKAGE.parent
IN_CLONE = not (PACKAGE / "templates").is_dir()  # the wheel has them inside
TEMPLATES = (PROJECT if IN_CLONE else PACKAGE) / "templates"
HOSTS = "hosts.toml"
DISTRIBUTION = "django-deploy"


def hosts_file(environ: Mapping[str, str] = os.environ) -> Path:
    """The hosts.toml in use: what DJANGO_DEPLOY_HOSTS names, the nearest from the working folder upwards, the clone's.

    Raises ConfigError when there is none.
    """
    if named := environ.get("DJANGO_DEPLOY_HOSTS"):
        return Path(named).expanduser()
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / HOSTS).is_file():
            return folder / HOSTS
    if IN_CLONE:
        return PROJECT / HOSTS
    raise ConfigError(
        f"there is no {HOSTS} in {here}, nor in a folder above it",
        hint=f"write {HOSTS} beside the app's pyproject.toml; DJANGO_DEPLOY_HOSTS names a file elsewhere",
    )


def own_templates(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder whose templates win over the tool's, where it has any of theirs: `templates` beside hosts.toml."""
    try:
        return hosts_file(environ).absolute().parent / "templates"
    except ConfigError:
        return TEMPLATES


def replaced_templates() -> list[Path]:
    """Templates of the tool that the app replaces by its own."""
    own = own_templates()
    return [] if own == TEMPLATES else [own / each.name for each in ours() if (own / each.name).is_file()]


def ours() -> list[Path]:
    """The tool's own templates."""
    return sorted(TEMPLATES.glob("*.j2"))


def version() -> str:
    """The version of this tool, as pyproject.toml has it; the wheel was made from that."""
    if IN_CLONE:
        return tomllib.loads((PROJECT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    return importlib.metadata.version(DISTRIBUTION)
