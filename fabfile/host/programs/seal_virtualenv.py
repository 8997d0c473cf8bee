"""Runs on the host: closes the packages of a shared virtualenv, so that no command of a release changes another one's.

seal_virtualenv.py FOLDER: nothing can be installed there or taken away any more, but by root. Compiled files can still
be written, into folders that are made for them. Files keep their rights, for they are uv's cache too (hard links).
"""

import os
import sys
from pathlib import Path

packages = next(Path(sys.argv[1]).glob("lib/python*/site-packages"))
for folder, _, names in os.walk(packages, topdown=False):
    if os.path.basename(folder) == "__pycache__":  # noqa: PTH119 - some thousand paths: pathlib takes twice the time
        continue
    if any(name.endswith(".py") for name in names):
        os.makedirs(f"{folder}/__pycache__", exist_ok=True)  # noqa: PTH103
    os.chmod(folder, 0o555)  # noqa: PTH101, S103 - everybody may read packages
