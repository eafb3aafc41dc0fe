//! What has to be done where no mail brings it up: refresh tokens that would die of idleness, and
//! drafts that a crash left in somebody's mailbox.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::notices;
use super::scheduler::{Scheduler, lock};
use crate::failure::Class;
use crate::oauth::ends::{End, What, certificate_end, ends};
use crate::oauth::{SYSTEM, Settings};
use crate::tenant::route::{Route, RouteKey};
use crate::transport::{Failure, Upstream, graph};

/// After the start mail comes first.
const BEGINS: Duration = Duration::from_secs(300);
/// How often it is looked whether something is to be done.
const EVERY: Duration = Duration::from_secs(3600);
/// How often an account without a refresh token is asked whether it still gets tokens.
const ASKED_EVERY: Duration = Duration::from_secs(86_400);

impl Scheduler {
    /// Runs until delivery stops.
    pub(super) async fn upkeep(&self) {
        self.warn_of_ends();
        self.discard_drafts().await;
        tokio::time::sleep(BEGINS).await;
        let mut asked = HashMap::new();
        loop {
            self.keep_tokens(&mut asked).await;
            self.discard_drafts().await;
            self.warn_of_ends();
            tokio::time::sleep(EVERY).await;
        }
    }

    /// All upstreams with the names of their routes.
    fn all_upstreams(&self) -> Vec<(RouteKey, Arc<Upstream>)> {
        let now = self.inner.now.load();
        let system = now.directory.system().and_then(|s| s.upstream.clone());
        let tenants = now.directory.tenants();
        let own = tenants.filter_map(|tenant| {
            let upstream = crate::tenant::route::own(tenant)?;
            Some((RouteKey::Own(tenant.id.clone()), Arc::clone(upstream)))
        });
        own.chain(system.map(|upstream| (RouteKey::System, upstream)))
            .collect()
    }

    /// Those that take tokens.
    fn with_tokens(&self) -> Vec<(RouteKey, Arc<Upstream>, Arc<Settings>)> {
        let all = self.all_upstreams().into_iter();
        all.filter_map(|(key, upstream)| {
            let oauth = Arc::clone(upstream.oauth()?);
            Some((key, upstream, oauth))
        })
        .collect()
    }

    /// Uses every account once a day: what was revoked is known before there is mail.
    async fn keep_tokens(&self, asked: &mut HashMap<String, Instant>) {
        let tokens = &self.inner.tools.context.tokens;
        for (key, upstream, settings) in self.with_tokens() {
            let outcome = if settings.grant.has_refresh_token() {
                tokens.keep_alive(&settings).await.map(|_| ())
            } else {
                let account = settings.account.clone();
                let recent = asked
                    .get(&account)
                    .is_some_and(|at| at.elapsed() < ASKED_EVERY);
                if recent {
                    continue;
                }
                asked.insert(account, Instant::now());
                tokens.access(&settings, None).await.map(|_| ())
            };
            if let Err(error) = outcome {
                let language = self.inner.now.load().language_of(&key);
                let remedy = upstream.fill(error.meaning.remedy.get(language));
                tracing::error!(event = "authorisation-failing", route = %key, reason = %error, remedy = remedy);
                if error.class == Class::Suspend {
                    self.suspend(&key, &Failure::of_token(error));
                }
            }
        }
    }

    /// A route is known to fail before a message has found out.
    fn suspend(&self, key: &RouteKey, failure: &Failure) {
        let now = self.inner.now.load_full();
        let mut queues = lock(&self.inner);
        let at = queues.time();
        let lane = queues.lanes.entry(key.clone()).or_default();
        if lane.health.suspended_since.is_some() {
            return;
        }
        let reason = failure.to_string();
        lane.health.failed(at, &now.retry, true, true, &reason, 0);
        let news = match key {
            RouteKey::Own(id) => now.directory.tenant(id).and_then(|tenant| {
                let route = Route::Own(Arc::clone(crate::tenant::route::own(tenant)?));
                notices::of_failure(&mut lane.health, tenant, &route, failure, at)
            }),
            RouteKey::System => None, // whoever needs it finds out
        };
        let health = lane.health.clone();
        drop(queues);
        self.inner.tools.notices.extend(news);
        self.save(key, &health);
    }

    /// Tells 30, 7 and 1 days before what of an authorisation ends.
    fn warn_of_ends(&self) {
        let tools = &self.inner.tools;
        let now = self.inner.now.load();
        for (key, upstream, settings) in self.with_tokens() {
            let standing = tools.context.tokens.standing(&settings);
            for end in ends(&tools.context.secrets, &settings, &standing) {
                let whose = (&key, now.language_of(&key));
                tools
                    .notices
                    .extend(notices::of_end(whose, &end, &upstream.describe()));
            }
        }
        for (key, upstream) in self.all_upstreams() {
            if let Upstream::Smtp(smtp) = upstream.as_ref()
                && let Some((path, _)) = &smtp.client_certificate
            {
                let end = End {
                    what: What::TlsCertificate,
                    at: certificate_end(path),
                    note: "",
                };
                let whose = (&key, now.language_of(&key));
                tools
                    .notices
                    .extend(notices::of_end(whose, &end, &smtp.host));
            }
        }
    }

    /// Deletes drafts whose message is no longer waiting; those of waiting ones are looked at by
    /// their next attempt.
    async fn discard_drafts(&self) {
        let context = &self.inner.tools.context;
        for (id, account) in context.drafts.all() {
            let spool = &self.inner.tools.spool;
            let waits = match spool.seq_of(id) {
                Ok(Some(seq)) => match spool.load(seq).await {
                    Ok(Some(stored)) => stored.state.is_open(),
                    Ok(None) => false,
                    Err(_) => true,
                },
                Ok(None) => false,
                Err(_) => true,
            };
            let Some(draft) = context.drafts.get(id, &account).await.filter(|_| !waits) else {
                continue;
            };
            let wanted = match draft.account.as_str() {
                SYSTEM => "system".to_owned(),
                account => format!("own/{account}"),
            };
            let found = self
                .with_tokens()
                .into_iter()
                .find(|(key, ..)| key.to_text() == wanted);
            let gone = match found.as_ref().map(|(_, upstream, _)| upstream.as_ref()) {
                Some(Upstream::Graph(settings)) => {
                    graph::discard(settings, context, id, &draft).await
                }
                _ => {
                    context.drafts.remove(id, &account).await;
                    false
                }
            };
            tracing::info!(event = "draft-discarded", id = %id, gone = gone);
        }
    }
}
