//! The DKIM keys of a route against what DNS has; `postbote dkim check` asks the same.

use std::process::ExitCode;

use super::super::block_on;
use super::Case;
use super::report::{Check, Outcome, Report, dns_remedy, of_dns, quote};
use super::spf::{Carrier, carrier};
use crate::app::{self, Failure};
use crate::config::Config;
use crate::dns::dkim::{self, Fault, Verdict};
use crate::dns::spf::Provider;
use crate::dns::{Dns, Lookup as _};
use crate::explain::{Cause, Language};
use crate::prepare::dkim::{SigningKey, When};
use crate::tenant::route::Route;
use crate::tenant::{SystemSender, Tenant};
use crate::vault::Secrets;

/// Whether receivers will find a signature good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They will.
    Good,
    /// DNS did not answer.
    Unknown,
    /// Not until the record is mended.
    Bad,
}

/// The signatures that mail of a route gets.
#[derive(Debug, Default)]
pub struct Signing {
    /// Our own: d=, s= and how it stands.
    pub keys: Vec<(String, String, State)>,
    /// The domains as which the provider signs, or may.
    pub provider: Vec<(String, State)>,
}

/// Looks at all keys of a route.
pub async fn examine(case: &Case<'_>, report: &Report, domains: &[String]) -> Signing {
    let (keys, owner) = match case.route {
        Route::System { system, .. } if system.sender == SystemSender::System => {
            (&system.dkim, None)
        }
        Route::Own(_) | Route::System { .. } => (&case.tenant.dkim, Some(case.tenant)),
    };
    let provider_signs = case.route.upstream().signs_itself();
    let mut signing = Signing::default();
    for entry in keys {
        if entry.when == When::Auto && provider_signs {
            let name = dkim::record_name(&entry.selector, &entry.domain);
            let text = words!(
                report.language,
                "Auf diesem Weg unbenutzt (when = \"auto\"): Der Anbieter signiert selbst.",
                "Not used on this route (when = \"auto\"): the provider signs itself."
            );
            report.ok(Check::Dkim, &name, text);
            continue;
        }
        let state = key(report, case.dns, &case.context.secrets, entry, owner).await;
        let (domain, selector) = (entry.domain.clone(), entry.selector.clone());
        signing.keys.push((domain, selector, state));
    }
    let provider = match carrier(case.route.upstream()) {
        Carrier::Known(known) if provider_signs || known.own_return_path => Some(known),
        Carrier::Known(_) | Carrier::Host(_) => None,
    };
    if let Some(provider) = provider {
        for domain in domains {
            let mut keys = signing.keys.iter();
            let is_signed = !provider_signs
                && keys.any(|(own, _, state)| {
                    own.eq_ignore_ascii_case(domain) && *state == State::Good
                });
            if is_signed {
                continue;
            }
            if let Some(state) = by_provider(case, report, provider, domain).await {
                signing.provider.push((domain.clone(), state));
            }
        }
    } else if !provider_signs
        && keys.is_empty()
        && let Some(domain) = domains.first()
    {
        unsigned(case, report, domain, owner.is_some());
    }
    signing
}

fn unsigned(case: &Case<'_>, report: &Report, domain: &str, is_tenants: bool) {
    let (language, id) = (report.language, &case.tenant.id);
    let text = words!(
        language,
        "Die Mail wird nicht mit DKIM signiert; bei vielen Empfängern landet sie eher im Spam.",
        "The mail is not signed with DKIM; with many recipients it lands in spam more easily."
    );
    let remedy = if is_tenants {
        words!(
            language,
            "postbote dkim new {id} --domain {domain} --selector pb1; die ausgegebenen DNS-Einträge veröffentlichen, die Zeilen in die Datei des Mandanten eintragen.",
            "postbote dkim new {id} --domain {domain} --selector pb1; publish the DNS records that it prints, put the lines into the tenant's file."
        )
    } else {
        words!(
            language,
            "Der Betreiber macht einen Schlüssel (wie mit postbote dkim new) und trägt ihn in postbote.toml als [[system.dkim]] für {domain} ein.",
            "The operator makes a key (as postbote dkim new does) and adds it to postbote.toml as [[system.dkim]] for {domain}."
        )
    };
    report.warn(Check::Dkim, domain, text, remedy);
}

