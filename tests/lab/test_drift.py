"""What somebody has edited on the server: told before anything is built, and never erased unseen."""

from collections.abc import Callable, Iterator

import pytest

from testbed.harness import Site, throw_away
from testbed.lab import execute

pytestmark = pytest.mark.lab

UNIT = "/etc/systemd/system/consult-django.service"
NGINX = "/etc/nginx/sites-available/consult-django"
DROP_IN = f"{UNIT}.d/override.conf"


@pytest.fixture
def site(base: str, own: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The sample site, live, with lines that the tool knows nothing of: in its unit, beside it, and in its site."""
    with throw_away(own("drift"), base=base) as host:
        site = Site(host, tmp_path_factory.mktemp("drift"), "t/drift")
        site.commit(site.titled("Before"))
        site.provision().expect(0)
        site.deploy().expect(0)
        site.run(f"sed -i 's/^Restart=always/&\\nMemoryMax=650M/' {UNIT}")
        site.run(f"sed -i 's/server_tokens off;/& # by hand/' {NGINX}")
        site.run(f"mkdir {UNIT}.d; printf '[Service]\\nEnvironment=BY_HAND=sentinel\\n' >{DROP_IN}")
        site.run("systemctl daemon-reload; systemctl reload nginx")
        yield site


def texts(site: Site) -> list[str]:
    return [site.run(f"cat {path}") for path in (UNIT, NGINX, DROP_IN)]


def test_what_was_edited_on_the_server(site: Site) -> None:
    """A deploy and provision stop, a rollback goes its way; --overwrite replaces it, and keeps copies."""
    before, first, pids = texts(site), site.live(), site.worker_pids()
    site.commit(site.titled("After"))
    refused = site.fab("deploy", "--branch", site.branch).expect(5)
    for line in (
        "+MemoryMax=650M", "server_tokens off; # by hand", "+Environment=BY_HAND= (not shown)",
        "consult-django.service.d/override.conf", "unit_options for what belongs into a unit", "nginx_include",
        "the same command with --overwrite",
    ):  # fmt: skip
        assert line in refused.text
    assert "sentinel" not in refused.text
    assert site.provision().expect(4).json["error"].count("edited on the server") == 1
    assert site.fab("status", "--json").expect(0).json["edited"] == [UNIT, NGINX, DROP_IN]
    assert (texts(site), site.live(), site.worker_pids()) == (before, first, pids)
    assert execute(site.host, "ls", "/srv/consult/overwritten").returncode != 0

    done = site.deploy("--overwrite").expect(0).json
    assert done["activation"] == "restart"
    assert "drop-ins taken away: override.conf" in done["reason"]
    assert site.live() != first
    assert "MemoryMax=650M" not in site.run(f"cat {UNIT}")
    assert "by hand" not in site.run(f"cat {NGINX}")
    assert execute(site.host, "ls", f"{UNIT}.d").returncode != 0
    assert "BY_HAND" not in site.run("systemctl show -p Environment consult-django")
    [folder] = site.run("ls -d /srv/consult/overwritten/*").split()
    assert [site.run(f"cat {folder}{path}") for path in (UNIT, NGINX, DROP_IN)] == before
    assert site.run(f"stat -c %U {folder}{DROP_IN}").strip() == "deploy"
    assert site.deploy().expect(0).json["status"] == "unchanged"

    second = site.live()
    site.run(f"echo '# once more' >>{UNIT}")
    assert site.fab("rollback", "--json").expect(0).json["release"] == first
    assert "# once more" in site.run(f"cat {UNIT}")
    assert site.provision("--overwrite").expect(0).json["status"] == "success"
    assert site.deploy().expect(0).json["release"] != second
    assert "# once more" not in site.run(f"cat {UNIT}")
    assert len(site.run("ls /srv/consult/overwritten").split()) == 2
