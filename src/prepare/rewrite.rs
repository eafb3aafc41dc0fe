//! The header of what leaves. Only the fields that must change do; all others are copied byte
//! for byte in their order.

use bytes::Bytes;

use super::encode::{self, Converted, mailbox_text, push_field};
use super::{PrepareError, PreparedRecipient, ReplyTo, Settings, Source, Utf8Headers};
use crate::message::header::{Header, unfold};
use crate::message::{Recipient, Role, date, mailbox, rfc2047};
use crate::smtp::address::Address;
use crate::smtp::capabilities::Capabilities;

/// The rewritten parts before signing.
pub struct Rewritten {
    /// Header section with its blank line.
    pub head: Vec<u8>,
    /// The body as it was (a slice of the original).
    pub body: Bytes,
    /// The body as it must be, if it had to change.
    pub converted: Option<Converted>,
    /// The From address.
    pub from: Address,
    /// MAIL FROM.
    pub mail_from: Option<Address>,
    /// An address in it needs SMTPUTF8.
    pub needs_utf8: bool,
    /// The header holds raw UTF-8.
    pub utf8_header: bool,
}

/// Fields that never leave: hidden recipients, and what the receiving side writes itself.
const REMOVED: [&str; 4] = ["bcc", "resent-bcc", "return-path", "content-length"];
/// Fields of which a message has at most one (RFC 5322 section 3.6); further ones are renamed.
const ONCE: [&str; 7] = [
    "subject",
    "to",
    "cc",
    "date",
    "message-id",
    "in-reply-to",
    "references",
];

/// What the application's own sender fields say.
struct Application {
    from: Option<(String, Address)>,
    from_text: Option<String>,
    reply_to: Option<Vec<u8>>,
}

/// Writes the header anew for this route.
pub fn rewrite(
    source: &Source<'_>,
    settings: &Settings,
    recipients: &[PreparedRecipient],
    utf8_envelope: bool,
    capabilities: &Capabilities,
    notes: &mut Vec<String>,
) -> Result<Rewritten, PrepareError> {
    let message: &[u8] = source.content;
    let header = Header::parse(message).map_err(|e| PrepareError::Unusable(e.to_string()))?;
    let application = Application::read(message, &header);
    let keep_from = settings.keep_from && !source.ours && application.from.is_some();
    let from_address = match (&application.from, keep_from) {
        (Some((_, address)), true) => address.clone(),
        _ => settings.address.clone(),
    };
    let mail_from = match (&source.envelope.mail_from, source.ours) {
        (None, _) if source.null_refused => Some(
            settings
                .return_path
                .clone()
                .unwrap_or_else(|| from_address.clone()),
        ),
        (None, _) => None,
        (Some(_), _) => Some(
            settings
                .return_path
                .clone()
                .unwrap_or_else(|| from_address.clone()),
        ),
    };
    let needs_utf8 = utf8_envelope
        || from_address.needs_smtputf8()
        || mail_from.as_ref().is_some_and(Address::needs_smtputf8);
    if needs_utf8 && !capabilities.smtputf8 {
        let address = if from_address.needs_smtputf8() {
            &from_address
        } else {
            mail_from.as_ref().unwrap_or(&from_address)
        };
        return Err(PrepareError::Utf8Address(address.to_string()));
    }
    let utf8 = capabilities.smtputf8
        && match settings.utf8_headers {
            Utf8Headers::Always => true,
            Utf8Headers::Auto => needs_utf8,
            Utf8Headers::Never => false,
        };

    let mut writer = Writer {
        message,
        settings,
        application,
        from_address: &from_address,
        keep_from,
        utf8,
        ours: source.ours,
        envelope: settings
            .recipients_in_header
            .then(|| HeaderEnvelope::new(recipients)),
        case_workers: case_workers(source, &header, settings, recipients),
        out: Vec::with_capacity(header.body + 1024),
        seen: Vec::new(),
        notes,
    };
    writer.received(source);
    if let Some(detour) = settings.detour {
        writer.line(&format!("X-Postbote-Route: {detour}"));
        writer.notes.push(format!("route: {detour}"));
    }
    let body = source.content.slice(header.body..);
    let mime = Mime::decide(message, &header, &body, capabilities.eight_bit_mime)?;
    for field in &header.fields {
        writer.field(field, &mime);
    }
    writer.complete(source, &mime);
    let utf8_header = !writer.out.is_ascii();
    let mut head = writer.out;
    head.extend_from_slice(b"\r\n");
    // What leaves is read once more: it ends where it should, has one From, and no line is too
    // long for the wire.
    let end = memchr::memmem::find(&head, b"\r\n\r\n").map(|at| at + 4);
    let froms = head
        .split(|b| *b == b'\n')
        .filter(|line| {
            line.get(..5)
                .is_some_and(|name| name.eq_ignore_ascii_case(b"from:"))
        })
        .count();
    if end != Some(head.len()) || froms != 1 {
        return Err(PrepareError::Unusable(
            "its header cannot be rewritten safely".to_owned(),
        ));
    }
    if encode::has_long_line(&head) {
        return Err(PrepareError::Unusable(format!(
            "a header field has more than {} octets without a blank",
            encode::LINE_LIMIT
        )));
    }
    Ok(Rewritten {
        head,
        body,
        converted: mime.converted,
        from: from_address,
        mail_from,
        needs_utf8,
        utf8_header,
    })
}

