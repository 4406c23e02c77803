use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Cid;

/// How far a fetch came that ended without its block, for whoever waited for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// The block.
    pub cid: Cid,
    /// How far it came.
    pub phase: Phase,
    /// Whether time ran out; else all who could be asked have said no.
    pub timed_out: bool,
    /// How long it was tried.
    pub waited: Duration,
    /// Providers that routers named and that can be asked here.
    pub found: u32,
    /// Peers and endpoints that were known, those found among them.
    pub known: u32,
    /// Those that were reached.
    pub reached: u32,
    /// Those that answered, be it to say no.
    pub answered: u32,
    /// Which routers were asked for providers, in words; none where there are none.
    pub routers: Option<Arc<str>>,
    /// Routers that gave no answer.
    pub routers_failed: u32,
}

/// The steps of a fetch, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Nobody was known who could be asked.
    Finding,
    /// Nobody known was reached.
    Connecting,
    /// Somebody was asked.
    Fetching,
}

impl Phase {
    /// What was being done.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Finding => "looking for providers",
            Self::Connecting => "connecting",
            Self::Fetching => "fetching",
        }
    }
}

impl Missing {
    /// What each step came to, in a sentence each.
    #[must_use]
    pub fn steps(&self) -> Vec<String> {
        let routers = match (&self.routers, self.routers_failed) {
            (None, _) => "there is no router to ask".to_owned(),
            (Some(routers), 0) => format!("asked {routers}"),
            (Some(routers), failed) => format!("asked {routers}, {failed} without an answer"),
        };
        let mut steps = vec![format!("Looking for providers: {} found; {routers}", self.found)];
        if self.phase >= Phase::Connecting {
            steps.push(format!("Connecting: {} of {} reached", self.reached, self.known));
        }
        if self.phase >= Phase::Fetching {
            let waited = seconds(self.waited);
            let none = if self.timed_out { "none gave it within" } else { "all lack it, after" };
            steps.push(format!("Fetching: {} answered, {none} {waited}", self.answered));
        }
        steps
    }
}

/// One line, such as `3 providers found, 2 reached, none answered within 10 s`.
impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { cid, found, known, reached, answered, .. } = self;
        let waited = seconds(self.waited);
        if self.phase == Phase::Finding && self.timed_out {
            return write!(f, "{cid}: no providers found within {waited}");
        }
        if *found > 0 {
            write!(f, "{cid}: {}, {reached} reached", count(*found, "provider", " found"))?;
            return match (answered, self.timed_out) {
                (0, _) => write!(f, ", none answered within {waited}"),
                (_, true) => write!(f, ", {answered} answered, none gave it within {waited}"),
                (_, false) => write!(f, ", {answered} answered, and all lack it"),
            };
        }
        if self.timed_out {
            let peers = count(*known, "connected peer", "");
            return write!(f, "{cid}: {peers} asked, none gave it within {waited}");
        }
        write!(f, "{cid}: no providers found")?;
        match (known, &self.routers) {
            (0, None) => write!(f, ": no peer is connected, and there is no router to ask")?,
            (0, Some(routers)) => write!(f, ": asked {routers}")?,
            (_, None) => write!(f, ": asked {}", count(*known, "connected peer", ""))?,
            (_, Some(routers)) => {
                write!(f, ": asked {}, and {routers}", count(*known, "connected peer", ""))?;
            }
        }
        if self.routers_failed > 0 {
            write!(f, " ({} gave no answer)", count(self.routers_failed, "router", ""))?;
        }
        Ok(())
    }
}

fn count(n: u32, thing: &str, then: &str) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} {thing}{s}{then}")
}

fn seconds(time: Duration) -> String {
    match time.as_millis() {
        0..1000 => format!("{} ms", time.as_millis()),
        1000..9950 => format!("{:.1} s", time.as_secs_f64()).replace(".0 s", " s"),
        _ => format!("{:.0} s", time.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::{Block, codec};

    fn missing() -> Missing {
        Missing {
            cid: *Block::sha2_256(codec::RAW, "x".into()).unwrap().cid(),
            phase: Phase::Fetching,
            timed_out: true,
            waited: Duration::from_secs(10),
            found: 3,
            known: 3,
            reached: 2,
            answered: 0,
            routers: Some("the DHT and 2 routers".into()),
            routers_failed: 0,
        }
    }

    #[test]
    fn it_says_who_was_found_reached_and_heard() {
        let says = |missing: Missing, text: &str| {
            let said = missing.to_string();
            assert_eq!(said.split_once(": ").unwrap().1, text);
        };
        says(missing(), "3 providers found, 2 reached, none answered within 10 s");
        says(
            Missing { answered: 2, ..missing() },
            "3 providers found, 2 reached, 2 answered, none gave it within 10 s",
        );
        says(
            Missing { answered: 1, found: 1, reached: 1, timed_out: false, ..missing() },
            "1 provider found, 1 reached, 1 answered, and all lack it",
        );
        says(
            Missing { found: 0, known: 5, timed_out: false, ..missing() },
            "no providers found: asked 5 connected peers, and the DHT and 2 routers",
        );
        says(
            Missing { found: 0, known: 0, timed_out: false, routers: None, ..missing() },
            "no providers found: no peer is connected, and there is no router to ask",
        );
        says(
            Missing { found: 0, known: 0, timed_out: false, routers_failed: 1, ..missing() },
            "no providers found: asked the DHT and 2 routers (1 router gave no answer)",
        );
        says(
            Missing { found: 0, known: 0, phase: Phase::Finding, ..missing() },
            "no providers found within 10 s",
        );
    }

    #[test]
    fn its_steps_end_where_the_fetch_did() {
        assert_eq!(missing().steps().len(), 3);
        let finding = Missing { phase: Phase::Finding, found: 0, ..missing() };
        assert_eq!(
            finding.steps(),
            ["Looking for providers: 0 found; asked the DHT and 2 routers"]
        );
    }
}
