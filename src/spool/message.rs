//! What the spool keeps of a message besides its bytes.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::message::{Content, Envelope, MessageId, TenantId};
use crate::prepare::Origin;

/// What kind of message it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Handed in by an application.
    Submission,
    /// A bounce or delay notice of our own: never bounced itself.
    Bounce,
    /// Another message of our own (test mail).
    Notice,
}

impl Kind {
    pub(super) fn code(self) -> i64 {
        match self {
            Kind::Submission => 0,
            Kind::Bounce => 1,
            Kind::Notice => 2,
        }
    }

    pub(super) fn from_code(code: i64) -> Self {
        match code {
            1 => Kind::Bounce,
            2 => Kind::Notice,
            _ => Kind::Submission,
        }
    }

    /// Whether we wrote it ourselves.
    pub fn is_ours(self) -> bool {
        match self {
            Kind::Submission => false,
            Kind::Bounce | Kind::Notice => true,
        }
    }
}

/// The state of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Due, or waiting its turn.
    Queued,
    /// A later time is set.
    Deferred,
    /// Its route's login, authorisation or certificate is refused.
    Suspended,
    /// The upstream may have taken it.
    Uncertain,
    /// Held by a person or by `sending = "hold"`.
    Held,
    /// Given up or permanently refused.
    Failed,
    /// All recipients are settled; only in the history.
    Done,
}

/// All states with their names, as they are stored and shown.
pub const STATES: [(State, &str); 7] = [
    (State::Queued, "queued"),
    (State::Deferred, "deferred"),
    (State::Suspended, "suspended"),
    (State::Uncertain, "uncertain"),
    (State::Held, "held"),
    (State::Failed, "failed"),
    (State::Done, "done"),
];

impl State {
    /// Its name.
    pub fn word(self) -> &'static str {
        STATES
            .iter()
            .find(|(state, _)| *state == self)
            .map_or("", |(_, word)| word)
    }

    /// Whether it may still be sent.
    pub fn is_open(self) -> bool {
        match self {
            State::Queued | State::Deferred | State::Suspended | State::Uncertain | State::Held => {
                true
            }
            State::Failed | State::Done => false,
        }
    }

    /// From its name.
    pub fn from_word(word: &str) -> Option<Self> {
        STATES
            .iter()
            .find(|(_, known)| *known == word)
            .map(|(state, _)| *state)
    }
}

/// The state of one recipient inside a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RecipientStatus {
    /// Not tried yet.
    Pending,
    /// Tried, to be tried again.
    Deferred,
    /// Taken by the upstream.
    Sent,
    /// Permanently refused, or given up.
    Bounced,
}

/// One recipient's state with the words that led to it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientState {
    /// Where it stands.
    pub status: RecipientStatus,
    /// The upstream's words.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reply: String,
}

impl RecipientState {
    /// The state of a fresh recipient.
    pub fn pending() -> Self {
        Self {
            status: RecipientStatus::Pending,
            reply: String::new(),
        }
    }

    /// Whether nothing more is to be done.
    pub fn is_settled(&self) -> bool {
        match self.status {
            RecipientStatus::Sent | RecipientStatus::Bounced => true,
            RecipientStatus::Pending | RecipientStatus::Deferred => false,
        }
    }
}

/// A message in the spool.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place in the order of acceptance.
    pub seq: i64,
    /// Its id.
    pub id: MessageId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What it is.
    pub kind: Kind,
    /// Its envelope as given.
    pub envelope: Envelope,
    /// How it came.
    pub origin: Origin,
    /// Its bytes as given.
    pub content: Content,
    /// Octets of the content, also where the content itself was not loaded.
    pub size: u64,
    /// SHA-256 of these bytes.
    pub sha256: [u8; 32],
    /// When it was accepted.
    pub accepted: Timestamp,
    /// Its state.
    pub state: State,
    /// One a recipient of the envelope.
    pub recipients: Vec<RecipientState>,
    /// Failed tries so far.
    pub attempts: u32,
    /// When it is due, for [`State::Deferred`].
    pub next: Option<Timestamp>,
    /// Why it is where it is.
    pub reason: String,
    /// The route that may have taken it: no other may be used any more.
    pub uncertain: Option<String>,
    /// Milliseconds that do not count towards giving up (held, suspended).
    pub excluded_ms: i64,
    /// A delay notice was sent.
    pub warned: bool,
    /// Envelope and owner are those that were accepted, as far as a checksum tells.
    pub is_sealed: bool,
}

