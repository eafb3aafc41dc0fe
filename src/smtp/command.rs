//! Commands of a client, parsed leniently: what tills, scanners and old ERP systems really send
//! (RFC 5321 section 4.1, RFC 1870, RFC 3461, RFC 4954, RFC 6152, RFC 6531).

use super::address::{Address, AddressError};
use super::xtext;

/// Longest command line in octets, line end included.
pub const LINE_LIMIT: usize = 4096;
/// Longest SASL response line in octets (RFC 4954 section 4).
pub const SASL_LINE_LIMIT: usize = 12_288;
/// Longest parameters of one MAIL or RCPT command in octets.
pub const PARAMETERS_LIMIT: usize = 1000;

/// A parsed command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// EHLO with whatever the client calls itself.
    Ehlo(String),
    /// HELO, the same.
    Helo(String),
    /// MAIL FROM.
    Mail(MailFrom),
    /// RCPT TO.
    Rcpt(RcptTo),
    /// DATA.
    Data,
    /// RSET.
    Rset,
    /// NOOP.
    Noop,
    /// QUIT.
    Quit,
    /// VRFY.
    Vrfy,
    /// HELP.
    Help,
    /// STARTTLS.
    StartTls,
    /// AUTH with the mechanism in upper case and the initial response as it came (base64).
    Auth {
        /// Mechanism.
        mechanism: String,
        /// Initial response, still base64.
        initial: Option<String>,
    },
    /// A verb that we know and do not offer: EXPN, BDAT, ETRN, XCLIENT, …
    NotOffered(&'static str),
    /// Not SMTP at all: HTTP, TLS, a mail header. The connection is closed at once, a browser
    /// must not be able to make us read the rest.
    Foreign,
}

/// MAIL FROM and its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct MailFrom {
    /// `None` is the null return path `<>`.
    pub address: Option<Address>,
    /// What stood there when it has no domain (`<root>`): the session completes it.
    pub bare_local: Option<String>,
    /// SIZE=, octets.
    pub size: Option<u64>,
    /// BODY=8BITMIME was given.
    pub eight_bit: bool,
    /// SMTPUTF8 was given.
    pub smtputf8: bool,
    /// RET=FULL (`Some(true)`) or RET=HDRS.
    pub ret_full: Option<bool>,
    /// ENVID, still xtext.
    pub envid: Option<String>,
}

/// RCPT TO and its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RcptTo {
    /// The recipient; `None` is `<postmaster>` without a domain (RFC 5321 section 4.5.1).
    pub address: Option<Address>,
    /// NOTIFY, as flags.
    pub notify: Option<Notify>,
    /// ORCPT, as it came (`rfc822;a@b`, the address still xtext).
    pub orcpt: Option<String>,
}

/// NOTIFY of RFC 3461.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
pub struct Notify {
    /// SUCCESS
    pub success: bool,
    /// FAILURE
    pub failure: bool,
    /// DELAY
    pub delay: bool,
}

impl Notify {
    /// As it goes to an upstream with DSN.
    pub fn to_parameter(self) -> String {
        let words: Vec<&str> = [
            (self.success, "SUCCESS"),
            (self.failure, "FAILURE"),
            (self.delay, "DELAY"),
        ]
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, word)| *word)
        .collect();
        if words.is_empty() {
            "NEVER".to_owned()
        } else {
            words.join(",")
        }
    }
}

/// Why a line is not a command that we can follow.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommandError {
    /// 500 5.5.2
    #[error("Unknown command")]
    Unknown,
    /// 500 5.5.2: controls or invalid UTF-8 in the line.
    #[error("Command with characters that must not stand there")]
    Characters,
    /// 501 5.5.2: an address that is not UTF-8.
    #[error("Address that is not UTF-8")]
    Encoding,
    /// 500 5.5.2, then closed: a bare CR would hide a second command.
    #[error("Bare carriage return in a command")]
    BareCr,
    /// 501 5.5.4
    #[error("{0}")]
    Argument(&'static str),
    /// 501 5.1.7 (sender) or 5.1.3 (recipient).
    #[error("Bad address: {0}")]
    Address(AddressError),
    /// 553 5.6.7: an address beyond ASCII without the SMTPUTF8 parameter.
    #[error("Address needs the SMTPUTF8 parameter")]
    NeedsUtf8,
    /// 555 5.5.4
    #[error("Unknown parameter {0}")]
    Parameter(String),
}

