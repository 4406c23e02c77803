#!/usr/bin/env bash
# Run the IPFS project's gateway conformance suite against a gateway that already holds the fixtures (presets.py does all of it).
#   conformance.sh GATEWAY_URL SUBDOMAIN_GATEWAY_URL [--specs LIST] [--run REGEX] [--log FILE]
#   e.g. conformance.sh http://127.0.0.1:8080 http://localhost:8080 --specs +subdomain-gateway,-path-gateway
# Needs the compiled suite: GATEWAY_CONFORMANCE_TESTS=test binary, GATEWAY_CONFORMANCE_HOME=its checkout (it reads fixtures/).
# No package registry carries it; without it this says so and exits 77 (skipped).
# Prints failing leaves; last line `conformance: P passed, F failed, S skipped (of N)`, counting leaf assertions; exit 1 on failure.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
gateway=${1:-} subdomain=${2:-} log= args=()
[ -n "$gateway" ] && [ -n "$subdomain" ] || usage
shift 2
while [ $# -gt 0 ]; do
  case $1 in --specs) args+=("-specs=$2") ;; --run) args+=("-test.run=$2") ;; --log) log=$2 ;; *) usage ;; esac
  shift 2
done
: "${GATEWAY_CONFORMANCE_TESTS:=$PEERS_HOME/gateway-conformance/tests.bin}" "${GATEWAY_CONFORMANCE_HOME:=$PEERS_HOME/gateway-conformance}"
export GATEWAY_CONFORMANCE_HOME GATEWAY_URL=$gateway SUBDOMAIN_GATEWAY_URL=$subdomain
if [ ! -x "$GATEWAY_CONFORMANCE_TESTS" ]; then
  echo "conformance: SKIPPED, the suite is not on this machine (set GATEWAY_CONFORMANCE_TESTS and GATEWAY_CONFORMANCE_HOME)"; exit 77
fi
on_exit; tmp=$(mktemp -d); : "${log:=$tmp/log}"
log=$(realpath -m "$log"); status=0
(cd "$GATEWAY_CONFORMANCE_HOME/tests" && exec "$GATEWAY_CONFORMANCE_TESTS" -test.v ${args[@]+"${args[@]}"}) > "$log" 2>&1 || status=$?
# A leaf is a result that no other result lies below. Go prints a parent before its children, indented by four per level.
python3 - "$log" "$status" <<'P'
import re, sys
results = {}
for line in open(sys.argv[1], errors="replace"):
    m = re.match(r" *--- (PASS|FAIL|SKIP): (.*) \(\d", line)
    if m: results[m[2]] = m[1]
parents = {n.rsplit("/", k)[0] for n in results for k in range(1, n.count("/") + 1)}
leaves = {n: r for n, r in results.items() if n not in parents}
count = lambda r: sum(v == r for v in leaves.values())
for n, r in leaves.items():
    if r == "FAIL": print("FAIL", n)
if not leaves: print(open(sys.argv[1], errors="replace").read()[-2000:])
print(f"all results: {sum(v == 'PASS' for v in results.values())} pass, {sum(v == 'FAIL' for v in results.values())} fail")
print(f"conformance: {count('PASS')} passed, {count('FAIL')} failed, {count('SKIP')} skipped (of {len(leaves)})")
sys.exit(1 if count("FAIL") or not leaves or sys.argv[2] != "0" else 0)
P
