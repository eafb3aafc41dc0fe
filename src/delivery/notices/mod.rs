//! What the people behind a tenant are told: its route fails or works again, mail was given up, an
//! authorisation is about to end. One notice an event; many of a kind become one; all are kept in
//! the message centre, and a mail about them leaves as soon as a way is open. Never about themselves.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

mod events;

pub use events::{Event, News, OPERATOR};
pub(super) use events::{given_up, of_end, of_failure, of_fallback, of_key, of_route};

use events::pick;

use super::attempt::Now;
use super::bounce::quoted;
use super::scheduler::{Scheduler, lock};
use crate::explain::Language;
use crate::message::{Envelope, Recipient, TenantId, date, rfc2047};
use crate::prepare::Origin;
use crate::spool::{Admitted, Kind, Note, Noted, Spool, Spooled, StoreError};
use crate::tenant::Tenant;
use crate::tenant::route::{self, RouteKey};

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
