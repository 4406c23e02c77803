//! A part of a CAR: what is missing of a download that broke off (RFC 9110 section 14.2).
//!
//! The last byte of an open range must be named before the first is sent, so the CAR is measured
//! first: a walk that writes nothing, and reads of blocks only those that have links. Where that
//! takes too long, or some block cannot be had, the CAR is sent whole.

use std::future::poll_fn;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};

use crate::block::{Cid, codec};
use crate::gateway::error::Error;
use crate::gateway::headers;
use crate::gateway::request::{CarParams, Ranges, Satisfied};
use crate::ipld::car;
use crate::ipld::walk::Step;
use crate::retrieval::Session;

use super::{CarBody, Responder};

/// Longest time to measure a CAR and to find the place in it, well below what clients wait for a
/// head: tens of thousands of blocks that are here.
const TIME_MAX: Duration = Duration::from_secs(10);

/// The part that is asked for, noted in the headers; `None` where the whole is to be sent.
pub(super) async fn part(
    responder: Responder<'_>,
    session: &Session,
    params: CarParams,
    headers: &mut HeaderMap,
) -> Result<Option<CarBody>, Error> {
    let request = responder.request;
    let Some(ranges) = request.wants.range.as_ref().filter(|ranges| ranges.is_one()) else {
        return Ok(None);
    };
    if !headers::range_holds(request, headers) {
        return Ok(None);
    }
    let found = tokio::time::timeout(TIME_MAX, find(responder, session, params, ranges)).await;
    let (body, content_range) = match found {
        Ok(Ok(Some(found))) => found,
        Ok(Err(Error::Range(size))) => return Err(Error::Range(size)),
        Ok(Ok(None) | Err(_)) | Err(_) => return Ok(None),
    };
    if let Ok(value) = HeaderValue::try_from(content_range) {
        headers.insert(header::CONTENT_RANGE, value);
    }
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.left.unwrap_or_default()));
    Ok(Some(body))
}

/// The CAR from the beginning of the range on, and the range.
async fn find(
    responder: Responder<'_>,
    session: &Session,
    params: CarParams,
    ranges: &Ranges,
) -> Result<Option<(CarBody, String)>, Error> {
    let mut measured = CarBody::begin(responder, session, params).await?;
    let size = measured.skip(responder, u64::MAX).await?;
    let part = match ranges.within(size) {
        Satisfied::Unsatisfiable => return Err(Error::Range(size)),
        Satisfied::Parts(_) => return Ok(None),
        Satisfied::Part(part) => part,
    };
    let mut body = CarBody::begin(responder, session, params).await?;
    if body.skip(responder, part.start).await? != part.start {
        return Ok(None);
    }
    body.left = Some(part.end - part.start);
    Ok(Some((body, format!("bytes {}-{}/{size}", part.start, part.end - 1))))
}

impl CarBody {
    /// Leaves out the first bytes, up to `count`. Says how many there were.
    async fn skip(&mut self, responder: Responder<'_>, count: u64) -> Result<u64, Error> {
        let mut skipped = self.out.skip(count);
        while skipped < count {
            match self.walk.step()? {
                Step::Done => break,
                Step::Visit(block) => {
                    self.write(block);
                    skipped += self.out.skip(count - skipped);
                }
                Step::Need(cid) => match raw_size(responder, &cid).await? {
                    Some(bytes) if car::section_bytes(&cid, bytes) <= count - skipped => {
                        if self.walk.pass(&cid, bytes)? {
                            skipped += car::section_bytes(&cid, bytes);
                        }
                    }
                    _ => poll_fn(|cx| self.poll_supply(cx, &cid)).await?,
                },
            }
            // What is here comes without a wait, and there may be very much of it.
            tokio::task::consume_budget().await;
        }
        Ok(skipped)
    }
}

/// How many bytes a block has that is here and without links, so that it need not be read.
async fn raw_size(responder: Responder<'_>, cid: &Cid) -> Result<Option<u64>, Error> {
    match cid.codec() {
        codec::RAW => Ok(responder.retriever.size_on_disk(cid).await?),
        _ => Ok(None),
    }
}
