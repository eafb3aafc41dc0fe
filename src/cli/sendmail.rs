//! `postbote sendmail`, compatible with /usr/sbin/sendmail as programs call it.

use std::ffi::OsString;
use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use base64::Engine as _;
use tokio_util::sync::CancellationToken;

use super::{block_on, exit, load};
use crate::app::{self, Failure};
use crate::config::Config;
use crate::control::{self, Request};
use crate::message::header::Header;
use crate::message::{Envelope, Recipient, mailbox};
use crate::smtp::address::{Address, AddressError};
use crate::smtp::data::{Stuffer, canonical};
use crate::submission::auth::Authenticator;
use crate::submission::connection::{Connection, Peer, Services, Stream};
use crate::submission::runs::Runs;
use crate::submission::session::Session;
use crate::submission::{AuthMode, ListenAddress, Settings, TlsMode, local};
use crate::tenant::Tenant;

#[derive(Default)]
struct Options {
    config: Option<PathBuf>,
    tenant: Option<String>,
    from: Option<String>,
    name: Option<String>,
    from_header: bool,
    ignore_dots: bool,
    smtp: bool,
    recipients: Vec<String>,
}

fn parse(arguments: Vec<OsString>) -> Result<Options, Failure> {
    let mut options = Options::default();
    let mut rest = arguments
        .into_iter()
        .map(|a| a.to_string_lossy().into_owned());
    let mut only_recipients = false;
    let usage = |text: String| Failure::new(exit::USAGE, text);
    while let Some(argument) = rest.next() {
        if only_recipients || !argument.starts_with('-') || argument == "-" {
            options.recipients.push(argument);
            continue;
        }
        let mut value = |attached: &str, flag: &str| -> Result<String, Failure> {
            if attached.is_empty() {
                rest.next()
                    .ok_or_else(|| usage(format!("{flag} needs a value")))
            } else {
                Ok(attached.to_owned())
            }
        };
        match argument.as_str() {
            "--" => only_recipients = true,
            "--tenant" => options.tenant = Some(value("", "--tenant")?),
            "--config" => options.config = Some(PathBuf::from(value("", "--config")?)),
            "-t" => options.from_header = true,
            "-i" | "-oi" => options.ignore_dots = true,
            "-ti" | "-it" => {
                options.from_header = true;
                options.ignore_dots = true;
            }
            "-bs" => options.smtp = true,
            "-bm" | "-v" | "-n" | "-m" | "-U" | "-G" | "-em" | "-ep" | "-eq" | "-e" => {}
            other if other.starts_with("--tenant=") => {
                options.tenant = Some(other["--tenant=".len()..].to_owned())
            }
            other if other.starts_with("--config=") => {
                options.config = Some(PathBuf::from(&other["--config=".len()..]))
            }
            other if other.starts_with("-f") => options.from = Some(value(&other[2..], "-f")?),
            other if other.starts_with("-r") => options.from = Some(value(&other[2..], "-r")?),
            other if other.starts_with("-F") => options.name = Some(value(&other[2..], "-F")?),
            // Settings of the real sendmail that change nothing here.
            other
                if other.starts_with("-o")
                    || other.starts_with("-B")
                    || other.starts_with("-h") =>
            {
                if matches!(other, "-o" | "-B" | "-h") {
                    value("", other)?;
                }
            }
            other
                if other.starts_with("-N")
                    || other.starts_with("-R")
                    || other.starts_with("-V")
                    || other.starts_with("-X")
                    || other.starts_with("-L") =>
            {
                if other.len() == 2 {
                    value("", other)?;
                }
            }
            other => {
                return Err(usage(format!(
                    "unknown option {other}; known: -t -i -oi -f ADDR -F NAME -bs --tenant T --config FILE --"
                )));
            }
        }
    }
    Ok(options)
}

pub(super) fn run(named: Option<PathBuf>, arguments: Vec<OsString>) -> Result<ExitCode, Failure> {
    let mut options = parse(arguments)?;
    let config = load(options.config.take().or(named))?;
    let tenant = tenant(&config, options.tenant.as_deref())?;
    if options.smtp {
        return smtp(&config, &tenant);
    }
    let message = read_message(&config, options.ignore_dots)?;
    let (envelope, message) = complete(&config, &tenant, options, message)?;
    submit(&config, &tenant, envelope, &message)
}

fn tenant(config: &Config, named: Option<&str>) -> Result<Arc<Tenant>, Failure> {
    if let Some(id) = named {
        return super::tenant_of(config, id).cloned();
    }
    let id = config.listeners.iter().find_map(|l| l.tenant.clone());
    id.and_then(|id| config.directory.tenant(&id).cloned()).ok_or_else(|| Failure::new(exit::CONFIG, "no listener has a tenant, so it is not known whose mail this is; call with --tenant T or set tenant in a [[listener]]"))
}

