# manage.py of a release under Doppler, and its static files.
set -euo pipefail

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
  [ ! -d "$DEPLOY_WORK/aside" ] || doppler+=(--no-fallback) # lib/preview.sh writes nothing on the host
  [ -z "$1" ] || doppler+=(--project "$1")
  [ -z "$2" ] || doppler+=(--config "$2")
  doppler+=(--)
}

# Run manage.py of the caller's release with its secrets, as the service would: manage COMMAND...
manage() {
  local -a program
  program_for "$1"
  in_app "${program[@]}" "$manage_py" "$@"
}

# Words of the program of ours that runs a manage.py command, as the array `program`: migrations wait for a lock of the
# database for the caller's `lock` seconds.
program_for() {
  program=(manage.py)
  [ "$1" != migrate ] || program=(migrate.py "$lock" "$release/.deploy/verdicts.json" "${stop:-}")
}

# Run a program of ours with the Python and the secrets of the caller's release: in_app PROGRAM WORD... Where the proof has
# the app loaded, it runs in a fork of that, which saves loading the app once more.
in_app() {
  local server
  server=$(fork_server)
  if [ -z "$server" ]; then
    load_service_environment
    in_python "$@"
    return
  fi
  cd "$release/$project"
  run_program python3 -IS "$DEPLOY_LIBRARY/programs/ask_fork_server.py" "$server" "$DEPLOY_LIBRARY/programs/$1" "${@:2}"
}

# The same by a Python of its own, in the environment as it is.
in_python() {
  local -a doppler
  cd "$release/$project"
  doppler_run "$doppler_project" "$doppler_config"
  run_program "${doppler[@]}" "$release/.venv/bin/python" "$DEPLOY_LIBRARY/programs/$1" "${@:2}"
}

# How many seconds are left of LIMIT since requests wait, at least one: time_left LIMIT
time_left() {
  local left=$(($(cat "$DEPLOY_WORK/hold") + $1 - $(date +%s)))
  echo "$((left > 0 ? left : 1))"
}

# Run a program of the caller's release, in the words of the array `within`; where it fails, a file that is missing there
# is told: run_program WORD...
run_program() {
  local code
  "${within[@]}" "$@" || {
    code=$?
    blame_missing_link >&2 || true
    return "$code"
  }
}

# See that commands, lines like `worker manage.py work`, can start from the caller's release, without running them:
# prove_starts LINES
prove_starts() {
  local -a lines
  mapfile -t lines <<<"$1"
  in_app prove_processes.py "$manage_py" "${lines[@]}"
}

# Collect the static files into the release (static_root= is seen from it), or link those of the live one that would be
# the same; keep those with hashed names for pages of earlier releases.
collect_static() {
  local release project manage_py static_root doppler_project doppler_config limit
  local "$@"
  local live trouble=''
  [ ! -e "$DEPLOY_WORK/proof.pid" ] || await_proof "$limit" has_loaded
  case $trouble in
    '' | ended) ;; # why it has ended, collectstatic says as well
    *)
      cat "$PROOF/log"
      fail "$trouble"
      ;;
  esac
  live=$(readlink -e "$CURRENT" || true)
  in_app collect_static.py "$release" "$live" "$static_root" "$manage_py"
  [ -d "$release/$static_root" ] ||
    fail "collectstatic made no folder $static_root (static_root in hosts.toml)"
  python3 -IS "$DEPLOY_LIBRARY/programs/keep_static.py" \
    "$release/$static_root" "$KEPT_STATIC" "${release##*/}"
}

# Apply the migrations of a release, up to but without `stop`. With `limit`, as many seconds are left of that as have not
# passed since requests wait (hold_requests).
migrate() {
  local release project manage_py doppler_project doppler_config lock stop limit
  local "$@"
  local -a within=()
  local watcher=''
  if [ -n "$limit" ]; then
    within=(timeout --foreground --kill-after=5 "$(time_left "$limit")") # in the group that ends as one
    let_in_without_runner 9>&- &
    watcher=$!
  fi
  # What its wsgi.py falls back to is known by now; manage.py may fall back to others, and so to another database.
  export DEPLOY_WEBSITE=$DEPLOY_WORK/proof/up
  local live
  live=$(readlink -e "$CURRENT" || true)
  # What is known of migrations goes on from release to release, as the database does.
  [ ! -e "$live/.deploy/verdicts.json" ] || cp "$live/.deploy/verdicts.json" "$release/.deploy/"
  manage migrate --noinput
  [ -z "$watcher" ] || kill "$watcher"
}

# Were the runner killed while requests wait, nobody would switch to the new code: then the migration of this step's
# process group ends, and the old code starts.
let_in_without_runner() {
  while kill -0 "$DEPLOY_RUNNER" 2>/dev/null; do sleep 0.2; done
  rm -f "$HOLD"
  kill -TERM 0
}
