//! A load generator and a sink that cost little themselves, for `benches/peers`: where smtp-source
//! and smtp-sink top out, or cannot do what is measured (latency by percentile, TLS, logins, slow
//! upstreams).
//!
//! ```text
//! load send --to ADDRESS --count N --sessions S --size BYTES [--keep] [--pipeline] [--tls]
//!           [--login USER:PASSWORD] [--recipient ADDRESS] [--think MICROSECONDS]
//! load sink --listen ADDRESS [--delay-ms N] [--tls] [--login USER:PASSWORD] [--cert FILE]
//! ```
//!
//! The sink answers `XCOUNT` with messages, recipients, octets, connections and replies since
//! `XRESET`, and `XTIMES` with the first and last final dot in microseconds of the monotonic clock.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "a tool for measuring: what goes wrong ends it"
)]

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use base64::Engine as _;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

type Options = HashMap<String, String>;

fn options(words: impl Iterator<Item = String>) -> Options {
    let mut found = Options::new();
    let mut name: Option<String> = None;
    for word in words {
        match (word.strip_prefix("--"), name.take()) {
            (Some(next), before) => {
                found.extend(before.map(|n| (n, String::new())));
                name = Some(next.to_owned());
            }
            (None, Some(n)) => {
                found.insert(n, word);
            }
            (None, None) => panic!("what is {word:?}?"),
        }
    }
    found.extend(name.map(|n| (n, String::new())));
    found
}

fn number(options: &Options, name: &str, default: u64) -> u64 {
    options.get(name).map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("--{name} wants a number, not {text:?}"))
    })
}

fn main() {
    let mut words = std::env::args().skip(1);
    let runtime = || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("runtime")
    };
    match words.next().as_deref() {
        Some("send") => runtime().block_on(send(options(words))),
        Some("sink") => runtime().block_on(sink(options(words))),
        // `cargo bench` runs every bench target: this one is a tool of another.
        _ => println!("load send|sink: see the head of benches/load.rs"),
    }
}

// ------------------------------------------------------------------ sending

struct Plan {
    to: String,
    sessions: u64,
    keep: bool,
    pipeline: bool,
    tls: Option<tokio_rustls::TlsConnector>,
    login: Option<String>,
    recipient: String,
    /// The header but for the Message-ID, which is another one each time.
    head: String,
    /// The blank line, the text and the final dot.
    content: Vec<u8>,
    think: Duration,
    left: AtomicU64,
    number: AtomicU64,
    failed: AtomicU64,
}

async fn send(options: Options) {
    let size = usize::try_from(number(&options, "size", 4096)).unwrap();
    let recipient = options
        .get("recipient")
        .cloned()
        .unwrap_or_else(|| "sink@else.example".to_owned());
    let head = format!(
        "From: <app@source.example>\r\nTo: <{recipient}>\r\nSubject: measured\r\nDate: Mon, 2 Nov 2026 12:00:00 +0100\r\n"
    );
    let mut content = b"\r\n".to_vec();
    while content.len() + head.len() + 50 < size {
        let line = (size - content.len()).min(78);
        content.extend(std::iter::repeat_n(b'x', line.saturating_sub(2).max(1)));
        content.extend(b"\r\n");
    }
    content.extend(b".\r\n");
    let count = number(&options, "count", 1000);
    let plan = Arc::new(Plan {
        to: options["to"].clone(),
        sessions: number(&options, "sessions", 1),
        keep: options.contains_key("keep"),
        pipeline: options.contains_key("pipeline"),
        tls: options.contains_key("tls").then(trusting),
        login: options.get("login").cloned(),
        recipient,
        head,
        content,
        think: Duration::from_micros(number(&options, "think", 0)),
        left: AtomicU64::new(count),
        number: AtomicU64::new(u64::from(std::process::id()) << 32),
        failed: AtomicU64::new(0),
    });
    let start = Instant::now();
    let sessions: Vec<_> = (0..plan.sessions)
        .map(|_| tokio::spawn(session(Arc::clone(&plan))))
        .collect();
    let mut times = Vec::new();
    for session in sessions {
        times.extend(session.await.expect("session"));
    }
    let seconds = start.elapsed().as_secs_f64();
    times.sort_unstable();
    let at = |percent: usize| times.get(times.len() * percent / 100).copied().unwrap_or(0);
    println!(
        "{{\"count\":{},\"seconds\":{seconds:.4},\"per_second\":{:.1},\"p50_us\":{},\"p99_us\":{},\"failed\":{}}}",
        times.len(),
        times.len() as f64 / seconds,
        at(50),
        at(99),
        plan.failed.load(Ordering::Relaxed)
    );
}

