//! What the people behind a tenant are told: its route fails or works again, mail was given up, an
//! authorisation is about to end. One notice an event; many of a kind become one; all are kept in
//! the message centre, and a mail about them leaves as soon as a way is open. Never about themselves.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::Notify;

mod events;

pub use events::{Event, News, OPERATOR};
pub(super) use events::{given_up, of_end, of_failure, of_fallback, of_key, of_route};

use events::pick;

use super::attempt::Now;
use super::bounce::{quoted, submit};
use super::scheduler::{Scheduler, lock};
use crate::explain::Language;
use crate::message::{TenantId, changes_direction, date, rfc2047};
use crate::spool::{Kind, Note, Noted, Spool, StoreError};
use crate::tenant::Tenant;
use crate::tenant::route::{self, RouteKey};

/// Failures of mail come in floods: nothing new for so long, and what was collected is one notice.
const QUIET: Duration = Duration::from_secs(3);
/// So long is collected at most.
const COLLECTED: Duration = Duration::from_secs(60);
/// About one kind of event a tenant gets one mail in this time; further ones wait for a digest.
const SPACING: Duration = Duration::from_secs(15 * 60);
/// How many of many are named.
const NAMED: usize = 10;
/// Kinds of events of tenants that are collected at once; there are never more in earnest.
const COLLECTING_LIMIT: usize = 10_000;
/// Most notices of one mail.
const AT_ONCE: usize = 50;
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

    /// Gives back what could not be kept.
    fn put_back(&self, tenant: String, event: Event, heap: Heap) {
        let mut heaps = self.heaps.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (tenant, event, heap.mark.clone());
        heaps.entry(key).or_insert(heap);
    }

    fn is_empty(&self) -> bool {
        let heaps = self.heaps.lock().unwrap_or_else(PoisonError::into_inner);
        heaps.is_empty()
    }

    /// What is complete. `all`: everything, at the end.
    fn take(&self, all: bool) -> Vec<(String, Event, Heap)> {
        let now = Instant::now();
        let mut heaps = self.heaps.lock().unwrap_or_else(PoisonError::into_inner);
        // The others come once each: nobody waits for more of them.
        let is_single = |event: Event| !matches!(event, Event::GivenUp | Event::RefusedSender);
        let complete = |event: Event, heap: &Heap| {
            all || is_single(event)
                || now.saturating_duration_since(heap.last) >= QUIET
                || now.saturating_duration_since(heap.since) >= COLLECTED
        };
        let keys: Vec<_> = heaps
            .iter()
            .filter(|((_, event, _), heap)| complete(*event, heap))
            .map(|(key, _)| key.clone())
            .collect();
        keys.into_iter()
            .filter_map(|key| heaps.remove(&key).map(|heap| (key.0, key.1, heap)))
            .collect()
    }
}

impl Heap {
    /// Many as one.
    fn note(&self, tenant: &str, event: Event, language: Language) -> Note {
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
                            format!("… und {more} weitere: postbote queue list --tenant {tenant} --state failed")
                        }
                        Language::En => {
                            format!("… and {more} more: postbote queue list --tenant {tenant} --state failed")
                        }
                    });
                }
                lines.join("\n")
            }
        };
        Note {
            tenant: tenant.to_owned(),
            event: event.word(),
            // What a server said must not turn the line round.
            text: text.chars().filter(|c| !changes_direction(*c)).collect(),
            remedy: self.remedies.join("\n"),
            mark: self.mark.clone(),
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
            untold = match self.tell(untold).await {
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
    }

    /// Keeps what is complete; whether there was anything. What cannot be kept stays for later.
    pub(super) async fn keep_notices(&self, all: bool) -> Result<bool, StoreError> {
        let tools = &self.inner.tools;
        let now = self.inner.now.load_full();
        let mut any = false;
        let mut failed = None;
        for (tenant, event, heap) in tools.notices.take(all) {
            if failed.is_some() {
                tools.notices.put_back(tenant, event, heap);
                continue;
            }
            let language = TenantId::parse(&tenant)
                .and_then(|id| now.directory.tenant(&id))
                .map_or(now.language, |t| t.language);
            let note = heap.note(&tenant, event, language);
            let text = note.text.replace('\n', " | ");
            match tools.spool.keep_notice(note).await {
                Ok(true) => {
                    any = true;
                    tracing::warn!(event = "notice", tenant = %tenant, kind = event.word(), text = %text);
                }
                Ok(false) => {}
                Err(error) => {
                    tools.notices.put_back(tenant, event, heap);
                    failed = Some(error);
                }
            }
        }
        failed.map_or(Ok(any), Err)
    }

    /// One round; whether something is left untold.
    async fn tell(&self, untold: bool) -> Result<bool, StoreError> {
        if !self.keep_notices(false).await? && !untold {
            return Ok(false);
        }
        let spool = &self.inner.tools.spool;
        let open = spool.untold_notices(AT_ONCE).await?;
        if open.is_empty() {
            return Ok(false);
        }
        let since = Timestamp::now()
            .checked_sub(SPACING)
            .unwrap_or(Timestamp::UNIX_EPOCH);
        let lately = spool.notices_told_since(since).await?;
        let mut by_tenant: HashMap<String, Vec<Noted>> = HashMap::new();
        for noted in open {
            by_tenant
                .entry(noted.tenant.clone())
                .or_default()
                .push(noted);
        }
        let now = self.inner.now.load_full();
        let mut left = false;
        for (name, mut open) in by_tenant {
            let tenant = TenantId::parse(&name).and_then(|id| now.directory.tenant(&id).cloned());
            let Some(tenant) = tenant else {
                continue; // nobody may be told in its name
            };
            let before = open.len();
            open.retain(|n| !lately.contains(&(n.tenant.clone(), n.event.clone())));
            left |= open.len() < before || before == AT_ONCE;
            if open.is_empty() {
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
                    spool.notices_told(seqs).await?;
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
        let to = &tenant.notices;
        let mut spooled = submit(spool, tenant.id.clone(), Kind::Notice, to, message).await?;
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

/// The mail about some notices.
fn compose(tenant: &Tenant, hostname: &str, notices: &[Noted]) -> Vec<u8> {
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
