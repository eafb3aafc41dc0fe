//! `postbote oauth`: a person's consent, how it stands, and its end.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use tokio::io::AsyncBufReadExt as _;
use tokio::net::TcpListener;

use super::{block_on, exit, say, tenant_of};
use crate::admin::callback::{Callback, Returned};
use crate::app::{self, Failure};
use crate::config::Config;
use crate::explain::{Explanation, Language, apis};
use crate::http::url::decode_query;
use crate::net::transcript::Transcript;
use crate::oauth::consent::{self, Attempt};
use crate::oauth::ends::{days_until, ends};
use crate::oauth::{Grant, Granted, Provider, SYSTEM, Settings};
use crate::transport::smtp::Connection;
use crate::transport::{Context, Timeouts, Upstream};

/// How long a person may take.
const PATIENCE: Duration = Duration::from_secs(600);
/// From so many days on an end is near.
const NEAR: i64 = 30;

/// Consents to applications at mail providers.
#[derive(Subcommand)]
pub enum Command {
    /// Authorise at the provider and keep the consent in the vault
    Connect(Connect),
    /// Show for every tenant what it may, since when, and what ends when
    Status {
        /// Only this tenant
        tenant: Option<String>,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a tenant's consent and tokens from the vault
    Forget {
        /// The tenant's id, or "system" for the system relay
        tenant: String,
    },
}

/// Whom to connect, and how.
#[derive(Args)]
pub struct Connect {
    /// The tenant's id, or "system" for the system relay
    tenant: String,
    /// Type in a code on another device instead (not at Google)
    #[arg(long)]
    device: bool,
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Connect(arguments) => connect(config, &arguments),
        Command::Status { tenant, json } => status(config, tenant.as_deref(), json),
        Command::Forget { tenant } => forget(config, &tenant),
    }
}

/// The upstream and the tokens of a tenant or of the system relay.
fn find(config: &Config, name: &str) -> Result<(Arc<Upstream>, Arc<Settings>), Failure> {
    let upstream = match (name, config.directory.system()) {
        ("system", Some(system)) if tenant_of(config, name).is_err() => system.upstream.clone(),
        _ => tenant_of(config, name)?.upstream.clone(),
    };
    let found = upstream.and_then(|upstream| {
        let oauth = Arc::clone(upstream.oauth()?);
        Some((upstream, oauth))
    });
    found.ok_or_else(|| {
        Failure::new(
            exit::CONFIG,
            format!(
                "{name} has no [upstream.oauth]; change its way with `postbote tenant reset {name}` and `postbote tenant add {name} --email ADDR`, or write the section into its file"
            ),
        )
    })
}

fn context(config: &Config, transcript: Transcript) -> Result<Context, Failure> {
    let secrets = app::open_secrets(config)?;
    Ok(app::transport_context(
        config,
        secrets,
        String::new(),
        Timeouts::TEST,
        transcript,
    ))
}

fn connect(config: &Config, arguments: &Connect) -> Result<ExitCode, Failure> {
    let language = config.server.language;
    let (upstream, settings) = find(config, &arguments.tenant)?;
    let device = arguments.device || settings.grant == Grant::DeviceCode;
    if arguments.device && settings.provider == Provider::Google {
        return Err(Failure::new(
            exit::USAGE,
            say(
                language,
                "Google erlaubt für Mail keine Gerätecodes. Ohne --device geht es auch über SSH: Öffnen Sie den angezeigten Link an Ihrem Rechner und leiten Sie den Port mit „ssh -L“ weiter, oder fügen Sie die Adresse, auf der der Browser endet, hier ein. In Workspace geht auch grant = \"service-account\".",
                "Google allows no device codes for mail. Without --device it works over SSH as well: open the link at your own machine and forward the port with 'ssh -L', or paste the address at which the browser ends here. In Workspace grant = \"service-account\" works too.",
            ),
        ));
    }
    let context = context(config, Transcript::default())?;
    block_on(async {
        if settings.grant.needs_consent() {
            let granted = if device {
                by_device(&context, &settings, language).await?
            } else {
                by_browser(&context, &settings, language).await?
            };
            match granted {
                Ok(()) => {}
                Err(code) => return Ok(code),
            }
        } else {
            eprintln!(
                "{}",
                say(
                    language,
                    "Bei dieser Art der Anmeldung muss niemand zustimmen; sie wird geprüft.",
                    "With this grant nobody has to consent; it is tested."
                )
            );
        }
        prove(&context, &upstream, &settings, language).await
    })?
}

