//! Log lines: `key=value` or JSON, one event a line, written by a thread of its own so that a
//! blocked log never blocks mail.

use std::fmt::Write as _;
use std::io::Write as _;
use std::str::FromStr;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
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

/// Starts logging to stderr. Keep the guard until the end: it writes what is still there.
pub fn start(format: Format, level: tracing::Level) -> Guard {
    let sink = Arc::new(Sink::default());
    let writer = Arc::clone(&sink);
    // Without its thread the log is silent; mail goes on.
    let thread = std::thread::Builder::new()
        .name("log".to_owned())
        .spawn(move || writer.write_out())
        .ok();
    // Our own events; libraries are quiet.
    let filter = Targets::new().with_target("postbote", level);
    let lines = Arc::clone(&sink);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(move || Line(Arc::clone(&lines)))
        .event_format(Lines(format));
    let subscriber = tracing_subscriber::registry().with(layer.with_filter(filter));
    // Fails only if a subscriber is set already, which then serves.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Guard { sink, thread }
}

/// Octets that wait for a blocked log at most; further lines are counted instead.
const WAITING_LIMIT: usize = 4 << 20;
/// Lines gather for so long: many are one write, and nobody is woken for each.
const GATHER: Duration = Duration::from_millis(5);
/// How long the end waits for a blocked log.
const END_LIMIT: Duration = Duration::from_secs(2);

/// Lines on their way to stderr.
#[derive(Default)]
struct Sink {
    state: Mutex<Waiting>,
    grown: Condvar,
}

#[derive(Default)]
struct Waiting {
    lines: Vec<u8>,
    dropped: u64,
    closed: bool,
    /// The thread waits for a first line.
    idle: bool,
}

impl Sink {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_out(&self) {
        let mut batch = Vec::new();
        loop {
            let mut waiting = self.lock();
            while waiting.lines.is_empty() && !waiting.closed {
                waiting.idle = true;
                waiting = self
                    .grown
                    .wait(waiting)
                    .unwrap_or_else(PoisonError::into_inner);
            }
            waiting.idle = false;
            if !waiting.closed {
                drop(waiting);
                std::thread::sleep(GATHER);
                waiting = self.lock();
            }
            batch.clear();
            std::mem::swap(&mut batch, &mut waiting.lines);
            let dropped = std::mem::take(&mut waiting.dropped);
            let ended = waiting.closed && batch.is_empty();
            drop(waiting);
            if ended {
                return;
            }
            if dropped > 0 {
                let _ = writeln!(
                    batch,
                    "{} level=warn event=log-lines-dropped count={dropped}",
                    Stamp(jiff::Timestamp::now())
                );
            }
            let _ = std::io::stderr().write_all(&batch);
            batch.shrink_to(1 << 16);
        }
    }
}

/// One line on its way.
struct Line(Arc<Sink>);

impl std::io::Write for Line {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        let mut waiting = self.0.lock();
        if waiting.lines.len() + octets.len() > WAITING_LIMIT {
            waiting.dropped += 1;
            return Ok(octets.len());
        }
        waiting.lines.extend_from_slice(octets);
        let wake = std::mem::take(&mut waiting.idle);
        drop(waiting);
        if wake {
            self.0.grown.notify_one();
        }
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Writes the last lines when dropped.
pub struct Guard {
    sink: Arc<Sink>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.sink.lock().closed = true;
        self.sink.grown.notify_one();
        let Some(thread) = self.thread.take() else {
            return;
        };
        let deadline = std::time::Instant::now() + END_LIMIT;
        while !thread.is_finished() && std::time::Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(2));
        }
    }
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

/// Text of a client in a log line: at most 80 octets.
pub fn brief(text: &str) -> String {
    const MARK: &str = "…";
    if text.len() <= 80 {
        text.to_owned()
    } else {
        let end = text.floor_char_boundary(80 - MARK.len());
        format!("{}{MARK}", &text[..end])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_is_brief() {
        assert_eq!(brief(&"a".repeat(80)), "a".repeat(80));
        assert_eq!(brief(&"a".repeat(81)), format!("{}…", "a".repeat(77)));
        let long = brief(&"€".repeat(2000));
        assert_eq!(long, format!("{}…", "€".repeat(25)));
    }

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
