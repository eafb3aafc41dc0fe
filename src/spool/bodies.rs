//! Files for large bodies. A file is a slot that is used again: on disks of today, making a name
//! and taking it away cost more than writing what is in it, and a slot's blocks are there already.
//!
//! Which slots are in use is what the messages say; everything else is free.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::OFlags;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::message::MessageId;

/// Free slots that are kept.
const FREE_LIMIT: usize = 64;
/// A slot that has grown larger is given back to the file system.
const KEPT_SIZE: u64 = 4 << 20;
const PREFIX: &str = "slot-";

/// KiB of large messages that may stand in memory from their arrival to their first delivery.
const KEPT_KIB: usize = 16 * 1024;
/// Octets of one such message.
const KEPT_LIMIT: usize = 4 << 20;

/// The directory of body files.
#[derive(Debug)]
pub(super) struct Bodies {
    directory: PathBuf,
    state: Mutex<State>,
    room: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<u64>,
    next: u64,
}

/// A slot while a body is written into it.
#[derive(Debug)]
pub(super) struct Slot {
    pub name: String,
    pub file: File,
    /// Its name is new: the directory has to be synced too.
    pub fresh: bool,
}

impl Bodies {
    /// Opens or makes the directory; nothing is free before [`Self::sweep`].
    pub fn open(directory: PathBuf) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        Ok(Self {
            directory,
            state: Mutex::default(),
            room: Arc::new(Semaphore::new(KEPT_KIB)),
        })
    }

    pub fn directory(&self) -> &Path {
        &self.directory
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Room in memory for so many octets of a message, with what it has already; `false`: there is
    /// none, and what it had is given back.
    pub fn keep(&self, octets: usize, room: &mut Option<OwnedSemaphorePermit>) -> bool {
        let held = room.as_ref().map_or(0, OwnedSemaphorePermit::num_permits);
        let more = (octets / 1024 + 1).saturating_sub(held);
        let granted = if octets > KEPT_LIMIT {
            None
        } else {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            Arc::clone(&self.room).try_acquire_many_owned(more).ok()
        };
        match (granted, room.as_mut()) {
            (Some(more), Some(room)) => room.merge(more),
            (Some(first), None) => *room = Some(first),
            (None, _) => *room = None,
        }
        room.is_some()
    }

    /// A free slot to write into.
    pub fn take(&self) -> io::Result<Slot> {
        loop {
            let (number, fresh) = {
                let mut state = self.state();
                match state.free.pop() {
                    Some(number) => (number, false),
                    None => {
                        state.next += 1;
                        (state.next, true)
                    }
                }
            };
            let name = format!("{PREFIX}{number}");
            let opened = File::options()
                .write(true)
                .create_new(fresh)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .mode(0o600)
                .open(self.directory.join(&name));
            match opened {
                Ok(file) => return Ok(Slot { name, file, fresh }),
                // Somebody took the free file away, or has put one where a new one goes.
                Err(error) if !fresh && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if fresh && error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    if !fresh {
                        self.state().free.push(number);
                    }
                    return Err(error);
                }
            }
        }
    }

    /// Syncs the names in the directory.
    pub fn sync_names(&self) -> io::Result<()> {
        File::open(&self.directory)?.sync_all()
    }

    /// Gives a body's file back, when no message needs it any more.
    pub fn free(&self, name: &str) {
        let path = self.directory.join(name);
        let number = name.strip_prefix(PREFIX).and_then(|n| n.parse().ok());
        let small = std::fs::metadata(&path).is_ok_and(|m| m.len() <= KEPT_SIZE);
        if let (Some(number), true) = (number, small) {
            let mut state = self.state();
            if state.free.len() < FREE_LIMIT {
                state.free.push(number);
                return;
            }
        }
        let _ = std::fs::remove_file(path);
    }

    /// Takes stock at start: slots that no message has are free, other files that no message has
    /// were never answered with 250 and go. Gives how many went.
    pub fn sweep(&self, known: &HashSet<String>) -> io::Result<usize> {
        let mut removed = 0;
        let mut state = State::default();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let slot: Option<u64> = name.strip_prefix(PREFIX).and_then(|n| n.parse().ok());
            if let Some(number) = slot {
                state.next = state.next.max(number);
            }
            if known.contains(&name) {
                continue;
            }
            let metadata = entry.metadata()?;
            match slot {
                Some(number)
                    if metadata.is_file()
                        && metadata.len() <= KEPT_SIZE
                        && state.free.len() < FREE_LIMIT =>
                {
                    state.free.push(number);
                }
                Some(_) => {
                    std::fs::remove_file(entry.path())?;
                    removed += 1;
                }
                None if MessageId::parse(&name).is_some() => {
                    std::fs::remove_file(entry.path())?;
                    removed += 1;
                }
                None => {}
            }
        }
        *self.state() = state;
        Ok(removed)
    }
}
