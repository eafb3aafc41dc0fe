//! One attempt to deliver one message: the way from a claim to its settlement, top to bottom.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::clock::Clock;
use super::lane::{self, Health, Pool};
use super::preparing::{self, Preparing};
use super::report::{log_recipient, owed, owed_for_success};
use super::{Settings as Retry, Uncertain};
use crate::explain::Cause;
use crate::failure::{Class, Scope, Stage};
use crate::message::Content;
use crate::observe::metrics::Metrics;
use crate::smtp::capabilities::Capabilities;
use crate::spool::{
    Claim, DECIDED, Kind, RecipientState, RecipientStatus, Settlement, Spool, State, Stored,
    Verdict, is_intact,
};
use crate::tenant::Tenant;
use crate::tenant::directory::Directory;
use crate::tenant::route::{Route, RouteKey};
use crate::transport::smtp::{Connection, Context, DotHook};
use crate::transport::{Accepted, Failure, RecipientResult, Upstream, capture};

/// What attempts need, as the settings are now.
#[derive(Clone)]
pub struct Now {
    /// Tenants and system relay.
    pub directory: Arc<Directory>,
    /// `[retry]`.
    pub retry: Retry,
    /// Our name.
    pub hostname: String,
    /// Whether mail is sent at all.
    pub sending: bool,
}

/// What attempts need, for the life of the process.
#[derive(Clone)]
pub struct Tools {
    /// The spool.
    pub spool: Spool,
    /// For conversations with servers.
    pub context: Context,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// KiB of large messages that may be in memory at once.
    pub memory: Arc<Semaphore>,
    /// How many messages may be signed or converted at once: as many as there are processors.
    pub computing: Arc<Semaphore>,
}

impl Tools {
    /// Tools with limits of their own.
    pub fn new(spool: Spool, context: Context, metrics: Arc<Metrics>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            spool,
            context,
            metrics,
            memory: Arc::new(Semaphore::new(MEMORY_KIB)),
            computing: Arc::new(Semaphore::new(processors)),
        }
    }
}

/// KiB for [`Tools::memory`].
const MEMORY_KIB: usize = 64 * 1024;

/// The way that was chosen for an attempt.
pub struct Way {
    /// Whose message it is.
    pub tenant: Arc<Tenant>,
    /// The route.
    pub route: Route,
    /// Its name.
    pub key: RouteKey,
    /// Its connections.
    pub pool: Arc<Pool>,
    /// What is known of it.
    pub health: Health,
    /// How often this message has run into a quota before.
    pub slowed: u32,
    /// The server it leads to, as attempts are counted by it.
    pub server: String,
    /// Which settings of the lane these are.
    pub generation: u64,
    /// The clock that `health` goes by.
    pub clock: Clock,
}

/// How often one message may pause its whole route; then it waits by itself.
const SLOWED_LIMIT: u32 = 3;

/// What an attempt says of its lane.
#[derive(Debug, Clone)]
pub enum LaneNews {
    /// It works.
    Fine {
        /// The server's key, where TLS is used.
        key: Option<String>,
        /// It refuses `MAIL FROM:<>`.
        refuses_null: bool,
        /// What it said of its SIZE.
        size: Option<u64>,
    },
    /// It fails as a whole.
    Failed(Box<Failure>),
    /// It was not tried.
    Untried,
}

/// What the scheduler is told.
#[derive(Debug, Clone)]
pub struct Finished {
    /// News of the lane.
    pub news: LaneNews,
    /// When the message is due again; `None`: it is settled or waits for a person.
    pub again: Option<Again>,
}

/// When a message is due again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Again {
    /// As soon as the lane allows it.
    Ready,
    /// At a time.
    At(Timestamp),
    /// On this route only: it may have taken it already.
    Pinned(RouteKey),
}

