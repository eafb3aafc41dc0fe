//! What is wrong with a configuration, said so that it can be mended at once.

use std::fmt;
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
        let word = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {word}")?;
        if !self.key.is_empty() {
            write!(f, ": {}", self.key)?;
        }
        if !self.found.is_empty() {
            write!(f, ": found {}", self.found)?;
        }
        if !self.allowed.is_empty() {
            write!(f, "; allowed: {}", self.allowed)?;
        }
        if !self.hint.is_empty() {
            write!(f, "; {}", self.hint)?;
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