/// Parses one line, line end already removed.
pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
    let line = line.trim_ascii_end();
    if line.starts_with(&[0x16, 0x03]) || line.starts_with(&[0x80]) {
        return Ok(Command::Foreign);
    }
    if line.contains(&b'\r') {
        return Err(CommandError::BareCr);
    }
    let is_envelope = is_verb(line, b"MAIL") || is_verb(line, b"RCPT");
    let text = std::str::from_utf8(line).map_err(|_| {
        if is_envelope {
            CommandError::Encoding
        } else {
            CommandError::Characters
        }
    })?;
    if text.chars().any(|c| c.is_control() && c != '\t') {
        return Err(if is_envelope && !text.contains('\0') {
            CommandError::Address(AddressError::Control)
        } else {
            CommandError::Characters
        });
    }
    let text = text.trim_start();
    let (verb, rest) = match text.find([' ', '\t', ':']) {
        Some(end) if !text[end..].starts_with(':') => (&text[..end], text[end..].trim()),
        Some(end) => (&text[..=end], text[end + 1..].trim()),
        None => (text, ""),
    };
    match verb.to_ascii_uppercase().as_str() {
        "EHLO" => Ok(Command::Ehlo(rest.to_owned())),
        "HELO" => Ok(Command::Helo(rest.to_owned())),
        "MAIL" => mail(
            strip_keyword(rest, "FROM")
                .ok_or(CommandError::Argument("Syntax: MAIL FROM:<address>"))?,
        ),
        "RCPT" => rcpt(
            strip_keyword(rest, "TO").ok_or(CommandError::Argument("Syntax: RCPT TO:<address>"))?,
        ),
        "DATA" => no_argument(rest, Command::Data),
        "RSET" => Ok(Command::Rset),
        "NOOP" => Ok(Command::Noop),
        "QUIT" => Ok(Command::Quit),
        "VRFY" => Ok(Command::Vrfy),
        "HELP" => Ok(Command::Help),
        "STARTTLS" => no_argument(rest, Command::StartTls),
        "AUTH" => auth(rest),
        "EXPN" => Ok(Command::NotOffered("EXPN")),
        "BDAT" => Ok(Command::NotOffered("BDAT")),
        "ETRN" => Ok(Command::NotOffered("ETRN")),
        "ATRN" => Ok(Command::NotOffered("ATRN")),
        "TURN" => Ok(Command::NotOffered("TURN")),
        "SEND" | "SOML" | "SAML" => Ok(Command::NotOffered("SEND")),
        "XCLIENT" => Ok(Command::NotOffered("XCLIENT")),
        "XFORWARD" => Ok(Command::NotOffered("XFORWARD")),
        "XADR" => Ok(Command::NotOffered("XADR")),
        "BURL" => Ok(Command::NotOffered("BURL")),
        "GET" | "POST" | "PUT" | "HEAD" | "CONNECT" | "OPTIONS" | "PROXY" => Ok(Command::Foreign),
        "FROM:" | "TO:" | "SUBJECT:" | "DATE:" | "RECEIVED:" | "HOST:" | "CONTENT-TYPE:"
        | "USER-AGENT:" => Ok(Command::Foreign),
        _ => Err(CommandError::Unknown),
    }
}

/// Whether a line has this verb, whatever follows.
pub fn is_verb(line: &[u8], verb: &[u8]) -> bool {
    let line = line.trim_ascii_start();
    line.get(..verb.len())
        .is_some_and(|word| word.eq_ignore_ascii_case(verb))
        && line
            .get(verb.len())
            .is_none_or(|next| matches!(next, b' ' | b'\t'))
}

fn no_argument(rest: &str, command: Command) -> Result<Command, CommandError> {
    if rest.is_empty() {
        Ok(command)
    } else {
        Err(CommandError::Argument("No parameter allowed"))
    }
}

