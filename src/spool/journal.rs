//! The journal: an append-only log in front of the store, so that a message is durable after one
//! write and one sync that all sessions share (group commit).
//!
//! Sessions add their records to one buffer; one thread writes what has gathered, syncs, and tells
//! all whose records were in. A single client never waits for company; where several shared the last
//! sync, the next one waits a moment for as many. What the records say stands in [`Young`] until
//! the store has it. Their place is used again when the store has it for good, past its own
//! write-ahead log: should that be damaged, the records are still here. The blocks are written with
//! zeros once, so that a sync has no sizes or extents to write.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::record::{Record, RecordKind, forget_accepted, scan, write_record};
use super::segment::Segment;
use super::store::StoreError;
use super::young::Young;

/// A file is left for the other one at this size.
const FILE_LIMIT: u64 = 16 << 20;
/// Records wait so long for others that go with the same sync: those that need none of their own,
/// and those of clients that come together.
const GATHER: Duration = Duration::from_micros(200);
/// What was written without a sync is synced after this long without company.
const LAZY_SYNC: Duration = Duration::from_millis(50);
/// How long a full journal waits for readers of the database to let its log be folded.
const READER_PATIENCE: Duration = Duration::from_secs(1);
/// How long a full journal waits for the store before mail is refused.
const STORE_PATIENCE: Duration = Duration::from_secs(30);

/// When a record has to be on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Urgency {
    /// On stable storage before the answer.
    Sync,
    /// Written before the answer: the end of this process does not take it, a power cut may.
    Written,
    /// With whatever comes next.
    Whenever,
}

/// What the writer waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Waits {
    /// Nothing: it writes.
    No,
    /// Anything at all.
    Any,
    /// Something that somebody waits for, or a moment without it.
    Wanted,
    /// So many records to sync, so that what there is goes with them.
    Syncs(usize),
}

type Answer = oneshot::Sender<Result<(), StoreError>>;

struct State {
    buffer: Vec<u8>,
    /// How many in the buffer wait for a sync.
    syncs: usize,
    /// Somebody in the buffer waits.
    wanted: bool,
    waits: Waits,
    answers: Vec<Answer>,
    next: u64,
    young: Young,
    closed: bool,
}

struct Shared {
    state: Mutex<State>,
    /// Records wait to be written.
    work: Condvar,
    /// The store has taken something over.
    folded: Condvar,
    failed: Arc<AtomicBool>,
    store: Mutex<Option<Box<dyn Fn() + Send>>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The journal. Cheap to clone; the thread ends with the last one.
#[derive(Clone)]
pub(super) struct Journal {
    shared: Arc<Shared>,
    _owner: Arc<Owner>,
}

struct Owner(Arc<Shared>);

impl Drop for Owner {
    fn drop(&mut self) {
        lock(&self.0.state).closed = true;
        self.0.work.notify_one();
    }
}

/// Tells how long a batch took.
pub(super) type Observer = Arc<std::sync::OnceLock<Box<dyn Fn(Duration) + Send + Sync>>>;

impl Journal {
    /// Opens the journal of a spool directory. `folded`: the number up to which the store has
    /// everything. Gives what the store does not have yet, in order.
    pub fn open(
        directory: &Path,
        folded: u64,
        failed: Arc<AtomicBool>,
        observer: Observer,
    ) -> io::Result<(Self, Vec<Record>)> {
        let mut files = Vec::new();
        let mut records = Vec::new();
        for name in ["journal-a", "journal-b"] {
            let path = directory.join(name);
            let mut segment = Segment::open(&path)?;
            let found = scan(&mut segment.window(), folded)?;
            if found.damaged > 0 {
                let kept = directory.join(format!("{name}.damaged"));
                tracing::error!(event = "journal-damaged", file = %path.display(), places = found.damaged, copy = %kept.display(), "records of the journal cannot be read; every readable one is used");
                std::fs::copy(&path, &kept)?;
            }
            segment.position = found.end;
            segment.last = found.records.last().map_or(0, |r| r.number);
            files.push(segment);
            records.extend(found.records);
        }
        records.sort_by_key(|r| r.number);
        let next = records.last().map_or(folded, |r| r.number.max(folded)) + 1;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                buffer: Vec::new(),
                syncs: 0,
                wanted: false,
                waits: Waits::No,
                answers: Vec::new(),
                next,
                young: Young::new(folded, next - 1),
                closed: false,
            }),
            work: Condvar::new(),
            folded: Condvar::new(),
            failed,
            store: Mutex::new(None),
        });
        let [a, b]: [Segment; 2] = files
            .try_into()
            .map_err(|_| io::Error::other("two files"))?;
        let current = usize::from(b.last > a.last);
        let writer = Writer {
            shared: Arc::clone(&shared),
            files: [a, b],
            current,
            observer,
        };
        std::thread::Builder::new()
            .name("spool-journal".to_owned())
            .spawn(move || writer.run())?;
        let owner = Arc::new(Owner(Arc::clone(&shared)));
        Ok((
            Self {
                shared,
                _owner: owner,
            },
            records,
        ))
    }

    /// Whom to tell that there is something to take over.
    pub fn tell(&self, store: Box<dyn Fn() + Send>) {
        *lock(&self.shared.store) = Some(store);
    }

    /// Adds a record, and in the same step what it means to what is young. The answer comes when
    /// it is where the urgency says.
    pub fn append(
        &self,
        kind: RecordKind,
        meta: &[u8],
        body: &[u8],
        urgency: Urgency,
        apply: impl FnOnce(&mut Young, u64),
    ) -> oneshot::Receiver<Result<(), StoreError>> {
        let (answer, done) = oneshot::channel();
        // What is promised nothing is still written: each end on record is a message not repeated.
        if kind == RecordKind::Accepted && self.shared.failed.load(Ordering::Acquire) {
            let _ = answer.send(Err(broken()));
            return done;
        }
        let mut guard = lock(&self.shared.state);
        let state = &mut *guard;
        let number = state.next;
        state.next += 1;
        write_record(&mut state.buffer, number, kind, meta, body);
        state.syncs += usize::from(urgency == Urgency::Sync);
        state.wanted |= urgency != Urgency::Whenever;
        state.answers.push(answer);
        apply(&mut state.young, number);
        let wake = match state.waits {
            Waits::No => false,
            Waits::Any => true,
            Waits::Wanted => urgency != Urgency::Whenever,
            Waits::Syncs(number) => state.syncs >= number,
        };
        if wake {
            state.waits = Waits::No;
        }
        drop(guard);
        if wake {
            self.shared.work.notify_one();
        }
        done
    }

    /// Works with what is young.
    pub fn young<T>(&self, work: impl FnOnce(&mut Young) -> T) -> T {
        work(&mut lock(&self.shared.state).young)
    }

    /// The store has taken everything up to a number.
    pub fn folded(&self) {
        self.shared.folded.notify_all();
    }
}

