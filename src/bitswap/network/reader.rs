//! Reading messages from a stream, in memory that grows as bytes come.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::io::{AsyncRead, AsyncReadExt as _, BufReader};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::bitswap::message::{MESSAGE_BYTES_MAX, Malformed, Message};

/// Of a message that has begun, so many bytes, or the rest, must come within [`STEP_TIMEOUT`];
/// and memory for so many is taken before they have.
const STEP_BYTES: usize = 64 << 10;
/// Longest wait for [`STEP_BYTES`]: 13 kB/s is what the slowest senders are given elsewhere, too.
const STEP_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest wait for room for a message: what its peer sent before has to be dealt with first.
const ROOM_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of the longest varint that can say how long a message is.
const LENGTH_BYTES_MAX: usize = 4;
/// Bytes read ahead, so that many small messages cost few reads.
const BUFFER_BYTES: usize = 4 << 10;
/// Bytes of all messages longer than that that are being read or heard, from one peer and from all.
const PEER_BYTES_MAX: usize = 8 << 20;
const ALL_BYTES_MAX: usize = 256 << 20;

/// Why a stream is not read further.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The message is too long.
    #[error("a message of more than {MESSAGE_BYTES_MAX} bytes was announced")]
    TooLong,
    /// Its bytes say nothing.
    #[error(transparent)]
    Malformed(#[from] Malformed),
    /// It began and went on too slowly.
    #[error("a message came too slowly")]
    Slow,
    /// The stream broke.
    #[error("the stream broke: {0}")]
    Io(#[from] std::io::Error),
}

/// Memory for the messages of all peers.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Default for Budget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(ALL_BYTES_MAX)))
    }
}

impl Budget {
    /// The part of it that one peer may have.
    #[must_use]
    pub fn of_peer() -> Self {
        Self(Arc::new(Semaphore::new(PEER_BYTES_MAX)))
    }

    /// Waits for room.
    async fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, ReadError> {
        let bytes = u32::try_from(bytes).map_err(|_| ReadError::TooLong)?;
        let taken = timeout(ROOM_TIMEOUT, Arc::clone(&self.0).acquire_many_owned(bytes)).await;
        taken.ok().and_then(Result::ok).ok_or(ReadError::Slow)
    }
}

/// Reads the messages of a stream.
#[derive(Debug)]
pub struct Reader<S> {
    stream: BufReader<S>,
    peer: Budget,
    all: Budget,
    /// Room for the message that was read last: until the next is asked for, it is in use.
    held: Option<[OwnedSemaphorePermit; 2]>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    /// Reads from a stream, within the memory of its peer and of all.
    pub fn new(stream: S, peer: Budget, all: Budget) -> Self {
        Self { stream: BufReader::with_capacity(BUFFER_BYTES, stream), peer, all, held: None }
    }

    /// The next message, whenever it comes; none when the stream has ended. Dropped half-way, it
    /// leaves the stream of no use.
    pub async fn next(&mut self) -> Result<Option<Message>, ReadError> {
        self.held = None;
        let mut byte = [0];
        if self.stream.read(&mut byte).await? == 0 {
            return Ok(None);
        }
        let length = step(self.length(byte)).await?;
        if length > MESSAGE_BYTES_MAX {
            return Err(ReadError::TooLong);
        }
        if length > BUFFER_BYTES {
            self.held = Some([self.peer.take(length).await?, self.all.take(length).await?]);
        }
        let body = self.body(length).await?;
        Ok(Some(Message::decode(&body)?))
    }

    /// The length whose first byte has come.
    async fn length(&mut self, mut byte: [u8; 1]) -> Result<usize, ReadError> {
        let mut length = 0;
        for at in 0..LENGTH_BYTES_MAX {
            length |= usize::from(byte[0] & 0x7f) << (7 * at);
            if byte[0] & 0x80 == 0 {
                return Ok(length);
            }
            self.stream.read_exact(&mut byte).await?;
        }
        Err(ReadError::TooLong)
    }

