#!/usr/bin/env bash
# No relay at all: what load generator, target and kernel can do.
. "$(dirname "$0")/lib.sh"
echo "listen=$hub_address:$target pids="
