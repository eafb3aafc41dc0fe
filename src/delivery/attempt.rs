//! One attempt to deliver one message: the way from a claim to its settlement, top to bottom.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Semaphore;

use super::carry;
use super::clock::Clock;
use super::lane::{self, Health, Pool};
use super::notices::{self, Collector};
use super::report::{log_recipient, owed, owed_for_success};
use super::series::Ticket;
use super::{Settings as Retry, Uncertain};
use crate::explain::Language;
use crate::failure::{Class, Scope, Stage};
use crate::observe::metrics::Metrics;
use crate::spool::{
    Claim, DECIDED, Kind, RecipientState, RecipientStatus, Settlement, Spool, State, Stored,
    Verdict,
};
use crate::tenant::Tenant;
use crate::tenant::directory::Directory;
use crate::tenant::route::{Route, RouteKey};
use crate::transport::{Accepted, Context, Failure, RecipientResult};

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
    /// The operator's language.
    pub language: Language,
}

impl Now {
    /// The language of whoever has to hear of a route.
    pub(super) fn language_of(&self, key: &RouteKey) -> Language {
        match key {
            RouteKey::Own(id) => self
                .directory
                .tenant(id)
                .map_or(self.language, |tenant| tenant.language),
            RouteKey::System => self.language,
        }
    }
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
    /// What the people behind the tenants are to be told.
    pub notices: Arc<Collector>,
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
            notices: Arc::default(),
        }
    }
}

/// KiB for [`Tools::memory`].
pub(super) const MEMORY_KIB: usize = 64 * 1024;

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
    /// The last error of the tenant's own route, where another one is taken.
    pub own_error: Option<(Timestamp, String)>,
    /// When its message was accepted.
    pub accepted: Timestamp,
    /// How often this message has run into a quota before.
    pub slowed: u32,
    /// What it is for the tenant's serial mail.
    pub ticket: Option<Ticket>,
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
    if is_expired(now, &way.health, &stored, &way.clock) {
        finish_expired(tools, now, way, claim, &stored, false).await;
        return Finished {
            news: LaneNews::Untried,
            again: None,
        };
    }
    let outcome = carry::deliver(tools, now, way, &claim, &stored).await;
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

/// Whether a recipient is only a copy.
pub(super) fn is_copy(stored: &Stored, index: usize) -> bool {
    let recipient = stored.envelope.recipients.get(index);
    recipient.is_some_and(crate::message::Recipient::is_copy)
}

