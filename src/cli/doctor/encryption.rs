//! TLS with the server, and its certificate. Whatever is wrong with one is looked at without a
//! login: nothing secret goes to a server that is not believed.

use std::net::IpAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::Case;
use super::report::{Check, Report, quote};
use super::route::cause_of;
use crate::explain::{Cause, Language};
use crate::failure::Stage;
use crate::net::tls::{Agreed, Identity};
use crate::smtp::sasl;
use crate::transport::Failure as Failed;
use crate::transport::smtp::{CertificatePolicy, Connection, Encryption, Settings};

/// A certificate that ends within so many days is worth a word.
const SOON: i64 = 14;
/// How long a silent port is given to speak TLS.
const GUESS_LIMIT: Duration = Duration::from_secs(5);
/// Most names of a certificate that are shown.
const NAMES: usize = 8;

/// Where a conversation goes.
pub struct Place<'a> {
    /// Host and port, as findings name them.
    pub subject: &'a str,
    /// The address that answers.
    pub address: IpAddr,
}

/// The same server without a login.
fn bare(settings: &Settings, certificate: CertificatePolicy, encryption: Encryption) -> Settings {
    Settings {
        host: settings.host.clone(),
        port: settings.port,
        encryption,
        authentication: crate::transport::smtp::Authentication::None,
        username: None,
        password: None,
        oauth: None,
        certificate,
        client_certificate: settings.client_certificate.clone(),
        insecure_password: false,
        helo: settings.helo.clone(),
        utf8_headers: settings.utf8_headers,
        connections: settings.connections,
        messages_per_connection: settings.messages_per_connection,
        tls_cache: std::sync::OnceLock::new(),
    }
}

/// Opens a conversation up to where a login would come.
pub async fn open(
    case: &Case<'_>,
    settings: &Settings,
    address: IpAddr,
) -> Result<Connection, Failed> {
    let same = bare(settings, settings.certificate.clone(), settings.encryption);
    let failure = match Connection::open_at(&same, case.context, Some(address)).await {
        Err(failure) if settings.encryption != Encryption::Tls => failure,
        other => return other,
    };
    if cause_of(&failure) != Some(Cause::GreetingTimeout) {
        return Err(failure);
    }
    // A server that says nothing may be waiting for TLS.
    let at_once = bare(settings, CertificatePolicy::TrustAlways, Encryption::Tls);
    let mut context = case.context.clone();
    context.timeouts.handshake = GUESS_LIMIT;
    context.timeouts.greeting = GUESS_LIMIT;
    match Connection::open_at(&at_once, &context, Some(address)).await {
        Ok(connection) => {
            connection.quit().await;
            let why = "the port speaks TLS from the first byte";
            let (cause, stage) = (Cause::TlsOnPlainPort, Stage::Hello);
            Err(Failed::of_cause(cause, stage, &failure.relay, why))
        }
        Err(_) => Err(failure),
    }
}

/// Says how it stands with encryption and certificate; gives the conversation, if there is one.
pub async fn examine(
    case: &Case<'_>,
    report: &Report,
    settings: &Settings,
    place: &Place<'_>,
    opened: Result<Connection, Failed>,
) -> Option<Connection> {
    report.begin(Check::Tls, place.subject);
    match opened {
        Ok(connection) => {
            match connection.agreed() {
                Some(agreed) => {
                    encrypted(report, place.subject, &agreed);
                    let pin = connection.server_key.map(pin_of);
                    believed(case, report, settings, place, &agreed, pin).await;
                }
                None => plain(report, settings, place, connection.capabilities.starttls),
            }
            Some(connection)
        }
        Err(failure) => {
            if cause_of(&failure).is_some_and(is_about_certificate) {
                not_believed(case, report, settings, place, &failure).await;
            } else {
                let (text, remedy) = case.explained(report, &failure);
                report.fail(Check::Tls, place.subject, text, remedy);
            }
            None
        }
    }
}

