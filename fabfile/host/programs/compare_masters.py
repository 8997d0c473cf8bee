"""Runs on the host: says what differs between the running gunicorn master and the one of the proof.

Both wrote a master.json (gunicorn.conf.py), with digests of files and keyed digests of the environment: of secrets only
names leave the host. The proof's has a digest of every file that the running master has imported.
"""

import json
import os
import sys
from pathlib import Path


def read(path):
    try:
        found = json.loads(Path(path).read_text())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def differing(old, new):
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def alive(pid):
    try:
        os.kill(pid, 0)
    except (OSError, TypeError):
        return False
    return True


live, proof = (read(path) for path in sys.argv[1:3])
if live is None or proof is None or not alive(live.get("pid")):
    print(json.dumps({"running": False}))
    sys.exit()
old_env, new_env = live.get("environment"), proof.get("environment")
modules = live["modules"]
print(
    json.dumps(
        {
            "running": True,
            "python": [live["python"], proof["python"]],
            "gunicorn": [live["gunicorn"], proof["gunicorn"]],
            "preload": bool(live.get("preload") or proof.get("preload")),
            "worker_class": [live.get("worker_class"), proof.get("worker_class")],
            # What only the proof has imported, the running master does not hold.
            "modules": differing(modules, {name: proof["modules"].get(name) for name in modules})[:20],
            "pth": differing(live["pth"], proof["pth"]),
            "environment": None if old_env is None or new_env is None else differing(old_env, new_env),
        }
    )
)