fn broken() -> StoreError {
    StoreError::Failed("an earlier write could not be made durable".to_owned())
}

struct Writer {
    shared: Arc<Shared>,
    files: [Segment; 2],
    current: usize,
    observer: Observer,
}

struct Batch {
    octets: Vec<u8>,
    answers: Vec<Answer>,
    syncs: usize,
    first: u64,
    last: u64,
}

impl Batch {
    /// Whether somebody waits for it to be on stable storage.
    fn is_synced(&self) -> bool {
        self.syncs > 0
    }
}

impl Writer {
    fn run(mut self) {
        // Its waits are short, and meant.
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZeroU64::new(1000));
        let mut spare = Vec::new();
        let mut unsynced = false;
        let mut company = 1;
        while let Some(mut batch) = self.next(&mut spare, &mut unsynced, &mut company) {
            if batch.syncs > 0 {
                company = batch.syncs;
            }
            let start = Instant::now();
            let outcome = self.commit(&batch);
            unsynced = outcome.is_ok() && (unsynced || !batch.is_synced());
            if batch.is_synced() {
                unsynced = false;
                if let Some(observer) = self.observer.get() {
                    observer(start.elapsed());
                }
            }
            let mut state = lock(&self.shared.state);
            let due = match &outcome {
                Ok(()) => state.young.written(batch.last),
                Err(_) => {
                    state.young.forget(batch.first, batch.last);
                    false
                }
            };
            drop(state);
            if due {
                self.tell_store();
            }
            for answer in batch.answers.drain(..) {
                let _ = answer.send(outcome.clone());
            }
            batch.octets.clear();
            // One huge batch does not keep its memory.
            batch.octets.shrink_to(1 << 20);
            spare = batch.octets;
        }
    }

    fn tell_store(&self) {
        if let Some(store) = &*lock(&self.shared.store) {
            store();
        }
    }

    /// What has gathered; `None` when the journal is closed and all is on disk.
    fn next(
        &mut self,
        spare: &mut Vec<u8>,
        unsynced: &mut bool,
        company: &mut usize,
    ) -> Option<Batch> {
        let mut state = lock(&self.shared.state);
        while !state.wanted {
            if state.answers.is_empty() && !*unsynced {
                if state.closed {
                    return None;
                }
                state.waits = Waits::Any;
                state = self
                    .shared
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            state.waits = Waits::Wanted;
            let wait = if state.closed {
                Duration::ZERO
            } else {
                LAZY_SYNC
            };
            state = self.wait(state, wait);
            if state.wanted {
                break;
            }
            if !state.answers.is_empty() {
                break; // nobody waits for it, but it has waited long enough
            }
            if std::mem::take(unsynced) {
                drop(state);
                self.sync_both();
                state = lock(&self.shared.state);
            }
        }
        // As many as shared the last sync are likely to come again: one sync for all of them.
        let company = if state.syncs > 0 { *company } else { 1 };
        if state.syncs < company && !state.closed {
            state.waits = Waits::Syncs(company);
            state = self.wait(state, GATHER);
        }
        state.waits = Waits::No;
        state.wanted = false;
        let octets = std::mem::replace(&mut state.buffer, std::mem::take(spare));
        let answers = std::mem::take(&mut state.answers);
        let last = state.next - 1;
        Some(Batch {
            first: last + 1 - answers.len() as u64,
            last,
            octets,
            answers,
            syncs: std::mem::take(&mut state.syncs),
        })
    }

    fn wait<'a>(&'a self, state: MutexGuard<'a, State>, limit: Duration) -> MutexGuard<'a, State> {
        self.shared
            .work
            .wait_timeout(state, limit)
            .unwrap_or_else(PoisonError::into_inner)
            .0
    }

    fn sync_both(&self) {
        for segment in &self.files {
            if let Err(error) = segment.sync() {
                self.give_up(&error);
            }
        }
    }

    /// A failed sync may have dropped pages that the kernel calls clean; trying again would lie.
    fn give_up(&self, error: &io::Error) {
        if !self.shared.failed.swap(true, Ordering::AcqRel) {
            tracing::error!(event = "spool-failed", reason = %error, "a write could not be made durable; Postbote takes no more mail and must be restarted");
        }
    }

    fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let failed = self.shared.failed.load(Ordering::Acquire);
        let length = batch.octets.len() as u64;
        if batch.is_synced() {
            self.let_store_follow();
        }
        self.make_room(length)?;
        let segment = &mut self.files[self.current];
        if let Some(left) = segment.remains {
            segment
                .erase((segment.position, segment.last), left)
                .map_err(|e| super::io_error(&e))?;
            segment.remains = None;
        }
        let before = (segment.position, segment.last);
        if let Err(error) = segment.write(&batch.octets, batch.last) {
            if segment.erase(before, length).is_err() {
                // Once more before anything else is written here.
                segment.remains = Some(length);
            }
            if error.kind() == io::ErrorKind::NotFound {
                self.give_up(&error);
            }
            return Err(super::io_error(&error));
        }
        if failed {
            return if batch.is_synced() {
                Err(broken())
            } else {
                Ok(())
            };
        }
        if batch.is_synced()
            && let Err(error) = segment.sync()
        {
            // What was not promised the next start must not find; ends of deliveries are true.
            let mut kept = batch.octets.clone();
            forget_accepted(&mut kept);
            let _ = segment.write_over(&kept, before.0);
            self.give_up(&error);
            return Err(super::io_error(&error));
        }
        Ok(())
    }

    /// Mail that comes faster than the store can take it over would fill the memory.
    fn let_store_follow(&self) {
        let deadline = Instant::now() + READER_PATIENCE;
        while lock(&self.shared.state).young.is_overfull() && Instant::now() < deadline {
            self.tell_store();
            let state = lock(&self.shared.state);
            if state.young.is_overfull() {
                drop(
                    self.shared
                        .folded
                        .wait_timeout(state, Duration::from_millis(100)),
                );
            }
        }
    }

    /// Finds the place for so many octets: behind the last record, at the beginning again when
    /// the store has all of a file, in the other file when this one is full.
    fn make_room(&mut self, length: u64) -> Result<(), StoreError> {
        let mut state = lock(&self.shared.state);
        if self.files[self.current].last <= state.young.safe() {
            self.files[self.current].position = 0;
            return Ok(());
        }
        let here = &self.files[self.current];
        if here.position == 0 || here.position + length <= FILE_LIMIT {
            return Ok(());
        }
        let other = 1 - self.current;
        let deadline = Instant::now() + STORE_PATIENCE;
        while self.files[other].last > state.young.safe() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(StoreError::Full);
            }
            let folded = self.files[other].last <= state.young.folded();
            if folded && left < STORE_PATIENCE - READER_PATIENCE {
                // The store has it, if not past its own log: somebody reads the database and does
                // not end. Mail does not wait for that.
                break;
            }
            state.young.hurry();
            drop(state);
            self.tell_store();
            state = lock(&self.shared.state);
            if self.files[other].last > state.young.safe() {
                state = self
                    .shared
                    .folded
                    .wait_timeout(state, left.min(Duration::from_millis(100)))
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
            }
        }
        drop(state);
        // Lazy records of the file that is left are synced with it.
        if let Err(error) = self.files[self.current].sync() {
            self.give_up(&error);
            return Err(super::io_error(&error));
        }
        self.current = other;
        self.files[other].position = 0;
        Ok(())
    }
}