/// Whether TLS came so far that the server has shown who it is.
pub fn is_about_certificate(cause: Cause) -> bool {
    matches!(
        cause,
        Cause::CertificateSelfSigned
            | Cause::CertificateUnknownAuthority
            | Cause::CertificateExpired
            | Cause::CertificateNotYetValid
            | Cause::CertificateWrongName
            | Cause::CertificateRevoked
            | Cause::CertificatePinMismatch
            | Cause::CertificateOther
    )
}

/// TLS is there.
pub fn encrypted(report: &Report, subject: &str, agreed: &Agreed) {
    report.ok(
        Check::Tls,
        subject,
        format!("{}, {}", agreed.version, agreed.cipher),
    );
}

fn plain(report: &Report, settings: &Settings, place: &Place<'_>, offers: bool) {
    let language = report.language;
    let mut text = words!(
        language,
        "Unverschlüsselt (encryption = \"none\").",
        "Not encrypted (encryption = \"none\")."
    );
    if offers {
        text.push_str(&words!(
            language,
            " Der Server bietet STARTTLS an.",
            " The server offers STARTTLS."
        ));
    }
    if settings.is_loopback() || place.address.is_loopback() {
        text.push_str(&words!(
            language,
            " Die Mail verlässt diesen Rechner so nicht.",
            " The mail does not leave this machine that way."
        ));
        report.ok(Check::Tls, place.subject, text);
        return;
    }
    let remedy = words!(
        language,
        "Jeder im Netz dazwischen kann mitlesen: Setzen Sie [upstream] encryption = \"starttls\" oder \"tls\", wenn der Server es kann.",
        "Everybody in the network between can read it: set [upstream] encryption = \"starttls\" or \"tls\" if the server knows it."
    );
    report.warn(Check::Tls, place.subject, text, remedy);
}

/// A pin as configuration has it.
fn pin_of(key: [u8; 32]) -> String {
    format!("sha256/{}", sasl::encode(&key))
}

/// When a certificate ends.
fn end_of(identity: &Identity) -> Timestamp {
    Timestamp::from_second(identity.ends).unwrap_or(Timestamp::MAX)
}

/// Whole days to its end; negative: it is over.
fn days(identity: &Identity) -> i64 {
    (identity.ends - Timestamp::now().as_second()).div_euclid(86_400)
}

/// What it says of itself.
fn described(language: Language, identity: &Identity) -> String {
    let names: Vec<String> = identity
        .names
        .iter()
        .take(NAMES)
        .map(|name| quote(name))
        .collect();
    let (names, issuer) = (names.join(", "), quote(&identity.issuer));
    let (days, date) = (days(identity), end_of(identity).strftime("%Y-%m-%d"));
    if days < 0 {
        words!(
            language,
            "Ausgestellt auf {names} von {issuer}, abgelaufen am {date}.",
            "Made out to {names} by {issuer}, expired on {date}."
        )
    } else {
        words!(
            language,
            "Ausgestellt auf {names} von {issuer}, gültig bis {date} (noch {days} Tage).",
            "Made out to {names} by {issuer}, valid until {date} ({days} more days)."
        )
    }
}

/// The server is believed, as the settings say.
async fn believed(
    case: &Case<'_>,
    report: &Report,
    settings: &Settings,
    place: &Place<'_>,
    agreed: &Agreed,
    pin: Option<String>,
) {
    report.begin(Check::Certificate, place.subject);
    let (language, subject) = (report.language, place.subject);
    let identity = agreed.identity.as_ref();
    let details = identity.map_or_else(String::new, |of| described(language, of));
    let pin = pin.unwrap_or_default();
    match &settings.certificate {
        CertificatePolicy::Verify { .. } => verified(report, subject, identity),
        CertificatePolicy::Pinned(_) => {
            let text = words!(
                language,
                "Der Schlüssel ist der eingetragene ({pin}); er und nichts sonst wird geprüft. {details}",
                "The key is the one that is pinned ({pin}); it and nothing else is checked. {details}"
            );
            report.ok(Check::Certificate, subject, text);
        }
        CertificatePolicy::TrustAlways => {
            let (verdict, remedy) = would_be_verified(case, report, settings, place, &pin).await;
            let text = words!(
                language,
                "certificate = \"trust-always\": Das Zertifikat wird nicht geprüft; wer dazwischen sitzt, kann Mail und Passwort lesen. Gegenwärtiger Schlüssel: {pin}. {verdict} {details}",
                "certificate = \"trust-always\": the certificate is not checked; whoever sits between can read mail and password. Present key: {pin}. {verdict} {details}"
            );
            report.warn(Check::Certificate, subject, text, remedy);
        }
    }
}

