//! Drafts on their way, on record before their first upload: after a crash nobody else knows that
//! there is half a message in somebody's mailbox.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::message::MessageId;
use crate::vault::write_durably;

/// The records, a file each in `DATA_DIR/drafts`.
#[derive(Debug, Clone)]
pub struct Drafts {
    directory: PathBuf,
}

/// A draft in a mailbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draft {
    /// Whose upstream it is: the account of the tokens.
    pub account: String,
    /// The mailbox as a path below the root: `/me` or `/users/ADDRESS`.
    pub mailbox: String,
    /// Microsoft's id, immutable; empty: it was asked for, and the answer has not come.
    pub id: String,
    /// The Message-ID by which it is found without its id.
    #[serde(default)]
    pub message_id: String,
    /// It was told to be sent.
    pub sending: bool,
}

impl Drafts {
    /// Records below a data directory.
    pub fn new(data_dir: &std::path::Path) -> Self {
        Self {
            directory: data_dir.join("drafts"),
        }
    }

    /// Puts one on record; durable when it returns.
    pub async fn put(&self, message: MessageId, draft: &Draft) -> Result<(), String> {
        let path = self.path(message, &draft.account);
        let text = serde_json::to_vec(draft).map_err(|e| e.to_string())?;
        let directory = self.directory.clone();
        blocking(move || {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&directory)?;
            write_durably(&path, &text)
        })
        .await
        .map_err(|e| format!("{}: {e}", self.directory.display()))
    }

    /// The draft of a message in an account. A record that cannot be read is none.
    pub async fn get(&self, message: MessageId, account: &str) -> Option<Draft> {
        let path = self.path(message, account);
        let bytes = blocking(move || std::fs::read(path)).await.ok()?;
        serde_json::from_slice(&bytes).ok()
    }

    /// Forgets one.
    pub async fn remove(&self, message: MessageId, account: &str) {
        let path = self.path(message, account);
        // What is forgotten twice is looked up once more after a crash, no harm.
        let _ = blocking(move || std::fs::remove_file(path)).await;
    }

    /// All messages that have one, with the account.
    pub fn all(&self) -> Vec<(MessageId, String)> {
        let Ok(entries) = std::fs::read_dir(&self.directory) else {
            return Vec::new();
        };
        entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let (id, account) = name.to_str()?.strip_suffix(".json")?.split_once('.')?;
                Some((MessageId::parse(id)?, account.to_owned()))
            })
            .collect()
    }

    fn path(&self, message: MessageId, account: &str) -> PathBuf {
        self.directory.join(format!("{message}.{account}.json"))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|e| Err(std::io::Error::other(e)))
}
