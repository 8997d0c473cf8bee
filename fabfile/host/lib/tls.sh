# The certificate with which nginx speaks https: made or judged by provision (as root), looked at by everybody.
#
# nginx finds it by TLS_FILE, whose line `# tls WORDS` says what it was made for (plan/certificate.py).
set -euo pipefail

CERTBOT_LIVE=/etc/letsencrypt/live/$UNIT
# A certificate that nobody takes, with which nginx can start until there is one of an ACME server.
PLACEHOLDER=${TLS_FILE%.conf}-placeholder

# Write TLS_FILE before the site, which includes it, is installed: for a pair of files that are judged first, or for a
# placeholder where no ACME server has certified the site yet.
prepare_tls() {
  local words names certificate key
  local "$@"
  judge_tls "$certificate" "$key" "$names"
  if [ -n "$certificate" ]; then
    write_tls "$words" "$certificate" "$key"
  else
    install -d -m 755 "$ACME_ROOT"
    [ -e "$TLS_FILE" ] || write_placeholder
  fi
}

# Refuse what stands against https: when the server is looked at, and again when openssl is surely there:
# judge_tls CERTIFICATE KEY NAMES
judge_tls() {
  refuse_other_listener 443 "to speak https" ", or take tls out of hosts.toml"
  if [ -n "$1" ] && type -P openssl >/dev/null; then judge_pair "$@"; fi
}

write_placeholder() {
  install -d -m 700 "$PLACEHOLDER"
  [ -s "$PLACEHOLDER/cert.pem" ] || openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 3650 \
    -subj '/CN=no certificate yet' -keyout "$PLACEHOLDER/key.pem" -out "$PLACEHOLDER/cert.pem" 2>/dev/null
  write_tls placeholder "$PLACEHOLDER/cert.pem" "$PLACEHOLDER/key.pem"
}

# Refuse a pair that browsers or nginx would refuse, before anything uses it: judge_pair CERTIFICATE KEY NAMES
judge_pair() {
  local file name lacked='' of_key
  for file in "$1" "$2"; do
    [ -r "$file" ] || lacks "$file is not on this server" "put it there, or correct tls in hosts.toml"
  done
  # openssl itself would take other forms, too.
  openssl x509 -noout -in <(grep . "$1" | sed -n '/BEGIN CERTIFICATE/,$p') 2>/dev/null || lacks "$1 is no certificate in PEM form" \
    "openssl x509 -inform der -in $1 -out NEW.pem, if it is one in DER form"
  of_key=$(openssl pkey -inform pem -in "$2" -passin pass: -pubout 2>/dev/null) || lacks \
    "$2 is no private key that can be read without a passphrase" "openssl pkey -in $2 -out NEW.key writes one without"
  [ "$(openssl x509 -noout -pubkey -in "$1")" = "$of_key" ] || lacks "the key $2 does not fit the certificate $1" \
    "name the key that it was made with: key in tls of hosts.toml"
  openssl x509 -noout -checkend 0 -in "$1" >/dev/null || lacks \
    "the certificate $1 ended on $(ends_on "$(openssl x509 -noout -enddate -in "$1")")" \
    "put a renewed one there, then the same command again"
  for name in $3; do
    is_for "$name" <"$1" || lacked="$lacked${lacked:+, }$name"
  done
  [ -z "$lacked" ] || lacks "the certificate $1 is not for $lacked, but for $(names_of <"$1")" \
    "take one that is, or correct domain and aliases in hosts.toml"
}

# End the step, for a reason and with what mends it: lacks REASON NEXT
lacks() {
  echo "failed: $1"
  echo "next: $2"
  exit 1
}

# Whether the certificate on standard input is for a name: is_for NAME
is_for() { openssl x509 -noout -checkhost "$1" | grep -q ' does match '; }

# The names of the certificate on standard input.
names_of() {
  local found
  found=$(openssl x509 -noout -ext subjectAltName 2>/dev/null | sed -n 's/DNS:/ /gp' | tr -d ' ' | sed 's/,/, /g' || true)
  echo "${found:-no name}"
}

