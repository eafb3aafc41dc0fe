//! The dialogue with a server, for `postbote test` and `doctor`. Secrets never get in.

use std::sync::{Arc, Mutex};

/// A recorder that many hands may write to; recording nothing costs nothing.
#[derive(Debug, Clone, Default)]
pub struct Transcript {
    lines: Option<Arc<Mutex<Vec<String>>>>,
}

impl Transcript {
    /// One that records.
    pub fn recording() -> Self {
        Self {
            lines: Some(Arc::default()),
        }
    }

    /// Whether it records.
    pub fn is_recording(&self) -> bool {
        self.lines.is_some()
    }

    /// Adds a line with its mark: `C:`, `S:` or `--`.
    pub fn push(&self, mark: &str, text: &str) {
        if let Some(lines) = &self.lines {
            let clean: String = text
                .chars()
                .map(|c| if c.is_control() { '?' } else { c })
                .collect();
            lines
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
                .push(format!("{mark} {clean}"));
        }
    }

    /// What was recorded.
    pub fn lines(&self) -> Vec<String> {
        self.lines
            .as_ref()
            .map(|lines| {
                lines
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .clone()
            })
            .unwrap_or_default()
    }
}
