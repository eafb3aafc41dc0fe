//! What people are told of: the events, and their words in German and English.

use jiff::Timestamp;

use crate::delivery::attempt::{LaneNews, Now, Way};
use crate::delivery::lane::{self, Health};
use crate::explain::Language;
use crate::failure::Class;
use crate::message::{Recipient, TenantId};
use crate::oauth::ends::{End, What};
use crate::spool::{RecipientState, RecipientStatus, Stored};
use crate::tenant::Tenant;
use crate::tenant::route::{Route, RouteKey};
use crate::transport::Failure;

/// Whose the news of the system relay are: no tenant's. They stand in the list and in the log.
pub const OPERATOR: &str = "@system";

/// What happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Event {
    /// Mail cannot leave by a route.
    RouteFailed,
    /// It can again.
    RouteWorks,
    /// It leaves by the system relay meanwhile.
    Fallback,
    /// A message was given up or refused for good.
    GivenUp,
    /// The server refuses the sender.
    RefusedSender,
    /// A server that is always trusted has another key.
    ServerKeyChanged,
    /// A consent is about to end.
    AuthorisationExpiring,
    /// A client secret is.
    SecretExpiring,
    /// A client certificate is.
    CertificateExpiring,
}

impl Event {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RouteFailed,
        Self::RouteWorks,
        Self::Fallback,
        Self::GivenUp,
        Self::RefusedSender,
        Self::ServerKeyChanged,
        Self::AuthorisationExpiring,
        Self::SecretExpiring,
        Self::CertificateExpiring,
    ];

    /// Its stable name.
    pub fn word(self) -> &'static str {
        match self {
            Self::RouteFailed => "route-failed",
            Self::RouteWorks => "route-works",
            Self::Fallback => "fallback",
            Self::GivenUp => "given-up",
            Self::RefusedSender => "refused-sender",
            Self::ServerKeyChanged => "server-key-changed",
            Self::AuthorisationExpiring => "authorisation-expiring",
            Self::SecretExpiring => "secret-expiring",
            Self::CertificateExpiring => "certificate-expiring",
        }
    }

    /// The subject of a mail about it.
    pub(super) fn subject(word: &str, language: Language) -> &'static str {
        let event = Self::ALL.into_iter().find(|event| event.word() == word);
        let (de, en) = match event {
            Some(Self::RouteFailed) => ("Der Mailversand ist gestört", "Mail cannot be sent"),
            Some(Self::RouteWorks) => (
                "Der Mailversand funktioniert wieder",
                "Mail can be sent again",
            ),
            Some(Self::Fallback) => (
                "Mails gehen ersatzweise über das System",
                "Mail leaves by the system relay instead",
            ),
            Some(Self::GivenUp) => (
                "Mails konnten nicht zugestellt werden",
                "Mail could not be delivered",
            ),
            Some(Self::RefusedSender) => (
                "Der Mailserver lehnt den Absender ab",
                "The mail server refuses the sender",
            ),
            Some(Self::ServerKeyChanged) => (
                "Der Mailserver hat einen anderen Schlüssel",
                "The mail server has another key",
            ),
            Some(Self::AuthorisationExpiring) => (
                "Eine Mail-Anmeldung läuft ab",
                "A mail authorisation is about to end",
            ),
            Some(Self::SecretExpiring) => (
                "Ein geheimer Schlüssel für den Mailversand läuft ab",
                "A secret for sending mail is about to end",
            ),
            Some(Self::CertificateExpiring) => (
                "Ein Zertifikat für den Mailversand läuft ab",
                "A certificate for sending mail is about to end",
            ),
            None => ("Hinweis zum Mailversand", "Notice about sending mail"),
        };
        pick(language, de, en)
    }
}

pub(super) fn pick<'a>(language: Language, de: &'a str, en: &'a str) -> &'a str {
    match language {
        Language::De => de,
        Language::En => en,
    }
}

/// Something that the people of a tenant should hear of.
#[derive(Debug, Clone)]
pub struct News {
    /// Whose people: a tenant's id, or [`OPERATOR`].
    pub tenant: String,
    /// What.
    pub event: Event,
    /// In words, in the tenant's language.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// News with the same mark are told once, for ever; empty: it has none.
    pub mark: String,
}

