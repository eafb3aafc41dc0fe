//! Whether a domain's SPF record allows the server that its mail leaves by.

use std::cmp::Reverse;
use std::net::IpAddr;

use super::Case;
use super::report::{Check, Outcome, Report, dns_remedy, of_dns, quote, quote_record};
use crate::dns::Lookup as _;
use crate::dns::spf::{self, BadTerm, Note, Provider, Published, Qualifier};
use crate::dns::tree::{self, Fault, Tree, Verdict};
use crate::explain::Language;
use crate::oauth;
use crate::transport::Upstream;

/// What SPF will say of mail with a return path in a domain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Pass.
    Pass,
    /// It cannot be known.
    Unknown,
    /// Not pass, until the record is mended.
    Fail,
    /// The provider puts its own return path, so it says nothing of ours.
    Elsewhere,
}

/// Who brings the mail to its recipients.
pub enum Carrier {
    /// A provider whose record is known.
    Known(&'static Provider),
    /// Another server.
    Host(String),
}

/// Who that is for an upstream.
pub fn carrier(upstream: &Upstream) -> Carrier {
    let named = match upstream {
        Upstream::Graph(_) => Some(&spf::MICROSOFT),
        Upstream::Gmail(_) => Some(&spf::GOOGLE),
        Upstream::Smtp(settings) => match settings.oauth.as_ref().map(|o| o.provider) {
            Some(oauth::Provider::Microsoft) => Some(&spf::MICROSOFT),
            Some(oauth::Provider::Google) => Some(&spf::GOOGLE),
            Some(oauth::Provider::Custom) | None => spf::provider_of(&settings.host),
        },
        Upstream::Capture(_) => None,
    };
    match (named, upstream) {
        (Some(provider), _) => Carrier::Known(provider),
        (None, Upstream::Smtp(settings)) => Carrier::Host(settings.host.clone()),
        (None, Upstream::Graph(_) | Upstream::Gmail(_) | Upstream::Capture(_)) => {
            Carrier::Host(String::new())
        }
    }
}

impl Carrier {
    fn name(&self) -> String {
        match self {
            Carrier::Known(provider) => provider.name.to_owned(),
            Carrier::Host(host) => host.clone(),
        }
    }

    /// What a record needs for it, as far as that can be known.
    fn term(&self, addresses: &[IpAddr]) -> Option<String> {
        match self {
            Carrier::Known(provider) => Some(provider.term()),
            Carrier::Host(host) => {
                let public = addresses
                    .iter()
                    .find(|ip| super::route::locality(**ip).is_none())?;
                let by_name = format!("a:{host}");
                let is_valid = spf::parse(&format!("v=spf1 {by_name}")).is_ok();
                let host = host.trim_matches(['[', ']']).parse::<IpAddr>();
                Some(match host {
                    Ok(ip) => of_address(ip),
                    Err(_) if is_valid => by_name,
                    Err(_) => of_address(*public),
                })
            }
        }
    }

    /// Whether a name is what its own term includes.
    fn owns(&self, name: &str) -> bool {
        match self {
            Carrier::Known(provider) => provider.names().any(|own| own.eq_ignore_ascii_case(name)),
            Carrier::Host(_) => false,
        }
    }
}

fn of_address(address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("ip4:{ip}"),
        IpAddr::V6(ip) => format!("ip6:{ip}"),
    }
}

/// Looks at a domain.
pub async fn examine(case: &Case<'_>, report: &Report, domain: &str) -> Standing {
    report.begin(Check::Spf, domain);
    let looked = Looked {
        case,
        report,
        domain,
        carrier: carrier(case.route.upstream()),
    };
    looked.examine().await
}

/// Most terms that are named in a remedy.
const TERMS: usize = 10;

struct Looked<'a> {
    case: &'a Case<'a>,
    report: &'a Report,
    domain: &'a str,
    carrier: Carrier,
}

