//! Content while it arrives: in memory up to a limit, beyond it in a file of the spool, hashed on
//! the way. Dropped unfinished, it leaves nothing behind.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::sync::Arc;

use aws_lc_rs::digest;
use bytes::Bytes;

use super::bodies::{Bodies, Slot};
use crate::message::MessageId;
use crate::message::content::{Content, HEADER_LIMIT, INLINE_LIMIT};

/// A message on its way in.
pub struct Incoming {
    id: MessageId,
    bodies: Arc<Bodies>,
    /// The beginning: all of a small message, the header of a large one.
    head: Vec<u8>,
    slot: Option<Slot>,
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
        &self.head
    }

    /// Adds bytes. Blocking only when a piece of a large message is written out.
    pub fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        if self.slot.is_none() {
            self.head.extend_from_slice(bytes);
            if self.head.len() > INLINE_LIMIT {
                let mut slot = self.bodies.take()?;
                let written = slot.file.write_all(&self.head);
                self.slot = Some(slot);
                // Only the header is looked at again.
                self.head.truncate(HEADER_LIMIT + 2);
                written?;
            }
            return Ok(());
        }
        if self.head.len() < HEADER_LIMIT + 2 {
            let room = HEADER_LIMIT + 2 - self.head.len();
            self.head.extend_from_slice(&bytes[..bytes.len().min(room)]);
        }
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= PIECE {
            self.write_out()
        } else {
            Ok(())
        }
    }

    /// The same octets once more.
    pub(super) fn copy_to(&mut self, other: &mut Self) -> io::Result<()> {
        if self.slot.is_none() {
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
            slot.file.write_all(&self.buffer)?;
        }
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
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.hash.clone().finish().as_ref());
        let Some(slot) = &self.slot else {
            let head = std::mem::take(&mut self.head);
            return Ok((Content::Memory(Bytes::from(head)), sha256));
        };
        if slot.fresh {
            slot.file.sync_all()?;
            self.bodies.sync_names()?;
        } else {
            slot.file.sync_data()?;
        }
        let path = self.bodies.directory().join(&slot.name);
        self.slot = None; // it belongs to the message now
        Ok((
            Content::File {
                path,
                size: self.size,
            },
            sha256,
        ))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(slot) = self.slot.take() {
            self.bodies.free(&slot.name);
        }
    }
}

/// SHA-256 of bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}
