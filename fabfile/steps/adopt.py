"""Steps by which a server that was deployed into in place changes hands, and back (host/lib/handover.sh)."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from ..config.layout import Layout, Release
from ..config.settings import Settings
from ..plan.request import header_lines
from .step import Step, Value

READ = "read_the_server"
HOW_FAR = "read_how_far_it_is"
COMMIT = "take_the_commit_over"
CHANGES = "save_local_changes"


def read(settings: Settings) -> Step:
    """Answer with one JSON object of all that is there; nothing is written."""
    parameters = {
        "user": settings.user,
        "domain": settings.domain,
        "aliases": settings.aliases,
        "linked": (*settings.linked_folders, *settings.linked_files),
    }
    return Step(READ, "Read what runs on the server", "read_server", parameters, timeout=120)


def how_far() -> Step:
    """Answer with `adopted WHEN`, or `begun UNIT`, or neither; `live RELEASE`; `lock PATH` where there is one."""
    return Step(HOW_FAR, "Read how far it is", "read_adopted")


def keep(
    unit: str,
    address: str,
    *,
    socket: str,
    certificate: Iterable[str],
    uploads: Iterable[str],
    gone: Iterable[str],
    units: Iterable[str | PurePosixPath],
    site: Iterable[str | PurePosixPath],
    rights: Iterable[str | PurePosixPath],
) -> Step:
    """Keep what is about to change, for the way back; what a run that was cut has kept counts."""
    parameters = {
        "unit": unit, "socket": socket, "address": address, "certificate": certificate,
        "uploads": uploads, "gone": gone, "units": units,
        "site": site, "rights": rights,
    }  # fmt: skip
    return Step("keep_what_is_there", "Keep what is there", "keep_what_is_there", parameters, timeout=120)


def begin() -> Step:
    """Note that the change of hands has begun: from here on, what was kept is how it was before."""
    return Step("note_that_it_begins", "Note that it begins", "begin_adopting")


def save_changes() -> Step:
    """Keep a patch of what was changed in the folder and not committed."""
    return Step(CHANGES, "Save local changes", "save_local_changes", timeout=120)


def take_commit(commit: str) -> Step:
    """See that the mirror has the commit, from the folder if it must; answers `commit SHA SUBJECT`."""
    return Step(COMMIT, "Take the commit over", "take_commit", {"commit": commit}, timeout=300)


def keep_static(settings: Settings) -> Step:
    """Keep static files of the folder that pages of before name."""
    parameters = {"static_root": settings.static_folder}
    return Step("keep_its_static_files", "Keep its static files", "keep_old_static", parameters, timeout=300)


def make_current(release: Release) -> Step:
    """Make a release what `current` leads to, while nothing else does."""
    return Step("make_it_current", "Make it current", "make_current", {"release": release.root})


def change_hands(settings: Settings, release: Release, files: Iterable[PurePosixPath]) -> list[Step]:
    """From the old website to ours, and the bridge still there; needs its three files, and `files`, sent by name."""
    site = Layout.of(settings).bridge(release).site_file.name
    return [
        lend_uploads(settings),
        start_bridge(settings, release),
        _lead("lead_visitors_to_the_second", "Lead visitors to the second website", site),
        *take_over(settings, release, files),
    ]


def take_over(settings: Settings, release: Release, files: Iterable[PurePosixPath]) -> list[Step]:
    """From the bridge to the website's own units; needs `files` sent by their names."""
    layout = Layout.of(settings)
    order = sorted(files, key=lambda path: (path != layout.socket_file, path != layout.service_file))
    units = [path for path in order if path != layout.site_file]
    return [
        Step("stop_the_old_website", "Stop the old website, link its folder's name", "change_folder",
             timeout=180, live=True),
        Step("start_the_website", "Start the website behind its socket", "install_units",
             {"files": units, **_waiting(settings, release)}, timeout=settings.timeouts.boot + 90, live=True),
        _lead("lead_visitors_to_the_website", "Lead visitors to the website", layout.site_file.name),
    ]  # fmt: skip


def start_bridge(settings: Settings, release: Release) -> Step:
    """Start the bridge; needs its unit and socket sent by their names."""
    parameters, limit = _waiting(settings, release), settings.timeouts.boot + 60
    return Step("start_a_second_website", "Start a second website beside it", "start_bridge", parameters, limit)


def lead_aside() -> Step:
    """Have the bridge serve, if there is one, before the website is stopped; needs its site sent by name."""
    title = "Lead visitors to the second website"
    return Step("lead_visitors_to_the_second", title, "lead_visitors_aside", timeout=120, live=True)


def show_certificate() -> Step:
    """Have nginx show the certificate of before until there is one of ours."""
    title = "Show the certificate of before"
    return Step("show_the_certificate_of_before", title, "show_old_certificate")


def lend_uploads(settings: Settings) -> Step:
    """Let the folder's uploads lie below shared/, where the release looks for them."""
    parameters = {"user": settings.user, "group": settings.group, "media": settings.media.folder}
    return Step("move_the_uploads", "Move the uploads", "lend_uploads", parameters, timeout=600, live=True)


def end_bridge() -> Step:
    """End the second website, which nobody is led to any more."""
    return Step("end_the_second_website", "End the second website", "end_bridge", timeout=120, live=True)


def narrow_rights() -> Step:
    """Take the old rights away, now that the exact ones are there."""
    return Step("take_the_old_rights_away", "Take the old rights away", "narrow_rights")


def mark_adopted() -> Step:
    """Note that the server has changed hands."""
    return Step("note_that_it_is_adopted", "Note that it is adopted", "mark_adopted")


def bring_back(settings: Settings) -> list[Step]:
    """Have the old website serve, from wherever the change of hands is; the bridge, if there is one, does meanwhile."""
    limit = settings.timeouts.boot
    old = {"headers": header_lines(settings), "paths": (settings.health_path, *settings.warm_up), "limit": limit}
    return [
        lead_aside(),
        Step("start_the_old_website", "Start the old website in its folder", "bring_back_old", old,
             timeout=limit + 300, live=True),
        Step("bring_the_old_site_back", "Lead visitors to the old website", "bring_back_site", timeout=120, live=True),
    ]  # fmt: skip


def forget(settings: Settings) -> Step:
    """Bring uploads and rights back, and know of no adopt any more."""
    owner = {"user": settings.user, "group": settings.group}
    title = "Bring uploads and rights back"
    return Step("bring_the_rest_back", title, "forget_adopted", owner, timeout=600, live=True)


def _lead(step_id: str, title: str, site: str) -> Step:
    return Step(step_id, title, "lead_visitors", {"site": site}, timeout=120, live=True)


def _waiting(settings: Settings, release: Release) -> dict[str, Value]:
    limit = settings.timeouts.boot
    return {"release": release.root, "health_path": settings.health_path, "limit": limit, "patience": limit}
