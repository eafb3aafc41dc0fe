//! Admission: everything that can be refused is refused here, in the SMTP answer, before 250.
//!
//! Read this file and `delivery/attempt.rs`, and you know the whole way of a message.

use std::net::IpAddr;
use std::sync::Arc;

use super::reply_for::{Refusal, envelope_sender, who};
use super::runs::{self, Runs};
use super::{AuthMode, Settings};
use crate::message::header::{Header, HeaderError};
use crate::message::{Envelope, Recipient, Role, mailbox};
use crate::prepare::{Origin, rewrite};
use crate::smtp::address::Address;
use crate::smtp::command::MailFrom;
use crate::smtp::data::Findings;
use crate::spool::{Admitted, Incoming, Kind, Spool};
use crate::tenant::directory::Directory;
use crate::tenant::document::Facts;
use crate::tenant::{ApplicationFrom, Tenant, User, route};

/// Passages through this host that are a loop: once may be a second instance of that name.
const OWN_HOPS_LIMIT: usize = 2;
/// Most case workers of one message.
const CASE_WORKERS_LIMIT: usize = 10;
/// Most `Received` fields: more is a loop.
const HOPS_LIMIT: usize = 50;

/// The settings that admission follows, as they are now.
#[derive(Debug, Clone)]
pub struct Now {
    /// Tenants and system relay.
    pub directory: Arc<Directory>,
    /// Our name.
    pub hostname: String,
    /// Octets.
    pub max_message_size: u64,
    /// A message.
    pub max_recipients: usize,
    /// Refuse everything.
    pub sending_off: bool,
    /// Keep everything.
    pub sending_hold: bool,
}

/// Who is asking.
#[derive(Debug, Clone, Copy)]
pub struct Client<'a> {
    /// Its login.
    pub login: Option<&'a str>,
    /// Its address; `None` on a UNIX socket.
    pub peer: Option<IpAddr>,
    /// The listener it came through.
    pub listener: &'a Settings,
}

/// A transaction that has begun: MAIL FROM was accepted for this tenant.
#[derive(Debug, Clone)]
pub struct Begun {
    /// Whose mail it is.
    pub tenant: Arc<Tenant>,
    /// The login's user.
    pub user: Option<Arc<User>>,
    /// Octets that this tenant may send.
    pub size_limit: u64,
}

/// Largest message that this client can hand in: our limit and what its upstream last said.
pub fn size_limit(now: &Now, spool: &Spool, tenant: Option<&Tenant>) -> u64 {
    let upstream = tenant.and_then(|tenant| {
        let route = route::first_choice(tenant, now.directory.system()).ok()?;
        spool.upstream_size(&route.key(tenant).to_text())
    });
    upstream.map_or(now.max_message_size, |size| size.min(now.max_message_size))
}

/// Whose mail a client without further words would send.
pub fn identify<'n>(now: &'n Now, client: Client<'_>) -> Option<&'n Arc<Tenant>> {
    now.directory
        .identify(client.login, client.listener.tenant.as_ref(), client.peer)
        .map(|(tenant, _)| tenant)
}

/// MAIL FROM.
pub fn mail(
    now: &Now,
    spool: &Spool,
    client: Client<'_>,
    mail: &MailFrom,
) -> Result<Begun, Refusal> {
    if client.login.is_none() && client.listener.auth == AuthMode::Required {
        return Err(Refusal::AuthRequired);
    }
    let Some(tenant) = identify(now, client) else {
        return Err(match client.login {
            Some(_) => Refusal::AuthFailed, // the login has vanished since
            None if client.listener.auth != AuthMode::None && now.directory.has_logins() => {
                Refusal::AuthRequired
            }
            None => Refusal::UnknownClient,
        });
    };
    begin(now, spool, client.login, tenant, mail)
}

