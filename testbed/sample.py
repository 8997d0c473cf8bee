"""The settings of the sample site that no default knows, for whatever needs the settings of some app."""

from typing import Any

from fabfile.config.settings import Settings

VALUES: dict[str, Any] = {
    "name": "consult",
    "domain": "api.consult.dev",
    "path": "/app",
    "project": "apps/web",
    "wsgi": "config.wsgi:application",
}
# What every hosts.toml has to say, but for the hosts.
APP = """
repo = "git@example.org:team/app.git"
name = "consult"
domain = "api.consult.dev"
wsgi = "config.wsgi:application"
"""


def sample(**values: Any) -> Settings:
    """The sample site's settings, with others over them."""
    return Settings(**{**VALUES, **values})
