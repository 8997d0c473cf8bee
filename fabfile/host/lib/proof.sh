# The proof: the new release's own gunicorn with its real secrets on a private socket, before anyone sees it.
#
# The runner's work folder goes with the runner, and so does every process group whose leader stands in a *.pid file there.
set -euo pipefail

PROOF=$DEPLOY_WORK/proof

# Begin to boot the release; prove_boot waits for it, so that it boots while static files are collected.
start_proof() {
  local release project wsgi doppler_project doppler_config patience
  local "$@"
  local -a doppler
  mkdir -m 700 "$PROOF"
  load_service_environment
  cd "$release/$project"
  export RUNTIME_DIRECTORY=$PROOF DEPLOY_PROOF=1 DEPLOY_LIVE_MASTER=$STATE/master.json
  export DEPLOY_ASK=$DEPLOY_LIBRARY/programs/ask_django.py DEPLOY_FORK_SERVER=$DEPLOY_LIBRARY/programs/fork_server.py
  doppler_run "$doppler_project" "$doppler_config"
  setsid bash --norc "$DEPLOY_LIBRARY/main.sh" watched timeout --kill-after=5 "$patience" "${doppler[@]}" \
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

# Wait until the private gunicorn has loaded the app; its log is the evidence if it does not. An app that has to read
# the list of the static files as it loads is loaded once more, now that they are `collected`.
prove_boot() {
  local release project wsgi doppler_project doppler_config limit patience collected
  local "$@"
  local trouble
  await_proof "$limit" has_booted
  if [ -n "$collected" ] && wants_static_list; then
    stop_proof
    start_proof "release=$release" "project=$project" "wsgi=$wsgi" "doppler_project=$doppler_project" \
      "doppler_config=$doppler_config" "patience=$patience"
    await_proof "$limit" has_booted
  fi
  [ -n "$trouble" ] || return 0
  cat "$PROOF/log"
  [ "$trouble" = ended ] || fail "$trouble"
  explain_boot
  exit 1
}

# Wait until the proof has come so far, or `trouble` says why it has not: it `ended`, or takes more than LIMIT seconds:
# await_proof LIMIT has_loaded, or has_booted
await_proof() {
  local leader end=$((SECONDS + $1))
  trouble=''
  read -r leader <"$DEPLOY_WORK/proof.pid"
  until "$2"; do
    if ! kill -0 "$leader" 2>/dev/null; then
      trouble=ended
      return
    fi
    if [ "$SECONDS" -ge "$end" ]; then
      trouble="it did not boot within $1 s"
      return
    fi
    sleep 0.02
  done
}

# Whether it has the app loaded, and so runs commands in forks of itself, or says that it cannot.
has_loaded() { [ -S "$PROOF/loaded" ] || [ -e "$PROOF/loaded.none" ] || has_booted; }

has_booted() {
  local -a marks=("$PROOF"/up/[0-9]*)
  [ -e "${marks[0]}" ] && [ -s "$PROOF/master.json" ]
}

# The socket at which the proof runs commands; nothing where there is none.
fork_server() {
  local name
  for name in warm loaded; do
    [ ! -S "$PROOF/$name" ] || { echo "$PROOF/$name" && return; }
  done
}

# Whether the app that has just booted, or failed to, looked for hashed names when the list of them was not made yet.
wants_static_list() {
  case $trouble in
    '') grep -q '"static_list": true' "$PROOF/django.json" 2>/dev/null ;;
    ended) grep -qi manifest "$PROOF/log" ;;
    *) return 1 ;;
  esac
}

# Say what in hosts.toml may be why the caller's release did not boot.
explain_boot() {
  local module=${wsgi%%:*}
  if blame_missing_link; then return; fi
  if grep -q -e "No module named '${module%%.*}'" -e "No module named '$module'" -e 'Failed to find attribute' "$PROOF/log"; then
    echo "failed: gunicorn finds no $wsgi (wsgi and project in hosts.toml); the commit has: $(wsgi_modules)"
    echo "next: correct wsgi in hosts.toml, then the same command again"
  fi
}

# The files of the caller's release that look like what gunicorn serves, in a line.
wsgi_modules() {
  (cd "$release" && git ls-files '*wsgi.py' '*asgi.py' | head -n 5 | paste -sd ' ')
}

