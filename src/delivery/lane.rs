//! A lane: one route with all that is learned of it (failures, suspension, pauses) and its kept
//! connections. A stuck lane never delays another.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::clock::Jump;
use super::retry;
use crate::transport::Upstream;
use crate::transport::smtp::Connection;

/// A kept connection is closed after this long without work.
pub const IDLE_LIMIT: Duration = Duration::from_secs(30);

/// What is known of a route. Saved in the spool, so a restart forgets nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Health {
    /// First of the present row of failures in which nothing can have been taken.
    #[serde(default)]
    pub failing_since: Option<Timestamp>,
    /// First of the present row of failures of any kind.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub down_since: Option<Timestamp>,
    /// How many in a row.
    #[serde(default)]
    pub failures: u32,
    /// Nothing is tried before; then one probe.
    #[serde(default)]
    pub retry_at: Option<Timestamp>,
    /// Suspended since: login, authorisation or certificate refused.
    #[serde(default)]
    pub suspended_since: Option<Timestamp>,
    /// Paused by a quota until then.
    #[serde(default)]
    pub slow_until: Option<Timestamp>,
    /// The words that led to it.
    #[serde(default)]
    pub reason: String,
    /// The last failure, also of a route that works again.
    #[serde(default)]
    pub last_error: Option<(Timestamp, String)>,
    /// Tenants whose people were told that it fails.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub told_failing: BTreeSet<String>,
    /// They were told that the system relay carries their mail meanwhile.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub told_fallback: bool,
    /// Times that do not count towards giving up.
    #[serde(default)]
    pub excluded: Vec<(Timestamp, Timestamp)>,
    /// SHA-256 of the server's key as first seen, for `trust-always`.
    #[serde(default)]
    pub key_seen: Option<String>,
    /// What the server last said of its SIZE.
    #[serde(default)]
    pub size: Option<u64>,
    /// The server refuses `MAIL FROM:<>`.
    #[serde(default)]
    pub refuses_null: bool,
    /// The server says PIPELINING and hangs on it: one command at a time.
    #[serde(default)]
    pub one_by_one: bool,
}

/// Whether a lane may be used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Up to its concurrency.
    Open,
    /// By one message, to see whether it works again.
    Probe,
    /// Not before then.
    Closed(Timestamp),
}

impl Health {
    /// Whether it may be used.
    pub fn gate(&self, now: Timestamp) -> Gate {
        if let Some(until) = self.slow_until.filter(|until| *until > now) {
            return Gate::Closed(until);
        }
        match self.retry_at {
            Some(at) if at > now => Gate::Closed(at),
            Some(_) => Gate::Probe,
            None => Gate::Open,
        }
    }

    /// Whether it works as far as is known.
    pub fn is_up(&self) -> bool {
        self.failures == 0 && self.suspended_since.is_none()
    }

    /// The route has taken or refused a message in its own words: it works.
    pub fn succeeded(&mut self, now: Timestamp) {
        if let Some(since) = self.suspended_since.take() {
            self.exclude(since, now);
        }
        self.failing_since = None;
        self.down_since = None;
        self.failures = 0;
        self.retry_at = None;
        self.slow_until = None;
        self.reason.clear();
    }

    /// The route failed as a whole. `jitter`: any number.
    pub fn failed(
        &mut self,
        now: Timestamp,
        retry: &retry::Settings,
        suspend: bool,
        before_acceptance: bool,
        reason: &str,
        jitter: u32,
    ) {
        // A failure long ago and one now are not one long failure.
        let quiet = self.retry_at.is_some_and(|at| {
            at > Timestamp::UNIX_EPOCH && after(at, retry.maximum.saturating_mul(2)) < now
        });
        if quiet || !before_acceptance {
            self.failing_since = None;
        }
        if quiet {
            self.down_since = None;
        }
        self.down_since.get_or_insert(now);
        self.failures = self.failures.saturating_add(1);
        // A probe interval is kept exactly; only plain retries are spread.
        let wait = if suspend {
            retry.wait(self.failures)
        } else {
            retry.wait_with_jitter(self.failures, jitter)
        };
        self.retry_at = Some(after(now, wait));
        if before_acceptance {
            self.failing_since.get_or_insert(now);
        }
        match (suspend, self.suspended_since) {
            (true, None) => self.suspended_since = Some(now),
            (false, Some(since)) => {
                self.exclude(since, now);
                self.suspended_since = None;
            }
            _ => {}
        }
        self.reason = reason.to_owned();
        self.last_error = Some((now, self.reason.clone()));
    }

    /// A quota: nothing for a while, not counted.
    pub fn paused(&mut self, now: Timestamp, pause: Duration, reason: &str) {
        let until = after(now, pause);
        self.slow_until = Some(until);
        self.exclude(now, until);
        self.reason = reason.to_owned();
        self.last_error = Some((now, self.reason.clone()));
    }

    /// One probe may go at once.
    pub fn probe_now(&mut self) {
        self.retry_at = self.retry_at.map(|_| Timestamp::UNIX_EPOCH);
    }

