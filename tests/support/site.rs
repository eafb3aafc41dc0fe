//! An installation: configuration in a fresh directory, and the server while it runs.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Instant;

use super::LIMIT;

/// The program under test.
pub fn program() -> &'static str {
    env!("CARGO_BIN_EXE_postbote")
}

/// A fresh installation.
pub struct Site {
    directory: tempfile::TempDir,
}

impl Site {
    /// With the operator's file of that text; `{data}` in it is the data directory.
    pub fn new(operator: &str) -> Self {
        let directory = tempfile::tempdir().expect("tempdir");
        let site = Self { directory };
        std::fs::create_dir(site.path().join("tenants")).expect("tenants");
        site.operator(operator);
        site
    }

    /// The usual operator's file: one listener without a tenant, one admin address, quick retries.
    pub fn usual(more: &str) -> Self {
        Self::new(&format!("{USUAL}\n{more}"))
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn data(&self) -> PathBuf {
        self.path().join("data")
    }

    pub fn config(&self) -> PathBuf {
        self.path().join("postbote.toml")
    }

    /// Writes the operator's file anew.
    pub fn operator(&self, text: &str) {
        std::fs::write(self.config(), text).expect("write configuration");
    }

    /// Writes a tenant's file, as editors do: another file, renamed.
    pub fn tenant(&self, id: &str, text: &str) -> &Self {
        let path = self.path().join("tenants").join(format!("{id}.toml"));
        let temporary = path.with_extension("new");
        std::fs::write(&temporary, text).expect("write tenant");
        std::fs::rename(&temporary, &path).expect("rename tenant");
        self
    }

    /// A tenant that sends over an SMTP server on this port, with further text.
    pub fn smtp_tenant(&self, id: &str, port: u16, more: &str) -> &Self {
        self.tenant(id, &smtp_tenant(id, port, more))
    }

    /// Runs a command to its end.
    pub fn command(&self, arguments: &[&str]) -> Output {
        self.command_with(arguments, b"")
    }

    /// The same with standard input.
    pub fn command_with(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = Command::new(program())
            .args(arguments)
            .env("POSTBOTE_CONFIG", self.config())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let _ = child.stdin.take().expect("stdin").write_all(input);
        child.wait_with_output().expect("wait")
    }

    /// Standard output of a command that must succeed.
    pub fn output(&self, arguments: &[&str]) -> String {
        let output = self.command(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("utf-8")
    }

    /// `queue list --json`.
    pub fn queue(&self) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.output(&["queue", "list", "--json"])).expect("json")
    }

    /// Starts the server and waits until it serves.
    pub fn start(&self) -> Server {
        Server::start(self, &[])
    }
}

pub const USUAL: &str = r#"
[server]
hostname = "postbote.test"
data_dir = "data"
language = "en"
drain = "5s"

[[listener]]
name = "in"
address = "127.0.0.1:0"

[admin]
address = "127.0.0.1:0"

[retry]
first = "1s"
maximum = "1s"
"#;

/// The text of a tenant's file.
pub fn smtp_tenant(id: &str, port: u16, more: &str) -> String {
    format!(
        "name = \"Tenant {id}\"\nemail = \"office@{id}.example\"\n{more}\n[upstream]\nhost = \"127.0.0.1\"\nencryption = \"none\"\nport = {port}\n"
    )
}

#[derive(Default)]
struct Log {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

/// A running server; killed when dropped.
pub struct Server {
    child: Child,
    log: Arc<Log>,
}

impl Server {
    /// Starts it, with a wrapper program in front if one is given.
    pub fn start(site: &Site, wrapper: &[&str]) -> Self {
        let server = Self::spawn(site, wrapper);
        server.wait_log("event=started");
        server
    }

    /// Starts it without waiting.
    pub fn spawn(site: &Site, wrapper: &[&str]) -> Self {
        let mut words: Vec<&str> = wrapper.to_vec();
        words.push(program());
        let mut child = Command::new(words[0])
            .args(&words[1..])
            .arg("run")
            .env("POSTBOTE_CONFIG", site.config())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("spawn");
        let stderr = child.stderr.take().expect("stderr");
        let log = Arc::new(Log::default());
        let writer = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                writer.lines.lock().expect("log").push(line);
                writer.grown.notify_all();
            }
            writer
                .lines
                .lock()
                .expect("log")
                .push("(end of log)".to_owned());
            writer.grown.notify_all();
        });
        Self { child, log }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All lines so far.
    pub fn log(&self) -> Vec<String> {
        self.log.lines.lock().expect("log").clone()
    }

    /// Waits for a line that holds all these words; gives it.
    pub fn wait_log(&self, words: &str) -> String {
        self.wait_log_count(words, 1).pop().expect("at least one")
    }

    /// Waits until so many lines hold all these words.
    pub fn wait_log_count(&self, words: &str, count: usize) -> Vec<String> {
        let fits = |line: &String| words.split(' ').all(|word| line.contains(word));
        let deadline = Instant::now() + LIMIT;
        let mut lines = self.log.lines.lock().expect("log");
        loop {
            let found: Vec<String> = lines.iter().filter(|l| fits(l)).cloned().collect();
            if found.len() >= count {
                return found;
            }
            let ended = lines.last().is_some_and(|l| l == "(end of log)");
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !ended,
                "no {count} lines with {words:?} in:\n{}",
                lines.join("\n")
            );
            lines = self.log.grown.wait_timeout(lines, left).expect("log").0;
        }
    }

    /// The real address of a listener.
    pub fn address(&self, listener: &str) -> String {
        let line = self.wait_log(&format!("event=listening listener={listener} "));
        line.rsplit("address=").next().expect("address").to_owned()
    }

    pub fn port(&self, listener: &str) -> u16 {
        self.address(listener)
            .rsplit(':')
            .next()
            .expect("port")
            .parse()
            .expect("number")
    }

    /// An HTTP GET at the admin address: status line and body.
    pub fn get(&self, path: &str) -> (String, String) {
        use std::io::Read as _;
        let mut stream = std::net::TcpStream::connect(self.address("admin")).expect("connect");
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        )
        .expect("write");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("read");
        let (head, body) = text.split_once("\r\n\r\n").expect("head");
        (
            head.lines().next().unwrap_or_default().to_owned(),
            body.to_owned(),
        )
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).expect("pid"))
            .expect("pid");
        rustix::process::kill_process(pid, signal).expect("signal");
    }

    pub fn hangup(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// SIGTERM, then waits for the end; gives exit code and log.
    pub fn stop(mut self) -> (Option<i32>, Vec<String>) {
        self.signal(rustix::process::Signal::TERM);
        let status = self.child.wait().expect("wait");
        (status.code(), self.log())
    }

    /// Waits for the end of a server that ends by itself.
    pub fn wait(mut self) -> (Option<i32>, Vec<String>) {
        let status = self.child.wait().expect("wait");
        let deadline = Instant::now() + LIMIT;
        let mut lines = self.log.lines.lock().expect("log");
        while lines.last().is_none_or(|l| l != "(end of log)") {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the log does not end");
            lines = self.log.grown.wait_timeout(lines, left).expect("log").0;
        }
        (status.code(), lines.clone())
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until a condition gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + LIMIT;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
        // A condition of another process: looked at again at short intervals.
        std::thread::park_timeout(std::time::Duration::from_millis(20));
    }
}