/// The case workers, who stand in Cc. A server that delivers to whom the header names gets those of
/// this attempt only.
fn case_workers(
    source: &Source<'_>,
    header: &Header,
    settings: &Settings,
    recipients: &[PreparedRecipient],
) -> Vec<Address> {
    // Whoever stands in To or Cc already is seen there.
    let message: &[u8] = source.content;
    let named: Vec<Address> = ["To", "Cc"]
        .iter()
        .filter_map(|name| header.first(message, name))
        .flat_map(|text| mailbox::parse(&text).mailboxes)
        .filter_map(|m| m.address)
        .collect();
    let is_named = |r: &Recipient| named.iter().any(|a| a.same_permission(&r.address));
    let all = source.envelope.recipients.iter().enumerate();
    all.filter(|(index, r)| {
        r.role == Role::CaseWorker
            && !is_named(r)
            && (!settings.recipients_in_header || recipients.iter().any(|p| p.index == *index))
    })
    .map(|(_, r)| r.address.clone())
    .collect()
}

/// What the body's own description becomes.
struct Mime {
    converted: Option<Converted>,
    /// The application sent 8-bit text without saying what it is.
    guessed_charset: Option<&'static str>,
}

impl Mime {
    fn decide(
        message: &[u8],
        header: &Header,
        body: &Bytes,
        eight_bit_ok: bool,
    ) -> Result<Self, PrepareError> {
        let content_type = header.first(message, "Content-Type");
        let encoding = header.first(message, "Content-Transfer-Encoding");
        let guessed_charset = (content_type.is_none() && encode::has_eight_bit(body)).then(|| {
            if std::str::from_utf8(body).is_ok() {
                "utf-8"
            } else {
                "windows-1252"
            }
        });
        let converted = encode::body(
            content_type.as_deref(),
            encoding.as_deref(),
            body,
            eight_bit_ok,
        )
        .map_err(PrepareError::Conversion)?;
        Ok(Self {
            converted,
            guessed_charset,
        })
    }
}

impl Application {
    fn read(message: &[u8], header: &Header) -> Self {
        let froms: Vec<_> = header.all(message, "From").collect();
        let from_text = froms.first().map(|f| unfold(&message[f.value.clone()]));
        // Several From fields or several mailboxes are no sender that anybody could check.
        let from = match (froms.as_slice(), &from_text) {
            ([_], Some(text)) => mailbox::parse(text)
                .single()
                .map(|(name, address)| (name.to_owned(), address.clone())),
            _ => None,
        };
        let reply_to = header.all(message, "Reply-To").find_map(|field| {
            let value = unfold(&message[field.value.clone()]);
            let list = mailbox::parse(&value);
            let usable = !list.dubious
                && !list.group
                && !list.mailboxes.is_empty()
                && list.mailboxes.len() <= 100
                && list.mailboxes.iter().all(|m| m.address.is_some());
            usable.then(|| message[field.raw.clone()].to_vec())
        });
        Self {
            from,
            from_text,
            reply_to,
        }
    }
}

