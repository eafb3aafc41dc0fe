//! `/metrics`: what an operator watches, in the Prometheus text format.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Accepted {
    tenant: String,
    listener: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Rejected {
    tenant: String,
    code: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Delivered {
    tenant: String,
    route: String,
    outcome: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct InState {
    tenant: String,
    state: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfRoute {
    tenant: String,
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfTenant {
    tenant: String,
}

/// All metrics of one process.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    accepted: Family<Accepted, Counter>,
    rejected: Family<Rejected, Counter>,
    deliveries: Family<Delivered, Counter>,
    messages: Family<InState, Gauge<f64, AtomicU64>>,
    bytes: Gauge<f64, AtomicU64>,
    delivery_seconds: Histogram,
    commit_seconds: Histogram,
    up: Family<OfRoute, Gauge<f64, AtomicU64>>,
    token_expiry: Family<OfTenant, Gauge<f64, AtomicU64>>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("postbote");
        let accepted = Family::default();
        let rejected = Family::default();
        let deliveries = Family::default();
        let messages = Family::default();
        let bytes = Gauge::default();
        let delivery_seconds = Histogram::new(exponential_buckets(0.005, 2.5, 14));
        let commit_seconds = Histogram::new(exponential_buckets(0.000_1, 2.5, 12));
        let up = Family::default();
        registry.register(
            "messages_accepted",
            "Messages answered with 250",
            Family::clone(&accepted),
        );
        registry.register(
            "submissions_rejected",
            "Refusals by reply code",
            Family::clone(&rejected),
        );
        registry.register(
            "deliveries",
            "Recipients by what became of them",
            Family::clone(&deliveries),
        );
        registry.register(
            "spool_messages",
            "Messages in the spool by state",
            Family::clone(&messages),
        );
        registry.register(
            "spool_bytes",
            "Octets of waiting mail",
            Gauge::clone(&bytes),
        );
        registry.register(
            "delivery_seconds",
            "Time of one delivery attempt",
            delivery_seconds.clone(),
        );
        registry.register(
            "commit_seconds",
            "Time of one commit of the spool",
            commit_seconds.clone(),
        );
        registry.register(
            "upstream_up",
            "1: the route works, 0: it fails or is suspended",
            Family::clone(&up),
        );
        let token_expiry = Family::<OfTenant, Gauge<f64, AtomicU64>>::default();
        registry.register(
            "oauth_token_expiry_seconds",
            "Time until the access token in hand ends; negative: it has ended",
            Family::clone(&token_expiry),
        );
        Self {
            registry,
            accepted,
            rejected,
            deliveries,
            messages,
            bytes,
            delivery_seconds,
            commit_seconds,
            up,
            token_expiry,
        }
    }
}

impl Metrics {
    /// A message was answered with 250.
    pub fn accepted(&self, tenant: &str, listener: &str) {
        self.accepted
            .get_or_create(&Accepted {
                tenant: tenant.to_owned(),
                listener: listener.to_owned(),
            })
            .inc();
    }

    /// Something was refused.
    pub fn rejected(&self, tenant: &str, code: u16) {
        self.rejected
            .get_or_create(&Rejected {
                tenant: tenant.to_owned(),
                code: code.to_string(),
            })
            .inc();
    }

    /// A recipient was `sent`, `deferred` or `bounced`.
    pub fn delivery(&self, tenant: &str, route: &str, outcome: &str) {
        self.deliveries
            .get_or_create(&Delivered {
                tenant: tenant.to_owned(),
                route: route.to_owned(),
                outcome: outcome.to_owned(),
            })
            .inc();
    }

    /// An attempt took so long.
    pub fn attempt_took(&self, time: Duration) {
        self.delivery_seconds.observe(time.as_secs_f64());
    }

    /// A commit took so long.
    pub fn commit_took(&self, time: Duration) {
        self.commit_seconds.observe(time.as_secs_f64());
    }

    /// Whether a route works.
    pub fn route_up(&self, tenant: &str, route: &str, up: bool) {
        self.up
            .get_or_create(&OfRoute {
                tenant: tenant.to_owned(),
                route: route.to_owned(),
            })
            .set(f64::from(u8::from(up)));
    }

    /// When the access tokens in hand end, by account, in seconds from now.
    pub fn token_expiries(&self, all: &[(String, f64)]) {
        self.token_expiry.clear();
        for (account, seconds) in all {
            let tenant = account.trim_start_matches('@').to_owned();
            self.token_expiry
                .get_or_create(&OfTenant { tenant })
                .set(*seconds);
        }
    }

    /// The text of `/metrics`, with the present state of the spool.
    pub fn render(
        &self,
        spool_bytes: u64,
        counts: &[(String, String, u64)],
    ) -> Result<String, std::fmt::Error> {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a gauge is a float by definition"
        )]
        {
            self.bytes.set(spool_bytes as f64);
            self.messages.clear();
            for (tenant, state, count) in counts {
                self.messages
                    .get_or_create(&InState {
                        tenant: tenant.clone(),
                        state: state.clone(),
                    })
                    .set(*count as f64);
            }
        }
        let mut out = String::new();
        encode(&mut out, &self.registry)?;
        Ok(out)
    }
}
