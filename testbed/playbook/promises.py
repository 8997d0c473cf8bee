"""What holds of a server before `adopt`, after it, and after the way back; an AssertionError says what does not."""

import difflib

from testbed.harness import Site
from testbed.lab import execute
from testbed.playbook import UPLOADS

# What the playbook had made, as far as it is not the app's to write: kind, mode, owner, target, access lists, bytes.
OLD_PLACES = "/app /etc/systemd/system /etc/nginx /etc/sudoers.d /etc/tmpfiles.d"
APPS_OWN = r"\( -name __pycache__ -o -path /app/apps/web/media \) -prune"
OLD_LAYOUT = rf"""
find {OLD_PLACES} {APPS_OWN} -o -type f -printf '%p %m %u %g %T@\n' -o -printf '%p %y %m %u %g %l\n' | sort
find {OLD_PLACES} {APPS_OWN} -o -type f -print0 | sort -z | xargs -0 sha256sum
cd /app/apps/web/media
getfacl --absolute-names . report.txt pictures pictures/ana.bin
sha256sum report.txt pictures/ana.bin
systemctl list-unit-files --state=enabled --plain --no-legend
systemctl show --property FragmentPath,DropInPaths,UnitFileState,ActiveState consult-django.service
sudo -l -U deploy | grep NOPASSWD
stat -c '%n %U %G %a' /run/consult
"""


def old_layout(site: Site) -> list[str]:
    """What the playbook's server looks like, line by line."""
    return site.run(OLD_LAYOUT).splitlines()


def command_lines(site: Site) -> str:
    return site.run("cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' ' '; true")


def assert_ours(site: Site, commit: str) -> None:
    """The site is one of this tool's, with that commit live and with all that its visitors and people had left."""
    live = site.live()
    assert site.run("readlink /app").strip() == "/srv/consult/current"
    assert live.endswith(f"-{commit[:7]}")
    site.assert_sound()
    assert "good" in site.marks(live)
    for path, body in UPLOADS.items():
        assert site.get(f"/media/{path}").content == body, path
    assert site.run("stat -c '%U %G %a' /etc/consult/doppler.env").strip() == "deploy deploy 600"
    assert site.host.doppler_token in site.run("cat /etc/consult/doppler.env")
    assert site.host.doppler_token not in command_lines(site), "the token is in an argv"
    assert execute(site.host, "runuser", "-u", "www-data", "--", "cat", "/etc/consult/doppler.env").returncode != 0
    assert site.run("systemctl --failed --plain --no-legend") == ""
    status = site.fab("status", "--json").expect(0).json
    assert status["sudo_too_wide"] == []


def assert_old(site: Site, before: list[str]) -> None:
    """The server is as the playbook had left it, and serves."""
    changed = difflib.unified_diff(before, old_layout(site), "before", "now", lineterm="", n=0)
    assert not (lines := list(changed)), "\n".join(lines[:40])
    assert site.get("/").headers["X-Release"] == "app"
    assert site.run("systemctl show -p ExecStart consult-django").count("/app/.venv/bin/gunicorn") >= 1
    assert site.run("systemctl is-active consult-django nginx").split() == ["active", "active"]
    assert site.run("systemctl --failed --plain --no-legend") == ""
    assert site.run("ls -d /app.adopted /etc/consult/adopted 2>/dev/null; true") == ""
    for path, body in UPLOADS.items():
        assert site.get(f"/media/{path}").content == body, path
