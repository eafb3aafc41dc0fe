//! The scheduler: one task, one timer, no task per waiting message. It knows what waits for whom,
//! asks `route` which way, and starts attempts as the lanes allow.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::attempt::{self, Again, Finished, LaneNews, Now, Tools, Way};
use super::bounce::Bouncer;
use super::clock::Clock;
use super::lane::{self, Gate, Health, Pool};
use super::notices;
use super::pace::Pace;
use super::queue::TenantQueue;
use super::series::Portions;
use crate::failure::Class;
use crate::message::TenantId;
use crate::spool::operate::{Action, Filter, Overlay, Report};
use crate::spool::{Claim, Claiming, Hint, State, StoreError, Stored, Waiting};
use crate::tenant::Tenant;
use crate::tenant::route::{self, Route, RouteKey};

/// How long a message rests whose attempt met a fault of ours.
const FAULT_PAUSE: Duration = Duration::from_secs(60);
/// No pause or interval of ours is longer; times from before a restart may be of another clock.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// A message that a person's order keeps is tried again so soon.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
/// How often late and expired messages are looked for, and idle connections closed.
const SWEEP: Duration = Duration::from_secs(10);
/// Most attempts that run at once over all lanes; each holds a socket and a buffer.
const ATTEMPTS_LIMIT: usize = 1000;
/// Most of them at one server, however many tenants use it: one that hangs leaves room for others.
pub(super) const SERVER_LIMIT: usize = 250;

/// Delivery as a whole. Cheap to clone.
#[derive(Clone)]
pub struct Scheduler {
    pub(super) inner: Arc<Inner>,
}

pub(super) struct Inner {
    pub(super) tools: Tools,
    pub(super) now: ArcSwap<Now>,
    queues: Mutex<Queues>,
    pub(super) tasks: TaskTracker,
    stop: CancellationToken,
    abort: CancellationToken,
}

impl Inner {
    /// Delivery is to stop.
    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }
}

#[derive(Default)]
pub(super) struct Queues {
    pub(super) tenants: HashMap<TenantId, TenantQueue>,
    pub(super) lanes: HashMap<RouteKey, Lane>,
    /// Tenants to look at, each once.
    dirty: VecDeque<TenantId>,
    dirty_set: HashSet<TenantId>,
    /// Tenants whose lane opens, or whose fallback begins, at a time.
    pub(super) timers: BTreeMap<(Timestamp, TenantId), ()>,
    running: usize,
    pub(super) warned: HashSet<i64>,
    /// Until when messages rest whose attempt met a fault of ours.
    resting: HashMap<i64, Timestamp>,
    /// How often each message ran into a quota.
    pub(super) slowed: HashMap<i64, u32>,
    /// Sending was switched off then.
    held_since: Option<Timestamp>,
    /// Attempts that run at each server, and tenants that wait for one of them to end.
    pub(super) servers: HashMap<String, Server>,
    /// Where the serial mail of each tenant stands on each route.
    pub(super) portions: HashMap<(TenantId, RouteKey), Portions>,
    /// The machine's clock when last looked at.
    pub(super) clock: Clock,
    /// It has jumped, and the lanes have to remember that over a restart.
    has_jumped: bool,
}

/// A server that lanes lead to; many tenants may use the same.
#[derive(Default)]
pub(super) struct Server {
    pub(super) active: usize,
    pub(super) waiting: Vec<TenantId>,
}

#[derive(Default)]
pub(super) struct Lane {
    pub(super) health: Health,
    pub(super) pool: Arc<Pool>,
    pub(super) active: usize,
    /// Messages of the last minute.
    pub(super) pace: Pace,
    /// Its provider counts what is in flight, whatever settings that goes by.
    pub(super) paced: bool,
    /// Attempts that gave their slot back before what became of them was on record.
    pub(super) unrecorded: usize,
    /// Tenants that wait for a free slot.
    pub(super) waiting: Vec<TenantId>,
    /// When it was last seen to work (for `system.required`).
    pub(super) verified: Option<Timestamp>,
    /// It is being looked at.
    pub(super) looking: bool,
    /// Counts changes of its settings: attempts under earlier ones take no slot any more.
    pub(super) generation: u64,
}

