//! The messages of the DHT (libp2p's kad-dht specification, "RPC messages"), and how they stand on a
//! stream: each behind its length as a varint.

use std::io;

use futures_util::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::ipld::protobuf::{Fields, Value, put_bytes_field, put_varint, put_varint_field};
use crate::provider::ADDRESSES_MAX;

/// Longest message that asks, in bytes: a record of 10 KiB, or a provider with its addresses.
pub(super) const REQUEST_BYTES_MAX: usize = 64 << 10;
/// Longest answer, in bytes, as go-libp2p has it: a well-known key has very many providers.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Longest key, in bytes.
pub(super) const KEY_BYTES_MAX: usize = 128;
/// Peers nearer to a key that are taken from one answer; the specification has 20.
pub(super) const CLOSER_MAX: usize = 20;
/// Providers that are taken from one answer.
pub(super) const PROVIDERS_MAX: usize = 256;
/// Bytes read at a time: room is made for what came, not for what a length promises.
const PIECE_BYTES: usize = 16 << 10;

/// What a message asks, or answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    PutValue = 0,
    GetValue = 1,
    AddProvider = 2,
    GetProviders = 3,
    FindNode = 4,
    Ping = 5,
}

/// A peer and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Contact {
    pub(super) peer: PeerId,
    /// Without `/p2p/{peer}` at their ends.
    pub(super) addresses: Vec<Multiaddr>,
}

/// A message, as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) kind: Kind,
    pub(super) key: Vec<u8>,
    /// The value of a record.
    pub(super) value: Option<Vec<u8>>,
    pub(super) closer: Vec<Contact>,
    pub(super) providers: Vec<Contact>,
}

/// Bytes that are no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is no message of the DHT")]
pub(super) struct Malformed;

impl Message {
    pub(super) fn new(kind: Kind, key: &[u8]) -> Self {
        let (closer, providers) = (Vec::new(), Vec::new());
        Self { kind, key: key.to_vec(), value: None, closer, providers }
    }

    /// Reads a message; what is beyond the limits of lists is passed over.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let mut kind = Kind::PutValue;
        let mut message = Self::new(kind, &[]);
        for field in Fields::new(bytes) {
            let field = field.map_err(|_| Malformed)?;
            match (field.number, field.value) {
                (1, Value::Varint(number)) => {
                    kind = match number {
                        0 => Kind::PutValue,
                        1 => Kind::GetValue,
                        2 => Kind::AddProvider,
                        3 => Kind::GetProviders,
                        4 => Kind::FindNode,
                        5 => Kind::Ping,
                        _ => return Err(Malformed),
                    };
                }
                (2, Value::Bytes(at)) if at.len() <= KEY_BYTES_MAX => {
                    message.key = bytes[at].to_vec();
                }
                (2, Value::Bytes(_)) => return Err(Malformed),
                (3, Value::Bytes(at)) => message.value = record_value(&bytes[at])?,
                (8, Value::Bytes(at)) if message.closer.len() < CLOSER_MAX => {
                    message.closer.extend(contact(&bytes[at])?);
                }
                (9, Value::Bytes(at)) if message.providers.len() < PROVIDERS_MAX => {
                    message.providers.extend(contact(&bytes[at])?);
                }
                _ => {}
            }
        }
        message.kind = kind;
        Ok(message)
    }

    /// The message, with its length before it.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_varint_field(&mut body, 1, self.kind as u64);
        put_bytes_field(&mut body, 2, &self.key);
        if let Some(value) = &self.value {
            let mut record = Vec::new();
            put_bytes_field(&mut record, 1, &self.key);
            put_bytes_field(&mut record, 2, value);
            put_bytes_field(&mut body, 3, &record);
        }
        for (number, contacts) in [(8, &self.closer), (9, &self.providers)] {
            for contact in contacts {
                let mut peer = Vec::new();
                put_bytes_field(&mut peer, 1, &contact.peer.to_bytes());
                for address in &contact.addresses {
                    put_bytes_field(&mut peer, 2, &address.to_vec());
                }
                put_bytes_field(&mut body, number, &peer);
            }
        }
        let mut framed = Vec::with_capacity(body.len() + 4);
        put_varint(&mut framed, body.len() as u64);
        framed.extend_from_slice(&body);
        framed
    }
}

fn record_value(bytes: &[u8]) -> Result<Option<Vec<u8>>, Malformed> {
    let mut value = None;
    for field in Fields::new(bytes) {
        let field = field.map_err(|_| Malformed)?;
        if let (2, Value::Bytes(at)) = (field.number, field.value) {
            value = Some(bytes[at].to_vec());
        }
    }
    Ok(value)
}

/// A peer of a list; none where its identity is none, which says nothing of the others.
fn contact(bytes: &[u8]) -> Result<Option<Contact>, Malformed> {
    let mut peer = None;
    let mut addresses = Vec::new();
    for field in Fields::new(bytes) {
        let field = field.map_err(|_| Malformed)?;
        match (field.number, field.value) {
            (1, Value::Bytes(at)) => peer = PeerId::from_bytes(&bytes[at]).ok(),
            (2, Value::Bytes(at)) if addresses.len() < ADDRESSES_MAX => {
                addresses.extend(Multiaddr::try_from(bytes[at].to_vec()));
            }
            _ => {}
        }
    }
    let Some(peer) = peer else { return Ok(None) };
    let addresses = addresses.into_iter().filter_map(|address| bare(address, &peer)).collect();
    Ok(Some(Contact { peer, addresses }))
}

