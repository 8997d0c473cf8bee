"""What text may stand in a setting: nothing that means something to a shell, git, systemd or nginx."""

import ipaddress
import re
import shlex
from typing import Annotated

from pydantic import AfterValidator

# git itself allows more; the rest means something to a shell, to git's options or to its revision syntax.
REF = re.compile(r"(?!.*(\.\.|//|@\{|/\.|\.lock$|\.lock/|[/.]$))[A-Za-z0-9_][A-Za-z0-9._/@+#=-]{0,199}")

MANAGE = "manage.py"  # how a command begins that Django runs, wherever manage.py lies
PYTHON = re.compile(r"(.*/)?python[0-9.]*|uv")  # what people put before manage.py

# The service cannot see them (ProtectHome, PrivateTmp), or the machine owns or empties them.
NO_PLACE_FOR_THE_APP = re.compile(r"/(bin|boot|dev|etc|home|lib|proc|root|run|sbin|sys|tmp|usr|var/tmp)(/.*)?")


def matching(pattern: str, words: str) -> AfterValidator:
    """Return a validator of text that fits `pattern` as a whole; `words` tell a person what fits."""

    def check(value: str) -> str:
        if not re.fullmatch(pattern, value):
            raise ValueError(words)
        return value

    return AfterValidator(check)


def branch_name(value: str) -> str:
    """Return `value` if it may name a branch, a tag or a commit; ValueError says why not."""
    if not REF.fullmatch(value):
        raise ValueError(
            "must name a branch, tag or commit: letters, digits and . _ / - @ + # =, and it starts with "
            "a letter, a digit or _"
        )
    return value


def relative_path(value: str) -> str:
    """Return `value` if it names a place inside the repository; ValueError says why not."""
    parts = value.split("/")
    if not re.fullmatch(r"[A-Za-z0-9._/@+-]+", value) or ".." in parts or "" in parts or value.startswith("-"):
        raise ValueError("must be a path inside the repository: relative, without .., spaces or quotes")
    return value


def inner_path(value: str) -> str:
    """Return `value` if it names a place below the folder it is seen from; ValueError says why not."""
    if relative_path(value).split("/") == ["."]:
        raise ValueError("must be a folder or file of its own, not the whole folder")
    return value


def path_from_project(value: str) -> str:
    """Return `value` if it names a place beside or below the project; ValueError says why not."""
    inner_path(re.sub(r"^(\.\./)+", "", value))
    return value


def absolute_path(value: str) -> str:
    """Return `value` if it is a plain absolute path; ValueError says why not."""
    if not re.fullmatch(r"(/[A-Za-z0-9._@+-]+)+", value) or ".." in value.split("/"):
        raise ValueError("must be an absolute path of letters, digits and . _ @ + -, without ..")
    return value


def app_path(value: str) -> str:
    """Return `value` if the service can run from there; ValueError says why not."""
    if NO_PLACE_FOR_THE_APP.fullmatch(absolute_path(value)):
        raise ValueError("must not lie in a folder of the system, in /home or in /tmp: the service cannot see those")
    return value


def proxy(value: str) -> str:
    """Return `value` if it is an address or a network, or the word for Cloudflare's; ValueError says why not."""
    try:
        return value if value == "cloudflare" else str(ipaddress.ip_network(value))
    except ValueError as error:
        raise ValueError(f"must be an IP address, a network like 10.0.0.0/8, or cloudflare ({error})") from None


def repository(value: str) -> str:
    """Return `value` if git can take it as an address; ValueError says why not."""
    if not re.fullmatch(r"(?:(?:https?|ssh|git|file)://|[A-Za-z0-9_][A-Za-z0-9._-]*@)[A-Za-z0-9._~:/@%+-]+", value):
        raise ValueError("must be a git address like git@github.com:team/app.git or https://host/app.git")
    if re.search(r"://[^/@]*:[^/@]*@", value):
        raise ValueError("must not hold a password: use a deploy key")
    return value


def url_path(value: str) -> str:
    """Return `value` if it is the path (and query) of a URL; ValueError says why not."""
    if not re.fullmatch(r"/[A-Za-z0-9._~/%?&=+:@,-]*", value):
        raise ValueError("must be the path of a URL and start with /")
    return value


def one_line(value: str) -> str:
    """Return `value` if it is printable text on one line; ValueError says why not."""
    if not value.isprintable():
        raise ValueError("must be one line of printable text")
    return value


