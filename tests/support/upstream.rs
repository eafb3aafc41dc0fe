//! An SMTP server that errs on demand, by the local part of the recipient:
//!
//! | recipient | what happens |
//! |---|---|
//! | `tempfail…@` | 450 at RCPT |
//! | `reject…@` | 550 5.1.1 at RCPT |
//! | `dot-tempfail…@` | 451 at the final dot |
//! | `dot-reject…@` | 554 5.7.1 at the final dot |
//! | `quota…@` | 554 5.2.0 SubmissionQuotaExceeded at the final dot |
//! | `sendas…@` | 550 5.7.60 at the final dot |
//! | `drop-after-dot…@` | takes it, closes without an answer, once |
//! | `drop-before-dot…@` | closes instead of 354, once |
//! | `hang…@` | never answers the final dot |
//! | `early…@` | says 250 behind 354, before the message, and 554 to the final dot |
//! | `poison…@` | 421 at RCPT, then closes |
//! | `throttle…@` | 454 Throttling failure at RCPT |

use std::collections::HashSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;

use super::LIMIT;

/// One message that was taken.
#[derive(Debug, Clone)]
pub struct Received {
    pub mail_from: String,
    pub rcpts: Vec<String>,
    /// Unstuffed, as it stood between DATA and the dot.
    pub raw: Vec<u8>,
    pub login: Option<String>,
    pub connection: usize,
}

impl Received {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// The unfolded value of a header field.
    pub fn header(&self, name: &str) -> Option<String> {
        let text = self.text();
        let head = text.split("\r\n\r\n").next().unwrap_or("");
        let mut found: Option<String> = None;
        for line in head.split("\r\n") {
            if line.starts_with([' ', '\t']) {
                if let Some(value) = &mut found {
                    value.push_str(line);
                }
            } else if found.is_some() {
                break;
            } else if line.len() > name.len()
                && line[..name.len()].eq_ignore_ascii_case(name)
                && line.as_bytes()[name.len()] == b':'
            {
                found = Some(line[name.len() + 1..].trim().to_owned());
            }
        }
        found
    }

    pub fn count(&self, name: &str) -> usize {
        let text = self.text();
        let head = text.split("\r\n\r\n").next().unwrap_or("").to_owned();
        head.split("\r\n")
            .filter(|l| {
                l.to_ascii_lowercase()
                    .starts_with(&format!("{}:", name.to_ascii_lowercase()))
            })
            .count()
    }

    pub fn subject(&self) -> String {
        self.header("Subject").unwrap_or_default()
    }
}

#[derive(Default)]
struct State {
    received: Vec<Received>,
    dropped: HashSet<String>,
    auth: Option<(String, String)>,
    /// Dots that were received without our answer being followed by anything.
    open_dots: usize,
}

struct Shared {
    state: Mutex<State>,
    grown: Condvar,
    capabilities: Vec<String>,
    connections: AtomicUsize,
    logins: AtomicUsize,
    stop: AtomicBool,
    hold: AtomicBool,
}

/// A running upstream.
pub struct Upstream {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Upstream {
    pub fn start() -> Self {
        Self::with(
            &[
                "PIPELINING",
                "8BITMIME",
                "SIZE 50000000",
                "DSN",
                "ENHANCEDSTATUSCODES",
                "SMTPUTF8",
            ],
            None,
        )
    }

    /// Takes no mail without this login.
    pub fn with_login(user: &str, password: &str) -> Self {
        Self::with(
            &["PIPELINING", "8BITMIME", "AUTH PLAIN LOGIN"],
            Some((user, password)),
        )
    }

    pub fn with(capabilities: &[&str], auth: Option<(&str, &str)>) -> Self {
        Self::on(0, capabilities, auth)
    }

