#!/usr/bin/env bash
# remoteingress: all client connections in one tunnel, which the edge dials; PROXY v1 to the target. The limits per
# client address are off, because a bench's clients share a few. Variants, the transport: tcpTls, quic, quic-bbr.
. "$(dirname "$0")/lib.sh"
: "${BIN:?the remoteingress-bin to measure}"
listen=$((BASE_PORT + 50)) tunnel=$((BASE_PORT + 51))
secret=$("$BIN" secret)
transport=${variant:-tcpTls} controller=cubic
[[ $transport != *-* ]] || controller=${transport#*-} transport=${transport%-*}
datagrams=
[[ ! ${UDP:-} ]] || datagrams=",
    \"listenPortsUdp\": [{ \"port\": $listen, \"targetPort\": $target, \"proxyProtocol\": \"none\" }]"
cat >"$dir/hub.json" <<X
{
  "tunnelPort": $tunnel, "bindAddress": "$hub_address", "targetHost": "127.0.0.1", "stateDir": "$dir/state",
  "drainTimeoutSecs": 1, "congestionController": "$controller",
  "edges": [{
    "id": "bench", "secret": "$secret", "stunIntervalSecs": 0,
    "listenPorts": [{ "port": $listen, "targetPort": $target, "proxyProtocol": "v1" }]$datagrams
  }]
}
X
cat >"$dir/edge.json" <<X
{
  "hubHost": "$hub_address", "hubPort": $tunnel, "edgeId": "bench", "secret": "$secret",
  "bindAddress": "127.0.0.1", "transportMode": "$transport", "stunServers": [], "drainTimeoutSecs": 1,
  "congestionController": "$controller",
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
