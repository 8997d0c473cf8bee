# A release as a folder: fetched, checked out, made live by one rename, marked, recorded, pruned.
set -euo pipefail

# Never a prompt, and no background gc: it would inherit the lock (decision 17).
git() {
  GIT_TERMINAL_PROMPT=0 \
    GIT_SSH_COMMAND='ssh -oBatchMode=yes -oConnectTimeout=10 -oStrictHostKeyChecking=accept-new' \
    command git -c gc.auto=0 -c maintenance.auto=false -c advice.detachedHead=false "$@"
}

# Delete what was thrown away, in a child that outlives the runner and has not its lock.
delete_trash() {
  (
    renice --priority 19 "$BASHPID" # some ten thousand files: visitors come first
    cd "$RELEASES"
    chmod --recursive u+w .trash-virtualenv-* || true # their packages are closed; mostly there are none
    rm -rf .trash-*
    command git -c gc.autoDetach=false -C "$REPO" gc --auto --quiet
  ) </dev/null >/dev/null 2>&1 9>&- &
}

# Bring the mirror up to date; answer `commit SHA SUBJECT` and how it stands to the live one, or `known NAME` lines when
# nothing is called ref.
# Takes away what a switch or a prune has left that was cut, for there may be nothing else to do.
fetch() {
  local repo ref
  local "$@"
  rm -f "$CURRENT.new"
  if compgen -G "$RELEASES/.trash-*" >/dev/null; then delete_trash; fi
  if [ ! -d "$REPO" ]; then
    rm -rf "$REPO.new"
    git init --quiet --bare "$REPO.new"
    mv -T "$REPO.new" "$REPO"
  fi
  cd "$REPO"
  # A git that was killed leaves its locks; nobody else is here, the deploy's own lock sees to that.
  find . \( -path ./objects -o -path ./worktrees \) -prune -o -name '*.lock' -type f -exec rm -f {} +
  rm -f objects/pack/tmp_* objects/??/tmp_obj_* # half of what a killed fetch had got
  grep -qsx /.deploy/ info/exclude || echo /.deploy/ >>info/exclude
  update_mirror "$repo"
  find_ref "$ref"
}

# Bring the mirror in the working folder up to date: update_mirror REPOSITORY
update_mirror() {
  [ "$(git config remote.origin.url || true)" = "$1" ] || git config remote.origin.url "$1"
  # A branch that somebody has checked out in a release stands in nobody's way (--update-head-ok).
  git fetch --quiet --prune --force --update-head-ok --no-tags origin '+refs/heads/*:refs/heads/*' '+refs/tags/*:refs/tags/*'
}

# Answer for a branch, tag or commit of the mirror in the working folder, as fetch does: find_ref REF
find_ref() {
  local name commit=''
  for name in "refs/heads/$1" "refs/tags/$1"; do
    if commit=$(git rev-parse --verify --quiet "$name^{commit}"); then break; fi
  done
  if [ -z "$commit" ] && [[ $1 =~ ^[0-9a-f]{7,40}$ ]]; then
    commit=$(git rev-parse --verify --quiet "$1^{commit}" || true)
  fi
  if [ -n "$commit" ]; then
    git log -1 --format='commit %H %s' "$commit"
    compare_with_live "$commit"
  else
    git for-each-ref --count=500 --sort=-committerdate --format='known %(refname:lstrip=2)' refs/heads refs/tags
  fi
}

# Say how many commits COMMIT has that the live one has not, and the other way round: `beside N N`; and with `lacks SHA
# SUBJECT` which are the newest of those that it lacks. Nothing where the live one is not known here.
compare_with_live() {
  local live adds lacks
  live=$(live_commit)
  [ -n "$live" ] || return 0
  read -r adds lacks < <(git rev-list --left-right --count "$1...$live" 2>/dev/null) || return 0
  echo "beside $adds $lacks"
  [ "$lacks" = 0 ] || git log -3 --format='lacks %h %s' "$1..$live"
}

