//! What waits for one tenant: due messages in order of acceptance, others by their time.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;

use crate::spool::Waiting;
use crate::tenant::route::RouteKey;

/// The waiting messages of a tenant. Each message stands in it once.
#[derive(Default)]
pub struct TenantQueue {
    /// Due messages, those of runs (and all of tenants without series).
    ready: BTreeMap<i64, Timestamp>,
    /// Due single mail.
    ready_singles: BTreeMap<i64, Timestamp>,
    later: BTreeMap<(Timestamp, i64), Timestamp>,
    later_at: HashMap<i64, Timestamp>,
    /// Messages that one route may have taken: no other is used for them.
    pub pinned: HashMap<i64, RouteKey>,
    /// Messages whose pinned route is gone: only new settings or a person can help.
    pub parked: HashSet<i64>,
    /// Messages that are no part of a run of serial mail.
    singles: BTreeSet<i64>,
    /// Messages to support alone.
    to_support: BTreeSet<i64>,
    /// Messages with several recipients, and how many.
    several: HashMap<i64, u32>,
    /// Why nothing goes (no route), and since when.
    no_route: Option<(String, Timestamp)>,
}

impl TenantQueue {
    /// What distinguishes a waiting message from others.
    pub fn note(&mut self, waiting: &Waiting) {
        if waiting.single {
            self.singles.insert(waiting.seq);
        }
        if waiting.recipients > 1 {
            self.several.insert(waiting.seq, waiting.recipients);
        }
        if waiting.to_support {
            self.to_support.insert(waiting.seq);
        }
    }

    /// Whether it goes to support alone, and so by whatever way is open.
    pub fn is_to_support(&self, seq: i64) -> bool {
        self.to_support.contains(&seq)
    }

    /// Whether a message is no part of a run of serial mail.
    pub fn is_single(&self, seq: i64) -> bool {
        self.singles.contains(&seq)
    }

    /// How many recipients a message has.
    pub fn recipients(&self, seq: i64) -> u32 {
        self.several.get(&seq).copied().unwrap_or(1)
    }

    /// A message is due.
    pub fn push_ready(&mut self, seq: i64, accepted: Timestamp) {
        if let Some(at) = self.later_at.remove(&seq) {
            self.later.remove(&(at, seq));
        }
        if self.singles.contains(&seq) {
            self.ready.remove(&seq);
            self.ready_singles.insert(seq, accepted);
        } else {
            self.ready.insert(seq, accepted);
        }
    }

    /// A message is due at a time; an earlier plan for it is dropped.
    pub fn push_later(&mut self, at: Timestamp, seq: i64, accepted: Timestamp) {
        self.take(seq);
        self.later.insert((at, seq), accepted);
        self.later_at.insert(seq, at);
    }

    /// Takes a message out; gives when it was accepted.
    pub fn take(&mut self, seq: i64) -> Option<Timestamp> {
        let ready = self.ready.remove(&seq).or(self.ready_singles.remove(&seq));
        let at = self.later_at.remove(&seq);
        ready.or(at.and_then(|at| self.later.remove(&(at, seq))))
    }

    /// Nothing can go, for this reason.
    pub fn stuck(&mut self, reason: String, at: Timestamp) {
        let since = self.no_route.take().map_or(at, |(_, since)| since);
        self.no_route = Some((reason, since));
    }

    /// Mail can go again; gives since when it could not.
    pub fn unstuck(&mut self) -> Option<Timestamp> {
        self.no_route.take().map(|(_, since)| since)
    }

    /// Why nothing goes.
    pub fn stuck_reason(&self) -> Option<&str> {
        self.no_route.as_ref().map(|(reason, _)| reason.as_str())
    }

    /// Forgets what was learned of a message that is settled.
    pub fn forget(&mut self, seq: i64) {
        self.pinned.remove(&seq);
        self.parked.remove(&seq);
        self.singles.remove(&seq);
        self.several.remove(&seq);
        self.to_support.remove(&seq);
    }

