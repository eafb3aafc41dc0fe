//! One configuration file with the place of every value: reads typed values and collects every
//! problem instead of stopping at the first.

use std::cell::RefCell;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Severity};
use super::schema::{self, Kind};
use crate::message::changes_direction;
use crate::smtp::address::Address;
use crate::vault::{Secret, SecretRef};

/// Largest configuration file; a larger one is not a configuration.
pub const FILE_LIMIT: u64 = 1024 * 1024;

/// A set of named values, such as `none | starttls | implicit`.
pub trait Choice: Copy + 'static {
    /// Names as written, with their values.
    const ALL: &'static [(&'static str, Self)];
}

/// The names of a choice, for messages and the schema.
pub fn names<C: Choice>() -> Vec<&'static str> {
    C::ALL.iter().map(|(name, _)| *name).collect()
}

/// A file's text, its path, and the problems found so far.
pub struct Document {
    path: PathBuf,
    text: String,
    line_starts: Vec<usize>,
    problems: RefCell<Vec<Problem>>,
    plain_secret: std::cell::Cell<bool>,
}

impl Document {
    /// A document over text that was read from `path`.
    pub fn new(path: &Path, text: String) -> Self {
        let line_starts = std::iter::once(0)
            .chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|n| n + 1))
            .collect();
        Self {
            path: path.to_owned(),
            text,
            line_starts,
            problems: RefCell::new(Vec::new()),
            plain_secret: std::cell::Cell::new(false),
        }
    }

    /// Reads a file, refusing what cannot be a configuration.
    pub fn read(path: &Path) -> Result<Self, Problem> {
        let metadata = std::fs::metadata(path).map_err(|e| {
            Problem::of_file(
                path,
                format!("that the file cannot be read ({e})"),
                "create it or name another with --config",
            )
        })?;
        if !metadata.is_file() {
            return Err(Problem::of_file(
                path,
                "something that is not a regular file",
                "put a TOML file there",
            ));
        }
        if metadata.len() > FILE_LIMIT {
            return Err(Problem::of_file(
                path,
                format!("a file of {} octets", metadata.len()),
                format!("a configuration has at most {FILE_LIMIT}"),
            ));
        }
        let text = std::fs::read(path).map_err(|e| {
            Problem::of_file(
                path,
                format!("that the file cannot be read ({e})"),
                "check its owner and mode",
            )
        })?;
        let text = String::from_utf8(text).map_err(|_| {
            Problem::of_file(path, "bytes that are not UTF-8", "save the file as UTF-8")
        })?;
        Ok(Self::new(path, text))
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The directory that relative paths start from.
    pub fn directory(&self) -> PathBuf {
        self.path
            .parent()
            .map_or_else(|| PathBuf::from("."), Path::to_owned)
    }

    /// A path as written, from the file's directory; `a/../b` becomes `b` where `a` is a plain
    /// directory, so that messages show short names.
    pub fn resolve(&self, written: &str) -> PathBuf {
        let joined = self.directory().join(written);
        let parent = joined.parent().and_then(|p| p.canonicalize().ok());
        match (parent, joined.file_name()) {
            (Some(parent), Some(name)) => parent.join(name),
            _ => joined,
        }
    }

    /// Parses the text; syntax errors become problems, the rest is still read.
    pub fn parse(&self) -> Spanned<DeTable<'_>> {
        let (table, errors) = DeTable::parse_recoverable(&self.text);
        for error in errors {
            let line = error.span().map_or(0, |span| self.line_of(span.start));
            self.push(Problem {
                severity: Severity::Error,
                file: self.path.clone(),
                line,
                key: String::new(),
                found: format!("invalid TOML ({})", error.message().replace('\n', " ")),
                allowed: String::new(),
                hint: "mend the syntax: key = \"value\"".to_owned(),
            });
        }
        table
    }

    fn line_of(&self, offset: usize) -> usize {
        self.line_starts.partition_point(|start| *start <= offset)
    }

    fn push(&self, problem: Problem) {
        self.problems.borrow_mut().push(problem);
    }

    /// Whether a secret stood in it in plain text.
    pub fn has_plain_secret(&self) -> bool {
        self.plain_secret.get()
    }

    /// Takes the problems collected so far.
    pub fn take_problems(&self) -> Vec<Problem> {
        self.problems.take()
    }

    /// The root as a section, its keys checked against the schema.
    pub fn root<'a>(
        &'a self,
        table: &'a DeTable<'a>,
        fields: &'static [schema::Field],
    ) -> Section<'a> {
        Section {
            document: self,
            table: Some(table),
            path: String::new(),
            span: 0..0,
            fields,
        }
        .checked()
    }
}

