# The proof: the new release's own gunicorn with its real secrets on a private socket, before anyone sees it.
#
# The runner's work folder goes with the runner, and so does every process group whose leader stands in a *.pid file there.
set -euo pipefail

PROOF=$DEPLOY_WORK/proof

# Begin to boot the release; prove_boot waits for it, so that it boots while static files are collected.
start_proof() {
  local release project wsgi doppler_project doppler_config limit
  local "$@"
  local -a doppler
  mkdir -m 700 "$PROOF"
  load_service_environment
  cd "$release/$project"
  export RUNTIME_DIRECTORY=$PROOF DEPLOY_PROOF=1 DEPLOY_LIVE_MASTER=$STATE/master.json
  doppler_run "$doppler_project" "$doppler_config"
  setsid bash --norc "$DEPLOY_LIBRARY/main.sh" watched timeout --kill-after=5 "$limit" "${doppler[@]}" \
    "$release/.venv/bin/python" -m gunicorn --config "$release/.deploy/gunicorn.conf.py" \
    --chdir "$release/$project" --workers 1 --bind "unix:$PROOF/sock" --pid "$PROOF/gunicorn.pid" "$wsgi" \
    </dev/null >"$PROOF/log" 2>&1 9>&- &
  echo $! >"$DEPLOY_WORK/proof.pid"
}

# Become a command that ends with the runner, were that killed: a member of its process group watches it.
watched() {
  (
    while kill -0 "$DEPLOY_RUNNER" 2>/dev/null; do sleep 1; done
    kill -KILL 0
  ) &
  exec "$@"
}

# Wait until the private gunicorn has loaded the app; its log is the evidence if it does not.
prove_boot() {
  local limit
  local "$@"
  local leader end=$((SECONDS + limit))
  local -a marks
  read -r leader <"$DEPLOY_WORK/proof.pid"
  until marks=("$PROOF"/up/[0-9]*) && [ -e "${marks[0]}" ] && [ -s "$PROOF/master.json" ]; do
    kill -0 "$leader" 2>/dev/null || {
      cat "$PROOF/log"
      exit 1
    }
    [ "$SECONDS" -lt "$end" ] || {
      cat "$PROOF/log"
      fail "it did not boot within $limit s"
    }
    sleep 0.05
  done
}

# Answer with one line of JSON: what differs between the running master and the proof's, for plan/activation.py.
compare_masters() {
  local release
  local "$@"
  "$release/.venv/bin/python" "$DEPLOY_LIBRARY/programs/compare_masters.py" \
    "$STATE/master.json" "$PROOF/master.json"
}

# Ask the release for its health on the private socket, as nginx would ask it.
# 503 says "not yet" (RFC 9110, 15.6.4) and is asked again for `limit` seconds; another, three times.
prove_health() {
  local health_path headers limit
  local "$@"
  local status tries=1 end=$((SECONDS + limit))
  while status=$(ask "$health_path" "$headers" "$PROOF/answer" --unix-socket "$PROOF/sock" --max-time "$limit" --show-error) &&
    [ "$status" != 200 ] && [ "$SECONDS" -le "$end" ]; do # at least `limit`: SECONDS is whole seconds
    [ "$status" = 503 ] || [ "$tries" -lt 3 ] || break
    tries=$((tries + 1))
    sleep 0.5
  done
  if [ "$status" != 200 ]; then
    echo "$health_path answered:"
    head -c 2000 "$PROOF/answer" 2>/dev/null || true
    echo
    echo "its log:"
    tail -n 40 "$PROOF/log"
    fail "$health_path answered $status, not 200"
  fi
}

# End the proof with all its children, at once: nobody else ever spoke to it.
stop_proof() {
  local leader
  leader=$(cat "$DEPLOY_WORK/proof.pid" 2>/dev/null || true)
  if [ -n "$leader" ]; then
    kill -KILL -- "-$leader" 2>/dev/null || true
    while kill -0 -- "-$leader" 2>/dev/null; do sleep 0.02; done
  fi
  rm -rf "$PROOF" "$DEPLOY_WORK/proof.pid"
}

# Come to the release as a visitor does, without the health request's headers; answers with what he finds.
# `new` says that it was built by this run: one that was live before may lack files of its pages.
prove_visitors() {
  local release project names proxy static_url static_root new
  local "$@"
  local said code=0
  said=$(visit 3 "names=$names" "proxy=$proxy" "socket=$PROOF/sock" "static_url=$static_url" \
    "static_root=$release/$project/$static_root" "new=$new") || code=$?
  if [ "$code" = 1 ]; then # its log may tell more
    echo "its log:"
    tail -n 40 "$PROOF/log"
  fi
  [ "$code" = 0 ] || fail "$said"
  echo "$said"
}
