//! Opening a conversation: name, connection, greeting, EHLO, TLS, login.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::{Instant, timeout};
use zeroize::Zeroizing;

use super::{Encryption, Settings, auth};
use crate::explain::Cause;
use crate::failure::Stage;
use crate::net::stream::Stream;
use crate::net::transcript::Transcript;
use crate::net::{self, tls};
use crate::oauth::Access;
use crate::smtp::address::Address;
use crate::smtp::capabilities::Capabilities;
use crate::smtp::reply::{LINE_KEPT, Reply, ReplyError, ReplyParser};
use crate::smtp::sasl;
use crate::transport::Failure;
use crate::transport::{Context, Timeouts};
use crate::vault::Confidential;

/// An open conversation, logged in and ready for MAIL.
pub struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
    start: usize,
    parser: ReplyParser,
    /// What the server offers.
    pub capabilities: Capabilities,
    /// `host[address]:port`, for logs.
    pub relay: String,
    /// SHA-256 of the server's key, where TLS is used.
    pub server_key: Option<[u8; 32]>,
    /// Messages sent so far.
    pub sent: usize,
    /// When it was last used.
    pub last_used: Instant,
    /// Loopback peers may be given a password unencrypted.
    pub(super) peer: IpAddr,
    pub(super) timeouts: Timeouts,
    pub(super) transcript: Transcript,
    /// Texts that no reply of this server may repeat into logs.
    pub(super) confidential: Confidential,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.relay)
    }
}

impl Connection {
    /// Opens a conversation. A token that the server refuses is replaced once.
    pub async fn open(settings: &Settings, context: &Context) -> Result<Self, Failure> {
        Self::open_at(settings, context, None).await
    }

    /// The same at an address that is known already; the certificate is that of the host.
    pub async fn open_at(
        settings: &Settings,
        context: &Context,
        address: Option<IpAddr>,
    ) -> Result<Self, Failure> {
        let Some(oauth) = &settings.oauth else {
            return Self::open_with(settings, context, None, address).await;
        };
        let token = |refused| async move {
            let access = context.tokens.access(oauth, refused).await;
            access.map_err(Failure::of_token)
        };
        let first = token(None).await?;
        match Self::open_with(settings, context, Some(&first), address).await {
            Err(failure) if failure.asks_for_token() => {
                let second = token(Some(first.serial)).await?;
                Self::open_with(settings, context, Some(&second), address).await
            }
            outcome => outcome,
        }
    }

    async fn open_with(
        settings: &Settings,
        context: &Context,
        token: Option<&Access>,
        address: Option<IpAddr>,
    ) -> Result<Self, Failure> {
        let known = address.map(|address| address.to_string());
        let stream = net::connect(
            known.as_deref().unwrap_or(&settings.host),
            settings.port,
            context.timeouts.patience(),
            &context.net.transcript,
        )
        .await
        .map_err(|e| Failure::of_net(e, &format!("{}:{}", settings.host, settings.port)))?;
        let address = stream.peer_addr().map_err(|e| {
            Failure::of_cause(
                Cause::ConnectionLost,
                Stage::Connect,
                &settings.host,
                e.to_string(),
            )
        })?;
        let mut connection = Self {
            stream: Stream::Plain(stream),
            buffer: Vec::new(),
            start: 0,
            parser: ReplyParser::default(),
            capabilities: Capabilities::default(),
            relay: format!("{}[{}]:{}", settings.host, address.ip(), settings.port),
            server_key: None,
            sent: 0,
            last_used: Instant::now(),
            peer: address.ip(),
            timeouts: context.timeouts,
            transcript: context.net.transcript.clone(),
            confidential: Confidential::default(),
        };
        if settings.encryption == Encryption::Tls {
            connection = connection.handshake(settings, context).await?;
        }
        connection.greeting(settings, context).await?;
        connection.ehlo(settings, context).await?;
        if settings.encryption == Encryption::Starttls {
            connection = connection.starttls(settings, context).await?;
            connection.ehlo(settings, context).await?;
        }
        auth::login(&mut connection, settings, context, token).await?;
        Ok(connection)
    }

