//! DMARC (RFC 9989): the record, the walk up the tree to the organisational domain, and whether two
//! domains are aligned.

use super::{DnsError, Lookup};

/// Names with at least so many labels are cut to [`KEPT`] after the first query.
const LONG: usize = 8;
/// Labels that stay.
const KEPT: usize = 7;

/// What is to be done with mail that passes neither SPF nor DKIM.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Policy {
    /// Nothing.
    None,
    /// Into the spam folder.
    Quarantine,
    /// Refused.
    Reject,
}

impl Policy {
    /// As written in a record.
    pub fn word(self) -> &'static str {
        match self {
            Policy::None => "none",
            Policy::Quarantine => "quarantine",
            Policy::Reject => "reject",
        }
    }
}

/// How alike two domains have to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The same organisation.
    #[default]
    Relaxed,
    /// The same name.
    Strict,
}

/// Whether others than the organisation register names below.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Psd {
    /// They do: a public suffix.
    Yes,
    /// They do not: this is the organisation.
    No,
    /// Not said.
    #[default]
    Unknown,
}

/// What deserves a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// There is no `p=`; it counts as none.
    NoPolicy,
    /// A policy that there is not; it counts as none.
    BadPolicy(String),
    /// A tag that is not written as it has to be, or has a value that it cannot have.
    Bad(String),
    /// A tag that no longer means anything.
    Obsolete(String),
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// As published.
    pub text: String,
    /// `p=`
    pub policy: Option<Policy>,
    /// `sp=`: for names below.
    pub below: Option<Policy>,
    /// `np=`: for names below that do not exist.
    pub missing: Option<Policy>,
    /// `adkim=`
    pub dkim: Mode,
    /// `aspf=`
    pub spf: Mode,
    /// `psd=`
    pub psd: Psd,
    /// `t=y`: one step milder than written.
    pub testing: bool,
    /// `rua=`: who gets reports.
    pub reports: Vec<String>,
    /// What deserves a word.
    pub notes: Vec<Note>,
}

impl Record {
    /// The policy for the domain itself, or for one below it that exists.
    pub fn applied(&self, below: bool) -> Policy {
        let written = self.below.filter(|_| below).or(self.policy);
        match (written.unwrap_or(Policy::None), self.testing) {
            (Policy::Reject, true) => Policy::Quarantine,
            (Policy::Quarantine, true) => Policy::None,
            (policy, _) => policy,
        }
    }

    /// The record with another policy.
    pub fn with_policy(&self, policy: Policy) -> String {
        let rest = self.text.split(';').skip(1).map(str::trim);
        let kept = rest.filter(|tag| {
            let name = tag.split('=').next().unwrap_or("").trim();
            !tag.is_empty() && !name.eq_ignore_ascii_case("p")
        });
        let mut text = format!("v=DMARC1; p={}", policy.word());
        for tag in kept {
            text.push_str("; ");
            text.push_str(tag);
        }
        text
    }
}

/// The records of one name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// None.
    Nothing,
    /// What was meant to be one and is none to whoever reads it.
    Misspelt(String),
    /// One.
    One(Record),
    /// So many: none counts.
    Several(usize),
}

/// The name under which the record of a domain stands.
pub fn record_name(domain: &str) -> String {
    format!("_dmarc.{domain}")
}

/// Finds the record among the TXT records under its name.
pub fn select(txt: &[String]) -> Published {
    let mut found = txt.iter().filter_map(|text| parse(text));
    let meant = |text: &&String| text.to_ascii_uppercase().contains("DMARC1");
    match (found.next(), found.count()) {
        (Some(record), 0) => Published::One(record),
        (Some(_), more) => Published::Several(more + 1),
        (None, _) => match txt.iter().find(meant) {
            Some(text) => Published::Misspelt(text.clone()),
            None => Published::Nothing,
        },
    }
}