/// Takes `FROM:` or `TO:` off, blanks anywhere around the colon.
fn strip_keyword<'a>(rest: &'a str, keyword: &str) -> Option<&'a str> {
    let head = rest.get(..keyword.len())?;
    if !head.eq_ignore_ascii_case(keyword) {
        return None;
    }
    rest[keyword.len()..]
        .trim_start()
        .strip_prefix(':')
        .map(str::trim_start)
}

fn auth(rest: &str) -> Result<Command, CommandError> {
    let mut words = rest.split_ascii_whitespace();
    let mechanism = words
        .next()
        .ok_or(CommandError::Argument("Syntax: AUTH mechanism"))?;
    let initial = words.next().map(str::to_owned);
    if words.next().is_some() {
        return Err(CommandError::Argument(
            "Syntax: AUTH mechanism [initial-response]",
        ));
    }
    Ok(Command::Auth {
        mechanism: mechanism.to_ascii_uppercase(),
        initial,
    })
}

/// What stands in the path position: the address text and what follows it.
enum Path<'a> {
    Null(&'a str),
    Text(&'a str, &'a str),
}

/// Splits `<address> PARAMETERS`. Without brackets the address ends at the first blank; a display
/// name before the brackets and a source route inside them are dropped (RFC 5321 appendix C).
fn split_path(rest: &str) -> Result<Path<'_>, AddressError> {
    let mut quoted = false;
    let mut escaped = false;
    let mut open = None;
    let mut blank = None;
    for (i, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '<' if open.is_none() => open = Some(i + 1),
            '>' => {
                let Some(start) = open else {
                    return Err(AddressError::LocalPart);
                };
                let inner = rest[start..i].trim();
                let tail = rest[i + 1..].trim_start();
                return Ok(if inner.is_empty() {
                    Path::Null(tail)
                } else {
                    Path::Text(strip_route(inner), tail)
                });
            }
            ' ' | '\t' if open.is_none() && blank.is_none() => blank = Some(i),
            _ => {}
        }
    }
    if open.is_some() || quoted || rest.is_empty() {
        return Err(if rest.is_empty() {
            AddressError::Empty
        } else {
            AddressError::LocalPart
        });
    }
    let end = blank.unwrap_or(rest.len());
    Ok(Path::Text(&rest[..end], rest[end..].trim_start()))
}

fn strip_route(inner: &str) -> &str {
    if inner.starts_with('@') {
        match inner.split_once(':') {
            Some((_, address)) => address,
            None => inner,
        }
    } else {
        inner
    }
}

/// `NAME=value` pairs; each name once.
fn parameters(tail: &str) -> Result<Vec<(String, Option<&str>)>, CommandError> {
    if tail.len() > PARAMETERS_LIMIT {
        return Err(CommandError::Argument("Parameters too long"));
    }
    let mut found: Vec<(String, Option<&str>)> = Vec::new();
    let mut comment = false;
    for word in tail.split_ascii_whitespace() {
        // A comment behind the address (RFC 5322 syntax) says nothing.
        if comment || word.starts_with('(') {
            comment = !word.ends_with(')');
            continue;
        }
        let (name, value) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (word, None),
        };
        let name = name.to_ascii_uppercase();
        if found.iter().any(|(known, _)| *known == name) {
            return Err(CommandError::Argument("Parameter given twice"));
        }
        found.push((name, value));
    }
    Ok(found)
}

