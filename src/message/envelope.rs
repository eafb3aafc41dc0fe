//! The envelope: who gets a message and who hears of its failure, apart from any header.

use serde::{Deserialize, Serialize};

use crate::smtp::address::Address;
use crate::smtp::command::Notify;

/// The envelope as the application gave it; never changed after acceptance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope {
    /// MAIL FROM; `None` is the null return path.
    pub mail_from: Option<Address>,
    /// RCPT TO, in order, each mailbox once.
    pub recipients: Vec<Recipient>,
    /// The client declared SMTPUTF8.
    #[serde(default, skip_serializing_if = "is_false")]
    pub smtputf8: bool,
    /// RET of RFC 3461: full message (`true`) or header only in a bounce.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ret_full: Option<bool>,
    /// ENVID of RFC 3461, xtext.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub envid: Option<String>,
}

/// One recipient of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Where it goes.
    pub address: Address,
    /// NOTIFY of RFC 3461; `None` is the default (failure).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub notify: Option<Notify>,
    /// ORCPT of RFC 3461, `type;xtext`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub orcpt: Option<String>,
    /// Why it is a recipient.
    #[serde(default, skip_serializing_if = "Role::is_named")]
    pub role: Role,
}

/// Why somebody is a recipient.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// The application has named it.
    #[default]
    Named,
    /// A copy that the tenant's file asks for: in the envelope only, and no bounce if it fails.
    Copy,
    /// The case worker: a visible Cc.
    CaseWorker,
    /// The application has named the support alias.
    Support,
}

impl Role {
    #[expect(
        clippy::trivially_copy_pass_by_ref,
        reason = "the signature that serde asks for"
    )]
    fn is_named(&self) -> bool {
        *self == Self::Named
    }
}

impl Recipient {
    /// A recipient without DSN wishes.
    pub fn new(address: Address) -> Self {
        Self::with_role(address, Role::Named)
    }

    /// The same that the application has not named so.
    pub fn with_role(address: Address, role: Role) -> Self {
        // Nobody has asked for a copy's bounce.
        let never = (role == Role::Copy).then(Notify::default);
        Self {
            address,
            notify: never,
            orcpt: None,
            role,
        }
    }

    /// Whether it is only a copy, whose fate changes nothing for the message.
    pub fn is_copy(&self) -> bool {
        self.role == Role::Copy
    }

    /// Whether a failure is to be reported (RFC 3461 section 4.1: the default is yes).
    pub fn wants_failure(&self) -> bool {
        !self.is_copy() && self.notify.is_none_or(|n| n.failure)
    }

    /// Whether a delay is to be reported.
    pub fn wants_delay(&self) -> bool {
        !self.is_copy() && self.notify.is_none_or(|n| n.delay)
    }
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the signature that serde asks for"
)]
fn is_false(value: &bool) -> bool {
    !*value
}
