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
  require_uv_project
  case " ${words[*]} " in *" --frozen "*) refuse_stale_lock ;; esac
  uv sync "${words[@]}" 2>&1 | tee "$DEPLOY_WORK/sync" || {
    explain_sync
    exit 1
  }
  [ -x "$python" ] || fail "uv made no $python"
  "$python" -c 'import gunicorn' || explain_gunicorn
  live=$(readlink -e "$CURRENT" || true)
  [ -z "$live" ] || "$python" -IS "$DEPLOY_LIBRARY/programs/keep_bytecode.py" "$live/.venv" "$release/.venv" ||
    true # it only saves time
}

# The nearest file of a name, from the working folder up to the caller's release; nothing when there is none.
nearest_file() {
  local folder=$PWD
  while :; do
    if [ -e "$folder/$1" ]; then
      echo "$folder/$1"
      return
    fi
    case $folder in "$release" | /) return 1 ;; esac
    folder=${folder%/*}
  done
}

# Refuse a commit that `uv sync` can build nothing from, with the commands that make it a uv project.
require_uv_project() {
  local other begin='uv init --bare && '
  if nearest_file pyproject.toml >/dev/null && nearest_file uv.lock >/dev/null; then return 0; fi
  if nearest_file pyproject.toml >/dev/null; then begin=''; fi # uv init refuses to make a second one
  if other=$(nearest_file poetry.lock); then
    echo "failed: the commit has ${other#"$release/"}, but no uv.lock: it is no uv project yet"
    echo "next: uvx migrate-to-uv && uv add gunicorn; commit pyproject.toml and uv.lock, push"
  elif other=$(nearest_file Pipfile); then
    echo "failed: the commit has ${other#"$release/"}, but no uv.lock: it is no uv project yet"
    echo "next: uvx pipenv requirements > requirements.txt && ${begin}uv add -r requirements.txt && uv add gunicorn; commit pyproject.toml and uv.lock, push"
  elif other=$(nearest_file requirements.txt || nearest_file requirements/production.txt); then
    echo "failed: the commit has ${other#"$release/"}, but no uv.lock: it is no uv project yet"
    echo "next: ${begin}uv add -r ${other##"$PWD/"} && uv add gunicorn; commit pyproject.toml and uv.lock, push"
  elif ! nearest_file pyproject.toml >/dev/null; then
    echo "failed: the commit has no pyproject.toml in $project or above (project in hosts.toml)"
    echo "next: correct project in hosts.toml, or: uv init --bare && uv add django gunicorn; commit pyproject.toml and uv.lock, push"
  else
    echo "failed: the commit has no uv.lock"
    echo "next: uv lock; commit uv.lock, push"
  fi
  exit 1
}

# Refuse a lock file that pyproject.toml has left behind: --frozen would take it without a word. Where uv cannot tell,
# say without a network, that is all that is said, for sync may still go well.
refuse_stale_lock() {
  local changes why
  ! uv lock --check >"$DEPLOY_WORK/lock" 2>&1 || return 0
  grep -q 'needs to be updated' "$DEPLOY_WORK/lock" || {
    why=$(grep -v -e '^ *$' -e '^hint:' "$DEPLOY_WORK/lock" | tail -n 1 | sed -E 's/^ *((error|cause|Caused by): *)?//' || true)
    echo "note: uv cannot tell whether uv.lock is behind pyproject.toml: ${why:-it does not say why}"
    return 0
  }
  changes=$(uv lock --dry-run 2>&1 | sed -nE 's/^(Add|Remove|Update) (.*)/\L\1 \2/p' | head -n 10 | paste -sd , || true)
  echo "failed: uv.lock is behind pyproject.toml${changes:+: it would ${changes//,/, }}"
  echo "next: uv lock; commit uv.lock, push, then the same command again"
  exit 1
}

# Say what is behind a failure of uv sync that its own words do not name.
explain_sync() {
  local there
  if grep -q -e 'No interpreter found' -e 'python-build-standalone' "$DEPLOY_WORK/sync"; then
    there=$(uv python list --only-installed 2>/dev/null | sed -nE 's/^[a-z]+-([0-9.]+).*/\1/p' | sort -uV | paste -sd ' ' || true)
    echo "failed: $(grep -m 1 -e 'No interpreter found' -e 'python-build-standalone' "$DEPLOY_WORK/sync" | sed 's/^ *error: *//'); this host has Python ${there:-none}"
    echo "next: name one that it has: python in hosts.toml, requires-python in pyproject.toml, .python-version"
  fi
}

