#!/usr/bin/env bash
# A stunnel pair: a thread and a TLS 1.3 connection per client connection, PROXY v1 to the target.
needs=stunnel install="apt-get install stunnel4"
. "$(dirname "$0")/lib.sh"
listen=$((BASE_PORT + 30)) tunnel=$((BASE_PORT + 31))
config() { # file, content of the service
  cat >"$dir/$1.conf" <<X
foreground = yes
debug = 3
pid =
socket = l:TCP_NODELAY=1
socket = r:TCP_NODELAY=1
[relay]
sslVersion = TLSv1.3
$2
X
}
config edge "client = yes
accept = 127.0.0.1:$listen
connect = 127.0.0.1:$tunnel"
config hub "accept = 127.0.0.1:$tunnel
connect = 127.0.0.1:$target
cert = $certs/both.pem
protocol = proxy"
spawn hub stunnel "$dir/hub.conf"
spawn edge stunnel "$dir/edge.conf"
wait_port "$tunnel"
wait_echo "$listen"
echo "listen=127.0.0.1:$listen pids=$pid_edge,$pid_hub"
