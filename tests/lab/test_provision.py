"""From nothing: the lab's first command, a bare server, what provision leaves behind, a second app beside the first."""

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from testbed.harness import FIELDS, HEALTHY, UNHEALTHY, UNHEALTHY_WHEN_LIVE, VIEWS, Site, hosts_toml, throw_away, toml
from testbed.lab import LabHost, Repository, execute, set_secrets
from testbed.sample import VALUES

pytestmark = pytest.mark.lab

# What `deploy` may run as root, word for word.
SUDO = """
/usr/local/lib/consult-files.sh /etc/consult/staged next
/usr/local/lib/consult-files.sh /etc/consult/staged before
/usr/bin/systemctl restart consult-django.service
/usr/bin/systemctl stop consult-django.socket consult-django.service
/usr/bin/systemctl restart consult-django.socket
/usr/bin/systemctl reload nginx.service
/usr/sbin/nginx -t -q
"""


def as_deploy(site: Site, command: str) -> int:
    """Exit code of a command run by `deploy` on the host."""
    return execute(site.host, "runuser", "-u", "deploy", "--", "bash", "-c", command).returncode


def test_the_token_is_for_deploy_alone(site: Site) -> None:
    """0600, of deploy, in a folder that nobody else may enter."""
    assert site.run("stat -c '%U %G %a' /etc/consult/doppler.env /etc/consult").split("\n")[:2] == [
        "deploy deploy 600",
        "root deploy 750",
    ]
    assert execute(site.host, "runuser", "-u", "www-data", "--", "cat", "/etc/consult/doppler.env").returncode != 0


def test_deploy_may_run_exactly_what_a_deploy_needs(site: Site) -> None:
    """Every line that sudo lists is one of ours, and what is near to them is refused."""
    listed = {line.strip() for line in site.run("sudo -l -U deploy").splitlines() if "NOPASSWD" in line}
    assert {line.split("NOPASSWD: ")[1] for line in listed} == set(SUDO.strip().splitlines())
    assert as_deploy(site, "sudo -n /usr/sbin/nginx -t -q") == 0
    for command in (
        "systemctl stop ssh",
        "systemctl restart nginx.service",
        "systemctl restart consult-django.service ssh.service",
        "nginx -t -q -c /tmp/x",
        "systemctl daemon-reload",
        "/usr/local/lib/consult-files.sh /tmp/staged next",
        "/usr/local/lib/consult-files.sh /etc/consult/staged /tmp",
        "/usr/local/lib/consult-files.sh /etc/consult/staged next x",
        "bash",
        "-u postgres psql",
    ):
        assert as_deploy(site, f"sudo -n {command}") != 0, command


def test_provision_again_changes_nothing(site: Site) -> None:
    """`unchanged`, and not one file is another; with its unit different, that is staged once."""
    ages, pids = site.ages(), (site.master_pid(), site.worker_pids())
    document = site.provision().expect(0).json
    assert (document["status"], document["changes"]) == ("unchanged", [])
    assert set(document) >= FIELDS
    assert site.ages() == ages
    assert (site.master_pid(), site.worker_pids()) == pids
    site.settings["unit_options"] = {"MemoryMax": "700M"}
    unit = "/etc/systemd/system/consult-django.service"
    assert site.provision().expect(0).json["changes"] == [f"{unit} is staged for the next deploy"]
    assert site.provision().expect(0).json["status"] == "unchanged"
    staged = {path for path, age in site.ages().items() if ages.get(path) != age}
    assert {path for path in staged if not re.match("/etc($|/consult($|/staged))", path)} == set()


def test_a_deploy_without_the_admin_s_login(site: Site) -> None:
    """CI, whose key is deploy's alone: it installs what root has staged, and else builds nothing."""
    unit = "/etc/systemd/system/consult-django.service"
    site.commit(site.titled("Before"))
    site.settings["unit_options"] = {"MemoryMax": "710M"}
    assert f"{unit} is staged for the next deploy" in site.provision().expect(0).json["changes"]
    site.settings["admin"] = "nobody-here"
    document = site.deploy().expect(0).json
    assert (document["activation"], "MemoryMax=710M" in site.run(f"cat {unit}")) == ("restart", True)
    live, ages = site.live(), site.ages()
    site.commit(site.titled("After"))
    site.settings["unit_options"] = {"MemoryMax": "800M"}
    for words in ([], ["--force"]):
        document = site.deploy(*words).expect(4).json
        assert f"{unit}: root alone may stage what changed, and root is not at hand: " in document["error"]
        assert f"fab -H {site.name} provision, by somebody who may log in as nobody-here" in document["suggestions"][0]
        assert "build_the_virtualenv" not in document["timing"]
        assert document["site_state"] == "as before"
    shown = site.fab("deploy", "--branch", site.branch).expect(4).text
    assert "-MemoryMax=710M\n    +MemoryMax=800M\n" in shown
    fetched = f"/srv/{site.app}/repo.git"
    changed = {path for path, age in site.ages().items() if ages.get(path) != age and not path.startswith(fetched)}
    assert (site.live(), changed) == (live, set())