pub(super) fn lock(inner: &Inner) -> MutexGuard<'_, Queues> {
    inner.queues.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Queues {
    pub(super) fn mark(&mut self, tenant: &TenantId) {
        if self.dirty_set.insert(tenant.clone()) {
            self.dirty.push_back(tenant.clone());
        }
    }

    fn add(&mut self, waiting: Waiting, longest: Duration) {
        let queue = self.tenants.entry(waiting.tenant.clone()).or_default();
        queue.note(&waiting);
        match waiting.next {
            Some(at) if at > self.clock.now() => {
                // Planned by a clock that was wrong, it would wait for years.
                let at = at.min(lane::after(self.clock.now(), longest));
                queue.push_later(at, waiting.seq, waiting.accepted);
                self.timers.insert((at, waiting.tenant), ());
            }
            _ => {
                queue.push_ready(waiting.seq, waiting.accepted);
                self.mark(&waiting.tenant);
            }
        }
    }

    /// The time now. If the machine's clock was moved, plans keep their distance, and no mail grows
    /// old by it.
    pub(super) fn time(&mut self) -> Timestamp {
        let Some(jump) = self.clock.look() else {
            return self.clock.now();
        };
        tracing::warn!(
            event = "clock-moved",
            seconds = jump.moved().as_secs(),
            "the machine's clock was moved; retries keep their distance, no mail expires by it"
        );
        // Lanes that nothing was known of have to know it too.
        for tenant in self.tenants.keys() {
            self.lanes.entry(RouteKey::Own(tenant.clone())).or_default();
        }
        self.lanes.entry(RouteKey::System).or_default();
        for lane in self.lanes.values_mut() {
            lane.health.clock_moved(jump);
            lane.verified = None;
        }
        self.has_jumped = true;
        let timers = std::mem::take(&mut self.timers);
        for ((time, tenant), ()) in timers {
            let time = time.saturating_add(jump.moved()).unwrap_or(time);
            self.timers.insert((time, tenant), ());
        }
        for (tenant, queue) in &mut self.tenants {
            if let Some(first) = queue.clock_moved(jump.moved()) {
                self.timers.insert((first, tenant.clone()), ());
            }
        }
        jump.to
    }

    /// Gives back the slot of an attempt; gives the tenants that wait for one.
    fn free_slot(&mut self, way: &Way) -> Vec<TenantId> {
        let mut waiting = Vec::new();
        let current = self
            .lanes
            .get(&way.key)
            .is_none_or(|lane| lane.generation == way.generation);
        if let Some(ticket) = way.ticket.filter(|_| current)
            && let Some(portions) = self
                .portions
                .get_mut(&(way.tenant.id.clone(), way.key.clone()))
        {
            portions.ended(ticket);
        }
        if let Some(server) = self.servers.get_mut(&way.server) {
            server.active -= 1;
            waiting = std::mem::take(&mut server.waiting);
            if server.active == 0 {
                self.servers.remove(&way.server);
            }
        }
        if let Some(lane) = self.lanes.get_mut(&way.key) {
            if lane.generation == way.generation {
                lane.active -= 1;
            }
            lane.pace.ended(way.route.upstream().per_minute());
            waiting.append(&mut lane.waiting);
        }
        waiting
    }

    pub(super) fn health(&self, key: &RouteKey) -> Health {
        self.lanes
            .get(key)
            .map(|l| l.health.clone())
            .unwrap_or_default()
    }
}

/// What the scheduler decided for the first message of a tenant.
pub(super) enum Step {
    Start { seq: i64, way: Box<Way> },
    Wait,
}

