"""What can be set for an app and a host: names, types, defaults; `hosts_file` reads the values."""

import posixpath
from fnmatch import fnmatchcase
from typing import Annotated, Self

from pydantic import Field, model_validator

from .processes import Process, ProcessName
from .table import Table, setting
from .texts import (
    Account,
    AcmeServer,
    Address,
    AppName,
    AppPath,
    BodySize,
    BranchName,
    BranchPattern,
    Domain,
    DopplerName,
    Email,
    HostFile,
    HostKey,
    InnerPath,
    Jump,
    Line,
    LocalCommand,
    PathFromProject,
    Proxy,
    PublicUrl,
    PythonVersion,
    RelativePath,
    ReleaseCommand,
    Repository,
    SecretsPlace,
    StaticUrl,
    SyncArguments,
    UnitOption,
    UnitValue,
    UrlPath,
    Wsgi,
)

Port = Annotated[int, Field(ge=1, le=65535)]
Seconds = Annotated[int, Field(ge=1, le=86400)]


class Timeouts(Table):
    """How long each part of a deploy may take, in seconds."""

    connect: Seconds = setting(10, "reaching the host and logging in", new_release=False)
    fetch: Seconds = setting(120, "git fetch", new_release=False)
    sync: Seconds = setting(600, "uv sync", new_release=False)
    collectstatic: Seconds = setting(300, "manage.py collectstatic", new_release=False)
    migrate: Seconds = setting(900, "manage.py migrate", new_release=False)
    lock: Seconds = setting(
        5, "a migration to get a lock of PostgreSQL, behind which visitors wait; tried three times", new_release=False
    )
    commands: Seconds = setting(600, "each command of `build`, `before_switch` and `after_switch`", new_release=False)
    boot: Seconds = setting(
        60, "the first answer of the new release's gunicorn, in the proof and in a restart", new_release=False
    )
    health: Seconds = setting(30, "HTTP 200 on the health path, before the switch and after it", new_release=False)
    stay: Seconds = setting(
        5, "how long new workers of `processes` must stay up before they count and the old ones stop", new_release=False
    )
    # Stands in the release's gunicorn.conf.py, as the rest of what gunicorn reads.
    reload: Seconds = setting(90, "old workers to be replaced by new ones after HUP", new_release=True)


class Media(Table):
    """Files that people upload: kept in a linked folder, and shown by nginx."""

    folder: InnerPath | None = setting(
        None, "MEDIA_ROOT, seen from the repository; linked, as by `linked_dirs`", new_release=True
    )
    # The proof compares it with the app's own.
    url: StaticUrl = setting("/media/", "MEDIA_URL", new_release=True)


class Tls(Table):
    """The certificate with which nginx speaks https: one from Let's Encrypt, or a pair of files on the host."""

    letsencrypt: Email | None = setting(
        None,
        "mail address of the account at Let's Encrypt, which then certifies `domain` and `aliases`",
        new_release=False,
    )
    acme_server: AcmeServer = setting(
        "https://acme-v02.api.letsencrypt.org/directory",
        "directory of another ACME server, to try it out, or your own",
        new_release=False,
    )
    certificate: HostFile | None = setting(
        None,
        "a certificate that is on the host already, with its chain; who renews it reloads nginx",
        new_release=False,
    )
    key: HostFile | None = setting(None, "its private key, which root may read", new_release=False)

    def __bool__(self) -> bool:
        return bool(self.letsencrypt or self.certificate)

    @model_validator(mode="after")
    def _names_one_source(self) -> Self:
        if self.letsencrypt and (self.certificate or self.key):
            raise ValueError("takes letsencrypt or certificate and key, not both")
        if bool(self.certificate) != bool(self.key):
            raise ValueError("takes certificate and key together: each is of no use without the other")
        return self


