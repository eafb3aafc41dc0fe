//! The spool: where mail is durable between an application's 250 and the upstream's.
//!
//! This is the one boundary between submission and delivery. Submission hands in an [`Admitted`]
//! and gets a [`Spooled`], from which alone a 250 is made; delivery takes a [`Claim`] and settles
//! it. What stands behind (SQLite today) does not show.

mod ahead;
mod bodies;
mod claim;
mod guard;
mod incoming;
mod journal;
mod message;
mod notices;
pub mod operate;
mod place;
mod record;
mod room;
mod rows;
mod segment;
mod store;
mod young;

use std::collections::{HashMap, HashSet, VecDeque};
use std::fs::File;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::params;
use tokio::sync::{Notify, oneshot};

use ahead::Ahead;
use bodies::Bodies;
use guard::{Fate, First, Guarded, guard_key};
use journal::Urgency;
use record::RecordKind;
use rows::{load, owe, time};

pub use claim::{Claim, Claiming, Settlement};
pub use incoming::Incoming;
pub use message::{
    DECIDED, Kind, Notice, Owed, OwedRecipient, RecipientState, RecipientStatus, STATES, State,
    Stored, Waiting,
};
pub use notices::{Note, Noted};
pub use room::Reservation;
pub use store::{Store, StoreError};

use crate::message::{Content, Envelope, MessageId, Recipient, Role, TenantId};
use crate::prepare::Origin;

/// Octets of just accepted messages that are kept in memory for their delivery.
const MEMORY_BUDGET: usize = 4 << 20;

/// Limits of the spool.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Octets of waiting mail.
    pub bytes: u64,
    /// How long the duplicates guard remembers; zero: off.
    pub duplicates: Duration,
}

/// A message that may be accepted: everything that can be refused has been looked at. Made by
/// admission, and for mail of our own.
pub struct Admitted {
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub kind: Kind,
    /// Its envelope.
    pub envelope: Envelope,
    /// How it came.
    pub origin: Origin,
    /// Its content, all of it.
    pub content: Incoming,
    /// It is held from the start (`sending = "hold"`).
    pub held: bool,
    /// Its client has closed the connection already: when its content began to come.
    pub hung_up: Option<Instant>,
    /// Recipients that get a message of their own with the same content: support, which is told
    /// what is nobody else's business.
    pub apart: Vec<Recipient>,
}

/// Proof that a message is on stable storage. Only [`Spool::commit`] makes it.
#[derive(Debug)]
pub struct Spooled {
    id: MessageId,
    seq: i64,
    guard: Option<[u8; 32]>,
    duplicate: bool,
    /// When.
    at: Instant,
    /// What delivery is told on release.
    waiting: Option<Waiting>,
}

impl Spooled {
    /// The id for the 250.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Its place in the order of acceptance.
    pub fn seq(&self) -> i64 {
        self.seq
    }

    /// It had been taken before; nothing new was stored.
    pub fn is_duplicate(&self) -> bool {
        self.duplicate
    }
}

/// The first verdict on a message, for `answer = "relayed"`.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// At least one recipient was taken.
    Relayed,
    /// All were refused for good; the upstream's words.
    Refused(String),
    /// It will be tried again.
    Deferred,
}

/// A verdict on its way to the application; whoever passes it on says whether that worked.
pub struct Told {
    /// The verdict.
    pub verdict: Verdict,
    /// `true`: the application has been told.
    pub passed_on: oneshot::Sender<bool>,
}

/// How long passing a verdict on may take before the application counts as not told.
const TELL_LIMIT: Duration = Duration::from_secs(70);

/// What the scheduler has to know.
#[derive(Debug)]
pub enum Hint {
    /// A message waits.
    Waiting(Waiting),
    /// A person has changed these; look at the tenant again.
    Tenant(TenantId),
    /// Messages that were kept from delivery no longer are.
    Freed,
}

impl Stored {
    /// How it waits by itself; `None`: only a person sets it going again.
    pub fn plan(&self) -> Option<Waiting> {
        match self.state {
            State::Queued | State::Deferred => Some(self.waiting(self.next)),
            // When, its route decides.
            State::Suspended => Some(self.waiting(None)),
            State::Uncertain => self.next.map(|next| self.waiting(Some(next))),
            State::Held | State::Failed | State::Done => None,
        }
    }

