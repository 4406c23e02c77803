//! Sending messages to a peer.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::io::AsyncWriteExt as _;
use tokio::time::{Instant, timeout};

use crate::bitswap::PROTOCOLS;
use crate::bitswap::message::{Dialect, Frame, Message};
use crate::p2p::{OpenError, P2p, PeerId, Stream};

/// Of a message that is written, so many bytes, or the rest, must go within [`STEP_TIMEOUT`].
const STEP_BYTES: usize = 64 << 10;
/// Longest wait for a peer that does not read.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
/// The same while others wait for the memory that the message takes.
const STEP_TIMEOUT_UNDER_PRESSURE: Duration = Duration::from_secs(2);
/// Longest wait for a stream to close well.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Why a message was not sent.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// No stream could be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The peer did not read; the stream was reset.
    #[error("{0} does not read what is sent to it")]
    Stalled(PeerId),
    /// The stream broke, and so did the one after it.
    #[error("the stream to {0} broke: {1}")]
    Io(PeerId, std::io::Error),
}

/// How many wait for the memory that messages take. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pressure(Arc<AtomicUsize>);

/// Somebody who waits, until it is dropped.
#[derive(Debug)]
pub struct Waiting(Pressure);

impl Pressure {
    /// Says that somebody waits.
    #[must_use]
    pub fn waiting(&self) -> Waiting {
        self.0.fetch_add(1, Ordering::Relaxed);
        Waiting(self.clone())
    }

    fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends messages to one peer, over one stream for as long as that works.
#[derive(Debug)]
pub struct Courier {
    p2p: P2p,
    peer: PeerId,
    pressure: Pressure,
    open: Option<(Dialect, Stream)>,
}

impl Courier {
    /// A courier to a connected peer. A stream is opened when there is something to send.
    #[must_use]
    pub fn new(p2p: P2p, peer: PeerId) -> Self {
        Self { p2p, peer, pressure: Pressure::default(), open: None }
    }

    /// The same, but with less patience while others wait.
    #[must_use]
    pub fn under(self, pressure: Pressure) -> Self {
        Self { pressure, ..self }
    }

    /// What the peer speaks; a stream is opened where none is.
    pub async fn dialect(&mut self) -> Result<Dialect, SendError> {
        Ok(self.stream().await?.0)
    }

    /// Sends a message, as far as the peer's dialect can say it. Returns when all of it has been
    /// handed to the connection, which takes no more than the peer makes room for. A stream that
    /// broke since the last message is opened anew, once.
    pub async fn send(&mut self, message: &Message) -> Result<(), SendError> {
        let mut was_open = self.open.is_some();
        let pressure = self.pressure.clone();
        loop {
            let (dialect, stream) = self.stream().await?;
            let frame = message.encode(*dialect);
            let written = write(stream, &frame, &pressure).await;
            let Err(error) = written else { return Ok(()) };
            // Dropped, it is reset.
            self.open = None;
            match error {
                None => return Err(SendError::Stalled(self.peer)),
                Some(error) if !was_open => return Err(SendError::Io(self.peer, error)),
                Some(_) => was_open = false,
            }
        }
    }

    /// Ends the stream in such a way that what was sent is still read.
    pub async fn close(self) {
        if let Some((_, mut stream)) = self.open {
            drop(timeout(CLOSE_TIMEOUT, stream.close()).await);
        }
    }

    async fn stream(&mut self) -> Result<&mut (Dialect, Stream), SendError> {
        let open = match self.open.take() {
            Some(open) => open,
            None => {
                let (protocol, stream) = self.p2p.open(self.peer, &PROTOCOLS).await?;
                (Dialect::of(&protocol), stream)
            }
        };
        Ok(self.open.insert(open))
    }
}

/// Writes a message. None as the error where the peer does not read.
async fn write(
    stream: &mut Stream,
    frame: &Frame,
    pressure: &Pressure,
) -> Result<(), Option<std::io::Error>> {
    // Nothing of it can be said in the dialect.
    if frame.is_empty() {
        return Ok(());
    }
    for piece in frame.pieces.iter().flat_map(|piece| piece.chunks(STEP_BYTES)) {
        step(stream.write_all(piece), pressure).await?;
    }
    step(stream.flush(), pressure).await
}

async fn step(
    work: impl Future<Output = std::io::Result<()>>,
    pressure: &Pressure,
) -> Result<(), Option<std::io::Error>> {
    let (mut work, began) = (pin!(work), Instant::now());
    loop {
        match timeout(STEP_TIMEOUT_UNDER_PRESSURE, &mut work).await {
            Ok(done) => return done.map_err(Some),
            Err(_) if pressure.is_on() || began.elapsed() >= STEP_TIMEOUT => return Err(None),
            Err(_) => {}
        }
    }
}
