//! The `Accept` header: which representation, and with which parameters.

use http::{HeaderMap, header};

use super::{CarParams, Codec, Format};
use crate::gateway::error::Error;

/// What `Accept` asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Accepted {
    /// The format, where it names one of ours.
    pub(super) format: Option<Format>,
    /// The parameters it gives for a CAR.
    pub(super) car: Option<CarParams>,
    /// Whether HTML is accepted, as by browsers.
    pub(super) html: bool,
}

/// Takes the type of the highest weight, of equal ones the first that names a format of ours: a
/// browser's list means no format at all.
pub(super) fn parse(headers: &HeaderMap) -> Result<Accepted, Error> {
    let mut best: Option<(u16, Option<Format>)> = None;
    let (mut unknown_vendor, mut html) = (false, false);
    for value in headers.get_all(header::ACCEPT) {
        let Ok(value) = value.to_str() else { continue };
        for range in value.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next().unwrap_or_default();
            let format = match known(name) {
                Some(Format::Car(_)) => Some(Format::Car(car_params(parts.clone())?)),
                other => other,
            };
            if format.is_none() && is_vendor(name) {
                unknown_vendor = true;
                continue;
            }
            let weight = weight(parts);
            html |= weight > 0 && name.eq_ignore_ascii_case("text/html");
            let better = best.is_none_or(|(before, chosen)| {
                weight > before || weight == before && chosen.is_none() && format.is_some()
            });
            if weight > 0 && better {
                best = Some((weight, format));
            }
        }
    }
    match best.and_then(|(_, format)| format) {
        Some(Format::Car(params)) => {
            Ok(Accepted { format: Some(Format::Car(params)), car: Some(params), html })
        }
        None if unknown_vendor && best.is_none() => Err(Error::UnknownMediaType),
        format => Ok(Accepted { format, car: None, html }),
    }
}

fn known(name: &str) -> Option<Format> {
    // Nearly every request comes by here with something else.
    let subtype =
        name.get(..12)?.eq_ignore_ascii_case("application/").then(|| name.get(12..))??;
    const NAMES: [(&str, Format); 8] = [
        ("vnd.ipld.raw", Format::Raw),
        (
            "vnd.ipld.car",
            Format::Car(CarParams {
                scope: crate::ipld::car::walk::CarScope::All,
                bytes: None,
                duplicates: false,
                any_order: false,
            }),
        ),
        ("vnd.ipld.dag-json", Format::Codec(Codec::DagJson)),
        ("vnd.ipld.dag-cbor", Format::Codec(Codec::DagCbor)),
        ("json", Format::Codec(Codec::Json)),
        ("cbor", Format::Codec(Codec::Cbor)),
        ("x-tar", Format::Tar),
        ("vnd.ipfs.ipns-record", Format::IpnsRecord),
    ];
    NAMES.into_iter().find(|(known, _)| subtype.eq_ignore_ascii_case(known)).map(|(_, f)| f)
}

fn is_vendor(name: &str) -> bool {
    name.get(..16).is_some_and(|start| start.eq_ignore_ascii_case("application/vnd."))
}

/// The weight in thousandths; 1000 where none is given.
fn weight<'a>(mut parts: impl Iterator<Item = &'a str>) -> u16 {
    parts
        .find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")))
        .and_then(|q| q.trim().parse::<f32>().ok())
        .map_or(1000, |q| (q.clamp(0.0, 1.0) * 1000.0) as u16)
}

fn car_params<'a>(parts: impl Iterator<Item = &'a str>) -> Result<CarParams, Error> {
    let mut params = CarParams::default();
    for part in parts {
        let Some((name, value)) = part.split_once('=') else { continue };
        let value = value.trim().trim_matches('"');
        match name.trim() {
            "version" => super::query::car_version(value)?,
            "order" => params.any_order = super::query::car_order(value)?,
            "dups" => params.duplicates = super::query::car_dups(value)?,
            _ => {}
        }
    }
    Ok(params)
}
