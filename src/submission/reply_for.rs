//! The one table from what happened to what an application is told.

use crate::message::TenantId;
use crate::smtp::address::Address;
use crate::smtp::command::CommandError;
use crate::smtp::reply::Reply;
use crate::spool::{Spooled, StoreError, Verdict};
use crate::tenant::sender::MissingGrant;

/// Why something is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// The client's network is not allowed here.
    NotAllowed,
    /// The listener is full.
    TooManyConnections,
    /// We are going down.
    ShuttingDown,
    /// Nothing came for too long.
    Idle,
    /// The storage has failed.
    StorageFailed,
    /// Log in first.
    AuthRequired,
    /// Nobody knows whose mail this would be, and a login cannot help.
    UnknownClient,
    /// Wrong user name or password.
    AuthFailed,
    /// Too often wrong.
    TooManyAuthFailures,
    /// Too many checks at once, or too many failures lately.
    AuthBusy,
    /// Too many errors.
    TooManyErrors,
    /// The master switch is off.
    SendingOff,
    /// No route for this tenant.
    NoRoute(String),
    /// A sender that this user may not use.
    Sender {
        /// `envelope` or `header`.
        place: &'static str,
        /// The sender as given.
        address: String,
        /// Who wanted to.
        user: String,
    },
    /// A document type whose sender this user may not use.
    Document(MissingGrant),
    /// Larger than allowed.
    TooBig(u64),
    /// The header section is larger than allowed.
    HeaderTooBig,
    /// More recipients than allowed.
    TooManyRecipients(usize),
    /// No room in the spool.
    SpoolFull,
    /// A loop.
    TooManyHops,
    /// The header cannot be used.
    Header(String),
    /// An empty message.
    Empty,
    /// A NUL in the message.
    Nul {
        /// It stood beside a lone dot.
        closes: bool,
    },
    /// A bare newline where that is refused.
    BareNewline,
    /// A lone dot in the wrong place.
    Smuggling,
    /// Something came behind what was refused, without waiting for our reply.
    Unsynchronized {
        /// It may come again.
        later: bool,
    },
}

impl Refusal {
    /// What the client is told.
    pub fn reply(&self) -> Reply {
        match self {
            Refusal::NotAllowed => Reply::new(
                554,
                (5, 7, 1),
                "Connections from your address are not allowed here",
            ),
            Refusal::TooManyConnections => {
                Reply::new(421, (4, 3, 2), "Too many connections, try again later")
            }
            Refusal::ShuttingDown => {
                Reply::new(421, (4, 3, 2), "Service is shutting down, try again later")
            }
            Refusal::Idle => Reply::new(421, (4, 4, 2), "Timeout, closing connection"),
            Refusal::StorageFailed => {
                Reply::new(421, (4, 3, 0), "Storage failure, try again later")
            }
            Refusal::AuthRequired => Reply::new(530, (5, 7, 0), "Authentication required"),
            Refusal::UnknownClient => {
                Reply::new(550, (5, 7, 1), "This client belongs to no tenant")
            }
            Refusal::AuthFailed => Reply::new(
                535,
                (5, 7, 8),
                "Authentication failed: user name or password is wrong",
            ),
            Refusal::TooManyAuthFailures => {
                Reply::new(421, (4, 7, 0), "Too many authentication failures")
            }
            Refusal::AuthBusy => Reply::new(
                454,
                (4, 7, 0),
                "Temporary authentication failure, try again later",
            ),
            Refusal::TooManyErrors => Reply::new(421, (4, 7, 0), "Too many errors"),
            Refusal::SendingOff => {
                Reply::new(550, (5, 3, 2), "Sending is switched off on this system")
            }
            Refusal::NoRoute(reason) => Reply::new(
                550,
                (5, 7, 1),
                format!("{}{}", reason[..1].to_uppercase(), &reason[1..]),
            ),
            Refusal::Sender {
                place,
                address,
                user,
            } => Reply::new(
                550,
                (5, 7, 1),
                format!("Sender not allowed: {user} may not use {address} ({place})"),
            ),
            Refusal::Document(missing) => {
                Reply::new(550, (5, 7, 1), format!("Sender not allowed: {missing}"))
            }
            Refusal::TooBig(limit) => Reply::new(
                552,
                (5, 3, 4),
                format!("Message too big, at most {limit} octets"),
            ),
            Refusal::HeaderTooBig => Reply::new(552, (5, 3, 4), "Header too big"),
            Refusal::TooManyRecipients(limit) => Reply::new(
                452,
                (4, 5, 3),
                format!("Too many recipients, at most {limit}"),
            ),
            Refusal::SpoolFull => Reply::new(452, (4, 3, 1), "Spool is full, try again later"),
            Refusal::TooManyHops => Reply::new(554, (5, 4, 6), "Too many hops, possible mail loop"),
            Refusal::Header(reason) => {
                Reply::new(554, (5, 6, 0), format!("Message header unusable: {reason}"))
            }
            Refusal::Empty => Reply::new(554, (5, 6, 0), "Empty message"),
            Refusal::Nul { .. } => Reply::new(554, (5, 6, 0), "Message contains a NUL character"),
            Refusal::BareNewline => Reply::new(550, (5, 5, 2), "Bare newline in the message"),
            Refusal::Smuggling => {
                Reply::new(550, (5, 5, 2), "Lone dot between bare newlines refused")
            }
            Refusal::Unsynchronized { later: true } => Reply::new(
                421,
                (4, 5, 0),
                "Protocol synchronization: nothing may follow before this reply",
            ),
            Refusal::Unsynchronized { later: false } => Reply::new(
                554,
                (5, 5, 0),
                "Protocol synchronization: nothing may follow before this reply",
            ),
        }
    }