/// Whether the provider signs as that domain, as far as its usual selectors tell; `None`: as it
/// seems it does not.
async fn by_provider(
    case: &Case<'_>,
    report: &Report,
    provider: &Provider,
    domain: &str,
) -> Option<State> {
    report.begin(Check::Dkim, domain);
    let (language, name, id) = (report.language, provider.name, &case.tenant.id);
    if provider.selectors.is_empty() {
        let text = words!(
            language,
            "{name} signiert selbst, sobald {domain} dort eingerichtet ist; unter welchem Selektor, lässt sich von hier aus nicht wissen.",
            "{name} signs itself once {domain} is set up there; under which selector cannot be known from here."
        );
        let remedy = words!(
            language,
            "Sehen Sie in der Verwaltung von {name} nach, ob DKIM für {domain} dort bestätigt ist. Sicher ist auch eine eigene Signatur: postbote dkim new {id} --domain {domain} --selector pb1",
            "Look in the administration of {name} whether DKIM for {domain} is verified there. A signature of your own makes sure, too: postbote dkim new {id} --domain {domain} --selector pb1"
        );
        report.warn(Check::Dkim, domain, text, remedy);
        return Some(State::Unknown);
    }
    for selector in provider.selectors {
        let txt = match case.dns.txt(&dkim::record_name(selector, domain)).await {
            Ok(txt) => txt,
            Err(error) => {
                let text = of_dns(language, &error);
                report.warn(Check::Dkim, domain, text, dns_remedy(language));
                return Some(State::Unknown);
            }
        };
        if txt.iter().any(|text| dkim::is_key(text)) {
            let text = words!(
                language,
                "{name} signiert selbst, als {domain} ({selector}).",
                "{name} signs itself, as {domain} ({selector})."
            );
            report.ok(Check::Dkim, domain, text);
            return Some(State::Good);
        }
    }
    if provider.own_return_path {
        let selectors = provider.selectors.join(", ");
        let text = words!(
            language,
            "{name} signiert selbst, wie es aussieht aber (noch) nicht als {domain}: Unter den üblichen Selektoren ({selectors}) steht kein Schlüssel.",
            "{name} signs itself, though as it seems not (yet) as {domain}: there is no key under the usual selectors ({selectors})."
        );
        let remedy = words!(
            language,
            "Richten Sie {domain} in der Verwaltung von {name} mit DKIM ein und veröffentlichen Sie die Einträge, die dort stehen; oder signieren Sie selbst: postbote dkim new {id} --domain {domain} --selector pb1",
            "Set up {domain} with DKIM in the administration of {name} and publish the records that it shows; or sign yourself: postbote dkim new {id} --domain {domain} --selector pb1"
        );
        report.warn(Check::Dkim, domain, text, remedy);
        return None;
    }
    let text = words!(
        language,
        "{name} signiert selbst, wie es aussieht aber (noch) nicht als {domain}; das schalten Sie in der Verwaltung von {name} unter DKIM ein.",
        "{name} signs itself, though as it seems not (yet) as {domain}; switch that on under DKIM in the administration of {name}."
    );
    report.ok(Check::Dkim, domain, text);
    None
}

/// `postbote dkim check`
pub fn check_keys(config: &Config, tenant: &Tenant, json: bool) -> Result<ExitCode, Failure> {
    let secrets = app::open_secrets(config)?;
    let report = Report::new(config.server.language);
    block_on(async {
        let dns = Dns::from_environment();
        for entry in &tenant.dkim {
            key(&report, &dns, &secrets, entry, Some(tenant)).await;
        }
    })?;
    Ok(report.print(json))
}

/// One key against DNS. `owner`: whose it is, if it is a tenant's.
async fn key(
    report: &Report,
    dns: &Dns,
    secrets: &Secrets,
    entry: &SigningKey,
    owner: Option<&Tenant>,
) -> State {
    let language = report.language;
    let (domain, name) = (
        &entry.domain,
        dkim::record_name(&entry.selector, &entry.domain),
    );
    report.begin(Check::Dkim, &name);
    let key = match entry.key(secrets) {
        Ok(key) => key,
        Err(error) => {
            let meaning = Cause::KeyUnusable.meaning();
            let text = format!("{} ({error})", meaning.cause.get(language));
            report.fail(Check::Dkim, &name, text, meaning.remedy.get(language));
            return State::Bad;
        }
    };
    let txt = match dns.txt(&name).await {
        Ok(txt) => txt,
        Err(error) => {
            let text = of_dns(language, &error);
            report.warn(Check::Dkim, &name, text, dns_remedy(language));
            return State::Unknown;
        }
    };
    let verdict = dkim::compare(&txt, key);
    let (outcome, mut text) = judged(language, &verdict);
    if outcome == Outcome::Ok {
        report.ok(Check::Dkim, &name, text);
        return State::Good;
    }
    if verdict == Verdict::Missing {
        // Panels that add the domain themselves.
        let doubled = format!("{name}.{domain}");
        if dns.txt(&doubled).await.is_ok_and(|txt| !txt.is_empty()) {
            text.push_str(&words!(
                language,
                " Er steht aber unter {doubled}: Die DNS-Verwaltung hat die Domain noch einmal angehängt; tragen Sie nur den Teil davor ein.",
                " It does stand under {doubled}: the DNS panel has added the domain once more; enter only what stands before it."
            ));
        }
    }
    let record = key.record();
    let split = match owner {
        Some(tenant) if record.len() > 255 => {
            let id = &tenant.id;
            words!(
                language,
                " (in Stücken zu 255 Zeichen: postbote dkim record {id})",
                " (in pieces of 255 characters: postbote dkim record {id})"
            )
        }
        Some(_) | None => String::new(),
    };
    let remedy = words!(
        language,
        "Wer das DNS von {domain} verwaltet, veröffentlicht genau einen TXT-Eintrag, Name {name}, Wert \"{record}\"{split}",
        "Whoever keeps the DNS of {domain} publishes exactly one TXT record, name {name}, value \"{record}\"{split}"
    );
    report.push(Check::Dkim, &name, outcome, &text, &remedy);
    State::Bad
}