/// The address without the peer's own identity at its end; none where it leads to another peer.
pub(super) fn bare(mut address: Multiaddr, peer: &PeerId) -> Option<Multiaddr> {
    match address.iter().last()? {
        Protocol::P2p(named) if named == *peer => {
            address.pop();
            Some(address)
        }
        Protocol::P2p(_) => None,
        _ => Some(address),
    }
}

/// Reads one message of at most `most` bytes; none where the stream has ended before it.
pub(super) async fn receive(
    stream: &mut (impl AsyncRead + Unpin),
    most: usize,
) -> io::Result<Option<Message>> {
    let Some(length) = receive_length(stream).await? else { return Ok(None) };
    let invalid = |reason: &'static str| io::Error::new(io::ErrorKind::InvalidData, reason);
    let length = usize::try_from(length).ok().filter(|length| *length <= most);
    let length = length.ok_or_else(|| invalid("the message is too long"))?;
    let mut bytes = Vec::new();
    while bytes.len() < length {
        let from = bytes.len();
        bytes.resize(length.min(from + PIECE_BYTES), 0);
        stream.read_exact(&mut bytes[from..]).await?;
    }
    Message::decode(&bytes).map(Some).map_err(|_| invalid("it is no message of the DHT"))
}

async fn receive_length(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<u64>> {
    let mut length = 0u64;
    for at in 0..4 {
        let mut byte = [0];
        if stream.read(&mut byte).await? == 0 {
            let ended = at == 0;
            return if ended { Ok(None) } else { Err(io::ErrorKind::UnexpectedEof.into()) };
        }
        length |= u64::from(byte[0] & 0x7f) << (7 * at);
        if byte[0] & 0x80 == 0 {
            return Ok(Some(length));
        }
    }
    Err(io::Error::new(io::ErrorKind::InvalidData, "the message is too long"))
}

/// Writes what [`Message::encode`] made.
pub(super) async fn send(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::io::Cursor;

    fn peer(seed: u8) -> PeerId {
        let key = libp2p_identity::Keypair::ed25519_from_bytes([seed; 32]).unwrap();
        key.public().to_peer_id()
    }

    fn contact(seed: u8, addresses: &[&str]) -> Contact {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        Contact { peer: peer(seed), addresses }
    }

    #[tokio::test]
    async fn messages_go_there_and_back() {
        let mut message = Message::new(Kind::GetProviders, b"key");
        message.value = Some(vec![7; 300]);
        message.closer = vec![contact(1, &["/ip4/192.0.2.1/tcp/4001"]), contact(2, &[])];
        message.providers = vec![contact(3, &["/ip4/192.0.2.1/udp/4001/quic-v1"])];
        let mut stream = Cursor::new(message.encode());
        assert_eq!(receive(&mut stream, REQUEST_BYTES_MAX).await.unwrap(), Some(message));
        assert_eq!(receive(&mut stream, REQUEST_BYTES_MAX).await.unwrap(), None);
    }

    /// What go-libp2p-kad-dht writes for ADD_PROVIDER of the key `abc`.
    #[test]
    fn the_wire_format_is_that_of_the_specification() {
        let framed = Message::new(Kind::AddProvider, b"abc").encode();
        assert_eq!(framed, [7, 0x08, 2, 0x12, 3, b'a', b'b', b'c']);
    }

    #[tokio::test]
    async fn a_length_alone_takes_no_memory_and_a_wrong_one_ends_the_stream() {
        for bytes in [&[0xff; 10][..], &[0xff, 0xff, 0xff, 0x7f], &[0x80, 0x80], &[5, 1, 2]] {
            let read = receive(&mut Cursor::new(bytes.to_vec()), REQUEST_BYTES_MAX).await;
            assert!(read.is_err(), "{bytes:?}");
        }
    }

    #[test]
    fn lists_are_cut_to_their_limits() {
        let mut message = Message::new(Kind::FindNode, b"key");
        let many = vec!["/ip4/192.0.2.1/tcp/4001"; 1000];
        message.closer = (0..200).map(|seed| contact(seed, &many)).collect();
        let framed = message.encode();
        let mut at = 0;
        let _ = crate::ipld::protobuf::varint(&framed, &mut at);
        let read = Message::decode(&framed[at..]).unwrap();
        assert_eq!(read.closer.len(), CLOSER_MAX);
        assert!(read.closer.iter().all(|contact| contact.addresses.len() == ADDRESSES_MAX));
    }

    #[test]
    fn addresses_that_lead_to_another_peer_are_dropped() {
        let (own, other) = (peer(1), peer(2));
        let check = |text: String| bare(text.parse().unwrap(), &own).map(|a| a.to_string());
        assert_eq!(
            check(format!("/ip4/192.0.2.1/tcp/1/p2p/{own}")),
            Some("/ip4/192.0.2.1/tcp/1".into())
        );
        assert_eq!(check(format!("/ip4/192.0.2.1/tcp/1/p2p/{other}")), None);
        let relayed = format!("/ip4/192.0.2.1/tcp/1/p2p/{other}/p2p-circuit");
        assert_eq!(check(format!("{relayed}/p2p/{own}")), Some(relayed));
    }
}