    /// What delivery has to know of it while it waits until then (`None`: no longer).
    pub fn waiting(&self, next: Option<Timestamp>) -> Waiting {
        Waiting {
            seq: self.seq,
            tenant: self.tenant.clone(),
            accepted: self.accepted,
            next,
            single: self.origin.single || self.kind.is_ours(),
            recipients: u32::try_from(self.envelope.recipients.len()).unwrap_or(u32::MAX),
            to_support: self
                .envelope
                .recipients
                .iter()
                .any(|r| r.role == Role::Support),
        }
    }
}

/// The spool. Cheap to clone.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    bodies: Arc<Bodies>,
    limits: Mutex<Limits>,
    next_seq: AtomicI64,
    bytes: AtomicU64,
    reserved: AtomicU64,
    memory: Mutex<Memory>,
    /// Contents that are taken for a repeat: their first 250 was lost.
    guards: Mutex<HashMap<[u8; 32], Guarded>>,
    /// Messages whose fate is open: being committed, or answered and not known to be read. The
    /// same message again waits until it is known.
    flights: Mutex<HashMap<[u8; 32], tokio::sync::watch::Sender<Fate>>>,
    /// Contents whose 250 was read lately, the last one last.
    read: Mutex<VecDeque<([u8; 32], Guarded)>>,
    /// Accepted messages of which it is not known that their client read the 250.
    unread: Mutex<HashMap<MessageId, [u8; 32]>>,
    active: Mutex<HashSet<i64>>,
    ahead: Ahead,
    /// Messages that waited when a process ended out of order: one of them may be why.
    suspects: Mutex<HashSet<i64>>,
    waiters: Mutex<HashMap<i64, oneshot::Sender<Told>>>,
    hints: Mutex<Vec<Hint>>,
    hinted: Notify,
    sizes: Mutex<HashMap<String, u64>>,
    /// Free octets of the disk, and when that was seen.
    disk: Mutex<Option<(Instant, u64)>>,
}

#[derive(Default)]
struct Memory {
    messages: HashMap<i64, Arc<Stored>>,
    bytes: usize,
}

impl Memory {
    fn weight(stored: &Stored) -> usize {
        stored.inline().map_or(0, bytes::Bytes::len) + 1024
    }

    fn insert(&mut self, stored: Arc<Stored>) {
        let weight = Self::weight(&stored);
        if self.bytes + weight <= MEMORY_BUDGET {
            self.bytes += weight;
            self.messages.insert(stored.seq, stored);
        }
    }