    pub fn on(port: u16, capabilities: &[&str], auth: Option<(&str, &str)>) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).expect("bind");
        let port = listener.local_addr().expect("address").port();
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                auth: auth.map(|(u, p)| (u.to_owned(), p.to_owned())),
                ..State::default()
            }),
            grown: Condvar::new(),
            capabilities: capabilities.iter().map(|c| (*c).to_owned()).collect(),
            connections: AtomicUsize::new(0),
            logins: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            hold: AtomicBool::new(false),
        });
        let server = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if server.stop.load(Ordering::SeqCst) {
                    return;
                }
                let number = server.connections.fetch_add(1, Ordering::SeqCst);
                let server = Arc::clone(&server);
                std::thread::spawn(move || {
                    let _ = serve(stream, &server, number);
                });
            }
        });
        Self { port, shared }
    }

    /// Takes out what has come so far.
    pub fn take(&self) -> Vec<Received> {
        std::mem::take(&mut self.shared.state.lock().expect("state").received)
    }

    pub fn received(&self) -> Vec<Received> {
        self.shared.state.lock().expect("state").received.clone()
    }

    /// How many dots stood unanswered, as far as the other side can know, when a connection broke.
    pub fn open_dots(&self) -> usize {
        self.shared.state.lock().expect("state").open_dots
    }

    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Login attempts so far.
    pub fn logins(&self) -> usize {
        self.shared.logins.load(Ordering::SeqCst)
    }

    /// Another password from now on.
    pub fn set_password(&self, password: &str) {
        if let Some(auth) = &mut self.shared.state.lock().expect("state").auth {
            auth.1 = password.to_owned();
        }
    }

    /// Answers no final dot until `false`.
    pub fn hold(&self, hold: bool) {
        self.shared.hold.store(hold, Ordering::SeqCst);
        self.shared.grown.notify_all();
    }

    /// Waits until so many messages were taken.
    pub fn wait(&self, count: usize) -> Vec<Received> {
        self.wait_until(&format!("{count} messages"), |received| {
            received.len() >= count
        })
    }

    pub fn wait_until(&self, what: &str, condition: impl Fn(&[Received]) -> bool) -> Vec<Received> {
        let deadline = Instant::now() + LIMIT;
        let mut state = self.shared.state.lock().expect("state");
        loop {
            if condition(&state.received) {
                return state.received.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero(),
                "{what}: only {} came",
                state.received.len()
            );
            state = self
                .shared
                .grown
                .wait_timeout(state, left)
                .expect("state")
                .0;
        }
    }
}

impl Drop for Upstream {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        self.hold(false);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, shared: &Shared, connection: usize) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut out = stream.try_clone()?;
    let mut reader = BufReader::new(stream);
    out.write_all(b"220 upstream.test ESMTP\r\n")?;
    let mut login: Option<String> = None;
    let mut mail: Option<String> = None;
    let mut rcpts: Vec<String> = Vec::new();
    let mut last_dot: Option<Instant> = None;
    loop {
        let mut line = Vec::new();
        let read = reader.read_until(b'\n', &mut line);
        if !matches!(read, Ok(n) if n > 0) || !line.ends_with(b"\n") {
            // Nothing came after the answer to a dot: the other side may not know of it. A
            // connection that idled for longer was only parked.
            if last_dot.is_some_and(|at| at.elapsed() < Duration::from_secs(5)) {
                shared.state.lock().expect("state").open_dots += 1;
            }
            return Ok(());
        }
        last_dot = None;
        let line = String::from_utf8_lossy(&line).trim_end().to_owned();
        let verb = line
            .split([' ', ':'])
            .next()
            .unwrap_or("")
            .to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" => {
                let mut reply = "250-upstream.test".to_owned();
                for capability in &shared.capabilities {
                    reply.push_str(&format!("\r\n250-{capability}"));
                }
                let split = reply.rfind("250-").expect("a line");
                reply.replace_range(split..split + 4, "250 ");
                write!(out, "{reply}\r\n")?;
            }
            "HELO" | "RSET" | "NOOP" => {
                mail = None;
                rcpts.clear();
                out.write_all(b"250 2.0.0 OK\r\n")?;
            }
            "AUTH" => {
                shared.logins.fetch_add(1, Ordering::SeqCst);
                let wanted = shared.state.lock().expect("state").auth.clone();
                let response = line.split(' ').nth(2).unwrap_or("");
                let decoded = base64::engine::general_purpose::STANDARD
                    .decode(response)
                    .unwrap_or_default();
                let expected = wanted
                    .as_ref()
                    .map(|(u, p)| format!("\0{u}\0{p}").into_bytes());
                if Some(decoded) == expected {
                    login = wanted.map(|(u, _)| u);
                    out.write_all(b"235 2.7.0 OK\r\n")?;
                } else {
                    out.write_all(b"535 5.7.8 Authentication credentials invalid\r\n")?;
                }
            }
            "MAIL" => {
                let needs_login = shared.state.lock().expect("state").auth.is_some();
                if needs_login && login.is_none() {
                    out.write_all(b"530 5.7.0 Authentication required\r\n")?;
                } else {
                    mail = Some(address(&line));
                    rcpts.clear();
                    out.write_all(b"250 2.1.0 OK\r\n")?;
                }
            }
            "RCPT" => {
                let to = address(&line);
                if to.starts_with("tempfail") {
                    out.write_all(b"450 4.2.0 try again later, mailbox busy\r\n")?;
                } else if to.starts_with("poison") {
                    out.write_all(b"421 4.7.0 try later\r\n")?;
                    return Ok(());
                } else if to.starts_with("throttle") {
                    out.write_all(
                        b"454 4.7.0 Throttling failure: Maximum sending rate exceeded.\r\n",
                    )?;
                } else if to.starts_with("reject") {
                    out.write_all(b"550 5.1.1 no such user here\r\n")?;
                } else {
                    rcpts.push(to);
                    out.write_all(b"250 2.1.5 OK\r\n")?;
                }
            }
            "DATA" if rcpts.is_empty() => out.write_all(b"554 5.5.1 no valid recipients\r\n")?,
            "DATA" => {
                if let Some(to) = rcpts.iter().find(|r| r.starts_with("drop-before-dot"))
                    && shared
                        .state
                        .lock()
                        .expect("state")
                        .dropped
                        .insert(to.clone())
                {
                    return Ok(());
                }
                if rcpts.iter().any(|r| r.starts_with("early")) {
                    out.write_all(b"354 go ahead\r\n250 2.0.0 spurious\r\n")?;
                    let _ = content(&mut reader);
                    out.write_all(b"554 5.7.1 rejected\r\n")?;
                    return Ok(());
                }
                out.write_all(b"354 go ahead\r\n")?;
                let Some(raw) = content(&mut reader) else {
                    return Ok(());
                };
                let received = Received {
                    mail_from: mail.take().unwrap_or_default(),
                    rcpts: std::mem::take(&mut rcpts),
                    raw,
                    login: login.clone(),
                    connection,
                };
                match verdict(shared, received) {
                    Some(reply) => {
                        out.write_all(format!("{reply}\r\n").as_bytes())?;
                        last_dot = Some(Instant::now());
                    }
                    None => return Ok(()),
                }
            }
            "QUIT" => {
                out.write_all(b"221 2.0.0 bye\r\n")?;
                return Ok(());
            }
            _ => out.write_all(b"500 5.5.2 unknown\r\n")?,
        }
    }
}

