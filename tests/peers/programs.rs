//! Real mail programs around Postbote: servers to relay to, clients that
//! submit, and verifiers of DKIM signatures.
//!
//! `tests/install` puts the programs in place. Everything here wants Linux and
//! root: the servers drop to users of their own, and each runs in a PID
//! namespace, so that nothing of it outlives the value that started it, nor
//! the test process itself, however that ends.
//!
//! All servers listen on 127.0.0.1 and a free port, take mail for any
//! recipient, and only store it. Their directories are in the usual place for
//! temporary files, which other users must be able to enter. A server that does not start ends the test
//! with a panic that shows its log.

// A test binary uses a part of this.
#![allow(dead_code)]

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use tempfile::TempDir;

/// How long a server may take until it greets; a loaded machine is slow.
const START_LIMIT: Duration = Duration::from_secs(30);
/// Pause between two looks at something that is not there yet.
const POLL: Duration = Duration::from_millis(20);
/// Seconds after which a client or verifier is ended.
const RUN_LIMIT: &str = "120";
/// Where the programs are; cron and containers set less.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Directory of the unpacked programs and of the Python environment:
/// `POSTBOTE_PEERS_DIR`, or `target/peers` in the package.
pub fn peers_dir() -> PathBuf {
    match std::env::var_os("POSTBOTE_PEERS_DIR") {
        Some(dir) if !dir.is_empty() => PathBuf::from(dir),
        _ => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers"),
    }
}

/// A program below [`peers_dir`].
fn peer(path: &str) -> PathBuf {
    let found = peers_dir().join(path);
    assert!(
        found.exists(),
        "{} is missing: run tests/install first",
        found.display()
    );
    found
}

// ------------------------------------------------------------------ options

/// User name and password of SMTP AUTH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// Name as given to AUTH.
    pub user: String,
    /// Password of that name.
    pub password: String,
}

impl Login {
    /// A login of these two.
    pub fn new(user: &str, password: &str) -> Self {
        Self {
            user: user.into(),
            password: password.into(),
        }
    }
}

/// Certificate with which a server offers TLS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tls {
    /// No TLS at all.
    #[default]
    Off,
    /// STARTTLS, and TLS from the first byte on [`Upstream::tls_port`]; the
    /// certificate is signed by the authority of [`Upstream::ca_pem`].
    FromCa,
    /// The same with a certificate that signed itself; it is what
    /// [`Upstream::ca_pem`] names.
    SelfSigned,
}

/// How to start an upstream server. The default: no TLS, no AUTH.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// TLS of the server.
    pub tls: Tls,
    /// Only this login may send; without one anybody may. Not on OpenSMTPD.
    pub auth: Option<Login>,
    /// Largest message in bytes; the server's own default otherwise.
    pub size_limit: Option<u64>,
    /// Messages that one connection may bring (Exim and OpenSMTPD; the latter
    /// stops at 100 by default with `452 4.5.3`, Exim here does not stop).
    pub messages_per_connection: Option<u32>,
    /// Names in the certificate (IP addresses too); empty stands for
    /// `localhost` and `127.0.0.1`.
    pub cert_names: Vec<String>,
    /// Port to listen on instead of a free one: to start a server anew where
    /// Postbote expects it, or later than Postbote. See [`free_port`].
    pub port: Option<u16>,
    /// More lines for the main configuration file, in the server's syntax.
    pub extra: String,
}

// ----------------------------------------------------------------- messages

/// One message that a server took, with its envelope.
#[derive(Clone, Debug)]
pub struct ReceivedMessage {
    /// The message as it came over the wire: CRLF line ends, dots unstuffed,
    /// without what the server put on top of it.
    pub raw: Vec<u8>,
    /// What the server put on top (its Received field and the like), as text
    /// with LF line ends.
    pub trace: String,
    /// Envelope sender; empty for `<>`.
    pub mail_from: Option<String>,
    /// Envelope recipients in the order in which the server lists them.
    pub rcpts: Vec<String>,
}

/// A server that takes mail and keeps it.
pub trait Upstream {
    /// The running instance behind the server.
    fn instance(&self) -> &Instance;

    /// Everything that has arrived completely, oldest first. The order of
    /// messages that came at the same time is not defined.
    fn messages(&self) -> Vec<ReceivedMessage>;

    /// How many messages have arrived, without reading them.
    fn count(&self) -> usize;

    /// Waits until `n` messages are there, or the time is over; gives what is
    /// there then, which may be less or more than `n`.
    fn wait_for(&self, n: usize, within: Duration) -> Vec<ReceivedMessage> {
        let deadline = Instant::now() + within;
        while self.count() < n && Instant::now() < deadline {
            thread::sleep(POLL);
        }
        self.messages()
    }

    /// Port on 127.0.0.1 that speaks SMTP, with STARTTLS if TLS is on.
    fn port(&self) -> u16 {
        self.instance().port
    }

    /// Port that speaks TLS from the first byte, if TLS is on.
    fn tls_port(&self) -> Option<u16> {
        self.instance().tls_port
    }

    /// PEM file of the authority to trust for this server, if TLS is on.
    fn ca_pem(&self) -> Option<&Path> {
        self.instance().cert.as_ref().map(|cert| cert.ca.as_path())
    }

    /// PEM file of the server's own certificate, if TLS is on.
    fn cert_pem(&self) -> Option<&Path> {
        self.instance().cert.as_ref().map(|c| c.leaf.as_path())
    }

    /// Name with which the server greets.
    fn hostname(&self) -> &str {
        &self.instance().hostname
    }

    /// What the server has logged until now.
    fn log(&self) -> String {
        self.instance().log()
    }
}

/// Splits a stored message (LF line ends) after the leading fields named in
/// `own`, each at most once and in this order; those that are absent are
/// skipped. Gives them as text, and the rest with CRLF line ends.
fn split_trace(stored: &[u8], own: &[&str]) -> (String, Vec<u8>) {
    let mut at = 0;
    for name in own {
        let rest = &stored[at..];
        let named = rest.get(..name.len()).is_some_and(|start| {
            start.eq_ignore_ascii_case(name.as_bytes()) && rest.get(name.len()) == Some(&b':')
        });
        if named {
            at += field_end(rest);
        }
    }
    let trace = String::from_utf8_lossy(&stored[..at]).into_owned();
    (trace, to_crlf(&stored[at..]))
}

/// Length of the first header field, with its continuation lines.
fn field_end(text: &[u8]) -> usize {
    let mut at = 0;
    loop {
        at += match text[at..].iter().position(|&b| b == b'\n') {
            Some(newline) => newline + 1,
            None => return text.len(),
        };
        if !matches!(text.get(at), Some(b' ' | b'\t')) {
            return at;
        }
    }
}

/// Value of the first field of this name in a trace, unfolded.
fn trace_value(trace: &str, name: &str) -> Option<String> {
    let mut found: Option<String> = None;
    for line in trace.lines() {
        let folded = line.starts_with([' ', '\t']);
        match &mut found {
            Some(value) if folded => {
                value.push(' ');
                value.push_str(line.trim());
            }
            Some(_) => break,
            None if folded => {}
            None => {
                if let Some((key, value)) = line.split_once(':')
                    && key.eq_ignore_ascii_case(name)
                {
                    found = Some(value.trim().to_owned());
                }
            }
        }
    }
    found
}

