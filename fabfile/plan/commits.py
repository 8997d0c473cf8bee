"""The commit that is to go live, as the host's mirror of the repository knows it (`fetch` in host/lib/release.sh)."""

import difflib
from dataclasses import dataclass

from ..config.settings import Settings
from ..errors import ConfigError


@dataclass(frozen=True)
class Found:
    """What a branch, tag or commit names: a commit that `adds` so many to the live one, and `lacks` so many of it.

    `lacking` are the newest of those that it lacks, as `abc1234 subject`.
    """

    commit: str
    subject: str
    adds: int = 0
    lacks: int = 0
    lacking: tuple[str, ...] = ()


def parse(answer: str, host: str, settings: Settings) -> Found:
    """Read the answer of `fetch` for the branch of the settings. ConfigError names the nearest to one that is not."""
    ref = settings.branch
    lines = [(word, rest) for word, _, rest in (line.partition(" ") for line in answer.splitlines())]
    said = dict(lines)
    if "commit" in said:
        commit, _, subject = said["commit"].partition(" ")
        adds, _, lacks = said.get("beside", "0 0").partition(" ")
        return Found(commit, subject, int(adds), int(lacks), tuple(rest for word, rest in lines if word == "lacks"))
    nearest = difflib.get_close_matches(ref, [rest for word, rest in lines if word == "known"], n=3)
    hint = f"did you mean {' or '.join(nearest)}?" if nearest else f"git push origin {ref}"
    raise ConfigError(f"{host}: {settings.repo} has no branch, tag or commit {ref}", hint=hint)
