//! Towards applications: listeners, connections, the SMTP session. Speaks SMTP; what a tenant may
//! do is decided in `admit`.

pub mod admit;
pub mod auth;
pub mod connection;
pub mod listener;
pub mod local;
pub mod reply_for;
pub mod runs;
pub mod session;
pub mod tls;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use crate::message::TenantId;
use crate::smtp::data::BareNewline;

/// One `[[listener]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its name in logs.
    pub name: String,
    /// Where it listens.
    pub address: ListenAddress,
    /// Encryption.
    pub tls: TlsMode,
    /// Certificate chain and key; `None`: self-signed, made at first start.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Whether applications log in.
    pub auth: AuthMode,
    /// Where a login may go unencrypted.
    pub plaintext_auth: PlaintextAuth,
    /// Unauthenticated mail here belongs to this tenant.
    pub tenant: Option<TenantId>,
    /// Who may connect.
    pub networks: Vec<IpNet>,
    /// What becomes of bare line ends.
    pub bare_newline: BareNewline,
    /// When 250 is said.
    pub answer: Answer,
    /// How long `relayed` waits.
    pub answer_within: Duration,
    /// `AUTH=LOGIN PLAIN` in EHLO.
    pub legacy_auth_line: bool,
    /// Most connections at once.
    pub max_connections: usize,
}

/// Where a listener listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    /// TCP.
    Tcp(SocketAddr),
    /// A UNIX socket.
    Unix(PathBuf),
    /// A socket passed by systemd, by its name.
    Systemd(String),
}

impl ListenAddress {
    /// Reads `127.0.0.1:2525`, `unix:/path` (relative ones from `base`), `systemd:NAME`.
    pub fn parse(text: &str, base: &std::path::Path) -> Option<Self> {
        if let Some(path) = text.strip_prefix("unix:") {
            return (!path.is_empty()).then(|| Self::Unix(base.join(path)));
        }
        if let Some(name) = text.strip_prefix("systemd:") {
            return (!name.is_empty()).then(|| Self::Systemd(name.to_owned()));
        }
        let text = text
            .strip_prefix("localhost:")
            .map_or_else(|| text.to_owned(), |port| format!("127.0.0.1:{port}"));
        text.parse().ok().map(Self::Tcp)
    }
}

/// Encryption of a listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TlsMode {
    /// None.
    None,
    /// STARTTLS is offered.
    Starttls,
    /// TLS from the first byte.
    Implicit,
}

/// Whether applications log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthMode {
    /// AUTH is not offered.
    None,
    /// AUTH is offered.
    Optional,
    /// No mail without AUTH.
    Required,
}

/// Where a login may go unencrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaintextAuth {
    /// Nowhere.
    Never,
    /// From loopback and UNIX sockets.
    Loopback,
    /// From everywhere.
    Always,
}

/// When 250 is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Once the message is durable.
    Queued,
    /// After the upstream's verdict, if it comes in time.
    Relayed,
}