# Refuse a release whose data would be lost with it, before a migration goes there; tell what judge_data.py tells, and of
# each migration that is not applied yet what it is (programs/preview_migrations.py).
prove_data() {
  local release project manage_py doppler_project doppler_config linked_dirs linked_files writable media media_url new
  local "$@"
  "$release/.venv/bin/python" -IS "$DEPLOY_LIBRARY/programs/judge_data.py" "answers=$PROOF/django.json" \
    "release=$release" "project=$project" "releases=$RELEASES" "app=$APP" "shared=$SHARED" \
    "linked_dirs=$linked_dirs" "linked_files=$linked_files" "writable=$writable" "media=$media" \
    "media_url=$media_url" "new=$new" | tee "$DEPLOY_WORK/judged"
  ! grep -q '^unapplied ' "$DEPLOY_WORK/judged" || in_app preview_migrations.py "$manage_py" ||
    echo "note: what the migrations would do cannot be told"
}

# Answer with one line of JSON: what differs between the running master and the proof's, for plan/activation.py.
compare_masters() {
  local release
  local "$@"
  "$release/.venv/bin/python" -IS "$DEPLOY_LIBRARY/programs/compare_masters.py" \
    "$STATE/master.json" "$PROOF/master.json"
}

# Ask the release for its health on the private socket, as nginx would ask it.
# 503 says "not yet" (RFC 9110, 15.6.4) and is asked again for `limit` seconds; another, three times.
prove_health() {
  local health_path headers limit
  local "$@"
  local status tries=1 end=$((SECONDS + limit))
  while status=$(ask "$health_path" "$headers" "$PROOF/answer" --unix-socket "$PROOF/sock" --max-time "$limit" --show-error --dump-header "$PROOF/head") &&
    [ "$status" != 200 ] && [ "$SECONDS" -le "$end" ]; do # at least `limit`: SECONDS is whole seconds
    [ "$status" = 503 ] || [ "$tries" -lt 3 ] || break
    tries=$((tries + 1))
    sleep 0.5
  done
  if [ "$status" != 200 ]; then
    explain_health
    exit 1
  fi
}

# Say what the caller's health path answered instead of 200, and what that mostly means.
explain_health() {
  local text to host
  host=$(sed -n 's/^Host: //p' <<<"$headers")
  text=$(python3 -IS "$DEPLOY_LIBRARY/programs/text_of.py" "$PROOF/answer" || true)
  [ -z "$text" ] || printf '%s answered:\n%s\n' "$health_path" "$text"
  [ ! -s "$PROOF/log" ] || printf 'its log:\n%s\n' "$(tail -n 40 "$PROOF/log")"
  case $status in
    400)
      echo "failed: $health_path answered 400, not 200, asked with Host $host: is it in ALLOWED_HOSTS?"
      echo "next: add $host to the app's ALLOWED_HOSTS, or correct domain in hosts.toml, then the same command again"
      ;;
    30?)
      to=$(sed -n 's/^[Ll]ocation: *//p' "$PROOF/head" | tr -d '\r' | tail -n 1)
      [ "${to%/}" != "${to%"$health_path/"}$health_path" ] || to="$to, with a slash (APPEND_SLASH)"
      echo "failed: $health_path answered $status, not 200: it redirects to $to"
      echo "next: name a path in hosts.toml that answers 200 itself (health_path), then the same command again"
      ;;
    404)
      echo "failed: $health_path answered 404, not 200: the app has no such page"
      echo "next: name one that it has in hosts.toml (health_path), or add a health view (docs/your-app.md), then the same command again"
      ;;
    *) echo "failed: $health_path answered $status, not 200" ;;
  esac
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
  local release names proxy static_url static_root new
  local "$@"
  local said code=0
  said=$(visit 3 "names=$names" "proxy=$proxy" "socket=$PROOF/sock" "static_url=$static_url" \
    "static_root=$release/$static_root" "new=$new") || code=$?
  if [ "$code" = 1 ]; then # its log may tell more
    echo "its log:"
    tail -n 40 "$PROOF/log"
  fi
  [ "$code" = 0 ] || fail "$said"
  echo "$said"
}
