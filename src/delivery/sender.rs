//! Whose sender a message leaves with, by today's settings and the chosen route.

use bytes::Bytes;

use crate::message::Content;
use crate::message::header::Header;
use crate::prepare::{self, Preparation, PrepareError, Source, dkim, rewrite};
use crate::smtp::address::Address;
use crate::smtp::capabilities::Capabilities;
use crate::spool::Stored;
use crate::tenant::document::{DocumentType, Facts};
use crate::tenant::route::Route;
use crate::tenant::sender::{Choice, MissingGrant};
use crate::tenant::{ReplyTo, SystemSender, Tenant};
use crate::transport::Upstream;
use crate::transport::smtp::Utf8Headers;

/// What there is to prepare, and for whom.
#[derive(Clone, Copy)]
pub struct Job<'a> {
    /// Whose mail it is.
    pub tenant: &'a Tenant,
    /// The way it goes.
    pub route: &'a Route,
    /// The message.
    pub stored: &'a Stored,
    /// Its bytes.
    pub content: &'a Bytes,
    /// The recipients of this attempt, as indexes into the envelope.
    pub recipients: &'a [usize],
    /// Our name.
    pub hostname: &'a str,
    /// Where the signing keys are.
    pub secrets: &'a crate::vault::Secrets,
    /// What the server can.
    pub capabilities: &'a Capabilities,
    /// The server refuses a null return path.
    pub null_refused: bool,
    /// Another sender than the rules give: a test whether the server takes it.
    pub from: Option<&'a Address>,
    /// As if it were of this type: a test.
    pub document: Option<&'a DocumentType>,
    /// What goes along to support.
    pub information: Option<&'a str>,
}

/// Prepares a message for a route. The one way, for delivery, `test` and `preview` alike.
pub fn prepare_for(job: &Job<'_>) -> Result<Preparation, PrepareError> {
    let Job { stored, route, .. } = *job;
    let settings = sender_settings(job)?;
    let mut signers = Vec::new();
    for key in signing_keys(job.tenant, route) {
        let loaded = key
            .key(job.secrets)
            .map_err(|e| PrepareError::Signing(e.to_string()))?;
        signers.push(dkim::Signer {
            domain: &key.domain,
            selector: &key.selector,
            key: loaded,
        });
    }
    let source = Source {
        id: stored.id,
        accepted: stored.accepted,
        origin: &stored.origin,
        envelope: &stored.envelope,
        recipients: job.recipients,
        content: job.content,
        ours: stored.kind.is_ours(),
        null_refused: job.null_refused,
    };
    prepare::prepare(&source, &settings, &signers, job.capabilities)
}

/// The keys that sign what leaves by this route.
pub fn signing_keys<'a>(
    tenant: &'a Tenant,
    route: &'a Route,
) -> impl Iterator<Item = &'a dkim::SigningKey> {
    let keys = match route {
        Route::System { system, .. } if system.sender == SystemSender::System => &system.dkim,
        Route::Own(_) | Route::System { .. } => &tenant.dkim,
    };
    keys.iter()
        .filter(|key| key.when != dkim::When::Auto || !route.upstream().signs_itself())
}

/// The sender that this route gives the message, by today's settings.
fn sender_settings(job: &Job<'_>) -> Result<prepare::Settings, PrepareError> {
    let Job {
        tenant,
        route,
        stored,
        ..
    } = *job;
    let rules = &tenant.sender;
    let utf8_headers = match route.upstream().as_ref() {
        Upstream::Smtp(settings) => settings.utf8_headers,
        Upstream::Graph(_) | Upstream::Gmail(_) | Upstream::Capture(_) => Utf8Headers::Auto,
    };
    let mut settings = prepare::Settings {
        address: rules.address.clone(),
        name: rules.name.clone(),
        keep_from: false,
        reply_to: prepare::ReplyTo::Untouched,
        return_path: rules.return_path.clone(),
        utf8_headers,
        hostname: job.hostname.to_owned(),
        detour: None,
        recipients_in_header: route.upstream().takes_recipients_from_header(),
        own_domains: Vec::new(),
        removed: Vec::new(),
        signature: None,
        information: job.information.map(str::to_owned),
        notes: Vec::new(),
    };
    if !stored.kind.is_ours() {
        by_rules(job, &mut settings)?;
    }
    if let Some(from) = job.from {
        settings.address = from.clone();
        settings.keep_from = false;
    }
    let own_domains = tenant.dkim.iter().map(|k| k.domain.clone());
    settings.own_domains = own_domains
        .chain([settings.address.ascii_domain()])
        .collect();
    if let Route::System {
        system, fallback, ..
    } = route
    {
        settings.detour = Some(if *fallback {
            "system-relay; reason=own-upstream-failing"
        } else {
            "system-relay"
        });
        settings.return_path = Some(system.email.clone());
        if system.sender == SystemSender::System {
            settings.address = system.email.clone();
            settings.name.clone_from(&system.name);
            settings.keep_from = false;
            settings
                .notes
                .push("sender: the system relay's own".to_owned());
        }
    }
    Ok(settings)
}