/// Delivers. `taken` is called when the upstream has taken the message for all, before that is on
/// record.
pub async fn run(
    tools: &Tools,
    now: &Arc<Now>,
    way: &Way,
    claim: Claim,
    taken: &(dyn Fn() + Send + Sync),
) -> Finished {
    let started = std::time::Instant::now();
    let stored = Arc::clone(claim.message());
    if let Some(finished) = cautious(now, way, &stored) {
        return finish_cautious(tools, claim, finished).await;
    }
    if !stored.is_sealed {
        return quarantine(tools, claim).await;
    }
    if is_expired(now, &way.health, &stored, way.clock.now()) {
        let owed = expire(tools, now, way, &stored, false);
        settle(tools, claim, owed).await;
        return Finished {
            news: LaneNews::Untried,
            again: None,
        };
    }
    let outcome = deliver(tools, now, way, &claim, &stored).await;
    tools.metrics.attempt_took(started.elapsed());
    if outcome.results.iter().all(|result| result.result.is_ok()) {
        taken();
    }
    conclude(tools, now, way, claim, &stored, outcome).await
}

/// Keeps a message whose owner or envelope is not what was accepted: nobody is told either, for
/// whom to tell is as doubtful.
async fn quarantine(tools: &Tools, claim: Claim) -> Finished {
    let stored = Arc::clone(claim.message());
    let settlement = Settlement {
        state: State::Failed,
        reason: "its stored envelope is damaged: it is kept and not sent".to_owned(),
        ..unchanged(&stored)
    };
    tracing::error!(id = %stored.id, tenant = %stored.tenant, event = "damaged", reason = %settlement.reason);
    settle(tools, claim, settlement).await;
    Finished {
        news: LaneNews::Untried,
        again: None,
    }
}

/// What must not simply be tried.
enum Caution {
    /// Uncertain and to be held for a person.
    Hold,
    /// Uncertain on another route than the chosen one.
    OtherRoute(RouteKey),
}

fn cautious(now: &Now, way: &Way, stored: &Stored) -> Option<Caution> {
    let (route, decided) = stored.uncertain_route()?;
    let waits_for_retry = stored.state == State::Uncertain;
    if now.retry.uncertain == Uncertain::Hold && !decided && !waits_for_retry {
        return Some(Caution::Hold);
    }
    match RouteKey::from_text(route) {
        Some(key) if key != way.key => Some(Caution::OtherRoute(key)),
        Some(_) | None => None,
    }
}

async fn finish_cautious(tools: &Tools, claim: Claim, caution: Caution) -> Finished {
    match caution {
        Caution::OtherRoute(key) => {
            // The claim falls back by itself; the scheduler is told where it may go.
            drop(claim);
            Finished {
                news: LaneNews::Untried,
                again: Some(Again::Pinned(key)),
            }
        }
        Caution::Hold => {
            let stored = Arc::clone(claim.message());
            let settlement = Settlement { state: State::Uncertain, reason: "a crash came between the message and the upstream's answer: it may have been delivered".to_owned(), ..unchanged(&stored) };
            tracing::warn!(id = %stored.id, tenant = %stored.tenant, event = "uncertain", reason = %settlement.reason);
            settle(tools, claim, settlement).await;
            Finished {
                news: LaneNews::Untried,
                again: None,
            }
        }
    }
}

/// A settlement that changes nothing, to start from.
fn unchanged(stored: &Stored) -> Settlement {
    Settlement {
        recipients: stored.recipients.clone(),
        state: State::Queued,
        next: None,
        reason: String::new(),
        count_attempt: false,
        uncertain: stored.uncertain.clone(),
        owed: Vec::new(),
    }
}

/// How long a message has waited, without what does not count.
pub fn waited(health: &Health, stored: &Stored, at: Timestamp) -> Duration {
    let total = Duration::try_from(at.duration_since(stored.accepted)).unwrap_or_default();
    total
        .saturating_sub(Duration::from_millis(stored.excluded_ms.unsigned_abs()))
        .saturating_sub(health.excluded_since(stored.accepted, at))
}

fn is_expired(now: &Now, health: &Health, stored: &Stored, at: Timestamp) -> bool {
    health.suspended_since.is_none()
        && stored.state != State::Suspended
        && stored.attempts > 0
        && waited(health, stored, at) > now.retry.give_up_after
}

