# The tasks of the team's Ansible playbook, as root on a host: deploy.sh REPOSITORY SOURCE, where SOURCE holds the texts
# that Ansible has rendered, as a tree of the host's paths.
set -euo pipefail

repository=$1 source=$2

as_deploy() { runuser --user deploy -- env HOME=/home/deploy PATH=/usr/local/bin:/usr/bin:/bin bash -euc "$1"; }

groupadd deploy
useradd --create-home --gid deploy --shell /bin/bash deploy
install -d -o deploy -g deploy /app
as_deploy "umask 022; git clone --quiet --branch main '$repository' /app; cd /app/apps/web; uv sync --quiet --frozen"

for name in app/.doppler-token app/.env etc/default/consult; do
  if [ -e "$source/$name" ]; then install -o deploy -g deploy -m 600 "$source/$name" "/$name"; fi
done
# shellcheck disable=SC2016 # for the shell of deploy
as_deploy 'umask 022; cd /app/apps/web
  set -a
  for file in /app/.doppler-token /app/.env /etc/default/consult; do if [ -e $file ]; then . $file; fi; done
  manage="/app/.venv/bin/python manage.py"
  if [ "${DOPPLER_TOKEN:-}" ]; then manage="doppler run -- $manage"; fi
  $manage migrate --verbosity 0
  $manage collectstatic --noinput --verbosity 0'

if [ -e "$source/etc/tmpfiles.d/consult.conf" ]; then
  install -m 644 "$source/etc/tmpfiles.d/consult.conf" /etc/tmpfiles.d/
  systemd-tmpfiles --create /etc/tmpfiles.d/consult.conf
fi
install -m 644 "$source/etc/systemd/system/consult-django.service" /etc/systemd/system/
install -m 440 "$source/etc/sudoers.d/deploy" /etc/sudoers.d/
systemctl daemon-reload
systemctl --quiet enable --now consult-django

install -m 644 "$source/etc/nginx/sites-available/consult-django" /etc/nginx/sites-available/
ln -s /etc/nginx/sites-available/consult-django /etc/nginx/sites-enabled/
rm -f /etc/nginx/sites-enabled/default
nginx -t -q
systemctl reload-or-restart nginx
rm -r "$source"

# "Wait until the site answers", as deploy.yml ends.
for _ in {1..100}; do
  if curl --silent --fail --output /dev/null http://127.0.0.1/healthz; then exit 0; fi
  sleep 0.1
done
journalctl --unit consult-django --lines 20 --output cat --no-pager
exit 1
