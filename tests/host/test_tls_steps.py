"""The certificate's functions, with real certificates of openssl; certbot, nginx and systemctl are stand-ins."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from fabfile.config.settings import Tls
from fabfile.plan import certificate
from fabfile.ssh.runner import StepError
from fabfile.steps import nginx, tls
from tests.host.local_host import World

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="provision runs as root")

CA = "https://ca.example/dir"
# What the checks of the site have besides.
QUIET = """
visit() { echo "/ answers 200"; }
ask() { echo 200; }
"""


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


def make_pair(folder: Path, *names: str, days: int = 30) -> tuple[Path, Path]:
    """A certificate that it signs itself, and its key."""
    pair = folder / "own.pem", folder / "own.key"
    alternative = ",".join(f"DNS:{name}" for name in names)
    openssl(
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/O=The team/CN=x",
        "-addext", f"subjectAltName={alternative}", "-days", str(days), "-keyout", pair[1], "-out", pair[0],
    )  # fmt: skip
    return pair


@pytest.fixture(autouse=True)
def server(world: World) -> None:
    """A server on which nginx takes all but what is called broken, and nobody listens at port 443."""
    world.stub("systemctl")
    world.stub("nginx", f'if [ "$1" = -v ]; then echo nginx version: nginx/$NGINX >&2; '
               f"else ! grep -qs broken {world.layout.tls_file}; fi")  # fmt: skip
    world.override(f"""