/// The address of `<address> PARAMETERS`.
fn in_brackets(text: &str) -> String {
    let inner = text.trim().strip_prefix('<').unwrap_or(text);
    inner.split_once('>').map_or(inner, |(a, _)| a).to_owned()
}

/// Splits at commas outside of quotes.
fn split_addresses(list: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    let (mut quoted, mut escaped) = (false, false);
    for c in list.chars() {
        if c == ',' && !quoted {
            parts.push(String::new());
            continue;
        }
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = c == '\\' && !escaped;
        if let Some(last) = parts.last_mut() {
            last.push(c);
        }
    }
    parts
        .iter()
        .map(|p| p.trim().to_owned())
        .filter(|p| !p.is_empty())
        .collect()
}

/// CRLF at the end of every line that ends in LF alone.
fn to_crlf(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len() + text.len() / 32);
    let mut before = 0;
    for &byte in text {
        if byte == b'\n' && before != b'\r' {
            out.push(b'\r');
        }
        out.push(byte);
        before = byte;
    }
    out
}

/// LF at the end of every line that ends in CRLF.
fn to_lf(text: &[u8]) -> Vec<u8> {
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    for &byte in text {
        if byte == b'\n' && out.last() == Some(&b'\r') {
            out.pop();
        }
        out.push(byte);
    }
    out
}

/// Files of a directory whose name starts with `prefix`, oldest first. What
/// disappears meanwhile is left out.
fn files_by_age(dir: &Path, prefix: &str) -> Vec<PathBuf> {
    let mut found: Vec<(SystemTime, PathBuf)> = read_dir(dir)
        .into_iter()
        .filter(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(prefix))
        })
        .filter_map(|path| Some((fs::metadata(&path).ok()?.modified().ok()?, path)))
        .collect();
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// Entries of a directory; none if it is not there.
fn read_dir(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

/// Reads a file that must be there.
fn read(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

// ---------------------------------------------------------------- instances

/// A server process with everything below it, gone when this is dropped.
///
/// The server is a child of a shell that is process 1 of a PID namespace. The
/// shell ends when its standard input does, and the kernel then ends the rest;
/// the other end of that pipe is held here, so a crash of the test process has
/// the same effect.
struct Supervised {
    unshare: Child,
    lifeline: Option<ChildStdin>,
}

/// Process 1 of the namespace: reads the line that whichever of the two ends
/// first writes, the lifeline or the server, and ends. (`wait -n` would miss
/// one that ends before it is called.) Exim closes every possible file
/// descriptor first, which takes long where containers allow many.
const SUPERVISOR: &str = r#"
ulimit -n 4096
exec 3<&0 4>&1
read -r _ < <(
  { read -r _ <&3; echo; } &
  { "$@" </dev/null >&4 3<&- 4>&-; echo; } &
)
"#;

impl Supervised {
    fn spawn(argv: &[OsString], log: &Path) -> Self {
        let log_file = fs::File::create(log).expect("create the log");
        let log_too = log_file.try_clone().expect("share the log");
        let mut unshare = Command::new("unshare")
            .args(["--mount", "--pid", "--fork", "--kill-child"])
            .args(["bash", "-c", SUPERVISOR, "supervisor"])
            .args(argv)
            .env_clear()
            .env("PATH", SEARCH_PATH)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(log_file)
            .stderr(log_too)
            .spawn()
            .expect("start unshare (util-linux)");
        let lifeline = unshare.stdin.take();
        Self { unshare, lifeline }
    }

    fn ended(&mut self) -> bool {
        !matches!(self.unshare.try_wait(), Ok(None))
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        // unshare waits for process 1, which the kernel does not let go
        // before all others of the namespace have ended.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !self.ended() {
            if Instant::now() > deadline {
                // Its death takes process 1 along (--kill-child).
                let _ = self.unshare.kill();
                let _ = self.unshare.wait();
                return;
            }
            thread::sleep(Duration::from_millis(2));
        }
    }
}

/// What an instance is made of before its program runs.
struct Site<'a> {
    dir: &'a Path,
    hostname: &'a str,
    port: u16,
    tls_port: Option<u16>,
    cert: Option<&'a Certificate>,
}

/// A running server: its directory, its ports and its processes.
pub struct Instance {
    // Dropped first: nothing writes to the directory when that goes.
    process: Supervised,
    dir: TempDir,
    hostname: String,
    port: u16,
    tls_port: Option<u16>,
    cert: Option<Certificate>,
}

impl Instance {
    /// Prepares a directory with `prepare`, which gives the command line of
    /// the server, starts it and waits until it greets.
    fn start(name: &str, options: &Options, prepare: impl Fn(&Site) -> Vec<OsString>) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let mut failures = String::new();
        // Somebody else may take the port before the server does.
        for _ in 0..3 {
            // A name of its own: an answer from a server of another test on
            // the same port is not mistaken for this one's.
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let hostname = format!("{name}-{}-{number}.test", std::process::id());
            let dir = tempfile::Builder::new()
                .prefix(&format!("peer-{name}-"))
                .tempdir()
                .expect("create a directory");
            // The server's users reach their own directories below.
            set_mode(dir.path(), 0o755);
            let cert = match options.tls {
                Tls::Off => None,
                kind => Some(Certificate::generate(dir.path(), kind, &options.cert_names)),
            };
            let port = options.port.unwrap_or_else(free_port);
            let tls_port = cert.as_ref().map(|_| free_port());
            let argv = prepare(&Site {
                dir: dir.path(),
                hostname: &hostname,
                port,
                tls_port,
                cert: cert.as_ref(),
            });
            let process = Supervised::spawn(&argv, &dir.path().join("log"));
            let mut instance = Self {
                process,
                dir,
                hostname,
                port,
                tls_port,
                cert,
            };
            match instance.wait_until_it_greets() {
                Ok(()) => return instance,
                Err(why) => {
                    let _ = writeln!(failures, "{why}\n{}", instance.log());
                }
            }
        }
        panic!("{name} does not start: {failures}");
    }

    fn wait_until_it_greets(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let answer = greeting(self.port);
            if let Ok(line) = &answer
                && line.starts_with("220")
                && line.contains(&self.hostname)
            {
                return Ok(());
            }
            if self.process.ended() {
                return Err(format!("it ended at once; port {}", self.port));
            }
            if Instant::now() > deadline {
                return Err(format!("no greeting; port {}: {answer:?}", self.port));
            }
            thread::sleep(POLL);
        }
    }

    /// Directory of the instance: configuration, queue, log.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// What the program has logged until now.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.dir().join("log")).unwrap_or_default()).into_owned()
    }

    /// Whether one of the processes below `unshare` has the file open.
    fn has_open(&self, path: &Path) -> bool {
        let mut todo = vec![self.process.unshare.id().to_string()];
        while let Some(pid) = todo.pop() {
            let proc = Path::new("/proc").join(&pid);
            if read_dir(&proc.join("fd"))
                .iter()
                .any(|fd| fs::read_link(fd).is_ok_and(|target| target == path))
            {
                return true;
            }
            let children = proc.join("task").join(&pid).join("children");
            let children = fs::read_to_string(children).unwrap_or_default();
            todo.extend(children.split_whitespace().map(str::to_owned));
        }
        false
    }
}