impl Scheduler {
    /// A scheduler over a spool, with what earlier runs learned of the lanes.
    pub fn new(tools: Tools, now: Now) -> Result<Self, StoreError> {
        let mut queues = Queues {
            held_since: (!now.sending).then(Timestamp::now),
            ..Queues::default()
        };
        for (route, health) in tools.spool.lanes()? {
            if let (Some(key), Ok(mut health)) = (
                RouteKey::from_text(&route),
                serde_json::from_str::<Health>(&health),
            ) {
                // Whoever starts us again may have mended something: one probe at once.
                health.forgive();
                tools
                    .metrics
                    .route_up(label(&key), key.word(), health.is_up());
                queues.lanes.insert(
                    key,
                    Lane {
                        health,
                        ..Lane::default()
                    },
                );
            }
        }
        let inner = Inner {
            tools,
            now: ArcSwap::from_pointee(now),
            queues: Mutex::new(queues),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// New settings. Waiting and suspended mail of the tenants concerned is due at once.
    pub fn reconfigure(
        &self,
        now: Now,
        concerned: &dyn Fn(&TenantId) -> bool,
        system_concerned: bool,
    ) {
        let (was_sending, sends) = (self.inner.now.load().sending, now.sending);
        let directory = Arc::clone(&now.directory);
        self.inner.now.store(Arc::new(now));
        let mut queues = lock(&self.inner);
        let at = queues.time();
        if was_sending && !sends {
            queues.held_since = Some(at);
        }
        if let (true, Some(since)) = (sends, queues.held_since.take()) {
            // The time of the hold does not count towards giving up.
            let keys: Vec<RouteKey> = queues
                .tenants
                .keys()
                .filter_map(|id| directory.tenant(id))
                .filter_map(|t| Some(route::first_choice(t, directory.system()).ok()?.key(t)))
                .collect();
            for key in keys {
                queues
                    .lanes
                    .entry(key)
                    .or_default()
                    .health
                    .leave_out(since, at);
            }
        }
        let mut changed = Vec::new();
        let Queues {
            lanes, portions, ..
        } = &mut *queues;
        for (key, lane) in lanes {
            let touched = match key {
                RouteKey::Own(tenant) => concerned(tenant),
                RouteKey::System => system_concerned,
            };
            if touched {
                lane.health.forgive();
                lane.health.size = None;
                self.inner
                    .tools
                    .spool
                    .learn_upstream_size(&key.to_text(), None);
                lane.verified = None;
                // What still runs on the old settings does not hold up the new ones.
                if !lane.paced {
                    lane.generation += 1;
                    lane.active = 0;
                    for (_, portions) in portions.iter_mut().filter(|((_, k), _)| k == key) {
                        portions.forget_running();
                    }
                }
                changed.push((key.clone(), lane.health.clone()));
            }
        }
        let tenants: Vec<TenantId> = queues.tenants.keys().cloned().collect();
        for tenant in tenants {
            if (concerned(&tenant) || system_concerned)
                && let Some(queue) = queues.tenants.get_mut(&tenant)
            {
                queue.rush();
            }
            queues.mark(&tenant);
        }
        drop(queues);
        for (key, health) in changed {
            self.save(&key, &health);
        }
        self.inner.tools.spool.wake();
    }

    /// Runs until [`Self::drain`].
    pub async fn run(&self) {
        let bouncer = self.clone();
        self.inner
            .tasks
            .spawn(async move { bouncer.run_bouncer().await });
        let notices = self.clone();
        self.inner
            .tasks
            .spawn(async move { notices.run_notices().await });
        let upkeep = self.clone();
        self.inner.tasks.spawn(async move {
            tokio::select! {
                () = upkeep.upkeep() => {}
                () = upkeep.inner.stop.cancelled() => {}
            }
        });
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let wake = self.dispatch();
            let timer = async {
                match wake {
                    Some(wait) => tokio::time::sleep(wait).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = self.inner.tools.spool.hinted() => {}
                () = timer => {}
                _ = sweep.tick() => self.sweep().await,
            }
        }
    }

    /// Stops claiming; running attempts have until `deadline`, then their claims fall back.
    pub async fn drain(&self, deadline: Duration) {
        self.inner.stop.cancel();
        self.inner.tasks.close();
        if tokio::time::timeout(deadline, self.inner.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                event = "drain",
                "deliveries still run at the deadline; they are cancelled and their mail stays in the spool"
            );
            self.inner.abort.cancel();
            let _ = tokio::time::timeout(Duration::from_secs(5), self.inner.tasks.wait()).await;
        }
        // What has happened until now is not forgotten; its mail comes after the next start.
        if let Err(error) = self.keep_notices(true).await {
            tracing::error!(event = "notice-failed", reason = %error);
        }
        let pools: Vec<Arc<Pool>> = lock(&self.inner)
            .lanes
            .values()
            .map(|l| Arc::clone(&l.pool))
            .collect();
        for pool in pools {
            for connection in pool.expired(true) {
                let _ = tokio::time::timeout(Duration::from_secs(1), connection.quit()).await;
            }
        }
    }

    async fn run_bouncer(&self) {
        let mut bouncer = Bouncer::default();
        loop {
            let now = self.inner.now.load_full();
            let wait = bouncer
                .work(&self.inner.tools, &now)
                .await
                .unwrap_or(Duration::from_secs(2));
            tokio::select! {
                () = self.inner.stop.cancelled() => return,
                () = tokio::time::sleep(wait.min(Duration::from_secs(2))) => {}
            }
        }
    }

    /// Starts what may start; gives when to look again.
    fn dispatch(&self) -> Option<Duration> {
        let now = self.inner.now.load_full();
        let mut queues = lock(&self.inner);
        let at = queues.time();
        if std::mem::take(&mut queues.has_jumped) {
            for (key, lane) in &queues.lanes {
                self.save(key, &lane.health);
            }
        }
        for hint in self.inner.tools.spool.take_hints() {
            match hint {
                Hint::Waiting(mut waiting) => {
                    if let Some(until) = queues.resting.get(&waiting.seq) {
                        waiting.next = Some(*until);
                    }
                    queues.add(waiting, now.retry.maximum.max(LONGEST_PAUSE));
                }
                Hint::Tenant(tenant) => {
                    if let Some(lane) = queues.lanes.get_mut(&RouteKey::Own(tenant.clone())) {
                        lane.health.forgive();
                        // A limit may have been lifted as well.
                        let route = RouteKey::Own(tenant.clone()).to_text();
                        self.inner.tools.spool.learn_upstream_size(&route, None);
                    }
                    if let Some(lane) = queues.lanes.get_mut(&RouteKey::System) {
                        // A quota of the shared relay is everybody's: it stays.
                        lane.health.probe_now();
                    }
                    if let Some(queue) = queues.tenants.get_mut(&tenant) {
                        queue.parked.clear();
                    }
                    queues.mark(&tenant);
                }
                Hint::Freed => {
                    let all: Vec<TenantId> = queues.tenants.keys().cloned().collect();
                    for tenant in all {
                        queues.mark(&tenant);
                    }
                }
            }
        }
        while let Some(((time, tenant), ())) = queues
            .timers
            .first_key_value()
            .map(|(k, ())| (k.clone(), ()))
        {
            if time > at {
                break;
            }
            queues.timers.remove(&(time, tenant.clone()));
            let next = queues
                .tenants
                .get_mut(&tenant)
                .and_then(|queue| queue.advance(at));
            if let Some(next) = next {
                queues.timers.insert((next, tenant.clone()), ());
            }
            queues.mark(&tenant);
        }
        // One start a tenant and round: many tenants on one lane take turns.
        while now.sending && queues.running < ATTEMPTS_LIMIT {
            let Some(tenant) = queues.dirty.pop_front() else {
                break;
            };
            queues.dirty_set.remove(&tenant);
            match self.next_start(&mut queues, &now, &tenant, at) {
                Step::Wait => {}
                Step::Start { seq, way } => {
                    queues.running += 1;
                    queues.mark(&tenant);
                    self.start(seq, way, Arc::clone(&now));
                }
            }
        }
        let ((next, _), ()) = queues.timers.first_key_value()?;
        Some(Duration::try_from(next.duration_since(at)).unwrap_or_default())
    }

    fn start(&self, seq: i64, way: Box<Way>, now: Arc<Now>) {
        let scheduler = self.clone();
        self.inner.tasks.spawn(async move {
            let tools = &scheduler.inner.tools;
            let abort = scheduler.inner.abort.clone();
            let freed = std::sync::atomic::AtomicBool::new(false);
            let was_taken = std::sync::atomic::AtomicBool::new(false);
            let taken = || {
                was_taken.store(true, Ordering::Relaxed);
                freed.store(scheduler.free_slot(&way), Ordering::Relaxed);
            };
            let finished = match tools.spool.claim(seq).await {
                Ok(Claiming::Ours(claim)) => {
                    let stored = Arc::clone(claim.message());
                    let run = attempt::run(tools, &now, &way, claim, &taken);
                    let finished = tokio::select! {
                        finished = without_panic(run, || scheduler.rest(seq)) => match finished {
                            Some(finished) => finished,
                            None => scheduler.fell_over(&stored, was_taken.load(Ordering::Relaxed)).await,
                        },
                        () = abort.cancelled() => Finished { news: LaneNews::Untried, again: None },
                    };
                    let again = finished.again.is_some();
                    Some((finished, again.then(|| stored.waiting(None))))
                }
                Ok(Claiming::Gone) => None,
                Ok(Claiming::Busy) => {
                    let again = lane::after(way.clock.now(), BUSY_PAUSE);
                    Some((Finished { news: LaneNews::Untried, again: Some(Again::At(again)) }, None))
                }
                Err(error) => {
                    tracing::error!(event = "claim-failed", tenant = %way.tenant.id, reason = %error, "a waiting message cannot be read; it is tried again");
                    let again = lane::after(way.clock.now(), Duration::from_secs(60));
                    Some((Finished { news: LaneNews::Untried, again: Some(Again::At(again)) }, None))
                }
            };
            let freed = freed.load(Ordering::Relaxed);
            scheduler.finish(seq, &way, finished, &now, freed);
        });
    }

    /// A message whose attempt met a fault of ours is not due at once.
    fn rest(&self, seq: i64) {
        let mut queues = lock(&self.inner);
        let until = lane::after(queues.time(), FAULT_PAUSE);
        queues.resting.insert(seq, until);
    }

    /// A fault of ours cost an attempt: it costs this message, not the others. `was_taken`: the
    /// upstream has the message, and nobody else knows.
    async fn fell_over(&self, stored: &Stored, was_taken: bool) -> Finished {
        tracing::error!(event = "attempt-failed", id = %stored.id, tenant = %stored.tenant, "an internal error ended the delivery of this message; it is tried again, and held if that goes on");
        let spool = &self.inner.tools.spool;
        if let Err(error) = spool.has_met_a_fault(stored.seq, was_taken).await {
            tracing::error!(event = "storage-failed", id = %stored.id, reason = %error);
        }
        let mut queues = lock(&self.inner);
        let until = lane::after(queues.time(), FAULT_PAUSE);
        queues.resting.remove(&stored.seq);
        Finished {
            news: LaneNews::Untried,
            again: Some(Again::At(until)),
        }
    }

    /// The upstream has taken the message: while that is put on record, its lane may go on. Not if
    /// the records do not keep up: what is not on record a crash repeats.
    fn free_slot(&self, way: &Way) -> bool {
        let mut queues = lock(&self.inner);
        let Some(lane) = queues.lanes.get_mut(&way.key) else {
            return false;
        };
        if lane.unrecorded >= way.route.upstream().concurrency() {
            return false;
        }
        lane.unrecorded += 1;
        for tenant in queues.free_slot(way) {
            queues.mark(&tenant);
        }
        queues.mark(&way.tenant.id);
        drop(queues);
        self.inner.tools.spool.wake();
        true
    }

    fn finish(
        &self,
        seq: i64,
        way: &Way,
        finished: Option<(Finished, Option<Waiting>)>,
        now: &Now,
        freed: bool,
    ) {
        let id = &way.tenant.id;
        let mut queues = lock(&self.inner);
        let at = queues.time();
        queues.running -= 1;
        let mut saved = None;
        let mut waiting = Vec::new();
        if !freed {
            waiting = queues.free_slot(way);
        } else if let Some(lane) = queues.lanes.get_mut(&way.key) {
            lane.unrecorded = lane.unrecorded.saturating_sub(1);
        }
        let queues_now = &mut *queues;
        if let Some(lane) = queues_now.lanes.get_mut(&way.key)
            && let Some((finished, _)) = &finished
        {
            let before = lane.health.clone();
            // News of settings that have been changed meanwhile is no news.
            let superseded = !std::ptr::eq(now, Arc::as_ptr(&self.inner.now.load()));
            if !(superseded && matches!(finished.news, LaneNews::Failed(_))) {
                learn(&mut lane.health, &finished.news, way, now, at, seq);
            }
            if matches!(finished.news, LaneNews::Fine { .. }) {
                lane.verified = Some(at);
            }
            self.inner
                .tools
                .metrics
                .route_up(label(&way.key), way.key.word(), lane.health.is_up());
            let mut news = notices::of_route(&mut lane.health, way, &finished.news, now, at);
            if let (RouteKey::System, LaneNews::Failed(failure)) = (&way.key, &finished.news) {
                // Whoever has mail waiting for the relay is told, not only who has tried.
                for tenant in queues_now
                    .tenants
                    .keys()
                    .filter_map(|id| now.directory.tenant(id))
                {
                    if let Ok(route @ Route::System { .. }) =
                        route::first_choice(tenant, now.directory.system())
                    {
                        let health = &mut lane.health;
                        news.extend(notices::of_failure(health, tenant, &route, failure, at));
                    }
                }
            }
            news.extend(notices::of_key(&before, &lane.health, way, now));
            self.inner.tools.notices.extend(news);
            if lane.health != before {
                saved = Some(lane.health.clone());
                if before.is_up() != lane.health.is_up() {
                    self.announce(&way.key, way, &before, &lane.health, &finished.news);
                }
            }
        }
        let mut saved_own = None;
        if let (Route::System { fallback: true, .. }, Some((done, _))) = (&way.route, &finished)
            && matches!(done.news, LaneNews::Fine { .. })
        {
            let own = RouteKey::Own(id.clone());
            let health = &mut queues.lanes.entry(own).or_default().health;
            if let Some(news) = notices::of_fallback(health, way, at) {
                self.inner.tools.notices.push(news);
                saved_own = Some(health.clone());
            }
        }
        if let Some((
            Finished {
                again: Some(again), ..
            },
            waiting,
        )) = &finished
        {
            let mut slowed_again = false;
            let clock = queues.clock;
            let queue = queues.tenants.entry(id.clone()).or_default();
            let accepted = waiting.as_ref().map_or(way.accepted, |w| w.accepted);
            if let Some(waiting) = waiting {
                queue.note(waiting);
            }
            if matches!(&finished, Some((Finished { news: LaneNews::Failed(f), .. }, _)) if matches!(f.class, Class::Slow(_)))
            {
                slowed_again = true;
            }
            match again {
                Again::Ready => queue.push_ready(seq, accepted),
                Again::Pinned(route) => {
                    queue.pinned.insert(seq, route.clone());
                    queue.push_ready(seq, accepted);
                }
                Again::At(time) => {
                    let time = clock.translate(*time, &way.clock);
                    queue.push_later(time, seq, accepted);
                    queues.timers.insert((time, id.clone()), ());
                }
            }
            if slowed_again {
                *queues.slowed.entry(seq).or_default() += 1;
            }
        } else if let Some(queue) = queues.tenants.get_mut(id) {
            queue.take(seq);
            queue.forget(seq);
            queues.slowed.remove(&seq);
            queues.warned.remove(&seq);
        }
        // Those who waited come first: the slot goes round.
        for tenant in waiting {
            queues.mark(&tenant);
        }
        queues.mark(id);
        if way.key == RouteKey::System && saved.is_some() {
            let all: Vec<TenantId> = queues.tenants.keys().cloned().collect();
            for tenant in all {
                queues.mark(&tenant);
            }
        }
        drop(queues);
        if let Some(health) = saved {
            self.save(&way.key, &health);
        }
        if let Some(health) = saved_own {
            self.save(&RouteKey::Own(id.clone()), &health);
        }
        self.inner.tools.spool.wake();
    }

    /// Says, once, that a route has stopped or works again.
    fn announce(
        &self,
        key: &RouteKey,
        way: &Way,
        before: &Health,
        after: &Health,
        news: &LaneNews,
    ) {
        let up = after.is_up();
        let upstream = way.route.upstream().describe();
        if up {
            tracing::info!(event = "route-works-again", tenant = %way.tenant.id, route = %key, upstream = upstream);
        } else if after.suspended_since.is_some() && before.suspended_since.is_none() {
            let remedy = match news {
                LaneNews::Failed(failure) => {
                    let remedy = failure.meaning.remedy.get(way.tenant.language);
                    way.route.upstream().fill(remedy)
                }
                LaneNews::Fine { .. } | LaneNews::Untried => String::new(),
            };
            tracing::error!(event = "route-suspended", tenant = %way.tenant.id, route = %key, upstream = upstream, reason = %after.reason, remedy = remedy);
        } else {
            tracing::warn!(event = "route-failing", tenant = %way.tenant.id, route = %key, upstream = upstream, reason = %after.reason);
        }
    }

    pub(super) fn save(&self, key: &RouteKey, health: &Health) {
        let text = (*health != Health::default())
            .then(|| serde_json::to_string(health).ok())
            .flatten();
        self.inner.tools.spool.save_lane(key.to_text(), text);
    }

    /// What a person wants done.
    pub async fn operate(&self, action: Action, filter: &Filter) -> Result<Report, StoreError> {
        let mut report = self.inner.tools.spool.operate(action, filter, self).await?;
        if action == Action::Bounce {
            let now = self.inner.now.load_full();
            bounce_by_hand(&self.inner.tools, &now, &mut report).await?;
        }
        Ok(report)
    }
}

/// Bounces the messages that a report names; moves those that could not be to its refusals.
pub async fn bounce_by_hand(
    tools: &Tools,
    now: &Now,
    report: &mut Report,
) -> Result<(), StoreError> {
    for id in std::mem::take(&mut report.done) {
        let bounced = bounce_one(tools, now, &id).await?;
        match bounced {
            Ok(()) => report.done.push(id),
            Err(reason) => report.refused.push((id, reason.to_owned())),
        }
    }
    Ok(())
}

async fn bounce_one(
    tools: &Tools,
    now: &Now,
    id: &str,
) -> Result<Result<(), &'static str>, StoreError> {
    let Some(id) = crate::message::MessageId::parse(id) else {
        return Ok(Err("no such message"));
    };
    let Some(seq) = tools.spool.seq_of(id)? else {
        return Ok(Err("no such message"));
    };
    let Some(stored) = tools.spool.load(seq).await? else {
        return Ok(Err("no such message"));
    };
    let Some(tenant) = now.directory.tenant(&stored.tenant) else {
        return Ok(Err("its tenant is no longer configured"));
    };
    if matches!(stored.state, State::Held | State::Failed | State::Uncertain) {
        let filter = Filter {
            ids: vec![id.to_string()],
            ..Filter::default()
        };
        tools
            .spool
            .operate(Action::Retry, &filter, &crate::spool::operate::NoOverlay)
            .await?;
    }
    match tools.spool.claim(seq).await? {
        Claiming::Ours(claim) => {
            give_up_claim(tools, now, tenant, claim, true).await;
            Ok(Ok(()))
        }
        Claiming::Busy | Claiming::Gone => Ok(Err(
            "it is being delivered right now; try again in a moment",
        )),
    }
}