/// What a finished attempt means for the people: its route fails for good or for long, or works
/// again. `health`: after it.
pub(in crate::delivery) fn of_route(
    health: &mut Health,
    way: &Way,
    news: &LaneNews,
    now: &Now,
    at: Timestamp,
) -> Vec<News> {
    match news {
        LaneNews::Failed(failure) => of_failure(health, &way.tenant, &way.route, failure, at)
            .into_iter()
            .collect(),
        LaneNews::Fine { .. } if health.is_up() => {
            health.told_fallback = false;
            let told = std::mem::take(&mut health.told_failing);
            let server = way.route.upstream().describe();
            let works = |id: String| {
                let known = TenantId::parse(&id).and_then(|id| now.directory.tenant(&id));
                let language = known.map_or(now.language, |t| t.language);
                let text = match language {
                    Language::De => format!(
                        "Der Versand über {server} funktioniert wieder. Was gewartet hat, geht jetzt hinaus."
                    ),
                    Language::En => {
                        format!("Sending through {server} works again. What has waited leaves now.")
                    }
                };
                News::new(id, Event::RouteWorks, text)
            };
            told.into_iter().map(works).collect()
        }
        LaneNews::Fine { .. } | LaneNews::Untried => Vec::new(),
    }
}

/// A failure of a route, if it is time to tell the tenant's people of it, once.
pub(in crate::delivery) fn of_failure(
    health: &mut Health,
    tenant: &Tenant,
    route: &Route,
    failure: &Failure,
    at: Timestamp,
) -> Option<News> {
    let long = |since: Timestamp| lane::after(since, tenant.policy.fallback_after) <= at;
    let due = health.suspended_since.is_some() || health.down_since.is_some_and(long);
    if !due || health.is_up() || !health.told_failing.insert(tenant.id.to_string()) {
        return None;
    }
    let language = tenant.language;
    let (upstream, cause) = (route.upstream(), failure.meaning.cause.get(language));
    let server = upstream.describe();
    let text = match language {
        Language::De => format!(
            "Der Versand über {server} funktioniert nicht; die Mails werden aufbewahrt und gehen hinaus, sobald er wieder geht.\n{}\nMeldung: {failure}",
            upstream.fill(cause)
        ),
        Language::En => format!(
            "Sending through {server} does not work; the mail is kept and leaves as soon as it works again.\n{}\nMessage: {failure}",
            upstream.fill(cause)
        ),
    };
    let remedy = upstream.fill(failure.meaning.remedy.get(language));
    Some(News {
        remedy,
        ..News::new(tenant.id.to_string(), Event::RouteFailed, text)
    })
}

/// Mail of a tenant has left by the system relay because its own route has failed for long enough;
/// notices and mail to support go that way at once. `health`: of its own.
pub(in crate::delivery) fn of_fallback(
    health: &mut Health,
    way: &Way,
    at: Timestamp,
) -> Option<News> {
    let after = way.tenant.policy.fallback_after;
    if health
        .failing_since
        .is_none_or(|since| lane::after(since, after) > at)
    {
        return None;
    }
    if std::mem::replace(&mut health.told_fallback, true) {
        return None;
    }
    let tenant = &way.tenant;
    health.told_failing.insert(tenant.id.to_string());
    let reason = &health.reason;
    let text = match tenant.language {
        Language::De => format!(
            "Der eigene Mailserver ist gestört; die Mails gehen ersatzweise über das System hinaus, mit dessen Absender oder dem eigenen, wie es der Betreiber vorsieht.\nMeldung des eigenen Servers: {reason}"
        ),
        Language::En => format!(
            "Your own mail server does not work; mail leaves by the system relay instead, with its sender or yours, as the operator has set it.\nMessage of your own server: {reason}"
        ),
    };
    let id = &tenant.id;
    let remedy = match tenant.language {
        Language::De => format!("Den eigenen Weg prüfen: postbote test {id}."),
        Language::En => format!("Check the own route: postbote test {id}."),
    };
    Some(News {
        remedy,
        ..News::new(tenant.id.to_string(), Event::Fallback, text)
    })
}

