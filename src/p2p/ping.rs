//! How far a peer is (libp2p ping specification): 32 bytes there and back.

use std::io;
use std::time::Duration;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::ping::PROTOCOL_NAME;
use tokio::time::{Instant, timeout};

use super::{OpenError, P2p, PeerId};

/// Bytes of a ping.
const BYTES: usize = 32;
/// Longest wait for them to come back.
const TIMEOUT: Duration = Duration::from_secs(10);

impl P2p {
    /// Pings a connected peer; how long it took there and back.
    pub async fn ping(&self, peer: PeerId) -> Result<Duration, OpenError> {
        let failed = |error| OpenError::Io(peer, error);
        let pinged = async {
            let (_, mut stream) = self.open(peer, &[PROTOCOL_NAME]).await?;
            let mut sent = [0; BYTES];
            getrandom::fill(&mut sent).map_err(|e| failed(io::Error::other(e.to_string())))?;
            // The first shakes hands about the protocol, which takes ways of its own.
            let mut took = Duration::ZERO;
            for _ in 0..2 {
                let begun = Instant::now();
                stream.write_all(&sent).await.map_err(failed)?;
                stream.flush().await.map_err(failed)?;
                let mut back = [0; BYTES];
                stream.read_exact(&mut back).await.map_err(failed)?;
                if back != sent {
                    let text = "it sent back something else than what it got";
                    return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
                }
                took = begun.elapsed();
            }
            // Whether it hears that we are done is its own affair.
            let _ = stream.close().await;
            Ok(took)
        };
        let late = |_| failed(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"));
        timeout(TIMEOUT, pinged).await.map_err(late)?
    }
}
