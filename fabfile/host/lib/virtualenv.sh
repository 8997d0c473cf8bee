# The virtualenv of a release: its packages are those of every release with the same lock file, built once; only what is
# of the commit itself is installed for each.
set -euo pipefail

# Build the virtualenv of a release: build_virtualenv ... arguments= of `uv sync`, one a line; `anew` shares none that is
# there already.
build_virtualenv() {
  local release project arguments anew
  local "$@"
  local live lock shared=''
  local -a words=()
  [ -z "$arguments" ] || mapfile -t words <<<"$arguments"
  use_uv "$CACHE" "$PYTHONS"
  live=$(readlink -e "$CURRENT" || true)
  cd "$release/$project"
  require_uv_project
  lock=$(nearest_file uv.lock)
  if copies_code; then
    require_fresh_lock
    sync_virtualenv "$release/.venv"
    require_gunicorn "$release/.venv"
    take_over_bytecode
  else
    share_packages
    [ -e "$release/.venv" ] || python3 -IS "$DEPLOY_LIBRARY/programs/layer_virtualenv.py" "$shared" "$release/.venv"
    take_over_bytecode & # uv puts nothing there that could have some
    ! links_code || sync_virtualenv "$release/.venv"
    wait "$!"
  fi
}

# Have uv use these two folders: use_uv CACHE PYTHONS
use_uv() {
  export UV_CACHE_DIR=$1 UV_PYTHON_INSTALL_DIR=$2 UV_NO_PROGRESS=1
  export TMPDIR=$DEPLOY_WORK # where uv leaves a lock file for each project folder
  unset VIRTUAL_ENV
}

# Give the release the compiled files of the live one, for all that did not change.
take_over_bytecode() { [ -z "$live" ] || keep_bytecode "$live" "$release" "$release/.venv/bin/python"; }

# Whether code of the commit is copied into its virtualenv, which then is like no other.
copies_code() {
  case " ${words[*]} " in *" --no-editable"*) return 0 ;; esac
  grep -Eq '^source = \{ (directory|path) = ' "$lock" || { links_code && ! can_leave_code_out; }
}

# Whether packages of the commit itself are to be installed, by paths to them.
links_code() {
  case " ${words[*]} " in *" --no-install-local "*) return 1 ;; esac
  grep -q '^source = { editable = ' "$lock"
}

# Whether this uv can install all but those.
can_leave_code_out() { uv sync --help | grep -e --no-install-local >/dev/null; }

# Find the virtualenv of all packages but the commit's own, as `shared`, or build it. No prune takes it away as long as
# the release leads to it.
share_packages() {
  local key old
  local -a but=()
  key=$(packages_key)
  [ -n "$anew" ] || shared=$(whole_virtualenv "$key")
  if [ -z "$shared" ]; then
    shared=$VIRTUALENVS/$key-${release##*/}
    require_fresh_lock
    mkdir -p "$VIRTUALENVS"
    ! links_code || but=(--no-install-local)
    sync_virtualenv "$shared" "${but[@]}"
    require_gunicorn "$shared"
    if [ -n "$live" ]; then
      old=$(readlink -e "$live/.deploy/virtualenv" || echo "$live/.venv")
      keep_bytecode "$old" "$shared" "$shared/bin/python"
    fi
    python3 -IS "$DEPLOY_LIBRARY/programs/seal_virtualenv.py" "$shared"
    cat /proc/sys/kernel/random/boot_id >"$shared/.whole"
  fi
  ln -sfn "$shared" "$release/.deploy/virtualenv"
}

# A name for what decides which packages uv installs: equal for two commits that get the same.
packages_key() {
  {
    uv --version
    printf '%s\n' "$project" "${words[@]}"
    cat "$lock" "$(nearest_file pyproject.toml)"
    # The other members of a workspace, and what else uv reads.
    git ls-files --stage -- ":(top,glob)**/pyproject.toml" ":(top,glob)**/uv.toml" ":(top,glob)**/.python-version*"
    [ ! -f "$release/.gitmodules" ] || git -C "$release" ls-files --stage | grep '^160000 ' || true
  } | sha256sum | cut -c 1-16
}

# The newest virtualenv with this key that was built to its end, if there is one. What was not on the disk yet when the
# host lost its power may be half of it: `.whole` has the boot it was built in, until mark_built has seen to the disk.
whole_virtualenv() {
  local folder boot
  read -r boot </proc/sys/kernel/random/boot_id
  for folder in $(printf '%s\n' "$VIRTUALENVS/$1"-* | sort -r); do
    if [ -x "$folder/bin/python" ] && grep -qsx -e "$boot" -e 'on the disk' "$folder/.whole"; then
      echo "$folder"
      return
    fi
  done
}

# Bring a virtualenv to the state of the lock file: sync_virtualenv FOLDER [OPTION of uv sync]...
sync_virtualenv() {
  UV_PROJECT_ENVIRONMENT=$1 uv sync "${words[@]}" "${@:2}" 2>&1 | tee "$DEPLOY_WORK/sync" || {
    explain_sync
    exit 1
  }
  [ -x "$1/bin/python" ] || fail "uv made no $1/bin/python"
}

# Take over the compiled files of an older folder where sources are the same, which saves time: keep_bytecode OLD NEW
# PYTHON
keep_bytecode() { "$3" -IS "$DEPLOY_LIBRARY/programs/keep_bytecode.py" "$1" "$2" || true; }

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
require_fresh_lock() {
  local changes why
  case " ${words[*]} " in *" --frozen "*) ;; *) return 0 ;; esac
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
require_gunicorn() {
  local option
  if "$1/bin/python" -c 'import gunicorn'; then return 0; fi
  option=$("$1/bin/python" -IS "$DEPLOY_LIBRARY/programs/find_gunicorn.py" "$(nearest_file pyproject.toml)" || true)
  if [ -n "$option" ]; then
    echo "failed: gunicorn is not among the dependencies that uv sync installed, but pyproject.toml has it for $option"
    echo "next: in hosts.toml: sync_args = [$(printf '"%s", ' "${words[@]}")\"${option% *}\", \"${option#* }\"]"
  else
    echo "failed: gunicorn is not among the dependencies that uv sync installed"
    echo "next: uv add gunicorn; commit pyproject.toml and uv.lock, push"
  fi
  exit 1
}