/// The application's From as a checked mailbox, for sender rules: exactly one field with exactly
/// one cleanly written mailbox, else `None`.
pub fn application_from(message: &[u8], header: &Header) -> Option<Address> {
    Application::read(message, header)
        .from
        .map(|(_, address)| address)
}

/// The envelope, as the header has to say it.
struct HeaderEnvelope<'a> {
    recipients: &'a [PreparedRecipient],
    named: Vec<bool>,
}

impl<'a> HeaderEnvelope<'a> {
    fn new(recipients: &'a [PreparedRecipient]) -> Self {
        Self {
            recipients,
            named: vec![false; recipients.len()],
        }
    }

    /// Whether an address of the header is a recipient; remembers that it is named.
    fn wants(&mut self, address: &Address) -> bool {
        let mut found = false;
        for (recipient, named) in self.recipients.iter().zip(&mut self.named) {
            if recipient.recipient.address.same_permission(address) {
                *named = true;
                found = true;
            }
        }
        found
    }

    /// Those that no field names.
    fn left(&self) -> impl Iterator<Item = &'a Address> {
        let named = self.named.clone();
        self.recipients
            .iter()
            .zip(named)
            .filter(|(_, named)| !named)
            .map(|(recipient, _)| &recipient.recipient.address)
    }
}

struct Writer<'a> {
    message: &'a [u8],
    settings: &'a Settings,
    application: Application,
    from_address: &'a Address,
    keep_from: bool,
    utf8: bool,
    ours: bool,
    envelope: Option<HeaderEnvelope<'a>>,
    case_workers: Vec<Address>,
    out: Vec<u8>,
    seen: Vec<String>,
    notes: &'a mut Vec<String>,
}

