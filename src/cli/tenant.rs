//! `postbote tenant`

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Subcommand;

use super::{block_on, exit, tenant_of};
use crate::app::Failure;
use crate::config::{self, Config};
use crate::dns::{Dns, Lookup as _};
use crate::explain::providers::{self, Encryption, Host, Login, Provider};
use crate::message::TenantId;
use crate::smtp::address::Address;
use crate::tenant::route::first_choice;
use crate::tenant::{ApplicationFrom, ReplyTo, Tenant};
use crate::transport::Upstream;
use crate::vault::write_durably;

/// How long `tenant add` waits for the name service.
const DNS_LIMIT: Duration = Duration::from_secs(5);

/// Tenants.
#[derive(Subcommand)]
pub enum Command {
    /// All tenants
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// One tenant's settings; secrets are not shown
    Show {
        /// Its id
        tenant: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Write a tenant file with the right upstream for an address
    Add {
        /// The id: letters a-z, digits and -
        tenant: String,
        /// The tenant's mail address
        #[arg(long)]
        email: String,
        /// Its name [default: from the domain]
        #[arg(long)]
        name: Option<String>,
        /// The SMTP server, where it is known
        #[arg(long)]
        host: Option<String>,
        /// Log in with a password where the provider also knows OAuth2
        #[arg(long)]
        password: bool,
        /// OAuth2: the application's id
        #[arg(long)]
        client_id: Option<String>,
        /// OAuth2 at Microsoft: the directory's id
        #[arg(long)]
        directory_id: Option<String>,
    },
    /// Discard the tenant's own upstream; the system relay is used again if allowed
    Reset {
        /// Its id
        tenant: String,
    },
}

pub(super) fn run(path: &Path, command: Command) -> Result<ExitCode, Failure> {
    let load = || super::load(Some(path.to_owned()));
    match command {
        Command::List { json } => list(&load()?, json),
        Command::Show { tenant, json } => show(&load()?, &tenant, json),
        Command::Add {
            tenant,
            email,
            name,
            host,
            password,
            client_id,
            directory_id,
        } => {
            let login = LoginChoice {
                password,
                client_id,
                directory_id,
            };
            add(path, &tenant, &email, name, host, &login)
        }
        Command::Reset { tenant } => reset(&load()?, &tenant),
    }
}

fn route_of(config: &Config, tenant: &Tenant) -> (String, String) {
    match first_choice(tenant, config.directory.system()) {
        Ok(route) => (
            route.key(tenant).word().to_owned(),
            route.upstream().describe(),
        ),
        Err(error) => ("none".to_owned(), error.to_string()),
    }
}

fn list(config: &Config, json: bool) -> Result<ExitCode, Failure> {
    let mut items = Vec::new();
    for tenant in config.directory.tenants() {
        let (route, upstream) = route_of(config, tenant);
        if json {
            items.push(serde_json::json!({"id": tenant.id.as_str(), "name": tenant.name, "email": tenant.email.as_str(), "route": route, "upstream": upstream}));
        } else {
            outln!(
                "{:<20}  {:<28}  {:<30}  {route}: {upstream}",
                tenant.id,
                tenant.name,
                tenant.email
            );
        }
    }
    if json {
        outln!("{}", serde_json::Value::Array(items));
    }
    Ok(ExitCode::SUCCESS)
}

fn show(config: &Config, id: &str, json: bool) -> Result<ExitCode, Failure> {
    let tenant = tenant_of(config, id)?;
    let (route, upstream) = route_of(config, tenant);
    let rules = &tenant.sender;
    let smtp = match tenant.upstream.as_deref() {
        Some(Upstream::Smtp(settings)) => Some(settings),
        Some(Upstream::Graph(_) | Upstream::Gmail(_) | Upstream::Capture(_)) | None => None,
    };
    let value = serde_json::json!({
        "id": tenant.id.as_str(),
        "file": config.server.tenants_dir.join(format!("{}.toml", tenant.id)).display().to_string(),
        "name": tenant.name,
        "email": tenant.email.as_str(),
        "language": tenant.language.code(),
        "networks": tenant.networks.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "route": route,
        "upstream": upstream,
        "username": smtp.and_then(|s| s.username.clone()),
        "password": smtp.map(|s| if s.password.is_some() { "set" } else { "not set" }),
        "from": rules.address.as_str(),
        "sender_name": rules.name,
        "reply_to": match &rules.reply_to {
            ReplyTo::Application => "the application's, else email".to_owned(),
            ReplyTo::OriginalFrom => "the application's From".to_owned(),
            ReplyTo::Fixed(address) => address.to_string(),
        },
        "return_path": rules.return_path.as_ref().map(ToString::to_string),
        "application_from": match rules.application_from {
            ApplicationFrom::Replace => "replace",
            ApplicationFrom::KeepAuthorized => "keep-authorized",
            ApplicationFrom::RejectUnauthorized => "reject-unauthorized",
        },
        "users": tenant.users.iter().map(|u| u.login.as_str()).collect::<Vec<_>>(),
        "dkim": tenant.dkim.iter().map(|k| format!("{}._domainkey.{}", k.selector, k.domain)).collect::<Vec<_>>(),
        "system_relay": config::document::names::<crate::tenant::SystemRelay>()[match tenant.policy.system_relay {
            crate::tenant::SystemRelay::Never => 0,
            crate::tenant::SystemRelay::WhenUnconfigured => 1,
            crate::tenant::SystemRelay::OnFailure => 2,
        }],
        "own_upstream": tenant.policy.own_upstream,
    });
    if json {
        outln!("{value}");
    } else if let Some(object) = value.as_object() {
        for (key, value) in object {
            let text = match value {
                serde_json::Value::Null => continue,
                serde_json::Value::String(text) => text.clone(),
                serde_json::Value::Array(items) => items
                    .iter()
                    .filter_map(|v| v.as_str())
                    .collect::<Vec<_>>()
                    .join(", "),
                other => other.to_string(),
            };
            outln!("{key:<17} {text}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Where a provider was recognised from.
struct Found {
    provider: Option<&'static Provider>,
    mx: Option<String>,
    how: String,
}

fn recognise(domain: &str) -> Found {
    if let Some(provider) = providers::by_domain(domain) {
        return Found {
            provider: Some(provider),
            mx: None,
            how: format!("recognised by the domain {domain}"),
        };
    }
    let hosts = block_on(async {
        tokio::time::timeout(DNS_LIMIT, mail_exchangers(domain))
            .await
            .unwrap_or_default()
    })
    .unwrap_or_default();
    match hosts.first() {
        None => Found {
            provider: None,
            mx: None,
            how: format!("the name service gave no mail server for {domain}"),
        },
        Some(host) if providers::is_gateway(host) => Found {
            provider: None,
            mx: None,
            how: format!("the mail server {host} is a filter in front of the real one"),
        },
        Some(host) => Found {
            provider: providers::by_mx(host),
            mx: Some(host.clone()),
            how: format!("by the mail server {host}"),
        },
    }
}

/// MX hosts, best first.
async fn mail_exchangers(domain: &str) -> Vec<String> {
    let found = Dns::from_environment().mx(domain).await;
    found.unwrap_or_default()
}

fn add(
    path: &Path,
    id: &str,
    email: &str,
    name: Option<String>,
    host: Option<String>,
    login: &LoginChoice,
) -> Result<ExitCode, Failure> {
    let id = TenantId::parse(id).ok_or_else(|| {
        Failure::new(
            exit::DATA,
            format!("found the id {id:?}; allowed: letters a-z, digits and -, at most 63"),
        )
    })?;
    if let Some(host) = host.as_deref().filter(|h| {
        h.parse::<std::net::IpAddr>().is_err() && crate::smtp::address::ascii_domain(h).is_none()
    }) {
        return Err(Failure::new(
            exit::DATA,
            format!("--host: found {host:?}; allowed: a host name or an IP address"),
        ));
    }
    if let Some(name) = name
        .as_deref()
        .filter(|n| n.trim().is_empty() || n.chars().any(char::is_control))
    {
        return Err(Failure::new(
            exit::DATA,
            format!("--name: found {name:?}; allowed: text on one line"),
        ));
    }
    let email = Address::parse(email)
        .map_err(|e| Failure::new(exit::DATA, format!("{email:?} is not an address: {e}")))?;
    let outcome = config::load(path);
    let tenants_dir = outcome
        .config
        .as_ref()
        .map(|c| c.server.tenants_dir.clone())
        .ok_or_else(|| {
            for problem in &outcome.problems {
                eprintln!("{problem}");
            }
            Failure::new(exit::CONFIG, format!("{} has errors", path.display()))
        })?;
    let language = outcome
        .config
        .as_ref()
        .map_or(config::Language::De, |c| c.server.language);
    let file = tenants_dir.join(format!("{id}.toml"));
    let found = match &host {
        Some(host) => Found {
            provider: None,
            mx: None,
            how: format!("the host {host} was named"),
        },
        None => recognise(&email.ascii_domain()),
    };
    let text = tenant_file(
        &id,
        &email,
        name.as_deref(),
        &found,
        host.as_deref(),
        language,
        login,
    );
    if is_without_upstream(&file) {
        append_upstream(&file, &text)?;
    } else {
        create(&file, &text)?;
    }
    outln!("{}", file.display());
    eprintln!(
        "{}: {}",
        found.provider.map_or("provider unknown", |p| p.name),
        found.how
    );
    if let Some(provider) = found.provider {
        eprintln!("{}", provider.hint.get(language));
    }
    let first = match oauth_provider(found.provider, login) {
        Some(_) => format!(
            "put client_id of your application into {}; postbote oauth connect {id}",
            file.display()
        ),
        None => format!("postbote vault set {id}-smtp"),
    };
    eprintln!("next: {first}; postbote test {id} --to somebody@elsewhere.example");
    Ok(ExitCode::SUCCESS)
}

/// Whether a tenant's file is there and has no upstream of its own, as after `tenant reset`.
fn is_without_upstream(file: &Path) -> bool {
    std::fs::read_to_string(file)
        .ok()
        .and_then(|text| text.parse::<toml_edit::DocumentMut>().ok())
        .is_some_and(|document| !document.contains_key("upstream"))
}

/// Gives a tenant that is there a new upstream; all else in its file stays.
fn append_upstream(file: &PathBuf, text: &str) -> Result<(), Failure> {
    let failed =
        |e: std::io::Error| Failure::new(exit::CANNOT_CREATE, format!("{}: {e}", file.display()));
    let mut whole = std::fs::read_to_string(file).map_err(failed)?;
    if !whole.ends_with('\n') {
        whole.push('\n');
    }
    // A table is written behind all others: order does not matter in TOML.
    let from = text.find("[upstream]").unwrap_or(0);
    whole.push('\n');
    whole.push_str(&text[from..]);
    write_durably(file, whole.as_bytes()).map_err(failed)
}

fn create(file: &PathBuf, text: &str) -> Result<(), Failure> {
    let failed = |e: std::io::Error| {
        Failure::new(
            exit::CANNOT_CREATE,
            format!("{} cannot be made: {e}", file.display()),
        )
    };
    if let Some(directory) = file.parent() {
        std::fs::create_dir_all(directory).map_err(failed)?;
    }
    let mut opened = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(file).map_err(|e| {
        if e.kind() == std::io::ErrorKind::AlreadyExists {
            Failure::new(exit::CANNOT_CREATE, format!("{} is there already; edit it, or discard its upstream: postbote tenant reset", file.display()))
        } else {
            failed(e)
        }
    })?;
    opened
        .write_all(text.as_bytes())
        .and_then(|()| opened.sync_all())
        .map_err(failed)
}

/// A TOML string.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string().trim().to_owned()
}

fn tenant_file(
    id: &TenantId,
    email: &Address,
    name: Option<&str>,
    found: &Found,
    host: Option<&str>,
    language: config::Language,
    login: &LoginChoice,
) -> String {
    let name = name.map_or_else(
        || email.domain().split('.').next().unwrap_or("").to_owned(),
        str::to_owned,
    );
    let mut out = format!(
        "# Tenant {id}. Every key: postbote check --schema tenant\nname = {}          # default sender name\nemail = {}    # default From, Reply-To and return path\n\n",
        quoted(&name),
        quoted(email.as_str())
    );
    let provider = found.provider;
    let known_host = host
        .map(str::to_owned)
        .or_else(|| provider.and_then(|p| p.host.name(&email.ascii_domain(), found.mx.as_deref())));
    if let Some(provider) = provider {
        out.push_str(&format!("# {}, {}\n", provider.name, found.how));
        out.push_str(&comment(provider.hint.get(language)));
        if provider.seven_bit {
            out.push_str("# This server takes only 7-bit mail; Postbote converts it.\n");
        }
    } else {
        out.push_str(&format!("# The provider is unknown: {}.\n# Fill in what it says under \"SMTP\", \"Postausgang\" or \"mail client\".\n", found.how));
    }
    out.push_str("[upstream]\n");
    match (&known_host, provider.map(|p| &p.host)) {
        (Some(host), _) => out.push_str(&format!("host = {}\n", quoted(host))),
        (None, Some(Host::Ask) | None) => out.push_str(&format!(
            "host = {}    # to be checked\n",
            quoted(&format!("smtp.{}", email.ascii_domain()))
        )),
        (None, Some(Host::Fixed(_) | Host::MxHost | Host::Domain(_))) => out.push_str(&format!(
            "host = {}    # to be checked\n",
            quoted(&format!("mail.{}", email.ascii_domain()))
        )),
    }
    let (encryption, port) =
        provider.map_or((Encryption::Starttls, 587), |p| (p.encryption, p.port));
    let word = match encryption {
        Encryption::Starttls => "starttls",
        Encryption::Tls => "tls",
    };
    out.push_str(&format!(
        "encryption = \"{word}\"    # starttls | tls\nport = {port}\n"
    ));
    if let Some((encryption, port)) = provider.and_then(|p| p.alternative) {
        let word = match encryption {
            Encryption::Starttls => "starttls",
            Encryption::Tls => "tls",
        };
        out.push_str(&format!("# also: encryption = \"{word}\", port = {port}\n"));
    }
    let username = match provider.map(|p| &p.login) {
        Some(Login::LocalPart) => email.local().to_owned(),
        Some(Login::Ask(text)) => {
            out.push_str(&comment(text.get(language)));
            email.to_string()
        }
        Some(Login::Address) | None => email.to_string(),
    };
    out.push_str(&format!("username = {}\n", quoted(&username)));
    if let Some(word) = oauth_provider(provider, login) {
        out.push_str(&oauth_section(word, login));
    } else {
        out.push_str(&format!(
            "password = {{ vault = \"{id}-smtp\" }}    # postbote vault set {id}-smtp\n\n"
        ));
        out.push_str(&format!(
            "# Sign with DKIM: postbote dkim new {id} --domain {} --selector pb1\n",
            email.ascii_domain()
        ));
    }
    if let Some(spf) = provider.and_then(|p| p.spf) {
        out.push_str(&format!(
            "# SPF of {}: its record should have: {spf}\n",
            email.ascii_domain()
        ));
    }
    out
}

/// How somebody wants to log in, as far as they say so.
struct LoginChoice {
    password: bool,
    client_id: Option<String>,
    directory_id: Option<String>,
}

/// The `provider` of [upstream.oauth], where tokens are the way in.
fn oauth_provider(
    provider: Option<&'static providers::Provider>,
    login: &LoginChoice,
) -> Option<&'static str> {
    let provider = provider?;
    match provider.id {
        "google" if !login.password => Some("google"),
        "microsoft-365" | "outlook-com" if !login.password => Some("microsoft"),
        _ => None,
    }
}

/// Tokens instead of a password, and the way over the provider's API beside it.
fn oauth_section(word: &str, login: &LoginChoice) -> String {
    let client = login.client_id.as_deref().unwrap_or(config::FILL_IN);
    let (api, what) = match word {
        "google" => ("gmail", "Gmail API (scope gmail.send)"),
        _ => ("graph", "Microsoft Graph (needs no SMTP AUTH)"),
    };
    let mut out = format!(
        "authentication = \"xoauth2\"\n# Instead of SMTP: {what}. Then remove host, encryption, port and authentication.\n# kind = \"{api}\"\n\n[upstream.oauth]\nprovider = \"{word}\"\ngrant = \"authorization-code\"    # a person consents once: postbote oauth connect\nclient_id = {}    # of your application; the README says how to register one\n",
        quoted(client)
    );
    match (word, &login.directory_id) {
        ("microsoft", Some(directory)) => {
            out.push_str(&format!("directory_id = {}\n", quoted(directory)));
        }
        ("microsoft", None) => {
            out.push_str("# directory_id = \"…\"    # of your organisation; without: any account\n");
        }
        _ => out.push_str(
            "# client_secret = { vault = \"…\" }    # Google gives one to desktop applications too\n",
        ),
    }
    out.push('\n');
    out
}

fn comment(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

fn reset(config: &Config, id: &str) -> Result<ExitCode, Failure> {
    let tenant = tenant_of(config, id)?;
    let file = config
        .server
        .tenants_dir
        .join(format!("{}.toml", tenant.id));
    let failed = |e: &dyn std::fmt::Display| {
        Failure::new(exit::CANNOT_CREATE, format!("{}: {e}", file.display()))
    };
    let text = std::fs::read_to_string(&file).map_err(|e| failed(&e))?;
    let mut document: toml_edit::DocumentMut =
        text.parse().map_err(|e: toml_edit::TomlError| failed(&e))?;
    if document.remove("upstream").is_none() {
        eprintln!("tenant {id} has no upstream of its own; nothing to discard");
        return Ok(ExitCode::SUCCESS);
    }
    write_durably(&file, document.to_string().as_bytes()).map_err(|e| failed(&e))?;
    let after = config::load(&config.path);
    let route = after.config.as_ref().and_then(|c| {
        TenantId::parse(id).and_then(|id| c.directory.tenant(&id).map(|t| route_of(c, t)))
    });
    match route {
        Some((word, upstream)) if word != "none" => {
            eprintln!("tenant {id} now uses the {word} relay: {upstream}")
        }
        _ => eprintln!(
            "tenant {id} has no route now: mail is refused and waiting mail is kept; add [upstream] or allow the system relay"
        ),
    }
    Ok(ExitCode::SUCCESS)
}
