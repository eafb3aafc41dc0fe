//! Content while it arrives: in memory up to a limit, beyond it in a file of the spool, hashed on
//! the way. Dropped unfinished, it leaves nothing behind.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

use super::bodies::{Bodies, Slot};
use crate::message::MessageId;
use crate::message::content::{Content, HEADER_LIMIT, INLINE_LIMIT, Kept};

/// A message on its way in.
pub struct Incoming {
    id: MessageId,
    bodies: Arc<Bodies>,
    /// The beginning: the header at least; all of a small message, and of a large one that there
    /// is room for.
    head: Vec<u8>,
    slot: Option<Slot>,
    /// The room of a large message that is all in `head`.
    room: Option<OwnedSemaphorePermit>,
    /// What of `head` is in the file.
    written: usize,
    /// What of `head` is hashed. The rest is hashed at the end, where nobody else waits for it.
    hashed: usize,
    /// What comes behind `head` and is not written yet.
    buffer: Vec<u8>,
    size: u64,
    hash: digest::Context,
}

/// Bytes are written to the file in pieces of this size.
const PIECE: usize = 256 * 1024;

impl Incoming {
    /// Begins a message.
    pub(super) fn new(bodies: Arc<Bodies>) -> Self {
        Self {
            id: MessageId::fresh(),
            bodies,
            head: Vec::new(),
            slot: None,
            room: None,
            written: 0,
            hashed: 0,
            buffer: Vec::new(),
            size: 0,
            hash: digest::Context::new(&digest::SHA256),
        }
    }

    /// Its id.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// Octets so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The beginning of the message: the header, if it is not longer than allowed.
    pub fn head(&self) -> &[u8] {
        &self.head[..self.head.len().min(HEADER_LIMIT + 2)]
    }

    /// Adds bytes. Blocking only when a piece of a large message is written out.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.append(|out| out.extend_from_slice(bytes)).1
    }

    /// Lets `feed` append to it, and gives its answer; blocking as [`Self::push`] is.
    pub fn append<T>(&mut self, feed: impl FnOnce(&mut Vec<u8>) -> T) -> (T, io::Result<()>) {
        if self.slot.is_some() && self.room.is_none() {
            let before = self.buffer.len();
            let answer = feed(&mut self.buffer);
            return (answer, self.appended_behind(before));
        }
        let before = self.head.len();
        let answer = feed(&mut self.head);
        self.size += (self.head.len() - before) as u64;
        (answer, self.appended())
    }

    /// Something was added to what stands in memory as a whole.
    fn appended(&mut self) -> io::Result<()> {
        if self.slot.is_none() {
            if self.head.len() <= INLINE_LIMIT {
                return Ok(());
            }
            self.slot = Some(self.bodies.take()?);
        }
        if self.bodies.keep(self.head.len(), &mut self.room) {
            self.write_pieces()
        } else {
            self.let_go()
        }
    }

    /// Something was added to what only goes to the file.
    fn appended_behind(&mut self, before: usize) -> io::Result<()> {
        let added = &self.buffer[before..];
        self.size += added.len() as u64;
        self.hash.update(added);
        if self.head.len() < HEADER_LIMIT + 2 {
            let room = HEADER_LIMIT + 2 - self.head.len();
            self.head.extend_from_slice(&added[..added.len().min(room)]);
            (self.written, self.hashed) = (self.head.len(), self.head.len());
        }
        if self.buffer.len() >= PIECE {
            self.write_out()
        } else {
            Ok(())
        }
    }

    /// Writes what stands in memory once it is much.
    fn write_pieces(&mut self) -> io::Result<()> {
        if self.head.len() - self.written >= PIECE {
            self.write_out()
        } else {
            Ok(())
        }
    }

    /// There is no room to keep all of it: only the header is looked at again.
    fn let_go(&mut self) -> io::Result<()> {
        self.write_out()?;
        self.hash_rest();
        self.head.truncate(HEADER_LIMIT + 2);
        self.head.shrink_to_fit();
        (self.written, self.hashed) = (self.head.len(), self.head.len());
        Ok(())
    }

    fn hash_rest(&mut self) {
        self.hash.update(&self.head[self.hashed..]);
        self.hashed = self.head.len();
    }

    /// The same octets once more.
    pub(super) fn copy_to(&mut self, other: &mut Self) -> io::Result<()> {
        if self.slot.is_none() || self.room.is_some() {
            return other.push(&self.head);
        }
        self.write_out()?;
        let Some(slot) = &self.slot else {
            return Ok(());
        };
        let mut file = File::open(self.bodies.directory().join(&slot.name))?;
        let mut left = self.size;
        let mut piece = vec![0; PIECE];
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            file.read_exact(&mut piece[..wanted])?;
            other.push(&piece[..wanted])?;
            left -= wanted as u64;
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        if let Some(slot) = &mut self.slot {
            slot.file.write_all(&self.head[self.written..])?;
            slot.file.write_all(&self.buffer)?;
        }
        self.written = self.head.len();
        self.buffer.clear();
        Ok(())
    }

    /// Whether finishing will touch the disk.
    pub fn is_file(&self) -> bool {
        self.slot.is_some()
    }

    /// Ends it: a file is on stable storage, name and all, when this returns.
    pub(super) fn finish(mut self) -> io::Result<(Content, [u8; 32])> {
        self.write_out()?;
        self.hash_rest();
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.hash.clone().finish().as_ref());
        let Some(slot) = &self.slot else {
            let mut head = std::mem::take(&mut self.head);
            head.shrink_to_fit();
            return Ok((Content::Memory(Bytes::from(head)), sha256));
        };
        if slot.fresh {
            slot.file.sync_all()?;
            self.bodies.sync_names()?;
        } else {
            slot.file.sync_data()?;
        }
        if slot.file.metadata()?.nlink() == 0 {
            return Err(io::Error::other(format!(
                "somebody has deleted {} of the spool",
                slot.name
            )));
        }
        let path = self.bodies.directory().join(&slot.name);
        self.slot = None; // it belongs to the message now
        let mut head = std::mem::take(&mut self.head);
        head.shrink_to_fit();
        let room = self.room.take();
        let kept = room.map(|room| Arc::new(Kept::new(head.into(), room)));
        let size = self.size;
        Ok((Content::File { path, size, kept }, sha256))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.bodies.give_back(&slot.name, slot.fresh);
        }
    }
}

