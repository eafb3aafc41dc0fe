//! The bytes of a message: small ones in memory, large ones in a file of the spool.

use std::path::PathBuf;

use bytes::Bytes;

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
    },
}

impl Content {
    /// Octets of the whole message.
    pub fn size(&self) -> u64 {
        match self {
            Content::Memory(bytes) => bytes.len() as u64,
            Content::File { size, .. } => *size,
        }
    }
}