/// Says what failed, why, and what helps; gives the exit code.
fn explain(
    settings: &Settings,
    language: Language,
    said: &dyn std::fmt::Display,
    meaning: &Explanation,
) -> ExitCode {
    outln!("{}: {said}", say(language, "Fehlgeschlagen", "Failed"));
    outln!(
        "{}: {}",
        say(language, "Ursache", "Cause"),
        settings.fill(meaning.cause.get(language))
    );
    outln!(
        "{}: {}",
        say(language, "Abhilfe", "Remedy"),
        settings.fill(meaning.remedy.get(language))
    );
    ExitCode::from(exit::FAILED)
}

/// Keeps what was granted; says why not.
fn keep(
    context: &Context,
    settings: &Settings,
    language: Language,
    granted: &Granted,
) -> Result<(), String> {
    match consent::keep(&context.secrets, settings, granted) {
        Ok(_) => {
            outln!(
                "{}: {} ({})",
                say(language, "Zugestimmt", "Consented"),
                granted.identity.first().unwrap_or(&settings.login),
                granted.scope.as_deref().unwrap_or("-")
            );
            Ok(())
        }
        Err(refusal) => {
            let hint = match &refusal {
                consent::Refusal::OtherAccount(..) => say(
                    language,
                    "Melden Sie sich mit dem richtigen Konto an. Für ein freigegebenes Postfach: username = das Konto, das sich anmeldet; mailbox = das Postfach.",
                    "Sign in with the right account. For a shared mailbox: username = the account that signs in; mailbox = the mailbox.",
                ),
                consent::Refusal::UnknownAccount => say(
                    language,
                    "Ergänzen Sie scopes um openid und email: Sonst lässt sich nicht prüfen, ob das richtige Konto zugestimmt hat.",
                    "Add openid and email to scopes: without them nobody can check that the right account has consented.",
                ),
                consent::Refusal::NoRefreshToken => say(
                    language,
                    "Prüfen Sie scopes: Microsoft braucht offline_access.",
                    "Check scopes: Microsoft needs offline_access.",
                ),
                consent::Refusal::Scope(..) => say(
                    language,
                    "Erlauben Sie im Zustimmungsfenster alle Häkchen, und prüfen Sie scopes und die API-Berechtigungen der Anwendung.",
                    "Tick all boxes in the consent window, and check scopes and the API permissions of the application.",
                ),
                consent::Refusal::Vault(_) => String::new(),
            };
            Err(format!("{refusal}. {hint}"))
        }
    }
}

async fn by_device(
    context: &Context,
    settings: &Settings,
    language: Language,
) -> Result<Result<(), ExitCode>, Failure> {
    let http = context.tokens.http();
    let code = match consent::begin_device(http, settings).await {
        Ok(code) => code,
        Err(error) => return Ok(Err(explain(settings, language, &error, error.meaning))),
    };
    outln!(
        "{} {}\n{} {}",
        say(language, "Öffnen Sie", "Open"),
        code.verification_uri,
        say(language, "und geben Sie ein:", "and type in:"),
        code.user_code
    );
    let granted = match consent::await_device(http, &context.secrets, settings, &code).await {
        Ok(granted) => granted,
        Err(error) => return Ok(Err(explain(settings, language, &error, error.meaning))),
    };
    Ok(match keep(context, settings, language, &granted) {
        Ok(()) => Ok(()),
        Err(why) => {
            outln!("{}: {why}", say(language, "Fehlgeschlagen", "Failed"));
            Err(ExitCode::from(exit::FAILED))
        }
    })
}

