"""Steps of the proof: the new release's own gunicorn on a private socket, before anyone sees it (host/lib/proof.sh)."""

from ..config.layout import Layout, Release
from ..config.settings import Settings
from ..plan.preview import Migration
from ..plan.request import by_https, header_lines, names
from .django import doppler, manage
from .step import Step, Value

COMPARE = "compare_it_with_the_running_gunicorn"
VISITORS = "prove_that_visitors_get_in"
DATA = "prove_that_its_data_outlives_it"
# What systemd lets a unit write to, beside what hosts.toml says of it: a path, or a name below one of these folders.
FOLDERS = {"StateDirectory": "/var/lib", "CacheDirectory": "/var/cache", "LogsDirectory": "/var/log"}


def start(settings: Settings, release: Release) -> Step:
    """Begin to boot the release; `boot` waits for it, so that it boots while static files are collected."""
    title = "Start the new release on a private socket"
    return Step("start_the_new_release_on_a_private_socket", title, "start_proof", _start(settings, release))


def _start(settings: Settings, release: Release) -> dict[str, Value]:
    limits = settings.timeouts
    return {
        "release": release.root,
        "project": settings.project,
        "wsgi": settings.wsgi,
        **doppler(settings),
        "patience": limits.boot
        + limits.collectstatic
        + limits.migrate
        + limits.commands * len(settings.before_switch)
        + 120,
    }


def boot(settings: Settings, release: Release, *, collected: bool) -> Step:
    """Wait until the private gunicorn has loaded the app, with the static files that were `collected` meanwhile."""
    limit = settings.timeouts.boot
    parameters = {**_start(settings, release), "limit": limit, "collected": collected}
    return Step("prove_that_it_boots", "Prove that it boots", "prove_boot", parameters, timeout=2 * limit + 10)


def data(settings: Settings, release: Release, *, new: bool) -> Step:
    """See that the app writes to no place that goes with the release; answers what the functions below read."""
    return Step(
        DATA,
        "Prove that its data outlives it",
        "prove_data",
        {
            **manage(settings, release),
            "linked_dirs": settings.linked_dirs,
            "linked_files": settings.linked_files,
            "writable": writable(settings),
            "media": settings.media.folder,
            "media_url": settings.media.url,
            "new": new,
        },
        timeout=settings.timeouts.boot,
        limit="timeouts.boot",
    )


def writable(settings: Settings) -> list[str]:
    """The folders that the service may write to besides shared/ and its /tmp; all, where the sandbox is turned off."""
    options = settings.unit_options
    if options.get("ProtectSystem", "strict") != "strict":
        return ["/"]
    paths = [path.lstrip("-+") for path in options.get("ReadWritePaths", "").split()]
    named = [f"{folder}/{name}" for key, folder in FOLDERS.items() for name in options.get(key, "").split()]
    layout = Layout.of(settings)
    return [*paths, *named, str(layout.doppler_home.parent), str(layout.state)]


def ahead(output: str) -> list[str]:
    """The migrations, as `app.name`, that the databases have and the release does not know."""
    return [line.partition(" ")[2] for line in output.splitlines() if line.startswith("ahead ")]


def migrations(output: str) -> list[Migration]:
    """The migrations that the databases lack, in the order in which they are applied."""
    lines = [line for line in output.splitlines() if line.startswith('{"name": ')]  # the app may have said something
    return [Migration.model_validate_json(line) for line in lines]


def breaking(output: str) -> list[str]:
    """Why the release cannot run on the present schema, as `app.name: reason`; nothing when nothing is known of it."""
    return [line.partition(" ")[2] for line in output.splitlines() if line.startswith("breaks ")]


def unseen(output: str) -> list[str]:
    """The line of hosts.toml, if there is one, by which uploads would be seen that nobody shows."""
    return [line.partition(" ")[2] for line in output.splitlines() if line.startswith("unseen ")]


def compare(release: Release) -> Step:
    """Answer with one line of JSON: what differs between the running master and the proof's."""
    return Step(COMPARE, "Compare it with the running gunicorn", "compare_masters", {"release": release.root})


def health(settings: Settings) -> Step:
    """Ask the release for its health on the private socket, as nginx would ask it."""
    limit = settings.timeouts.health
    parameters = {"health_path": settings.health_path, "headers": header_lines(settings), "limit": limit}
    title = "Prove that it is healthy"
    return Step("prove_that_it_is_healthy", title, "prove_health", parameters, timeout=2 * limit + 10)


def visitors(settings: Settings, release: Release, *, new: bool) -> Step:
    """Come to the release as a visitor does; of a `new` one the page's files have to be there, too."""
    return Step(
        VISITORS,
        "Prove that visitors get in",
        "prove_visitors",
        {
            "release": release.root,
            "names": names(settings),
            "proxy": by_https(settings),
            "static_url": settings.static_url,
            "static_root": settings.static_folder,
            "new": new,
        },
    )


def stop() -> Step:
    """End the proof with all its children."""
    return Step("stop_the_private_socket", "Stop the private socket", "stop_proof")