# The commit that the live release has checked out; nothing where it has none.
live_commit() {
  local live
  live=$(readlink -e "$CURRENT" || true)
  [ ! -e "$live/.git" ] || git -C "$live" rev-parse --verify --quiet HEAD || true
}

# Check the commit out as a worktree with the linked folders and files in place.
# Takes gunicorn.conf.py, gunicorn.json and release.json from the files sent to the runner.
check_out() {
  local release commit project manage_py linked_dirs linked_files media
  local "$@"
  local name
  cd "$REPO"
  [ -e "$release/.deploy/built" ] || rm -rf "$release" "worktrees/${release##*/}" # left by a run that was cut
  rm -f worktrees/*/locked # a killed `worktree add` leaves it, and prune would keep that one for ever
  git worktree prune --expire=now
  git worktree add --quiet --detach --force "$release" "$commit"
  complete_release
  [ -z "$media" ] || refuse_code_among_uploads "$media"
  for name in $linked_dirs; do link_dir "$name"; done
  [ -z "$media" ] || let_nginx_read "$media"
  for name in $linked_files; do link_file "$name"; done
  printf '%s\n' "$linked_files" >.deploy/linked_files
}

# Go to the caller's release, which git has just checked out: complete it with its submodules and the files sent to the
# runner, and refuse a commit that lacks what hosts.toml names.
complete_release() {
  cd "$release"
  [ ! -f .gitmodules ] || git submodule --quiet update --init --recursive
  [ -d "$project" ] || no_such "folder $project (project in hosts.toml)"
  [ -f "$project/$manage_py" ] || no_such "file $project/$manage_py (project and manage in hosts.toml)"
  mkdir -p .deploy
  cp "$DEPLOY_FILES"/{gunicorn.conf.py,gunicorn.json,release.json} .deploy/
  chmod 644 .deploy/*
}

# Say that a linked file of the caller's release is not there, which is mostly why its app does not run. Fails when all
# are, but for databases, which the app makes.
blame_missing_link() {
  local name
  [ -f "$release/.deploy/linked_files" ] || return 1
  while read -r name; do
    case $name in '' | *.sqlite* | *.db | *.db3) continue ;; esac
    [ ! -e "$release/$name" ] || continue
    echo "failed: the linked file $SHARED/$name is not there yet"
    echo "next: fab -H NAME link.put $name --file YOUR-COPY"
    return 0
  done <"$release/.deploy/linked_files"
  return 1
}

# Refuse the commit in whose folder the caller works, as it lacks what hosts.toml names: no_such WHAT
no_such() {
  local there
  there=$(git ls-files '*manage.py' | head -n 5 | paste -sd ' ')
  echo "failed: the commit has no $1; it has: ${there:-no manage.py at all}"
  echo "next: correct hosts.toml, then the same command again"
  exit 1
}

# Replace a folder of the release by a link to shared/; what the commit has in it comes along, once.
link_dir() {
  local from live
  mkdir -p "$SHARED/$1" "$(dirname "$1")"
  [ "$(realpath "$1")" != "$(realpath "$SHARED/$1")" ] || return 0 # it lies inside another linked folder
  live=$(readlink -e "$CURRENT" || true)
  # Also what the live release has, if the folder was not linked then.
  for from in "$1" ${live:+"$live/$1"}; do
    if [ -d "$from" ] && [ ! -L "$from" ] && [ "$(realpath "$from")" != "$(realpath "$SHARED/$1")" ]; then
      tar -C "$from" -c . | tar -C "$SHARED/$1" -x --skip-old-files
    fi
  done
  [ -L "$1" ] || rm -rf "$1"
  ln -sfn "$SHARED/$1" "$1"
}

# Refuse a folder of uploads in which the commit has code, for nginx would show it to everybody.
refuse_code_among_uploads() {
  local code
  code=$(git ls-files -- "$1/*.py" | head -n 1)
  [ -z "$code" ] || {
    echo "failed: media.folder in hosts.toml is $1, where the commit has code: $code"
    echo "next: give uploads a folder of their own (MEDIA_ROOT), and name it in hosts.toml"
    exit 1
  }
}

# Let nginx read a folder of shared/, and what will ever be put there: the service's UMask would keep it out of the
# folders that the app makes. The folder itself comes last, as it tells that all is done.
let_nginx_read() {
  local folder=$SHARED/$1 parent
  [ -n "$(type -P setfacl)" ] || {
    echo "failed: media in hosts.toml needs setfacl, and this host has none"
    echo "next: fab -H NAME provision"
    exit 1
  }
  if getfacl --omit-header --absolute-names --default "$folder" | grep -qx 'group:www-data:r-x'; then return; fi
  parent=$(dirname "$folder")
  while [ "$parent" != "$SHARED" ]; do
    setfacl --modify group:www-data:x "$parent"
    parent=$(dirname "$parent")
  done
  {
    setfacl --recursive --physical --modify group:www-data:rX "$folder" &&
      find "$folder" -depth -type d -exec setfacl --default --modify group:www-data:rX {} +
  } || {
    echo "failed: $folder cannot be opened to nginx: $(id -un) must own all that is in it"
    echo "next: on the host, as root: chown -R --no-dereference $(id -un): $folder; then the same command again"
    exit 1
  }
}

# Replace a file of the release by a link to shared/; what the commit has comes along, once. The link may lead to nothing
# yet: SQLite makes its file through it, and the proof refuses what else is missing.
link_file() {
  local live
  mkdir -p "$(dirname "$SHARED/$1")" "$(dirname "$1")"
  [ "$(realpath -m "$1")" != "$(realpath -m "$SHARED/$1")" ] || return 0 # it lies inside a linked folder
  if [ ! -e "$SHARED/$1" ]; then
    live=$(readlink -e "$CURRENT" || true)
    if [ -n "$live" ] && [ -s "$live/$1" ] && [ ! -L "$live/$1" ] && ! cmp -s "$live/$1" "$1"; then
      echo "failed: the live release has a $1 of its own, whose data would stay behind"
      echo "next: while nobody writes to it, on the host: cp -a $live/$1 $SHARED/$1; then the same command again"
      exit 1
    fi
    if [ -f "$1" ]; then
      cp -a "$1" "$SHARED/$1.new"
      mv -T "$SHARED/$1.new" "$SHARED/$1"
    fi
  fi
  ln -sfn "$SHARED/$1" "$1"
}

# Put a file sent to the runner in place below shared/, in one step: put_link NAME
put_link() {
  local name
  local "$@"
  local beside
  mkdir -p "$(dirname "$SHARED/$name")"
  [ ! -d "$SHARED/$name" ] || fail "$SHARED/$name is a folder"
  for beside in -wal -shm -journal; do # what SQLite has there belongs to the database that is there
    [ ! -e "$SHARED/$name$beside" ] || fail "$SHARED/$name is a database in use: $name$beside lies beside it"
  done
  install -m 640 "$DEPLOY_FILES/content" "$SHARED/$name.new"
  mv -T "$SHARED/$name.new" "$SHARED/$name"
}

# Remove a release that was never live.
remove_release() {
  local release
  local "$@"
  rm -rf "$release"
}

# Say that the release is whole, and the packages that it shares, once the disk has them: a power cut must not leave
# `current` on empty files.
mark_built() {
  local release
  local "$@"
  sync --file-system "$release"
  touch "$release/.deploy/built"
  [ ! -L "$release/.deploy/virtualenv" ] || echo 'on the disk' >"$release/.deploy/virtualenv/.whole"
}

# Make a release the live one: a new link beside the old one, and one rename.
make_live() {
  ln -sfn "releases/$1" "$CURRENT.new"
  mv -T "$CURRENT.new" "$CURRENT"
}

# Say that the release is live and healthy, with its files; `left` is the one that a rollback went back from.
mark_good() {
  local release left
  local "$@"
  [ -z "$left" ] || touch "$left/.deploy/left"
  touch "$release/.deploy/good"
  rm -f "$release/.deploy/bad" "$release/.deploy/left"
  forget_pending
}

# Append one line of JSON to the host's history, also after half a line of a run that was cut.
record() {
  local entry
  local "$@"
  [ -z "$(tail -c 1 "$HISTORY" 2>/dev/null || true)" ] || echo >>"$HISTORY"
  printf '%s\n' "$entry" >>"$HISTORY"
}

# The newest entries of the host's history.
read_history() {
  local lines
  local "$@"
  tail --lines "$lines" "$HISTORY" 2>/dev/null || true
}

# Names of the releases that are live or that a process still uses, in spaces: " a b ".
releases_in_use() {
  local live master
  live=$(readlink -e "$CURRENT" || true)
  master=$(sed -n 's/.*"release": *"\([^"]*\)".*/\1/p' "$STATE/master.json" 2>/dev/null || true)
  echo " ${live##*/} ${master##*/} $( (readlink /proc/[0-9]*/cwd /proc/[0-9]*/exe 2>/dev/null || true) |
    sed -n "s#^$RELEASES/\\([^/]*\\).*#\\1#p" | sort -u | tr '\n' ' ')"
}