impl Looked<'_> {
    fn language(&self) -> Language {
        self.report.language
    }

    fn say(&self, outcome: Outcome, text: &str, remedy: &str) {
        let (report, domain) = (self.report, self.domain);
        report.push(Check::Spf, domain, outcome, text, remedy);
    }

    async fn examine(&self) -> Standing {
        let language = self.language();
        let txt = match self.case.dns.txt(self.domain).await {
            Ok(txt) => txt,
            Err(error) => {
                let text = of_dns(language, &error);
                self.say(Outcome::Warning, &text, &dns_remedy(language));
                return self.open_standing();
            }
        };
        match spf::select(&txt) {
            Published::Nothing => self.nothing(None).await,
            Published::Misspelt(text) => self.nothing(Some(&text)).await,
            Published::Several(records) => self.several(&records).await,
            Published::One(text) => match spf::parse(&text) {
                Err(bad) => self.unreadable(&text, &bad).await,
                Ok(record) => {
                    let tree = Tree::read(self.case.dns, self.domain, &record).await;
                    self.judge(&text, &record.notes, &tree).await
                }
            },
        }
    }

    /// Whether the provider asks for nothing of ours: its own return path is on every message.
    fn is_elsewhere(&self) -> bool {
        matches!(self.carrier, Carrier::Known(provider) if provider.own_return_path)
    }

    /// Where it cannot be known, or does not count.
    fn open_standing(&self) -> Standing {
        if self.is_elsewhere() {
            Standing::Elsewhere
        } else {
            Standing::Unknown
        }
    }

    /// A record that forbids, or says nothing.
    fn lacking(&self, text: &str, remedy: &str) -> Standing {
        if self.is_elsewhere() {
            self.say(Outcome::Warning, text, remedy);
            return Standing::Elsewhere;
        }
        self.say(Outcome::Failed, text, remedy);
        Standing::Fail
    }

    /// The record to publish, with what the carrier needs.
    async fn publish(&self, present: Option<&str>) -> String {
        let (language, domain, carrier) = (self.language(), self.domain, self.carrier.name());
        let term = self.carrier.term(self.case.addresses);
        // In place of an address that only the reader knows.
        let blank = words!(language, "ip4:ADRESSE", "ip4:ADDRESS");
        let wanted = term.as_deref().unwrap_or(&blank);
        let record = quote_record(&spf::merged(present, wanted));
        let example = of_address(IpAddr::from([192, 0, 2, 1]));
        let tried = spf::merged(present, term.as_deref().unwrap_or(&example));
        let doubts = self.doubts(&tried, wanted).await;
        let text = match (&self.carrier, &term) {
            (Carrier::Known(_), _) => words!(
                language,
                "Wer das DNS von {domain} verwaltet, veröffentlicht als einzigen SPF-Eintrag (TXT, Name {domain}): \"{record}\"",
                "Whoever keeps the DNS of {domain} publishes as the only SPF record (TXT, name {domain}): \"{record}\""
            ),
            (Carrier::Host(_), Some(_)) => words!(
                language,
                "Fragen Sie den Betreiber von {carrier} nach seinem SPF-Eintrag (meist ein include:). Stellt {carrier} selbst an die Empfänger zu, lautet der Eintrag (TXT, Name {domain}): \"{record}\"",
                "Ask the operator of {carrier} for its SPF record (usually an include:). If {carrier} itself brings the mail to the recipients, the record is (TXT, name {domain}): \"{record}\""
            ),
            (Carrier::Host(_), None) => words!(
                language,
                "{carrier} steht in Ihrem Netz: In den Eintrag gehört die öffentliche Adresse, mit der Ihre Mail im Internet ankommt (ip4: oder ip6:), oder das include: des Anbieters, an den {carrier} weiterreicht. Setzen Sie sie für ADRESSE ein (TXT, Name {domain}): \"{record}\"",
                "{carrier} is in your own network: the record needs the public address with which your mail arrives on the internet (ip4: or ip6:), or the include: of the provider that {carrier} hands it to. Put it in place of ADDRESS (TXT, name {domain}): \"{record}\""
            ),
        };
        format!("{text}{doubts}")
    }

    /// Why a record that is to be published would not count even so.
    async fn doubts(&self, record: &str, wanted: &str) -> String {
        let language = self.language();
        let Ok(parsed) = spf::parse(record) else {
            return String::new();
        };
        let tree = Tree::read(self.case.dns, self.domain, &parsed).await;
        let mut text = String::new();
        for fault in &tree.faults {
            let more = match fault {
                Fault::Dns(..) => continue,
                Fault::Missing(name) | Fault::Several(name) | Fault::Syntax(name, _)
                    if self.carrier.owns(name) =>
                {
                    continue;
                }
                Fault::Lookups(_) => {
                    let savings = savings(language, &tree, wanted);
                    words!(
                        language,
                        "So gilt er aber noch nicht: {savings}",
                        "Even so it does not count yet: {savings}"
                    )
                }
                Fault::Missing(_)
                | Fault::Several(_)
                | Fault::Syntax(..)
                | Fault::Loop(_)
                | Fault::Exchangers(_)
                | Fault::Voids(_) => {
                    let why = of_fault(language, fault);
                    let remedy = fault_remedy(language, fault);
                    words!(
                        language,
                        "So gilt er aber noch nicht: {why} {remedy}",
                        "Even so it does not count yet: {why} {remedy}"
                    )
                }
            };
            text.push(' ');
            text.push_str(&more);
        }
        text
    }

    async fn nothing(&self, misspelt: Option<&str>) -> Standing {
        let (language, carrier) = (self.language(), self.carrier.name());
        let text = match misspelt {
            None => words!(
                language,
                "Die Domain hat keinen SPF-Eintrag; Empfänger wissen nicht, dass {carrier} für sie senden darf.",
                "The domain has no SPF record; recipients do not know that {carrier} may send for it."
            ),
            Some(found) => {
                let found = quote(found);
                words!(
                    language,
                    "Der Eintrag gilt nicht als SPF-Eintrag, denn er muss genau mit v=spf1 und einem Leerzeichen beginnen: \"{found}\"",
                    "The record does not count as SPF, for it has to begin with exactly v=spf1 and a blank: \"{found}\""
                )
            }
        };
        let meant = misspelt.and_then(spf::mended);
        self.lacking(&text, &self.publish(meant.as_deref()).await)
    }

    async fn several(&self, records: &[String]) -> Standing {
        let (language, count) = (self.language(), records.len());
        let text = words!(
            language,
            "Die Domain hat {count} SPF-Einträge; dann gilt keiner (permerror).",
            "The domain has {count} SPF records; then none counts (permerror)."
        );
        let one = spf::joined(records);
        let record = self.publish(Some(&one)).await;
        let remedy = words!(
            language,
            "Machen Sie aus allen einen einzigen und löschen Sie die übrigen. {record}",
            "Make one of them and delete the others. {record}"
        );
        self.lacking(&text, &remedy)
    }

    async fn unreadable(&self, record: &str, bad: &BadTerm) -> Standing {
        let language = self.language();
        let (why, shown) = (of_term(language, bad), quote(record));
        let text = words!(
            language,
            "Empfänger können den Eintrag nicht lesen (permerror): {why} Der Eintrag: \"{shown}\"",
            "Recipients cannot read the record (permerror): {why} The record: \"{shown}\""
        );
        let (rest, mut removed) = spf::repaired(record);
        if removed.is_empty() {
            removed.push(bad.term.clone());
        }
        let mut terms: Vec<String> = removed
            .iter()
            .take(TERMS)
            .map(|term| {
                let term = quote(term);
                words!(language, "„{term}“", "\"{term}\"")
            })
            .collect();
        if removed.len() > TERMS {
            terms.push("…".to_owned());
        }
        let terms = terms.join(", ");
        let record = self.publish(Some(&rest)).await;
        let remedy = words!(
            language,
            "Berichtigen Sie {terms}, oder lassen Sie es weg. {record}",
            "Correct {terms}, or leave it out. {record}"
        );
        self.lacking(&text, &remedy)
    }

    async fn judge(&self, record: &str, notes: &[Note], tree: &Tree) -> Standing {
        let language = self.language();
        let shown = quote(record);
        let (broken, silent): (Vec<&Fault>, Vec<&Fault>) = tree
            .faults
            .iter()
            .partition(|f| !matches!(f, Fault::Dns(..)));
        if !broken.is_empty() {
            let why: Vec<String> = broken.iter().map(|f| of_fault(language, f)).collect();
            let why = why.join(" ");
            let text = words!(
                language,
                "Empfänger geben bei diesem Eintrag auf (permerror): {why} Der Eintrag: \"{shown}\"",
                "Recipients give up on this record (permerror): {why} The record: \"{shown}\""
            );
            let remedy = |fault: &&Fault| match fault {
                Fault::Lookups(_) => {
                    let own = self.carrier.term(self.case.addresses);
                    savings(language, tree, own.as_deref().unwrap_or_default())
                }
                _ => fault_remedy(language, fault),
            };
            let remedies: Vec<String> = broken.iter().map(remedy).collect();
            return self.lacking(&text, &remedies.join(" "));
        }
        if let Some(fault) = silent.first() {
            let text = of_fault(language, fault);
            self.say(Outcome::Warning, &text, &dns_remedy(language));
            return self.open_standing();
        }
        let standing = self.standing(tree);
        if let Some(name) = tree.open() {
            // Many receivers count such a record for nothing.
            self.open(record, name, standing).await;
            return self.open_standing();
        }
        match standing {
            Standing::Fail => return self.forbids(record).await,
            Standing::Unknown => self.unknown(record).await,
            Standing::Pass | Standing::Elsewhere => self.allowed(record, notes, tree),
        }
        standing
    }

    fn standing(&self, tree: &Tree) -> Standing {
        match &self.carrier {
            Carrier::Known(provider) => {
                let names: Vec<&str> = provider.names().collect();
                match (tree.includes(&names), provider.own_return_path) {
                    (true, false) => Standing::Pass,
                    (true, true) => Standing::Elsewhere,
                    (false, false) if tree.hides() => Standing::Unknown,
                    (false, _) => Standing::Fail,
                }
            }
            Carrier::Host(host) => {
                let pass = Verdict::Said(Qualifier::Pass);
                let mut addresses = self.case.addresses.iter();
                let by_address = addresses.any(|ip| tree.verdict(*ip) == pass);
                let base = base_of(host).filter(|base| !is_within(self.domain, base));
                let by_name = base.is_some_and(|base| {
                    let included = tree.included();
                    included.iter().any(|name| is_within(name, base))
                });
                if by_address || by_name {
                    Standing::Pass
                } else {
                    Standing::Unknown
                }
            }
        }
    }

    /// `+all` in what another domain's record says.
    async fn open_elsewhere(&self, record: &str, name: &str, standing: Standing) {
        let (language, shown, owner) = (self.language(), quote(record), quote(name));
        let text = words!(
            language,
            "Der Eintrag von {owner}, der dazugehört, endet mit +all: Jeder Rechner der Welt darf für diese Domain senden. Der Eintrag: \"{shown}\"",
            "The record of {owner}, which belongs to it, ends in +all: every machine in the world may send for this domain. The record: \"{shown}\""
        );
        let mut remedy = words!(
            language,
            "Nehmen Sie {owner} aus dem Eintrag, oder wer {owner} betreibt, ersetzt dort +all durch ~all.",
            "Remove {owner} from the record, or whoever keeps {owner} replaces +all by ~all there."
        );
        let rest = spf::without_target(record, name);
        let is_shorter = rest.len()
            < record
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ")
                .len();
        if is_shorter || matches!(standing, Standing::Fail | Standing::Unknown) {
            remedy.push(' ');
            remedy.push_str(&self.publish(Some(&rest)).await);
        }
        self.say(Outcome::Warning, &text, &remedy);
    }

    /// `+all`: everybody may send.
    async fn open(&self, record: &str, name: &str, standing: Standing) {
        if !name.eq_ignore_ascii_case(self.domain) {
            return self.open_elsewhere(record, name, standing).await;
        }
        let (language, shown) = (self.language(), quote(record));
        let text = words!(
            language,
            "Der Eintrag endet mit +all: Jeder Rechner der Welt darf für diese Domain senden. Der Eintrag: \"{shown}\"",
            "The record ends in +all: every machine in the world may send for this domain. The record: \"{shown}\""
        );
        let closed: Vec<&str> = record
            .split_whitespace()
            .map(|word| match word.to_ascii_lowercase().as_str() {
                "all" | "+all" => "~all",
                _ => word,
            })
            .collect();
        let record = self.publish(Some(&closed.join(" "))).await;
        let remedy = words!(
            language,
            "Ersetzen Sie +all durch ~all. {record}",
            "Replace +all by ~all. {record}"
        );
        self.say(Outcome::Warning, &text, &remedy);
    }

    /// The carrier's servers are not in the record.
    async fn forbids(&self, record: &str) -> Standing {
        let (language, carrier, shown) = (self.language(), self.carrier.name(), quote(record));
        let term = self.carrier.term(self.case.addresses).unwrap_or_default();
        let text = words!(
            language,
            "Der Eintrag erlaubt {carrier} nicht: {term} fehlt, oder es steht hinter all. Der Eintrag: \"{shown}\"",
            "The record does not allow {carrier}: {term} is missing, or stands behind all. The record: \"{shown}\""
        );
        self.lacking(&text, &self.publish(Some(record)).await)
    }

    async fn unknown(&self, record: &str) {
        let (language, carrier, shown) = (self.language(), self.carrier.name(), quote(record));
        if matches!(self.carrier, Carrier::Known(_)) {
            let text = words!(
                language,
                "Ob der Eintrag {carrier} erlaubt, lässt sich von hier aus nicht wissen: Er bindet mit einem Makro (%) einen Eintrag ein, der von der einzelnen Mail abhängt. Der Eintrag: \"{shown}\"",
                "Whether the record allows {carrier} cannot be known from here: by a macro (%) it includes a record that depends on the single message. The record: \"{shown}\""
            );
            let record = self.publish(Some(record)).await;
            let remedy = words!(
                language,
                "Sehen Sie bei dem Dienst nach, der den Eintrag verwaltet, ob {carrier} dort erlaubt ist. Wenn nicht, erlauben Sie es dort oder im Eintrag selbst. {record}",
                "Look whether the service that keeps the record allows {carrier} there. If not, allow it there or in the record itself. {record}"
            );
            self.say(Outcome::Warning, &text, &remedy);
            return;
        }
        let text = words!(
            language,
            "Ob der Eintrag die Server erlaubt, über die {carrier} zustellt, lässt sich von hier aus nicht wissen; {carrier} selbst steht nicht darin. Der Eintrag: \"{shown}\"",
            "Whether the record allows the servers by which {carrier} delivers cannot be known from here; {carrier} itself is not in it. The record: \"{shown}\""
        );
        let remedy = self.publish(Some(record)).await;
        self.say(Outcome::Warning, &text, &remedy);
    }

    fn allowed(&self, record: &str, notes: &[Note], tree: &Tree) {
        let (language, carrier, shown) = (self.language(), self.carrier.name(), quote(record));
        let (asked, most) = (tree.lookups, tree::LOOKUPS);
        let mut text = words!(
            language,
            "Der Eintrag erlaubt {carrier}; {asked} von höchstens {most} DNS-Abfragen. Der Eintrag: \"{shown}\"",
            "The record allows {carrier}; {asked} of at most {most} DNS look-ups. The record: \"{shown}\""
        );
        if matches!(tree.all(), None | Some(Qualifier::Neutral)) {
            text.push_str(&words!(
                language,
                " Er endet ohne -all oder ~all und sagt damit nichts über alle anderen Server.",
                " It ends without -all or ~all and so says nothing of all other servers."
            ));
        }
        let mut idle = false;
        for note in notes {
            text.push(' ');
            text.push_str(&of_note(language, note));
            idle |= matches!(note, Note::BehindAll(_) | Note::NoColon(_));
        }
        if idle {
            let remedy = words!(
                language,
                "Nehmen Sie heraus, was nichts bewirkt, oder stellen Sie es vor all und schreiben einen Doppelpunkt (ip4:, include:).",
                "Remove what does nothing, or put it before all and write a colon (ip4:, include:)."
            );
            self.say(Outcome::Warning, &text, &remedy);
        } else {
            self.say(Outcome::Ok, &text, "");
        }
    }
}

