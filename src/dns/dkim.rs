//! DKIM key records (RFC 6376 section 3.6.1, RFC 8463), compared with the keys that sign.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use crate::prepare::dkim::Key;

/// What stands under the name of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// That key.
    Same,
    /// That key, but receivers are told to ignore its signatures (`t=y`).
    TestMode,
    /// Nothing.
    Missing,
    /// A record that says that the key is no longer good (empty `p=`).
    Revoked,
    /// Another key.
    Other,
    /// So many records; which one counts is chance.
    Several(usize),
    /// A record that receivers cannot use.
    Malformed(Fault),
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not made of `tag=value` with semicolons between.
    Form,
    /// It does not begin with `v=DKIM1`, and has a `v=`.
    Version,
    /// A tag stands twice.
    Twice(String),
    /// There is no `p=`.
    NoKey,
    /// The key is no base64.
    Base64,
    /// The key ends before its end: often a panel that takes no more than 255 characters.
    CutOff,
    /// Our key, but `k=` says that it is of another kind.
    Kind(String),
    /// An Ed25519 key with the wrapping of other kinds; RFC 8463 wants the 32 octets alone.
    Wrapped,
    /// `h=` does not allow SHA-256.
    Hash,
    /// `s=` does not allow mail.
    Service,
}

/// The name under which a key is published.
pub fn record_name(selector: &str, domain: &str) -> String {
    format!("{selector}._domainkey.{domain}")
}

/// Compares what is published with a key.
pub fn compare(txt: &[String], key: &Key) -> Verdict {
    let wanted = key.record();
    let wanted = wanted.split_once("; p=").map_or("", |(_, key)| key);
    let kind = match key {
        Key::Rsa(_) => "rsa",
        Key::Ed25519(_) => "ed25519",
    };
    // What else hangs about under this name (a wildcard's SPF record) is not for DKIM.
    let mut keys = txt.iter().filter(|text| read(text).is_ok());
    match (txt, keys.next(), keys.count()) {
        ([], _, _) => Verdict::Missing,
        (_, Some(one), 0) => judge(one, kind, wanted),
        (_, Some(_), more) => Verdict::Several(more + 1),
        ([first, ..], None, _) => judge(first, kind, wanted),
    }
}

/// Whether a record, whosever it is, holds a key that is good for something.
pub fn is_key(text: &str) -> bool {
    read(text).is_ok_and(|record| !record.key.is_empty())
}

fn judge(text: &str, kind: &str, wanted: &str) -> Verdict {
    let record = match read(text) {
        Ok(record) => record,
        Err(fault) => return Verdict::Malformed(fault),
    };
    if record.key.is_empty() {
        return Verdict::Revoked;
    }
    if record.key.len() < wanted.len() && wanted.starts_with(&record.key) {
        return Verdict::Malformed(Fault::CutOff);
    }
    let (Ok(found), Ok(wanted)) = (BASE64.decode(&record.key), BASE64.decode(wanted)) else {
        return Verdict::Malformed(Fault::Base64);
    };
    if found != wanted {
        let wrapped = kind == "ed25519" && found.len() == wanted.len() + 12;
        return if wrapped && found.ends_with(&wanted) {
            Verdict::Malformed(Fault::Wrapped)
        } else {
            Verdict::Other
        };
    }
    if !record.kind.eq_ignore_ascii_case(kind) {
        return Verdict::Malformed(Fault::Kind(record.kind));
    }
    let allows = |list: &Option<String>, words: &[&str]| {
        list.as_ref().is_none_or(|list| {
            list.split(':')
                .any(|word| words.iter().any(|w| word.trim().eq_ignore_ascii_case(w)))
        })
    };
    if !allows(&record.hashes, &["sha256"]) {
        Verdict::Malformed(Fault::Hash)
    } else if !allows(&record.services, &["*", "email"]) {
        Verdict::Malformed(Fault::Service)
    } else if record.flags.split(':').any(|flag| flag.trim() == "y") {
        Verdict::TestMode
    } else {
        Verdict::Same
    }
}

struct Record {
    /// `k=`
    kind: String,
    /// `p=` without white space.
    key: String,
    /// `h=`
    hashes: Option<String>,
    /// `s=`
    services: Option<String>,
    /// `t=`
    flags: String,
}

