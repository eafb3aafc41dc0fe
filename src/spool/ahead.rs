//! Read-ahead: a backlog is read from the store in runs of one tenant, not message by message.
//!
//! What was read ahead may not be older than what has happened since: a run is kept only for
//! messages that nobody has claimed yet, and not at all if a person has changed something meanwhile.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::message::Stored;
use crate::message::TenantId;

/// Messages of one run.
pub(super) const RUN: usize = 16;
/// Messages that are kept at most, over all tenants.
const LIMIT: usize = 64;

#[derive(Default)]
pub(super) struct Ahead {
    state: Mutex<State>,
    reading: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    messages: BTreeMap<i64, Arc<Stored>>,
    /// The highest number that was claimed of each tenant.
    claimed: HashMap<TenantId, i64>,
    /// Counts changes by persons.
    changes: u64,
}

impl Ahead {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One run is read at a time: who waits finds his message in it.
    pub async fn turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.reading.lock().await
    }

    /// Takes a message out, if it was read ahead.
    pub fn take(&self, seq: i64) -> Option<Arc<Stored>> {
        self.lock().messages.remove(&seq)
    }

    /// A message is claimed: what is known of it from before is of no use any more.
    pub fn claimed(&self, stored: &Stored) {
        let mut state = self.lock();
        state.messages.remove(&stored.seq);
        match state.claimed.get_mut(&stored.tenant) {
            Some(highest) => *highest = (*highest).max(stored.seq),
            None => {
                state.claimed.insert(stored.tenant.clone(), stored.seq);
            }
        }
    }

    /// The count of changes, to be asked for before a run is read.
    pub fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// Keeps a run that was read when the count was `changes`.
    pub fn keep(&self, changes: u64, run: Vec<Stored>) {
        let mut state = self.lock();
        if state.changes != changes {
            return;
        }
        if state.messages.len() + run.len() > LIMIT {
            state.messages.clear();
        }
        for stored in run {
            let fresh = state
                .claimed
                .get(&stored.tenant)
                .is_none_or(|highest| stored.seq > *highest);
            if fresh {
                state.messages.insert(stored.seq, Arc::new(stored));
            }
        }
    }

    /// A person has changed something: nothing that was read before holds.
    pub fn forget(&self) {
        let mut state = self.lock();
        state.changes += 1;
        state.messages.clear();
    }
}
