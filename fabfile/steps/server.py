"""Steps that make a bare server ready, run as root (host/lib/server.sh); each says what it changed."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from ..config.settings import Settings
from ..plan import certificate
from . import tls
from .django import doppler
from .step import Step

# command that shows it is there, package that brings it
PROGRAMS = {
    "git": "git",
    "nginx": "nginx",
    "curl": "curl",
    "sudo": "sudo",
    "python3": "python3",
    "pgrep": "procps",
    "flock": "util-linux",
    "update-ca-certificates": "ca-certificates",
    "ssh-keygen": "openssh-client",
    "setfacl": "acl",
}
LOGINS_SECONDS = 300  # for two logins to be tried, until the host believes that nobody comes in
SUPPORTED = ("debian 12", "debian 13", "ubuntu 22.04", "ubuntu 24.04")


def prepare(settings: Settings, *, adopting: bool = False, leaving: Iterable[str] = ()) -> list[Step]:
    """Look at the server, and install what a deploy needs there.

    `adopting` says that the app is there already, in a folder, and `leaving` are the nginx files that will be gone.
    """
    look = {
        "supported": SUPPORTED,
        "default_server": settings.default_server,
        "names": certificate.names(settings),
        "tls": bool(settings.tls),
        "certificate": settings.tls.certificate,
        "key": settings.tls.key,
        "adopting": adopting,
        "leaving": leaving,
    }
    packages = {"programs": _programs(settings)}
    return [
        Step("look_at_the_server", "Look at the server", "check_server", look),
        Step("install_the_packages", "Install the packages", "install_packages", packages, 900),
        Step("install_uv", "Install uv", "install_uv", timeout=600),
        *(
            []
            if settings.secrets == "file"
            else [Step("install_the_doppler_cli", "Install the Doppler CLI", "install_doppler", timeout=600)]
        ),
    ]


def let_in(settings: Settings, *, secrets_of: str = "") -> list[Step]:
    """Make the user who deploys, with folders, keys and rights; needs `sudoers` sent, `doppler.env` for a new token.

    Where there are no secrets yet, they are taken from where the unit file `secrets_of` has them.

    What this changes of logins goes back after LOGINS_SECONDS, without `confirm_logins`.
    """
    owner = {"user": settings.user, "group": settings.group}
    keep = {"user": settings.user, "seconds": LOGINS_SECONDS}
    return [
        Step("keep_the_logins", "Keep the logins as they are", "keep_logins", keep),
        Step("make_the_user", "Make the user", "make_user", {**owner, "keys": settings.authorized_keys}),
        Step("make_the_folders", "Make the folders", "make_folders", owner),
        *([take_secrets(settings, secrets_of)] if secrets_of else []),
        Step("make_the_secrets_file", "Make the secrets file", "make_secrets_file", owner)
        if settings.secrets == "file"
        else Step("write_the_doppler_token", "Write the Doppler token", "write_token", {**owner, **doppler(settings)}),
        grant_rights(settings),
    ]


def take_secrets(settings: Settings, unit_file: str) -> Step:
    """Take the token, or the secrets, from where a unit of before has them."""
    parameters = {"user": settings.user, "group": settings.group, "unit_file": unit_file}
    return Step("take_the_secrets_over", "Take the secrets over", "take_secrets", parameters)


def put_logins_back() -> Step:
    """Undo what `let_in` has changed of logins; for one that failed before it, nothing."""
    return Step("put_the_logins_back", "Put the logins back as they were", "put_logins_back")


def confirm_logins() -> Step:
    """Logins have been seen to work."""
    return Step("confirm_the_logins", "Confirm the logins", "confirm_logins")


def install(settings: Settings, files: Iterable[PurePosixPath], *, overwrite: bool = False) -> list[Step]:
    """Install and stage the files, sent by their names; see to certificate and repository."""
    return [
        *([tls.prepare(settings)] if settings.tls else []),
        install_service(settings, files),
        stage(settings, files, overwrite=overwrite),
        *([tls.obtain(settings)] if settings.tls.letsencrypt else []),
        *([] if settings.tls else [tls.forget()]),
        *([reach_repository(settings)] if settings.repo else []),
    ]


def grant_rights(settings: Settings) -> Step:
    """Install the sudo lines, the file `sudoers` sent to the runner; answers with `right COMMAND` for all there are."""
    title = "Grant the exact sudo rights"
    return Step("grant_the_exact_sudo_rights", title, "grant_rights", {"user": settings.user})


def stage(settings: Settings, files: Iterable[PurePosixPath], *, locked: bool = False, overwrite: bool = False) -> Step:
    """Put files where the user may install them from; needs them and `install_files.sh` sent by their names.

    `locked` says that who asks for it holds the lock of deploys; without `overwrite`, what was edited on the host is
    refused.
    """
    parameters = {
        "files": files, "locked": locked, "overwrite": overwrite, "user": settings.user, "group": settings.group
    }  # fmt: skip
    return Step("stage_the_changed_files", "Stage the changed files", "stage_files", parameters, timeout=120)


def install_service(settings: Settings, files: Iterable[PurePosixPath]) -> Step:
    """Install units and site where there are none yet, or nothing is live yet."""
    parameters = {"files": files, "default_server": settings.default_server}
    title = "Install the units and the nginx site"
    return Step("install_the_units_and_the_nginx_site", title, "install_service", parameters, timeout=120)


def reach_repository(settings: Settings) -> Step:
    """See that the user can read the repository; answers `deploy-key KEY` when an SSH address refuses it."""
    over_ssh = not (settings.repo or "").startswith(("http", "git://", "file://"))
    parameters = {"user": settings.user, "repo": settings.repo, "over_ssh": over_ssh}
    return Step("reach_the_repository", "Reach the repository", "reach_repository", parameters)


def _programs(settings: Settings) -> list[str]:
    wanted = PROGRAMS | ({"openssl": "openssl"} if settings.tls else {})
    wanted |= {"certbot": "certbot"} if settings.tls.letsencrypt else {}
    return [f"{program} {package}" for program, package in wanted.items()]