/// A server that is always trusted shows another key than before.
pub(in crate::delivery) fn of_key(
    before: &Health,
    after: &Health,
    way: &Way,
    now: &Now,
) -> Option<News> {
    let (Some(old), Some(new)) = (&before.key_seen, &after.key_seen) else {
        return None;
    };
    if old == new {
        return None;
    }
    let (tenant, server) = (&way.tenant, way.route.upstream().describe());
    let (text, remedy) = match now.language_of(&way.key) {
        Language::De => (
            format!(
                "{server} hat einen anderen Schlüssel als bisher: sha256/{new} statt sha256/{old}."
            ),
            "Hat niemand das Zertifikat des Servers erneuert, liest vielleicht jemand mit: beim Betreiber des Servers nachfragen und certificate = \"verify\" oder \"pinned\" setzen.",
        ),
        Language::En => (
            format!("{server} has another key than before: sha256/{new} instead of sha256/{old}."),
            "If nobody has renewed the server's certificate, somebody may be reading along: ask whoever runs the server, and set certificate = \"verify\" or \"pinned\".",
        ),
    };
    let whose = match way.key {
        RouteKey::Own(_) => tenant.id.to_string(),
        RouteKey::System => OPERATOR.to_owned(),
    };
    Some(News {
        remedy: remedy.to_owned(),
        ..News::new(whose, Event::ServerKeyChanged, text)
    })
}

/// Days before an end at which people are told of it.
const DAYS_BEFORE: [i64; 3] = [1, 7, 30];

/// What of an authorisation is about to end. `whose`: the route's, and the language of its people.
pub(in crate::delivery) fn of_end(
    whose: (&RouteKey, Language),
    end: &End,
    server: &str,
) -> Option<News> {
    let (key, language) = whose;
    let (at, days) = (end.at?, end.days()?);
    let before = DAYS_BEFORE.into_iter().find(|before| days <= *before)?;
    let tenant = match key {
        RouteKey::Own(id) => id.to_string(),
        RouteKey::System => OPERATOR.to_owned(),
    };
    let when = at.to_zoned(jiff::tz::TimeZone::system());
    let day = when
        .strftime(pick(language, "%d.%m.%Y", "%-d %B %Y"))
        .to_string();
    let stable = when.strftime("%Y-%m-%d").to_string();
    let (event, (de, en), (remedy_de, remedy_en)) = match end.what {
        What::TlsCertificate => (
            Event::CertificateExpiring,
            (
                "Das Client-Zertifikat (client_certificate)",
                "The client certificate (client_certificate)",
            ),
            (
                "Beim Betreiber des Mailservers ein neues Zertifikat holen und als client_certificate und client_key eintragen.",
                "Get a new certificate from whoever runs the mail server, and set it as client_certificate and client_key.",
            ),
        ),
        What::ClientCertificate => (
            Event::CertificateExpiring,
            ("Das Client-Zertifikat", "The client certificate"),
            (
                "Ein neues Zertifikat machen, beim Anbieter hinterlegen (Entra: Zertifikate & Geheimnisse) und als client_certificate eintragen.",
                "Make a new certificate, register it at the provider (Entra: Certificates & secrets) and set it as client_certificate.",
            ),
        ),
        What::ClientSecret => (
            Event::SecretExpiring,
            ("Der geheime Clientschlüssel", "The client secret"),
            (
                "In Entra unter Zertifikate & Geheimnisse nachsehen, wann er endet, einen neuen Clientschlüssel anlegen und seinen Wert mit postbote vault set hinterlegen.",
                "See in Entra under Certificates & secrets when it ends, make a new client secret, and store its value with postbote vault set.",
            ),
        ),
        What::IdleToken | What::Token => (
            Event::AuthorisationExpiring,
            ("Die Zustimmung zum Mailversand", "The consent to send mail"),
            (
                "Neu zustimmen: postbote oauth connect MANDANT.",
                "Consent again: postbote oauth connect TENANT.",
            ),
        ),
    };
    let (latest_de, latest_en) = match end.what {
        What::ClientSecret => ("spätestens ", "at the latest "),
        What::ClientCertificate | What::TlsCertificate | What::IdleToken | What::Token => ("", ""),
    };
    let text = match (language, days) {
        (Language::De, ..0) => format!("{de} für {server} ist {latest_de}am {day} abgelaufen."),
        (Language::De, 0) => format!("{de} für {server} läuft {latest_de}heute ab."),
        (Language::De, 1) => format!("{de} für {server} läuft {latest_de}morgen ab, am {day}."),
        (Language::De, _) => {
            format!("{de} für {server} läuft {latest_de}am {day} ab, in {days} Tagen.")
        }
        (Language::En, ..0) => format!("{en} for {server} has ended {latest_en}on {day}."),
        (Language::En, 0) => format!("{en} for {server} ends {latest_en}today."),
        (Language::En, 1) => format!("{en} for {server} ends {latest_en}tomorrow, on {day}."),
        (Language::En, _) => {
            format!("{en} for {server} ends {latest_en}on {day}, in {days} days.")
        }
    };
    let name = tenant.trim_start_matches('@');
    let remedy = pick(language, remedy_de, remedy_en);
    Some(News {
        remedy: remedy.replace("TENANT", name).replace("MANDANT", name),
        mark: format!("{}/{}/{stable}/{before}", event.word(), end.what.word()),
        ..News::new(tenant, event, text)
    })
}

