"""Texts without the secrets in them, for people to see; on a host programs/read_server.py does the same. Pure."""

import re

MASK = "[hidden]"
SECRETIVE = r"[A-Za-z0-9_]*(?:SECRET|KEY|TOKEN|PASSWORD|PASSWD|PASS|PWD|DSN|URL|URI|CREDENTIAL|AUTH)[A-Za-z0-9_]*"
IN_CAPITALS = SECRETIVE.replace("A-Za-z", "A-Z")
HIDDEN = (
    (re.compile(r"\bdp\.[A-Za-z0-9._-]{4,}"), MASK),
    (re.compile(r"(--token[= ]\s*)(?:\"[^\"]*\"|'[^']*'|[^\s\"']+)"), rf"\1{MASK}"),
    # At the beginning of a line, where a unit has words like KeyringMode, only what is written in capitals.
    (re.compile(rf"(?m)^({IN_CAPITALS})=(\"[^\"]*\"|'[^']*'|\S+)"), rf"\1={MASK}"),
    # A whole word in quotes, and a value that may have some of its own.
    (re.compile(rf"(?i)([\"'])({SECRETIVE})=(?!\1)(?:(?!\1).)*\1"), rf"\1\2={MASK}\1"),
    (re.compile(rf"(?i)(?<=[ \t\"'=,])({SECRETIVE})=(?!\[hidden)(\"[^\"]*\"|'[^']*'|[^\s\"',]+)"), rf"\1={MASK}"),
    (re.compile(r"(?i)(://[^/\s:@\"']*:)[^/\s@\"']+@"), rf"\1{MASK}@"),
    (re.compile(r"(?mi)^(\s*SetCredential(?:Encrypted)?\s*=\s*[^:\s]+:).*$"), rf"\1{MASK}"),
    (re.compile(r"(?i)((?:proxy_set_header|add_header)\s+\S*(?:auth|key|token|secret)\S*\s+)[^;]+;"), rf"\1{MASK};"),
)


def hidden(text: str) -> str:
    """Return a text without the values of secrets."""
    for pattern, instead in HIDDEN:
        text = pattern.sub(instead, text)
    return text


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable may hold a secret, by its name or by what it looks like."""
    return bool(re.fullmatch(SECRETIVE, name, re.IGNORECASE)) or MASK in value or hidden(value) != value
