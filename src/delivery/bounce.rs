//! Bounces and delay notices (RFC 3464), to the return path, in the tenant's language; more than
//! ten a minute to one return path become one digest. Never for a bounce.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::attempt::{Now, Tools};
use crate::explain::Language;
use crate::message::header::Header;
use crate::message::{Envelope, Recipient, TenantId, date};
use crate::prepare::Origin;
use crate::smtp::address::Address;
use crate::smtp::xtext;
use crate::spool::{
    Admitted, Kind, Notice, Owed, OwedRecipient, Spool, Spooled, StoreError, Stored,
};
use crate::tenant::Tenant;

/// Single notices a minute to one return path; what is more waits for a digest.
const SINGLE_LIMIT: usize = 10;
/// The minute.
const WINDOW: Duration = Duration::from_secs(60);
/// Longest piece of the original's header that a notice carries.
const HEADER_KEPT: usize = 8 * 1024;

/// What is owed to a return path for these recipients.
pub fn owed(
    stored: &Stored,
    return_path: &Address,
    recipients: Vec<OwedRecipient>,
    _now: &Now,
) -> Owed {
    Owed {
        id: stored.id.to_string(),
        tenant: stored.tenant.to_string(),
        return_path: return_path.to_string(),
        recipients,
        header: original_header(stored),
        accepted: stored.accepted.as_millisecond(),
        envid: stored.envelope.envid.clone(),
        notice: Notice::Failed,
        until: None,
    }
}

/// The original's header without its hidden recipients, cut where it gets long.
fn original_header(stored: &Stored) -> String {
    let bytes = super::sender::head(stored);
    let Ok(header) = Header::parse(&bytes) else {
        return String::new();
    };
    let mut out = String::new();
    for field in &header.fields {
        let name = String::from_utf8_lossy(&bytes[field.name.clone()]).to_ascii_lowercase();
        if matches!(name.as_str(), "bcc" | "resent-bcc")
            || out.len() + field.raw.len() > HEADER_KEPT
        {
            continue;
        }
        // As it would have left: encoded where it is not ASCII.
        let mut ascii = Vec::new();
        let (raw, value) = (&bytes[field.raw.clone()], &bytes[field.value.clone()]);
        crate::prepare::encode::push_field(
            raw,
            &bytes[field.name.clone()],
            value,
            false,
            &mut ascii,
        );
        out.push_str(&String::from_utf8_lossy(&ascii));
    }
    out
}

/// Turns what is owed into messages, and keeps count of the minute.
#[derive(Debug, Default)]
pub struct Bouncer {
    sent: HashMap<String, Vec<Instant>>,
    /// Return paths that have had their share: what is left comes in one digest.
    over: HashSet<String>,
}

impl Bouncer {
    /// Writes what may be written now; gives how long the rest has to wait.
    pub async fn work(&mut self, tools: &Tools, now: &Now) -> Option<Duration> {
        let owed = match tools.spool.owed().await {
            Ok(owed) => owed,
            Err(error) => {
                tracing::error!(event = "notices-unreadable", reason = %error);
                return Some(Duration::from_secs(10));
            }
        };
        let mut by_path: HashMap<(String, String), Vec<(i64, Owed)>> = HashMap::new();
        for (seq, notice) in owed {
            by_path
                .entry((notice.tenant.clone(), notice.return_path.clone()))
                .or_default()
                .push((seq, notice));
        }
        let mut wait: Option<Duration> = None;
        for ((tenant, path), notices) in by_path {
            let known = TenantId::parse(&tenant).and_then(|id| now.directory.tenant(&id).cloned());
            let Some(tenant) = known else {
                // The tenant is gone: nobody may be told in its name any more.
                strike(&tools.spool, notices.iter().map(|(seq, _)| *seq).collect()).await;
                continue;
            };
            let sent = self.sent.entry(path.clone()).or_default();
            sent.retain(|at| at.elapsed() < WINDOW);
            let room = if self.over.contains(&path) {
                0
            } else {
                SINGLE_LIMIT.saturating_sub(sent.len())
            };
            let mut notices = notices.into_iter();
            for (seq, notice) in notices.by_ref().take(room) {
                if self
                    .write(tools, now, &tenant, &path, &[(seq, notice)])
                    .await
                {
                    self.sent
                        .entry(path.clone())
                        .or_default()
                        .push(Instant::now());
                }
            }
            let rest: Vec<(i64, Owed)> = notices.collect();
            if rest.is_empty() {
                continue;
            }
            self.over.insert(path.clone());
            let sent = self.sent.entry(path.clone()).or_default();
            let free_in = sent.first().map_or(Duration::ZERO, |first| {
                WINDOW.saturating_sub(first.elapsed())
            });
            if free_in.is_zero() {
                if self.write(tools, now, &tenant, &path, &rest).await {
                    self.over.remove(&path);
                    self.sent.entry(path).or_default().push(Instant::now());
                }
            } else {
                wait = Some(wait.map_or(free_in, |w: Duration| w.min(free_in)));
            }
        }
        wait
    }

