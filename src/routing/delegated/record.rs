//! Records of providers as delegated routers write them, in JSON. Pure.

use libp2p_identity::PeerId;
use multiaddr::{Multiaddr, Protocol as Part};
use serde::Deserialize;

use crate::network::{HttpUrl, is_public};
use crate::provider::{ADDRESSES_MAX, Protocol, Protocols, Provider};

/// Addresses of one record that are looked at.
const ADDRESSES_READ_MAX: usize = 256;
/// Longest address that is looked at, in bytes.
const ADDRESS_BYTES_MAX: usize = 1024;
/// The router's name in [`Provider::found_by`].
const FOUND_BY: &str = "delegated";

/// A record of the schema "peer", of those before it ("bitswap", "graphsync-filecoinv1"), which name
/// one protocol, or of another that has the same fields ("generic").
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    #[serde(rename = "ID", default)]
    id: Option<String>,
    #[serde(default)]
    addrs: Option<Vec<String>>,
    #[serde(default)]
    protocols: Option<Vec<String>>,
    #[serde(default)]
    protocol: Option<String>,
}

/// A whole answer that is no stream of lines.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Whole {
    #[serde(default)]
    providers: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    peers: Option<Vec<serde_json::Value>>,
}

/// The provider that a record names; none where it names nobody that could be reached.
pub(super) fn read(record: &[u8]) -> Option<Provider> {
    provider(serde_json::from_slice(record).ok()?)
}

/// The records of a whole answer, at most `most`; none where it is no such answer.
pub(super) fn read_all(body: &[u8], most: usize) -> Option<Vec<Option<Provider>>> {
    let whole: Whole = serde_json::from_slice(body).ok()?;
    let records = whole.providers.into_iter().chain(whole.peers).flatten().take(most);
    Some(records.map(|record| provider(serde_json::from_value(record).ok()?)).collect())
}

fn provider(record: Record) -> Option<Provider> {
    let peer = record.id.as_deref().and_then(peer_id);
    let mut addresses: Vec<Multiaddr> = Vec::new();
    let texts = record.addrs.unwrap_or_default();
    for text in texts.iter().take(ADDRESSES_READ_MAX) {
        let address = address(text, peer.as_ref());
        addresses.extend(address.filter(|address| !addresses.contains(address)));
    }
    // Those first that anybody can reach, so that the others do not take their room.
    addresses.sort_by_key(|address| !leads_outside(address));
    addresses.truncate(ADDRESSES_MAX);
    let names = record.protocols.into_iter().flatten().chain(record.protocol);
    let mut protocols =
        names.filter_map(|name| protocol(&name)).fold(Protocols::UNKNOWN, Protocols::with);
    if protocols.is_unknown() && addresses.iter().any(|at| HttpUrl::of_multiaddr(at).is_some()) {
        protocols = protocols.with(Protocol::Http);
    }
    // A peer without addresses may be in the address book.
    (peer.is_some() || !addresses.is_empty()).then_some(Provider {
        peer,
        addresses,
        protocols,
        found_by: FOUND_BY,
    })
}

fn protocol(name: &str) -> Option<Protocol> {
    match name {
        "transport-bitswap" => Some(Protocol::Bitswap),
        "transport-ipfs-gateway-http" => Some(Protocol::Http),
        "transport-graphsync-filecoinv1" => Some(Protocol::Graphsync),
        _ => None,
    }
}

/// A peer id in base58, or as the CID of its key.
fn peer_id(text: &str) -> Option<PeerId> {
    if text.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    let of_cid =
        || PeerId::from_bytes(&crate::block::Cid::try_from(text).ok()?.hash().to_bytes()).ok();
    text.parse().ok().or_else(of_cid)
}

/// An address, without the peer's own id behind it. None where it is no address, or another peer's.
fn address(text: &str, peer: Option<&PeerId>) -> Option<Multiaddr> {
    if text.len() > ADDRESS_BYTES_MAX {
        return None;
    }
    if text.starts_with("http") {
        return Some(HttpUrl::parse(text).ok()?.to_multiaddr());
    }
    let mut address: Multiaddr = text.parse().ok()?;
    if let Some(Part::P2p(at_end)) = address.iter().last() {
        if peer != Some(&at_end) {
            return None;
        }
        address.pop();
    }
    (!address.is_empty()).then_some(address)
}