/// The name that an organisation has registered, as far as a name alone tells.
fn base_of(host: &str) -> Option<&str> {
    if host.parse::<IpAddr>().is_ok() {
        return None;
    }
    let host = host.trim_end_matches('.');
    let ends: Vec<usize> = host.rmatch_indices('.').map(|(at, _)| at).collect();
    let (last, second) = (*ends.first()?, ends.get(1));
    let label = &host[second.map_or(0, |at| at + 1)..last];
    // acme.co.uk: the country's registry has the second level.
    let of_registry =
        ["co", "com", "or", "org", "net", "ac", "gv"].contains(&label) && host.len() - last == 3;
    let cut = if of_registry { ends.get(2) } else { second };
    Some(&host[cut.map_or(0, |at| at + 1)..])
}

fn is_within(name: &str, base: &str) -> bool {
    let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
    name == base || name.strip_suffix(&base).is_some_and(|n| n.ends_with('.'))
}

fn of_term(language: Language, bad: &BadTerm) -> String {
    let term = quote(&bad.term);
    match bad.fault {
        spf::Fault::Version => words!(
            language,
            "„{term}“ ist kein v=spf1.",
            "\"{term}\" is not v=spf1."
        ),
        spf::Fault::Unknown => words!(
            language,
            "„{term}“ gibt es in SPF nicht.",
            "\"{term}\" does not exist in SPF."
        ),
        spf::Fault::Form => words!(
            language,
            "„{term}“ ist unvollständig, oder dahinter steht zu viel.",
            "\"{term}\" is incomplete, or there is too much behind it."
        ),
        spf::Fault::Domain => words!(
            language,
            "In „{term}“ steht keine gültige Domain.",
            "There is no valid domain in \"{term}\"."
        ),
        spf::Fault::Macro => words!(
            language,
            "In „{term}“ ist ein Makro falsch geschrieben.",
            "A macro in \"{term}\" is not written as it has to be."
        ),
        spf::Fault::Address => words!(
            language,
            "In „{term}“ steht keine gültige IP-Adresse dieser Art.",
            "There is no valid IP address of that kind in \"{term}\"."
        ),
        spf::Fault::Cidr => words!(
            language,
            "In „{term}“ ist die Zahl hinter dem Schrägstrich falsch.",
            "The number behind the slash in \"{term}\" is wrong."
        ),
        spf::Fault::Twice => words!(
            language,
            "„{term}“ darf nur einmal vorkommen.",
            "\"{term}\" may stand only once."
        ),
        spf::Fault::Character => words!(
            language,
            "„{term}“ enthält ein Zeichen, das nicht erlaubt ist.",
            "\"{term}\" has a character that is not allowed."
        ),
    }
}

