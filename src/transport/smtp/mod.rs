//! The SMTP client (RFC 5321, RFC 2920, RFC 3207, RFC 4954). It knows at every moment in which
//! phase it is: a failure before the final dot is a failure, one behind it is uncertain.

mod auth;
mod connection;
mod send;

pub use connection::Connection;
pub use send::DotHook;

pub use crate::net::tls::CertificatePolicy;

use std::path::PathBuf;
use std::sync::OnceLock;

use crate::prepare::Utf8Headers as Utf8;
use crate::vault::SecretRef;

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
    /// A token instead.
    pub oauth: Option<std::sync::Arc<crate::oauth::Settings>>,
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

impl Settings {
    /// Whether the server is this very machine.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost")
            || self
                .host
                .parse::<std::net::IpAddr>()
                .is_ok_and(|ip| ip.is_loopback())
    }
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
    /// XOAUTH2, as Microsoft and Google have it.
    Xoauth2,
    /// OAUTHBEARER (RFC 7628).
    Oauthbearer,
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
