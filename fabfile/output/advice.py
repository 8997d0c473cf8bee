"""What a failed step tells: the line of its output that says why, and the next command. Pure."""

import re

OURS = re.compile(r"failed: (?P<reason>\S.*)")  # what a function of host/lib says when it gives up (fail in common.sh)
# ... and the next command, right behind it, as the last line.
OURS_NEXT = re.compile(r"(?:^|\n)failed: .*\nnext: (?P<next>\S.*)\s*\Z")
EXCEPTION = re.compile(
    r"\s*[A-Za-z_][\w.]*(Error|Exception|Configured|Missing|NotFound|DoesNotExist|Canceled)\b.*: \S.*"
)
DISK = re.compile(r".*(No space left on device|unable to write file).*")  # the second is git's word for the first
VERDICT = re.compile(r"(?i)(error|fatal|doppler error|sudo)\b.*|.*\[emerg\].*|Unknown command: '.*")  # Django's
TROUBLE = re.compile(r"(?i).*\b(error|failed|denied|refused|cannot|could not|no space|not found|timed? ?out)\b.*")
LONGEST = 300  # characters of a line that go into a message

# The first pattern that is in the output decides; {host} is what stands behind -H.
NEXT = (
    (
        r"No space left on device|unable to write file|Disk quota exceeded",
        "make room on the disk of {host}, or lower keep in hosts.toml",
    ),
    (r"Invalid \w+ token|you must provide a token", "DOPPLER_TOKEN=... fab -H {host} provision"),
    (r"from the Doppler API", "see that {host} reaches Doppler, then the same command again"),
    (r"\[emerg\]", "mend the file that nginx names, then the same command again"),
    (
        r"connection to server .* failed",
        "see that the database answers {host}, then the same command again",
    ),
    # What a visitor found (host/programs/visit.py).
    (
        r"but nothing on this host answers https",
        'let nginx speak https: tls = { letsencrypt = "you@example.com" } in hosts.toml, then fab -H {host} provision; '
        'where a proxy speaks it: public_url = "https://..." and trusted_proxies (and SECURE_PROXY_SSL_HEADER in the '
        "app's settings, for both); without https: SECURE_SSL_REDIRECT = False there",
    ),
    (
        r"does not see that the visitor came by https",
        'SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") in the app\'s settings',
    ),
    (
        r"answers 400 to a visitor",
        "add that name to the app's ALLOWED_HOSTS, then the same command again",
    ),
    (
        r" needs \S+, which is not in ",
        'commit that file, or have it built (build = ["npm ci", "npm run build"], say); or see whether static_root and '
        "static_url in hosts.toml are STATIC_ROOT and STATIC_URL",
    ),
    (
        r" needs \S+, which the app answers with 404",
        "see whether static_url in hosts.toml is the app's STATIC_URL, or mend that address",
    ),
    (
        r"nginx answers with another site",
        "ssh {host} grep -r server_name /etc/nginx/sites-enabled: two sites have this name",
    ),
    (r"pg_config", "take psycopg[binary] or psycopg2-binary, or on {host}: apt install libpq-dev gcc python3-dev"),
    (
        r"mysql_config|valid pkg-config name",
        "on {host}: apt install default-libmysqlclient-dev pkg-config gcc python3-dev",
    ),
    (
        r"command '\S*(gcc|cc|g\+\+|clang)' failed|No such file or directory: '(gcc|cc|g\+\+)'|fatal error: \S+\.h: No",
        "that package has no wheel for this Python and is compiled: take a version that has one, or on {host}: "
        "apt install build-essential python3-dev, and the headers that it names",
    ),
    (r"40[13] (Unauthorized|Forbidden)", "let {host} into that package index: its credentials in ~/.netrc of the user"),
    (r"Failed to (fetch|download)|dns error", "see that {host} reaches the package index, then the same command again"),
    (r"(?m)^fatal: ", "see what git says on {host}, then the same command again"),
)


def reason(output: str) -> str:
    """The line of `output` that says most about why: our own verdict, the last exception, a program's last verdict."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    ours = [said["reason"] for line in lines if (said := OURS.fullmatch(line))]
    if ours:
        return ours[-1][:LONGEST]
    for pattern in (EXCEPTION, DISK, VERDICT, TROUBLE):
        for number, line in reversed(list(enumerate(lines))):
            if pattern.fullmatch(line):
                more = "".join(lines[number + 1 : number + 2]) if line.endswith(":") else ""
                return f"{line} {more}".rstrip(" :")[:LONGEST]
    return lines[-1][:LONGEST] if lines else ""


def journal(host: str, output: str) -> str:
    """The command that shows the journal of what failed: of a worker that did not stay, else of the website."""
    worker = re.search(r"-([a-z0-9_]+)@\S+ does not stay", output)
    return f"fab -H {host} logs {f'--process {worker[1]} ' if worker else ''}--lines 200"


def look(host: str, check: str | None, output: str) -> str:
    """Where to go on when the site is not as it should be: by the check that failed first, and by what was said."""
    if check == "nginx_running":
        return f"fab -H {host} provision"  # starts nginx, or says which file it refuses
    return next_command(host, output) if check == "visitor" else journal(host, output)


def said_next(host: str, output: str) -> str:
    """What the step itself says is to be done, behind its reason; nothing when it says nothing."""
    ours = OURS_NEXT.search(output)
    return ours["next"].replace("-H NAME", f"-H {host}")[:LONGEST] if ours else ""


def next_command(host: str, output: str) -> str:
    """What to do about it: what the step itself says behind its reason, else what the output as a whole tells."""
    if said := said_next(host, output):
        return said
    for pattern, advice in NEXT:
        if re.search(pattern, output):
            return advice.replace("{host}", host)
    return "mend that, then the same command again"
