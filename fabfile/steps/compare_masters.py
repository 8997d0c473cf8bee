"""Runs on the host: says what differs between the running gunicorn master and the one of the proof.

Both wrote a master.json (gunicorn.conf.py). Of secrets only names leave the host: the digests are keyed.
"""

import filecmp
import json
import os
import sys
from pathlib import Path

live_path, proof_path, release = sys.argv[1:4]


def read(path):
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def same(old, new):
    try:
        return old.samefile(new) or filecmp.cmp(old, new, shallow=False)
    except OSError:
        return False


def alive(pid):
    try:
        os.kill(pid, 0)
    except (OSError, TypeError):
        return False
    return True


live, proof = read(live_path), read(proof_path)
if live is None or proof is None or not alive(live.get("pid")):
    print(json.dumps({"running": False}))
    sys.exit()
old_root, new_root = Path(live["release"]), Path(release)
old_env, new_env = live.get("environment"), proof.get("environment")
changed = [name for name in live["modules"] if not same(old_root / name, new_root / name)]
print(
    json.dumps(
        {
            "running": True,
            "python": [live["python"], proof["python"]],
            "gunicorn": [live["gunicorn"], proof["gunicorn"]],
            "preload": bool(live.get("preload") or proof.get("preload")),
            "worker_class": [live.get("worker_class"), proof.get("worker_class")],
            "modules": changed[:20],
            "environment": None
            if old_env is None or new_env is None
            else sorted(name for name in {*old_env, *new_env} if old_env.get(name) != new_env.get(name)),
        }
    )
)
