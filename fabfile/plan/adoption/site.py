"""What is judged of the nginx site that leads to the app on an old server: names, https, all else. Pure."""

import json
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...config.layout import Layout
from .. import rendering
from . import nginx_file
from .findings import Findings
from .folder import listed
from .hiding import hidden
from .locations import judge_location
from .nginx_file import Directive
from .old_site import DECIDED, Site, leads, names_of, sends_to, servers

if TYPE_CHECKING:
    from ...config.settings import Settings

DEBIAN = "/etc/nginx/sites-enabled/default"
SET_BY_DJANGO = {"x-frame-options", "strict-transport-security", "cross-origin-opener-policy"}
SET_BY_THE_NEW_SITE = {"x-content-type-options", "referrer-policy"}


def judge_site(
    settings: "Settings", addresses: Sequence[str], found: Mapping[str, Any], findings: Findings
) -> tuple[tuple[str, ...], str]:
    """Judge the site; return the files that go, and the text of the site of before."""
    nginx = found["nginx"]
    if not nginx["there"]:
        findings.stop(
            "there is no nginx on this server: another web server stands before the app",
            "put nginx in its place first (systemctl disable --now caddy apache2; apt-get install nginx, with the "
            "site)",
        )
        return (), ""
    if not nginx["sound"]:
        findings.stop(
            f"nginx -t fails on this server already: {nginx['why']}", "mend that file on the server, see: nginx -t"
        )
    site = Site(settings, findings, found["folder"]["path"], _all_names(addresses))
    site.new = nginx_file.parse(rendering.site(settings))
    parsed = _parsed(site, nginx["files"], findings)
    site.files = [each for each in nginx["files"] if each["path"] in parsed and _is_ours(site, parsed[each["path"]])]
    if not any(leads(site, server) for each in site.files for server in servers(parsed[each["path"]])):
        findings.stop(
            f"no site of nginx leads to {addresses[0]}: who asks for {settings.domain} gets something else",
            "see on the server what it leads to: nginx -T; domain in hosts.toml, and the old service, have to fit that",
        )
        return (), ""
    for file in site.files:
        _judge_file(site, file, parsed[file["path"]], parsed)
    _judge_names(site, parsed)
    _judge_other_sites(site, nginx["files"])
    _tell_and_ask(site)
    return _gone(settings, site.files), "\n".join(each["text"] for each in site.files)


def _all_names(addresses: Iterable[str]) -> frozenset[str]:
    """Return the ways in which nginx may call these addresses."""
    found = set()
    for address in addresses:
        host, _, port = address.rpartition(":")
        found |= {address, f"/var{address}"} if address.startswith("/") else {address}
        found |= {f"localhost:{port}", f"[::1]:{port}"} if host == "127.0.0.1" else set()
    return frozenset(found)


def _parsed(
    site: Site, files: Sequence[Mapping[str, Any]], findings: Findings
) -> dict[str, tuple[Directive, ...]]:  # fmt: skip
    """Return the directives of the files whose texts were read, and note the upstreams in them."""
    parsed = {}
    for file in files:
        if not file["text"] or not file["loaded"]:
            continue
        try:
            parsed[file["path"]] = nginx_file.parse(file["text"])
        except ValueError as error:
            findings.tell(f"{file['path']} of nginx is not understood ({error})")
            continue
        for each in nginx_file.walk(parsed[file["path"]]):
            if each.name == "upstream" and each.arguments:
                servers = [server.arguments[0] for server in each.all("server") if server.arguments]
                site.upstreams[each.arguments[0]] = [server.removeprefix("unix:") for server in servers]
    return parsed


def _is_ours(site: Site, directives: Iterable[Directive]) -> bool:
    return any(names_of(each) & site.names or leads(site, each) for each in servers(directives))


def _judge_file(
    site: Site, file: Mapping[str, Any], directives: Sequence[Directive], parsed: Mapping[str, tuple[Directive, ...]]
) -> None:
    """Judge one file that leads to the app."""
    path = file["path"]
    if any(each.name in ("http", "events") for each in directives):
        site.findings.stop(
            f"the site stands in {path} itself, with what all sites share",
            "move its server block into a file of its own: "
            f"/etc/nginx/sites-available/{Layout.of(site.settings).unit}, linked in sites-enabled, then nginx -t, and "
            "systemctl reload nginx",
        )
        return
    for server in servers(directives):
        names = names_of(server)
        if leads(site, server) or names & site.names:
            _judge_server(site, file, server, parsed)
        elif target := sends_to(server):
            _judge_redirect(site, names, target)
        else:
            site.findings.stop(
                f"{path} also has the site of {listed(sorted(names)) or 'other names'}, which goes when {path} goes",
                "split it: a file of its own for that server block in /etc/nginx/sites-enabled, then nginx -t, and "
                "systemctl reload nginx",
            )
    _judge_beside(site, path, directives)