# Remove old and half-made releases, except the newest that failed and those in use.
# Kept are the newest `keep` good ones, and as many that a rollback may go to, should it have left some of the newest.
# The folders are renamed under the lock, and deleted without it.
prune() {
  local keep keep_static
  local "$@"
  local folder used newest=0 ways_back=0 failed=''
  local -a old=()
  cd "$RELEASES"
  used=$(releases_in_use)
  for folder in $(printf '%s\n' [0-9]*T[0-9]*Z-[0-9a-f]* | sort -r); do
    [ -d "$folder" ] || continue
    if [ -e "$folder/.deploy/bad" ] && [ -z "$failed" ]; then
      failed=$folder
      continue
    fi
    if [ -e "$folder/.deploy/good" ]; then
      newest=$((newest + 1))
      [ -e "$folder/.deploy/left" ] || ways_back=$((ways_back + 1))
      [ "$newest" -gt "$keep" ] || continue
      [ -e "$folder/.deploy/left" ] || [ "$ways_back" -gt "$keep" ] || continue
    fi
    case $used in *" $folder "*) continue ;; esac
    old+=("$folder")
  done
  if [ -n "${old[*]}" ]; then mv -t "$(mktemp -d .trash-XXXXXXXX)" -- "${old[@]}"; fi
  git -C "$REPO" worktree prune --expire=now || true
  prune_virtualenvs
  prune_static "$keep_static"
  delete_trash
}

# Throw away the virtualenvs that no release leads to. The newest stays: it may be that of a release that failed, and the
# next one is to have its packages.
prune_virtualenvs() {
  local folder used
  cd "$VIRTUALENVS" 2>/dev/null || return 0
  used=" $( (readlink "$RELEASES"/*/.deploy/virtualenv || true) | sed 's#.*/##' | tr '\n' ' ')"
  for folder in $(printf '%s\n' *-*T*Z-* | sort -r -t - -k 2 | tail -n +2); do
    case $used in *" $folder "*) continue ;; esac
    mv -T "$folder" "$RELEASES/.trash-virtualenv-$folder"
  done
}

# Delete the kept static files that none of the newest lists names.
prune_static() {
  local lists list
  cd "$KEPT_STATIC"
  mkdir -p .lists
  lists=$(find .lists -type f -printf '%f\n' | sort -r | tail -n "+$(($1 + 1))")
  [ -n "$lists" ] || return 0
  for list in $lists; do rm -f ".lists/$list"; done
  find . -type f -not -path './.lists/*' | sed 's#^./##' | sort | comm -23 - <(sort -u .lists/*) |
    tr '\n' '\0' | xargs -0 -r rm -f
}
