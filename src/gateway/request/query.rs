//! The parameters of a gateway request.

use std::borrow::Cow;

use percent_encoding::percent_decode;

use super::{CarParams, Codec, Format};
use crate::gateway::error::Error;
use crate::ipld::car::walk::{CarScope, EntityBytes};

/// Longest file name that a client may give, in bytes.
const FILENAME_BYTES_MAX: usize = 1024;

/// The parameters we know, decoded; others are left alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Params {
    pub(super) format: Option<String>,
    pub(super) filename: Option<String>,
    pub(super) download: bool,
    pub(super) uri: Option<String>,
    pub(super) page: usize,
    pub(super) go_get: bool,
    scope: Option<CarScope>,
    bytes: Option<EntityBytes>,
    order: Option<bool>,
    duplicates: Option<bool>,
}

impl Params {
    /// Reads a query. Of several parameters of one name the first counts.
    pub(super) fn parse(query: &str) -> Result<Self, Error> {
        let mut params = Self::default();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            params.take(&decode(name), &decode(value))?;
        }
        Ok(params)
    }

    fn take(&mut self, name: &str, value: &str) -> Result<(), Error> {
        match name {
            "format" if self.format.is_none() && !value.is_empty() => {
                self.format = Some(value.to_owned());
            }
            "filename" if self.filename.is_none() && !value.is_empty() => {
                self.filename = Some(file_name(value)?);
            }
            "download" => self.download |= value == "true",
            "uri" if self.uri.is_none() => self.uri = Some(value.to_owned()),
            "go-get" => self.go_get |= value == "1",
            "page" => {
                // Pages are counted from 1 where people see them.
                let page = value.parse::<usize>().ok().and_then(|page| page.checked_sub(1));
                self.page = page.ok_or(bad("page", "it is not a number from 1"))?;
            }
            "dag-scope" if self.scope.is_none() => self.scope = Some(scope(value)?),
            "entity-bytes" if self.bytes.is_none() => self.bytes = Some(entity_bytes(value)?),
            "car-version" => car_version(value)?,
            "car-order" if self.order.is_none() => self.order = Some(car_order(value)?),
            "car-dups" if self.duplicates.is_none() => self.duplicates = Some(car_dups(value)?),
            _ => {}
        }
        Ok(())
    }

    /// The parameters of a CAR, above those that `Accept` gives.
    pub(super) fn car(&self, accepted: CarParams) -> Result<CarParams, Error> {
        Ok(CarParams {
            scope: self.scope.unwrap_or_default(),
            bytes: self.bytes,
            duplicates: self.duplicates.unwrap_or(accepted.duplicates),
            any_order: self.order.unwrap_or(accepted.any_order),
        })
    }
}

fn bad(name: &'static str, reason: &'static str) -> Error {
    Error::BadParameter { name, reason }
}

fn decode(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode(spaced.as_bytes()).decode_utf8_lossy().into_owned())
}

fn file_name(value: &str) -> Result<String, Error> {
    if value.len() > FILENAME_BYTES_MAX {
        return Err(bad("filename", "it is longer than 1024 bytes"));
    }
    Ok(value.to_owned())
}

/// The format of a name.
pub(super) fn format(name: &str) -> Result<Format, Error> {
    Ok(match name {
        "raw" => Format::Raw,
        "car" => Format::Car(CarParams::default()),
        "dag-json" => Format::Codec(Codec::DagJson),
        "dag-cbor" => Format::Codec(Codec::DagCbor),
        "json" => Format::Codec(Codec::Json),
        "cbor" => Format::Codec(Codec::Cbor),
        "tar" => Format::Tar,
        "ipns-record" => Format::IpnsRecord,
        _ => return Err(bad("format", "it names no format that is known here")),
    })
}

fn scope(value: &str) -> Result<CarScope, Error> {
    Ok(match value {
        "block" => CarScope::Block,
        "entity" => CarScope::Entity,
        "all" => CarScope::All,
        _ => return Err(bad("dag-scope", "it is none of block, entity, all")),
    })
}

/// `from:to`, both inclusive, negative from the end, `*` for the end.
fn entity_bytes(value: &str) -> Result<EntityBytes, Error> {
    let malformed = || bad("entity-bytes", "it is not from:to, two integers or * for the end");
    let (from, to) = value.split_once(':').ok_or_else(malformed)?;
    let from = from.parse().map_err(|_| malformed())?;
    let to = match to {
        "*" => None,
        to => Some(to.parse::<i64>().map_err(|_| malformed())?),
    };
    if to.is_some_and(|to| (from < 0) == (to < 0) && from > to) {
        return Err(bad("entity-bytes", "it ends before it begins"));
    }
    Ok(EntityBytes { from, to })
}

pub(super) fn car_version(value: &str) -> Result<(), Error> {
    if value == "1" { Ok(()) } else { Err(bad("car-version", "only version 1 is served")) }
}

/// True where any order will do.
pub(super) fn car_order(value: &str) -> Result<bool, Error> {
    match value {
        "dfs" => Ok(false),
        "unk" => Ok(true),
        _ => Err(bad("car-order", "it is neither dfs nor unk")),
    }
}

pub(super) fn car_dups(value: &str) -> Result<bool, Error> {
    match value {
        "y" => Ok(true),
        "n" => Ok(false),
        _ => Err(bad("car-dups", "it is neither y nor n")),
    }
}
