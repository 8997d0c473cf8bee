# What ssh/runner.py starts on a host, by bash -c; its arguments: a mark, a lock file, who takes it, and two times (s).
#
# The runner writes only to its log, never to the channel: with the client gone, a write would end it in the midst of
# a migration (decision 17). `tail` carries the log to the client. The lock is an flock of file descriptor 9; the
# steps inherit it, so it lasts as long as the work. The library comes first, and batches arrive whole before they begin.
# TERM ends the running step.
set -u
umask 022
mark=$1 lock=$2 holder=$3 wait=$4 patience=$5
work=$(mktemp -d "${TMPDIR:-/tmp}/deploy-$$-XXXX") || exit 1
files=$work/files library=$work/library; mkdir "$files" "$library"
log=$work/log
child='' failed='' cancelled='' held='' foreign='' mute=''
export LC_ALL=C.UTF-8
leave() {
  for pid in "$work"/*.pid; do [ -s "$pid" ] && kill -KILL -- "-$(cat "$pid")" 2>/dev/null; done
  [ -z "$held" ] || [ -n "$foreign" ] || [ ! -e "$lock" ] || : >"$lock" # `remove` takes it away
  rm -rf "$work"
}
trap leave EXIT
export DEPLOY_WORK=$work DEPLOY_FILES=$files DEPLOY_LIBRARY=$library DEPLOY_RUNNER=$$
: >"$log" || exit 1
exec 8<"$log" # a runner that is refused may be gone, with its log, before tail can open it
tail -c +1 -s 0.01 --pid=$$ -f /dev/fd/8 2>/dev/null &
exec 8<&-
exec >>"$log" 2>&1
trap 'cancelled=1; [ -n "$child" ] && kill -TERM "$child"' TERM
tell() { printf '\n%s %s\n' "$mark" "$*" || mute=1; }
end_group() {
  kill -TERM -- "-$1" 2>/dev/null || return 0
  for _ in {1..50}; do sleep 0.1; kill -0 -- "-$1" 2>/dev/null || return 0; done
  kill -KILL -- "-$1" 2>/dev/null
}
open_lock() {
  if [ "$(id -u)" != 0 ] || [ "$(stat -c %u "${lock%/*}" 2>/dev/null)" = 0 ]; then
    exec 9>>"$lock"
    return
  fi
  # Root in a folder of another user's, who may put a link there: it writes nothing. To take the lock, reading is enough.
  foreign=1
  [ -e "$lock" ] || [ -L "$lock" ] || (set -C; : >"$lock") || return
  if [ -L "$lock" ] || [ ! -f "$lock" ]; then
    echo "failed: $lock is no plain file"
    echo "next: rm $lock on the server, then the same command again"
    return 1
  fi
  exec 9<"$lock"
}
if [ -n "$lock" ]; then
  open_lock || { tell refused; exit 1; }
  if ! flock -w 0.5 9; then # `holder` takes it for a moment, to see whether somebody has it
    tell held "$(base64 -w0 </dev/fd/9)"
    if ! { [ "$wait" -gt 0 ] && flock -w "$wait" 9; }; then tell locked "$(base64 -w0 </dev/fd/9)"; exit 7; fi
  fi
  held=1
  [ -n "$foreign" ] || printf '%s' "$holder" >"$lock"
  for left in "${TMPDIR:-/tmp}"/deploy-*-*; do # of a killed runner; its last step held the lock, and is gone too
    pid=${left##*/deploy-}
    [ ! -O "$left" ] || kill -0 "${pid%%-*}" 2>/dev/null || rm -rf "$left"
  done
fi
step() { # NUMBER TIMEOUT FUNCTION name=value...
  [ -z "$failed" ] || return 0
  tell begin "$1"
  if [ -n "$cancelled" ]; then code=130; else
    timeout --kill-after=5 "$2" bash --norc -euo pipefail "$library/main.sh" "${@:3}" </dev/null &
    child=$!
    [ -z "$cancelled" ] || kill -TERM "$child" 2>/dev/null
    wait "$child"; code=$?
    while kill -0 "$child" 2>/dev/null; do wait "$child"; code=$?; done
    # timeout looks no further than its own child: another one may take its time, or ignore TERM and keep the lock.
    [ "$code" = 0 ] || end_group "$child"
    child=''
    [ -z "$cancelled" ] || code=130
  fi
  tell end "$1" "$code"
  [ "$code" = 0 ] || failed=$1
}
rescue() { # step NUMBER ...: what is done only when one of the batch has failed
  if [ -z "$rescuing" ]; then
    [ -n "$failed" ] || return 0
    rescuing=1 failed='' cancelled=''
  fi
  "$@"
}
tell ready $$
while IFS=' ' read -r -t "$patience" word size name; do
  case $word in
    library) timeout "$patience" head -c "$size" | tar -xzf - -C "$library" || exit 1 ;;
    file)
      (umask 077; timeout "$patience" head -c "$size" >"$files/$name")
      [ "$(stat -c %s "$files/$name")" = "$size" ] || exit 1 ;;
    batch)
      timeout "$patience" head -c "$size" >"$work/batch"
      [ "$(stat -c %s "$work/batch")" = "$size" ] || exit 1
      failed='' cancelled='' rescuing=''
      # shellcheck source=/dev/null
      . "$work/batch"
      tell "done"
      [ -z "$mute" ] || exit 1 ;; # a full disk swallowed what the client waits for
    bye) exit 0 ;;
  esac
done
