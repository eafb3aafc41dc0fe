//! The message centre: what the people behind a tenant were told, or are to be told. Not the mail
//! itself, which may have no way to leave, but a list that is always there.

use std::collections::HashSet;

use rusqlite::params;
use serde::Serialize;

use super::{Spool, StoreError, time};

/// Notices of one tenant that are kept, as long as the history keeps anything.
pub const KEPT: i64 = 1000;

/// One notice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Noted {
    /// Its number; the later, the larger.
    #[serde(skip)]
    pub seq: i64,
    /// When it happened.
    pub at: String,
    /// Whose it is.
    pub tenant: String,
    /// What happened, by its stable name.
    pub event: String,
    /// The same in words, in the tenant's language.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// When a mail was written about it; `None`: not yet.
    pub told: Option<String>,
}

/// A notice to be kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Whose it is.
    pub tenant: String,
    /// What happened.
    pub event: &'static str,
    /// The same in words.
    pub text: String,
    /// What to do.
    pub remedy: String,
    /// Two notices with the same mark are one; empty: it has none.
    pub mark: String,
}

impl Spool {
    /// Keeps a notice; one with a mark only once. Gives whether it is new.
    pub async fn keep_notice(&self, note: Note) -> Result<bool, StoreError> {
        let now = jiff::Timestamp::now().as_millisecond();
        let store = &self.inner.store;
        if !note.mark.is_empty() {
            let (mark, tenant) = (note.mark.clone(), note.tenant.clone());
            let known: bool = store
                .read(move |db| {
                    db.prepare_cached(
                        "SELECT EXISTS (SELECT 1 FROM notices WHERE mark = ?1 AND tenant = ?2)",
                    )?
                    .query_row([mark, tenant], |row| row.get(0))
                })
                .await?;
            if known {
                return Ok(false);
            }
        }
        store
            .change(move |db| {
                db.prepare_cached("INSERT INTO notices (at, tenant, event, text, remedy, mark) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![now, note.tenant, note.event, note.text, note.remedy, note.mark])?;
                db.prepare_cached("DELETE FROM notices WHERE tenant = ?1 AND told IS NOT NULL AND seq <= (SELECT seq FROM notices WHERE tenant = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)")?
                    .execute(params![note.tenant, KEPT])
                    .map(|_| ())
            })
            .await?;
        Ok(true)
    }

    /// The notices of all tenants or of one, oldest first.
    pub fn notices(&self, tenant: Option<&str>) -> Result<Vec<Noted>, StoreError> {
        self.inner.store.read_now(|db| {
            db.prepare_cached("SELECT seq, at, tenant, event, text, remedy, told FROM notices WHERE ?1 IS NULL OR tenant = ?1 ORDER BY seq")?
                .query_map([tenant], noted)?
                .collect()
        })
    }

    /// Notices of which nobody has been told, at most so many of each tenant, oldest first.
    pub async fn untold_notices(&self, most: usize) -> Result<Vec<Noted>, StoreError> {
        self.inner
            .store
            .read(move |db| {
                let mut rows = db.prepare_cached("SELECT seq, at, tenant, event, text, remedy, told FROM (SELECT *, row_number() OVER (PARTITION BY tenant ORDER BY seq) AS place FROM notices WHERE told IS NULL) WHERE place <= ?1 ORDER BY seq")?;
                rows.query_map([i64::try_from(most).unwrap_or(i64::MAX)], noted)?.collect()
            })
            .await
    }

    /// Tenant and event of mails that were written since.
    pub async fn notices_told_since(
        &self,
        since: jiff::Timestamp,
    ) -> Result<HashSet<(String, String)>, StoreError> {
        let (since, now) = (
            since.as_millisecond(),
            jiff::Timestamp::now().as_millisecond(),
        );
        self.inner
            .store
            .read(move |db| {
                // What a clock that was wrong has put into the future does not count.
                db.prepare_cached(
                    "SELECT DISTINCT tenant, event FROM notices WHERE told > ?1 AND told <= ?2",
                )?
                .query_map([since, now], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
            })
            .await
    }

    /// Notes that a mail was written about these.
    pub async fn notices_told(&self, seqs: Vec<i64>) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now().as_millisecond();
        self.inner
            .store
            .change(move |db| {
                for seq in seqs {
                    db.prepare_cached("UPDATE notices SET told = ?2 WHERE seq = ?1")?
                        .execute([seq, now])?;
                }
                Ok(())
            })
            .await
    }
}

fn noted(row: &rusqlite::Row<'_>) -> rusqlite::Result<Noted> {
    let shown = |ms: i64| time(ms).to_string();
    Ok(Noted {
        seq: row.get(0)?,
        at: shown(row.get(1)?),
        tenant: row.get(2)?,
        event: row.get(3)?,
        text: row.get(4)?,
        remedy: row.get(5)?,
        told: row.get::<_, Option<i64>>(6)?.map(shown),
    })
}
