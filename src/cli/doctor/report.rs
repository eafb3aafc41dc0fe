//! What was found, and how it is said.

use std::cell::RefCell;
use std::process::ExitCode;

use super::super::{exit, say};
use crate::dns::DnsError;
use crate::explain::Language;

/// Most characters of a text, and of a remedy, which may hold a whole DNS record.
const TEXT_LIMIT: usize = 1500;
const REMEDY_LIMIT: usize = 3000;
/// Most characters of somebody else's words within a text.
const QUOTE_LIMIT: usize = 500;
/// And of a record to be published, which has them in it.
const RECORD_LIMIT: usize = 2000;

/// What is looked at. The ids are the same in all versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// The name of the server.
    Dns,
    /// The way to it.
    Connect,
    /// The encryption.
    Tls,
    /// Who it is.
    Certificate,
    /// What it can.
    Capabilities,
    /// The login or the token.
    Authentication,
    /// Whether it lets an address send.
    Sender,
    /// The SPF record of a domain.
    Spf,
    /// A DKIM record, or that there is no key.
    Dkim,
    /// The DMARC record of a domain.
    Dmarc,
}

impl Check {
    /// The id.
    pub fn id(self) -> &'static str {
        match self {
            Check::Dns => "dns",
            Check::Connect => "connect",
            Check::Tls => "tls",
            Check::Certificate => "certificate",
            Check::Capabilities => "capabilities",
            Check::Authentication => "authentication",
            Check::Sender => "sender",
            Check::Spf => "spf",
            Check::Dkim => "dkim",
            Check::Dmarc => "dmarc",
        }
    }
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Right.
    Ok,
    /// It works, or may; somebody should look at it.
    Warning,
    /// It does not work.
    Failed,
}

impl Outcome {
    fn word(self) -> &'static str {
        match self {
            Outcome::Ok => "ok",
            Outcome::Warning => "warning",
            Outcome::Failed => "failed",
        }
    }
}

#[derive(Debug)]
struct Finding {
    check: Check,
    subject: String,
    outcome: Outcome,
    text: String,
    remedy: String,
}

/// All that was found, in order.
#[derive(Debug)]
pub struct Report {
    /// In which language it is said.
    pub language: Language,
    findings: RefCell<Vec<Finding>>,
    /// What is being looked at, should the time run out.
    current: RefCell<(Check, String)>,
}

impl Report {
    /// Nothing yet.
    pub fn new(language: Language) -> Self {
        Self {
            language,
            findings: RefCell::default(),
            current: RefCell::new((Check::Dns, String::new())),
        }
    }

    /// What is looked at next.
    pub fn begin(&self, check: Check, subject: &str) {
        *self.current.borrow_mut() = (check, subject.to_owned());
    }

    /// It is right.
    pub fn ok(&self, check: Check, subject: &str, text: impl AsRef<str>) {
        self.push(check, subject, Outcome::Ok, text.as_ref(), "");
    }

    /// Somebody should look at it.
    pub fn warn(
        &self,
        check: Check,
        subject: &str,
        text: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) {
        let (text, remedy) = (text.as_ref(), remedy.as_ref());
        self.push(check, subject, Outcome::Warning, text, remedy);
    }

    /// It does not work.
    pub fn fail(
        &self,
        check: Check,
        subject: &str,
        text: impl AsRef<str>,
        remedy: impl AsRef<str>,
    ) {
        let (text, remedy) = (text.as_ref(), remedy.as_ref());
        self.push(check, subject, Outcome::Failed, text, remedy);
    }

    /// One finding.
    pub fn push(&self, check: Check, subject: &str, outcome: Outcome, text: &str, remedy: &str) {
        self.findings.borrow_mut().push(Finding {
            check,
            subject: clean(subject, QUOTE_LIMIT),
            outcome,
            text: clean(text, TEXT_LIMIT),
            remedy: clean(remedy, REMEDY_LIMIT),
        });
    }

    /// The time has run out over what was being looked at.
    pub fn out_of_time(&self, seconds: u64) {
        let (check, subject) = self.current.borrow().clone();
        let text = words!(
            self.language,
            "Nach {seconds} s abgebrochen; alles Weitere wurde nicht mehr geprüft.",
            "Given up after {seconds} s; nothing behind it was checked."
        );
        let remedy = words!(
            self.language,
            "Der Server oder die Namensauflösung antwortet zu langsam: Prüfen Sie Leitung und Firewall und versuchen Sie es noch einmal.",
            "The server or the name service answers too slowly: check line and firewall and try again."
        );
        self.fail(check, &subject, text, remedy);
    }

    /// What others have found, behind it.
    pub fn append(&self, other: &Report) {
        let mut more = other.findings.borrow_mut();
        self.findings.borrow_mut().append(&mut more);
    }

