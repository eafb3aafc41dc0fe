//! `[upstream]` of a tenant or of the system relay.

use std::sync::OnceLock;

use base64::Engine as _;

use super::Server;
use super::document::Section;
use super::resolve::{Needs, need};
use crate::prepare::Utf8Headers;
use crate::smtp::address::ascii_domain;
use crate::transport::smtp::{Authentication, CertificateName, CertificatePolicy, Encryption};
use crate::transport::{KindName, Upstream, smtp};

pub(super) fn upstream(
    section: &Section<'_>,
    server: &Server,
    owner: &str,
    needs: &mut Needs,
) -> Option<Upstream> {
    match section.choice("kind", KindName::Smtp) {
        KindName::Capture => Some(Upstream::Capture(server.data_dir.join("captured"))),
        KindName::Smtp => smtp_upstream(section, owner, needs).map(Upstream::Smtp),
    }
}

fn smtp_upstream(section: &Section<'_>, owner: &str, needs: &mut Needs) -> Option<smtp::Settings> {
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
    if authentication != Authentication::None {
        match (&username, &password) {
            (Some(_), None) if !section.has("password") => section.reject(
                "password",
                "a secret",
                "add it, or set authentication = \"none\"",
            ),
            (None, Some(_)) => {
                section.reject("username", "the login", "add it, or remove the password")
            }
            (None, None) if authentication != Authentication::Auto => section.reject(
                "username",
                "the login",
                "add username and password, or set authentication = \"none\"",
            ),
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
    let ca_file = section.path("ca_file");
    if let Some(path) = &ca_file
        && let Err(reason) = smtp::tls::read_certificates(path)
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
    let client_key = section.secret("client_key");
    let client_certificate = match (section.path("client_certificate"), client_key) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
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
    };
    let helo = section.text("helo");
    if helo.as_deref().is_some_and(|h| ascii_domain(h).is_none()) {
        section.reject("helo", "a host name", "use letters, digits, - and .");
    }
    need(
        needs,
        format!("{owner}, upstream password"),
        password.as_ref(),
    );
    need(
        needs,
        format!("{owner}, client key"),
        client_certificate.as_ref().map(|(_, key)| key),
    );
    Some(smtp::Settings {
        host: host?,
        port: u16::try_from(port).unwrap_or(encryption.default_port()),
        encryption,
        authentication,
        username,
        password,
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