/// First line that a server says; takes leave politely.
fn greeting(port: u16) -> std::io::Result<String> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let limit = Duration::from_secs(5);
    let mut stream = TcpStream::connect_timeout(&address, limit)?;
    stream.set_read_timeout(Some(limit))?;
    let mut line = String::new();
    BufReader::new(stream.try_clone()?).read_line(&mut line)?;
    let _ = stream.write_all(b"QUIT\r\n");
    Ok(line)
}

/// A port on 127.0.0.1 that nobody listens on at the moment.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("find a free port")
        .port()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .unwrap_or_else(|e| panic!("mode of {}: {e}", path.display()));
}

/// Writes a file that looks an hour old: Postfix waits two seconds before it
/// reads a newer one, in case somebody is still editing it.
fn write(path: &Path, text: &str, mode: u32) {
    let hour = Duration::from_secs(3600);
    fs::File::create(path)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.set_modified(SystemTime::now() - hour)
        })
        .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    set_mode(path, mode);
}

/// Gives a path to a system user.
fn give_to(path: &Path, user: &str) {
    let passwd = fs::read_to_string("/etc/passwd").expect("read /etc/passwd");
    let ids = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(user) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        Some((uid, fields.next()?.parse().ok()?))
    });
    let (uid, gid): (u32, u32) =
        ids.unwrap_or_else(|| panic!("no user {user}: run tests/install first"));
    chown(path, Some(uid), Some(gid))
        .unwrap_or_else(|e| panic!("owner of {} (are you root?): {e}", path.display()));
}

