"""The nginx site: tested in place before it is loaded; the old one comes back if it fails."""

from shlex import quote

from fabfile.config.layout import Layout
from fabfile.steps.step import Step
from fabfile.steps.systemd import STAGED, SUDO, SYSTEMCTL, install, restore

NGINX = "/usr/sbin/nginx"


def test_site(layout: Layout) -> Step:
    """Install the staged site and let nginx test it without loading it; bring the old one back if it fails."""
    return Step(
        "Test the nginx site",
        f"""{SUDO}
{install(layout, [layout.site_file])}
if ! as_root {NGINX} -t -q; then
  {restore(layout, [layout.site_file])}
  exit 1
fi
""",
    )


def reload() -> Step:
    return Step("Reload nginx", f"{SUDO}\nas_root {SYSTEMCTL} reload nginx.service\n", live=True)


def put_back(layout: Layout) -> str:
    """The bash lines that load the site of before."""
    return f"""
if [ -e "{STAGED}" ] && ! cmp -s {quote(str(layout.site_file))} {quote(str(layout.staged / layout.site_file.name))}.before; then
  {restore(layout, [layout.site_file])}
  as_root {SYSTEMCTL} reload nginx.service
fi
"""
