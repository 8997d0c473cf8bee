"""Repositories of other shapes than the sample's, each from nothing to a rollback, as a transcript with times.

hosts.toml is written by hand here (`BY_HAND`): `fab init` is to take its place.
"""

import argparse
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from testbed.harness import PROJECT, Result, Site, throw_away, wait_for
from testbed.lab import set_secrets
from testbed.lab.repository import bare_repository, commit

SHAPES = PROJECT / "testbed" / "shapes"
MADE = {".venv", "__pycache__", "staticfiles"}  # by a developer's own runs
TO_UV = (("uv", "init", "--bare"), ("uv", "add", "-r", "requirements.txt"), ("uv", "add", "gunicorn"))
WORKER = "celery -A queueapp worker --concurrency 1"
BY_HAND: dict[str, dict[str, Any]] = {
    "notes": {
        "project": ".",
        "wsgi": "notes.wsgi:application",
        "health_path": "/",
        "linked_dirs": ["media"],
        "linked_files": ["db.sqlite3"],
    },
    "queue": {
        "project": ".",
        "wsgi": "queueapp.wsgi:application",
        "linked_dirs": ["var/queue"],
        "processes": {"worker": {"command": WORKER}},
    },
    "workspace": {"project": "web", "wsgi": "core.wsgi:application", "static_root": "../staticfiles"},
    "oldschool": {"project": ".", "wsgi": "oldschool.wsgi:application", "static_root": "static_root"},
}
SECRETS = {"queue": {"DJANGO_SETTINGS_MODULE": "queueapp.settings.production", "DJANGO_SECRET_KEY": "of-the-lab"}}
PAGES = {
    "notes": "board/templates/board/index.html",
    "queue": "src/queueapp/words/templates/words/index.html",
    "workspace": "web/home/templates/home/index.html",
    "oldschool": "guestbook/templates/guestbook/index.html",
}


@dataclass
class Transcript:
    """What was typed, how long it took, what a visitor saw; and which promises failed."""

    lines: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def ran(self, words: str, result: Result, seconds: float) -> None:
        """Note a command."""
        self.lines += [f"$ fab -H {words}   # exit {result.code}, {seconds:.1f} s", result.text.rstrip()]
        self.promise(result.code == 0, f"`{words}` ends with 0 ({result.code})")

    def promise(self, kept: bool, what: str) -> None:
        """Note whether something is as promised."""
        self.lines.append(f"# {'yes' if kept else 'NO'}: {what}")
        if not kept:
            self.broken.append(what)


def tree(name: str) -> dict[str, bytes]:
    """The files of a shape, by path."""
    top = SHAPES / name
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not MADE.intersection(path.relative_to(top).parts)
    }


def typed(site: Site, transcript: Transcript, *words: str) -> bool:
    """Type a command, and say whether it went well."""
    begin = time.monotonic()
    result = site.fab(*words)
    transcript.ran(" ".join((site.name, *words)), result, time.monotonic() - begin)
    return result.code == 0


def visit(site: Site, transcript: Transcript, words: str) -> None:
    """What a visitor sees: the page with `words`, and its stylesheet."""
    page = site.get("/")
    transcript.promise(page.status_code == 200 and words in page.text, f"/ is 200 and says {words!r}")
    found = re.search(r'href="([^"]*\.css)"', page.text)
    sheet = site.get(found[1]).status_code if found else 0
    transcript.promise(sheet == 200, f"the page's stylesheet is 200 ({sheet})")


def upload(site: Site) -> None:
    """Leave a note with a file, as a browser does."""
    address = f"http://{site.host.address}/"
    with httpx.Client(headers={"Host": site.domain}, timeout=20) as client:
        found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', client.get(address).text)
        token = found[1] if found else ""
        cookie = {"Cookie": f"csrftoken={client.cookies.get('csrftoken')}"}
        form = {"csrfmiddlewaretoken": token, "text": "kept"}
        client.post(address, data=form, files={"attachment": ("kept.txt", b"kept")}, headers=cookie)


