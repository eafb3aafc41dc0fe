//! Whether mail from a domain passes DMARC, and what its record says of mail that does not.

use super::Case;
use super::dkim::{Signing, State};
use super::report::{Check, Outcome, Report, dns_remedy, of_dns, quote, quote_record};
use super::spf::Standing;
use crate::dns::dmarc::{self, Applied, Mode, Note, Policy, Published, Step};
use crate::explain::Language;

/// How mail from a domain leaves.
pub struct Way<'a> {
    /// The domain of MAIL FROM.
    pub return_domain: &'a str,
    /// What SPF will say of it.
    pub standing: Standing,
    /// What signs it.
    pub signing: &'a Signing,
}

/// Whether something aligned will pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Chance {
    /// Nothing is aligned.
    No,
    /// It is aligned, and fails until its own record is mended.
    Broken,
    /// It is aligned; whether it passes is not known.
    Unknown,
    /// It passes.
    Yes,
}

/// Looks at a domain of From.
pub async fn examine(case: &Case<'_>, report: &Report, domain: &str, way: &Way<'_>) {
    report.begin(Check::Dmarc, domain);
    let language = report.language;
    let steps = match dmarc::walk(case.dns, domain).await {
        Ok(steps) => steps,
        Err(error) => {
            let text = of_dns(language, &error);
            report.warn(Check::Dmarc, domain, text, dns_remedy(language));
            return;
        }
    };
    let Some(applied) = dmarc::applied(&steps) else {
        missing(report, domain, steps.first());
        return;
    };
    let (by_spf, by_dkim) = chances(case, &steps, &applied, way).await;
    let mut text = said(language, domain, &applied);
    for note in &applied.record.notes {
        text.push(' ');
        text.push_str(&of_note(language, note));
    }
    text.push(' ');
    text.push_str(&ways(language, way, by_spf, &by_dkim));
    let best = by_dkim
        .as_ref()
        .map_or(by_spf, |(_, chance)| by_spf.max(*chance));
    let align = || alignment(case, language, domain, &applied, way.standing);
    let (outcome, remedy) = match (applied.policy, best) {
        (Policy::Quarantine | Policy::Reject, Chance::Yes) => (Outcome::Ok, String::new()),
        (Policy::Quarantine | Policy::Reject, Chance::No) => (Outcome::Failed, align()),
        (Policy::None, Chance::No) => (Outcome::Warning, align()),
        (_, Chance::Broken) => (
            Outcome::Warning,
            words!(
                language,
                "Bringen Sie in Ordnung, was oben bei spf und dkim steht; danach besteht die Mail DMARC.",
                "Mend what stands above at spf and dkim; then the mail passes DMARC."
            ),
        ),
        (_, Chance::Unknown) => (
            Outcome::Warning,
            words!(
                language,
                "Klären Sie, was oben bei spf und dkim offen ist; sicher ist eine eigene DKIM-Signatur (postbote dkim new).",
                "Settle what is open above at spf and dkim; what is certain is a DKIM signature of your own (postbote dkim new)."
            ),
        ),
        (Policy::None, Chance::Yes) => {
            let record = quote_record(&applied.record.with_policy(Policy::Quarantine));
            let name = dmarc::record_name(applied.domain);
            (
                Outcome::Warning,
                words!(
                    language,
                    "p=none schützt die Domain noch nicht vor Fälschern. Zeigen die Berichte (rua) keine eigene Mail, die scheitert: TXT, Name {name}, Wert \"{record}\"",
                    "p=none does not yet protect the domain from forgers. Once the reports (rua) show no mail of your own that fails: TXT, name {name}, value \"{record}\""
                ),
            )
        }
    };
    report.push(Check::Dmarc, domain, outcome, &text, &remedy);
}

