//! Tenants: whose a message is, who may send as what, which way it leaves. Pure: no I/O.

pub mod directory;
pub mod route;
pub mod sender;

use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;

use crate::explain::Language;
use crate::message::TenantId;
use crate::prepare::dkim::SigningKey;
use crate::smtp::address::Address;
use crate::transport::Upstream;
use crate::vault::SecretRef;

/// One tenant with everything that its file and the operator say of it.
#[derive(Debug)]
pub struct Tenant {
    /// Its id, the name of its file.
    pub id: TenantId,
    /// Its name, the default sender name.
    pub name: String,
    /// Default From, Reply-To and return path.
    pub email: Address,
    /// The language of what we tell it.
    pub language: Language,
    /// Unauthenticated clients from here are its.
    pub networks: Vec<IpNet>,
    /// Where its support mail goes.
    pub support_address: Option<Address>,
    /// Its own upstream, if configured.
    pub upstream: Option<Arc<Upstream>>,
    /// Its sender rules.
    pub sender: SenderRules,
    /// Its logins.
    pub users: Vec<Arc<User>>,
    /// Its signing keys.
    pub dkim: Vec<SigningKey>,
    /// Who hears of trouble.
    pub notices: Vec<Address>,
    /// What the operator allows it.
    pub policy: Policy,
}

/// What the operator allows a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Policy {
    /// It may use its own upstream.
    pub own_upstream: bool,
    /// When the system relay may be used.
    pub system_relay: SystemRelay,
    /// How long the own upstream must have failed before `on-failure` applies.
    pub fallback_after: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            own_upstream: true,
            system_relay: SystemRelay::Never,
            fallback_after: Duration::from_secs(600),
        }
    }
}

/// When the system relay may carry a tenant's mail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemRelay {
    /// Never.
    Never,
    /// If the tenant has no upstream of its own.
    WhenUnconfigured,
    /// That, and when the own upstream has failed for `fallback_after`.
    OnFailure,
}

/// Whose From the system relay sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SystemSender {
    /// The system's address; the tenant goes to Reply-To.
    System,
    /// The tenant's From stays.
    Tenant,
}

/// The system relay.
#[derive(Debug)]
pub struct System {
    /// Its own address: From (with [`SystemSender::System`]) and return path.
    pub email: Address,
    /// Its sender name.
    pub name: String,
    /// Whose From is sent.
    pub sender: SystemSender,
    /// Without a working system relay nobody may send.
    pub required: bool,
    /// Its server; `None`: there is no system relay.
    pub upstream: Option<Arc<Upstream>>,
    /// Its signing keys.
    pub dkim: Vec<SigningKey>,
}

/// What becomes of the From that an application wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplicationFrom {
    /// Always replaced.
    Replace,
    /// Kept where its user may use it, else replaced.
    KeepAuthorized,
    /// Kept where its user may use it, else refused.
    RejectUnauthorized,
}

/// Where answers go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplyTo {
    /// The application's Reply-To, else the tenant's email.
    Application,
    /// The application's From.
    OriginalFrom,
    /// Always this.
    Fixed(Address),
}

/// `[sender]`.
#[derive(Debug, Clone)]
pub struct SenderRules {
    /// From address.
    pub address: Address,
    /// Sender name.
    pub name: String,
    /// Reply-To.
    pub reply_to: ReplyTo,
    /// MAIL FROM, if it is not the From address.
    pub return_path: Option<Address>,
    /// What becomes of the application's From.
    pub application_from: ApplicationFrom,
}

/// An SMTP login.
#[derive(Debug)]
pub struct User {
    /// The login.
    pub login: String,
    /// An Argon2 hash, or the password itself.
    pub password: Option<SecretRef>,
    /// The user's name.
    pub name: Option<String>,
    /// The user's own address.
    pub email: Option<Address>,
    /// Further senders: addresses or globs.
    pub senders: Vec<SenderPattern>,
}

/// An address, or a pattern such as `*@shop.acme.example` or `*@*.acme.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderPattern(pub String);