pub(super) async fn give_up_claim(
    tools: &Tools,
    now: &Now,
    tenant: &Arc<Tenant>,
    claim: Claim,
    by_hand: bool,
) {
    let route = route::first_choice(tenant, now.directory.system()).unwrap_or_else(|_| {
        Route::Own(Arc::new(crate::transport::Upstream::Capture(
            std::path::PathBuf::new(),
        )))
    });
    attempt::give_up(tools, now, tenant, route, claim, by_hand).await;
}

/// The tenant of a route in metrics; the system relay is nobody's own.
fn label(key: &RouteKey) -> &str {
    match key {
        RouteKey::Own(tenant) => tenant.as_str(),
        RouteKey::System => "",
    }
}

/// Takes an attempt's news into a lane's health.
fn learn(health: &mut Health, news: &LaneNews, way: &Way, now: &Now, at: Timestamp, seq: i64) {
    match news {
        LaneNews::Untried => {}
        LaneNews::Fine {
            key,
            refuses_null,
            size,
        } => {
            health.succeeded(at);
            health.size = *size;
            health.refuses_null |= refuses_null;
            let trusting = matches!(way.route.upstream().as_ref(), crate::transport::Upstream::Smtp(s) if s.certificate == crate::transport::smtp::CertificatePolicy::TrustAlways);
            if let (true, Some(key)) = (trusting, key) {
                if health.key_seen.as_ref().is_some_and(|seen| seen != key) {
                    tracing::warn!(event = "server-key-changed", tenant = %way.tenant.id, route = %way.key, pin = format!("sha256/{key}"), "the server has another key than before; if nobody renewed its certificate, somebody may be reading along");
                }
                health.key_seen = Some(key.clone());
            }
        }
        // Attempts that ran side by side have all seen the same failure: it counts once.
        LaneNews::Failed(failure)
            if health.failures > way.health.failures
                && !matches!(failure.class, Class::Slow(_)) => {}
        LaneNews::Failed(failure) => {
            health.one_by_one |= failure.pipeline_stalled;
            let jitter = u32::try_from(seq & 0xffff)
                .unwrap_or(0)
                .wrapping_mul(40_503);
            match failure.class {
                Class::Slow(pause) => health.paused(at, pause, &failure.to_string()),
                Class::Suspend => health.failed(
                    at,
                    &now.retry,
                    true,
                    failure.before_acceptance(),
                    &failure.to_string(),
                    jitter,
                ),
                Class::Transient | Class::Permanent | Class::Sender | Class::Uncertain => health
                    .failed(
                        at,
                        &now.retry,
                        false,
                        failure.before_acceptance(),
                        &failure.to_string(),
                        jitter,
                    ),
            }
        }
    }
}

