//! What the people behind a tenant are told: its route fails or works again, mail was given up, an
//! authorisation is about to end. One notice an event; many of a kind become one; all are kept in
//! the message centre, and a mail about them leaves as soon as a way is open. Never about themselves.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::attempt::{LaneNews, Now, Way};
use super::bounce::quoted;
use super::lane::{self, Health};
use super::scheduler::{Scheduler, lock};
use crate::explain::Language;
use crate::failure::Class;
use crate::message::{Envelope, Recipient, TenantId, date, rfc2047};
use crate::oauth::ends::{End, What};
use crate::prepare::Origin;
use crate::spool::{
    Admitted, Kind, Note, Noted, RecipientState, RecipientStatus, Spool, Spooled, StoreError,
    Stored,
};
use crate::tenant::Tenant;
use crate::tenant::route::{self, Route, RouteKey};
use crate::transport::Failure;

/// Nothing new for so long: what was collected is one notice.
const QUIET: Duration = Duration::from_secs(3);
/// So long is collected at most.
const COLLECTED: Duration = Duration::from_secs(60);
/// About one kind of event a tenant gets one mail in this time; further ones wait for a digest.
const SPACING: Duration = Duration::from_secs(15 * 60);
/// How many of many are named.
const NAMED: usize = 10;
/// Kinds of events of tenants that are collected at once; there are never more in earnest.
const COLLECTING_LIMIT: usize = 10_000;
/// How often it is looked whether a way has opened.
const LOOK: Duration = Duration::from_secs(2);

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
    fn subject(word: &str, language: Language) -> &'static str {
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
                "Ein Geheimnis für den Mailversand läuft ab",
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

