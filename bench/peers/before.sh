#!/usr/bin/env bash
# remoteingress of another commit beside ours, to see what a change costs: BEFORE is its binary. All else as ours.sh.
export BIN=${BEFORE:?the remoteingress-bin of the commit to compare with}
. "$(dirname "$0")/ours.sh"