/// Standard input, up to a lone dot unless that is to be ignored.
fn read_message(config: &Config, ignore_dots: bool) -> Result<Vec<u8>, Failure> {
    let limit = config.server.max_message_size;
    let mut raw = Vec::new();
    std::io::stdin()
        .take(limit + 1)
        .read_to_end(&mut raw)
        .map_err(|e| Failure::new(exit::DATA, format!("standard input cannot be read: {e}")))?;
    if raw.len() as u64 > limit {
        return Err(Failure::new(
            exit::DATA,
            format!("the message is too big, at most {limit} octets"),
        ));
    }
    if !ignore_dots {
        let mut at = 0;
        while at < raw.len() {
            let end = memchr::memchr(b'\n', &raw[at..]).map_or(raw.len(), |n| at + n + 1);
            if matches!(&raw[at..end], b".\n" | b".\r\n" | b".") {
                raw.truncate(at);
                break;
            }
            at = end;
        }
    }
    Ok(raw)
}

/// Envelope and message as the options want them.
fn complete(
    config: &Config,
    tenant: &Tenant,
    options: Options,
    message: Vec<u8>,
) -> Result<(Envelope, Vec<u8>), Failure> {
    let bad = |text: String| Failure::new(exit::DATA, text);
    let parse = |text: &str| -> Result<Address, Failure> {
        match Address::parse(text.trim().trim_start_matches('<').trim_end_matches('>')) {
            Err(AddressError::NoDomain) if !text.contains('@') && !text.trim().is_empty() => {
                Address::parse(&format!("{}@{}", text.trim(), config.server.hostname))
                    .map_err(|e| bad(format!("{text:?} is not an address: {e}")))
            }
            other => other.map_err(|e| bad(format!("{text:?} is not an address: {e}"))),
        }
    };
    let mail_from = match options.from.as_deref() {
        Some("" | "<>") => None,
        Some(text) => Some(parse(text)?),
        None => Some(tenant.email.clone()),
    };
    let (canonical_text, _) = canonical(&message);
    let header = Header::parse(&canonical_text)
        .map_err(|e| bad(format!("the message header is unusable: {e}")))?;
    let mut addresses = Vec::new();
    for text in &options.recipients {
        addresses.push(parse(text)?);
    }
    if options.from_header {
        let resent = ["Resent-To", "Resent-Cc", "Resent-Bcc"];
        let names = if resent
            .iter()
            .any(|name| header.count(&canonical_text, name) > 0)
        {
            resent
        } else {
            ["To", "Cc", "Bcc"]
        };
        for name in names {
            for field in header.all(&canonical_text, name) {
                let list = mailbox::parse(&crate::message::header::unfold(
                    &canonical_text[field.value.clone()],
                ));
                for mailbox in list.mailboxes {
                    addresses.push(mailbox.address.ok_or_else(|| {
                        bad(format!(
                            "the {name} field holds something that is not an address"
                        ))
                    })?);
                }
            }
        }
    }
    let mut recipients: Vec<Recipient> = Vec::new();
    for address in addresses {
        if !recipients.iter().any(|r| r.address.same_mailbox(&address)) {
            recipients.push(Recipient::new(address));
        }
    }
    if recipients.is_empty() {
        return Err(Failure::new(
            exit::USAGE,
            "no recipients; name them as arguments, or use -t with a To field",
        ));
    }
    let mut out = Vec::with_capacity(message.len() + 128);
    if let (Some(name), 0) = (&options.name, header.count(&canonical_text, "From")) {
        let address = mail_from.as_ref().unwrap_or(&tenant.email);
        out.extend_from_slice(
            format!(
                "From: {}\n",
                crate::prepare::encode::mailbox_text(name, address, 6, false).replace("\r\n", "\n")
            )
            .as_bytes(),
        );
        if header.headerless {
            out.push(b'\n');
        }
    }
    out.extend_from_slice(&message);
    Ok((
        Envelope {
            mail_from,
            recipients,
            smtputf8: true,
            ret_full: None,
            envid: None,
        },
        out,
    ))
}

