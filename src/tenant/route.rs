//! Which way a message leaves: the tenant's own upstream or the system relay. Pure; obeys the
//! operator.

use std::fmt;
use std::sync::Arc;

use super::{System, SystemRelay, Tenant};
use crate::message::TenantId;
use crate::transport::Upstream;

/// The name of a route. All that is learned of a server (failures, suspension, connections) is
/// kept under it, so nothing of one tenant's route can touch another's.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RouteKey {
    /// A tenant's own upstream.
    Own(TenantId),
    /// The system relay.
    System,
}

impl RouteKey {
    /// The word in logs, metrics and `queue` output.
    pub fn word(&self) -> &'static str {
        match self {
            RouteKey::Own(_) => "own",
            RouteKey::System => "system",
        }
    }

    /// The form in which the store keeps it.
    pub fn to_text(&self) -> String {
        match self {
            RouteKey::Own(id) => format!("own/{id}"),
            RouteKey::System => "system".to_owned(),
        }
    }

    /// Reads that form.
    pub fn from_text(text: &str) -> Option<Self> {
        match text.strip_prefix("own/") {
            Some(id) => TenantId::parse(id).map(RouteKey::Own),
            None => (text == "system").then_some(RouteKey::System),
        }
    }
}

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

/// A chosen route.
#[derive(Debug, Clone)]
pub enum Route {
    /// The tenant's own upstream.
    Own(Arc<Upstream>),
    /// The system relay; `fallback`: only because the own upstream has failed.
    System {
        /// The relay.
        system: Arc<System>,
        /// Its server.
        upstream: Arc<Upstream>,
        /// The own upstream would have been first.
        fallback: bool,
    },
}

impl Route {
    /// Its name.
    pub fn key(&self, tenant: &Tenant) -> RouteKey {
        match self {
            Route::Own(_) => RouteKey::Own(tenant.id.clone()),
            Route::System { .. } => RouteKey::System,
        }
    }

    /// The server.
    pub fn upstream(&self) -> &Arc<Upstream> {
        match self {
            Route::Own(upstream) | Route::System { upstream, .. } => upstream,
        }
    }
}

/// Why there is no route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoRoute {
    /// No upstream, and no system relay allowed.
    #[error("no route for this tenant")]
    Unconfigured,
    /// `system.required` and there is no system relay.
    #[error("no route for this tenant: a system relay is required and none is configured")]
    SystemRequired,
}

/// The tenant's own upstream, if the operator lets it have one.
pub fn own(tenant: &Tenant) -> Option<&Arc<Upstream>> {
    tenant
        .upstream
        .as_ref()
        .filter(|_| tenant.policy.own_upstream)
}

/// The first choice for a tenant, before any failure.
pub fn first_choice(tenant: &Tenant, system: Option<&Arc<System>>) -> Result<Route, NoRoute> {
    let relay = system.and_then(|s| s.upstream.as_ref().map(|u| (s, u)));
    if system.is_some_and(|s| s.required) && relay.is_none() {
        return Err(NoRoute::SystemRequired);
    }
    if let Some(upstream) = own(tenant) {
        return Ok(Route::Own(Arc::clone(upstream)));
    }
    match (tenant.policy.system_relay, relay) {
        (SystemRelay::Never, _) | (_, None) => Err(NoRoute::Unconfigured),
        (SystemRelay::WhenUnconfigured | SystemRelay::OnFailure, Some((system, upstream))) => {
            Ok(Route::System {
                system: Arc::clone(system),
                upstream: Arc::clone(upstream),
                fallback: false,
            })
        }
    }
}

/// The second choice once the own upstream has failed long enough: `None` where the operator
/// does not allow it or there is no relay.
pub fn fallback(tenant: &Tenant, system: Option<&Arc<System>>) -> Option<Route> {
    if tenant.policy.system_relay != SystemRelay::OnFailure || own(tenant).is_none() {
        return None;
    }
    let system = system?;
    let upstream = system.upstream.as_ref()?;
    Some(Route::System {
        system: Arc::clone(system),
        upstream: Arc::clone(upstream),
        fallback: true,
    })
}