async fn session(plan: Arc<Plan>) -> Vec<u64> {
    let mut times = Vec::new();
    let mut kept: Option<Talk> = None;
    let mut refusals = 0;
    let take = |left: &AtomicU64| {
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
            .is_ok()
    };
    while take(&plan.left) {
        let mut start = Instant::now();
        let talk = match kept.take() {
            Some(talk) => Ok(talk),
            None => {
                let talk = Talk::open(&plan).await;
                if plan.keep {
                    start = Instant::now();
                }
                talk
            }
        };
        let sent = match talk {
            Ok(mut talk) => talk.message(&plan).await.map(|()| talk),
            Err(error) => Err(error),
        };
        match sent {
            Ok(talk) => {
                times.push(u64::try_from(start.elapsed().as_micros()).unwrap());
                if plan.keep {
                    kept = Some(talk);
                } else {
                    talk.quit().await;
                }
            }
            Err(_) => {
                plan.failed.fetch_add(1, Ordering::Relaxed);
                refusals += 1;
                if refusals > 100 {
                    break;
                }
            }
        }
        if !plan.think.is_zero() {
            tokio::time::sleep(plan.think).await;
        }
    }
    if let Some(talk) = kept {
        talk.quit().await;
    }
    times
}

/// A conversation as a client.
struct Talk {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
}

impl Talk {
    async fn open(plan: &Plan) -> std::io::Result<Self> {
        let address = plan.to.parse().expect("address");
        let stream = TcpSocket::new_v4()?.connect(address).await?;
        stream.set_nodelay(true)?;
        let mut talk = Self {
            stream: Box::new(stream),
            buffer: Vec::with_capacity(1024),
        };
        talk.reply(220).await?;
        talk.say("EHLO source.example\r\n", 250).await?;
        if let Some(tls) = &plan.tls {
            talk.say("STARTTLS\r\n", 220).await?;
            let name = rustls::pki_types::ServerName::try_from("localhost").unwrap();
            let stream = tls.connect(name, talk.stream).await?;
            talk.stream = Box::new(stream);
            talk.say("EHLO source.example\r\n", 250).await?;
        }
        if let Some((user, password)) = plan.login.as_deref().and_then(|l| l.split_once(':')) {
            let token =
                base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"));
            talk.say(&format!("AUTH PLAIN {token}\r\n"), 235).await?;
        }
        Ok(talk)
    }

    async fn message(&mut self, plan: &Plan) -> std::io::Result<()> {
        let mail = "MAIL FROM:<app@source.example>\r\n";
        let rcpt = format!("RCPT TO:<{}>\r\n", plan.recipient);
        if plan.pipeline {
            self.stream
                .write_all(format!("{mail}{rcpt}DATA\r\n").as_bytes())
                .await?;
            for code in [250, 250, 354] {
                self.reply(code).await?;
            }
        } else {
            self.say(mail, 250).await?;
            self.say(&rcpt, 250).await?;
            self.say("DATA\r\n", 354).await?;
        }
        let number = plan.number.fetch_add(1, Ordering::Relaxed);
        let mut wire =
            format!("{}Message-ID: <{number:012}@source.example>\r\n", plan.head).into_bytes();
        if plan.content.len() > 64 * 1024 {
            self.stream.write_all(&wire).await?;
            self.stream.write_all(&plan.content).await?;
        } else {
            wire.extend_from_slice(&plan.content);
            self.stream.write_all(&wire).await?;
        }
        self.reply(250).await
    }

    async fn say(&mut self, line: &str, code: u16) -> std::io::Result<()> {
        self.stream.write_all(line.as_bytes()).await?;
        self.reply(code).await
    }

