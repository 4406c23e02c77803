//! How often an address may be dialled, so that nobody can make this node knock at another's door.
//! Pure: the time is an argument.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// How long an address that never answered over HTTP is left alone after a dial.
const REST: Duration = Duration::from_secs(10);
/// Dials within [`REST`] to an address that answered.
const PROVEN_DIALS_MAX: u32 = 64;
/// Dials in a row that failed, after which an address is left alone for [`BAN`].
const FAILED_MAX: u32 = 3;
/// How long that is.
const BAN: Duration = Duration::from_secs(600);
/// Addresses that are remembered.
const ADDRESSES_MAX: usize = 4096;

/// What was dialled lately.
#[derive(Debug, Default)]
pub(super) struct DialLimits {
    addresses: HashMap<SocketAddr, Dialled>,
}

#[derive(Debug)]
struct Dialled {
    last: Instant,
    /// When the dials that `dials` counts began.
    since: Instant,
    dials: u32,
    failed: u32,
    proven: bool,
}

impl DialLimits {
    /// Whether an address may be dialled now; if so, it counts as dialled.
    pub(super) fn may_dial(&mut self, address: SocketAddr, now: Instant) -> bool {
        let Some(dialled) = self.addresses.get_mut(&address) else {
            self.make_room(now);
            let dialled = Dialled { last: now, since: now, dials: 1, failed: 0, proven: false };
            self.addresses.insert(address, dialled);
            return true;
        };
        let rested = now.saturating_duration_since(dialled.last);
        let may = if dialled.failed >= FAILED_MAX {
            rested >= BAN
        } else if dialled.proven {
            if now.saturating_duration_since(dialled.since) >= REST {
                (dialled.since, dialled.dials) = (now, 0);
            }
            dialled.dials < PROVEN_DIALS_MAX
        } else {
            rested >= REST
        };
        if may {
            dialled.last = now;
            dialled.dials += 1;
        }
        may
    }

    /// Notes that HTTP was answered from there.
    pub(super) fn answered(&mut self, address: SocketAddr) {
        if let Some(dialled) = self.addresses.get_mut(&address) {
            (dialled.failed, dialled.proven) = (0, true);
        }
    }

    /// Notes that a dial led to no connection.
    pub(super) fn failed(&mut self, address: SocketAddr) {
        if let Some(dialled) = self.addresses.get_mut(&address) {
            dialled.failed += 1;
            dialled.proven = false;
        }
    }

    /// Forgets what no longer counts, and if need be what was dialled longest ago.
    fn make_room(&mut self, now: Instant) {
        if self.addresses.len() < ADDRESSES_MAX {
            return;
        }
        self.addresses.retain(|_, dialled| {
            let rest = if dialled.failed >= FAILED_MAX { BAN } else { REST };
            now.saturating_duration_since(dialled.last) < rest
        });
        if self.addresses.len() >= ADDRESSES_MAX
            && let Some(oldest) =
                self.addresses.iter().min_by_key(|(_, dialled)| dialled.last).map(|(at, _)| *at)
        {
            self.addresses.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 443))
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_dialled_once_in_ten_seconds_until_it_has_answered() {
        let (mut limits, now) = (DialLimits::default(), Instant::now());
        assert!(limits.may_dial(at(1), now));
        assert!(!limits.may_dial(at(1), now + REST / 2));
        assert!(limits.may_dial(at(2), now + REST / 2));
        assert!(limits.may_dial(at(1), now + REST));
        limits.answered(at(1));
        let dials = (0..100).filter(|_| limits.may_dial(at(1), now + REST)).count();
        assert_eq!(dials, PROVEN_DIALS_MAX as usize);
        assert!(limits.may_dial(at(1), now + 2 * REST));
    }

    #[tokio::test(start_paused = true)]
    async fn three_dials_in_vain_close_an_address_for_ten_minutes() {
        let (mut limits, mut now) = (DialLimits::default(), Instant::now());
        for _ in 0..FAILED_MAX {
            assert!(limits.may_dial(at(1), now));
            limits.failed(at(1));
            now += REST;
        }
        assert!(!limits.may_dial(at(1), now));
        assert!(!limits.may_dial(at(1), now + BAN - 2 * REST));
        assert!(limits.may_dial(at(1), now + BAN));
    }

    #[tokio::test(start_paused = true)]
    async fn addresses_remembered_are_bounded() {
        let (mut limits, now) = (DialLimits::default(), Instant::now());
        for number in 0..3 * ADDRESSES_MAX as u32 {
            let address = SocketAddr::from((std::net::Ipv4Addr::from(number), 80));
            limits.may_dial(address, now + Duration::from_micros(number.into()));
        }
        assert_eq!(limits.addresses.len(), ADDRESSES_MAX);
    }
}
