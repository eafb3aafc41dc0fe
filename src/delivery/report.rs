//! What an attempt leaves behind for people: log lines, and notices that are owed.

use std::time::Duration;

use jiff::Timestamp;

use super::attempt::{Now, Tools, Way};
use super::bounce;
use super::sender::return_path;
use crate::explain::Language;
use crate::spool::{Kind, Notice, Owed, OwedRecipient, RecipientState, Stored};
use crate::tenant::route::{Route, RouteKey};
use crate::transport::Failure;

#[expect(
    clippy::too_many_arguments,
    reason = "one log line has that many fields"
)]
pub(super) fn log_recipient(
    tools: &Tools,
    way: &Way,
    stored: &Stored,
    index: usize,
    event: &str,
    dsn: &str,
    relay: &str,
    reply: &str,
) {
    let to = stored
        .envelope
        .recipients
        .get(index)
        .map(|r| r.address.to_string())
        .unwrap_or_default();
    let delay =
        Duration::try_from(Timestamp::now().duration_since(stored.accepted)).unwrap_or_default();
    tools
        .metrics
        .delivery(stored.tenant.as_str(), way.key.word(), event);
    let route = match &way.route {
        Route::System { fallback: true, .. } => "system-fallback",
        Route::System { .. } | Route::Own(_) => way.key.word(),
    };
    tracing::info!(
        id = %stored.id, tenant = %stored.tenant, event = event, to = to, route = route, relay = relay,
        attempt = stored.attempts + 1, delay = format!("{:.3}", delay.as_secs_f64()), dsn = dsn, reply = reply
    );
}

/// The notice that is owed for failed recipients; `None` where nobody is to be told.
pub(super) fn owed(
    now: &Now,
    way: &Way,
    stored: &Stored,
    states: &[RecipientState],
    failures: Option<&[(usize, Failure)]>,
) -> Option<Owed> {
    if stored.kind == Kind::Bounce || stored.envelope.mail_from.is_none() {
        return None;
    }
    let language = way.tenant.language;
    let newly: Vec<(usize, Option<&Failure>)> = match failures {
        Some(failures) => failures.iter().map(|(i, f)| (*i, Some(f))).collect(),
        None => stored
            .open_recipients()
            .into_iter()
            .map(|i| (i, None))
            .collect(),
    };
    let recipients: Vec<OwedRecipient> = newly
        .into_iter()
        .filter(|(index, _)| {
            stored
                .envelope
                .recipients
                .get(*index)
                .is_some_and(crate::message::Recipient::wants_failure)
        })
        .map(|(index, failure)| owed_recipient(stored, states, index, failure, language))
        .collect();
    if recipients.is_empty() {
        return None;
    }
    Some(bounce::owed(
        stored,
        &return_path(&way.tenant, stored),
        recipients,
        now,
    ))
}

fn owed_recipient(
    stored: &Stored,
    states: &[RecipientState],
    index: usize,
    failure: Option<&Failure>,
    language: Language,
) -> OwedRecipient {
    let recipient = &stored.envelope.recipients[index];
    OwedRecipient {
        address: recipient.address.to_string(),
        orcpt: recipient.orcpt.clone(),
        status: failure.map_or_else(|| "5.4.7".to_owned(), Failure::dsn),
        reply: states
            .get(index)
            .map(|s| s.reply.clone())
            .unwrap_or_default(),
        relay: failure
            .filter(|f| f.reply.is_some())
            .map(|f| f.relay.clone())
            .unwrap_or_default(),
        cause: failure
            .map(|f| f.meaning.cause.get(language).to_owned())
            .unwrap_or_default(),
        remedy: failure
            .map(|f| f.meaning.remedy.get(language).to_owned())
            .unwrap_or_default(),
    }
}

/// The notice for recipients whose sender wants to hear of success (RFC 3461 section 5.2.2) where
/// the upstream knows no DSN and could not tell.
pub(super) fn owed_for_success(
    now: &Now,
    way: &Way,
    stored: &Stored,
    states: &[RecipientState],
    sent: &[usize],
) -> Option<Owed> {
    if stored.kind.is_ours() || stored.envelope.mail_from.is_none() {
        return None;
    }
    let recipients: Vec<OwedRecipient> = sent
        .iter()
        .filter(|index| {
            stored.envelope.recipients[**index]
                .notify
                .is_some_and(|n| n.success)
        })
        .map(|index| OwedRecipient {
            status: "2.0.0".to_owned(),
            ..owed_recipient(stored, states, *index, None, way.tenant.language)
        })
        .collect();
    if recipients.is_empty() {
        return None;
    }
    let mut owed = bounce::owed(stored, &return_path(&way.tenant, stored), recipients, now);
    owed.notice = Notice::Relayed;
    Some(owed)
}

/// What support wants to know: version, tenant, route and its last error. Nothing secret: what is
/// in it stands in the log as well.
pub(super) fn information(now: &Now, way: &Way, stored: &Stored) -> String {
    let german = way.tenant.language == Language::De;
    let say = |de: &'static str, en: &'static str| if german { de } else { en };
    let last = |error: &Option<(Timestamp, String)>| {
        error.as_ref().map_or_else(
            || say("keiner", "none").to_owned(),
            |(at, text)| format!("{} {text}", crate::message::date::format(*at)),
        )
    };
    let mut lines = vec![
        format!("Postbote {}", env!("CARGO_PKG_VERSION")),
        format!("{}: {}", say("Rechner", "Host"), now.hostname),
        format!(
            "{}: {} ({})",
            say("Mandant", "Tenant"),
            way.tenant.id,
            way.tenant.name
        ),
        format!(
            "{}: {} ({})",
            say("Weg", "Route"),
            way.key,
            way.route.upstream().describe()
        ),
    ];
    // What the shared relay last said may have been of another tenant's mail.
    match way.key {
        RouteKey::Own(_) => lines.push(format!(
            "{}: {}",
            say("Letzter Fehler", "Last error"),
            last(&way.health.last_error)
        )),
        RouteKey::System if !stored.reason.is_empty() => lines.push(format!(
            "{}: {}",
            say("Letzter Fehler", "Last error"),
            stored.reason
        )),
        RouteKey::System => {}
    }
    if let Some(own) = &way.own_error {
        lines.push(format!(
            "{}: {}",
            say(
                "Letzter Fehler des eigenen Wegs",
                "Last error of the own route"
            ),
            last(&Some(own.clone()))
        ));
    }
    lines.push(format!("{}: {}", say("Nachricht", "Message"), stored.id));
    lines.push(format!(
        "{}: {}, {}: {}",
        say("Zugang", "Listener"),
        stored.origin.listener,
        say("Anmeldung", "Login"),
        stored.origin.login.as_deref().unwrap_or("-")
    ));
    lines.push(String::new());
    lines.join("\n")
}
