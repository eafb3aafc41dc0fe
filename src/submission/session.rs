//! One SMTP session as a pure state machine: a line in, a step out. No sockets, no clock.

use std::net::IpAddr;
use std::sync::Arc;

use super::admit::{self, Begun, Client, Now};
use super::reply_for::{self, Refusal};
use super::{AuthMode, PlaintextAuth, Settings, TlsMode};
use crate::message::{Envelope, Recipient};
use crate::prepare::Origin;
use crate::smtp::command::{
    self, Command, CommandError, LINE_LIMIT, MailFrom, RcptTo, SASL_LINE_LIMIT,
};
use crate::smtp::reply::Reply;
use crate::smtp::sasl::{self, Credentials, ScramClientFirst, ScramServer};
use crate::spool::Spool;

/// Errors after which the connection ends.
const ERRORS_LIMIT: u32 = 20;
/// NOOP, RSET and VRFY after which each counts as an error.
const JUNK_LIMIT: u32 = 100;
/// Wrong logins of one connection.
const AUTH_FAILURES_LIMIT: u32 = 3;
/// Recipients beyond the limit that are still answered one by one.
const SURPLUS_LIMIT: u32 = 100;

/// What the connection has to do.
pub enum Step {
    /// Send this and go on.
    Reply(Reply),
    /// Send this and close.
    Close(Reply),
    /// Send this, then do the TLS handshake.
    StartTls(Reply),
    /// Send this (354), then receive content.
    Content(Reply),
    /// Check a login, then call [`Session::right`], [`Session::wrong`] or [`Session::busy`].
    Check(Check),
}

/// A login to be checked.
pub enum Check {
    /// User name and password.
    Password(Credentials),
    /// A CRAM-MD5 digest of this challenge.
    CramMd5 {
        /// User name.
        login: String,
        /// Hexadecimal digest.
        digest: String,
        /// What it was made of.
        challenge: String,
    },
    /// The beginning of SCRAM: needs to know whether the login exists.
    ScramFirst(ScramClientFirst),
    /// Its end.
    ScramFinal(Box<ScramServer>, Vec<u8>),
}

/// Where an AUTH dialogue stands.
enum Dialogue {
    Plain,
    LoginUser,
    LoginPassword(String),
    CramMd5(String),
    ScramFirst,
    ScramFinal(Box<ScramServer>),
    /// The server's proof was sent; an empty line ends it.
    ScramEnd(String),
}

struct Transaction {
    begun: Begun,
    mail: MailFrom,
    recipients: Vec<Recipient>,
    surplus: u32,
}

/// A session.
pub struct Session {
    listener: Arc<Settings>,
    instance: String,
    peer: Option<IpAddr>,
    encrypted: bool,
    helo: Option<(String, bool)>,
    login: Option<String>,
    /// The secret reference that the login was checked against.
    checked: Option<crate::vault::SecretRef>,
    dialogue: Option<Dialogue>,
    transaction: Option<Transaction>,
    errors: u32,
    junk: u32,
    auth_failures: u32,
    challenges: bool,
    data_refused: bool,
    /// The secret of its login is no longer what it logged in with.
    revoked: bool,
}

fn is_data(line: &[u8]) -> bool {
    let verb = line
        .trim_ascii_start()
        .split(u8::is_ascii_whitespace)
        .next();
    verb.is_some_and(|verb| verb.eq_ignore_ascii_case(b"DATA"))
}

impl Session {
    /// A fresh session. `peer`: `None` on a UNIX socket. `challenges`: some login has a secret
    /// that CRAM-MD5 and SCRAM can use.
    pub fn new(
        listener: Arc<Settings>,
        instance: String,
        peer: Option<IpAddr>,
        encrypted: bool,
        challenges: bool,
    ) -> Self {
        Self {
            listener,
            instance,
            peer,
            encrypted,
            helo: None,
            login: None,
            checked: None,
            dialogue: None,
            transaction: None,
            errors: 0,
            junk: 0,
            auth_failures: 0,
            challenges,
            data_refused: false,
            revoked: false,
        }
    }

    /// The greeting.
    pub fn greeting(&self, now: &Now) -> Reply {
        Reply::plain(
            220,
            format!("{} ESMTP Postbote {}", now.hostname, self.instance),
        )
    }

    /// After the TLS handshake: everything said before is forgotten (RFC 3207 section 4.2).
    pub fn encrypted(&mut self) {
        self.encrypted = true;
        self.helo = None;
        self.login = None;
        self.dialogue = None;
        self.transaction = None;
    }

