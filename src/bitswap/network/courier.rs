//! Sending messages to a peer.

use std::time::Duration;

use futures_util::io::AsyncWriteExt as _;
use tokio::time::timeout;

use crate::bitswap::PROTOCOLS;
use crate::bitswap::message::{Dialect, Frame, Message};
use crate::p2p::{OpenError, P2p, PeerId, Stream};

/// Of a message that is written, so many bytes, or the rest, must go within [`STEP_TIMEOUT`].
const STEP_BYTES: usize = 64 << 10;
/// Longest wait for a peer that does not read.
const STEP_TIMEOUT: Duration = Duration::from_secs(30);
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

/// Sends messages to one peer, over one stream for as long as that works.
#[derive(Debug)]
pub struct Courier {
    p2p: P2p,
    peer: PeerId,
    open: Option<(Dialect, Stream)>,
}

impl Courier {
    /// A courier to a connected peer. A stream is opened when there is something to send.
    #[must_use]
    pub fn new(p2p: P2p, peer: PeerId) -> Self {
        Self { p2p, peer, open: None }
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
        loop {
            let (dialect, stream) = self.stream().await?;
            let frame = message.encode(*dialect);
            let written = write(stream, &frame).await;
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
async fn write(stream: &mut Stream, frame: &Frame) -> Result<(), Option<std::io::Error>> {
    // Nothing of it can be said in the dialect.
    if frame.is_empty() {
        return Ok(());
    }
    for piece in frame.pieces.iter().flat_map(|piece| piece.chunks(STEP_BYTES)) {
        step(stream.write_all(piece)).await?;
    }
    step(stream.flush()).await
}

async fn step(
    work: impl Future<Output = std::io::Result<()>>,
) -> Result<(), Option<std::io::Error>> {
    timeout(STEP_TIMEOUT, work).await.map_err(|_| None)?.map_err(Some)
}
