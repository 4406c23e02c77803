//! Peers that break the rules, with bytes of their own over real TCP: they cost their connection,
//! and nobody else's.

use std::io;

use futures_util::{AsyncRead, AsyncWrite};
use libp2p::core::Endpoint;
use libp2p::core::transport::{DialOpts, PortUse, Transport as _};
use libp2p::core::upgrade::OutboundConnectionUpgrade as _;
use libp2p::{noise, tcp};
use tokio::net::TcpStream;

use super::*;

/// A node, its address over TCP, and what is asserted of it afterwards.
struct Victim {
    tasks: Tasks,
    node: P2p,
    address: Multiaddr,
}

impl Victim {
    async fn new() -> Self {
        let tasks = Tasks::new();
        let node = node(&tasks);
        echo(&node, &tasks);
        let addresses = soon(node.addresses()).await;
        let of_tcp = |address: &Multiaddr| metrics::transport(address) == "tcp";
        let address = addresses.into_iter().find(of_tcp).unwrap();
        Self { tasks, node, address }
    }

    fn port(&self) -> u16 {
        let port = self.address.iter().find_map(|part| match part {
            Protocol::Tcp(port) => Some(port),
            _ => None,
        });
        port.unwrap()
    }

    /// A connection of which nothing was said yet.
    async fn raw(&self) -> TcpStream {
        TcpStream::connect(("127.0.0.1", self.port())).await.unwrap()
    }

    /// A good peer is served as ever.
    async fn is_well(&self) {
        let client = node(&self.tasks);
        let peer = self.node.peer_id();
        soon(client.connect(peer, std::slice::from_ref(&self.address))).await.unwrap();
        soon(say_hello(&client, peer)).await.unwrap();
    }
}

