//! A body that is encoded while it is sent.

use std::io::{self, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;

use super::{Coding, SMALL_BYTES_MAX};
use crate::gateway::body::Body;
use crate::gateway::error::Error;

/// Bytes that are encoded in one go.
const STEP_BYTES_MAX: usize = 128 << 10;
/// How hard each tries: about as much as a server can do while it serves.
const ZSTD_LEVEL: i32 = 3;
const BROTLI_QUALITY: u32 = 4;
const GZIP_LEVEL: u32 = 5;
/// How far back each looks, as a power of two in bytes: it decides on the memory.
const ZSTD_WINDOW_LOG: u32 = 19;
const BROTLI_WINDOW_LOG: u32 = 18;
/// Bytes that brotli gives out at once.
const BROTLI_BUFFER_BYTES: usize = 4 << 10;

/// The encoded bytes of another body. Where that fails this does too, and says no end.
pub(in crate::gateway) struct EncodedBody {
    inner: Body,
    state: State,
    /// Content that is yet to be encoded.
    left: Bytes,
    /// Whether it is encoded on the spot: there is little of it.
    small: bool,
    _place: Option<OwnedSemaphorePermit>,
}

enum State {
    Idle(Encoder),
    /// Encoding on a thread of its own; none comes back after the end.
    Working(JoinHandle<io::Result<(Option<Encoder>, Bytes)>>),
    Done,
}

impl EncodedBody {
    pub(in crate::gateway) fn new(
        inner: Body,
        coding: Coding,
        size: Option<u64>,
        place: Option<OwnedSemaphorePermit>,
    ) -> io::Result<Self> {
        let small = size.is_some_and(|size| size <= SMALL_BYTES_MAX);
        let state = State::Idle(Encoder::new(coding, size)?);
        Ok(Self { inner, state, left: Bytes::new(), small, _place: place })
    }

    /// The next bytes; `None` after the last.
    pub(in crate::gateway) fn poll_next(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Bytes, Error>>> {
        loop {
            let (encoder, bytes) = match &mut self.state {
                State::Done => return Poll::Ready(None),
                State::Working(work) => {
                    let done = ready!(Pin::new(work).poll(cx))
                        .unwrap_or_else(|stopped| Err(io::Error::other(stopped)));
                    match done {
                        Ok(done) => done,
                        Err(error) => return self.fail(Error::Encoding(error)),
                    }
                }
                State::Idle(_) => {
                    let content = match ready!(self.poll_content(cx)) {
                        Ok(content) => content,
                        Err(error) => return self.fail(error),
                    };
                    let State::Idle(encoder) = std::mem::replace(&mut self.state, State::Done)
                    else {
                        return Poll::Ready(None);
                    };
                    let small = self.small;
                    let step = move || match content {
                        Some(content) => encoder.step(&content),
                        None => Ok((None, encoder.finish()?)),
                    };
                    if !small {
                        self.state = State::Working(tokio::task::spawn_blocking(step));
                        continue;
                    }
                    match step() {
                        Ok(done) => done,
                        Err(error) => return self.fail(Error::Encoding(error)),
                    }
                }
            };
            self.state = encoder.map_or(State::Done, State::Idle);
            if !bytes.is_empty() {
                return Poll::Ready(Some(Ok(bytes)));
            }
        }
    }

    /// What is to be encoded next; `None` at the end.
    fn poll_content(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Error>> {
        while self.left.is_empty() {
            match ready!(Pin::new(&mut self.inner).poll_frame(cx)?) {
                Some(frame) => self.left = frame.into_data().unwrap_or_default(),
                None => return Poll::Ready(Ok(None)),
            }
        }
        let count = self.left.len().min(STEP_BYTES_MAX);
        Poll::Ready(Ok(Some(self.left.split_to(count))))
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Bytes, Error>>> {
        self.state = State::Done;
        Poll::Ready(Some(Err(error)))
    }

    pub(in crate::gateway) fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }
}

impl std::fmt::Debug for EncodedBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EncodedBody").field("inner", &self.inner).finish_non_exhaustive()
    }
}

/// Whatever encodes, into memory.
enum Encoder {
    Zstd(Box<zstd::stream::write::Encoder<'static, Vec<u8>>>),
    Brotli(Box<brotli::CompressorWriter<Vec<u8>>>),
    Gzip(Box<flate2::write::GzEncoder<Vec<u8>>>),
}

impl Encoder {
    fn new(coding: Coding, size: Option<u64>) -> io::Result<Self> {
        Ok(match coding {
            Coding::Zstd => {
                let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                // A known size lets it do with less memory; a longer window would do with more.
                encoder.set_pledged_src_size(size)?;
                encoder.window_log(ZSTD_WINDOW_LOG)?;
                Self::Zstd(Box::new(encoder))
            }
            Coding::Brotli => {
                let window = match size {
                    // Just as long as the content, for it is set aside at once.
                    Some(size) => (u64::BITS - size.leading_zeros()).clamp(10, BROTLI_WINDOW_LOG),
                    None => BROTLI_WINDOW_LOG,
                };
                let encoder = brotli::CompressorWriter::new(
                    Vec::new(),
                    BROTLI_BUFFER_BYTES,
                    BROTLI_QUALITY,
                    window,
                );
                Self::Brotli(Box::new(encoder))
            }
            Coding::Gzip => {
                let level = flate2::Compression::new(GZIP_LEVEL);
                Self::Gzip(Box::new(flate2::write::GzEncoder::new(Vec::new(), level)))
            }
        })
    }

    /// Takes content, and gives what is encoded by now: nothing, often.
    fn step(mut self, content: &[u8]) -> io::Result<(Option<Self>, Bytes)> {
        let out = match &mut self {
            Self::Zstd(encoder) => {
                encoder.write_all(content)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Brotli(encoder) => {
                encoder.write_all(content)?;
                std::mem::take(encoder.get_mut())
            }
            Self::Gzip(encoder) => {
                encoder.write_all(content)?;
                std::mem::take(encoder.get_mut())
            }
        };
        Ok((Some(self), out.into()))
    }

    /// Gives what is left.
    fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Zstd(encoder) => encoder.finish()?,
            Self::Brotli(encoder) => encoder.into_inner(),
            Self::Gzip(encoder) => encoder.finish()?,
        }
        .into())
    }
}
