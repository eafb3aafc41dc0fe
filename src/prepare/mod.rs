//! From the stored original to what leaves: sender rewritten, trace and missing fields added,
//! made 7-bit where the next server demands it, signed last. As the settings are *now*, so a
//! corrected setting heals mail that is already waiting.

pub mod attach;
mod delimiters;
pub mod detach;
pub mod dkim;
pub mod encode;
pub mod rewrite;
pub mod signature;

use bytes::Bytes;
use jiff::Timestamp;

use crate::failure::{Class, Scope, Stage};
use crate::message::header::Header;
use crate::message::{Envelope, MessageId, Recipient};
use crate::smtp::address::Address;
use crate::smtp::capabilities::Capabilities;

/// What a route says about the sender of what leaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From address.
    pub address: Address,
    /// Sender name.
    pub name: String,
    /// Keep the application's From: its user may use it, and the tenant allows that.
    pub keep_from: bool,
    /// Where answers go.
    pub reply_to: ReplyTo,
    /// MAIL FROM; `None`: the From address.
    pub return_path: Option<Address>,
    /// Headers may be raw UTF-8 (RFC 6532).
    pub utf8_headers: Utf8Headers,
    /// Our own name.
    pub hostname: String,
    /// Why another than the tenant's own route carries it, for the `X-` header.
    pub detour: Option<&'static str>,
    /// The server takes its recipients from To, Cc and Bcc: they are made equal to the envelope.
    pub recipients_in_header: bool,
    /// Domains whose old signatures the rewriting breaks, so they are removed.
    pub own_domains: Vec<String>,
    /// Fields that do not leave, in lower case.
    pub removed: Vec<String>,
    /// The user's signature, for text and HTML.
    pub signature: Option<String>,
    /// System information that goes along as an attachment.
    pub information: Option<String>,
    /// Which rules chose the sender, for `preview --explain`.
    pub notes: Vec<String>,
}

/// Where answers go.
#[derive(Debug, Clone)]
pub enum ReplyTo {
    /// The application's Reply-To, else this address.
    ApplicationElse(Address),
    /// The application's From, else its Reply-To, else this address.
    OriginalFromElse(Address),
    /// Always this.
    Fixed(Address),
    /// Left as it is: mail of our own.
    Untouched,
}

/// Whether headers may be raw UTF-8.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Utf8Headers {
    /// Only where an address needs SMTPUTF8 anyway.
    Auto,
    /// Wherever the server offers SMTPUTF8.
    Always,
    /// Never.
    Never,
}

/// How a message came to us, for its Received field.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize, PartialEq, Eq, Default)]
pub struct Origin {
    /// What the client called itself.
    pub helo: String,
    /// Where it connected from, as text.
    pub peer: String,
    /// The `with` word of RFC 3848.
    pub protocol: String,
    /// The listener.
    pub listener: String,
    /// Its login.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<String>,
    /// It is no part of a run of serial mail.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub single: bool,
}

/// What there is to prepare.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    /// Its id.
    pub id: MessageId,
    /// When it was accepted; every attempt uses the same time.
    pub accepted: Timestamp,
    /// How it came.
    pub origin: &'a Origin,
    /// The whole envelope.
    pub envelope: &'a Envelope,
    /// The recipients of this attempt, as indexes into the envelope.
    pub recipients: &'a [usize],
    /// The original.
    pub content: &'a Bytes,
    /// A message of our own (bounce, notice, test): its sender fields are already right.
    pub ours: bool,
    /// The server refuses a null return path: a bounce or notice goes out under the sender's own address
    /// (it is marked as a bounce here and never bounced again).
    pub null_refused: bool,
}

/// A message ready for one transport. Only [`prepare`] makes it, so nothing unprepared can leave.
#[derive(Debug, Clone)]
pub struct Prepared {
    from: Address,
    mail_from: Option<Address>,
    recipients: Vec<PreparedRecipient>,
    head: Vec<u8>,
    body: Bytes,
    eight_bit: bool,
    smtputf8: bool,
    ret_full: Option<bool>,
    envid: Option<String>,
    notes: Vec<String>,
    no_signature: Option<String>,
}

