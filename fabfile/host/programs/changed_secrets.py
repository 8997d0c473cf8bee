"""Runs on the host with the secrets as they are set now: which of them the running gunicorn has not, or has otherwise.

Takes its master.json (gunicorn.conf.py), the key of the digests, and the names that are in the environment without any
secret. Prints names, one a line; of values nothing leaves this program.
"""

import hashlib
import hmac
import json
import os
import sys
from pathlib import Path

master, key, *others = sys.argv[1:]
try:
    running = json.loads(Path(master).read_text(encoding="utf-8"))["environment"]
    digest_key = Path(key).read_bytes()
except (OSError, ValueError, KeyError):
    sys.exit()
if running is None or not digest_key:
    sys.exit()
set_now = {
    name: hmac.new(digest_key, os.fsencode(value), hashlib.sha256).hexdigest()
    for name, value in os.environ.items()
    if name not in others and name != "LC_CTYPE"  # Python's own
}
changed = {name for name, digest in set_now.items() if running.get(name) != digest}
gone = {name for name in running if name not in os.environ}
for name in sorted(changed | gone):
    print(name)
