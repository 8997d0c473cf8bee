"""The steps of bare.sh for pyinfra, which runs this file; in an environment of the bench's own."""

from pyinfra import host
from pyinfra.operations import git, server

FOLDER = "/srv/bench/pyinfra"
WEB = f"{FOLDER}/apps/web"

git.repo(name="Fetch and check out", src=host.data.repository, dest=FOLDER, branch="main", pull=True)
server.shell(name="Bring the virtualenv up to date", commands=["uv sync --quiet --frozen"], _chdir=WEB)
server.shell(name="Migrate", commands=["/srv/bench/manage migrate --noinput --verbosity 0"], _chdir=WEB)
server.shell(
    name="Collect static files", commands=["/srv/bench/manage collectstatic --noinput --verbosity 0"], _chdir=WEB
)
server.shell(name="Reload gunicorn", commands=["pkill --signal HUP --pidfile /run/bench-pyinfra/gunicorn.pid"])
server.shell(
    name="See that it answers",
    commands=[
        "curl --silent --fail --retry 20 --retry-delay 1 --retry-all-errors --output /dev/null "
        "--unix-socket /run/bench-pyinfra/gunicorn.sock http://localhost/healthz"
    ],
)
