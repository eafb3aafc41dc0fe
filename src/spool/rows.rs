//! Messages as rows: what the embedded store writes and reads.

use std::path::Path;

use aws_lc_rs::digest;
use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Row, params};

use super::young::History;
use super::{Kind, Owed, Settlement, State, Stored};
use crate::message::{Content, MessageId, TenantId};

pub(super) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::UNIX_EPOCH)
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(text: &str) -> rusqlite::Result<T> {
    serde_json::from_str(text).map_err(|e| {
        rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e))
    })
}

pub(super) fn insert(
    db: &rusqlite::Connection,
    stored: &Stored,
    guard: Option<&[u8; 32]>,
) -> rusqlite::Result<()> {
    let inline = stored.inline();
    let (envelope, origin) = (json(&stored.envelope)?, json(&stored.origin)?);
    let seal = seal(stored, &envelope, &origin);
    db.prepare_cached("INSERT INTO messages (seq, id, tenant, kind, state, size, sha256, body, accepted, reason, guard, envelope, origin, recipients, held_since, seal) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16)")?.execute(params![
        stored.seq,
        stored.id.as_str(),
        stored.tenant.as_str(),
        stored.kind.code(),
        stored.state.word(),
        i64::try_from(stored.size).unwrap_or(i64::MAX),
        &stored.sha256[..],
        stored.content.file_name(),
        stored.accepted.as_millisecond(),
        stored.reason,
        guard.map(|g| &g[..]),
        envelope,
        origin,
        json(&stored.recipients)?,
        (stored.state == State::Held).then(|| stored.accepted.as_millisecond()),
        &seal[..],
    ])?;
    if let Some(bytes) = inline {
        db.prepare_cached("INSERT INTO bodies (seq, content) VALUES (?1, ?2)")?
            .execute(params![stored.seq, &bytes[..]])?;
    }
    Ok(())
}

/// A checksum over what decides whose a message is and where it goes: a damaged page must not send
/// mail to somebody else.
fn seal(stored: &Stored, envelope: &str, origin: &str) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in [
        stored.id.as_str().as_bytes(),
        stored.tenant.as_str().as_bytes(),
        &[stored.kind.code() as u8],
        &stored.sha256,
        &stored.size.to_be_bytes(),
        envelope.as_bytes(),
        origin.as_bytes(),
    ] {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    out
}

pub(super) fn owe(db: &rusqlite::Connection, owed: &Owed) -> rusqlite::Result<()> {
    db.prepare_cached(
        "INSERT INTO owed (tenant, return_path, created, notice) VALUES (?1, ?2, ?3, ?4)",
    )?
    .execute(params![
        owed.tenant,
        owed.return_path,
        Timestamp::now().as_millisecond(),
        json(owed)?
    ])
    .map(|_| ())
}

pub(super) fn settle_row(
    db: &rusqlite::Connection,
    stored: &Stored,
    s: &Settlement,
    guard: Option<&[u8; 32]>,
) -> rusqlite::Result<()> {
    let attempts = stored.attempts + u32::from(s.count_attempt);
    for owed in &s.owed {
        owe(db, owed)?;
    }
    if s.state == State::Done {
        insert_history(db, &history(stored, s, guard)?)?;
        return delete(db, stored.seq);
    }
    // For a failed message `next` says since when: its history is kept from then on.
    let next = if s.state == State::Failed {
        Some(Timestamp::now().as_millisecond())
    } else {
        s.next.map(Timestamp::as_millisecond)
    };
    db.prepare_cached("UPDATE messages SET state = ?2, next = ?3, attempts = ?4, reason = ?5, uncertain = ?6, recipients = ?7 WHERE seq = ?1")?
        .execute(params![stored.seq, s.state.word(), next, attempts, s.reason, s.uncertain, json(&s.recipients)?])
        .map(|_| ())
}

/// What the history keeps of a message that is settled so.
pub(super) fn history(
    stored: &Stored,
    s: &Settlement,
    guard: Option<&[u8; 32]>,
) -> rusqlite::Result<History> {
    Ok(History {
        seq: stored.seq,
        id: stored.id.to_string(),
        tenant: stored.tenant.to_string(),
        kind: stored.kind.code(),
        state: s.state.word().to_owned(),
        size: stored.size,
        accepted: stored.accepted.as_millisecond(),
        settled: Timestamp::now().as_millisecond(),
        attempts: stored.attempts + u32::from(s.count_attempt),
        reason: s.reason.clone(),
        guard: guard.copied(),
        envelope: json(&stored.envelope)?,
        recipients: json(&s.recipients)?,
    })
}

pub(super) fn insert_history(db: &rusqlite::Connection, h: &History) -> rusqlite::Result<()> {
    db.prepare_cached("INSERT OR REPLACE INTO history (seq, id, tenant, kind, state, size, accepted, settled, attempts, reason, guard, envelope, recipients) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)")?
        .execute(params![
            h.seq,
            h.id,
            h.tenant,
            h.kind,
            h.state,
            i64::try_from(h.size).unwrap_or(i64::MAX),
            h.accepted,
            h.settled,
            h.attempts,
            h.reason,
            h.guard.as_ref().map(|g| &g[..]),
            h.envelope,
            h.recipients,
        ])
        .map(|_| ())
}