fn leads_outside(address: &Multiaddr) -> bool {
    match address.iter().next() {
        Some(Part::Ip4(ip)) => is_public(ip.into()),
        Some(Part::Ip6(ip)) => is_public(ip.into()),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEER: &str = "12D3KooWKnDdG3iXw9eTFijk3EWSunZcFi54Zka4wmtqtt6rPxc8";

    fn check(record: &str, addresses: &[&str], protocols: &[Protocol]) {
        let found = read(record.replace("PEER", PEER).as_bytes()).unwrap();
        let shown: Vec<_> = found.addresses.iter().map(ToString::to_string).collect();
        assert_eq!(shown, addresses, "{record}");
        assert_eq!(found.protocols.iter().collect::<Vec<_>>(), protocols, "{record}");
        assert_eq!(found.peer.is_some(), record.contains("PEER"), "{record}");
    }

    #[test]
    fn records_of_all_schemas_are_read() {
        check(
            r#"{"Schema":"peer","ID":"PEER","Addrs":["/ip4/1.2.3.4/tcp/4001","/ip4/1.2.3.4/tcp/4001/p2p/PEER","/dns4/a.example/udp/4001/quic-v1/p2p/PEER"],"Protocols":["transport-bitswap"],"Extra":{}}"#,
            &["/ip4/1.2.3.4/tcp/4001", "/dns4/a.example/udp/4001/quic-v1"],
            &[Protocol::Bitswap],
        );
        check(
            r#"{"Schema":"bitswap","Protocol":"transport-bitswap","ID":"PEER","Addrs":null}"#,
            &[],
            &[Protocol::Bitswap],
        );
        check(
            r#"{"Schema":"graphsync-filecoinv1","Protocol":"transport-graphsync-filecoinv1","ID":"PEER","Addrs":["/ip4/1.2.3.4/tcp/1"],"PieceCID":{"/":"x"}}"#,
            &["/ip4/1.2.3.4/tcp/1"],
            &[Protocol::Graphsync],
        );
        check(
            r#"{"Schema":"generic","ID":"did:key:z6Mk","Addrs":["https://sp.example/below/","ftp://no.example","/dns/b.example/tcp/443/https"],"Protocols":["other"]}"#,
            &["/dns/sp.example/tcp/443/tls/http/http-path/below", "/dns/b.example/tcp/443/https"],
            &[Protocol::Http],
        );
    }

    #[test]
    fn addresses_are_bounded_public_ones_first_and_no_other_peers() {
        let many: Vec<_> =
            (0..200).map(|last| format!("\"/ip4/10.0.0.{last}/tcp/4001\"")).collect();
        let record = format!(
            r#"{{"ID":"{PEER}","Addrs":[{},"/ip4/1.1.1.1/tcp/4001","nonsense","/ip4/1.1.1.1/tcp/4001/p2p/QmQCU2EcMqAqQPR2i9bChDtGNJchTbq5TbXJJ16u19uLTa"]}}"#,
            many.join(",")
        );
        let found = read(record.as_bytes()).unwrap();
        assert_eq!(found.addresses.len(), ADDRESSES_MAX);
        assert_eq!(found.addresses[0].to_string(), "/ip4/1.1.1.1/tcp/4001");
        assert_eq!(found.addresses[1].to_string(), "/ip4/10.0.0.0/tcp/4001");
    }

    #[test]
    fn what_is_no_record_is_none() {
        for record in ["", "{}", "[]", "7", r#"{"ID":7}"#, r#"{"ID":"x"}"#, r#"{"Addrs":["x"]}"#] {
            assert_eq!(read(record.as_bytes()), None, "{record}");
        }
    }

    #[test]
    fn whole_answers_are_read_as_far_as_they_may_go() {
        let one = format!(r#"{{"Schema":"peer","ID":"{PEER}"}}"#);
        let body = format!(r#"{{"Providers":[{one},{{}},{one}]}}"#);
        let found = read_all(body.as_bytes(), 1000).unwrap();
        assert_eq!(found.iter().map(Option::is_some).collect::<Vec<_>>(), [true, false, true]);
        assert_eq!(read_all(body.as_bytes(), 1).unwrap().len(), 1);
        assert_eq!(read_all(br#"{"Providers":null}"#, 9), Some(vec![]));
        assert_eq!(read_all(br#"{"Peers":[]}"#, 9), Some(vec![]));
        assert_eq!(read_all(b"<html>", 9), None);
    }
}
