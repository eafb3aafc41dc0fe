//! A message as every stage sees it: its id, envelope, header fields and content.

pub mod content;
pub mod date;
pub mod envelope;
pub mod header;
pub mod id;
pub mod mailbox;
pub mod rfc2047;

pub use content::Content;
pub use envelope::{Envelope, Recipient, Role};
pub use id::{MessageId, TenantId};

/// Characters that show a text in another order than it has, or not at all.
pub fn changes_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}
