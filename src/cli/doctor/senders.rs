//! As whom the tenant's mail leaves by its route, and the look at the domains of all those.

use super::report::{Check, Report};
use super::spf::Standing;
use super::{Case, dkim, dmarc, spf};
use crate::explain::providers::{self, Host};
use crate::oauth;
use crate::smtp::address::Address;
use crate::tenant::SystemSender;
use crate::tenant::route::Route;
use crate::transport::Upstream;

/// The addresses of MAIL FROM: where a return path is set, no mail leaves with another.
pub fn return_paths(case: &Case<'_>) -> Vec<Address> {
    match case.route {
        Route::Own(_) => match &case.tenant.sender.return_path {
            Some(fixed) => vec![fixed.clone()],
            None => case.tenant.all_senders(),
        },
        Route::System { system, .. } => vec![system.email.clone()],
    }
}

/// The addresses of From.
pub fn froms(case: &Case<'_>) -> Vec<Address> {
    if let Route::System { system, .. } = case.route
        && system.sender == SystemSender::System
    {
        return vec![system.email.clone()];
    }
    let rules = &case.tenant.sender;
    let only_returns = |address: &Address| {
        let same = |other: &Address| other.same_permission(address);
        rules.return_path.as_ref().is_some_and(same) && !same(&rules.address)
    };
    let mut all = case.tenant.all_senders();
    all.retain(|address| !only_returns(address));
    all
}

/// The domain of MAIL FROM for mail with that domain in From.
fn return_domain(case: &Case<'_>, from: &str) -> String {
    match case.route {
        Route::Own(_) => {
            let fixed = case.tenant.sender.return_path.as_ref();
            fixed.map_or_else(|| from.to_owned(), Address::ascii_domain)
        }
        Route::System { system, .. } => system.email.ascii_domain(),
    }
}

fn add(domains: &mut Vec<String>, domain: String) {
    if !domains.contains(&domain) {
        domains.push(domain);
    }
}

/// Whether the whole world can look a domain up.
fn is_public(domain: &str) -> bool {
    domain.contains('.')
        && ![".local", ".localhost", ".localdomain"]
            .iter()
            .any(|end| domain.ends_with(end))
}

/// The provider whose own domain that is, and over which the mail leaves: it keeps the records.
fn kept_by(case: &Case<'_>, domain: &str) -> Option<&'static str> {
    let provider = providers::by_domain(domain)?;
    let is_google = provider.id == "google";
    let is_microsoft = matches!(provider.id, "outlook-com" | "microsoft-365");
    let same = match case.route.upstream().as_ref() {
        Upstream::Graph(_) => is_microsoft,
        Upstream::Gmail(_) => is_google,
        Upstream::Smtp(settings) => match settings.oauth.as_ref().map(|o| o.provider) {
            Some(oauth::Provider::Microsoft) => is_microsoft,
            Some(oauth::Provider::Google) => is_google,
            Some(oauth::Provider::Custom) | None => {
                matches!(provider.host, Host::Fixed(host) if host.eq_ignore_ascii_case(&settings.host))
            }
        },
        Upstream::Capture(_) => false,
    };
    same.then_some(provider.name)
}

/// Says what there is to say of a domain whose records nobody here can publish.
fn is_set_aside(case: &Case<'_>, report: &Report, domain: &str) -> bool {
    let language = report.language;
    if let Some(provider) = kept_by(case, domain) {
        let text = words!(
            language,
            "{domain} gehört {provider}; um die Einträge kümmert sich der Anbieter.",
            "{domain} belongs to {provider}; the provider looks after the records."
        );
        for check in [Check::Spf, Check::Dkim, Check::Dmarc] {
            report.ok(check, domain, &text);
        }
        return true;
    }
    if is_public(domain) {
        return false;
    }
    let text = words!(
        language,
        "{domain} ist keine Domain, die es im Internet gibt; Empfänger draußen nehmen Mail von dort meist nicht an.",
        "{domain} is no domain that there is on the internet; recipients outside mostly take no mail from it."
    );
    let remedy = words!(
        language,
        "Tragen Sie bei email und [sender] address eine Adresse Ihrer eigenen Domain ein.",
        "Enter an address of your own domain as email and [sender] address."
    );
    report.warn(Check::Spf, domain, text, remedy);
    true
}

/// Looks at every domain.
pub async fn examine(case: &Case<'_>, report: &Report) {
    report.begin(Check::Spf, case.tenant.id.as_str());
    let (mut from, mut returns) = (Vec::new(), Vec::new());
    for address in froms(case) {
        let domain = address.ascii_domain();
        add(&mut returns, return_domain(case, &domain));
        add(&mut from, domain);
    }
    if matches!(case.route, Route::Own(_)) {
        // Bounces and mail without a rule of its own leave with these.
        for address in return_paths(case) {
            add(&mut returns, address.ascii_domain());
        }
    }
    let mut all = returns.clone();
    for domain in &from {
        add(&mut all, domain.clone());
    }
    all.retain(|domain| is_set_aside(case, report, domain));
    returns.retain(|domain| !all.contains(domain));
    from.retain(|domain| !all.contains(domain));
    let mut standings: Vec<(String, Standing)> = Vec::new();
    for domain in returns {
        let standing = spf::examine(case, report, &domain).await;
        standings.push((domain, standing));
    }
    if from.is_empty() {
        return;
    }
    let signing = dkim::examine(case, report, &from).await;
    for domain in &from {
        let path = return_domain(case, domain);
        let known = standings.iter().find(|(name, _)| *name == path);
        let standing = known.map_or(Standing::Unknown, |(_, standing)| *standing);
        let way = dmarc::Way {
            return_domain: &path,
            standing,
            signing: &signing,
        };
        dmarc::examine(case, report, domain, &way).await;
    }
}