fn judged(language: Language, verdict: &Verdict) -> (Outcome, String) {
    let failed = |text: String| (Outcome::Failed, text);
    match verdict {
        Verdict::Same => (
            Outcome::Ok,
            words!(
                language,
                "Der Eintrag im DNS passt zum Schlüssel.",
                "The record in DNS is that of the key."
            ),
        ),
        Verdict::TestMode => (
            Outcome::Warning,
            words!(
                language,
                "Der Eintrag passt zum Schlüssel, ist aber als Test gekennzeichnet (t=y): Empfänger behandeln die Mail, als wäre sie nicht signiert.",
                "The record is that of the key, but says test (t=y): recipients treat the mail as if it were not signed."
            ),
        ),
        Verdict::Missing => failed(words!(
            language,
            "Im DNS steht kein Eintrag für diesen Schlüssel; die Signatur gilt nicht.",
            "DNS has no record for this key; the signature does not count."
        )),
        Verdict::Revoked => failed(words!(
            language,
            "Der Schlüssel ist im DNS für ungültig erklärt (p= ist leer). War das Absicht, machen Sie mit postbote dkim new einen neuen unter anderem Namen.",
            "The key is declared invalid in DNS (p= is empty). If that was meant, make a new one under another name with postbote dkim new."
        )),
        Verdict::Other => failed(words!(
            language,
            "Im DNS steht ein anderer Schlüssel; die Signatur gilt nicht.",
            "DNS has another key; the signature does not count."
        )),
        Verdict::Several(count) => failed(words!(
            language,
            "Unter diesem Namen stehen {count} Einträge; welcher gilt, ist Zufall. Löschen Sie die übrigen.",
            "There are {count} records under this name; which one counts is chance. Delete the others."
        )),
        Verdict::Malformed(fault) => {
            let why = of_fault(language, fault);
            failed(words!(
                language,
                "Empfänger können den Eintrag nicht verwenden: {why}",
                "Recipients cannot use the record: {why}"
            ))
        }
    }
}

fn of_fault(language: Language, fault: &Fault) -> String {
    match fault {
        Fault::Form => words!(
            language,
            "Er besteht nicht aus Angaben der Form p=… mit Semikolon dazwischen; oft sind Anführungszeichen mit hineingeraten.",
            "It is not made of entries such as p=… with semicolons between; often quotation marks got into it."
        ),
        Fault::Version => words!(
            language,
            "Er beginnt nicht mit v=DKIM1 und einem Semikolon.",
            "It does not begin with v=DKIM1 and a semicolon."
        ),
        Fault::Twice(tag) => {
            let tag = quote(tag);
            words!(
                language,
                "Die Angabe {tag}= steht zweimal darin.",
                "The entry {tag}= stands in it twice."
            )
        }
        Fault::NoKey => words!(
            language,
            "Der Schlüssel (p=) fehlt.",
            "The key (p=) is missing."
        ),
        Fault::Base64 => words!(
            language,
            "Der Schlüssel (p=) ist beschädigt, kein gültiges Base64.",
            "The key (p=) is damaged, no valid base64."
        ),
        Fault::CutOff => words!(
            language,
            "Der Schlüssel (p=) ist abgeschnitten. Nimmt die DNS-Verwaltung nur 255 Zeichen, tragen Sie ihn in Stücken ein.",
            "The key (p=) is cut off. If the DNS panel takes only 255 characters, enter it in pieces."
        ),
        Fault::Kind(kind) => {
            let kind = quote(kind);
            words!(
                language,
                "Der Schlüssel stimmt, seine Art nicht (k={kind}).",
                "The key is right, its kind is not (k={kind})."
            )
        }
        Fault::Wrapped => words!(
            language,
            "Der Ed25519-Schlüssel ist verpackt; hinein gehören nur seine 32 Bytes.",
            "The Ed25519 key is wrapped; only its 32 octets belong there."
        ),
        Fault::Hash => words!(
            language,
            "Er erlaubt SHA-256 nicht (h=).",
            "It does not allow SHA-256 (h=)."
        ),
        Fault::Service => words!(
            language,
            "Er gilt nicht für E-Mail (s=).",
            "It is not for mail (s=)."
        ),
    }
}