/// The same once it is known whose mail it is.
pub fn begin(
    now: &Now,
    spool: &Spool,
    login: Option<&str>,
    tenant: &Arc<Tenant>,
    mail: &MailFrom,
) -> Result<Begun, Refusal> {
    if now.sending_off {
        return Err(Refusal::SendingOff);
    }
    if let Err(reason) = route::first_choice(tenant, now.directory.system()) {
        return Err(Refusal::NoRoute(reason.to_string()));
    }
    let user = login
        .and_then(|login| now.directory.login(login))
        .map(|(_, user)| Arc::clone(user));
    check_return_path(tenant, user.as_deref(), mail.address.as_ref())?;
    let limit = size_limit(now, spool, Some(tenant));
    if mail.size.is_some_and(|size| size > limit) {
        return Err(Refusal::TooBig(limit));
    }
    let size = mail.size.unwrap_or(1);
    if !spool.room().grow_to(size) || !spool.disk_has_room(size) {
        return Err(Refusal::SpoolFull);
    }
    Ok(Begun {
        tenant: Arc::clone(tenant),
        user,
        size_limit: limit,
    })
}

/// Whether a client may give this return path.
pub fn check_return_path(
    tenant: &Tenant,
    user: Option<&User>,
    address: Option<&Address>,
) -> Result<(), Refusal> {
    match (tenant.sender.application_from, address) {
        (ApplicationFrom::RejectUnauthorized, Some(address)) if !tenant.may_use(user, address) => {
            let login = user.map(|user| user.login.as_str());
            Err(envelope_sender(address, who(login, &tenant.id)))
        }
        _ => Ok(()),
    }
}

/// What refuses a content whatever is in it: octets that hide an end of data.
pub fn framing(findings: Findings, refuses_bare: bool) -> Result<(), Refusal> {
    if findings.nul {
        return Err(Refusal::Nul {
            closes: findings.smuggling,
        });
    }
    if findings.smuggling {
        return Err(Refusal::Smuggling);
    }
    if refuses_bare && findings.bare_newline {
        return Err(Refusal::BareNewline);
    }
    Ok(())
}

/// The complete content, at its true end and with its framing in order. What passes may be made
/// durable.
pub fn content(
    now: &Now,
    runs: &Runs,
    begun: &Begun,
    mut envelope: Envelope,
    mut origin: Origin,
    too_big: bool,
    content: Incoming,
) -> Result<Admitted, Refusal> {
    if too_big || content.size() > begun.size_limit {
        return Err(Refusal::TooBig(begun.size_limit));
    }
    if content.size() == 0 {
        return Err(Refusal::Empty);
    }
    let head = content.head();
    let header = header(begun, &origin, &now.hostname, head)?;
    let apart = complete(&now.directory, begun, &origin, head, &header, &mut envelope)?;
    if begun.tenant.series.is_some() {
        let sender = envelope.mail_from.as_ref();
        origin.single = runs.is_single(&begun.tenant.id, &origin, sender)
            && !runs::names_itself_bulk(head, &header);
    }
    Ok(Admitted {
        tenant: begun.tenant.id.clone(),
        kind: Kind::Submission,
        envelope,
        origin,
        content,
        held: now.sending_hold,
        hung_up: None,
        apart,
    })
}

/// What the header alone can be refused for.
pub fn header(
    begun: &Begun,
    origin: &Origin,
    hostname: &str,
    head: &[u8],
) -> Result<Header, Refusal> {
    let header = Header::parse(head).map_err(|error| match error {
        HeaderError::TooBig => Refusal::HeaderTooBig,
        HeaderError::NotAField(_) | HeaderError::LeadingBlank => Refusal::Header(error.to_string()),
    })?;
    // Twice through this very host is a loop as well, however short.
    let ours = format!("by {hostname} (Postbote)");
    let through_us = header
        .all(head, "Received")
        .filter(|field| memchr::memmem::find(&head[field.value.clone()], ours.as_bytes()).is_some())
        .count();
    // Ours comes on top.
    if header.count(head, "Received") >= HOPS_LIMIT || through_us >= OWN_HOPS_LIMIT {
        return Err(Refusal::TooManyHops);
    }
    for name in ["Content-Type", "MIME-Version", "Content-Transfer-Encoding"] {
        if header.count(head, name) > 1 {
            return Err(Refusal::Header(format!(
                "{name} stands there more than once"
            )));
        }
    }
    if begun.tenant.sender.application_from == ApplicationFrom::RejectUnauthorized
        && header.count(head, "From") > 0
    {
        let address = rewrite::application_from(head, &header);
        let allowed = address
            .as_ref()
            .is_some_and(|a| begun.tenant.may_use(begun.user.as_deref(), a));
        if !allowed {
            let shown = address.map_or_else(
                || "a From that is not one address".to_owned(),
                |a| a.to_string(),
            );
            return Err(Refusal::Sender {
                place: "header",
                address: shown,
                user: who(origin.login.as_deref(), &begun.tenant.id),
            });
        }
    }
    Ok(header)
}

