//! An iterative lookup: which peer is to be asked next, and when the nearest have all answered
//! (kad-dht specification, "Peer routing"). Pure.

use std::collections::{BTreeMap, HashMap};

use libp2p::PeerId;

use super::position::{Distance, Position};
use super::table::K;
use super::wire::Contact;

/// Peers asked at a time (alpha of the specification).
const ASKED_MAX: usize = 10;
/// Peers that one lookup remembers.
const CANDIDATES_MAX: usize = 512;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Heard,
    Asked,
    Answered,
    Failed,
}

/// A lookup under way.
#[derive(Debug)]
pub(super) struct Lookup {
    target: Position,
    own: PeerId,
    candidates: BTreeMap<Distance, (Contact, State)>,
    /// Those that were asked and have not answered.
    asked: HashMap<PeerId, Distance>,
}

impl Lookup {
    /// Looks for what is nearest to `target`, beginning with peers of the table.
    pub(super) fn new(target: Position, own: PeerId, seeds: Vec<Contact>) -> Self {
        let (candidates, asked) = (BTreeMap::new(), HashMap::new());
        let mut lookup = Self { target, own, candidates, asked };
        lookup.hear(seeds);
        lookup
    }

    fn hear(&mut self, contacts: Vec<Contact>) {
        for contact in contacts {
            if contact.peer == self.own {
                continue;
            }
            let distance = Position::of_peer(&contact.peer).distance(&self.target);
            let heard = self.candidates.entry(distance);
            let (known, state) = heard.or_insert_with(|| (contact.clone(), State::Heard));
            if known.addresses.is_empty() && *state == State::Heard {
                known.addresses = contact.addresses;
            }
        }
        while self.candidates.len() > CANDIDATES_MAX {
            self.candidates.pop_last();
        }
    }

    /// The nearest that did not fail: those that the lookup is about.
    fn front(&self) -> impl Iterator<Item = (&Distance, &(Contact, State))> {
        self.candidates.iter().filter(|(_, (_, state))| *state != State::Failed).take(K)
    }

    /// Who is to be asked now.
    pub(super) fn next(&mut self) -> Option<Contact> {
        if self.asked.len() >= ASKED_MAX {
            return None;
        }
        let distance = *self.front().find(|(_, (_, state))| *state == State::Heard)?.0;
        let (contact, state) = self.candidates.get_mut(&distance)?;
        *state = State::Asked;
        self.asked.insert(contact.peer, distance);
        Some(contact.clone())
    }

    /// A peer that was asked answered, and named peers that are nearer.
    pub(super) fn answered(&mut self, peer: &PeerId, closer: Vec<Contact>) {
        self.settle(peer, State::Answered);
        self.hear(closer);
    }

    /// A peer that was asked gave no answer.
    pub(super) fn failed(&mut self, peer: &PeerId) {
        self.settle(peer, State::Failed);
    }

    fn settle(&mut self, peer: &PeerId, to: State) {
        let candidate = self.asked.remove(peer).and_then(|at| self.candidates.get_mut(&at));
        if let Some((_, state)) = candidate {
            *state = to;
        }
    }

    /// Whether the nearest have all answered, as far as they do.
    pub(super) fn is_over(&self) -> bool {
        self.front().all(|(_, (_, state))| *state == State::Answered)
    }

    /// The nearest that answered.
    pub(super) fn into_closest(self) -> Vec<Contact> {
        let answered = |(contact, state)| (state == State::Answered).then_some(contact);
        self.candidates.into_values().filter_map(answered).take(K).collect()
    }
}

#[cfg(test)]
mod tests;
