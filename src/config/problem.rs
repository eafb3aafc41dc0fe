//! What is wrong with a configuration, said so that it can be mended at once.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can, but somebody should know.
    Warning,
}

/// One problem with its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Error or warning.
    pub severity: Severity,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 when the problem is the file itself.
    pub line: usize,
    /// The key with its tables, `upstream.port`; empty for the file itself.
    pub key: String,
    /// The value found, never a secret one.
    pub found: String,
    /// What is allowed there.
    pub allowed: String,
    /// What to do.
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.file.display().to_string();
        if self.line > 0 {
            write!(text, ":{}", self.line)?;
        }
        text.push_str(match self.severity {
            Severity::Error => ": error",
            Severity::Warning => ": warning",
        });
        for (before, words) in [
            (": ", &self.key),
            (": found ", &self.found),
            ("; allowed: ", &self.allowed),
            ("; ", &self.hint),
        ] {
            if !words.is_empty() {
                text.push_str(before);
                text.push_str(words);
            }
        }
        // What stands in a file may be anything; in a line of ours it is text.
        for c in text.chars() {
            match c {
                c if c.is_control() => write!(f, "\\u{{{:x}}}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

impl Problem {
    /// A problem of a whole file.
    pub fn of_file(file: &Path, found: impl Into<String>, hint: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            file: file.to_owned(),
            line: 0,
            key: String::new(),
            found: found.into(),
            allowed: String::new(),
            hint: hint.into(),
        }
    }

    /// As JSON for `check --json`.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "file": self.file.display().to_string(),
            "line": self.line,
            "key": self.key,
            "found": self.found,
            "allowed": self.allowed,
            "hint": self.hint,
        })
    }
}