    async fn reply(&mut self, wanted: u16) -> std::io::Result<()> {
        loop {
            let mut start = 0;
            while let Some(end) = memchr::memchr(b'\n', &self.buffer[start..]) {
                let line = &self.buffer[start..start + end];
                start += end + 1;
                if line.get(3) != Some(&b'-') {
                    let right = line.starts_with(wanted.to_string().as_bytes());
                    let words = String::from_utf8_lossy(line).into_owned();
                    self.buffer.drain(..start);
                    return if right {
                        Ok(())
                    } else {
                        Err(std::io::Error::other(words))
                    };
                }
            }
            self.buffer.drain(..start);
            if self.stream.read_buf(&mut self.buffer).await? == 0 {
                return Err(std::io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    async fn quit(mut self) {
        let _ = self.say("QUIT\r\n", 221).await;
    }
}

/// Takes any certificate: what is measured is the work, not the trust.
fn trusting() -> tokio_rustls::TlsConnector {
    #[derive(Debug)]
    struct Any(Arc<rustls::crypto::CryptoProvider>);
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    impl ServerCertVerifier for Any {
        fn verify_server_cert(
            &self,
            _: &CertificateDer<'_>,
            _: &[CertificateDer<'_>],
            _: &ServerName<'_>,
            _: &[u8],
            _: UnixTime,
        ) -> Result<ServerCertVerified, rustls::Error> {
            Ok(ServerCertVerified::assertion())
        }
        fn verify_tls12_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn verify_tls13_signature(
            &self,
            _: &[u8],
            _: &CertificateDer<'_>,
            _: &rustls::DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, rustls::Error> {
            Ok(HandshakeSignatureValid::assertion())
        }
        fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
            self.0.signature_verification_algorithms.supported_schemes()
        }
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Any(provider)))
        .with_no_client_auth();
    Arc::new(config).into()
}

// ------------------------------------------------------------------ the sink

#[derive(Default)]
struct Counts {
    messages: AtomicU64,
    recipients: AtomicU64,
    octets: AtomicU64,
    connections: AtomicU64,
    replies: AtomicU64,
    first: AtomicU64,
    last: AtomicU64,
}

struct Sink {
    counts: Counts,
    delay: Duration,
    tls: Option<tokio_rustls::TlsAcceptor>,
    login: Option<String>,
}

async fn sink(options: Options) {
    let tls = options.contains_key("tls").then(|| {
        let pair = rcgen::generate_simple_self_signed(vec![
            "localhost".to_owned(),
            "127.0.0.1".to_owned(),
        ])
        .expect("certificate");
        if let Some(path) = options.get("cert") {
            std::fs::write(path, pair.cert.pem()).expect("write certificate");
        }
        let key = rustls::pki_types::PrivateKeyDer::try_from(pair.signing_key.serialize_der())
            .expect("key");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.cert.der().clone()], key)
            .expect("certificate");
        tokio_rustls::TlsAcceptor::from(Arc::new(config))
    });
    let sink = Arc::new(Sink {
        counts: Counts::default(),
        delay: Duration::from_millis(number(&options, "delay-ms", 0)),
        tls,
        login: options.get("login").map(|login| {
            let (user, password) = login.split_once(':').expect("USER:PASSWORD");
            base64::engine::general_purpose::STANDARD.encode(format!("\0{user}\0{password}"))
        }),
    });
    let address: std::net::SocketAddr = options["listen"].parse().expect("address");
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).expect("bind");
    let listener: TcpListener = socket.listen(4096).expect("listen");
    println!("listening {}", listener.local_addr().unwrap());
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        sink.counts.connections.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(serve(stream, Arc::clone(&sink)));
    }
}