fn of_fault(language: Language, fault: &Fault) -> String {
    match fault {
        Fault::Syntax(name, bad) => {
            let (name, why) = (quote(name), of_term(language, bad));
            words!(
                language,
                "Im Eintrag von {name}, der dazugehört: {why}",
                "In the record of {name}, which belongs to it: {why}"
            )
        }
        Fault::Several(name) => {
            let name = quote(name);
            words!(
                language,
                "{name}, das dazugehört, hat mehrere SPF-Einträge.",
                "{name}, which belongs to it, has several SPF records."
            )
        }
        Fault::Missing(name) => {
            let name = quote(name);
            words!(
                language,
                "{name} wird eingebunden und hat keinen SPF-Eintrag.",
                "{name} is included and has no SPF record."
            )
        }
        Fault::Loop(path) => {
            let path = quote(&path.join(" > "));
            words!(
                language,
                "Er bindet sich selbst ein: {path}.",
                "It includes itself: {path}."
            )
        }
        Fault::Exchangers(name) => {
            let name = quote(name);
            words!(
                language,
                "{name} hat mehr als 10 Mailserver (mx).",
                "{name} has more than 10 mail servers (mx)."
            )
        }
        Fault::Lookups(count) => {
            let most = tree::LOOKUPS;
            words!(
                language,
                "Er braucht {count} DNS-Abfragen, erlaubt sind {most}.",
                "It needs {count} DNS look-ups, {most} are allowed."
            )
        }
        Fault::Voids(count) => {
            let most = tree::VOIDS;
            words!(
                language,
                "{count} Abfragen gehen ins Leere, erlaubt sind {most}.",
                "{count} look-ups find nothing, {most} are allowed."
            )
        }
        Fault::Dns(name, error) => {
            let (name, why) = (quote(name), of_dns(language, error));
            words!(
                language,
                "{name}, das zum Eintrag gehört, ließ sich nicht prüfen. {why}",
                "{name}, which belongs to the record, could not be looked up. {why}"
            )
        }
    }
}