/// Who gets the message besides those whom the application has named: copies and case workers; and
/// support, where the alias stands among others: it gets a message of its own, which is given back.
/// Refused is a document type whose sender the user may not use.
pub fn complete(
    directory: &Directory,
    begun: &Begun,
    origin: &Origin,
    head: &[u8],
    header: &Header,
    envelope: &mut Envelope,
) -> Result<Vec<Recipient>, Refusal> {
    let tenant = &begun.tenant;
    let mut support = Vec::new();
    if let Some(settings) = directory.support() {
        let is_alias = |r: &Recipient| r.address.same_permission(&settings.alias);
        if let Some(named) = envelope.recipients.iter().find(|r| is_alias(r)) {
            support.push(Recipient {
                address: settings.address_for(tenant).clone(),
                role: Role::Support,
                ..named.clone()
            });
            envelope.recipients.retain(|r| !is_alias(r));
        }
        if envelope.recipients.is_empty() {
            envelope.recipients.append(&mut support);
            return Ok(support);
        }
    }
    if tenant.documents.is_empty() && tenant.copies.is_empty() {
        return Ok(support);
    }
    let application_from = rewrite::application_from(head, header);
    let facts = Facts {
        login: origin.login.as_deref(),
        listener: &origin.listener,
        mail_from: envelope.mail_from.as_ref(),
        message: head,
        header,
    };
    let choice = tenant
        .choose_sender(begun.user.as_deref(), &facts, application_from.as_ref())
        .map_err(Refusal::Document)?;
    let copies = tenant
        .copies
        .bcc
        .iter()
        .chain(choice.document.iter().flat_map(|d| &d.bcc));
    let sender = match &application_from {
        Some(kept) if choice.keeps_from => kept,
        _ => choice.address,
    };
    // The alias is for those whom an application names.
    let is_alias = |address: &Address| {
        let support = directory.support();
        support.is_some_and(|s| s.alias.same_permission(address))
    };
    for address in case_workers(tenant, head, header) {
        let is_sender = [Some(sender), application_from.as_ref()]
            .iter()
            .flatten()
            .any(|sender| sender.same_permission(&address));
        if !is_sender && !is_alias(&address) {
            add(envelope, address, Role::CaseWorker);
        }
    }
    for address in copies.filter(|address| !is_alias(address)) {
        add(envelope, address.clone(), Role::Copy);
    }
    Ok(support)
}

fn add(envelope: &mut Envelope, address: Address, role: Role) {
    let known = |r: &Recipient| r.address.same_permission(&address);
    if !envelope.recipients.iter().any(known) {
        envelope
            .recipients
            .push(Recipient::with_role(address, role));
    }
}

/// Whom the header names as case workers; what is no address is nobody.
fn case_workers(tenant: &Tenant, head: &[u8], header: &Header) -> Vec<Address> {
    let Some(name) = &tenant.copies.case_worker_header else {
        return Vec::new();
    };
    let text = header.first(head, name).unwrap_or_default();
    let found = mailbox::parse(&text).mailboxes.into_iter();
    found
        .filter_map(|m| m.address)
        .filter(|address| !address.needs_smtputf8())
        .take(CASE_WORKERS_LIMIT)
        .collect()
}
