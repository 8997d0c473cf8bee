# A person's commands in the live release, and what ends them.
set -euo pipefail

# Answer with the live release and the runner's folder: `release FOLDER`, `work FOLDER`.
find_live() {
  local release
  release=$(readlink -e "$CURRENT" || true)
  [ -n "$release" ] || {
    echo "failed: no release is live yet"
    echo "next: fab -H NAME deploy"
    exit 1
  }
  echo "release $release"
  echo "work $DEPLOY_WORK"
}

# Run a person's command in a release, with its secrets and its virtualenv: of manage_py, or any, when that is empty.
# Its words are in the file `words` sent to the runner, a NUL behind each. By the release's real folder: the next deploy
# may switch meanwhile, and prunes no release in which a process works.
run_by_hand() {
  # shellcheck disable=SC2034 # one that program_for reads
  local release project manage_py doppler_project doppler_config lock
  local "$@"
  local terminal=${TERM-} code=0 interrupted=''
  local -a words doppler program
  mapfile -t -d '' words <"$DEPLOY_FILES/words"
  echo $$ >"$DEPLOY_WORK/command.pid" # with the runner goes this group
  trap 'interrupted=1' INT # of a terminal; the command has it, too, and may go on
  load_service_environment
  export LANG=${LANG:-C.UTF-8} PATH=$release/.venv/bin:$PATH VIRTUAL_ENV=$release/.venv
  [ -z "$terminal" ] || export TERM=$terminal
  if [ -n "$manage_py" ]; then
    # Who names other settings means them; who names none means the website's.
    case " ${words[*]} " in *' --settings'*) ;; *) export DEPLOY_WEBSITE=$STATE/up ;; esac
    program_for "${words[0]}"
    in_python "${program[@]}" "$manage_py" "${words[@]}" || code=$?
  else
    cd "$release/$project"
    doppler_run "$doppler_project" "$doppler_config"
    "${doppler[@]}" "${words[@]}" || code=$?
  fi
  rm "$DEPLOY_WORK/command.pid" # what it has left in the background stays, as after a login
  [ -z "$interrupted" ] || [ "$code" = 0 ] || code=130
  return "$code"
}

# End the command that runs in a channel of its own, with its children.
end_command() {
  local group
  group=$(cat "$DEPLOY_WORK/command.pid" 2>/dev/null) || return 0
  kill -TERM -- "-$group" 2>/dev/null || return 0
  for _ in {1..50}; do
    kill -0 -- "-$group" 2>/dev/null || return 0
    sleep 0.1
  done
  kill -KILL -- "-$group" 2>/dev/null || true
}
