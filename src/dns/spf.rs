//! SPF records (RFC 7208): read strictly, completed by what a provider needs, written anew. What
//! a record allows together with all that it includes is found out in [`super::tree`].

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

/// How every record begins.
const VERSION: &str = "v=spf1";
/// Longest label of a name.
const LABEL_LIMIT: usize = 63;

/// What a record says of a server that a mechanism matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Qualifier {
    /// `+`, or nothing: it may send.
    Pass,
    /// `-`: it may not.
    Fail,
    /// `~`: it should not.
    Softfail,
    /// `?`: nothing is said.
    Neutral,
}

/// Which servers are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mechanism {
    /// Every one.
    All,
    /// Those that another domain's record lets send.
    Include(Spec),
    /// The addresses of a name, of the domain itself without one.
    A(Option<Spec>, Prefix),
    /// The addresses of its mail exchangers.
    Mx(Option<Spec>, Prefix),
    /// By reverse look-up; nobody should use it any more.
    Ptr(Option<Spec>),
    /// Addresses that stand in the record.
    Ip(IpNet),
    /// Any, if a name made of macros exists.
    Exists(Spec),
}

/// `/24//64`: so many bits of the addresses found count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    /// Of IPv4 addresses.
    pub v4: u8,
    /// Of IPv6 addresses.
    pub v6: u8,
}

const WHOLE: Prefix = Prefix { v4: 32, v6: 128 };

/// A domain as a record writes it, perhaps with macros.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spec(String);

impl Spec {
    /// The name, lower case; `None` with macros, which only a message fills in.
    pub fn name(&self) -> Option<String> {
        (!self.0.contains('%')).then(|| self.0.trim_end_matches('.').to_ascii_lowercase())
    }
}

/// One mechanism with its qualifier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// What is said.
    pub qualifier: Qualifier,
    /// Of whom.
    pub mechanism: Mechanism,
    /// As it stands in the record.
    pub text: String,
}

/// What is no error and does not do what was meant either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// Behind `all` nothing is looked at.
    BehindAll(String),
    /// `redirect` beside `all` is not looked at.
    IdleRedirect(String),
    /// A mechanism written with `=` instead of `:` is taken for an unknown modifier: nothing.
    NoColon(String),
    /// `ptr` should not be used (RFC 7208 section 5.5).
    Ptr(String),
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Record {
    /// What counts, in order, to `all` at most.
    pub directives: Vec<Directive>,
    /// Whose record decides if nothing matches. `None` where `all` stands.
    pub redirect: Option<Spec>,
    /// What does nothing.
    pub notes: Vec<Note>,
}

impl Record {
    /// The qualifier of `all`.
    pub fn all(&self) -> Option<Qualifier> {
        let all = |d: &&Directive| d.mechanism == Mechanism::All;
        self.directives.iter().find(all).map(|d| d.qualifier)
    }
}

/// What is wrong with a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The record does not begin with `v=spf1` and a blank.
    Version,
    /// There is no such mechanism.
    Unknown,
    /// What has to stand behind the mechanism is missing, or there is too much.
    Form,
    /// The domain is none.
    Domain,
    /// A macro is not written as macros are.
    Macro,
    /// The address is none, or of the other kind.
    Address,
    /// The number of bits behind `/` is none or too large.
    Cidr,
    /// It may stand only once.
    Twice,
    /// A character that must not stand in a record.
    Character,
}

/// Why a record is none: whoever reads it gives up (permerror).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadTerm {
    /// The term.
    pub term: String,
    /// What is wrong with it.
    pub fault: Fault,
}

impl fmt::Display for BadTerm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {:?}", self.term, self.fault)
    }
}

impl std::error::Error for BadTerm {}

/// The records of a domain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// None at all.
    Nothing,
    /// What was meant to be one and is none to whoever reads it.
    Misspelt(String),
    /// One.
    One(String),
    /// More than one: none counts (permerror).
    Several(Vec<String>),
}

/// Finds the SPF record among the TXT records of a domain (RFC 7208 section 4.5).
pub fn select(txt: &[String]) -> Published {
    let mut found: Vec<&String> = txt.iter().filter(|t| terms(t).is_some()).collect();
    let meant = |text: &&String| {
        let text = text.trim_start_matches([' ', '"', '\'', '\t', '\u{feff}']);
        let beginning = text.get(..5).unwrap_or("");
        beginning.eq_ignore_ascii_case("v=spf")
    };
    match (found.len(), txt.iter().find(meant)) {
        (0, None) => Published::Nothing,
        (0, Some(meant)) => Published::Misspelt(meant.clone()),
        (1, _) => Published::One(found.remove(0).clone()),
        (_, _) => Published::Several(found.into_iter().cloned().collect()),
    }
}

