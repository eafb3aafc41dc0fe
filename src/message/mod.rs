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
