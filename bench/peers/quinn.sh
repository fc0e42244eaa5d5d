#!/usr/bin/env bash
# Raw QUIC, for scale: no edge, no hub and no target, but a quinn server that tunnelbench's own client loads.
. "$(dirname "$0")/lib.sh"
: "${TUNNELBENCH:?the load generator}"
listen=$((BASE_PORT + 60)) certificate=$dir/certificate.der
rm -f "$certificate"
spawn server "$TUNNELBENCH" quic-server --address "127.0.0.1:$listen" --certificate "$certificate"
for _ in $(seq 100); do
  [[ ! -s $certificate ]] || break
  sleep 0.1
done
echo "listen=127.0.0.1:$listen pids=$pid_server"