listeners() {{ cat {world.root}/listeners 2>/dev/null || true; }}
/usr/sbin/nginx() {{ NGINX=1.22.1 nginx "$@"; }}
CERTBOT_LIVE={world.root}/live
""")


def use(world: World, **of_tls: str) -> None:
    world.settings = world.settings.model_copy(update={"tls": Tls(**of_tls)})


def own(world: World, pair: tuple[Path, Path]) -> None:
    use(world, certificate=str(pair[0]), key=str(pair[1]))


def snippet(world: World) -> str:
    return Path(world.layout.tls_file).read_text()


def domain(world: World) -> str:
    return world.settings.domain


def test_a_pair_of_the_teams_own_is_used(world: World) -> None:
    """Noted with what it was made for, once, and nginx takes it up."""
    pair = make_pair(world.root, domain(world))
    own(world, pair)
    first, second = world.twice(tls.prepare(world.settings))
    assert (first, second) == (f"changed: {world.layout.tls_file} ({pair[0]} {pair[1]})", "")
    assert snippet(world) == (
        "# Written by provision of the deploy tool.\n"
        f"# tls {certificate.words(world.settings)}\n"
        "listen 443 ssl http2;\nlisten [::]:443 ssl http2;\n"
        f"ssl_certificate {pair[0]};\nssl_certificate_key {pair[1]};\n"
    )
    assert world.calls.count("systemctl reload nginx.service") == 1


def test_http2_is_said_as_this_nginx_wants_it(world: World) -> None:
    """From 1.25.1 on it is no word of `listen` any more, and nginx warns of it."""
    own(world, make_pair(world.root, domain(world)))
    world.override('/usr/sbin/nginx() { NGINX=1.26.3 nginx "$@"; }')
    world.run(tls.prepare(world.settings))
    assert "http2 on;\nlisten 443 ssl;\nlisten [::]:443 ssl;\n" in snippet(world)


def wrong_pairs(folder: Path, name: str) -> dict[str, tuple[Path, Path, str]]:
    """Pairs that do not do, and what is said of each."""
    for each in ("good", "ended", "other"):
        (folder / each).mkdir()
    good, key = make_pair(folder / "good", name)
    other, other_key = make_pair(folder / "other", "a.example", "*.b.example")
    ended, ended_key = make_pair(folder / "ended", name)
    openssl("x509", "-in", ended, "-signkey", ended_key, "-days", "-1", "-out", ended, "-copy_extensions", "copyall")
    locked, binary = folder / "locked.key", folder / "binary.pem"
    openssl("pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked)
    openssl("x509", "-in", good, "-outform", "der", "-out", binary)
    openssl("pkey", "-in", key, "-outform", "der", "-out", folder / "binary.key")
    return {
        "missing": (folder / "none.pem", key, f"{folder}/none.pem is not on this server"),
        "no key": (good, folder / "none.key", f"{folder}/none.key is not on this server"),
        "binary": (binary, key, "binary.pem is no certificate in PEM form"),
        "binary key": (good, folder / "binary.key", "binary.key is no private key that can be read"),
        "passphrase": (good, locked, "locked.key is no private key that can be read without a passphrase"),
        "swapped": (key, good, "own.key is no certificate in PEM form"),
        "of another": (good, other_key, "does not fit the certificate"),
        "ended": (ended, ended_key, f"{ended} ended on 2"),
        "for others": (other, other_key, f"is not for {name}, but for a.example, *.b.example"),
    }


@pytest.mark.parametrize(
    "case", ["missing", "no key", "binary", "binary key", "passphrase", "swapped", "of another", "ended", "for others"]
)
def test_a_pair_that_browsers_or_nginx_would_refuse_is_not_used(case: str, world: World) -> None:
    """It is named with the reason and what mends it; what was there before stays."""
    own(world, make_pair(world.root, domain(world)))
    world.run(tls.prepare(world.settings))
    before = snippet(world)
    *pair, words = wrong_pairs(world.root, domain(world))[case]
    use(world, certificate=str(pair[0]), key=str(pair[1]))
    with pytest.raises(StepError) as caught:
        world.run(tls.prepare(world.settings))
    assert words in caught.value.message
    assert re.search(r"\nnext: \S.*\Z", caught.value.evidence.strip())
    assert snippet(world) == before


def test_a_wildcard_is_for_its_names(world: World) -> None:
    """As browsers take it; an alias that the certificate lacks is named."""
    name = domain(world)
    own(world, make_pair(world.root, f"*.{name.partition('.')[2]}"))
    world.run(tls.prepare(world.settings))
    world.settings = world.settings.model_copy(update={"aliases": (f"deep.{name}", "www.other.example")})
    with pytest.raises(StepError, match=rf"is not for deep\.{name}, www\.other\.example, but for \*"):
        world.run(tls.prepare(world.settings))


def test_what_nginx_refuses_is_put_back(world: World) -> None:
    """The file that was there, or none."""
    (world.root / "broken").mkdir()
    pair = make_pair(world.root / "broken", domain(world))
    own(world, pair)
    with pytest.raises(StepError, match="nginx -t refuses the certificate; what was there before is back"):
        world.run(tls.prepare(world.settings))
    assert not Path(world.layout.tls_file).exists()


def test_a_port_that_is_taken_is_told_before_anything_changes(world: World) -> None:
    """By the name of who has it."""
    own(world, make_pair(world.root, domain(world)))
    (world.root / "listeners").write_text("nginx\ncaddy\n")
    with pytest.raises(StepError, match="caddy listens on port 443, where nginx is to speak https"):
        world.run(tls.prepare(world.settings))
    (world.root / "listeners").write_text("nginx\nnginx\n")
    world.run(tls.prepare(world.settings))


CERTBOT = """
mkdir -p {root}/live
cp {root}/own.pem {root}/live/fullchain.pem"""


def lets_encrypt(world: World, certbot: str = "") -> None:
    """A site that an ACME server is to certify, by a certbot that does what the script says."""
    make_pair(world.root, domain(world), "www.consult.dev")
    use(world, letsencrypt="ops@example.org", acme_server=CA)
    world.settings = world.settings.model_copy(update={"aliases": ("www.consult.dev",)})
    world.stub("certbot", certbot or CERTBOT.format(root=world.root))
    # nginx, as the site answers an ACME server.
    world.stub("curl", f'cat "{world.layout.acme_root}/${{@: -1:1}}" 2>/dev/null | head -c 100; '
               f"cat {world.layout.acme_root}/.well-known/acme-challenge/*")  # fmt: skip


def test_a_site_is_certified(world: World) -> None:
    """nginx starts with a certificate that nobody takes, and has the real one in the end."""
    lets_encrypt(world)
    world.run(tls.prepare(world.settings))
    assert "\n# tls placeholder\n" in snippet(world)
    assert Path(str(world.layout.tls_file).replace(".conf", "-placeholder"), "key.pem").stat().st_mode & 0o777 == 0o600
    first, second = world.twice(tls.obtain(world.settings))
    assert f"changed: certificate of {domain(world)}, www.consult.dev, until 2" in first
    assert second == ""
    assert f"\n# tls {CA} {domain(world)} www.consult.dev\n" in snippet(world)
    assert f"ssl_certificate {world.root}/live/fullchain.pem;\n" in snippet(world)
    call = next(each for each in world.calls if each.startswith("certbot"))
    for words in (
        f"--server {CA} ", "--email ops@example.org ", f"--webroot-path {world.layout.acme_root} ",
        f"--cert-name {world.layout.unit} ", "--deploy-hook systemctl reload nginx.service ",
        f"--domain {domain(world)} --domain www.consult.dev",
    ):  # fmt: skip
        assert words in call
    assert "--force-renewal" not in call
    assert not list(Path(world.layout.acme_root).rglob(world.layout.unit)), "the question to itself leaves no file"
    world.run(tls.prepare(world.settings))
    assert CA in snippet(world), "a placeholder takes no certificate's place"


REFUSED = """
cat <<'SAID'
Saving debug log to /var/log/letsencrypt/letsencrypt.log
Requesting a certificate for {name}

