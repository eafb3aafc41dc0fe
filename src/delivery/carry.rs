//! How an attempt hands a message to its upstream: content read and checked, prepared, sent by the
//! transport of the chosen way.

use std::sync::Arc;

use bytes::Bytes;

use super::Uncertain;
use super::attempt::{MEMORY_KIB, Now, Tools, Way, is_copy};
use super::preparing::{self, Preparing};
use crate::explain::Cause;
use crate::failure::{Class, Scope, Stage};
use crate::message::{Content, Role};
use crate::smtp::capabilities::Capabilities;
use crate::spool::{Claim, Stored, is_intact};
use crate::tenant::route::Route;
use crate::transport::smtp::{Connection, DotHook};
use crate::transport::{Failure, RecipientResult, Upstream, capture, gmail, graph};

/// What the transport gave.
pub(super) struct Outcome {
    pub results: Vec<RecipientResult>,
    /// The server tells of success itself where that is wanted (RFC 3461).
    pub dsn: bool,
    /// The server's key.
    pub key: Option<String>,
    /// It refuses `MAIL FROM:<>`.
    pub refuses_null: bool,
}

impl Outcome {
    /// Nothing but results.
    fn of(results: Vec<RecipientResult>) -> Self {
        Self {
            results,
            dsn: false,
            key: None,
            refuses_null: false,
        }
    }

    /// The failure of the route as a whole.
    fn route_failure(&self) -> Option<&Failure> {
        self.results.iter().find_map(|r| {
            r.result
                .as_ref()
                .err()
                .filter(|failure| failure.scope == Scope::Route)
        })
    }
}

/// Hands a message to the upstream of the chosen way.
pub(super) async fn deliver(
    tools: &Tools,
    now: &Arc<Now>,
    way: &Way,
    claim: &Claim,
    stored: &Arc<Stored>,
) -> Outcome {
    let open = stored.open_recipients();
    // A large message is in memory only while it is sent, and only so much of all at once.
    let kib = u32::try_from(stored.content.size() / 1024 + 1)
        .unwrap_or(u32::MAX)
        .min(MEMORY_KIB as u32);
    let _permit = match stored.content.in_memory() {
        Some(_) => None,
        None => tools.memory.acquire_many(kib).await.ok(),
    };
    let content = match read_content(stored).await {
        Ok(content) => content,
        Err(mut failure) => {
            failure.scope = Scope::Message; // its file, not the route
            return Outcome::of(all_failed(&open, &failure));
        }
    };
    let mut outcome: Option<Outcome> = None;
    for open in groups(way, stored, open) {
        let job = Job {
            tools,
            now,
            way,
            stored,
            content: &content,
            open: &open,
            information: information(now, way, stored),
            claim,
        };
        let next = match (way.route.upstream().as_ref(), &outcome) {
            // What ails the route ails the rest as well.
            (_, Some(before)) if before.route_failure().is_some() => {
                let failure = before.route_failure().cloned().map(Box::new);
                let failed = failure.map(|f| all_failed(&open, &f));
                Outcome::of(failed.unwrap_or_default())
            }
            (Upstream::Smtp(settings), _) => job.smtp(settings).await,
            (Upstream::Graph(_) | Upstream::Gmail(_), _) => job.without_copies_else().await,
            (Upstream::Capture(_), _) => job.whole().await,
        };
        match &mut outcome {
            Some(before) => before.results.extend(next.results),
            None => outcome = Some(next),
        }
    }
    outcome.unwrap_or_else(|| Outcome::of(Vec::new()))
}

/// So often a message is tried for all its recipients at once.
const TOGETHER: u32 = 3;

/// Recipients that go together. A message that has failed several times goes to those who were named
/// first and to its copies afterwards: a copy that a server cannot stand holds nobody up. Not over an API,
/// which finds out by the message's own id whether an earlier try has sent it.
fn groups(way: &Way, stored: &Stored, open: Vec<usize>) -> Vec<Vec<usize>> {
    if stored.attempts < TOGETHER || way.route.upstream().takes_recipients_from_header() {
        return vec![open];
    }
    let (copies, named): (Vec<usize>, Vec<usize>) =
        open.into_iter().partition(|index| is_copy(stored, *index));
    [named, copies]
        .into_iter()
        .filter(|group| !group.is_empty())
        .collect()
}

/// What support is told of the route.
fn information(now: &Now, way: &Way, stored: &Stored) -> Option<String> {
    let attaches = now
        .directory
        .support()
        .is_some_and(|s| s.attaches_information);
    let recipients = &stored.envelope.recipients;
    let to_support = recipients.iter().any(|r| r.role == Role::Support);
    (attaches && to_support).then(|| super::report::information(now, way, stored))
}

fn all_failed(open: &[usize], failure: &Failure) -> Vec<RecipientResult> {
    open.iter()
        .map(|index| RecipientResult {
            index: *index,
            result: Err(failure.clone()),
        })
        .collect()
}

struct Job<'a> {
    tools: &'a Tools,
    now: &'a Arc<Now>,
    way: &'a Way,
    stored: &'a Arc<Stored>,
    content: &'a Bytes,
    open: &'a [usize],
    /// What goes along to support.
    information: Option<String>,
    claim: &'a Claim,
}