/// Gives up: every open recipient is bounced.
fn expire(tools: &Tools, now: &Now, way: &Way, stored: &Stored, by_hand: bool) -> Settlement {
    let mut settlement = unchanged(stored);
    settlement.state = State::Failed;
    let why = if by_hand {
        "given up by a person".to_owned()
    } else {
        format!("given up after {}", duration(now.retry.give_up_after))
    };
    for index in stored.open_recipients() {
        let last = std::mem::take(&mut settlement.recipients[index].reply);
        let reply = if last.is_empty() {
            way.health.reason.clone()
        } else {
            last
        };
        settlement.recipients[index] = RecipientState {
            status: RecipientStatus::Bounced,
            reply: if reply.is_empty() {
                why.clone()
            } else {
                format!("{why}: {reply}")
            },
        };
        log_recipient(
            tools,
            way,
            stored,
            index,
            "bounced",
            "5.4.7",
            "",
            &settlement.recipients[index].reply,
        );
    }
    settlement.reason = why;
    settlement.owed = owed(now, way, stored, &settlement.recipients, None)
        .into_iter()
        .collect();
    settlement
}

/// A time as configuration writes it: `5d`, `90m`.
fn duration(time: Duration) -> String {
    let seconds = time.as_secs();
    for (unit, length) in [("d", 86_400), ("h", 3600), ("m", 60)] {
        if seconds > 0 && seconds.is_multiple_of(length) {
            return format!("{}{unit}", seconds / length);
        }
    }
    format!("{seconds}s")
}

/// What the transport gave.
struct Outcome {
    results: Vec<RecipientResult>,
    /// The server tells of success itself where that is wanted (RFC 3461).
    dsn: bool,
    key: Option<String>,
    refuses_null: bool,
}

async fn deliver(
    tools: &Tools,
    now: &Arc<Now>,
    way: &Way,
    claim: &Claim,
    stored: &Arc<Stored>,
) -> Outcome {
    let open = stored.open_recipients();
    let all_failed = |failure: Failure| Outcome {
        results: open
            .iter()
            .map(|index| RecipientResult {
                index: *index,
                result: Err(failure.clone()),
            })
            .collect(),
        key: None,
        refuses_null: false,
        dsn: false,
    };
    // A large message is in memory only while it is sent, and only so much of all at once.
    let kib = u32::try_from(stored.content.size() / 1024 + 1)
        .unwrap_or(u32::MAX)
        .min(MEMORY_KIB as u32);
    let _permit = match &stored.content {
        Content::Memory(_) => None,
        Content::File { .. } => tools.memory.acquire_many(kib).await.ok(),
    };
    let content = match read_content(stored).await {
        Ok(content) => content,
        Err(mut failure) => {
            failure.scope = Scope::Message; // its file, not the route
            return all_failed(*failure);
        }
    };
    let job = Job {
        tools,
        now,
        way,
        stored,
        content: &content,
        open: &open,
        claim,
    };
    match way.route.upstream().as_ref() {
        Upstream::Capture(directory) => {
            let (prepared, mut results) = match job.prepare(&Capabilities::unlimited(), false).await
            {
                Ok(done) => done,
                Err(failure) => return all_failed(*failure),
            };
            if let Some(prepared) = prepared {
                let (directory, id) = (directory.join(stored.tenant.as_str()), stored.id);
                let written = tokio::task::spawn_blocking(move || {
                    capture::deliver(&directory, id, &prepared)
                })
                .await;
                match written {
                    Ok(written) => results.extend(written),
                    Err(error) => {
                        return all_failed(Failure::of_cause(
                            Cause::WriteFailed,
                            Stage::Prepare,
                            "capture",
                            error.to_string(),
                        ));
                    }
                }
            }
            Outcome {
                results,
                key: None,
                refuses_null: false,
                dsn: false,
            }
        }
        Upstream::Smtp(settings) => job.smtp(settings).await,
    }
}

struct Job<'a> {
    tools: &'a Tools,
    now: &'a Arc<Now>,
    way: &'a Way,
    stored: &'a Arc<Stored>,
    content: &'a Bytes,
    open: &'a [usize],
    claim: &'a Claim,
}