fn missing(report: &Report, domain: &str, step: Option<&Step>) {
    let language = report.language;
    let name = dmarc::record_name(domain);
    let text = match step.map(|step| &step.found) {
        Some(Published::Several(count)) => words!(
            language,
            "Unter {name} stehen {count} DMARC-Einträge; dann gilt keiner.",
            "There are {count} DMARC records under {name}; then none counts."
        ),
        Some(Published::Misspelt(found)) => {
            let found = quote(found);
            words!(
                language,
                "Der Eintrag unter {name} gilt nicht als DMARC-Eintrag, denn er muss genau mit v=DMARC1; beginnen: \"{found}\"",
                "The record under {name} does not count as DMARC, for it has to begin with exactly v=DMARC1; here is: \"{found}\""
            )
        }
        Some(Published::Nothing | Published::One(_)) | None => words!(
            language,
            "Die Domain hat keinen DMARC-Eintrag; große Anbieter wie Google und Yahoo verlangen einen.",
            "The domain has no DMARC record; large providers such as Google and Yahoo demand one."
        ),
    };
    let remedy = words!(
        language,
        "Wer das DNS von {domain} verwaltet, veröffentlicht genau einen TXT-Eintrag (die Adresse für Berichte nach Wunsch), Name {name}, Wert \"v=DMARC1; p=none; rua=mailto:dmarc@{domain}\"",
        "Whoever keeps the DNS of {domain} publishes exactly one TXT record (with an address for reports of your choice), name {name}, value \"v=DMARC1; p=none; rua=mailto:dmarc@{domain}\""
    );
    report.warn(Check::Dmarc, domain, text, remedy);
}

type ByDkim = Option<(String, Chance)>;

/// What SPF and the best signature come to.
async fn chances(
    case: &Case<'_>,
    steps: &[Step],
    applied: &Applied<'_>,
    way: &Way<'_>,
) -> (Chance, ByDkim) {
    // What DNS does not say now is open.
    let aligned =
        async |other: &str, mode: Mode| dmarc::aligned(case.dns, steps, other, mode).await.ok();
    let standing = match way.standing {
        Standing::Pass => Chance::Yes,
        Standing::Unknown => Chance::Unknown,
        Standing::Fail => Chance::Broken,
        Standing::Elsewhere => Chance::No,
    };
    let by_spf = match aligned(way.return_domain, applied.record.spf).await {
        Some(true) => standing,
        Some(false) => Chance::No,
        None => standing.min(Chance::Unknown),
    };
    let start = steps.first().map_or("", |step| step.domain.as_str());
    let mut by_dkim: ByDkim = None;
    let mut provider = way.signing.provider.iter();
    if let Some((domain, state)) = provider.find(|(d, _)| d == start) {
        by_dkim = Some((domain.clone(), of_state(*state)));
    }
    for (domain, _, state) in &way.signing.keys {
        let state = of_state(*state);
        let chance = match aligned(domain, applied.record.dkim).await {
            Some(true) => state,
            Some(false) => Chance::No,
            None => state.min(Chance::Unknown),
        };
        if by_dkim.as_ref().is_none_or(|(_, known)| *known < chance) {
            by_dkim = Some((domain.clone(), chance));
        }
    }
    (by_spf, by_dkim)
}

/// What a signature that is aligned comes to.
fn of_state(state: State) -> Chance {
    match state {
        State::Good => Chance::Yes,
        State::Unknown => Chance::Unknown,
        State::Bad => Chance::Broken,
    }
}

/// The policy, and whose it is.
fn said(language: Language, domain: &str, applied: &Applied<'_>) -> String {
    let policy = applied.policy.word();
    let owner = quote(applied.domain);
    let mut text = if owner.eq_ignore_ascii_case(domain) {
        words!(language, "Es gilt p={policy}.", "The policy is p={policy}.")
    } else {
        words!(
            language,
            "Es gilt p={policy}, aus dem Eintrag von {owner}.",
            "The policy is p={policy}, from the record of {owner}."
        )
    };
    if applied.record.testing {
        text.push_str(&words!(
            language,
            " Der Eintrag ist als Test gekennzeichnet (t=y): eine Stufe milder als geschrieben.",
            " The record says test (t=y): one step milder than written."
        ));
    }
    text
}

