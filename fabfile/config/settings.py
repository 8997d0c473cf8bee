"""What can be set for an app and a host: names, types, defaults; `inventory` finds the values."""

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

# git itself allows more; the rest means something to a shell, to git's options or to its revision syntax.
REF = re.compile(r"(?!.*(\.\.|//|@\{|/\.|\.lock$|\.lock/|[/.]$))[A-Za-z0-9_][A-Za-z0-9._/@+#=-]{0,199}")

# The service cannot see them (ProtectHome, PrivateTmp), or the machine owns or empties them.
NO_PLACE_FOR_THE_APP = re.compile(r"/(bin|boot|dev|etc|home|lib|proc|root|run|sbin|sys|tmp|usr|var/tmp)(/.*)?")


def matching(pattern: str, words: str) -> AfterValidator:
    """Return a validator of text that fits `pattern` as a whole; `words` tell a person what fits."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


def branch_name(value: str) -> str:
    """Return `value` if it may name a branch, a tag or a commit; ValueError says why not."""
    if not REF.fullmatch(value):
        raise ValueError(
            "must name a branch, tag or commit: letters, digits and . _ / - @ + # =, and it starts with "
            "a letter, a digit or _"
        )
    return value


def relative_path(value: str) -> str:
    """Return `value` if it names a place inside the repository; ValueError says why not."""
    parts = value.split("/")
    if not re.fullmatch(r"[A-Za-z0-9._/@+-]+", value) or ".." in parts or "" in parts or value.startswith("-"):
        raise ValueError("must be a path inside the repository: relative, without .., spaces or quotes")
    return value


def inner_path(value: str) -> str:
    """Return `value` if it names a place below the folder it is seen from; ValueError says why not."""
    if relative_path(value).split("/") == ["."]:
        raise ValueError("must be a folder or file of its own, not the whole folder")
    return value


def absolute_path(value: str) -> str:
    """Return `value` if it is a plain absolute path; ValueError says why not."""
    if not re.fullmatch(r"(/[A-Za-z0-9._@+-]+)+", value) or ".." in value.split("/"):
        raise ValueError("must be an absolute path of letters, digits and . _ @ + -, without ..")
    return value


def app_path(value: str) -> str:
    """Return `value` if the service can run from there; ValueError says why not."""
    if NO_PLACE_FOR_THE_APP.fullmatch(absolute_path(value)):
        raise ValueError("must not lie in a folder of the system, in /home or in /tmp: the service cannot see those")
    return value


def repository(value: str) -> str:
    """Return `value` if git can take it as an address; ValueError says why not."""
    if not re.fullmatch(r"(?:(?:https?|ssh|git|file)://|[A-Za-z0-9_][A-Za-z0-9._-]*@)[A-Za-z0-9._~:/@%+-]+", value):
        raise ValueError("must be a git address like git@github.com:team/app.git or https://host/app.git")
    if re.search(r"://[^/@]*:[^/@]*@", value):
        raise ValueError("must not hold a password: use a deploy key")
    return value


def url_path(value: str) -> str:
    """Return `value` if it is the path (and query) of a URL; ValueError says why not."""
    if not re.fullmatch(r"/[A-Za-z0-9._~/%?&=+:@,-]*", value):
        raise ValueError("must be the path of a URL and start with /")
    return value


def one_line(value: str) -> str:
    """Return `value` if it is printable text on one line; ValueError says why not."""
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


def unit_value(value: str) -> str:
    """Return `value` if it is the right side of one line of a unit file; ValueError says why not."""
    if one_line(value).endswith("\\"):
        raise ValueError("must not end with a backslash: systemd would join the next line to it")
    return value


RelativePath = Annotated[str, AfterValidator(relative_path)]
InnerPath = Annotated[str, AfterValidator(inner_path)]
UrlPath = Annotated[str, AfterValidator(url_path)]
Line = Annotated[str, AfterValidator(one_line)]
Domain = Annotated[
    str,
    matching(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", "must be a host name like api.consult.dev"),
]
Account = Annotated[
    str,
    matching(
        r"[a-z_][a-z0-9_-]{0,30}",
        "must be the name of a Unix account: a-z, 0-9, _ and -, at most 31 characters",
    ),
]
DopplerName = Annotated[
    str,
    matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "must be a name as Doppler shows it: letters, digits and _ . -"),
]
Seconds = Annotated[int, Field(ge=1, le=86400)]


class Timeouts(BaseModel):
    """How long each part of a deploy may take, in seconds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    connect: Seconds = Field(10, description="reaching the host and logging in")
    fetch: Seconds = Field(120, description="git fetch")
    sync: Seconds = Field(600, description="uv sync")
    collectstatic: Seconds = Field(300, description="manage.py collectstatic")
    migrate: Seconds = Field(900, description="manage.py migrate")
    boot: Seconds = Field(
        60, description="the first answer of the new release's gunicorn, in the proof and in a restart"
    )
    health: Seconds = Field(30, description="HTTP 200 on the health path, before the switch and after it")
    reload: Seconds = Field(90, description="old workers to be replaced by new ones after HUP")


