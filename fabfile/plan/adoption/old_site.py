"""The site of an old server, as far as it leads to the app, and what of it the new one lacks. Pure."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ...config.layout import Layout
from . import nginx_file
from .findings import Findings
from .nginx_file import Directive

if TYPE_CHECKING:
    from ...config.settings import Settings

# Directives that the new site decides, or that mean nothing to who visits.
DECIDED = re.compile(
    r"server_name|server_tokens|gzip(_\w+)?|keepalive_\w+|ssl_\w+|ssl|http2|root|index|access_log|error_log|log_not_found"
    r"|client_max_body_size|client_body_\w+|client_header_\w+|add_header|proxy_(set_header|http_version|redirect|pass"
    r"|connect_timeout|send_timeout|read_timeout|next_upstream\w*|buffer\w*)|send_timeout|real_ip_\w+|set_real_ip_from"
    r"|error_page|listen|include|expires|sendfile|tcp_\w+|etag|autoindex|try_files|default_type|types"
)


@dataclass
class Site:
    """The files that lead to the app, and what of them the new site lacks so far."""

    settings: "Settings"
    findings: Findings
    app: str
    addresses: frozenset[str]
    files: list[Mapping[str, Any]] = field(default_factory=list)
    upstreams: dict[str, list[str]] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    new: tuple[Directive, ...] = ()
    lines: dict[str, str] = field(default_factory=dict)  # to paste, by what they are
    served: list[str] = field(default_factory=list)
    headers: list[str] = field(default_factory=list)

    @property
    def names(self) -> set[str]:
        return {self.settings.domain, *self.settings.aliases}

    @property
    def new_server(self) -> Directive:
        return next(each for each in self.new if each.name == "server")

    def leads_here(self, target: str) -> bool:
        """Return whether what stands behind proxy_pass leads to the old gunicorn."""
        address = re.sub(r"^https?://", "", target)
        if address.startswith("unix:"):
            return address[5:].split(":")[0] in self.addresses
        return bool({address.split("/")[0], *self.upstreams.get(address.split("/")[0], [])} & self.addresses)

    def keep(self, directive: Directive) -> None:
        """Note a directive of the old site that the new one lacks, with its way to the app under the new name."""
        unit = Layout.of(self.settings).unit
        text = re.sub(r"(?m)^[ \t]{4,}", lambda indent: indent[0][4:], directive.text)
        for each in nginx_file.walk([directive]):
            if each.name == "proxy_pass" and each.arguments and self.leads_here(each.arguments[0]):
                rest = re.sub(r"^https?://(unix:[^:;]*:?|[^/]*)", "", each.arguments[0])
                text = text.replace(each.text, f"proxy_pass http://{unit}{rest};")
        try:
            meant = nginx_file.parse(text)[0].words
        except ValueError:
            meant = directive.words
        if meant in {each.words for each in self.new_server.inner or ()}:
            return
        self.lines[directive.summary] = text


def servers(directives: Iterable[Directive]) -> list[Directive]:
    return [each for each in nginx_file.walk(directives) if each.name == "server" and each.inner is not None]


def names_of(server: Directive) -> set[str]:
    return {name for each in server.all("server_name") for name in each.arguments}


def leads(site: Site, server: Directive) -> bool:
    return any(
        each.name == "proxy_pass" and each.arguments and site.leads_here(each.arguments[0])
        for each in nginx_file.walk([server])
    )


def sends_to(server: Directive) -> str:
    """Return where a server sends whoever comes, if that is all it does."""
    for each in nginx_file.walk([server]):
        if each.name == "return" and len(each.arguments) == 2 and each.arguments[0] in ("301", "302", "307", "308"):
            return each.arguments[1]
        if each.name == "rewrite" and len(each.arguments) > 1 and "://" in each.arguments[1]:
            return each.arguments[1]
    return ""


def is_there(site: Site, location: Directive) -> bool:
    """Return whether the new site has a location of the same address: a second one, nginx would refuse."""
    return location.arguments in {each.arguments for each in site.new_server.all("location")}