/// Whether somebody whom it was meant for does not get it.
fn has_bounced(stored: &Stored, states: &[RecipientState]) -> bool {
    states
        .iter()
        .enumerate()
        .any(|(i, r)| r.status == RecipientStatus::Bounced && !is_copy(stored, i))
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

fn is_expired(now: &Now, health: &Health, stored: &Stored, clock: &Clock) -> bool {
    let at = clock.now();
    health.suspended_since.is_none()
        && clock.is_proven(now.retry.give_up_after)
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
        // What the shared relay said may have been of another tenant's mail.
        let reply = match (last.is_empty(), &way.key) {
            (true, RouteKey::Own(_)) => way.health.reason.clone(),
            _ => last,
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
    if !has_bounced(stored, &settlement.recipients) {
        settlement.state = State::Done; // only copies were left
    }
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

/// Turns results into a settlement, log lines and news.
async fn conclude(
    tools: &Tools,
    now: &Now,
    way: &Way,
    claim: Claim,
    stored: &Arc<Stored>,
    outcome: carry::Outcome,
) -> Finished {
    let at = way.clock.now();
    let mut settlement = unchanged(stored);
    settlement.uncertain = stored.uncertain.clone();
    let mut worst: Option<Failure> = None;
    let mut route_failure: Option<Failure> = None;
    let mut paused_alone = false;
    let mut any_sent = false;
    let mut uncertain = false;
    let mut doubtful = false;
    let mut permanent: Vec<(usize, Failure)> = Vec::new();
    let mut told: Vec<(usize, &str, String, String)> = Vec::new();
    for RecipientResult { index, result } in &outcome.results {
        let Some(state) = settlement.recipients.get_mut(*index) else {
            continue;
        };
        match result {
            Ok(Accepted { relay, reply }) => {
                any_sent |= !is_copy(stored, *index);
                *state = RecipientState {
                    status: RecipientStatus::Sent,
                    reply: reply.clone(),
                };
                told.push((*index, "sent", "2.0.0".to_owned(), relay.clone()));
            }
            Err(failure) => {
                doubtful |= failure.look_first;
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
                if bounced && !is_copy(stored, *index) {
                    permanent.push((*index, failure.clone()));
                } else if bounced {
                    // A copy that nobody takes changes nothing for the message.
                } else if worst.is_none() || failure.class == Class::Uncertain {
                    worst = Some(failure.clone());
                }
            }
        }
    }
    if uncertain {
        settlement.uncertain = Some(way.key.to_text());
    } else if doubtful {
        settlement.uncertain = Some(format!("{DECIDED}{}", way.key.to_text()));
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
        // An API that fails has neither taken nor refused anything in its own words.
        None if way.route.upstream().takes_recipients_from_header()
            && outcome.results.iter().all(|r| {
                matches!(&r.result, Err(f) if matches!(f.class, Class::Transient | Class::Uncertain))
            }) =>
        {
            LaneNews::Untried
        }
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
    let failed = settlement.state == State::Failed;
    settle(tools, claim, settlement).await;
    if failed {
        let failure = permanent.first().map(|(_, failure)| failure);
        tools
            .notices
            .extend(notices::given_up(way, stored, &states, failure));
    }
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
    let bounced = has_bounced(stored, &settlement.recipients);
    let named_open = |(i, r): (usize, &RecipientState)| !r.is_settled() && !is_copy(stored, i);
    if bounced && !settlement.recipients.iter().enumerate().any(named_open) {
        // The copy of a message that failed is not pursued.
        let copies = settlement.recipients.iter_mut().filter(|r| !r.is_settled());
        for copy in copies {
            copy.status = RecipientStatus::Bounced;
        }
    }
    let open = settlement.recipients.iter().any(|r| !r.is_settled());
    let Some(failure) = worst.filter(|_| open) else {
        settlement.state = if bounced { State::Failed } else { State::Done };
        settlement.count_attempt = true;
        if bounced {
            settlement.reason = settlement
                .recipients
                .iter()
                .enumerate()
                .find(|(i, r)| r.status == RecipientStatus::Bounced && !is_copy(stored, *i))
                .map(|(_, r)| r.reply.clone())
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

async fn finish_expired(
    tools: &Tools,
    now: &Now,
    way: &Way,
    claim: Claim,
    stored: &Stored,
    by_hand: bool,
) {
    let settlement = expire(tools, now, way, stored, by_hand);
    let failed = settlement.state == State::Failed;
    let states = settlement.recipients.clone();
    settle(tools, claim, settlement).await;
    // Whoever does it by hand knows of it.
    if failed && !by_hand {
        let news = notices::given_up(way, stored, &states, None);
        tools.notices.extend(news);
    }
}

/// Gives a message up: its time is over, or a person wishes it.
pub async fn give_up(
    tools: &Tools,
    now: &Now,
    tenant: &Arc<Tenant>,
    route: Route,
    claim: Claim,
    by_hand: bool,
) {
    let stored = Arc::clone(claim.message());
    let key = route.key(tenant);
    let way = Way {
        tenant: Arc::clone(tenant),
        route,
        key,
        pool: Arc::default(),
        health: Health::default(),
        own_error: None,
        accepted: stored.accepted,
        slowed: 0,
        ticket: None,
        server: String::new(),
        generation: 0,
        clock: Clock::start(),
    };
    finish_expired(tools, now, &way, claim, &stored, by_hand).await;
}
