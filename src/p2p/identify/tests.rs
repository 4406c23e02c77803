use libp2p_identity::PublicKey;

use super::*;

fn info(key: PublicKey) -> identify::Info {
    identify::Info {
        public_key: key,
        protocol_version: "ipfs/0.1.0".to_owned(),
        agent_version: "kubo/0.43.0".to_owned(),
        listen_addrs: vec!["/ip4/8.8.8.8/tcp/4001".parse().unwrap()],
        protocols: vec![StreamProtocol::new("/ipfs/bitswap/1.2.0")],
        observed_addr: "/ip4/8.8.8.8/tcp/1".parse().unwrap(),
        signed_peer_record: None,
    }
}

fn ed25519() -> PublicKey {
    Keypair::generate_ed25519().public()
}

#[test]
fn what_a_peer_says_of_itself_is_capped() {
    let mut said = info(ed25519());
    said.agent_version = "\x1b[31mevil\u{202e}\n".repeat(1 << 16);
    said.listen_addrs =
        (0..10_000).map(|n| format!("/ip4/8.8.8.8/tcp/{n}").parse().unwrap()).collect();
    let protocol = |n| StreamProtocol::try_from_owned(format!("/p/{n}")).unwrap();
    said.protocols = (0..10_000).map(protocol).collect();
    let kept = Identified::of(said).unwrap();
    assert_eq!((kept.addresses.len(), kept.protocols.len()), (ADDRESSES_MAX, PROTOCOLS_MAX));
    assert!(kept.agent.len() <= AGENT_BYTES_MAX && kept.agent.len() > AGENT_BYTES_MAX / 2);
    assert!(kept.agent.starts_with("\\u{1b}[31mevil\\u{202e}\\u{a}"), "{}", kept.agent);
    assert!(kept.agent.chars().all(|character| !character.is_control()));
}

#[test]
fn names_of_protocols_that_would_not_print_are_left_out() {
    let mut said = info(ed25519());
    for odd in ["/a\x1b[2J", "/a b", "/ü"] {
        said.protocols.push(StreamProtocol::try_from_owned(odd.to_owned()).unwrap());
    }
    let long = format!("/{}", "a".repeat(PROTOCOL_BYTES_MAX));
    said.protocols.push(StreamProtocol::try_from_owned(long).unwrap());
    let kept = Identified::of(said).unwrap();
    assert_eq!(*kept.protocols, [StreamProtocol::new("/ipfs/bitswap/1.2.0")]);
}

/// An RSA key of so many bits, as it is sent.
fn rsa(bits: usize) -> PublicKey {
    fn der(tag: u8, body: &[u8]) -> Vec<u8> {
        let mut out = vec![tag];
        match u8::try_from(body.len()) {
            Ok(short) if short < 128 => out.push(short),
            _ => {
                out.push(0x82);
                out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
            }
        }
        out.extend_from_slice(body);
        out
    }
    let modulus = [vec![0], vec![0xc3; bits / 8]].concat();
    let numbers = [der(2, &modulus), der(2, &[1, 0, 1])].concat();
    let key = [vec![0], der(0x30, &numbers)].concat();
    let rsa_encryption = [6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1, 5, 0];
    let x509 = der(0x30, &[der(0x30, &rsa_encryption), der(3, &key)].concat());
    let mut message = vec![0x08, 0x00, 0x12];
    let mut length = x509.len();
    while length >= 0x80 {
        message.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    message.push(u8::try_from(length).unwrap());
    message.extend(x509);
    PublicKey::try_decode_protobuf(&message).unwrap()
}

#[test]
fn rsa_keys_of_more_than_4096_bits_are_refused() {
    assert!(Identified::of(info(rsa(2048))).is_some());
    assert!(Identified::of(info(rsa(4096))).is_some());
    assert!(Identified::of(info(rsa(8192))).is_none());
    assert!(Identified::of(info(rsa(16_384))).is_none());
}

#[test]
fn who_hears_private_addresses() {
    let check = |address: &str, local: bool| {
        assert_eq!(is_local(&address.parse().unwrap()), local, "{address}");
    };
    check("/ip4/127.0.0.1/tcp/4001", true);
    check("/ip4/192.168.1.2/udp/4001/quic-v1", true);
    check("/ip6/fd00::1/tcp/4001", true);
    check("/ip4/8.8.8.8/tcp/4001", false);
    check("/ip6/2606:4700::1111/tcp/4001", false);
    check("/dns4/box.example/tcp/4001", false);
    let relay = PeerId::random();
    check(&format!("/ip4/10.0.0.1/tcp/4001/p2p/{relay}/p2p-circuit"), false);
}
