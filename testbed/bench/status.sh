# Is it there? status.sh NAME
set -euo pipefail

systemctl is-active "bench@$1"
curl --silent --fail --unix-socket "/run/bench-$1/gunicorn.sock" http://localhost/healthz
