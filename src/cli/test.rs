//! `postbote test`: a test mail over the tenant's real route, followed step by step.

use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use jiff::Timestamp;

use super::preview::addresses;
use super::{block_on, exit, say, tenant_of};
use crate::app::{self, Failure};
use crate::config::{Config, Sending};
use crate::delivery::sender::{Job, prepare_for};
use crate::message::{Content, Envelope, Recipient, date};
use crate::net::transcript::Transcript;
use crate::prepare::{Origin, Preparation};
use crate::smtp::address::Address;
use crate::smtp::capabilities::Capabilities;
use crate::spool::Stored;
use crate::tenant::Tenant;
use crate::tenant::route::{Route, first_choice};
use crate::transport::smtp::{Connection, DotHook};
use crate::transport::{
    Context, Failure as Failed, RecipientResult, Timeouts, Upstream, capture, gmail, graph,
};

/// Whom to test.
#[derive(Args)]
pub struct Arguments {
    /// The tenant's id
    tenant: String,
    /// Recipient [default: the tenant's email]
    #[arg(long, value_name = "ADDR")]
    to: Option<String>,
    /// Sender [default: as for the tenant's mail]
    #[arg(long, value_name = "ADDR")]
    from: Option<String>,
}

struct NoHook;

impl DotHook for NoHook {
    fn before_content(
        &self,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async { Ok(()) })
    }
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let tenant = tenant_of(config, &arguments.tenant)?;
    let language = config.server.language;
    let one = |text: &Option<String>| {
        text.as_ref()
            .map(|t| addresses(std::slice::from_ref(t)).map(|mut a| a.remove(0)))
            .transpose()
    };
    let to = one(&arguments.to)?.unwrap_or_else(|| tenant.email.clone());
    let from = one(&arguments.from)?;
    let route = first_choice(tenant, config.directory.system()).map_err(|e| {
        Failure::new(
            exit::CONFIG,
            format!(
                "{e}; add [upstream] to {}/{}.toml, or allow the system relay",
                config.server.tenants_dir.display(),
                tenant.id
            ),
        )
    })?;
    if config.server.sending != Sending::On {
        eprintln!(
            "{}",
            say(
                language,
                "Hinweis: server.sending steht nicht auf \"on\"; die Testmail geht trotzdem hinaus.",
                "Note: server.sending is not \"on\"; the test mail leaves all the same."
            )
        );
    }
    let sender = from
        .clone()
        .unwrap_or_else(|| tenant.sender.address.clone());
    if sender.same_permission(&to) {
        eprintln!(
            "{}",
            say(
                language,
                "Warnung: Absender und Empfänger sind gleich. Manche Server verwerfen Mail an sich selbst; nehmen Sie --to mit einer anderen Adresse.",
                "Warning: sender and recipient are the same. Some servers drop mail to oneself; use --to with another address."
            )
        );
    }
    let secrets = app::open_secrets(config)?;
    let transcript = Transcript::recording();
    let context = app::transport_context(
        config,
        secrets,
        String::new(),
        Timeouts::TEST,
        transcript.clone(),
    );
    outln!(
        "{}: {} ({})",
        say(language, "Weg", "Route"),
        route.key(tenant),
        route.upstream().describe()
    );
    let result = block_on(deliver(
        config,
        tenant,
        &route,
        &context,
        &to,
        from.as_ref(),
    ))?;
    for line in transcript.lines() {
        outln!("{line}");
    }
    outln!("");
    report(config, tenant, &to, &route, result)
}

async fn deliver(
    config: &Config,
    tenant: &Tenant,
    route: &Route,
    context: &Context,
    to: &Address,
    from: Option<&Address>,
) -> Result<(Vec<RecipientResult>, Option<String>), Box<Failed>> {
    let stored = message(config, tenant, to, from);
    let Content::Memory(content) = stored.content.clone() else {
        return Ok((Vec::new(), None));
    };
    // With --from the tenant's rules step back: it is a test whether the server takes it.
    let prepare = |capabilities: &Capabilities| -> Result<Preparation, Box<Failed>> {
        prepare_for(&Job {
            tenant,
            route,
            stored: &stored,
            content: &content,
            recipients: &[0],
            hostname: &config.server.hostname,
            secrets: &context.secrets,
            capabilities,
            null_refused: false,
            from,
            information: None,
        })
        .map_err(|e| Box::new(Failed::of_prepare(&e)))
    };
    let refused = |done: &Preparation| {
        done.refused
            .first()
            .map(|(_, e)| Box::new(Failed::of_prepare(e)))
    };
    match route.upstream().as_ref() {
        upstream @ (Upstream::Graph(_) | Upstream::Gmail(_) | Upstream::Capture(_)) => {
            let done = prepare(&upstream.api_capabilities())?;
            let Some(prepared) = &done.prepared else {
                return refused(&done).map_or(Ok((Vec::new(), None)), Err);
            };
            let results = match upstream {
                Upstream::Graph(settings) => {
                    graph::send(settings, context, prepared, stored.id, false, &NoHook)
                        .await
                        .results
                }
                Upstream::Gmail(settings) => {
                    gmail::send(settings, context, prepared, &NoHook).await
                }
                Upstream::Capture(directory) => {
                    let directory = directory.join(tenant.id.as_str());
                    capture::deliver(&directory, stored.id, prepared)
                }
                Upstream::Smtp(_) => Vec::new(),
            };
            Ok((results, None))
        }
        Upstream::Smtp(settings) => {
            let mut connection = Connection::open(settings, context)
                .await
                .map_err(Box::new)?;
            let pin = connection
                .server_key
                .map(|k| format!("sha256/{}", crate::smtp::sasl::encode(&k)));
            let done = prepare(&connection.capabilities)?;
            let Some(prepared) = &done.prepared else {
                return refused(&done).map_or(Ok((Vec::new(), pin)), Err);
            };
            let sent = connection.send(prepared, &NoHook).await;
            if sent.reusable {
                connection.quit().await;
            }
            Ok((sent.results, pin))
        }
    }
}