Certbot failed to authenticate some domains (authenticator: webroot). The Certificate Authority reported these problems:
  Domain: {name}
  Type:   {kind}
  Detail: {detail}

Hint: The Certificate Authority failed to download the temporary challenge files created by Certbot.

Some challenges have failed.
Ask for help or search for solutions at https://community.letsencrypt.org.
SAID
exit 1"""


@pytest.mark.parametrize(
    ("kind", "detail", "after"),
    [
        (
            "dns",
            "DNS problem: NXDOMAIN looking up A for {name}",
            "let the name {name} lead to this server (an A record",
        ),
        ("connection", "203.0.113.7: Fetching http://{name}/.well-known/x: Connection refused", "port 80 is open to"),
        (
            "unauthorized",
            "203.0.113.7: Invalid response from http://{name}/: 404",
            "see that {name} leads to this server",
        ),
    ],
)
def test_a_refusal_is_told_in_the_words_of_the_server(kind: str, detail: str, after: str, world: World) -> None:
    """With what to do about it; the placeholder stays, and so nginx can start."""
    name = domain(world)
    detail = detail.format(name=name)
    lets_encrypt(world, REFUSED.format(name=name, kind=kind, detail=detail))
    world.run(tls.prepare(world.settings))
    with pytest.raises(StepError) as caught:
        world.run(tls.obtain(world.settings))
    assert f"no certificate for {name}" in caught.value.message
    assert detail in caught.value.message
    assert after.format(name=name) in caught.value.evidence
    assert "\n# tls placeholder\n" in snippet(world)


def test_a_server_that_cannot_be_reached_is_told(world: World) -> None:
    """By certbot's last word."""
    lets_encrypt(world, "echo 'requests.exceptions.ConnectionError: no route'; echo 'Ask for help or search'; exit 1")
    world.run(tls.prepare(world.settings))
    with pytest.raises(StepError, match=r"certbot: requests.exceptions.ConnectionError: no route") as caught:
        world.run(tls.obtain(world.settings))
    assert f"next: see that this server reaches {CA}" in caught.value.evidence


def test_a_certificate_that_holds_needs_no_server(world: World) -> None:
    """provision goes on without an ACME server; not where the names have changed, or with ten days left."""
    lets_encrypt(world)
    world.run(tls.prepare(world.settings))
    world.run(tls.obtain(world.settings))
    world.stub("certbot", "echo 'requests.exceptions.ConnectionError: no route'; echo 'Ask for help or search'; exit 1")
    said = world.output(tls.obtain(world.settings))
    assert re.fullmatch(r"certbot cannot renew .* holds until 20\d\d-\d\d-\d\d: requests.*: no route", said)
    aliases = {"aliases": ("www.consult.dev", "shop.consult.dev")}
    with pytest.raises(StepError, match="no route"):
        world.run(tls.obtain(world.settings.model_copy(update=aliases)))
    make_pair(world.root, domain(world), "www.consult.dev", days=9)
    (world.root / "live/fullchain.pem").write_bytes((world.root / "own.pem").read_bytes())
    with pytest.raises(StepError, match="no route"):
        world.run(tls.obtain(world.settings))