    /// Whether the stream is encrypted.
    pub fn is_encrypted(&self) -> bool {
        self.stream.is_encrypted()
    }

    /// What was agreed for TLS; `None` without it.
    pub fn agreed(&self) -> Option<tls::Agreed> {
        match &self.stream {
            Stream::Tls(stream) => Some(tls::agreed(stream.get_ref().1)),
            Stream::Plain(_) => None,
        }
    }

    /// Whether the server lets us send as that address, as far as it says so before there is a
    /// recipient. Nothing is sent.
    pub async fn mail_from_allowed(&mut self, sender: &Address) -> Result<(), Failure> {
        let mut line = format!("MAIL FROM:<{}>", sender.with_ascii_domain());
        if sender.needs_smtputf8() {
            if !self.capabilities.smtputf8 {
                let why = "the server knows no SMTPUTF8";
                return Err(self.failure(Cause::Utf8AddressUnsupported, Stage::Mail, why));
            }
            line.push_str(" SMTPUTF8");
        }
        let limit = self.timeouts.command;
        let reply = self.command(&line, Stage::Mail, limit).await?;
        if reply.code != 421 {
            // What it answers here says nothing about the sender.
            let _ = self.command("RSET", Stage::Mail, limit).await;
        }
        if reply.is_success() {
            Ok(())
        } else {
            Err(self.refused(Stage::Mail, reply))
        }
    }

    /// A failure of this conversation without a reply.
    pub(super) fn failure(&self, cause: Cause, stage: Stage, detail: impl Into<String>) -> Failure {
        Failure::of_cause(cause, stage, &self.relay, detail)
    }

    /// A failure that a reply told.
    pub(super) fn refused(&self, stage: Stage, reply: Reply) -> Failure {
        Failure::of_reply(stage, reply, &self.relay)
    }

    async fn greeting(&mut self, settings: &Settings, context: &Context) -> Result<(), Failure> {
        let reply = match self.reply(Stage::Hello, self.timeouts.greeting).await {
            Ok(reply) => reply,
            Err(failure) if failure.meaning == Cause::Timeout.meaning() => {
                let cause = if settings.port == 465 && settings.encryption != Encryption::Tls {
                    Cause::TlsOnPlainPort
                } else {
                    Cause::GreetingTimeout
                };
                return Err(self.failure(cause, Stage::Hello, "no greeting"));
            }
            Err(failure) => return Err(failure),
        };
        if !context.instance.is_empty() && reply.text().contains(&context.instance) {
            return Err(self.failure(
                Cause::OwnAddress,
                Stage::Hello,
                "the upstream is this very Postbote",
            ));
        }
        if reply.code != 220 {
            return Err(self.refused(Stage::Hello, reply));
        }
        Ok(())
    }

    async fn ehlo(&mut self, settings: &Settings, context: &Context) -> Result<(), Failure> {
        let name = settings.helo.as_deref().unwrap_or(&context.hostname);
        let reply = self
            .command(&format!("EHLO {name}"), Stage::Hello, self.timeouts.command)
            .await?;
        if reply.is_success() {
            self.capabilities = Capabilities::parse(&reply.lines);
            return Ok(());
        }
        if !matches!(reply.code, 500..=504 | 550) {
            return Err(self.refused(Stage::Hello, reply));
        }
        let reply = self
            .command(&format!("HELO {name}"), Stage::Hello, self.timeouts.command)
            .await?;
        self.capabilities = Capabilities::default();
        if reply.is_success() {
            Ok(())
        } else {
            Err(self.refused(Stage::Hello, reply))
        }
    }

    async fn starttls(mut self, settings: &Settings, context: &Context) -> Result<Self, Failure> {
        if !self.capabilities.starttls {
            return Err(self.failure(
                Cause::StarttlsMissing,
                Stage::Tls,
                "the server does not offer STARTTLS",
            ));
        }
        let reply = self
            .command("STARTTLS", Stage::Tls, self.timeouts.command)
            .await?;
        if reply.code != 220 {
            let mut failure = self.failure(
                Cause::StarttlsRefused,
                Stage::Tls,
                format!("STARTTLS was answered {reply}"),
            );
            failure.reply = Some(reply);
            return Err(failure);
        }
        // Bytes behind the 220 came in clear and must never be read as if they were encrypted.
        if self.start < self.buffer.len() || !self.parser.is_idle() {
            return Err(self.failure(
                Cause::StarttlsInjection,
                Stage::Tls,
                "bytes followed the answer to STARTTLS in clear text",
            ));
        }
        self.handshake(settings, context).await
    }

