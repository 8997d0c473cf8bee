"""The text of a hosts.toml: what was found in a repository, and lines to fill in for what it cannot know."""

import json
from typing import Any

from .report import Report

# In the order in which a person reads them.
ORDER = (
    "name", "repo", "branch", "domain", "aliases", "project", "wsgi", "static_root", "static_url", "health_path",
    "media", "linked_dirs", "linked_files", "python", "sync_args",
)  # fmt: skip
HTTPS = '# tls = { letsencrypt = "you@example.com" } # https, once the domain leads to the server: then provision'
FILL_IN = {
    "repo": "the address that the server clones from",
    "domain": "the server name, like shop.example.com",
    "wsgi": "what gunicorn serves, like config.wsgi:application",
    "address": "the server's IP address or DNS name",
}


def text(report: Report, address: str) -> str:
    """Return the whole file."""
    lines = [
        f"# How `fab` puts {report.settings['name']} live. `fab check` tells every mistake; what else can be set:",
        "# docs/hosts-toml.md of the tool.",
        "",
        "[app]",
        *(_line(key, report.settings.get(key, ""), report.comments.get(key, "")) for key in _keys(report)),
        HTTPS,
        "",
    ]
    if report.processes:
        lines += ["[app.processes] # beside the website", *(_line(n, p) for n, p in report.processes.items()), ""]
    lines += ["[environments.production.hosts.web]", _line("address", address), ""]
    return "\n".join(lines)


def _keys(report: Report) -> list[str]:
    return [key for key in ORDER if key in report.settings or key in FILL_IN]


def _line(key: str, value: Any, comment: str = "") -> str:
    if value == "":
        comment = f"FILL IN: {FILL_IN[key]}"
    return f"{key} = {toml(value)}{f' # {comment}' if comment else ''}"


def toml(value: Any) -> str:
    """Return a value as TOML writes it: as JSON does, but for tables."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value, ensure_ascii=False)