def test_provision_without_a_token(site: Site) -> None:
    """What is no Doppler token is refused before a connection, and is not repeated."""
    site.environment["DOPPLER_TOKEN"] = "hunter2"  # noqa: S105
    result = site.fab("provision", "--json").expect(2)
    assert "DOPPLER_TOKEN" in result.json["error"]
    assert "hunter2" not in result.text


def test_provision_as_nobody_special(site: Site) -> None:
    """An admin without root or sudo: exit 4, and why."""
    site.settings["admin"] = "deploy"
    result = site.fab("provision", "--json").expect(4)
    site.settings.clear()
    assert "sudo" in result.text


@pytest.fixture(scope="module")
def fresh(own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A host on which nothing was ever deployed."""
    with throw_away(own("fresh")) as host:
        yield Site(host, tmp_path_factory.mktemp("fresh"))


def test_the_first_deploy_of_a_lab_host(fresh: Site) -> None:
    """`lab = true` and one command: provisioned, deployed, healthy; failures before it leave nothing in the way."""
    table = {"lab": True, "repo": Repository.url, "domain": "consult.lab"}
    fresh.hosts_file = hosts_toml({fresh.name: VALUES | table | {"timeouts": {"reload": 5, "health": 4}}})
    for branch, health, code in (("ill", UNHEALTHY, 5), ("ill-when-live", UNHEALTHY_WHEN_LIVE, 6)):
        fresh.branch = branch
        fresh.commit(fresh.edited(VIEWS, HEALTHY, health))
        document = fresh.deploy().expect(code).json
        assert document["site_state"].startswith("as before")
        assert fresh.run("readlink -e /app; true") == ""
        assert fresh.run("systemctl is-active consult-django; true") == "inactive\n", "no restart loop"
    document = fresh.fab("status", "--json").expect(6).json
    assert document["site_state"] == "nothing is live"
    assert document["error"].startswith(f"{fresh.name}: gunicorn_socket fails: ")
    fresh.hosts_file = hosts_toml({fresh.name: VALUES | table})
    first = fresh.fab("deploy", "--json").expect(0)
    document = first.json
    assert (document["activation"], document["previous"]) == ("start", None)
    assert fresh.heading() == "Good day, visitor."
    again = fresh.fab("deploy").expect(0)
    assert first.err.splitlines()[-1] == again.out.splitlines()[-1] == f"open {document['url']}"
    assert "Good day, visitor." in httpx.get(document["url"]).text, "it opens without its domain's name"
    fresh.add_note("first")
    fresh.assert_sound()
    assert "no good release before" in fresh.fab("rollback", "--json").expect(2).json["error"]
    assert fresh.notes() == ["first"]


SHOP = {
    "pyproject.toml": '[project]\nname = "shop"\nversion = "1"\nrequires-python = ">=3.11"\n'
    'dependencies = ["django>=5.2,<5.3", "gunicorn"]\n[tool.uv]\npackage = false\n',
    "manage.py": "import os, sys\nfrom django.core.management import execute_from_command_line\n"
    'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apps.web.config.settings")\n'
    "execute_from_command_line(sys.argv)\n",
    "apps/web/config/wsgi.py": "import os\nfrom django.core.wsgi import get_wsgi_application\n"
    'os.environ.setdefault("DJANGO_SETTINGS_MODULE", "apps.web.config.settings")\n'
    "application = get_wsgi_application()\n",
    "apps/web/config/urls.py": "from django.contrib import admin\nfrom django.urls import path\n"
    'urlpatterns = [path("admin/", admin.site.urls)]\n',
    "apps/web/config/settings.py": """
import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
SECRET_KEY = os.environ["SECRET_KEY"]
ALLOWED_HOSTS = ["shop.lab"]
CONTRIB = ("admin", "auth", "contenttypes", "sessions", "messages", "staticfiles")
INSTALLED_APPS = [f"django.contrib.{name}" for name in CONTRIB]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
]
ROOT_URLCONF = "apps.web.config.urls"
CONTEXT = ("template.context_processors.request", "contrib.auth.context_processors.auth",
           "contrib.messages.context_processors.messages")
TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "APP_DIRS": True,
              "OPTIONS": {"context_processors": [f"django.{name}" for name in CONTEXT]}}]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ROOT / "data/shop.sqlite3"}}
