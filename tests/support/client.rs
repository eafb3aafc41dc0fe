//! A plain SMTP client that sends exactly what it is told.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

pub struct Client {
    reader: BufReader<TcpStream>,
}

impl Client {
    /// Connects and reads the greeting.
    pub fn connect(port: u16) -> Self {
        let mut client = Self::silent(port);
        let greeting = client.reply();
        assert!(greeting.starts_with("220 "), "{greeting}");
        client
    }

    /// Connects and reads nothing.
    pub fn silent(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("connect");
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        Self {
            reader: BufReader::new(stream),
        }
    }

    pub fn raw(&mut self, bytes: &[u8]) {
        self.reader.get_mut().write_all(bytes).expect("write");
    }

    /// One reply, lines joined by `\n`; empty at the end of the connection.
    pub fn reply(&mut self) -> String {
        let mut out = String::new();
        loop {
            let mut line = String::new();
            match self.reader.read_line(&mut line) {
                Ok(0) | Err(_) => return out,
                Ok(_) => {}
            }
            let line = line.trim_end();
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(line);
            if line.as_bytes().get(3) != Some(&b'-') {
                return out;
            }
        }
    }

    /// Sends a line and gives the reply.
    pub fn send(&mut self, line: &str) -> String {
        self.raw(format!("{line}\r\n").as_bytes());
        self.reply()
    }

    /// Sends a line whose reply must begin so.
    pub fn expect(&mut self, line: &str, reply: &str) -> String {
        let got = self.send(line);
        assert!(
            got.starts_with(reply),
            "{line:?}: expected {reply}, got {got}"
        );
        got
    }

    /// Whether the server has closed.
    pub fn is_closed(&mut self) -> bool {
        let mut byte = [0u8; 1];
        matches!(self.reader.read(&mut byte), Ok(0) | Err(_))
    }

    /// Logs in with PLAIN.
    pub fn login(&mut self, login: &str, password: &str) -> String {
        use base64::Engine as _;
        let response =
            base64::engine::general_purpose::STANDARD.encode(format!("\0{login}\0{password}"));
        self.send(&format!("AUTH PLAIN {response}"))
    }

    /// A whole transaction after EHLO; gives the reply to the final dot.
    pub fn message(&mut self, from: &str, to: &[&str], text: &str) -> String {
        self.expect(&format!("MAIL FROM:<{from}>"), "250");
        for to in to {
            self.expect(&format!("RCPT TO:<{to}>"), "250");
        }
        self.content(text)
    }

    /// DATA and content (with CRLF line ends); gives the reply to the final dot.
    pub fn content(&mut self, text: &str) -> String {
        self.expect("DATA", "354");
        let stuffed = text.replace("\r\n.", "\r\n..");
        self.raw(stuffed.as_bytes());
        self.raw(if text.ends_with("\r\n") {
            b".\r\n"
        } else {
            b"\r\n.\r\n"
        });
        self.reply()
    }
}

/// The id in `250 … queued as ID`.
pub fn id_of(reply: &str) -> String {
    reply
        .rsplit("queued as ")
        .next()
        .unwrap_or_else(|| panic!("no id in {reply}"))
        .trim()
        .to_owned()
}

/// Hands in one message over a fresh connection; gives its id. `login`: as `name:password`.
pub fn submit(port: u16, login: Option<&str>, from: &str, to: &[&str], text: &str) -> String {
    let mut client = Client::connect(port);
    client.expect("EHLO test", "250");
    if let Some((name, password)) = login.and_then(|l| l.split_once(':')) {
        let reply = client.login(name, password);
        assert!(reply.starts_with("235"), "{reply}");
    }
    let reply = client.message(from, to, text);
    assert!(reply.starts_with("250 2.0.0"), "{reply}");
    client.expect("QUIT", "221");
    id_of(&reply)
}

/// A small message.
pub fn text(subject: &str) -> String {
    format!(
        "From: app@localhost\r\nTo: somebody@else.example\r\nSubject: {subject}\r\n\r\nHello,\r\nthis is {subject}.\r\n"
    )
}
