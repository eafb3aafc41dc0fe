//! The duplicates guard: a message whose 250 was lost is taken once, though it is handed in twice.

use std::time::{Duration, Instant};

use aws_lc_rs::digest;

use super::journal::Urgency;
use super::record::RecordKind;
use super::{Spool, Spooled, lock, young};
use crate::message::{Envelope, MessageId, TenantId};

/// How long a repeat waits to hear whether the first one's 250 was read.
const FATE_LIMIT: Duration = Duration::from_secs(70);

/// A message whose 250 was lost.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guarded {
    pub id: MessageId,
    pub seq: i64,
    pub until: Instant,
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
    /// it was, this waits; from then on the fate of this one is open.
    pub(super) async fn first_of(&self, key: [u8; 32]) -> Option<Guarded> {
        loop {
            let guarded = lock(&self.inner.guards).get(&key).copied();
            if let Some(first) = guarded.filter(|first| Instant::now() < first.until) {
                return Some(first);
            }
            let mut other = {
                let mut flights = lock(&self.inner.flights);
                match flights.get(&key) {
                    Some(flight) => flight.subscribe(),
                    None => {
                        flights.insert(key, tokio::sync::watch::Sender::new(false));
                        return None;
                    }
                }
            };
            let landed = tokio::time::timeout(FATE_LIMIT, other.wait_for(|landed| *landed)).await;
            if landed.is_err() {
                return None;
            }
        }
    }

    /// The fate of a message is known.
    pub(super) fn landed(&self, key: &[u8; 32]) {
        if let Some(flight) = lock(&self.inner.flights).remove(key) {
            flight.send_replace(true);
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
                until: Instant::now() + window,
            };
            lock(&self.inner.guards).insert(key, guarded);
        }
        if let Some(key) = spooled.guard {
            self.landed(&key);
        }
    }

    /// The client has read our 250: the same message again is a new one.
    pub fn went_on(&self, spooled: &Spooled) {
        let Some(key) = spooled.guard else { return };
        lock(&self.inner.guards).remove(&key);
        self.landed(&key);
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
