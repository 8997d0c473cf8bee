"""What the pages tell a newcomer, typed as it stands there on a fresh host, carries their app to its visitors."""

import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from testbed.harness import PROJECT, Site, at_terminal, throw_away, wait_for
from testbed.lab import set_secrets
from testbed.lab.repository import bare_repository, commit
from testbed.pages import blocks, start_typing, type_in
from testbed.shapes import SECRETS, at_home, tree, upload

pytestmark = pytest.mark.lab
Edits = list[tuple[str, str, str]]  # a file, a text in it, and what stands there instead


@pytest.fixture
def site(own: Callable[[str], str], tmp_path: Path) -> Iterator[Site]:
    """A fresh server, and somebody who has a key for it and nothing else."""
    with throw_away(own("pages")) as host:
        site = Site(host, tmp_path)
        at_home(site)
        (tmp_path / ".ssh/known_hosts").unlink()
        yield site


def written(shape: str, old: str, new: str, edits: Edits) -> dict[str, str | bytes | None]:
    """A shape's files, with another name for its package, and edits."""
    files = {path.replace(old, new): data.decode().replace(old, new) for path, data in tree(shape).items()}
    for path, before, after in edits:
        assert before in files[path], f"{before!r} is not in {path}"
        files[path] = files[path].replace(before, after)
    return dict(files)


def pushed(site: Site, name: str, files: dict[str, str | bytes | None]) -> str:
    """Push an app as the branches main and develop; return the address that the server knows."""
    folder = site.host.root / f"srv/lab/git/{name}.git"
    bare_repository(folder)
    commit(folder, files, message="Begin")
    page = next(path for path in files if path.endswith("index.html"))
    other = str(files[page]).replace("<h1>", "<h1>Next: ")
    commit(folder, {page: other}, message="Go on", branch="develop", base="main")
    return f"git://127.0.0.1/{name}.git"


def above(first: str, second: str) -> str:
    """A hosts.toml whose [app] has the lines of `first`, and those of `second` that `first` has not."""
    given = tomllib.loads(first)["app"]
    app = second.partition("[app]\n")[2].partition("\n\n")[0]
    more = [line for line in app.splitlines() if line.partition(" =")[0] not in given]
    head, begin, rest = first.partition("[app]")
    line, _, tables = rest.partition("\n")
    return "\n".join([head + begin + line, *more, tables])


def filled(example: str, site: Site, repo: str) -> str:
    """An example with what everybody replaces: the repository's address, the server's, and its token."""
    example = re.sub(r'(?m)^repo = ".*?"', f'repo = "{repo}"', example)
    return example.replace("203.0.113.7", site.host.address).replace("dp.st.prd.XXXX", site.host.doppler_token)


def typed(site: Site, commands: str) -> str:
    """Type commands in the clone of the tool; return what they said."""
    done = type_in(PROJECT, commands, **home_of(site))
    assert done.returncode == 0, f"{commands}\n{done.stdout}{done.stderr}"
    return done.stdout


def home_of(site: Site) -> dict[str, str]:
    """Whose home and hosts.toml count."""
    return {"HOME": str(site.folder), "DJANGO_DEPLOY_HOSTS": str(site.folder / "hosts.toml")}


def over_ssh(site: Site) -> Callable[[str], None]:
    """Serve the host's repositories as a forge does, at git@ADDRESS:NAME.git; return what lets a key read them."""
    site.run("""
        useradd --home-dir /srv/lab/git --shell /usr/bin/git-shell git
        install -d -o git -g git -m 700 /srv/lab/git/.ssh
        git config --system --add safe.directory '*'
    """)

    def let(key: str) -> None:
        site.run(f"install -o git -g git -m 600 /dev/stdin /srv/lab/git/.ssh/authorized_keys <<<'{key}'")

    return let


