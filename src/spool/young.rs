//! What stands in the journal and not yet in the store: just accepted messages, and what became of
//! them. Most are settled before the store ever hears of them, and then cost it one row of history.
//!
//! [`Young::due`] says when the store takes over; every change and every complete read of the
//! store asks for it first, so nobody sees the difference.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _};
use serde::{Deserialize, Serialize};

use super::message::{Kind, RecipientState, State, Stored};
use super::record::{Record, RecordKind};
use super::rows::{self, insert};
use crate::message::{Content, Envelope, MessageId, TenantId};
use crate::prepare::Origin;

/// The store takes over at the latest after this time.
const AGE_LIMIT: Duration = Duration::from_secs(1);
/// … and from so many octets of waiting mail on.
const OCTETS_LIMIT: usize = 2 << 20;
/// From so many on, new mail waits for the store.
const OVERFULL: usize = 4 * OCTETS_LIMIT;
/// … or from so many settled messages.
const SETTLED_LIMIT: usize = 1024;
/// After a failure the store is left alone for this long.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);

/// An accepted message that the store does not have.
#[derive(Clone)]
struct Accepted {
    number: u64,
    stored: Arc<Stored>,
    guard: Option<[u8; 32]>,
}

/// A settled message that the history does not have.
#[derive(Clone)]
struct Settled {
    number: u64,
    history: Arc<History>,
    /// The store has never heard of it.
    is_fresh: bool,
    /// Its acceptance, until its end is written.
    accepted: Option<Accepted>,
}

/// What the history keeps of a message; the description of a `Done` record.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct History {
    pub seq: i64,
    pub id: String,
    pub tenant: String,
    pub kind: i64,
    pub state: String,
    pub size: u64,
    pub accepted: i64,
    pub settled: i64,
    pub attempts: u32,
    pub reason: String,
    pub guard: Option<[u8; 32]>,
    /// JSON, as the row holds it.
    pub envelope: String,
    /// JSON, as the row holds it.
    pub recipients: String,
}

/// The description of an `Accepted` record.
#[derive(Serialize)]
struct Description<'a> {
    seq: i64,
    id: &'a str,
    tenant: &'a str,
    kind: i64,
    state: &'a str,
    accepted: i64,
    reason: &'a str,
    body: Option<&'a str>,
    size: u64,
    sha256: [u8; 32],
    guard: Option<[u8; 32]>,
    envelope: &'a Envelope,
    origin: &'a Origin,
}

#[derive(Deserialize)]
struct OwnedDescription {
    seq: i64,
    id: String,
    tenant: String,
    kind: i64,
    state: String,
    accepted: i64,
    reason: String,
    body: Option<String>,
    size: u64,
    sha256: [u8; 32],
    guard: Option<[u8; 32]>,
    envelope: Envelope,
    origin: Origin,
}

/// The description of a `Read` record.
#[derive(Serialize, Deserialize)]
struct ReadDescription {
    seq: i64,
}

/// What the journal says of an accepted message.
pub(super) fn describe(stored: &Stored, guard: Option<[u8; 32]>) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Description {
        seq: stored.seq,
        id: stored.id.as_str(),
        tenant: stored.tenant.as_str(),
        kind: stored.kind.code(),
        state: stored.state.word(),
        accepted: stored.accepted.as_millisecond(),
        reason: &stored.reason,
        body: stored.content.file_name(),
        size: stored.size,
        sha256: stored.sha256,
        guard,
        envelope: &stored.envelope,
        origin: &stored.origin,
    })
}

/// What the journal says of a read 250.
pub(super) fn describe_read(seq: i64) -> Vec<u8> {
    format!("{{\"seq\":{seq}}}").into_bytes()
}