/// One recipient of a prepared message.
#[derive(Debug, Clone)]
pub struct PreparedRecipient {
    /// Its index in the stored envelope.
    pub index: usize,
    /// As it goes into RCPT TO.
    pub address: String,
    /// Its DSN wishes.
    pub recipient: Recipient,
}

impl Prepared {
    /// The From address.
    pub fn from(&self) -> &Address {
        &self.from
    }

    /// MAIL FROM; `None` is the null return path.
    pub fn mail_from(&self) -> Option<&Address> {
        self.mail_from.as_ref()
    }

    /// The recipients.
    pub fn recipients(&self) -> &[PreparedRecipient] {
        &self.recipients
    }

    /// Header section with its blank line.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// Body.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Octets of the whole.
    pub fn size(&self) -> u64 {
        (self.head.len() + self.body.len()) as u64
    }

    /// BODY=8BITMIME is needed.
    pub fn eight_bit(&self) -> bool {
        self.eight_bit
    }

    /// SMTPUTF8 is needed.
    pub fn smtputf8(&self) -> bool {
        self.smtputf8
    }

    /// RET.
    pub fn ret_full(&self) -> Option<bool> {
        self.ret_full
    }

    /// ENVID, xtext.
    pub fn envid(&self) -> Option<&str> {
        self.envid.as_deref()
    }

    /// Why the user's signature could not be added.
    pub fn no_signature(&self) -> Option<&str> {
        self.no_signature.as_deref()
    }

    /// Which rule did what, for `preview --explain`.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

/// Why something cannot be prepared for this route.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// The sender that today's rules give it may not be used (5.7.1). Admission refuses such mail;
    /// only a right that was taken since gets here.
    #[error("{0}")]
    Sender(String),
    /// An address needs SMTPUTF8 and the server does not offer it (5.6.7).
    #[error("the address {0} needs SMTPUTF8, which the server does not offer")]
    Utf8Address(String),
    /// Larger than the server takes (5.3.4).
    #[error("the message has {size} octets, the server takes at most {limit}")]
    TooLarge {
        /// Ours.
        size: u64,
        /// Theirs.
        limit: u64,
    },
    /// The header cannot be read (5.6.0). Admission refuses such messages; only a damaged or
    /// very old one gets here.
    #[error("the message cannot be used: {0}")]
    Unusable(String),
    /// It cannot be made 7-bit (5.6.3).
    #[error("the message cannot be converted: {0}")]
    Conversion(encode::EncodeError),
    /// It could not be signed; unsigned it must not leave.
    #[error("the message cannot be signed: {0}")]
    Signing(String),
}

impl PrepareError {
    /// How far it reaches, what to do, where it happened.
    pub fn classify(&self) -> (Scope, Class, Stage) {
        match self {
            PrepareError::Sender(_)
            | PrepareError::Utf8Address(_)
            | PrepareError::TooLarge { .. }
            | PrepareError::Unusable(_)
            | PrepareError::Conversion(_) => (Scope::Message, Class::Permanent, Stage::Prepare),
            PrepareError::Signing(_) => (Scope::Route, Class::Suspend, Stage::Prepare),
        }
    }

    /// The enhanced status for a bounce.
    pub fn status(&self) -> &'static str {
        match self {
            PrepareError::Sender(_) => "5.7.1",
            PrepareError::Utf8Address(_) => "5.6.7",
            PrepareError::TooLarge { .. } => "5.3.4",
            PrepareError::Unusable(_) => "5.6.0",
            PrepareError::Conversion(_) => "5.6.3",
            PrepareError::Signing(_) => "5.7.20",
        }
    }
}

