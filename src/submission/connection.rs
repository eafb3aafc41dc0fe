//! One connection of an application: bytes to lines, steps to bytes, content to the spool.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::admit::{self, Begun, Now};
use super::auth::{self, Authenticator};
use super::reply_for::{self, Refusal};
use super::runs::Runs;
use super::session::{Check, Session, Step, random_text};
use super::{Answer, Settings};
use crate::observe::log::brief;
use crate::observe::metrics::Metrics;
use crate::smtp::command;
use crate::smtp::data::{BareNewline, Receiver};
use crate::smtp::reply::Reply;
use crate::smtp::sasl;
use crate::spool::{Admitted, Spool, Spooled, Verdict};

/// Silence after which a connection is closed (RFC 5321 section 4.5.3.2.7: at least 5 minutes).
const IDLE: Duration = Duration::from_secs(300);
/// How long a client may take to read a reply.
const WRITE: Duration = Duration::from_secs(60);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Slowest content in octets a second, once the first five minutes are over.
const SLOWEST: u64 = 500;
/// Octets without a line end after which a client is not served further.
const FLOOD: usize = 64 * 1024;
/// Octets that are read at once.
const READ: usize = 16 * 1024;
/// … of a message that is larger.
const READ_LARGE: usize = 64 * 1024;

/// What every connection needs.
#[derive(Clone)]
pub struct Services {
    /// Where accepted mail goes.
    pub spool: Spool,
    /// The settings as they are now.
    pub now: Arc<ArcSwap<Now>>,
    /// Tells single mail from runs.
    pub runs: Arc<Runs>,
    /// Checks logins.
    pub auth: Arc<Authenticator>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Tells us apart from others in the greeting.
    pub instance: String,
    /// We are going down.
    pub stop: CancellationToken,
    /// … and wait no longer for what is still coming in.
    pub abandon: CancellationToken,
}

/// The other side of a connection, as far as the kernel knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// It may send and read.
    There,
    /// It has closed its side; it may still read.
    Closed,
    /// It has answered with a reset: what we sent last it has not read.
    Reset,
}

/// A byte stream to an application.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {
    /// Looks at the peer without taking bytes. A reset shows only once.
    fn peer(&self) -> Peer;

    /// Ends our side, under any TLS.
    fn end(&self);

    /// Whether all that was sent has been acknowledged, after both sides have ended.
    fn is_over(&self) -> bool;
}

/// How a conversation ended.
pub enum End<S> {
    /// It is over.
    Closed,
    /// A TLS handshake has to be done on this stream, then it goes on.
    StartTls(S, Box<Session>),
}

/// A connection while it lasts.
pub struct Connection<S> {
    stream: S,
    services: Services,
    listener: Arc<Settings>,
    peer: Option<IpAddr>,
    buffer: Vec<u8>,
    start: usize,
    /// What comes is the rest of a line that is too long.
    skipping: Option<Skipping>,
    /// No line has ended in CRLF so far.
    lf_only: bool,
    /// Accepted messages, until the client goes on.
    answered: Vec<Answered>,
    /// The settings under which the login's secret was last looked at, and its mark.
    checked: Option<(Arc<Now>, Option<Vec<u8>>)>,
    /// When the line that is coming in began.
    line_began: Option<Instant>,
    was_reset: bool,
}

enum Input {
    Line(Vec<u8>),
    /// A command that ends in a bare LF where that is refused.
    BareNewline,
    TooLong {
        /// It is a login.
        login: bool,
    },
    Flood,
    Eof,
    Idle,
    Stopping,
}

/// A line of which too much has come, until its end.
struct Skipping {
    /// Octets without a line end.
    octets: usize,
    /// It began as AUTH.
    login: bool,
    /// The last octet was CR: LF next would make it a CRLF.
    ends_in_cr: bool,
}

impl<S: Stream> Connection<S> {
    /// A connection that has just been accepted.
    pub fn new(
        stream: S,
        services: Services,
        listener: Arc<Settings>,
        peer: Option<IpAddr>,
    ) -> Self {
        Self {
            stream,
            services,
            listener,
            peer,
            buffer: Vec::new(),
            start: 0,
            skipping: None,
            lf_only: true,
            answered: Vec::new(),
            checked: None,
            line_began: None,
            was_reset: false,
        }
    }

