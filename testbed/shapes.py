"""Repositories of other shapes than the sample's, each from `git clone` to a rollback, as a transcript with times.

Whoever walks here has the README alone: `fab init` writes hosts.toml, and what a message says to do next is done.
"""

import argparse
import os
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from testbed.harness import PROJECT, Result, Site, throw_away, wait_for
from testbed.lab import LabHost, set_secrets, start_acme
from testbed.lab.repository import bare_repository, commit

SHAPES = PROJECT / "testbed" / "shapes"
NAMES = ("notes", "queue", "workspace", "oldschool", "magazine")
MADE = {".venv", "__pycache__", "staticfiles"}  # by a developer's own runs
# What the to-do list of `fab init` asks for, and no file of a repository can tell.
SECRETS = {
    "queue": {"DJANGO_SETTINGS_MODULE": "queueapp.settings.production", "DJANGO_SECRET_KEY": "of-the-lab"},
    "magazine": {"DJANGO_SETTINGS_MODULE": "magazine.settings.production"},
}
# What only its author knows: a folder that a setting of the app's own names (docs/your-app.md, where it may write).
BY_HAND = {"queue": 'linked_dirs = ["var/queue"]'}
PAGES = {
    "notes": "board/templates/board/index.html",
    "queue": "src/queueapp/words/templates/words/index.html",
    "workspace": "web/home/templates/home/index.html",
    "oldschool": "guestbook/templates/guestbook/index.html",
    "magazine": "home/templates/home/home_page.html",
}


@dataclass
class Transcript:
    """What was typed, how long it took, what a visitor saw; and which promises failed."""

    lines: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def ran(self, command: str, result: Result, seconds: float) -> None:
        """Note a command."""
        self.lines += [f"$ {command}   # exit {result.code}, {seconds:.1f} s", result.text.rstrip()]

    def promise(self, kept: bool, what: str) -> None:
        """Note whether something is as promised."""
        self.lines.append(f"# {'yes' if kept else 'NO'}: {what}")
        if not kept:
            self.broken.append(what)


@dataclass
class Walker:
    """Somebody with a repository, a fresh server, and the README."""

    name: str
    site: Site
    transcript: Transcript = field(default_factory=Transcript)

    @property
    def origin(self) -> Path:
        """The repository that the server clones, as a folder here."""
        return self.site.host.root / f"srv/lab/git/{self.name}.git"

    @property
    def checkout(self) -> Path:
        return self.site.folder / self.name

    def type(self, *words: str) -> Result:
        """Type a `fab` command, and note how it went."""
        begin = time.monotonic()
        process = self.site.start_raw(*words)
        out, err = process.communicate(timeout=240)
        result = Result(process.returncode, out, err)
        self.transcript.ran(" ".join(("fab", *words)), result, time.monotonic() - begin)
        return result

    def well(self, *words: str) -> bool:
        """Type a command on the server, and say whether it went well, as it has to."""
        command = ("-H", "production", *words)
        code = self.type(*command).code
        self.transcript.promise(code == 0, f"`fab {' '.join(command)}` ends with 0 ({code})")
        return code == 0

    def git(self, *words: str) -> None:
        """Run git in the checkout, as somebody whose own settings decide nothing."""
        settings = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null", "PATH": os.environ["PATH"]}
        who = ("-c", "user.name=Lab", "-c", "user.email=lab@localhost")
        subprocess.run(["git", *who, *words], cwd=self.checkout, env=settings, check=True, stdout=subprocess.DEVNULL)

    def push(self, message: str) -> None:
        """Commit and push what stands in the checkout."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        self.git("push", "--quiet", str(self.origin), "HEAD:main")
        self.transcript.lines.append(f'$ git add --all; git commit --message "{message}"; git push')


def tree(name: str) -> dict[str, bytes]:
    """The files of a shape, by path."""
    top = SHAPES / name
    return {
        str(path.relative_to(top)): path.read_bytes()
        for path in sorted(top.rglob("*"))
        if path.is_file() and not MADE.intersection(path.relative_to(top).parts)
    }


def at_home(site: Site) -> None:
    """Give a person the key that opens the server, and the server's own key, where ssh has them."""
    home = site.folder / ".ssh"
    home.mkdir(mode=0o700)
    for name, source in (("id_ed25519", site.host.key_file), ("known_hosts", site.host.known_hosts)):
        (home / name).touch(mode=0o600)
        (home / name).write_bytes(source.read_bytes())


