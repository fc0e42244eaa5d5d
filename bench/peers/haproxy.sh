#!/usr/bin/env bash
# Two HAProxy hops, PROXY v1 to the target. Variants: tls (a TLS connection per client connection), plain.
needs=haproxy install="apt-get install haproxy"
. "$(dirname "$0")/lib.sh"
listen=$((BASE_PORT + 10)) tunnel=$((BASE_PORT + 11))
server="127.0.0.1:$tunnel send-proxy-v2" bind="127.0.0.1:$tunnel accept-proxy"
if [[ ${variant:=tls} == tls ]]; then
  server+=" ssl verify none"
  bind+=" ssl crt $certs/both.pem"
fi
config() { # file, bind, server
  cat >"$dir/$1.cfg" <<X
global
  nbthread $cores
  maxconn 7000
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen relay
  bind $2
  server next $3
X
}
config edge "127.0.0.1:$listen" "$server"
config hub "$bind" "127.0.0.1:$target send-proxy"
spawn hub haproxy -db -f "$dir/hub.cfg"
spawn edge haproxy -db -f "$dir/edge.cfg"
wait_port "$tunnel"
wait_echo "$listen"
echo "listen=127.0.0.1:$listen pids=$pid_edge,$pid_hub"
