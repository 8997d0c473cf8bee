# The nginx site, and whether the site answers.
set -euo pipefail

STEADY=5 # answers in a row that must be 200 after a switch for the site to count as healthy

# Reload nginx, and wait until the workers of before take no new connection: a visitor meets the new site from then on.
reload_nginx() {
  local pid workers end=$((SECONDS + 10))
  workers=$(pgrep -xf 'nginx: worker process' || true)
  as_root reload_nginx
  for pid in $workers; do
    while accepts "$pid" && [ "$SECONDS" -lt "$end" ]; do sleep 0.05; done
  done
}

# Whether that process is a worker of nginx which is not about to end: accepts PID
accepts() {
  local words=''
  { read -rd '' words <"/proc/$1/cmdline"; } 2>/dev/null || true
  [ "${words%"${words##*[! ]}"}" = 'nginx: worker process' ]
}

# The checks in order, a line each: `check NAME ok [FOUND]` or `check NAME failed DETAIL`. Health may take `wait`
# seconds. Fails when one of them does, unless it only looks.
check_site() {
  local health_path headers names proxy certified mark wait only_look
  local "$@"
  local answer visitor='' failed='' times=1 tries=3 end=$((SECONDS + wait))
  local -a active
  # A site that was made from other settings, and that the next deploy replaces, sets another mark, or none.
  grep -qs "X-Django-Deploy $mark" "$SITE_FILE" || mark=''
  if [ -n "$only_look" ]; then # it waits for nothing, and so the visitor comes meanwhile
    tries=1
    visit_site &
    visitor=$!
  fi
  until ask_health && [ "$answer" = 200 ] || [ "$SECONDS" -ge "$end" ]; do sleep 0.2; done
  mapfile -t active < <(systemctl is-active "$UNIT.service" nginx.service || true)
  if [ -S "$SOCKET" ]; then
    answer=$(ask "$health_path" "$headers" /dev/null --unix-socket "$SOCKET")
    check gunicorn_socket "$answer" '[1-9]??' "nobody answers at $SOCKET"
  else
    check gunicorn_socket missing ok "$SOCKET is missing"
  fi
  check systemd_active "${active[0]:-}" active "$UNIT is ${active[0]:-}"
  check nginx_running "${active[1]:-}" active "nginx is ${active[1]:-}"
  # Another worker may answer now, one that needs a moment more; so several times in a row.
  [ -n "$only_look" ] || times=$STEADY
  until ask_health && [ "$answer" = 200 ] || [ "$SECONDS" -ge "$end" ]; do sleep 0.2; done
  check http_200 "$answer" 200 "$health_path answers $answer"
  [ -z "$certified" ] || look_at_certificate "$certified"
  if [ -z "$visitor" ]; then
    visit_site &
    visitor=$!
  fi
  if wait "$visitor"; then
    echo "check visitor ok $(cat "$DEPLOY_WORK/visitor")"
  else
    check visitor broken ok "$(cat "$DEPLOY_WORK/visitor")"
  fi
  [ -n "$only_look" ] || [ -z "$failed" ] || exit 1
}

# Come as a visitor, `tries` times; what he finds is in the file `visitor`: of check_site.
visit_site() {
  visit "$tries" "names=$names" "proxy=$proxy" "health_path=$health_path" "mark=$mark" "page=$MAINTENANCE" \
    >"$DEPLOY_WORK/visitor"
}

# Ask nginx for the health path, `times` in a row, as `answer`: of check_site. Where its site hides it behind the
# maintenance page, gunicorn.
ask_health() {
  ask_in_a_row
  [ "$answer" = 503 ] && [ -f "$MAINTENANCE" ] || return 0
  ask_in_a_row --unix-socket "$SOCKET"
}

# The same, by one curl, with further options; the first of the answers that is not 200 counts: ask_in_a_row [OPTION]...
ask_in_a_row() {
  local number
  local -a further=()
  for ((number = 1; number < times; number++)); do further+=(--output /dev/null "http://127.0.0.1$health_path"); done
  answer=$(ask "$health_path" "$headers" /dev/null "${further[@]}" "$@")
  answer=$(grep -vxm1 200 <<<"$answer" || echo 200)
}

# Say how one check went: check NAME SEEN WANTED DETAIL
check() {
  # shellcheck disable=SC2053 # WANTED is a pattern
  if [[ $2 == $3 ]]; then
    echo "check $1 ok"
  else
    echo "check $1 failed $4"
    failed=1
  fi
}