def init(walker: Walker) -> bool:
    """Let `fab init` write hosts.toml, and do what it lists before the first deploy."""
    site = walker.site
    written = site.folder / "written.toml"
    command = ("init", str(walker.checkout), f"--domain={site.domain}", f"--address={site.host.address}")
    result = walker.type(*command, f"--to={written}")
    if result.code == 2 and "no uv project" in result.text:
        told = re.findall(r"^    (uv .*)$", result.text, re.MULTILINE)
        walker.transcript.promise(len(told) == 3, "it is refused with three commands")
        for line in told:
            subprocess.run([*line.split(), "--quiet"], cwd=walker.checkout, check=True)
            walker.transcript.lines.append(f"$ {line}")
            if line == "uv init --bare":  # it takes this machine's Python, and the server has an older one
                project = walker.checkout / "pyproject.toml"
                project.write_text(
                    re.sub(r"(?m)^requires-python = .*$", 'requires-python = ">=3.11"', project.read_text())
                )
                walker.transcript.lines.append("$ $EDITOR pyproject.toml   # requires-python >=3.11, as on the server")
        walker.push("A uv project")
        result = walker.type(*command, f"--to={written}")
    walker.transcript.promise(result.code == 0, "`fab init` writes hosts.toml, which lacks nothing")
    if result.code:
        return False
    if paste := re.search(r"add these lines at the end of (\S+)\n\n(.*?\n)\n\S+ is written", result.text, re.DOTALL):
        with (walker.checkout / paste[1]).open("a") as file:
            file.write(f"\n{paste[2]}")
        walker.push("A health path")
    site.hosts_file = written.read_text()
    walker.transcript.promise("FILL IN" not in site.hosts_file, "no line of it is to be filled in")
    if line := BY_HAND.get(walker.name):
        site.hosts_file = site.hosts_file.replace("[app]\n", f"[app]\n{line}\n")
        walker.transcript.lines.append(f"$ $EDITOR hosts.toml   # {line}")
    walker.transcript.lines += ["$ cat hosts.toml", site.hosts_file.rstrip()]
    return True


def visit(walker: Walker, words: str) -> None:
    """What a visitor sees: the page with `words`, and its stylesheet."""
    page = walker.site.get("/")
    walker.transcript.promise(page.status_code == 200 and words in page.text, f"/ is 200 and says {words!r}")
    found = re.search(r'href="([^"]*\.css)"', page.text)
    sheet = walker.site.get(found[1]).status_code if found else 0
    walker.transcript.promise(sheet == 200, f"the page's stylesheet is 200 ({sheet})")


def upload(site: Site, words: dict[str, str], field_name: str, file: tuple[str, bytes]) -> None:
    """Send the form of the first page with a file, as a browser does."""
    with site.visitor() as visitor:
        submit(site, visitor, "/", words, files={field_name: file})


def submit(site: Site, visitor: httpx.Client, path: str, words: dict[str, str], **more: Any) -> httpx.Response:
    """Send the form of a page, with the cookie and the headers by which Django knows its own pages."""
    page = visitor.get(path)
    found = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', page.text)
    own = {"Origin": f"{site.scheme}://{site.domain}", "Referer": f"{site.scheme}://{site.domain}{path}"}
    cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
    token = found[1] if found else ""
    return visitor.post(path, data={"csrfmiddlewaretoken": token, **words}, headers={**own, "Cookie": cookies}, **more)


