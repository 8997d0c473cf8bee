# The commands of hosts.toml that a new release brings with it: run in its project folder, proven before the switch.
set -euo pipefail

# Run one of them: run_command ... `words`, one a line, of the list `setting`. manage.py runs as in migrate; another
# program has the secrets only if `secrets` says so. Neither gets the lock: what it leaves running could keep it.
run_command() {
  # shellcheck disable=SC2034 # those that manage reads
  local release project manage_py doppler_project doppler_config lock setting words secrets
  local "$@"
  local program
  local -a command doppler=()
  mapfile -t command <<<"$words"
  trap 'explain_end "$?"' EXIT
  if [ "${command[0]}" = manage.py ]; then
    manage "${command[@]:1}" 9>&-
    return
  fi
  enter_project
  program=$(type -P "${command[0]}") || no_program "$setting" "${command[0]}"
  if [ -n "$secrets" ]; then
    load_service_environment
    doppler_run "$doppler_project" "$doppler_config"
  else
    forget_login
  fi
  # By its path: bash would take a function of this library, or a word of its own, for a program of that name.
  "${doppler[@]}" "$program" "${command[@]:1}" 9>&-
}

# Go to where the caller's commands run, with the programs of the virtualenv before all others.
enter_project() {
  cd "$release/$project"
  export LANG=${LANG:-C.UTF-8} PATH=$release/.venv/bin:$PATH
}

# Leave with a code that says no more than that the command failed: the runner takes some for its own.
explain_end() {
  case $1 in
    124) fail "the command ended with 124" ;;
    137) # 128 + SIGKILL
      echo "failed: the command was killed, mostly because the host ran out of memory"
      echo "next: see the end of the kernel's log (journalctl -k) on the host, give it more memory or swap; then the same command again"
      exit 1
      ;;
    "$NO_RIGHT") fail "the command ended with $1" ;;
  esac
}

# Refuse a command of SETTING whose program is neither on the host nor in the virtualenv; the reason begins with BEGIN:
# no_program SETTING NAME [BEGIN]
no_program() {
  local package=$2
  case $2 in
    */*)
      echo "failed: ${3-}the release has no program $2, seen from its folder $project, or it may not be executed"
      echo "next: commit it, executable (git update-index --chmod=+x), or correct $1 in hosts.toml; then the same command again"
      exit 1
      ;;
    node | npx) package=npm ;;
    yarn) package=yarnpkg ;;
  esac
  echo "failed: ${3-}$2: command not found, neither on the host nor in the virtualenv"
  echo "next: install it on the host, as root (apt install $package, mostly), or correct $1 in hosts.toml; then the same command again"
  exit 1
}

# See that commands which come later can start, without running them: `programs` has lines like `before_switch npm`,
# `commands` those of manage.py, like `after_switch manage.py clear_cache`.
prove_commands() {
  # shellcheck disable=SC2034 # those that prove_starts reads
  local release project manage_py doppler_project doppler_config programs commands
  local "$@"
  local setting name
  enter_project
  while read -r setting name; do
    [ -z "$setting" ] || type -P "$name" >/dev/null || no_program "$setting" "$name" "$setting: "
  done <<<"$programs"
  [ -z "$commands" ] || prove_starts "$commands"
}
