"""Whether a server that was deployed otherwise can be taken over, and what becomes of what it has. Pure.

What is judged lies beside this, by noun: `folder`, `unit`, `site`, `others`.
"""

import difflib
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...config.layout import Layout
from .. import rendering
from . import folder as adoption_folder
from . import nginx_file, old_unit
from . import others as adoption_others
from . import site as adoption_site
from . import unit as adoption_unit
from .findings import Finding, Findings
from .hiding import hidden

if TYPE_CHECKING:
    from ...config.settings import Settings

__all__ = ["Adoption", "Finding", "differences", "judge"]

# Where an administrator's unit files are; those of a package stay, and do not run any more.
OF_ADMINISTRATORS = ("/etc/", "/run/", "/usr/local/")


@dataclass(frozen=True)
class Adoption:
    """What an adoption of one server does, and what speaks against it.

    `unit` is the old service, empty when none runs the app, and `socket` the unit of the socket that starts it, if
    there is one. `address` is where the old gunicorn listens: the path of a socket, or HOST:PORT. `commit` is live in
    the folder. `gone` are files that the change of hands takes away and keeps, `sudoers` those that say nothing but
    rights of the user. `uploads` are the linked folders and files that the old folder has. `texts` are old texts by the
    path of the new file that they become. `certificate` is the file, and that of its key, with which the old site
    speaks https.
    """

    unit: str
    address: str
    commit: str
    gone: tuple[str, ...]
    sudoers: tuple[str, ...]
    uploads: tuple[str, ...]
    stops: tuple[Finding, ...]
    needed: tuple[Finding, ...]
    told: tuple[str, ...]
    texts: Mapping[str, str]
    socket: str = ""
    certificate: tuple[str, str] | None = None


def judge(settings: "Settings", found: Mapping[str, Any]) -> Adoption:
    """Judge what was read of a server (host/programs/read_server.py) against the settings of its host."""
    findings, layout = Findings(), Layout.of(settings)
    unit, addresses, uploads, site_files, site_text = None, [""], (), (), ""
    if adoption_folder.judge_folder(settings, found, findings):
        adoption_folder.judge_checkout(settings, found, findings)
        uploads = adoption_folder.judge_data(settings, found, findings)
        adoption_folder.judge_room(found, findings)
        unit = adoption_others.website(settings, found, findings)
    if unit:
        addresses = old_unit.addresses_of(unit, found)
        adoption_unit.judge_unit(settings, unit, found, findings)
        as_it_runs = old_unit.in_its_project(settings, unit, found)
        site_files, site_text = adoption_site.judge_site(as_it_runs, addresses, found, findings)
    adoption_others.judge_others(settings, unit, found, findings)
    sudoers = adoption_others.judge_rights(settings, found, findings)
    socket = next((each for each in found["sockets"] if unit and each["service"] == unit["name"]), None)
    gone = [*_gone_units(layout, unit, socket, findings), *site_files, *_gone_folders(layout, found, findings)]
    return Adoption(
        unit=unit["name"] if unit else "",
        address=addresses[0],
        commit=found["git"]["commit"],
        gone=tuple(dict.fromkeys(gone)),
        sudoers=sudoers,
        uploads=uploads,
        stops=tuple(findings.stops),
        needed=tuple(findings.needed),
        told=tuple(findings.told),
        texts=_texts(layout, unit, socket, site_text, found),
        socket=socket["name"] if socket else "",
        certificate=_certificate(site_text),
    )


def _certificate(site: str) -> tuple[str, str] | None:
    """Return the files of certificate and key that a site names first, if it names both."""
    walked = list(nginx_file.walk(nginx_file.parse(site)))
    certificate, key = (
        next((each.arguments[0] for each in walked if each.name == name and each.arguments), "")
        for name in ("ssl_certificate", "ssl_certificate_key")
    )
    return (certificate, key) if certificate and key else None


def _gone_units(
    layout: Layout, unit: Mapping[str, Any] | None, socket: Mapping[str, Any] | None, findings: Findings
) -> Iterator[str]:
    """Yield the files of the old service and its socket that are in the way of the new ones."""
    new = {str(layout.service_file), str(layout.socket_file)}
    for each in filter(None, (unit, socket)):
        yield from (drop_in["path"] for drop_in in each["drop_ins"])
        if each["path"] in new:
            continue
        if each["path"].startswith(OF_ADMINISTRATORS):
            yield each["path"]
        else:
            findings.tell(f"{each['path']} belongs to a package and stays; systemctl disable ends its part")


def _gone_folders(layout: Layout, found: Mapping[str, Any], findings: Findings) -> Iterator[str]:
    """Yield the files that make the socket's folder, which is now the socket unit's."""
    for each in found["temporary"]:
        if each["others"]:
            findings.tell(
                f"{each['path']} also makes {', '.join(each['others'])}, so it stays; its line for "
                f"{layout.socket.parent} does no harm"
            )
        else:
            yield each["path"]


def _texts(
    layout: Layout,
    unit: Mapping[str, Any] | None,
    socket: Mapping[str, Any] | None,
    site: str,
    found: Mapping[str, Any],
) -> dict[str, str]:
    """Return the old texts, those of drop-ins and of several files in one, by the path of what comes instead."""
    rights = [each["text"] for each in found["sudoers"] if each["alone"]]
    texts = {
        layout.service_file: "\n".join(old_unit.texts_of(unit)) if unit else "",
        layout.socket_file: "\n".join(old_unit.texts_of(socket)) if socket else "",
        layout.site_file: site,
        layout.sudoers: "".join(rights),
    }
    return {str(path): text for path, text in texts.items()}


def differences(settings: "Settings", adoption: Adoption) -> str:
    """Return how unit, socket, site and sudo lines of before differ from the new ones: unified diffs, no secrets."""
    layout = Layout.of(settings)
    new = {
        layout.service_file: rendering.service(settings),
        layout.socket_file: rendering.socket(settings),
        layout.site_file: rendering.site(settings),
        layout.sudoers: rendering.sudoers(settings),
    }
    return "\n".join(_difference(adoption.texts.get(str(path), ""), text, str(path)) for path, text in new.items())


def _difference(old: str, new: str, path: str) -> str:
    names = (f"{path} (before)" if old else "/dev/null", path)
    lines = difflib.unified_diff(hidden(old).splitlines(), hidden(new).splitlines(), *names, lineterm="")
    return "".join(f"{line}\n" for line in lines) or f"{posixpath.basename(path)}: no difference\n"