def test_a_server_of_your_own(site: Site) -> None:
    """README and docs/your-app.md: a deploy key, a website, a worker and a timer, with what is linked and put there."""
    site.app, site.domain = "consult", "api.consult.dev"
    secrets = {name: value.replace("queueapp", "config") for name, value in SECRETS["queue"].items()}
    set_secrets(site.host, ALLOWED_HOSTS=site.domain, DATABASE_URL="sqlite:///db.sqlite3", **secrets)
    set_secrets(site.host, DJANGO_SUPERUSER_PASSWORD="of-the-lab")  # noqa: S106
    (health,) = blocks("docs/your-app.md", "python")
    urls, words = "src/config/urls.py", "src/config/words"
    heading = "\nimport configparser\n\nlocal = configparser.ConfigParser()\nlocal.read(BASE_DIR / 'conf/local.ini')\n"
    edits = [
        (urls, ', path("healthz", lambda request: HttpResponse("ok"))]', "]\n\n" + health),
        ("src/config/settings/base.py", "var/queue", "media/queue"),
        ("src/config/settings/base.py", "\nUSE_TZ", f"{heading}HEADING = local['site']['heading']\nUSE_TZ"),
        (f"{words}/views.py", '{"texts"', '{"heading": settings.HEADING, "texts"'),
        (f"{words}/views.py", "from django.shortcuts", "from django.conf import settings\nfrom django.shortcuts"),
        (f"{words}/templates/words/index.html", "<h1>Words", "<h1>{{ heading }}"),
    ]
    pushed(site, "words", written("queue", "queueapp", "config", edits))
    let_read, repo = over_ssh(site), "git@127.0.0.1:words.git"
    (linked,) = blocks("docs/your-app.md", "toml")
    (hosts,) = blocks("README.md", "toml")
    (site.folder / "hosts.toml").write_text(filled(above(hosts, linked), site, repo))
    local = site.folder / "local.ini"
    local.write_text("[site]\nheading = Counted here\n")

    (put,) = re.findall(r"`(fab -H NAME link\.put .+?)`", (PROJECT / "docs/your-app.md").read_text())
    put = put.replace("fab -H NAME", "uv run fab -H api").replace("--file local.ini", f"--file {local}")
    *before, deploy, first_user = filled(blocks("README.md", "sh")[1], site, repo).strip().splitlines()
    with at_terminal(lambda its: start_typing(PROJECT, "\n".join(before), its, **home_of(site))) as terminal:
        terminal.expect("Is that the server (yes/no)?")
        terminal.type("yes\n")
        assert terminal.end() == 0, terminal.seen
    said = terminal.seen.replace("\r", "")
    (key,) = re.findall(r"^ +(ssh-ed25519 .+)$", said, re.MULTILINE)
    assert f"ready for deploys as soon as it can read {repo}" in said
    let_read(key)
    typed(site, "\n".join([before[0], put, deploy]))
    # What createsuperuser would ask at a terminal.
    answered = first_user.replace("createsuperuser", "createsuperuser --noinput --username ana --email ana@example.com")
    assert "Superuser created" in typed(site, f"{before[0]}\n{answered}")

    assert site.heading() == "Counted here"
    assert site.run("ls /srv/consult/shared").split() == ["conf", "db.sqlite3", "media", "var"]
    httpx.post(f"http://{site.host.address}/", headers={"Host": site.domain}, data={"body": "one two three"})
    wait_for(lambda: "one two three: 3" in site.page(), what=site.page)
    units = f"consult-worker@{site.live()}:1 consult-worker@{site.live()}:2 consult-nightly.timer"
    assert site.run(f"systemctl is-active {units}", check=False).split() == ["active"] * 3


def test_two_apps_on_one_server(site: Site) -> None:
    """docs/hosts-toml.md: an app in one folder, and its next version beside it on the same server."""
    set_secrets(site.host, ALLOWED_HOSTS="shop.example.com,staging.shop.example.com")
    edits = [
        ("shop/urls.py", "urlpatterns", "from django.http import HttpResponse\n\nurlpatterns"),
        ("shop/urls.py", '[path("", index)', '[path("healthz", lambda request: HttpResponse()), path("", index)'),
    ]
    repo = pushed(site, "shop", written("notes", "notes", "shop", edits))
    page = "docs/hosts-toml.md"
    first, *others = blocks(page, "toml")
    (several,) = [block for block in others if "[environments.staging]" in block]
    (site.folder / "hosts.toml").write_text(filled(above(several, first), site, repo))
    ((provision, deploy),) = re.findall(
        r"Then `(fab -H production provision)` and `(fab -H production deploy)`", (PROJECT / page).read_text()
    )
    known = "ssh-keyscan -t ed25519 203.0.113.7 >> ~/.ssh/known_hosts"
    token = f"export DOPPLER_TOKEN={site.host.doppler_token}"
    commands = "\n".join([known, token, f"uv run {provision}", f"uv run {deploy}"])
    typed(site, filled(commands, site, repo))
    typed(site, commands.partition("\n")[2].replace("production", "staging"))

    site.domain = "shop.example.com"
    assert site.heading() == "Notes"
    upload(site, {"text": "kept"}, "attachment", ("kept.txt", b"kept"))
    assert (site.get("/media/shop/kept.txt").text, site.get("/media/").status_code) == ("kept", 404)
    site.domain = "staging.shop.example.com"
    assert site.heading() == "Next: Notes"
    assert site.run("readlink /app /srv/shop-staging/app").split() == ["/srv/shop/current", "/srv/shop-staging/current"]
