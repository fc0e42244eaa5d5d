#!/usr/bin/env bash
# Two nginx stream hops, a TLS 1.3 connection per client connection, PROXY v1 to the target. Datagrams are forwarded
# plain by both, without a header: a session per flow, any number of answers, 60 s idle.
needs=nginx install="apt-get install nginx libnginx-mod-stream"
. "$(dirname "$0")/lib.sh"
listen=$((BASE_PORT + 20)) tunnel=$((BASE_PORT + 21))
module=/usr/lib/nginx/modules/ngx_stream_module.so # where it isn't compiled in
config() { # file, content of the server block, address and next hop of datagrams
  cat >"$dir/$1.conf" <<X
$([[ ! -e $module ]] || echo "load_module $module;")
daemon off;
pid $dir/$1.pid;
error_log $dir/$1.err warn;
worker_processes $cores;
worker_rlimit_nofile 20000;
events { worker_connections 15000; }
stream {
  proxy_timeout 1h;
  server {
    tcp_nodelay on;
    $2
  }
  $([[ ! ${UDP:-} ]] || echo "server { listen $3 udp reuseport; proxy_pass $4; proxy_timeout 60s; }")
}
X
}
config edge "listen 127.0.0.1:$listen reuseport; proxy_pass 127.0.0.1:$tunnel; proxy_protocol on;
    proxy_ssl on; proxy_ssl_protocols TLSv1.3;" "127.0.0.1:$listen" "127.0.0.1:$tunnel"
config hub "listen 127.0.0.1:$tunnel ssl proxy_protocol reuseport; ssl_protocols TLSv1.3;
    ssl_certificate $certs/cert.pem; ssl_certificate_key $certs/key.pem; set_real_ip_from 127.0.0.0/8;
    proxy_pass 127.0.0.1:$target; proxy_protocol on;" "127.0.0.1:$tunnel" "127.0.0.1:$target"
spawn hub nginx -p "$dir" -c "$dir/hub.conf"
spawn edge nginx -p "$dir" -c "$dir/edge.conf"
wait_port "$tunnel"
wait_echo "$listen"
wait_udp_echo "$listen"
echo "listen=127.0.0.1:$listen pids=$(family "$pid_edge"),$(family "$pid_hub")"
