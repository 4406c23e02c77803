#!/usr/bin/env bash
# Estuary beside a real Kubo: CIDs of adds, CARs both ways, answers of the gateway. And Helia's verified-fetch as its client.
#   interop.sh [PART...]        parts: cids cars answers parity vfetch (default: all)
# Needs install.sh kubo car helia, and target/release/estuary (or $ESTUARY). The public suite's fixtures are not in this repository: parts
# that want them look in $FIXTURES and ../shared/peers/fixtures, and say so where they skip. Last line `interop: N passed, N failed, N skipped`.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need kubo ipfs
exec python3 "$here/interop.py" "$@"