fn mail(rest: &str) -> Result<Command, CommandError> {
    let mut mail = MailFrom::default();
    let tail = match split_path(rest).map_err(CommandError::Address)? {
        Path::Null(tail) => tail,
        Path::Text(text, tail) => {
            match Address::parse(text) {
                Ok(address) => mail.address = Some(address),
                Err(AddressError::NoDomain) if !text.contains('@') => {
                    mail.bare_local = Some(text.to_owned())
                }
                Err(error) => return Err(CommandError::Address(error)),
            }
            tail
        }
    };
    for (name, value) in parameters(tail)? {
        match (name.as_str(), value) {
            ("SIZE", Some(digits)) => {
                let valid = !digits.is_empty()
                    && digits.len() <= 20
                    && digits.bytes().all(|b| b.is_ascii_digit());
                if !valid {
                    return Err(CommandError::Argument(
                        "SIZE is a number of octets, at most 20 digits",
                    ));
                }
                mail.size = Some(digits.parse().unwrap_or(u64::MAX));
            }
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("8BITMIME") => mail.eight_bit = true,
            ("BODY", Some(body)) if body.eq_ignore_ascii_case("7BIT") => {}
            ("SMTPUTF8", None) => mail.smtputf8 = true,
            ("RET", Some(ret)) if ret.eq_ignore_ascii_case("FULL") => mail.ret_full = Some(true),
            ("RET", Some(ret)) if ret.eq_ignore_ascii_case("HDRS") => mail.ret_full = Some(false),
            ("RET", _) => return Err(CommandError::Argument("RET is FULL or HDRS")),
            ("ENVID", Some(envid))
                if !envid.is_empty() && envid.len() <= 100 && xtext::decode(envid).is_some() =>
            {
                mail.envid = Some(envid.to_owned())
            }
            ("ENVID", _) => {
                return Err(CommandError::Argument(
                    "ENVID is at most 100 characters of xtext",
                ));
            }
            // Accepted and not used: only a trusted relay could vouch for it (RFC 4954 section 5).
            ("AUTH", Some(value)) if value == "<>" || xtext::decode(value).is_some() => {}
            ("AUTH", _) => return Err(CommandError::Argument("AUTH is an xtext address or <>")),
            (other, _) => return Err(CommandError::Parameter(other.to_owned())),
        }
    }
    let beyond_ascii = mail
        .address
        .as_ref()
        .is_some_and(|a| !a.as_str().is_ascii());
    if beyond_ascii && !mail.smtputf8 {
        return Err(CommandError::NeedsUtf8);
    }
    Ok(Command::Mail(mail))
}

fn rcpt(rest: &str) -> Result<Command, CommandError> {
    let (address, tail) = match split_path(rest).map_err(CommandError::Address)? {
        Path::Null(_) => return Err(CommandError::Address(AddressError::Empty)),
        Path::Text(text, tail) if text.eq_ignore_ascii_case("postmaster") => (None, tail),
        Path::Text(text, tail) => (
            Some(Address::parse(text).map_err(CommandError::Address)?),
            tail,
        ),
    };
    let mut rcpt = RcptTo {
        address,
        notify: None,
        orcpt: None,
    };
    for (name, value) in parameters(tail)? {
        match (name.as_str(), value) {
            ("NOTIFY", Some(value)) => {
                rcpt.notify = Some(notify(value).ok_or(CommandError::Argument(
                    "NOTIFY is NEVER, or some of SUCCESS,FAILURE,DELAY",
                ))?)
            }
            ("ORCPT", Some(value)) => {
                let valid = value.len() <= 500
                    && value.split_once(';').is_some_and(|(kind, address)| {
                        !kind.is_empty()
                            && xtext::decode(kind).is_some()
                            && if kind.eq_ignore_ascii_case("utf-8") {
                                xtext::decode_utf8(address).is_some()
                            } else {
                                xtext::decode(address).is_some()
                            }
                    });
                if !valid {
                    return Err(CommandError::Argument("ORCPT is type;address in xtext"));
                }
                rcpt.orcpt = Some(value.to_owned());
            }
            ("NOTIFY" | "ORCPT", None) => {
                return Err(CommandError::Argument("Parameter without a value"));
            }
            (other, _) => return Err(CommandError::Parameter(other.to_owned())),
        }
    }
    Ok(Command::Rcpt(rcpt))
}