/// How a record gets by with fewer look-ups: what each term costs but the one that has to stay.
fn savings(language: Language, tree: &Tree, keep: &str) -> String {
    let others = tree.costs.iter();
    let mut others: Vec<&(String, usize)> = others
        .filter(|(term, _)| !term.eq_ignore_ascii_case(keep))
        .collect();
    others.sort_by_key(|(_, count)| Reverse(*count));
    let list: Vec<String> = others
        .iter()
        .take(TERMS)
        .map(|(term, count)| format!("{} ({count})", quote(term)))
        .collect();
    let (list, count, most) = (list.join(", "), tree.lookups, tree::LOOKUPS);
    let over = count.saturating_sub(most);
    words!(
        language,
        "Er braucht {count} DNS-Abfragen, erlaubt sind {most}; mindestens {over} müssen weg. Die meisten brauchen: {list}. Nehmen Sie davon heraus, was niemand mehr benutzt, oder schreiben Sie statt a und mx die Adressen selbst (ip4:, ip6:).",
        "It needs {count} DNS look-ups, {most} are allowed; at least {over} have to go. Most are needed by: {list}. Remove of these what nobody uses any more, or write the addresses themselves instead of a and mx (ip4:, ip6:)."
    )
}

fn fault_remedy(language: Language, fault: &Fault) -> String {
    match fault {
        Fault::Lookups(_) | Fault::Exchangers(_) => words!(
            language,
            "Nehmen Sie include:, a und mx heraus, die niemand mehr braucht, oder schreiben Sie statt ihrer die Adressen selbst (ip4:, ip6:).",
            "Remove each include:, a and mx that nobody needs any more, or write the addresses themselves instead (ip4:, ip6:)."
        ),
        Fault::Voids(_) => words!(
            language,
            "Nehmen Sie die Namen heraus, die es nicht mehr gibt.",
            "Remove the names that no longer exist."
        ),
        Fault::Loop(_) => words!(
            language,
            "Nehmen Sie das include: heraus, das im Kreis führt.",
            "Remove the include: that leads round in circles."
        ),
        Fault::Missing(name) | Fault::Several(name) | Fault::Syntax(name, _) => {
            let name = quote(name);
            words!(
                language,
                "Nehmen Sie {name} aus dem Eintrag, oder wer {name} betreibt, bringt den Eintrag dort in Ordnung.",
                "Remove {name} from the record, or whoever keeps {name} mends the record there."
            )
        }
        Fault::Dns(..) => dns_remedy(language),
    }
}

