# Workers and timers: proven with a release, brought to it, and the way back. What runs as root is roll_processes.sh.
set -euo pipefail

# There when this run has brought workers and timers to a release, or was cut while it did.
ROLLED=$DEPLOY_WORK/rolled

# See that all of them can start from this release, without taking any work: `commands` has lines like `worker celery -A
# config worker`, `schedules` lines like `nightly daily`.
prove_processes() {
  # shellcheck disable=SC2034 # those that prove_starts reads
  local release project manage_py doppler_project doppler_config commands schedules
  local "$@"
  local name schedule said
  while read -r name schedule; do
    [ -n "$name" ] || continue
    said=$(systemd-analyze calendar "$schedule" 2>&1) || fail "$name: systemd knows no schedule like $schedule: ${said##*$'\n'}"
  done <<<"$schedules"
  prove_starts "$commands"
}

# Start workers and timers of the live release, and stop the old ones without waiting for the end of their work.
roll_processes() {
  local release project linked_dirs
  local "$@"
  local said unit kept='' code=0
  touch "$ROLLED"
  as_root roll_processes || code=$?
  [ "$code" != 0 ] || return 0
  rm "$ROLLED" # a roll that fails leaves all as it was
  [ "$code" != "$NO_RIGHT" ] || exit "$code"
  said=$(journalctl --unit "$NAME-processes.service" --lines 20 --no-pager --output cat 2>/dev/null |
    grep 'does not stay' | tail -n 1 || true)
  unit=${said%% *} # of the others, which are stopped while they start, nothing is to be learnt
  case $said in *' (the old workers go on)') kept=' (the old workers go on)' said=${said%"$kept"} ;; esac
  # Python's marks below the lines of a traceback say nothing there.
  journalctl --unit "${unit:-$NAME-*@${release##*/}:*.service}" --lines 60 --no-pager --output cat 2>/dev/null |
    grep -vxE '[ ^~]+' | tail -n 40 | tee "$DEPLOY_WORK/journal" || true
  explain_read_only || fail "${said:-workers and timers did not start}$kept"
  exit 1
}

# Say where the caller's process could not write, and what to do about it. Fails when that is not why it ended.
explain_read_only() {
  local root path folder
  local -a wanted=()
  path=$(sed -nE "s/.*Read-only file system: '([^']+)'.*/\\1/p" "$DEPLOY_WORK/journal" | tail -n 1)
  [ -n "$path" ] || return 1
  echo "failed: ${said:-workers and timers did not start}: Read-only file system: '$path'$kept"
  cd -P "$release/$project"
  root=$(realpath "$release")
  folder=$(realpath -m -- "$path")
  grep -q 'mkdir(' "$DEPLOY_WORK/journal" || folder=${folder%/*} # else it was to be a file
  # Not a folder with code, which a link would take away.
  if [[ $folder == "$root"/* && $PWD/ != "$folder"/* ]] && ! compgen -G "$folder/*.py" >/dev/null; then
    [ -z "$linked_dirs" ] || mapfile -t wanted <<<"$linked_dirs"
    wanted+=("${folder#"$root/"}")
    folder=$(printf ', "%s"' "${wanted[@]}")
    echo "next: in hosts.toml: linked_dirs = [${folder#, }]; then the same command again"
  else
    echo "next: let the app write only below $SHARED, to a folder of linked_dirs (docs/your-app.md)"
  fi
}

# Bring workers and timers back to what is live now, if they have left it.
roll_back() {
  [ ! -e "$ROLLED" ] || as_root roll_processes
}