/// What stands behind `v=spf1` and a blank.
fn terms(text: &str) -> Option<&str> {
    let (version, rest) = text.split_at_checked(VERSION.len())?;
    let ends = rest.is_empty() || rest.starts_with(' ');
    (ends && version.eq_ignore_ascii_case(VERSION)).then_some(rest)
}

/// Reads a record. The first term that is not as RFC 7208 section 12 has it ends it.
pub fn parse(text: &str) -> Result<Record, BadTerm> {
    let bad = |term: &str, fault| BadTerm {
        term: term.to_owned(),
        fault,
    };
    let rest = terms(text).ok_or_else(|| {
        let first = text.split(' ').next().unwrap_or("");
        bad(first, Fault::Version)
    })?;
    let mut record = Record::default();
    let mut redirect: Option<(Spec, &str)> = None;
    let mut explained = false;
    let mut ended = false;
    for term in rest.split(' ').filter(|term| !term.is_empty()) {
        match read_term(term).map_err(|fault| bad(term, fault))? {
            Term::Directive(_) if ended => record.notes.push(Note::BehindAll(term.to_owned())),
            Term::Directive(directive) => {
                ended = directive.mechanism == Mechanism::All;
                if matches!(directive.mechanism, Mechanism::Ptr(_)) {
                    record.notes.push(Note::Ptr(term.to_owned()));
                }
                record.directives.push(directive);
            }
            Term::Redirect(_) if redirect.is_some() => return Err(bad(term, Fault::Twice)),
            Term::Redirect(spec) => redirect = Some((spec, term)),
            Term::Explanation if explained => return Err(bad(term, Fault::Twice)),
            Term::Explanation => explained = true,
            Term::NoColon => record.notes.push(Note::NoColon(term.to_owned())),
            Term::Unknown => {}
        }
    }
    match redirect {
        Some((_, term)) if ended => record.notes.push(Note::IdleRedirect(term.to_owned())),
        Some((spec, _)) => record.redirect = Some(spec),
        None => {}
    }
    Ok(record)
}

enum Term {
    Directive(Directive),
    Redirect(Spec),
    Explanation,
    /// A mechanism's name with `=`.
    NoColon,
    /// A modifier that nobody knows: to be ignored.
    Unknown,
}

const MECHANISMS: [&str; 8] = ["all", "include", "a", "mx", "ptr", "ip4", "ip6", "exists"];

fn read_term(term: &str) -> Result<Term, Fault> {
    if !term.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(Fault::Character);
    }
    let end = term.find([':', '/', '=']).unwrap_or(term.len());
    if term[end..].starts_with('=') {
        return modifier(&term[..end], &term[end + 1..]);
    }
    let (qualifier, rest) = match term.as_bytes().first() {
        Some(b'+') => (Qualifier::Pass, &term[1..]),
        Some(b'-') => (Qualifier::Fail, &term[1..]),
        Some(b'~') => (Qualifier::Softfail, &term[1..]),
        Some(b'?') => (Qualifier::Neutral, &term[1..]),
        _ => (Qualifier::Pass, term),
    };
    let end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, argument) = rest.split_at(end);
    let behind_colon = argument.strip_prefix(':').ok_or(Fault::Form);
    let mechanism = match name.to_ascii_lowercase().as_str() {
        "all" if argument.is_empty() => Mechanism::All,
        "all" => return Err(Fault::Form),
        "include" => Mechanism::Include(spec(behind_colon?)?),
        "exists" => Mechanism::Exists(spec(behind_colon?)?),
        "ptr" if argument.is_empty() => Mechanism::Ptr(None),
        "ptr" => Mechanism::Ptr(Some(spec(behind_colon?)?)),
        "a" => {
            let (host, prefix) = host_and_prefix(argument)?;
            Mechanism::A(host, prefix)
        }
        "mx" => {
            let (host, prefix) = host_and_prefix(argument)?;
            Mechanism::Mx(host, prefix)
        }
        "ip4" => Mechanism::Ip(network(behind_colon?, 32, |t| {
            t.parse::<Ipv4Addr>().map(IpAddr::V4).ok()
        })?),
        "ip6" => Mechanism::Ip(network(behind_colon?, 128, |t| {
            t.parse::<Ipv6Addr>().map(IpAddr::V6).ok()
        })?),
        _ => return Err(Fault::Unknown),
    };
    Ok(Term::Directive(Directive {
        qualifier,
        mechanism,
        text: term.to_owned(),
    }))
}

