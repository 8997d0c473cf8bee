"""manage.py under Doppler, and the static files."""

import re
from pathlib import Path
from shlex import quote

from fabfile.config.layout import Layout, Release
from fabfile.config.settings import Settings
from fabfile.steps.step import Step

MIGRATE = "Migrate the database"
CANCEL_ON_TERM = (Path(__file__).parent / "cancel_on_term.py").read_text()
KEEP_STATIC = (Path(__file__).parent / "keep_static.py").read_text()


def secrets(layout: Layout) -> str:
    """The bash lines after which the environment is the service's, and `doppler run` knows its token.

    The token is in no argument (facts 12). What SSH and PAM set is gone: a proof with other variables proves less, and
    looks as if secrets had changed.
    """
    return f"""
for name in $(compgen -e); do
  case $name in HOME | USER | LOGNAME | SHELL | PATH | LANG | TMPDIR | DEPLOY_*) ;; *) unset "$name" ;; esac
done
export PYTHONUNBUFFERED=1 DOPPLER_ENABLE_VERSION_CHECK=false
set -a; . {quote(str(layout.secrets))}; set +a
export DOPPLER_CONFIG_DIR={quote(str(layout.doppler_home))}
mkdir -p "$DOPPLER_CONFIG_DIR"
"""


def doppler_run(settings: Settings) -> str:
    """`doppler run ... --`, to be followed by the command."""
    words = ["/usr/bin/doppler", "run", "--silent"]
    if settings.doppler_project:
        words += ["--project", settings.doppler_project]
    if settings.doppler_config:
        words += ["--config", settings.doppler_config]
    return " ".join([*(quote(word) for word in words), "--"])


def manage(layout: Layout, release: Release, settings: Settings, *arguments: str) -> str:
    """The bash lines that run one manage.py command of `release` with its secrets."""
    words = (str(release.python), "-c", CANCEL_ON_TERM, settings.manage, *arguments)
    command = " ".join(quote(word) for word in words)
    return f"{secrets(layout)}\ncd {quote(str(release.project))}\n{doppler_run(settings)} {command}\n"


def collect_static(layout: Layout, release: Release, settings: Settings) -> Step:
    """Collect the static files into the release, and keep those with hashed names for pages of earlier releases."""
    static = release.project / settings.static_root
    arguments = " ".join(quote(str(word)) for word in (static, layout.kept_static, release.id))
    return Step(
        "Collect the static files",
        f"""{manage(layout, release, settings, "collectstatic", "--noinput", "--verbosity", "0")}
if [ -d {quote(str(static))} ]; then
  {quote(str(release.python))} -c {quote(KEEP_STATIC)} {arguments}
else
  echo "collectstatic made no folder {settings.project}/{settings.static_root} (static_root in hosts.toml)"; exit 1
fi
""",
        timeout=settings.timeouts.collectstatic,
    )


def migrate(layout: Layout, release: Release, settings: Settings) -> Step:
    return Step(
        MIGRATE,
        manage(layout, release, settings, "migrate", "--noinput"),
        timeout=settings.timeouts.migrate,
    )


def migrations(output: str) -> tuple[list[str], str]:
    """What `manage.py migrate` says: the migrations that it applied, and the one that it began and did not end."""
    _, *pieces = re.split(r"Applying (\S+)\.\.\.", output)
    applied, begun = [], ""
    for name, said in zip(pieces[::2], pieces[1::2], strict=True):
        if re.search(r" OK$", said, re.MULTILINE):
            applied.append(name)
        else:
            begun = name
    return applied, begun