/// A certificate that was checked.
pub fn verified(report: &Report, subject: &str, identity: Option<&Identity>) {
    let language = report.language;
    let details = identity.map_or_else(String::new, |of| described(language, of));
    let text = words!(
        language,
        "Geprüft und in Ordnung. {details}",
        "Checked and good. {details}"
    );
    if identity.is_none_or(|of| days(of) >= SOON) {
        report.ok(Check::Certificate, subject, text);
        return;
    }
    let remedy = words!(
        language,
        "Der Betreiber des Servers muss das Zertifikat vorher erneuern; danach nimmt Postbote es nicht mehr an, und die Mail wartet.",
        "The operator of the server has to renew the certificate before that; afterwards Postbote does not accept it, and mail waits."
    );
    report.warn(Check::Certificate, subject, text, remedy);
}

/// What a check would say of a server that is trusted without one.
async fn would_be_verified(
    case: &Case<'_>,
    report: &Report,
    settings: &Settings,
    place: &Place<'_>,
    pin: &str,
) -> (String, String) {
    let language = report.language;
    let policy = CertificatePolicy::Verify { ca_file: None };
    let checked = bare(settings, policy, settings.encryption);
    let pinned = words!(
        language,
        "Ist der Server Ihrer, nehmen Sie ca_file mit seinem Zertifikat, oder certificate = \"pinned\" mit pins = [\"{pin}\"].",
        "If the server is yours, use ca_file with its certificate, or certificate = \"pinned\" with pins = [\"{pin}\"]."
    );
    match Connection::open_at(&checked, case.context, Some(place.address)).await {
        Ok(connection) => {
            connection.quit().await;
            (
                words!(
                    language,
                    "Eine Prüfung bestünde es.",
                    "It would pass a check."
                ),
                words!(
                    language,
                    "Setzen Sie [upstream] certificate = \"verify\": Das Zertifikat ist gültig.",
                    "Set [upstream] certificate = \"verify\": the certificate is valid."
                ),
            )
        }
        Err(failure) => {
            let cause = cause_of(&failure).filter(|cause| is_about_certificate(*cause));
            let verdict = cause.map(|cause| cause.meaning().cause.get(language).to_owned());
            (verdict.unwrap_or_default(), pinned)
        }
    }
}

/// The server is not believed: what it shows is looked at, and no login is tried.
async fn not_believed(
    case: &Case<'_>,
    report: &Report,
    settings: &Settings,
    place: &Place<'_>,
    failure: &Failed,
) {
    let (language, subject) = (report.language, place.subject);
    let trusting = bare(
        settings,
        CertificatePolicy::TrustAlways,
        settings.encryption,
    );
    let (mut text, remedy) = case.explained(report, failure);
    match Connection::open_at(&trusting, case.context, Some(place.address)).await {
        Ok(connection) => {
            if let Some(agreed) = connection.agreed() {
                encrypted(report, subject, &agreed);
                if let Some(identity) = &agreed.identity {
                    text.push(' ');
                    text.push_str(&described(language, identity));
                }
            }
            if let Some(pin) = connection.server_key.map(pin_of) {
                text.push_str(&words!(
                    language,
                    " Gegenwärtiger Schlüssel: {pin}.",
                    " Present key: {pin}."
                ));
            }
            connection.quit().await;
        }
        Err(_) => report.begin(Check::Certificate, subject),
    }
    report.fail(Check::Certificate, subject, text, remedy);
}