fn modifier(name: &str, value: &str) -> Result<Term, Fault> {
    let named = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    match name.to_ascii_lowercase().as_str() {
        "redirect" => spec(value).map(Term::Redirect),
        "exp" => spec(value).map(|_| Term::Explanation),
        lower if MECHANISMS.contains(&lower) => Ok(Term::NoColon),
        _ if named => macros(value).map(|_| Term::Unknown),
        _ => Err(Fault::Unknown),
    }
}

/// `[:host][/bits][//bits]`
fn host_and_prefix(argument: &str) -> Result<(Option<Spec>, Prefix), Fault> {
    // A slash inside a macro is one of its delimiters.
    let macros_end = argument.rfind('}').map_or(0, |at| at + 1);
    let cut = argument[macros_end..]
        .find('/')
        .map_or(argument.len(), |at| macros_end + at);
    let (host, bits) = argument.split_at(cut);
    let host = match host.strip_prefix(':') {
        Some(host) => Some(spec(host)?),
        None if host.is_empty() => None,
        None => return Err(Fault::Form),
    };
    let (v4, v6) = match bits.split_once("//") {
        Some((v4, v6)) => (v4, Some(v6)),
        None => (bits, None),
    };
    let v4 = match v4.strip_prefix('/') {
        Some(number) => length(number, WHOLE.v4)?,
        None if v4.is_empty() => WHOLE.v4,
        None => return Err(Fault::Cidr),
    };
    let v6 = v6.map_or(Ok(WHOLE.v6), |number| length(number, WHOLE.v6))?;
    Ok((host, Prefix { v4, v6 }))
}

fn network(text: &str, most: u8, read: fn(&str) -> Option<IpAddr>) -> Result<IpNet, Fault> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, length(bits, most)?),
        None => (text, most),
    };
    let address = read(address).ok_or(Fault::Address)?;
    let network = IpNet::new(address, bits).map_err(|_| Fault::Cidr)?;
    Ok(network.trunc())
}

/// Bits behind a slash: no more than there are, no leading zero.
fn length(text: &str, most: u8) -> Result<u8, Fault> {
    let digits =
        text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    let number = text.parse::<u8>().ok().filter(|n| digits && *n <= most);
    number.ok_or(Fault::Cidr)
}

/// A domain-spec (RFC 7208 section 7.1).
fn spec(text: &str) -> Result<Spec, Fault> {
    if text.is_empty() {
        return Err(Fault::Form);
    }
    let has_macros = macros(text)?;
    let last_is_macro = has_macros && text.ends_with(['}', '%', '_', '-']);
    let name = text.strip_suffix('.').unwrap_or(text);
    let top = name.rsplit_once('.').map(|(_, top)| top);
    if !last_is_macro && !top.is_some_and(is_top_label) {
        return Err(Fault::Domain);
    }
    let label = |l: &str| !l.is_empty() && l.len() <= LABEL_LIMIT && !l.contains('/');
    if !has_macros && (name.len() > 253 || !name.split('.').all(label)) {
        return Err(Fault::Domain);
    }
    Ok(Spec(text.to_owned()))
}

/// Letters, digits and inner hyphens, not digits alone.
fn is_top_label(label: &str) -> bool {
    label.len() <= LABEL_LIMIT
        && label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-')
        && label.starts_with(|c: char| c.is_ascii_alphanumeric())
        && label.ends_with(|c: char| c.is_ascii_alphanumeric())
        && !label.bytes().all(|b| b.is_ascii_digit())
}

/// Checks the macros of a text (RFC 7208 section 7.1); gives whether there are any.
fn macros(text: &str) -> Result<bool, Fault> {
    let mut rest = text;
    let mut any = false;
    while let Some(at) = rest.find('%') {
        any = true;
        rest = &rest[at + 1..];
        if let Some(behind) = rest.strip_prefix(['%', '_', '-']) {
            rest = behind;
            continue;
        }
        let inner = rest.strip_prefix('{').ok_or(Fault::Macro)?;
        let (inner, behind) = inner.split_once('}').ok_or(Fault::Macro)?;
        let letter = |c: char| "slodiphcrtv".contains(c.to_ascii_lowercase());
        let transformers = inner.strip_prefix(letter).ok_or(Fault::Macro)?;
        let delimiters = transformers.trim_start_matches(|c: char| c.is_ascii_digit());
        let delimiters = delimiters.strip_prefix(['r', 'R']).unwrap_or(delimiters);
        if !delimiters.chars().all(|c| ".-+,/_=".contains(c)) {
            return Err(Fault::Macro);
        }
        rest = behind;
    }
    Ok(any)
}

/// A term without its qualifier, to be compared.
fn bare(term: &str) -> String {
    term.trim_start_matches(['+', '-', '~', '?'])
        .to_ascii_lowercase()
}