    fn remove(&mut self, seq: i64) -> Option<Arc<Stored>> {
        let stored = self.messages.remove(&seq)?;
        self.bytes -= Self::weight(&stored);
        Some(stored)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A message whose content is whole and on stable storage, before it is on record.
struct New {
    stored: Arc<Stored>,
    guard: Option<[u8; 32]>,
}

/// What the end of a content brings.
enum Finished {
    Duplicate(Spooled),
    New(New),
}

impl Spool {
    /// Opens the spool of a data directory, alone: a second process is refused. Repairs what a
    /// crash left, and hints at all that waits.
    pub fn open(data_dir: &Path, limits: Limits) -> Result<Self, StoreError> {
        let bad = |e: std::io::Error| StoreError::Directory(data_dir.to_owned(), e.to_string());
        let directory = data_dir.join("spool");
        let bodies = Arc::new(Bodies::open(directory.join("bodies")).map_err(bad)?);
        place::check(data_dir, &directory)?;
        // The names of the directories must survive a power cut as well.
        for path in [data_dir, &directory] {
            File::open(path).and_then(|d| d.sync_all()).map_err(bad)?;
        }
        bodies.guard(lock_directory(&directory)?);
        let (store, records) = Store::open(&directory)?;
        store
            .journal()
            .young(|young| young.replay(&records, bodies.directory()));
        drop(records);
        let spool = Self {
            inner: Arc::new(Inner {
                store,
                bodies,
                limits: Mutex::new(limits),
                next_seq: AtomicI64::new(1),
                bytes: AtomicU64::new(0),
                reserved: AtomicU64::new(0),
                memory: Mutex::default(),
                guards: Mutex::default(),
                flights: Mutex::default(),
                read: Mutex::default(),
                unread: Mutex::default(),
                active: Mutex::default(),
                ahead: Ahead::default(),
                suspects: Mutex::default(),
                waiters: Mutex::default(),
                hints: Mutex::default(),
                hinted: Notify::new(),
                sizes: Mutex::default(),
                disk: Mutex::default(),
            }),
        };
        spool.recover()?;
        Ok(spool)
    }

    fn recover(&self) -> Result<(), StoreError> {
        let inner = &self.inner;
        let since = Timestamp::now().as_millisecond()
            - i64::try_from(lock(&inner.limits).duplicates.as_millis()).unwrap_or(0);
        let mut files = HashSet::new();
        let mut hints = Vec::new();
        let (mut last, mut bytes) = (0, 0u64);
        // Without what the journal holds, its files would be swept away and its numbers given twice.
        inner.store.fold_now()?;
        inner.store.read_now(|db| {
            let mut query = db.prepare(
                r#"SELECT seq, body, tenant, state, size, accepted, next, json_array_length(recipients), instr(envelope, '"role":"support"') FROM messages ORDER BY seq"#,
            )?;
            let mut rows = query.query([])?;
            while let Some(row) = rows.next()? {
                let (seq, body, tenant, state): (i64, Option<String>, String, String) =
                    (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
                last = seq;
                if state != State::Failed.word() {
                    bytes += row.get::<_, i64>(4)?.unsigned_abs();
                }
                files.extend(body);
                let waits = match State::from_word(&state) {
                    Some(State::Queued | State::Deferred | State::Suspended) => true,
                    // Uncertain with a time is retried, without one it waits for a person.
                    Some(State::Uncertain) => row.get::<_, Option<i64>>(6)?.is_some(),
                    Some(State::Held | State::Failed | State::Done) | None => false,
                };
                if let (true, Some(tenant)) = (waits, TenantId::parse(&tenant)) {
                    let next = if state == "suspended" {
                        None
                    } else {
                        row.get::<_, Option<i64>>(6)?.map(time)
                    };
                    hints.push(Hint::Waiting(Waiting {
                        seq,
                        tenant,
                        accepted: time(row.get(5)?),
                        next,
                        // What a run was is not known any more.
                        single: false,
                        recipients: row.get(7).unwrap_or(1),
                        to_support: row.get::<_, i64>(8)? > 0,
                    }));
                }
            }
            Ok(())
        })?;
        let settled: i64 = inner.store.read_now(|db| {
            db.query_row("SELECT coalesce(max(seq), 0) FROM history", [], |row| {
                row.get(0)
            })
        })?;
        inner
            .next_seq
            .store(last.max(settled) + 1, Ordering::Relaxed);
        inner.bytes.store(bytes, Ordering::Relaxed);
        let clean: bool = inner
            .store
            .read_now(|db| db.query_row("SELECT clean FROM journal", [], |row| row.get(0)))?;
        if !clean {
            *lock(&inner.suspects) = hints
                .iter()
                .filter_map(|hint| match hint {
                    Hint::Waiting(waiting) => Some(waiting.seq),
                    Hint::Tenant(_) | Hint::Freed => None,
                })
                .collect();
        }
        *lock(&inner.hints) = hints;
        let guards = inner.store.read_now(|db| {
            let mut found = Vec::new();
            for table in ["messages", "history"] {
                let mut query = db.prepare(&format!(
                    "SELECT guard, id, seq FROM {table} WHERE guard IS NOT NULL AND accepted >= ?1"
                ))?;
                let rows = query.query_map([since], |row| {
                    Ok((
                        row.get::<_, Vec<u8>>(0)?,
                        row.get::<_, String>(1)?,
                        row.get(2)?,
                    ))
                })?;
                found.extend(rows.flatten());
            }
            Ok(found)
        })?;
        let until = Instant::now() + lock(&inner.limits).duplicates;
        let mut known = lock(&inner.guards);
        for (guard, id, seq) in guards {
            if let (Ok(guard), Some(id)) = (<[u8; 32]>::try_from(guard), MessageId::parse(&id)) {
                let at = Instant::now();
                known.insert(guard, Guarded { id, seq, at, until });
            }
        }
        drop(known);
        let swept = inner.bodies.sweep(&files).map_err(|e| {
            StoreError::Directory(inner.bodies.directory().to_owned(), e.to_string())
        })?;
        if swept > 0 {
            tracing::info!(
                event = "recovered",
                removed = swept,
                "removed unfinished bodies that were never acknowledged"
            );
        }
        Ok(())
    }

    /// The store below, for the metrics and the administrator's list.
    pub fn store(&self) -> &Store {
        &self.inner.store
    }

    /// New limits after a reload.
    pub fn set_limits(&self, limits: Limits) {
        *lock(&self.inner.limits) = limits;
    }

    /// Octets of waiting mail.
    pub fn bytes(&self) -> u64 {
        self.inner.bytes.load(Ordering::Relaxed)
    }

    /// Takes octets off the count, never below zero.
    fn subtract(&self, octets: u64) {
        let less = |bytes: u64| Some(bytes.saturating_sub(octets));
        let _ = self
            .inner
            .bytes
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Gives back the file of a content that no message has any more.
    fn free(&self, content: &Content) {
        if let Some(name) = content.file_name() {
            self.inner.bodies.free(name);
        }
    }

    /// Begins to take a message in.
    pub fn incoming(&self) -> Incoming {
        Incoming::new(Arc::clone(&self.inner.bodies))
    }

    /// Makes a message durable. What it returns is the only thing a 250 can be made of.
    pub async fn commit(&self, mut admitted: Admitted) -> Result<Spooled, StoreError> {
        let apart = std::mem::take(&mut admitted.apart);
        if apart.is_empty() {
            return self.commit_one(admitted, true).await;
        }
        let mut content = self.incoming();
        let copied = admitted.content.copy_to(&mut content);
        copied.map_err(|e| io_error(&e))?;
        let other = Admitted {
            tenant: admitted.tenant.clone(),
            kind: admitted.kind,
            envelope: Envelope {
                recipients: apart,
                ..admitted.envelope.clone()
            },
            origin: admitted.origin.clone(),
            content,
            held: admitted.held,
            hung_up: None,
            apart: Vec::new(),
        };
        let main = match self.finish(admitted, true).await? {
            Finished::Duplicate(spooled) => return Ok(spooled),
            Finished::New(main) => main,
        };
        // First support's: whoever dies between the two, or has no room for the second, has
        // acknowledged nothing, and the repeat brings both.
        let first = match self.finish(other, false).await {
            Ok(Finished::New(other)) => self.append(other).await,
            Ok(Finished::Duplicate(other)) => Ok(other),
            Err(error) => Err(error),
        };
        let mut other = match first {
            Ok(other) => other,
            Err(error) => {
                self.give_up(&main);
                return Err(error);
            }
        };
        let spooled = self.append(main).await;
        match &spooled {
            Ok(spooled) => {
                tracing::info!(id = %other.id, event = "apart", of = %spooled.id, "support gets a message of its own");
                self.release(&mut other);
            }
            Err(_) => self.withdraw(&other).await,
        }
        spooled
    }

    /// Takes back what was committed and is released to nobody yet.
    async fn withdraw(&self, spooled: &Spooled) {
        let settled = match self.claim(spooled.seq).await {
            Ok(Claiming::Ours(claim)) => {
                let settlement = Settlement::removed(claim.message());
                let settled = self.try_settle(claim, settlement).await;
                settled.map_err(|(_, error)| error)
            }
            Ok(Claiming::Busy | Claiming::Gone) => Err(StoreError::Failed(
                "it is held, or somebody has it already".to_owned(),
            )),
            Err(error) => Err(error),
        };
        if let Err(error) = settled {
            tracing::error!(event = "storage-failed", id = %spooled.id, reason = %error, "a message for support that its sender will repeat stays");
        }
    }

    async fn commit_one(&self, admitted: Admitted, guarded: bool) -> Result<Spooled, StoreError> {
        match self.finish(admitted, guarded).await? {
            Finished::Duplicate(spooled) => Ok(spooled),
            Finished::New(new) => self.append(new).await,
        }
    }

    /// Ends a content, and says whether it is a repeat. `guarded`: it may be handed in again for
    /// want of an answer.
    async fn finish(&self, admitted: Admitted, guarded: bool) -> Result<Finished, StoreError> {
        let Admitted {
            tenant,
            kind,
            envelope,
            origin,
            content,
            held,
            hung_up,
            apart: _,
        } = admitted;
        let id = content.id();
        let size = content.size();
        // A file is synced here, in the task of its own connection, not by the one writer.
        let finished = if content.is_file() {
            tokio::task::spawn_blocking(move || content.finish())
                .await
                .map_err(|e| StoreError::Failed(e.to_string()))?
        } else {
            content.finish()
        };
        let (content, sha256) = finished.map_err(|e| io_error(&e))?;
        let window = lock(&self.inner.limits).duplicates;
        let guard = (guarded && kind == Kind::Submission && !window.is_zero())
            .then(|| guard_key(&tenant, &envelope, &sha256));
        let first = match guard {
            Some(key) => self.first_of(key, hung_up).await,
            None => None,
        };
        if let Some(first) = first {
            self.free(&content);
            let (first, guard) = match first {
                First::Lost(first) => (first, guard),
                // Its answer reaches nobody, and says nothing of the next one.
                First::Overtaken(repeat) => (repeat, None),
            };
            return Ok(Finished::Duplicate(Spooled {
                id: first.id,
                seq: first.seq,
                guard,
                duplicate: true,
                at: Instant::now(),
                waiting: None,
            }));
        }
        let stored = Stored {
            seq: self.inner.next_seq.fetch_add(1, Ordering::Relaxed),
            id,
            tenant,
            kind,
            recipients: vec![RecipientState::pending(); envelope.recipients.len()],
            envelope,
            origin,
            content,
            size,
            sha256,
            accepted: Timestamp::now(),
            state: if held { State::Held } else { State::Queued },
            attempts: 0,
            next: None,
            reason: if held {
                "sending is switched to hold".to_owned()
            } else {
                String::new()
            },
            uncertain: None,
            excluded_ms: 0,
            warned: false,
            is_sealed: true,
        };
        Ok(Finished::New(New {
            stored: Arc::new(stored),
            guard,
        }))
    }

    /// What was finished does not become durable.
    fn give_up(&self, new: &New) {
        self.free(&new.stored.content);
        if let Some(key) = &new.guard {
            self.landed(key, Fate::Lost);
        }
    }

    /// Makes what was finished durable.
    async fn append(&self, new: New) -> Result<Spooled, StoreError> {
        let described = young::describe(&new.stored, new.guard)
            .map_err(|e| StoreError::Failed(format!("cannot describe a message: {e}")));
        let meta = match described {
            Ok(meta) => meta,
            Err(error) => {
                self.give_up(&new);
                return Err(error);
            }
        };
        let New { stored, guard } = new;
        let (id, size) = (stored.id, stored.size);
        let held = stored.state == State::Held;
        let body = stored.inline().cloned().unwrap_or_default();
        let young = Arc::clone(&stored);
        let durable = self.inner.store.journal().append(
            RecordKind::Accepted,
            &meta,
            &body,
            Urgency::Sync,
            |y, number| y.accept(number, young, guard),
        );
        let result = durable.await.unwrap_or_else(|_| Err(stopped()));
        if let Err(error) = result {
            self.give_up(&New { stored, guard });
            return Err(error);
        }
        self.inner.bytes.fetch_add(size, Ordering::Relaxed);
        if let Some(key) = guard {
            lock(&self.inner.unread).insert(id, key);
        }
        let spooled = Spooled {
            id,
            seq: stored.seq,
            guard,
            duplicate: false,
            at: Instant::now(),
            waiting: (!held).then(|| stored.waiting(None)),
        };
        // A large one is there as long as it is young. What is not young any more, a person may have
        // given orders about.
        if !held && stored.inline().is_some() {
            let journal = self.inner.store.journal();
            let mut memory = lock(&self.inner.memory);
            if journal.young(|young| young.find(stored.seq)).is_some() {
                memory.insert(stored);
            }
        }
        Ok(spooled)
    }

    /// Lets delivery begin with what was committed.
    pub fn release(&self, spooled: &mut Spooled) {
        if let Some(waiting) = spooled.waiting.take() {
            self.hint(Hint::Waiting(waiting));
        }
    }

    /// Asks for the first verdict on a message. Ask before [`Self::release`].
    pub fn verdict(&self, spooled: &Spooled) -> oneshot::Receiver<Told> {
        let (sender, receiver) = oneshot::channel();
        if !spooled.duplicate {
            lock(&self.inner.waiters).insert(spooled.seq, sender);
        }
        receiver
    }

    /// Tells whoever waits for a verdict; `true` if the application has really been told.
    pub async fn tell_verdict(&self, seq: i64, verdict: Verdict) -> bool {
        let Some(waiter) = lock(&self.inner.waiters).remove(&seq) else {
            return false;
        };
        let (passed_on, answer) = oneshot::channel();
        if waiter.send(Told { verdict, passed_on }).is_err() {
            return false;
        }
        matches!(tokio::time::timeout(TELL_LIMIT, answer).await, Ok(Ok(true)))
    }

    fn hint(&self, hint: Hint) {
        lock(&self.inner.hints).push(hint);
        self.inner.hinted.notify_one();
    }

    /// Wakes delivery.
    pub fn wake(&self) {
        self.inner.hinted.notify_one();
    }

    /// Waits for a hint.
    pub async fn hinted(&self) {
        self.inner.hinted.notified().await;
    }

    /// Takes the hints.
    pub fn take_hints(&self) -> Vec<Hint> {
        std::mem::take(&mut *lock(&self.inner.hints))
    }

    /// Remembers what a route's server last said of its SIZE; `None`: it has no limit.
    pub fn learn_upstream_size(&self, route: &str, size: Option<u64>) {
        let mut sizes = lock(&self.inner.sizes);
        match size {
            Some(size) if sizes.get(route) != Some(&size) => {
                sizes.insert(route.to_owned(), size);
            }
            Some(_) => {}
            None => {
                sizes.remove(route);
            }
        }
    }

    /// What a route's server last said of its SIZE.
    pub fn upstream_size(&self, route: &str) -> Option<u64> {
        lock(&self.inner.sizes).get(route).copied()
    }

    /// Leaves out the messages that are in delivery, or kept from it by a person's order.
    pub fn leave_out_active(&self, numbers: &mut Vec<i64>) {
        let active = lock(&self.inner.active);
        numbers.retain(|seq| !active.contains(seq));
    }

    /// Whether its message is in delivery right now.
    pub fn is_active(&self, seq: i64) -> bool {
        lock(&self.inner.active).contains(&seq)
    }

    /// From now on this process serves: an end out of order will show.
    pub async fn begin_service(&self) -> Result<(), StoreError> {
        self.inner
            .store
            .change(|db| db.execute("UPDATE journal SET clean = 0", []).map(|_| ()))
            .await
    }

    /// Ends the service in order: all that is young is in the database file.
    pub async fn end_service(&self) {
        let store = self.inner.store.clone();
        let ended = self
            .inner
            .store
            .change(|db| db.execute("UPDATE journal SET clean = 1", []).map(|_| ()))
            .await;
        if ended.is_ok() {
            let _ = tokio::task::spawn_blocking(move || store.checkpoint_now()).await;
        }
    }

    /// The health of all lanes, as they were saved.
    pub fn lanes(&self) -> Result<Vec<(String, String)>, StoreError> {
        self.inner.store.read_now(|db| {
            db.prepare("SELECT route, health FROM lanes")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        })
    }

    /// Saves the health of a lane; `None` forgets it.
    pub fn save_lane(&self, route: String, health: Option<String>) {
        self.inner.store.change_later(move |db| match health {
            Some(health) => db
                .prepare_cached("INSERT OR REPLACE INTO lanes (route, health) VALUES (?1, ?2)")?
                .execute(params![route, health])
                .map(|_| ()),
            None => db
                .prepare_cached("DELETE FROM lanes WHERE route = ?1")?
                .execute([route])
                .map(|_| ()),
        });
    }

    /// Notices that are owed, oldest first.
    pub async fn owed(&self) -> Result<Vec<(i64, Owed)>, StoreError> {
        let rows: Vec<(i64, String)> = self
            .inner
            .store
            .read(|db| {
                db.prepare_cached("SELECT seq, notice FROM owed ORDER BY seq LIMIT 1000")?
                    .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect()
            })
            .await?;
        Ok(rows
            .into_iter()
            .filter_map(|(seq, text)| serde_json::from_str(&text).ok().map(|owed| (seq, owed)))
            .collect())
    }

    /// Strikes out notices that have become a message, or that nobody can be told.
    pub async fn strike_owed(&self, seqs: Vec<i64>) -> Result<(), StoreError> {
        self.inner
            .store
            .change(move |db| {
                for seq in seqs {
                    db.prepare_cached("DELETE FROM owed WHERE seq = ?1")?
                        .execute([seq])?;
                }
                Ok(())
            })
            .await
    }

    /// Owes a delay notice for a message, once.
    pub async fn owe_delay(&self, seq: i64, owed: Owed) -> Result<(), StoreError> {
        self.inner
            .store
            .change(move |db| {
                let fresh = db
                    .prepare_cached("UPDATE messages SET warned = 1 WHERE seq = ?1 AND warned = 0")?
                    .execute([seq])?;
                if fresh > 0 { owe(db, &owed) } else { Ok(()) }
            })
            .await
    }

    /// A message as stored, for reports; its bytes are checked.
    pub async fn load(&self, seq: i64) -> Result<Option<Stored>, StoreError> {
        let young = self.inner.store.journal().young(|young| young.find(seq));
        if let Some(stored) = young {
            return Ok(Some(Stored::clone(&stored)));
        }
        let bodies = self.inner.bodies.directory().to_owned();
        self.inner
            .store
            .read(move |db| load(db, seq, &bodies))
            .await
    }

    /// Forgets what is older than the history keeps, failed messages included.
    pub async fn prune(&self, keep: Duration) -> Result<(), StoreError> {
        let before =
            Timestamp::now().as_millisecond() - i64::try_from(keep.as_millis()).unwrap_or(i64::MAX);
        let (sender, removed) = oneshot::channel();
        let spool = self.clone();
        let pruned = self
            .inner
            .store
            .change(move |db| {
                db.execute("DELETE FROM history WHERE settled < ?1", [before])?;
                // What is marked must not be told again as soon as it is forgotten.
                let year = before.min(Timestamp::now().as_millisecond() - 366 * 86_400_000);
                db.execute("DELETE FROM notices WHERE told IS NOT NULL AND (at < ?1 AND mark = '' OR at < ?2)", [before, year])?;
                let mut old: Vec<(i64, Option<String>)> = db
                    .prepare("SELECT seq, body FROM messages WHERE state = 'failed' AND coalesce(next, accepted) < ?1 LIMIT 1000")?
                    .query_map([before], |row| Ok((row.get(0)?, row.get(1)?)))?
                    .collect::<Result<_, _>>()?;
                // Somebody may be about to set one of them going again.
                let mut active = lock(&spool.inner.active);
                old.retain(|(seq, _)| active.insert(*seq));
                drop(active);
                let numbers: Vec<i64> = old.iter().map(|(seq, _)| *seq).collect();
                let _ = sender.send(old);
                numbers.into_iter().try_for_each(|seq| rows::delete(db, seq))
            })
            .await;
        let old = removed.await.unwrap_or_default();
        if pruned.is_ok() {
            for name in old.iter().filter_map(|(_, body)| body.as_deref()) {
                self.inner.bodies.free(name);
            }
        }
        let mut active = lock(&self.inner.active);
        for (seq, _) in &old {
            active.remove(seq);
        }
        drop(active);
        pruned?;
        let now = Instant::now();
        lock(&self.inner.guards).retain(|_, guarded| now < guarded.until);
        let guarded: HashSet<[u8; 32]> = lock(&self.inner.guards).keys().copied().collect();
        // Without its guard an old entry serves nothing; a client that still waits makes a new one.
        lock(&self.inner.unread).retain(|_, key| guarded.contains(key));
        Ok(())
    }
}

fn stopped() -> StoreError {
    StoreError::Failed("the journal has stopped".to_owned())
}

/// What an error of the file system means for a message.
pub fn io_error(error: &std::io::Error) -> StoreError {
    match error.kind() {
        std::io::ErrorKind::StorageFull
        | std::io::ErrorKind::QuotaExceeded
        | std::io::ErrorKind::FileTooLarge => StoreError::Full,
        _ => StoreError::Failed(error.to_string()),
    }
}

/// One process a spool: the lock goes with the process, whatever ends it.
fn lock_directory(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join("lock");
    let bad = |e: std::io::Error| StoreError::Directory(directory.to_owned(), e.to_string());
    let mut file = File::options()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(bad)?;
    if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
        let holder = std::fs::read_to_string(&path).unwrap_or_default();
        return Err(StoreError::Locked(
            directory.to_owned(),
            holder.trim().to_owned(),
        ));
    }
    use std::io::Write as _;
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .map_err(bad)?;
    Ok(file)
}

/// Whether bytes are those that were accepted.
pub fn is_intact(stored: &Stored, bytes: &[u8]) -> bool {
    incoming::sha256(bytes) == stored.sha256
}

/// Reads any octets as a journal, for fuzzing: twice, the second time behind records that are
/// whole, which must all be found.
#[doc(hidden)]
pub fn read_any_journal(octets: &[u8]) {
    record::read_any(octets);
}
