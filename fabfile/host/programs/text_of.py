"""Runs on the host: prints the text of an answer's body, the last lines of it, without HTML."""

import sys
from html.parser import HTMLParser
from pathlib import Path

LONGEST = 10  # lines
READ = 100_000  # bytes


class Text(HTMLParser):
    """Collects what a person would read."""

    def __init__(self):
        super().__init__()
        self.lines, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):  # noqa: ARG002 -- what HTMLParser calls it with
        self.hidden += tag in ("style", "script")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("style", "script")

    def handle_data(self, data):
        if not self.hidden:
            self.lines.extend(line.strip() for line in data.splitlines())


try:
    body = Path(sys.argv[1]).read_bytes()[:READ].decode("utf-8", "replace")
except OSError:
    body = ""
parser = Text()
parser.feed(body)
parser.close()
for line in [line for line in parser.lines if line][-LONGEST:]:
    print(line)