fn is_end(term: &str) -> bool {
    let term = bare(term);
    term == "all" || term.starts_with("redirect=")
}

/// The record to publish: the present one with a term that it lacks, before `all` and `redirect`;
/// without one, a new one.
pub fn merged(record: Option<&str>, wanted: &str) -> String {
    let Some(record) = record else {
        return format!("{VERSION} {wanted} ~all");
    };
    let mut words: Vec<&str> = record.split_whitespace().skip(1).collect();
    // Where it stands already it stands in vain: behind `all`, or with a qualifier that forbids.
    words.retain(|word| bare(word) != bare(wanted));
    let at = words.iter().position(|word| is_end(word));
    words.insert(at.unwrap_or(words.len()), wanted);
    format!("{VERSION} {}", words.join(" "))
}

/// A record without the terms that make it invalid, and those terms: what is left can be read.
pub fn repaired(record: &str) -> (String, Vec<String>) {
    let (mut kept, mut removed) = (vec![VERSION], Vec::new());
    let (mut redirected, mut explained) = (false, false);
    for word in record.split_whitespace().skip(1) {
        let fits = match read_term(word) {
            Err(_) => false,
            Ok(Term::Redirect(_)) => !std::mem::replace(&mut redirected, true),
            Ok(Term::Explanation) => !std::mem::replace(&mut explained, true),
            Ok(Term::Directive(_) | Term::NoColon | Term::Unknown) => true,
        };
        if fits {
            kept.push(word);
        } else {
            removed.push(word.to_owned());
        }
    }
    (kept.join(" "), removed)
}

/// The record that was meant by one that does not begin as one: quotation marks or blanks around
/// it, a semicolon behind the version. `None`: it cannot be told.
pub fn mended(text: &str) -> Option<String> {
    // As in a zone file the strings of a record are joined without a blank.
    let text = text.replace("\" \"", "").replace('"', "");
    let around = |c: char| c.is_whitespace() || "'“”„\u{feff}".contains(c);
    let text = text.trim_matches(around);
    let version = text.get(..5)?;
    if !version.eq_ignore_ascii_case("v=spf") {
        return None;
    }
    let rest = text[version.len()..].trim_start().strip_prefix('1')?;
    if !rest.is_empty() && !rest.starts_with(|c: char| c == ';' || c.is_whitespace()) {
        return None;
    }
    let rest = rest.replace(';', " ");
    Some(repaired(&format!("{VERSION} {rest}")).0)
}

/// A record without what leads to another domain's, whose name is in lower case.
pub fn without_target(record: &str, name: &str) -> String {
    let target = |word: &str| {
        let word = bare(word);
        let modifier = word.strip_prefix("redirect=");
        let host = modifier.or_else(|| word.strip_prefix("include:"));
        let leads = host.is_some_and(|host| host.trim_end_matches('.') == name);
        (leads, leads && modifier.is_some())
    };
    let redirected = record.split_whitespace().any(|word| target(word).1);
    let words = record.split_whitespace().filter(|word| !target(word).0);
    let mut words: Vec<&str> = words.collect();
    if redirected && !words.iter().any(|word| is_end(word)) {
        words.push("~all");
    }
    words.join(" ")
}

/// One record of several: everything that any of them allows, ended softly. What is invalid or
/// does nothing is left out.
pub fn joined(records: &[String]) -> String {
    let mut words: Vec<String> = Vec::new();
    let mut end = None;
    let mut explained = false;
    for record in records {
        let (record, _) = repaired(record);
        let is_closed = record.split(' ').any(|word| bare(word) == "all");
        let mut ended = false;
        for word in record.split(' ').skip(1) {
            let name = bare(word);
            if name == "all" {
                if std::mem::replace(&mut ended, true) {
                    continue;
                }
                let softest = match (end, word.to_ascii_lowercase().as_str()) {
                    (Some("~all"), _) | (_, "~all") => "~all",
                    (Some("?all"), _) | (_, "?all") => "?all",
                    (_, "-all") => "-all",
                    (known, _) => known.unwrap_or("~all"),
                };
                end = Some(softest);
                continue;
            }
            let word = match read_term(word) {
                Ok(Term::Directive(_)) if ended => continue,
                Ok(Term::Redirect(_)) if is_closed => continue,
                Ok(Term::Redirect(_)) => {
                    let host = name.strip_prefix("redirect=").unwrap_or(&name);
                    format!("include:{host}")
                }
                Ok(Term::Explanation) if std::mem::replace(&mut explained, true) => continue,
                Ok(_) | Err(_) => word.to_owned(),
            };
            if !words.iter().any(|known| bare(known) == bare(&word)) {
                words.push(word);
            }
        }
    }
    words.push(end.unwrap_or("~all").to_owned());
    format!("{VERSION} {}", words.join(" "))
}