def test_a_site_that_answers_no_acme_server_is_told_first(world: World) -> None:
    """Before certbot is asked, whose failures an ACME server counts."""
    lets_encrypt(world)
    world.stub("curl", "echo 404")
    world.override("SECONDS=1000\nsleep() { SECONDS=$((SECONDS + 11)); }")
    world.run(tls.prepare(world.settings))
    with pytest.raises(StepError, match=r"nginx does not answer for .*: another site has that name"):
        world.run(tls.obtain(world.settings))
    Path(world.layout.current).parent.mkdir(parents=True, exist_ok=True)
    Path(world.layout.current).symlink_to(world.root)
    with pytest.raises(StepError, match="the site that is live does not answer for certificates yet"):
        world.run(tls.obtain(world.settings))
    assert not [each for each in world.calls if each.startswith("certbot")]


def test_the_certificate_of_another_server_is_replaced(world: World) -> None:
    """Of one that was tried out, say; certbot would see nothing to do before it ends."""
    lets_encrypt(world)
    world.override(f"""
eval "as_told_$(declare -f obtain_certificate | sed 's#/etc/letsencrypt/renewal#{world.root}/renewal#')"
obtain_certificate() {{ as_told_obtain_certificate "$@"; }}
""")
    (world.root / "renewal").mkdir()
    noted = world.root / "renewal" / f"{world.layout.unit}.conf"
    world.run(tls.prepare(world.settings))
    for server, forced in ((CA, False), ("https://staging.example/dir", True)):
        noted.write_text(f"[renewalparams]\nserver = {server}\n")
        (world.root / "calls").unlink(missing_ok=True)
        world.run(tls.obtain(world.settings))
        [call] = [each for each in world.calls if each.startswith("certbot")]
        assert ("--force-renewal" in call) == forced


def test_without_the_setting_the_file_goes_and_the_certificate_stays(world: World) -> None:
    """Not before the site has stopped to include it, or nginx could not start; and it is told how to end the rest."""
    lets_encrypt(world)
    world.run(tls.prepare(world.settings))
    world.run(tls.obtain(world.settings))
    site = Path(world.layout.site_file)
    site.write_text(f"include {world.layout.tls_file};\n")
    assert world.output(tls.forget()) == "https is still spoken: the next deploy ends it"
    assert snippet(world)
    site.write_text("")
    first, second = world.twice(tls.forget())
    assert first.splitlines() == [
        f"changed: {world.layout.tls_file} is gone",
        f"the certificate is kept, and renewed; to end that: certbot delete --cert-name {world.layout.unit}",
    ]
    assert second == ""
    assert not list(Path(world.layout.tls_file).parent.glob("*placeholder*"))
    assert (world.root / "live/fullchain.pem").exists()


def test_what_visitors_are_shown_is_looked_at(world: World) -> None:
    """Its time, who signed it, and the names that it lacks; or that nobody speaks TLS, which is a failed check."""
    make_pair(world.root, domain(world), days=30)
    use(world, letsencrypt="ops@example.org")
    world.override(QUIET + f"served_certificate() {{ openssl x509 -in {world.root}/served 2>/dev/null; }}")
    output = world.output(nginx.look_at_site(world.settings))
    assert nginx.parse_checks(output).details["certificate"] == "nobody speaks TLS on port 443"
    (world.root / "own.pem").rename(world.root / "served")
    output = world.output(nginx.look_at_site(world.settings))
    assert nginx.parse_checks(output).held["certificate"]
    found = certificate.parse(output.splitlines())
    assert found
    assert (found.ends - found.begins, found.issuer, found.misses) == (30 * certificate.DAY, "The team", "")
    world.settings = world.settings.model_copy(update={"aliases": ("www.consult.dev",)})
    found = certificate.parse(world.output(nginx.look_at_site(world.settings)).splitlines())
    assert found
    assert found.misses == f"www.consult.dev, it is for {domain(world)}"