    /// Settings have changed: everything may be tried again at once.
    pub fn forgive(&mut self) {
        self.probe_now();
        self.failing_since = None;
        self.slow_until = None;
        self.refuses_null = false;
        self.one_by_one = false;
    }

    /// The machine's clock was moved: what is planned keeps its distance from now, and the jump
    /// does not count towards giving up.
    pub fn clock_moved(&mut self, jump: Jump) {
        let moved = jump.moved();
        for time in [
            &mut self.retry_at,
            &mut self.slow_until,
            &mut self.failing_since,
            &mut self.down_since,
            &mut self.suspended_since,
        ]
        .into_iter()
        .flatten()
        {
            if *time > Timestamp::UNIX_EPOCH {
                *time = time.saturating_add(moved).unwrap_or(*time);
            }
        }
        if jump.to > jump.from {
            self.exclude(jump.from, jump.to);
        }
    }

    /// A time that does not count towards giving up.
    pub fn leave_out(&mut self, from: Timestamp, to: Timestamp) {
        self.exclude(from, to);
    }

    fn exclude(&mut self, from: Timestamp, to: Timestamp) {
        self.excluded.push((from, to));
        if self.excluded.len() > 64 {
            self.excluded.remove(0);
        }
    }

    /// How much of the time since `from` does not count towards giving up.
    pub fn excluded_since(&self, from: Timestamp, now: Timestamp) -> Duration {
        let mut spans: Vec<(Timestamp, Timestamp)> = self.excluded.clone();
        spans.extend(self.suspended_since.map(|since| (since, now)));
        spans.sort();
        let mut total = Duration::ZERO;
        let mut reached = from;
        for (start, end) in spans {
            let (start, end) = (start.max(reached), end.min(now));
            if end > start {
                total += Duration::try_from(end.duration_since(start)).unwrap_or_default();
                reached = end;
            }
        }
        total
    }
}

/// A time later, saturating.
pub fn after(now: Timestamp, wait: Duration) -> Timestamp {
    jiff::SignedDuration::try_from(wait)
        .ok()
        .and_then(|d| now.checked_add(d).ok())
        .unwrap_or(Timestamp::MAX)
}

/// Kept connections of a lane. They belong to one set of settings: after a change all are closed.
#[derive(Debug, Default)]
pub struct Pool {
    idle: Mutex<(Option<Arc<Upstream>>, Vec<Connection>)>,
}

impl Pool {
    /// A kept connection that still seems alive.
    pub fn take(&self, upstream: &Arc<Upstream>) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle
            .0
            .as_ref()
            .is_some_and(|known| !Arc::ptr_eq(known, upstream))
        {
            idle.1.clear();
        }
        idle.0 = Some(Arc::clone(upstream));
        while let Some(mut connection) = idle.1.pop() {
            if connection.last_used.elapsed() < IDLE_LIMIT && !connection.is_disturbed() {
                return Some(connection);
            }
        }
        None
    }

    /// Whether a kept connection says that the server is still there.
    pub fn is_alive(&self) -> bool {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.1
            .iter_mut()
            .any(|connection| !connection.is_disturbed())
    }

    /// Keeps a connection, if it is for these settings.
    pub fn put(
        &self,
        upstream: &Arc<Upstream>,
        connection: Connection,
        limit: usize,
    ) -> Option<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = idle
            .0
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, upstream))
            && idle.1.len() < limit;
        if fits {
            idle.1.push(connection);
            None
        } else {
            Some(connection)
        }
    }

    /// Takes out connections that have been idle for too long, or all of them.
    pub fn expired(&self, all: bool) -> Vec<Connection> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        let (gone, kept) = std::mem::take(&mut idle.1)
            .into_iter()
            .partition(|c| all || c.last_used.elapsed() >= IDLE_LIMIT);
        idle.1 = kept;
        gone
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).expect("time")
    }

    #[test]
    fn probes_and_releases() {
        let retry = retry::Settings::default();
        let mut health = Health::default();
        assert_eq!(health.gate(at(0)), Gate::Open);
        health.failed(at(0), &retry, true, true, "535", 0);
        assert_eq!(health.gate(at(59)), Gate::Closed(at(60)));
        assert_eq!(health.gate(at(60)), Gate::Probe);
        health.failed(at(60), &retry, true, true, "535", 0);
        assert_eq!(
            health.gate(at(61)),
            Gate::Closed(at(180)),
            "the interval doubles"
        );
        assert_eq!(health.failing_since, Some(at(0)));
        assert_eq!(
            health.excluded_since(at(-100), at(200)),
            Duration::from_secs(200)
        );
        health.succeeded(at(200));
        assert_eq!((health.gate(at(200)), health.is_up()), (Gate::Open, true));
        assert_eq!(
            health.excluded_since(at(100), at(500)),
            Duration::from_secs(100)
        );
        health.paused(at(300), Duration::from_secs(50), "quota");
        assert_eq!(health.gate(at(310)), Gate::Closed(at(350)));
        health.forgive();
        assert_eq!(health.gate(at(310)), Gate::Open);
    }
}