/// A directory that belongs to a system user.
fn make_dir(path: &Path, user: &str, mode: u32) {
    fs::create_dir_all(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    set_mode(path, mode);
    give_to(path, user);
}

/// Certificate of a server and what signed it, as PEM files.
struct Certificate {
    ca: PathBuf,
    leaf: PathBuf,
    key: PathBuf,
}

impl Certificate {
    fn generate(dir: &Path, kind: Tls, names: &[String]) -> Self {
        let defaults = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let names = if names.is_empty() { &defaults } else { names };
        let alternatives: Vec<String> = names
            .iter()
            .map(|name| match name.parse::<std::net::IpAddr>() {
                Ok(ip) => format!("IP:{ip}"),
                Err(_) => format!("DNS:{name}"),
            })
            .collect();
        // The certificate of a server must not claim to be an authority:
        // rustls refuses that.
        let conf = format!(
            "[req]\ndistinguished_name = dn\nprompt = no\n[dn]\nCN = Peer programs\n\
             [ca]\nbasicConstraints = critical,CA:TRUE\n\
             keyUsage = critical,keyCertSign,cRLSign\nsubjectKeyIdentifier = hash\n\
             [leaf]\nbasicConstraints = critical,CA:FALSE\n\
             keyUsage = critical,digitalSignature\nextendedKeyUsage = serverAuth\n\
             subjectKeyIdentifier = hash\nsubjectAltName = {}\n",
            alternatives.join(",")
        );
        write(&dir.join("openssl.cnf"), &conf, 0o644);
        let request = |section: &str, subject: &str, name: &str, more: &[&str]| {
            let done = Command::new("openssl")
                .args(["req", "-x509", "-config", "openssl.cnf", "-days", "30"])
                .args(["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"])
                .args(["-nodes", "-extensions", section, "-subj", subject])
                .args(["-keyout", &format!("{name}.key")])
                .args(["-out", &format!("{name}.pem")])
                .args(more)
                .current_dir(dir)
                .output()
                .expect("run openssl");
            assert!(done.status.success(), "openssl: {done:?}");
        };
        let subject = format!("/CN={}", names[0]);
        if kind == Tls::FromCa {
            request("ca", "/CN=Peer programs", "ca", &[]);
            let signer = ["-CA", "ca.pem", "-CAkey", "ca.key"];
            request("leaf", &subject, "server", &signer);
        } else {
            request("leaf", &subject, "server", &[]);
            fs::copy(dir.join("server.pem"), dir.join("ca.pem")).expect("copy the certificate");
        }
        set_mode(&dir.join("server.key"), 0o600);
        Self {
            ca: dir.join("ca.pem"),
            leaf: dir.join("server.pem"),
            key: dir.join("server.key"),
        }
    }
}

/// The words of a command line.
fn words<S: AsRef<OsStr>>(list: &[S]) -> Vec<OsString> {
    list.iter().map(|w| w.as_ref().to_owned()).collect()
}

// ------------------------------------------------------------------ Postfix

/// Directories, identity and services that every Postfix instance has. No
/// service is chrooted, none listens but on 127.0.0.1.
fn postfix_files(site: &Site, main: &str, more_services: &str) -> Vec<OsString> {
    let dir = site.dir.display();
    let queue = site.dir.join("queue");
    make_dir(&queue, "root", 0o755);
    for name in [
        "active", "bounce", "corrupt", "defer", "deferred", "flush", "hold", "incoming", "private",
        "saved", "trace",
    ] {
        make_dir(&queue.join(name), "postfix", 0o700);
    }
    make_dir(&queue.join("pid"), "root", 0o755);
    for (name, mode) in [("public", 0o710), ("maildrop", 0o730)] {
        make_dir(&queue.join(name), "postfix", mode);
    }
    make_dir(&site.dir.join("data"), "postfix", 0o700);
    let mut text = format!(
        "compatibility_level = 3.6\n\
         queue_directory = {dir}/queue\n\
         data_directory = {dir}/data\n\
         maillog_file = /dev/stdout\n\
         myhostname = {host}\n\
         mydestination =\n\
         inet_interfaces = 127.0.0.1\n\
         inet_protocols = ipv4\n\
         mynetworks = 127.0.0.0/8\n\
         alias_maps =\n\
         alias_database =\n\
         local_recipient_maps =\n\
         append_dot_mydomain = no\n\
         notify_classes =\n\
         default_process_limit = 100\n\
         in_flow_delay = 0\n\
         smtpd_error_sleep_time = 0\n\
         disable_dns_lookups = yes\n\
         smtp_host_lookup = native\n\
         smtpd_peername_lookup = no\n\
         {main}",
        host = site.hostname,
    );
    if let Some(cert) = site.cert {
        let _ = writeln!(
            text,
            "smtpd_tls_security_level = may\nsmtpd_tls_chain_files = {}, {}",
            cert.key.display(),
            cert.leaf.display()
        );
    }
    write(&site.dir.join("main.cf"), &text, 0o644);

    let mut services = format!("127.0.0.1:{} inet n - n - - smtpd\n", site.port);
    if let Some(port) = site.tls_port {
        let _ = writeln!(
            services,
            "127.0.0.1:{port} inet n - n - - smtpd -o smtpd_tls_wrappermode=yes"
        );
    }
    services.push_str(
        "pickup unix n - n 1 1 pickup\n\
         cleanup unix n - n - 0 cleanup\n\
         qmgr unix n - n 300 1 qmgr\n\
         tlsmgr unix - - n 1000? 1 tlsmgr\n\
         rewrite unix - - n - - trivial-rewrite\n\
         bounce unix - - n - 0 bounce\n\
         defer unix - - n - 0 bounce\n\
         trace unix - - n - 0 bounce\n\
         verify unix - - n - 1 verify\n\
         flush unix n - n 1000? 0 flush\n\
         proxymap unix - - n - - proxymap\n\
         proxywrite unix - - n - 1 proxymap\n\
         smtp unix - - n - - smtp\n\
         relay unix - - n - - smtp\n\
         showq unix n - n - - showq\n\
         error unix - - n - - error\n\
         retry unix - - n - - error\n\
         discard unix - - n - - discard\n\
         anvil unix - - n - 1 anvil\n\
         scache unix - - n - 1 scache\n\
         postlog unix-dgram n - n - 1 postlogd\n",
    );
    services.push_str(more_services);
    write(&site.dir.join("master.cf"), &services, 0o644);

    // What `postfix start-fg` comes to, without the checks of the installation
    // that take seconds.
    let mut argv = words(&["/usr/lib/postfix/sbin/master", "-s", "-c"]);
    argv.push(site.dir.into());
    argv
}

/// Postfix as an upstream server. With a login it offers PLAIN, LOGIN and
/// CRAM-MD5, over TLS or not.
pub struct Postfix(Instance);

impl Postfix {
    /// Starts an instance.
    pub fn start(options: Options) -> Self {
        Self(Instance::start("postfix", &options, |site| {
            let dir = site.dir.display();
            let restriction = if options.auth.is_some() {
                "permit_sasl_authenticated, reject"
            } else {
                "permit_mynetworks, reject"
            };
            // One delivery for a message, whatever the domains of its
            // recipients: all share the next hop "all". Headers stay as they
            // came: none is completed, rewritten or dropped.
            let mut main = format!(
                "default_transport = store:all\n\
                 local_transport = store:all\n\
                 store_destination_recipient_limit = 10000\n\
                 initial_destination_concurrency = 20\n\
                 smtpd_relay_restrictions = {restriction}\n\
                 local_header_rewrite_clients =\n\
                 message_drop_headers =\n\
                 line_length_limit = 2048000\n\
                 header_size_limit = 1024000\n"
            );
            if let Some(limit) = options.size_limit {
                let _ = writeln!(main, "message_size_limit = {limit}");
                let _ = writeln!(main, "queue_minfree = 0");
            }
            if let Some(login) = &options.auth {
                postfix_logins(site, login);
                let _ = write!(
                    main,
                    "smtpd_sasl_auth_enable = yes\n\
                     smtpd_sasl_local_domain = {}\n\
                     cyrus_sasl_config_path = {dir}/sasl\n",
                    site.hostname
                );
            }
            main.push_str(&options.extra);
            main.push('\n');
            make_dir(&site.dir.join("mail"), "nobody", 0o700);
            write(
                &site.dir.join("store"),
                &format!(
                    "cd {dir}/mail && new=$(mktemp tmp.XXXXXXXXXX) &&\n\
                     {{ printf '%s\\n' \"$#\" \"$@\"; cat; }} >\"$new\" &&\n\
                     mv \"$new\" \"new.${{new#tmp.}}\" || exit 75\n"
                ),
                0o644,
            );
            let store = format!(
                "store unix - n n - 20 pipe\n  flags=q user=nobody null_sender= \
                 argv=/bin/sh {dir}/store ${{sender}} ${{recipient}}\n"
            );
            postfix_files(site, &main, &store)
        }))
    }
}

/// Password database of Cyrus SASL with one login.
fn postfix_logins(site: &Site, login: &Login) {
    let sasl = site.dir.join("sasl");
    let database = sasl.join("logins");
    make_dir(&sasl, "postfix", 0o700);
    let conf = format!(
        "pwcheck_method: auxprop\nauxprop_plugin: sasldb\nsasldb_path: {}\n\
         mech_list: PLAIN LOGIN CRAM-MD5\n",
        database.display()
    );
    write(&sasl.join("smtpd.conf"), &conf, 0o644);
    let mut command = Command::new(peer("sasl/usr/sbin/saslpasswd2"));
    command
        .args(["-p", "-c", "-u", site.hostname, "-f"])
        .arg(&database)
        .arg(&login.user);
    let done = run(&mut command, login.password.as_bytes());
    assert!(done.status.success(), "saslpasswd2: {done:?}");
    give_to(&database, "postfix");
}

impl Upstream for Postfix {
    fn instance(&self) -> &Instance {
        &self.0
    }

    fn count(&self) -> usize {
        files_by_age(&self.0.dir().join("mail"), "new.").len()
    }

    fn messages(&self) -> Vec<ReceivedMessage> {
        files_by_age(&self.0.dir().join("mail"), "new.")
            .iter()
            .map(|path| {
                // Number of addresses, addresses (sender first), message.
                let stored = read(path);
                let mut rest = stored.as_slice();
                let mut line = || {
                    let end = rest.iter().position(|&b| b == b'\n').expect("a line");
                    let text = String::from_utf8_lossy(&rest[..end]).into_owned();
                    rest = &rest[end + 1..];
                    text
                };
                let count: usize = line().parse().expect("number of addresses");
                let sender = line();
                let rcpts = (1..count).map(|_| line()).collect();
                let (trace, raw) = split_trace(rest, &["Received"]);
                ReceivedMessage {
                    raw,
                    trace,
                    mail_from: Some(sender),
                    rcpts,
                }
            })
            .collect()
    }
}

/// Postfix as a client: it relays all its mail to one port, as the mail
/// server of an application machine does. What cannot be delivered is retried
/// every few seconds; what is refused for good bounces, and the bounce takes
/// the same way with an empty sender.
pub struct PostfixClient(Instance);

/// How [`PostfixClient`] talks to its relay.
#[derive(Clone, Debug, Default)]
pub struct ClientOptions {
    /// Log in with this.
    pub auth: Option<Login>,
    /// Insist on STARTTLS, whatever the certificate; without it Postfix uses
    /// STARTTLS when that is offered.
    pub require_tls: bool,
    /// More lines for main.cf.
    pub extra: String,
}

impl PostfixClient {
    /// Starts an instance that relays to `[127.0.0.1]:relay_port`.
    pub fn start(relay_port: u16) -> Self {
        Self::start_with(relay_port, ClientOptions::default())
    }

    /// The same with a login or TLS.
    pub fn start_with(relay_port: u16, options: ClientOptions) -> Self {
        Self(Instance::start(
            "postfix-client",
            &Options::default(),
            |site| {
                let level = if options.require_tls {
                    "encrypt"
                } else {
                    "may"
                };
                let mut main = format!(
                    "relayhost = [127.0.0.1]:{relay_port}\n\
                 smtpd_relay_restrictions = permit_mynetworks, reject\n\
                 smtp_tls_security_level = {level}\n\
                 queue_run_delay = 1s\n\
                 minimal_backoff_time = 1s\n\
                 maximal_backoff_time = 5s\n"
                );
                if let Some(login) = &options.auth {
                    let map = site.dir.join("relay_login");
                    let entry = format!(
                        "[127.0.0.1]:{relay_port} {}:{}\n",
                        login.user, login.password
                    );
                    write(&map, &entry, 0o600);
                    let _ = write!(
                        main,
                        "smtp_sasl_auth_enable = yes\n\
                     smtp_sasl_password_maps = texthash:{}\n\
                     smtp_sasl_security_options = noanonymous\n\
                     smtp_sasl_tls_security_options = noanonymous\n",
                        map.display()
                    );
                }
                main.push_str(&options.extra);
                main.push('\n');
                postfix_files(site, &main, "")
            },
        ))
    }

    /// Hands a message to the `sendmail` command, which queues it.
    pub fn submit(&self, from: &str, rcpts: &[&str], raw: &[u8]) -> Output {
        let mut command = program("/usr/sbin/sendmail");
        command.arg("-C").arg(self.0.dir());
        // -G: no header is completed; -i: a line with a dot is a line.
        command.args(["-i", "-f", from, "--"]).args(rcpts);
        run(&mut command, &to_lf(raw))
    }

    /// Port that takes mail by SMTP for the same way.
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// The queue as `postqueue -j` shows it: one JSON object a line.
    pub fn queue(&self) -> String {
        let mut command = program("/usr/sbin/postqueue");
        command.arg("-c").arg(self.0.dir()).arg("-j");
        let done = run(&mut command, b"");
        assert!(done.status.success(), "postqueue: {done:?}");
        String::from_utf8_lossy(&done.stdout).into_owned()
    }

    /// Waits until nothing is queued any more; false if time is over first.
    pub fn wait_until_empty(&self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        // Mail of `sendmail` waits here until pickup sees it.
        let dropped = self.0.dir().join("queue/maildrop");
        while !read_dir(&dropped).is_empty() || !self.queue().trim().is_empty() {
            if Instant::now() > deadline {
                return false;
            }
            thread::sleep(POLL);
        }
        true
    }

    /// What Postfix has logged until now.
    pub fn log(&self) -> String {
        self.0.log()
    }
}

// --------------------------------------------------------------------- Exim

/// Exim as an upstream server. With a login it offers PLAIN, LOGIN and
/// CRAM-MD5, over TLS or not.
pub struct Exim(Instance);

impl Exim {
    /// Starts an instance.
    pub fn start(options: Options) -> Self {
        const USER: &str = "Debian-exim";
        let binary = peer("exim/usr/sbin/exim4");
        Self(Instance::start("exim", &options, |site| {
            let dir = site.dir.display();
            for name in ["spool", "mail", "eximlog"] {
                make_dir(&site.dir.join(name), USER, 0o700);
            }
            let mut ports = format!("<, {}", site.port);
            let mut main = String::new();
            if let (Some(cert), Some(tls_port)) = (site.cert, site.tls_port) {
                give_to(&cert.key, USER);
                let _ = write!(ports, ",{tls_port}");
                let _ = write!(
                    main,
                    "tls_advertise_hosts = *\n\
                     tls_on_connect_ports = {tls_port}\n\
                     tls_certificate = {}\n\
                     tls_privatekey = {}\n",
                    cert.leaf.display(),
                    cert.key.display()
                );
            } else {
                main.push_str("tls_advertise_hosts =\n");
            }
            if let Some(limit) = options.size_limit {
                let _ = writeln!(main, "message_size_limit = {limit}");
            }
            let per_connection = options.messages_per_connection.unwrap_or(0);
            let mut refusal = "";
            let mut authenticators = String::new();
            if let Some(login) = &options.auth {
                let logins = site.dir.join("logins");
                let line = format!("{}: {}\n", login.user, login.password);
                write(&logins, &line, 0o600);
                give_to(&logins, USER);
                refusal = "  deny\n    !authenticated = *\n    message = 530 5.7.0 Authentication required\n";
                let password = |user: &str| {
                    format!("${{lookup{{{user}}}lsearch{{{dir}/logins}}{{$value}}fail}}")
                };
                let equal = |given: &str, user: &str| {
                    format!("${{if eq{{{given}}}{{{}}}}}", password(user))
                };
                let _ = write!(
                    authenticators,
                    "begin authenticators\n\
                     plain:\n  driver = plaintext\n  public_name = PLAIN\n  server_prompts = :\n\
                     \x20 server_condition = {}\n  server_set_id = $auth2\n\
                     login:\n  driver = plaintext\n  public_name = LOGIN\n\
                     \x20 server_prompts = Username:: : Password::\n\
                     \x20 server_condition = {}\n  server_set_id = $auth1\n\
                     cram:\n  driver = cram_md5\n  public_name = CRAM-MD5\n\
                     \x20 server_secret = {}\n  server_set_id = $auth1\n",
                    equal("$auth3", "$auth2"),
                    equal("$auth2", "$auth1"),
                    password("$auth1"),
                );
            }
            // Delivery at once however many messages a connection brings; no
            // look-ups; fields of the message stay as they came.
            let conf = format!(
                "primary_hostname = {host}\n\
                 exim_path = {dir}/exim4\n\
                 exim_user = {USER}\n\
                 exim_group = {USER}\n\
                 spool_directory = {dir}/spool\n\
                 log_file_path = {dir}/eximlog/%slog\n\
                 pid_file_path = {dir}/exim.pid\n\
                 local_interfaces = 127.0.0.1\n\
                 daemon_smtp_ports = {ports}\n\
                 deliver_drop_privilege = true\n\
                 keep_environment =\n\
                 add_environment = PATH=/usr/bin:/bin\n\
                 host_lookup =\n\
                 rfc1413_hosts =\n\
                 dkim_verify_signers =\n\
                 smtp_accept_max = 500\n\
                 smtp_accept_max_per_connection = {per_connection}\n\
                 smtp_accept_queue_per_connection = 0\n\
                 smtp_connect_backlog = 100\n\
                 return_path_remove = false\n\
                 envelope_to_remove = false\n\
                 delivery_date_remove = false\n\
                 acl_smtp_mail = mail\n\
                 acl_smtp_rcpt = accept\n\
                 acl_smtp_data = accept\n\
                 {main}{extra}\n\
                 begin acl\n\
                 mail:\n{refusal}  accept\n\
                 begin routers\n\
                 all:\n  driver = accept\n  transport = store\n\
                 begin transports\n\
                 store:\n  driver = appendfile\n  maildir_format\n  directory = {dir}/mail\n\
                 \x20 user = {USER}\n  group = {USER}\n  envelope_to_add\n  return_path_add\n\
                 \x20 batch_max = 10000\n\
                 {authenticators}",
                host = site.hostname,
                extra = options.extra,
            );
            // Exim insists on a configuration that only root can change.
            write(&site.dir.join("exim.conf"), &conf, 0o644);
            // It runs itself anew as its own user, who may not be able to
            // reach the binary (below /root, for example): show it here, in
            // the mount namespace of the instance.
            write(&site.dir.join("exim4"), "", 0o755);
            // Foreground; -q: a delivery that was put off is tried again.
            let script = r#"mount --bind "$0" "$1" && exec "$1" -C "$2" -bdf -q5s"#;
            let mut argv = words(&["sh", "-c", script]);
            argv.push(binary.clone().into());
            argv.push(site.dir.join("exim4").into());
            argv.push(site.dir.join("exim.conf").into());
            argv
        }))
    }
}

impl Upstream for Exim {
    fn instance(&self) -> &Instance {
        &self.0
    }

    fn count(&self) -> usize {
        read_dir(&self.0.dir().join("mail/new")).len()
    }

    fn messages(&self) -> Vec<ReceivedMessage> {
        files_by_age(&self.0.dir().join("mail/new"), "")
            .iter()
            .map(|path| {
                let own = ["Return-path", "Envelope-to", "Received"];
                let (trace, raw) = split_trace(&read(path), &own);
                let rcpts = trace_value(&trace, "Envelope-to").unwrap_or_default();
                ReceivedMessage {
                    raw,
                    mail_from: trace_value(&trace, "Return-path").map(|v| in_brackets(&v)),
                    rcpts: split_addresses(&rcpts),
                    trace,
                }
            })
            .collect()
    }

    fn log(&self) -> String {
        let main = fs::read(self.0.dir().join("eximlog/mainlog")).unwrap_or_default();
        self.0.log() + &String::from_utf8_lossy(&main)
    }
}

// ---------------------------------------------------------------- OpenSMTPD

/// OpenSMTPD as an upstream server. It keeps what it takes in its queue.
///
/// Debian 12's build (6.8.0p2 with OpenSSL 3) offers STARTTLS and then breaks
/// off every handshake: with TLS on it is that kind of broken server. It has
/// AUTH only inside TLS, hence not at all here.
pub struct OpenSmtpd(Instance);

impl OpenSmtpd {
    /// Starts an instance.
    pub fn start(options: Options) -> Self {
        assert!(options.auth.is_none(), "AUTH of OpenSMTPD needs TLS");
        let binary = peer("opensmtpd/usr/sbin/smtpd");
        Self(Instance::start("opensmtpd", &options, |site| {
            let dir = site.dir.display();
            let mut conf = format!("{}\n", options.extra);
            if let Some(limit) = options.size_limit {
                let _ = writeln!(conf, "smtp max-message-size {limit}");
            }
            if let Some(limit) = options.messages_per_connection {
                let _ = writeln!(conf, "smtp limit max-mails {limit}");
            }
            if let Some(cert) = site.cert {
                let _ = write!(
                    conf,
                    "pki peer cert \"{}\"\npki peer key \"{}\"\n",
                    cert.leaf.display(),
                    cert.key.display()
                );
            }
            let listen = |port: u16, tls: &str| {
                format!(
                    "listen on 127.0.0.1 port {port} {tls} hostname {}\n",
                    site.hostname
                )
            };
            match site.tls_port {
                Some(port) => {
                    conf += &listen(site.port, "tls pki peer");
                    conf += &listen(port, "smtps pki peer");
                }
                None => conf += &listen(site.port, ""),
            }
            // Relaying is paused (-P mta): nothing ever leaves.
            conf.push_str(
                "action hold relay host smtp://127.0.0.1:9\n\
                 match from any for any action hold\n",
            );
            write(&site.dir.join("smtpd.conf"), &conf, 0o644);
            // Its directories are compiled in. In the mount namespace of the
            // instance they are these.
            for (name, below) in [("spool", "smtpd"), ("run", ""), ("lib", "opensmtpd/empty")] {
                let path = site.dir.join(name);
                make_dir(&path, "root", 0o755);
                fs::create_dir_all(path.join(below)).expect("create a directory");
            }
            set_mode(&site.dir.join("spool/smtpd"), 0o711);
            let script = format!(
                "mount --bind {dir}/spool /var/spool && mount --bind {dir}/run /run &&\n\
                 mount --bind {dir}/lib /var/lib && exec \"$@\""
            );
            let mut argv = words(&["sh", "-c", &script, "sh"]);
            argv.push(binary.clone().into());
            argv.extend(words(&["-d", "-P", "mta", "-f"]));
            argv.push(site.dir.join("smtpd.conf").into());
            argv
        }))
    }

    /// Directories of the queued messages, oldest first.
    fn queued(&self) -> Vec<PathBuf> {
        let mut found: Vec<(SystemTime, PathBuf)> =
            read_dir(&self.0.dir().join("spool/smtpd/queue"))
                .iter()
                .flat_map(|bucket| read_dir(bucket))
                .filter_map(|dir| {
                    let time = fs::metadata(dir.join("message")).ok()?.modified().ok()?;
                    Some((time, dir))
                })
                .collect();
        found.sort();
        found.into_iter().map(|(_, dir)| dir).collect()
    }
}

impl Upstream for OpenSmtpd {
    fn instance(&self) -> &Instance {
        &self.0
    }

    fn count(&self) -> usize {
        self.queued().len()
    }

    fn messages(&self) -> Vec<ReceivedMessage> {
        self.queued()
            .iter()
            .map(|dir| {
                let (trace, raw) = split_trace(&read(&dir.join("message")), &["Received"]);
                let mut mail_from = None;
                let mut rcpts = Vec::new();
                // Envelopes have the name of the directory and a suffix.
                let prefix = dir.file_name().unwrap_or_default().to_string_lossy();
                for envelope in files_by_age(dir, &prefix) {
                    let text = String::from_utf8_lossy(&read(&envelope)).into_owned();
                    let value = |key| trace_value(&text, key);
                    mail_from = value("sender").map(|sender| match sender.as_str() {
                        "@" => String::new(),
                        _ => sender,
                    });
                    rcpts.extend(value("rcpt"));
                }
                ReceivedMessage {
                    raw,
                    trace,
                    mail_from,
                    rcpts,
                }
            })
            .collect()
    }
}

// ---------------------------------------------------------------- smtp-sink

/// Postfix's `smtp-sink`: takes anything quickly, has no TLS, and can be told
/// to misbehave. [`ReceivedMessage::trace`] has the client's HELO, MAIL and
/// RCPT arguments with their parameters (`X-Helo-Args` and so on).
pub struct SmtpSink(Instance);

impl SmtpSink {
    /// Starts a sink that takes everything.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts a sink with more options, see smtp-sink(1): `-r data` refuses
    /// for now, `-f rcpt` refuses for good, `-q mail` hangs up, `-w 3` is
    /// slow, `-e` knows no EHLO, `-8` no 8BITMIME.
    pub fn start_with(arguments: &[&str]) -> Self {
        Self(Instance::start("sink", &Options::default(), |site| {
            make_dir(&site.dir.join("mail"), "nobody", 0o700);
            let mut argv = words(&["smtp-sink", "-u", "nobody", "-h", site.hostname, "-d"]);
            argv.push(site.dir.join("mail/new.").into());
            argv.extend(words(arguments));
            argv.push(format!("127.0.0.1:{}", site.port).into());
            argv.push("100".into());
            argv
        }))
    }

    /// Dumps that the sink has finished.
    fn dumps(&self) -> Vec<PathBuf> {
        let mut found = files_by_age(&self.0.dir().join("mail"), "new.");
        // It never opens a dump again once it has closed it.
        found.retain(|path| !self.0.has_open(path));
        found
    }
}

impl Upstream for SmtpSink {
    fn instance(&self) -> &Instance {
        &self.0
    }

    fn count(&self) -> usize {
        self.dumps().len()
    }

    fn messages(&self) -> Vec<ReceivedMessage> {
        self.dumps()
            .iter()
            .map(|path| {
                let mut stored = read(path);
                // The sink puts an empty line after each message.
                stored.pop_if(|last| *last == b'\n');
                // As many X-Rcpt-Args as there are recipients.
                let text = String::from_utf8_lossy(&stored).into_owned();
                let rcpts: Vec<String> = text
                    .lines()
                    .map_while(|line| line.strip_prefix("X-").map(|_| line))
                    .filter_map(|line| line.strip_prefix("X-Rcpt-Args:"))
                    .map(in_brackets)
                    .collect();
                let mut own = vec![
                    "X-Client-Addr",
                    "X-Client-Proto",
                    "X-Helo-Args",
                    "X-Mail-Args",
                ];
                own.extend(rcpts.iter().map(|_| "X-Rcpt-Args"));
                own.push("Received");
                let (trace, raw) = split_trace(&stored, &own);
                ReceivedMessage {
                    raw,
                    mail_from: trace_value(&trace, "X-Mail-Args").map(|v| in_brackets(&v)),
                    rcpts,
                    trace,
                }
            })
            .collect()
    }
}

// ------------------------------------------------------------------ clients

/// TLS of a client.
#[derive(Clone, Copy, Debug, Default)]
pub enum ClientTls<'a> {
    /// None.
    #[default]
    Off,
    /// STARTTLS is required; the certificate is checked against this PEM file
    /// for the name `localhost`, or not at all.
    StartTls(Option<&'a Path>),
    /// TLS from the first byte, with the same check.
    Implicit(Option<&'a Path>),
}

impl<'a> ClientTls<'a> {
    fn ca(self) -> Option<&'a Path> {
        match self {
            Self::Off => None,
            Self::StartTls(ca) | Self::Implicit(ca) => ca,
        }
    }
}

/// What a client shall send, and how. `Submission { port, from, rcpts,
/// message, ..Submission::default() }` sends in clear text without login.
#[derive(Clone, Copy, Debug, Default)]
pub struct Submission<'a> {
    /// Port on 127.0.0.1.
    pub port: u16,
    /// Envelope sender; empty for `<>` (msmtp cannot do that).
    pub from: &'a str,
    /// Envelope recipients.
    pub rcpts: &'a [&'a str],
    /// The message with CRLF line ends, dots not stuffed.
    pub message: &'a [u8],
    /// TLS to use.
    pub tls: ClientTls<'a>,
    /// User and password to log in with.
    pub login: Option<(&'a str, &'a str)>,
    /// SASL mechanism (`PLAIN`, `LOGIN`, `CRAM-MD5`); the client chooses if
    /// there is none.
    pub mechanism: Option<&'a str>,
}