impl Job<'_> {
    fn all_failed(&self, failure: &Failure) -> Vec<RecipientResult> {
        self.open
            .iter()
            .map(|index| RecipientResult {
                index: *index,
                result: Err(failure.clone()),
            })
            .collect()
    }

    async fn smtp(&self, settings: &crate::transport::smtp::Settings) -> Outcome {
        let upstream = self.way.route.upstream();
        let mut kept = self.way.pool.take(upstream);
        let mut null_refused = self.way.health.refuses_null;
        loop {
            let was_kept = kept.is_some();
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => match Connection::open(settings, &self.tools.context).await {
                    Ok(connection) => connection,
                    Err(failure) => {
                        return Outcome {
                            results: self.all_failed(&failure),
                            key: None,
                            refuses_null: false,
                            dsn: false,
                        };
                    }
                },
            };
            connection.capabilities.pipelining &= !self.way.health.one_by_one;
            self.tools
                .spool
                .learn_upstream_size(&self.way.key.to_text(), connection.capabilities.size);
            let dsn = connection.capabilities.dsn;
            let key = connection
                .server_key
                .map(|hash| crate::smtp::sasl::encode(&hash));
            let (prepared, mut results) =
                match self.prepare(&connection.capabilities, null_refused).await {
                    Ok(done) => done,
                    Err(failure) => {
                        self.keep(settings, connection);
                        return Outcome {
                            results: self.all_failed(&failure),
                            key,
                            refuses_null: false,
                            dsn: false,
                        };
                    }
                };
            let Some(prepared) = prepared else {
                self.keep(settings, connection);
                return Outcome {
                    results,
                    key,
                    refuses_null: false,
                    dsn: false,
                };
            };
            let hook = Hook {
                tools: self.tools,
                claim: self.claim,
                route: must_mark(self.now, self.way).then(|| self.way.key.to_text()),
            };
            let sent = connection.send(&prepared, &hook).await;
            if sent.untouched && was_kept {
                continue; // the kept connection had died; nothing was said on it
            }
            let null_sender = prepared.mail_from().is_none();
            let refused_at_mail = sent.results.iter().all(|r| matches!(&r.result, Err(f) if f.stage == Stage::Mail && f.reply.as_ref().is_some_and(crate::smtp::reply::Reply::is_permanent)));
            if null_sender && refused_at_mail && self.stored.kind == Kind::Bounce && !null_refused {
                null_refused = true;
                if sent.reusable {
                    kept = Some(connection);
                }
                continue;
            }
            if sent.reusable && connection.sent < settings.messages_per_connection {
                self.keep(settings, connection);
            } else {
                tokio::spawn(connection.quit());
            }
            results.extend(sent.results);
            return Outcome {
                results,
                key,
                refuses_null: null_refused,
                dsn,
            };
        }
    }

    fn keep(&self, settings: &crate::transport::smtp::Settings, connection: Connection) {
        if let Some(surplus) =
            self.way
                .pool
                .put(self.way.route.upstream(), connection, settings.connections)
        {
            tokio::spawn(surplus.quit());
        }
    }

    /// Prepares for a server with these capabilities; gives recipients that cannot be reached.
    async fn prepare(
        &self,
        capabilities: &Capabilities,
        null_refused: bool,
    ) -> Result<preparing::Done, Box<Failure>> {
        let work = Preparing {
            tenant: Arc::clone(&self.way.tenant),
            route: self.way.route.clone(),
            stored: Arc::clone(self.stored),
            content: self.content.clone(),
            open: self.open.to_vec(),
            now: Arc::clone(self.now),
            secrets: self.tools.context.secrets.clone(),
            capabilities: capabilities.clone(),
            null_refused,
        };
        if work.is_quick() {
            return work.run();
        }
        let Ok(_permit) = self.tools.computing.acquire().await else {
            return work.run(); // never closed
        };
        tokio::task::spawn_blocking(move || work.run())
            .await
            .unwrap_or_else(|error| {
                let mut failure =
                    Failure::of_cause(Cause::WriteFailed, Stage::Prepare, "", error.to_string());
                failure.scope = Scope::Message;
                Err(Box::new(failure))
            })
    }
}