/// Takes a message out of the queue.
pub(super) fn delete(db: &rusqlite::Connection, seq: i64) -> rusqlite::Result<()> {
    for sql in [
        "DELETE FROM bodies WHERE seq = ?1",
        "DELETE FROM messages WHERE seq = ?1",
    ] {
        db.prepare_cached(sql)?.execute([seq])?;
    }
    Ok(())
}

pub(super) const COLUMNS: &str = "seq, id, tenant, kind, state, size, sha256, body, accepted, next, attempts, reason, uncertain, excluded, warned, envelope, origin, recipients, seal";

/// The name of a body file, if it is one and no path to somewhere else.
pub(super) fn plain_name(name: &str) -> Option<&str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    (!name.is_empty() && name.bytes().all(plain)).then_some(name)
}

pub(super) fn from_row(row: &Row<'_>, bodies: &Path) -> rusqlite::Result<Stored> {
    let id: String = row.get(1)?;
    let bad = |what: &str| {
        rusqlite::Error::FromSqlConversionFailure(
            0,
            rusqlite::types::Type::Text,
            what.to_owned().into(),
        )
    };
    let size: i64 = row.get(5)?;
    let content = match row.get::<_, Option<String>>(7)? {
        Some(name) => Content::File {
            path: bodies.join(plain_name(&name).ok_or_else(|| bad("body"))?),
            size: size.unsigned_abs(),
            kept: None,
        },
        None => Content::Memory(bytes::Bytes::new()),
    };
    let (envelope, origin): (String, String) = (row.get(15)?, row.get(16)?);
    let sealed: Option<Vec<u8>> = row.get(18)?;
    let mut stored = Stored {
        seq: row.get(0)?,
        id: MessageId::parse(&id).ok_or_else(|| bad("id"))?,
        tenant: TenantId::parse(&row.get::<_, String>(2)?).ok_or_else(|| bad("tenant"))?,
        kind: Kind::from_code(row.get(3)?),
        state: State::from_word(&row.get::<_, String>(4)?).ok_or_else(|| bad("state"))?,
        content,
        size: size.unsigned_abs(),
        sha256: row
            .get::<_, Vec<u8>>(6)?
            .try_into()
            .map_err(|_| bad("sha256"))?,
        accepted: time(row.get(8)?),
        next: row.get::<_, Option<i64>>(9)?.map(time),
        attempts: row.get(10)?,
        reason: row.get(11)?,
        uncertain: row.get(12)?,
        excluded_ms: row.get(13)?,
        warned: row.get(14)?,
        envelope: from_json(&envelope)?,
        origin: from_json(&origin)?,
        recipients: from_json(&row.get::<_, String>(17)?)?,
        is_sealed: true,
    };
    // Rows of the first layout have no seal.
    stored.is_sealed = sealed.is_none_or(|known| known == seal(&stored, &envelope, &origin));
    Ok(stored)
}

/// Loads a message with its inline content. A damaged content is an error, never mail.
pub(super) fn load(
    db: &rusqlite::Connection,
    seq: i64,
    bodies: &Path,
) -> rusqlite::Result<Option<Stored>> {
    let found = db
        .prepare_cached(&format!("SELECT {COLUMNS} FROM messages WHERE seq = ?1"))?
        .query_row([seq], |row| from_row(row, bodies))
        .optional()?;
    found.map(|stored| with_content(db, stored)).transpose()
}

/// Loads a message and those of its tenant behind it that are due like it.
pub(super) fn load_run(
    db: &rusqlite::Connection,
    seq: i64,
    limit: usize,
    bodies: &Path,
) -> rusqlite::Result<Vec<Stored>> {
    // One snapshot for all of it: beginning one costs more than reading a message.
    let snapshot = db.unchecked_transaction()?;
    let rows: Vec<Stored> = snapshot
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM messages WHERE tenant = (SELECT tenant FROM messages WHERE seq = ?1) AND seq >= ?1 ORDER BY seq LIMIT ?2"
        ))?
        .query_map(params![seq, i64::try_from(limit).unwrap_or(1)], |row| {
            from_row(row, bodies)
        })?
        .collect::<Result<_, _>>()?;
    rows.into_iter()
        .map(|stored| with_content(&snapshot, stored))
        .collect()
}

fn with_content(db: &rusqlite::Connection, mut stored: Stored) -> rusqlite::Result<Stored> {
    if matches!(stored.content, Content::Memory(_)) {
        let bytes: Vec<u8> = db
            .prepare_cached("SELECT content FROM bodies WHERE seq = ?1")?
            .query_row([stored.seq], |row| row.get(0))
            .optional()?
            .unwrap_or_default();
        stored.content = Content::Memory(bytes.into());
    }
    Ok(stored)
}
