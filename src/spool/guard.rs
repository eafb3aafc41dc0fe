//! The duplicates guard: a message whose 250 was lost is taken once, though it is handed in twice.

use std::time::{Duration, Instant};

use aws_lc_rs::digest;

use super::journal::Urgency;
use super::record::RecordKind;
use super::{Spool, Spooled, lock, young};
use crate::message::{Envelope, MessageId, TenantId};

/// How long a repeat waits to hear whether the first one's 250 was read.
const FATE_LIMIT: Duration = Duration::from_secs(70);

/// How many messages, whose 250 was read, are remembered for a first try that they have overtaken.
const READ_LIMIT: usize = 1024;

/// A message whose 250 was lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guarded {
    pub id: MessageId,
    pub seq: i64,
    /// When it was committed.
    pub at: Instant,
    pub until: Instant,
}

/// What became of the 250 of a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// Not known yet.
    Open,
    /// It was read.
    Read(Guarded),
    /// It was lost, or there was none.
    Lost,
}

/// What a message is a repeat of.
pub(super) enum First {
    /// Of one whose 250 was lost.
    Lost(Guarded),
    /// Of its own repeat, which was faster and whose 250 was read.
    Overtaken(Guarded),
}

pub(super) fn guard_key(tenant: &TenantId, envelope: &Envelope, sha256: &[u8; 32]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(tenant.as_str().as_bytes());
    context.update(&[0]);
    context.update(
        envelope
            .mail_from
            .as_ref()
            .map_or("", |a| a.as_str())
            .as_bytes(),
    );
    for recipient in &envelope.recipients {
        context.update(&[0]);
        context.update(recipient.address.as_str().as_bytes());
    }
    context.update(&[0, 0]);
    context.update(sha256);
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

impl Spool {
    /// The message that this one repeats, if that one's 250 was lost. While it is open whether
    /// it was, this waits; from then on the fate of this one is open. `hung_up`: the client of
    /// this one, whose content began to come then, has closed already: it may be the first try,
    /// overtaken by its own repeat.
    pub(super) async fn first_of(&self, key: [u8; 32], hung_up: Option<Instant>) -> Option<First> {
        loop {
            let guarded = lock(&self.inner.guards).get(&key).copied();
            if let Some(first) = guarded.filter(|first| Instant::now() < first.until) {
                return Some(First::Lost(first));
            }
            let mut other = {
                let mut flights = lock(&self.inner.flights);
                match flights.get(&key) {
                    Some(flight) => flight.subscribe(),
                    None if let Some(repeat) = self.overtaken_by(&key, hung_up) => {
                        return Some(First::Overtaken(repeat));
                    }
                    None => {
                        flights.insert(key, tokio::sync::watch::Sender::new(Fate::Open));
                        return None;
                    }
                }
            };
            let known = other.wait_for(|fate| !matches!(fate, Fate::Open));
            let Ok(fate) = tokio::time::timeout(FATE_LIMIT, known).await else {
                return None;
            };
            if let (Ok(Fate::Read(repeat)), Some(began)) = (fate.map(|fate| *fate), hung_up)
                && began < repeat.at
            {
                return Some(First::Overtaken(repeat));
            }
        }
    }

    fn overtaken_by(&self, key: &[u8; 32], began: Option<Instant>) -> Option<Guarded> {
        let began = began?;
        let read = lock(&self.inner.read);
        let (_, repeat) = read.iter().rev().find(|(known, _)| known == key)?;
        (began < repeat.at && Instant::now() < repeat.until).then_some(*repeat)
    }

    /// The fate of a message is known.
    pub(super) fn landed(&self, key: &[u8; 32], fate: Fate) {
        if let Some(flight) = lock(&self.inner.flights).remove(key) {
            flight.send_replace(fate);
        }
    }

    /// The connection has ended and the client cannot have read our 250: from now on the same
    /// message again is taken for a repeat.
    pub fn lost(&self, spooled: &Spooled) {
        let window = lock(&self.inner.limits).duplicates;
        if let (Some(key), false) = (spooled.guard, window.is_zero()) {
            let guarded = Guarded {
                id: spooled.id,
                seq: spooled.seq,
                at: spooled.at,
                until: Instant::now() + window,
            };
            lock(&self.inner.guards).insert(key, guarded);
        }
        if let Some(key) = spooled.guard {
            self.landed(&key, Fate::Lost);
        }
    }

    /// The client has read our 250: the same message again is a new one.
    pub fn went_on(&self, spooled: &Spooled) {
        let Some(key) = spooled.guard else { return };
        lock(&self.inner.guards).remove(&key);
        let read = Guarded {
            id: spooled.id,
            seq: spooled.seq,
            at: spooled.at,
            until: Instant::now() + lock(&self.inner.limits).duplicates,
        };
        {
            let mut lately = lock(&self.inner.read);
            if lately.len() == READ_LIMIT {
                lately.pop_front();
            }
            lately.push_back((key, read));
        }
        self.landed(&key, Fate::Read(read));
        if lock(&self.inner.unread).remove(&spooled.id).is_none() {
            return;
        }
        let seq = spooled.seq;
        // Nobody waits for it: after a crash in this moment a repeat counts as one once more.
        let written = self.inner.store.journal().append(
            RecordKind::Read,
            &young::describe_read(seq),
            &[],
            Urgency::Whenever,
            |y, number| y.read(number, seq),
        );
        drop(written);
    }
}