/// By what mail passes, and by what not.
fn ways(language: Language, way: &Way<'_>, by_spf: Chance, by_dkim: &ByDkim) -> String {
    let path = way.return_domain;
    let spf = match by_spf {
        Chance::Yes => words!(
            language,
            "SPF: besteht, der Return-Path in {path} passt zur Absenderdomain.",
            "SPF: passes, the return path in {path} is aligned."
        ),
        Chance::Unknown => words!(
            language,
            "SPF: Der Return-Path in {path} passt; ob SPF besteht, ist offen.",
            "SPF: the return path in {path} is aligned; whether SPF passes is open."
        ),
        Chance::Broken => words!(
            language,
            "SPF: Der Return-Path in {path} passt, aber SPF besteht noch nicht.",
            "SPF: the return path in {path} is aligned, but SPF does not pass yet."
        ),
        Chance::No if way.standing == Standing::Elsewhere => words!(
            language,
            "SPF zählt nicht: Der Anbieter setzt seinen eigenen Return-Path.",
            "SPF does not count: the provider sets its own return path."
        ),
        Chance::No => words!(
            language,
            "SPF zählt nicht: Der Return-Path liegt in {path}.",
            "SPF does not count: the return path is in {path}."
        ),
    };
    let dkim = match by_dkim {
        None => words!(
            language,
            "DKIM: keine eigene Signatur.",
            "DKIM: no signature of the domain's own."
        ),
        Some((domain, Chance::Yes)) => words!(
            language,
            "DKIM: besteht, signiert als {domain}.",
            "DKIM: passes, signed as {domain}."
        ),
        Some((domain, Chance::Unknown)) => words!(
            language,
            "DKIM: signiert als {domain}; ob die Signatur gilt, ist offen.",
            "DKIM: signed as {domain}; whether the signature counts is open."
        ),
        Some((domain, Chance::Broken)) => words!(
            language,
            "DKIM: signiert als {domain}, aber die Signatur gilt noch nicht.",
            "DKIM: signed as {domain}, but the signature does not count yet."
        ),
        Some((domain, Chance::No)) => words!(
            language,
            "DKIM zählt nicht: signiert als {domain}.",
            "DKIM does not count: signed as {domain}."
        ),
    };
    format!("{dkim} {spf}")
}

/// What would make the mail pass.
fn alignment(
    case: &Case<'_>,
    language: Language,
    domain: &str,
    applied: &Applied<'_>,
    standing: Standing,
) -> String {
    let id = &case.tenant.id;
    if standing == Standing::Elsewhere {
        return words!(
            language,
            "Empfänger weisen die Mail ab oder halten sie für Spam, sobald p es verlangt. Richten Sie {domain} beim Anbieter mit DKIM ein, oder signieren Sie selbst als {domain} (postbote dkim new {id} --domain {domain} --selector pb1) und veröffentlichen Sie die Einträge.",
            "Recipients refuse the mail or take it for spam as soon as p says so. Set up {domain} with DKIM at the provider, or sign as {domain} yourself (postbote dkim new {id} --domain {domain} --selector pb1) and publish the records."
        );
    }
    let mut remedy = words!(
        language,
        "Empfänger weisen die Mail ab oder halten sie für Spam, sobald p es verlangt. Signieren Sie als {domain} (postbote dkim new {id} --domain {domain} --selector pb1) und veröffentlichen Sie die Einträge, oder nehmen Sie einen Return-Path ([sender] return_path) und einen Absender in derselben Domain.",
        "Recipients refuse the mail or take it for spam as soon as p says so. Sign as {domain} (postbote dkim new {id} --domain {domain} --selector pb1) and publish the records, or use a return path ([sender] return_path) and a sender in the same domain."
    );
    let (record, name) = (applied.record, dmarc::record_name(applied.domain));
    if record.dkim == Mode::Strict || record.spf == Mode::Strict {
        remedy.push_str(&words!(
            language,
            " Der Eintrag unter {name} verlangt mit adkim=s oder aspf=s genau denselben Namen; ohne das genügt dieselbe Organisation.",
            " The record under {name} demands exactly the same name by adkim=s or aspf=s; without that the same organisation is enough."
        ));
    }
    remedy
}

fn of_note(language: Language, note: &Note) -> String {
    match note {
        Note::NoPolicy => words!(
            language,
            "Im Eintrag fehlt p=; das gilt als p=none.",
            "The record has no p=; that counts as p=none."
        ),
        Note::BadPolicy(tag) => {
            let tag = quote(tag);
            words!(
                language,
                "„{tag}“ gibt es nicht; das gilt als p=none.",
                "\"{tag}\" does not exist; it counts as p=none."
            )
        }
        Note::Bad(tag) => {
            let tag = quote(tag);
            words!(
                language,
                "„{tag}“ ist falsch geschrieben und zählt nicht.",
                "\"{tag}\" is not written as it has to be and does not count."
            )
        }
        Note::Obsolete(tag) => {
            let tag = quote(tag);
            words!(
                language,
                "„{tag}“ hat keine Bedeutung mehr (RFC 9989).",
                "\"{tag}\" no longer has a meaning (RFC 9989)."
            )
        }
    }
}
