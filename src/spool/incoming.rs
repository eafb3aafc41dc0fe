//! Content while it arrives: in memory up to a limit, beyond it in a file of the spool, hashed on
//! the way. Dropped unfinished, it leaves nothing behind.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use bytes::Bytes;

use crate::message::MessageId;
use crate::message::content::{Content, HEADER_LIMIT, INLINE_LIMIT};

/// A message on its way in.
pub struct Incoming {
    id: MessageId,
    directory: PathBuf,
    /// The beginning: all of a small message, the header of a large one.
    head: Vec<u8>,
    file: Option<(File, PathBuf)>,
    buffer: Vec<u8>,
    size: u64,
    hash: digest::Context,
    finished: bool,
}

/// Bytes are written to the file in pieces of this size.
const PIECE: usize = 256 * 1024;

impl Incoming {
    /// Begins a message that will have this id.
    pub(super) fn new(directory: PathBuf, id: MessageId) -> Self {
        Self {
            id,
            directory,
            head: Vec::new(),
            file: None,
            buffer: Vec::new(),
            size: 0,
            hash: digest::Context::new(&digest::SHA256),
            finished: false,
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
    pub fn push(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
        if self.file.is_none() {
            self.head.extend_from_slice(bytes);
            if self.head.len() > INLINE_LIMIT {
                let path = self.directory.join(self.id.as_str());
                let mut file = File::options()
                    .write(true)
                    .create_new(true)
                    .mode(0o600)
                    .open(&path)?;
                file.write_all(&self.head)?;
                self.file = Some((file, path));
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

    fn write_out(&mut self) -> std::io::Result<()> {
        if let Some((file, _)) = &mut self.file {
            file.write_all(&self.buffer)?;
        }
        self.buffer.clear();
        Ok(())
    }

    /// Whether finishing will touch the disk.
    pub fn is_file(&self) -> bool {
        self.file.is_some()
    }

    /// Ends it: a file is on stable storage, name and all, when this returns.
    pub(super) fn finish(mut self) -> std::io::Result<(Content, [u8; 32])> {
        self.write_out()?;
        let mut sha256 = [0; 32];
        sha256.copy_from_slice(self.hash.clone().finish().as_ref());
        let content = match &self.file {
            Some((file, path)) => {
                file.sync_all()?;
                File::open(&self.directory)?.sync_all()?;
                Content::File {
                    path: path.clone(),
                    size: self.size,
                }
            }
            None => Content::Memory(Bytes::from(std::mem::take(&mut self.head))),
        };
        self.finished = true;
        Ok((content, sha256))
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let (Some((_, path)), false) = (&self.file, self.finished) {
            let _ = std::fs::remove_file(path);
        }
    }
}

/// SHA-256 of bytes.
pub(super) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// Removes files that no message refers to: they were never answered with 250.
pub(super) fn sweep(
    directory: &Path,
    known: &std::collections::HashSet<String>,
) -> std::io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if MessageId::parse(&name).is_some() && !known.contains(&name) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}