    async fn body(&mut self, length: usize) -> Result<Bytes, ReadError> {
        let mut body = Vec::new();
        while body.len() < length {
            let start = body.len();
            if body.capacity() == start {
                body.reserve_exact(start.max(STEP_BYTES).min(length - start));
            }
            body.resize(length.min(start + STEP_BYTES).min(body.capacity()), 0);
            let rest = body.get_mut(start..).unwrap_or_default();
            step(async { Ok(self.stream.read_exact(rest).await?) }).await?;
        }
        Ok(body.into())
    }
}

async fn step<T>(work: impl Future<Output = Result<T, ReadError>>) -> Result<T, ReadError> {
    timeout(STEP_TIMEOUT, work).await.unwrap_or(Err(ReadError::Slow))
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::bitswap::message::{Dialect, RawBlock};
    use crate::block::{Block, codec};

    /// Reads what comes in these pieces, each so long after the one before.
    fn reader(
        pieces: impl IntoIterator<Item = Vec<u8>, IntoIter: Send + 'static>,
        every: Duration,
    ) -> Reader<impl AsyncRead + Unpin> {
        let pieces = stream::iter(pieces).then(move |piece| async move {
            sleep(every).await;
            Ok(piece)
        });
        Reader::new(pieces.boxed().into_async_read(), Budget::of_peer(), Budget::default())
    }

    fn message(bytes: usize) -> Message {
        let block = Block::sha2_256(codec::RAW, vec![7; bytes].into()).unwrap();
        let blocks = vec![RawBlock::of(block.cid(), block.data().clone())];
        Message { blocks, ..Message::default() }
    }

    fn bytes(message: &Message) -> Vec<u8> {
        message.encode(Dialect::V1_2).pieces.concat()
    }

    #[tokio::test(start_paused = true)]
    async fn messages_come_one_after_the_other() {
        let sizes = [1, 2 << 20, 65_536, 100, 200_000];
        let whole = sizes.map(|size| bytes(&message(size))).concat();
        for piece in [1_000, 10_000, whole.len()] {
            let pieces: Vec<_> = whole.chunks(piece).map(<[u8]>::to_vec).collect();
            let mut reader = reader(pieces, Duration::from_millis(1));
            for size in sizes {
                assert_eq!(reader.next().await.unwrap(), Some(message(size)));
            }
            assert_eq!(reader.next().await.unwrap(), None);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_may_be_silent_between_messages() {
        let messages = [bytes(&message(10)), bytes(&message(20))];
        let mut reader = reader(messages, Duration::from_secs(3_600));
        assert_eq!(reader.next().await.unwrap(), Some(message(10)));
        assert_eq!(reader.next().await.unwrap(), Some(message(20)));
    }

    /// A length beyond the limit ends the stream; nothing is made room for.
    #[tokio::test(start_paused = true)]
    async fn lengths_beyond_the_limit_end_the_stream() {
        let too_long: [&[u8]; 4] = [
            &[0xff; 10],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01],
            &[0x81, 0x80, 0x80, 0x02], // 4 MiB and a byte
            &[0x80; 5],
        ];
        for length in too_long {
            let mut reader = reader([length.to_vec()], Duration::ZERO);
            assert!(matches!(reader.next().await, Err(ReadError::TooLong)), "{length:?}");
        }
    }

    /// 4 MiB are announced, and a byte comes every second.
    #[tokio::test(start_paused = true)]
    async fn a_message_that_comes_slowly_is_not_waited_for() {
        let announced = bytes(&message(2 << 20));
        let drops: Vec<_> = announced.chunks(1).take(1_000).map(<[u8]>::to_vec).collect();
        let mut reader = reader(drops, Duration::from_secs(1));
        let began = Instant::now();
        assert!(matches!(reader.next().await, Err(ReadError::Slow)));
        assert!(began.elapsed() <= Duration::from_secs(30));
    }
}
