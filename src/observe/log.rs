//! Log lines: `key=value` or JSON, one event a line, written by a thread of its own so that a
//! blocked log never blocks mail.

use std::fmt::Write as _;
use std::str::FromStr;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `key=value`
    Text,
    /// One JSON object a line.
    Json,
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(format!("found {other:?}; allowed: text, json")),
        }
    }
}

/// Starts logging to stderr. Keep the guard until the end: it flushes what is still buffered.
pub fn start(format: Format, level: tracing::Level) -> tracing_appender::non_blocking::WorkerGuard {
    let (writer, guard) = tracing_appender::non_blocking::NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(64 * 1024)
        .finish(std::io::stderr());
    let filter = tracing_subscriber::EnvFilter::new(format!("off,postbote={level}"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .event_format(Lines(format))
        .finish();
    // Fails only if a subscriber is set already, which then serves.
    let _ = tracing::subscriber::set_global_default(subscriber);
    guard
}

struct Lines(Format);

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let now = jiff::Timestamp::now()
            .strftime("%Y-%m-%dT%H:%M:%S%.3fZ")
            .to_string();
        let level = event.metadata().level().as_str().to_ascii_lowercase();
        let mut collected = Collected::default();
        event.record(&mut collected);
        match self.0 {
            Format::Text => {
                let mut line = format!("{now} level={level}");
                for (key, value) in &collected.fields {
                    line.push(' ');
                    line.push_str(key);
                    line.push('=');
                    push_value(&mut line, value);
                }
                if let Some(message) = &collected.message {
                    line.push_str(" msg=");
                    push_value(&mut line, message);
                }
                writeln!(writer, "{line}")
            }
            Format::Json => {
                let mut object = serde_json::Map::new();
                object.insert("time".to_owned(), now.into());
                object.insert("level".to_owned(), level.into());
                for (key, value) in collected.fields {
                    object.insert(key.to_owned(), value.into());
                }
                if let Some(message) = collected.message {
                    object.insert("msg".to_owned(), message.into());
                }
                writeln!(writer, "{}", serde_json::Value::Object(object))
            }
        }
    }
}

/// A value, quoted where it must be; controls escaped, so one event is one line.
fn push_value(line: &mut String, value: &str) {
    let plain = !value.is_empty()
        && value
            .chars()
            .all(|c| !c.is_control() && !c.is_whitespace() && !"\"=\\".contains(c));
    if plain {
        line.push_str(value);
        return;
    }
    line.push('"');
    for c in value.chars() {
        match c {
            '"' | '\\' => {
                line.push('\\');
                line.push(c);
            }
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => {
                let _ = write!(line, "\\u{{{:x}}}", u32::from(c));
            }
            c => line.push(c),
        }
    }
    line.push('"');
}

#[derive(Default)]
struct Collected {
    fields: Vec<(&'static str, String)>,
    message: Option<String>,
}

impl Collected {
    fn add(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = Some(value);
        } else {
            self.fields.push((field.name(), value));
        }
    }
}

impl Visit for Collected {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format!("{value:?}"));
    }
}

/// Text of a client in a log line: at most 80 characters.
pub fn brief(text: &str) -> String {
    if text.chars().count() <= 80 {
        text.to_owned()
    } else {
        format!("{}…", text.chars().take(79).collect::<String>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_event_is_one_line() {
        let mut line = String::new();
        push_value(&mut line, "a\n2026 level=info \"x\" \u{1b}[31m");
        assert_eq!(line, "\"a\\u{a}2026 level=info \\\"x\\\" \\u{1b}[31m\"");
        line.clear();
        push_value(&mut line, "plain@x.y");
        assert_eq!(line, "plain@x.y");
    }
}
