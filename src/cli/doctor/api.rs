//! The way to Microsoft Graph and the Gmail API: line, encryption, token. They tell nothing more
//! without a message.

use std::sync::Arc;

use super::encryption::{self, is_about_certificate};
use super::report::{Check, Report, quote};
use super::{Case, route, senders};
use crate::http::Url;
use crate::net::tls::{self, CertificatePolicy};
use crate::net::{self, NetError};
use crate::oauth::Settings as OAuth;

/// Looks at an API.
pub async fn examine(case: &Case<'_>, report: &Report, url: &Url, oauth: &Arc<OAuth>) {
    line(case, report, url).await;
    let server = oauth.token_url.authority();
    report.begin(Check::Authentication, &server);
    if let Some(ends) = token(case, report, oauth, &server).await {
        let (language, who) = (report.language, quote(&oauth.mailbox));
        let text = words!(
            language,
            "Token für {who} erhalten.{ends}",
            "Got a token for {who}.{ends}"
        );
        report.ok(Check::Authentication, &server, text);
    }
    if let Some(sender) = senders::froms(case).first() {
        let (language, id) = (report.language, &case.tenant.id);
        let text = words!(
            language,
            "Ob diese Absender erlaubt sind, sagt die Schnittstelle erst beim Senden.",
            "Whether these senders are allowed the interface says only when something is sent."
        );
        let remedy = words!(
            language,
            "Gewissheit gibt eine Testmail: postbote test {id} --to EMPFÄNGER",
            "A test mail makes sure: postbote test {id} --to RECIPIENT"
        );
        report.warn(Check::Sender, sender.as_str(), text, remedy);
    }
}

/// Line, encryption and certificate.
async fn line(case: &Case<'_>, report: &Report, url: &Url) {
    let (language, port) = (report.language, url.port());
    let subject = route::subject(url.host().trim_matches(['[', ']']), port);
    report.begin(Check::Connect, &subject);
    let tried = route::tried(case.addresses, port).await;
    let first = tried.first().map(|one| one.address);
    let Some(address) = route::answering(&tried).or(first) else {
        return;
    };
    let patience = case.context.timeouts.patience();
    let transcript = &case.context.net.transcript;
    let failed = |check: Check, error: NetError| {
        let (meaning, detail) = (error.cause.meaning(), quote(&error.detail));
        let text = format!("{} ({detail})", meaning.cause.get(language));
        report.fail(check, &subject, text, meaning.remedy.get(language));
    };
    let socket = match net::connect(&address.to_string(), port, patience, transcript).await {
        Ok(socket) => socket,
        Err(error) => return failed(Check::Connect, error),
    };
    route::reached(report, &subject, &tried, address);
    report.begin(Check::Tls, &subject);
    if !url.is_secure() {
        let text = words!(
            language,
            "http:// zu diesem Rechner selbst, ohne Verschlüsselung.",
            "http:// to this very machine, without encryption."
        );
        report.ok(Check::Tls, &subject, text);
        return;
    }
    let roots = case.context.net.roots.get_or_init(tls::machine_roots);
    let policy = CertificatePolicy::Verify { ca_file: None };
    let config = match tls::client_config(&policy, None, roots, &case.context.secrets) {
        Ok(config) => Arc::new(config),
        Err(error) => {
            let remedy = words!(
                language,
                "Prüfen Sie, ob auf diesem Rechner die Zertifizierungsstellen eingerichtet sind (Paket ca-certificates).",
                "Check that this machine has its certificate authorities (package ca-certificates)."
            );
            report.fail(Check::Tls, &subject, error.to_string(), remedy);
            return;
        }
    };
    match net::handshake(config, url.host(), socket, patience, transcript).await {
        Ok(stream) => {
            let agreed = tls::agreed(stream.get_ref().1);
            encryption::encrypted(report, &subject, &agreed);
            encryption::verified(report, &subject, agreed.identity.as_ref());
        }
        Err(error) if is_about_certificate(error.cause) => failed(Check::Certificate, error),
        Err(error) => failed(Check::Tls, error),
    }
}

/// Gets a token; says how long it is good for. Without one, why.
pub async fn token(
    case: &Case<'_>,
    report: &Report,
    oauth: &Arc<OAuth>,
    subject: &str,
) -> Option<String> {
    let language = report.language;
    match case.context.tokens.access(oauth, None).await {
        Ok(_) => {
            let all = case.context.tokens.expiries();
            let left = all.iter().find(|(account, _)| *account == oauth.account);
            let minutes = left.map_or(0.0, |(_, seconds)| seconds / 60.0).round();
            Some(words!(
                language,
                " Das Token gilt noch {minutes} min und wird von selbst erneuert.",
                " The token is good for {minutes} more min and is renewed by itself."
            ))
        }
        Err(error) => {
            let cause = oauth.fill(error.meaning.cause.get(language));
            let remedy = oauth.fill(error.meaning.remedy.get(language));
            let said = quote(&error.text);
            let text = format!("{cause} ({said})");
            report.fail(Check::Authentication, subject, text, remedy);
            None
        }
    }
}
