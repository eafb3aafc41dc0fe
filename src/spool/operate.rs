//! What an operator sees and does: lists, one message's story, hold, release, retry, remove,
//! bounce. The same for a running server and for a stopped one's spool.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use jiff::Timestamp;
use rusqlite::types::Value as SqlValue;
use rusqlite::{OptionalExtension as _, params};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::rows::{self, COLUMNS, from_row};
use super::{Hint, Kind, Settlement, Spool, State, StoreError, Stored, lock};
use crate::message::{Envelope, MessageId, Role, TenantId};

/// Which messages are meant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// These ids; empty: all.
    #[serde(default)]
    pub ids: Vec<String>,
    /// This tenant.
    #[serde(default)]
    pub tenant: Option<String>,
    /// This state.
    #[serde(default)]
    pub state: Option<String>,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Due at once, failed ones too.
    Retry,
    /// SetAside until released.
    Hold,
    /// No longer held.
    Release,
    /// Deleted without a word to anybody.
    Remove,
    /// Given up: a bounce to the return path.
    Bounce,
}

/// What an action did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Ids that were changed.
    pub done: Vec<String>,
    /// Ids that could not be, with the reason.
    pub refused: Vec<(String, String)>,
}

/// How the scheduler sees messages of a tenant: overrides what the rows say.
pub trait Overlay: Sync {
    /// For a queued or deferred message of this tenant: the state of its lane, with reason and
    /// time of the next try.
    fn lane_state(&self, tenant: &TenantId) -> Option<(State, String, Option<Timestamp>)>;
}

/// No scheduler runs.
pub struct NoOverlay;

impl Overlay for NoOverlay {
    fn lane_state(&self, _tenant: &TenantId) -> Option<(State, String, Option<Timestamp>)> {
        None
    }
}