    /// Serves it until it closes or wants TLS. `greet`: the greeting is still to be sent.
    pub async fn serve(mut self, mut session: Box<Session>, greet: bool) -> End<S> {
        if greet {
            let greeting = session.greeting(&self.services.now.load());
            if !self.send(&greeting).await {
                return End::Closed;
            }
        }
        let end = self.converse(&mut session).await;
        if end.is_none() && !self.answered.is_empty() {
            let lost = self.is_unread_at_end().await;
            self.settle_answered(lost);
        }
        match end {
            Some(()) => End::StartTls(self.stream, session),
            None => End::Closed,
        }
    }

    /// `Some`: TLS is to begin.
    async fn converse(&mut self, session: &mut Session) -> Option<()> {
        let mut out = Vec::new();
        loop {
            let line = match self.next_line(session, &mut out).await {
                Input::Line(line) => line,
                Input::TooLong { login } => {
                    let step = session.line_too_long(login);
                    if !self.simple(session, step, &mut out).await {
                        return None;
                    }
                    continue;
                }
                Input::BareNewline => {
                    return self.last_words(&Refusal::BareNewline, &mut out).await;
                }
                Input::Flood => return self.last_words(&Refusal::TooManyErrors, &mut out).await,
                Input::Idle => return self.last_words(&Refusal::Idle, &mut out).await,
                Input::Stopping => return self.last_words(&Refusal::ShuttingDown, &mut out).await,
                Input::Eof => return None,
            };
            self.client_went_on();
            let now = self.services.now.load_full();
            self.recheck(session, &now);
            let mut step = session.line(&line, &now, &self.services.spool);
            if let Step::Check(check) = step {
                step = self.check(session, &now, check).await;
            }
            match step {
                Step::StartTls(reply) => {
                    if self.start < self.buffer.len() {
                        // Bytes behind STARTTLS came in clear: somebody wants them executed inside.
                        let refusal =
                            Reply::new(554, (5, 5, 0), "Commands behind STARTTLS refused");
                        refusal.write_to(&mut out);
                        self.flush(&mut out).await;
                        return None;
                    }
                    reply.write_to(&mut out);
                    return self.flush(&mut out).await.then_some(());
                }
                Step::Content(reply) => {
                    reply.write_to(&mut out);
                    if !self.flush(&mut out).await || !self.content(session, &now, &mut out).await {
                        return None;
                    }
                }
                Step::Reply(reply) => {
                    self.count(session, &now, &reply);
                    reply.write_to(&mut out);
                    if session.has_refused_data() {
                        // Content that was sent without waiting must not be read as commands: look,
                        // before the client can have read our reply, for what is there already.
                        let _ = timeout(Duration::ZERO, self.fill()).await;
                        if self.start < self.buffer.len() {
                            let refusal = &Refusal::Unsynchronized { later: false };
                            return self.last_words(refusal, &mut out).await;
                        }
                    }
                }
                Step::Close(reply) => {
                    self.count(session, &now, &reply);
                    reply.write_to(&mut out);
                    self.flush(&mut out).await;
                    let _ = timeout(Duration::from_secs(1), self.stream.shutdown()).await;
                    return None;
                }
                Step::Check(_) => return None, // a check ends in another step
            }
        }
    }

    async fn simple(&mut self, session: &mut Session, step: Step, out: &mut Vec<u8>) -> bool {
        let now = self.services.now.load_full();
        match step {
            Step::Reply(reply) => {
                self.count(session, &now, &reply);
                reply.write_to(out);
                true
            }
            Step::Close(reply) => {
                self.count(session, &now, &reply);
                reply.write_to(out);
                self.flush(out).await;
                false
            }
            Step::StartTls(_) | Step::Content(_) | Step::Check(_) => false,
        }
    }

    async fn last_words(&mut self, refusal: &Refusal, out: &mut Vec<u8>) -> Option<()> {
        refusal.reply().write_to(out);
        self.flush(out).await;
        None
    }

    /// Log and metrics of a refusal.
    fn count(&self, session: &Session, now: &Now, reply: &Reply) {
        if reply.code < 400 {
            return;
        }
        let client = admit::Client {
            login: session.login(),
            peer: self.peer,
            listener: &self.listener,
        };
        let tenant = admit::identify(now, client)
            .map_or("", |t| t.id.as_str())
            .to_owned();
        self.services.metrics.rejected(&tenant, reply.code);
        let who = self
            .peer
            .map(|p| p.to_string())
            .unwrap_or_else(|| "unix".to_owned());
        tracing::info!(event = "refused", tenant = %tenant, listener = %self.listener.name, client = %who, reply = %brief(&reply.to_string()));
    }