    async fn handshake(mut self, settings: &Settings, context: &Context) -> Result<Self, Failure> {
        let config = match settings.tls_cache.get() {
            Some(config) => Arc::clone(config),
            None => {
                let built = {
                    // Read at the first need: most upstreams of a till are one.
                    let roots = context.net.roots.get_or_init(tls::machine_roots);
                    tls::client_config(
                        &settings.certificate,
                        settings.client_certificate.as_ref(),
                        roots,
                        &context.secrets,
                    )
                };
                let config = built.map_err(|e| {
                    self.failure(Cause::ClientCertificateUnusable, Stage::Tls, e.to_string())
                })?;
                Arc::clone(settings.tls_cache.get_or_init(|| Arc::new(config)))
            }
        };
        let Stream::Plain(socket) = self.stream else {
            return Err(Failure::of_cause(
                Cause::TlsHandshake,
                Stage::Tls,
                &self.relay,
                "TLS is already there",
            ));
        };
        let patience = self.timeouts.patience();
        let stream = net::handshake(config, &settings.host, socket, patience, &self.transcript)
            .await
            .map_err(|mut error| {
                if error.cause == Cause::PlainOnTlsPort
                    && settings.encryption == Encryption::Starttls
                {
                    error.cause = Cause::TlsHandshake;
                }
                Failure::of_net(error, &self.relay)
            })?;
        self.server_key = net::server_key(&stream);
        self.stream = stream.into();
        Ok(self)
    }

    /// Sends one command and reads its reply.
    pub(super) async fn command(
        &mut self,
        line: &str,
        stage: Stage,
        limit: Duration,
    ) -> Result<Reply, Failure> {
        self.transcript.push("C:", line);
        self.write(format!("{line}\r\n").as_bytes(), stage).await?;
        self.reply(stage, limit).await
    }

    /// Sends a line that must not be shown.
    pub(super) async fn secret_line(
        &mut self,
        line: &str,
        shown: &str,
        stage: Stage,
    ) -> Result<Reply, Failure> {
        self.transcript.push("C:", shown);
        let bytes = Zeroizing::new(format!("{line}\r\n"));
        self.write(bytes.as_bytes(), stage).await?;
        self.reply(stage, self.timeouts.command).await
    }

    /// Writes bytes; a failure here means that their last ones never left.
    pub(super) async fn write(&mut self, bytes: &[u8], stage: Stage) -> Result<(), Failure> {
        let limit = self.timeouts.transfer;
        for chunk in bytes.chunks(256 * 1024) {
            match timeout(limit, self.stream.write_all(chunk)).await {
                Err(_) => {
                    return Err(self.failure(Cause::Timeout, stage, "the server does not read"));
                }
                Ok(Err(error)) => {
                    return Err(self.failure(
                        Cause::ConnectionLost,
                        stage,
                        format!("connection lost while sending ({error})"),
                    ));
                }
                Ok(Ok(())) => {}
            }
        }
        match timeout(limit, self.stream.flush()).await {
            Err(_) => Err(self.failure(Cause::Timeout, stage, "the server does not read")),
            Ok(Err(error)) => Err(self.failure(
                Cause::ConnectionLost,
                stage,
                format!("connection lost while sending ({error})"),
            )),
            Ok(Ok(())) => Ok(()),
        }
    }

    /// Reads one reply within `limit`, however slowly its bytes come.
    pub(super) async fn reply(&mut self, stage: Stage, limit: Duration) -> Result<Reply, Failure> {
        match timeout(limit, self.read_reply(stage)).await {
            Ok(result) => result,
            Err(_) => Err(self.failure(
                Cause::Timeout,
                stage,
                format!("no answer within {} s", limit.as_secs()),
            )),
        }
    }

