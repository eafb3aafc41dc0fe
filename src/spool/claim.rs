//! Claims: the sole right to deliver a message, from taking it to the record of what became of it.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, params};
use tokio::sync::oneshot;

use super::journal::Urgency;
use super::record::RecordKind;
use super::rows::{self, load, settle_row};
use super::{Hint, Owed, RecipientState, Spool, State, StoreError, Stored, ahead, lock, stopped};

/// The sole right to deliver a message. Dropped unsettled, the message is due again.
pub struct Claim {
    stored: Arc<Stored>,
    spool: Spool,
    settled: bool,
}

impl Claim {
    /// The message.
    pub fn message(&self) -> &Arc<Stored> {
        &self.stored
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut active = lock(&self.spool.inner.active);
        active.remove(&self.stored.seq);
        drop(active);
        if !self.settled {
            self.spool.hint(Hint::Waiting(self.stored.waiting(None)));
        }
    }
}

/// What became of the wish to deliver a message.
pub enum Claiming {
    /// The sole right to.
    Ours(Claim),
    /// Somebody else has it: a delivery, or a person's order.
    Busy,
    /// It waits no longer.
    Gone,
}

/// What became of an attempt.
#[derive(Debug, Clone)]
pub struct Settlement {
    /// The new state of every recipient of the envelope.
    pub recipients: Vec<RecipientState>,
    /// The new state of the message; [`State::Done`] moves it to the history.
    pub state: State,
    /// When it is due, if a time is set.
    pub next: Option<Timestamp>,
    /// Why.
    pub reason: String,
    /// One more failed try.
    pub count_attempt: bool,
    /// The route that may have taken it.
    pub uncertain: Option<String>,
    /// Notices that are owed now, made durable together with their cause.
    pub owed: Vec<Owed>,
}

impl Settlement {
    /// The end of a message that a person takes away.
    pub(super) fn removed(stored: &Stored) -> Self {
        Self {
            recipients: stored.recipients.clone(),
            state: State::Done,
            next: None,
            reason: "removed by a person".to_owned(),
            count_attempt: false,
            uncertain: None,
            owed: Vec::new(),
        }
    }
}

/// A message may be under way so often when the process ends; then it is held. Most of those that
/// were had nothing to do with it, and a till may lose its power every evening.
const POISON_LIMIT: u32 = 20;
/// A fault of ours in the midst of its delivery has to do with it far more often than not: the third
/// one is enough.
const FAULT_WEIGHT: u32 = POISON_LIMIT.div_ceil(3);

impl Spool {
    /// Counts, durably, a try at a message that may have ended an earlier process. `false`: it was
    /// under way too often when one ended; it is held now.
    async fn try_suspect(&self, seq: i64) -> Result<bool, StoreError> {
        if !lock(&self.inner.suspects).contains(&seq) {
            return Ok(true);
        }
        let (sender, begun) = oneshot::channel();
        let now = Timestamp::now().as_millisecond();
        self.inner
            .store
            .change(move |db| {
                let begun: Option<u32> = db
                    .prepare_cached(
                        "UPDATE messages SET begun = begun + 1 WHERE seq = ?1 RETURNING begun",
                    )?
                    .query_row([seq], |row| row.get(0))
                    .optional()?;
                if begun.is_some_and(|n| n > POISON_LIMIT) {
                    db.execute("UPDATE messages SET state = 'held', held_since = ?2, begun = 0, reason = 'Postbote failed again and again while this message was being delivered: it may be why; release it to try again' WHERE seq = ?1", params![seq, now])?;
                }
                let _ = sender.send(begun.unwrap_or(0));
                Ok(())
            })
            .await?;
        let good = begun.await.unwrap_or(0) <= POISON_LIMIT;
        if !good {
            tracing::error!(
                event = "poison",
                seq = seq,
                "a message was under way whenever Postbote failed; it is held: see `postbote queue list --state held`"
            );
        }
        Ok(good)
    }

    /// Remembers, durably, that delivering this message met a fault of ours. `was_taken`: after the
    /// upstream had taken it, so that only a person may repeat it.
    pub async fn has_met_a_fault(&self, seq: i64, was_taken: bool) -> Result<(), StoreError> {
        let weight = if was_taken {
            POISON_LIMIT
        } else {
            FAULT_WEIGHT
        };
        lock(&self.inner.suspects).insert(seq);
        self.inner
            .store
            .change(move |db| {
                db.prepare_cached("UPDATE messages SET begun = begun + ?2 WHERE seq = ?1")?
                    .execute([seq, i64::from(weight)])
                    .map(|_| ())
            })
            .await
    }

