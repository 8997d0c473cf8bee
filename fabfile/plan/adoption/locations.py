"""What is judged of the locations of an old site: ways to the app, files, and all else. Pure."""

import json
import posixpath
import re

from .folder import listed
from .nginx_file import Directive
from .old_site import DECIDED, Site, is_there

PASSED_ON = {"host", "x-real-ip", "x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-forwarded-port",
             "x-forwarded-protocol", "x-forwarded-ssl", "x-scheme", "x-url-scheme"}  # fmt: skip
UPLOADS = re.compile(r"(?i)media|upload|user.?files|attachments")


def judge_location(site: Site, location: Directive, server: Directive) -> None:
    """Judge one location: served anyway, or a setting, or lines of its own."""
    *modifier, path = location.arguments or ("/",)
    passed = location.value("proxy_pass")
    if path.startswith("/.well-known/acme-challenge"):
        return
    if passed and site.leads_here(passed):
        _judge_way_to_the_app(site, location, path, bool(modifier and modifier[0] != "^~"))
    elif path == "/" and not modifier and "try_files" in {each.name for each in location.inner or ()}:
        root = location.value("root") or server.value("root")
        site.findings.tell(
            f"the old site looks for files in {root or 'its root'} first; the new one asks the app at once"
        )
    elif (folder := _folder(location, server, path)) and not (modifier and modifier[0].startswith("~")):
        _judge_files(site, location, path, folder, exact=modifier == ["="])
    elif not is_there(site, location):
        site.keep(location)


def _judge_way_to_the_app(site: Site, location: Directive, path: str, special: bool) -> None:
    """Judge a location that leads to the app, as the new site's own `/` does for every address."""
    inner = location.inner or ()
    extra = [each for each in inner if not DECIDED.fullmatch(each.name)]
    headers = [each for each in inner if each.name == "proxy_set_header" and each.arguments[0].lower() not in PASSED_ON]
    site.headers += [each.arguments[0] for each in inner if each.name == "add_header"]
    rewrites = bool(re.search(r"^https?://(unix:[^:]*:/|[^/:]+(:\d+)?/)", location.value("proxy_pass")))
    if path == "/" or path.startswith("@"):
        for each in extra:
            site.keep(each)
        if headers:
            site.findings.tell(
                f"{listed(each.summary for each in headers)} is left out: the new site hands on Host and "
                "X-Forwarded-*; for more, a templates/nginx-django.conf.j2 of your own"
            )
    elif extra or headers or rewrites or _slower(site, location):
        if not is_there(site, location):
            site.keep(location)
    elif not special or path not in site.served:
        site.served.append(path)


def _slower(site: Site, location: Directive) -> bool:
    """Return whether a location waits longer for the app than the new site does."""
    match = re.fullmatch(r"(\d+)(s|m|h)?", location.value("proxy_read_timeout"))
    return bool(match) and int(match[1]) * {"m": 60, "h": 3600}.get(match[2], 1) > site.settings.timeouts.boot + 60


def _folder(location: Directive, server: Directive, path: str) -> str:
    """Return the folder, or the file, that a location shows."""
    if alias := location.value("alias"):
        return posixpath.normpath(alias)
    if any(
        each.name in ("proxy_pass", "return", "deny", "uwsgi_pass", "fastcgi_pass") for each in location.inner or ()
    ):
        return ""
    root = location.value("root") or server.value("root")
    return posixpath.normpath(root + path) if root else ""


def _judge_files(site: Site, location: Directive, path: str, folder: str, *, exact: bool) -> None:
    """Judge a location that shows files: static ones, uploads, or others."""
    settings, findings = site.settings, site.findings
    url = path if path.endswith("/") else f"{path}/"
    inside = posixpath.relpath(folder, site.app)
    static = f"{site.app}/{settings.static_folder}"
    if exact or inside.startswith(".."):
        if url == settings.static_url:
            findings.stop(
                f"the old site shows {path} from {folder}, outside of {site.app}: a release has its own static files",
                f"let STATIC_ROOT of the app lie in {site.app}, and name it in hosts.toml: static_root",
            )
        elif not is_there(site, location):
            site.keep(location)
    elif url == settings.static_url:
        if folder != static:
            root = posixpath.relpath(inside, posixpath.normpath(settings.project))
            findings.need(f"the old site shows {path} from {folder}", f"static_root = {json.dumps(root)}")
    elif folder == static:
        findings.need(f"the old site shows {folder} at {path}", f"static_url = {json.dumps(url)}")
    elif settings.media.folder and posixpath.normpath(settings.media.folder) == inside:
        if settings.media.url != url:
            lines = f"media = {{ folder = {json.dumps(inside)}, url = {json.dumps(url)} }}"
            findings.need(f"the old site shows {folder} at {path}", lines)
    elif settings.media.folder is None and UPLOADS.search(f"{inside} {path}") and "internal" not in location.text:
        more = "" if url == "/media/" else f", url = {json.dumps(url)}"
        findings.need(f"the old site shows {folder} at {path}", f"media = {{ folder = {json.dumps(inside)}{more} }}")
    else:
        if UPLOADS.search(f"{inside} {path}") and inside not in settings.linked_folders:
            lines = json.dumps([*settings.linked_dirs, inside])
            findings.need(f"the old site shows {folder}, which no release has", f"linked_dirs = {lines}")
        if not is_there(site, location):
            site.keep(location)