/// Sockets for the browser on one port of both loopback addresses, as `localhost` may mean either.
async fn sockets() -> Result<(Vec<TcpListener>, u16), Failure> {
    let unavailable =
        |e: std::io::Error| Failure::new(exit::UNAVAILABLE, format!("no loopback port: {e}"));
    let first = TcpListener::bind(("127.0.0.1", 0))
        .await
        .map_err(unavailable)?;
    let port = first.local_addr().map_err(unavailable)?.port();
    let mut listeners = vec![first];
    listeners.extend(TcpListener::bind(("::1", port)).await.ok());
    Ok((listeners, port))
}

async fn by_browser(
    context: &Context,
    settings: &Settings,
    language: Language,
) -> Result<Result<(), ExitCode>, Failure> {
    let (listeners, port) = sockets().await?;
    let attempt = Attempt::new(settings, port).map_err(|e| Failure::new(exit::UNAVAILABLE, e))?;
    let url = attempt
        .url(settings)
        .ok_or_else(|| Failure::new(exit::CONFIG, "no authorize_url is configured"))?;
    let mut page = Callback::serve(listeners, port, attempt.state.clone(), language);
    eprintln!(
        "{}",
        say(
            language,
            "Öffnen Sie diesen Link im Browser und melden Sie sich an:",
            "Open this link in the browser and sign in:"
        )
    );
    outln!("{url}");
    eprintln!(
        "{} ssh -L {port}:127.0.0.1:{port} …",
        say(
            language,
            "Sitzt der Browser an einem anderen Rechner, leiten Sie den Port weiter oder fügen Sie hier die Adresse ein, auf der er endet:",
            "If the browser is on another machine, forward the port, or paste here the address at which it ends:"
        )
    );
    open_browser(&url);
    let mut lines = std::io::stdin()
        .is_terminal()
        .then(|| tokio::io::BufReader::new(tokio::io::stdin()).lines());
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let pasted = async {
            match &mut lines {
                Some(lines) => lines.next_line().await.ok().flatten(),
                None => std::future::pending().await,
            }
        };
        let came = tokio::select! {
            came = page.returned() => came,
            line = pasted => match line {
                None => {
                    lines = None; // its end
                    continue;
                }
                Some(line) => match pasted_answer(&line, &attempt.state) {
                    Some(came) => Some(came),
                    None => {
                        eprintln!("{}", say(language, "Das ist nicht die Adresse, auf der der Browser endet (http://…?code=…&state=…).", "That is not the address at which the browser ends (http://…?code=…&state=…)."));
                        continue;
                    }
                },
            },
            () = tokio::time::sleep_until(deadline) => None,
        };
        let Some(came) = came else {
            return Err(Failure::new(
                exit::FAILED,
                say(
                    language,
                    "Niemand hat in zehn Minuten zugestimmt; bitte noch einmal.",
                    "Nobody has consented within ten minutes; please try again.",
                ),
            ));
        };
        let (result, answer) = redeem(context, settings, &attempt, language, came).await;
        if answer.send(result.clone()).is_ok() {
            // The browser is told before we go.
            page.end().await;
        }
        return Ok(match result {
            Ok(()) => Ok(()),
            Err(why) => {
                outln!("{}: {why}", say(language, "Fehlgeschlagen", "Failed"));
                Err(ExitCode::from(exit::FAILED))
            }
        });
    }
}

/// The address that somebody pasted, if it is our answer.
fn pasted_answer(line: &str, state: &str) -> Option<Returned> {
    let query = decode_query(line.trim().split_once('?')?.1);
    let get = |name: &str| {
        query
            .iter()
            .find(|(n, _)| n == name)
            .map(|(_, v)| v.clone())
    };
    if get("state")? != state {
        return None;
    }
    let outcome = get("code").ok_or_else(|| {
        (
            get("error").unwrap_or_default(),
            get("error_description").unwrap_or_default(),
        )
    });
    let (answer, _) = tokio::sync::oneshot::channel();
    Some(Returned {
        outcome,
        issuer: get("iss"),
        answer,
    })
}

