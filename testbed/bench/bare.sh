# A deploy in place, as somebody writes it by hand: no lock, no check beforehand, no way back. bare.sh NAME COMMIT
set -euo pipefail

cd "/srv/bench/$1"
git fetch --quiet origin
git reset --quiet --hard "$2"
cd apps/web
uv sync --quiet --frozen
/srv/bench/manage migrate --noinput --verbosity 0
/srv/bench/manage collectstatic --noinput --verbosity 0
kill -HUP "$(cat "/run/bench-$1/gunicorn.pid")"
curl --silent --fail --retry 20 --retry-delay 1 --retry-all-errors --output /dev/null \
  --unix-socket "/run/bench-$1/gunicorn.sock" http://localhost/healthz