def picture(width: int = 600, height: int = 400) -> bytes:
    """A white PNG, which the page shows smaller."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)  # 8 bits of grey
    rows = (b"\0" + b"\xff" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def leave(walker: Walker) -> Iterator[None]:
    """Leave what has to stay, then look for it each time that this goes on."""
    site = walker.site
    if walker.name == "notes":
        upload(site, {"text": "kept"}, "attachment", ("kept.png", picture()))
    if walker.name == "magazine":
        upload(site, {"title": "kept"}, "file", ("kept.png", picture()))
    if walker.name == "queue":
        httpx.post(f"http://{site.host.address}/", headers={"Host": site.domain}, data={"body": "one two three"})
        wait_for(lambda: "one two three: 3" in site.get("/").text, what=lambda: site.get("/").text)
    while True:
        if walker.name == "notes":
            files = site.run("cd /srv/notes/shared/media && find * -type f").split()
            walker.transcript.promise(
                "kept" in site.get("/").text and files == ["notes/kept.png"], "the note and its picture are on the host"
            )
            see_upload(walker, "/media/notes/kept.png")
            walker.transcript.promise(
                site.get("/media/notes/kept.png").content == picture(), "the picture is the one that was sent"
            )
        if walker.name == "magazine":
            small = "images/kept.width-200.png"  # made by the first page that shows it
            there = f"/media/{small}" in site.get("/").text
            files = site.run("cd /srv/magazine/shared/media && find * -type f | sort").split()
            walker.transcript.promise(
                there and files == [small, "original_images/kept.png"], "the picture and its small one are on the host"
            )
            see_upload(walker, f"/media/{small}")
        if walker.name == "queue":
            walker.transcript.promise("one two three: 3" in site.get("/").text, "the worker's job is done")
        yield


def see_upload(walker: Walker, path: str) -> None:
    """Look at an upload as a visitor does."""
    seen = walker.site.get(path)
    kind = seen.headers.get("content-type")
    walker.transcript.promise(
        seen.status_code == 200 and kind == "image/png", f"visitors see the picture ({seen.status_code}, {kind})"
    )


def walk(name: str, host_name: str, folder: Path) -> Transcript:
    """One shape on a fresh host: clone, init, provision, deploy, a change, deploy, rollback."""
    with throw_away(host_name) as host:
        set_secrets(host, ALLOWED_HOSTS=f"{name}.lab,127.0.0.1,localhost", **SECRETS.get(name, {}))
        walker = come(name, host, folder)
        if init(walker) and walker.well("provision") and walker.well("deploy"):
            _and_back(walker)
        return walker.transcript


def come(name: str, host: LabHost, folder: Path) -> Walker:
    """Somebody who has cloned the repository, and has the keys of a server."""
    walker = Walker(name, Site(host, folder, app=name, domain=f"{name}.lab", cold=True))
    at_home(walker.site)
    walker.site.environment["DOPPLER_TOKEN"] = host.doppler_token
    bare_repository(walker.origin)
    commit(walker.origin, dict(tree(name)), message="Begin")
    address = f"git://127.0.0.1/{name}.git"
    walker.checkout.mkdir()
    walker.git("clone", "--quiet", str(walker.origin), ".")
    walker.git("remote", "set-url", "origin", address)  # as the server reaches it
    walker.transcript.lines.append(f"$ git clone {address}")
    return walker


def walk_together(host_name: str, folder: Path) -> list[Transcript]:
    """Three shapes on one fresh host, each by https and as a user of its own, to a first user; then one is removed."""
    with throw_away(host_name) as host:
        names = ("notes", "workspace", "oldschool")
        domains = [f"{name}.lab" for name in names]
        directory = start_acme(host, *domains)
        set_secrets(host, ALLOWED_HOSTS=",".join([*domains, "127.0.0.1"]), DJANGO_SUPERUSER_PASSWORD="of-the-lab")  # noqa: S106
        walkers = []
        for name in names:
            (folder / name).mkdir()
            walkers.append(walker := come(name, host, folder / name))
            if not init(walker):
                continue
            walker.site.scheme = "https"
            lines = [
                f'user = "{name}"', f'group = "{name}"', f'path = "/srv/{name}/app"', "default_server = false",
                f'tls = {{ letsencrypt = "ops@{name}.lab", acme_server = "{directory}" }}',
            ]  # fmt: skip
            walker.site.hosts_file = walker.site.hosts_file.replace("[app]\n", "\n".join(["[app]", *lines, ""]))
            walker.transcript.lines += [f"$ $EDITOR hosts.toml   # {line}" for line in lines]
            if walker.well("provision") and walker.well("deploy"):
                first_user(walker)
                _and_back(walker)
        last = walkers[-1]
        last.well("remove", "--yes")
        last.transcript.lines += [
            "$ find / -name '*oldschool*'   # on the server",
            found := named(last.site, "oldschool"),
        ]
        last.transcript.promise(found == "", "nothing of it is left: its data is in PostgreSQL")
        for walker in walkers[:-1]:
            visit(walker, "<h1>")
        return [walker.transcript for walker in walkers]


def first_user(walker: Walker) -> None:
    """Make one, who then gets into the admin."""
    walker.well("manage", f"createsuperuser --noinput --username {walker.name} --email ana@example.org")
    site = walker.site
    if walker.name == "workspace":  # has no admin
        return
    with site.visitor() as visitor:
        submit(site, visitor, "/admin/login/", {"username": walker.name, "password": "of-the-lab"})
        cookies = "; ".join(f"{name}={value}" for name, value in visitor.cookies.items())
        page = visitor.get("/admin/", headers={"Cookie": cookies})
    walker.transcript.promise(
        page.status_code == 200 and "Site administration" in page.text, "the first user is in the admin"
    )


def named(site: Site, name: str) -> str:
    """What on the server's disk has that name, but for the repository that others serve."""
    others = " -o ".join(f"-path {path}" for path in ("/proc", "/sys", "/srv/lab", "/var/log/journal"))
    return site.run(f"find / -xdev \\( {others} \\) -prune -o -name '*{name}*' -print | sort")


