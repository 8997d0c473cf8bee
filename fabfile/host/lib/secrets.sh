# The app's secrets: their names, a value, Doppler's token. Values are in files and environments, never in an argument.
set -euo pipefail

# Answer with the names of the secrets, one a line.
list_secrets() {
  local doppler_project doppler_config
  local "$@"
  local -a doppler
  local before
  if [ "$SECRETS_IN" = file ]; then
    secrets_file names
    return
  fi
  load_service_environment
  doppler_run "$doppler_project" "$doppler_config"
  before=$(bash -c 'compgen -e')
  "${doppler[@]}" bash -c 'compgen -e' >"$DEPLOY_WORK/names"
  grep -vxF -e "$before" "$DEPLOY_WORK/names" || true
}

# Set the secret `name` to what is in the file `value` sent to the runner; answers with `changed` or `same`.
set_secret() {
  local name
  local "$@"
  secrets_file set "$name" "$DEPLOY_FILES/value"
}

# Take the secret `name` away; answers with `changed` or `none`.
unset_secret() {
  local name
  local "$@"
  secrets_file unset "$name"
}

# Put another Doppler token (sent to the runner as doppler.env) in place of the old one, if Doppler takes it.
replace_token() {
  local doppler_project doppler_config
  local "$@"
  local sent=$DEPLOY_FILES/doppler.env
  try_token "$sent" || refuse_token "the token that was given"
  if cmp -s "$sent" "$SECRETS"; then
    echo same
  else
    cat "$sent" >"$SECRETS" # the folder is root's
    echo changed
  fi
}

# Answer with the names of secrets that the running gunicorn does not have as they are set now; with nothing where nothing
# runs, or Doppler does not answer.
look_at_secrets() {
  local doppler_project doppler_config
  local "$@"
  local -a doppler names
  kill -0 "$(cat "$PID_FILE" 2>/dev/null || echo no)" 2>/dev/null || return 0
  (
    load_plain_environment
    mapfile -t names < <(bash -c 'compgen -e')
    load_service_environment
    doppler_run "$doppler_project" "$doppler_config"
    "${doppler[@]}" python3 -IS "$DEPLOY_LIBRARY/programs/changed_secrets.py" "$STATE/master.json" "$DIGEST_KEY" \
      DOPPLER_TOKEN "${names[@]}"
  ) 2>/dev/null || true
}