/// One table of a document, possibly absent, with what the schema allows in it.
#[derive(Clone)]
pub struct Section<'a> {
    document: &'a Document,
    table: Option<&'a DeTable<'a>>,
    path: String,
    span: Range<usize>,
    fields: &'static [schema::Field],
}

impl<'a> Section<'a> {
    /// Reports every key that the schema does not know.
    fn checked(self) -> Self {
        if let Some(table) = self.table {
            for key in table.keys() {
                if !self.fields.iter().any(|f| f.key == key.get_ref().as_ref()) {
                    let known: Vec<&str> = self.fields.iter().map(|f| f.key).collect();
                    let hint = schema::nearest(key.get_ref(), &known).map_or_else(
                        || "remove it".to_owned(),
                        |near| format!("did you mean {near}?"),
                    );
                    self.problem(
                        Severity::Error,
                        key.span(),
                        key.get_ref(),
                        "an unknown key".to_owned(),
                        known.join(", "),
                        hint,
                    );
                }
            }
        }
        self
    }

    /// Whether the table stands in the file.
    pub fn is_present(&self) -> bool {
        self.table.is_some()
    }

    /// Whether a key stands in it.
    pub fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether a table stands in it under that key.
    pub fn section_present(&self, key: &str) -> bool {
        self.value(key).is_some_and(|v| v.get_ref().is_table())
    }