fn notify(value: &str) -> Option<Notify> {
    if value.eq_ignore_ascii_case("NEVER") {
        return Some(Notify::default());
    }
    let mut notify = Notify::default();
    for word in value.split(',') {
        let flag = match word.to_ascii_uppercase().as_str() {
            "SUCCESS" => &mut notify.success,
            "FAILURE" => &mut notify.failure,
            "DELAY" => &mut notify.delay,
            _ => return None,
        };
        if std::mem::replace(flag, true) {
            return None;
        }
    }
    Some(notify)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mail_of(line: &str) -> MailFrom {
        match parse(line.as_bytes()) {
            Ok(Command::Mail(mail)) => mail,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn lenient_senders() {
        for line in [
            "MAIL FROM:<a@b>",
            "mail from: <a@b>",
            "MAIL FROM:a@b",
            "MAIL FROM: a@b  ",
            "Mail From :<a@b>",
            "MAIL FROM:\"Bob\" <a@b>",
            "MAIL FROM:<@x,@y:a@b>",
            "MAIL\tFROM:<a@b>",
            "MAIL FROM:Bob <a@b>",
        ] {
            assert_eq!(mail_of(line).address.expect(line).as_str(), "a@b", "{line}");
        }
        assert_eq!(mail_of("MAIL FROM:<>").address, None);
        assert_eq!(
            mail_of("MAIL FROM:<root>").bare_local.as_deref(),
            Some("root")
        );
        let mail = mail_of("MAIL FROM:<a@b> SIZE=123 BODY=8BITMIME RET=HDRS ENVID=x+2By SMTPUTF8");
        assert_eq!(
            (mail.size, mail.eight_bit, mail.ret_full, mail.smtputf8),
            (Some(123), true, Some(false), true)
        );
    }

    #[test]
    fn refusals() {
        let argument =
            |line: &str| matches!(parse(line.as_bytes()), Err(CommandError::Argument(_)));
        for line in [
            "MAIL <a@b>",
            "MAIL FROM:<a@b> SIZE=-1",
            "MAIL FROM:<a@b> SIZE=1e9",
            "MAIL FROM:<a@b> SIZE=123456789012345678901",
            "MAIL FROM:<a@b> BODY=7BIT BODY=7BIT",
            "MAIL FROM:<a@b> RET=XX",
            "MAIL FROM:<a@b> ENVID=x+0Ay",
            "RCPT TO:<a@b> NOTIFY=NEVER,FAILURE",
            "RCPT TO:<a@b> NOTIFY=",
            "RCPT TO:<a@b> ORCPT=rfc822;a ORCPT=rfc822;a",
            "RCPT TO:<a@b> ORCPT=rfc822;x+0D+0ADATA",
            "STARTTLS now",
            "DATA x",
            "AUTH",
        ] {
            assert!(argument(line), "{line}");
        }
        for line in [
            "MAIL FROM:<a@b> FOO=bar",
            "MAIL FROM:<a@b> BODY=BINARYMIME",
            "RCPT TO:<a@b> SIZE=1",
        ] {
            assert!(
                matches!(parse(line.as_bytes()), Err(CommandError::Parameter(_))),
                "{line}"
            );
        }
        for line in [
            "RCPT TO:<>",
            "RCPT TO:<a@[127.0.0.1]>",
            "RCPT TO:<a>b@c>",
            "RCPT TO:<a@b",
            "MAIL FROM:<\"a@t>",
            "RCPT TO:",
        ] {
            assert!(
                matches!(parse(line.as_bytes()), Err(CommandError::Address(_))),
                "{line}"
            );
        }
        assert_eq!(
            parse("RCPT TO:<a@b>\rRCPT TO:<c@d>".as_bytes()),
            Err(CommandError::BareCr)
        );
        assert_eq!(parse(b"\x1b]0;x\x07"), Err(CommandError::Characters));
        assert_eq!(
            parse(b"MAIL FROM:<\xc0\x8a@b>"),
            Err(CommandError::Encoding)
        );
        assert_eq!(
            parse("MAIL FROM:<ä@b>".as_bytes()),
            Err(CommandError::NeedsUtf8)
        );
        assert_eq!(parse(b"FOO"), Err(CommandError::Unknown));
        assert_eq!(parse(b"GET / HTTP/1.1"), Ok(Command::Foreign));
        assert_eq!(parse(b"Subject: x"), Ok(Command::Foreign));
        assert_eq!(parse(b"\x16\x03\x01\x02"), Ok(Command::Foreign));
        assert_eq!(parse(b"BDAT 86 LAST"), Ok(Command::NotOffered("BDAT")));
    }

    proptest::proptest! {
        #[test]
        fn never_panics(line in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = parse(&line);
        }
    }
}