    /// Its login.
    pub fn login(&self) -> Option<&str> {
        self.login.as_deref()
    }

    /// Longest line that is read now.
    pub fn line_limit(&self) -> usize {
        if self.dialogue.is_some() {
            SASL_LINE_LIMIT
        } else {
            LINE_LIMIT.max(SASL_LINE_LIMIT)
        }
    }

    /// Whether a SASL response is awaited.
    pub fn in_dialogue(&self) -> bool {
        self.dialogue.is_some()
    }

    fn client(&self) -> Client<'_> {
        Client {
            login: self.login.as_deref(),
            peer: self.peer,
            listener: &self.listener,
        }
    }

    /// How its mail came, for Received and the log.
    pub fn origin(&self) -> Origin {
        let (helo, esmtp) = self.helo.clone().unwrap_or_default();
        let utf8 = self.transaction.as_ref().is_some_and(|t| t.mail.smtputf8);
        let mut protocol = match (utf8, esmtp) {
            (true, _) => "UTF8SMTP".to_owned(),
            (false, true) => "ESMTP".to_owned(),
            (false, false) => "SMTP".to_owned(),
        };
        if esmtp {
            if self.encrypted {
                protocol.push('S');
            }
            if self.login.is_some() {
                protocol.push('A');
            }
        }
        Origin {
            helo,
            peer: self.peer.map(|p| p.to_string()).unwrap_or_default(),
            protocol,
            listener: self.listener.name.clone(),
            login: self.login.clone(),
            single: false,
        }
    }

    /// The line was longer than [`Self::line_limit`].
    /// `login`: it was an AUTH (RFC 4954 section 4 has a code of its own for it).
    pub fn line_too_long(&mut self, login: bool) -> Step {
        let in_dialogue = self.dialogue.take().is_some();
        let enhanced = if in_dialogue || login {
            (5, 5, 6)
        } else {
            (5, 5, 2)
        };
        self.error(Reply::new(500, enhanced, "Line too long"))
    }

    fn error(&mut self, reply: Reply) -> Step {
        self.errors += 1;
        if self.errors >= ERRORS_LIMIT {
            Step::Close(Refusal::TooManyErrors.reply())
        } else {
            Step::Reply(reply)
        }
    }

    fn refuse(&mut self, refusal: &Refusal) -> Step {
        if refusal.closes() {
            Step::Close(refusal.reply())
        } else {
            self.error(refusal.reply())
        }
    }

    fn sequence(&mut self, text: &str) -> Step {
        self.error(Reply::new(503, (5, 5, 1), text))
    }

    /// One line without its line end.
    pub fn line(&mut self, line: &[u8], now: &Now, spool: &Spool) -> Step {
        if let Some(dialogue) = self.dialogue.take() {
            return self.response(dialogue, line, now);
        }
        if line.len() > LINE_LIMIT && !command::is_verb(line, b"AUTH") {
            return self.line_too_long(false);
        }
        let after_refused_data = std::mem::take(&mut self.data_refused);
        match command::parse(line) {
            // Content that was sent without waiting for the 354: none of it is for us to run.
            Err(CommandError::Unknown) if after_refused_data => {
                Step::Close(Reply::new(554, (5, 5, 0), "Content behind a refused DATA"))
            }
            Ok(command) => {
                let step = self.command(command, now, spool);
                self.data_refused = is_data(line) && !matches!(step, Step::Content(_));
                step
            }
            Err(CommandError::BareCr) => {
                Step::Close(reply_for::command_error(&CommandError::BareCr, false))
            }
            Err(error) => {
                self.data_refused = is_data(line);
                let recipient = command::is_verb(line, b"RCPT");
                self.error(reply_for::command_error(&error, recipient))
            }
        }
    }

    /// Whether the last line was a DATA that was refused: what follows may be content.
    pub fn has_refused_data(&self) -> bool {
        self.data_refused
    }

    fn command(&mut self, command: Command, now: &Now, spool: &Spool) -> Step {
        match command {
            Command::Ehlo(name) => self.ehlo(name, now, spool),
            Command::Helo(name) => {
                self.transaction = None;
                self.helo = Some((name, false));
                Step::Reply(Reply::plain(250, now.hostname.clone()))
            }
            Command::Mail(mail) => self.mail(mail, now, spool),
            Command::Rcpt(rcpt) => self.rcpt(rcpt, now),
            Command::Data => self.data(),
            Command::Rset => {
                self.transaction = None;
                self.junk_command(Reply::new(250, (2, 0, 0), "OK"))
            }
            Command::Noop => self.junk_command(Reply::new(250, (2, 0, 0), "OK")),
            Command::Vrfy => self.junk_command(Reply::new(
                252,
                (2, 1, 5),
                "Send some mail, I'll try my best",
            )),
            Command::Help => self.junk_command(Reply::new(
                214,
                (2, 0, 0),
                "EHLO HELO MAIL RCPT DATA RSET NOOP QUIT STARTTLS AUTH",
            )),
            Command::Quit => Step::Close(Reply::new(221, (2, 0, 0), "Bye")),
            Command::StartTls => self.starttls(),
            Command::Auth { mechanism, initial } => self.auth(&mechanism, initial, now),
            // What follows BDAT is content and must not be read as commands.
            Command::NotOffered("BDAT") => {
                Step::Close(Reply::new(502, (5, 5, 1), "BDAT is not offered"))
            }
            Command::NotOffered(verb) => {
                self.error(Reply::new(502, (5, 5, 1), format!("{verb} is not offered")))
            }
            Command::Foreign => Step::Close(Reply::new(554, (5, 5, 1), "This is an SMTP server")),
        }
    }

    fn junk_command(&mut self, reply: Reply) -> Step {
        self.junk += 1;
        if self.junk > JUNK_LIMIT {
            self.error(reply)
        } else {
            Step::Reply(reply)
        }
    }

    fn ehlo(&mut self, name: String, now: &Now, spool: &Spool) -> Step {
        self.transaction = None;
        self.helo = Some((name, true));
        let tenant = admit::identify(now, self.client());
        let size = admit::size_limit(now, spool, tenant.map(AsRef::as_ref));
        let mut lines = vec![
            now.hostname.clone(),
            "PIPELINING".to_owned(),
            format!("SIZE {size}"),
            "8BITMIME".to_owned(),
            "SMTPUTF8".to_owned(),
            "ENHANCEDSTATUSCODES".to_owned(),
            "DSN".to_owned(),
        ];
        if self.listener.tls == TlsMode::Starttls && !self.encrypted {
            lines.push("STARTTLS".to_owned());
        }
        if self.may_log_in() && self.login.is_none() {
            lines.push(format!(
                "AUTH PLAIN LOGIN{}",
                if self.challenges {
                    " CRAM-MD5 SCRAM-SHA-256"
                } else {
                    ""
                }
            ));
            if self.listener.legacy_auth_line {
                lines.push("AUTH=LOGIN PLAIN".to_owned());
            }
        }
        Step::Reply(Reply::multi(250, lines))
    }

    /// Whether a login may be said on this connection.
    fn may_log_in(&self) -> bool {
        let plain_allowed = match self.listener.plaintext_auth {
            PlaintextAuth::Never => false,
            PlaintextAuth::Loopback => self.peer.is_none_or(|p| p.is_loopback()),
            PlaintextAuth::Always => true,
        };
        self.listener.auth != AuthMode::None && (self.encrypted || plain_allowed)
    }

    fn mail(&mut self, mut mail: MailFrom, now: &Now, spool: &Spool) -> Step {
        if self.helo.is_none() {
            return self.sequence("EHLO first");
        }
        if self.transaction.is_some() {
            return self.sequence("Nested MAIL command");
        }
        if let Some(local) = mail.bare_local.take() {
            if !local.is_ascii() && !mail.smtputf8 {
                return self.error(reply_for::command_error(&CommandError::NeedsUtf8, false));
            }
            // `MAIL FROM:<root>`: completed as every mail system does.
            mail.address =
                crate::smtp::address::Address::parse(&format!("{local}@{}", now.hostname)).ok();
            if mail.address.is_none() {
                return self.error(reply_for::command_error(
                    &CommandError::Address(crate::smtp::address::AddressError::LocalPart),
                    false,
                ));
            }
        }
        let current = self
            .login
            .as_deref()
            .and_then(|login| now.directory.login(login))
            .and_then(|(_, user)| user.password.clone());
        if self.login.is_some() && (self.revoked || self.checked != current) {
            // The password was changed, or the login removed, since.
            return Step::Close(Refusal::AuthFailed.reply());
        }
        match admit::mail(now, spool, self.client(), &mail) {
            Ok(begun) => {
                self.transaction = Some(Transaction {
                    begun,
                    mail,
                    recipients: Vec::new(),
                    surplus: 0,
                });
                Step::Reply(Reply::new(250, (2, 1, 0), "Sender OK"))
            }
            Err(Refusal::AuthFailed) => Step::Close(Refusal::AuthFailed.reply()),
            Err(refusal) => self.refuse(&refusal),
        }
    }

    fn rcpt(&mut self, rcpt: RcptTo, now: &Now) -> Step {
        let Some(transaction) = &mut self.transaction else {
            return self.sequence("MAIL first");
        };
        let ours = rcpt.address.is_none();
        let address = rcpt
            .address
            .unwrap_or_else(|| transaction.begun.tenant.email.clone());
        // What we put in the place of <postmaster> the client need not be able to write.
        let plain = (ours || address.as_str().is_ascii())
            && rcpt.orcpt.as_ref().is_none_or(|o| o.is_ascii());
        if !plain && !transaction.mail.smtputf8 {
            return self.error(reply_for::command_error(&CommandError::NeedsUtf8, true));
        }
        let known = transaction
            .recipients
            .iter()
            .any(|r| r.address.same_mailbox(&address));
        if !known {
            if transaction.recipients.len() >= now.max_recipients {
                transaction.surplus += 1;
                if transaction.surplus > SURPLUS_LIMIT {
                    return Step::Close(Refusal::TooManyErrors.reply());
                }
                return Step::Reply(Refusal::TooManyRecipients(now.max_recipients).reply());
            }
            transaction.recipients.push(Recipient {
                notify: rcpt.notify,
                orcpt: rcpt.orcpt,
                ..Recipient::new(address)
            });
        }
        Step::Reply(Reply::new(250, (2, 1, 5), "Recipient OK"))
    }

    fn data(&mut self) -> Step {
        match &self.transaction {
            None => self.sequence("MAIL first"),
            Some(t) if t.recipients.is_empty() => {
                self.error(Reply::new(554, (5, 5, 1), "No valid recipients"))
            }
            Some(_) => Step::Content(Reply::plain(354, "End data with <CR><LF>.<CR><LF>")),
        }
    }

    /// Ends the transaction and gives what its content needs. Whatever becomes of the content,
    /// the next message begins anew.
    pub fn take_transaction(&mut self) -> Option<(Begun, Envelope)> {
        let t = self.transaction.take()?;
        let envelope = Envelope {
            mail_from: t.mail.address,
            recipients: t.recipients,
            smtputf8: t.mail.smtputf8,
            ret_full: t.mail.ret_full,
            envid: t.mail.envid,
        };
        Some((t.begun, envelope))
    }

    /// A message was accepted: who sends mail may err again.
    pub fn succeeded(&mut self) {
        self.errors = 0;
        self.junk = 0;
    }

    /// Counts a refused message as an error.
    pub fn content_refused(&mut self, refusal: &Refusal) -> Step {
        self.refuse(refusal)
    }

    fn starttls(&mut self) -> Step {
        if self.encrypted {
            return self.sequence("TLS is already active");
        }
        if self.listener.tls != TlsMode::Starttls {
            return self.error(Reply::new(502, (5, 5, 1), "STARTTLS is not offered"));
        }
        Step::StartTls(Reply::new(220, (2, 0, 0), "Ready to start TLS"))
    }

    fn auth(&mut self, mechanism: &str, initial: Option<String>, now: &Now) -> Step {
        if self.login.is_some() || self.transaction.is_some() {
            return self.sequence("Not now: already authenticated, or inside a transaction");
        }
        if self.listener.auth == AuthMode::None {
            return self.sequence("AUTH is not offered here");
        }
        if !self.may_log_in() {
            // What was tried in clear counts: somebody may have read it.
            self.auth_failures += 1;
            if self.auth_failures > AUTH_FAILURES_LIMIT {
                return Step::Close(Refusal::TooManyAuthFailures.reply());
            }
            return self.error(Reply::new(
                538,
                (5, 7, 11),
                "Encryption required for authentication",
            ));
        }
        let start = match mechanism {
            "PLAIN" => (Dialogue::Plain, String::new()),
            "LOGIN" => (Dialogue::LoginUser, "VXNlcm5hbWU6".to_owned()),
            "CRAM-MD5" if self.challenges => {
                let challenge = format!("<{}@{}>", random_text(), now.hostname);
                let text = sasl::encode(challenge.as_bytes());
                (Dialogue::CramMd5(challenge), text)
            }
            "SCRAM-SHA-256" if self.challenges => (Dialogue::ScramFirst, String::new()),
            _ => {
                return self.error(Reply::new(
                    504,
                    (5, 5, 4),
                    "Authentication mechanism not supported",
                ));
            }
        };
        match (start, initial) {
            ((Dialogue::CramMd5(_), _), Some(_)) => self.error(Reply::new(
                501,
                (5, 7, 0),
                "CRAM-MD5 takes no initial response",
            )),
            ((dialogue, _), Some(initial)) => self.response(dialogue, initial.as_bytes(), now),
            ((dialogue, challenge), None) => {
                self.dialogue = Some(dialogue);
                Step::Reply(Reply::plain(334, challenge))
            }
        }
    }

    fn response(&mut self, dialogue: Dialogue, line: &[u8], now: &Now) -> Step {
        let text = String::from_utf8_lossy(line);
        let text = text.trim();
        // A client that has given up has not always read that it must say so with `*`.
        if text == "*" || text.eq_ignore_ascii_case("RSET") {
            return self.error(Reply::new(501, (5, 7, 0), "Authentication cancelled"));
        }
        let malformed = || Reply::new(501, (5, 5, 2), "Malformed authentication response");
        let Some(bytes) = sasl::decode(text) else {
            return self.error(malformed());
        };
        match dialogue {
            Dialogue::Plain => match sasl::parse_plain(&bytes) {
                Some(credentials) => Step::Check(Check::Password(credentials)),
                None if sasl::plain_acts_as_other(&bytes) => self.wrong(),
                None => self.error(malformed()),
            },
            Dialogue::LoginUser => match sasl::parse_login_text(&bytes) {
                Some(login) if !login.is_empty() => {
                    self.dialogue = Some(Dialogue::LoginPassword(login));
                    Step::Reply(Reply::plain(334, "UGFzc3dvcmQ6"))
                }
                _ => self.error(malformed()),
            },
            Dialogue::LoginPassword(login) => match sasl::parse_login_text(&bytes) {
                Some(password) => Step::Check(Check::Password(Credentials {
                    login,
                    password: zeroize::Zeroizing::new(password),
                })),
                None => self.error(malformed()),
            },
            Dialogue::CramMd5(challenge) => match sasl::parse_cram_md5(&bytes) {
                Some((login, digest)) => Step::Check(Check::CramMd5 {
                    login,
                    digest,
                    challenge,
                }),
                None => self.error(malformed()),
            },
            Dialogue::ScramFirst => match ScramClientFirst::parse(&bytes) {
                Ok(first) => Step::Check(Check::ScramFirst(first)),
                Err(_) => self.error(malformed()),
            },
            Dialogue::ScramFinal(server) => Step::Check(Check::ScramFinal(server, bytes.to_vec())),
            Dialogue::ScramEnd(login) => self.right(login, now),
        }
    }

    /// SCRAM goes on with this challenge.
    pub fn scram_challenge(&mut self, server: ScramServer, challenge: &str) -> Step {
        self.dialogue = Some(Dialogue::ScramFinal(Box::new(server)));
        Step::Reply(Reply::plain(334, sasl::encode(challenge.as_bytes())))
    }

    /// SCRAM has proved the login; our own proof goes out.
    pub fn scram_proof(&mut self, login: String, proof: &str) -> Step {
        self.dialogue = Some(Dialogue::ScramEnd(login));
        Step::Reply(Reply::plain(334, sasl::encode(proof.as_bytes())))
    }

    /// The login is right.
    pub fn right(&mut self, login: String, now: &Now) -> Step {
        self.checked = now
            .directory
            .login(&login)
            .and_then(|(_, user)| user.password.clone());
        self.login = Some(login);
        self.revoked = false;
        Step::Reply(Reply::new(235, (2, 7, 0), "Authentication successful"))
    }

    /// The secret of its login has changed: the next message is refused.
    pub fn revoke(&mut self) {
        self.revoked = true;
    }

    /// The login is wrong.
    pub fn wrong(&mut self) -> Step {
        self.auth_failures += 1;
        if self.auth_failures > AUTH_FAILURES_LIMIT {
            return Step::Close(Refusal::TooManyAuthFailures.reply());
        }
        self.error(Refusal::AuthFailed.reply())
    }

    /// The login cannot be checked now.
    pub fn busy(&mut self) -> Step {
        self.error(Refusal::AuthBusy.reply())
    }
}

/// Text that nobody can guess.
pub fn random_text() -> String {
    let mut bytes = [0u8; 16];
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}
