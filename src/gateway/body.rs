//! The body of a gateway response.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;

use crate::block::Cid;
use crate::traffic::{Traffic, Way};

use super::encoding::{Coding, EncodedBody};
use super::error::Error;
use super::metrics::Streams;
use super::respond::car::CarBody;
use super::respond::file::FileBody;
use super::respond::multipart::MultipartBody;
use super::respond::tar::TarBody;

/// A body: nothing, bytes at hand, or a stream that gets its blocks as it goes. A stream that fails
/// ends in an error, so that the connection is cut and nobody takes the part for the whole.
#[derive(Debug)]
pub struct Body {
    kind: Kind,
    /// What counts the bytes of a stream, where they are counted.
    count: Option<Box<Count>>,
}

#[derive(Debug)]
enum Kind {
    Empty,
    Full(Bytes),
    File(Box<FileBody>, Streams),
    Car(Box<CarBody>, Streams),
    Multipart(Box<MultipartBody>, Streams),
    Tar(Box<TarBody>, Streams),
    /// Another body, in a content coding.
    Encoded(Box<EncodedBody>),
    /// The stream failed, and what came before may still be on its way to the client.
    Failed(Error),
}

impl Body {
    fn of(kind: Kind) -> Self {
        Self { kind, count: None }
    }

    /// This body, its bytes counted: those at hand now, those of a stream as they leave.
    pub(super) fn counted(self, traffic: &Traffic, root: Option<Cid>) -> Self {
        match &self.kind {
            Kind::Empty | Kind::Failed(_) => self,
            Kind::Full(bytes) => {
                traffic.count(Way::HttpOut, root.as_ref(), bytes.len() as u64);
                self
            }
            _ => {
                let count = Count { traffic: traffic.clone(), root, bytes: 0 };
                Self { count: Some(Box::new(count)), ..self }
            }
        }
    }

    /// No bytes.
    #[must_use]
    pub fn empty() -> Self {
        Self::of(Kind::Empty)
    }

    /// These bytes.
    #[must_use]
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::of(if bytes.is_empty() { Kind::Empty } else { Kind::Full(bytes) })
    }

    pub(super) fn file(file: FileBody, streams: Streams) -> Self {
        Self::of(Kind::File(Box::new(file), streams))
    }

    /// This body in a content coding. `size` is its length, where that is known; `place` is held
    /// until the last byte.
    pub(super) fn encoded(
        self,
        coding: Coding,
        size: Option<u64>,
        place: Option<OwnedSemaphorePermit>,
    ) -> Self {
        match EncodedBody::new(self, coding, size, place) {
            Ok(body) => Self::of(Kind::Encoded(Box::new(body))),
            Err(error) => Self::of(Kind::Failed(Error::Encoding(error))),
        }
    }

    pub(super) fn car(car: CarBody, streams: Streams) -> Self {
        Self::of(Kind::Car(Box::new(car), streams))
    }

    pub(super) fn multipart(parts: MultipartBody, streams: Streams) -> Self {
        Self::of(Kind::Multipart(Box::new(parts), streams))
    }

    pub(super) fn tar(tar: TarBody, streams: Streams) -> Self {
        Self::of(Kind::Tar(Box::new(tar), streams))
    }
}

/// Counts what leaves of one stream, and tells of it when that ends, be it early.
#[derive(Debug)]
struct Count {
    traffic: Traffic,
    root: Option<Cid>,
    bytes: u64,
}

impl Drop for Count {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.traffic.count(Way::HttpOut, self.root.as_ref(), self.bytes);
        }
    }
}

impl Body {
    /// Notes that bytes of a stream leave.
    fn left(&mut self, bytes: usize) {
        if let Some(count) = &mut self.count {
            count.bytes += bytes as u64;
        }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let (next, streams) = match &mut self.kind {
            Kind::Empty => return Poll::Ready(None),
            Kind::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                self.kind = Kind::Empty;
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            Kind::Failed(_) => {
                let Kind::Failed(error) = std::mem::replace(&mut self.kind, Kind::Empty) else {
                    return Poll::Ready(None);
                };
                return Poll::Ready(Some(Err(error)));
            }
            Kind::Encoded(body) => {
                let next = ready!(body.poll_next(cx));
                if let Some(Ok(bytes)) = &next {
                    self.left(bytes.len());
                }
                return Poll::Ready(next.map(|next| next.map(Frame::data)));
            }
            Kind::File(file, streams) => (file.poll_next(cx), streams),
            Kind::Car(car, streams) => (car.poll_next(cx), streams),
            Kind::Multipart(parts, streams) => (parts.poll_next(cx), streams),
            Kind::Tar(tar, streams) => (tar.poll_next(cx), streams),
        };
        match next {
            Poll::Pending => Poll::Pending,
            Poll::Ready(Ok(Some(bytes))) => {
                self.left(bytes.len());
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Poll::Ready(Ok(None)) => {
                self.kind = Kind::Empty;
                Poll::Ready(None)
            }
            Poll::Ready(Err(error)) => {
                streams.truncated.inc();
                tracing::debug!(%error, "a response was cut off");
                // An error throws away what was not yet written, so that is let go first: whoever
                // resumes later has what was good.
                self.kind = Kind::Failed(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Empty => true,
            Kind::Encoded(body) => body.is_done(),
            _ => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Empty => SizeHint::with_exact(0),
            Kind::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Kind::File(file, _) => SizeHint::with_exact(file.bytes_left()),
            Kind::Multipart(parts, _) => SizeHint::with_exact(parts.bytes_left()),
            Kind::Car(car, _) => {
                car.bytes_left().map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Kind::Tar(..) | Kind::Encoded(_) | Kind::Failed(_) => SizeHint::default(),
        }
    }
}
