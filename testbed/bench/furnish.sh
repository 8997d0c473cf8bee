# On the bench's host, as root: the app deployed in place, once for each name. furnish.sh REPOSITORY NAME...
set -euo pipefail

repository=$1
shift

as_deploy() { runuser --user deploy -- env HOME=/home/deploy PATH=/usr/local/bin:/usr/bin:/bin bash -euc "$@"; }

chown deploy:deploy /srv/bench /srv/bench/doppler.env
chmod 600 /srv/bench/doppler.env
chmod 755 /srv/bench/manage
systemctl daemon-reload
for name in "$@"; do
  # shellcheck disable=SC2016 # for the shell of deploy
  as_deploy 'umask 022
    git clone --quiet --branch main "$1" "/srv/bench/$2"
    cd "/srv/bench/$2/apps/web"
    uv sync --quiet --frozen
    /srv/bench/manage migrate --noinput --verbosity 0
    /srv/bench/manage collectstatic --noinput --verbosity 0' furnish "$repository" "$name"
  systemctl --quiet enable --now "bench@$name"
done
