"""Which release this process serves."""

import json
from pathlib import Path

# Read once, at import: a worker that outlives a switch goes on naming its own release.
ROOT = Path(__file__).resolve().parents[3]


def commit_of(root: Path) -> str:
    """Return the git commit that the deploy tool noted in the release `root`, "" where it noted none."""
    try:
        return json.loads((root / ".deploy" / "release.json").read_text())["commit"]
    except FileNotFoundError:
        return ""


ID = ROOT.name
COMMIT = commit_of(ROOT)