/// Reads a record; `None`: it does not begin as one. Unknown tags mean nothing.
pub fn parse(text: &str) -> Option<Record> {
    let mut tags = text.split(';');
    let (name, version) = tags.next()?.split_once('=')?;
    if !name.trim_end().eq_ignore_ascii_case("v") || version.trim() != "DMARC1" {
        return None;
    }
    let mut record = Record {
        text: text.to_owned(),
        ..Record::default()
    };
    let mut seen: Vec<String> = Vec::new();
    for tag in tags.map(str::trim).filter(|tag| !tag.is_empty()) {
        let Some((name, value)) = tag.split_once('=') else {
            record.notes.push(Note::Bad(tag.to_owned()));
            continue;
        };
        let (name, value) = (name.trim().to_ascii_lowercase(), value.trim());
        if seen.contains(&name) {
            record.notes.push(Note::Bad(tag.to_owned()));
            continue;
        }
        let understood = read_tag(&mut record, &name, value);
        if !understood {
            let note = if name == "p" {
                Note::BadPolicy
            } else {
                Note::Bad
            };
            record.notes.push(note(tag.to_owned()));
        }
        seen.push(name);
    }
    if !seen.iter().any(|name| name == "p") {
        record.notes.push(Note::NoPolicy);
    }
    Some(record)
}

/// Takes a tag; `false`: its value is none that it can have.
fn read_tag(record: &mut Record, name: &str, value: &str) -> bool {
    let value = value.to_ascii_lowercase();
    match name {
        "p" | "sp" | "np" => {
            let policy = match value.as_str() {
                "none" => Policy::None,
                "quarantine" => Policy::Quarantine,
                "reject" => Policy::Reject,
                _ => return false,
            };
            match name {
                "p" => record.policy = Some(policy),
                "sp" => record.below = Some(policy),
                _ => record.missing = Some(policy),
            }
        }
        "adkim" | "aspf" => {
            let mode = match value.as_str() {
                "r" => Mode::Relaxed,
                "s" => Mode::Strict,
                _ => return false,
            };
            if name == "adkim" {
                record.dkim = mode;
            } else {
                record.spf = mode;
            }
        }
        "psd" => match value.as_str() {
            "y" => record.psd = Psd::Yes,
            "n" => record.psd = Psd::No,
            "u" => record.psd = Psd::Unknown,
            _ => return false,
        },
        "t" => match value.as_str() {
            "y" => record.testing = true,
            "n" => record.testing = false,
            _ => return false,
        },
        "rua" => {
            let all = value.split(',').map(|uri| uri.trim().to_owned());
            record.reports = all.filter(|uri| !uri.is_empty()).collect();
        }
        "pct" | "rf" | "ri" => record.notes.push(Note::Obsolete(name.to_owned())),
        _ => {}
    }
    true
}

/// One name of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The domain.
    pub domain: String,
    /// Its record.
    pub found: Published,
}

/// The names that are asked, the domain itself first (RFC 9989 section 4.10): eight at most.
fn names(domain: &str) -> Vec<String> {
    let labels: Vec<&str> = domain.split('.').filter(|l| !l.is_empty()).collect();
    let from = if labels.len() >= LONG {
        labels.len() - KEPT
    } else {
        1
    };
    let parents = (from..labels.len()).map(|at| labels[at..].join("."));
    [labels.join(".")].into_iter().chain(parents).collect()
}

/// Walks up the tree from a domain. A record that says whether it is a public suffix ends it.
pub async fn walk<L: Lookup>(lookup: &L, domain: &str) -> Result<Vec<Step>, DnsError> {
    let mut steps: Vec<Step> = Vec::new();
    for domain in names(&domain.to_ascii_lowercase()) {
        let found = match lookup.txt(&record_name(&domain)).await {
            Ok(txt) => select(&txt),
            // What a registry's servers do with such a question is nobody's fault here.
            Err(_) if !steps.is_empty() && !domain.contains('.') => Published::Nothing,
            Err(error) => return Err(error),
        };
        let last = matches!(&found, Published::One(record) if record.psd != Psd::Unknown);
        steps.push(Step { domain, found });
        if last {
            break;
        }
    }
    Ok(steps)
}

fn record(step: &Step) -> Option<&Record> {
    match &step.found {
        Published::One(record) => Some(record),
        Published::Nothing | Published::Misspelt(_) | Published::Several(_) => None,
    }
}