/// A provider through which mail leaves.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// Its name.
    pub name: &'static str,
    /// Its submission servers; `*` stands for anything.
    pub hosts: &'static [&'static str],
    /// What a record has to include.
    pub include: &'static str,
    /// What does the same.
    pub equivalents: &'static [&'static str],
    /// It puts its own return path on every message, so that SPF asks its record, not ours.
    pub own_return_path: bool,
    /// The selectors under which it signs as its customers; none: they cannot be known.
    pub selectors: &'static [&'static str],
}

impl Provider {
    /// All names of which one has to be included.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [self.include]
            .into_iter()
            .chain(self.equivalents.iter().copied())
    }

    /// What is to stand in a record.
    pub fn term(&self) -> String {
        format!("include:{}", self.include)
    }
}

const USUAL: Provider = Provider {
    name: "",
    hosts: &[],
    include: "",
    equivalents: &[],
    own_return_path: false,
    selectors: &[],
};

/// Microsoft 365.
pub static MICROSOFT: Provider = Provider {
    name: "Microsoft 365",
    hosts: &[
        "smtp.office365.com",
        "smtp-legacy.office365.com",
        "smtp-mail.outlook.com",
        "*.mail.protection.outlook.com",
    ],
    include: "spf.protection.outlook.com",
    selectors: &["selector1", "selector2"],
    ..USUAL
};

/// Google Workspace.
pub static GOOGLE: Provider = Provider {
    name: "Google",
    hosts: &[
        "smtp.gmail.com",
        "smtp.googlemail.com",
        "smtp-relay.gmail.com",
    ],
    include: "_spf.google.com",
    selectors: &["google"],
    ..USUAL
};

/// All others whose record is known.
static OTHERS: &[Provider] = &[
    Provider {
        name: "IONOS",
        hosts: &["smtp.ionos.*", "smtp.1und1.de", "smtp.1and1.*"],
        include: "_spf-eu.ionos.com",
        equivalents: &["_spf.perfora.net", "_spf.kundenserver.de"],
        ..USUAL
    },
    Provider {
        name: "Strato",
        hosts: &["smtp.strato.de", "smtp.strato.com"],
        include: "spf.rzone.de",
        equivalents: &["smtp.rzone.de", "_spf.strato.com"],
        ..USUAL
    },
    Provider {
        name: "all-inkl.com",
        hosts: &["*.kasserver.com"],
        include: "spf.kasserver.com",
        ..USUAL
    },
    Provider {
        name: "Mittwald",
        hosts: &["*.agenturserver.de"],
        include: "agenturserver.de",
        ..USUAL
    },
    Provider {
        name: "Telekom",
        hosts: &["*.hier-im-netz.de"],
        include: "_spf.hier-im-netz.de",
        ..USUAL
    },
    Provider {
        name: "mailbox.org",
        hosts: &["smtp.mailbox.org"],
        include: "mailbox.org",
        ..USUAL
    },
    Provider {
        name: "easyname",
        hosts: &["smtp.easyname.com"],
        include: "spf.easyname.com",
        ..USUAL
    },
    Provider {
        name: "Hostpoint",
        hosts: &["asmtp.mail.hostpoint.ch"],
        include: "spf.mail.hostpoint.ch",
        ..USUAL
    },
    Provider {
        name: "Infomaniak",
        hosts: &["mail.infomaniak.com"],
        include: "spf.infomaniak.ch",
        ..USUAL
    },
    Provider {
        name: "Hetzner",
        hosts: &["*.your-server.de"],
        include: "spf.your-server.de",
        ..USUAL
    },
    Provider {
        name: "Zoho",
        hosts: &["smtp.zoho.eu", "smtppro.zoho.eu"],
        include: "zohomail.eu",
        equivalents: &["zoho.eu"],
        ..USUAL
    },
    Provider {
        name: "Brevo",
        hosts: &["smtp-relay.brevo.com", "smtp-relay.sendinblue.com"],
        include: "spf.brevo.com",
        equivalents: &["spf.sendinblue.com"],
        own_return_path: true,
        selectors: &["mail", "brevo1", "brevo2"],
    },
    Provider {
        name: "SendGrid",
        hosts: &["smtp.sendgrid.net"],
        include: "sendgrid.net",
        own_return_path: true,
        selectors: &["s1", "s2"],
        ..USUAL
    },
    Provider {
        name: "Amazon SES",
        hosts: &["email-smtp.*.amazonaws.com"],
        include: "amazonses.com",
        own_return_path: true,
        ..USUAL
    },
    Provider {
        name: "Mailgun",
        hosts: &["smtp.mailgun.org", "smtp.eu.mailgun.org"],
        include: "mailgun.org",
        equivalents: &["_spf.mailgun.org", "_spf.eu.mailgun.org"],
        ..USUAL
    },
    Provider {
        name: "Mailjet",
        hosts: &["in-v3.mailjet.com"],
        include: "spf.mailjet.com",
        own_return_path: true,
        selectors: &["mailjet"],
        ..USUAL
    },
    Provider {
        name: "Postmark",
        hosts: &["smtp.postmarkapp.com"],
        include: "spf.mtasv.net",
        own_return_path: true,
        ..USUAL
    },
    Provider {
        name: "Fastmail",
        hosts: &["smtp.fastmail.com"],
        include: "spf.messagingengine.com",
        ..USUAL
    },
    Provider {
        name: "Proton",
        hosts: &["smtp.protonmail.ch"],
        include: "_spf.protonmail.ch",
        ..USUAL
    },
    Provider {
        name: "iCloud",
        hosts: &["smtp.mail.me.com"],
        include: "icloud.com",
        ..USUAL
    },
];