/// To the running server, over its control socket or one of its listeners; else into the spool.
fn submit(
    config: &Config,
    tenant: &Tenant,
    envelope: Envelope,
    message: &[u8],
) -> Result<ExitCode, Failure> {
    let request = Request::Submit {
        tenant: tenant.id.to_string(),
        envelope: Box::new(envelope.clone()),
        message: base64::engine::general_purpose::STANDARD.encode(message),
    };
    match control::ask(&config.server.data_dir, &request) {
        Ok(Some(answer)) => match (answer["ok"].as_str(), answer["refused"].as_str()) {
            (Some(_), _) => Ok(ExitCode::SUCCESS),
            (None, Some(reply)) => Err(refused(reply)),
            (None, None) => Err(Failure::new(
                exit::TEMPORARY,
                format!("the server failed: {answer}"),
            )),
        },
        Ok(None) => {
            let tools = app::open_stopped(config)?;
            let now = app::admit_now(config);
            match block_on(local::submit(
                &now,
                &Runs::default(),
                &tools.spool,
                &tenant.id,
                envelope,
                message,
            ))? {
                Ok(_) => Ok(ExitCode::SUCCESS),
                Err(reply) => Err(refused(&reply.to_string())),
            }
        }
        // Another user's program: the listeners are open to it.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            over_smtp(config, tenant, &envelope, message)
        }
        Err(error) => Err(Failure::new(
            exit::TEMPORARY,
            format!("the server cannot be reached: {error}"),
        )),
    }
}

fn refused(reply: &str) -> Failure {
    let enhanced = reply.split(' ').nth(1).unwrap_or("");
    let code = match (reply.as_bytes().first(), enhanced) {
        (Some(b'4'), _) => exit::TEMPORARY,
        (_, e) if e.starts_with("5.7.") => exit::NOT_PERMITTED,
        (_, e) if e.starts_with("5.6.") || e == "5.3.4" || e.starts_with("5.1.") => exit::DATA,
        _ => exit::UNAVAILABLE,
    };
    Failure::new(code, format!("the message was refused: {reply}"))
}

/// A listener that takes this tenant's mail without a login.
fn open_listener<'c>(config: &'c Config, tenant: &Tenant) -> Option<&'c Settings> {
    config.listeners.iter().find(|l| {
        l.tenant.as_ref() == Some(&tenant.id)
            && l.auth != AuthMode::Required
            && l.tls != TlsMode::Implicit
    })
}

trait Both: std::io::Read + std::io::Write {}
impl<T: std::io::Read + std::io::Write> Both for T {}

fn connect(listener: &Settings) -> std::io::Result<Box<dyn Both>> {
    match &listener.address {
        ListenAddress::Tcp(address) => {
            let stream = std::net::TcpStream::connect_timeout(address, Duration::from_secs(10))?;
            stream.set_read_timeout(Some(Duration::from_secs(300)))?;
            Ok(Box::new(stream))
        }
        ListenAddress::Unix(path) => {
            std::os::unix::net::UnixStream::connect(path).map(|s| Box::new(s) as Box<dyn Both>)
        }
        ListenAddress::Systemd(_) => Err(std::io::Error::other("its address is systemd's")),
    }
}

fn over_smtp(
    config: &Config,
    tenant: &Tenant,
    envelope: &Envelope,
    message: &[u8],
) -> Result<ExitCode, Failure> {
    let listener = open_listener(config, tenant).ok_or_else(|| not_permitted(tenant))?;
    let failed = |e: std::io::Error| {
        Failure::new(exit::TEMPORARY, format!("listener {}: {e}", listener.name))
    };
    let mut stream = connect(listener).map_err(failed)?;
    let mut parser = crate::smtp::reply::ReplyParser::default();
    let mut talk = |line: Option<&[u8]>, expected: u16| -> Result<(), Failure> {
        if let Some(line) = line {
            stream.write_all(line).map_err(failed)?;
        }
        loop {
            // One octet at a time: nothing behind the reply is lost, and it is little.
            let mut byte = [0u8; 1];
            if stream.read(&mut byte).map_err(failed)? == 0 {
                return Err(Failure::new(
                    exit::TEMPORARY,
                    "the server closed the connection",
                ));
            }
            if let (_, Some(reply)) = parser
                .feed(&byte)
                .map_err(|e| Failure::new(exit::TEMPORARY, e.to_string()))?
            {
                return if reply.code / 100 == expected {
                    Ok(())
                } else {
                    Err(refused(&reply.to_string()))
                };
            }
        }
    };
    talk(None, 2)?;
    talk(
        Some(format!("EHLO {}\r\n", config.server.hostname).as_bytes()),
        2,
    )?;
    let utf8 = envelope
        .recipients
        .iter()
        .any(|r| !r.address.as_str().is_ascii())
        || envelope
            .mail_from
            .as_ref()
            .is_some_and(|a| !a.as_str().is_ascii());
    let from = envelope
        .mail_from
        .as_ref()
        .map(ToString::to_string)
        .unwrap_or_default();
    talk(
        Some(
            format!(
                "MAIL FROM:<{from}>{}\r\n",
                if utf8 { " SMTPUTF8" } else { "" }
            )
            .as_bytes(),
        ),
        2,
    )?;
    for recipient in &envelope.recipients {
        talk(
            Some(format!("RCPT TO:<{}>\r\n", recipient.address).as_bytes()),
            2,
        )?;
    }
    talk(Some(b"DATA\r\n"), 3)?;
    let mut wire = Vec::new();
    let mut stuffer = Stuffer::default();
    stuffer.push(&canonical(message).0, &mut wire);
    stuffer.finish(&mut wire);
    talk(Some(&wire), 2)?;
    talk(Some(b"QUIT\r\n"), 2)?;
    Ok(ExitCode::SUCCESS)
}

