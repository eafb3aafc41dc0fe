//! The embedded store: SQLite with one writer thread, behind the journal. Whatever waits is
//! committed together, and before it what is young: so a change finds the rows it is about.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags};
use tokio::sync::oneshot;

use super::journal::{Journal, Observer};
use super::record::Record;

/// Most changes of one commit.
const BATCH_LIMIT: usize = 512;
/// The write-ahead log is folded into the database from this size.
const CHECKPOINT_BYTES: u64 = 8 << 20;
/// The layout that this program knows.
const VERSION: i64 = 3;

/// Why the store did not do something.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// No room: 452 4.3.1.
    #[error("the disk is full")]
    Full,
    /// Anything else: 451 4.3.0.
    #[error("the store failed: {0}")]
    Failed(String),
    /// Somebody else has it.
    #[error(
        "the spool {0} is used by another Postbote (process {1}); stop that one, or give this one its own data_dir"
    )]
    Locked(PathBuf, String),
    /// Made by a newer version.
    #[error(
        "the spool has layout {0}, this program knows layouts up to {VERSION}; use the newer program"
    )]
    Newer(i64),
    /// The data directory cannot be used.
    #[error("the data directory {0} cannot be used: {1}")]
    Directory(PathBuf, String),
}

impl StoreError {
    pub(super) fn of(error: &rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => Self::Full,
            _ => Self::Failed(error.to_string()),
        }
    }
}

type Change = Box<dyn FnOnce(&Connection) -> rusqlite::Result<()> + Send>;

enum Job {
    Change {
        change: Change,
        answer: Option<Answer>,
    },
    /// There is something young: see when it is due.
    Look,
    /// Everything into the database file.
    Checkpoint(mpsc::SyncSender<Result<(), StoreError>>),
}

enum Answer {
    Async(oneshot::Sender<Result<(), StoreError>>),
    Blocking(mpsc::SyncSender<Result<(), StoreError>>),
}

impl Answer {
    fn send(self, result: Result<(), StoreError>) {
        match self {
            Self::Async(sender) => {
                let _ = sender.send(result);
            }
            Self::Blocking(sender) => {
                let _ = sender.send(result);
            }
        }
    }
}

/// The store. Cheap to clone; its thread ends with the last one.
#[derive(Clone)]
pub struct Store {
    jobs: Arc<mpsc::Sender<Job>>,
    journal: Journal,
    reader: Arc<std::sync::Mutex<Connection>>,
    failed: Arc<AtomicBool>,
    observer: Observer,
}

impl Store {
    /// Opens or makes the store of a spool directory and starts its writer. Gives what the
    /// journal holds and the store does not: it must be replayed.
    pub(super) fn open(directory: &Path) -> Result<(Self, Vec<Record>), StoreError> {
        let path = directory.join("spool.sqlite");
        let bad = |e: std::io::Error| StoreError::Directory(directory.to_owned(), e.to_string());
        let writer = open_writer(&path)?;
        let folded: i64 = writer
            .query_row("SELECT folded FROM journal", [], |row| row.get(0))
            .map_err(|e| StoreError::of(&e))?;
        let failed = Arc::new(AtomicBool::new(false));
        let observer = Observer::default();
        let (journal, records) = Journal::open(
            directory,
            folded.unsigned_abs(),
            Arc::clone(&failed),
            Arc::clone(&observer),
        )
        .map_err(bad)?;
        // The names of the files must survive a power cut as well.
        std::fs::File::open(directory)
            .and_then(|d| d.sync_all())
            .map_err(bad)?;
        let reader = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(|e| StoreError::of(&e))?;
        keep_plans(&reader)?;
        // It reads what nobody has looked at for long, in order: nothing to remember.
        reader
            .pragma_update(None, "cache_size", -512)
            .map_err(|e| StoreError::of(&e))?;
        reader
            .busy_timeout(Duration::from_secs(10))
            .map_err(|e| StoreError::of(&e))?;
        let (jobs, queue) = mpsc::channel();
        let jobs = Arc::new(jobs);
        // Weakly: the journal does not keep the store's thread alive.
        let look = Arc::downgrade(&jobs);
        journal.tell(Box::new(move || {
            if let Some(jobs) = look.upgrade() {
                let _ = jobs.send(Job::Look);
            }
        }));
        let wal = path.with_extension("sqlite-wal");
        let inode = std::fs::metadata(&path)
            .map(|m| (m.dev(), m.ino()))
            .map_err(bad)?;
        let writer = Writer {
            path: path.clone(),
            inode,
            connection: writer,
            journal: journal.clone(),
            failed: Arc::clone(&failed),
            wal,
        };
        std::thread::Builder::new()
            .name("spool-writer".to_owned())
            .spawn(move || writer.run(&queue))
            .map_err(|e| StoreError::Failed(e.to_string()))?;
        let store = Self {
            jobs,
            journal,
            reader: Arc::new(std::sync::Mutex::new(reader)),
            failed,
            observer,
        };
        Ok((store, records))
    }

