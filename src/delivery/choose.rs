//! Which message of a tenant may go now, and which way: the question that the scheduler asks before
//! every start.

use std::sync::Arc;

use jiff::Timestamp;

use super::attempt::{Now, Way};
use super::lane::{self, Gate, Pool};
use super::pace::Pause;
use super::scheduler::{Queues, SERVER_LIMIT, Scheduler, Step, lock};
use super::series::Share;
use crate::failure::Class;
use crate::message::TenantId;
use crate::tenant::Tenant;
use crate::tenant::route::{self, Route, RouteKey};
use crate::transport::smtp::Connection;
use crate::transport::{Failure, Upstream};

/// How long a system relay that was seen to work counts as working (`system.required`).
const VERIFIED_FOR: std::time::Duration = std::time::Duration::from_secs(10);

/// So long a look counts even if the relay ends the conversation at once.
const JUST_NOW: std::time::Duration = std::time::Duration::from_secs(1);

/// How many due messages of a tenant are looked at for one that may go.
const LOOK_AHEAD: usize = 16;

/// What decides which way a message may take: the only route that is left to it, whether it is
/// single mail, whether it goes to support.
type MessageKind = (Option<RouteKey>, bool, bool);

impl Scheduler {
    /// Finds the first message of a tenant that may go now, and its way.
    pub(super) fn next_start(
        &self,
        queues: &mut Queues,
        now: &Now,
        id: &TenantId,
        at: Timestamp,
    ) -> Step {
        let Some(queue) = queues.tenants.get_mut(id) else {
            return Step::Wait;
        };
        if queue.is_empty() {
            queues.tenants.remove(id);
            return Step::Wait;
        }
        let Some(tenant) = now.directory.tenant(id) else {
            queue.stuck("the tenant is no longer configured".to_owned(), at);
            return Step::Wait;
        };
        let first = match route::first_choice(tenant, now.directory.system()) {
            Ok(route) => route,
            Err(error) => {
                queue.stuck(error.to_string(), at);
                return Step::Wait;
            }
        };
        let stuck_since = queue.unstuck();
        if let Some(since) = stuck_since {
            // Without a route its mail was held; that time does not count towards giving up.
            let lane = queues.lanes.entry(first.key(tenant)).or_default();
            lane.health.leave_out(since, at);
        }
        let Some(queue) = queues.tenants.get(id) else {
            return Step::Wait;
        };
        let mut first_due = queue.due(LOOK_AHEAD, tenant.series.is_some());
        self.inner.tools.spool.leave_out_active(&mut first_due);
        let due: Vec<(i64, MessageKind, Share)> = first_due
            .into_iter()
            .map(|seq| {
                let share = Share {
                    single: queue.is_single(seq),
                    weight: queue.recipients(seq),
                };
                let pinned = queue.pinned.get(&seq).cloned();
                (seq, (pinned, share.single, queue.is_to_support(seq)), share)
            })
            .collect();
        if due.is_empty() || !self.relay_allows(queues, now, id, &first, at) {
            return Step::Wait;
        }
        let second = route::fallback(tenant, now.directory.system());
        let mut wake: Option<Timestamp> = None;
        let mut tried: Vec<MessageKind> = Vec::new();
        for (seq, kind, share) in due {
            if tried.contains(&kind) {
                continue; // what holds one back holds back all of its kind
            }
            let (pinned, _, to_support) = &kind;
            let candidates = match self.candidates(
                queues,
                tenant,
                &first,
                second.as_ref(),
                pinned.as_ref(),
                *to_support,
                at,
                &mut wake,
            ) {
                Some(candidates) => candidates,
                None => {
                    tracing::warn!(event = "parked", tenant = %id, "the route that may have taken a message is no longer configured; `postbote queue retry` or `remove` it");
                    if let Some(queue) = queues.tenants.get_mut(id) {
                        queue.parked.insert(seq);
                    }
                    continue;
                }
            };
            if let Some(way) = self.open_lane(queues, tenant, candidates, share, at, &mut wake) {
                let slowed = queues.slowed.get(&seq).copied().unwrap_or(0);
                let taken = queues.tenants.get_mut(id).and_then(|q| q.take(seq));
                let own_error = match &way.route {
                    Route::System { fallback: true, .. } => {
                        queues.health(&first.key(tenant)).last_error
                    }
                    Route::System { .. } | Route::Own(_) => None,
                };
                return Step::Start {
                    seq,
                    way: Box::new(Way {
                        accepted: taken.unwrap_or(at),
                        slowed,
                        own_error,
                        ..way
                    }),
                };
            }
            tried.push(kind);
        }
        if let Some(at) = wake {
            queues.timers.insert((at, id.clone()), ());
        }
        Step::Wait
    }