impl Job<'_> {
    /// An API takes a message for all its recipients or for none. What it refuses for good with
    /// copies may go without: a copy keeps nobody from his mail.
    async fn without_copies_else(&self) -> Outcome {
        let first = self.whole().await;
        let (copies, named): (Vec<usize>, Vec<usize>) = self
            .open
            .iter()
            .partition(|index| is_copy(self.stored, **index));
        let refused = |r: &RecipientResult| matches!(&r.result, Err(f) if f.class == Class::Permanent && f.scope != Scope::Route && f.stage != Stage::Prepare);
        if copies.is_empty() || named.is_empty() || !first.results.iter().all(refused) {
            return first;
        }
        tracing::warn!(id = %self.stored.id, tenant = %self.stored.tenant, event = "without-copies", "the server refuses the message with its copies; it is tried without");
        let alone = Job {
            open: &named,
            information: self.information.clone(),
            ..*self
        };
        let mut second = alone.whole().await;
        let left_out = first.results.into_iter();
        second
            .results
            .extend(left_out.filter(|r| copies.contains(&r.index)));
        second
    }

    /// For transports that take the message as a whole for all its recipients.
    async fn whole(&self) -> Outcome {
        let upstream = self.way.route.upstream();
        let capabilities = upstream.api_capabilities();
        if capabilities.size.is_some() {
            let route = self.way.key.to_text();
            let spool = &self.tools.spool;
            spool.learn_upstream_size(&route, capabilities.size);
        }
        let (prepared, mut results) = match self.prepare(&capabilities, false).await {
            Ok(done) => done,
            Err(failure) => return Outcome::of(all_failed(self.open, &failure)),
        };
        let Some(prepared) = prepared else {
            return Outcome::of(results);
        };
        let context = &self.tools.context;
        match upstream.as_ref() {
            Upstream::Graph(settings) => {
                // Whoever has decided to repeat it wants it delivered, not delivered twice.
                let doubtful = self.stored.uncertain_route().is_some();
                let id = self.stored.id;
                let sent =
                    graph::send(settings, context, &prepared, id, doubtful, &self.hook()).await;
                if let Some(size) = sent.size {
                    let route = self.way.key.to_text();
                    self.tools.spool.learn_upstream_size(&route, size);
                }
                results.extend(sent.results);
            }
            Upstream::Gmail(settings) => {
                results.extend(gmail::send(settings, context, &prepared, &self.hook()).await);
            }
            Upstream::Capture(directory) => {
                let directory = directory.join(self.stored.tenant.as_str());
                let id = self.stored.id;
                let written = tokio::task::spawn_blocking(move || {
                    capture::deliver(&directory, id, &prepared)
                });
                match written.await {
                    Ok(written) => results.extend(written),
                    Err(error) => {
                        let failure = Failure::of_cause(
                            Cause::WriteFailed,
                            Stage::Prepare,
                            "capture",
                            error.to_string(),
                        );
                        return Outcome::of(all_failed(self.open, &failure));
                    }
                }
            }
            Upstream::Smtp(_) => {}
        }
        Outcome::of(results)
    }

    fn hook(&self) -> Hook<'_> {
        Hook {
            tools: self.tools,
            claim: self.claim,
            route: must_mark(self.now, self.way).then(|| self.way.key.to_text()),
        }
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
                        return Outcome::of(all_failed(self.open, &failure));
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
                            results: all_failed(self.open, &failure),
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
            let sent = connection.send(&prepared, &self.hook()).await;
            if sent.untouched && was_kept {
                continue; // the kept connection had died; nothing was said on it
            }
            if was_kept && settings.oauth.is_some() && sent.results.iter().all(wants_login) {
                continue; // a session ends with the token that opened it
            }
            let null_sender = prepared.mail_from().is_none();
            let refused_at_mail = sent.results.iter().all(|r| matches!(&r.result, Err(f) if f.stage == Stage::Mail && f.reply.as_ref().is_some_and(crate::smtp::reply::Reply::is_permanent)));
            if null_sender && refused_at_mail && self.stored.kind.is_ours() && !null_refused {
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
            information: self.information.clone(),
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
        // Hashed when it came, and in nobody's hands but ours since.
        Content::File {
            kept: Some(kept), ..
        } => (kept.bytes().clone(), true),
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

/// Whether a server wants another login before it takes anything.
fn wants_login(result: &RecipientResult) -> bool {
    matches!(&result.result, Err(f) if f.stage == Stage::Mail && f.reply.as_ref().is_some_and(|r| matches!(r.code, 530 | 535)))
}

/// Whether a crash must not make us forget that the final dot may have been sent: where another
/// route could be taken, a person is to decide, or the server can be asked afterwards.
fn must_mark(now: &Now, way: &Way) -> bool {
    let own = matches!(way.route, Route::Own(_));
    let can_be_asked = matches!(way.route.upstream().as_ref(), Upstream::Graph(_));
    now.retry.uncertain == Uncertain::Hold
        || can_be_asked
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