    /// The journal in front of it.
    pub(super) fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether a sync has failed: nothing can be promised any more.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Tells the duration of every write that a client waits for to `observer`.
    pub fn observe_commits(&self, observer: Box<dyn Fn(Duration) + Send + Sync>) {
        let _ = self.observer.set(observer);
    }

    /// Makes a change; durable when it returns.
    pub async fn change(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        let (answer, done) = oneshot::channel();
        self.order(Box::new(change), Some(Answer::Async(answer)))?;
        done.await.map_err(|_| stopped())?
    }

    /// Makes a change that nobody waits for; it rides in the next commit.
    pub fn change_later(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        let _ = self.order(Box::new(change), None);
    }

    /// Waits, on this thread, until all that is young is in the database.
    pub fn fold_now(&self) -> Result<(), StoreError> {
        if self.journal.young(|young| young.is_empty()) {
            return Ok(());
        }
        let (answer, done) = mpsc::sync_channel(1);
        self.order(Box::new(|_| Ok(())), Some(Answer::Blocking(answer)))?;
        done.recv().map_err(|_| stopped())?
    }

    /// Brings everything into the database file itself, on this thread.
    pub fn checkpoint_now(&self) -> Result<(), StoreError> {
        let (answer, done) = mpsc::sync_channel(1);
        self.jobs
            .send(Job::Checkpoint(answer))
            .map_err(|_| stopped())?;
        done.recv().map_err(|_| stopped())?
    }

    fn order(&self, change: Change, answer: Option<Answer>) -> Result<(), StoreError> {
        if self.has_failed() {
            return Err(broken());
        }
        self.jobs
            .send(Job::Change { change, answer })
            .map_err(|_| stopped())
    }

    /// Reads rows that are known not to be young, off the async threads.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.peek(query))
            .await
            .map_err(|e| StoreError::Failed(e.to_string()))?
    }

    /// Reads on this thread what is there, young or not.
    pub fn read_now<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        if let Err(error) = self.fold_now() {
            // Looking must be possible when writing is not (a full disk).
            tracing::warn!(event = "fold-failed", reason = %error, "what is shown lacks the last seconds");
        }
        self.peek(query)
    }

    fn peek<T>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> Result<T, StoreError> {
        let reader = self
            .reader
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        query(&reader).map_err(|e| StoreError::of(&e))
    }
}

fn stopped() -> StoreError {
    StoreError::Failed("the writer has stopped".to_owned())
}

fn broken() -> StoreError {
    StoreError::Failed("an earlier write could not be made durable".to_owned())
}

/// Without this, statements are planned anew for every value of their parameters.
fn keep_plans(connection: &Connection) -> Result<(), StoreError> {
    connection
        .set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)
        .map(|_| ())
        .map_err(|e| StoreError::of(&e))
}

fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let failed = |e: rusqlite::Error| StoreError::of(&e);
    let mut connection = Connection::open(path).map_err(failed)?;
    keep_plans(&connection)?;
    connection
        .busy_timeout(Duration::from_secs(10))
        .map_err(failed)?;
    connection
        .execute_batch(
            "PRAGMA page_size = 8192; PRAGMA cache_size = -2048; PRAGMA temp_store = MEMORY;",
        )
        .map_err(failed)?;
    let mode: String = connection
        .query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0))
        .map_err(failed)?;
    connection
        .execute_batch("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;")
        .map_err(failed)?;
    let synchronous: i64 = connection
        .query_row("PRAGMA synchronous", [], |row| row.get(0))
        .map_err(failed)?;
    // Read back: a build or file system that does not obey would lose acknowledged mail.
    if !mode.eq_ignore_ascii_case("wal") || synchronous != 2 {
        return Err(StoreError::Failed(format!(
            "the file system does not allow a safe journal (journal_mode {mode}, synchronous {synchronous})"
        )));
    }
    loop {
        let version: i64 = connection
            .query_row("PRAGMA user_version", [], |row| row.get(0))
            .map_err(failed)?;
        let change = match version {
            0 => include_str!("schema.sql"),
            1 => include_str!("schema-2.sql"),
            2 => include_str!("schema-3.sql"),
            VERSION => break,
            newer => return Err(StoreError::Newer(newer)),
        };
        let transaction = connection.transaction().map_err(failed)?;
        transaction.execute_batch(change).map_err(failed)?;
        transaction.commit().map_err(failed)?;
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

struct Writer {
    path: PathBuf,
    inode: (u64, u64),
    connection: Connection,
    journal: Journal,
    failed: Arc<AtomicBool>,
    wal: PathBuf,
}

impl Writer {
    fn run(self, queue: &mpsc::Receiver<Job>) {
        let mut batch: Vec<(Change, Option<Answer>)> = Vec::with_capacity(BATCH_LIMIT);
        let mut checkpointed = Vec::new();
        loop {
            let first = match self.journal.young(|young| young.due()) {
                None => queue.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(at) => queue.recv_timeout(at.saturating_duration_since(Instant::now())),
            };
            let ended = matches!(first, Err(RecvTimeoutError::Disconnected));
            let due = matches!(first, Err(RecvTimeoutError::Timeout)) || ended;
            let mut checkpoint = false;
            let mut gather = |job, batch: &mut Vec<_>| match job {
                Job::Change { change, answer } => batch.push((change, answer)),
                Job::Checkpoint(answer) => {
                    checkpoint = true;
                    checkpointed.push(answer);
                }
                Job::Look => {}
            };
            if let Ok(job) = first {
                gather(job, &mut batch);
                while batch.len() < BATCH_LIMIT
                    && let Ok(job) = queue.try_recv()
                {
                    gather(job, &mut batch);
                }
            }
            if !batch.is_empty() || due || checkpoint {
                self.commit(&mut batch);
                let wanted = self.journal.young(|young| young.is_waited_for());
                if wanted
                    || checkpoint
                    || std::fs::metadata(&self.wal).is_ok_and(|m| m.len() > CHECKPOINT_BYTES)
                {
                    self.checkpoint();
                }
            }
            for answer in checkpointed.drain(..) {
                let _ = answer.send(Ok(()));
            }
            if ended {
                self.checkpoint();
                return;
            }
        }
    }

    /// Commits what is young and a batch of changes. One bad change is rolled back alone; a
    /// failing commit fails all.
    fn commit(&self, batch: &mut Vec<(Change, Option<Answer>)>) {
        let fold = self.journal.young(|young| young.begin());
        if fold.is_empty() && batch.is_empty() {
            return;
        }
        let mut answers = Vec::with_capacity(batch.len());
        let outcome = if self.failed.load(Ordering::Acquire) {
            Err(broken())
        } else {
            self.transaction(&fold, batch, &mut answers)
        };
        self.journal
            .young(|young| young.end(&fold, outcome.is_ok()));
        self.journal.folded();
        let lost = batch.drain(..).map(|(_, answer)| (answer, Ok(())));
        for (answer, result) in answers.into_iter().chain(lost) {
            if let Some(answer) = answer {
                answer.send(outcome.clone().and(result));
            }
        }
    }

    fn transaction(
        &self,
        fold: &super::young::Fold,
        batch: &mut Vec<(Change, Option<Answer>)>,
        answers: &mut Vec<(Option<Answer>, Result<(), StoreError>)>,
    ) -> Result<(), StoreError> {
        let db = &self.connection;
        let done = db.execute_batch("BEGIN IMMEDIATE").and_then(|()| {
            if !fold.is_empty() {
                fold.write(db)?;
            }
            for (change, answer) in batch.drain(..) {
                let result = in_savepoint(db, change);
                answers.push((answer, result.map_err(|e| StoreError::of(&e))));
            }
            db.execute_batch("COMMIT")
        });
        let Err(error) = done else { return Ok(()) };
        let _ = db.execute_batch("ROLLBACK");
        // A failed sync may have dropped pages that the kernel calls clean; trying again would lie.
        let is_sync = matches!(&error, rusqlite::Error::SqliteFailure(e, _) if matches!(e.extended_code, rusqlite::ffi::SQLITE_IOERR_FSYNC | rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC));
        if is_sync {
            self.failed.store(true, Ordering::Release);
            tracing::error!(event = "spool-failed", reason = %error, "a write could not be made durable; Postbote takes no more mail and must be restarted");
        } else {
            tracing::error!(event = "store-failed", reason = %error, "the database of the spool could not be written; it is tried again");
        }
        Err(StoreError::of(&error))
    }

    fn checkpoint(&self) {
        if self.is_gone() {
            self.failed.store(true, Ordering::Release);
            tracing::error!(
                event = "spool-failed",
                "the database of the spool was taken away; Postbote takes no more mail and must be restarted"
            );
            return;
        }
        // The writer is this thread: nothing is added meanwhile. PASSIVE never waits for readers;
        // what it leaves, the next one takes.
        let number = self.journal.young(|young| young.folded());
        let all = self
            .connection
            .query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |row| {
                Ok(row.get::<_, i64>(1)? == row.get::<_, i64>(2)?)
            });
        let done = matches!(all, Ok(true));
        self.journal
            .young(|young| young.checkpointed(done.then_some(number)));
        self.journal.folded();
    }

    /// Whether the file that we write is still the one of that name.
    fn is_gone(&self) -> bool {
        !std::fs::metadata(&self.path).is_ok_and(|m| (m.dev(), m.ino()) == self.inode)
    }
}

fn in_savepoint(connection: &Connection, change: Change) -> rusqlite::Result<()> {
    connection.prepare_cached("SAVEPOINT job")?.execute([])?;
    let result = change(connection);
    if result.is_err() {
        connection.prepare_cached("ROLLBACK TO job")?.execute([])?;
    }
    connection.prepare_cached("RELEASE job")?.execute([])?;
    result
}
