//! `postbote preview`

use std::io::{Read as _, Write as _};
use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;

use super::{exit, tenant_of};
use crate::app::{self, Failure};
use crate::config::Config;
use crate::delivery::sender::{Job, prepare_for};
use crate::message::{Envelope, Recipient};
use crate::prepare::Origin;
use crate::smtp::address::Address;
use crate::smtp::capabilities::Capabilities;
use crate::smtp::data::canonical;
use crate::spool::Stored;
use crate::submission::admit::{self, Begun};
use crate::tenant::route::first_choice;
use crate::transport::Upstream;

/// What to preview.
#[derive(Args)]
pub struct Arguments {
    /// The tenant's id
    tenant: String,
    /// As this login would send it
    #[arg(long, value_name = "LOGIN")]
    user: Option<String>,
    /// Envelope recipients [default: the tenant's email]
    #[arg(long, value_name = "ADDR")]
    to: Vec<String>,
    /// MAIL FROM as the application gives it, "" for the null one [default: the user's or the tenant's email]
    #[arg(long, value_name = "ADDR")]
    mail_from: Option<String>,
    /// The listener it would come through
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Say on stderr which rule did what
    #[arg(long)]
    explain: bool,
    /// Assume a server that takes only 7-bit mail (GMX, web.de, IONOS)
    #[arg(long)]
    seven_bit: bool,
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let tenant = tenant_of(config, &arguments.tenant)?;
    if let Some(login) = &arguments.user
        && tenant.user(login).is_none()
    {
        return Err(Failure::new(
            exit::DATA,
            format!("tenant {} has no login {login:?}", tenant.id),
        ));
    }
    let mut raw = Vec::new();
    std::io::stdin()
        .take(config.server.max_message_size + 1)
        .read_to_end(&mut raw)
        .map_err(|e| Failure::new(exit::DATA, format!("standard input cannot be read: {e}")))?;
    if raw.is_empty() || raw.len() as u64 > config.server.max_message_size {
        return Err(Failure::new(
            exit::DATA,
            format!(
                "the message has {} octets; it would be refused (1 to {} are allowed)",
                raw.len(),
                config.server.max_message_size
            ),
        ));
    }
    let (text, findings) = canonical(&raw);
    if findings.nul {
        return Err(Failure::new(
            exit::DATA,
            "the message contains a NUL character",
        ));
    }
    let recipients = if arguments.to.is_empty() {
        vec![tenant.email.clone()]
    } else {
        addresses(&arguments.to)?
    };
    let route = first_choice(tenant, config.directory.system())
        .map_err(|e| Failure::new(exit::CONFIG, e.to_string()))?;
    let user = arguments
        .user
        .as_deref()
        .and_then(|login| tenant.users.iter().find(|u| u.login == login))
        .cloned();
    let begun = Begun {
        tenant: tenant.clone(),
        user,
        size_limit: config.server.max_message_size,
    };
    let content = Bytes::from(text);
    let mail_from = match arguments.mail_from.as_deref() {
        None => {
            let own = begun.user.as_ref().and_then(|user| user.email.clone());
            Some(own.unwrap_or_else(|| tenant.email.clone()))
        }
        Some("" | "<>") => None,
        Some(text) => addresses(&[text.to_owned()])?.pop(),
    };
    let mut envelope = Envelope {
        mail_from,
        recipients: recipients.into_iter().map(Recipient::new).collect(),
        smtputf8: false,
        ret_full: None,
        envid: None,
    };
    let listener = arguments.listener.as_deref();
    let origin = Origin {
        helo: "preview".to_owned(),
        peer: "127.0.0.1".to_owned(),
        protocol: "ESMTP".to_owned(),
        listener: listener.unwrap_or("preview").to_owned(),
        login: arguments.user.clone(),
        single: false,
    };
    let sender = envelope.mail_from.clone();
    let apart = admit::check_return_path(tenant, begun.user.as_deref(), sender.as_ref())
        .and_then(|()| admit::header(&begun, &origin, &config.server.hostname, &content))
        .and_then(|header| {
            admit::complete(
                &config.directory,
                &begun,
                &origin,
                &content,
                &header,
                &mut envelope,
            )
        })
        .map_err(|refusal| {
            Failure::new(
                exit::DATA,
                format!("it would be refused: {}", refusal.reply()),
            )
        })?;
    for recipient in apart {
        eprintln!(
            "postbote: support ({}) gets a message of its own, with system information if that is configured",
            recipient.address
        );
    }
    let stored = Stored::draft(tenant.id.clone(), envelope, origin, content.clone());
    let secrets = app::open_secrets(config)?;
    let capabilities = if arguments.seven_bit {
        Capabilities::default()
    } else {
        route.upstream().api_capabilities()
    };
    let open = stored.open_recipients();
    let done = prepare_for(&Job {
        tenant,
        route: &route,
        stored: &stored,
        content: &content,
        recipients: &open,
        hostname: &config.server.hostname,
        secrets: &secrets,
        capabilities: &capabilities,
        null_refused: false,
        from: None,
        document: None,
        information: None,
    })
    .map_err(|e| Failure::new(exit::DATA, e.to_string()))?;
    for (_, error) in &done.refused {
        eprintln!("postbote: {error}");
    }
    let Some(prepared) = done.prepared else {
        return Err(Failure::new(exit::DATA, "no recipient can be reached"));
    };
    if arguments.explain {
        eprintln!(
            "route: {} ({})",
            route.key(tenant),
            route.upstream().describe()
        );
        eprintln!(
            "MAIL FROM:<{}>",
            prepared
                .mail_from()
                .map(ToString::to_string)
                .unwrap_or_default()
        );
        for recipient in prepared.recipients() {
            eprintln!("RCPT TO:<{}>", recipient.address);
        }
        for note in prepared.notes() {
            eprintln!("{note}");
        }
        if tenant.dkim.is_empty() {
            eprintln!("DKIM: not signed, the tenant has no [[dkim]]");
        } else if route.upstream().signs_itself() {
            eprintln!("DKIM: keys with when = \"auto\" do not sign, the provider signs itself");
        }
        if matches!(route.upstream().as_ref(), Upstream::Smtp(_)) && !arguments.seven_bit {
            eprintln!(
                "body: shown for a server with 8BITMIME; --seven-bit shows it for one without"
            );
        }
    }
    let mut out = std::io::stdout().lock();
    out.write_all(prepared.head())
        .and_then(|()| out.write_all(prepared.body()))
        .and_then(|()| out.flush())
        .map_err(|e| Failure::new(exit::CANNOT_CREATE, e.to_string()))?;
    Ok(ExitCode::SUCCESS)
}

/// Addresses that a person typed.
pub(super) fn addresses(texts: &[String]) -> Result<Vec<Address>, Failure> {
    texts
        .iter()
        .map(|text| {
            Address::parse(text)
                .map_err(|e| Failure::new(exit::DATA, format!("{text:?} is not an address: {e}")))
        })
        .collect()
}