    /// Commits one message for these notices and strikes them out.
    async fn write(
        &self,
        tools: &Tools,
        now: &Now,
        tenant: &Tenant,
        path: &str,
        notices: &[(i64, Owed)],
    ) -> bool {
        let seqs: Vec<i64> = notices.iter().map(|(seq, _)| *seq).collect();
        let Ok(to) = Address::parse(path) else {
            strike(&tools.spool, seqs).await;
            return false;
        };
        let single: Vec<&Owed> = notices.iter().map(|(_, notice)| notice).collect();
        let text = compose(tenant, &now.hostname, &to, &single);
        match submit(
            &tools.spool,
            tenant.id.clone(),
            Kind::Bounce,
            std::slice::from_ref(&to),
            text.as_bytes(),
        )
        .await
        {
            Ok(mut spooled) => {
                tools.spool.release(&mut spooled);
                let id = spooled.id();
                for notice in single {
                    let event = match notice.notice {
                        Notice::Failed => "bounce",
                        Notice::Delayed => "delay-notice",
                        Notice::Relayed => "relay-notice",
                    };
                    tracing::info!(id = %notice.id, tenant = %tenant.id, event = event, to = %to, notice = %id);
                }
                strike(&tools.spool, seqs).await;
                true
            }
            Err(error) => {
                tracing::error!(tenant = %tenant.id, event = "notice-failed", reason = %error);
                false
            }
        }
    }
}

async fn strike(spool: &Spool, seqs: Vec<i64>) {
    if let Err(error) = spool.strike_owed(seqs).await {
        tracing::error!(event = "notice-failed", reason = %error);
    }
}

/// Puts a message of our own into the spool. Its return path is null; delivery learns of it by
/// [`Spool::release`].
pub(super) async fn submit(
    spool: &Spool,
    tenant: TenantId,
    kind: Kind,
    to: &[Address],
    message: &[u8],
) -> Result<Spooled, StoreError> {
    let mut content = spool.incoming();
    content
        .push(message)
        .map_err(|e| StoreError::Failed(e.to_string()))?;
    let envelope = Envelope {
        mail_from: None,
        recipients: to.iter().cloned().map(Recipient::new).collect(),
        smtputf8: false,
        ret_full: None,
        envid: None,
    };
    let admitted = Admitted {
        tenant,
        kind,
        envelope,
        origin: Origin::default(),
        content,
        held: false,
        hung_up: None,
        apart: Vec::new(),
    };
    spool.commit(admitted).await
}