    /// The sole right to deliver a message.
    pub async fn claim(&self, seq: i64) -> Result<Claiming, StoreError> {
        if !lock(&self.inner.active).insert(seq) {
            return Ok(Claiming::Busy);
        }
        let release = || {
            lock(&self.inner.active).remove(&seq);
        };
        // Somebody may ask for it who has not heard of its end; the store may not have either.
        let journal = self.inner.store.journal();
        if journal.young(|young| young.is_settled(seq)) {
            release();
            return Ok(Claiming::Gone);
        }
        match self.try_suspect(seq).await {
            Ok(true) => {}
            Ok(false) => {
                release();
                return Ok(Claiming::Gone);
            }
            Err(error) => {
                release();
                return Err(error);
            }
        }
        let remembered = lock(&self.inner.memory)
            .remove(seq)
            .or_else(|| self.inner.ahead.take(seq))
            .or_else(|| self.inner.store.journal().young(|young| young.find(seq)));
        let stored = match remembered {
            Some(stored) => Some(stored),
            None => match self.read_run(seq).await {
                Ok(found) => found,
                Err(error) => {
                    release();
                    return Err(error);
                }
            },
        };
        if let Some(stored) = &stored {
            self.inner.ahead.claimed(stored);
        }
        let Some(stored) = stored else {
            release();
            return Ok(Claiming::Gone);
        };
        let stored = if stored.envelope.recipients.len() == stored.recipients.len() {
            stored
        } else {
            release();
            return Err(StoreError::Failed(format!(
                "message {} is damaged: its recipients do not fit",
                stored.id
            )));
        };
        if stored.plan().is_none() {
            release();
            return Ok(Claiming::Gone);
        }
        Ok(Claiming::Ours(Claim {
            stored,
            spool: self.clone(),
            settled: false,
        }))
    }

    /// Reads a message from the store, and the next ones of its tenant ahead.
    async fn read_run(&self, seq: i64) -> Result<Option<Arc<Stored>>, StoreError> {
        let _turn = self.inner.ahead.turn().await;
        if let Some(stored) = self.inner.ahead.take(seq) {
            return Ok(Some(stored));
        }
        let changes = self.inner.ahead.changes();
        let bodies = self.inner.bodies.directory().to_owned();
        let mut run = self
            .inner
            .store
            .read(move |db| {
                // One that cannot be read does not cost its neighbours.
                rows::load_run(db, seq, ahead::RUN, &bodies)
                    .or_else(|_| Ok(load(db, seq, &bodies)?.into_iter().collect()))
            })
            .await?;
        if run.first().is_none_or(|first| first.seq != seq) {
            return Ok(None);
        }
        let first = run.remove(0);
        self.inner.ahead.keep(changes, run);
        Ok(Some(Arc::new(first)))
    }

    /// Records, durably, that the route may have taken the message from now on.
    pub async fn mark_uncertain(&self, claim: &Claim, route: String) -> Result<(), StoreError> {
        let seq = claim.stored.seq;
        self.inner
            .store
            .change(move |db| {
                db.prepare_cached("UPDATE messages SET uncertain = ?2 WHERE seq = ?1")?
                    .execute(params![seq, route])
                    .map(|_| ())
            })
            .await
    }

    /// Settles a claim: the result is durable when this returns. On failure the claim is given
    /// back, so that the message is not tried again before its result is on record.
    pub async fn try_settle(
        &self,
        mut claim: Claim,
        settlement: Settlement,
    ) -> Result<(), (Claim, StoreError)> {
        let stored = Arc::clone(&claim.stored);
        let done = settlement.state == State::Done;
        let leaves = done || settlement.state == State::Failed;
        let guard = lock(&self.inner.unread).get(&stored.id).copied();
        let result = if done && settlement.owed.is_empty() {
            self.journal_done(&stored, &settlement, guard.as_ref())
                .await
        } else {
            let row = Arc::clone(&stored);
            self.inner
                .store
                .change(move |db| settle_row(db, &row, &settlement, guard.as_ref()))
                .await
        };
        if let Err(error) = result {
            return Err((claim, error));
        }
        if leaves {
            self.subtract(stored.size);
        }
        if done {
            self.free(&stored.content);
        }
        claim.settled = true;
        if lock(&self.inner.suspects).remove(&stored.seq) && !done {
            // It was not why.
            let seq = stored.seq;
            self.inner.store.change_later(move |db| {
                db.prepare_cached("UPDATE messages SET begun = 0 WHERE seq = ?1")?
                    .execute([seq])
                    .map(|_| ())
            });
        }
        Ok(())
    }

    /// Records the end of a message in the journal. It is not synced for its own sake: what a
    /// power cut takes is delivered again, never lost. Only where a body file goes with it, the
    /// end must be there first.
    async fn journal_done(
        &self,
        stored: &Stored,
        settlement: &Settlement,
        guard: Option<&[u8; 32]>,
    ) -> Result<(), StoreError> {
        let history = rows::history(stored, settlement, guard).map_err(|e| StoreError::of(&e))?;
        let meta = serde_json::to_vec(&history).map_err(|e| StoreError::Failed(e.to_string()))?;
        let history = Arc::new(history);
        self.inner
            .store
            .journal()
            .append(
                RecordKind::Done,
                &meta,
                &[],
                if stored.inline().is_none() {
                    Urgency::Sync
                } else {
                    Urgency::Written
                },
                |young, number| young.settle(number, history),
            )
            .await
            .unwrap_or_else(|_| Err(stopped()))
    }
}