fn pick<'a>(language: Language, de: &'a str, en: &'a str) -> &'a str {
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

/// News of one kind that come together.
#[derive(Debug)]
struct Heap {
    since: Instant,
    last: Instant,
    count: usize,
    texts: Vec<String>,
    remedies: Vec<String>,
    mark: String,
}

/// What has happened lately.
#[derive(Debug, Default)]
pub struct Collector {
    heaps: Mutex<HashMap<(String, Event, String), Heap>>,
    changed: Notify,
}

impl Collector {
    /// Takes news; they are told a little later, together with others of their kind.
    pub fn push(&self, news: News) {
        let now = Instant::now();
        let mut heaps = self.heaps.lock().unwrap_or_else(PoisonError::into_inner);
        if heaps.len() >= COLLECTING_LIMIT {
            return;
        }
        let heap = heaps
            .entry((news.tenant, news.event, news.mark.clone()))
            .or_insert_with(|| Heap {
                since: now,
                last: now,
                count: 0,
                texts: Vec::new(),
                remedies: Vec::new(),
                mark: news.mark,
            });
        heap.last = now;
        heap.count += 1;
        if heap.texts.len() < NAMED {
            heap.texts.push(news.text);
        }
        if heap.remedies.len() < NAMED && !heap.remedies.contains(&news.remedy) {
            heap.remedies.push(news.remedy);
        }
        drop(heaps);
        self.changed.notify_one();
    }

    /// Takes several.
    pub fn extend(&self, news: impl IntoIterator<Item = News>) {
        for one in news {
            self.push(one);
        }
    }

    fn is_empty(&self) -> bool {
        let heaps = self.heaps.lock().unwrap_or_else(PoisonError::into_inner);
        heaps.is_empty()
    }

    /// What is complete. `all`: everything, at the end.
    fn take(&self, all: bool) -> Vec<(String, Event, Heap)> {
        let now = Instant::now();
        let mut heaps = self.heaps.lock().unwrap_or_else(PoisonError::into_inner);
        let complete = |heap: &Heap| {
            all || now.saturating_duration_since(heap.last) >= QUIET
                || now.saturating_duration_since(heap.since) >= COLLECTED
        };
        let keys: Vec<_> = heaps
            .iter()
            .filter(|(_, heap)| complete(heap))
            .map(|(key, _)| key.clone())
            .collect();
        keys.into_iter()
            .filter_map(|key| heaps.remove(&key).map(|heap| (key.0, key.1, heap)))
            .collect()
    }
}

/// What a finished attempt means for the people: its route fails for good or for long, or works
/// again. `health`: after it.
pub(super) fn of_route(
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
pub(super) fn of_failure(
    health: &mut Health,
    tenant: &Tenant,
    route: &Route,
    failure: &Failure,
    at: Timestamp,
) -> Option<News> {
    let long = |since: Timestamp| lane::after(since, tenant.policy.fallback_after) <= at;
    let due = health.suspended_since.is_some() || health.failing_since.is_some_and(long);
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
pub(super) fn of_fallback(health: &mut Health, way: &Way, at: Timestamp) -> Option<News> {
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
pub(super) fn of_key(before: &Health, after: &Health, way: &Way) -> Option<News> {
    let (Some(old), Some(new)) = (&before.key_seen, &after.key_seen) else {
        return None;
    };
    if old == new {
        return None;
    }
    let (tenant, server) = (&way.tenant, way.route.upstream().describe());
    let (text, remedy) = match tenant.language {
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
pub(super) fn of_end(whose: (&RouteKey, Language), end: &End, server: &str) -> Option<News> {
    let (key, language) = whose;
    let (at, days) = (end.at?, end.days()?);
    let before = DAYS_BEFORE.into_iter().find(|before| days <= *before)?;
    let tenant = match key {
        RouteKey::Own(id) => id.to_string(),
        RouteKey::System => OPERATOR.to_owned(),
    };
    let day = at.to_string().chars().take(10).collect::<String>();
    let (event, (de, en), (remedy_de, remedy_en)) = match end.what {
        What::ClientCertificate => (
            Event::CertificateExpiring,
            ("Das Client-Zertifikat", "The client certificate"),
            (
                "Ein neues Zertifikat machen, beim Anbieter hinterlegen (Entra: Zertifikate & Geheimnisse) und in der Mandantendatei als client_certificate eintragen.",
                "Make a new certificate, register it at the provider (Entra: Certificates & secrets) and set it as client_certificate in the tenant's file.",
            ),
        ),
        What::ClientSecret => (
            Event::SecretExpiring,
            (
                "Der geheime Clientschlüssel (spätestens)",
                "The client secret (at the latest)",
            ),
            (
                "In Entra unter Zertifikate & Geheimnisse einen neuen Clientschlüssel anlegen und seinen Wert mit postbote vault set hinterlegen.",
                "Make a new client secret in Entra under Certificates & secrets, and store its value with postbote vault set.",
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
    let text = match language {
        Language::De if days < 0 => format!("{de} für {server} ist am {day} abgelaufen."),
        Language::De => format!("{de} für {server} läuft am {day} ab, in {days} Tagen."),
        Language::En if days < 0 => format!("{en} for {server} has ended on {day}."),
        Language::En => format!("{en} for {server} ends on {day}, in {days} days."),
    };
    let name = tenant.trim_start_matches('@');
    let remedy = pick(language, remedy_de, remedy_en);
    Some(News {
        remedy: remedy.replace("TENANT", name).replace("MANDANT", name),
        mark: format!("{}/{}/{day}/{before}", event.word(), end.what.word()),
        ..News::new(tenant, event, text)
    })
}

/// A message that some or all do not get. `failure`: what the server said; `None`: its time was over.
pub(super) fn given_up(
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
    let (id, reply) = (stored.id, &state.reply);
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
                    "Den Versand prüfen (postbote test {id}), dann noch einmal versuchen: postbote queue retry --state failed."
                ),
                Language::En => format!(
                    "Check sending (postbote test {id}), then try again: postbote queue retry --state failed."
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

impl Heap {
    /// Many as one.
    fn into_note(self, tenant: &str, event: Event, language: Language) -> Note {
        let text = match self.texts.as_slice() {
            [one] if self.count == 1 => one.clone(),
            some => {
                let mut lines = vec![match language {
                    Language::De => format!("{} Meldungen dieser Art:", self.count),
                    Language::En => format!("{} notices of this kind:", self.count),
                }];
                lines.extend(some.iter().cloned());
                let more = self.count - some.len();
                if more > 0 {
                    lines.push(match language {
                        Language::De => {
                            format!("… und {more} weitere: postbote queue list --state failed")
                        }
                        Language::En => {
                            format!("… and {more} more: postbote queue list --state failed")
                        }
                    });
                }
                lines.join("\n")
            }
        };
        Note {
            tenant: tenant.to_string(),
            event: event.word(),
            text,
            remedy: self.remedies.join("\n"),
            mark: self.mark,
        }
    }
}

impl Scheduler {
    /// Turns news into notices and notices into mail until delivery stops.
    pub(super) async fn run_notices(&self) {
        let notices = &self.inner.tools.notices;
        // What an earlier run could not tell.
        let mut untold = true;
        loop {
            untold = match self.tell(false, untold).await {
                Ok(untold) => untold,
                Err(error) => {
                    tracing::error!(event = "notice-failed", reason = %error);
                    true
                }
            };
            let idle = !untold && notices.is_empty();
            tokio::select! {
                () = self.inner.stopped() => break,
                () = notices.changed.notified() => tokio::select! {
                    () = self.inner.stopped() => break,
                    () = tokio::time::sleep(Duration::from_secs(1)) => {}
                },
                () = tokio::time::sleep(LOOK), if !idle => {}
            }
        }
        // What has just happened is not forgotten; its mail comes after the next start.
        let _ = self.keep(true).await;
    }

    /// Keeps what is complete; whether there was anything.
    async fn keep(&self, all: bool) -> Result<bool, StoreError> {
        let tools = &self.inner.tools;
        let now = self.inner.now.load_full();
        let complete = tools.notices.take(all);
        let any = !complete.is_empty();
        for (tenant, event, heap) in complete {
            let language = TenantId::parse(&tenant)
                .and_then(|id| now.directory.tenant(&id))
                .map_or(now.language, |t| t.language);
            let note = heap.into_note(&tenant, event, language);
            tracing::warn!(event = "notice", tenant = %tenant, kind = event.word(), text = %note.text.replace('\n', " | "));
            tools.spool.keep_notice(note).await?;
        }
        Ok(any)
    }

    /// One round; whether something is left untold.
    async fn tell(&self, all: bool, untold: bool) -> Result<bool, StoreError> {
        if !self.keep(all).await? && !untold {
            return Ok(false);
        }
        let spool = self.inner.tools.spool.clone();
        let all = tokio::task::spawn_blocking(move || spool.notices(None))
            .await
            .unwrap_or_else(|e| Err(StoreError::Failed(e.to_string())))?;
        let mut by_tenant: HashMap<&str, Vec<&Noted>> = HashMap::new();
        for noted in &all {
            by_tenant.entry(&noted.tenant).or_default().push(noted);
        }
        let now = self.inner.now.load_full();
        let mut left = false;
        for (name, noted) in by_tenant {
            let open: Vec<&Noted> = noted.iter().copied().filter(|n| n.told.is_none()).collect();
            if open.is_empty() {
                continue;
            }
            let tenant = TenantId::parse(name).and_then(|id| now.directory.tenant(&id).cloned());
            let Some(tenant) = tenant else {
                continue; // nobody may be told in its name
            };
            let lately = told_lately(&noted);
            if open.iter().all(|n| lately.contains(n.event.as_str())) {
                left = true;
                continue;
            }
            let Some(pinned) = self.open_way(&now, &tenant) else {
                left = true;
                continue;
            };
            let message = compose(&tenant, &now.hostname, &open);
            match self.submit_notice(&tenant, pinned, &message).await {
                Ok(()) => {
                    let seqs = open.iter().map(|n| n.seq).collect();
                    self.inner.tools.spool.notices_told(seqs).await?;
                }
                Err(error) => {
                    tracing::error!(event = "notice-failed", tenant = %tenant.id, reason = %error);
                    left = true;
                }
            }
        }
        Ok(left)
    }

    /// Whether a notice of this tenant can leave now: by its first choice, or by the relay, to which
    /// it is then bound.
    fn open_way(&self, now: &Now, tenant: &Tenant) -> Option<Option<RouteKey>> {
        let system = now.directory.system();
        let first = route::first_choice(tenant, system).ok()?;
        let queues = lock(&self.inner);
        if queues.health(&first.key(tenant)).is_up() {
            return Some(None);
        }
        let relay = route::fallback(tenant, system)?;
        let key = relay.key(tenant);
        queues.health(&key).is_up().then_some(Some(key))
    }

    async fn submit_notice(
        &self,
        tenant: &Tenant,
        pinned: Option<RouteKey>,
        message: &[u8],
    ) -> Result<(), StoreError> {
        let spool: &Spool = &self.inner.tools.spool;
        let mut content = spool.incoming();
        content
            .push(message)
            .map_err(|e| StoreError::Failed(e.to_string()))?;
        let recipients = tenant.notices.iter().cloned().map(Recipient::new).collect();
        let admitted = Admitted {
            tenant: tenant.id.clone(),
            kind: Kind::Notice,
            envelope: Envelope {
                mail_from: None,
                recipients,
                smtputf8: false,
                ret_full: None,
                envid: None,
            },
            origin: Origin::default(),
            content,
            held: false,
            hung_up: None,
        };
        let mut spooled: Spooled = spool.commit(admitted).await?;
        {
            // Delivery learns at once that it waits and which way it takes.
            let mut queues = lock(&self.inner);
            if let Some(key) = pinned {
                let queue = queues.tenants.entry(tenant.id.clone()).or_default();
                queue.pinned.insert(spooled.seq(), key);
            }
            spool.release(&mut spooled);
        }
        tracing::info!(id = %spooled.id(), tenant = %tenant.id, event = "notice-sent");
        Ok(())
    }
}

/// Events of which a mail was written so lately that the next one waits.
fn told_lately<'a>(noted: &[&'a Noted]) -> HashSet<&'a str> {
    let now = Timestamp::now();
    noted
        .iter()
        .filter(|n| {
            let told = n.told.as_ref().and_then(|t| t.parse::<Timestamp>().ok());
            told.and_then(|told| Duration::try_from(now.duration_since(told)).ok())
                .is_some_and(|age| age < SPACING)
        })
        .map(|n| n.event.as_str())
        .collect()
}

/// The mail about some notices.
fn compose(tenant: &Tenant, hostname: &str, notices: &[&Noted]) -> Vec<u8> {
    let language = tenant.language;
    let subject = match notices {
        [one] => format!("Postbote: {}", Event::subject(&one.event, language)),
        [first, rest @ ..] if rest.iter().all(|n| n.event == first.event) => {
            format!("Postbote: {}", Event::subject(&first.event, language))
        }
        several => match language {
            Language::De => format!("Postbote: {} Hinweise zum Mailversand", several.len()),
            Language::En => format!("Postbote: {} notices about sending mail", several.len()),
        },
    };
    let mut text = String::new();
    for notice in notices {
        let at = notice.at.parse::<Timestamp>().map(date::format);
        text.push_str(&format!(
            "{}\n{}\n",
            at.unwrap_or_default(),
            Event::subject(&notice.event, language)
        ));
        text.push_str(&format!("\n{}\n", notice.text));
        if !notice.remedy.is_empty() {
            let label = pick(language, "Abhilfe", "Remedy");
            text.push_str(&format!("\n{label}: {}\n", notice.remedy));
        }
        text.push('\n');
    }
    text.push_str(&format!(
        "{}: {}\n",
        pick(language, "Mandant", "Tenant"),
        tenant.id
    ));
    text.push_str(&format!("-- \nPostbote, {hostname}\n"));
    let to: Vec<String> = tenant
        .notices
        .iter()
        .map(|address| address.with_ascii_domain())
        .collect();
    format!(
        "From: Postbote <{}>\r\nTo: {}\r\nSubject: {}\r\nDate: {}\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n{}",
        tenant.sender.address.with_ascii_domain(),
        to.join(",\r\n\t"),
        rfc2047::unstructured(&subject, 9, false),
        date::format(Timestamp::now()),
        quoted(&text),
    )
    .into_bytes()
}
