//! Replies: written as a server, parsed as a client (RFC 5321 section 4.2, RFC 2034).

use std::fmt;

/// Most bytes of one reply line that are kept; the rest of the line is skipped.
pub const LINE_KEPT: usize = 1024;
/// Most lines of one reply; a server that sends more is not served further.
pub const LINES_LIMIT: usize = 128;
/// Most bytes of one reply in all.
pub const REPLY_LIMIT: usize = 64 * 1024;

/// An enhanced status code, `class.subject.detail` (RFC 3463).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Enhanced(pub u8, pub u16, pub u16);

impl Enhanced {
    /// Parses `5.7.139`; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let (class, subject, detail) = (parts.next()?, parts.next()?, parts.next()?);
        if parts.next().is_some() || !matches!(class, "2" | "4" | "5") {
            return None;
        }
        let number = |part: &str| {
            (!part.is_empty() && part.len() <= 3 && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse().ok())
                .flatten()
        };
        Some(Self(class.parse().ok()?, number(subject)?, number(detail)?))
    }
}

impl fmt::Display for Enhanced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// One reply of a server: ours to an application, or an upstream's to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The basic code, 200 to 599.
    pub code: u16,
    /// The enhanced code, where one was given and its class fits the basic code.
    pub enhanced: Option<Enhanced>,
    /// The text without codes, one entry a line. Free of control characters.
    pub lines: Vec<String>,
}

impl Reply {
    /// A reply of one line without an enhanced code: greeting, EHLO, 3xx.
    pub fn plain(code: u16, text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced: None,
            lines: vec![text.into()],
        }
    }

    /// A reply of one line with its enhanced code.
    pub fn new(code: u16, enhanced: (u8, u16, u16), text: impl Into<String>) -> Self {
        Self {
            code,
            enhanced: Some(Enhanced(enhanced.0, enhanced.1, enhanced.2)),
            lines: vec![text.into()],
        }
    }

    /// A reply of several lines (EHLO).
    pub fn multi(code: u16, lines: Vec<String>) -> Self {
        Self {
            code,
            enhanced: None,
            lines,
        }
    }

    /// 2xx.
    pub fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// 4xx.
    pub fn is_transient(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5xx.
    pub fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// All lines joined by one space.
    pub fn text(&self) -> String {
        self.lines.join(" ")
    }

    /// Writes the reply as it goes over the wire.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let last = self.lines.len().saturating_sub(1);
        for (i, line) in self.lines.iter().enumerate() {
            let separator = if i == last { ' ' } else { '-' };
            out.extend_from_slice(format!("{}{separator}", self.code).as_bytes());
            if let Some(enhanced) = self.enhanced {
                out.extend_from_slice(format!("{enhanced} ").as_bytes());
            }
            out.extend(
                line.bytes()
                    .map(|b| if b < 0x20 || b == 0x7f { b'?' } else { b }),
            );
            out.extend_from_slice(b"\r\n");
        }
    }
}

impl fmt::Display for Reply {
    /// On one line, as it stands in logs and bounces: `550 5.1.1 No such user`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        let text = self.text();
        if !text.is_empty() {
            write!(f, " {text}")?;
        }
        Ok(())
    }
}

/// Why bytes from an upstream are not a reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ReplyError {
    /// A line without three digits and a separator.
    #[error("a line that is not an SMTP reply")]
    Malformed,
    /// Lines of one reply with different codes.
    #[error("a reply whose lines have different codes")]
    MixedCodes,
    /// More lines or bytes than any honest server sends.
    #[error("a reply without end")]
    TooLong,
}

/// Takes replies out of a byte stream, piece by piece. Bounded: keeps at most [`REPLY_LIMIT`].
#[derive(Debug, Default)]
pub struct ReplyParser {
    line: Vec<u8>,
    line_length: usize,
    total: usize,
    code: Option<u16>,
    enhanced: Option<Enhanced>,
    lines: Vec<String>,
}

impl ReplyParser {
    /// Whether nothing of a next reply has arrived yet.
    pub fn is_idle(&self) -> bool {
        self.line_length == 0 && self.code.is_none()
    }

    /// The first bytes of an unfinished line, to tell what speaks there instead of SMTP.
    pub fn pending(&self) -> &[u8] {
        &self.line
    }

    /// Feeds bytes; gives how many were used and, when one is complete, the reply. Bytes behind
    /// a complete reply are left to the caller.
    pub fn feed(&mut self, input: &[u8]) -> Result<(usize, Option<Reply>), ReplyError> {
        let mut used = 0;
        while used < input.len() {
            let rest = &input[used..];
            let (chunk, complete) = match memchr::memchr(b'\n', rest) {
                Some(end) => (&rest[..=end], true),
                None => (rest, false),
            };
            used += chunk.len();
            self.total += chunk.len();
            self.line_length += chunk.len();
            if self.total > REPLY_LIMIT {
                return Err(ReplyError::TooLong);
            }
            let room = LINE_KEPT.saturating_sub(self.line.len());
            self.line.extend_from_slice(&chunk[..chunk.len().min(room)]);
            if complete && let Some(reply) = self.end_line()? {
                return Ok((used, Some(reply)));
            }
        }
        Ok((used, None))
    }

