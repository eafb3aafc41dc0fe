//! Room: what the spool may take, and what its disk has.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::{Inner, Spool, lock};

/// Room set aside for a message that is coming in; given back when dropped.
pub struct Reservation {
    inner: Arc<Inner>,
    bytes: u64,
}

impl Reservation {
    /// Sets more room aside; `false` when the spool is full.
    pub fn grow_to(&mut self, size: u64) -> bool {
        if size <= self.bytes {
            return true;
        }
        let more = size - self.bytes;
        let limit = lock(&self.inner.limits).bytes;
        let before = self.inner.reserved.fetch_add(more, Ordering::Relaxed);
        self.bytes = size;
        self.inner.bytes.load(Ordering::Relaxed) + before + more <= limit
    }
}

/// How long a look at the free room of the disk counts.
const DISK_LOOK: Duration = Duration::from_millis(200);

/// Free octets that the disk must have besides a message.
const DISK_RESERVE: u64 = 1 << 20;

impl Drop for Reservation {
    fn drop(&mut self) {
        self.inner.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Spool {
    /// Whether the disk has room for a message of that size: half as much again is wanted, for
    /// what goes with it. Looked at no more than a few times a second.
    pub fn disk_has_room(&self, size: u64) -> bool {
        let wanted = size.saturating_add(size / 2).saturating_add(DISK_RESERVE);
        let mut known = lock(&self.inner.disk);
        let fresh = known.is_some_and(|(at, free)| at.elapsed() < DISK_LOOK && free >= wanted);
        if !fresh {
            let free = rustix::fs::statvfs(self.inner.bodies.directory())
                .map_or(u64::MAX, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
            if free < wanted {
                self.inner.bodies.trim(true);
            }
            *known = Some((Instant::now(), free));
        }
        known.is_none_or(|(_, free)| free >= wanted)
    }

    /// Room for a message that is coming in, none yet.
    pub fn room(&self) -> Reservation {
        Reservation {
            inner: Arc::clone(&self.inner),
            bytes: 0,
        }
    }
}
