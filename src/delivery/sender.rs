//! Whose sender a message leaves with, by today's settings and the chosen route.

use bytes::Bytes;

use crate::message::Content;
use crate::message::header::Header;
use crate::prepare::{self, Preparation, PrepareError, Source, dkim, rewrite};
use crate::smtp::address::Address;
use crate::smtp::capabilities::Capabilities;
use crate::spool::Stored;
use crate::tenant::route::Route;
use crate::tenant::{ApplicationFrom, ReplyTo, SystemSender, Tenant};
use crate::transport::Upstream;
use crate::transport::smtp::Utf8Headers;

/// Prepares a message for a route. The one way, for delivery, `test` and `preview` alike.
#[expect(
    clippy::too_many_arguments,
    reason = "each is a different thing; a struct would only name them again"
)]
pub fn prepare_for(
    tenant: &Tenant,
    route: &Route,
    stored: &Stored,
    content: &Bytes,
    recipients: &[usize],
    hostname: &str,
    secrets: &crate::vault::Secrets,
    capabilities: &Capabilities,
    null_refused: bool,
) -> Result<Preparation, PrepareError> {
    let settings = sender_settings(tenant, route, stored, content, hostname);
    let mut signers = Vec::new();
    for key in signing_keys(tenant, route) {
        let loaded = key
            .key(secrets)
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
        recipients,
        content,
        ours: stored.kind.is_ours(),
        null_refused,
    };
    prepare::prepare(&source, &settings, &signers, capabilities)
}

/// The keys that sign what leaves by this route.
pub(super) fn signing_keys<'a>(
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
fn sender_settings(
    tenant: &Tenant,
    route: &Route,
    stored: &Stored,
    content: &Bytes,
    hostname: &str,
) -> prepare::Settings {
    let rules = &tenant.sender;
    let utf8_headers = match route.upstream().as_ref() {
        Upstream::Smtp(settings) => settings.utf8_headers,
        Upstream::Graph(_) | Upstream::Gmail(_) | Upstream::Capture(_) => Utf8Headers::Auto,
    };
    let reply_to = match &rules.reply_to {
        _ if stored.kind.is_ours() => prepare::ReplyTo::Untouched,
        ReplyTo::Application => prepare::ReplyTo::ApplicationElse(tenant.email.clone()),
        ReplyTo::OriginalFrom => prepare::ReplyTo::OriginalFromElse(tenant.email.clone()),
        ReplyTo::Fixed(address) => prepare::ReplyTo::Fixed(address.clone()),
    };
    let own_domains = tenant
        .dkim
        .iter()
        .map(|k| k.domain.clone())
        .chain([rules.address.ascii_domain()])
        .collect();
    let mut settings = prepare::Settings {
        address: rules.address.clone(),
        name: rules.name.clone(),
        keep_from: false,
        reply_to,
        return_path: rules.return_path.clone(),
        utf8_headers,
        hostname: hostname.to_owned(),
        detour: None,
        recipients_in_header: route.upstream().takes_recipients_from_header(),
        own_domains,
    };
    if rules.application_from != ApplicationFrom::Replace {
        settings.keep_from = kept_from(tenant, stored, content).is_some();
    }
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
        }
    }
    settings
}

/// The return path that a message leaves with today: where its bounce goes. Without one of its
/// own that is the From address, the application's where that is kept.
pub fn return_path(tenant: &Tenant, stored: &Stored) -> Address {
    let rules = &tenant.sender;
    if let Some(address) = &rules.return_path {
        return address.clone();
    }
    let kept = (rules.application_from != ApplicationFrom::Replace && !stored.kind.is_ours())
        .then(|| kept_from(tenant, stored, &head(stored)))
        .flatten();
    kept.unwrap_or_else(|| rules.address.clone())
}

/// The application's From, where its user may use it.
fn kept_from(tenant: &Tenant, stored: &Stored, head: &[u8]) -> Option<Address> {
    let user = stored
        .origin
        .login
        .as_deref()
        .and_then(|login| tenant.user(login));
    if stored.origin.login.is_some() && user.is_none() {
        return None; // the login is gone, and its rights with it
    }
    let header = Header::parse(head).ok()?;
    rewrite::application_from(head, &header).filter(|address| tenant.may_use(user, address))
}

/// The beginning of a message with its whole header section; empty if it cannot be read.
pub(super) fn head(stored: &Stored) -> Bytes {
    use std::io::Read as _;
    match &stored.content {
        Content::Memory(bytes) => bytes.clone(),
        Content::File { path, .. } => {
            let mut head = Vec::new();
            let limit = crate::message::content::HEADER_LIMIT as u64;
            match std::fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut head))
            {
                Ok(_) => head.into(),
                Err(_) => Bytes::new(),
            }
        }
    }
}
