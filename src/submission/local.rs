//! Mail handed in without a socket: by `postbote sendmail`, over the control socket or straight
//! into the spool of a stopped server. The same admission as for SMTP.

use std::time::Duration;

use super::admit::{self, Now};
use super::runs::Runs;
use super::{Answer, AuthMode, ListenAddress, PlaintextAuth, Settings, TlsMode, reply_for};
use crate::message::{Envelope, MessageId, TenantId};
use crate::prepare::Origin;
use crate::smtp::command::MailFrom;
use crate::smtp::data::{BareNewline, canonical};
use crate::smtp::reply::Reply;
use crate::spool::Spool;

/// The listener name that such mail has in logs and metrics.
pub const LISTENER: &str = "sendmail";

/// The listener that SMTP on standard input seems to come through.
pub fn listener(tenant: TenantId) -> Settings {
    Settings {
        name: LISTENER.to_owned(),
        address: ListenAddress::Systemd("stdin".to_owned()),
        tls: TlsMode::None,
        certificate: None,
        auth: AuthMode::None,
        plaintext_auth: PlaintextAuth::Never,
        tenant: Some(tenant),
        networks: Vec::new(),
        bare_newline: BareNewline::Legacy, // programs write LF to a pipe
        answer: Answer::Queued,
        answer_within: Duration::ZERO,
        legacy_auth_line: false,
        max_connections: 1,
    }
}

/// Admits and commits a message; a refusal is the reply that SMTP would have given.
pub async fn submit(
    now: &Now,
    runs: &Runs,
    spool: &Spool,
    tenant: &TenantId,
    envelope: Envelope,
    raw: &[u8],
) -> Result<MessageId, Reply> {
    let Some(tenant) = now.directory.tenant(tenant) else {
        return Err(reply_for::Refusal::UnknownClient.reply());
    };
    let mail = MailFrom {
        address: envelope.mail_from.clone(),
        size: Some(raw.len() as u64),
        ..MailFrom::default()
    };
    let begun = admit::begin(now, spool, None, tenant, &mail).map_err(|r| r.reply())?;
    if envelope.recipients.is_empty() {
        return Err(Reply::new(554, (5, 5, 1), "No recipients"));
    }
    if envelope.recipients.len() > now.max_recipients {
        return Err(reply_for::Refusal::TooManyRecipients(now.max_recipients).reply());
    }
    let (text, findings) = canonical(raw);
    let mut content = spool.incoming();
    content
        .push(&text)
        .map_err(|e| reply_for::store_error(&crate::spool::StoreError::Failed(e.to_string())))?;
    let origin = Origin {
        helo: now.hostname.clone(),
        protocol: "local".to_owned(),
        listener: LISTENER.to_owned(),
        ..Origin::default()
    };
    let (from, size) = (envelope.mail_from.clone(), content.size());
    let admitted = admit::framing(findings, false)
        .and_then(|()| admit::content(now, runs, &begun, envelope, origin, false, content))
        .map_err(|r| r.reply())?;
    let recipients: Vec<String> = admitted
        .envelope
        .recipients
        .iter()
        .chain(&admitted.apart)
        .map(|r| r.address.to_string())
        .collect();
    let mut spooled = spool
        .commit(admitted)
        .await
        .map_err(|e| reply_for::store_error(&e))?;
    spool.release(&mut spooled);
    spool.went_on(&spooled);
    for to in recipients {
        tracing::info!(id = %spooled.id(), tenant = %begun.tenant.id, event = "accepted", from = %from.as_ref().map_or_else(|| "<>".to_owned(), ToString::to_string), to = %to, size = size, client = "local", listener = LISTENER);
    }
    Ok(spooled.id())
}
