//! The journal: an append-only log in front of the store, so that a message is durable after one
//! write and one sync that all sessions share (group commit).
//!
//! Sessions add their records to one buffer; one thread writes what has gathered, syncs, and tells
//! all whose records were in. There is no delay timer: the next batch is whatever came during the
//! sync. What the records say stands in [`Young`] until the store has it. Their place is used again
//! when the store has it for good, past its own write-ahead log: should that be damaged, the
//! records are still here. The blocks are written with zeros once, so that a sync has no sizes or
//! extents to write.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::record::{Record, RecordKind, Window, forget_accepted, scan, write_record};
use super::store::StoreError;
use super::young::Young;

/// A file is left for the other one at this size.
const FILE_LIMIT: u64 = 16 << 20;
/// Files grow by this many octets of zeros.
const GROWTH: u64 = 1 << 20;
/// Records that need no sync of their own wait so long for one that does.
const GATHER: Duration = Duration::from_micros(100);
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
    /// Something to sync, so that what there is goes with it.
    Sync,
}

type Answer = oneshot::Sender<Result<(), StoreError>>;

struct State {
    buffer: Vec<u8>,
    /// Somebody in the buffer waits for a sync.
    wants_sync: bool,
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
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(&path)?;
            let allocated = file.metadata()?.len();
            let found = scan(&mut Window::new(&file, allocated), folded)?;
            if found.damaged > 0 {
                let kept = directory.join(format!("{name}.damaged"));
                tracing::error!(event = "journal-damaged", file = %path.display(), places = found.damaged, copy = %kept.display(), "records of the journal cannot be read; every readable one is used");
                std::fs::copy(&path, &kept)?;
            }
            files.push(Segment {
                allocated,
                position: found.end,
                last: found.records.last().map_or(0, |r| r.number),
                file,
                remains: None,
            });
            records.extend(found.records);
        }
        records.sort_by_key(|r| r.number);
        let next = records.last().map_or(folded, |r| r.number.max(folded)) + 1;
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                buffer: Vec::new(),
                wants_sync: false,
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
        state.wants_sync |= urgency == Urgency::Sync;
        state.wanted |= urgency != Urgency::Whenever;
        state.answers.push(answer);
        apply(&mut state.young, number);
        let wake = match state.waits {
            Waits::No => false,
            Waits::Any => true,
            Waits::Wanted => urgency != Urgency::Whenever,
            Waits::Sync => urgency == Urgency::Sync,
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

struct Segment {
    file: File,
    /// Octets that are written with zeros or records.
    allocated: u64,
    position: u64,
    /// The highest number in it.
    last: u64,
    /// Octets behind the position that a failed write may have left.
    remains: Option<u64>,
}

impl Segment {
    fn grow(&mut self, needed: u64) -> io::Result<()> {
        while self.allocated < needed {
            self.file
                .write_all_at(&vec![0; GROWTH as usize], self.allocated)?;
            self.allocated += GROWTH;
        }
        Ok(())
    }

    fn write(&mut self, octets: &[u8], last: u64) -> io::Result<()> {
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the journal was deleted",
            ));
        }
        let end = self.position + octets.len() as u64;
        self.grow(end)?;
        self.file.write_all_at(octets, self.position)?;
        self.position = end;
        self.last = last;
        Ok(())
    }

    /// Takes back what a failed write may have left: it was never promised.
    fn erase(&mut self, before: (u64, u64), length: u64) -> io::Result<()> {
        (self.position, self.last) = before;
        let end = (self.position + length).min(self.allocated);
        let length = usize::try_from(end.saturating_sub(self.position)).unwrap_or(0);
        self.file.write_all_at(&vec![0; length], self.position)
    }
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
    sync: bool,
    first: u64,
    last: u64,
}

impl Writer {
    fn run(mut self) {
        let mut spare = Vec::new();
        let mut unsynced = false;
        while let Some(mut batch) = self.next(&mut spare, &mut unsynced) {
            let start = Instant::now();
            let outcome = self.commit(&batch);
            unsynced = outcome.is_ok() && (unsynced || !batch.sync);
            if batch.sync {
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
    fn next(&mut self, spare: &mut Vec<u8>, unsynced: &mut bool) -> Option<Batch> {
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
        if !state.wants_sync && !state.closed {
            state.waits = Waits::Sync;
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
            sync: std::mem::take(&mut state.wants_sync),
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
            if let Err(error) = segment.file.sync_data() {
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
            return if batch.sync { Err(broken()) } else { Ok(()) };
        }
        if batch.sync
            && let Err(error) = segment.file.sync_data()
        {
            // What was not promised the next start must not find; ends of deliveries are true.
            let mut kept = batch.octets.clone();
            forget_accepted(&mut kept);
            let _ = segment.file.write_all_at(&kept, before.0);
            self.give_up(&error);
            return Err(super::io_error(&error));
        }
        Ok(())
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
        if let Err(error) = self.files[self.current].file.sync_data() {
            self.give_up(&error);
            return Err(super::io_error(&error));
        }
        self.current = other;
        self.files[other].position = 0;
        Ok(())
    }
}