/// What the tenant's rules make of an application's message.
fn by_rules(job: &Job<'_>, settings: &mut prepare::Settings) -> Result<(), PrepareError> {
    let tenant = job.tenant;
    let choice = if job.document.is_some() || tenant.has_one_sender() {
        tenant.sender_of(None, job.document, false)
    } else {
        match Header::parse(job.content) {
            Ok(header) => choose(tenant, job.stored, job.content, &header),
            Err(_) => return Ok(()), // preparation says so
        }
    };
    let choice = choice.map_err(|missing| PrepareError::Sender(missing.to_string()))?;
    settings.address = choice.address.clone();
    choice.name.clone_into(&mut settings.name);
    settings.keep_from = choice.keeps_from;
    settings.reply_to = match choice.reply_to {
        ReplyTo::Application => prepare::ReplyTo::ApplicationElse(choice.reply_else.clone()),
        ReplyTo::OriginalFrom => prepare::ReplyTo::OriginalFromElse(choice.reply_else.clone()),
        ReplyTo::Fixed(address) => prepare::ReplyTo::Fixed(address.clone()),
    };
    settings.signature = choice.own.and_then(|user| user.signature.clone());
    settings
        .removed
        .extend(tenant.copies.case_worker_header.clone());
    let told_by = choice.document.filter(|d| d.removes_header);
    settings
        .removed
        .extend(told_by.and_then(|d| d.rule.header.as_ref().map(|(name, _)| name.clone())));
    if let Some(document) = choice.document {
        settings.notes.push(format!("document: {}", document.name));
    }
    settings.notes.push(format!("sender: {}", choice.why));
    Ok(())
}

/// Whose sender a message gets by today's rules.
fn choose<'a>(
    tenant: &'a Tenant,
    stored: &Stored,
    head: &[u8],
    header: &Header,
) -> Result<Choice<'a>, MissingGrant> {
    let login = stored.origin.login.as_deref();
    let facts = Facts {
        login,
        listener: &stored.origin.listener,
        mail_from: stored.envelope.mail_from.as_ref(),
        message: head,
        header,
    };
    let from = rewrite::application_from(head, header);
    tenant.choose_sender(login.and_then(|l| tenant.user(l)), &facts, from.as_ref())
}

/// The return path that a message leaves with today: where its bounce goes. Without one of its
/// own that is the From address, the application's where that is kept.
pub fn return_path(tenant: &Tenant, stored: &Stored) -> Address {
    let rules = &tenant.sender;
    if let Some(address) = &rules.return_path {
        return address.clone();
    }
    if stored.kind.is_ours() || tenant.has_one_sender() {
        return rules.address.clone();
    }
    let head = head(stored);
    let Ok(header) = Header::parse(&head) else {
        return rules.address.clone();
    };
    match choose(tenant, stored, &head, &header) {
        Ok(choice) if choice.keeps_from => {
            rewrite::application_from(&head, &header).unwrap_or_else(|| choice.address.clone())
        }
        Ok(choice) => choice.address.clone(),
        Err(_) => rules.address.clone(),
    }
}

/// The beginning of a message with its whole header section; empty if it cannot be read.
pub(super) fn head(stored: &Stored) -> Bytes {
    use std::io::Read as _;
    // The blank line included.
    let limit = crate::message::content::HEADER_LIMIT + 2;
    if let Some(bytes) = stored.content.in_memory() {
        return bytes.slice(..bytes.len().min(limit));
    }
    let Content::File { path, .. } = &stored.content else {
        return Bytes::new();
    };
    let mut head = Vec::new();
    match std::fs::File::open(path).and_then(|file| file.take(limit as u64).read_to_end(&mut head))
    {
        Ok(_) => head.into(),
        Err(_) => Bytes::new(),
    }
}
