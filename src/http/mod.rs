//! The HTTP client (RFC 9110, RFC 9112) towards token endpoints, Microsoft Graph and the Gmail API.
//!
//! It follows no redirect, knows no proxy and no cookie, verifies every certificate, bounds what it
//! reads, and tells of every failure how far the request had got: whether the server may have
//! taken it is the question that decides if it may be repeated.

pub mod url;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context as TaskContext, Poll};
use std::time::Duration;

use bytes::Bytes;
use hyper::body::{Body as HyperBody, Frame, Incoming, SizeHint};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};

use crate::explain::Cause;
use crate::failure::Stage;
use crate::net::stream::Stream;
use crate::net::tls::{self, CertificatePolicy};
use crate::net::transcript::Transcript;
use crate::net::{self, Net, NetError, Patience};
use crate::vault::Secrets;
pub use url::Url;

/// Most octets of an answer's body that are read.
const BODY_LIMIT: usize = 256 * 1024;
/// Most octets of an answer's header section, and hyper's read buffer.
const HEAD_LIMIT: usize = 64 * 1024;
/// Octets that are handed to the socket at once.
const PIECE: usize = 64 * 1024;

/// A client. Cheap to clone.
#[derive(Clone)]
pub struct Client {
    net: Net,
    secrets: Secrets,
    patience: Patience,
    tls: Arc<OnceLock<Arc<rustls::ClientConfig>>>,
}

/// A connection to one server, for one job's requests in turn.
pub struct Connection {
    sender: http1::SendRequest<Pieces>,
    url: Url,
    transcript: Transcript,
    driver: tokio::task::JoinHandle<()>,
}

/// What is sent.
pub struct Request<'a> {
    /// GET, POST, PUT, DELETE.
    pub method: &'static str,
    /// Path and query.
    pub target: &'a str,
    /// Header fields besides Host and Content-Length.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<Bytes>,
    /// What the transcript says of the request besides its line; secrets never get in.
    pub shown: &'a str,
    /// How long the whole may take, the answer included.
    pub limit: Duration,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Its header.
    pub headers: hyper::HeaderMap,
    /// Its body, cut off at a limit.
    pub body: Bytes,
    /// There was more of it, or its end did not come.
    pub truncated: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone)]
pub struct HttpError {
    /// What it is.
    pub cause: Cause,
    /// Resolve, connect, TLS; data: the request had not got through; final dot: it may have.
    pub stage: Stage,
    /// More to it.
    pub detail: String,
}

impl From<NetError> for HttpError {
    fn from(error: NetError) -> Self {
        Self {
            cause: error.cause,
            stage: error.stage,
            detail: error.detail,
        }
    }
}

impl HttpError {
    /// Whether the server may have taken the request.
    pub fn may_have_arrived(&self) -> bool {
        self.stage == Stage::FinalDot
    }
}

impl Client {
    /// A client.
    pub fn new(net: Net, secrets: Secrets, patience: Patience) -> Self {
        Self {
            net,
            secrets,
            patience,
            tls: Arc::default(),
        }
    }

    /// Opens a connection to the server of an address.
    pub async fn connect(&self, url: &Url) -> Result<Connection, HttpError> {
        let transcript = &self.net.transcript;
        let socket = net::connect(url.host(), url.port(), self.patience, transcript).await?;
        let stream: Stream = if url.is_secure() {
            let config = self.tls_config()?;
            net::handshake(config, url.host(), socket, self.patience, transcript)
                .await?
                .into()
        } else {
            Stream::Plain(socket)
        };
        let lost = |e: hyper::Error| HttpError {
            cause: Cause::ConnectionLost,
            stage: Stage::Connect,
            detail: e.to_string(),
        };
        let (sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD_LIMIT)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(lost)?;
        let driver = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Connection {
            sender,
            url: url.clone(),
            transcript: transcript.clone(),
            driver,
        })
    }

    /// One request on a connection of its own.
    pub async fn once(&self, url: &Url, request: Request<'_>) -> Result<Answer, HttpError> {
        let deadline = Instant::now() + request.limit;
        match timeout_at(deadline, self.connect(url)).await {
            Ok(connection) => connection?.request(request).await,
            Err(_) => Err(HttpError {
                cause: Cause::ConnectTimeout,
                stage: Stage::Connect,
                detail: "no connection in time".to_owned(),
            }),
        }
    }

    fn tls_config(&self) -> Result<Arc<rustls::ClientConfig>, HttpError> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let roots = self.net.roots.get_or_init(tls::machine_roots);
        let policy = CertificatePolicy::Verify { ca_file: None };
        let config =
            tls::client_config(&policy, None, roots, &self.secrets).map_err(|e| HttpError {
                cause: Cause::TlsHandshake,
                stage: Stage::Tls,
                detail: e.to_string(),
            })?;
        Ok(Arc::clone(self.tls.get_or_init(|| Arc::new(config))))
    }
}

