mod files;
mod format;
mod rules;

use super::*;
use crate::metrics::Registry;

fn metrics() -> Metrics {
    Metrics::register(&Registry::new()).unwrap()
}

fn lists(texts: &[&str]) -> Denylist {
    let named: Vec<_> = texts.iter().map(|text| ("list", *text)).collect();
    Denylist::of_texts(&named, metrics()).unwrap()
}

fn cid(text: &str) -> Cid {
    Cid::try_from(text).unwrap()
}

/// What is answered to a path `/ipfs/{cid}/…` or `/ipns/{name}/…`: 200, 410 or 451.
fn answer(denylist: &Denylist, path: &str) -> u16 {
    let (namespace, rest) = path.trim_start_matches('/').split_once('/').unwrap();
    let mut segments = rest.split('/').filter(|segment| !segment.is_empty()).map(str::to_owned);
    let root = segments.next().unwrap();
    let segments: Vec<_> = segments.collect();
    status(match namespace {
        "ipfs" => {
            let root = line::content(&root).map(|hash| {
                Cid::try_from(root.as_str()).unwrap_or(Cid::new_v1(crate::block::codec::RAW, hash))
            });
            denylist.check_path(&root.unwrap(), &segments)
        }
        _ => denylist.check_name(&root, &segments),
    })
}

fn status(outcome: Result<(), Blocked>) -> u16 {
    match outcome {
        Ok(()) => 200,
        Err(Blocked::Gone) => 410,
        Err(Blocked::Legal) => 451,
    }
}