/// The provider whose submission server this is.
pub fn provider_of(host: &str) -> Option<&'static Provider> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    let fits = |pattern: &&str| match pattern.split_once('*') {
        None => **pattern == host,
        Some((head, tail)) => {
            host.len() > head.len() + tail.len() && host.starts_with(head) && host.ends_with(tail)
        }
    };
    [&MICROSOFT, &GOOGLE]
        .into_iter()
        .chain(OTHERS)
        .find(|provider| provider.hosts.iter().any(fits))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(record: &str) -> Option<(String, Fault)> {
        parse(record).err().map(|bad| (bad.term, bad.fault))
    }

    #[test]
    fn good_records() {
        for record in [
            "v=spf1",
            "v=spf1 ",
            "V=SPF1 MX A/24 -ALL",
            "v=spf1 a a/0 a//64 a/24//64 a:mail.acme.example/28 mx:acme.example//48 ~all",
            "v=spf1  ip4:192.0.2.1  ip4:192.0.2.77/24 ip6:2001:db8::1 ip6:2001:db8::/32 ?all",
            "v=spf1 include:_spf.google.com. redirect=_spf.acme.example",
            "v=spf1 exists:%{ir}.%{v}.arpa._spf.%{d2} ptr ptr:acme.example -all",
            "v=spf1 include:%{d} include:x.%{l1r-}.%{h}.acme.example a:%{i}._x.%%.acme.example",
            "v=spf1 exp=explain._spf.%{d} unknown.modifier-1=any%_thing/here +all",
            "v=spf1 include:xn--mller-kva.example include:a_b.under_score.example -all",
        ] {
            assert_eq!(fault(record), None, "{record}");
        }
    }

    #[test]
    fn bad_terms_are_named() {
        for (record, term, kind) in [
            ("", "", Fault::Version),
            ("v=spf10 -all", "v=spf10", Fault::Version),
            (
                "v=spf1;include:x.example",
                "v=spf1;include:x.example",
                Fault::Version,
            ),
            ("v=spf1 foo:bar -all", "foo:bar", Fault::Unknown),
            (
                "v=spf1 includes:x.example",
                "includes:x.example",
                Fault::Unknown,
            ),
            ("v=spf1 ipv4:192.0.2.1", "ipv4:192.0.2.1", Fault::Unknown),
            ("v=spf1 -all.", "-all.", Fault::Unknown),
            ("v=spf1 192.0.2.1", "192.0.2.1", Fault::Unknown),
            ("v=spf1 all:x.example", "all:x.example", Fault::Form),
            ("v=spf1 include", "include", Fault::Form),
            ("v=spf1 include:", "include:", Fault::Form),
            ("v=spf1 include/24", "include/24", Fault::Form),
            ("v=spf1 exists", "exists", Fault::Form),
            (
                "v=spf1 include:localhost",
                "include:localhost",
                Fault::Domain,
            ),
            (
                "v=spf1 include:a..example",
                "include:a..example",
                Fault::Domain,
            ),
            ("v=spf1 include:x.123", "include:x.123", Fault::Domain),
            ("v=spf1 a:-x.example-", "a:-x.example-", Fault::Domain),
            ("v=spf1 include:x.%{d", "include:x.%{d", Fault::Macro),
            ("v=spf1 include:x.%{z}", "include:x.%{z}", Fault::Macro),
            (
                "v=spf1 exists:%{d!}.x.example",
                "exists:%{d!}.x.example",
                Fault::Macro,
            ),
            (
                "v=spf1 include:50%.example",
                "include:50%.example",
                Fault::Macro,
            ),
            ("v=spf1 ip4:", "ip4:", Fault::Address),
            ("v=spf1 ip4", "ip4", Fault::Form),
            ("v=spf1 ip4:192.0.2", "ip4:192.0.2", Fault::Address),
            ("v=spf1 ip4:192.0.2.256", "ip4:192.0.2.256", Fault::Address),
            ("v=spf1 ip4:2001:db8::1", "ip4:2001:db8::1", Fault::Address),
            ("v=spf1 ip6:192.0.2.1", "ip6:192.0.2.1", Fault::Address),
            ("v=spf1 ip4:192.0.2.1/33", "ip4:192.0.2.1/33", Fault::Cidr),
            ("v=spf1 ip4:192.0.2.1/", "ip4:192.0.2.1/", Fault::Cidr),
            ("v=spf1 ip4:192.0.2.1/+8", "ip4:192.0.2.1/+8", Fault::Cidr),
            (
                "v=spf1 ip6:2001:db8::/129",
                "ip6:2001:db8::/129",
                Fault::Cidr,
            ),
            ("v=spf1 a/024", "a/024", Fault::Cidr),
            ("v=spf1 a//129", "a//129", Fault::Cidr),
            ("v=spf1 mx/24/64", "mx/24/64", Fault::Cidr),
            (
                "v=spf1 redirect=a.example redirect=b.example",
                "redirect=b.example",
                Fault::Twice,
            ),
            (
                "v=spf1 exp=a.example exp=a.example",
                "exp=a.example",
                Fault::Twice,
            ),
            ("v=spf1 redirect=", "redirect=", Fault::Form),
            (
                "v=spf1 +redirect=a.example",
                "+redirect=a.example",
                Fault::Unknown,
            ),
            (
                "v=spf1 include:müller.example",
                "include:müller.example",
                Fault::Character,
            ),
            ("v=spf1 a\t-all", "a\t-all", Fault::Character),
        ] {
            assert_eq!(fault(record), Some((term.to_owned(), kind)), "{record:?}");
        }
    }

    #[test]
    fn what_does_nothing() {
        let notes = |record: &str| parse(record).map(|r| r.notes).unwrap_or_default();
        assert_eq!(
            notes("v=spf1 -all include:x.example redirect=y.example"),
            [
                Note::BehindAll("include:x.example".to_owned()),
                Note::IdleRedirect("redirect=y.example".to_owned())
            ]
        );
        assert_eq!(
            notes("v=spf1 ip4=192.0.2.1 ptr ~all"),
            [
                Note::NoColon("ip4=192.0.2.1".to_owned()),
                Note::Ptr("ptr".to_owned())
            ]
        );
        let record = parse("v=spf1 mx redirect=Y.example.").expect("valid");
        let to = record.redirect.as_ref().and_then(Spec::name);
        assert_eq!((to.as_deref(), record.all()), (Some("y.example"), None));
        let record = parse("v=spf1 ?all redirect=y.example").expect("valid");
        assert_eq!(
            (record.redirect.clone(), record.all()),
            (None, Some(Qualifier::Neutral))
        );
    }

    #[test]
    fn selection() {
        let of = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
            select(&texts)
        };
        let one = |text: &str| Published::One(text.to_owned());
        let misspelt = |text: &str| Published::Misspelt(text.to_owned());
        assert_eq!(of(&[]), Published::Nothing);
        assert_eq!(of(&["google-site-verification=x"]), Published::Nothing);
        assert_eq!(of(&["x", "v=spf1 -all"]), one("v=spf1 -all"));
        assert_eq!(of(&["V=Spf1"]), one("V=Spf1"));
        assert_eq!(of(&["v=spf2 -all", "v=spf1 mx"]), one("v=spf1 mx"));
        for wrong in [
            "v=spf1;mx",
            "\"v=spf1 mx\"",
            " v=spf1 mx",
            "v=spf 1 mx",
            "v=SPF10",
        ] {
            assert_eq!(of(&[wrong]), misspelt(wrong), "{wrong}");
        }
        let two = of(&["v=spf1 a -all", "v=spf1 mx -all"]);
        assert!(matches!(two, Published::Several(both) if both.len() == 2));
    }

    #[test]
    fn merging() {
        let google = "include:_spf.google.com";
        for (record, expected) in [
            (None, "v=spf1 include:_spf.google.com ~all"),
            (
                Some("v=spf1 mx  ip4:192.0.2.1 -all"),
                "v=spf1 mx ip4:192.0.2.1 include:_spf.google.com -all",
            ),
            (
                Some("v=spf1 mx redirect=x.example"),
                "v=spf1 mx include:_spf.google.com redirect=x.example",
            ),
            (Some("v=spf1 mx"), "v=spf1 mx include:_spf.google.com"),
            (
                Some("v=spf1 -all include:_spf.google.com"),
                "v=spf1 include:_spf.google.com -all",
            ),
            (
                Some("v=spf1 ?include:_SPF.google.com ~ALL"),
                "v=spf1 include:_spf.google.com ~ALL",
            ),
        ] {
            let found = merged(record, google);
            assert_eq!(found, expected);
            assert!(parse(&found).is_ok(), "{found}");
        }
        let both = ["v=spf1 mx a -all", "v=spf1 MX redirect=x.example"].map(str::to_owned);
        assert_eq!(joined(&both), "v=spf1 mx a include:x.example -all");
        let both = ["v=spf1 a -all", "v=spf1 mx ~all"].map(str::to_owned);
        assert_eq!(joined(&both), "v=spf1 a mx ~all");
        let both = [
            "v=spf1 ipv4:1.2.3.4 mx -all include:late.example",
            "v=spf1 foo exp=a.example redirect=idle.example -ALL",
            "v=spf1 exp=b.example redirect=X.example",
        ]
        .map(str::to_owned);
        let found = joined(&both);
        assert_eq!(found, "v=spf1 mx exp=a.example include:x.example -all");
        assert!(parse(&found).is_ok(), "{found}");
    }

    #[test]
    fn what_can_be_saved() {
        let long = format!("includ:{}.example", "a".repeat(200));
        let with_long = format!("V=SPF1 {long} a\t-all");
        for (record, expected, removed) in [
            (
                "v=spf1 foo:x mx  ipv4:192.0.2.1 -all",
                "v=spf1 mx -all",
                vec!["foo:x", "ipv4:192.0.2.1"],
            ),
            (with_long.as_str(), "v=spf1 a -all", vec![long.as_str()]),
            (
                "v=spf1 redirect=a.example redirect=a.example exp=x.example exp=x.example",
                "v=spf1 redirect=a.example exp=x.example",
                vec!["redirect=a.example", "exp=x.example"],
            ),
            ("v=spf1", "v=spf1", vec![]),
        ] {
            let (found, gone) = repaired(record);
            assert_eq!(found, expected, "{record}");
            assert_eq!(gone, removed, "{record}");
            assert!(parse(&found).is_ok(), "{found}");
        }
        let whole = Some("v=spf1 include:x.example mx -all");
        for (text, expected) in [
            ("\"v=spf1 include:x.example mx -all\"", whole),
            ("\"v=spf1 include:x.ex\" \"ample mx -all\"", whole),
            ("  V=SPF1  include:x.example mx -all ", whole),
            ("v=spf1;include:x.example; mx;-all", whole),
            ("v=spf 1 include:x.example nonsense mx -all", whole),
            ("'v=spf1'", Some("v=spf1")),
            ("v=spf10 mx -all", None),
            ("v=spf", None),
            ("hello", None),
        ] {
            assert_eq!(mended(text).as_deref(), expected, "{text}");
        }
        for (record, expected) in [
            ("v=spf1 mx Include:Open.example. -all", "v=spf1 mx -all"),
            ("v=spf1 mx redirect=open.example", "v=spf1 mx ~all"),
            ("v=spf1 mx -all", "v=spf1 mx -all"),
        ] {
            assert_eq!(without_target(record, "open.example"), expected);
        }
    }

    #[test]
    fn providers() {
        for (host, expected) in [
            ("smtp.office365.com", Some("spf.protection.outlook.com")),
            ("SMTP.gmail.com.", Some("_spf.google.com")),
            ("smtp.ionos.de", Some("_spf-eu.ionos.com")),
            ("w0123.kasserver.com", Some("spf.kasserver.com")),
            (
                "email-smtp.eu-central-1.amazonaws.com",
                Some("amazonses.com"),
            ),
            ("email-smtp.amazonaws.com", None),
            ("smtp.acme.example", None),
            ("smtp.gmail.com.evil.example", None),
            ("127.0.0.1", None),
        ] {
            assert_eq!(provider_of(host).map(|p| p.include), expected, "{host}");
        }
        for provider in [&MICROSOFT, &GOOGLE].into_iter().chain(OTHERS) {
            let record = merged(None, &provider.term());
            assert!(parse(&record).is_ok(), "{record}");
            assert!(!provider.name.is_empty() && !provider.hosts.is_empty());
        }
    }
}
