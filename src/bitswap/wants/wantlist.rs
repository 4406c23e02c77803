//! What one peer is to know that we want, and what it has been told.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::bitswap::message::{Entry, Message, WantKind};
use crate::block::Cid;

use super::WantId;

/// Most lines of a wantlist; peers keep 1,024 of ours, and what is over they drop in silence.
pub(super) const LINES_MAX: usize = 1000;

/// The wantlist that a peer keeps for us. Changes gather here until they are sent.
#[derive(Debug, Default)]
pub(super) struct Wantlist {
    lines: BTreeMap<WantId, Line>,
    /// Lines whose change the peer has not been told, in the order they are to be served.
    changed: BTreeSet<WantId>,
    /// Whether anything was told on this connection.
    begun: bool,
}

#[derive(Debug)]
struct Line {
    cid: Cid,
    wanted: Option<WantKind>,
    told: Option<WantKind>,
}

impl Wantlist {
    /// Lines, those of wants still to be withdrawn too.
    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether a line more is within the limit.
    pub(super) fn has_room(&self) -> bool {
        self.lines.len() < LINES_MAX
    }

    /// Whether there is something to tell.
    pub(super) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Whether this is on it, and not to be withdrawn.
    pub(super) fn wants(&self, id: WantId) -> bool {
        self.lines.get(&id).is_some_and(|line| line.wanted.is_some())
    }

    /// Wants whose lines it has.
    pub(super) fn ids(&self) -> Vec<WantId> {
        self.lines.keys().copied().collect()
    }

    /// Wants this of a block.
    pub(super) fn want(&mut self, id: WantId, cid: Cid, kind: WantKind) {
        let line = self.lines.entry(id).or_insert(Line { cid, wanted: None, told: None });
        line.wanted = Some(kind);
        if line.told == Some(kind) {
            self.changed.remove(&id);
        } else {
            self.changed.insert(id);
        }
    }

    /// Wants nothing of the block any more. Whether the peer is to be told.
    pub(super) fn withdraw(&mut self, id: WantId) -> bool {
        let Some(line) = self.lines.get_mut(&id) else { return false };
        line.wanted = None;
        if line.told.is_none() {
            self.lines.remove(&id);
            self.changed.remove(&id);
            return false;
        }
        self.changed.insert(id)
    }

    /// The peer sent the block, and with that took the line off its list by itself.
    pub(super) fn served(&mut self, id: WantId) {
        self.lines.remove(&id);
        self.changed.remove(&id);
    }

    /// What was told may be lost: all of it is told again, in place of what the peer has.
    pub(super) fn forget_told(&mut self) {
        self.begun = false;
        self.lines.retain(|_, line| {
            line.told = None;
            line.wanted.is_some()
        });
        self.changed = self.lines.keys().copied().collect();
    }

    /// All changes there are, as one message.
    pub(super) fn take(&mut self) -> Option<Message> {
        if self.changed.is_empty() {
            return None;
        }
        let mut wants = Vec::with_capacity(self.changed.len());
        // What was withdrawn and is wanted again goes without its cancel: peers keep one line a
        // CID, and hear cancels last.
        let changed = self.changed.iter().filter_map(|id| self.lines.get(id));
        let wanted: HashSet<Cid> =
            changed.filter(|line| line.wanted.is_some()).map(|line| line.cid).collect();
        for id in std::mem::take(&mut self.changed) {
            let Some(line) = self.lines.get_mut(&id) else { continue };
            if line.wanted.is_none() && wanted.contains(&line.cid) {
                self.lines.remove(&id);
                continue;
            }
            line.told = line.wanted;
            wants.push(Entry {
                cid: line.cid,
                priority: id.priority(),
                kind: line.wanted.unwrap_or(WantKind::Block),
                cancel: line.wanted.is_none(),
                send_dont_have: line.wanted.is_some(),
            });
            if line.wanted.is_none() {
                self.lines.remove(&id);
            }
        }
        let full = !std::mem::replace(&mut self.begun, true);
        Some(Message { full, wants, ..Message::default() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::cid;
    use super::*;

    fn id(serial: u64) -> WantId {
        WantId { turn: serial, serial }
    }

    fn told(list: &mut Wantlist) -> Vec<(Cid, WantKind, bool)> {
        let wants = list.take().map(|message| message.wants).unwrap_or_default();
        wants.into_iter().map(|entry| (entry.cid, entry.kind, entry.cancel)).collect()
    }

    #[test]
    fn changes_gather_into_one_message_in_order() {
        let mut list = Wantlist::default();
        list.want(id(2), cid(2), WantKind::Have);
        list.want(id(1), cid(1), WantKind::Block);
        list.want(id(2), cid(2), WantKind::Block);
        let first = list.take().unwrap();
        assert!(first.full, "the first message takes the place of what the peer had");
        assert!(first.wants[0].priority > first.wants[1].priority);
        let kinds: Vec<_> = first.wants.iter().map(|entry| (entry.cid, entry.kind)).collect();
        assert_eq!(kinds, [(cid(1), WantKind::Block), (cid(2), WantKind::Block)]);
        assert!(list.take().is_none());
        list.want(id(3), cid(3), WantKind::Have);
        assert!(!list.take().unwrap().full);
    }

    #[test]
    fn a_want_withdrawn_before_it_was_told_is_never_told() {
        let mut list = Wantlist::default();
        list.want(id(1), cid(1), WantKind::Block);
        assert!(!list.withdraw(id(1)));
        assert_eq!((told(&mut list), list.len()), (vec![], 0));
        list.want(id(1), cid(1), WantKind::Block);
        assert_eq!(told(&mut list).len(), 1);
        assert!(list.withdraw(id(1)));
        assert_eq!(told(&mut list), [(cid(1), WantKind::Block, true)]);
        assert_eq!(list.len(), 0);
    }

    #[test]
    fn what_is_wanted_again_before_its_cancel_was_told_is_not_cancelled() {
        let mut list = Wantlist::default();
        list.want(id(1), cid(1), WantKind::Block);
        told(&mut list);
        list.withdraw(id(1));
        list.want(id(2), cid(1), WantKind::Block);
        assert_eq!(told(&mut list), [(cid(1), WantKind::Block, false)]);
        assert_eq!(list.len(), 1);
    }

    #[test]
    fn what_was_served_is_not_cancelled_and_all_is_told_anew_after_a_break() {
        let mut list = Wantlist::default();
        list.want(id(1), cid(1), WantKind::Block);
        list.want(id(2), cid(2), WantKind::Have);
        list.want(id(3), cid(3), WantKind::Have);
        told(&mut list);
        list.served(id(1));
        list.withdraw(id(3));
        list.forget_told();
        let again = list.take().unwrap();
        assert!(again.full);
        assert_eq!(again.wants.len(), 1, "{again:?}");
        assert_eq!(again.wants[0].cid, cid(2));
    }
}
