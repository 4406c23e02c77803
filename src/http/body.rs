//! Bodies as the server sees them: counted on their way out, watched on their way in.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::server::{Client, UnderWay};
use crate::metrics::IntCounter;

/// A response's body: a service's own, or a line of ours. Its request counts as under way until
/// this is dropped.
#[derive(Debug)]
pub(super) struct Body<B> {
    kind: Kind<B>,
    under_way: Option<UnderWay>,
    sent: Option<IntCounter>,
}

#[derive(Debug)]
enum Kind<B> {
    Service(B),
    Line(Bytes),
}

impl<B> Body<B> {
    /// A service's body.
    pub(super) fn service(body: B) -> Self {
        Self { kind: Kind::Service(body), under_way: None, sent: None }
    }

    /// A short text.
    pub(super) fn line(text: impl Into<Bytes>) -> Self {
        Self { kind: Kind::Line(text.into()), under_way: None, sent: None }
    }

    /// Counts the bytes that go out.
    pub(super) fn count(mut self, sent: IntCounter) -> Self {
        self.sent = Some(sent);
        self
    }

    /// Holds the place of its request.
    pub(super) fn hold(mut self, under_way: UnderWay) -> Self {
        self.under_way = Some(under_way);
        self
    }
}

impl<B> http_body::Body for Body<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = &mut *self;
        let next = match &mut this.kind {
            Kind::Service(body) => Pin::new(body).poll_frame(cx),
            Kind::Line(text) => {
                let text = std::mem::take(text);
                Poll::Ready((!text.is_empty()).then(|| Ok(Frame::data(text))))
            }
        };
        if let Some(under_way) = &mut this.under_way {
            under_way.set_ours(next.is_pending());
        }
        if let (Poll::Ready(Some(Ok(frame))), Some(sent)) = (&next, &this.sent)
            && let Some(data) = frame.data_ref()
        {
            sent.inc_by(data.len() as u64);
        }
        next
    }

    fn is_end_stream(&self) -> bool {
        match &self.kind {
            Kind::Service(body) => body.is_end_stream(),
            Kind::Line(text) => text.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.kind {
            Kind::Service(body) => body.size_hint(),
            Kind::Line(text) => SizeHint::with_exact(text.len() as u64),
        }
    }
}

/// A request's body, which notes when it is waited for.
#[derive(Debug)]
pub(super) struct Received {
    body: hyper::body::Incoming,
    client: Arc<Client>,
    awaited: bool,
}

impl Received {
    pub(super) fn new(body: hyper::body::Incoming, client: Arc<Client>) -> Self {
        Self { body, client, awaited: false }
    }

    fn set_awaited(&mut self, awaited: bool) {
        if self.awaited != awaited {
            self.awaited = awaited;
            self.client.set_awaiting(awaited);
        }
    }
}

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        self.set_awaited(polled.is_pending());
        Poll::Ready(ready!(polled))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Received {
    fn drop(&mut self) {
        self.set_awaited(false);
    }
}
