"""Runs on the host: lines of nginx's logs from stdin, put in order by their times.

order_log.py LINES SINCE: the last so many lines, none older than SINCE (seconds since 1970; nothing for all of them).
"""

import re
import sys
from datetime import datetime

ACCESS = re.compile(r"\[(\d+/\w+/\d+:\d+:\d+:\d+ [+-]\d+)\]")
ERROR = re.compile(r"(\d+/\d+/\d+ \d+:\d+:\d+) ")  # the host's own time


def time_of(line):
    if found := ERROR.match(line):
        return datetime.strptime(found[1], "%Y/%m/%d %H:%M:%S").timestamp()
    if found := ACCESS.search(line):
        return datetime.strptime(found[1], "%d/%b/%Y:%H:%M:%S %z").timestamp()
    return None


def main(lines, since):
    kept, time = [], 0.0
    for line in open(0, errors="replace"):  # noqa: SIM115
        time = time_of(line) or time  # what has none belongs to the line before
        # The logs count whole seconds.
        if not since or time >= int(float(since)):
            kept.append((time, line))
    kept.sort(key=lambda entry: entry[0])
    sys.stdout.writelines(line for _, line in kept[-int(lines) :])


main(*sys.argv[1:])
