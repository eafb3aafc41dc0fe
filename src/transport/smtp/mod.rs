//! The SMTP client (RFC 5321, RFC 2920, RFC 3207, RFC 4954). It knows at every moment in which
//! phase it is: a failure before the final dot is a failure, one behind it is uncertain.

mod auth;
mod connection;
mod send;
mod stream;
pub mod tls;

pub use connection::{Connection, Context};
pub use send::DotHook;

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use crate::prepare::Utf8Headers as Utf8;
use crate::vault::SecretRef;

/// Time-outs of one conversation, each named (RFC 5321 section 4.5.3.2).
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Name look-up.
    pub resolve: Duration,
    /// TCP connection, each address.
    pub connect: Duration,
    /// TLS handshake.
    pub handshake: Duration,
    /// Greeting.
    pub greeting: Duration,
    /// Any command's whole reply.
    pub command: Duration,
    /// The reply to DATA.
    pub data: Duration,
    /// Progress while sending content.
    pub transfer: Duration,
    /// The reply to the final dot.
    pub final_dot: Duration,
}

impl Timeouts {
    /// For delivery: patient, as the standard asks.
    pub const DELIVERY: Self = Self {
        resolve: Duration::from_secs(30),
        connect: Duration::from_secs(30),
        handshake: Duration::from_secs(30),
        greeting: Duration::from_secs(300),
        command: Duration::from_secs(300),
        data: Duration::from_secs(120),
        transfer: Duration::from_secs(180),
        final_dot: Duration::from_secs(600),
    };
    /// For `test`, where somebody is waiting.
    pub const TEST: Self = Self {
        resolve: Duration::from_secs(10),
        connect: Duration::from_secs(10),
        handshake: Duration::from_secs(15),
        greeting: Duration::from_secs(30),
        command: Duration::from_secs(60),
        data: Duration::from_secs(60),
        transfer: Duration::from_secs(60),
        final_dot: Duration::from_secs(120),
    };
}

/// `[upstream]` with `kind = "smtp"`.
#[derive(Debug)]
pub struct Settings {
    /// The server's name.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Encryption; never weaker than said.
    pub encryption: Encryption,
    /// How to log in.
    pub authentication: Authentication,
    /// The login.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<SecretRef>,
    /// How the certificate is checked.
    pub certificate: CertificatePolicy,
    /// Our certificate for mutual TLS, with its key.
    pub client_certificate: Option<(PathBuf, SecretRef)>,
    /// A password may go unencrypted to a host that is not loopback.
    pub insecure_password: bool,
    /// Our name in EHLO; `None`: the server's hostname.
    pub helo: Option<String>,
    /// Raw UTF-8 in headers.
    pub utf8_headers: Utf8Headers,
    /// Connections at once.
    pub connections: usize,
    /// Then a new connection.
    pub messages_per_connection: usize,
    /// The TLS settings made of all that, once.
    pub tls_cache: OnceLock<std::sync::Arc<rustls::ClientConfig>>,
}

/// Encryption towards an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encryption {
    /// None.
    None,
    /// STARTTLS, required.
    Starttls,
    /// TLS from the first byte.
    Tls,
}

impl Encryption {
    /// The usual port.
    pub fn default_port(self) -> u16 {
        match self {
            Encryption::None => 25,
            Encryption::Starttls => 587,
            Encryption::Tls => 465,
        }
    }
}

/// How to log in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Authentication {
    /// Not at all.
    None,
    /// The best that the server offers.
    Auto,
    /// PLAIN.
    Plain,
    /// LOGIN.
    Login,
    /// CRAM-MD5.
    CramMd5,
    /// SCRAM-SHA-256.
    ScramSha256,
}

/// How a server's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CertificatePolicy {
    /// By the machine's authorities and, if given, those in a file.
    Verify {
        /// Further authorities, PEM.
        ca_file: Option<PathBuf>,
    },
    /// Not at all; the key seen first is remembered.
    TrustAlways,
    /// By the SHA-256 of its key.
    Pinned(Vec<[u8; 32]>),
}

/// `certificate` as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CertificateName {
    /// verify
    Verify,
    /// trust-always
    TrustAlways,
    /// pinned
    Pinned,
}

/// `utf8_headers` as written.
pub type Utf8Headers = Utf8;
