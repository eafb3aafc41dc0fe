//! Files for large bodies. A file is a slot that is used again: on disks of today, making a name
//! and taking it away cost more than writing what is in it, and a slot's blocks are there already.
//!
//! Which slots are in use is what the messages say; everything else is free.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use rustix::fs::OFlags;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::message::MessageId;

/// Free slots that are kept.
const FREE_LIMIT: usize = 256;
/// … and their octets.
const FREE_OCTETS: u64 = 64 << 20;
/// A slot that has grown larger is given back to the file system.
const KEPT_SIZE: u64 = 4 << 20;
const PREFIX: &str = "slot-";

/// KiB of large messages that may stand in memory from their arrival to their first delivery.
const KEPT_KIB: usize = 16 * 1024;
/// Octets of one such message.
const KEPT_LIMIT: usize = 2 << 20;

/// The directory of body files.
#[derive(Debug)]
pub(super) struct Bodies {
    directory: PathBuf,
    state: Mutex<State>,
    room: Arc<Semaphore>,
    /// The lock of the spool. Nobody else may have it while files are still given back.
    lock: OnceLock<File>,
}

/// A slot that nobody uses.
#[derive(Debug, Clone, Copy)]
struct Free {
    number: u64,
    /// What it takes of the disk.
    size: u64,
    /// Its name is not on stable storage yet.
    fresh: bool,
}

#[derive(Debug, Default)]
struct State {
    free: Vec<Free>,
    octets: u64,
    next: u64,
    /// Somebody gives back what is too much.
    trimming: bool,
    /// All of it is wanted back: the disk is full.
    all: bool,
}

impl State {
    fn add(&mut self, free: Free) {
        self.octets += free.size;
        self.free.push(free);
    }

    fn pop(&mut self) -> Option<Free> {
        let free = self.free.pop()?;
        self.octets -= free.size;
        Some(free)
    }

    /// The next slot to give back to the file system: what is too large first.
    fn excess(&mut self) -> Option<u64> {
        let large = self.free.iter().position(|free| free.size > KEPT_SIZE);
        let much = self.all || self.free.len() > FREE_LIMIT || self.octets > FREE_OCTETS;
        let at = large.or_else(|| (much && !self.free.is_empty()).then_some(0))?;
        let free = self.free.swap_remove(at);
        self.octets -= free.size;
        Some(free.number)
    }
}

/// A slot while a body is written into it.
#[derive(Debug)]
pub(super) struct Slot {
    pub name: String,
    pub file: File,
    /// Its name is new: the directory has to be synced too.
    pub fresh: bool,
}

fn slot_name(number: u64) -> String {
    format!("{PREFIX}{number}")
}