/// The content with what is added to its body; `None`: nothing is.
fn add_to_body(
    source: &Source<'_>,
    settings: &Settings,
    notes: &mut Vec<String>,
    no_signature: &mut Option<String>,
) -> Option<Bytes> {
    let mut changed: Option<Bytes> = None;
    if let Some(text) = settings.signature.as_ref().filter(|_| !source.ours) {
        let header = Header::parse(source.content).ok()?;
        match signature::insert(source.content, &header, text) {
            Ok(signed) => {
                notes.push("signature: added".to_owned());
                changed = Some(signed.into());
            }
            Err(why) => {
                notes.push(format!("signature: not added, {why}"));
                if why.is_worth_a_word() {
                    *no_signature = Some(why.to_string());
                }
            }
        }
    }
    if let Some(information) = &settings.information {
        let content = changed.as_ref().unwrap_or(source.content);
        let header = Header::parse(content).ok()?;
        let attached = attach::text(content, &header, "postbote.txt", information);
        notes.push("system information: attached".to_owned());
        changed = Some(attached.into());
    }
    changed
}

/// The outcome: what leaves, and recipients that cannot be reached this way.
#[derive(Debug)]
pub struct Preparation {
    /// What leaves; `None` when no recipient is left.
    pub prepared: Option<Prepared>,
    /// Recipients that need SMTPUTF8 where there is none.
    pub refused: Vec<(usize, PrepareError)>,
}

/// Prepares a message for a route whose server has these capabilities.
pub fn prepare(
    source: &Source<'_>,
    settings: &Settings,
    signers: &[dkim::Signer<'_>],
    capabilities: &Capabilities,
) -> Result<Preparation, PrepareError> {
    let mut notes = settings.notes.clone();
    let mut no_signature = None;
    let added = add_to_body(source, settings, &mut notes, &mut no_signature);
    let source = &Source {
        content: added.as_ref().unwrap_or(source.content),
        ..*source
    };
    let mut refused = Vec::new();
    let mut recipients = Vec::new();
    let mut needs_utf8 = false;
    for &index in source.recipients {
        let Some(recipient) = source.envelope.recipients.get(index) else {
            continue;
        };
        if recipient.address.needs_smtputf8() {
            if !capabilities.smtputf8 {
                refused.push((
                    index,
                    PrepareError::Utf8Address(recipient.address.to_string()),
                ));
                continue;
            }
            needs_utf8 = true;
        }
        recipients.push(PreparedRecipient {
            index,
            address: recipient.address.with_ascii_domain(),
            recipient: recipient.clone(),
        });
    }
    if recipients.is_empty() {
        return Ok(Preparation {
            prepared: None,
            refused,
        });
    }
    let rewritten = rewrite::rewrite(
        source,
        settings,
        &recipients,
        needs_utf8,
        capabilities,
        &mut notes,
    )?;
    needs_utf8 |= rewritten.needs_utf8;
    let body_utf8_header = rewritten.utf8_header;
    let mut head = rewritten.head;
    let body = match rewritten.converted {
        Some(converted) => {
            notes.push(format!(
                "body: converted to {} because the server takes 7-bit lines of at most {} octets",
                converted.encoding,
                encode::LINE_LIMIT
            ));
            Bytes::from(converted.body)
        }
        None => rewritten.body,
    };
    if !signers.is_empty() {
        let mut signed = dkim::sign(signers, &head, &body, Timestamp::now().as_second())
            .map_err(PrepareError::Signing)?;
        for signer in signers {
            notes.push(format!(
                "DKIM: signed {} for d={} s={}",
                signer.key.algorithm(),
                signer.domain,
                signer.selector
            ));
        }
        signed.append(&mut head);
        head = signed;
    }
    let size = (head.len() + body.len()) as u64;
    if let Some(limit) = capabilities.size
        && size > limit
    {
        return Err(PrepareError::TooLarge { size, limit });
    }
    let eight_bit = encode::has_eight_bit(&body) || body_utf8_header;
    let prepared = Prepared {
        from: rewritten.from,
        mail_from: rewritten.mail_from,
        recipients,
        head,
        body,
        eight_bit,
        smtputf8: needs_utf8 || (body_utf8_header && capabilities.smtputf8),
        ret_full: source.envelope.ret_full,
        envid: source.envelope.envid.clone(),
        notes,
        no_signature,
    };
    Ok(Preparation {
        prepared: Some(prepared),
        refused,
    })
}