def _and_back(walker: Walker) -> None:
    """A change that visitors see, and the way back."""
    page = walker.checkout / PAGES[walker.name]
    visit(walker, "<h1>")
    kept = leave(walker)
    next(kept)
    page.write_text(page.read_text().replace("<h1>", "<h1>Second: "))
    walker.push("Another heading")
    walker.well("deploy")
    visit(walker, "<h1>Second: ")
    next(kept)
    walker.well("rollback")
    visit(walker, "<h1>")
    walker.transcript.promise("Second: " not in walker.site.get("/").text, "the rollback is what visitors see")
    next(kept)


def main() -> int:
    """Walk through the shapes named, or all."""
    parser = argparse.ArgumentParser(prog="just shapes", description=__doc__)
    parser.add_argument("--together", action="store_true", help="three on one server, each with https and its own user")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(NAMES)}; all when none is given")
    given = parser.parse_args()
    found = together() if given.together else alone(given.names or NAMES)
    failed = 0
    for name, transcript in found:
        text = "\n".join(transcript.lines)
        sys.stdout.write(f"## {name}\n\n```\n{text}\n```\n\n")
        sys.stdout.flush()
        failed += bool(transcript.broken)
    return 1 if failed else 0


def alone(names: Iterable[str]) -> Iterator[tuple[str, Transcript]]:
    """Each shape on a host of its own."""
    for name in names:
        with tempfile.TemporaryDirectory() as folder:
            yield name, walk(name, f"shape-{name}", Path(folder))


def together() -> Iterator[tuple[str, Transcript]]:
    """Three on one host."""
    with tempfile.TemporaryDirectory() as folder:
        for number, transcript in enumerate(walk_together("shapes", Path(folder)), 1):
            yield f"{number} of 3 on one server", transcript


if __name__ == "__main__":
    sys.exit(main())
