//! OAuth 2.0 towards mail providers (RFC 6749): grants, tokens and where they are kept.
//!
//! An access token is had by [`Tokens::access`] alone: one renewal at a time for each account, a
//! rotated refresh token on stable storage before the access token that came with it is used, and
//! no stored token ever deleted because of an error.

mod answer;
pub mod consent;
pub mod ends;
mod grant;
mod jwt;
mod tokens;

use std::path::PathBuf;

pub use crate::explain::apis::Provider;
pub use answer::{Granted, TokenError};
pub use consent::Consent;
pub use tokens::{Access, Standing, Tokens};

use crate::http::Url;
use crate::vault::SecretRef;

/// `[upstream.oauth]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Whose tokens these are: a tenant's id, or [`SYSTEM`].
    pub account: String,
    /// Who gives the tokens.
    pub provider: Provider,
    /// How they are had.
    pub grant: Grant,
    /// What they are for.
    pub purpose: Purpose,
    /// The application's id.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Option<SecretRef>,
    /// Its certificate and key instead (RFC 7523, private_key_jwt).
    pub client_certificate: Option<(PathBuf, SecretRef)>,
    /// Google's key file of a service account.
    pub service_account: Option<SecretRef>,
    /// A refresh token from elsewhere.
    pub refresh_token: Option<SecretRef>,
    /// Whose mailbox sends.
    pub mailbox: String,
    /// Who signs in: the mailbox itself, or somebody who may use it.
    pub login: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// Where a person consents.
    pub authorize_url: Option<Url>,
    /// Where tokens come from.
    pub token_url: Url,
    /// Where device codes come from (RFC 8628).
    pub device_url: Option<Url>,
}

/// The account of the system relay.
pub const SYSTEM: &str = "@system";

/// The name of an account's consent in the vault.
fn vault_name(account: &str) -> String {
    format!("oauth/{account}")
}

/// How tokens are had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Grant {
    /// A person signs in with a browser (RFC 6749 section 4.1, RFC 7636, RFC 8252).
    AuthorizationCode,
    /// A person signs in on another device (RFC 8628).
    DeviceCode,
    /// The application by itself (RFC 6749 section 4.4).
    ClientCredentials,
    /// Google's service account for a user of its domain (RFC 7523).
    ServiceAccount,
    /// With a refresh token that somebody else got.
    RefreshToken,
}

impl Grant {
    /// As written in configuration.
    pub fn word(self) -> &'static str {
        match self {
            Grant::AuthorizationCode => "authorization-code",
            Grant::DeviceCode => "device-code",
            Grant::ClientCredentials => "client-credentials",
            Grant::ServiceAccount => "service-account",
            Grant::RefreshToken => "refresh-token",
        }
    }

    /// Whether a person has to consent with `postbote oauth connect`.
    pub fn needs_consent(self) -> bool {
        match self {
            Grant::AuthorizationCode | Grant::DeviceCode => true,
            Grant::ClientCredentials | Grant::ServiceAccount | Grant::RefreshToken => false,
        }
    }

    /// Whether there is a refresh token that can rotate and die.
    pub fn has_refresh_token(self) -> bool {
        match self {
            Grant::AuthorizationCode | Grant::DeviceCode | Grant::RefreshToken => true,
            Grant::ClientCredentials | Grant::ServiceAccount => false,
        }
    }
}

/// What tokens are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// XOAUTH2 or OAUTHBEARER.
    Smtp,
    /// Microsoft Graph.
    Graph,
    /// The Gmail API.
    Gmail,
}

impl Settings {
    /// The name of the consent in the vault.
    pub fn vault_name(&self) -> String {
        vault_name(&self.account)
    }

    /// Whether the application acts by itself, not for a person.
    pub fn is_app_only(&self) -> bool {
        self.grant == Grant::ClientCredentials
    }

    /// The `provider` as written.
    pub fn provider_word(&self) -> &'static str {
        match self.provider {
            Provider::Microsoft => "microsoft",
            Provider::Google => "google",
            Provider::Custom => "custom",
        }
    }

    /// An explanation with these ids in their places.
    pub fn fill(&self, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        // …/DIRECTORY/oauth2/v2.0/token
        let directory = self.token_url.target().trim_start_matches('/');
        let directory = directory.split('/').next().unwrap_or("");
        text.replace("{directory_id}", directory)
            .replace("{client_id}", &self.client_id)
            .replace("{mailbox}", &self.mailbox)
    }

    /// What a token must be good for: one of these as a part of the granted scopes. Nothing: not
    /// known.
    pub fn needed_scopes(&self) -> &'static [&'static str] {
        match (self.provider, self.purpose) {
            (Provider::Microsoft, Purpose::Smtp) => &["SMTP.Send"],
            (Provider::Microsoft, Purpose::Graph) => &["Mail.Send"],
            (Provider::Google, Purpose::Smtp) => &["https://mail.google.com/"],
            (Provider::Google, Purpose::Gmail) => &[
                "gmail.send",
                "gmail.compose",
                "gmail.modify",
                "https://mail.google.com/",
            ],
            (Provider::Microsoft, Purpose::Gmail)
            | (Provider::Google, Purpose::Graph)
            | (Provider::Custom, _) => &[],
        }
    }
}

/// What is asked for where configuration names no scopes.
///
/// `graph`: the root of the Graph API, whose cloud names the resource.
pub fn default_scopes(
    provider: Provider,
    purpose: Purpose,
    grant: Grant,
    graph: Option<&Url>,
) -> Vec<String> {
    let resource = graph
        .filter(|url| !url.is_loopback())
        .map_or("https://graph.microsoft.com".to_owned(), Url::origin);
    let scopes: Vec<String> = match (provider, purpose, grant) {
        (Provider::Microsoft, Purpose::Smtp, Grant::ClientCredentials) => {
            vec!["https://outlook.office365.com/.default".to_owned()]
        }
        (Provider::Microsoft, Purpose::Graph, Grant::ClientCredentials) => {
            vec![format!("{resource}/.default")]
        }
        (Provider::Microsoft, Purpose::Smtp, _) => {
            vec!["https://outlook.office.com/SMTP.Send".to_owned()]
        }
        (Provider::Microsoft, Purpose::Graph, _) => {
            // ReadWrite carries what is beyond the limit of one request: draft and upload.
            vec![
                format!("{resource}/Mail.Send"),
                format!("{resource}/Mail.ReadWrite"),
            ]
        }
        (Provider::Google, Purpose::Smtp, _) => vec!["https://mail.google.com/".to_owned()],
        (Provider::Google, Purpose::Gmail, _) => {
            vec!["https://www.googleapis.com/auth/gmail.send".to_owned()]
        }
        (Provider::Microsoft, Purpose::Gmail, _)
        | (Provider::Google, Purpose::Graph, _)
        | (Provider::Custom, _, _) => Vec::new(),
    };
    // With a person: who signed in is compared with who should have.
    let more: &[&str] = match (provider, grant.needs_consent()) {
        (Provider::Microsoft, true) => &["offline_access", "openid", "email", "profile"],
        (Provider::Microsoft, false) if grant == Grant::RefreshToken => &["offline_access"],
        (Provider::Google, true) => &["openid", "email"],
        _ => &[],
    };
    scopes
        .into_iter()
        .chain(more.iter().map(|s| (*s).to_owned()))
        .collect()
}