    /// The document it is part of.
    pub fn document(&self) -> &'a Document {
        self.document
    }

    fn full_key(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn problem(
        &self,
        severity: Severity,
        span: Range<usize>,
        key: &str,
        found: String,
        allowed: impl Into<String>,
        hint: impl Into<String>,
    ) {
        self.document.push(Problem {
            severity,
            file: self.document.path.clone(),
            line: self.document.line_of(span.start),
            key: self.full_key(key),
            found,
            allowed: allowed.into(),
            hint: hint.into(),
        });
    }

    fn field(&self, key: &str) -> &'static schema::Field {
        static MISSING: schema::Field = schema::Field::new("?", Kind::Text, "", "");
        debug_assert!(
            self.fields.iter().any(|f| f.key == key),
            "{key} is not in the schema"
        );
        self.fields
            .iter()
            .find(|f| f.key == key)
            .unwrap_or(&MISSING)
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.table?.get(key)
    }

    /// Reports a value that has the right type but cannot be used.
    pub fn reject(&self, key: &str, allowed: impl Into<String>, hint: impl Into<String>) {
        self.report(Severity::Error, key, allowed.into(), hint.into());
    }

    /// Reports something to think about that concerns the whole table.
    pub fn warn_table(&self, hint: impl Into<String>) {
        self.document.push(Problem {
            severity: Severity::Warning,
            file: self.document.path.clone(),
            line: self.document.line_of(self.span.start),
            key: self.path.clone(),
            found: String::new(),
            allowed: String::new(),
            hint: hint.into(),
        });
    }

    /// Reports something to think about.
    pub fn warn(&self, key: &str, hint: impl Into<String>) {
        self.report(Severity::Warning, key, String::new(), hint.into());
    }

    fn report(&self, severity: Severity, key: &str, allowed: String, hint: String) {
        let (span, found) = match self.value(key) {
            Some(value) => (value.span(), self.shown(key, value.get_ref())),
            None => (self.span.clone(), "nothing".to_owned()),
        };
        self.problem(severity, span, key, found, allowed, hint);
    }

    /// A value as it may be shown: secrets never are.
    fn shown(&self, key: &str, value: &DeValue<'_>) -> String {
        if matches!(self.field(key).kind, Kind::Secret) {
            return "a value (not shown)".to_owned();
        }
        let text = match value {
            DeValue::String(text) => format!("{text:?}"),
            DeValue::Integer(number) => number.as_str().to_owned(),
            DeValue::Float(number) => number.as_str().to_owned(),
            DeValue::Boolean(value) => value.to_string(),
            DeValue::Datetime(date) => date.to_string(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        };
        // `smtp://user:password@host`: whoever writes that writes a password.
        let login = text
            .split_once('@')
            .is_some_and(|(before, _)| before.contains(':'));
        let text = if login {
            "an address with a login in it (not shown)".to_owned()
        } else {
            text
        };
        if text.chars().count() > 80 {
            format!("{}…", text.chars().take(79).collect::<String>())
        } else {
            text
        }
    }

    fn wrong_type(&self, key: &str, value: &Spanned<DeValue<'_>>) {
        let field = self.field(key);
        self.problem(
            Severity::Error,
            value.span(),
            key,
            self.shown(key, value.get_ref()),
            field.kind.allowed(),
            field.example(),
        );
    }

    /// A required key that is missing.
    fn missing(&self, key: &str) {
        let field = self.field(key);
        self.problem(
            Severity::Error,
            self.span.clone(),
            key,
            "nothing".to_owned(),
            field.kind.allowed(),
            format!("add it: {}", field.example()),
        );
    }

    /// A text.
    pub fn text(&self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text)
                if text
                    .chars()
                    .any(|c| (c.is_control() && c != '\n') || changes_direction(c))
                    || (text.contains('\n') && !matches!(self.field(key).kind, Kind::Secret)) =>
            {
                self.problem(
                    Severity::Error,
                    value.span(),
                    key,
                    self.shown(key, value.get_ref()),
                    "text on one line without control and direction characters",
                    "remove the line break or the invisible character",
                );
                None
            }
            DeValue::String(text) => Some(text.to_string()),
            _ => {
                self.wrong_type(key, value);
                None
            }
        }
    }

    /// A text on several lines, their ends as `\n`.
    pub fn lines(&self, key: &str) -> Option<String> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            self.wrong_type(key, value);
            return None;
        };
        let text = text.replace("\r\n", "\n");
        if text
            .chars()
            .any(|c| (c.is_control() && !matches!(c, '\n' | '\t')) || changes_direction(c))
        {
            self.reject(
                key,
                "text without control and direction characters",
                "remove the invisible character",
            );
            return None;
        }
        Some(text)
    }

    /// A text that must be there.
    pub fn required_text(&self, key: &str) -> Option<String> {
        if !self.has(key) {
            self.missing(key);
        }
        let text = self.text(key)?;
        if text.trim().is_empty() {
            self.reject(key, self.field(key).kind.allowed(), "it must not be empty");
            return None;
        }
        Some(text)
    }

    /// `true` or `false`.
    pub fn bool(&self, key: &str, default: bool) -> bool {
        match self.value(key) {
            None => default,
            Some(value) => value.get_ref().as_bool().unwrap_or_else(|| {
                self.wrong_type(key, value);
                default
            }),
        }
    }

    /// A whole number within the bounds of the schema.
    pub fn integer(&self, key: &str, default: u32) -> u32 {
        let Some(value) = self.value(key) else {
            return default;
        };
        let Kind::Integer { minimum, maximum } = self.field(key).kind else {
            return default;
        };
        let parsed = value
            .get_ref()
            .as_integer()
            .and_then(|n| i64::from_str_radix(&n.as_str().replace('_', ""), n.radix()).ok());
        match parsed.and_then(|n| u32::try_from(n).ok()) {
            Some(number) if (minimum..=maximum).contains(&number) => number,
            _ => {
                self.wrong_type(key, value);
                default
            }
        }
    }

    /// A size such as `"50MiB"`, in octets.
    pub fn size(&self, key: &str, default: u64) -> u64 {
        self.parsed_text(key, default, parse_size)
    }

    /// A time such as `"30s"`.
    pub fn duration(&self, key: &str, default: Duration) -> Duration {
        self.parsed_text(key, default, parse_duration)
    }

    fn parsed_text<T>(&self, key: &str, default: T, parse: impl Fn(&str) -> Option<T>) -> T {
        let Some(value) = self.value(key) else {
            return default;
        };
        match value.get_ref().as_str().and_then(parse) {
            Some(parsed) => parsed,
            None => {
                self.wrong_type(key, value);
                default
            }
        }
    }

    /// One of a set of names.
    pub fn choice<C: Choice>(&self, key: &str, default: C) -> C {
        self.parsed_text(key, default, |text| {
            C::ALL
                .iter()
                .find(|(name, _)| *name == text)
                .map(|(_, value)| *value)
        })
    }

    /// A mail address.
    pub fn address(&self, key: &str) -> Option<Address> {
        let text = self.text(key)?;
        match Address::parse(text.trim()) {
            Ok(address) => Some(address),
            Err(error) => {
                self.reject(key, self.field(key).kind.allowed(), error.to_string());
                None
            }
        }
    }

    /// A mail address that must be there.
    pub fn required_address(&self, key: &str) -> Option<Address> {
        if !self.has(key) {
            self.missing(key);
        }
        self.address(key)
    }

    /// A list of texts, each with the place where it stands.
    pub fn list<T>(&self, key: &str, parse: impl Fn(&str) -> Result<T, String>) -> Vec<T> {
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value);
            return Vec::new();
        };
        let mut out = Vec::new();
        for item in array.iter() {
            match item.get_ref().as_str().map(&parse) {
                Some(Ok(parsed)) => out.push(parsed),
                Some(Err(reason)) => self.problem(
                    Severity::Error,
                    item.span(),
                    key,
                    self.shown(key, item.get_ref()),
                    self.field(key).kind.allowed(),
                    reason,
                ),
                None => self.wrong_type(key, item),
            }
        }
        out
    }

    /// A path, relative ones from the file's directory.
    pub fn path(&self, key: &str) -> Option<PathBuf> {
        self.text(key).map(|text| self.document.resolve(&text))
    }

    /// A secret; a plain one is warned of.
    pub fn secret(&self, key: &str) -> Option<SecretRef> {
        let value = self.value(key)?;
        match value.get_ref() {
            DeValue::String(text) => {
                // A hash protects itself; anything else in plain sight deserves a word.
                if !text.starts_with("$argon2") {
                    self.document.plain_secret.set(true);
                    self.warn(key, format!("the secret stands in plain text: run `postbote vault set NAME` and write {key} = {{ vault = \"NAME\" }}"));
                }
                Some(SecretRef::Plain(Secret::new(text.to_string())))
            }
            DeValue::Table(table) => {
                let mut entries = table.iter();
                let (Some((name, source)), None) = (entries.next(), entries.next()) else {
                    self.wrong_type(key, value);
                    return None;
                };
                let Some(text) = source.get_ref().as_str().filter(|text| !text.is_empty()) else {
                    self.wrong_type(key, value);
                    return None;
                };
                match name.get_ref().as_ref() {
                    "vault" => Some(SecretRef::Vault(text.to_owned())),
                    "file" => Some(SecretRef::File(self.document.directory().join(text))),
                    "env" => Some(SecretRef::Env(text.to_owned())),
                    "credential" => Some(SecretRef::Credential(text.to_owned())),
                    _ => {
                        self.wrong_type(key, value);
                        None
                    }
                }
            }
            _ => {
                self.wrong_type(key, value);
                None
            }
        }
    }

    /// A table inside, absent or not.
    pub fn section(&self, key: &str) -> Section<'a> {
        let fields = match self.field(key).kind {
            Kind::Table(fields) => fields,
            _ => &[],
        };
        let mut section = Section {
            document: self.document,
            table: None,
            path: self.full_key(key),
            span: self.span.clone(),
            fields,
        };
        if let Some(value) = self.value(key) {
            match value.get_ref() {
                DeValue::Table(table) => {
                    section.table = Some(table);
                    section.span = self.key_span(key).unwrap_or_else(|| value.span());
                }
                _ => self.wrong_type(key, value),
            }
        }
        section.checked()
    }

    fn key_span(&self, key: &str) -> Option<Range<usize>> {
        self.table?.get_key_value(key).map(|(k, _)| k.span())
    }

    /// The tables of `[[key]]`.
    pub fn sections(&self, key: &str) -> Vec<Section<'a>> {
        let Kind::Tables(fields) = self.field(key).kind else {
            return Vec::new();
        };
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(key, value);
            return Vec::new();
        };
        let mut out = Vec::new();
        for (i, item) in array.iter().enumerate() {
            match item.get_ref() {
                DeValue::Table(table) => {
                    let path = format!("{}[{}]", self.full_key(key), i + 1);
                    out.push(
                        Section {
                            document: self.document,
                            table: Some(table),
                            path,
                            span: item.span(),
                            fields,
                        }
                        .checked(),
                    );
                }
                _ => self.wrong_type(key, item),
            }
        }
        out
    }

    /// The tables of `[key.NAME]` with their names.
    pub fn named_sections(&self, key: &str) -> Vec<(String, Section<'a>)> {
        let Kind::Named(fields) = self.field(key).kind else {
            return Vec::new();
        };
        let Some(value) = self.value(key) else {
            return Vec::new();
        };
        let Some(table) = value.get_ref().as_table() else {
            self.wrong_type(key, value);
            return Vec::new();
        };
        let mut out = Vec::new();
        for (name, item) in table.iter() {
            match item.get_ref() {
                DeValue::Table(inner) => {
                    let path = format!("{}.{}", self.full_key(key), name.get_ref());
                    out.push((
                        name.get_ref().to_string(),
                        Section {
                            document: self.document,
                            table: Some(inner),
                            path,
                            span: name.span(),
                            fields,
                        }
                        .checked(),
                    ));
                }
                _ => self.wrong_type(key, item),
            }
        }
        out
    }
}

