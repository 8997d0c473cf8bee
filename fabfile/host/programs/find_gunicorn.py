"""Runs on the host: prints the option of `uv sync` for the group or extra of a pyproject.toml that has gunicorn."""

import re
import sys
from pathlib import Path

GUNICORN = re.compile(r"gunicorn(?![A-Za-z0-9_-])")


def main(path):
    import tomllib  # from Python 3.11 on; an older one names no group

    content = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    extras = content.get("project", {}).get("optional-dependencies", {})
    for option, tables in (("--group", content.get("dependency-groups", {})), ("--extra", extras)):
        for name, packages in tables.items():
            if any(isinstance(package, str) and GUNICORN.match(package) for package in packages):
                print(option, name)
                return


main(sys.argv[1])
