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
        // What has gathered is written at once, not line by line.
        .finish(std::io::BufWriter::with_capacity(
            64 * 1024,
            std::io::stderr(),
        ));
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
        let now = Stamp(jiff::Timestamp::now());
        let level = match *event.metadata().level() {
            tracing::Level::ERROR => "error",
            tracing::Level::WARN => "warn",
            tracing::Level::INFO => "info",
            tracing::Level::DEBUG => "debug",
            tracing::Level::TRACE => "trace",
        };
        match self.0 {
            Format::Text => {
                let mut line = Text::default();
                let _ = write!(line.fields, "{now} level={level}");
                event.record(&mut line);
                if !line.message.is_empty() {
                    line.fields.push_str(" msg=");
                    push_value(&mut line.fields, &line.message);
                }
                line.fields.push('\n');
                writer.write_str(&line.fields)
            }
            Format::Json => {
                let mut object = Json::default();
                object.0.insert("time".to_owned(), now.to_string().into());
                object.0.insert("level".to_owned(), level.into());
                event.record(&mut object);
                writeln!(writer, "{}", serde_json::Value::Object(object.0))
            }
        }
    }
}

/// A time in UTC with milliseconds, as `2026-11-02T08:00:00.123Z`.
struct Stamp(jiff::Timestamp);

impl std::fmt::Display for Stamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = jiff::tz::Offset::UTC.to_datetime(self.0);
        write!(
            f,
            "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z",
            at.year(),
            at.month(),
            at.day(),
            at.hour(),
            at.minute(),
            at.second(),
            at.millisecond()
        )
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

/// A line of text on its way.
#[derive(Default)]
struct Text {
    fields: String,
    message: String,
    scratch: String,
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            self.message.push_str(value);
            return;
        }
        self.fields.push(' ');
        self.fields.push_str(field.name());
        self.fields.push('=');
        push_value(&mut self.fields, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let mut scratch = std::mem::take(&mut self.scratch);
        scratch.clear();
        let _ = write!(scratch, "{value:?}");
        self.record_str(field, &scratch);
        self.scratch = scratch;
    }
}

/// A line of JSON on its way; numbers stay numbers.
#[derive(Default)]
struct Json(serde_json::Map<String, serde_json::Value>);

impl Json {
    fn add(&mut self, field: &Field, value: serde_json::Value) {
        let name = match field.name() {
            "message" => "msg",
            name => name,
        };
        self.0.insert(name.to_owned(), value);
    }
}

impl Visit for Json {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.add(field, format!("{value:?}").into());
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
