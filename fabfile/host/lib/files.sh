# The files that only root may write: staged by root, installed by the deploying user, and the way back.
set -euo pipefail

# There when this run has installed files: what an earlier run has replaced is not what is to come back.
INSTALLED_NOW=$DEPLOY_WORK/installed
# There when an earlier run was cut with files installed that are not in use: the way back cannot put those right.
WAS_PENDING=$DEPLOY_WORK/was_pending

# As root: put the rendered files (sent to the runner by name) where the deploying user may install them from, and beside
# them what they replace. `locked` says that the caller holds the lock of deploys. Refuses what was edited here, or, with
# `overwrite`, has `user` keep copies and takes away what was put beside units.
stage_files() {
  # shellcheck disable=SC2034 # as_user reads some
  local files locked overwrite user group
  local "$@"
  local file edited drop_ins new=$DEPLOY_WORK/staged
  [ -n "$locked" ] || await_deploys
  edited=$(edited_files "$files")
  drop_ins=$(drop_ins_of "$files")
  if [ -n "$edited$drop_ins" ]; then
    [ -n "$overwrite" ] || refuse_edited "files=$edited"$'\n'"$drop_ins"
    # shellcheck disable=SC2086 # one a line, without spaces
    as_user keep_copies "$BASE" $edited $drop_ins
    [ -z "$drop_ins" ] || remove_drop_ins "$drop_ins"
  fi
  put_installer
  lay_out_texts "$new" "$files"
  if [ -z "$edited" ] && diff -rq "$new/next" "$STAGED/next" >/dev/null 2>&1; then return 0; fi
  refuse_broken_site "$new/next$SITE_FILE"
  rm -rf "$STAGED.new" "$STAGED.old" "$BASE/staged" # the last is an earlier version's
  cp -r "$new" "$STAGED.new"
  [ ! -e "$STAGED" ] || mv -T "$STAGED" "$STAGED.old"
  mv -T "$STAGED.new" "$STAGED"
  rm -rf "$STAGED.old"
  for file in $files; do
    cmp -s "$STAGED/next$file" "$file" || echo "changed: $file is staged for the next deploy"
  done
}

# Put the program in place by which the deploying user installs what is staged.
put_installer() {
  ! cmp -s "$DEPLOY_FILES/install_files.sh" "$INSTALLER" || return 0
  install -m 755 -o root -g root "$DEPLOY_FILES/install_files.sh" "$INSTALLER.new"
  mv -T "$INSTALLER.new" "$INSTALLER"
  echo "changed: $INSTALLER"
}

# Make both trees in a folder: what is to be installed, and what it replaces: lay_out_texts FOLDER FILES
lay_out_texts() {
  local file
  mkdir -p "$1/next" "$1/before"
  for file in $2; do
    mkdir -p "$(dirname "$1/next$file")" "$(dirname "$1/before$file")"
    cp "$DEPLOY_FILES/${file##*/}" "$1/next$file"
    if [ -e "$PENDING/${file##*/}" ] && [ -e "$STAGED/before$file" ]; then
      cp "$STAGED/before$file" "$1/before$file" # what is installed was never in use
    elif [ -e "$file" ]; then
      cp "$file" "$1/before$file"
    elif [ "${file##*/}" = "$NAME-processes.service" ]; then
      # There was none before: it is to know of no process, and so takes them away.
      sed -E 's/ (worker|singleton|timer):[^ ]+//g' "$1/next$file" >"$1/before$file"
    fi
  done
  chmod -R u=rwX,go=rX "$1"
}

# Those of some files whose text is neither as it was staged nor as it is to be, a line each; what a cut run has left
# pending is not asked: edited_files FILES
edited_files() {
  local file
  for file in $1; do
    [ -e "$file" ] && [ -e "$STAGED/next$file" ] && [ ! -e "$PENDING/${file##*/}" ] || continue
    cmp -s "$file" "$STAGED/next$file" || cmp -s "$file" "$STAGED/before$file" ||
      cmp -s "$file" "$DEPLOY_FILES/${file##*/}" || echo "$file"
  done
}

