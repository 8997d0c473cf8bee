"""The server that `adopt` takes over: a bare lab host as the team's Ansible playbook leaves it, and people since."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jinja2

from testbed.harness import SETTINGS, URLS, VIEWS
from testbed.lab import LabHost, Repository, down, execute, get_secrets, up

HERE = Path(__file__).parent
MEDIA = "apps/web/media"
# What hosts.toml says of this server beyond the sample's own settings.
ADOPTED: dict[str, Any] = {"media": {"folder": MEDIA}, "unit_options": {"LimitNOFILE": "4096"}}
DOMAIN = "consult.lab"
SOURCE = "root/.ansible"  # where the rendered texts lie until the playbook has installed them
# The sample site keeps nothing that its visitors send; the team's does.
MEDIA_SETTINGS = '\nMEDIA_URL = "/media/"\nMEDIA_ROOT = BASE_DIR / "media"\n'
KEEP_VIEW = '''

@csrf_exempt
@require_POST
def keep(request: HttpRequest, name: str) -> JsonResponse:
    """Keep the body as an upload, and answer 201 with its address."""
    kept = default_storage.save(name, ContentFile(request.body))
    return JsonResponse({"address": default_storage.url(kept)}, status=201)
'''
UPLOADS = {"pictures/ana.bin": bytes(range(256)) * 40, "report.txt": b"Of January.\n"}
# What somebody did on the server by hand: a line in a file that git knows, and a file that it does not.
BY_HAND = "\n# Looked at on Sunday: nothing to change.\n"
NOTES = "Restarted twice on Sunday.\n"


@dataclass(frozen=True)
class Variables:
    """The playbook's own choices: the socket's folder by tmpfiles.d, a TCP port in its place, secrets in a file."""

    tmpfiles: bool = False
    port: int = 0
    environment_file: str = ""


@contextmanager
def deployed_by_playbook(
    name: str, *, suite: str = "bookworm", variables: Variables | None = None
) -> Generator[LabHost]:
    """A throw-away host as the playbook leaves it, with its folder in a layer of its own: about ten seconds."""

    def quiet(_text: str) -> None:
        """Say nothing."""

    down(name, say=quiet)
    try:
        host = up(name, suite=suite, image="ready", memory=True, say=quiet)
        run_playbook(host, variables or Variables())
        yield host
    finally:
        down(name, say=quiet)


def run_playbook(host: LabHost, variables: Variables) -> None:
    """Turn a ready host into the playbook's server, with uploads and with what people changed by hand."""
    commit_uploads(Repository(host))
    _render(host, variables)
    done = execute(
        host, "bash", "-c", (HERE / "deploy.sh").read_text(), "deploy.sh", Repository.url, f"/{SOURCE}", timeout=180
    )
    if done.returncode:
        raise RuntimeError(f"the playbook ends with {done.returncode}: {done.stdout}{done.stderr}")
    for path, body in UPLOADS.items():
        upload(host, path, body)
    _work_by_hand(host)


def commit_uploads(repository: Repository) -> str:
    """Let the site keep uploads, as a commit on main; return its id."""
    imports = "from django.core.files.base import ContentFile\nfrom django.core.files.storage import default_storage\n"
    views = repository.read(VIEWS)
    changes = {
        SETTINGS: repository.read(SETTINGS) + MEDIA_SETTINGS,
        VIEWS: views.replace("from django.db import Error", f"{imports}from django.db import Error") + KEEP_VIEW,
        URLS: repository.read(URLS).replace(
            "urlpatterns = [\n", 'urlpatterns = [\n    path("keep/<path:name>", views.keep),\n'
        ),
        ".gitignore": repository.read(".gitignore") + "media/\n",
    }
    return repository.commit(changes, "Uploads")


def upload(host: LabHost, path: str, body: bytes) -> str:
    """Send a file as a visitor; return the address by which nginx shows it."""
    answer = httpx.post(f"http://{host.address}/keep/{path}", headers={"Host": DOMAIN}, content=body, timeout=20)
    answer.raise_for_status()
    return answer.json()["address"]


def _render(host: LabHost, variables: Variables) -> None:
    """Write what Ansible's templates come to below SOURCE, for root alone."""
    port, file = variables.port, variables.environment_file
    unit = {
        "token": host.doppler_token,
        "environment_file": file,
        "bind": f"127.0.0.1:{port}" if port else "unix:/run/consult/gunicorn.sock",
        "runtime_directory": not (variables.tmpfiles or port),
    }
    site = {"server": f"127.0.0.1:{port}" if port else "unix:/run/consult/gunicorn.sock", "domain": DOMAIN}
    secrets = {"DOPPLER_TOKEN": host.doppler_token} if not file else get_secrets(host)
    texts = {
        (file or "/app/.doppler-token").lstrip("/"): "".join(f"{name}={value}\n" for name, value in secrets.items()),
        "etc/systemd/system/consult-django.service": _rendered("consult-django.service.j2", **unit),
        "etc/nginx/sites-available/consult-django": _rendered("nginx-django.conf.j2", **site),
        "etc/sudoers.d/deploy": "deploy ALL=(ALL) NOPASSWD:ALL\n",
    }
    if variables.tmpfiles:
        texts["etc/tmpfiles.d/consult.conf"] = "d /run/consult 0755 deploy www-data -\n"
    (host.root / SOURCE).mkdir(mode=0o700)
    for path, text in texts.items():
        place = host.root / SOURCE / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def _rendered(template: str, **values: object) -> str:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE), undefined=jinja2.StrictUndefined, trim_blocks=True,
        keep_trailing_newline=True, autoescape=False,  # noqa: S701 - no HTML
    )  # fmt: skip
    return environment.get_template(template).render(**values)


def _work_by_hand(host: LabHost) -> None:
    """Change a file of the checkout and add one, as their owner."""
    settings = host.root / "app" / SETTINGS
    with settings.open("a") as file:
        file.write(BY_HAND)
    notes = host.root / "app/notes-of-sunday.txt"
    notes.write_text(NOTES)
    owner = settings.stat()
    os.chown(notes, owner.st_uid, owner.st_gid)