def _judge_redirect(site: Site, names: set[str], target: str) -> None:
    """Ask for names that a block of their own sends to the site."""
    others = sorted(name for name in names - site.names if name != "_")
    if not others:
        return
    for name in others:
        text = f'if ($host = "{name}") {{\n    return 301 {target};\n}}'
        site.keep(nginx_file.parse(text)[0])
    _need_aliases(site, others)


def _need_aliases(site: Site, names: Iterable[str]) -> None:
    aliases = sorted({*site.settings.aliases, *names})
    site.findings.need(f"the old site also answers for {listed(names)}", f"aliases = {json.dumps(aliases)}")


def _judge_beside(site: Site, path: str, directives: Iterable[Directive]) -> None:
    """Ask for what stands beside the server blocks, and no include inside of a server block can hold."""
    rest = []
    for each in directives:
        if each.name == "upstream" and any(site.leads_here(f"http://{name}") for name in each.arguments[:1]):
            extra = [inner.summary for inner in each.inner or () if inner.name != "server"]
            if extra:
                site.findings.tell(
                    f"{', '.join(extra)} of upstream {each.arguments[0]} is left out: the new one has its own"
                )
        elif each.name not in ("server", "include"):
            rest.append(each)
    if rest:
        site.findings.need(
            f"{path} has {listed(each.summary for each in rest)} beside the site, for which hosts.toml has no place",
            f"move it on the server into /etc/nginx/conf.d/{site.settings.name}.conf, then nginx -t, and systemctl "
            "reload "
            "nginx:\n" + hidden("\n".join(each.text for each in rest)),
        )


def _judge_server(
    site: Site, file: Mapping[str, Any], server: Directive, parsed: Mapping[str, tuple[Directive, ...]]
) -> None:
    """Judge a server block that leads to the app, with the files that it includes."""
    inner = list(server.inner or ())
    for include in server.all("include"):
        read = [each for path in file["includes"] if _included(include, path) for each in parsed.get(path, ())]
        inner += [each for each in read if each.name != "location"]
        if not read or any(each.name == "location" or not DECIDED.fullmatch(each.name) for each in read):
            site.keep(include)
    whole = Directive(server.name, server.arguments, tuple(inner), server.text)
    _judge_tls(site, whole)
    _judge_size(site, whole)
    _judge_listen(site, whole)
    _judge_proxies(site, whole)
    redirects = not leads(site, server)
    for each in server.inner or ():
        if each.name == "location":
            judge_location(site, each, server)
        elif each.name == "add_header":
            site.headers.append(" ".join(each.arguments[:1]))
        elif each.name == "error_page":
            site.findings.tell(
                f"{each.summary} of the old site is left out: error_page in hosts.toml names a page of yours"
            )
        elif each.name == "access_log" and each.arguments[:1] != ("off",):
            log = Layout.of(site.settings).access_log
            if each.arguments[0] != str(log):
                site.findings.tell(f"visits are written to {log}, no more to {' '.join(each.arguments)}")
        elif not DECIDED.fullmatch(each.name) and not _is_https_redirect(each) and not redirects:
            site.keep(each)


def _included(include: Directive, path: str) -> bool:
    named = include.arguments[0] if include.arguments else ""
    return posixpath.basename(named) in (posixpath.basename(path), "*", "*.conf")


def _is_https_redirect(each: Directive) -> bool:
    """Return whether a directive only sends visitors to https, as the new site does by itself."""
    text = each.text
    return each.name in ("return", "if", "rewrite") and bool(re.search(r"https://(\$host|\$server_name|\S*\.)", text)) \
        and ("$scheme" in text or each.name != "if" or "managed by Certbot" in text or "$host" in text)  # fmt: skip


def _judge_tls(site: Site, server: Directive) -> None:
    certificate, key = server.value("ssl_certificate"), server.value("ssl_certificate_key")
    tls = site.settings.tls
    if not certificate or (tls.letsencrypt and certificate.startswith("/etc/letsencrypt/")):
        return
    if (tls.certificate, tls.key) == (certificate, key):
        return
    lines = f"tls = {{ certificate = {json.dumps(certificate)}, key = {json.dumps(key)} }}"
    if certificate.startswith("/etc/letsencrypt/"):
        lines += '  # certbot goes on renewing it; or tls = { letsencrypt = "YOUR MAIL ADDRESS" }, and the tool does'
    site.findings.need(f"the old site speaks https with {certificate}", lines)


def _judge_size(site: Site, server: Directive) -> None:
    sizes = [each.arguments[0] for each in nginx_file.walk([server]) if each.name == "client_max_body_size"]
    largest = max(sizes, key=_bytes, default="")
    if largest and _bytes(largest) > _bytes(site.settings.body_size):
        site.findings.need(f"the old site takes requests of {largest}", f"body_size = {json.dumps(largest)}")
    elif largest and _bytes(largest) < _bytes(site.settings.body_size):
        site.findings.tell(f"the old site takes requests of {largest}, the new one of {site.settings.body_size}")