    fn end_line(&mut self) -> Result<Option<Reply>, ReplyError> {
        let line = std::mem::take(&mut self.line);
        self.line_length = 0;
        let line = line.trim_ascii_end();
        let (digits, rest) = line.split_at_checked(3).ok_or(ReplyError::Malformed)?;
        let code = match digits {
            [a @ b'2'..=b'5', b @ b'0'..=b'9', c @ b'0'..=b'9'] => {
                u16::from(a - b'0') * 100 + u16::from(b - b'0') * 10 + u16::from(c - b'0')
            }
            _ => return Err(ReplyError::Malformed),
        };
        let (last, text) = match rest.split_first() {
            None => (true, &rest[..0]),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(ReplyError::Malformed),
        };
        if self.code.is_some_and(|first| first != code) {
            return Err(ReplyError::MixedCodes);
        }
        self.code = Some(code);
        let text = clean(text);
        let text = match text.split_once(' ').unwrap_or((&text, "")) {
            (word, tail) if Enhanced::parse(word).is_some() => {
                let found = Enhanced::parse(word).filter(|e| u16::from(e.0) == code / 100);
                self.enhanced = self.enhanced.or(found);
                tail.trim_start().to_owned()
            }
            _ => text.trim_start().to_owned(),
        };
        self.lines.push(text);
        if self.lines.len() > LINES_LIMIT {
            return Err(ReplyError::TooLong);
        }
        if !last {
            return Ok(None);
        }
        let reply = Reply {
            code,
            enhanced: self.enhanced.take(),
            lines: std::mem::take(&mut self.lines),
        };
        *self = Self::default();
        Ok(Some(reply))
    }
}

/// Text from outside made fit for logs, terminals and bounces: valid UTF-8 without controls.
pub fn clean(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(input: &[u8]) -> Result<(usize, Option<Reply>), ReplyError> {
        ReplyParser::default().feed(input)
    }

    #[test]
    fn parses() {
        let (used, reply) =
            parse(b"250-first\r\n250-SIZE 1000\r\n250 last\r\n250 next").expect("valid");
        let reply = reply.expect("complete");
        assert_eq!((used, reply.code, reply.lines.len()), (36, 250, 3));
        let (_, reply) = parse(b"550 5.7.139 Authentication unsuccessful\r\n").expect("valid");
        let reply = reply.expect("complete");
        assert_eq!(reply.enhanced, Some(Enhanced(5, 7, 139)));
        assert_eq!(reply.to_string(), "550 5.7.139 Authentication unsuccessful");
        let (_, reply) = parse(b"550 4.1.1 mismatch\r\n").expect("valid");
        assert_eq!(
            reply.expect("complete").enhanced,
            None,
            "the basic code wins"
        );
        let (_, reply) = parse(b"354\r\n").expect("valid");
        assert_eq!(reply.expect("complete").code, 354);
        let (_, reply) = parse(b"250 \x1b[31mred\x00\r\n").expect("valid");
        assert_eq!(reply.expect("complete").lines[0], "?[31mred?");
    }

    #[test]
    fn refuses() {
        for bad in [
            &b"hello\r\n"[..],
            b"25\r\n",
            b"999 x\r\n",
            b"25O x\r\n",
            b"250-a\r\n550 b\r\n",
            b"\r\n",
            b"250_x\r\n",
            b"HTTP/1.1 400\r\n",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse(&b"250-x\r\n".repeat(200)), Err(ReplyError::TooLong));
        assert_eq!(parse(&[b'2'; 100_000]), Err(ReplyError::TooLong));
    }

    #[test]
    fn any_split() {
        let whole = b"250-a\r\n250 2.0.0 b\r\n";
        for cut in 0..whole.len() {
            let mut parser = ReplyParser::default();
            let (_, first) = parser.feed(&whole[..cut]).expect("valid");
            assert!(first.is_none());
            let (_, second) = parser.feed(&whole[cut..]).expect("valid");
            assert_eq!(second.expect("complete").lines, ["a", "b"]);
        }
    }

    #[test]
    fn writes_without_controls() {
        let mut out = Vec::new();
        Reply::new(550, (5, 7, 1), "no\r\n250 yes").write_to(&mut out);
        assert_eq!(out, b"550 5.7.1 no??250 yes\r\n");
    }
}
