//! Mailbox addresses of the envelope and of configuration (RFC 5321 section 4.1.2, RFC 6531).

use std::fmt;

/// Longest local part in octets (RFC 5321 section 4.5.3.1.1).
pub const LOCAL_PART_LIMIT: usize = 64;
/// Longest domain in octets (RFC 5321 section 4.5.3.1.2).
pub const DOMAIN_LIMIT: usize = 255;
/// Longest address in octets, brackets not counted (RFC 5321 section 4.5.3.1.3: 256 with them).
pub const ADDRESS_LIMIT: usize = 254;

/// A checked mailbox `local@domain`. Holds no control character, so it may stand in a command
/// line or a header field. The local part keeps its case and its quotes; the domain is lower
/// case, as U-label or A-label as it was written.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Address {
    text: Box<str>,
    at: u16,
}

/// Why a text is not an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Nothing there.
    #[error("the address is empty")]
    Empty,
    /// No `@`.
    #[error("there is no @ followed by a domain")]
    NoDomain,
    /// Local part not a dot-atom or quoted string.
    #[error("the part before the @ has a character that must not stand there")]
    LocalPart,
    /// A control character.
    #[error("it has a control character")]
    Control,
    /// Domain not made of labels.
    #[error("the domain is not a valid host name")]
    Domain,
    /// `[192.0.2.1]` and the like.
    #[error("addresses with an IP number in brackets are not accepted")]
    Literal,
    /// Longer than RFC 5321 allows.
    #[error("too long (at most 64 octets before the @, 255 after it, 254 in all)")]
    TooLong,
}

impl Address {
    /// Parses `local@domain`, nothing around it.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        if text.is_empty() {
            return Err(AddressError::Empty);
        }
        let at = split_at_sign(text).ok_or(AddressError::NoDomain)?;
        let (local, domain) = (&text[..at], &text[at + 1..]);
        if domain.is_empty() {
            return Err(AddressError::NoDomain);
        }
        if domain.starts_with('[') {
            return Err(AddressError::Literal);
        }
        check_local(local)?;
        let domain = check_domain(domain)?;
        // As it goes over the wire, in A-labels, it may be longer than as it was written.
        let wire = if domain.is_ascii() {
            domain.len()
        } else {
            ascii_domain(&domain).map_or(domain.len(), |ascii| ascii.len().max(domain.len()))
        };
        if local.len() + 1 + wire > ADDRESS_LIMIT {
            return Err(AddressError::TooLong);
        }
        let at = u16::try_from(local.len()).map_err(|_| AddressError::TooLong)?;
        Ok(Self {
            text: format!("{local}@{domain}").into_boxed_str(),
            at,
        })
    }

    /// The whole address as it stands in an envelope without brackets.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the `@`, quotes included.
    pub fn local(&self) -> &str {
        &self.text[..usize::from(self.at)]
    }

    /// What stands behind the `@`, lower case.
    pub fn domain(&self) -> &str {
        &self.text[usize::from(self.at) + 1..]
    }

    /// The domain as A-labels, fit for DNS and for servers without SMTPUTF8.
    pub fn ascii_domain(&self) -> String {
        ascii_domain(self.domain()).unwrap_or_else(|| self.domain().to_owned())
    }

    /// The address with its domain as A-labels. Still not ASCII when the local part is not.
    pub fn with_ascii_domain(&self) -> String {
        if self.text.is_ascii() {
            self.text.to_string()
        } else {
            format!("{}@{}", self.local(), self.ascii_domain())
        }
    }

    /// Whether only a server with SMTPUTF8 can take this address (RFC 6531): its local part is
    /// not ASCII. A domain alone never needs it, it has an A-label form.
    pub fn needs_smtputf8(&self) -> bool {
        !self.local().is_ascii()
    }

    /// Whether both name the same mailbox: same local part, same domain in A-label form.
    pub fn same_mailbox(&self, other: &Address) -> bool {
        self.local() == other.local()
            && (self.domain() == other.domain() || self.ascii_domain() == other.ascii_domain())
    }

    /// Whether both are the same for a *permission*: like [`Self::same_mailbox`], but the local
    /// part without regard to case, as every provider in use compares it.
    pub fn same_permission(&self, other: &Address) -> bool {
        self.local().eq_ignore_ascii_case(other.local())
            && self.ascii_domain() == other.ascii_domain()
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl serde::Serialize for Address {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

impl<'de> serde::Deserialize<'de> for Address {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Address::parse(&text).map_err(serde::de::Error::custom)
    }
}

/// Position of the `@` that ends the local part, quoted strings respected.
fn split_at_sign(text: &str) -> Option<usize> {
    let mut quoted = false;
    let mut escaped = false;
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            '@' if !quoted => return Some(i),
            _ => {}
        }
    }
    None
}

