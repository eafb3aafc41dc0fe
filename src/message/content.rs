//! The bytes of a message: small ones in memory, large ones in a file of the spool.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;

/// Bodies up to this many octets live in memory and in the store's database, larger ones in a
/// file beside it.
pub const INLINE_LIMIT: usize = 64 * 1024;
/// Longest header section in octets.
pub const HEADER_LIMIT: usize = 256 * 1024;
/// Most header fields.
pub const FIELDS_LIMIT: usize = 1000;
/// Longest single header field in octets.
pub const FIELD_LIMIT: usize = 64 * 1024;

/// A complete message as it was accepted: every line ended by CRLF, dots unstuffed.
#[derive(Debug, Clone)]
pub enum Content {
    /// In memory.
    Memory(Bytes),
    /// In a file of the spool, on stable storage.
    File {
        /// Where.
        path: PathBuf,
        /// Octets.
        size: u64,
        /// The same in memory, of one that has just come in.
        kept: Option<Arc<Kept>>,
    },
}

/// The octets of a message that has just come in, as long as there is room to keep them.
#[derive(Debug)]
pub struct Kept {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Kept {
    /// Octets that were accepted and hashed, and the room that they take.
    pub fn new(bytes: Bytes, room: OwnedSemaphorePermit) -> Self {
        Self { bytes, _room: room }
    }

    /// The octets.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Content {
    /// The name of its file in the spool, if it is one.
    pub fn file_name(&self) -> Option<&str> {
        match self {
            Content::Memory(_) => None,
            Content::File { path, .. } => path.file_name()?.to_str(),
        }
    }

    /// All its bytes. A file may hold more behind them: it was used before.
    pub fn read(&self) -> std::io::Result<Bytes> {
        use std::io::Read as _;
        match self {
            Content::Memory(bytes) => Ok(bytes.clone()),
            Content::File { path, size, .. } => {
                let mut file = std::fs::File::open(path)?;
                let mut bytes = vec![0; usize::try_from(*size).unwrap_or(0)];
                let mut filled = 0;
                while filled < bytes.len() {
                    match file.read(&mut bytes[filled..]) {
                        Ok(0) => bytes.truncate(filled),
                        Ok(n) => filled += n,
                        Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(bytes.into())
            }
        }
    }

    /// Its bytes, if they need not be read.
    pub fn in_memory(&self) -> Option<&Bytes> {
        match self {
            Content::Memory(bytes) => Some(bytes),
            Content::File { kept, .. } => kept.as_ref().map(|kept| &kept.bytes),
        }
    }

    /// Octets of the whole message.
    pub fn size(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File { size, .. } => *size,
        }
    }
}