/// The organisational domain that a walk has come to (RFC 9989 section 4.10.2).
pub fn organisation(steps: &[Step]) -> String {
    let start = steps.first().map_or("", |step| step.domain.as_str());
    let mut found = start;
    for (at, step) in steps.iter().enumerate() {
        match record(step).map(|record| record.psd) {
            Some(Psd::No) => return step.domain.clone(),
            Some(Psd::Yes) if at > 0 => {
                // One label below the public suffix.
                let labels: Vec<&str> = start.split('.').collect();
                let suffix = step.domain.split('.').count();
                return labels[labels.len().saturating_sub(suffix + 1)..].join(".");
            }
            // The one with the fewest labels is the last.
            Some(Psd::Yes | Psd::Unknown) => found = &step.domain,
            None => {}
        }
    }
    found.to_owned()
}

/// The record that applies to mail from a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied<'a> {
    /// Whose it is.
    pub domain: &'a str,
    /// The record.
    pub record: &'a Record,
    /// What it says of mail from the domain where the walk began.
    pub policy: Policy,
}

/// The record of the domain itself, else of its organisation, else of the public suffix (RFC 9989
/// section 4.10.1).
pub fn applied(steps: &[Step]) -> Option<Applied<'_>> {
    let organisation = organisation(steps);
    let own = steps.first().filter(|step| record(step).is_some());
    let higher = || {
        let with_record = || steps.iter().skip(1).filter(|s| record(s).is_some());
        with_record()
            .find(|s| s.domain == organisation)
            .or_else(|| with_record().find(|s| record(s).is_some_and(|r| r.psd == Psd::Yes)))
    };
    let below = own.is_none();
    let step = own.or_else(higher)?;
    let record = record(step)?;
    Some(Applied {
        domain: &step.domain,
        record,
        policy: record.applied(below),
    })
}

