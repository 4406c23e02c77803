//! One request for one block.

use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::block::{BLOCK_BYTES_MAX, Block, Cid};
use crate::network::{self, Question};
use crate::traffic::Way;

use super::Shared;
use super::endpoint::Endpoint;
use super::health::Use;

/// What a block is asked for as.
const RAW: &str = "application/vnd.ipld.raw";
/// Blocks of this many bytes and more are hashed on a thread for that.
const HASHED_APART_BYTES: usize = 128 << 10;

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// With the block.
    Block(Block),
    /// The endpoint has it not.
    Missing,
    /// It is busy.
    Busy,
    /// It answered with something that is no block.
    Unfit(StatusCode),
    /// It gave other bytes.
    Wrong,
    /// It gave no answer, or only part of one.
    Failed(network::Error),
    /// It was not asked: it has been turned off meanwhile.
    Unasked,
}

/// Asks an endpoint for a block, and notes how it fared; its bytes are counted for `root`.
pub(super) async fn fetch(
    shared: &Shared,
    endpoint: &Endpoint,
    cid: &Cid,
    root: Option<&Cid>,
) -> Outcome {
    let permits = async { (shared.requests.acquire().await, endpoint.permit().await) };
    let (Ok(_of_all), Ok(_permit)) = permits.await else { return Outcome::Unasked };
    if endpoint.health().use_at(Instant::now()) != Use::Now {
        return Outcome::Unasked;
    }
    let _under_way = UnderWay::begin(shared);
    let began = Instant::now();
    let outcome = ask(shared, endpoint, cid).await;
    let now = Instant::now();
    let label = match &outcome {
        Outcome::Block(block) => {
            endpoint.health().gave(now - began);
            let bytes = block.data().len() as u64;
            shared.metrics.bytes.inc_by(bytes);
            shared.traffic.count(Way::HttpIn, root, bytes);
            shared.metrics.seconds.observe((now - began).as_secs_f64());
            "block"
        }
        Outcome::Missing => {
            endpoint.health().missed(now);
            "missing"
        }
        Outcome::Busy | Outcome::Unasked => "busy",
        Outcome::Unfit(_) => {
            endpoint.health().was_wrong(now);
            "unfit"
        }
        Outcome::Wrong => {
            endpoint.health().was_wrong(now);
            "wrong"
        }
        Outcome::Failed(_) => {
            endpoint.health().failed(began, now);
            "failed"
        }
    };
    shared.metrics.requests.with_label_values(&[label]).inc();
    if !matches!(outcome, Outcome::Block(_) | Outcome::Missing) {
        tracing::debug!(endpoint = %endpoint.url, %cid, ?outcome, "an HTTP provider gave no block");
    }
    outcome
}

async fn ask(shared: &Shared, endpoint: &Endpoint, cid: &Cid) -> Outcome {
    let path = format!("/ipfs/{cid}?format=raw");
    let held_only = endpoint.health().searches();
    let question = Question { url: &endpoint.url, path: &path, accept: RAW, put: None, held_only };
    let answer = match shared.client.ask(question).await {
        Ok(answer) => answer,
        // It is there, and looks for the block elsewhere; we do so ourselves.
        Err(network::Error::Timeout(_)) if endpoint.health().http2().is_some() => {
            endpoint.health().was_searching();
            return Outcome::Missing;
        }
        Err(error) => return Outcome::Failed(error),
    };
    endpoint.health().answered(answer.is_http2());
    let outcome = match answer.status() {
        StatusCode::OK => {
            return match answer.bytes(BLOCK_BYTES_MAX).await {
                Ok(bytes) => verify(*cid, bytes).await,
                Err(network::Error::TooLarge(_)) => Outcome::Wrong,
                Err(error) => Outcome::Failed(error),
            };
        }
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            endpoint.health().was_busy(answer.retry_after(), Instant::now());
            Outcome::Busy
        }
        // Some say 500 of what they have not; a gateway in front of others 502 and 504.
        StatusCode::NOT_FOUND
        | StatusCode::GONE
        | StatusCode::PRECONDITION_FAILED
        | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS
        | StatusCode::INTERNAL_SERVER_ERROR
        | StatusCode::BAD_GATEWAY
        | StatusCode::GATEWAY_TIMEOUT => Outcome::Missing,
        // Redirects too: where they lead nobody has checked.
        status => Outcome::Unfit(status),
    };
    answer.drain().await;
    outcome
}

/// Checks what came.
async fn verify(cid: Cid, bytes: Bytes) -> Outcome {
    let verified = if bytes.len() < HASHED_APART_BYTES {
        Block::verify(cid, bytes)
    } else {
        match tokio::task::spawn_blocking(move || Block::verify(cid, bytes)).await {
            Ok(verified) => verified,
            Err(_) => return Outcome::Unasked,
        }
    };
    verified.map_or(Outcome::Wrong, Outcome::Block)
}

/// Counts a request while it is under way, however it ends.
struct UnderWay<'a>(&'a Shared);

impl<'a> UnderWay<'a> {
    fn begin(shared: &'a Shared) -> Self {
        shared.metrics.under_way.inc();
        Self(shared)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.metrics.under_way.dec();
    }
}