async fn serve(stream: TcpStream, sink: Arc<Sink>) {
    let _ = stream.set_nodelay(true);
    let mut stream: Box<dyn Stream> = Box::new(stream);
    let mut buffer: Vec<u8> = Vec::with_capacity(64 * 1024);
    let mut out: Vec<u8> = b"220 sink.example ESMTP\r\n".to_vec();
    let mut recipients = 0;
    let mut secure = false;
    loop {
        if sink.delay.is_zero() {
            if stream.write_all(&out).await.is_err() {
                return;
            }
        } else {
            tokio::time::sleep(sink.delay).await;
            if stream.write_all(&out).await.is_err() {
                return;
            }
        }
        out.clear();
        if memchr::memchr(b'\n', &buffer).is_none()
            && !matches!(stream.read_buf(&mut buffer).await, Ok(1..))
        {
            return;
        }
        // All complete lines that are there are answered in one write, unless replies are slow.
        while let Some(end) = memchr::memchr(b'\n', &buffer) {
            let line: Vec<u8> = buffer.drain(..=end).collect();
            let verb = line[..line.len().min(4)].to_ascii_uppercase();
            sink.counts.replies.fetch_add(1, Ordering::Relaxed);
            match verb.as_slice() {
                b"EHLO" => {
                    out.extend(b"250-sink.example\r\n250-PIPELINING\r\n250-SIZE 0\r\n");
                    if sink.tls.is_some() && !secure {
                        out.extend(b"250-STARTTLS\r\n");
                    }
                    if sink.login.is_some() && (secure || sink.tls.is_none()) {
                        out.extend(b"250-AUTH PLAIN\r\n");
                    }
                    out.extend(b"250 8BITMIME\r\n");
                }
                b"STAR" => {
                    let Some(tls) = sink.tls.clone().filter(|_| !secure) else {
                        out.extend(b"502 5.5.1 no\r\n");
                        continue;
                    };
                    if stream.write_all(b"220 go\r\n").await.is_err() {
                        return;
                    }
                    let Ok(encrypted) = tls.accept(stream).await else {
                        return;
                    };
                    stream = Box::new(encrypted);
                    (secure, buffer) = (true, Vec::with_capacity(64 * 1024));
                }
                b"AUTH" => {
                    let token = String::from_utf8_lossy(&line);
                    let token = token.trim().rsplit(' ').next().unwrap_or("");
                    let right = sink.login.as_deref() == Some(token);
                    out.extend(if right {
                        &b"235 2.7.0 ok\r\n"[..]
                    } else {
                        b"535 5.7.8 no\r\n"
                    });
                }
                b"RCPT" => {
                    recipients += 1;
                    out.extend(b"250 2.1.5 ok\r\n");
                }
                b"DATA" => {
                    out.extend(b"354 go\r\n");
                    if !sink.delay.is_zero() {
                        tokio::time::sleep(sink.delay).await;
                    }
                    if stream.write_all(&out).await.is_err() {
                        return;
                    }
                    out.clear();
                    let Some(octets) = content(&mut stream, &mut buffer).await else {
                        return;
                    };
                    let now = clock_gettime(ClockId::Monotonic);
                    let micros = u64::try_from(now.tv_sec).unwrap() * 1_000_000
                        + u64::try_from(now.tv_nsec).unwrap() / 1000;
                    let counts = &sink.counts;
                    counts.messages.fetch_add(1, Ordering::Relaxed);
                    counts.recipients.fetch_add(recipients, Ordering::Relaxed);
                    counts.octets.fetch_add(octets, Ordering::Relaxed);
                    counts.replies.fetch_add(1, Ordering::Relaxed);
                    let _ = counts.first.compare_exchange(
                        0,
                        micros,
                        Ordering::Relaxed,
                        Ordering::Relaxed,
                    );
                    counts.last.store(micros, Ordering::Relaxed);
                    recipients = 0;
                    out.extend(b"250 2.0.0 taken\r\n");
                }
                b"QUIT" => {
                    let _ = stream.write_all(b"221 bye\r\n").await;
                    return;
                }
                b"XCOU" => {
                    let c = &sink.counts;
                    let [messages, recipients, octets, connections, replies] = [
                        &c.messages,
                        &c.recipients,
                        &c.octets,
                        &c.connections,
                        &c.replies,
                    ]
                    .map(|n| n.load(Ordering::Relaxed));
                    out.extend(
                        format!("250 {messages} {recipients} {octets} {connections} {replies}\r\n")
                            .into_bytes(),
                    );
                }
                b"XTIM" => {
                    let [first, last] =
                        [&sink.counts.first, &sink.counts.last].map(|n| n.load(Ordering::Relaxed));
                    out.extend(format!("250 {first} {last}\r\n").into_bytes());
                }
                b"XRES" => {
                    let c = &sink.counts;
                    for n in [
                        &c.messages,
                        &c.recipients,
                        &c.octets,
                        &c.connections,
                        &c.replies,
                        &c.first,
                        &c.last,
                    ] {
                        n.store(0, Ordering::Relaxed);
                    }
                    out.extend(b"250 reset\r\n");
                }
                _ => out.extend(b"250 2.0.0 ok\r\n"),
            }
            if !sink.delay.is_zero() {
                break;
            }
        }
    }
}

/// Reads to the final dot; what follows it stays in the buffer.
async fn content(stream: &mut Box<dyn Stream>, buffer: &mut Vec<u8>) -> Option<u64> {
    let mut octets = 0;
    if buffer.starts_with(b".\r\n") {
        buffer.drain(..3);
        return Some(0);
    }
    loop {
        if let Some(end) = memchr::memmem::find(buffer, b"\r\n.\r\n") {
            octets += end as u64 + 2;
            buffer.drain(..end + 5);
            return Some(octets);
        }
        // The mark may be cut in two.
        let done = buffer.len().saturating_sub(4);
        octets += done as u64;
        buffer.drain(..done);
        if !matches!(stream.read_buf(buffer).await, Ok(1..)) {
            return None;
        }
    }
}