impl Connection {
    /// Whether another request may be sent on it.
    pub fn is_open(&self) -> bool {
        !self.sender.is_closed()
    }

    /// Sends a request and reads its answer.
    pub async fn request(&mut self, request: Request<'_>) -> Result<Answer, HttpError> {
        let deadline = Instant::now() + request.limit;
        let path = request.target.split('?').next().unwrap_or("");
        let size: usize = request.body.iter().map(Bytes::len).sum();
        self.transcript.push(
            "C:",
            &format!(
                "{} {}{path} {} ({size} octets)",
                request.method,
                self.url.origin(),
                request.shown
            ),
        );
        let sent = Arc::new(AtomicBool::new(false));
        let error = |cause: Cause, detail: String| HttpError {
            cause,
            stage: if sent.load(Ordering::Acquire) {
                Stage::FinalDot
            } else {
                Stage::Data
            },
            detail,
        };
        let outgoing = self
            .build(&request, Arc::clone(&sent))
            .map_err(|detail| error(Cause::ProtocolError, detail))?;
        match timeout_at(deadline, self.sender.ready()).await {
            Ok(Ok(())) => {}
            Ok(Err(e)) => return Err(error(Cause::ConnectionLost, e.to_string())),
            Err(_) => return Err(error(Cause::Timeout, "the server does not read".to_owned())),
        }
        let response = match timeout_at(deadline, self.sender.send_request(outgoing)).await {
            Ok(Ok(response)) => response,
            Ok(Err(e)) => {
                let cause = if e.is_parse() || e.is_parse_status() {
                    Cause::ProtocolError
                } else {
                    Cause::ConnectionLost
                };
                return Err(error(cause, words(&e)));
            }
            Err(_) => {
                return Err(error(
                    Cause::Timeout,
                    format!("no answer within {} s", request.limit.as_secs()),
                ));
            }
        };
        let status = response.status().as_u16();
        let (head, body) = response.into_parts();
        // The status has come: what is missing of the body changes nothing of what was done.
        let (body, truncated) = read(body, deadline).await;
        self.transcript.push("S:", &shown(status, &head.headers));
        Ok(Answer {
            status,
            headers: head.headers,
            body,
            truncated,
        })
    }

