# Goes to a lab host with the library when a fault is to hit a step: what testbed/driver.py puts around its function.
set -euo pipefail

TOKEN='@fault' # begins a line by which a step speaks to the driver
exec 7>&1      # where it says so, whatever the step does with its output

# Call a function of the library with a fault in it: with_fault fault=NAME at=... hold=... function=NAME name=value...
with_fault() {
  local fault=${1#*=} at=${2#*=} hold=${3#*=} function=${4#*=}
  shift 4
  "fault_$fault" "$@"
  "$function" "$@"
}

say_fault() { echo "$TOKEN" >&7; }

# The step does nothing and fails.
fault_fail() {
  say_fault
  echo "broken on purpose"
  exit 1
}

# The step does nothing and fails, every time; the driver is not told.
fault_broken() {
  echo "broken on purpose"
  exit 1
}

# The step does all of its work and fails. In a shell of its own, for it may have something to do at its exit, too.
fault_fail_late() {
  ("$function" "$@")
  say_fault
  fault_broken
}

# The step waits for its fault before its command number `at`.
fault_hold() { at_command "sleep $hold"; }

# The same, after `at` seconds.
fault_hold_later() { later sleep "$hold"; }

# The step is killed with its children: the group's leader is `timeout`, with this bash and all that it runs.
fault_killed() { at_command "kill -KILL -- -$PPID"; }

fault_killed_later() { later kill -KILL -- "-$PPID"; }

# The step tells how many commands it has run.
fault_count() {
  trap 'trap - DEBUG; echo "$TOKEN $DEPLOY_N" >&7' EXIT
  # shellcheck disable=SC2016 # counted then
  count 'DEPLOY_N=$((DEPLOY_N + 1))'
}

at_command() {
  local then=$1
  # shellcheck disable=SC2064 # what is to happen is known now; the number is counted then
  count "if [ \$((DEPLOY_N += 1)) = $at ]; then say_fault; $then; fi"
}

# Run something before every command of the step, in its functions too.
count() {
  DEPLOY_N=0
  set -o functrace
  # shellcheck disable=SC2064
  trap "$1" DEBUG
}

later() {
  (
    sleep "$at"
    say_fault
    "$@"
  ) 9>&- &
}