fn iso(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

impl Spool {
    /// Messages that wait or have failed, oldest first, as JSON objects.
    pub fn list(&self, filter: &Filter, overlay: &dyn Overlay) -> Result<Vec<Value>, StoreError> {
        let mut listed = Vec::new();
        for stored in self.select(filter, Window::ALL)? {
            let active = self.is_active(stored.seq);
            let shown = describe(&stored, active, overlay);
            if filter
                .state
                .as_ref()
                .is_none_or(|wanted| shown["state"] == *wanted)
            {
                listed.push(shown);
            }
        }
        Ok(listed)
    }

    /// The chosen messages of a window, oldest first; whatever state a filter names is looked at by
    /// the caller, who knows the lanes.
    fn select(&self, filter: &Filter, window: Window) -> Result<Vec<Stored>, StoreError> {
        let bodies = self.inner.bodies.directory().to_owned();
        let mut found: Vec<Stored> = self.inner.store.read_now(|db| {
            let (condition, values) = filter.condition(window);
            db.prepare(&format!(
                "SELECT {COLUMNS} FROM messages WHERE {condition} ORDER BY seq"
            ))?
            .query_map(rusqlite::params_from_iter(values), |row| {
                from_row(row, &bodies)
            })?
            .collect()
        })?;
        for young in self.young(filter, window) {
            if !found.iter().any(|stored| stored.seq == young.seq) {
                found.push(Stored::clone(&young));
            }
        }
        Ok(found)
    }

    /// The numbers of the first chosen messages of a window, in whatever state.
    fn numbers(&self, filter: &Filter, window: Window) -> Result<Vec<i64>, StoreError> {
        let mut found: Vec<i64> = self.inner.store.read_now(|db| {
            let (condition, values) = filter.condition(window);
            db.prepare(&format!(
                "SELECT seq FROM messages WHERE {condition} ORDER BY seq LIMIT {PAGE}"
            ))?
            .query_map(rusqlite::params_from_iter(values), |row| row.get(0))?
            .collect()
        })?;
        found.extend(self.young(filter, window).iter().map(|young| young.seq));
        found.sort_unstable();
        found.dedup();
        found.truncate(PAGE);
        Ok(found)
    }

    /// Chosen messages that the database does not have: there are any only while it cannot be
    /// written.
    fn young(&self, filter: &Filter, window: Window) -> Vec<Arc<Stored>> {
        let mut young = self.inner.store.journal().young(|young| young.waiting());
        young.retain(|young| {
            let named = |id: &String| young.id.as_str().eq_ignore_ascii_case(id);
            let tenant = filter.tenant.as_ref();
            young.seq > window.behind
                && young.seq < window.before
                && (filter.ids.is_empty() || filter.ids.iter().any(named))
                && tenant.is_none_or(|t| young.tenant.as_str() == t)
        });
        young
    }

    /// One message's story, from the queue or the history.
    pub fn show(&self, id: &str, overlay: &dyn Overlay) -> Result<Option<Value>, StoreError> {
        let filter = Filter {
            ids: vec![id.to_owned()],
            ..Filter::default()
        };
        if let Some(stored) = self.select(&filter, Window::ALL)?.first() {
            return Ok(Some(describe(stored, self.is_active(stored.seq), overlay)));
        }
        let id = id.to_ascii_lowercase();
        self.inner.store.read_now(|db| {
            db.prepare("SELECT tenant, kind, state, size, accepted, settled, attempts, reason, envelope, recipients FROM history WHERE id = ?1")?
                .query_row([&id], |row| {
                    let envelope: Envelope = rows::from_json(&row.get::<_, String>(8)?)?;
                    let states: Vec<super::RecipientState> = rows::from_json(&row.get::<_, String>(9)?)?;
                    Ok(json!({
                        "id": id,
                        "tenant": row.get::<_, String>(0)?,
                        "kind": kind_word(Kind::from_code(row.get(1)?)),
                        "state": row.get::<_, String>(2)?,
                        "from": envelope.mail_from.as_ref().map_or(String::new(), ToString::to_string),
                        "to": recipients(&envelope, &states),
                        "reason": row.get::<_, String>(7)?,
                        "attempts": row.get::<_, u32>(6)?,
                        "next": Value::Null,
                        "accepted": iso(rows::time(row.get(4)?)),
                        "settled": iso(rows::time(row.get(5)?)),
                        "size": row.get::<_, i64>(3)?,
                    }))
                })
                .optional()
        })
    }

    /// Does something to the chosen messages. `bounce` is left to the caller, who knows whom to
    /// tell; here it is only looked who can be told.
    pub async fn operate(
        &self,
        action: Action,
        filter: &Filter,
        overlay: &dyn Overlay,
    ) -> Result<Report, StoreError> {
        let mut report = Report::default();
        let mut seen: HashSet<String> = HashSet::new();
        // What comes in while the order is carried out is not meant.
        let mut window = Window {
            behind: 0,
            before: self.inner.next_seq.load(Ordering::Relaxed),
        };
        loop {
            // Rows are looked at once nothing else changes them any more.
            let aside = SetAside::of(self, &self.numbers(filter, window)?);
            let Some(last) = aside.asked.last().copied() else {
                break;
            };
            let page = Window {
                behind: window.behind,
                before: last + 1,
            };
            let mut chosen = self.select(filter, page)?;
            chosen.retain(|stored| {
                aside.asked.binary_search(&stored.seq).is_ok()
                    && filter
                        .state
                        .as_ref()
                        .is_none_or(|wanted| describe(stored, false, overlay)["state"] == *wanted)
            });
            if !filter.ids.is_empty() {
                seen.extend(chosen.iter().map(|stored| stored.id.to_string()));
            }
            self.operate_page(action, chosen, aside, &mut report)
                .await?;
            window.behind = last;
        }
        for id in &filter.ids {
            if !seen.contains(&id.to_ascii_lowercase()) {
                let words = "no such message waits or has failed";
                report.refused.push((id.clone(), words.to_owned()));
            }
        }
        Ok(report)
    }

    /// One page of it, in one commit.
    async fn operate_page(
        &self,
        action: Action,
        chosen: Vec<Stored>,
        mut aside: SetAside<'_>,
        report: &mut Report,
    ) -> Result<(), StoreError> {
        let mut changes: Vec<RowChange> = Vec::new();
        let mut done = Vec::new();
        for stored in chosen {
            let id = stored.id.to_string();
            // While it is in delivery its fate is being decided; afterwards the order can be given.
            if !aside.taken.contains(&stored.seq) {
                let words = "it is being delivered right now; try again in a moment";
                report.refused.push((id, words.to_owned()));
                continue;
            }
            match decide(action, &stored)? {
                Decision::Refused(reason) => report.refused.push((id, reason.to_owned())),
                Decision::AsItIs => done.push(stored),
                Decision::Change(change) => {
                    changes.push(change);
                    lock(&self.inner.memory).remove(stored.seq);
                    done.push(stored);
                }
            }
        }
        if !changes.is_empty() {
            let changed = self
                .inner
                .store
                .change(move |db| changes.into_iter().try_for_each(|change| change(db)))
                .await;
            self.inner.ahead.forget();
            changed?;
        }
        let mut tenants: Vec<TenantId> = Vec::new();
        for stored in done {
            report.done.push(stored.id.to_string());
            let failed = stored.state == State::Failed;
            match action {
                Action::Retry | Action::Release => {
                    if failed {
                        self.inner.bytes.fetch_add(stored.size, Ordering::Relaxed);
                    }
                    aside.then.push(Hint::Waiting(stored.waiting(None)));
                    if !tenants.contains(&stored.tenant) {
                        tenants.push(stored.tenant);
                    }
                }
                Action::Remove => {
                    if !failed {
                        self.subtract(stored.size);
                    }
                    self.free(&stored.content);
                }
                Action::Hold | Action::Bounce => {}
            }
        }
        aside.then.extend(tenants.into_iter().map(Hint::Tenant));
        Ok(())
    }

    /// Messages by tenant and state, for the metrics.
    pub fn counts(&self, overlay: &dyn Overlay) -> Result<Vec<(String, String, u64)>, StoreError> {
        let rows: Vec<(String, String, u64)> = self.inner.store.read_now(|db| {
            db.prepare_cached(
                "SELECT tenant, state, count(*) FROM messages GROUP BY tenant, state",
            )?
            .query_map([], |row| {
                Ok((
                    row.get(0)?,
                    row.get(1)?,
                    row.get::<_, i64>(2)?.unsigned_abs(),
                ))
            })?
            .collect()
        })?;
        let mut counts: std::collections::BTreeMap<(String, String), u64> =
            std::collections::BTreeMap::new();
        for (tenant, state, count) in rows {
            let waits = matches!(
                State::from_word(&state),
                Some(State::Queued | State::Deferred | State::Suspended)
            );
            let lane = TenantId::parse(&tenant)
                .filter(|_| waits)
                .and_then(|id| overlay.lane_state(&id));
            let state = lane.map_or(state, |(state, ..)| state.word().to_owned());
            *counts.entry((tenant, state)).or_default() += count;
        }
        Ok(counts
            .into_iter()
            .map(|((tenant, state), count)| (tenant, state, count))
            .collect())
    }

    /// All held by `sending = "hold"` go on.
    pub async fn release_switch(&self) -> Result<(), StoreError> {
        loop {
            let held: Vec<String> = self.inner.store.read_now(|db| {
                db.prepare("SELECT id FROM messages WHERE state = 'held' AND reason = 'sending is switched to hold' LIMIT 500")?.query_map([], |row| row.get(0))?.collect()
            })?;
            if held.is_empty() {
                return Ok(());
            }
            let filter = Filter {
                ids: held,
                ..Filter::default()
            };
            if self
                .operate(Action::Release, &filter, &NoOverlay)
                .await?
                .done
                .is_empty()
            {
                return Ok(());
            }
        }
    }

    /// The seq of an id that is in the queue.
    pub fn seq_of(&self, id: MessageId) -> Result<Option<i64>, StoreError> {
        self.inner.store.read_now(|db| {
            db.query_row(
                "SELECT seq FROM messages WHERE id = ?1",
                [id.as_str()],
                |row| row.get(0),
            )
            .optional()
        })
    }
}

/// So many messages are changed in one commit. Meanwhile they are not delivered.
const PAGE: usize = 500;

type RowChange = Box<dyn FnOnce(&rusqlite::Connection) -> rusqlite::Result<()> + Send>;

/// What an action means for a message.
enum Decision {
    /// It cannot be done, and why.
    Refused(&'static str),
    /// Its row says so already.
    AsItIs,
    /// Its row changes.
    Change(RowChange),
}

fn decide(action: Action, stored: &Stored) -> Result<Decision, StoreError> {
    let seq = stored.seq;
    let now = Timestamp::now().as_millisecond();
    let change = |change: RowChange| Ok(Decision::Change(change));
    match action {
        Action::Hold if matches!(stored.state, State::Held | State::Failed) => {
            Ok(Decision::Refused("it is held or has failed already"))
        }
        Action::Hold => change(Box::new(move |db| {
            db.prepare_cached("UPDATE messages SET state = 'held', held_since = ?2, reason = 'held by a person' WHERE seq = ?1")?
                .execute(params![seq, now])
                .map(|_| ())
        })),
        Action::Release if stored.state != State::Held => Ok(Decision::Refused("it is not held")),
        Action::Retry
            if stored.state == State::Queued
                && stored.next.is_none()
                && stored.reason.is_empty()
                && stored.uncertain.is_none() =>
        {
            Ok(Decision::AsItIs)
        }
        Action::Retry | Action::Release => {
            let restart = stored.state == State::Failed;
            let mut recipients = stored.recipients.clone();
            for recipient in recipients.iter_mut().filter(|_| restart) {
                if recipient.status == super::RecipientStatus::Bounced {
                    recipient.status = super::RecipientStatus::Deferred;
                }
            }
            let decided = action == Action::Retry;
            let accepted_age = now - stored.accepted.as_millisecond();
            change(Box::new(move |db| {
                db.prepare_cached(
                    "UPDATE messages SET state = 'queued', next = NULL, reason = '', recipients = ?2,
                     uncertain = CASE WHEN NOT ?6 OR uncertain LIKE ?7 || '%' THEN uncertain ELSE ?7 || uncertain END,
                     excluded = CASE WHEN ?3 THEN ?4 ELSE excluded + CASE WHEN held_since IS NULL THEN 0 ELSE ?5 - held_since END END, held_since = NULL WHERE seq = ?1",
                )?
                .execute(params![seq, rows::json(&recipients)?, restart, accepted_age, now, decided, super::message::DECIDED])
                .map(|_| ())
            }))
        }
        Action::Remove => {
            let mut history = rows::history(stored, &Settlement::removed(stored), None)
                .map_err(|e| StoreError::of(&e))?;
            history.state = "removed".to_owned();
            change(Box::new(move |db| {
                rows::insert_history(db, &history)?;
                rows::delete(db, seq)
            }))
        }
        Action::Bounce if stored.envelope.mail_from.is_none() => Ok(Decision::Refused(
            "it has no return path: nobody could be told; remove it instead",
        )),
        Action::Bounce => Ok(Decision::AsItIs),
    }
}

/// Numbers of messages between two others.
#[derive(Clone, Copy)]
struct Window {
    behind: i64,
    before: i64,
}

impl Window {
    const ALL: Self = Self {
        behind: 0,
        before: i64::MAX,
    };
}

impl Filter {
    /// What of it the database can look at.
    fn condition(&self, window: Window) -> (String, Vec<SqlValue>) {
        let mut sql = "seq > ? AND seq < ?".to_owned();
        let mut values = vec![window.behind.into(), window.before.into()];
        if !self.ids.is_empty() {
            let marks = vec!["?"; self.ids.len()].join(",");
            sql.push_str(&format!(" AND id IN ({marks})"));
            values.extend(self.ids.iter().map(|id| id.to_ascii_lowercase().into()));
        }
        if let Some(tenant) = &self.tenant {
            sql.push_str(" AND tenant = ?");
            values.push(tenant.clone().into());
        }
        (sql, values)
    }
}

/// Messages that are kept from delivery while a person's order is carried out.
struct SetAside<'a> {
    spool: &'a Spool,
    /// In order of acceptance.
    asked: Vec<i64>,
    /// Those of them that are not in delivery.
    taken: HashSet<i64>,
    /// What delivery hears at the end.
    then: Vec<Hint>,
}

impl<'a> SetAside<'a> {
    fn of(spool: &'a Spool, asked: &[i64]) -> Self {
        let mut active = lock(&spool.inner.active);
        let free = asked.iter().copied().filter(|seq| active.insert(*seq));
        let taken = free.collect();
        drop(active);
        Self {
            spool,
            asked: asked.to_vec(),
            taken,
            then: Vec::new(),
        }
    }
}

impl Drop for SetAside<'_> {
    fn drop(&mut self) {
        let mut active = lock(&self.spool.inner.active);
        for seq in &self.taken {
            active.remove(seq);
        }
        drop(active);
        if !self.taken.is_empty() {
            // It has passed over them meanwhile.
            self.spool.hint(Hint::Freed);
        }
        for hint in self.then.drain(..) {
            self.spool.hint(hint);
        }
    }
}