class Settings(Table):
    """Every setting of one host, resolved."""

    # The host
    address: Address | None = setting(
        None, "IP address, DNS name or ssh_config alias; the host's own name when not set", new_release=False
    )
    port: Port | None = setting(None, "SSH port; ssh_config's, else 22", new_release=False)
    user: Account = setting("deploy", "who deploys and runs the app", new_release=False)
    group: Account = setting("deploy", "group of `user`", new_release=False)
    admin: Account = setting(
        "root",
        "who logs in for what root alone may do (`provision`, `remove`, a deploy with other units or another site): "
        "root, or a user with passwordless sudo",
        new_release=False,
    )
    key: Line | None = setting(
        None, "file of the SSH private key; ssh_config's and the agent's when not set", new_release=False
    )
    key_text: str | None = setting(
        None, 'the private key itself, for CI: { env = "SSH_PRIVATE_KEY" }', new_release=False, secret=True, repr=False
    )
    host_key: HostKey | None = setting(
        None, "the host's public key, pinned; known_hosts is asked when not set", new_release=False
    )
    jump: Jump | None = setting(
        None,
        "the way through other servers, as `ssh -J` has it: [USER@]NAME[:PORT], several with commas; ssh_config's "
        "ProxyJump when not set",
        new_release=False,
    )
    jump_host_key: HostKey | None = setting(
        None, "the public key of the one server in `jump`, pinned; known_hosts is asked when not set", new_release=False
    )
    known_hosts: Line | None = setting(None, "another known_hosts file", new_release=False)
    lab: bool = setting(False, "a throw-away host that the tool makes on this machine", new_release=False)

    # The app
    name: AppName = setting(..., "names the unit, the site and the folders, like shop", new_release=True)
    repo: Repository | None = setting(None, "address of the git repository", new_release=True, secret=True)
    # The commit that it names decides, not the name.
    branch: BranchName = setting("main", "what `deploy` takes by default", new_release=False)
    branches: tuple[BranchPattern, ...] = setting(
        (), 'all that `deploy` takes, e.g. ["main", "release/*"]; anything when empty', new_release=False
    )
    backwards: bool = setting(
        False,
        "`deploy` takes commits that lack some of what is live without `--backwards`, as where branches take turns",
        new_release=False,
    )
    require: LocalCommand | None = setting(
        None,
        "command that has to succeed on the machine that deploys, before a commit is built there, e.g. `just test`",
        new_release=False,
    )
    # Of an app that is not named in [app], `inventory` knows it: /srv/NAME/app.
    path: AppPath = setting(
        "/app", "the link to the live release; `/srv/NAME/app` unless `name` stands in `[app]`", new_release=True
    )
    project: RelativePath = setting(
        ".", "folder gunicorn and manage.py run in, like apps/web; `.` is the repository", new_release=True
    )
    manage: InnerPath = setting("manage.py", "manage.py, seen from `project`", new_release=True)
    wsgi: Wsgi = setting(..., "what gunicorn serves, like config.wsgi:application", new_release=True)
    static_root: PathFromProject = setting(
        "staticfiles",
        "STATIC_ROOT, seen from `project`; `../staticfiles` lies beside it, and all lies in the repository",
        new_release=True,
    )
    static_url: StaticUrl = setting("/static/", "STATIC_URL", new_release=False)
    domain: Domain = setting(
        ..., "server_name, and the Host of health requests, like shop.example.com", new_release=True
    )
    aliases: tuple[Domain, ...] = setting((), "further server names", new_release=False)
    default_server: bool = setting(
        True, "nginx answers requests for any other name with this site too", new_release=False
    )
    body_size: BodySize = setting("20m", "largest request body", new_release=False)
    tls: Tls = Field(Tls(), description="https, spoken by nginx; not spoken when nothing is set")
    trusted_proxies: tuple[Proxy, ...] = setting(
        (),
        "addresses or networks of proxies whose X-Forwarded-* are believed; `cloudflare` stands for all of its own",
        new_release=False,
    )
    nginx_include: InnerPath | None = setting(
        None, "a file beside hosts.toml, whose lines come at the end of the site's server block", new_release=False
    )
    error_page: InnerPath | None = setting(
        None,
        "HTML file of the repository that visitors get while the app does not answer (502, 504)",
        new_release=False,
    )
    public_url: PublicUrl | None = setting(
        None,
        "the site's address from outside, watched during a deploy; https without `tls` says that a proxy speaks it",
        new_release=False,
        secret=True,
    )
    health_path: UrlPath = setting("/healthz", "answers 200 when the app works", new_release=True)
    warm_up: tuple[UrlPath, ...] = setting(
        ("/",), "paths that a new worker answers once before it replaces an old one", new_release=True
    )
    workers: Annotated[int, Field(ge=1, le=256)] | None = setting(
        None, "gunicorn workers; the app's gunicorn.conf.py, else 2", new_release=True
    )
    python: PythonVersion | None = setting(
        None, "Python for the virtualenv, as in `uv sync --python`; uv chooses when not set", new_release=True
    )
    sync_args: SyncArguments = setting(
        ("--frozen",), 'arguments of `uv sync`, e.g. ["--frozen", "--group", "prod"]', new_release=True
    )
    hold: Annotated[int, Field(ge=0, le=60)] = setting(
        20,
        "seconds that requests may wait while a migration runs that breaks the code of before; 0 lets none wait",
        new_release=False,
    )
    build: tuple[ReleaseCommand, ...] = setting(
        (),
        'commands that make what no commit has, before static files are collected, e.g. ["npm ci", "npm run build"]',
        new_release=True,
    )
    # What these two do is done to the database and the world around, and again with each release.
    before_switch: tuple[ReleaseCommand, ...] = setting(
        (),
        'commands of a new release after its migrations, before its health counts, e.g. ["manage.py loaddata groups"]',
        new_release=False,
    )
    after_switch: tuple[ReleaseCommand, ...] = setting(
        (), 'commands of a new release that is live and healthy, e.g. ["manage.py clear_cache"]', new_release=False
    )
    linked_dirs: tuple[InnerPath, ...] = setting(
        (), "folders that outlive releases, e.g. apps/web/media", new_release=True
    )
    media: Media = Field(Media(), description="uploads, shown by nginx; nothing of them when `folder` is not set")
    linked_files: tuple[InnerPath, ...] = setting((), "files that outlive releases", new_release=True)
    keep: Annotated[int, Field(ge=2, le=100)] = setting(
        5, "releases kept for rollback, the live one among them", new_release=False
    )
    keep_static: Annotated[int, Field(ge=1, le=1000)] = setting(
        20, "releases whose hashed static files stay served", new_release=False
    )
    # Another place may hold another database.
    secrets: SecretsPlace = setting(
        "doppler",
        "where the app's secrets are: `doppler`, or `file`, one on the host that `secrets.set` writes",
        new_release=True,
    )
    # Another config may name another database and another storage: only a new release migrates and collects into it.
    doppler_project: DopplerName | None = setting(
        None, "Doppler project; a service token knows its own", new_release=True
    )
    doppler_config: DopplerName | None = setting(
        None, "Doppler config; a service token knows its own", new_release=True
    )
    unit_options: dict[UnitOption, UnitValue] = setting(
        {},
        "[Service] lines added to the unit, after (and so over) the tool's own",
        new_release=False,
        secret=True,
    )
    processes: dict[ProcessName, Process] = setting(
        {}, "workers and timers beside the website, each a table of its own", new_release=False
    )
    authorized_keys: tuple[Line, ...] = setting(
        (),
        "public keys that may log in as `user`; those of the admin when empty",
        new_release=False,
        secret=True,
    )
    timeouts: Timeouts = Field(Timeouts(), description="limits in seconds")

    @property
    def static_folder(self) -> str:
        """Where the static files are collected, seen from the repository."""
        return posixpath.normpath(f"{self.project}/{self.static_root}")

    @property
    def linked_folders(self) -> tuple[str, ...]:
        """The folders that outlive releases, the one of uploads among them."""
        media = self.media.folder
        return self.linked_dirs if media is None or media in self.linked_dirs else (*self.linked_dirs, media)

    @model_validator(mode="after")
    def _deploys_what_it_may(self) -> Self:
        if self.branches and not any(fnmatchcase(self.branch, pattern) for pattern in self.branches):
            raise ValueError(f"branch {self.branch} is none of branches: {', '.join(self.branches)}")
        return self

    @model_validator(mode="after")
    def _pins_one_jump_host(self) -> Self:
        if self.jump_host_key and (not self.jump or self.jump == "none" or "," in self.jump):
            raise ValueError("jump_host_key is the key of the one server in jump; for several, see known_hosts")
        return self

    @model_validator(mode="after")
    def _serves_no_source(self) -> Self:
        """Refuse a static root that holds more than static files: nginx shows all of it to everybody."""
        where = f"static_root {self.static_root}, seen from project {self.project},"
        if self.static_folder.startswith("../"):
            raise ValueError(f"{where} lies outside the repository: a release is built and put back as one folder")
        if f"{posixpath.normpath(self.project)}/".startswith(f"{self.static_folder}/"):
            raise ValueError(f"{where} holds the project itself: nginx would show its source to everybody")
        return self

    @model_validator(mode="after")
    def _believes_who_speaks_https(self) -> Self:
        """Refuse an https that nobody is known to speak: an app that redirects to it would do so for ever."""
        if (self.public_url or "").startswith("https://") and not self.tls and not self.trusted_proxies:
            raise ValueError(
                "public_url is https, but nothing says who speaks it: tls, if nginx is to; or trusted_proxies, the "
                'address of the proxy that does (["10.0.0.5"], or ["cloudflare"])'
            )
        return self

    @model_validator(mode="after")
    def _serves_uploads_alone(self) -> Self:
        """Refuse a folder of uploads that is also something else, and addresses that mean two things."""
        if self.media.folder is None:
            if self.media.url != Media().url:
                raise ValueError("media.url needs media.folder, in which the uploads lie: without it nginx shows none")
            return self
        where, what = f"media.folder {self.media.folder}", posixpath.normpath(self.media.folder)
        if _one_in_the_other(what, self.static_folder):
            raise ValueError(f"{where} and static_root {self.static_folder} must lie apart: each release has its own")
        if f"{posixpath.normpath(self.project)}/".startswith(f"{what}/"):
            raise ValueError(f"{where} holds the project itself: nginx would show its source to everybody")
        if shown := next(
            (each for each in self.linked_files if f"{posixpath.normpath(each)}/".startswith(f"{what}/")), ""
        ):
            raise ValueError(f"{where} holds the linked file {shown}: nginx would show it to everybody")
        if _one_in_the_other(self.media.url.rstrip("/"), self.static_url.rstrip("/")):
            raise ValueError(f"media.url {self.media.url} and static_url {self.static_url} must lie apart")
        return self


def _one_in_the_other(one: str, other: str) -> bool:
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


# For a value that has no default and is not known yet, where something must be rendered all the same.
STAND_INS = {"name": "app", "wsgi": "config.wsgi:application", "domain": "app.example", "command": "manage.py check"}


def example() -> Settings:
    """Return the defaults, with something in place of what each app has to say."""
    return Settings.model_validate({key: text for key, text in STAND_INS.items() if key in Settings.model_fields})
