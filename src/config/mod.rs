//! Configuration: two kinds of files (the operator's, one a tenant), read to the end before
//! complaining, turned whole into the settings that each stage owns.

pub mod document;
mod oauth;
pub mod problem;
mod resolve;
pub mod schema;
mod senders;
mod upstream;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use problem::{Problem, Severity};

use crate::explain;
use crate::message::TenantId;
use crate::tenant::directory::Directory;
use crate::vault::{KeySource, SecretRef};
use crate::{delivery, submission};

/// The language choice of the files.
pub type Language = explain::Language;

/// The master switch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sending {
    /// Mail is accepted and sent.
    On,
    /// Accepted and kept.
    Hold,
    /// Refused.
    Off,
}

/// Where mail waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Store {
    /// SQLite in the data directory.
    Embedded,
}

/// The whole configuration, valid.
#[derive(Debug)]
pub struct Config {
    /// The operator's file.
    pub path: PathBuf,
    /// Which files it was read from, in which state: see [`stamp`].
    pub stamp: u64,
    /// `[server]`.
    pub server: Server,
    /// `[[listener]]`.
    pub listeners: Vec<submission::Settings>,
    /// `[admin]`.
    pub admin: Admin,
    /// Tenants and the system relay.
    pub directory: Arc<Directory>,
    /// The text of each tenant's file, hashed: which of them a reload concerns.
    pub fingerprints: BTreeMap<TenantId, u64>,
    /// The same for all that concerns every tenant.
    pub common_fingerprint: u64,
    /// `[retry]`.
    pub retry: delivery::Settings,
    /// `[duplicates] window`.
    pub duplicates: Duration,
    /// `[history] keep`.
    pub history: Duration,
    /// `[vault] key`.
    pub vault_key: KeySource,
    /// Names of the vault's secrets that are used, with who uses them.
    pub secrets: Vec<(String, SecretRef)>,
}

/// `[server]`.
#[derive(Debug, Clone)]
pub struct Server {
    /// Our name.
    pub hostname: String,
    /// Where everything is kept.
    pub data_dir: PathBuf,
    /// Where the tenants' files are.
    pub tenants_dir: PathBuf,
    /// The language of what we say.
    pub language: Language,
    /// The master switch.
    pub sending: Sending,
    /// Octets.
    pub max_message_size: u64,
    /// A message.
    pub max_recipients: usize,
    /// Octets of waiting mail.
    pub spool_limit: u64,
    /// How long a shutdown waits.
    pub drain: Duration,
}

/// What `tenant add` writes where a person has to write something.
pub const FILL_IN: &str = "fill-in";

/// `[admin]`.
#[derive(Debug, Clone)]
pub struct Admin {
    /// Where.
    pub address: SocketAddr,
    /// Bearer token.
    pub token: Option<SecretRef>,
    /// `[admin]` stands in the file; else the default address is only tried.
    pub wanted: bool,
}

/// What reading gave.
#[derive(Debug)]
pub struct Outcome {
    /// What could be read in spite of errors: enough to mend a secret, never to serve by.
    pub partial: Option<Config>,
    /// The configuration, if there was no error.
    pub config: Option<Config>,
    /// Errors first, then warnings, each by file and line.
    pub problems: Vec<Problem>,
}

impl Outcome {
    /// Whether the operator's file itself has errors.
    pub fn operator_has_errors(&self, path: &Path) -> bool {
        self.problems
            .iter()
            .any(|p| p.severity == Severity::Error && p.file == path)
    }

    /// Whether anything forbids its use.
    pub fn has_errors(&self) -> bool {
        self.problems.iter().any(|p| p.severity == Severity::Error)
    }
}

/// Reads the operator's file and all tenants' files.
pub fn load(path: &Path) -> Outcome {
    resolve::load(path)
}

/// The state of all files (name, inode, size, time of change) as one number: another number
/// means that something was changed.
pub fn stamp(operator: &Path, tenants_dir: &Path) -> u64 {
    use std::hash::{Hash as _, Hasher as _};
    use std::os::unix::fs::MetadataExt as _;
    let mut files: Vec<PathBuf> = std::fs::read_dir(tenants_dir)
        .map(|entries| {
            entries
                .flatten()
                .map(|e| e.path())
                .filter(|p| p.extension().is_some_and(|e| e == "toml"))
                .collect()
        })
        .unwrap_or_default();
    files.sort();
    files.push(operator.to_owned());
    let mut hasher = std::collections::hash_map::DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        if let Ok(m) = std::fs::metadata(&file) {
            (m.ino(), m.size(), m.mtime(), m.mtime_nsec()).hash(&mut hasher);
        }
    }
    hasher.finish()
}