/// A command that ends by itself after [`RUN_LIMIT`] seconds.
fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command
        .args(["--kill-after=5", RUN_LIMIT])
        .arg(name)
        .env("LC_ALL", "C")
        .env("PATH", SEARCH_PATH);
    command
}

/// Runs a command with this input; what it does not read is lost.
fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut stdin = child.stdin.take().expect("a pipe");
    thread::scope(|scope| {
        // Moved into the thread: closed when everything is written.
        scope.spawn(move || {
            let _ = stdin.write_all(input);
        });
        child
            .wait_with_output()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"))
    })
}

/// Runs `swaks` with these arguments; `--server 127.0.0.1:PORT` is the
/// caller's to give. Its configuration files are not read.
pub fn swaks(args: &[&str]) -> Output {
    let mut command = program("swaks");
    command.args(["--timeout", "30"]).args(args);
    command.env("SWAKS_HOME", "/nonexistent");
    run(&mut command, b"")
}

/// Sends with `msmtp`. It completes the header (Date, Message-ID, From) where
/// that lacks, and drops Bcc.
pub fn msmtp(what: &Submission) -> Output {
    let dir = tempfile::tempdir().expect("create a directory");
    let mut conf = format!(
        "account default\nhost 127.0.0.1\nport {}\ntimeout 30\nfrom {}\n",
        what.port, what.from
    );
    match what.tls {
        ClientTls::Off => conf.push_str("tls off\n"),
        ClientTls::StartTls(_) => conf.push_str("tls on\ntls_starttls on\n"),
        ClientTls::Implicit(_) => conf.push_str("tls on\ntls_starttls off\n"),
    }
    match (what.tls, what.tls.ca()) {
        (ClientTls::Off, _) => {}
        (_, None) => conf.push_str("tls_certcheck off\n"),
        (_, Some(ca)) => {
            let _ = write!(
                conf,
                "tls_trust_file {}\ntls_host_override localhost\n",
                ca.display()
            );
        }
    }
    if let Some((user, password)) = what.login {
        // "on" would refuse to send a password in clear text.
        let mechanism = what.mechanism.unwrap_or("plain").to_lowercase();
        let _ = write!(
            conf,
            "auth {mechanism}\nuser {user}\npassword \"{password}\"\n"
        );
    }
    // msmtp refuses passwords in files that others can read.
    let path = dir.path().join("msmtprc");
    write(&path, &conf, 0o600);
    let mut command = program("msmtp");
    command.arg("-C").arg(&path).arg("--").args(what.rcpts);
    // It makes CRLF of every LF itself.
    run(&mut command, &to_lf(what.message))
}