async fn read_content(stored: &Arc<Stored>) -> Result<Bytes, Box<Failure>> {
    let damaged = |why: String| {
        tracing::error!(id = %stored.id, tenant = %stored.tenant, event = "damaged", reason = %why, "the stored message is not what was accepted; it is kept and not sent");
        let mut failure = Failure::of_cause(
            Cause::MessageUnusable,
            Stage::Prepare,
            "",
            format!("the stored message is damaged: {why}"),
        );
        failure.class = Class::Permanent;
        failure.scope = Scope::Message;
        Box::new(failure)
    };
    let (bytes, intact) = match &stored.content {
        Content::Memory(bytes) => (bytes.clone(), is_intact(stored, bytes)),
        Content::File { path, .. } => {
            let stored = Arc::clone(stored);
            // Its hash, too, takes its time.
            let read = tokio::task::spawn_blocking(move || {
                let bytes = stored.content.read()?;
                let intact = is_intact(&stored, &bytes);
                Ok((bytes, intact))
            })
            .await
            .unwrap_or_else(|e| Err(std::io::Error::other(e)));
            match read {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    return Err(damaged("its body file is gone".to_owned()));
                }
                Err(error) => {
                    return Err(Box::new(Failure::of_cause(
                        Cause::WriteFailed,
                        Stage::Prepare,
                        "",
                        format!("{}: {error}", path.display()),
                    )));
                }
            }
        }
    };
    if intact {
        Ok(bytes)
    } else {
        Err(damaged("its SHA-256 does not fit".to_owned()))
    }
}

/// Whether a crash must not make us forget that the final dot may have been sent: where another
/// route could be taken, or a person is to decide.
fn must_mark(now: &Now, way: &Way) -> bool {
    let own = matches!(way.route, Route::Own(_));
    now.retry.uncertain == Uncertain::Hold
        || (own && crate::tenant::route::fallback(&way.tenant, now.directory.system()).is_some())
}

struct Hook<'a> {
    tools: &'a Tools,
    claim: &'a Claim,
    route: Option<String>,
}

impl DotHook for Hook<'_> {
    fn before_content(
        &self,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async move {
            match &self.route {
                Some(route) => self
                    .tools
                    .spool
                    .mark_uncertain(self.claim, route.clone())
                    .await
                    .map_err(|e| e.to_string()),
                None => Ok(()),
            }
        })
    }
}