# The day, from a line like notAfter=Feb 24 10:00:00 2027 GMT: ends_on LINE
ends_on() { date -u -d "${1#*=}" +%Y-%m-%d; }

# Write TLS_FILE if it is not so already, and let a running nginx take it up; what it refuses is put back:
# write_tls WORDS CERTIFICATE KEY
write_tls() {
  local new=$DEPLOY_WORK/tls.conf http2=' http2' version
  version=$(/usr/sbin/nginx -v 2>&1 | sed -E 's/.*nginx\/([0-9.]+).*/\1/')
  printf '# Written by provision of the deploy tool.\n# tls %s\n' "$1" >"$new"
  if dpkg --compare-versions "$version" ge 1.25.1; then # it warns of the other way
    http2=''
    echo 'http2 on;' >>"$new"
  fi
  printf 'listen %s;\n' "443 ssl$http2" "[::]:443 ssl$http2" >>"$new"
  printf 'ssl_certificate %s;\nssl_certificate_key %s;\n' "$2" "$3" >>"$new"
  ! cmp -s "$new" "$TLS_FILE" || return 0
  remember "$TLS_FILE"
  install -D -m 644 -o root -g root "$new" "$TLS_FILE"
  nginx_test || {
    put_remembered_back
    fail "nginx -t refuses the certificate; what was there before is back"
  }
  ! systemctl is-active --quiet nginx.service || systemctl reload nginx.service
  echo "changed: $TLS_FILE${1:+ ($1)}"
}

# Have the site certified by the ACME server, or its certificate renewed where that is due, and let nginx take it up.
obtain_certificate() {
  local words names email acme_server
  local "$@"
  local name now renewal=/etc/letsencrypt/renewal/$UNIT.conf
  local -a further=()
  answers_challenges "${names%%$'\n'*}"
  for name in $names; do further+=(--domain "$name"); done
  # Of another server's certificate certbot would see nothing to do before it ends.
  [ ! -e "$renewal" ] || grep -qxF "server = $acme_server" "$renewal" || further+=(--force-renewal)
  now=$(cat "$CERTBOT_LIVE/fullchain.pem" 2>/dev/null || true)
  certbot certonly --non-interactive --agree-tos --email "$email" --server "$acme_server" --key-type ecdsa \
    --webroot --webroot-path "$ACME_ROOT" --cert-name "$UNIT" --keep-until-expiring --renew-with-new-domains \
    --deploy-hook 'systemctl reload nginx.service' "${further[@]}" >"$DEPLOY_WORK/certbot" 2>&1 </dev/null || is_certified || refused_by_acme
  [ "$now" = "$(cat "$CERTBOT_LIVE/fullchain.pem")" ] ||
    echo "changed: certificate of ${names//$'\n'/, }, until $(ends_on "$(openssl x509 -noout -enddate -in "$CERTBOT_LIVE/fullchain.pem")")"
  write_tls "$words" "$CERTBOT_LIVE/fullchain.pem" "$CERTBOT_LIVE/privkey.pem"
}

# Whether the caller's `names` have a certificate of its `words` that holds for ten days, whatever certbot says just now.
is_certified() {
  grep -qxF "# tls $words" "$TLS_FILE" && openssl x509 -noout -checkend 864000 -in "$CERTBOT_LIVE/fullchain.pem" >/dev/null || return
  echo "certbot cannot renew the certificate now, and it holds until $(ends_on "$(openssl x509 -noout -enddate -in "$CERTBOT_LIVE/fullchain.pem")"):" \
    "$(last_word_of_certbot)"
}

last_word_of_certbot() { grep -v -e '^Saving debug log' -e '^Ask for help' -e '^ *$' "$DEPLOY_WORK/certbot" | tail -n 1; }