/// Sends with `curl`, which leaves the message as it is.
pub fn curl_smtp(what: &Submission) -> Output {
    let scheme = match what.tls {
        ClientTls::Implicit(_) => "smtps",
        _ => "smtp",
    };
    // A name, so that a certificate can be checked for it.
    let url = format!("{scheme}://localhost:{}/client.test", what.port);
    let mut command = program("curl");
    command
        .args(["--disable", "--silent", "--show-error", "--ipv4"])
        .args(["--noproxy", "*"])
        .args(["--resolve", &format!("localhost:{}:127.0.0.1", what.port)])
        .args(["--url", &url, "--mail-from", what.from]);
    for rcpt in what.rcpts {
        command.args(["--mail-rcpt", rcpt]);
    }
    if !matches!(what.tls, ClientTls::Off) {
        command.arg("--ssl-reqd");
        match what.tls.ca() {
            Some(ca) => command.arg("--cacert").arg(ca),
            None => command.arg("--insecure"),
        };
    }
    if let Some((user, password)) = what.login {
        command.args(["--user", &format!("{user}:{password}")]);
        if let Some(mechanism) = what.mechanism {
            command.args(["--login-options", &format!("AUTH={mechanism}")]);
        }
    }
    command.args(["--upload-file", "-"]);
    run(&mut command, what.message)
}