/// `"50MiB"`, `"64KiB"`, `"2GiB"`, `"100B"`, `"10MB"`.
pub fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..split].parse().ok()?;
    let unit = match text[split..].trim() {
        "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        _ => return None,
    };
    number.checked_mul(unit)
}

/// `"30s"`, `"500ms"`, `"10m"`, `"4h"`, `"5d"`.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let number: u64 = text[..split].parse().ok()?;
    let milliseconds = match text[split..].trim() {
        "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.checked_mul(milliseconds).map(Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units() {
        for (text, octets) in [
            ("50MiB", Some(52_428_800)),
            ("2GiB", Some(2_147_483_648)),
            ("100B", Some(100)),
            ("50", None),
            ("MiB", None),
            ("-1B", None),
            ("99999999999999999999B", None),
            ("99999999999999GiB", None),
        ] {
            assert_eq!(parse_size(text), octets, "{text}");
        }
        for (text, seconds) in [
            ("30s", Some(30)),
            ("10m", Some(600)),
            ("4h", Some(14_400)),
            ("5d", Some(432_000)),
            ("0s", Some(0)),
            ("30", None),
            ("s", None),
            ("-1s", None),
        ] {
            assert_eq!(parse_duration(text).map(|d| d.as_secs()), seconds, "{text}");
        }
    }
}