/// Standard input and output as a connection.
struct Stdio(tokio::io::Join<tokio::io::Stdin, tokio::io::Stdout>);

impl Stream for Stdio {
    fn peer(&self) -> Peer {
        Peer::There
    }

    fn end(&self) {}

    fn is_over(&self) -> bool {
        true
    }
}

impl tokio::io::AsyncRead for Stdio {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl tokio::io::AsyncWrite for Stdio {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        std::pin::Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::pin::Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// `-bs`: SMTP on standard input and output; through a listener of the running server, else
/// straight into the spool.
fn smtp(config: &Config, tenant: &Tenant) -> Result<ExitCode, Failure> {
    match control::begin_smtp(&config.server.data_dir, &tenant.id) {
        Ok(stream) => {
            return bridge(stream.try_clone(), stream, |s| {
                s.shutdown(std::net::Shutdown::Write)
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            let listener = open_listener(config, tenant).ok_or_else(|| not_permitted(tenant))?;
            let ListenAddress::Tcp(address) = &listener.address else {
                return Err(not_permitted(tenant));
            };
            let stream = std::net::TcpStream::connect_timeout(address, Duration::from_secs(10))
                .map_err(|e| Failure::new(exit::TEMPORARY, format!("{address}: {e}")))?;
            return bridge(stream.try_clone(), stream, |s| {
                s.shutdown(std::net::Shutdown::Write)
            });
        }
        Err(_) => {}
    }
    let tools = app::open_stopped(config)?;
    let listener = local::listener(tenant.id.clone());
    block_on(async {
        let services = Services {
            spool: tools.spool.clone(),
            now: Arc::new(ArcSwap::from_pointee(app::admit_now(config))),
            runs: Arc::default(),
            auth: Arc::new(Authenticator::new(tools.context.secrets.clone())),
            metrics: Arc::clone(&tools.metrics),
            instance: String::new(),
            stop: CancellationToken::new(),
            abandon: tokio_util::sync::CancellationToken::new(),
        };
        let listener = Arc::new(listener);
        let session = Box::new(Session::new(
            Arc::clone(&listener),
            String::new(),
            None,
            false,
            false,
        ));
        let stream = Stdio(tokio::io::join(tokio::io::stdin(), tokio::io::stdout()));
        let _ = Connection::new(stream, services, listener, None)
            .serve(session, true)
            .await;
    })?;
    // A blocked read of standard input must not keep the program alive.
    std::process::exit(0);
}

/// Standard input to the server, its answers to standard output. Input begins after the greeting.
fn bridge<S: std::io::Read + std::io::Write + Send + 'static>(
    writer: std::io::Result<S>,
    mut reader: S,
    end: fn(&S) -> std::io::Result<()>,
) -> Result<ExitCode, Failure> {
    let failed = |e: std::io::Error| {
        Failure::new(
            exit::TEMPORARY,
            format!("the connection to the server broke: {e}"),
        )
    };
    let mut writer = writer.map_err(failed)?;
    let mut first = [0u8; 512];
    let length = reader.read(&mut first).map_err(failed)?;
    let mut out = std::io::stdout();
    out.write_all(&first[..length])
        .and_then(|()| out.flush())
        .map_err(failed)?;
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut std::io::stdin(), &mut writer);
        let _ = writer.flush();
        let _ = end(&writer);
    });
    std::io::copy(&mut reader, &mut out)
        .and_then(|_| out.flush())
        .map_err(failed)?;
    Ok(ExitCode::SUCCESS)
}

fn not_permitted(tenant: &Tenant) -> Failure {
    Failure::new(
        exit::NOT_PERMITTED,
        format!(
            "this user may not use the control socket, and no listener takes mail of tenant {} without a login",
            tenant.id
        ),
    )
}