def _bytes(size: str) -> float:
    """Return a size in bytes; 0 stands for any."""
    match = re.fullmatch(r"(\d+)([kmg]?)", size.lower())
    return (match and int(match[1]) * {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}[match[2]]) or float("inf")


def _judge_listen(site: Site, server: Directive) -> None:
    for each in server.all("listen"):
        where = each.arguments[0] if each.arguments else "80"
        port = where.rpartition(":")[2]
        if port not in ("80", "443") and re.fullmatch(r"\d+", port):
            site.keep(each)
        elif {"default_server", "default"} & set(each.arguments) and not site.settings.default_server:
            site.findings.need("the old site answers for any other name, too", "default_server = true")
        if "proxy_protocol" in each.arguments:
            site.findings.tell(
                "the old site takes the PROXY protocol (listen ... proxy_protocol), which the new one does not"
            )


def _judge_proxies(site: Site, server: Directive) -> None:
    networks = [each.arguments[0] for each in server.all("set_real_ip_from") if each.arguments]
    known = {directive.arguments[0] for directive in site.new_server.all("set_real_ip_from")}
    lacking = [each for each in networks if each not in known and f"{each}/32" not in known and each != "unix:"]
    if lacking:
        lines = json.dumps([*site.settings.trusted_proxies, *lacking])
        site.findings.need(f"the old site believes {listed(lacking)} for whom they ask", f"trusted_proxies = {lines}")


def _judge_names(site: Site, parsed: Mapping[str, Sequence[Directive]]) -> None:
    """Compare the names that lead to the app with those of hosts.toml."""
    blocks = [each for file in site.files for each in servers(parsed[file["path"]]) if leads(site, each)]
    names = {name for each in blocks for name in names_of(each)}
    plain = sorted(name for name in names if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.-]*", name))
    odd = sorted(names - set(plain) - {"_", ""})
    if plain and not site.names & set(plain):
        others = f"\naliases = {json.dumps(plain[1:])}" if plain[1:] else ""
        site.findings.need(
            f"the old site answers for {listed(plain)}, and not for {site.settings.domain}",
            f"domain = {json.dumps(plain[0])}{others}",
        )
    elif lacking := [name for name in plain if name not in site.names]:
        _need_aliases(site, lacking)
    if odd:
        site.findings.tell(
            f"the old site answers for {listed(odd)}; the new one for names alone"
            + (", and as default server for any other" if site.settings.default_server else "")
        )


def _judge_other_sites(site: Site, files: Iterable[Mapping[str, Any]]) -> None:
    """Judge the sites of other apps: they stay, and one of them may be the default."""
    ours = {each["path"] for each in site.files}
    others = [
        each
        for each in files
        if each["loaded"] and each["path"] not in ours and (each["names"] or each["default_server"])
    ]
    rest = [each for each in others if each["path"] != DEBIAN]
    if any(each["path"] == DEBIAN for each in others) and site.settings.default_server:
        site.findings.tell(f"{DEBIAN}, Debian's own site, goes: the new site answers for any other name")
    default = [each["path"] for each in rest if each["default_server"]]
    if default and site.settings.default_server:
        site.findings.need(
            f"{listed(default)} is the default server of this nginx already", "default_server = false"
        )  # fmt: skip
    elif rest and site.settings.default_server and not any(each["default_server"] for each in site.files):
        site.findings.need(
            f"this nginx has other sites ({listed(each['path'] for each in rest)}), and the old site was not its "
            "default",
            "default_server = false",
        )
    if rest:
        site.findings.tell(f"other sites stay as they are: {listed(each['path'] for each in rest)}")


def _tell_and_ask(site: Site) -> None:
    """Say once what all blocks have come to."""
    if site.served:
        site.findings.tell(
            f"the app answers at {listed(dict.fromkeys(site.served))} as before, without lines of its own"
        )
    if headers := sorted({name for name in site.headers if name.lower() not in SET_BY_THE_NEW_SITE}):
        by_django = [name for name in headers if name.lower() in SET_BY_DJANGO]
        rest = [name for name in headers if name.lower() not in SET_BY_DJANGO]
        if by_django:
            site.findings.tell(
                f"the old site adds {listed(by_django)}: Django sets them (SecurityMiddleware), the new site does not"
            )
        if rest:
            site.findings.tell(f"the old site adds {listed(rest)}, the new one does not: set them in the app")
    if site.lines:
        name = site.settings.nginx_include or "nginx-include.conf"
        site.findings.need(
            f"the old site has {listed(site.lines)}, and the new one has not",
            f'nginx_include = "{name}" in hosts.toml, and in that file beside it:\n'
            + hidden("\n".join(site.lines.values())),
        )


def _gone(settings: "Settings", files: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """Return the files and links of the old site, unless they are where the new one is going to be."""
    layout = Layout.of(settings)
    paths = [
        each["path"]
        for each in files
        if (each["path"], each["target"]) != (str(layout.site_link), str(layout.site_file))
    ]
    return tuple(paths)