/// SHA-256 of bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In pieces of any size, with room in memory or without: the same octets, the same hash.
    #[test]
    fn what_came_is_what_is_stored() {
        let folder = tempfile::tempdir().expect("folder");
        let bodies = Arc::new(Bodies::open(folder.path().to_owned()).expect("bodies"));
        let sizes = [
            0,
            10,
            INLINE_LIMIT,
            INLINE_LIMIT + 1,
            HEADER_LIMIT + 3,
            5 << 20,
        ];
        for (size, piece, crowded) in sizes.into_iter().flat_map(|size| {
            [(7919, false), (65536, true), (1 << 20, false)]
                .map(|(piece, full)| (size, piece, full))
        }) {
            let octets: Vec<u8> = (0..size).map(|i| (i * 31 % 251) as u8).collect();
            let mut everything = None;
            if crowded {
                assert!(bodies.keep(2 << 20, &mut everything));
            }
            let (mut others, mut one) = (Vec::new(), None);
            while crowded && bodies.keep(1 << 20, &mut one) {
                others.extend(one.take());
            }
            let mut incoming = Incoming::new(Arc::clone(&bodies));
            for part in octets.chunks(piece) {
                incoming.push(part).expect("push");
            }
            assert_eq!(incoming.head(), &octets[..size.min(HEADER_LIMIT + 2)]);
            let mut copy = Incoming::new(Arc::clone(&bodies));
            incoming.copy_to(&mut copy).expect("copy");
            for one in [incoming, copy] {
                let what = format!("{size} octets by {piece}, crowded: {crowded}");
                let (content, hash) = one.finish().expect("finish");
                assert_eq!(hash, sha256(&octets), "{what}");
                assert_eq!(content.size(), size as u64, "{what}");
                assert!(content.read().expect("read") == octets, "{what}");
                assert!(
                    content.in_memory().is_none_or(|kept| *kept == octets),
                    "{what}"
                );
            }
        }
    }
}