fn of_note(language: Language, note: &Note) -> String {
    match note {
        Note::BehindAll(term) => {
            let term = quote(term);
            words!(
                language,
                "„{term}“ steht hinter all und bewirkt nichts.",
                "\"{term}\" stands behind all and does nothing."
            )
        }
        Note::IdleRedirect(term) => {
            let term = quote(term);
            words!(
                language,
                "„{term}“ neben all bewirkt nichts.",
                "\"{term}\" beside all does nothing."
            )
        }
        Note::NoColon(term) => {
            let term = quote(term);
            words!(
                language,
                "„{term}“ bewirkt nichts, ein Doppelpunkt gehört an die Stelle von =.",
                "\"{term}\" does nothing, there has to be a colon instead of =."
            )
        }
        Note::Ptr(_) => words!(
            language,
            "Von ptr rät der Standard ab; viele Empfänger beachten es nicht.",
            "The standard advises against ptr; many recipients ignore it."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::providers::{Host, PROVIDERS};

    /// What `tenant add` says to include is what is looked for.
    #[test]
    fn the_tables_agree() {
        for provider in PROVIDERS {
            let (Host::Fixed(host), Some(include)) = (provider.host, provider.spf) else {
                continue;
            };
            let found = spf::provider_of(host).map(|p| p.include);
            assert_eq!(found, Some(include), "{host}");
        }
    }

    #[test]
    fn whose_a_name_is() {
        for (host, expected) in [
            ("smtp.host.example", Some("host.example")),
            ("host.example", Some("host.example")),
            ("a.b.host.co.uk.", Some("host.co.uk")),
            ("co.uk", Some("co.uk")),
            ("mail", None),
            ("192.0.2.1", None),
            ("::1", None),
        ] {
            assert_eq!(base_of(host), expected, "{host}");
        }
        assert!(is_within("spf.Host.example", "host.example"));
        assert!(!is_within("ghost.example", "host.example"));
    }
}