    async fn send(&mut self, reply: &Reply) -> bool {
        let mut out = Vec::new();
        reply.write_to(&mut out);
        self.flush(&mut out).await
    }

    async fn flush(&mut self, out: &mut Vec<u8>) -> bool {
        if out.is_empty() {
            return true;
        }
        let written = timeout(WRITE, async {
            self.stream.write_all(out).await?;
            self.stream.flush().await
        })
        .await;
        out.clear();
        matches!(written, Ok(Ok(())))
    }

    /// Looks at the peer; a reset that was seen once is remembered.
    fn peer_now(&mut self) -> Peer {
        if !self.was_reset {
            let peer = self.stream.peer();
            self.was_reset = peer == Peer::Reset;
            return peer;
        }
        Peer::Reset
    }

    /// The client sent something after our 250: it has read it. What it had sent before it hung
    /// up proves nothing.
    fn client_went_on(&mut self) {
        if self.answered.last().is_some_and(|last| !last.hung_up) {
            for answered in self.answered.drain(..) {
                self.services.spool.went_on(&answered.spooled);
            }
        }
    }

    /// The next line; replies that wait are sent before more input is awaited.
    async fn next_line(&mut self, session: &Session, out: &mut Vec<u8>) -> Input {
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[self.start..]) {
                let line = &self.buffer[self.start..self.start + end];
                let skipped = self.skipping.take();
                let cr_before = line.is_empty() && skipped.as_ref().is_some_and(|s| s.ends_in_cr);
                let crlf = cr_before || line.last() == Some(&b'\r');
                self.lf_only &= !crlf;
                if !crlf && self.listener.bare_newline == BareNewline::Reject {
                    return Input::BareNewline;
                }
                let line = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
                self.start += end + 1;
                self.line_began = None;
                return match skipped {
                    Some(skipped) => Input::TooLong {
                        login: skipped.login,
                    },
                    None if line.len() > session.line_limit() => Input::TooLong {
                        login: command::is_verb(&line, b"AUTH"),
                    },
                    None => Input::Line(line),
                };
            }
            if self.buffer[self.start..].starts_with(&[0x16, 0x03]) && !session.in_dialogue() {
                // A TLS handshake in clear: there may never be a line end.
                let line = self.buffer[self.start..].to_vec();
                self.start = self.buffer.len();
                return Input::Line(line);
            }
            if self.buffer.len() - self.start > session.line_limit() {
                let rest = &self.buffer[self.start..];
                let skipping = self.skipping.get_or_insert_with(|| Skipping {
                    octets: 0,
                    login: command::is_verb(rest, b"AUTH"),
                    ends_in_cr: false,
                });
                skipping.octets += rest.len();
                skipping.ends_in_cr = rest.ends_with(b"\r");
                self.start = self.buffer.len();
                if skipping.octets > FLOOD {
                    return Input::Flood;
                }
            }
            if !self.flush(out).await {
                return Input::Eof;
            }
            let stop = self.services.stop.clone();
            // Silence of a client that is still there means, after a moment, that it has read.
            let patience = match self.answered.last() {
                Some(last) if !last.hung_up => SURELY_READ,
                _ => IDLE,
            };
            // A line has to be whole in time, however steadily its octets come.
            let now = Instant::now();
            if self.start == self.buffer.len() && self.skipping.is_none() {
                self.line_began = None;
            } else {
                self.line_began.get_or_insert(now);
            }
            let deadline = (now + patience).min(self.line_began.unwrap_or(now) + IDLE);
            let read = tokio::select! {
                read = timeout_at(deadline, self.fill()) => read,
                () = stop.cancelled() => {
                    return Input::Stopping;
                }
            };
            match read {
                Err(_) if patience < IDLE => self.client_went_on(),
                Err(_) => {
                    return Input::Idle;
                }
                Ok(Err(error)) => {
                    // TLS without its closing word is how many clients end; a reset is not.
                    self.was_reset |= error.kind() != std::io::ErrorKind::UnexpectedEof;
                    return Input::Eof;
                }
                Ok(Ok(0)) => return Input::Eof,
                Ok(Ok(_)) => {}
            }
        }
    }

    async fn fill(&mut self) -> std::io::Result<usize> {
        if self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
        } else if self.start > 64 * 1024 {
            self.buffer.drain(..self.start);
            self.start = 0;
        }
        self.buffer.reserve(READ);
        self.stream.read_buf(&mut self.buffer).await
    }

    /// As [`Self::fill`], for content of which so much has come: much of it is read at once.
    async fn fill_content(&mut self, total: u64) -> std::io::Result<usize> {
        if total > (READ as u64) && self.start == self.buffer.len() {
            self.buffer.clear();
            self.start = 0;
            self.buffer.reserve(READ_LARGE);
        }
        self.fill().await
    }

    /// After a reload: whether the session's login still has the secret that it logged in with.
    fn recheck(&mut self, session: &mut Session, now: &Arc<Now>) {
        let Some(login) = session.login() else { return };
        let known = match &self.checked {
            Some((seen, _)) if Arc::ptr_eq(seen, now) => return,
            Some((_, mark)) => Some(mark.clone()),
            None => None,
        };
        let mark = self.services.auth.mark(&now.directory, login);
        if known.is_some_and(|known| known != mark) {
            session.revoke();
        }
        self.checked = Some((Arc::clone(now), mark));
    }

    async fn check(&mut self, session: &mut Session, now: &Arc<Now>, check: Check) -> Step {
        let logins = Arc::clone(&self.services.auth);
        let directory = &now.directory;
        let (login, step) = match check {
            Check::Password(credentials) => {
                let login = credentials.login.clone();
                let step = match logins.password(directory, &credentials, self.peer).await {
                    auth::Verdict::Right => session.right(credentials.login, now),
                    auth::Verdict::Wrong => session.wrong(),
                    auth::Verdict::Busy => session.busy(),
                };
                (login, step)
            }
            Check::CramMd5 { login, .. } if logins.is_throttled(&login, self.peer) => {
                (login, session.busy())
            }
            Check::ScramFirst(first) if logins.is_throttled(&first.login, self.peer) => {
                (first.login, session.busy())
            }
            Check::ScramFinal(server, _) if logins.is_throttled(server.login(), self.peer) => {
                (server.login().to_owned(), session.busy())
            }
            Check::CramMd5 {
                login,
                digest,
                challenge,
            } => {
                let secret = logins.plain_secret(directory, &login);
                // Unknown logins are computed with a secret of no use, so that they cost the same.
                let expected = sasl::cram_md5_digest(
                    secret.as_ref().map_or("\u{0}", |s| s.expose()),
                    challenge.as_bytes(),
                );
                let right = sasl::constant_time_eq(expected.as_bytes(), digest.as_bytes())
                    && secret.is_some();
                let step = if right {
                    logins.succeeded(&login, self.peer);
                    session.right(login.clone(), now)
                } else {
                    self.wrong(session, &login)
                };
                (login, step)
            }
            Check::ScramFirst(first) => {
                let login = first.login.clone();
                let (server, challenge) = first.respond(&random_text(), random_text().into_bytes());
                (login, session.scram_challenge(server, &challenge))
            }
            Check::ScramFinal(server, message) => {
                let login = server.login().to_owned();
                let secret = logins.plain_secret(directory, &login);
                let proof =
                    server.finish(&message, secret.as_ref().map_or("\u{0}", |s| s.expose()));
                let step = match (proof, secret) {
                    (Ok(proof), Some(_)) => {
                        logins.succeeded(&login, self.peer);
                        session.scram_proof(login.clone(), &proof)
                    }
                    _ => self.wrong(session, &login),
                };
                (login, step)
            }
        };
        self.checked = None;
        self.recheck(session, now);
        if let Step::Close(reply) | Step::Reply(reply) = &step
            && reply.code >= 400
        {
            tracing::warn!(event = "login-failed", login = %brief(&login), listener = %self.listener.name, client = %self.peer.map(|p| p.to_string()).unwrap_or_default(), reply = %reply);
        }
        step
    }

    fn wrong(&self, session: &mut Session, login: &str) -> Step {
        self.services.auth.failed(login, self.peer);
        session.wrong()
    }

    /// Receives content and answers it; `false`: the connection is over.
    async fn content(&mut self, session: &mut Session, now: &Arc<Now>, out: &mut Vec<u8>) -> bool {
        let origin = session.origin();
        let Some((begun, envelope)) = session.take_transaction() else {
            return false;
        };
        let mut content = self.services.spool.incoming();
        let mut receiver = Receiver::new(self.listener.bare_newline, self.lf_only);
        // What is not stored is read to its end all the same.
        let mut waste = Vec::new();
        let mut too_big = false;
        let mut storage: Option<std::io::Error> = None;
        let mut room = self.services.spool.room();
        let begin = Instant::now();
        let mut total = 0u64;
        while !receiver.is_done() {
            if self.start == self.buffer.len() {
                // Progress: any byte within five minutes, and not slower than the slowest line.
                let deadline = (Instant::now() + IDLE)
                    .min(begin + IDLE + Duration::from_secs(total / SLOWEST));
                let abandoned = self.services.abandon.clone();
                let filled = tokio::select! {
                    filled = timeout_at(deadline, self.fill_content(total)) => filled,
                    () = abandoned.cancelled() => {
                        Refusal::ShuttingDown.reply().write_to(out);
                        self.flush(out).await;
                        return false;
                    }
                };
                match filled {
                    Err(_) => {
                        Refusal::Idle.reply().write_to(out);
                        self.flush(out).await;
                        return false;
                    }
                    Ok(Ok(0) | Err(_)) => return false,
                    Ok(Ok(n)) => total += n as u64,
                }
            }
            let input = &self.buffer[self.start..];
            let stores = !too_big && storage.is_none();
            let (used, stored) = if stores {
                content.append(|out| receiver.feed(input, out))
            } else {
                waste.clear();
                (receiver.feed(input, &mut waste), Ok(()))
            };
            self.lf_only = receiver.lf_only();
            self.start += used;
            if !stores {
                continue;
            }
            too_big = content.size() > begun.size_limit;
            if too_big {
                // Its reply stands.
            } else if let Err(error) = stored {
                tracing::error!(event = "storage-failed", tenant = %begun.tenant.id, reason = %error);
                storage = Some(error);
            } else if !room.grow_to(content.size()) {
                storage = Some(std::io::ErrorKind::StorageFull.into());
            }
            if too_big || storage.is_some() {
                // Others may have the room at once.
                content = self.services.spool.incoming();
                room = self.services.spool.room();
            }
        }
        if self.buffer.capacity() > READ_LARGE / 2 {
            // It may be long until so much comes again.
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer.shrink_to(READ);
        }
        let refuses_bare = self.listener.bare_newline == BareNewline::Reject;
        let framing = admit::framing(receiver.findings(), refuses_bare);
        // What is too large for us stays so; room may be found later.
        let storage = storage.filter(|_| !too_big && framing.is_ok());
        if let Some(error) = storage {
            let reply = reply_for::store_error(&crate::spool::io_error(&error));
            self.count(session, now, &reply);
            reply.write_to(out);
            return self.goes_on_alone(out, true).await;
        }
        let runs = &self.services.runs;
        match framing
            .and_then(|()| admit::content(now, runs, &begun, envelope, origin, too_big, content))
        {
            Ok(admitted) => {
                let shown = Shown::of(&admitted);
                self.commit(session, &begun, admitted, shown, begin, out)
                    .await
            }
            Err(refusal) => {
                let step = session.content_refused(&refusal);
                self.simple(session, step, out).await && self.goes_on_alone(out, false).await
            }
        }
    }

    /// Sends a refusal, and says whether the client has waited for it. What came behind a content
    /// that was refused is not run as commands: it may be what that content meant to hide. A QUIT
    /// is what it says. `later`: it was refused for now, and so is what came behind it.
    async fn goes_on_alone(&mut self, out: &mut Vec<u8>, later: bool) -> bool {
        let _ = timeout(Duration::ZERO, self.fill()).await;
        let behind = self.buffer[self.start..].trim_ascii();
        let alone = behind.is_empty() || behind.eq_ignore_ascii_case(b"QUIT");
        if !alone {
            Refusal::Unsynchronized { later }.reply().write_to(out);
        }
        self.flush(out).await && alone
    }

    /// Makes it durable and says so. The only way to a 250.
    async fn commit(
        &mut self,
        session: &mut Session,
        begun: &Begun,
        mut admitted: Admitted,
        shown: Shown,
        began: Instant,
        out: &mut Vec<u8>,
    ) -> bool {
        let spool = self.services.spool.clone();
        let held = admitted.held;
        let was_gone = self.peer_now() != Peer::There;
        admitted.hung_up = was_gone.then_some(began.into_std());
        let mut spooled = match spool.commit(admitted).await {
            Ok(spooled) => spooled,
            Err(error) => {
                tracing::error!(event = "storage-failed", tenant = %begun.tenant.id, reason = %error);
                let reply = reply_for::store_error(&error);
                self.services
                    .metrics
                    .rejected(begun.tenant.id.as_str(), reply.code);
                reply.write_to(out);
                return self.goes_on_alone(out, true).await && !spool.store().has_failed();
            }
        };
        let client = self
            .peer
            .map(|p| p.to_string())
            .unwrap_or_else(|| "unix".to_owned());
        let event = if spooled.is_duplicate() {
            "duplicate"
        } else {
            "accepted"
        };
        for to in &shown.to {
            tracing::info!(id = %spooled.id(), tenant = %begun.tenant.id, event = event, from = %shown.from, to = %to, size = shown.size, client = %client, listener = %self.listener.name);
        }
        if !spooled.is_duplicate() {
            self.services
                .metrics
                .accepted(begun.tenant.id.as_str(), &self.listener.name);
        }
        let told = if self.listener.answer == Answer::Relayed && !held && !spooled.is_duplicate() {
            let waiter = spool.verdict(&spooled);
            spool.release(&mut spooled);
            timeout(self.listener.answer_within, waiter)
                .await
                .ok()
                .and_then(Result::ok)
        } else {
            spool.release(&mut spooled);
            None
        };
        // Commands that came along with the content do not prove that our answer was read.
        let hung_up =
            (was_gone || self.start < self.buffer.len()) && self.peer_now() != Peer::There;
        let verdict = told.as_ref().map(|t| t.verdict.clone());
        reply_for::accepted(&spooled, verdict.as_ref()).write_to(out);
        let sent = self.flush(out).await;
        let refused = matches!(verdict, Some(Verdict::Refused(_)));
        if let Some(told) = told {
            // Whom we could not tell of a refusal gets a bounce.
            let gone = hung_up || self.peer_now() != Peer::There;
            let reached = sent && !(gone && self.is_lost().await);
            let _ = told.passed_on.send(reached);
        }
        if refused {
            // Nothing was taken, so a repeat is nothing but a new try.
            spool.went_on(&spooled);
        } else if sent {
            session.succeeded();
            self.answered.push(Answered { spooled, hung_up });
        } else {
            spool.lost(&spooled);
        }
        sent
    }

    /// Whether our last bytes met a closed connection; waits a moment for its answer.
    async fn is_lost(&mut self) -> bool {
        for _ in 0..HANGUP_CHECKS {
            if self.peer_now() == Peer::Reset {
                return true;
            }
            tokio::time::sleep(HANGUP_PAUSE).await;
        }
        false
    }

    /// One side has ended, and we end ours. Who had our 250 before that, or ends only
    /// one side, acknowledges it; who was gone answers with a reset, or never.
    async fn is_unread_at_end(&mut self) -> bool {
        self.stream.end();
        let began = Instant::now();
        let mut pause = Duration::from_micros(250);
        loop {
            // In this order: a reset, too, ends the connection.
            let over = self.stream.is_over();
            if self.peer_now() == Peer::Reset {
                return true;
            }
            if over {
                return false;
            }
            // Who has not even ended its side is slow, not gone.
            let there = self.peer_now() == Peer::There;
            if began.elapsed()
                > if there {
                    SURELY_READ
                } else {
                    ACKNOWLEDGED_WITHIN
                }
            {
                return !there;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(HANGUP_PAUSE);
        }
    }

    /// The connection has ended: what it was answered last was lost, or read.
    fn settle_answered(&mut self, lost: bool) {
        for answered in self.answered.drain(..) {
            if lost {
                self.services.spool.lost(&answered.spooled);
            } else {
                self.services.spool.went_on(&answered.spooled);
            }
        }
    }
}

/// How often and how long we wait for the reset that a closed connection answers with.
const HANGUP_CHECKS: u32 = 25;
const HANGUP_PAUSE: Duration = Duration::from_millis(20);
/// How long a closed connection may take to acknowledge our last bytes.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);
/// A client that is still there so long after our 250 has read it.
const SURELY_READ: Duration = Duration::from_secs(1);

/// A 250 that was sent, until it is known that it was read.
struct Answered {
    spooled: Spooled,
    hung_up: bool,
}

/// What the log says of an accepted message.
struct Shown {
    from: String,
    to: Vec<String>,
    size: u64,
}

impl Shown {
    fn of(admitted: &Admitted) -> Self {
        let envelope = &admitted.envelope;
        Self {
            from: envelope
                .mail_from
                .as_ref()
                .map_or_else(|| "<>".to_owned(), ToString::to_string),
            to: envelope
                .recipients
                .iter()
                .chain(&admitted.apart)
                .map(|r| r.address.to_string())
                .collect(),
            size: admitted.content.size(),
        }
    }
}

/// How long a TLS handshake may take.
pub const fn handshake_limit() -> Duration {
    HANDSHAKE
}