def command_words(value: str) -> list[str]:
    """Return the words of a command that no shell runs; ValueError says why it has none."""
    one_line(value)
    try:
        return shlex.split(value)
    except ValueError as error:
        raise ValueError(f"must be words as a shell splits them ({str(error).lower()})") from None


def release_command(value: str) -> str:
    """Return `value` if a release can run it; ValueError says why not, and what to write instead."""
    words = command_words(value)
    program = words[0] if words else ""
    if not program:
        raise ValueError("must name a manage.py command, or a program with its arguments")
    if program.startswith("-"):
        raise ValueError("must begin with a program, not with an option")
    if words == [MANAGE]:
        raise ValueError("must name a command of manage.py")
    if program == f"./{MANAGE}" or (PYTHON.fullmatch(program) and MANAGE in words):
        raise ValueError("must begin with manage.py itself, which runs with the release's Python and secrets")
    if re.fullmatch(r"[A-Za-z_]\w*=.*", program):
        raise ValueError(f"must not begin with {program.partition('=')[0]}=, for no shell runs it: write env before it")
    if sign := _sign_of_a_shell(value):
        raise ValueError(f"must not have {sign} outside of quotes, for no shell runs it: two commands, or sh -c '...'")
    return value


def local_command(value: str) -> str:
    """Return `value` if it is a program with its arguments; ValueError says why not, and what to write instead."""
    if not command_words(value):
        raise ValueError("must name a program with its arguments")
    if sign := _sign_of_a_shell(value):
        raise ValueError(f"must not have {sign} outside of quotes, for no shell runs it: write sh -c '...'")
    return value


def _sign_of_a_shell(value: str) -> str:
    """Return the first sign outside of quotes by which a shell would begin something new."""
    tokens = shlex.shlex(value, posix=True, punctuation_chars=";<>|&")
    tokens.whitespace_split, tokens.commenters = True, ""
    return next((token for token in tokens if token and not token.strip(";<>|&")), "")


def unit_value(value: str) -> str:
    """Return `value` if it is the right side of one line of a unit file; ValueError says why not."""
    if one_line(value).endswith("\\"):
        raise ValueError("must not end with a backslash: systemd would join the next line to it")
    return value