    /// The routes that a message may take now, best first; `None`: its only one is gone.
    #[expect(clippy::too_many_arguments, reason = "the whole of the question")]
    fn candidates(
        &self,
        queues: &Queues,
        tenant: &Tenant,
        first: &Route,
        second: Option<&Route>,
        pinned: Option<&RouteKey>,
        to_support: bool,
        at: Timestamp,
        wake: &mut Option<Timestamp>,
    ) -> Option<Vec<Route>> {
        if let Some(only) = pinned {
            let fits = |route: &&Route| route.key(tenant) == *only;
            return Some(first)
                .filter(fits)
                .or_else(|| second.filter(fits))
                .map(|route| vec![route.clone()]);
        }
        let mut routes = vec![first.clone()];
        if let (Route::Own(_), Some(relay)) = (first, second) {
            let health = queues.health(&first.key(tenant));
            if let Some(since) = health.failing_since {
                // That it does not work is what support is told.
                let patience = if to_support {
                    std::time::Duration::ZERO
                } else {
                    tenant.policy.fallback_after
                };
                let begins = lane::after(since, patience);
                if begins <= at {
                    routes.push(relay.clone());
                } else {
                    *wake = Some(wake.map_or(begins, |w| w.min(begins)));
                }
            }
        }
        Some(routes)
    }

    /// Takes a slot in the first lane that is open.
    fn open_lane(
        &self,
        queues: &mut Queues,
        tenant: &Arc<Tenant>,
        candidates: Vec<Route>,
        share: Share,
        at: Timestamp,
        wake: &mut Option<Timestamp>,
    ) -> Option<Way> {
        for route in candidates {
            let key = route.key(tenant);
            let lane = queues.lanes.entry(key.clone()).or_default();
            let limit = match lane.health.gate(at) {
                Gate::Open => route.upstream().concurrency(),
                Gate::Probe => 1,
                Gate::Closed(until) => {
                    *wake = Some(wake.map_or(until, |w| w.min(until)));
                    continue;
                }
            };
            lane.paced = route.upstream().per_minute().is_some();
            if let Some(wait) = lane.pace.wait(route.upstream().per_minute(), lane.active) {
                match wait {
                    Pause::Until(pause) => {
                        let until = lane::after(at, pause);
                        *wake = Some(wake.map_or(until, |w| w.min(until)));
                    }
                    // An attempt that ends opens the way.
                    Pause::Running => {
                        if !lane.waiting.contains(&tenant.id) {
                            lane.waiting.push(tenant.id.clone());
                        }
                    }
                }
                return None;
            }
            if lane.active >= limit {
                // A busy lane is waited for; only a closed one sends mail another way.
                if !lane.waiting.contains(&tenant.id) {
                    lane.waiting.push(tenant.id.clone());
                }
                return None;
            }
            let server = route.upstream().endpoint();
            let running = queues.servers.entry(server.clone()).or_default();
            if running.active >= SERVER_LIMIT {
                if !running.waiting.contains(&tenant.id) {
                    running.waiting.push(tenant.id.clone());
                }
                return None;
            }
            let mut ticket = None;
            if let Some(series) = tenant.series {
                let portions = queues
                    .portions
                    .entry((tenant.id.clone(), key.clone()))
                    .or_default();
                let weight = if route.upstream().counts_recipients() {
                    share.weight
                } else {
                    1
                };
                match portions.admit(series, Share { weight, ..share }) {
                    Ok(admitted) => ticket = Some(admitted),
                    Err(Pause::Until(pause)) => {
                        let until = lane::after(at, pause);
                        *wake = Some(wake.map_or(until, |w| w.min(until)));
                        return None;
                    }
                    Err(Pause::Running) => {
                        if !lane.waiting.contains(&tenant.id) {
                            lane.waiting.push(tenant.id.clone());
                        }
                        return None;
                    }
                }
            }
            running.active += 1;
            lane.active += 1;
            let generation = lane.generation;
            let (pool, health) = (Arc::clone(&lane.pool), lane.health.clone());
            return Some(Way {
                tenant: Arc::clone(tenant),
                route,
                key,
                pool,
                health,
                own_error: None,
                accepted: at,
                slowed: 0,
                ticket,
                server,
                generation,
                clock: queues.clock,
            });
        }
        None
    }