impl Overlay for Scheduler {
    fn lane_state(&self, tenant: &TenantId) -> Option<(State, String, Option<Timestamp>)> {
        let now = self.inner.now.load();
        let queues = lock(&self.inner);
        if !now.sending {
            return Some((State::Held, "sending is switched to hold".to_owned(), None));
        }
        if let Some(reason) = queues
            .tenants
            .get(tenant)
            .and_then(|q| q.stuck_reason().map(str::to_owned))
        {
            return Some((State::Held, reason, None));
        }
        let settings = now.directory.tenant(tenant)?;
        let key = route::first_choice(settings, now.directory.system())
            .ok()?
            .key(settings);
        let health = queues.lanes.get(&key).map(|l| l.health.clone())?;
        let next = health
            .retry_at
            .max(health.slow_until)
            .filter(|at| *at > Timestamp::UNIX_EPOCH);
        if health.suspended_since.is_some() {
            return Some((State::Suspended, health.reason, next));
        }
        match health.gate(Timestamp::now()) {
            Gate::Open => None,
            Gate::Probe | Gate::Closed(_) => Some((State::Deferred, health.reason, next)),
        }
    }
}

/// What a future gives; `None`: it has panicked, `at_panic` was told, and it is dropped.
async fn without_panic<F: Future>(future: F, at_panic: impl Fn()) -> Option<F::Output> {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::task::Poll;
    // Nobody looks at what a panic has left half done: the future is not polled again.
    let mut future = std::pin::pin!(future);
    std::future::poll_fn(
        |cx| match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(cx))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(output)) => Poll::Ready(Some(output)),
            Err(_) => {
                at_panic();
                Poll::Ready(None)
            }
        },
    )
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_ends_one_future_only() {
        assert_eq!(without_panic(async { 7 }, || ()).await, Some(7));
        let dropped = std::cell::Cell::new(false);
        let told = std::cell::Cell::new(false);
        let guard = on_drop(&dropped);
        let broken = async move {
            let _guard = guard;
            tokio::task::yield_now().await;
            assert!(std::env::args().count() == usize::MAX, "on purpose");
        };
        assert_eq!(without_panic(broken, || told.set(true)).await, None);
        assert!(told.get());
        assert!(dropped.get(), "what it had is given back");
    }

    /// Sets the cell when it is dropped.
    fn on_drop(cell: &std::cell::Cell<bool>) -> impl Drop + '_ {
        struct Guard<'a>(&'a std::cell::Cell<bool>);
        impl Drop for Guard<'_> {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        Guard(cell)
    }
}
