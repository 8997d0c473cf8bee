"""How the site is asked: the health path as nginx hands on a visitor's request, the same for curl and httpx.

Also what the site is called, and the mark by which its answers are known.
"""

import hashlib
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from ..config.settings import Settings

MARK = "X-Django-Deploy"  # the header with which nginx answers for the health path (programs/visit.py knows it too)
# What nginx compares with a request's path as it stands here, without reading any of it otherwise.
PLAIN_PATH = re.compile(r"(/(?!\.{1,2}(/|$))[A-Za-z0-9._~=+:@,-]+)+/?")


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


def names(settings: "Settings") -> list[str]:
    """What the site is called, `domain` first."""
    public = urlsplit(settings.public_url or "").hostname
    return list(dict.fromkeys([settings.domain, *settings.aliases, *([public] if public else [])]))


def proxied(settings: "Settings") -> bool:
    """Whether visitors come by https that somebody else speaks, before nginx."""
    return not settings.tls and (settings.public_url or "").startswith("https://")


def by_https(settings: "Settings") -> bool:
    """Whether visitors come by https, whoever speaks it."""
    return bool(settings.tls) or proxied(settings)


def mark(settings: "Settings") -> str:
    """What the answers of this app's health path have in `MARK`: the same on each host that is behind `public_url`."""
    site = f"{settings.name} {settings.public_url or settings.domain} {settings.health_path}"
    return hashlib.sha256(site.encode()).hexdigest()[:16]


def open_path(settings: "Settings") -> str:
    """The health path as nginx knows it, if visitors do not need it: open while a maintenance page is on.

    Empty when it is the front page, or not written as nginx compares it.
    """
    path = settings.health_path.partition("?")[0]
    return path if PLAIN_PATH.fullmatch(path) else ""
