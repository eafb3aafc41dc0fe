//! `[upstream]` of a tenant or of the system relay.

use std::sync::{Arc, OnceLock};

use base64::Engine as _;

use super::Server;
use super::document::Section;
use super::oauth::{self as oauth_section, Owner};
use super::resolve::{Needs, need};
use crate::http::Url;
use crate::oauth::{self, Purpose};
use crate::prepare::Utf8Headers;
use crate::smtp::address::ascii_domain;
use crate::transport::smtp::{Authentication, CertificateName, CertificatePolicy, Encryption};
use crate::transport::{KindName, Upstream, gmail, graph, smtp};

pub(super) fn upstream(
    section: &Section<'_>,
    server: &Server,
    owner: &Owner<'_>,
    needs: &mut Needs,
) -> Option<Upstream> {
    match section.choice("kind", KindName::Smtp) {
        KindName::Capture => Some(Upstream::Capture(server.data_dir.join("captured"))),
        KindName::Smtp => smtp_upstream(section, owner, needs).map(Upstream::Smtp),
        KindName::Graph => graph_upstream(section, owner, needs).map(Upstream::Graph),
        KindName::Gmail => gmail_upstream(section, owner, needs).map(Upstream::Gmail),
    }
}

/// Keys that only an SMTP upstream has.
const SMTP_ONLY: [&str; 13] = [
    "host",
    "encryption",
    "port",
    "authentication",
    "password",
    "certificate",
    "pins",
    "ca_file",
    "client_certificate",
    "client_key",
    "insecure_password",
    "helo",
    "messages_per_connection",
];

/// Root, tokens and requests in flight of an API.
fn api(
    section: &Section<'_>,
    purpose: Purpose,
    owner: &Owner<'_>,
    root: &str,
    in_flight: usize,
    needs: &mut Needs,
) -> Option<(Url, Arc<oauth::Settings>, usize)> {
    for key in SMTP_ONLY.iter().filter(|key| section.has(key)) {
        section.reject(
            key,
            "no such key for this kind of upstream",
            "it belongs to kind = \"smtp\"; remove it",
        );
    }
    let inner = section.section("oauth");
    if !section.section_present("oauth") {
        section.reject(
            "oauth",
            "[upstream.oauth]",
            "add it: this kind of upstream takes no passwords",
        );
        return None;
    }
    let api_url = oauth_section::url(&inner, "api_url").or_else(|| Url::parse(root).ok());
    let username = section.text("username").filter(|u| !u.is_empty());
    let settings = oauth_section::oauth(
        &inner,
        purpose,
        owner,
        username.as_deref(),
        api_url.as_ref(),
        needs,
    );
    let connections = section.integer("connections", u32::try_from(in_flight).unwrap_or(3));
    if connections > 4 {
        section.reject(
            "connections",
            "at most 4",
            "the provider takes no more at once",
        );
    }
    Some((api_url?, Arc::new(settings?), connections as usize))
}

fn graph_upstream(
    section: &Section<'_>,
    owner: &Owner<'_>,
    needs: &mut Needs,
) -> Option<graph::Settings> {
    let root = "https://graph.microsoft.com";
    let (api_url, oauth, connections) = api(
        section,
        Purpose::Graph,
        owner,
        root,
        graph::IN_FLIGHT,
        needs,
    )?;
    Some(graph::Settings {
        api_url,
        oauth,
        connections,
    })
}

fn gmail_upstream(
    section: &Section<'_>,
    owner: &Owner<'_>,
    needs: &mut Needs,
) -> Option<gmail::Settings> {
    let root = "https://gmail.googleapis.com";
    let (api_url, oauth, connections) = api(section, Purpose::Gmail, owner, root, 2, needs)?;
    Some(gmail::Settings {
        api_url,
        oauth,
        connections,
    })
}

/// Tokens of an SMTP upstream, where it has some.
fn smtp_oauth(
    section: &Section<'_>,
    owner: &Owner<'_>,
    authentication: Authentication,
    username: Option<&str>,
    needs: &mut Needs,
) -> Option<Arc<oauth::Settings>> {
    let by_token = matches!(
        authentication,
        Authentication::Xoauth2 | Authentication::Oauthbearer
    );
    if !section.section_present("oauth") {
        if by_token {
            section.reject(
                "authentication",
                "[upstream.oauth] beside it",
                "add [upstream.oauth] with provider, grant and client_id",
            );
        }
        return None;
    }
    if !by_token && authentication != Authentication::Auto {
        section.reject(
            "authentication",
            "auto, xoauth2 or oauthbearer where [upstream.oauth] stands",
            "there is no silent way from a token to a password: remove [upstream.oauth], or this line",
        );
    }
    for key in ["password", "insecure_password"] {
        if section.has(key) {
            section.reject(
                key,
                "no password where [upstream.oauth] stands",
                "remove it, or [upstream.oauth]: `postbote tenant reset` and `tenant add` change from one to the other",
            );
        }
    }
    let inner = section.section("oauth");
    oauth_section::oauth(&inner, Purpose::Smtp, owner, username, None, needs).map(Arc::new)
}

