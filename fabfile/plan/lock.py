"""Who holds a host: the lock info in the lock file, and what another run is told of it."""

import getpass
import json
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

from ..errors import Locked


@dataclass(frozen=True)
class Lock:
    """What a runner takes before its first batch: the lock file, and what to write into it for others to read.

    `wait` is how many seconds to queue for it; 0 asks once.
    """

    path: PurePosixPath
    holder: str
    wait: int = 0


def operator() -> str:
    """Who runs this command, for people: CI's name of the actor, else user@machine."""
    for name in ("DEPLOY_USER", "GITHUB_ACTOR", "GITLAB_USER_LOGIN"):
        if who := os.environ.get(name):
            return " ".join(who.split())[:100]
    try:
        return f"{getpass.getuser()}@{socket.gethostname()}"
    except (KeyError, OSError):
        return f"uid {os.getuid()}@{socket.gethostname()}"


def lock_info(what: str, message: str = "") -> str:
    """The lock info: one line of JSON with who, what, since (ISO 8601, UTC) and a message."""
    since = datetime.now(UTC).isoformat(timespec="seconds")
    return json.dumps({"who": operator(), "what": what, "since": since, "message": message})


def describe_holder(text: str) -> str:
    """Say lock info in words; info that cannot be read is somebody unknown. An admin's `remove` leaves none."""
    if not text:
        return "work that left no name, like an admin's `remove`"
    try:
        data = json.loads(text)
        words = f"{data['what']} by {data['who']} since {data['since']}"
        return f"{words}: {data['message']}" if data.get("message") else words
    except (ValueError, KeyError, TypeError, RecursionError):
        return "work of somebody unknown"


def locked(host: str, text: str) -> Locked:
    """The error for a run that finds `host` busy."""
    return Locked(
        f"{host} is held by {describe_holder(text)}",
        hint="wait for it with --wait, or look: fab -H " + host + " status",
    )


def frozen(host: str, text: str) -> Locked:
    """The error for a run that finds `host` locked by hand."""
    return Locked(f"{host} is locked by hand: {describe_holder(text)}", hint=f"fab -H {host} unlock")