/// Reads the list of tags (RFC 6376 section 3.2).
fn read(text: &str) -> Result<Record, Fault> {
    let mut tags: Vec<(&str, &str)> = Vec::new();
    let parts = text.trim_end().trim_end_matches(';').split(';');
    for part in parts {
        let (name, value) = part.split_once('=').ok_or(Fault::Form)?;
        let (name, value) = (name.trim(), value.trim());
        let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
        if !is_name {
            return Err(Fault::Form);
        }
        if tags.iter().any(|(known, _)| *known == name) {
            return Err(Fault::Twice(name.to_owned()));
        }
        tags.push((name, value));
    }
    let get = |name: &str| tags.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
    let first = tags.first().copied();
    if get("v").is_some() && first != Some(("v", "DKIM1")) {
        return Err(Fault::Version);
    }
    let key = get("p").ok_or(Fault::NoKey)?;
    Ok(Record {
        kind: get("k").unwrap_or("rsa").to_owned(),
        key: key.chars().filter(|c| !c.is_whitespace()).collect(),
        hashes: get("h").map(str::to_owned),
        services: get("s").map(str::to_owned),
        flags: get("t").unwrap_or("").to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::prepare::dkim::{generate_ed25519, generate_rsa};

    #[test]
    fn table() {
        let rsa = Key::parse(generate_rsa().expect("rsa").expose()).expect("key");
        let right = rsa.record();
        let public = right.split_once("p=").map_or("", |(_, p)| p);
        let other = Key::parse(generate_rsa().expect("rsa").expose()).expect("key");
        let ed25519 = Key::parse(generate_ed25519().expect("ed25519").expose()).expect("key");
        let blanks = format!("{} {}\t{}", &public[..64], &public[64..128], &public[128..]);
        let damaged = format!("{}!{}", &public[..100], &public[100..]);
        let malformed = Verdict::Malformed;
        for (record, expected) in [
            (right.clone(), Verdict::Same),
            (format!("p={public}"), Verdict::Same),
            (format!("v=DKIM1; p={blanks};"), Verdict::Same),
            (
                format!("v = DKIM1 ;k=RSA;n=a key;h=sha1:sha256; s=*;t=s; p={public} ; "),
                Verdict::Same,
            ),
            (format!("{right}; t=y"), Verdict::TestMode),
            (format!("v=DKIM1; t=s:y; p={public}"), Verdict::TestMode),
            ("v=DKIM1; k=rsa; p=".to_owned(), Verdict::Revoked),
            ("v=DKIM1; p= ;".to_owned(), Verdict::Revoked),
            (other.record(), Verdict::Other),
            (ed25519.record(), Verdict::Other),
            (
                right.replace("k=rsa", "k=ed25519"),
                malformed(Fault::Kind("ed25519".to_owned())),
            ),
            (right[..255].to_owned(), malformed(Fault::CutOff)),
            (format!("p={damaged}"), malformed(Fault::Base64)),
            ("v=DKIM1; k=rsa".to_owned(), malformed(Fault::NoKey)),
            (right.replace("DKIM1", "DKIM2"), malformed(Fault::Version)),
            (right.replace("DKIM1", "dkim1"), malformed(Fault::Version)),
            (format!("p={public}; v=DKIM1"), malformed(Fault::Version)),
            (right.replace(';', ""), malformed(Fault::Version)),
            ("v=spf1 -all".to_owned(), malformed(Fault::Version)),
            (format!("\"{right}\""), malformed(Fault::Form)),
            ("hello".to_owned(), malformed(Fault::Form)),
            (String::new(), malformed(Fault::Form)),
            (format!("v=DKIM1;; p={public}"), malformed(Fault::Form)),
            (
                format!("{right}; p={public}"),
                malformed(Fault::Twice("p".to_owned())),
            ),
            (format!("{right}; h=sha1"), malformed(Fault::Hash)),
            (format!("{right}; s=other"), malformed(Fault::Service)),
        ] {
            assert_eq!(compare(from_ref(&record), &rsa), expected, "{record}");
        }
        assert_eq!(compare(&[], &rsa), Verdict::Missing);
        let stray = "v=spf1 -all".to_owned();
        assert_eq!(compare(&[stray, right.clone()], &rsa), Verdict::Same);
        let both = [right.clone(), other.record()];
        assert_eq!(compare(&both, &rsa), Verdict::Several(2));
        assert_eq!(compare(&[ed25519.record()], &ed25519), Verdict::Same);
        let bare = ed25519.record();
        let bare = bare.split_once("p=").map_or("", |(_, p)| p);
        let mut wrapped = vec![
            0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0,
        ];
        wrapped.extend(BASE64.decode(bare).expect("base64"));
        let record = format!("v=DKIM1; k=ed25519; p={}", BASE64.encode(wrapped));
        assert_eq!(
            compare(from_ref(&record), &ed25519),
            malformed(Fault::Wrapped)
        );
        assert!(is_key(&record) && !is_key("v=DKIM1; p=") && !is_key("x"));
    }
}