/// The reply to the final dot; `None`: the connection is dropped.
fn verdict(shared: &Shared, received: Received) -> Option<String> {
    let has = |prefix: &str| received.rcpts.iter().any(|r| r.starts_with(prefix));
    if has("dot-tempfail") {
        return Some("451 4.3.0 not now".to_owned());
    }
    if has("dot-reject") {
        return Some("554 5.7.1 message refused".to_owned());
    }
    if has("quota") {
        return Some("554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException; Failed to process message".to_owned());
    }
    if has("sendas") {
        return Some(
            "550 5.7.60 SMTP; Client does not have permissions to send as this sender".to_owned(),
        );
    }
    let mut state = shared.state.lock().expect("state");
    let drop_after = received
        .rcpts
        .iter()
        .find(|r| r.starts_with("drop-after-dot"))
        .cloned();
    let hang = has("hang");
    while (hang || shared.hold.load(Ordering::SeqCst)) && !shared.stop.load(Ordering::SeqCst) {
        state = shared
            .grown
            .wait_timeout(state, Duration::from_secs(1))
            .expect("state")
            .0;
    }
    let number = state.received.len();
    state.received.push(received);
    shared.grown.notify_all();
    if let Some(to) = drop_after
        && state.dropped.insert(to)
    {
        return None;
    }
    Some(format!("250 2.0.0 taken as {number}"))
}

/// Everything up to the final dot, unstuffed; `None` if it never came.
fn content(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut raw = Vec::new();
    loop {
        let mut line = Vec::new();
        if reader.read_until(b'\n', &mut line).ok()? == 0 || !line.ends_with(b"\n") {
            return None;
        }
        assert!(
            line.ends_with(b"\r\n"),
            "a bare LF reached the upstream: {line:?}"
        );
        if line == b".\r\n" {
            return Some(raw);
        }
        raw.extend_from_slice(line.strip_prefix(b".").unwrap_or(&line));
    }
}

fn address(line: &str) -> String {
    let start = line.find('<').map_or(0, |i| i + 1);
    let end = line.find('>').unwrap_or(line.len());
    line[start..end].to_owned()
}