/// The notice as RFC 3464 wants it: for people, for programs, and the original's header.
fn compose(tenant: &Tenant, hostname: &str, to: &Address, notices: &[&Owed]) -> String {
    let german = tenant.language == Language::De;
    let boundary = format!("=_postbote_{}", crate::message::MessageId::fresh());
    let name = if german {
        "Mail-Zustellung"
    } else {
        "Mail Delivery System"
    };
    let subject = subject(notices, german);
    let mut out = format!(
        "From: {name} <{}>\r\nTo: {}\r\nSubject: {subject}\r\nDate: {}\r\nAuto-Submitted: auto-replied\r\nMIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status;\r\n\tboundary=\"{boundary}\"\r\n\r\n--{boundary}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\n",
        tenant.sender.address.with_ascii_domain(),
        to.with_ascii_domain(),
        date::format(Timestamp::now()),
    );
    out.push_str(&quoted(&human(notices, german, hostname)));
    out.push_str(&format!(
        "\r\n--{boundary}\r\nContent-Type: message/delivery-status\r\n\r\n{}",
        machine(notices, hostname)
    ));
    if let [one] = notices {
        let header = ascii_header(&one.header);
        out.push_str(&format!(
            "\r\n--{boundary}\r\nContent-Type: text/rfc822-headers\r\n\r\n{header}"
        ));
    }
    out.push_str(&format!("\r\n--{boundary}--\r\n"));
    out
}

fn subject(notices: &[&Owed], german: bool) -> String {
    let same = |kind: Notice| notices.iter().all(|n| n.notice == kind);
    let kind = if same(Notice::Delayed) {
        Notice::Delayed
    } else if same(Notice::Relayed) {
        Notice::Relayed
    } else {
        Notice::Failed
    };
    let text = match (german, kind, notices.len()) {
        (true, Notice::Delayed, 1) => "Ihre Nachricht ist noch nicht zugestellt",
        (true, Notice::Failed, 1) => "Ihre Nachricht konnte nicht zugestellt werden",
        (true, Notice::Relayed, 1) => "Ihre Nachricht wurde weitergereicht",
        (true, Notice::Delayed, n) => return format!("{n} Nachrichten sind noch nicht zugestellt"),
        (true, Notice::Failed, n) => {
            return format!("{n} Nachrichten konnten nicht zugestellt werden");
        }
        (true, Notice::Relayed, n) => return format!("{n} Nachrichten wurden weitergereicht"),
        (false, Notice::Delayed, 1) => "Your message has not been delivered yet",
        (false, Notice::Failed, 1) => "Undelivered Mail Returned to Sender",
        (false, Notice::Relayed, 1) => "Your message was relayed",
        (false, Notice::Delayed, n) => return format!("{n} messages have not been delivered yet"),
        (false, Notice::Failed, n) => return format!("{n} messages could not be delivered"),
        (false, Notice::Relayed, n) => return format!("{n} messages were relayed"),
    };
    text.to_owned()
}

/// A text as quoted-printable lines.
pub(super) fn quoted(text: &str) -> String {
    let crlf = text.replace("\r\n", "\n").replace('\n', "\r\n");
    String::from_utf8(crate::prepare::encode::quoted_printable(crlf.as_bytes())).unwrap_or_default()
}

/// An address with its type (RFC 3464 section 2.3.2; RFC 6533 section 3 for letters in mailboxes).
fn dsn_address(text: &str) -> String {
    let Ok(address) = Address::parse(text) else {
        return format!("rfc822; {}", ascii_header(text));
    };
    let plain = address.with_ascii_domain();
    if plain.is_ascii() {
        return format!("rfc822; {plain}");
    }
    let encoded: String = plain
        .chars()
        .map(|c| {
            if c.is_ascii() {
                c.to_string()
            } else {
                format!("\\x{{{:X}}}", u32::from(c))
            }
        })
        .collect();
    format!("utf-8; {encoded}")
}

fn ascii_header(header: &str) -> String {
    header
        .chars()
        .map(|c| if c.is_ascii() { c } else { '?' })
        .collect()
}