type Answer = tokio::sync::oneshot::Sender<Result<(), String>>;

async fn redeem(
    context: &Context,
    settings: &Settings,
    attempt: &Attempt,
    language: Language,
    came: Returned,
) -> (Result<(), String>, Answer) {
    let Returned {
        outcome,
        issuer,
        answer,
    } = came;
    let result = async {
        let code = outcome.map_err(|(error, description)| {
            let row = apis::token(
                settings.provider,
                0,
                &error,
                &description,
                &apis::aadsts(&description),
            );
            let mut words = crate::vault::Confidential::default();
            words.add(&attempt.state);
            format!(
                "{} ({}). {} {}",
                words.clean(&error, 60),
                words.clean(&description, 300),
                settings.fill(row.meaning.cause.get(language)),
                settings.fill(row.meaning.remedy.get(language))
            )
        })?;
        if let Some(issuer) = &issuer
            && !issuer_fits(settings, issuer)
        {
            return Err(format!(
                "the answer came from another issuer ({})",
                issuer
                    .chars()
                    .filter(|c| !c.is_control())
                    .take(100)
                    .collect::<String>()
            ));
        }
        let http = context.tokens.http();
        let granted = attempt
            .redeem(http, &context.secrets, settings, &code)
            .await
            .map_err(|error| {
                format!(
                    "{error}. {} {}",
                    settings.fill(error.meaning.cause.get(language)),
                    settings.fill(error.meaning.remedy.get(language))
                )
            })?;
        keep(context, settings, language, &granted)
    };
    (result.await, answer)
}

/// Whether an issuer is the one that was asked (RFC 9207 section 2.4): its host, as directories of
/// Microsoft name themselves below it.
fn issuer_fits(settings: &Settings, issuer: &str) -> bool {
    let Ok(url) = crate::http::Url::parse(issuer) else {
        return false;
    };
    settings
        .authorize_url
        .iter()
        .chain([&settings.token_url])
        .any(|known| known.host() == url.host())
}

/// Opens the person's browser where there is a screen.
fn open_browser(url: &str) {
    let has_screen =
        std::env::var_os("DISPLAY").is_some() || std::env::var_os("WAYLAND_DISPLAY").is_some();
    if !has_screen || std::env::var_os("SSH_CONNECTION").is_some() {
        return;
    }
    let _ = std::process::Command::new("xdg-open")
        .arg(url)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn();
}

/// Shows that it works: a token is had with what is kept, and an SMTP server takes it.
async fn prove(
    context: &Context,
    upstream: &Upstream,
    settings: &Arc<Settings>,
    language: Language,
) -> Result<ExitCode, Failure> {
    let works = |what: &str| {
        outln!("{}: {what}", say(language, "Geprüft", "Tested"));
        eprintln!(
            "{}",
            say(
                language,
                "Eine Testmail schickt „postbote test“.",
                "'postbote test' sends a test mail."
            )
        );
        Ok(ExitCode::SUCCESS)
    };
    if let Upstream::Smtp(server) = upstream {
        return match Connection::open(server, context).await {
            Ok(connection) => {
                let relay = connection.relay.clone();
                connection.quit().await;
                works(&format!(
                    "{} {relay}",
                    say(language, "Anmeldung an", "login at")
                ))
            }
            Err(failure) => Ok(explain(settings, language, &failure, failure.meaning)),
        };
    }
    match context.tokens.access(settings, None).await {
        Ok(_) => works(&format!(
            "{} {}",
            say(language, "Token von", "a token from"),
            settings.token_url.authority()
        )),
        Err(error) => Ok(explain(settings, language, &error, error.meaning)),
    }
}

