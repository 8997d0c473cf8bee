"""Runs on the host: two paths change places, in one step where the file system can do that.

Takes the two paths, on one file system. A link is a link here: nothing is followed.
"""

import ctypes
import os
import sys
from pathlib import Path

AT_FDCWD = -100
RENAME_EXCHANGE = 2  # linux/fs.h


def exchange(one, other):
    """Let two paths change places at once (renameat2). Raises OSError where the file system cannot."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), RENAME_EXCHANGE):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), one)


def rename_thrice(one, other):
    """The same where there is no such call, as on an overlay: for some microseconds there is no `one`."""
    aside = Path(f"{other}.aside")
    Path(other).rename(aside)
    try:
        Path(one).rename(other)
    except OSError:
        aside.rename(other)
        raise
    aside.rename(one)


one, other = sys.argv[1:]
try:
    exchange(one, other)
except OSError:
    rename_thrice(one, other)