/// Turns results into a settlement, log lines and news.
async fn conclude(
    tools: &Tools,
    now: &Now,
    way: &Way,
    claim: Claim,
    stored: &Arc<Stored>,
    outcome: Outcome,
) -> Finished {
    let at = way.clock.now();
    let mut settlement = unchanged(stored);
    settlement.uncertain = stored.uncertain.clone();
    let mut worst: Option<Failure> = None;
    let mut route_failure: Option<Failure> = None;
    let mut paused_alone = false;
    let mut any_sent = false;
    let mut uncertain = false;
    let mut permanent: Vec<(usize, Failure)> = Vec::new();
    let mut told: Vec<(usize, &str, String, String)> = Vec::new();
    for RecipientResult { index, result } in &outcome.results {
        let Some(state) = settlement.recipients.get_mut(*index) else {
            continue;
        };
        match result {
            Ok(Accepted { relay, reply }) => {
                any_sent = true;
                *state = RecipientState {
                    status: RecipientStatus::Sent,
                    reply: reply.clone(),
                };
                told.push((*index, "sent", "2.0.0".to_owned(), relay.clone()));
            }
            Err(failure) => {
                let own_fault =
                    matches!(failure.class, Class::Slow(_)) && way.slowed >= SLOWED_LIMIT;
                paused_alone |= own_fault;
                if failure.scope == Scope::Route && !own_fault {
                    route_failure = Some(failure.clone());
                }
                let bounced = match failure.class {
                    Class::Permanent | Class::Sender => true,
                    Class::Uncertain => {
                        uncertain = true;
                        false
                    }
                    Class::Transient | Class::Suspend | Class::Slow(_) => false,
                };
                let (status, event) = if bounced {
                    (RecipientStatus::Bounced, "bounced")
                } else {
                    (RecipientStatus::Deferred, "deferred")
                };
                *state = RecipientState {
                    status,
                    reply: failure.to_string(),
                };
                told.push((*index, event, failure.dsn(), failure.relay.clone()));
                if bounced {
                    permanent.push((*index, failure.clone()));
                } else if worst.is_none() || failure.class == Class::Uncertain {
                    worst = Some(failure.clone());
                }
            }
        }
    }
    if uncertain {
        settlement.uncertain = Some(way.key.to_text());
    } else if any_sent {
        settlement.uncertain = None;
    }
    let own = matches!(way.route, Route::Own(_));
    if own && !permanent.is_empty() && settlement.uncertain.is_none() {
        // Mail of which the upstream has rejected anything is taken nowhere else.
        settlement.uncertain = Some(format!("{DECIDED}{}", way.key.to_text()));
    }
    let mut again = next_step(now, stored, &mut settlement, worst.as_ref(), at);
    let relay = crate::tenant::route::fallback(&way.tenant, now.directory.system());
    if own && stored.kind == Kind::Bounce && settlement.state == State::Failed && relay.is_some() {
        // A bounce that the tenant's own route cannot carry goes over the system relay.
        for (index, _) in &permanent {
            settlement.recipients[*index].status = RecipientStatus::Deferred;
        }
        settlement.state = State::Queued;
        settlement.uncertain = Some(format!("{DECIDED}{}", RouteKey::System.to_text()));
        again = Some(Again::Pinned(RouteKey::System));
        for entry in &mut told {
            entry.1 = "deferred";
        }
    }
    // Somebody who waits for the verdict is told of a complete refusal instead of getting a bounce.
    let verdict = if any_sent {
        Verdict::Relayed
    } else if settlement.state == State::Failed {
        Verdict::Refused(
            permanent
                .first()
                .map(|(_, f)| f.to_string())
                .unwrap_or_default(),
        )
    } else {
        Verdict::Deferred
    };
    let refused = matches!(verdict, Verdict::Refused(_));
    let answered = tools.spool.tell_verdict(stored.seq, verdict).await;
    if answered && refused {
        settlement.state = State::Done;
        settlement.reason = "refused by the upstream; the application was told".to_owned();
    } else if !permanent.is_empty() {
        settlement.owed.extend(owed(
            now,
            way,
            stored,
            &settlement.recipients,
            Some(&permanent),
        ));
    }
    let news = match &route_failure {
        Some(failure) => LaneNews::Failed(Box::new(failure.clone())),
        None if paused_alone => LaneNews::Untried,
        None if outcome
            .results
            .iter()
            .all(|r| matches!(&r.result, Err(f) if f.stage == Stage::Prepare)) =>
        {
            LaneNews::Untried
        }
        None => LaneNews::Fine {
            key: outcome.key,
            refuses_null: outcome.refuses_null,
            size: tools.spool.upstream_size(&way.key.to_text()),
        },
    };
    if any_sent && !outcome.dsn {
        let sent: Vec<usize> = outcome
            .results
            .iter()
            .filter(|r| r.result.is_ok())
            .map(|r| r.index)
            .collect();
        settlement.owed.extend(owed_for_success(
            now,
            way,
            stored,
            &settlement.recipients,
            &sent,
        ));
    }
    let states = settlement.recipients.clone();
    settle(tools, claim, settlement).await;
    // The log says only what is on record.
    for (index, event, dsn, relay) in told {
        log_recipient(
            tools,
            way,
            stored,
            index,
            event,
            &dsn,
            &relay,
            &states[index].reply,
        );
    }
    Finished { news, again }
}