STATIC_URL = "/assets/"
STATIC_ROOT = ROOT / "public/assets"
""",
}


def init(site: Site, checkout: Path, files: dict[str, str]) -> str:
    """The hosts.toml that `fab init` writes for these files, with the site's host in it."""
    for name, text in files.items():
        (checkout / name).parent.mkdir(parents=True, exist_ok=True)
        (checkout / name).write_text(text)
    for words in (["init", "--quiet"], ["remote", "add", "origin", Repository.url]):
        subprocess.run(["git", "-C", checkout, *words], check=True)
    words = (str(checkout), "--to=-", f"--name={site.app}", f"--domain={site.domain}", f"--address={site.host.address}")
    process = site.start_raw("init", *words)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out.replace("hosts.web]", f"hosts.{site.name}]")


def test_a_second_app_beside_the_first(fresh: Site, tmp_path: Path) -> None:
    """Another name, place, layout, domain, health path, static address, found by `init`: the two do not meet."""
    checkout = tmp_path / "shop"
    checkout.mkdir()
    (checkout / "pyproject.toml").write_text(SHOP["pyproject.toml"])
    subprocess.run(["uv", "lock", "--quiet"], cwd=checkout, check=True)
    files = SHOP | {"uv.lock": (checkout / "uv.lock").read_text()}
    fresh.repository.commit(files, branch="shop")
    fresh.fab("deploy", "--json").expect(0)
    first = fresh.live(), fresh.master_pid(), fresh.worker_pids()
    shop = Site(fresh.host, tmp_path, branch="shop", app="shop", domain="shop.lab", app_link="/srv/shop/app")
    found = init(shop, checkout, files)
    rest = {"key": str(shop.host.key_file), "known_hosts": str(shop.host.known_hosts), "workers": 1}
    rest |= {"default_server": False, "health_path": "/admin/login/"}
    shop.hosts_file = found + "".join(f"{key} = {toml(value)}\n" for key, value in rest.items())
    refused = shop.provision().expect(4).json["error"]
    assert "/app is a link to /srv/consult/current" in refused
    assert 'path = "/srv/shop/app"' in refused
    shop.hosts_file += 'path = "/srv/shop/app"\n'
    shop.provision().expect(0)
    assert shop.deploy().expect(0).json["activation"] == "start"
    login = shop.get("/admin/login/")
    assert (login.status_code, "Django administration" in login.text) == (200, True)
    style = re.search(r'"(/assets/[^"]*base[^"]*\.css)"', login.text)
    assert style
    assert shop.get(style[1]).status_code == 200
    assert shop.run("readlink -e /srv/shop/app").startswith("/srv/shop/releases/")
    shop.repository.commit({"apps/web/config/new.py": ""}, branch="shop")
    assert shop.deploy().expect(0).json["activation"] == "hup"
    shop.fab("rollback").expect(0)
    assert shop.fab("status", "--json").expect(0).json["url"] == "http://shop.lab"
    assert (fresh.live(), fresh.master_pid(), fresh.worker_pids()) == first
    assert fresh.get("/healthz").status_code == 200


@pytest.fixture
def bare(own: Callable[[str], str]) -> Iterator[LabHost]:
    """A server as it comes from the provider: Debian and sshd."""
    with throw_away(own("bare"), image="bare") as host:
        yield host


def test_a_bare_server_becomes_a_site(bare: LabHost, tmp_path: Path) -> None:
    """provision installs what is missing and says so; then a site goes live there, under a user of another name."""
    set_secrets(bare, DATABASE_URL="sqlite:////srv/consult/shared/data/site.sqlite3")
    site = Site(bare, tmp_path, settings={"user": "web", "group": "web", "linked_dirs": ["data"]})
    assert site.fab("deploy", "--json").expect(3).json["suggestions"]
    document = site.provision().expect(0).json
    assert any(change.startswith("installed") and "nginx" in change for change in document["changes"])
    assert f"{site.settings['user']} ALL=(root) NOPASSWD: /usr/sbin/nginx -t -q" in document["sudo"]
    # Left by a run that is killed before it takes Debian's site away: two default servers, and nginx names that one.
    default = "/etc/nginx/sites-enabled/default"
    assert f"duplicate default server for 0.0.0.0:80 in {default}" in site.run(
        f"ln -s ../sites-available/default {default}; nginx -t 2>&1; true"
    )
    assert f"{default} is gone (default_server)" in site.provision().expect(0).json["changes"]
    assert site.provision().expect(0).json["status"] == "unchanged"
    assert site.deploy().expect(0).json["activation"] == "start"
    site.add_note("on a bare server")
    assert site.notes() == ["on a bare server"]
    assert site.run("stat -c %U /app/apps/web/manage.py /etc/consult/doppler.env").split() == ["web", "web"]
    site.assert_sound()