fn understand(record: &Record, bodies: &Path) -> Option<(Stored, Option<[u8; 32]>)> {
    let d: OwnedDescription = serde_json::from_slice(&record.meta).ok()?;
    let content = match d.body {
        Some(name) => Content::File {
            path: bodies.join(rows::plain_name(&name)?),
            size: d.size,
            kept: None,
        },
        None => Content::Memory(record.body.clone().into()),
    };
    let stored = Stored {
        seq: d.seq,
        id: MessageId::parse(&d.id)?,
        tenant: TenantId::parse(&d.tenant)?,
        kind: Kind::from_code(d.kind),
        recipients: vec![RecipientState::pending(); d.envelope.recipients.len()],
        envelope: d.envelope,
        origin: d.origin,
        content,
        size: d.size,
        sha256: d.sha256,
        accepted: Timestamp::from_millisecond(d.accepted).ok()?,
        state: State::from_word(&d.state)?,
        attempts: 0,
        next: None,
        reason: d.reason,
        uncertain: None,
        excluded_ms: 0,
        warned: false,
        is_sealed: true,
    };
    Some((stored, d.guard))
}

/// See the head of this file.
pub(super) struct Young {
    accepted: BTreeMap<i64, Accepted>,
    settled: HashMap<i64, Settled>,
    /// Those of them whose end is not written yet, by the number of its record.
    unwritten: VecDeque<(u64, i64)>,
    /// Messages whose 250 was read after the store had them, with the number of the record.
    read: Vec<(u64, i64)>,
    /// Octets of the accepted messages.
    octets: usize,
    /// Since when there is something.
    since: Option<Instant>,
    not_before: Option<Instant>,
    /// The store is asked for as soon as can be.
    hurry: bool,
    /// The store knows that there is something, and that there is much.
    told: (bool, bool),
    /// Everything up to this number is in the store.
    folded: u64,
    /// … and past the store's own write-ahead log.
    safe: u64,
    /// Everything up to this number is written.
    written: u64,
    /// Up to this number the store is being written right now.
    folding: u64,
}

impl Young {
    pub fn new(folded: u64, written: u64) -> Self {
        Self {
            accepted: BTreeMap::new(),
            settled: HashMap::new(),
            unwritten: VecDeque::new(),
            read: Vec::new(),
            octets: 0,
            since: None,
            not_before: None,
            hurry: false,
            told: (false, false),
            folded,
            safe: folded,
            written,
            folding: folded,
        }
    }

    fn weight(stored: &Stored) -> usize {
        stored.inline().map_or(0, bytes::Bytes::len) + 512
    }

    /// A message was accepted.
    pub fn accept(&mut self, number: u64, stored: Arc<Stored>, guard: Option<[u8; 32]>) {
        self.octets += Self::weight(&stored);
        self.since.get_or_insert_with(Instant::now);
        let entry = Accepted {
            number,
            stored,
            guard,
        };
        self.accepted.insert(entry.stored.seq, entry);
    }

    /// A message is settled for good.
    pub fn settle(&mut self, number: u64, history: Arc<History>) {
        self.since.get_or_insert_with(Instant::now);
        let accepted = self.accepted.remove(&history.seq);
        if let Some(entry) = &accepted {
            self.octets -= Self::weight(&entry.stored);
        }
        // What is being written to the store just now is a row there.
        let accepted = accepted.filter(|a| a.number > self.folding);
        let entry = Settled {
            number,
            is_fresh: accepted.is_some(),
            accepted,
            history,
        };
        self.unwritten.push_back((number, entry.history.seq));
        self.settled.insert(entry.history.seq, entry);
    }

    /// The client has read the 250 of a message.
    pub fn read(&mut self, number: u64, seq: i64) {
        if let Some(entry) = self.accepted.get_mut(&seq)
            && entry.number > self.folding
        {
            entry.guard = None;
        } else if let Some(entry) = self.settled.get_mut(&seq)
            && entry.number > self.folding
        {
            Arc::make_mut(&mut entry.history).guard = None;
        } else {
            self.since.get_or_insert_with(Instant::now);
            self.read.push((number, seq));
        }
    }

    /// A message, if it is young and waits.
    pub fn find(&self, seq: i64) -> Option<Arc<Stored>> {
        self.accepted
            .get(&seq)
            .filter(|entry| entry.number <= self.written)
            .map(|entry| Arc::clone(&entry.stored))
    }

