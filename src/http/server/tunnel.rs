//! CONNECT: a connection that its client goes on with as a tunnel. It leads to this server itself,
//! wherever the client wanted it to: nothing is dialled. What comes through it is HTTP/1.1, under
//! the permit, the watch and the counts of the connection.

use std::sync::{Mutex, PoisonError};

use hyper::upgrade::OnUpgrade;

/// Whether a connection is a tunnel.
#[derive(Debug, Default)]
pub(in crate::http) struct Tunnel(Mutex<State>);

#[derive(Debug, Default)]
enum State {
    #[default]
    None,
    /// It becomes one with the answer that is under way.
    Begun(OnUpgrade),
    /// It is one, and holds no other.
    Open,
}

impl Tunnel {
    /// Makes the connection a tunnel once the answer to its CONNECT is sent. False where it is one.
    pub(in crate::http) fn begin(&self, upgrade: OnUpgrade) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = matches!(*state, State::None);
        if first {
            *state = State::Begun(upgrade);
        }
        first
    }

    /// What the connection goes on as, if it is to become a tunnel.
    pub(super) fn open(&self) -> Option<OnUpgrade> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match std::mem::replace(&mut *state, State::Open) {
            State::Begun(upgrade) => Some(upgrade),
            State::None | State::Open => None,
        }
    }
}
