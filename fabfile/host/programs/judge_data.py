"""Runs on the host: judges whether a release's data outlives it, by what its Django has said (ask_django.py).

Takes name=value words: `answers` (django.json), `release` (its folder), `project` (the folder in it that gunicorn runs
in), `releases`, `app` and `shared` (the tool's own places), `linked_dirs` and `linked_files` (of hosts.toml, a line
each), `writable` (what the service may write to besides shared/, a line each), `media` and `media_url` (folder and url
of media in hosts.toml), `new` (empty on the way back to an earlier release, which no address of uploads may bar).

Prints `unapplied NAME` for each migration of this release that the databases lack; `ahead NAME` for each that they have
and another release knows, but not this one; `breaks NAME: WHY` if this one cannot run with it, as far as is known
(verdicts.json, kept by migrate.py); `unseen LINE` when uploads are kept and nobody shows them, with the line for
hosts.toml. All that is wrong is told at once: a place where the service cannot write, or where nothing outlives a
release or a restart, or uploads that nginx would not find.
"""

import json
import os
import sys
from pathlib import Path

TEMPORARY = ("/tmp", "/var/tmp")  # noqa: S108 -- the service has its own (PrivateTmp), which a restart empties
NEVER_LOST = ("database", "uploads")
SHOWN = ("uploads", "temporary uploads")
LINKS = {"file": "linked_files", "folder": "linked_dirs"}


def main(answers, release, project, releases, app, shared, linked_dirs, linked_files, writable, media, media_url, new):
    said = read_json(answers)
    linked = {"linked_files": linked_files.splitlines(), "linked_dirs": linked_dirs.splitlines()}
    places = said.get("places", [])
    tell_migrations(said.get("migrations", {}), Path(release, ".deploy"), Path(releases))
    uploads = said.get("media", {})
    findings, lines, wanted = [], {}, []
    for place in places:
        path = os.path.realpath(place["path"])
        named = f"{place['setting']} is {place['path']} ({place['use']})"
        if media and place["use"] not in SHOWN and within(path, os.path.realpath(f"{shared}/{media}")):
            findings.append(f"{named} lies in media.folder, which nginx shows to everybody")
            continue
        if within(path, shared, *writable.splitlines()):
            continue
        below = below_release(path, release, releases, app)
        if below is not None:
            named = f"{place['setting']} ({place['use']}) is {below} in the release"
            if place["kind"] == "folder" and has_code(Path(release, below), Path(release, project)):
                findings.append(
                    f"{named}, a folder with the app's code: give it one of its own, like {Path(below, 'media')}"
                )
                continue
            findings.append(f"{named}, where the app cannot write, and which the next release replaces")
            if place["setting"] == "MEDIA_ROOT" and is_for_nginx(uploads):
                wanted.append(media_line(below, uploads["url"]))
            else:
                lines.setdefault(LINKS[place["kind"]], []).append(below)
        elif within(path, *TEMPORARY):
            if place["use"] not in NEVER_LOST:
                continue
            findings.append(f"{named}: a restart empties the service's /tmp")
        else:
            findings.append(f"{named}: the service may not write there, only below {shared}")
    made_by_app = {os.path.realpath(place["path"]) for place in places if place["kind"] == "file"}
    missing = [
        name
        for name in linked["linked_files"]
        if not Path(shared, name).exists() and os.path.realpath(f"{shared}/{name}") not in made_by_app
    ]
    if uploads and new and not findings:
        findings, wanted = judge_media(uploads, shared, media, media_url)
    if findings:
        wanted += [f"{key} = {json.dumps(linked[key] + sorted(set(names)))}" for key, names in sorted(lines.items())]
        refuse(findings, wanted)
    if missing and said:  # what is no Django makes its files as it likes
        print("failed: linked_files names what is not there yet: " + ", ".join(f"{shared}/{name}" for name in missing))
        print(f"next: fab -H NAME link.put {missing[0]} --file YOUR-COPY")
        sys.exit(1)


def tell_migrations(migrations, notes, releases):
    """Note what this code knows, for releases to come, and tell what the databases have and it does not."""
    known = set(migrations.get("known", []))
    if known:
        path = notes / "migrations.json"
        path.with_name(".migrations").write_text(json.dumps(sorted(known)), encoding="utf-8")
        path.with_name(".migrations").replace(path)
    # Those that some release has: names that no code has any more are what squashing leaves in every database.
    lists = [read_json(path) for path in releases.glob("[0-9]*/.deploy/migrations.json")]
    elsewhere = {name for names in lists for name in names}
    for name in sorted(known - set(migrations.get("applied", []))):
        print(f"unapplied {name}")
    verdicts = {}
    for path in releases.glob("[0-9]*/.deploy/verdicts.json"):
        verdicts.update(read_json(path))
    for name in sorted(set(migrations.get("applied", [])) & elsewhere - known):
        print(f"ahead {name}")
        for what in verdicts.get(name, {}).get("breaks", []):
            print(f"breaks {name}: {what}")


def judge_media(uploads, shared, folder, url):
    """What is wrong between the uploads of Django and those of hosts.toml, with the line that mends it."""
    root = os.path.realpath(uploads["root"])
    line = media_line(os.path.relpath(root, shared), uploads["url"])
    if not within(root, shared):
        return [], []
    if not folder:
        if is_for_nginx(uploads):
            print(f"unseen {line}")
        return [], []
    if root != os.path.realpath(f"{shared}/{folder}"):
        return [f"uploads lie in {root} (MEDIA_ROOT), and media.folder in hosts.toml is {folder}"], [line]
    if uploads["url"] == "/":
        return [f'MEDIA_URL is not set, so no page knows where uploads are: in the settings, MEDIA_URL = "{url}"'], []
    if is_for_nginx(uploads) and uploads["url"] != url:
        return [f"pages give uploads addresses below {uploads['url']} (MEDIA_URL), and media.url is {url}"], [line]
    return [], []


def is_for_nginx(uploads):
    """Whether pages give uploads an address on this site that the app does not answer itself."""
    url = uploads.get("url", "")
    return url.startswith("/") and url != "/" and not uploads["by_app"]


def media_line(folder, url):
    more = f", url = {json.dumps(url)}" if url not in ("/media/", "/") else ""
    return f"media = {{ folder = {json.dumps(folder)}{more} }}"


def refuse(findings, wanted):
    print("What the app writes would be lost with a release, could not be written, or would not be found:")
    for finding in findings:
        print(f"  {finding}")
    more = f"; and {len(findings) - 1} more" if len(findings) > 1 else ""
    print(f"failed: {findings[0]}{more}")
    if wanted:
        print(f"next: in hosts.toml: {' and '.join(wanted)}; then the same command again")
    else:
        print("next: let the app write only below a folder of linked_dirs (docs/your-app.md)")
    sys.exit(1)


def within(path, *folders):
    return any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders if folder)


def below_release(path, release, releases, app):
    """The part of a path below the release that it lies in, this one or another; None when it lies in none."""
    for root in (os.path.realpath(release), os.path.realpath(app), app):
        if within(path, root):
            return os.path.relpath(path, root)
    releases = os.path.realpath(releases)
    return os.path.relpath(path, releases).partition("/")[2] or "." if within(path, releases) else None


def has_code(folder, project):
    """Whether a link in place of the folder would take code of the app away."""
    return within(str(project), str(folder)) or any(folder.glob("*.py"))


def read_json(path):
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


main(**dict(word.split("=", 1) for word in sys.argv[1:]))
