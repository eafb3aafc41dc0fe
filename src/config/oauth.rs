//! `[upstream.oauth]`.

use std::path::PathBuf;

use super::document::Section;
use super::resolve::{Needs, need};
use crate::http::Url;
use crate::oauth::{self, Grant, Provider, Purpose, Settings};
use crate::vault::SecretRef;

/// Whose the section is.
pub(super) struct Owner<'a> {
    /// A tenant's id, or "system".
    pub name: &'a str,
    /// Its address, if that could be read.
    pub email: Option<&'a str>,
}

impl Owner<'_> {
    fn account(&self) -> String {
        if self.name == "system" {
            oauth::SYSTEM.to_owned()
        } else {
            self.name.to_owned()
        }
    }
}

/// Reads it. `username`: of the upstream; `graph`: the root of the Graph API.
pub(super) fn oauth(
    section: &Section<'_>,
    purpose: Purpose,
    owner: &Owner<'_>,
    username: Option<&str>,
    graph: Option<&Url>,
    needs: &mut Needs,
) -> Option<Settings> {
    let provider = provider(section, purpose);
    let grant = section.choice("grant", Grant::AuthorizationCode);
    let directory = section
        .text("directory_id")
        .map(|text| text.trim().to_owned())
        .filter(|text| !text.is_empty());
    check_directory(section, provider, grant, directory.as_deref());
    let client_id = section.text("client_id").unwrap_or_default();
    let client_secret = section.secret("client_secret");
    let client_certificate = certificate(section);
    if let Some((path, _)) = &client_certificate
        && let Err(reason) = crate::net::tls::read_certificates(path)
    {
        section.reject(
            "client_certificate",
            "a PEM file with a certificate",
            reason,
        );
    }
    let service_account = section.secret("service_account");
    let refresh_token = section.secret("refresh_token");
    let mailbox = section
        .text("mailbox")
        .or_else(|| username.map(str::to_owned))
        .or_else(|| owner.email.map(str::to_owned))
        .unwrap_or_default()
        .trim()
        .to_owned();
    let login = username.map_or_else(|| mailbox.clone(), str::to_owned);
    let bad = |c: char| c.is_control() || c == ' ';
    if mailbox.contains(bad) || !mailbox.contains('@') {
        section.reject(
            "mailbox",
            "a mail address",
            "write the address whose mailbox sends",
        );
    }
    for (place, secret) in [
        ("client secret", client_secret.as_ref()),
        ("service account", service_account.as_ref()),
        ("refresh token", refresh_token.as_ref()),
        (
            "client key of the application",
            client_certificate.as_ref().map(|(_, key)| key),
        ),
    ] {
        need(needs, format!("{}, {place}", owner.name), secret);
    }
    check_grant(
        section,
        provider,
        grant,
        &client_id,
        client_secret.is_some() || client_certificate.is_some(),
    );
    let directory = directory.unwrap_or_else(|| "common".to_owned());
    let login_root = format!("https://login.microsoftonline.com/{directory}/oauth2/v2.0");
    let preset = |key: &str, microsoft: &str, google: &str| {
        url(section, key).or_else(|| match provider {
            Provider::Microsoft => Url::parse(&format!("{login_root}/{microsoft}")).ok(),
            Provider::Google => Url::parse(google).ok(),
            Provider::Custom => None,
        })
    };
    let authorize_url = preset(
        "authorize_url",
        "authorize",
        "https://accounts.google.com/o/oauth2/v2/auth",
    );
    let token_url = preset("token_url", "token", "https://oauth2.googleapis.com/token");
    let device_url = preset(
        "device_url",
        "devicecode",
        "https://oauth2.googleapis.com/device/code",
    );
    if token_url.is_none() && !section.has("token_url") {
        section.reject(
            "token_url",
            "an https:// address",
            "a custom provider needs it; it stands in its OAuth2 documentation",
        );
    }
    if grant == Grant::AuthorizationCode && authorize_url.is_none() && !section.has("authorize_url")
    {
        section.reject(
            "authorize_url",
            "an https:// address",
            "a custom provider needs it for grant = \"authorization-code\"",
        );
    }
    if grant == Grant::DeviceCode && device_url.is_none() && !section.has("device_url") {
        section.reject(
            "device_url",
            "an https:// address",
            "a custom provider needs it for grant = \"device-code\"",
        );
    }
    if purpose == Purpose::Gmail && grant.needs_consent() && !mailbox.eq_ignore_ascii_case(&login) {
        section.reject(
            "mailbox",
            "the account that signs in (username)",
            "the Gmail API sends as the account itself; other addresses are its \"Send mail as\" aliases: [sender] address",
        );
    }
    let mut scopes = section.list("scopes", |text| {
        let one = !text.is_empty() && text.bytes().all(|b| (0x21..=0x7e).contains(&b));
        one.then(|| text.to_owned())
            .ok_or_else(|| "one scope without blanks".to_owned())
    });
    if scopes.is_empty() {
        scopes = oauth::default_scopes(provider, purpose, grant, graph);
        if purpose == Purpose::Graph
            && grant != Grant::ClientCredentials
            && !mailbox.eq_ignore_ascii_case(&login)
        {
            // Another's mailbox has permissions of its own.
            for scope in &mut scopes {
                if scope.ends_with("/Mail.Send") || scope.ends_with("/Mail.ReadWrite") {
                    scope.push_str(".Shared");
                }
            }
        }
    }
    Some(Settings {
        account: owner.account(),
        provider,
        grant,
        purpose,
        client_id,
        client_secret,
        client_certificate,
        service_account,
        refresh_token,
        mailbox,
        login,
        scopes,
        authorize_url,
        token_url: token_url?,
        device_url,
    })
}