    async fn read_reply(&mut self, stage: Stage) -> Result<Reply, Failure> {
        loop {
            if self.start < self.buffer.len() {
                match self.parser.feed(&self.buffer[self.start..]) {
                    Ok((used, reply)) => {
                        self.start += used;
                        if let Some(reply) = reply {
                            let reply = self.scrub(reply);
                            self.transcript.push("S:", &reply.to_string());
                            return Ok(reply);
                        }
                    }
                    Err(error) => return Err(self.protocol_error(stage, error)),
                }
            }
            self.buffer.clear();
            self.start = 0;
            let mut chunk = [0u8; 4096];
            match self.stream.read(&mut chunk).await {
                Ok(0) => {
                    return Err(self.failure(
                        Cause::ConnectionLost,
                        stage,
                        "the server closed the connection",
                    ));
                }
                Ok(n) => self.buffer.extend_from_slice(&chunk[..n]),
                Err(error) => {
                    return Err(self.failure(
                        Cause::ConnectionLost,
                        stage,
                        format!("connection lost ({error})"),
                    ));
                }
            }
        }
    }

    fn protocol_error(&self, stage: Stage, error: ReplyError) -> Failure {
        // Some servers repeat our own line; during a login that line holds the password.
        let shown = if stage == Stage::Auth || !self.confidential.is_empty() {
            "(not shown)".to_owned()
        } else {
            let beginning: Vec<u8> = self.buffer.iter().take(60).copied().collect();
            format!("{:?}", crate::smtp::reply::clean(&beginning))
        };
        // 0x15 and 0x16: TLS alert and handshake records.
        if stage == Stage::Hello && matches!(self.buffer.first(), Some(0x15 | 0x16)) {
            return self.failure(
                Cause::TlsOnPlainPort,
                stage,
                "the port speaks TLS from the first byte",
            );
        }
        let cause = if stage == Stage::Hello {
            Cause::NotSmtp
        } else {
            Cause::ProtocolError
        };
        self.failure(cause, stage, format!("{error}: {shown}"))
    }

    fn repeats_secret(&self, text: &str) -> bool {
        self.confidential.is_in(text, text.len() >= LINE_KEPT / 2)
    }

    /// Takes our own secrets out of what the server says: some repeat the AUTH line. A reply that
    /// holds one is not shown at all; its code is what counts.
    fn scrub(&self, mut reply: Reply) -> Reply {
        let repeats = self.repeats_secret(&reply.lines.concat())
            || reply.lines.iter().any(|line| self.repeats_secret(line))
            || (reply.code == 334
                && sasl::decode(&reply.text()).is_some_and(|challenge| {
                    self.repeats_secret(&String::from_utf8_lossy(&challenge))
                }));
        if repeats {
            reply.lines = vec!["(text not shown: it repeats a secret)".to_owned()];
        }
        reply
    }

    /// Whether unread bytes or an end of file wait, which nobody asked for: not to be used again.
    pub fn is_disturbed(&mut self) -> bool {
        if self.start < self.buffer.len() || !self.parser.is_idle() {
            return true;
        }
        let mut probe = [0u8; 1];
        let mut buffer = tokio::io::ReadBuf::new(&mut probe);
        let waker = std::task::Waker::noop();
        let mut cx = std::task::Context::from_waker(waker);
        let pin = std::pin::Pin::new(&mut self.stream);
        let looked = tokio::io::AsyncRead::poll_read(pin, &mut cx, &mut buffer);
        // What was taken is the beginning of what it says.
        self.buffer.extend_from_slice(buffer.filled());
        looked.is_ready()
    }

    /// Ends the conversation politely, not waiting long.
    pub async fn quit(mut self) {
        self.transcript.push("C:", "QUIT");
        if self.write(b"QUIT\r\n", Stage::Mail).await.is_ok() {
            let _ = self.reply(Stage::Mail, Duration::from_secs(5)).await;
        }
        let _ = timeout(Duration::from_secs(2), self.stream.shutdown()).await;
    }
}