    /// Prints all; the exit code says whether anything failed.
    pub fn print(&self, json: bool) -> ExitCode {
        let findings = self.findings.borrow();
        if json {
            let list = findings.iter().map(|f| serde_json::json!({"check": f.check.id(), "subject": f.subject, "result": f.outcome.word(), "text": f.text, "remedy": f.remedy}));
            outln!("{}", serde_json::Value::Array(list.collect()));
        } else {
            let label = say(self.language, "Abhilfe", "Remedy");
            for f in findings.iter() {
                let (word, check) = (f.outcome.word(), f.check.id());
                outln!("{word}  {check}  {}: {}", f.subject, f.text);
                if !f.remedy.is_empty() {
                    outln!("    {label}: {}", f.remedy);
                }
            }
        }
        if findings.iter().any(|f| f.outcome == Outcome::Failed) {
            ExitCode::from(exit::FAILED)
        } else {
            ExitCode::SUCCESS
        }
    }
}

/// On one line, without characters that move the cursor or turn the writing around.
fn clean(text: &str, limit: usize) -> String {
    let mut out: String = text
        .trim()
        .chars()
        .take(limit)
        .map(|c| match c {
            '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' => '?',
            '\u{FEFF}' => '?',
            c if c.is_control() => '?',
            c => c,
        })
        .collect();
    if text.trim().chars().nth(limit).is_some() {
        out.push('…');
    }
    out
}

/// Somebody else's words: a server's, a record's. What looks like a place of ours that was not
/// filled in is not left so; macros of SPF stay.
pub fn quote(text: &str) -> String {
    quote_at_most(text, QUOTE_LIMIT)
}

/// A record that is to be published, made of somebody else's.
pub fn quote_record(text: &str) -> String {
    quote_at_most(text, RECORD_LIMIT)
}

fn quote_at_most(text: &str, limit: usize) -> String {
    let mut out = String::new();
    let mut before = ' ';
    for c in clean(text, limit).chars() {
        out.push(if c == '{' && !matches!(before, '%' | '$') {
            '('
        } else {
            c
        });
        before = c;
    }
    out
}

/// Why a look-up has no answer.
pub fn of_dns(language: Language, error: &DnsError) -> String {
    match error {
        DnsError::Timeout => words!(
            language,
            "Die Namensauflösung (DNS) antwortet nicht.",
            "The name service (DNS) does not answer."
        ),
        DnsError::Unreachable(why) => {
            let why = quote(why);
            words!(
                language,
                "Die Namensauflösung (DNS) ist nicht erreichbar ({why}).",
                "The name service (DNS) cannot be reached ({why})."
            )
        }
        DnsError::ServFail => words!(
            language,
            "Die Namensauflösung konnte es nicht herausfinden (SERVFAIL): Der Nameserver der Domain ist gestört, oder seine DNSSEC-Signatur stimmt nicht.",
            "The name service could not find out (SERVFAIL): the domain's name server is out of order, or its DNSSEC signature is wrong."
        ),
        DnsError::Refused => words!(
            language,
            "Die Namensauflösung verweigert die Antwort (REFUSED).",
            "The name service refuses to answer (REFUSED)."
        ),
        DnsError::Name(name) => {
            let name = quote(name);
            words!(
                language,
                "„{name}“ ist kein Name, den es im DNS geben kann.",
                "\"{name}\" is no name that there can be in DNS."
            )
        }
        DnsError::Setup(why) | DnsError::Other(why) => {
            let why = quote(why);
            words!(
                language,
                "Die Namensauflösung (DNS) geht nicht ({why}).",
                "The name service (DNS) does not work ({why})."
            )
        }
    }
}

/// What helps against that.
pub fn dns_remedy(language: Language) -> String {
    words!(
        language,
        "Prüfen Sie Internetverbindung und DNS-Einstellung dieses Rechners und versuchen Sie es noch einmal; ein anderer Nameserver nur für diese Prüfung: POSTBOTE_NAMESERVER=9.9.9.9:53.",
        "Check internet connection and DNS settings of this machine and try again; another name server for this check alone: POSTBOTE_NAMESERVER=9.9.9.9:53."
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_words_stay_words() {
        for (text, expected) in [
            (" a\r\nb\x1b[2J\u{202e}c\u{2028}\u{9b} ", "a??b?[2J?c??"),
            ("{host} %{i} ${x}", "(host} %{i} ${x}"),
        ] {
            assert_eq!(quote(text), expected);
        }
        let long = quote(&"x".repeat(50_000));
        assert_eq!(long.chars().count(), QUOTE_LIMIT + 1);
    }
}
