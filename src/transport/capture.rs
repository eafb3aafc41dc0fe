//! A dry run: messages as they would have left, as `.eml` files with their envelope beside them.

use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::{Accepted, Failure, RecipientResult};
use crate::explain::Cause;
use crate::failure::Stage;
use crate::message::MessageId;
use crate::prepare::Prepared;

/// Writes a message into `directory`; all recipients have the same result.
pub fn deliver(directory: &Path, id: MessageId, prepared: &Prepared) -> Vec<RecipientResult> {
    let result = match write(directory, id, prepared) {
        Ok(path) => Ok(Accepted {
            relay: "capture".to_owned(),
            reply: format!("250 2.0.0 captured in {}", path.display()),
        }),
        Err(error) => Err(Failure::of_cause(
            Cause::WriteFailed,
            Stage::Prepare,
            "capture",
            format!("{}: {error}", directory.display()),
        )),
    };
    prepared
        .recipients()
        .iter()
        .map(|r| RecipientResult {
            index: r.index,
            result: result.clone(),
        })
        .collect()
}

fn write(directory: &Path, id: MessageId, prepared: &Prepared) -> std::io::Result<PathBuf> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let envelope = serde_json::json!({
        "id": id.as_str(),
        "mail_from": prepared.mail_from().map(ToString::to_string).unwrap_or_default(),
        "rcpt_to": prepared.recipients().iter().map(|r| r.address.as_str()).collect::<Vec<_>>(),
    });
    put(
        &directory.join(format!("{id}.json")),
        &[envelope.to_string().as_bytes(), b"\n"],
    )?;
    let path = directory.join(format!("{id}.eml"));
    put(&path, &[prepared.head(), prepared.body()])?;
    std::fs::File::open(directory)?.sync_all()?;
    Ok(path)
}

/// A reader never sees half a file: written under another name, synced, renamed.
fn put(path: &Path, pieces: &[&[u8]]) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary)?;
    for piece in pieces {
        file.write_all(piece)?;
    }
    file.sync_all()?;
    std::fs::rename(&temporary, path)
}
