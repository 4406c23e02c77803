#!/usr/bin/env bash
# Target: Estuary holding the hot set (imported CARs). ESTUARY=binary, or target/release/estuary. See baseline.py for the environment.
set -euo pipefail
. "$(dirname "$0")/../../lib.sh"
estuary=${ESTUARY:-${CARGO_TARGET_DIR:-$here/../../target}/release/estuary}
export ESTUARY_GATEWAY__LISTEN=127.0.0.1:0 ESTUARY_API__LISTEN=127.0.0.1:0 ESTUARY_ADMIN__LISTEN=127.0.0.1:0 ESTUARY_OFFLINE=1
on_exit
"$estuary" --data-dir "$WORK/data" serve > "$WORK/out" 2> "$WORK/log" & child=$!
wait_for 30 "$child" "$estuary" --data-dir "$WORK/data" status || { cat "$WORK/log" >&2; die 'Estuary did not start'; }
[ -z "${HOT:-}" ] || "$estuary" --data-dir "$WORK/data" import "$HOT"/*.car > /dev/null
echo "pid $child"
echo "ready $("$estuary" --data-dir "$WORK/data" status --json | jq -r .gateway.url)"
wait "$child"
