#!/bin/bash
# On the bench's host, as /srv/bench/manage: manage.py of the folder that this is called in, with the app's secrets.
set -euo pipefail
set -a
# shellcheck source=/dev/null # the bench writes it
. /srv/bench/doppler.env
exec doppler run -- ../../.venv/bin/python manage.py "$@"
