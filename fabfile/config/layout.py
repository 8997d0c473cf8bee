"""Every path and name that a host shows, from its settings alone; nothing here asks a host."""

from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .processes import Kind
    from .settings import Settings


@dataclass(frozen=True)
class Release:
    """The places of one release; `root` is its worktree."""

    root: PurePosixPath
    project_folder: str

    @property
    def id(self) -> str:
        return self.root.name

    @property
    def project(self) -> PurePosixPath:
        return self.root / self.project_folder

    @property
    def venv(self) -> PurePosixPath:
        return self.root / ".venv"

    @property
    def python(self) -> PurePosixPath:
        return self.venv / "bin/python"

    @property
    def notes(self) -> PurePosixPath:
        """The tool's own folder in the release: release.json, gunicorn.conf.py, built, good, bad."""
        return self.root / ".deploy"


@dataclass(frozen=True)
class Layout:
    """The places of one app on its host; `processes` are name and kind of its workers and timers.

    `project` and `static_root` are seen from a release. `beside` is what the name of a second website has behind it.
    """

    name: str
    app: PurePosixPath
    project: str
    static_root: str
    processes: tuple[tuple[str, "Kind"], ...] = field(default=(), kw_only=True)
    secrets_in: str = field(default="doppler", kw_only=True)
    beside: str = field(default="", kw_only=True)

    @classmethod
    def of(cls, settings: "Settings") -> "Layout":
        return cls(
            name=settings.name,
            app=PurePosixPath(settings.path),
            project=settings.project,
            static_root=settings.static_folder,
            secrets_in=settings.secrets,
            processes=tuple((name, process.kind) for name, process in settings.processes.items()),
        )

    @property
    def unit(self) -> str:
        return f"{self.name}-django{self.beside}"

    @property
    def base(self) -> PurePosixPath:
        return PurePosixPath("/srv") / self.name

    @property
    def repo(self) -> PurePosixPath:
        return self.base / "repo.git"

    @property
    def releases(self) -> PurePosixPath:
        return self.base / "releases"

    @property
    def current(self) -> PurePosixPath:
        return self.base / "current"

    @property
    def shared(self) -> PurePosixPath:
        return self.base / "shared"

    @property
    def kept_static(self) -> PurePosixPath:
        """Hashed static files of this and earlier releases, served when the live release lacks them."""
        return self.base / "static"

    @property
    def staged(self) -> PurePosixPath:
        """Rendered files that only root writes: `next`, and `before`, what they replace; trees of the host's paths."""
        return self.etc / "staged"

    @property
    def staged_next(self) -> PurePosixPath:
        return self.staged / "next"

    @property
    def installer(self) -> PurePosixPath:
        """The program of root's that installs what is staged (host/install_files.sh)."""
        return PurePosixPath("/usr/local/lib") / f"{self.name}-files.sh"

    @property
    def sudoers(self) -> PurePosixPath:
        """What `user` may run as root."""
        return PurePosixPath("/etc/sudoers.d") / self.unit

    @property
    def logins(self) -> PurePosixPath:
        """Who might log in before a provision, until logins have been seen to work; gone with a reboot."""
        return PurePosixPath("/run") / f"{self.unit}-logins"

    @property
    def adopted(self) -> PurePosixPath:
        """What an adopted server had before, until that is put back (`adopt --undo`); root's alone."""
        return self.etc / "adopted"

    @property
    def old_folder(self) -> PurePosixPath:
        """The folder that was deployed into in place, once a link has its name."""
        return self.app.with_name(f"{self.app.name}.adopted")

    @property
    def pending(self) -> PurePosixPath:
        """A mark for each file that a run has installed, until it is in use."""
        return self.base / "pending"

    @property
    def virtualenvs(self) -> PurePosixPath:
        """The packages of lock files; releases of one lock file share them."""
        return self.base / "virtualenvs"

    @property
    def cache(self) -> PurePosixPath:
        """uv's cache, on the file system of the releases, so that packages are hard links."""
        return self.base / "cache"

    @property
    def pythons(self) -> PurePosixPath:
        """Pythons that uv installs; not in a home folder, which the service cannot see (ProtectHome)."""
        return self.base / "python"

    @property
    def history(self) -> PurePosixPath:
        return self.base / "deploys.jsonl"

    @property
    def lock(self) -> PurePosixPath:
        return self.base / "deploy.lock"

    @property
    def digest_key(self) -> PurePosixPath:
        """Key of the digests that tell whether a secret changed; 0600, never leaves the host."""
        return self.base / "digest.key"

    @property
    def etc(self) -> PurePosixPath:
        return PurePosixPath("/etc") / self.name

    @property
    def secrets(self) -> PurePosixPath:
        """Doppler's token, or the secrets themselves: the user's file in a folder of root's, for systemd reads it."""
        return self.etc / ("secrets/app.env" if self.secrets_in == "file" else "doppler.env")

    @property
    def socket(self) -> PurePosixPath:
        if self.beside:
            return PurePosixPath("/run") / f"{self.unit}.sock"
        return PurePosixPath("/run") / self.name / "gunicorn.sock"

    @property
    def state(self) -> PurePosixPath:
        """RuntimeDirectory of the service: pid file, master.json, up/."""
        return PurePosixPath("/run") / self.unit

    @property
    def pid_file(self) -> PurePosixPath:
        return self.state / "gunicorn.pid"

    @property
    def doppler(self) -> PurePosixPath:
        """Doppler's CLI, where its package installs it."""
        return PurePosixPath("/usr/bin/doppler")

    @property
    def doppler_home(self) -> PurePosixPath:
        """Doppler's config and fallback file, in the service's StateDirectory."""
        return PurePosixPath("/var/lib") / self.unit / "doppler"

    @property
    def maintenance(self) -> PurePosixPath:
        """The page that visitors see while it is there."""
        return self.base / "maintenance.html"

    @property
    def let_in(self) -> PurePosixPath:
        """A file for each address that gets in while the site is closed."""
        return self.base / "maintenance.allow"

    @property
    def hold(self) -> PurePosixPath:
        """Until when the service does not start, in seconds since 1970; requests wait in its socket meanwhile."""
        return self.base / "hold"

    @property
    def service_file(self) -> PurePosixPath:
        return PurePosixPath("/etc/systemd/system") / f"{self.unit}.service"

    @property
    def socket_file(self) -> PurePosixPath:
        return PurePosixPath("/etc/systemd/system") / f"{self.unit}.socket"

    @property
    def site_file(self) -> PurePosixPath:
        return PurePosixPath("/etc/nginx/sites-available") / self.unit

    @property
    def site_link(self) -> PurePosixPath:
        return PurePosixPath("/etc/nginx/sites-enabled") / self.unit

    @property
    def access_log(self) -> PurePosixPath:
        return PurePosixPath("/var/log/nginx") / f"{self.unit}.access.log"

    @property
    def error_log(self) -> PurePosixPath:
        return PurePosixPath("/var/log/nginx") / f"{self.unit}.error.log"

    @property
    def tls_file(self) -> PurePosixPath:
        """Where nginx finds the certificate; written by `provision`, included by the site."""
        return PurePosixPath("/etc/nginx/snippets") / f"{self.unit}-tls.conf"

    @property
    def installed_files(self) -> tuple[PurePosixPath, ...]:
        """The files that only root may write: service, socket and nginx site."""
        return (self.service_file, self.socket_file, self.site_file)

    @property
    def acme_root(self) -> PurePosixPath:
        """From where every site of the host answers an ACME server's challenges (RFC 8555, 8.3)."""
        return PurePosixPath("/var/www/letsencrypt")

    @property
    def live(self) -> Release:
        """The live release, by its public name."""
        return Release(self.app, self.project)

    def release(self, release_id: str) -> Release:
        return Release(self.releases / release_id, self.project)

    def bridge(self, release: Release) -> "Layout":
        """The places of a second website that serves `release` by its real path, while the first one changes hands."""
        return replace(self, app=release.root, beside="-bridge")

    def constants(self) -> dict[str, str]:
        """The names and places that functions on the host know as constants, by their names there."""
        names = (
            "name", "unit", "app", "base", "repo", "releases", "current", "shared", "kept_static", "staged",
            "pending", "virtualenvs", "cache", "pythons", "history", "lock", "digest_key", "etc", "secrets",
            "secrets_in", "socket", "state", "pid_file", "doppler", "doppler_home", "maintenance", "let_in", "hold",
            "service_file", "site_file", "socket_file", "site_link", "tls_file", "acme_root", "installer", "sudoers",
            "logins", "adopted", "old_folder",
        )  # fmt: skip
        return {name.upper(): str(getattr(self, name)) for name in names}