impl Stored {
    /// A message that stands in no spool: what `test` and `preview` prepare as delivery would.
    pub fn draft(
        tenant: TenantId,
        envelope: Envelope,
        origin: Origin,
        content: bytes::Bytes,
    ) -> Self {
        Self {
            seq: 0,
            id: MessageId::fresh(),
            tenant,
            kind: Kind::Submission,
            recipients: vec![RecipientState::pending(); envelope.recipients.len()],
            envelope,
            origin,
            size: content.len() as u64,
            content: Content::Memory(content),
            sha256: [0; 32],
            accepted: Timestamp::now(),
            state: State::Queued,
            attempts: 0,
            next: None,
            reason: String::new(),
            uncertain: None,
            excluded_ms: 0,
            warned: false,
            is_sealed: true,
        }
    }

    /// The route that may have taken it, and whether a person has decided to try again.
    pub fn uncertain_route(&self) -> Option<(&str, bool)> {
        let text = self.uncertain.as_deref()?;
        Some(
            text.strip_prefix(DECIDED)
                .map_or((text, false), |route| (route, true)),
        )
    }

    /// Indexes of recipients that are not settled.
    pub fn open_recipients(&self) -> Vec<usize> {
        self.recipients
            .iter()
            .enumerate()
            .filter(|(_, r)| !r.is_settled())
            .map(|(i, _)| i)
            .collect()
    }

    /// The bytes, if they are stored with it and not in a file.
    pub fn inline(&self) -> Option<&bytes::Bytes> {
        match &self.content {
            Content::Memory(bytes) => Some(bytes),
            Content::File { .. } => None,
        }
    }
}

/// Marks, in the column `uncertain`, that a person has decided to try again.
pub const DECIDED: &str = "decided ";

/// The short form that the scheduler keeps of a waiting message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its place in the order of acceptance.
    pub seq: i64,
    /// Whose it is.
    pub tenant: TenantId,
    /// When it was accepted.
    pub accepted: Timestamp,
    /// When it is due; `None`: now.
    pub next: Option<Timestamp>,
    /// It is no part of a run of serial mail.
    pub single: bool,
    /// How many recipients it has.
    pub recipients: u32,
    /// It goes to support, and to nobody else.
    pub to_support: bool,
}

/// A notice that is owed to a return path: durable from the moment its cause is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// The message that failed or is late.
    pub id: String,
    /// Whose it was.
    pub tenant: String,
    /// Who is to be told.
    pub return_path: String,
    /// The failed recipients.
    pub recipients: Vec<OwedRecipient>,
    /// The header section of the original.
    pub header: String,
    /// When it was accepted, milliseconds since 1970.
    pub accepted: i64,
    /// ENVID of RFC 3461.
    #[serde(default)]
    pub envid: Option<String>,
    /// What is told.
    #[serde(default)]
    pub notice: Notice,
    /// Until when it is tried, for a delay notice, milliseconds since 1970.
    #[serde(default)]
    pub until: Option<i64>,
}

/// What a notice tells (the actions of RFC 3464).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notice {
    /// It could not be delivered.
    #[default]
    Failed,
    /// It is late, and still being tried.
    Delayed,
    /// It was handed to a server that tells no more.
    Relayed,
}

/// One recipient of an owed notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwedRecipient {
    /// The address.
    pub address: String,
    /// ORCPT of RFC 3461.
    #[serde(default)]
    pub orcpt: Option<String>,
    /// The enhanced status.
    pub status: String,
    /// The words of the upstream.
    pub reply: String,
    /// The server that said so; empty: none did.
    #[serde(default)]
    pub relay: String,
    /// Cause in plain words.
    #[serde(default)]
    pub cause: String,
    /// Remedy in plain words.
    #[serde(default)]
    pub remedy: String,
}
