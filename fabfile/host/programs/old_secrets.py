"""Runs on the host as root: prints what the new secrets file is to hold, found where the old server has it.

Takes name=value words: `app` (the folder of the checkout), `unit` (the path of the old service's file; drop-ins beside
it count) and `secrets_in`: with `doppler` one line DOPPLER_TOKEN=dp.... is printed, with `file` a line NAME="value" for
each variable of the unit, as secrets_file.py and systemd read it. Ends with 1, and no output, where there is nothing.

A file that somebody else than root may change is read as that somebody: a link in its place leads to nothing that is
not theirs anyway.
"""

import glob
import os
import pwd
import re
import subprocess
import sys
from pathlib import Path

TOKEN = re.compile(r"dp\.[A-Za-z0-9._-]+")
NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# What belongs to the old way of starting, and would lead the new one astray.
OF_THE_START = {"PATH", "HOME", "USER", "SHELL", "VIRTUAL_ENV", "PYTHONHOME", "PYTHONPATH", "GUNICORN_CMD_ARGS",
                "DOPPLER_TOKEN"}  # fmt: skip
ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "s": " "}
LARGEST = 256 * 1024  # bytes of a file that are read


class Unreadable(Exception):
    """Something that no line of the new file can hold."""


def owner_of(path):
    """Who besides root may say what `path` leads to, as a user id; 0 for nobody."""
    for whole in (path, os.path.realpath(path)):
        for part in reversed([whole, *map(str, Path(whole).parents)]):
            if not os.path.lexists(part):
                return 0
            if owner := os.lstat(part).st_uid:
                return owner
    return 0


def read(path):
    """The text of a regular file; nothing when it cannot be read."""
    if not os.path.isfile(path):
        return ""
    user, group, groups = None, None, None
    if (owner := owner_of(path)) and os.geteuid() == 0:
        try:
            entry = pwd.getpwuid(owner)
            group, groups = entry.pw_gid, os.getgrouplist(entry.pw_name, entry.pw_gid)
        except KeyError:
            group, groups = owner, []
        user = owner
    done = subprocess.run(
        ["head", "-c", str(LARGEST), "--", path], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, cwd="/",
        user=user, group=group, extra_groups=groups, check=False,
    )  # fmt: skip
    return done.stdout.decode(errors="replace")


def options(path):
    """The lines of the unit's [Service], as pairs; an empty value takes those before it away."""
    unit = os.path.basename(path)
    folders = [f"{path}.d", *(f"{place}/systemd/system/{unit}.d" for place in ("/run", "/etc"))]
    files = [path, *dict.fromkeys(each for folder in folders for each in sorted(glob.glob(f"{folder}/*.conf")))]
    found = []
    for file in files:
        section = ""
        for line in joined(read(file)):
            if line.startswith("["):
                section = line
            elif section == "[Service]" and "=" in line:
                key, value = (part.strip() for part in line.split("=", 1))
                found = [pair for pair in found if value or pair[0] != key] + ([(key, value)] if value else [])
    return found


def joined(text):
    """The lines of a unit file, without comments, those that end with a backslash joined to the next."""
    lines = [line.strip() for line in text.splitlines()]
    return "\n".join(line for line in lines if line and line[0] not in "#;").replace("\\\n", " ").splitlines()


def assignments(value):
    """The variables of one Environment= line, by systemd's rules for words."""
    words, word, quote, escaped, begun = [], "", "", False, False
    for sign in value:
        if escaped:
            word, escaped = word + ESCAPES.get(sign, sign), False
        elif sign == "\\":
            escaped, begun = True, True
        elif quote:
            word, quote = (word, "") if sign == quote else (word + sign, quote)
        elif sign in "\"'" and not begun:
            quote, begun = sign, True
        elif sign in "\"'":
            quote = sign
        elif sign.isspace():
            words, word, begun = ([*words, word] if begun else words), "", False
        else:
            word, begun = word + sign, True
    return dict(each.replace("%%", "%").split("=", 1) for each in [*words, word] if "=" in each)


def variables(text):
    """The variables of an EnvironmentFile, by systemd's rules (parse_env_file): not those of a shell."""
    found = {}
    rest = text + "\n"
    while rest:
        rest = rest.lstrip()
        if rest[:1] in ("#", ";"):
            rest = rest.partition("\n")[2]
            continue
        line, _, after = rest.partition("\n")
        key, equals, _ = line.partition("=")
        if not equals:
            rest = after
            continue
        value, rest = value_of(rest[len(key) + 1 :])
        if NAME.fullmatch(key.strip()):
            found[key.strip()] = value
    return found


def value_of(text):
    """The value at the beginning of a text, and what comes after its line."""
    value, place, plain = "", 0, False
    kept = 0  # how much of the value white space at its end may not be taken from
    while place < len(text):
        sign, following = text[place], text[place + 1 : place + 2]
        if sign == "\n":
            break
        if sign == "\\":
            value, place = value + ("" if following == "\n" else following), place + 2
            kept, plain = len(value), True
        elif sign in "\"'" and not plain:
            inner, place = quoted(text, place)
            value += inner
            kept = len(value)
        elif sign.isspace() and not plain:
            place += 1
        else:
            value, place, plain = value + sign, place + 1, True
    return value[:kept] + value[kept:].rstrip(), text[place + 1 :]


def quoted(text, place):
    """What stands in the quotes that begin at `place`, and where they have ended."""
    quote, value, place = text[place], "", place + 1
    while place < len(text) and text[place] != quote:
        sign, following = text[place], text[place + 1 : place + 2]
        if quote == '"' and sign == "\\":
            value += following if following in '"\\`$' else "" if following == "\n" else sign + following
            place += 2
        else:
            value, place = value + sign, place + 1
    return value, place + 1


def environment(unit):
    """All variables that the unit sets: those of files win over those of its own lines."""
    own, files = {}, {}
    for key, value in options(unit):
        if key == "Environment":
            own |= assignments(value)
        elif key == "EnvironmentFile":
            for path in sorted(glob.glob(value.strip("\"'").removeprefix("-"))):
                files |= variables(read(path))
    return own | files


def token(app, unit):
    """Doppler's token, from where the old service has it."""
    places = [environment(unit).get("DOPPLER_TOKEN", "")]
    for key, value in options(unit):
        if key == "ExecStart":
            places += re.findall(r"--token[= ]\s*[\"']?([^\s\"']+)", value)
    places += [variables(read(f"{app}/.doppler-token")).get("DOPPLER_TOKEN", ""), read(f"{app}/.doppler-token").strip()]
    return next((each for each in places if TOKEN.fullmatch(each)), "")


def line(name, value):
    """One line of the new file. Raises Unreadable for a value that it cannot hold."""
    if any(sign in value for sign in "\n\r\0\v\f\x1c\x1d\x1e\x85\u2028\u2029"):
        raise Unreadable(f"the value of {name} has more than one line, which no file of secrets here can hold")
    return f'{name}="' + re.sub(r'(["\\$`])', r"\\\1", value) + '"\n'


def main(app, unit, secrets_in):
    if secrets_in == "doppler":
        found = token(app, unit)
        text = f"DOPPLER_TOKEN={found}\n" if found else ""
    else:
        values = {name: value for name, value in environment(unit).items() if name not in OF_THE_START}
        try:
            text = "".join(line(name, value) for name, value in sorted(values.items()))
        except Unreadable as error:
            print(f"failed: {error}", file=sys.stderr)
            sys.exit(1)
    sys.stdout.write(text)
    sys.exit(0 if text else 1)


main(**dict(word.split("=", 1) for word in sys.argv[1:]))
