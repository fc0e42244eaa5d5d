#!/usr/bin/env bash
# rathole: the server is the public edge, the client dials out from the hub; a pooled connection per client
# connection; no PROXY header. Datagrams go as frames over one such connection. Variants: tls (OpenSSL, as in its
# releases), noise.
here=$(cd "$(dirname "$0")" && pwd)
PATH=$OUT/peers/bin:$PATH
needs=rathole install="cargo install --locked --path '$here/rathole' --root '$OUT/peers' --target-dir '$OUT/target'"
. "$(dirname "$0")/lib.sh"
listen=$((BASE_PORT + 40)) tunnel=$((BASE_PORT + 41))
if [[ ${variant:=tls} == noise ]]; then
  keys=$(rathole --genkey)
  key() { sed -n "/$1/{n;p}" <<<"$keys"; }
  server="local_private_key = \"$(key Private)\""
  client="remote_public_key = \"$(key Public)\""
else
  server="pkcs12 = \"$certs/identity.pfx\"
pkcs12_password = \"bench\""
  client="trusted_root = \"$certs/ca.pem\"
hostname = \"localhost\""
fi
config() { # side, its address, content of the transport, content of the service
  cat >"$dir/$1.toml" <<X
[$1]
default_token = "bench"
$2
[$1.transport]
type = "$variant"
[$1.transport.$variant]
$3
[$1.services.relay]
$4
$([[ ! ${UDP:-} ]] || printf '[%s.services.datagrams]\ntype = "udp"\n%s\n' "$1" "$4")
X
}
config server "bind_addr = \"$edge_address:$tunnel\"" "$server" "bind_addr = \"127.0.0.1:$listen\""
config client "remote_addr = \"$edge_address:$tunnel\"" "$client" "local_addr = \"127.0.0.1:$target\""
export RUST_LOG=warn
spawn edge rathole --server "$dir/server.toml"
wait_port "$tunnel" "$edge_address"
spawn hub rathole --client "$dir/client.toml"
wait_port "$listen"
wait_echo "$listen"
wait_udp_echo "$listen"
echo "listen=127.0.0.1:$listen pids=$pid_edge,$pid_hub"