/// Arguments: port, off|starttls|implicit, CA file, user, password, mechanism,
/// sender, recipients.
const SMTPLIB: &str = r#"
import smtplib, ssl, sys
port, tls, ca, user, password, mechanism, sender, *rcpts = sys.argv[1:]
message = sys.stdin.buffer.read()
context = ssl.create_default_context(cafile=ca or None)
if not ca:
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
class Client(smtplib.SMTP_SSL if tls == "implicit" else smtplib.SMTP):
    def __init__(self):
        more = {"context": context} if tls == "implicit" else {}
        super().__init__("localhost", int(port), local_hostname="client.test", timeout=30, **more)
    def _get_socket(self, host, port, timeout):
        import socket
        plain = socket.create_connection(("127.0.0.1", port), timeout)
        if tls == "implicit":
            return context.wrap_socket(plain, server_hostname=host)
        return plain
try:
    with Client() as client:
        client.ehlo_or_helo_if_needed()
        if tls == "starttls":
            client.starttls(context=context)
            client.ehlo()
        if user:
            if mechanism:
                client.user, client.password = user, password
                method = getattr(client, "auth_" + mechanism.lower().replace("-", "_"))
                client.auth(mechanism, method)
            else:
                client.login(user, password)
        options = ["BODY=8BITMIME"] if max(message, default=0) > 127 else []
        refused = client.sendmail(sender, rcpts, message, mail_options=options)
except (smtplib.SMTPException, OSError) as error:
    sys.exit("%s: %s" % (type(error).__name__, error))