fn smtp_upstream(
    section: &Section<'_>,
    owner: &Owner<'_>,
    needs: &mut Needs,
) -> Option<smtp::Settings> {
    let host = section.required_text("host").map(|h| h.trim().to_owned());
    if let Some(host) = &host
        && host.parse::<std::net::IpAddr>().is_err()
        && ascii_domain(host).is_none()
    {
        section.reject(
            "host",
            "a host name or an IP address",
            "write only the name, without smtp:// and without a port",
        );
    }
    let encryption = section.choice("encryption", Encryption::Starttls);
    let port = section.integer("port", u32::from(encryption.default_port()));
    let username = section.text("username").filter(|u| !u.is_empty());
    let password = section.secret("password");
    let authentication = section.choice("authentication", Authentication::Auto);
    let oauth = smtp_oauth(section, owner, authentication, username.as_deref(), needs);
    if authentication != Authentication::None && !section.section_present("oauth") {
        match (&username, &password) {
            (Some(_), None) if !section.has("password") => section.reject(
                "password",
                "a secret",
                "add it, or set authentication = \"none\"",
            ),
            (None, Some(_)) => {
                section.reject("username", "the login", "add it, or remove the password")
            }
            (None, None)
                if !matches!(
                    authentication,
                    Authentication::Auto | Authentication::Xoauth2 | Authentication::Oauthbearer
                ) =>
            {
                section.reject(
                    "username",
                    "the login",
                    "add username and password, or set authentication = \"none\"",
                )
            }
            _ => {}
        }
    }
    let insecure_password = section.bool("insecure_password", false);
    let local = host.as_deref().is_some_and(is_loopback_host);
    if encryption == Encryption::None
        && password.is_some()
        && authentication != Authentication::None
        && !local
        && !insecure_password
    {
        section.reject("encryption", "starttls or tls where a password is sent to another host", "set encryption = \"starttls\", or insecure_password = true if nobody can listen on that network");
    }
    if insecure_password {
        section.warn(
            "insecure_password",
            "the password can be read on the network",
        );
    }
    if oauth.is_some() && encryption == Encryption::None && !local {
        section.reject(
            "encryption",
            "starttls or tls where a token is sent to another host",
            "set encryption = \"starttls\"; tokens never go unencrypted",
        );
    }
    let ca_file = section.path("ca_file");
    if let Some(path) = &ca_file
        && let Err(reason) = crate::net::tls::read_certificates(path)
    {
        section.reject("ca_file", "a PEM file with certificates", reason);
    }
    let pins = section.list("pins", pin);
    if section.has("pins")
        && section.choice("certificate", CertificateName::Verify) != CertificateName::Pinned
    {
        section.reject(
            "pins",
            "pins only with certificate = \"pinned\"",
            "set certificate = \"pinned\", or remove the pins",
        );
    }
    if encryption == Encryption::None && host.is_some() && !local {
        section.warn("encryption", "the mail can be read on the network");
    }
    let certificate = match section.choice("certificate", CertificateName::Verify) {
        CertificateName::Verify => CertificatePolicy::Verify { ca_file },
        CertificateName::TrustAlways => {
            if oauth.is_some() && !local {
                section.reject(
                    "certificate",
                    "verify or pinned where a token is sent",
                    "use ca_file, or certificate = \"pinned\" with the server's pin",
                );
            }
            section.warn("certificate", "anybody between here and the server can read the mail and the password; better: ca_file, or certificate = \"pinned\"");
            CertificatePolicy::TrustAlways
        }
        CertificateName::Pinned => {
            if pins.is_empty() {
                section.reject(
                    "pins",
                    "at least one pin",
                    "add pins = [\"sha256/…\"]; `postbote test` prints the pin of the server",
                );
            }
            CertificatePolicy::Pinned(pins)
        }
    };
    let client_certificate = oauth_section::certificate(section);
    let helo = section.text("helo");
    if helo.as_deref().is_some_and(|h| ascii_domain(h).is_none()) {
        section.reject("helo", "a host name", "use letters, digits, - and .");
    }
    need(
        needs,
        format!("{}, upstream password", owner.name),
        password.as_ref(),
    );
    need(
        needs,
        format!("{}, client key", owner.name),
        client_certificate.as_ref().map(|(_, key)| key),
    );
    Some(smtp::Settings {
        host: host?,
        port: u16::try_from(port).unwrap_or(encryption.default_port()),
        encryption,
        authentication,
        username,
        password,
        oauth,
        certificate,
        client_certificate,
        insecure_password,
        helo,
        utf8_headers: section.choice("utf8_headers", Utf8Headers::Auto),
        connections: section.integer("connections", 2) as usize,
        messages_per_connection: section.integer("messages_per_connection", 100) as usize,
        tls_cache: OnceLock::new(),
    })
}

fn is_loopback_host(host: &str) -> bool {
    host.eq_ignore_ascii_case("localhost")
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|ip| ip.is_loopback())
}

fn pin(text: &str) -> Result<[u8; 32], String> {
    let hint = "write sha256/ and the base64 of the 32 bytes";
    let encoded = text.trim().strip_prefix("sha256/").ok_or(hint)?;
    let bytes = base64::engine::general_purpose::STANDARD
        .decode(encoded)
        .map_err(|_| hint)?;
    bytes.try_into().map_err(|_| hint.to_owned())
}
