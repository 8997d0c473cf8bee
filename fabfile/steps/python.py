"""The virtualenv of a release."""

from pathlib import Path
from shlex import quote

from fabfile.config.layout import Layout, Release
from fabfile.config.settings import Settings
from fabfile.steps.step import Step

KEEP_BYTECODE = (Path(__file__).parent / "keep_bytecode.py").read_text()


def sync(layout: Layout, release: Release, settings: Settings) -> Step:
    """Build the release's own virtualenv from its lock file with `uv sync`."""
    python = ["--python", settings.python] if settings.python else []
    arguments = " ".join(quote(word) for word in [*settings.sync_args, *python])
    return Step(
        "Build the virtualenv",
        f"""
export UV_CACHE_DIR={quote(str(layout.cache))} UV_PYTHON_INSTALL_DIR={quote(str(layout.pythons))}
export UV_PROJECT_ENVIRONMENT={quote(str(release.venv))} UV_NO_PROGRESS=1
unset VIRTUAL_ENV
export TMPDIR=$DEPLOY_WORK  # where uv leaves a lock file for each project folder
cd {quote(str(release.project))}
uv sync {arguments}
[ -x {quote(str(release.python))} ] || {{ echo "uv made no {release.python}"; exit 1; }}
{quote(str(release.python))} -c 'import gunicorn' || {{
  echo "gunicorn is not among the dependencies that uv sync installed: uv add gunicorn, and commit uv.lock"; exit 1; }}
live=$(readlink -e {quote(str(layout.current))} || true)
[ -z "$live" ] || {quote(str(release.python))} -IS -c {quote(KEEP_BYTECODE)} "$live/.venv" {quote(str(release.venv))} || true # it only saves time
""",
        timeout=settings.timeouts.sync,
    )