    fn build(
        &self,
        request: &Request<'_>,
        sent: Arc<AtomicBool>,
    ) -> Result<hyper::Request<Pieces>, String> {
        let mut builder = hyper::Request::builder()
            .method(request.method)
            .uri(request.target)
            .header("Host", self.url.authority())
            .header(
                "User-Agent",
                concat!("Postbote/", env!("CARGO_PKG_VERSION")),
            )
            .header("Accept", "application/json");
        for (name, value) in &request.headers {
            let mut value = hyper::header::HeaderValue::from_str(value)
                .map_err(|_| format!("the value of {name} has characters that HTTP forbids"))?;
            value.set_sensitive(*name == "Authorization");
            builder = builder.header(*name, value);
        }
        if request.method != "GET" && request.body.is_empty() {
            builder = builder.header("Content-Length", "0");
        }
        builder
            .body(Pieces::new(request.body.clone(), sent))
            .map_err(|e| e.to_string())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Answer {
    /// A header field's value as text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|v| v.to_str().ok())
    }

    /// The body as JSON; `None` if it is none.
    pub fn json(&self) -> Option<serde_json::Value> {
        serde_json::from_slice(&self.body).ok()
    }

    /// The beginning of the body, printable, for messages about what is no JSON.
    pub fn beginning(&self) -> String {
        String::from_utf8_lossy(&self.body)
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .take(120)
            .collect()
    }

    /// Retry-After (RFC 9110 section 10.2.3), seconds or a date, at most an hour. A time that is over
    /// says nothing.
    pub fn retry_after(&self, now: jiff::Timestamp) -> Option<Duration> {
        const LONGEST: Duration = Duration::from_secs(3600);
        let text = self.header("retry-after")?.trim();
        let wait = if let Ok(seconds) = text.parse::<u64>() {
            Duration::from_secs(seconds)
        } else if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            LONGEST // more than any number holds
        } else {
            let at = jiff::fmt::rfc2822::parse(text).ok()?.timestamp();
            Duration::try_from(at.duration_since(now)).ok()?
        };
        (!wait.is_zero()).then(|| wait.clamp(Duration::from_secs(1), LONGEST))
    }
}

fn words(error: &hyper::Error) -> String {
    use std::error::Error as _;
    match error.source() {
        Some(source) => format!("{error} ({source})"),
        None => error.to_string(),
    }
}

/// What the transcript tells of an answer. A server may put anything into a header, a secret of ours
/// too: shown is what looks as it should.
fn shown(status: u16, headers: &hyper::HeaderMap) -> String {
    let hex = |c: char| c.is_ascii_hexdigit() || c == '-';
    let date = |c: char| c.is_ascii_alphanumeric() || " ,:".contains(c);
    let media = |c: char| c.is_ascii_lowercase() || "/;=- 0123456789".contains(c);
    let mut text = status.to_string();
    let mut show = |name: &str, allowed: &dyn Fn(char) -> bool, longest: usize| {
        if let Some(value) = headers.get(name).and_then(|v| v.to_str().ok())
            && value.len() <= longest
            && value.chars().all(allowed)
        {
            text.push_str(&format!(" {name}: {value}"));
        }
    };
    show("request-id", &hex, 40);
    show("retry-after", &date, 30);
    show("content-type", &media, 50);
    text
}

async fn read(mut body: Incoming, deadline: Instant) -> (Bytes, bool) {
    let mut out = Vec::new();
    loop {
        let next = std::future::poll_fn(|cx| Pin::new(&mut body).poll_frame(cx));
        match timeout_at(deadline, next).await {
            Ok(None) => return (out.into(), false),
            Ok(Some(Ok(frame))) => {
                let Some(data) = frame.data_ref() else {
                    continue;
                };
                let room = BODY_LIMIT - out.len();
                out.extend_from_slice(&data[..data.len().min(room)]);
                if data.len() > room {
                    return (out.into(), true);
                }
            }
            Ok(Some(Err(_))) | Err(_) => return (out.into(), true),
        }
    }
}

/// A body of known length in pieces, which notes when its last octets have been handed over.
struct Pieces {
    left: VecDeque<Bytes>,
    size: u64,
    sent: Arc<AtomicBool>,
}

impl Pieces {
    fn new(pieces: Vec<Bytes>, sent: Arc<AtomicBool>) -> Self {
        let size = pieces.iter().map(|p| p.len() as u64).sum();
        let left: VecDeque<Bytes> = pieces.into_iter().filter(|p| !p.is_empty()).collect();
        // Without a body the head is all there is.
        sent.store(left.is_empty(), Ordering::Release);
        Self { left, size, sent }
    }
}

impl HyperBody for Pieces {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut TaskContext<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let Some(first) = self.left.front_mut() else {
            return Poll::Ready(None);
        };
        let piece = first.split_to(first.len().min(PIECE));
        if first.is_empty() {
            self.left.pop_front();
        }
        self.size -= piece.len() as u64;
        if self.size == 0 {
            self.sent.store(true, Ordering::Release);
        }
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }

    fn is_end_stream(&self) -> bool {
        self.size == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.size)
    }
}