# Refuse a virtualenv without gunicorn; a group or an extra that has it is named.
explain_gunicorn() {
  local option
  option=$("$release/.venv/bin/python" -IS "$DEPLOY_LIBRARY/programs/find_gunicorn.py" "$(nearest_file pyproject.toml)" || true)
  if [ -n "$option" ]; then
    echo "failed: gunicorn is not among the dependencies that uv sync installed, but pyproject.toml has it for $option"
    echo "next: in hosts.toml: sync_args = [$(printf '"%s", ' "${words[@]}")\"${option% *}\", \"${option#* }\"]"
  else
    echo "failed: gunicorn is not among the dependencies that uv sync installed"
    echo "next: uv add gunicorn; commit pyproject.toml and uv.lock, push"
  fi
  exit 1
}

# Export nothing that SSH and PAM set beside what programs need to run: a proof with other variables proves less, and
# looks as if secrets had changed.
forget_login() {
  local name
  for name in $(compgen -e); do
    case $name in HOME | USER | LOGNAME | SHELL | PATH | LANG | TMPDIR | DEPLOY_*) ;; *) export -n "${name?}" ;; esac
  done
}

# Make the environment the service's, but for its secrets.
load_plain_environment() {
  forget_login
  export PYTHONUNBUFFERED=1
  [ "$SECRETS_IN" = file ] || export DOPPLER_ENABLE_VERSION_CHECK=false DOPPLER_CONFIG_DIR=$DOPPLER_HOME
}

# Make the environment the service's: with the secrets of the file, or such that `doppler run` knows its token.
# The token is in no argument (decision 12).
load_service_environment() {
  load_plain_environment
  if [ "$SECRETS_IN" = file ]; then
    load_secrets_file
    return
  fi
  set -a
  # shellcheck source=/dev/null # made by provision
  . "$SECRETS"
  set +a
  mkdir -p "$DOPPLER_CONFIG_DIR"
}

# Export what stands in the secrets file.
load_secrets_file() {
  local pair
  while IFS= read -rd '' pair; do export "${pair?}"; done < <(secrets_file read)
  wait "$!"
}

secrets_file() { python3 -IS "$DEPLOY_LIBRARY/programs/secrets_file.py" "$SECRETS" "$@"; }

# Words of `doppler run ... --` in front of a command, as the array `doppler`, none where secrets are in the environment
# already: doppler_run PROJECT CONFIG
doppler_run() {
  doppler=()
  [ "$SECRETS_IN" != file ] || return 0
  doppler=("$DOPPLER" run --silent)
  [ -z "$1" ] || doppler+=(--project "$1")
  [ -z "$2" ] || doppler+=(--config "$2")
  doppler+=(--)
}

# Run a manage.py command of the caller's release with its secrets, as the service would: manage COMMAND...
manage() {
  load_service_environment
  run_manage "$@"
}

# The same in the environment as it is.
run_manage() {
  local code
  local -a doppler
  cd "$release/$project"
  doppler_run "$doppler_project" "$doppler_config"
  "${doppler[@]}" "$release/.venv/bin/python" "$DEPLOY_LIBRARY/programs/manage.py" "$manage_py" "$@" || {
    code=$?
    blame_missing_link >&2 || true
    return "$code"
  }
}

# See that commands, lines like `worker manage.py work`, can start from the caller's release, without running them:
# prove_starts LINES
prove_starts() {
  local -a doppler lines
  mapfile -t lines <<<"$1"
  load_service_environment
  cd "$release/$project"
  doppler_run "$doppler_project" "$doppler_config"
  "${doppler[@]}" "$release/.venv/bin/python" "$DEPLOY_LIBRARY/programs/prove_processes.py" "$manage_py" "${lines[@]}"
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