/// The provider; for the two APIs there is only one.
fn provider(section: &Section<'_>, purpose: Purpose) -> Provider {
    let only = match purpose {
        Purpose::Graph => Some((Provider::Microsoft, "graph")),
        Purpose::Gmail => Some((Provider::Google, "gmail")),
        Purpose::Smtp => None,
    };
    if !section.has("provider") && only.is_none() {
        section.reject(
            "provider",
            "microsoft, google, custom",
            "say whose mailbox it is",
        );
    }
    let provider = section.choice("provider", only.map_or(Provider::Custom, |(p, _)| p));
    if let Some((wanted, kind)) = only
        && provider != wanted
    {
        section.reject(
            "provider",
            "the provider of this kind of upstream",
            format!("kind = \"{kind}\" has a provider of its own; remove this line"),
        );
    }
    only.map_or(provider, |(wanted, _)| wanted)
}

fn check_directory(
    section: &Section<'_>,
    provider: Provider,
    grant: Grant,
    directory: Option<&str>,
) {
    if let Some(directory) = directory {
        let valid = directory
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-.".contains(&b));
        if !valid {
            section.reject(
                "directory_id",
                "the directory (tenant) id or a verified domain",
                "copy it from the overview of the app registration in Entra",
            );
        }
    }
    let shared = directory.is_none_or(|d| ["common", "organizations", "consumers"].contains(&d));
    if provider == Provider::Microsoft
        && grant == Grant::ClientCredentials
        && shared
        && !section.has("token_url")
    {
        section.reject(
            "directory_id",
            "the directory (tenant) id or a verified domain",
            "an application by itself belongs to one directory; copy its id from Entra",
        );
    }
}

/// What each grant needs, and what it cannot have.
fn check_grant(
    section: &Section<'_>,
    provider: Provider,
    grant: Grant,
    client_id: &str,
    has_proof: bool,
) {
    let missing = |key: &str, what: &str, hint: &str| {
        if !section.has(key) {
            section.reject(key, what, hint);
        }
    };
    if client_id.trim().is_empty() && grant != Grant::ServiceAccount {
        section.reject(
            "client_id",
            "the application (client) id",
            "copy it from the app registration",
        );
    }
    if client_id.trim() == super::FILL_IN {
        section.warn(
            "client_id",
            "write the application (client) id of your app registration here",
        );
    }
    match grant {
        Grant::ClientCredentials => {
            if !has_proof {
                section.reject(
                    "client_secret",
                    "client_secret, or client_certificate and client_key",
                    "make a secret or upload a certificate in the app registration",
                );
            }
            if provider == Provider::Google {
                section.reject(
                    "grant",
                    "authorization-code, service-account or refresh-token at Google",
                    "Google knows no client credentials for mail; use grant = \"service-account\"",
                );
            }
        }
        Grant::ServiceAccount => {
            missing(
                "service_account",
                "a secret with Google's JSON file",
                "service_account = { file = \"…json\" }",
            );
            if provider == Provider::Microsoft {
                section.reject(
                    "grant",
                    "another grant at Microsoft",
                    "service accounts are Google's; use grant = \"client-credentials\"",
                );
            }
        }
        Grant::RefreshToken => missing(
            "refresh_token",
            "a secret",
            "refresh_token = { vault = \"…\" }",
        ),
        Grant::DeviceCode if provider == Provider::Google => section.reject(
            "grant",
            "authorization-code or service-account at Google",
            "Google allows no device codes for mail; `postbote oauth connect` works over SSH too",
        ),
        Grant::AuthorizationCode | Grant::DeviceCode => {}
    }
}

/// A certificate of ours and its key: both or none.
pub(super) fn certificate(section: &Section<'_>) -> Option<(PathBuf, SecretRef)> {
    match (
        section.path("client_certificate"),
        section.secret("client_key"),
    ) {
        (Some(path), Some(key)) => Some((path, key)),
        (None, None) => None,
        (Some(_), None) => {
            section.reject(
                "client_certificate",
                "client_certificate and client_key together",
                "add client_key = { file = \"…\" }",
            );
            None
        }
        (None, Some(_)) => {
            section.reject(
                "client_key",
                "client_certificate and client_key together",
                "add client_certificate = \"…\"",
            );
            None
        }
    }
}

/// An address; a wrong one is reported.
pub(super) fn url(section: &Section<'_>, key: &str) -> Option<Url> {
    match Url::parse(&section.text(key)?) {
        Ok(url) => Some(url),
        Err(reason) => {
            section.reject(key, "an https:// address", reason);
            None
        }
    }
}