    /// Whether the connection ends with it.
    pub fn closes(&self) -> bool {
        matches!(
            self,
            Refusal::NotAllowed
                | Refusal::TooManyConnections
                | Refusal::ShuttingDown
                | Refusal::Idle
                | Refusal::StorageFailed
                | Refusal::TooManyAuthFailures
                | Refusal::TooManyErrors
                | Refusal::BareNewline
                | Refusal::Smuggling
                | Refusal::Unsynchronized { .. }
                | Refusal::Nul { closes: true }
        )
    }
}

/// The 250 after data. A duplicate's names the first id.
pub fn accepted(spooled: &Spooled, verdict: Option<&Verdict>) -> Reply {
    match verdict {
        Some(Verdict::Refused(words)) => refused_upstream(words),
        Some(Verdict::Relayed) => Reply::new(
            250,
            (2, 0, 0),
            format!("OK, relayed, queued as {}", spooled.id()),
        ),
        Some(Verdict::Deferred) | None => {
            Reply::new(250, (2, 0, 0), format!("OK: queued as {}", spooled.id()))
        }
    }
}

/// An upstream's refusal passed on: its code where it is one, else 554.
fn refused_upstream(words: &str) -> Reply {
    let code = words
        .get(..3)
        .and_then(|c| c.parse::<u16>().ok())
        .filter(|c| (500..600).contains(c));
    let rest = code.map_or(words, |_| words[3..].trim_start());
    let (enhanced, text) = match rest
        .split_once(' ')
        .and_then(|(word, tail)| crate::smtp::reply::Enhanced::parse(word).map(|e| (e, tail)))
    {
        Some((enhanced, tail)) if enhanced.0 == 5 => (enhanced, tail),
        _ => (crate::smtp::reply::Enhanced(5, 0, 0), rest),
    };
    let text: String = text.chars().take(400).collect();
    Reply {
        code: code.unwrap_or(554),
        enhanced: Some(enhanced),
        lines: vec![format!("Upstream said: {text}")],
    }
}

/// What a storage failure is answered with.
pub fn store_error(error: &StoreError) -> Reply {
    match error {
        StoreError::Full => Refusal::SpoolFull.reply(),
        StoreError::Failed(_)
        | StoreError::Locked(..)
        | StoreError::Newer(_)
        | StoreError::Directory(..) => Reply::new(
            451,
            (4, 3, 0),
            "Message could not be stored, try again later",
        ),
    }
}

/// What a command that cannot be understood is answered with; `recipient`: it was RCPT.
pub fn command_error(error: &CommandError, recipient: bool) -> Reply {
    match error {
        CommandError::Unknown => Reply::new(500, (5, 5, 2), "Command not recognized"),
        CommandError::Characters => Reply::new(
            500,
            (5, 5, 2),
            "Command contains characters that are not allowed",
        ),
        CommandError::Encoding => Reply::new(501, (5, 5, 2), "Address is not valid UTF-8"),
        CommandError::BareCr => Reply::new(500, (5, 5, 2), "Bare carriage return in a command"),
        CommandError::Argument(text) => Reply::new(501, (5, 5, 4), *text),
        CommandError::Address(error) if recipient => {
            Reply::new(501, (5, 1, 3), format!("Bad recipient address: {error}"))
        }
        CommandError::Address(error) => {
            Reply::new(501, (5, 1, 7), format!("Bad sender address: {error}"))
        }
        CommandError::NeedsUtf8 => {
            Reply::new(553, (5, 6, 7), "Address beyond ASCII needs SMTPUTF8")
        }
        CommandError::Parameter(name) => {
            let name: String = name
                .chars()
                .filter(char::is_ascii_graphic)
                .take(40)
                .collect();
            Reply::new(555, (5, 5, 4), format!("Parameter {name} not recognized"))
        }
    }
}

/// Who is meant in refusals: a login, or the tenant of a client without one.
pub fn who(login: Option<&str>, tenant: &TenantId) -> String {
    match login {
        Some(login) => format!("user {login}"),
        None => format!("tenant {tenant}"),
    }
}

/// A sender refusal of the envelope.
pub fn envelope_sender(address: &Address, user: String) -> Refusal {
    Refusal::Sender {
        place: "envelope",
        address: address.to_string(),
        user,
    }
}
