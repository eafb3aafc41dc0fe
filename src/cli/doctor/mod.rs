//! `postbote doctor`: the whole way of a tenant's mail looked at without sending any: the server's
//! name, the line, encryption, login and sender, then SPF, DKIM and DMARC of the domains that it
//! sends as. Each finding says what is wrong and who has to do what.

/// A text in the language of the report.
macro_rules! words {
    ($language:expr, $de:literal, $en:literal $(,)?) => {
        match $language {
            $crate::explain::Language::De => std::fmt::format(format_args!($de)),
            $crate::explain::Language::En => std::fmt::format(format_args!($en)),
        }
    };
}

mod api;
mod dkim;
mod dmarc;
mod encryption;
mod report;
mod route;
mod senders;
mod spf;

use std::net::IpAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, timeout_at};

pub(super) use dkim::check_keys;
use report::{Check, Report};

use super::{block_on, say, tenant_of};
use crate::app::{self, Failure};
use crate::config::{Config, Sending};
use crate::dns::Dns;
use crate::net::transcript::Transcript;
use crate::tenant::Tenant;
use crate::tenant::route::{NoRoute, Route, first_choice};
use crate::transport::{Context, Failure as Failed, Timeouts, Upstream};

/// How long all of it may take.
const LIMIT: Duration = Duration::from_secs(60);

/// Somebody is waiting, and nothing is lost by giving up.
const PATIENCE: Timeouts = Timeouts {
    resolve: Duration::from_secs(10),
    connect: Duration::from_secs(8),
    handshake: Duration::from_secs(10),
    greeting: Duration::from_secs(12),
    command: Duration::from_secs(15),
    data: Duration::from_secs(15),
    transfer: Duration::from_secs(15),
    final_dot: Duration::from_secs(15),
};

/// Whom to look at.
#[derive(Args)]
pub struct Arguments {
    /// The tenant's id
    tenant: String,
    /// As JSON
    #[arg(long)]
    json: bool,
}

/// What all checks need.
struct Case<'a> {
    config: &'a Config,
    tenant: &'a Tenant,
    route: &'a Route,
    context: &'a Context,
    dns: &'a Dns,
    /// The addresses of the server, as far as it has any.
    addresses: &'a [IpAddr],
}

impl Case<'_> {
    /// The explanation of a failure, with the words of whoever said so, and what helps.
    fn explained(&self, report: &Report, failure: &Failed) -> (String, String) {
        let upstream = self.route.upstream();
        let cause = upstream.fill(failure.meaning.cause.get(report.language));
        let remedy = upstream.fill(failure.meaning.remedy.get(report.language));
        let said = report::quote(&failure.to_string());
        let text = if said.is_empty() {
            cause
        } else {
            format!("{cause} ({said})")
        };
        (text, remedy)
    }
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let tenant = tenant_of(config, &arguments.tenant)?;
    let language = config.server.language;
    let report = Report::new(language);
    switch(&report, config.server.sending);
    let route = match first_choice(tenant, config.directory.system()) {
        Ok(route) => route,
        Err(reason) => {
            no_route(&report, config, tenant, reason);
            return Ok(report.print(arguments.json));
        }
    };
    if !arguments.json {
        outln!(
            "{}: {} ({})",
            say(language, "Weg", "Route"),
            route.key(tenant),
            route.upstream().describe()
        );
    }
    match route.upstream().as_ref() {
        Upstream::Capture(directory) => {
            let directory = directory.join(tenant.id.as_str());
            let directory = directory.display();
            let text = words!(
                language,
                "kind = \"capture\": Nichts geht hinaus, alle Mail wird in {directory} abgelegt.",
                "kind = \"capture\": nothing leaves, all mail is put into {directory}."
            );
            report.ok(Check::Connect, tenant.id.as_str(), text);
            if let Some(relay) = required_relay(config, &route) {
                block_on(async {
                    let deadline = Instant::now() + LIMIT;
                    let dns = Dns::from_environment();
                    let work = route::required_relay(&relay, &dns, &report);
                    limited(&report, deadline, work).await;
                })?;
            }
        }
        Upstream::Smtp(_) | Upstream::Graph(_) | Upstream::Gmail(_) => {
            let secrets = app::open_secrets(config)?;
            let transcript = Transcript::recording();
            let context =
                app::transport_context(config, secrets, String::new(), PATIENCE, transcript);
            block_on(examine(config, tenant, &route, &context, &report))?;
        }
    }
    Ok(report.print(arguments.json))
}

