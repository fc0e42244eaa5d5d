#!/usr/bin/env bash
# remoteingress: all client connections in one tunnel, which the edge dials; PROXY v1 to the target. The limits per
# client address are off, because a bench's clients share a few, and those of streams. Variants: the transport, tcpTls
# or quic, and after it the congestion control of QUIC or the number of workers: quic-bbr, tcpTls-workers2.
# ACCESS_LOG=1 writes the access logs of both ends.
# TARGETS=4 asks for so many ports, each of which leads to the target at another address of 127.0.0.0/8.
. "$(dirname "$0")/lib.sh"
: "${BIN:?the remoteingress-bin to measure}"
tunnel=$((BASE_PORT + 50)) listen=$((BASE_PORT + 51))
secret=$("$BIN" secret)
transport=${variant:-tcpTls} controller=cubic workers=$cores
case $transport in
*-workers*) workers=${transport#*-workers} ;;
*-*) controller=${transport#*-} ;;
esac
transport=${transport%%-*}
ports=
for ((n = 0; n < ${TARGETS:-1}; n++)); do
  ports+="${ports:+, }{ \"port\": $((listen + n)), \"targetHost\": \"127.0.0.$((n + 1))\","
  ports+=" \"targetPort\": $target, \"proxyProtocol\": \"v1\" }"
done
datagrams=
[[ ! ${UDP:-} ]] || datagrams=",
    \"listenPortsUdp\": [{ \"port\": $listen, \"targetPort\": $target, \"proxyProtocol\": \"none\" }]"
log() {
  [[ ! ${ACCESS_LOG:-} ]] || echo "\"accessLog\": { \"path\": \"$dir/access-$1.jsonl\" },"
}
rm -f "$dir"/access-*.jsonl
cat >"$dir/hub.json" <<X
{
  "tunnelPort": $tunnel, "bindAddress": "$hub_address", "targetHost": "127.0.0.1", "stateDir": "$dir/state",
  "workers": $workers, "drainTimeoutSecs": 1, "congestionController": "$controller",
  $(log hub)
  "limits": { "maxStreams": 0, "maxStreamsPerEdge": 0 },
  "edges": [{
    "id": "bench", "secret": "$secret", "stunIntervalSecs": 0,
    "listenPorts": [$ports]$datagrams
  }]
}
X
cat >"$dir/edge.json" <<X
{
  "hubHost": "$hub_address", "hubPort": $tunnel, "edgeId": "bench", "secret": "$secret",
  "bindAddress": "127.0.0.1", "transportMode": "$transport", "stunServers": [],
  "workers": $workers, "drainTimeoutSecs": 1, "congestionController": "$controller",
  $(log edge)
  "limits": {
    "maxConnections": 0, "maxConnectionsPerListener": 0, "maxConnectionsPerIp": 0, "newConnectionsPerIpPerSec": 0,
    "maxUdpFlowsPerIp": 0
  }
}
X
spawn hub "$BIN" hub --config "$dir/hub.json"
wait_port "$tunnel" "$hub_address"
spawn edge "$BIN" edge --config "$dir/edge.json"
wait_port "$listen"
wait_echo "$listen"
wait_udp_echo "$listen"
echo "listen=127.0.0.1:$listen pids=$pid_edge,$pid_hub"
