# Makes the key with which the lab's ACME server speaks https, once, and lets the host trust it.
set -eu
authority=/usr/local/share/ca-certificates/lab-acme.crt
[ ! -e "$authority" ] || exit 0
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 365 -subj '/CN=ACME server of the lab' \
  -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout /srv/lab/acme/key.pem -out "$authority.new"
mv "$authority.new" "$authority"
update-ca-certificates