/// The master switch, where it keeps mail from leaving.
fn switch(report: &Report, sending: Sending) {
    let language = report.language;
    let text = match sending {
        Sending::On => return,
        Sending::Hold => words!(
            language,
            "sending = \"hold\": Mail wird angenommen und behalten, keine geht hinaus.",
            "sending = \"hold\": mail is accepted and kept, none leaves."
        ),
        Sending::Off => words!(
            language,
            "sending = \"off\": Mail wird abgewiesen (550 5.3.2), keine geht hinaus.",
            "sending = \"off\": mail is refused (550 5.3.2), none leaves."
        ),
    };
    let remedy = words!(
        language,
        "Soll gesendet werden, setzt der Betreiber in postbote.toml [server] sending = \"on\".",
        "To send, the operator sets [server] sending = \"on\" in postbote.toml."
    );
    report.warn(Check::Connect, "[server] sending", text, remedy);
}

/// The system relay, if a tenant's own route carries mail only while that answers.
fn required_relay(config: &Config, route: &Route) -> Option<Arc<Upstream>> {
    let system = config.directory.system().filter(|s| s.required)?;
    match route {
        Route::Own(_) => system.upstream.clone(),
        Route::System { .. } => None,
    }
}

fn no_route(report: &Report, config: &Config, tenant: &Tenant, reason: NoRoute) {
    let (id, language) = (&tenant.id, report.language);
    let directory = config.server.tenants_dir.display();
    let (text, remedy) = match reason {
        NoRoute::Unconfigured => (
            words!(
                language,
                "Es gibt keinen Weg für die Mail dieses Mandanten; sie wird abgewiesen (550 5.7.1).",
                "There is no route for this tenant's mail; it is refused (550 5.7.1)."
            ),
            words!(
                language,
                "Tragen Sie [upstream] in {directory}/{id}.toml ein, oder der Betreiber erlaubt in postbote.toml das System-Relay (system_relay = \"when-unconfigured\") oder den eigenen Weg (own_upstream = true).",
                "Add [upstream] to {directory}/{id}.toml, or the operator allows the system relay in postbote.toml (system_relay = \"when-unconfigured\") or an upstream of the tenant's own (own_upstream = true)."
            ),
        ),
        NoRoute::SystemRequired => (
            words!(
                language,
                "Der Betreiber verlangt ein System-Relay ([system] required), und es ist keines eingetragen; niemand kann senden.",
                "The operator demands a system relay ([system] required) and none is configured; nobody can send."
            ),
            words!(
                language,
                "Der Betreiber trägt in postbote.toml [system.upstream] ein, oder setzt bei [system] required = false.",
                "The operator adds [system.upstream] to postbote.toml, or sets required = false in [system]."
            ),
        ),
    };
    report.fail(Check::Connect, id.as_str(), text, remedy);
}

/// The server and the domains side by side: neither waits for what the other cannot find.
async fn examine(
    config: &Config,
    tenant: &Tenant,
    route: &Route,
    context: &Context,
    report: &Report,
) {
    let deadline = Instant::now() + LIMIT;
    let dns = Dns::from_environment();
    let new = || Report::new(report.language);
    let (about_server, about_relay, about_domains) = (new(), new(), new());
    let mut addresses = Vec::new();
    let naming = async { addresses = route::name(route, &dns, &about_server).await };
    limited(&about_server, deadline, naming).await;
    let case = Case {
        config,
        tenant,
        route,
        context,
        dns: &dns,
        addresses: &addresses,
    };
    let relay = required_relay(config, route);
    let look_at_relay = async {
        if let Some(relay) = &relay {
            route::required_relay(relay, &dns, &about_relay).await;
        }
    };
    tokio::join!(
        limited(&about_relay, deadline, look_at_relay),
        limited(
            &about_server,
            deadline,
            route::examine(&case, &about_server)
        ),
        limited(
            &about_domains,
            deadline,
            senders::examine(&case, &about_domains)
        ),
    );
    report.append(&about_server);
    report.append(&about_relay);
    report.append(&about_domains);
}

async fn limited(report: &Report, deadline: Instant, work: impl Future<Output = ()>) {
    if timeout_at(deadline, work).await.is_err() {
        report.out_of_time(LIMIT.as_secs());
    }
}