fn human(notices: &[&Owed], german: bool, hostname: &str) -> String {
    let mut out = String::new();
    for notice in notices {
        let accepted = Timestamp::from_millisecond(notice.accepted)
            .map(date::format)
            .unwrap_or_default();
        let id = &notice.id;
        out.push_str(&match (german, notice.notice) {
            (true, Notice::Failed) => format!("Ihre Nachricht {id} vom {accepted} konnte nicht zugestellt werden an:\n"),
            (true, Notice::Delayed) => format!("Ihre Nachricht {id} vom {accepted} ist noch nicht zugestellt. Der Versand wird weiter versucht; Sie müssen nichts tun.\nNoch offen:\n"),
            (true, Notice::Relayed) => format!("Ihre Nachricht {id} vom {accepted} wurde einem Server übergeben, der über die Zustellung nichts weiter meldet:\n"),
            (false, Notice::Failed) => format!("Your message {id} of {accepted} could not be delivered to:\n"),
            (false, Notice::Delayed) => format!("Your message {id} of {accepted} has not been delivered yet. Delivery goes on; you need not do anything.\nStill open:\n"),
            (false, Notice::Relayed) => format!("Your message {id} of {accepted} was handed to a server that tells no more about its delivery:\n"),
        });
        for recipient in &notice.recipients {
            out.push_str(&format!("\n  {}\n", recipient.address));
            let label = |de: &str, en: &str| if german { de.to_owned() } else { en.to_owned() };
            if !recipient.reply.is_empty() {
                out.push_str(&format!(
                    "    {}: {}\n",
                    label("Antwort", "Answer"),
                    recipient.reply
                ));
            }
            if !recipient.cause.is_empty() {
                out.push_str(&format!(
                    "    {}: {}\n",
                    label("Ursache", "Cause"),
                    recipient.cause
                ));
            }
            if !recipient.remedy.is_empty() {
                out.push_str(&format!(
                    "    {}: {}\n",
                    label("Abhilfe", "Remedy"),
                    recipient.remedy
                ));
            }
        }
        out.push('\n');
    }
    out.push_str(&format!("-- \nPostbote, {hostname}\n"));
    out
}

fn machine(notices: &[&Owed], hostname: &str) -> String {
    let mut out = format!("Reporting-MTA: dns; {hostname}\r\n");
    if let [one] = notices {
        if let Some(envid) = one.envid.as_deref().and_then(xtext::decode) {
            out.push_str(&format!(
                "Original-Envelope-Id: {}\r\n",
                ascii_header(&envid)
            ));
        }
        if let Ok(at) = Timestamp::from_millisecond(one.accepted) {
            out.push_str(&format!("Arrival-Date: {}\r\n", date::format(at)));
        }
    }
    for notice in notices {
        for recipient in &notice.recipients {
            let action = match notice.notice {
                Notice::Failed => "failed",
                Notice::Delayed => "delayed",
                Notice::Relayed => "relayed",
            };
            out.push_str("\r\n");
            if let Some((kind, address)) =
                recipient.orcpt.as_deref().and_then(|o| o.split_once(';'))
            {
                out.push_str(&format!(
                    "Original-Recipient: {};{}\r\n",
                    ascii_header(kind),
                    ascii_header(&xtext::decode(address).unwrap_or_default())
                ));
            }
            out.push_str(&format!(
                "Final-Recipient: {}\r\nAction: {action}\r\nStatus: {}\r\n",
                dsn_address(&recipient.address),
                recipient.status
            ));
            if let Some(host) = recipient
                .relay
                .split(['[', ':'])
                .next()
                .filter(|h| !h.is_empty())
            {
                out.push_str(&format!("Remote-MTA: dns; {}\r\n", ascii_header(host)));
                let reply: String = ascii_header(&recipient.reply).chars().take(900).collect();
                out.push_str(&format!(
                    "Diagnostic-Code: smtp; {}\r\n",
                    crate::message::rfc2047::fold(&reply, 23)
                ));
            }
            out.push_str(&format!(
                "Last-Attempt-Date: {}\r\n",
                date::format(Timestamp::now())
            ));
            if let Some(until) = notice
                .until
                .and_then(|ms| Timestamp::from_millisecond(ms).ok())
            {
                out.push_str(&format!("Will-Retry-Until: {}\r\n", date::format(until)));
            }
        }
    }
    out
}