/// Whether a domain is aligned with the one of From, where that one's walk began.
pub async fn aligned<L: Lookup>(
    lookup: &L,
    from: &[Step],
    other: &str,
    mode: Mode,
) -> Result<bool, DnsError> {
    let start = from.first().map_or("", |step| step.domain.as_str());
    let other = other.trim_end_matches('.').to_ascii_lowercase();
    let top = |domain: &str| domain.rsplit('.').next().unwrap_or("").to_owned();
    if start == other {
        return Ok(true);
    }
    if mode == Mode::Strict || top(start) != top(&other) {
        return Ok(false);
    }
    let steps = walk(lookup, &other).await?;
    Ok(organisation(from) == organisation(&steps))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::testing::Script;

    #[test]
    fn records() {
        for (text, policy, below) in [
            ("v=DMARC1", Policy::None, Policy::None),
            ("v=DMARC1;p=reject", Policy::Reject, Policy::Reject),
            (
                "v = DMARC1 ; P = Quarantine ;",
                Policy::Quarantine,
                Policy::Quarantine,
            ),
            (
                "v=DMARC1; sp=none; p=reject; foo=bar",
                Policy::Reject,
                Policy::None,
            ),
            (
                "v=DMARC1; p=reject; t=y",
                Policy::Quarantine,
                Policy::Quarantine,
            ),
            (
                "v=DMARC1; p=quarantine; sp=reject; t=y",
                Policy::None,
                Policy::Quarantine,
            ),
            (
                "v=DMARC1; p=never; rua=mailto:x@y.example",
                Policy::None,
                Policy::None,
            ),
        ] {
            let record = parse(text).expect(text);
            let found = (record.applied(false), record.applied(true));
            assert_eq!(found, (policy, below), "{text}");
        }
        for none in [
            "",
            "v=dmarc1; p=none",
            "v=DMARC1 p=none",
            "v=DMARC2; p=none",
            " v=DMARC1; p=none",
            "p=none; v=DMARC1",
            "v=spf1 -all",
        ] {
            assert_eq!(parse(none), None, "{none:?}");
        }
        let record = parse("v=DMARC1; adkim=s; aspf=s; psd=n; np=reject; rua=mailto:a@b.example, mailto:c@d.example")
            .expect("valid");
        assert_eq!((record.dkim, record.spf), (Mode::Strict, Mode::Strict));
        assert_eq!(
            (record.psd, record.missing),
            (Psd::No, Some(Policy::Reject))
        );
        assert_eq!(record.reports, ["mailto:a@b.example", "mailto:c@d.example"]);
        assert_eq!(record.notes, [Note::NoPolicy]);
        let notes = |text: &str| parse(text).map(|r| r.notes).unwrap_or_default();
        assert_eq!(
            notes("v=DMARC1; p=x; pct=50; aspf=q; huh"),
            [
                Note::BadPolicy("p=x".to_owned()),
                Note::Obsolete("pct".to_owned()),
                Note::Bad("aspf=q".to_owned()),
                Note::Bad("huh".to_owned())
            ]
        );
        let record = parse("v=DMARC1;p=none; rua=mailto:a@b.example;").expect("valid");
        assert_eq!(
            record.with_policy(Policy::Quarantine),
            "v=DMARC1; p=quarantine; rua=mailto:a@b.example"
        );
    }

    #[test]
    fn selection() {
        let of = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            select(&texts)
        };
        assert_eq!(of(&["site=1", "v=spf1 -all"]), Published::Nothing);
        let wrong = "p=none; v=DMARC1";
        assert_eq!(of(&[wrong]), Published::Misspelt(wrong.to_owned()));
        let two = of(&["v=DMARC1; p=none", "v=DMARC1; p=reject"]);
        assert_eq!(two, Published::Several(2));
        assert!(matches!(of(&["x", "v=DMARC1"]), Published::One(_)));
    }

    #[test]
    fn who_is_asked() {
        let asked = |domain: &str| names(domain).join(" ");
        assert_eq!(asked("acme.example"), "acme.example example");
        assert_eq!(
            asked("a.b.c.d.e.f.g.acme.example"),
            "a.b.c.d.e.f.g.acme.example c.d.e.f.g.acme.example d.e.f.g.acme.example e.f.g.acme.example f.g.acme.example g.acme.example acme.example example"
        );
        assert_eq!(names("b.c.d.e.f.g.acme.example").len(), 8);
        assert_eq!(names("c.d.e.f.g.acme.example").len(), 7);
    }

    /// Records, From, another domain, what applies, and whether they are aligned in relaxed mode.
    #[tokio::test]
    async fn trees() {
        for (records, from, other, expected, is_aligned) in [
            (vec![], "acme.example", "acme.example", None, true),
            (vec![], "mail.acme.example", "acme.example", None, false),
            (
                vec!["acme.example p=reject"],
                "a.b.acme.example",
                "acme.example",
                Some(("acme.example", Policy::Reject)),
                true,
            ),
            (
                vec!["acme.example p=reject"],
                "x.acme.example",
                "y.acme.example",
                Some(("acme.example", Policy::Reject)),
                true,
            ),
            (
                vec!["acme.example p=reject; psd=y"],
                "x.acme.example",
                "y.acme.example",
                Some(("acme.example", Policy::Reject)),
                false,
            ),
            (
                vec!["example p=reject; psd=y"],
                "x.acme.example",
                "acme.example",
                Some(("example", Policy::Reject)),
                true,
            ),
            (
                vec!["acme.example p=reject", "x.acme.example p=none; psd=n"],
                "x.acme.example",
                "acme.example",
                Some(("x.acme.example", Policy::None)),
                false,
            ),
            (
                vec!["acme.example p=none; sp=reject", "b.acme.example p=none"],
                "a.b.acme.example",
                "bounce.example",
                Some(("acme.example", Policy::Reject)),
                false,
            ),
            (
                vec!["acme.example p=none", "acme.example p=reject"],
                "acme.example",
                "x.other",
                None,
                false,
            ),
        ] {
            let lines: Vec<String> = records
                .iter()
                .filter_map(|line| line.split_once(' '))
                .map(|(domain, tags)| format!("_dmarc.{domain} TXT v=DMARC1; {tags}"))
                .collect();
            let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
            let script = Script::new(&lines);
            let steps = walk(&script, from).await.expect("walk");
            let found = applied(&steps).map(|a| (a.domain, a.policy));
            assert_eq!(found, expected, "{records:?} {from}");
            let relaxed = aligned(&script, &steps, other, Mode::Relaxed).await;
            assert_eq!(relaxed, Ok(is_aligned), "{records:?} {from} {other}");
            let strict = aligned(&script, &steps, other, Mode::Strict).await;
            assert_eq!(strict, Ok(from == other));
        }
        let script = Script::new(&["_dmarc.acme.example TXT !"]);
        assert_eq!(
            walk(&script, "x.acme.example").await,
            Err(DnsError::ServFail)
        );
    }
}
