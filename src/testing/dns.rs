//! A DNS server on loopback that says what a test wants: TXT records over UDP, and over TCP what
//! is too long for that. It knows nothing of the crate, so that stories include it as it is.

use std::collections::{HashMap, HashSet};
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// Longest answer over UDP, in bytes.
const UDP_BYTES_MAX: usize = 1200;
/// How often the server looks whether it is to end.
const TICK: Duration = Duration::from_millis(20);
const TXT: u16 = 16;
const CNAME: u16 = 5;

/// What is said about a name.
#[derive(Debug, Clone)]
pub enum Says {
    /// It has these TXT records, with a TTL in seconds.
    Txt(u32, Vec<String>),
    /// It is an alias of another name, with a TTL in seconds.
    Alias(u32, String),
    /// An error code: 2 for a failure, 3 for a name that does not exist.
    Code(u8),
    /// Nothing is said, ever.
    Silence,
    /// Nothing is said until [`DnsServer::release`].
    Held(Vec<String>),
}

/// The server; it ends when it is dropped.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Shared {
    zone: Mutex<HashMap<String, Says>>,
    asked: Mutex<Vec<String>>,
    held: Mutex<Vec<(Vec<u8>, SocketAddr)>>,
    most_held: AtomicUsize,
    ends: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl DnsServer {
    /// A server that knows no name.
    pub fn start() -> io::Result<Self> {
        Self::start_at(SocketAddr::from(([127, 0, 0, 1], 0)))
    }

    /// The same, at an address.
    pub fn start_at(address: SocketAddr) -> io::Result<Self> {
        let (udp, tcp) = bind(address)?;
        let address = udp.local_addr()?;
        let shared = Arc::new(Shared::default());
        let (over_udp, over_tcp) = (Arc::clone(&shared), Arc::clone(&shared));
        let threads = vec![
            std::thread::spawn(move || serve_udp(&udp, &over_udp)),
            std::thread::spawn(move || serve_tcp(&tcp, &over_tcp)),
        ];
        Ok(Self { address, shared, threads })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Says this about a name from now on.
    pub fn say(&self, name: &str, says: Says) {
        lock(&self.shared.zone).insert(name.to_ascii_lowercase(), says);
    }

    /// Says that a domain has this DNSLink, with a TTL in seconds.
    pub fn link(&self, domain: &str, ttl: u32, to: &str) {
        self.say(&format!("_dnslink.{domain}"), Says::Txt(ttl, vec![format!("dnslink={to}")]));
    }

    /// How often a name was asked about.
    #[must_use]
    pub fn asked(&self, name: &str) -> usize {
        lock(&self.shared.asked).iter().filter(|asked| asked.as_str() == name).count()
    }

    /// How many questions came about a domain and the names below it. (Others may be meant for
    /// whoever had this port before.)
    #[must_use]
    pub fn asked_below(&self, domain: &str) -> usize {
        let is_below = |name: &String| {
            name.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        lock(&self.shared.asked).iter().filter(|name| is_below(name)).count()
    }

    /// The most names whose answers were held back at once.
    #[must_use]
    pub fn most_held(&self) -> usize {
        self.shared.most_held.load(Ordering::SeqCst)
    }

    /// Lets go of all that is held back.
    pub fn release(&self) {
        for says in lock(&self.shared.zone).values_mut() {
            if let Says::Held(texts) = says {
                *says = Says::Txt(60, std::mem::take(texts));
            }
        }
    }
}

impl Drop for DnsServer {
    fn drop(&mut self) {
        self.shared.ends.store(true, Ordering::SeqCst);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// One port for both.
fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut tries = 0;
    loop {
        let udp = UdpSocket::bind(address)?;
        match TcpListener::bind(udp.local_addr()?) {
            Ok(tcp) => {
                udp.set_read_timeout(Some(TICK))?;
                tcp.set_nonblocking(true)?;
                return Ok((udp, tcp));
            }
            Err(error) if tries == 20 => return Err(error),
            Err(_) => tries += 1,
        }
    }
}

fn serve_udp(socket: &UdpSocket, shared: &Shared) {
    let mut buffer = [0; 4096];
    while !shared.ends.load(Ordering::SeqCst) {
        if let Ok((length, from)) = socket.recv_from(&mut buffer) {
            let question = buffer.get(..length).unwrap_or_default();
            if let Some(name) = name_of(question) {
                lock(&shared.asked).push(name);
            }
            let mut held = lock(&shared.held);
            held.push((question.to_vec(), from));
        }
        // What is held back is answered as soon as it is not any more.
        let waiting = std::mem::take(&mut *lock(&shared.held));
        let mut still = Vec::new();
        for (question, from) in waiting {
            match answer(&question, shared, UDP_BYTES_MAX) {
                Reply::Now(bytes) => drop(socket.send_to(&bytes, from)),
                Reply::Never => {}
                Reply::Later => still.push((question, from)),
            }
        }
        // Who waits asks again now and then: names count.
        let names: HashSet<_> = still.iter().map(|(question, _)| name_of(question)).collect();
        shared.most_held.fetch_max(names.len(), Ordering::SeqCst);
        *lock(&shared.held) = still;
    }
}

fn serve_tcp(listener: &TcpListener, shared: &Shared) {
    while !shared.ends.load(Ordering::SeqCst) {
        match listener.accept() {
            Ok((mut stream, _)) => {
                let _ = stream.set_nonblocking(false);
                let _ = stream.set_read_timeout(Some(TICK * 10));
                // One after the other, until the client is through.
                while exchange(&mut stream, shared).is_ok() {}
            }
            Err(_) => std::thread::sleep(TICK),
        }
    }
}

fn exchange(stream: &mut (impl Read + Write), shared: &Shared) -> io::Result<()> {
    let mut length = [0; 2];
    stream.read_exact(&mut length)?;
    let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut question)?;
    if let Reply::Now(bytes) = answer(&question, shared, usize::from(u16::MAX)) {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        stream.write_all(&length.to_be_bytes())?;
        stream.write_all(&bytes)?;
    }
    Ok(())
}

enum Reply {
    Now(Vec<u8>),
    Later,
    Never,
}

/// The name that is asked about, in lower case and without its last dot.
fn name_of(question: &[u8]) -> Option<String> {
    let mut labels = Vec::new();
    let mut rest = question.get(12..)?;
    loop {
        let (length, behind) = rest.split_first()?;
        if *length == 0 {
            return Some(labels.join(".").to_ascii_lowercase());
        }
        let (label, behind) = behind.split_at_checked(usize::from(*length))?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        rest = behind;
    }
}

fn answer(question: &[u8], shared: &Shared, bytes_max: usize) -> Reply {
    let Some(name) = name_of(question) else { return Reply::Never };
    let end = 12 + name.len() + 2 + 4; // header, name with its lengths, type and class
    let Some(asked) = question.get(12..end) else { return Reply::Never };
    let is_txt = asked.get(asked.len() - 4..asked.len() - 2) == Some(&TXT.to_be_bytes()[..]);
    let zone = lock(&shared.zone);
    let (mut records, mut count, mut code) = (Vec::new(), 0_u16, 0);
    let mut at = name;
    loop {
        match zone.get(&at) {
            None => code = if count == 0 { 3 } else { 0 },
            Some(Says::Silence) => return Reply::Never,
            Some(Says::Held(_)) => return Reply::Later,
            Some(Says::Code(number)) => code = *number,
            Some(Says::Txt(ttl, texts)) if is_txt => {
                for text in texts {
                    // Strings of a record have at most 255 bytes.
                    let pieces = text.as_bytes().chunks(255);
                    let data = pieces.flat_map(|piece| {
                        let length = u8::try_from(piece.len()).unwrap_or(u8::MAX);
                        [&[length], piece].concat()
                    });
                    record(&mut records, &at, TXT, *ttl, &data.collect::<Vec<_>>());
                    count += 1;
                }
            }
            Some(Says::Txt(..)) => {}
            Some(Says::Alias(ttl, target)) => {
                record(&mut records, &at, CNAME, *ttl, &encoded(target));
                count += 1;
                at = target.to_ascii_lowercase();
                if count < 100 {
                    continue;
                }
            }
        }
        break;
    }
    drop(zone);
    let too_long = 12 + asked.len() + records.len() > bytes_max;
    if too_long {
        (records, count) = (Vec::new(), 0);
    }
    let mut bytes = question.get(..2).unwrap_or_default().to_vec();
    bytes.extend([if too_long { 0x87 } else { 0x85 }, 0x80 | code, 0, 1]);
    bytes.extend(count.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(asked);
    bytes.extend(records);
    Reply::Now(bytes)
}

fn record(out: &mut Vec<u8>, name: &str, kind: u16, ttl: u32, data: &[u8]) {
    out.extend(encoded(name));
    out.extend(kind.to_be_bytes());
    out.extend([0, 1]);
    out.extend(ttl.to_be_bytes());
    out.extend(u16::try_from(data.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(data);
}

fn encoded(name: &str) -> Vec<u8> {
    let label =
        |label: &str| [&[u8::try_from(label.len()).unwrap_or(63)], label.as_bytes()].concat();
    let mut bytes: Vec<u8> = name.split('.').flat_map(label).collect();
    bytes.push(0);
    bytes
}