/// The victim ends the connection within its time for handshakes, whatever it says before.
async fn is_closed(socket: &mut TcpStream, what: &str) {
    use tokio::io::AsyncReadExt as _;
    let closed = async {
        let mut bytes = [0; 4096];
        loop {
            match socket.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
    };
    let limit = Duration::from_secs(11);
    assert!(tokio::time::timeout(limit, closed).await.is_ok(), "{what} was kept");
}

fn line(text: &str) -> Vec<u8> {
    let mut line = vec![u8::try_from(text.len() + 1).unwrap()];
    line.extend_from_slice(text.as_bytes());
    line.push(b'\n');
    line
}

#[tokio::test]
async fn garbage_in_place_of_a_handshake_is_closed() {
    let victim = Victim::new().await;
    let begun = |protocol: &str, garbage: &[u8]| {
        let mut bytes = line("/multistream/1.0.0");
        bytes.extend(line(protocol));
        bytes.extend_from_slice(garbage);
        bytes
    };
    let long = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f];
    let longer = [0xff; 10];
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("HTTP", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n".to_vec()),
        ("a length of 2^63 - 1", long.to_vec()),
        ("a length of ten bytes", longer.to_vec()),
        ("an unknown protocol", begun("/nonsense/1", &[])),
        ("noise with garbage in it", begun("/noise", &[[0, 64].as_slice(), &[7; 64]].concat())),
        ("noise with the longest frame", begun("/noise", &[0xff; 70_000])),
        ("TLS with garbage in it", begun("/tls/1.0.0", &[0x16; 4096])),
        (
            "TLS with a record of 64 KiB",
            begun("/tls/1.0.0", &[[0x16, 3, 1, 0xff, 0xff].as_slice(), &[1; 65_535]].concat()),
        ),
        ("silence", Vec::new()),
        ("silence after the first line", line("/multistream/1.0.0")),
        ("silence in noise", begun("/noise", &[])),
        ("silence in TLS", begun("/tls/1.0.0", &[])),
    ];
    let mut open = Vec::new();
    for (what, bytes) in cases {
        use tokio::io::AsyncWriteExt as _;
        let mut socket = victim.raw().await;
        let _ = socket.write_all(&bytes).await;
        open.push((what, socket));
    }
    victim.is_well().await;
    for (what, mut socket) in open {
        is_closed(&mut socket, what).await;
    }
    victim.is_well().await;
    victim.tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn a_peer_that_sends_one_byte_at_a_time_is_closed() {
    use tokio::io::AsyncWriteExt as _;
    let victim = Victim::new().await;
    let mut socket = victim.raw().await;
    let bytes = [line("/multistream/1.0.0"), line("/noise")].concat();
    let slowly = async {
        for byte in bytes {
            if socket.write_all(&[byte]).await.is_err() {
                return;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let limit = Duration::from_secs(12);
    let _ = tokio::time::timeout(limit, slowly).await;
    is_closed(&mut socket, "a slow peer").await;
    victim.is_well().await;
    victim.tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn half_open_connections_keep_no_good_peer_out() {
    let victim = Victim::new().await;
    let mut silent = Vec::new();
    for _ in 0..200 {
        silent.push(victim.raw().await);
    }
    victim.is_well().await;
    for socket in &mut silent {
        is_closed(socket, "a half-open connection").await;
    }
    victim.tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn another_identity_than_the_one_that_was_asked_for_is_refused() {
    let victim = Victim::new().await;
    let client = node(&victim.tasks);
    let mut address = victim.address.clone();
    address.pop();
    let other = PeerId::random();
    let error = soon(client.connect(other, &[address])).await.unwrap_err().to_string();
    assert!(!client.is_connected(&other), "{error}");
    assert_eq!(client.peers().await.len(), 0);
    victim.tasks.stop(PATIENCE).await;
}

/// A connection that is authenticated and on which yamux was agreed, but is spoken by hand.
async fn raw_yamux(victim: &Victim) -> impl AsyncRead + AsyncWrite + Unpin {
    let options = DialOpts { role: Endpoint::Dialer, port_use: PortUse::New };
    let mut tcp = tcp::tokio::Transport::new(tcp::Config::default());
    let mut address = victim.address.clone();
    address.pop();
    let mut socket = soon(tcp.dial(address, options).unwrap()).await.unwrap();
    agree(&mut socket, "/noise").await;
    let noise = noise::Config::new(&Keypair::generate_ed25519()).unwrap();
    let (peer, mut socket) = soon(noise.upgrade_outbound(socket, "/noise")).await.unwrap();
    assert_eq!(peer, victim.node.peer_id());
    agree(&mut socket, "/yamux/1.0.0").await;
    socket
}

/// Agrees on a protocol, as multistream-select says.
async fn agree(socket: &mut (impl AsyncRead + AsyncWrite + Unpin), protocol: &str) {
    for said in ["/multistream/1.0.0", protocol] {
        socket.write_all(&line(said)).await.unwrap();
        socket.flush().await.unwrap();
        let mut back = vec![0; line(said).len()];
        soon(socket.read_exact(&mut back)).await.unwrap();
        assert_eq!(back, line(said));
    }
}

const DATA: u8 = 0;
const WINDOW: u8 = 1;
const PING: u8 = 2;
const GO_AWAY: u8 = 3;
const SYN: u16 = 1;
const ACK: u16 = 2;
const FIN: u16 = 4;
const RST: u16 = 8;

/// A frame of yamux.
fn frame(kind: u8, flags: u16, stream: u32, length: u32, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0, kind];
    frame.extend(flags.to_be_bytes());
    frame.extend(stream.to_be_bytes());
    frame.extend(length.to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// How long a connection lasts that counts as kept.
const KEPT: Duration = Duration::from_secs(3);

/// Sends frames; whether the victim ended the connection within a few seconds.
async fn send(victim: &Victim, frames: impl Iterator<Item = Vec<u8>>) -> bool {
    let (mut reader, mut writer) = raw_yamux(victim).await.split();
    let write = async {
        for frame in frames {
            writer.write_all(&frame).await?;
        }
        writer.flush().await?;
        // Whoever is kept waits for us.
        std::future::pending::<io::Result<()>>().await
    };
    let read = async {
        let mut bytes = vec![0; 1 << 16];
        loop {
            match reader.read(&mut bytes).await {
                Ok(0) | Err(_) => return,
                // It was told to go away because of an error; it is cut when it does not.
                Ok(read) if read >= 12 && bytes[1] == GO_AWAY && bytes[11] != 0 => return,
                Ok(_) => {}
            }
        }
    };
    let ended = async {
        tokio::select! {
            _ = write => {}
            () = read => {}
        }
    };
    tokio::time::timeout(KEPT, ended).await.is_ok()
}

#[tokio::test]
async fn frames_of_yamux_that_break_its_rules_end_the_connection() {
    let victim = Victim::new().await;
    const WINDOW_BYTES: u32 = 256 << 10;
    let body = vec![0; WINDOW_BYTES as usize + 1];
    let over = frame(DATA, SYN, 1, WINDOW_BYTES + 1, &body);
    let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
        ("a body over the window", vec![over]),
        ("a length of 4 GiB", vec![frame(DATA, SYN, 1, u32::MAX, &[])]),
        ("a stream id that is ours to give", vec![frame(WINDOW, SYN, 2, 0, &[])]),
        (
            "a stream id used twice",
            vec![frame(WINDOW, SYN, 1, 0, &[]), frame(WINDOW, SYN, 1, 0, &[])],
        ),
        ("another version", vec![vec![9, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0]]),
        ("an unknown kind", vec![frame(9, SYN, 1, 0, &[])]),
    ];
    for (what, frames) in cases {
        assert!(send(&victim, frames.into_iter()).await, "{what} was kept");
        victim.is_well().await;
    }
    victim.tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn floods_of_yamux_frames_harm_nobody_else() {
    let victim = Victim::new().await;
    let odd = |n: u32| 2 * n + 1;
    // Each is kept or ended; nobody else notices.
    send(&victim, (0..10_000).map(|n| frame(WINDOW, SYN, odd(n), 0, &[]))).await;
    victim.is_well().await;
    let resets = (0..100_000)
        .flat_map(|n| [frame(WINDOW, SYN, odd(n), 0, &[]), frame(WINDOW, RST, odd(n), 0, &[])]);
    send(&victim, resets).await;
    victim.is_well().await;
    send(&victim, (0..10_000).map(|_| frame(GO_AWAY, 0, 0, 0, &[]))).await;
    victim.is_well().await;
    send(&victim, (0..20_000).map(|n| frame(PING, SYN, 0, n, &[]))).await;
    victim.is_well().await;
    let grow = std::iter::once(frame(WINDOW, SYN, 1, 0, &[]));
    send(&victim, grow.chain((0..10_000).map(|_| frame(WINDOW, 0, 1, u32::MAX, &[])))).await;
    victim.is_well().await;
    victim.tasks.stop(PATIENCE).await;
}

/// The window of yamux as js-libp2p uses it: all there is room for goes into one frame. Answers to
/// pings are held back, so that the other side takes the way for a long one and widens the window.
#[tokio::test]
async fn frames_as_large_as_the_window_are_read() {
    const ALL: usize = 24 << 20;
    const ROUND_TRIP: Duration = Duration::from_millis(100);
    let victim = Victim::new().await;
    let sink = StreamProtocol::new("/test/sink/1");
    let mut incoming = victim.node.accept(std::slice::from_ref(&sink));
    let read = victim.tasks.spawn(async move {
        let mut stream = incoming.next().await.unwrap().stream;
        let (mut bytes, mut read) = (vec![0; 1 << 20], 0);
        loop {
            match stream.read(&mut bytes).await {
                Ok(0) => return read,
                Ok(more) => read += more,
                Err(error) => panic!("{error} after {read} bytes"),
            }
        }
    });
    let (mut reader, mut writer) = raw_yamux(&victim).await.split();
    let hello = [line("/multistream/1.0.0"), line(sink.as_ref())].concat();
    let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap();
    let open = frame(DATA, SYN, 1, length(&hello), &hello);
    writer.write_all(&open).await.unwrap();
    let mut window = (256 << 10) - hello.len();
    let (mut sent, mut largest) = (0, 0);
    let send = async {
        while sent < ALL {
            if window > 0 {
                let body = vec![7; window];
                writer.write_all(&frame(DATA, 0, 1, length(&body), &body)).await?;
                writer.flush().await?;
                (sent, largest, window) = (sent + body.len(), largest.max(body.len()), 0);
            }
            let mut header = [0; 12];
            reader.read_exact(&mut header).await?;
            let [_, kind, _, flags, rest @ ..] = header;
            let (stream, value) = rest.split_at(4);
            let value = u32::from_be_bytes(value.try_into().unwrap());
            match kind {
                DATA => reader.read_exact(&mut vec![0; value as usize]).await?,
                WINDOW if stream == [0, 0, 0, 1] => window += value as usize,
                PING if u16::from(flags) == SYN => {
                    tokio::time::sleep(ROUND_TRIP).await;
                    writer.write_all(&frame(PING, ACK, 0, value, &[])).await?;
                }
                _ => {}
            }
        }
        writer.write_all(&frame(WINDOW, FIN, 1, 0, &[])).await?;
        writer.flush().await
    };
    let done: io::Result<()> = soon(send).await;
    assert!(done.is_ok(), "{done:?} after {sent} bytes, frames of up to {largest}");
    assert_eq!(soon(read).await.unwrap(), sent);
    assert!(largest > 512 << 10, "the window grew to {largest} bytes only");
    victim.tasks.stop(PATIENCE).await;
}