    /// Makes what is due at that time ready; gives when the next one is.
    pub fn advance(&mut self, now: Timestamp) -> Option<Timestamp> {
        while let Some((&(at, seq), &accepted)) = self.later.first_key_value() {
            if at > now {
                return Some(at);
            }
            self.push_ready(seq, accepted);
        }
        None
    }

    /// The machine's clock was moved by so much: plans keep their distance from now. Gives when
    /// the first is due.
    pub fn clock_moved(&mut self, moved: jiff::SignedDuration) -> Option<Timestamp> {
        let later = std::mem::take(&mut self.later);
        self.later_at.clear();
        for ((at, seq), accepted) in later {
            let at = at.saturating_add(moved).unwrap_or(at);
            self.later.insert((at, seq), accepted);
            self.later_at.insert(seq, at);
        }
        self.later.first_key_value().map(|((at, _), _)| *at)
    }

    /// Makes everything ready at once, parked messages too.
    pub fn rush(&mut self) {
        self.parked.clear();
        while let Some((&(_, seq), &accepted)) = self.later.first_key_value() {
            self.push_ready(seq, accepted);
        }
    }

    /// The first due messages, oldest first, without parked ones. `in_portions`: single mail goes
    /// before serial mail, and so many of each, for where one kind has to wait the other may go.
    pub fn due(&self, limit: usize, in_portions: bool) -> Vec<i64> {
        let first = |ready: &BTreeMap<i64, Timestamp>| -> Vec<i64> {
            let free = ready.keys().filter(|seq| !self.parked.contains(seq));
            free.take(limit).copied().collect()
        };
        let mut due = first(&self.ready_singles);
        due.extend(first(&self.ready));
        if !in_portions {
            due.sort_unstable();
            due.truncate(limit);
        }
        due
    }

    /// All waiting messages with their time of acceptance, due ones first.
    pub fn waiting(&self) -> impl Iterator<Item = (i64, Timestamp)> + '_ {
        let later = self
            .later
            .iter()
            .map(|((_, seq), accepted)| (*seq, *accepted));
        self.ready
            .iter()
            .chain(&self.ready_singles)
            .map(|(seq, accepted)| (*seq, *accepted))
            .chain(later)
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.ready_singles.is_empty() && self.later.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_message_stands_once() {
        let at = |s: i64| Timestamp::from_second(s).expect("time");
        let mut queue = TenantQueue::default();
        queue.push_later(at(10), 1, at(0));
        queue.push_later(at(20), 1, at(0));
        queue.push_later(at(5), 2, at(0));
        assert_eq!(queue.waiting().count(), 2);
        assert_eq!(queue.advance(at(12)), Some(at(20)));
        assert_eq!(queue.due(9, false), [2]);
        queue.push_ready(1, at(0));
        assert_eq!(queue.due(9, false), [1, 2]);
        assert_eq!(queue.advance(at(30)), None);
        queue.take(1);
        queue.parked.insert(2);
        assert!(queue.due(9, false).is_empty());
        queue.rush();
        assert_eq!(queue.due(9, false), [2]);
    }

    #[test]
    fn single_mail_goes_first_where_mail_goes_in_portions() {
        let at = Timestamp::UNIX_EPOCH;
        let mut queue = TenantQueue::default();
        for (seq, single) in [(1, false), (2, true), (3, false), (4, true)] {
            queue.note(&Waiting {
                seq,
                tenant: crate::message::TenantId::parse("acme").expect("id"),
                accepted: at,
                next: None,
                single,
                recipients: 1,
                to_support: false,
            });
            queue.push_ready(seq, at);
        }
        assert_eq!(queue.due(9, true), [2, 4, 1, 3]);
        assert_eq!(queue.due(1, true), [2, 1]);
        assert_eq!(queue.due(3, false), [1, 2, 3]);
        queue.take(2);
        assert_eq!(queue.due(9, true), [4, 1, 3]);
        assert_eq!(queue.waiting().count(), 3);
    }
}