/// Where the operator's file is: named, else `/etc/postbote/postbote.toml`, else
/// `./config/postbote.toml`.
pub fn find(named: Option<&Path>) -> Result<PathBuf, String> {
    if let Some(path) = named {
        return Ok(path.to_owned());
    }
    let places = ["/etc/postbote/postbote.toml", "config/postbote.toml"];
    places.iter().map(PathBuf::from).find(|p| p.exists()).ok_or_else(|| format!("no configuration found: looked for {}; name one with --config FILE or POSTBOTE_CONFIG", places.join(" and ")))
}

mod choices {
    //! The names of every choice in the files.
    use super::document::Choice;
    use super::{Language, Sending, Store};
    use crate::delivery::Uncertain;
    use crate::oauth::{Grant, Provider};
    use crate::prepare::Utf8Headers;
    use crate::prepare::dkim::When;
    use crate::smtp::data::BareNewline;
    use crate::submission::{Answer, AuthMode, PlaintextAuth, TlsMode};
    use crate::tenant::{ApplicationFrom, SystemRelay, SystemSender};
    use crate::transport::KindName;
    use crate::transport::smtp::{Authentication, CertificateName, Encryption};

    macro_rules! choice {
        ($type:ty: $($name:literal => $value:expr),+ $(,)?) => {
            impl Choice for $type {
                const ALL: &'static [(&'static str, Self)] = &[$(($name, $value)),+];
            }
        };
    }

    choice!(Language: "de" => Language::De, "en" => Language::En);
    choice!(Sending: "on" => Sending::On, "hold" => Sending::Hold, "off" => Sending::Off);
    choice!(Store: "embedded" => Store::Embedded);
    choice!(TlsMode: "none" => TlsMode::None, "starttls" => TlsMode::Starttls, "implicit" => TlsMode::Implicit);
    choice!(AuthMode: "none" => AuthMode::None, "optional" => AuthMode::Optional, "required" => AuthMode::Required);
    choice!(PlaintextAuth: "never" => PlaintextAuth::Never, "loopback" => PlaintextAuth::Loopback, "always" => PlaintextAuth::Always);
    choice!(Answer: "queued" => Answer::Queued, "relayed" => Answer::Relayed);
    choice!(BareNewline: "normalize" => BareNewline::Normalize, "reject" => BareNewline::Reject, "legacy" => BareNewline::Legacy);
    choice!(SystemSender: "system" => SystemSender::System, "tenant" => SystemSender::Tenant);
    choice!(SystemRelay: "never" => SystemRelay::Never, "when-unconfigured" => SystemRelay::WhenUnconfigured, "on-failure" => SystemRelay::OnFailure);
    choice!(ApplicationFrom: "replace" => ApplicationFrom::Replace, "keep-authorized" => ApplicationFrom::KeepAuthorized, "reject-unauthorized" => ApplicationFrom::RejectUnauthorized);
    choice!(Uncertain: "retry" => Uncertain::Retry, "hold" => Uncertain::Hold);
    choice!(KindName: "smtp" => KindName::Smtp, "graph" => KindName::Graph, "gmail" => KindName::Gmail, "capture" => KindName::Capture);
    choice!(Provider: "microsoft" => Provider::Microsoft, "google" => Provider::Google, "custom" => Provider::Custom);
    choice!(Grant: "authorization-code" => Grant::AuthorizationCode, "device-code" => Grant::DeviceCode, "client-credentials" => Grant::ClientCredentials, "service-account" => Grant::ServiceAccount, "refresh-token" => Grant::RefreshToken);
    choice!(Encryption: "none" => Encryption::None, "starttls" => Encryption::Starttls, "tls" => Encryption::Tls);
    choice!(Authentication: "none" => Authentication::None, "auto" => Authentication::Auto, "plain" => Authentication::Plain, "login" => Authentication::Login, "cram-md5" => Authentication::CramMd5, "scram-sha-256" => Authentication::ScramSha256, "xoauth2" => Authentication::Xoauth2, "oauthbearer" => Authentication::Oauthbearer);
    choice!(CertificateName: "verify" => CertificateName::Verify, "trust-always" => CertificateName::TrustAlways, "pinned" => CertificateName::Pinned);
    choice!(Utf8Headers: "auto" => Utf8Headers::Auto, "always" => Utf8Headers::Always, "never" => Utf8Headers::Never);
    choice!(When: "auto" => When::Auto, "always" => When::Always);
}
