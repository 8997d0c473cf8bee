# The virtualenv of a release, manage.py under Doppler, and the static files.
set -euo pipefail

# Build the release's own virtualenv from its lock file: build_virtualenv ... arguments= of `uv sync`, one a line.
build_virtualenv() {
  local release project arguments
  local "$@"
  local live python=$release/.venv/bin/python
  local -a words=()
  [ -z "$arguments" ] || mapfile -t words <<<"$arguments"
  export UV_CACHE_DIR=$CACHE UV_PYTHON_INSTALL_DIR=$PYTHONS UV_PROJECT_ENVIRONMENT=$release/.venv UV_NO_PROGRESS=1
  export TMPDIR=$DEPLOY_WORK # where uv leaves a lock file for each project folder
  unset VIRTUAL_ENV
  cd "$release/$project"
  uv sync "${words[@]}"
  [ -x "$python" ] || fail "uv made no $python"
  "$python" -c 'import gunicorn' ||
    fail "gunicorn is not among the dependencies that uv sync installed: uv add gunicorn, and commit uv.lock"
  live=$(readlink -e "$CURRENT" || true)
  [ -z "$live" ] || "$python" -IS "$DEPLOY_LIBRARY/programs/keep_bytecode.py" "$live/.venv" "$release/.venv" ||
    true # it only saves time
}

# Make the environment the service's, in which `doppler run` knows its token.
# The token is in no argument (decision 12). What SSH and PAM set is gone: a proof with other variables proves less, and
# looks as if secrets had changed.
load_service_environment() {
  local name
  for name in $(compgen -e); do
    case $name in HOME | USER | LOGNAME | SHELL | PATH | LANG | TMPDIR | DEPLOY_*) ;; *) export -n "${name?}" ;; esac
  done
  export PYTHONUNBUFFERED=1 DOPPLER_ENABLE_VERSION_CHECK=false DOPPLER_CONFIG_DIR=$DOPPLER_HOME
  set -a
  # shellcheck source=/dev/null # made by provision
  . "$SECRETS"
  set +a
  mkdir -p "$DOPPLER_CONFIG_DIR"
}

# Words of `doppler run ... --` in front of a command, as the array `doppler`: doppler_run PROJECT CONFIG
doppler_run() {
  doppler=("$DOPPLER" run --silent)
  [ -z "$1" ] || doppler+=(--project "$1")
  [ -z "$2" ] || doppler+=(--config "$2")
  doppler+=(--)
}

# Run a manage.py command of the caller's release with its secrets: manage COMMAND...
manage() {
  local -a doppler
  load_service_environment
  cd "$release/$project"
  doppler_run "$doppler_project" "$doppler_config"
  "${doppler[@]}" "$release/.venv/bin/python" "$DEPLOY_LIBRARY/programs/manage.py" "$manage_py" "$@"
}

# Collect the static files into the release (static_root= is seen from it), and keep those with hashed names for pages
# of earlier releases.
collect_static() {
  local release project manage_py static_root doppler_project doppler_config
  local "$@"
  manage collectstatic --noinput --verbosity 0
  [ -d "$release/$static_root" ] ||
    fail "collectstatic made no folder $static_root (static_root in hosts.toml)"
  "$release/.venv/bin/python" "$DEPLOY_LIBRARY/programs/keep_static.py" \
    "$release/$static_root" "$KEPT_STATIC" "${release##*/}"
}

migrate() {
  local release project manage_py doppler_project doppler_config
  local "$@"
  # What its wsgi.py falls back to is known by now; manage.py may fall back to others, and so to another database.
  export DEPLOY_WEBSITE=$DEPLOY_WORK/proof/up
  manage migrate --noinput
}
