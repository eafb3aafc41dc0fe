//! What has to be looked for, because nothing else brings it up: messages that are late or
//! expired behind closed lanes, and connections that nobody uses any more.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::attempt::{self, Now};
use super::lane::Health;
use super::scheduler::{Queues, Scheduler, give_up_claim, lock};
use super::{bounce, lane, sender};
use crate::message::TenantId;
use crate::spool::{Claiming, Notice, OwedRecipient, State};
use crate::tenant::{Tenant, route};

/// Most messages that one sweep deals with; the next one goes on.
const SWEEP_LIMIT: usize = 200;

impl Scheduler {
    /// Looks for late and expired messages behind closed lanes, and for idle connections.
    pub(super) async fn sweep(&self) {
        let now = self.inner.now.load_full();
        let mut expired = Vec::new();
        let mut late = Vec::new();
        let mut pools = Vec::new();
        {
            let mut queues = lock(&self.inner);
            let at = queues.time();
            pools.extend(queues.lanes.values().map(|l| Arc::clone(&l.pool)));
            let Queues {
                tenants,
                lanes,
                warned,
                clock,
                ..
            } = &mut *queues;
            let is_proven = clock.is_proven(now.retry.give_up_after);
            // While nothing may be sent, nobody's time runs.
            for (id, queue) in tenants.iter().filter(|_| now.sending) {
                let route = now.directory.tenant(id).and_then(|t| {
                    Some(route::first_choice(t, now.directory.system()).ok()?.key(t))
                });
                let Some(route) = route else { continue };
                let health = lanes
                    .get(&route)
                    .map(|l| l.health.clone())
                    .unwrap_or_default();
                let suspended = health.suspended_since.is_some();
                for (seq, accepted) in queue.waiting() {
                    if expired.len() + late.len() >= SWEEP_LIMIT {
                        break;
                    }
                    let age = Duration::try_from(at.duration_since(accepted)).unwrap_or_default();
                    let counted = age.saturating_sub(health.excluded_since(accepted, at));
                    if suspended || !is_proven {
                        continue;
                    }
                    if counted > now.retry.give_up_after {
                        expired.push((id.clone(), seq));
                    } else if !now.retry.warn_after.is_zero()
                        && counted > now.retry.warn_after
                        && warned.insert(seq)
                    {
                        late.push((id.clone(), seq));
                    }
                }
            }
        }
        for (tenant, seq) in late {
            self.warn_of_delay(&now, &tenant, seq).await;
        }
        for (tenant, seq) in expired {
            self.give_up(&now, &tenant, seq).await;
        }
        for pool in pools {
            for connection in pool.expired(false) {
                tokio::spawn(connection.quit());
            }
        }
    }

    async fn warn_of_delay(&self, now: &Now, tenant: &TenantId, seq: i64) {
        let Some(tenant) = now.directory.tenant(tenant) else {
            return;
        };
        let Ok(Some(stored)) = self.inner.tools.spool.load(seq).await else {
            return;
        };
        if stored.warned || stored.kind.is_ours() || stored.envelope.mail_from.is_none() {
            return;
        }
        let (health, at) = self.health_for(now, tenant);
        if attempt::waited(&health, &stored, at) <= now.retry.warn_after {
            lock(&self.inner).warned.remove(&seq);
            return;
        }
        let recipients: Vec<OwedRecipient> = stored
            .open_recipients()
            .into_iter()
            .filter(|i| stored.envelope.recipients[*i].wants_delay())
            .map(|i| OwedRecipient {
                address: stored.envelope.recipients[i].address.to_string(),
                orcpt: stored.envelope.recipients[i].orcpt.clone(),
                status: "4.4.7".to_owned(),
                reply: if stored.recipients[i].reply.is_empty() {
                    stored.reason.clone()
                } else {
                    stored.recipients[i].reply.clone()
                },
                relay: String::new(),
                cause: String::new(),
                remedy: String::new(),
            })
            .collect();
        if recipients.is_empty() {
            return;
        }
        let mut owed = bounce::owed(
            &stored,
            &sender::return_path(tenant, &stored),
            recipients,
            now,
        );
        owed.notice = Notice::Delayed;
        owed.until = Some(lane::after(stored.accepted, now.retry.give_up_after).as_millisecond());
        if let Err(error) = self.inner.tools.spool.owe_delay(seq, owed).await {
            tracing::error!(event = "notice-failed", reason = %error);
        }
    }

    async fn give_up(&self, now: &Now, tenant: &TenantId, seq: i64) -> bool {
        let Some(tenant) = now.directory.tenant(tenant) else {
            return false;
        };
        // Exactly, with what only the row knows: time held, time before a retry by hand. Looked at
        // without a claim, so that a message whose time is not up stays where it is.
        let Ok(Some(stored)) = self.inner.tools.spool.load(seq).await else {
            return false;
        };
        let (health, at) = self.health_for(now, tenant);
        let waited = attempt::waited(&health, &stored, at);
        if stored.state == State::Suspended || waited <= now.retry.give_up_after {
            return false;
        }
        match self.inner.tools.spool.claim(seq).await {
            Ok(Claiming::Ours(claim)) => {
                give_up_claim(&self.inner.tools, now, tenant, claim, false).await;
                if let Some(queue) = lock(&self.inner).tenants.get_mut(&tenant.id) {
                    queue.take(seq);
                    queue.forget(seq);
                }
                true
            }
            Ok(Claiming::Busy | Claiming::Gone) | Err(_) => false,
        }
    }

    /// What is known of a tenant's first choice, and the time that it goes by.
    fn health_for(&self, now: &Now, tenant: &Tenant) -> (Health, Timestamp) {
        let mut queues = lock(&self.inner);
        let at = queues.time();
        let health = match route::first_choice(tenant, now.directory.system()) {
            Ok(route) => queues.health(&route.key(tenant)),
            Err(_) => Health::default(),
        };
        (health, at)
    }
}
