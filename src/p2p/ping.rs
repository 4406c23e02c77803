//! How long a peer takes to answer (`/ipfs/ping/1.0.0`: 32 bytes there, the same back).

use std::io;
use std::time::Duration;

use futures_util::{AsyncReadExt as _, AsyncWriteExt as _};
use libp2p::PeerId;
use libp2p::swarm::StreamProtocol;
use tokio::time::Instant;

use super::{OpenError, P2p};

const PROTOCOL: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");
const PAYLOAD_BYTES: usize = 32;
/// Longest wait for the answer.
const TIMEOUT: Duration = Duration::from_secs(10);

pub(super) async fn ping(p2p: &P2p, peer: PeerId) -> Result<Duration, OpenError> {
    let exchange = async {
        let (_, mut stream) = p2p.open(peer, &[PROTOCOL]).await?;
        let failed = |error| OpenError::Io(peer, error);
        let (mut sent, mut back) = ([0; PAYLOAD_BYTES], [0; PAYLOAD_BYTES]);
        getrandom::fill(&mut sent).map_err(|error| failed(io::Error::other(error)))?;
        let start = Instant::now();
        stream.write_all(&sent).await.map_err(failed)?;
        stream.flush().await.map_err(failed)?;
        stream.read_exact(&mut back).await.map_err(failed)?;
        if sent != back {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, "another answer came")));
        }
        Ok(start.elapsed())
    };
    tokio::time::timeout(TIMEOUT, exchange)
        .await
        .unwrap_or_else(|_| Err(OpenError::Io(peer, io::ErrorKind::TimedOut.into())))
}
