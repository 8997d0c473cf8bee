# Before a server changes hands: what is there, and the release that takes over (adopt). The change itself is handover.sh.
set -euo pipefail

# As root: answer with one JSON object of all that is there, by read_server.py sent to the runner. Nothing is written, and no secret is in it.
read_server() {
  local user domain aliases linked
  local "$@"
  python3 -IS "$DEPLOY_FILES/read_server.py" "app=$APP" "name=$NAME" "user=$user" "domain=$domain" \
    "aliases=$aliases" "socket=$SOCKET" "linked=$linked"
}

# See that the mirror has the commit that is live in the folder, from there if nowhere else; answers as fetch does.
take_commit() {
  local commit
  local "$@"
  cd "$REPO"
  if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    git fetch --quiet --no-tags --update-shallow "$APP" '+HEAD:refs/adopted/head'
    git cat-file -e "$commit^{commit}" 2>/dev/null || fail "$APP has another commit by now than $commit"
    echo "the repository does not have $commit: it was taken from $APP"
  fi
  git log -1 --format='commit %H %s' "$commit"
}

# Save what nobody has committed in the folder, for a person to look at; the folder itself is kept, too.
save_local_changes() {
  local patch=$BASE/local-changes.patch
  cd "$APP"
  # A copy, for git writes the index anew, whatever GIT_OPTIONAL_LOCKS says; with its time, by which git knows which files
  # it has to read since they may have changed in the second of the last look.
  cp --preserve=timestamps "$(git rev-parse --git-path index)" "$DEPLOY_WORK/index"
  GIT_INDEX_FILE=$DEPLOY_WORK/index git diff --binary HEAD >"$patch.new"
  if [ ! -s "$patch.new" ]; then
    rm -f "$patch.new"
    return
  fi
  mv -T "$patch.new" "$patch"
  echo "what was changed in $APP and not committed is in $patch"
}

# Keep the hashed static files of the folder: a page from before the change of hands may still ask for them.
keep_old_static() {
  local static_root
  local "$@"
  [ -d "$APP/$static_root" ] && [ ! -L "$APP" ] || return 0
  python3 -IS "$DEPLOY_LIBRARY/programs/keep_static.py" "$APP/$static_root" "$KEPT_STATIC" 00000000T000000Z-adopted
}

# Have `current` lead to a release, while nothing else leads there.
make_current() {
  local release
  local "$@"
  make_live "${release##*/}"
}