/// A message that some or all do not get. `failure`: what the server said; `None`: its time was over.
pub(in crate::delivery) fn given_up(
    way: &Way,
    stored: &Stored,
    states: &[RecipientState],
    failure: Option<&Failure>,
) -> Option<News> {
    if stored.kind.is_ours() {
        return None;
    }
    let tenant = &way.tenant;
    let recipients = stored.envelope.recipients.iter().zip(states);
    let failed: Vec<(&Recipient, &RecipientState)> = recipients
        .filter(|(r, state)| state.status == RecipientStatus::Bounced && !r.is_copy())
        .collect();
    let (first, state) = failed.first()?;
    let more = failed.len() - 1;
    let and = match (tenant.language, more) {
        (_, 0) => String::new(),
        (Language::De, n) => format!(" und {n} weitere"),
        (Language::En, n) => format!(" and {n} more"),
    };
    let id = stored.id;
    let reply = match (failure, tenant.language) {
        (Some(failure), _) => failure.to_string(),
        (None, Language::De) => format!("aufgegeben; zuletzt: {}", last_words(&state.reply)),
        (None, Language::En) => format!("given up; last: {}", last_words(&state.reply)),
    };
    let text = match tenant.language {
        Language::De => format!("Nachricht {id} an {}{and}: {reply}", first.address),
        Language::En => format!("Message {id} to {}{and}: {reply}", first.address),
    };
    let (event, remedy) = match failure {
        Some(failure) => {
            let event = match failure.class {
                Class::Sender => Event::RefusedSender,
                _ => Event::GivenUp,
            };
            let remedy = failure.meaning.remedy.get(tenant.language);
            (event, way.route.upstream().fill(remedy))
        }
        None => {
            let id = &tenant.id;
            let remedy = match tenant.language {
                Language::De => format!(
                    "Den Versand prüfen (postbote test {id}), dann noch einmal versuchen: postbote queue retry --tenant {id} --state failed."
                ),
                Language::En => format!(
                    "Check sending (postbote test {id}), then try again: postbote queue retry --tenant {id} --state failed."
                ),
            };
            (Event::GivenUp, remedy)
        }
    };
    Some(News {
        remedy,
        ..News::new(tenant.id.to_string(), event, text)
    })
}

impl News {
    fn new(tenant: String, event: Event, text: String) -> Self {
        Self {
            tenant,
            event,
            text,
            remedy: String::new(),
            mark: String::new(),
        }
    }
}

/// What a server said last, without our own words in front of it.
fn last_words(reply: &str) -> &str {
    let ours = reply.starts_with("given up after");
    match reply.split_once(": ") {
        Some((_, words)) if ours => words,
        _ => reply,
    }
}