    /// Whether a message is at its end, though the store may not know yet.
    pub fn is_settled(&self, seq: i64) -> bool {
        self.settled.contains_key(&seq)
    }

    /// All that wait and are young, oldest first.
    pub fn waiting(&self) -> Vec<Arc<Stored>> {
        self.accepted
            .values()
            .filter(|entry| entry.number <= self.written)
            .map(|entry| Arc::clone(&entry.stored))
            .collect()
    }

    /// The journal has written everything up to this number; `true`: the store should know.
    pub fn written(&mut self, number: u64) -> bool {
        self.written = self.written.max(number);
        // From here on its end is on record: its content is of no use any more.
        while let Some((_, seq)) = self.unwritten.pop_front_if(|(end, _)| *end <= number) {
            if let Some(entry) = self.settled.get_mut(&seq) {
                entry.accepted = None;
            }
        }
        let news = (self.since.is_some(), self.is_full());
        let tell = (news.0 && !self.told.0) || (news.1 && !self.told.1);
        if tell {
            self.told = news;
        }
        tell
    }

    fn is_full(&self) -> bool {
        self.hurry
            || self.octets >= OCTETS_LIMIT
            || self.settled.len() + self.read.len() >= SETTLED_LIMIT
    }

    /// A batch could not be written: what was in it never happened.
    pub fn forget(&mut self, first: u64, last: u64) {
        let gone = |number: u64| (first..=last).contains(&number);
        let mut back = Vec::new();
        self.unwritten.retain(|(number, _)| !gone(*number));
        self.settled.retain(|_, entry| {
            let stays = !gone(entry.number);
            if !stays {
                back.extend(entry.accepted.take());
            }
            stays
        });
        for entry in back {
            self.octets += Self::weight(&entry.stored);
            self.accepted.insert(entry.stored.seq, entry);
        }
        let lost: Vec<i64> = self
            .accepted
            .iter()
            .filter(|(_, entry)| gone(entry.number))
            .map(|(seq, _)| *seq)
            .collect();
        for seq in lost {
            if let Some(entry) = self.accepted.remove(&seq) {
                self.octets -= Self::weight(&entry.stored);
            }
        }
        self.read.retain(|(number, _)| !gone(*number));
        self.written = self.written.max(last);
    }

    /// Whether so much waits in memory for the store that no more should come.
    pub fn is_overfull(&self) -> bool {
        // Only what is written can be taken over, and only by a store that works.
        self.octets >= OVERFULL
            && self.not_before.is_none()
            && self
                .accepted
                .values()
                .filter(|entry| entry.number <= self.written)
                .map(|entry| Self::weight(&entry.stored))
                .sum::<usize>()
                >= OVERFULL
    }

    /// The store is wanted at once: the journal is full.
    pub fn hurry(&mut self) {
        self.hurry = true;
    }

    /// When the store should take over; `None`: there is nothing.
    pub fn due(&self) -> Option<Instant> {
        let since = match self.since {
            Some(since) => since,
            // Nothing is young, but the journal wants its place back.
            None if self.hurry => Instant::now(),
            None => return None,
        };
        let at = if self.is_full() {
            since
        } else {
            since + AGE_LIMIT
        };
        Some(self.not_before.map_or(at, |pause| at.max(pause)))
    }

