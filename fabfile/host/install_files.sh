#!/bin/bash
# Installs what root has staged for an app: units, nginx site, what starts its processes. sudo lets the deploying user run
# this with one of two words and no other, so that user chooses between texts that root has put there, and writes none.
#
# usage: NAME-files.sh STAGED next|before
#
# Both are trees of the host's paths. A site that nginx refuses is not left installed; what brings processes to the live
# release does so at boot, too.
set -euo pipefail
PATH=/usr/sbin:/usr/bin:/sbin:/bin # whatever sudo's secure_path says
umask 022
staged=$1 which=$2
units='' site='' roller=''

# Install a tree, each file only if it differs, and as a whole: install_tree next|before
install_tree() {
  local file target
  cd "$staged/$1"
  while IFS= read -r file; do
    target=/$file
    ! cmp -s "$file" "$target" || continue
    case $target in
      */nginx/*) site=1 ;;
      */systemd/system/*) units=1 ;;
    esac
    case $target in */systemd/system/*-processes.service) roller=${file##*/} ;; esac
    cp "$file" "$target.new"
    mv -T "$target.new" "$target"
  done < <(find . -type f -printf '%P\n')
}

code=0
install_tree "$which"
if [ "$which$site" = next1 ] && ! nginx -t -q; then
  code=1
  install_tree before
fi
[ -z "$units" ] || systemctl daemon-reload
[ -z "$roller" ] || systemctl --quiet enable "$roller"
exit "$code"
