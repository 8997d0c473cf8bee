# What a deploy would do, found out where it changes nothing: in the runner's folder, which goes with the run.
set -euo pipefail

ASIDE=$DEPLOY_WORK/aside

# Have a mirror of this run's own, which borrows what the host's has; answer as `fetch` does, and `aside FOLDER`.
fetch_aside() {
  local repo ref
  local "$@"
  git init --quiet --bare "$ASIDE/repo.git"
  cd "$ASIDE/repo.git"
  git config fetch.unpackLimit 1 # object by object, git would touch those that the host's mirror has already
  [ ! -d "$REPO/objects" ] || echo "$REPO/objects" >objects/info/alternates
  echo "aside $ASIDE"
  update_mirror "$repo"
  find_ref "$ref"
}

# Answer with what a commit brings: `adds SHA DATE AUTHOR SUBJECT`, with tabs, for the newest hundred commits that the
# live one has not; `before NAME VERSION` and `after NAME VERSION` for each package of both lock files.
compare_commits() {
  local commit project
  local "$@"
  local live
  live=$(live_commit)
  cd "$ASIDE/repo.git"
  git log --max-count="$([ -n "$live" ] && echo 100 || echo 1)" --format='adds %h%x09%aI%x09%an%x09%s' \
    "${live:+$live..}$commit"
  [ -z "$live" ] || packages_of "$live" | sed 's/^/before /'
  packages_of "$commit" | sed 's/^/after /'
}

# The packages of the lock file of COMMIT that the caller's project has, or a folder above it: NAME VERSION REGISTRY
packages_of() {
  local folder=$project lock
  while lock=$([ "$folder" = . ] || echo "$folder/")uv.lock && ! git cat-file -e "$1:$lock" 2>/dev/null; do
    [ "$folder" != . ] || return 0
    folder=$(dirname "$folder")
  done
  git cat-file blob "$1:$lock" | awk -F '"' '
    /^\[\[package\]\]/ { if (name) print name, version, registry; name = version = registry = "" }
    /^name = / && !name { name = $2 }
    /^version = / && !version { version = $2 }
    /^source = \{ registry = / && !registry { registry = $2 }
    END { if (name) print name, version, registry }'
}

# Check a commit out below the runner's folder, with links to what outlives releases, and with the live static files,
# for an app that looks for the list of them. Takes the files that check_out takes.
check_out_aside() {
  # shellcheck disable=SC2034 # those that complete_release reads
  local release commit project manage_py linked_dirs linked_files static_root
  local "$@"
  local name live
  cd "$ASIDE/repo.git"
  git worktree add --quiet --detach "$release" "$commit"
  complete_release
  for name in $linked_dirs $linked_files; do link_aside "$name" "$SHARED/$name"; done
  live=$(readlink -e "$CURRENT" || true)
  [ ! -d "$live/$static_root" ] || [ -e "$static_root" ] || link_aside "$static_root" "$live/$static_root"
}

# Link NAME of the release in the working folder to TARGET, unless it lies in what is linked already: link_aside NAME TARGET
link_aside() {
  case $(realpath --canonicalize-missing "$1") in "$PWD"/*) ;; *) return 0 ;; esac
  rm -rf "$1"
  mkdir -p "$(dirname "$1")"
  ln -s "$2" "$1"
}

# Build a virtualenv that shares nothing with others: a copy of the one that is most alike, brought to the lock file.
build_virtualenv_aside() {
  local release project arguments
  local "$@"
  local live lock alike
  local -a words=()
  # shellcheck disable=SC2034 # which sync_virtualenv reads
  [ -z "$arguments" ] || mapfile -t words <<<"$arguments"
  mkdir "$ASIDE/python"
  ! compgen -G "$PYTHONS/*" >/dev/null || ln -s "$PYTHONS"/* "$ASIDE/python/"
  use_uv "$ASIDE/cache" "$ASIDE/python"
  live=$(readlink -e "$CURRENT" || true)
  cd "$release/$project"
  require_uv_project
  lock=$(nearest_file uv.lock)
  alike=$(whole_virtualenv "$(packages_key)")
  if [ -z "$alike" ]; then
    require_fresh_lock
    alike=$(readlink -e "$live/.deploy/virtualenv" || readlink -e "$live/.venv" || true)
  fi
  if [ -n "$alike" ]; then
    cp -r --preserve=mode,timestamps,links --reflink=auto "$alike" "$release/.venv"
    chmod -R u+w "$release/.venv"
  fi
  sync_virtualenv "$release/.venv"
  require_gunicorn "$release/.venv"
}