class Settings(BaseModel):
    """Every setting of one host, resolved."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # The host
    address: (
        Annotated[
            str,
            matching(
                r"[A-Za-z0-9:]([A-Za-z0-9.:_%-]*[A-Za-z0-9:])?",
                "must be an IP address, a DNS name or an ssh_config alias",
            ),
        ]
        | None
    ) = Field(None, description="IP address, DNS name or ssh_config alias; the host's own name when not set")
    port: Annotated[int, Field(ge=1, le=65535)] | None = Field(None, description="SSH port; ssh_config's, else 22")
    user: Account = Field("deploy", description="who deploys and runs the app")
    group: Account = Field("deploy", description="group of `user`")
    admin: Account = Field("root", description="who logs in for `provision`: root, or a user with passwordless sudo")
    key: Line | None = Field(None, description="file of the SSH private key; ssh_config's and the agent's when not set")
    key_text: str | None = Field(
        None, repr=False, description='the private key itself, for CI: { env = "SSH_PRIVATE_KEY" }'
    )
    host_key: (
        Annotated[
            str,
            matching(
                r"(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?",
                "must be a public key as in known_hosts, without the address: ssh-ed25519 AAAA...",
            ),
        ]
        | None
    ) = Field(None, description="the host's public key, pinned; known_hosts is asked when not set")
    known_hosts: Line | None = Field(None, description="another known_hosts file")
    lab: bool = Field(False, description="a throw-away host that the tool makes on this machine")

    # The app
    name: Annotated[
        str,
        matching(
            r"[a-z][a-z0-9-]{0,30}",
            "must be a-z, 0-9 and -, start with a letter, and have at most 31 characters",
        ),
    ] = Field("consult", description="names the unit, the site and the folders")
    repo: Annotated[str, AfterValidator(repository)] | None = Field(None, description="address of the git repository")
    branch: Annotated[str, AfterValidator(branch_name)] = Field("main", description="what `deploy` takes by default")
    path: Annotated[str, AfterValidator(app_path)] = Field("/app", description="the link to the live release")
    project: RelativePath = Field("apps/web", description="folder gunicorn and manage.py run in; `.` is the repository")
    manage: InnerPath = Field("manage.py", description="manage.py, seen from `project`")
    wsgi: Annotated[
        str,
        matching(
            r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*(\(\))?",
            "must be like config.wsgi:application: module, colon, name",
        ),
    ] = Field("config.wsgi:application", description="what gunicorn serves")
    static_root: InnerPath = Field("staticfiles", description="STATIC_ROOT, seen from `project`")
    static_url: Annotated[
        str,
        matching(
            r"/([A-Za-z0-9_-][A-Za-z0-9._-]*/)+",
            "must be like /static/: a path on this site that starts and ends with /",
        ),
    ] = Field("/static/", description="STATIC_URL")
    domain: Domain = Field("api.consult.dev", description="server_name, and the Host of health requests")
    aliases: tuple[Domain, ...] = Field((), description="further server names")
    default_server: bool = Field(True, description="nginx answers requests for any other name with this site too")
    body_size: Annotated[str, matching(r"[0-9]{1,9}[kmgKMG]?", "must be a size as nginx writes it, like 20m")] = Field(
        "20m", description="largest request body"
    )
    public_url: (
        Annotated[
            str,
            matching(
                r"https?://[A-Za-z0-9._~:/%-]+",
                "must be an address like https://api.consult.dev, without user, query or spaces",
            ),
        ]
        | None
    ) = Field(None, description="the site's address from outside; watched during a deploy when set")
    health_path: UrlPath = Field("/healthz", description="answers 200 when the app works")
    warm_up: tuple[UrlPath, ...] = Field(
        ("/",), description="paths that a new worker answers once before it replaces an old one"
    )
    workers: Annotated[int, Field(ge=1, le=256)] | None = Field(
        None, description="gunicorn workers; the app's gunicorn.conf.py, else 2"
    )
    python: (
        Annotated[
            str,
            matching(r"[A-Za-z0-9][A-Za-z0-9.@+-]*", "must be a version or name that uv knows, like 3.12"),
        ]
        | None
    ) = Field(None, description="Python for the virtualenv, as in `uv sync --python`; uv chooses when not set")
    sync_args: tuple[
        Annotated[
            str,
            matching(r"--?[A-Za-z0-9][A-Za-z0-9=._-]*", "must be one option each, like --no-dev or --extra=web"),
        ],
        ...,
    ] = Field(("--frozen",), description="arguments of `uv sync`")
    linked_dirs: tuple[InnerPath, ...] = Field((), description="folders that outlive releases, e.g. apps/web/media")
    linked_files: tuple[InnerPath, ...] = Field((), description="files that outlive releases")
    keep: Annotated[int, Field(ge=2, le=100)] = Field(
        5, description="releases kept for rollback, the live one among them"
    )
    keep_static: Annotated[int, Field(ge=1, le=1000)] = Field(
        20, description="releases whose hashed static files stay served"
    )
    doppler_project: DopplerName | None = Field(None, description="Doppler project; a service token knows its own")
    doppler_config: DopplerName | None = Field(None, description="Doppler config; a service token knows its own")
    unit_options: dict[
        Annotated[str, matching(r"[A-Z][A-Za-z]+", "is not written like a systemd option (MemoryMax)")],
        Annotated[str, AfterValidator(unit_value)],
    ] = Field({}, description="[Service] lines added to the unit, after (and so over) the tool's own")
    authorized_keys: tuple[Line, ...] = Field(
        (), description="public keys that may log in as `user`; those of the admin when empty"
    )
    timeouts: Timeouts = Field(Timeouts(), description="limits in seconds")