Account = Annotated[
    str,
    matching(
        r"[a-z_][a-z0-9_-]{0,30}",
        "must be the name of a Unix account: a-z, 0-9, _ and -, at most 31 characters",
    ),
]
AcmeServer = Annotated[
    str,
    matching(r"https://[A-Za-z0-9.:\[\]-]+/[A-Za-z0-9._~/%-]*", "must be the https address of an ACME directory"),
]
JUMP = r"([A-Za-z0-9._-]+@)?([A-Za-z0-9._]([A-Za-z0-9._-]*)|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\])(:[0-9]{1,5})?"
Address = Annotated[
    str,
    matching(
        r"[A-Za-z0-9:]([A-Za-z0-9.:_%-]*[A-Za-z0-9:])?",
        "must be an IP address, a DNS name or an ssh_config alias",
    ),
]
AppName = Annotated[
    str,
    matching(
        r"[a-z][a-z0-9-]{0,30}",
        "must be a-z, 0-9 and -, start with a letter, and have at most 31 characters",
    ),
]
AppPath = Annotated[str, AfterValidator(app_path)]
BodySize = Annotated[str, matching(r"[0-9]{1,9}[kmgKMG]?", "must be a size as nginx writes it, like 20m")]
BranchName = Annotated[str, AfterValidator(branch_name)]
BranchPattern = Annotated[
    str,
    matching(
        r"[A-Za-z0-9_*?][A-Za-z0-9._/@+#=*?-]*", "must be the name of a branch or tag, with * for any part: release/*"
    ),
]
Domain = Annotated[
    str,
    matching(r"[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?", "must be a host name like api.consult.dev"),
]
DopplerName = Annotated[
    str,
    matching(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", "must be a name as Doppler shows it: letters, digits and _ . -"),
]
Email = Annotated[
    str,
    matching(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+", "must be a mail address like ops@example.com"),
]
HostFile = Annotated[str, AfterValidator(absolute_path)]
Jump = Annotated[
    str,
    matching(
        f"none|{JUMP}(,{JUMP})*",
        "must be the servers on the way, as for ssh -J: ana@bastion.example.com:2222",
    ),
]
HostKey = Annotated[
    str,
    matching(
        r"(ssh|ecdsa|sk)-[A-Za-z0-9@.-]+ [A-Za-z0-9+/=]+( .*)?",
        "must be a public key as in known_hosts, without the address: ssh-ed25519 AAAA...",
    ),
]
# Options of `uv sync` that a deploy decides itself, or that would make another virtualenv than the release's.
NO_SYNC_OPTION = {
    "--project": "`project` in hosts.toml says where the project lies",
    "--directory": "`project` in hosts.toml says where the project lies",
    "--active": "the virtualenv is the release's own",
    "--script": "the virtualenv is that of a project",
    "--python": "`python` in hosts.toml names it",
    "-p": "`python` in hosts.toml names it",
    "--dry-run": "it would make no virtualenv",
    "--check": "it would make no virtualenv",
}
# Those that take a value, as of uv 0.13. One that is not here is left for uv to judge.
VALUED_SYNC_OPTIONS = (
    "--extra", "--no-extra", "--group", "--no-group", "--only-group", "--package", "--output-format",
    "--python-platform", "--no-editable-package", "--no-install-package", "--no-sources-package",
    "--reinstall-package", "--refresh-package", "--no-build-isolation-package", "--no-build-package",
    "--no-binary-package", "--upgrade-package", "-P", "--upgrade-group", "--index", "--default-index", "--index-url",
    "-i", "--extra-index-url", "--find-links", "-f", "--index-strategy", "--keyring-provider", "--resolution",
    "--prerelease", "--prerelease-package", "--fork-strategy", "--exclude-newer", "--exclude-newer-package",
    "--link-mode", "--config-setting", "-C", "--config-settings-package", "--cache-dir", "--color",
    "--allow-insecure-host", "--config-file",
)  # fmt: skip
InnerPath = Annotated[str, AfterValidator(inner_path)]
Line = Annotated[str, AfterValidator(one_line)]
LocalCommand = Annotated[str, AfterValidator(local_command)]
PathFromProject = Annotated[str, AfterValidator(path_from_project)]
Proxy = Annotated[str, AfterValidator(proxy)]
PublicUrl = Annotated[
    str,
    matching(
        r"https?://[A-Za-z0-9._~:/%-]+",
        "must be an address like https://api.consult.dev, without user, query or spaces",
    ),
]
PythonVersion = Annotated[
    str, matching(r"[A-Za-z0-9][A-Za-z0-9.@+-]*", "must be a version or name that uv knows, like 3.12")
]
RelativePath = Annotated[str, AfterValidator(relative_path)]
ReleaseCommand = Annotated[str, AfterValidator(release_command)]
Repository = Annotated[str, AfterValidator(repository)]
SecretsPlace = Annotated[str, matching(r"doppler|file", "must be doppler or file")]
StaticUrl = Annotated[
    str,
    matching(
        r"/([A-Za-z0-9_-][A-Za-z0-9._-]*/)+",
        "must be like /static/: a path on this site that starts and ends with /",
    ),
]


def sync_arguments(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return words that may stand behind `uv sync`: options, each with its value; ValueError says why not."""
    for before, word in zip(("", *words), words, strict=False):
        if not re.fullmatch(r"(--?[A-Za-z0-9]|[A-Za-z0-9])[A-Za-z0-9=.:/_+-]*", word):
            raise ValueError("must be one option each, like --no-dev or --extra=web, or the value of one")
        option = word.partition("=")[0]
        if why := NO_SYNC_OPTION.get(option):
            raise ValueError(f"{option} cannot stand here: {why}")
        if not word.startswith("-") and (not before.startswith("-") or "=" in before):
            raise ValueError(f"{word} stands behind no option, like --group {word}")
    for word, after in zip(words, (*words[1:], ""), strict=True):
        option, equals, value = word.partition("=")
        if option in VALUED_SYNC_OPTIONS and not (value if equals else after and not after.startswith("-")):
            raise ValueError(f'{option} lacks its value, like "{option}", "x"')
    return words


SyncArguments = Annotated[tuple[str, ...], AfterValidator(sync_arguments)]
UnitOption = Annotated[str, matching(r"[A-Z][A-Za-z]+", "is not written like a systemd option (MemoryMax)")]
UnitValue = Annotated[str, AfterValidator(unit_value)]
UrlPath = Annotated[str, AfterValidator(url_path)]
Wsgi = Annotated[
    str,
    matching(
        r"[A-Za-z_][A-Za-z0-9_.]*:[A-Za-z_][A-Za-z0-9_.]*(\(\))?",
        "must be like config.wsgi:application: module, colon, name",
    ),
]
