//! `postbote test`: a test mail over the tenant's real route, followed step by step.

use std::process::ExitCode;

use bytes::Bytes;
use clap::Args;
use jiff::Timestamp;

use super::preview::addresses;
use super::{block_on, exit, say, tenant_of};
use crate::app::{self, Failure};
use crate::config::{Config, Sending};
use crate::delivery::sender::{Job, prepare_for, signing_keys};
use crate::explain::Language;
use crate::message::{Content, Envelope, Recipient, date};
use crate::net::transcript::Transcript;
use crate::prepare::{Origin, Preparation};
use crate::smtp::address::Address;
use crate::smtp::capabilities::Capabilities;
use crate::spool::Stored;
use crate::tenant::document::DocumentType;
use crate::tenant::route::{Route, first_choice};
use crate::tenant::{SystemSender, Tenant};
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
    /// As a document of this type
    #[arg(long, value_name = "TYPE", conflicts_with = "from")]
    document: Option<String>,
    /// One mail from each sender that the tenant's file names, the login's own address first
    #[arg(long, conflicts_with_all = ["from", "document"])]
    all_senders: bool,
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
    let document = match &arguments.document {
        Some(name) => Some(document(tenant, name)?),
        None => None,
    };
    let senders = if arguments.all_senders {
        let mut all = match &route {
            // Whatever the tenant writes, the relay's own sender leaves.
            Route::System { system, .. } if system.sender == SystemSender::System => {
                vec![system.email.clone()]
            }
            Route::Own(_) | Route::System { .. } => tenant.all_senders(),
        };
        let login = route.upstream().login().unwrap_or_default().to_lowercase();
        all.sort_by_key(|address| address.as_str().to_lowercase() != login);
        all.into_iter().map(Some).collect()
    } else {
        vec![from]
    };
    let secrets = app::open_secrets(config)?;
    outln!(
        "{}: {} ({})",
        say(language, "Weg", "Route"),
        route.key(tenant),
        route.upstream().describe()
    );
    let many = senders.len() > 1;
    let mut refused = Vec::new();
    for from in senders {
        let sender = from
            .as_ref()
            .or(document.and_then(|d| d.address.as_ref()))
            .unwrap_or(&tenant.sender.address);
        if many {
            outln!("\n== {}: {sender}", say(language, "Absender", "Sender"));
        }
        if sender.same_permission(&to) {
            warn_of_oneself(language);
        }
        // A conversation of its own for each: what one has said does not stand in the next.
        let transcript = Transcript::recording();
        let context = app::transport_context(
            config,
            secrets.clone(),
            String::new(),
            Timeouts::TEST,
            transcript.clone(),
        );
        let test = Test {
            config,
            tenant,
            route: &route,
            to: &to,
            from: from.as_ref(),
            document,
        };
        let result = block_on(deliver(&test, &context))?;
        for line in transcript.lines() {
            outln!("{line}");
        }
        outln!("");
        if report(&test, result)? != ExitCode::SUCCESS {
            refused.push(sender.to_string());
        }
    }
    if refused.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if many {
        outln!(
            "\n{}: {}",
            say(language, "Nicht angenommen", "Not accepted"),
            refused.join(", ")
        );
    }
    Ok(ExitCode::from(exit::FAILED))
}

/// What is tested.
struct Test<'a> {
    config: &'a Config,
    tenant: &'a Tenant,
    route: &'a Route,
    to: &'a Address,
    from: Option<&'a Address>,
    document: Option<&'a DocumentType>,
}

fn document<'a>(tenant: &'a Tenant, name: &str) -> Result<&'a DocumentType, Failure> {
    let found = tenant.documents.iter().find(|d| d.name == name);
    found.ok_or_else(|| {
        let known: Vec<&str> = tenant.documents.iter().map(|d| d.name.as_str()).collect();
        let known = if known.is_empty() {
            "it has none".to_owned()
        } else {
            format!("it has {}", known.join(", "))
        };
        Failure::new(
            exit::DATA,
            format!(
                "tenant {} has no [[document]] of type {name:?}; {known}",
                tenant.id
            ),
        )
    })
}

fn warn_of_oneself(language: Language) {
    eprintln!(
        "{}",
        say(
            language,
            "Warnung: Absender und Empfänger sind gleich. Manche Server verwerfen Mail an sich selbst; nehmen Sie --to mit einer anderen Adresse.",
            "Warning: sender and recipient are the same. Some servers drop mail to oneself; use --to with another address."
        )
    );
}

async fn deliver(
    test: &Test<'_>,
    context: &Context,
) -> Result<(Vec<RecipientResult>, Option<String>), Box<Failed>> {
    let Test {
        config,
        tenant,
        route,
        to,
        from,
        document,
    } = *test;
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
            document,
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
    test: &Test<'_>,
    result: Result<(Vec<RecipientResult>, Option<String>), Box<Failed>>,
) -> Result<ExitCode, Failure> {
    let Test {
        config,
        tenant,
        route,
        to,
        ..
    } = *test;
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
                if signing_keys(tenant, route).next().is_none() && !route.upstream().signs_itself()
                {
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
