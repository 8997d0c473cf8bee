"""How the health path is asked: as nginx hands on a visitor's request. Said here once, for curl and httpx alike."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config.settings import Settings


def headers(settings: "Settings", agent: str = "django-deploy") -> dict[str, str]:
    """The headers of a request to `domain` that came over https: SECURE_SSL_REDIRECT would answer another with 301.

    `agent` is the name by which nginx's log tells who asked.
    """
    return {
        "Host": settings.domain,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-For": "127.0.0.1",
        "User-Agent": agent,
    }


def header_lines(settings: "Settings") -> list[str]:
    """The same as lines of HTTP."""
    return [f"{name}: {value}" for name, value in headers(settings).items()]
