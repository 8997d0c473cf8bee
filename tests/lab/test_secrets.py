"""Secrets in a file on the host: set, taken up, told of, and nowhere to be seen; and what Doppler has of it, too."""

import contextlib
from collections.abc import Callable, Iterator

import pytest

from testbed.harness import Result, Site, throw_away
from testbed.lab import LabHost

pytestmark = pytest.mark.lab

SENTINEL = "SENTINEL-7h3x"
HOSTILE = f"{SENTINEL} a'b\"c$HOME`id`\\n\\ #x; ü→ =%h %% ${{x}} $(id)"


@pytest.fixture(scope="module")
def host(base: str, own: Callable[[str], str]) -> Iterator[LabHost]:
    """A host on which a site with Doppler is live."""
    with throw_away(own("secrets"), base=base) as made:
        yield made


@pytest.fixture(scope="module")
def shop(host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> Site:
    """Another app there, that has its secrets in a file."""
    folder, settings = tmp_path_factory.mktemp("shop"), {"secrets": "file", "default_server": False}
    site = Site(host, folder, "t/shop", settings, "shop", "shop.lab", "/srv/shop/app")
    site.settings["processes"] = {"ticker": {"command": "python -c 'import time; time.sleep(86400)'"}}
    site.commit(site.titled("Secrets in a file"))
    return site


def set_secret(site: Site, name: str, value: str, *words: str) -> Result:
    return site.fab("secrets.set", name, *words, stdin=f"{value}\n")


def environment(site: Site, unit: str) -> dict[str, str]:
    """What a unit's main process was started with."""
    text = site.run(f"tr '\\0' '\\n' </proc/$(systemctl show -p MainPID --value {unit})/environ")
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_from_nothing_to_a_site_without_doppler(shop: Site) -> None:
    """provision asks for no token; what the app lacks is set by name, and the first deploy takes it up."""
    made = shop.fab("provision", "--json").expect(0).json
    assert not [change for change in made["changes"] if "oppler" in change and "folder" not in change], made["changes"]
    assert "still empty (fab secrets.set NAME)" in "".join(made["changes"])
    refused = shop.deploy().expect(5).json
    assert "SECRET_KEY" in refused["error"]
    for name, value in (("SECRET_KEY", "x" * 50), ("ALLOWED_HOSTS", "shop.lab,127.0.0.1"), ("MOTTO", HOSTILE),
                        ("DATABASE_URL", "sqlite:////srv/shop/shared/data/site.sqlite3")):  # fmt: skip
        said = set_secret(shop, name, value).expect(0)
        assert f"{name} is set, and fab -H {shop.name} deploy takes it up" in said.text
    shop.settings["linked_dirs"] = ["data"]
    shop.deploy().expect(0)
    assert shop.heading() == "Secrets in a file"
    for unit in ("shop-django.service", "'shop-ticker@*.service'"):
        name = shop.run(f"systemctl list-units --plain --no-legend {unit} | cut -d' ' -f1").strip()
        assert environment(shop, name)["MOTTO"] == HOSTILE, unit
    assert "doppler" not in shop.run("systemctl show -p ExecStart shop-django.service")
    shop.fab("manage", "check").expect(0)
    assert shop.fab("secrets.list", "--json").expect(0).json["names"] == [
        "ALLOWED_HOSTS", "DATABASE_URL", "MOTTO", "SECRET_KEY",
    ]  # fmt: skip
    assert shop.run("stat -c '%U %a' /etc/shop/secrets /etc/shop/secrets/app.env").split() == [
        "root", "750", "deploy", "600",
    ]  # fmt: skip


def test_a_change_is_taken_up_and_told(shop: Site) -> None:
    """By a restart behind the socket; one that waits shows in `status`; the same value once more changes nothing."""
    changed = set_secret(shop, "MOTTO", "new", "--json").expect(0).json
    assert (changed["verb"], changed["activation"], changed["watch"]["failed"]) == ("secrets.set", "restart", 0)
    assert environment(shop, "shop-django.service")["MOTTO"] == "new"
    assert set_secret(shop, "MOTTO", "new", "--json").expect(0).json["status"] == "unchanged"
    assert shop.fab("status", "--json").expect(0).json["secrets_changed"] == []
    set_secret(shop, "EXTRA", "1", "--later").expect(0)
    shop.fab("secrets.unset", "MOTTO", "--later").expect(0)
    look = shop.fab("status").expect(0)
    assert "set otherwise since gunicorn started: EXTRA, MOTTO" in look.out
    shop.fab("restart").expect(0)
    assert shop.fab("status", "--json").expect(0).json["secrets_changed"] == []
    assert "MOTTO" not in environment(shop, "shop-django.service")
    gone = shop.fab("secrets.unset", "EXTRA", "--json").expect(0).json
    assert gone["activation"] == "restart"
    assert shop.fab("secrets.unset", "EXTRA", "--json").expect(0).json["status"] == "unchanged"


def test_no_value_is_seen_anywhere(shop: Site) -> None:
    """Of any verb, at any verbosity; nor on the host, but in the file and in the environment of what runs."""
    said = [
        set_secret(shop, "TOKEN", SENTINEL),
        set_secret(shop, "1ST", SENTINEL),
        set_secret(shop, "TOKEN", f"{SENTINEL}\n2"),
    ]
    said += [shop.fab("-e", "secrets.set", "TOKEN", stdin=f"{SENTINEL}2")]
    said += [shop.fab(*flags, *words) for flags in ((), ("-e",)) for words in (
        ["status"], ["secrets.list"], ["restart"], ["deploy", "--branch", shop.branch, "--force"], ["logs"],
        ["history"], ["releases"], ["rollback"], ["manage", "check"], ["reload"], ["status", "--json"],
        ["logs", "--json"],
    )]  # fmt: skip
    assert [result.code for result in said[:3]] == [0, 2, 2]
    assert not [result.text for result in said if SENTINEL in result.text]
    seen = shop.run(f"grep -rlF {SENTINEL} /srv/shop /etc /var/log /tmp /var/lib/shop* 2>/dev/null; true").split()
    assert seen == ["/etc/shop/secrets/app.env"]
    assert SENTINEL not in shop.run("journalctl --no-pager -q; true")


def test_doppler_has_its_own(host: LabHost, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Names are listed; what is Doppler's is not set here; a token is tried before it takes the old one's place."""
    site = Site(host, tmp_path_factory.mktemp("consult"), "main")
    names = site.fab("secrets.list", "--json").expect(0).json["names"]
    assert {"SECRET_KEY", "DATABASE_URL", "ALLOWED_HOSTS"} <= set(names)
    assert "DOPPLER_TOKEN" not in names
    refused = set_secret(site, "A", "1", "--json").expect(2).json
    assert "has its secrets in Doppler" in refused["error"]
    with contextlib.ExitStack() as stack:
        site.environment["DOPPLER_TOKEN"] = "dp.st.lab.WRONG"  # noqa: S105
        stack.callback(site.environment.pop, "DOPPLER_TOKEN")
        wrong = site.fab("secrets.token", "--json").expect(5).json
        assert "Doppler refuses the token that was given" in wrong["error"]
        site.environment["DOPPLER_TOKEN"] = host.doppler_token
        assert site.fab("secrets.token", "--json").expect(0).json["status"] == "unchanged"
    site.fab("status").expect(0)
