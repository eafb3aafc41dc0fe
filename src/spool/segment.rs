//! One file of the journal: where the next records go, and how they get to the disk.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use rustix::fs::OFlags;

use super::record::Window;

/// Files grow by this many octets of zeros.
const GROWTH: u64 = 1 << 20;
/// What is written past the page cache begins and ends at multiples of this, in memory too.
const BLOCK: usize = 4096;
/// Memory of a writer that is kept between batches.
const KEPT: usize = 256 * 1024;

/// A file of the journal. It grows by zeros ahead of the records, so that a sync has no sizes to
/// write.
pub(super) struct Segment {
    file: File,
    /// The same file past the page cache, where the file system can do that.
    direct: Option<Direct>,
    /// Octets that are written with zeros or records.
    allocated: u64,
    /// Where the next record goes.
    pub position: u64,
    /// The highest number in it.
    pub last: u64,
    /// Octets behind the position that a failed write may have left.
    pub remains: Option<u64>,
}

impl Segment {
    /// Opens or creates a file of the journal.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let direct = File::options()
            .write(true)
            .custom_flags(OFlags::DIRECT.bits().cast_signed())
            .open(path);
        Ok(Self {
            allocated: file.metadata()?.len(),
            file,
            // Not every file system has it (tmpfs, some network ones).
            direct: direct.ok().map(Direct::new),
            position: 0,
            last: 0,
            remains: None,
        })
    }

    /// Reads it from its beginning.
    pub fn window(&self) -> Window<'_> {
        Window::new(&self.file, self.allocated)
    }

    fn grow(&mut self, needed: u64) -> io::Result<()> {
        while self.allocated < needed {
            self.file
                .write_all_at(&vec![0; GROWTH as usize], self.allocated)?;
            self.allocated += GROWTH;
        }
        Ok(())
    }

    /// Writes records behind the last one.
    pub fn write(&mut self, octets: &[u8], last: u64) -> io::Result<()> {
        if self.file.metadata()?.nlink() == 0 {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                "the journal was deleted",
            ));
        }
        let end = self.position + octets.len() as u64;
        self.grow(end)?;
        if !self.write_directly(octets)? {
            self.file.write_all_at(octets, self.position)?;
        }
        self.position = end;
        self.last = last;
        Ok(())
    }

    /// Whether it could be done.
    fn write_directly(&mut self, octets: &[u8]) -> io::Result<bool> {
        let Some(direct) = &mut self.direct else {
            return Ok(false);
        };
        if let Err(error) = direct.write(&self.file, octets, self.position) {
            // It may want other blocks than we know, or cannot at all; there is a way that always
            // works, and says so where the disk itself does not.
            tracing::debug!(event = "journal-buffered", reason = %error);
            self.direct = None;
            return Ok(false);
        }
        Ok(true)
    }

    /// Writes over what is there, for what must not be found again.
    pub fn write_over(&mut self, octets: &[u8], at: u64) -> io::Result<()> {
        if let Some(direct) = &mut self.direct {
            direct.tail = None;
        }
        self.file.write_all_at(octets, at)
    }

    /// Waits until all is on stable storage.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Takes back what a failed write may have left: it was never promised.
    pub fn erase(&mut self, before: (u64, u64), length: u64) -> io::Result<()> {
        (self.position, self.last) = before;
        let end = (self.position + length).min(self.allocated);
        let length = usize::try_from(end.saturating_sub(self.position)).unwrap_or(0);
        self.write_over(&vec![0; length], self.position)
    }
}

/// A file that is written past the page cache: a sync then has nothing left to write, which spares
/// a third of its computing time. Only whole blocks can be written, so the last one is written
/// again with every batch that goes on in it.
struct Direct {
    file: File,
    /// Memory for whole blocks, and for finding their beginning in it.
    memory: Vec<u8>,
    /// What the last block holds before the given position.
    tail: Option<(u64, Vec<u8>)>,
}

impl Direct {
    fn new(file: File) -> Self {
        Self {
            file,
            memory: Vec::new(),
            tail: None,
        }
    }

    fn write(&mut self, file: &File, octets: &[u8], position: u64) -> io::Result<()> {
        let inside = usize::try_from(position % BLOCK as u64).unwrap_or(0);
        let start = position - inside as u64;
        let mut tail = match self.tail.take() {
            Some((end, tail)) if end == position => tail,
            _ => {
                let mut tail = vec![0; inside];
                file.read_exact_at(&mut tail, start)?;
                tail
            }
        };
        let length = (inside + octets.len()).next_multiple_of(BLOCK);
        self.memory.clear();
        self.memory.reserve(length + BLOCK);
        // Memory that is not aligned is refused by the kernel, not written wrong.
        let offset = self.memory.as_ptr().align_offset(BLOCK).min(BLOCK);
        self.memory.resize(offset, 0);
        self.memory.extend_from_slice(&tail);
        self.memory.extend_from_slice(octets);
        self.memory.resize(offset + length, 0);
        self.file.write_all_at(&self.memory[offset..], start)?;
        let end = inside + octets.len();
        tail.clear();
        tail.extend_from_slice(&self.memory[offset + end / BLOCK * BLOCK..offset + end]);
        self.tail = Some((position + octets.len() as u64, tail));
        self.memory.clear();
        self.memory.shrink_to(KEPT);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_of_any_length_stand_one_behind_the_other() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("journal");
        let mut written = Vec::new();
        let lengths = [1, 7, 4087, 1, 4096, 8, 12_288, 70_000, 4095, 2, 1 << 20, 5];
        for (number, length) in lengths.into_iter().enumerate() {
            // A new one each third time: what an earlier process wrote goes on in its last block.
            let mut segment = Segment::open(&path).expect("open");
            segment.position = written.len() as u64;
            for again in 0..3u8 {
                let octets = vec![b'a' + number as u8 + again; length];
                segment.write(&octets, 1).expect("write");
                written.extend_from_slice(&octets);
            }
            if number == 5 {
                let before = (segment.position, 1);
                segment.write(b"never promised", 2).expect("write");
                segment.erase(before, 14).expect("erase");
                segment.write(b"promised", 2).expect("write");
                written.extend_from_slice(b"promised");
            }
            let found = std::fs::read(&path).expect("read");
            assert!(found[..written.len()] == written[..], "after {length}");
            assert!(found[written.len()..].iter().all(|b| *b == 0));
        }
    }
}