# See that this host's own nginx answers an ACME server, so that what it says of others is not hidden by that:
# answers_challenges NAME
answers_challenges() {
  local path=/.well-known/acme-challenge/$UNIT said='' end=$((SECONDS + 10))
  install -d -m 755 "$ACME_ROOT/.well-known" "$ACME_ROOT/.well-known/acme-challenge"
  echo "$UNIT" >"$ACME_ROOT$path"
  chmod 644 "$ACME_ROOT$path"
  until [ "$said" = "$UNIT" ] || [ "$SECONDS" -ge "$end" ]; do # nginx may still be about to read its new site
    said=$(curl --silent --max-time 5 --header "Host: $1" "http://127.0.0.1$path" || true)
    [ "$said" = "$UNIT" ] || sleep 0.2
  done
  rm -f "$ACME_ROOT$path"
  [ "$said" != "$UNIT" ] || return 0
  [ ! -e "$CURRENT" ] || lacks "the site that is live does not answer for certificates yet" \
    "without tls in hosts.toml: fab -H NAME deploy; with it: fab -H NAME provision, then deploy"
  fail "nginx does not answer for http://$1/.well-known/acme-challenge/ from $ACME_ROOT: another site has that name"
}

# Say why there is no certificate, in the words of the server that refused it.
refused_by_acme() {
  local domain kind detail
  cat "$DEPLOY_WORK/certbot"
  domain=$(acme_said Domain)
  kind=$(acme_said Type)
  detail=$(acme_said Detail)
  if [ -z "$detail" ]; then
    detail=$(last_word_of_certbot)
    lacks "certbot: ${detail:-gave no reason}" "see that this server reaches $acme_server, then: fab -H NAME provision"
  fi
  case $kind in
    dns) lacks "no certificate for $domain: $detail" \
      "let the name $domain lead to this server (an A record, and AAAA if it has IPv6), then: fab -H NAME provision" ;;
    *) lacks "no certificate for $domain ($kind): $detail" \
      "see that $domain leads to this server, and port 80 is open to everybody, then: fab -H NAME provision" ;;
  esac
}

# What certbot says that the server said of the first name: acme_said FIELD
acme_said() { sed -nE "s/^ *$1: +//p" "$DEPLOY_WORK/certbot" | head -n 1; }

# Take TLS_FILE away when neither hosts.toml nor the site wants it any more; the certificate stays.
forget_tls() {
  [ -e "$TLS_FILE" ] || return 0
  if grep -qsF "$TLS_FILE" "$SITE_FILE"; then
    echo "https is still spoken: the next deploy ends it"
    return
  fi
  rm -f "$TLS_FILE"
  rm -rf "$PLACEHOLDER"
  echo "changed: $TLS_FILE is gone"
  [ ! -e "$CERTBOT_LIVE" ] || echo "the certificate is kept, and renewed; to end that: certbot delete --cert-name $UNIT"
}

# What nginx shows who comes by https, a line each: `certificate BEGINS ENDS ISSUER`, in seconds since 1970, and
# `certificate_misses WHAT` where it is not for all names. As a check it fails only where there is none: who asks judges
# the rest. A new site may need a moment, until `end` of the caller: look_at_certificate NAMES
look_at_certificate() {
  local served name begins ends issuer lacked=''
  until served=$(served_certificate "${1%%$'\n'*}"); do
    if [ "$SECONDS" -ge "$end" ]; then
      check certificate none ok "nobody speaks TLS on port 443"
      return
    fi
    sleep 0.2
  done
  check certificate ok ok
  begins=$(openssl x509 -noout -startdate <<<"$served")
  ends=$(openssl x509 -noout -enddate <<<"$served")
  issuer=$(openssl x509 -noout -issuer <<<"$served")
  echo "certificate $(date -d "${begins#*=}" +%s) $(date -d "${ends#*=}" +%s) ${issuer#*=}"
  for name in $1; do
    is_for "$name" <<<"$served" || lacked="$lacked${lacked:+, }$name"
  done
  [ -z "$lacked" ] || echo "certificate_misses $lacked, it is for $(names_of <<<"$served")"
}

# The certificate that nginx shows for a name: served_certificate NAME
served_certificate() {
  openssl s_client -connect 127.0.0.1:443 -servername "$1" </dev/null 2>/dev/null | openssl x509 2>/dev/null
}