fn slot_number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.parse().ok()
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
            lock: OnceLock::new(),
        })
    }

    /// Keeps the lock of the spool.
    pub fn guard(&self, lock: File) {
        let _ = self.lock.set(lock);
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
            let (free, is_there) = {
                let mut state = self.state();
                match state.pop() {
                    Some(free) => (free, true),
                    None => {
                        state.next += 1;
                        let new = Free {
                            number: state.next,
                            size: 0,
                            fresh: true,
                        };
                        (new, false)
                    }
                }
            };
            let (name, fresh) = (slot_name(free.number), free.fresh);
            let opened = File::options()
                .write(true)
                .create_new(!is_there)
                .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
                .mode(0o600)
                .open(self.directory.join(&name));
            match opened {
                Ok(file) => return Ok(Slot { name, file, fresh }),
                // Somebody took the free file away, or has put one where a new one goes.
                Err(error) if is_there && error.kind() == io::ErrorKind::NotFound => {}
                Err(error) if !is_there && error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => {
                    if is_there {
                        self.state().add(Free { size: 0, ..free });
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
    pub fn free(self: &Arc<Self>, name: &str) {
        self.give_back(name, false);
    }

    /// As [`Self::free`]. `fresh`: its name may not be on stable storage yet, and whoever takes it
    /// next has to see to that.
    pub fn give_back(self: &Arc<Self>, name: &str, fresh: bool) {
        let path = self.directory.join(name);
        let Some(number) = slot_number(name) else {
            let _ = std::fs::remove_file(path);
            return;
        };
        let size = std::fs::metadata(&path).map_or(0, |m| m.len());
        self.state().add(Free {
            number,
            size,
            fresh,
        });
        self.trim(false);
    }

    /// Gives free slots back to the file system where they are too many, or all of them. It takes
    /// milliseconds each on some disks, so it is done aside, and one that is wanted meanwhile is
    /// used again.
    pub fn trim(self: &Arc<Self>, all: bool) {
        let first = {
            let mut state = self.state();
            state.all |= all;
            if state.trimming {
                return;
            }
            let first = state.excess();
            state.trimming = first.is_some();
            state.all &= state.trimming;
            first
        };
        let Some(first) = first else { return };
        let bodies = Arc::clone(self);
        let work = move || {
            let mut next = Some(first);
            while let Some(number) = next {
                let _ = std::fs::remove_file(bodies.directory.join(slot_name(number)));
                let mut state = bodies.state();
                next = state.excess();
                state.trimming = next.is_some();
                state.all &= state.trimming;
            }
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(_) => work(),
        }
    }

    /// Takes stock at start: slots that no message has are free, other files that no message has
    /// were never answered with 250 and go. Gives how many went.
    pub fn sweep(&self, known: &HashSet<String>) -> io::Result<usize> {
        let mut removed = 0;
        let mut state = State::default();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let slot = slot_number(&name);
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
                        && state.free.len() < FREE_LIMIT
                        && state.octets + metadata.len() <= FREE_OCTETS =>
                {
                    state.add(Free {
                        number,
                        size: metadata.len(),
                        fresh: false,
                    });
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
        // A process that was killed may have left names that are not on stable storage.
        self.sync_names()?;
        *self.state() = state;
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_slots_are_used_again_and_are_not_too_many() {
        let folder = tempfile::tempdir().expect("folder");
        let bodies = Arc::new(Bodies::open(folder.path().to_owned()).expect("bodies"));
        let count = || std::fs::read_dir(folder.path()).expect("list").count();
        let taken: Vec<Slot> = (0..FREE_LIMIT + 20)
            .map(|_| bodies.take().expect("slot"))
            .collect();
        assert!(taken.iter().all(|slot| slot.fresh));
        // One that has grown does not stay.
        let grown = &taken[FREE_LIMIT / 2];
        grown.file.set_len(KEPT_SIZE + 1).expect("grow");
        for slot in &taken {
            bodies.free(&slot.name);
        }
        assert_eq!(count(), FREE_LIMIT);
        assert!(!folder.path().join(&grown.name).exists());
        assert!(!bodies.take().expect("slot").fresh);
        // One that was never finished has a name that nobody has synced.
        let unfinished = &taken[3].name;
        assert!(
            bodies
                .state()
                .free
                .iter()
                .any(|f| slot_name(f.number) == *unfinished)
        );
        bodies
            .state()
            .free
            .retain(|f| slot_name(f.number) != *unfinished);
        bodies.give_back(unfinished, true);
        let again = bodies.take().expect("slot");
        assert!(again.fresh && again.name == *unfinished);
        bodies.free(unfinished);
        // No more octets than allowed.
        let half = FREE_OCTETS / 2 / KEPT_SIZE + 1;
        let large: Vec<Slot> = (0..2 * half)
            .map(|_| bodies.take().expect("slot"))
            .collect();
        for slot in &large {
            slot.file.set_len(KEPT_SIZE).expect("grow");
            bodies.free(&slot.name);
        }
        assert!(bodies.state().octets <= FREE_OCTETS);
        let octets: u64 = (std::fs::read_dir(folder.path()).expect("list"))
            .map(|entry| entry.expect("entry").metadata().expect("metadata").len())
            .sum();
        assert_eq!(octets, bodies.state().octets);
        bodies.trim(true);
        assert_eq!(count(), 1, "all but the one in use");
    }
}