fn message(config: &Config, tenant: &Tenant, to: &Address, from: Option<&Address>) -> Stored {
    let subject = say(
        tenant.language,
        "Testmail von Postbote",
        "Test mail from Postbote",
    );
    let body = say(
        tenant.language,
        "Diese Mail wurde mit \"postbote test\" verschickt. Wenn Sie sie lesen, funktioniert der Versand.",
        "This mail was sent by \"postbote test\". If you can read it, sending works.",
    );
    let sender = from.unwrap_or(&tenant.sender.address);
    let text = format!(
        "From: {}\r\nTo: {}\r\nSubject: {subject}\r\nDate: {}\r\nAuto-Submitted: auto-generated\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{body}\r\n\r\n{} / {}\r\n",
        sender.with_ascii_domain(),
        to.with_ascii_domain(),
        date::format(Timestamp::now()),
        tenant.id,
        config.server.hostname
    );
    let envelope = Envelope {
        mail_from: Some(tenant.email.clone()),
        recipients: vec![Recipient::new(to.clone())],
        smtputf8: false,
        ret_full: None,
        envid: None,
    };
    Stored::draft(
        tenant.id.clone(),
        envelope,
        Origin::default(),
        Bytes::from(text),
    )
}

fn report(
    config: &Config,
    tenant: &Tenant,
    to: &Address,
    route: &Route,
    result: Result<(Vec<RecipientResult>, Option<String>), Box<Failed>>,
) -> Result<ExitCode, Failure> {
    let language = config.server.language;
    let failure = match result {
        Ok((results, pin)) => match results.into_iter().next().map(|r| r.result) {
            Some(Ok(accepted)) => {
                outln!(
                    "{}: {to}: {}",
                    say(language, "Angenommen", "Accepted"),
                    accepted.reply
                );
                outln!(
                    "{}",
                    say(
                        language,
                        "Der Server hat die Testmail angenommen. Bitte sehen Sie im Postfach des Empfängers nach, auch im Spam-Ordner.",
                        "The server has taken the test mail. Please look into the recipient's mailbox, the spam folder too."
                    )
                );
                if let Some(pin) = pin {
                    outln!(
                        "{}: {pin}",
                        say(
                            language,
                            "Schlüssel des Servers (für pins)",
                            "Key of the server (for pins)"
                        )
                    );
                }
                if tenant.dkim.is_empty() && !route.upstream().signs_itself() {
                    outln!(
                        "{}",
                        say(
                            language,
                            "Hinweis: Die Mail ist nicht mit DKIM signiert (postbote dkim new …).",
                            "Note: the mail is not signed with DKIM (postbote dkim new …)."
                        )
                    );
                }
                return Ok(ExitCode::SUCCESS);
            }
            Some(Err(failure)) => failure,
            None => return Err(Failure::new(exit::FAILED, "no result")),
        },
        Err(failure) => *failure,
    };
    let stage = stage_name(failure.stage);
    outln!(
        "{}: {} ({stage}): {failure}",
        say(language, "Fehlgeschlagen", "Failed"),
        to
    );
    outln!(
        "{}: {}",
        say(language, "Ursache", "Cause"),
        route.upstream().fill(failure.meaning.cause.get(language))
    );
    outln!(
        "{}: {}",
        say(language, "Abhilfe", "Remedy"),
        route.upstream().fill(failure.meaning.remedy.get(language))
    );
    Ok(ExitCode::from(exit::FAILED))
}

fn stage_name(stage: crate::failure::Stage) -> &'static str {
    use crate::failure::Stage;
    match stage {
        Stage::Prepare => "prepare",
        Stage::Resolve => "dns",
        Stage::Connect => "connect",
        Stage::Hello => "hello",
        Stage::Tls => "tls",
        Stage::Auth => "auth",
        Stage::Mail => "sender",
        Stage::Rcpt => "recipient",
        Stage::Data => "data",
        Stage::FinalDot => "final dot",
    }
}