for rcpt, (code, text) in refused.items():
    print(rcpt, code, text.decode("utf-8", "replace"), file=sys.stderr)
sys.exit(2 if refused else 0)
"#;

/// Sends with Python's `smtplib`, which leaves the message as it is. Status 1
/// stands for an error and 2 for a message that some recipients do not get;
/// either way the answers are on standard error.
pub fn smtplib(what: &Submission) -> Output {
    let (user, password) = what.login.unwrap_or_default();
    let mut command = program("/usr/bin/python3");
    command
        .args(["-I", "-c", SMTPLIB, &what.port.to_string()])
        .arg(match what.tls {
            ClientTls::Off => "off",
            ClientTls::StartTls(_) => "starttls",
            ClientTls::Implicit(_) => "implicit",
        })
        .arg(what.tls.ca().unwrap_or(Path::new("")))
        .args([user, password, what.mechanism.unwrap_or(""), what.from])
        .args(what.rcpts);
    run(&mut command, what.message)
}

// ---------------------------------------------------------------- verifiers

/// What a verifier says about one DKIM-Signature field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DkimResult {
    /// Tag `a`: `rsa-sha256`, `ed25519-sha256`.
    pub algorithm: String,
    /// Tag `d`.
    pub domain: String,
    /// Tag `s`.
    pub selector: String,
    /// Whether the signature is good.
    pub valid: bool,
    /// The verifier's own words.
    pub detail: String,
}

/// Reads the records and messages that [`verify`] writes.
const DKIMPY: &str = r#"
import sys
import dkim
from dkim.util import parse_tag_value
source = sys.stdin.buffer
line = lambda: source.readline().rstrip(b"\n")
records = {}
for _ in range(int(line())):
    name, text = line().split(b"\t", 1)
    records[name.rstrip(b".").lower()] = text
def lookup(name, timeout=5):
    name = name if isinstance(name, bytes) else name.encode()
    return records.get(name.rstrip(b".").lower())
def tell(*fields):
    print(*(" ".join(str(f).split()) for f in fields), sep="\t")
for number in range(int(line())):
    raw = source.read(int(line()))
    try:
        fields = [v for n, v in dkim.DKIM(raw).headers if n.lower() == b"dkim-signature"]
    except dkim.DKIMException as error:
        tell(number, "", "", "", 0, error)
        continue
    for index, value in enumerate(fields):
        tags = {}
        try:
            tags = parse_tag_value(value)
            good, detail = dkim.DKIM(raw).verify(idx=index, dnsfunc=lookup), ""
        except Exception as error:
            good, detail = False, "%s: %s" % (type(error).__name__, error)
        names = [tags.get(t, b"").decode("utf-8", "replace") for t in (b"a", b"d", b"s")]
        tell(number, *names, int(good), detail or ("pass" if good else "fail"))
"#;

/// The same for Mail::DKIM.
const MAIL_DKIM: &str = r#"
use strict; use warnings;
use Mail::DKIM::Verifier; use Mail::DKIM::DNS; use Net::DNS;
binmode STDIN; binmode STDOUT;
sub line { my $text = <STDIN>; chomp $text; return $text }
my %records;
for (1 .. line()) {
    my ($name, $text) = split /\t/, line(), 2;
    $name =~ s/\.$//;
    $records{lc $name} = $text;
}
{
    no warnings 'redefine';
    *Mail::DKIM::DNS::query = sub {
        my ($name, $type) = @_;
        $name =~ s/\.$//;
        my $text = $records{lc $name};
        # None, and no error: there is no such record.
        if (!defined $text || $type ne 'TXT') { $@ = ''; return }
        return Net::DNS::RR->new(owner => $name, type => 'TXT', txtdata => [unpack '(a255)*', $text]);
    };
}
my $last = line() - 1;
for my $number (0 .. $last) {
    my ($length, $raw) = (line(), '');
    if ($length) { read(STDIN, $raw, $length) == $length or die "input ends early\n" }
    my $verifier = Mail::DKIM::Verifier->new;
    $verifier->PRINT($raw);
    $verifier->CLOSE;
    for my $signature ($verifier->signatures) {
        my @fields = ($number, $signature->algorithm, $signature->domain, $signature->selector,
            ($signature->result // '') eq 'pass' ? 1 : 0, $signature->result_detail);
        print join("\t", map { my $f = $_ // ''; $f =~ s/\s+/ /g; $f } @fields), "\n";
    }
}
"#;

/// Verifies every DKIM-Signature of a message with dkimpy (RSA and Ed25519),
/// in the order of the fields. `raw` has CRLF line ends; `records` are pairs
/// of the name (`selector._domainkey.domain`) and its TXT record.
pub fn dkimpy_verify(raw: &[u8], records: &[(String, String)]) -> Vec<DkimResult> {
    dkimpy_verify_all(&[raw], records).swap_remove(0)
}

/// The same for many messages by one process; one list for each message.
pub fn dkimpy_verify_all<R: AsRef<[u8]>>(
    raws: &[R],
    records: &[(String, String)],
) -> Vec<Vec<DkimResult>> {
    let mut command = program(peer("venv/bin/python"));
    command.args(["-I", "-c", DKIMPY]);
    verify(command, raws, records)
}

/// Verifies every DKIM-Signature of a message with Perl's Mail::DKIM. Debian
/// 12's knows RSA only: an Ed25519 signature is not valid for it (unsupported
/// algorithm).
pub fn mail_dkim_verify(raw: &[u8], records: &[(String, String)]) -> Vec<DkimResult> {
    mail_dkim_verify_all(&[raw], records).swap_remove(0)
}

/// The same for many messages by one process; one list for each message.
pub fn mail_dkim_verify_all<R: AsRef<[u8]>>(
    raws: &[R],
    records: &[(String, String)],
) -> Vec<Vec<DkimResult>> {
    let mut command = program("/usr/bin/perl");
    command.args(["-e", MAIL_DKIM]);
    verify(command, raws, records)
}

/// Hands records and messages to a verifier and reads its lines.
fn verify<R: AsRef<[u8]>>(
    mut command: Command,
    raws: &[R],
    records: &[(String, String)],
) -> Vec<Vec<DkimResult>> {
    let mut input = format!("{}\n", records.len()).into_bytes();
    for (name, text) in records {
        assert!(
            !name.contains(['\t', '\n']) && !text.contains('\n'),
            "a DNS record is one line: {name} {text}"
        );
        input.extend_from_slice(format!("{name}\t{text}\n").as_bytes());
    }
    input.extend_from_slice(format!("{}\n", raws.len()).as_bytes());
    for raw in raws {
        let raw = raw.as_ref();
        input.extend_from_slice(format!("{}\n", raw.len()).as_bytes());
        input.extend_from_slice(raw);
    }
    let done = run(&mut command, &input);
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{}: {errors}", done.status);
    let mut results = vec![Vec::new(); raws.len()];
    for line in String::from_utf8_lossy(&done.stdout).lines() {
        let fields: Vec<&str> = line.split('\t').collect();
        let [number, algorithm, domain, selector, valid, detail] = fields[..] else {
            panic!("the verifier says: {line}");
        };
        let number: usize = number.parse().expect("number of the message");
        results[number].push(DkimResult {
            algorithm: algorithm.into(),
            domain: domain.into(),
            selector: selector.into(),
            valid: valid == "1",
            detail: detail.into(),
        });
    }
    results
}
