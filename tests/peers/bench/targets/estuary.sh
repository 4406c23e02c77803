#!/usr/bin/env bash
# Target: Estuary holding the hot set (imported CARs), peered with the source where PEER names one, and knowing nobody else.
# ESTUARY=binary, or target/release/estuary. See baseline.py for the environment.
set -euo pipefail
. "$(dirname "$0")/../../lib.sh"
estuary=${ESTUARY:-${CARGO_TARGET_DIR:-$here/../../target}/release/estuary}
export ESTUARY_GATEWAY__LISTEN=127.0.0.1:0 ESTUARY_API__LISTEN=127.0.0.1:0 ESTUARY_ADMIN__LISTEN=127.0.0.1:0
if [ -n "${PEER:-}" ]; then
  export ESTUARY_P2P__LISTEN=/ip4/127.0.0.1/tcp/0 ESTUARY_P2P__PEERING=$PEER ESTUARY_P2P__BOOTSTRAP= ESTUARY_ROUTING__DHT=off \
    ESTUARY_ROUTING__DELEGATED= ESTUARY_NETWORK__ALLOW_PRIVATE=true
else
  export ESTUARY_OFFLINE=1
fi
on_exit
"$estuary" --data-dir "$WORK/data" serve > "$WORK/out" 2> "$WORK/log" & child=$!
wait_for 30 "$child" "$estuary" --data-dir "$WORK/data" status || { cat "$WORK/log" >&2; die 'Estuary did not start'; }
[ -z "${HOT:-}" ] || "$estuary" --data-dir "$WORK/data" import "$HOT"/*.car > /dev/null
echo "pid $child"
echo "ready $("$estuary" --data-dir "$WORK/data" status --json | jq -r .gateway.url)"
wait "$child"