fn check_local(local: &str) -> Result<(), AddressError> {
    if local.len() > LOCAL_PART_LIMIT {
        return Err(AddressError::TooLong);
    }
    if local.is_empty() || local.chars().any(forbidden_anywhere) {
        return Err(AddressError::LocalPart);
    }
    if let Some(inner) = local.strip_prefix('"') {
        let inner = inner.strip_suffix('"').ok_or(AddressError::LocalPart)?;
        let mut escaped = false;
        for c in inner.chars() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => return Err(AddressError::LocalPart),
                _ => {}
            }
        }
        return if escaped {
            Err(AddressError::LocalPart)
        } else {
            Ok(())
        };
    }
    // Dots at the edges and doubled ones are against RFC 5321, but Japanese carriers gave out
    // such mailboxes; they do no harm in an envelope.
    let allowed =
        |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.:".contains(c) || !c.is_ascii();
    if local.chars().all(allowed) {
        Ok(())
    } else {
        Err(AddressError::LocalPart)
    }
}

/// Characters that never stand in an address: controls, line and paragraph separators,
/// directional and zero-width marks, which make one address look like another.
pub(super) fn forbidden_anywhere(c: char) -> bool {
    c.is_control()
        || (c.is_whitespace() && !c.is_ascii())
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{00AD}' | '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' | '\u{180E}' | '\u{FE00}'..='\u{FE0F}' | '\u{E0000}'..='\u{E0FFF}' | '\u{FFFD}')
}

fn check_domain(domain: &str) -> Result<String, AddressError> {
    let domain = domain.strip_suffix('.').unwrap_or(domain);
    if domain.len() > DOMAIN_LIMIT {
        return Err(AddressError::TooLong);
    }
    if domain.is_empty() || domain.chars().any(forbidden_anywhere) {
        return Err(AddressError::Domain);
    }
    let lower = domain.to_lowercase();
    match ascii_domain(&lower) {
        Some(ascii) if ascii.len() <= 253 => Ok(lower),
        Some(_) => Err(AddressError::TooLong),
        None => Err(AddressError::Domain),
    }
}

/// The A-label form of a domain, checked; `None` when it is none. Underscores are tolerated:
/// Windows networks use them.
pub fn ascii_domain(domain: &str) -> Option<String> {
    let plain = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_idn = |label: &str| {
        label
            .get(..4)
            .is_some_and(|p| p.eq_ignore_ascii_case("xn--"))
    };
    if domain.is_ascii() && !domain.split('.').any(is_idn) {
        return domain
            .split('.')
            .all(plain)
            .then(|| domain.to_ascii_lowercase());
    }
    let ascii = idna::domain_to_ascii_cow(domain.as_bytes(), idna::AsciiDenyList::STD3).ok()?;
    // RUSTSEC-2024-0421: only labels that survive the way back may be compared.
    let (unicode, result) = idna::domain_to_unicode(&ascii);
    result.ok()?;
    if ascii
        .split('.')
        .any(|label| is_idn(label) && label.len() <= 4)
        || unicode.is_empty()
    {
        return None;
    }
    ascii.split('.').all(plain).then(|| ascii.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let ok = [
            "a@b",
            "a@b.c",
            "A.b+c@X.example",
            "\"John Doe\"@b.c",
            "ä@b.c",
            "a@müller.example",
            "a@xn--mller-kva.example",
            "_x@under_score.local",
        ];
        for text in ok {
            assert!(Address::parse(text).is_ok(), "{text}");
        }
        let long_local = format!("{}@b.c", "a".repeat(65));
        let long_domain = format!("a@{}.c", "a.".repeat(130));
        let bad = [
            "",
            "a",
            "@b",
            "a@",
            "a b@c",
            "a@b c",
            "a@[127.0.0.1]",
            "a@b..c",
            "a@-b.c",
            "a\n@b",
            "a\r@b",
            "a@b\u{202e}c",
            "a\u{200b}@b",
            "\"a\"b\"@c",
            "\"a\\\"@c",
            "<a@b>",
            "a@xn---",
            "a@xn--example-.org",
            "a@example.org.xn--",
            "a\u{85}@b",
            &long_local,
            &long_domain,
        ];
        for text in bad {
            assert!(Address::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn labels() {
        let a = Address::parse("Info@Müller.example").expect("valid");
        assert_eq!(a.as_str(), "Info@müller.example");
        assert_eq!(a.with_ascii_domain(), "Info@xn--mller-kva.example");
        assert!(!a.needs_smtputf8());
        let b = Address::parse("info@xn--mller-kva.example").expect("valid");
        assert!(a.same_permission(&b));
        assert!(!a.same_mailbox(&b), "the local part keeps its case");
        assert!(Address::parse("grüße@b.c").expect("valid").needs_smtputf8());
        assert_eq!(Address::parse("a@t.").expect("valid").as_str(), "a@t");
    }

    /// Short enough as written, too long in A-labels: it could not stand in a command.
    #[test]
    fn the_length_that_counts_is_that_on_the_wire() {
        let domain = vec!["ü"; 30].join(".");
        assert_eq!(ascii_domain(&domain).map(|ascii| ascii.len()), Some(239));
        let with_local =
            |length: usize| Address::parse(&format!("{}@{domain}", "l".repeat(length)));
        assert_eq!(with_local(15), Err(AddressError::TooLong));
        assert!(with_local(14).is_ok_and(|a| a.with_ascii_domain().len() == ADDRESS_LIMIT));
    }
}