fn forget(config: &Config, name: &str) -> Result<ExitCode, Failure> {
    let language = config.server.language;
    // Also of a tenant whose upstream is another by now: what it consented to is to go.
    let account = match find(config, name) {
        Ok((_, settings)) => settings.account.clone(),
        Err(_) => tenant_of(config, name)?.id.to_string(),
    };
    let context = context(config, Transcript::default())?;
    let gone = context
        .tokens
        .remove(&account)
        .map_err(|e| Failure::new(exit::CANNOT_CREATE, e))?;
    if !gone {
        return Err(Failure::new(
            exit::DATA,
            say(
                language,
                "Es gab nichts zu vergessen.",
                "There was nothing to forget.",
            ),
        ));
    }
    eprintln!(
        "{}",
        say(
            language,
            "Vergessen. Beim Anbieter gilt die Zustimmung weiter, bis sie dort entzogen wird.",
            "Forgotten. At the provider the consent holds until it is withdrawn there."
        )
    );
    Ok(ExitCode::SUCCESS)
}
fn status(config: &Config, only: Option<&str>, json: bool) -> Result<ExitCode, Failure> {
    let language = config.server.language;
    let context = context(config, Transcript::default())?;
    let mut all: Vec<Arc<Settings>> = Vec::new();
    match only {
        Some(name) => all.push(find(config, name)?.1),
        None => {
            let system = config
                .directory
                .system()
                .and_then(|s| s.upstream.clone())
                .and_then(|u| u.oauth().cloned());
            all.extend(system);
            let tenants = config.directory.tenants();
            all.extend(tenants.filter_map(|t| t.upstream.as_ref()?.oauth().cloned()));
        }
    }
    let mut items = Vec::new();
    for settings in &all {
        let standing = context.tokens.standing(settings);
        let ends = ends(&context.secrets, settings, &standing);
        let name = if settings.account == SYSTEM {
            "system"
        } else {
            &settings.account
        };
        let age = |at: Option<Timestamp>| at.map(|at| -days_until(at));
        if json {
            items.push(serde_json::json!({
                "tenant": name,
                "provider": settings.provider_word(),
                "grant": settings.grant.word(),
                "mailbox": settings.mailbox,
                "scopes": settings.scopes,
                "granted_scopes": standing.scope,
                "connected": standing.connected,
                "account": standing.identity,
                "granted": standing.granted.map(|t| t.to_string()),
                "age_days": age(standing.granted),
                "refreshed_days_ago": age(standing.refreshed),
                "ends": ends.iter().map(|end| serde_json::json!({"what": end.what.word(), "days": end.days(), "note": end.note})).collect::<Vec<_>>(),
                "problem": standing.problem,
            }));
            continue;
        }
        outln!(
            "{name}: {} {} {}",
            settings.provider_word(),
            settings.grant.word(),
            settings.mailbox
        );
        let connected = match (standing.connected, settings.grant.has_refresh_token()) {
            (true, true) => say(language, "verbunden", "connected"),
            (true, false) => say(language, "keine Zustimmung nötig", "no consent needed"),
            (false, _) => say(
                language,
                "nicht verbunden: postbote oauth connect",
                "not connected: postbote oauth connect",
            ),
        };
        outln!("  {connected}");
        outln!("  scopes: {}", settings.scopes.join(" "));
        if let Some(identity) = &standing.identity {
            outln!("  {}: {identity}", say(language, "Konto", "account"));
        }
        if let Some(days) = age(standing.granted) {
            outln!(
                "  {}: {days} {}",
                say(language, "Zustimmung vor", "consented, days ago"),
                say(language, "Tagen", "")
            );
        }
        for end in &ends {
            let near = end.days().is_some_and(|days| days <= NEAR);
            let mark = if near { "!" } else { " " };
            let days = end
                .days()
                .map_or(say(language, "unbekannt", "unknown").to_owned(), |days| {
                    format!("{days} {}", say(language, "Tage", "days"))
                });
            outln!(" {mark}{}: {days} {}", end.what.word(), end.note);
        }
        if let Some(problem) = &standing.problem {
            outln!("  {}: {problem}", say(language, "Problem", "problem"));
        }
    }
    if json {
        outln!("{}", serde_json::Value::Array(items));
    }
    Ok(ExitCode::SUCCESS)
}