    /// With `system.required`: own upstreams carry mail only while the system relay is known to
    /// work. When that is not known, it is looked at.
    fn relay_allows(
        &self,
        queues: &mut Queues,
        now: &Now,
        id: &TenantId,
        first: &Route,
        at: Timestamp,
    ) -> bool {
        let Some(system) = now
            .directory
            .system()
            .filter(|s| s.required && matches!(first, Route::Own(_)))
        else {
            return true;
        };
        let Some(upstream) = &system.upstream else {
            return false;
        };
        let lane = queues.lanes.entry(RouteKey::System).or_default();
        let fresh = lane
            .verified
            .is_some_and(|since| lane::after(since, VERIFIED_FOR) > at);
        let just_now = lane
            .verified
            .is_some_and(|since| lane::after(since, JUST_NOW) > at);
        if fresh && lane.health.is_up() && (just_now || lane.pool.is_alive()) {
            return true;
        }
        if !lane.waiting.contains(id) {
            lane.waiting.push(id.clone());
        }
        match lane.health.gate(at) {
            Gate::Closed(until) => {
                queues.timers.insert((until, id.clone()), ());
            }
            Gate::Open | Gate::Probe if !lane.looking => {
                lane.looking = true;
                self.look_at_relay(Arc::clone(upstream), Arc::clone(&lane.pool));
            }
            Gate::Open | Gate::Probe => {}
        }
        false
    }

    /// Opens a conversation with the system relay and keeps it.
    fn look_at_relay(&self, upstream: Arc<Upstream>, pool: Arc<Pool>) {
        let scheduler = self.clone();
        self.inner.tasks.spawn(async move {
            let outcome = match upstream.as_ref() {
                Upstream::Smtp(settings) => match Connection::open(settings, &scheduler.inner.tools.context).await {
                    Ok(connection) => {
                        // Kept, it tells at once when the server goes away.
                        drop(pool.take(&upstream));
                        let limit = settings.connections;
                        if let Some(surplus) = pool.put(&upstream, connection, limit) {
                            surplus.quit().await;
                        }
                        None
                    }
                    Err(failure) => Some(failure),
                },
                Upstream::Graph(crate::transport::graph::Settings { oauth, .. })
                | Upstream::Gmail(crate::transport::gmail::Settings { oauth, .. }) => {
                    // An API that gives a token is taken to be there.
                    let tokens = &scheduler.inner.tools.context.tokens;
                    tokens.access(oauth, None).await.err().map(Failure::of_token)
                }
                Upstream::Capture(_) => None,
            };
            let now = scheduler.inner.now.load_full();
            let mut queues = lock(&scheduler.inner);
            let at = queues.time();
            let mut waiting = Vec::new();
            if let Some(lane) = queues.lanes.get_mut(&RouteKey::System) {
                lane.looking = false;
                waiting = std::mem::take(&mut lane.waiting);
                match &outcome {
                    None => {
                        lane.verified = Some(at);
                        lane.health.succeeded(at);
                    }
                    Some(failure) => {
                        tracing::warn!(event = "required-relay-down", reason = %failure, "no tenant may send until the system relay works again");
                        lane.health.failed(at, &now.retry, failure.class == Class::Suspend, failure.before_acceptance(), &failure.to_string(), 0);
                    }
                }
            }
            for tenant in waiting {
                queues.mark(&tenant);
            }
            drop(queues);
            scheduler.inner.tools.spool.wake();
        });
    }
}
