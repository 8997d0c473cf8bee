"""Steps of the app's secrets (host/lib/secrets.sh)."""

from ..config.settings import Settings
from .django import doppler
from .step import Step

LIST = "list_the_secrets"
CHANGE = "change_the_secret"
LOOK = "look_at_the_secrets"


def names(settings: Settings) -> Step:
    """Answer with the names, one a line."""
    return Step(LIST, "List the secrets", "list_secrets", doppler(settings))


def set_value(name: str) -> Step:
    """Set one to what was sent as the file `value`; answers with `changed` or `same`."""
    return Step(CHANGE, "Change the secret", "set_secret", {"name": name})


def unset(name: str) -> Step:
    """Take one away; answers with `changed` or `none`."""
    return Step(CHANGE, "Change the secret", "unset_secret", {"name": name})


def replace_token(settings: Settings) -> Step:
    """Put the token sent as `doppler.env` in place, if Doppler takes it; answers with `changed` or `same`."""
    return Step("replace_the_token", "Replace the token", "replace_token", doppler(settings))


def look(settings: Settings) -> Step:
    """Answer with the names of those that the running gunicorn does not have as they are set now."""
    return Step(LOOK, "Look at the secrets", "look_at_secrets", doppler(settings))