/// A recipient that was not tried yet is shown as deferred: it is still to come.
fn shown_status(status: super::RecipientStatus) -> &'static str {
    match status {
        super::RecipientStatus::Sent => "sent",
        super::RecipientStatus::Bounced => "bounced",
        super::RecipientStatus::Pending | super::RecipientStatus::Deferred => "deferred",
    }
}

fn kind_word(kind: Kind) -> &'static str {
    match kind {
        Kind::Submission => "submission",
        Kind::Bounce => "bounce",
        Kind::Notice => "notice",
    }
}

fn recipients(envelope: &Envelope, states: &[super::RecipientState]) -> Vec<Value> {
    envelope
        .recipients
        .iter()
        .zip(states)
        .map(
            |(r, s)| {
                let mut shown = json!({"address": r.address.to_string(), "state": shown_status(s.status), "reply": s.reply});
                if r.role != Role::Named {
                    shown["role"] = json!(r.role);
                }
                shown
            },
        )
        .collect()
}

fn describe(stored: &Stored, active: bool, overlay: &dyn Overlay) -> Value {
    let mut state = stored.state;
    let mut reason = stored.reason.clone();
    let mut next = stored.next;
    let waits = matches!(state, State::Queued | State::Deferred | State::Suspended) && !active;
    if let Some((lane, why, when)) = Some(stored)
        .filter(|_| waits)
        .and_then(|s| overlay.lane_state(&s.tenant))
    {
        // A message's own later time stays; a lane that is closed for all overrules it.
        if state != State::Deferred || lane != State::Deferred {
            state = lane;
            next = when;
            if reason.is_empty() || lane != State::Deferred {
                reason = why;
            }
        }
    }
    json!({
        "id": stored.id.as_str(),
        "tenant": stored.tenant.as_str(),
        "kind": kind_word(stored.kind),
        "state": state.word(),
        "from": stored.envelope.mail_from.as_ref().map_or(String::new(), ToString::to_string),
        "to": recipients(&stored.envelope, &stored.recipients),
        "reason": reason,
        "attempts": stored.attempts,
        "next": next.filter(|_| state != State::Failed).map(iso),
        "accepted": iso(stored.accepted),
        "size": stored.size,
    })
}