def leave(site: Site, name: str, transcript: Transcript) -> Iterator[None]:
    """Leave what has to stay, then look for it each time that this goes on."""
    if name == "notes":
        upload(site)
    if name == "queue":
        httpx.post(f"http://{site.host.address}/", headers={"Host": site.domain}, data={"body": "one two three"})
        wait_for(lambda: "one two three: 3" in site.get("/").text, seconds=20, what=lambda: site.get("/").text)
    while True:
        if name == "notes":
            there = "kept" in site.get("/").text and site.run("cat /srv/notes/shared/media/notes/kept.txt") == "kept"
            transcript.promise(there, "the note and its upload are on the host")
            seen = site.get("/media/notes/kept.txt").status_code
            transcript.lines.append(f"# seen: the upload's address answers {seen}")  # told, not promised
        if name == "queue":
            transcript.promise("one two three: 3" in site.get("/").text, "the worker's job is done")
        yield


def uv_project(checkout: Path, files: dict[str, bytes], transcript: Transcript) -> dict[str, bytes]:
    """What the three commands make of a repository with a requirements.txt."""
    for path, content in files.items():
        (checkout / path).parent.mkdir(parents=True, exist_ok=True)
        (checkout / path).write_bytes(content)
    for words in TO_UV:
        subprocess.run([*words, "--quiet"], cwd=checkout, check=True)
        transcript.lines.append(f"$ {' '.join(words)}")
    return {made: (checkout / made).read_bytes() for made in ("pyproject.toml", "uv.lock")}


def walk(name: str, host_name: str, folder: Path) -> Transcript:
    """One shape on a fresh host: provision, deploy, a change, deploy, rollback."""
    transcript = Transcript()
    with throw_away(host_name) as host:
        site = Site(host, folder, app=name, domain=f"{name}.lab", cold=True)
        bare = host.root / f"srv/lab/git/{name}.git"
        bare_repository(bare)
        files = tree(name)
        commit(bare, dict(files), message="Begin")
        site.settings |= {"repo": f"git://127.0.0.1/{name}.git"} | BY_HAND[name]
        set_secrets(host, ALLOWED_HOSTS=f"{name}.lab,127.0.0.1,localhost", **SECRETS.get(name, {}))
        site.environment["DOPPLER_TOKEN"] = host.doppler_token
        if not typed(site, transcript, "provision"):
            return transcript
        if name == "oldschool":
            refused = site.fab("deploy")
            transcript.lines += [f"$ fab -H {site.name} deploy   # exit {refused.code}", refused.text.rstrip()]
            told = all(" ".join(words) in refused.text for words in TO_UV)
            transcript.promise(refused.code != 0 and told, "it is refused, with the three commands")
            commit(bare, uv_project(folder / name, files, transcript), message="A uv project")
        if not typed(site, transcript, "deploy"):
            return transcript
        visit(site, transcript, "<h1>")
        kept = leave(site, name, transcript)
        next(kept)
        page = PAGES[name]
        commit(bare, {page: files[page].replace(b"<h1>", b"<h1>Second: ")}, message="Another heading")
        typed(site, transcript, "deploy")
        visit(site, transcript, "<h1>Second: ")
        next(kept)
        typed(site, transcript, "rollback")
        visit(site, transcript, "<h1>")
        transcript.promise("Second: " not in site.get("/").text, "the rollback is what visitors see")
        next(kept)
    return transcript


def main() -> int:
    """Walk through the shapes named, or all."""
    parser = argparse.ArgumentParser(prog="just shapes", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BY_HAND)}; all when none is given")
    failed = 0
    for name in parser.parse_args().names or BY_HAND:
        with tempfile.TemporaryDirectory() as folder:
            transcript = walk(name, f"shape-{name}", Path(folder))
        text = "\n".join(transcript.lines)
        sys.stdout.write(f"## {name}\n\n```\n{text}\n```\n\n")
        sys.stdout.flush()
        failed += bool(transcript.broken)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