/// Decides the message's state after an attempt, and when it is due again.
fn next_step(
    now: &Now,
    stored: &Stored,
    settlement: &mut Settlement,
    worst: Option<&Failure>,
    at: Timestamp,
) -> Option<Again> {
    let open = settlement.recipients.iter().any(|r| !r.is_settled());
    let bounced = settlement
        .recipients
        .iter()
        .any(|r| r.status == RecipientStatus::Bounced);
    let Some(failure) = worst.filter(|_| open) else {
        settlement.state = if bounced { State::Failed } else { State::Done };
        settlement.count_attempt = true;
        if bounced {
            settlement.reason = settlement
                .recipients
                .iter()
                .find(|r| r.status == RecipientStatus::Bounced)
                .map(|r| r.reply.clone())
                .unwrap_or_default();
        }
        return None;
    };
    settlement.reason = failure.to_string();
    let later =
        |attempts: u32| lane::after(at, now.retry.wait_with_jitter(attempts, jitter(stored)));
    match failure.class {
        Class::Suspend if failure.scope == Scope::Route => {
            settlement.state = State::Suspended;
            settlement.count_attempt = true;
            Some(Again::Ready)
        }
        Class::Suspend => {
            // Only this message's own key or setting is missing, the route is fine.
            settlement.state = State::Suspended;
            let next = later(stored.attempts + 1);
            settlement.next = Some(next);
            settlement.count_attempt = true;
            Some(Again::At(next))
        }
        Class::Slow(pause) => {
            settlement.state = State::Deferred;
            let until = lane::after(at, pause);
            settlement.next = Some(until);
            Some(Again::At(until))
        }
        Class::Uncertain if now.retry.uncertain == Uncertain::Hold => {
            settlement.state = State::Uncertain;
            settlement.count_attempt = true;
            None
        }
        Class::Uncertain => {
            settlement.state = State::Uncertain;
            settlement.count_attempt = true;
            let next = later(stored.attempts + 1);
            settlement.next = Some(next);
            Some(Again::At(next))
        }
        Class::Transient | Class::Permanent | Class::Sender => {
            settlement.count_attempt = true;
            settlement.state = State::Deferred;
            if failure.scope == Scope::Route {
                // The lane decides when: this message keeps its place in front.
                settlement.state = State::Queued;
                return Some(Again::Ready);
            }
            let next = later(stored.attempts + 1);
            settlement.next = Some(next);
            Some(Again::At(next))
        }
    }
}

/// A number that differs from message to message and from try to try.
pub fn jitter(stored: &Stored) -> u32 {
    let bytes = stored.id.as_str().as_bytes();
    bytes
        .iter()
        .fold(stored.attempts.wrapping_mul(40_503), |sum, b| {
            sum.wrapping_mul(31).wrapping_add(u32::from(*b))
        })
}

/// Records a result, again and again until it is recorded: a delivery that is forgotten would be
/// repeated. Until then the message stays claimed.
async fn settle(tools: &Tools, claim: Claim, settlement: Settlement) {
    let mut claim = Some(claim);
    let mut wait = Duration::from_millis(200);
    let stored = claim.as_ref().map(|c| Arc::clone(c.message()));
    while let Some(current) = claim.take() {
        match tools.spool.try_settle(current, settlement.clone()).await {
            Ok(()) => return,
            Err((back, error)) => {
                tracing::error!(id = ?stored.as_ref().map(|s| s.id), event = "settle-failed", reason = %error, "a result could not be recorded; it is tried again, the message is not sent meanwhile");
                claim = Some(back);
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(Duration::from_secs(30));
            }
        }
    }
}

/// Gives a message up at a person's wish.
pub async fn give_up(tools: &Tools, now: &Now, tenant: &Arc<Tenant>, route: Route, claim: Claim) {
    let stored = Arc::clone(claim.message());
    let key = route.key(tenant);
    let way = Way {
        tenant: Arc::clone(tenant),
        route,
        key,
        pool: Arc::default(),
        health: Health::default(),
        slowed: 0,
        server: String::new(),
        generation: 0,
        clock: Clock::start(),
    };
    let settlement = expire(tools, now, &way, &stored, true);
    settle(tools, claim, settlement).await;
}