# What somebody has put beside units, a line each: drop_ins_of FILES
drop_ins_of() {
  local file drop_in
  for file in $1; do
    case $file in *.service | *.socket | *.timer) ;; *) continue ;; esac
    for drop_in in "$file".d/*.conf; do [ ! -e "$drop_in" ] || echo "$drop_in"; done
  done
}

# Wait until no deploy works on this host: it may be about to install what is staged, or to take it back.
await_deploys() {
  [ -f "$LOCK" ] || return 0
  exec 8<"$LOCK"
  flock -w 60 8 || {
    echo "failed: a deploy works on this host"
    echo "next: when it has ended, the same command again"
    exit 1
  }
}

# Refuse a site that nginx would not take, before anything is built. Where no mount is allowed, the deploy finds out:
# refuse_broken_site TEXT
refuse_broken_site() {
  [ -e "$1" ] && [ -e "$SITE_FILE" ] && unshare --mount true 2>/dev/null || return 0
  nginx_test_with "$1" >"$DEPLOY_WORK/nginx" || {
    cat "$DEPLOY_WORK/nginx"
    fail "nginx -t fails with the site that hosts.toml makes, and nothing was changed: $(grep -m 1 emerg "$DEPLOY_WORK/nginx")"
  }
}

# Have nginx read a text in the place of the site, where nobody else sees it: nginx_test_with TEXT
nginx_test_with() {
  # shellcheck disable=SC2016 # the other bash's
  unshare --mount bash -c 'mount --bind "$1" "$2" && /usr/sbin/nginx -t -q' bash "$1" "$SITE_FILE" 2>&1
}

# Refuse to go on where somebody has edited files on the host, or put some beside units.
refuse_edited() {
  local files
  local "$@"
  local file text names='' places=''
  for file in $files; do
    text=$STAGED/next$file
    # What is there was made of one of the two: that which is nearer.
    if [ -e "$STAGED/before$file" ] && [ "$(distance "$STAGED/before$file" "$file")" -lt "$(distance "$text" "$file")" ]; then
      text=$STAGED/before$file
    fi
    [ -e "$text" ] || text=/dev/null
    differences "$text" "$file" "$file, as it was installed" "$file, as it is"
    text=${file##*/system/}
    names="$names${names:+, }${text##*/sites-available/}"
    case $file in
      */nginx/*) places="nginx_include or a setting of its own for what belongs into the site${places:+; $places}" ;;
      *) [[ $places == *unit_options* ]] || places="${places:+$places; }unit_options for what belongs into a unit" ;;
    esac
  done
  echo "failed: edited on the server: $names"
  echo "next: in hosts.toml: $places; or, to replace it (copies are kept): the same command with --overwrite"
  exit 1
}

# How many lines two files differ in: distance ONE OTHER
distance() { diff "$1" "$2" | wc -l; }

# The unified difference of two files, without values that may be secrets: differences OLD NEW OLD-NAME NEW-NAME
differences() {
  diff -u --label "$3" --label "$4" "$1" "$2" |
    sed -E 's/^([ +-](Environment|SetCredential)[A-Za-z]*="?[A-Za-z0-9_]*[=:]).*/\1 (not shown)/' || true
}

# As the user: keep copies of files that are about to be replaced: keep_copies BASE FILE...
keep_copies() {
  local file folder
  folder=$1/overwritten/$(date -u +%Y%m%dT%H%M%SZ)
  for file in "${@:2}"; do
    mkdir -p "$folder$(dirname "$file")"
    cp "$file" "$folder$file"
  done
  echo "changed: copies of what was edited here are in $folder"
}

# As root: take away what somebody has put beside units: remove_drop_ins DROP_INS
remove_drop_ins() {
  local file
  for file in $1; do
    rm -f "$file"
    rmdir --ignore-fail-on-non-empty "$(dirname "$file")"
    echo "changed: $file is gone"
  done
  systemctl daemon-reload
}

# Show how the rendered files (sent to the runner by name) differ from the installed ones: compare_files FILES
compare_files() {
  local files
  local "$@"
  local file there
  for file in $files; do
    there=$file
    [ -e "$file" ] || there=/dev/null
    differences "$there" "$DEPLOY_FILES/${file##*/}" "$file" "$file, from hosts.toml"
  done
}

# Install what root has staged, if it still is what this run has planned: `digests` are lines of sha256sum.
# Until the end of the run each changed file is marked as pending: after a run that was cut, it counts as one that
# differs, for it may be installed, but in use it is not.
install_files() {
  local files digests
  local "$@"
  local file
  sha256sum --check --status <<<"$digests" || {
    echo "failed: $STAGED/next no longer holds what this run is to install"
    echo "next: the same command again"
    exit 1
  }
  mkdir -p "$PENDING"
  for file in $files; do
    [ ! -e "$PENDING/${file##*/}" ] || touch "$WAS_PENDING"
    touch "$PENDING/${file##*/}"
  done
  touch "$INSTALLED_NOW"
  as_root install_next
}

# Whether one of these files is another than before this run: differ_now FILES
differ_now() {
  local file
  [ -e "$INSTALLED_NOW" ] || return 1
  for file in $1; do
    cmp -s "$file" "$STAGED/before$file" || return 0
  done
  return 1
}

# Bring back what this run has replaced.
restore_files() { [ ! -e "$INSTALLED_NOW" ] || as_root install_before; }

# Once all that is installed is in use.
forget_pending() { rm -rf "$PENDING"; }
