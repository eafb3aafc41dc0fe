//! Tenants: whose a message is, who may send as what, which way it leaves. Pure: no I/O.

pub mod directory;
pub mod document;
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
    /// Senders that its users share.
    pub groups: Vec<Arc<Group>>,
    /// Its document types, in the order of the file.
    pub documents: Vec<document::DocumentType>,
    /// Who gets copies.
    pub copies: Copies,
    /// Its serial mail in portions.
    pub series: Option<Series>,
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

/// `[copies]`: who gets a copy of a tenant's mail.
#[derive(Debug, Clone, Default)]
pub struct Copies {
    /// Of every message, in the envelope only.
    pub bcc: Vec<Address>,
    /// The header field that names the case worker, who becomes a visible Cc.
    pub case_worker_header: Option<String>,
}

impl Copies {
    /// Whether nobody gets any.
    pub fn is_empty(&self) -> bool {
        self.bcc.is_empty() && self.case_worker_header.is_none()
    }
}

/// `[series]`: so many messages in a row, then a pause.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Series {
    /// Messages of a series.
    pub messages: u32,
    /// The pause between two.
    pub pause: Duration,
}

/// `[support]`: where mail to the support alias goes.
#[derive(Debug, Clone)]
pub struct Support {
    /// A recipient that every tenant may use.
    pub alias: Address,
    /// The operator's support.
    pub address: Address,
    /// A tenant may name its own.
    pub tenant_address: bool,
    /// What we know of the tenant's route goes along.
    pub attaches_information: bool,
}

impl Support {
    /// Where a tenant's support mail goes.
    pub fn address_for<'a>(&'a self, tenant: &'a Tenant) -> &'a Address {
        tenant
            .support_address
            .as_ref()
            .filter(|_| self.tenant_address)
            .unwrap_or(&self.address)
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
    /// Its groups, whose senders it may use as well.
    pub groups: Vec<Arc<Group>>,
    /// Where no document type sets a sender, it is the user.
    pub use_own_sender: bool,
    /// Added to its mail when `use_own_sender` applies; lines end in `\n`.
    pub signature: Option<String>,
}

/// `[[group]]`: senders that several users share.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// What its users may send as.
    pub senders: Vec<SenderPattern>,
}

/// An address, or a pattern such as `*@shop.acme.example` or `*@*.acme.example`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderPattern(pub String);
