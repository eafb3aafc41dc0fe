//! The message centre: what the people behind a tenant were told, or are to be told. Not the mail
//! itself, which may have no way to leave, but a list that is always there.

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
    /// Keeps a notice; one with a mark only once.
    pub async fn keep_notice(&self, note: Note) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now().as_millisecond();
        self.inner
            .store
            .change(move |db| {
                let known: bool = db
                    .prepare_cached("SELECT EXISTS (SELECT 1 FROM notices WHERE mark = ?1 AND mark <> '' AND tenant = ?2)")?
                    .query_row(params![note.mark, note.tenant], |row| row.get(0))?;
                if known {
                    return Ok(());
                }
                db.prepare_cached("INSERT INTO notices (at, tenant, event, text, remedy, mark) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
                    .execute(params![now, note.tenant, note.event, note.text, note.remedy, note.mark])?;
                db.prepare_cached("DELETE FROM notices WHERE tenant = ?1 AND seq <= (SELECT seq FROM notices WHERE tenant = ?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)")?
                    .execute(params![note.tenant, KEPT])
                    .map(|_| ())
            })
            .await
    }

    /// The notices of all tenants or of one, oldest first.
    pub fn notices(&self, tenant: Option<&str>) -> Result<Vec<Noted>, StoreError> {
        self.inner.store.read_now(|db| {
            db.prepare_cached("SELECT seq, at, tenant, event, text, remedy, told FROM notices WHERE ?1 IS NULL OR tenant = ?1 ORDER BY seq")?
                .query_map([tenant], |row| {
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
                })?
                .collect()
        })
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