    /// Whether there is anything that the store does not have.
    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.settled.is_empty() && self.read.is_empty()
    }

    /// The number up to which the store has everything.
    pub fn folded(&self) -> u64 {
        self.folded
    }

    /// The number up to which the journal is not needed any more.
    pub fn safe(&self) -> u64 {
        self.safe
    }

    /// The store has tried to fold its write-ahead log into its database; up to this number it
    /// did. Somebody who reads the database may have kept it from that.
    pub fn checkpointed(&mut self, number: Option<u64>) {
        self.safe = self.safe.max(number.unwrap_or(0));
        self.hurry = false;
    }

    /// Whether the journal waits for the store.
    pub fn is_waited_for(&self) -> bool {
        self.hurry
    }

    /// Begins to hand over: everything that is written.
    pub fn begin(&mut self) -> Fold {
        let until = self.written;
        self.folding = until;
        self.told = (false, false);
        let mut fold = Fold {
            until,
            accepted: Vec::new(),
            settled: Vec::new(),
            read: Vec::new(),
        };
        for entry in self.accepted.values() {
            if entry.number <= until {
                fold.accepted.push(entry.clone());
            }
        }
        for entry in self.settled.values_mut() {
            if entry.number <= until {
                fold.settled.push(entry.clone());
            } else if let Some(accepted) = entry.accepted.take_if(|a| a.number <= until) {
                // Its acceptance is written, its end not yet: it becomes a row for a moment.
                entry.is_fresh = false;
                fold.accepted.push(accepted);
            }
        }
        fold.read = self
            .read
            .iter()
            .filter(|(number, _)| *number <= until)
            .map(|(_, seq)| *seq)
            .collect();
        fold
    }

    /// Ends it: what was handed over is no longer young, or nothing has happened.
    pub fn end(&mut self, fold: &Fold, right: bool) {
        if !right {
            // Rows that are not there are simply not found when they are to go.
            self.folding = self.folded;
            self.not_before = Some(Instant::now() + FAILURE_PAUSE);
            return;
        }
        let until = fold.until;
        self.folded = until;
        self.not_before = None;
        self.accepted.retain(|_, entry| entry.number > until);
        self.settled.retain(|_, entry| entry.number > until);
        self.read.retain(|(number, _)| *number > until);
        self.octets = self
            .accepted
            .values()
            .map(|entry| Self::weight(&entry.stored))
            .sum();
        self.since = (!self.is_empty()).then(Instant::now);
    }

    /// Takes records that an earlier process left.
    pub fn replay(&mut self, records: &[Record], bodies: &Path) {
        for record in records {
            match record.kind {
                RecordKind::Accepted => match understand(record, bodies) {
                    Some((stored, guard)) => self.accept(record.number, Arc::new(stored), guard),
                    None => {
                        tracing::error!(
                            event = "journal-damaged",
                            number = record.number,
                            "an accepted message in the journal cannot be understood; its file is kept"
                        )
                    }
                },
                RecordKind::Done => {
                    if let Ok(history) = serde_json::from_slice::<History>(&record.meta) {
                        self.settle(record.number, Arc::new(history));
                    }
                }
                RecordKind::Read => {
                    if let Ok(read) = serde_json::from_slice::<ReadDescription>(&record.meta) {
                        self.read(record.number, read.seq);
                    }
                }
            }
        }
    }
}

/// What the store is being given.
pub(super) struct Fold {
    until: u64,
    accepted: Vec<Accepted>,
    settled: Vec<Settled>,
    read: Vec<i64>,
}

impl Fold {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.accepted.is_empty() && self.settled.is_empty() && self.read.is_empty()
    }

    /// Writes it, inside a transaction.
    pub fn write(&self, db: &Connection) -> rusqlite::Result<()> {
        for entry in &self.accepted {
            insert(db, &entry.stored, entry.guard.as_ref())?;
        }
        for seq in &self.read {
            let id: Option<String> = db
                .prepare_cached("UPDATE messages SET guard = NULL WHERE seq = ?1 RETURNING id")?
                .query_row([seq], |row| row.get(0))
                .optional()?;
            if id.is_none() {
                db.prepare_cached("UPDATE history SET guard = NULL WHERE seq = ?1")?
                    .execute([seq])?;
            }
        }
        for entry in &self.settled {
            rows::insert_history(db, &entry.history)?;
            if !entry.is_fresh {
                rows::delete(db, entry.history.seq)?;
            }
        }
        db.prepare_cached("UPDATE journal SET folded = ?1")?
            .execute([i64::try_from(self.until).unwrap_or(i64::MAX)])
            .map(|_| ())
    }
}
