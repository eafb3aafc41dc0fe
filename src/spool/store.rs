//! The embedded store: SQLite with one writer thread. Whatever waits is committed together, so
//! many messages share one sync (group commit); a message is answered only after it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rusqlite::{Connection, OpenFlags};
use tokio::sync::{mpsc, oneshot};

/// Most changes of one commit.
const BATCH_LIMIT: usize = 512;
/// Changes that may wait for the writer before their makers wait too.
const QUEUE_LIMIT: usize = 4096;
/// The write-ahead log is folded into the database from this size.
const CHECKPOINT_BYTES: u64 = 8 << 20;
/// The layout that this program knows.
const VERSION: i64 = 1;

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

struct Job {
    change: Change,
    answer: oneshot::Sender<Result<(), StoreError>>,
}

/// The store. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
    path: Arc<PathBuf>,
    reader: Arc<std::sync::Mutex<Connection>>,
    failed: Arc<AtomicBool>,
    commits: Arc<CommitTimes>,
}

type Observer = Box<dyn Fn(Duration) + Send + Sync>;

/// How long commits take, for the metrics.
#[derive(Default)]
struct CommitTimes {
    observer: std::sync::OnceLock<Observer>,
    count: AtomicU64,
}

impl Store {
    /// Opens or makes the store of a spool directory and starts its writer.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let path = directory.join("spool.sqlite");
        let writer = open_writer(&path)?;
        // The names of the database and its log must survive a power cut as well.
        std::fs::File::open(directory)
            .and_then(|d| d.sync_all())
            .map_err(|e| StoreError::Directory(directory.to_owned(), e.to_string()))?;
        let reader = Connection::open_with_flags(
            &path,
            OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
        )
        .map_err(|e| StoreError::of(&e))?;
        reader
            .busy_timeout(Duration::from_secs(10))
            .map_err(|e| StoreError::of(&e))?;
        let (jobs, queue) = mpsc::channel(QUEUE_LIMIT);
        let failed = Arc::new(AtomicBool::new(false));
        let commits = Arc::new(CommitTimes::default());
        let (thread_failed, thread_commits) = (Arc::clone(&failed), Arc::clone(&commits));
        let wal = path.with_extension("sqlite-wal");
        std::thread::Builder::new()
            .name("spool-writer".to_owned())
            .spawn(move || write_loop(writer, queue, &thread_failed, &thread_commits, &wal))
            .map_err(|e| StoreError::Failed(e.to_string()))?;
        Ok(Self {
            jobs,
            path: Arc::new(path),
            reader: Arc::new(std::sync::Mutex::new(reader)),
            failed,
            commits,
        })
    }

    /// Whether a sync has failed: nothing can be promised any more.
    pub fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Where the database is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tells the duration of every commit to `observer`.
    pub fn observe_commits(&self, observer: Box<dyn Fn(Duration) + Send + Sync>) {
        let _ = self.commits.observer.set(observer);
    }

    /// Makes a change; durable when it returns.
    pub async fn change(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) -> Result<(), StoreError> {
        if self.has_failed() {
            return Err(StoreError::Failed(
                "an earlier write could not be made durable".to_owned(),
            ));
        }
        let (answer, done) = oneshot::channel();
        let job = Job {
            change: Box::new(change),
            answer,
        };
        self.jobs
            .send(job)
            .await
            .map_err(|_| StoreError::Failed("the writer has stopped".to_owned()))?;
        done.await
            .map_err(|_| StoreError::Failed("the writer has stopped".to_owned()))?
    }

    /// Makes a change that nobody waits for; it rides in the next commit.
    pub fn change_later(
        &self,
        change: impl FnOnce(&Connection) -> rusqlite::Result<()> + Send + 'static,
    ) {
        let (answer, _) = oneshot::channel();
        // A full queue means that the writer is far behind; such changes may be dropped.
        let _ = self.jobs.try_send(Job {
            change: Box::new(change),
            answer,
        });
    }

    /// Reads something, off the async threads.
    pub async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let store = self.clone();
        tokio::task::spawn_blocking(move || store.read_now(query))
            .await
            .map_err(|e| StoreError::Failed(e.to_string()))?
    }

    /// Reads something on this thread.
    pub fn read_now<T>(
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

fn open_writer(path: &Path) -> Result<Connection, StoreError> {
    let failed = |e: rusqlite::Error| StoreError::of(&e);
    let mut connection = Connection::open(path).map_err(failed)?;
    connection
        .busy_timeout(Duration::from_secs(10))
        .map_err(failed)?;
    connection
        .execute_batch(
            "PRAGMA page_size = 8192; PRAGMA cache_size = -4096; PRAGMA temp_store = MEMORY;",
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
    let version: i64 = connection
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .map_err(failed)?;
    match version {
        0 => {
            let transaction = connection.transaction().map_err(failed)?;
            transaction
                .execute_batch(include_str!("schema.sql"))
                .map_err(failed)?;
            transaction.commit().map_err(failed)?;
        }
        VERSION => {}
        newer => return Err(StoreError::Newer(newer)),
    }
    connection.set_prepared_statement_cache_capacity(64);
    Ok(connection)
}

fn write_loop(
    connection: Connection,
    mut queue: mpsc::Receiver<Job>,
    failed: &AtomicBool,
    commits: &CommitTimes,
    wal: &Path,
) {
    let mut batch: Vec<Job> = Vec::with_capacity(BATCH_LIMIT);
    while let Some(first) = queue.blocking_recv() {
        batch.push(first);
        while batch.len() < BATCH_LIMIT {
            match queue.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let start = Instant::now();
        let outcome = if failed.load(Ordering::Acquire) {
            Err(StoreError::Failed(
                "an earlier write could not be made durable".to_owned(),
            ))
        } else {
            commit(&connection, &mut batch, failed)
        };
        if let Some(observer) = commits.observer.get() {
            observer(start.elapsed());
        }
        let number = commits.count.fetch_add(1, Ordering::Relaxed);
        match outcome {
            Ok(answers) => {
                for (answer, result) in answers {
                    let _ = answer.send(result);
                }
            }
            Err(error) => {
                for job in batch.drain(..) {
                    let _ = job.answer.send(Err(error.clone()));
                }
            }
        }
        if number.is_multiple_of(64)
            && std::fs::metadata(wal).is_ok_and(|m| m.len() > CHECKPOINT_BYTES)
        {
            checkpoint(&connection);
        }
    }
    checkpoint(&connection);
}

type Answers = Vec<(
    oneshot::Sender<Result<(), StoreError>>,
    Result<(), StoreError>,
)>;

/// Commits a batch. One bad change is rolled back alone; a failing commit fails all.
fn commit(
    connection: &Connection,
    batch: &mut Vec<Job>,
    failed: &AtomicBool,
) -> Result<Answers, StoreError> {
    connection
        .execute_batch("BEGIN IMMEDIATE")
        .map_err(|e| StoreError::of(&e))?;
    let mut answers = Vec::with_capacity(batch.len());
    let alone = batch.len() == 1;
    for job in batch.drain(..) {
        let result = if alone {
            (job.change)(connection)
        } else {
            in_savepoint(connection, job.change)
        };
        answers.push((job.answer, result.map_err(|e| StoreError::of(&e))));
    }
    if alone && answers.iter().any(|(_, result)| result.is_err()) {
        let _ = connection.execute_batch("ROLLBACK");
        return Ok(answers);
    }
    if let Err(error) = connection.execute_batch("COMMIT") {
        let _ = connection.execute_batch("ROLLBACK");
        let stored = StoreError::of(&error);
        // A failed sync may have dropped pages that the kernel calls clean; trying again would lie.
        let is_sync = matches!(&error, rusqlite::Error::SqliteFailure(e, _) if matches!(e.extended_code, rusqlite::ffi::SQLITE_IOERR_FSYNC | rusqlite::ffi::SQLITE_IOERR_DIR_FSYNC));
        if is_sync {
            failed.store(true, Ordering::Release);
            tracing::error!(event = "spool-failed", reason = %error, "a write could not be made durable; Postbote takes no more mail and must be restarted");
        }
        for (answer, _) in answers {
            let _ = answer.send(Err(stored.clone()));
        }
        return Ok(Vec::new());
    }
    Ok(answers)
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

fn checkpoint(connection: &Connection) {
    // PASSIVE never waits for readers; what it leaves, the next one takes.
    let _ = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
}