impl Writer<'_> {
    fn line(&mut self, line: &str) {
        self.out.extend_from_slice(line.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    /// Whether a field of that name was written before; remembers it.
    fn again(&mut self, name: &str) -> bool {
        if self.seen.iter().any(|s| s == name) {
            return true;
        }
        self.seen.push(name.to_owned());
        false
    }

    fn has(&self, name: &str) -> bool {
        self.seen.iter().any(|s| s == name)
    }

    fn received(&mut self, source: &Source<'_>) {
        let origin = source.origin;
        if origin.protocol.is_empty() {
            return; // mail of our own has no hop before it
        }
        let safe = |text: &str| {
            text.chars()
                .filter(|c| c.is_ascii_graphic() && !"()<>;\\\"".contains(*c))
                .take(255)
                .collect::<String>()
        };
        let helo = safe(&origin.helo);
        let peer = if origin.peer.contains(':') {
            format!("IPv6:{}", origin.peer)
        } else {
            origin.peer.clone()
        };
        let from = if helo.is_empty() {
            "unknown".to_owned()
        } else {
            helo
        };
        // Only a single recipient is named: the field must not tell of hidden ones.
        let recipient = match source.envelope.recipients.as_slice() {
            [one] if one.address.as_str().is_ascii() => format!("\r\n\tfor <{}>", one.address),
            _ => String::new(),
        };
        let from = if origin.peer.is_empty() {
            from
        } else {
            format!("{from} ([{}])", safe(&peer))
        };
        self.line(&format!(
            "Received: from {from}\r\n\tby {} (Postbote) with {} id {}{recipient};\r\n\t{}",
            self.settings.hostname,
            origin.protocol,
            source.id,
            date::format(source.accepted)
        ));
    }

    fn field(&mut self, field: &crate::message::header::Field, mime: &Mime) {
        let message = self.message;
        let name_bytes = &message[field.name.clone()];
        let name = String::from_utf8_lossy(name_bytes).to_ascii_lowercase();
        let value = &message[field.value.clone()];
        let raw = &message[field.raw.clone()];
        if REMOVED.contains(&name.as_str()) {
            self.notes.push(format!("{name}: removed"));
            return;
        }
        if !self.ours && self.settings.removed.contains(&name) {
            self.notes.push(format!("{name}: removed, as configured"));
            return;
        }
        if name == "cc" && !self.case_workers.is_empty() && !self.has("cc") {
            self.cc(raw, value);
            return;
        }
        if self.envelope.is_some() && self.addressed(&name, raw, value) {
            return;
        }
        if self.ours {
            if name == "from" {
                // Our own mail has a name of its own and the address that this route may use.
                let own = self
                    .application
                    .from
                    .as_ref()
                    .map_or(String::new(), |(name, _)| name.clone());
                let text = mailbox_text(&own, &self.settings.address, 6, self.utf8);
                self.seen.push(name);
                self.line(&format!("From: {text}"));
                return;
            }
            self.seen.push(name);
            self.copy(raw, name_bytes, value);
            return;
        }
        match name.as_str() {
            "from" => {
                if !self.again("from") {
                    self.from(raw, name_bytes, value);
                }
            }
            "sender" => {
                if !self.again("sender") {
                    self.line(&format!(
                        "Sender: {}",
                        self.from_address.with_ascii_domain()
                    ));
                    self.notes
                        .push("Sender: set to the From address".to_owned());
                }
            }
            "resent-from" | "resent-sender" => {
                let title = if name == "resent-from" {
                    "Resent-From"
                } else {
                    "Resent-Sender"
                };
                self.line(&format!(
                    "{title}: {}",
                    self.from_address.with_ascii_domain()
                ));
                self.notes.push(format!("{title}: set to the From address"));
            }
            "reply-to" => {
                if !self.again("reply-to") {
                    self.reply_to();
                }
            }
            "date" if !self.has("date") && !date::is_valid(&unfold(value)) => {
                self.notes
                    .push("Date: not a date, replaced by the time of acceptance".to_owned());
            }
            "message-id" if !self.has("message-id") && !message_id_valid(&unfold(value)) => {
                self.notes
                    .push("Message-ID: malformed, replaced".to_owned());
            }
            "dkim-signature" => {
                let old = unfold(value);
                if signature_domain(&old).is_some_and(|d| {
                    self.settings
                        .own_domains
                        .iter()
                        .any(|own| own.eq_ignore_ascii_case(&d))
                }) {
                    self.notes.push(
                        "DKIM-Signature: the application's own was removed, rewriting breaks it"
                            .to_owned(),
                    );
                } else {
                    self.copy(raw, name_bytes, value);
                }
            }
            "content-transfer-encoding" if mime.converted.is_some() => {
                if let (Some(converted), false) =
                    (&mime.converted, self.again("content-transfer-encoding"))
                {
                    self.line(&format!(
                        "Content-Transfer-Encoding: {}",
                        converted.encoding
                    ));
                }
            }
            _ if ONCE.contains(&name.as_str()) && self.has(&name) => {
                let renamed = format!("X-Duplicate-{}", String::from_utf8_lossy(name_bytes));
                let mut copy = renamed.clone().into_bytes();
                copy.push(b':');
                copy.extend_from_slice(value);
                self.notes.push(format!("{name}: a second one was renamed"));
                self.copy(&copy, renamed.as_bytes(), value);
            }
            _ => {
                self.seen.push(name);
                self.copy(raw, name_bytes, value);
            }
        }
    }

    /// A field with recipients, for a server that delivers to whom it names: only those of the
    /// envelope stay. `false`: it is another field, or may stay as it is.
    fn addressed(&mut self, name: &str, raw: &[u8], value: &[u8]) -> bool {
        if matches!(name, "resent-to" | "resent-cc") {
            self.notes
                .push(format!("{name}: removed, the API might deliver to it"));
            return true;
        }
        let title = match name {
            "to" => "To",
            "cc" => "Cc",
            _ => return false,
        };
        let Some(envelope) = &mut self.envelope else {
            return false;
        };
        if self.seen.iter().any(|seen| seen == name) {
            return false; // renamed, so no recipient
        }
        let text = unfold(value);
        if text.eq_ignore_ascii_case("undisclosed-recipients:;") {
            return false;
        }
        let list = mailbox::parse(&text);
        let mut kept = Vec::new();
        let mut dropped = 0;
        for found in &list.mailboxes {
            match &found.address {
                Some(address) if envelope.wants(address) => {
                    kept.push(mailbox_text(
                        &found.name,
                        address,
                        title.len() + 2,
                        self.utf8,
                    ));
                }
                Some(_) | None => dropped += 1,
            }
        }
        let all = dropped == 0 && !list.dubious && !list.group && !kept.is_empty();
        if all && !text.contains('(') {
            return false;
        }
        self.seen.push(name.to_owned());
        if all {
            // Comments are read in more than one way.
            self.line(&format!("{title}: {}", kept.join(",\r\n\t")));
            return true;
        }
        // What the reader was meant to see stays to be seen, where nobody delivers to it.
        let original = format!("X-Original-{title}");
        let mut copy = original.clone().into_bytes();
        copy.push(b':');
        copy.extend_from_slice(&raw[raw.len() - value.len()..]);
        self.copy(&copy, original.as_bytes(), value);
        self.notes.push(format!(
            "{title}: only the {} of the envelope stay, the original went to {original}",
            kept.len()
        ));
        if kept.is_empty() {
            if title == "To" {
                self.line("To: undisclosed-recipients:;");
            } else {
                self.seen.retain(|seen| seen != name);
            }
        } else {
            self.line(&format!("{title}: {}", kept.join(",\r\n\t")));
        }
        true
    }

    /// Cc with the case workers. What it says is written anew: behind a comment or an open quote
    /// they would not be read.
    fn cc(&mut self, raw: &[u8], value: &[u8]) {
        let text = unfold(value);
        let list = mailbox::parse(&text);
        let mut whole = !list.dubious && !list.group && !text.contains('(');
        let mut kept = Vec::new();
        for found in &list.mailboxes {
            let address = found.address.as_ref().filter(|address| {
                let envelope = self.envelope.as_mut();
                (self.utf8 || !address.needs_smtputf8())
                    && envelope.is_none_or(|envelope| envelope.wants(address))
            });
            match address {
                Some(address) => kept.push((found.name.as_str(), address.clone())),
                None => whole = false,
            }
        }
        if !whole && !text.is_empty() {
            let mut copy = b"X-Original-Cc:".to_vec();
            copy.extend_from_slice(&raw[raw.len() - value.len()..]);
            self.copy(&copy, b"X-Original-Cc", value);
        }
        for worker in std::mem::take(&mut self.case_workers) {
            if let Some(envelope) = &mut self.envelope {
                envelope.wants(&worker);
            }
            self.notes.push(format!("Cc: {worker}, the case worker"));
            kept.push(("", worker));
        }
        let texts: Vec<String> = kept
            .iter()
            .map(|(name, address)| mailbox_text(name, address, 4, self.utf8))
            .collect();
        self.seen.push("cc".to_owned());
        self.line(&format!("Cc: {}", texts.join(",\r\n\t")));
    }

    /// Recipients that no field names, for a server that knows no envelope. It removes the field.
    fn hidden(&mut self) {
        let Some(envelope) = &self.envelope else {
            return;
        };
        // Written as a mailbox: a local part may hold what means something in a list.
        let hidden: Vec<String> = envelope
            .left()
            .map(|address| mailbox_text("", address, 5, self.utf8))
            .collect();
        if hidden.is_empty() {
            return;
        }
        let count = hidden.len();
        let line = format!("Bcc: {}", hidden.join(",\r\n\t"));
        self.line(&line);
        self.notes.push(format!(
            "Bcc: {count} recipients that no field names; the API removes it before it delivers"
        ));
    }

    /// A field as it is, or encoded where raw 8-bit or long lines would not pass.
    fn copy(&mut self, raw: &[u8], name: &[u8], value: &[u8]) {
        let before = self.out.len();
        push_field(raw, name, value, self.utf8, &mut self.out);
        if self.out[before..] != *raw {
            self.notes.push(format!(
                "{}: raw 8-bit text or long lines encoded (RFC 2047)",
                String::from_utf8_lossy(name)
            ));
        }
        if !self.out.ends_with(b"\r\n") {
            self.out.extend_from_slice(b"\r\n");
        }
    }

    fn from(&mut self, raw: &[u8], name: &[u8], value: &[u8]) {
        if self.keep_from {
            self.copy(raw, name, value);
            self.notes
                .push(format!("From: kept, {} may be used", self.from_address));
            return;
        }
        self.write_from();
        let ours = self.settings.address.clone();
        match (&self.application.from, &self.application.from_text) {
            (Some((_, original)), _) if original.same_mailbox(&ours) => {}
            (Some((_, original)), _) if !original.needs_smtputf8() || self.utf8 => {
                let line = format!("X-Original-From: {}", original.with_ascii_domain());
                self.notes
                    .push(format!("From: {original} replaced by {ours}"));
                self.line(&line);
            }
            (_, Some(_)) => self.notes.push(format!("From: replaced by {ours}")),
            (_, None) => {}
        }
    }

    fn write_from(&mut self) {
        let text = mailbox_text(&self.settings.name, &self.settings.address, 6, self.utf8);
        self.line(&format!("From: {text}"));
    }

    fn reply_to(&mut self) {
        let fixed = |address: &Address| format!("Reply-To: {}", address.with_ascii_domain());
        let original = self
            .application
            .from
            .as_ref()
            .filter(|(_, a)| !a.needs_smtputf8() || self.utf8)
            .map(|(name, address)| {
                format!("Reply-To: {}", mailbox_text(name, address, 10, self.utf8))
            });
        let (line, note) = match &self.settings.reply_to {
            ReplyTo::Untouched => return,
            ReplyTo::Fixed(address) => (Some(fixed(address)), "as configured"),
            ReplyTo::OriginalFromElse(_) if original.is_some() => {
                (original, "the application's From")
            }
            ReplyTo::OriginalFromElse(address) | ReplyTo::ApplicationElse(address) => {
                match self.application.reply_to.clone() {
                    Some(raw) => {
                        let colon = raw.iter().position(|b| *b == b':').unwrap_or(0);
                        self.copy(&raw, b"Reply-To", &raw[colon + 1..]);
                        (None, "the application's")
                    }
                    None => (Some(fixed(address)), "the default"),
                }
            }
        };
        if let Some(line) = line {
            self.line(&line);
        }
        self.notes.push(format!("Reply-To: {note}"));
    }

    /// Adds what is missing (RFC 6409 section 8).
    fn complete(&mut self, source: &Source<'_>, mime: &Mime) {
        if !self.again("from") {
            self.write_from();
            self.notes.push("From: was missing, added".to_owned());
        }
        if !self.ours && !self.again("reply-to") {
            self.reply_to();
        }
        if !self.again("date") {
            self.line(&format!("Date: {}", date::format(source.accepted)));
            self.notes.push("Date: added".to_owned());
        }
        if !self.again("message-id") {
            // Made of the queue id, so every attempt has the same.
            self.line(&format!(
                "Message-ID: <{}@{}>",
                source.id,
                self.from_address.ascii_domain()
            ));
            self.notes.push("Message-ID: added".to_owned());
        }
        if !self.case_workers.is_empty() {
            self.cc(b"", b"");
        }
        if !self.has("to") && !self.has("cc") {
            self.line("To: undisclosed-recipients:;");
            self.notes.push("To: was missing, added".to_owned());
        }
        self.hidden();
        if !self.again("mime-version") {
            self.line("MIME-Version: 1.0");
        }
        if let Some(charset) = mime.guessed_charset {
            self.line(&format!("Content-Type: text/plain; charset={charset}"));
            self.notes
                .push(format!("Content-Type: was missing, the text is {charset}"));
        }
        let encoding = match &mime.converted {
            Some(converted) => Some(converted.encoding),
            None => mime.guessed_charset.map(|_| "8bit"),
        };
        if let Some(encoding) = encoding
            && !self.again("content-transfer-encoding")
        {
            self.line(&format!("Content-Transfer-Encoding: {encoding}"));
        }
    }
}

fn message_id_valid(value: &str) -> bool {
    let inner = value
        .strip_prefix('<')
        .and_then(|v| v.strip_suffix('>'))
        .unwrap_or("");
    inner.len() <= 900
        && inner.contains('@')
        && inner
            .chars()
            .all(|c| c.is_ascii_graphic() && !"<>".contains(c))
}

/// d= of a DKIM-Signature.
fn signature_domain(value: &str) -> Option<String> {
    value.split(';').find_map(|tag| {
        tag.trim()
            .strip_prefix("d")
            .and_then(|rest| rest.trim_start().strip_prefix('='))
            .map(|d| d.trim().to_owned())
    })
}

/// The Subject as a reader shows it, for lists and captured files.
pub fn subject(message: &[u8], header: &Header) -> String {
    header
        .first(message, "Subject")
        .map(|s| rfc2047::decode_words(&s))
        .unwrap_or_default()
}
