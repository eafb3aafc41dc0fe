//! What of an account's authorisation ends, and when: certificates, secrets, refresh tokens.

use std::path::Path;

use jiff::Timestamp;

use super::{Provider, Settings, Standing};
use crate::vault::{SecretRef, Secrets};

/// Entra gives client secrets at most so long.
const SECRET_DAYS: i64 = 730;
/// Microsoft's refresh tokens die after so long without use.
const MICROSOFT_IDLE_DAYS: i64 = 90;
/// Google's.
const GOOGLE_IDLE_DAYS: i64 = 180;

/// What can end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// The application's certificate.
    ClientCertificate,
    /// The certificate of a connection (mutual TLS).
    TlsCertificate,
    /// The application's secret.
    ClientSecret,
    /// The refresh token, if nobody uses it.
    IdleToken,
    /// The refresh token, whatever is done.
    Token,
}

impl What {
    /// Its name in `oauth status`.
    pub fn word(self) -> &'static str {
        match self {
            What::ClientCertificate | What::TlsCertificate => "client certificate",
            What::ClientSecret => "client secret",
            What::IdleToken => "refresh token, if it is not used",
            What::Token => "refresh token, whatever is done",
        }
    }
}

/// An end.
#[derive(Debug, Clone)]
pub struct End {
    /// Of what.
    pub what: What,
    /// When; `None`: nobody knows.
    pub at: Option<Timestamp>,
    /// What to add.
    pub note: &'static str,
}

impl End {
    /// Whole days that are left; negative: it is over.
    pub fn days(&self) -> Option<i64> {
        self.at.map(days_until)
    }
}

/// Whole days from now; negative: it is over.
pub fn days_until(at: Timestamp) -> i64 {
    (at.as_second() - Timestamp::now().as_second()).div_euclid(86_400)
}

/// What of an account ends, and when.
pub fn ends(secrets: &Secrets, settings: &Settings, standing: &Standing) -> Vec<End> {
    let mut ends = Vec::new();
    if let Some((path, _)) = &settings.client_certificate {
        ends.push(End {
            what: What::ClientCertificate,
            at: certificate_end(path),
            note: "",
        });
    } else if settings.client_secret.is_some() && settings.provider == Provider::Microsoft {
        let set = match &settings.client_secret {
            Some(SecretRef::Vault(name)) => set_at(secrets, name),
            _ => None,
        };
        ends.push(End {
            what: What::ClientSecret,
            at: set.and_then(|at| later(at, SECRET_DAYS)),
            note: "(at most; Entra shows the exact end under Certificates & secrets)",
        });
    }
    if settings.grant.has_refresh_token() {
        let used = standing.refreshed.or(standing.granted);
        let idle = match settings.provider {
            Provider::Microsoft => Some(MICROSOFT_IDLE_DAYS),
            Provider::Google => Some(GOOGLE_IDLE_DAYS),
            Provider::Custom => None,
        };
        if let (Some(limit), true) = (idle, standing.connected) {
            ends.push(End {
                what: What::IdleToken,
                at: used.and_then(|at| later(at, limit)),
                note: "(a running server uses it every day)",
            });
        }
        if let Some(at) = standing.ends {
            let note = if settings.provider == Provider::Google {
                "(an application in testing: 7 days; publish it)"
            } else {
                ""
            };
            ends.push(End {
                what: What::Token,
                at: Some(at),
                note,
            });
        }
    }
    ends
}

fn later(at: Timestamp, days: i64) -> Option<Timestamp> {
    at.checked_add(jiff::SignedDuration::from_hours(24 * days))
        .ok()
}

fn set_at(secrets: &Secrets, name: &str) -> Option<Timestamp> {
    let list = secrets.vault().list().ok()?;
    let (_, set) = list.into_iter().find(|(known, _)| known == name)?;
    set.parse().ok()
}

/// When a certificate ends.
pub fn certificate_end(path: &Path) -> Option<Timestamp> {
    let chain = crate::net::tls::read_certificates(path).ok()?;
    let (_, certificate) = x509_parser::parse_x509_certificate(chain.first()?).ok()?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).ok()
}
