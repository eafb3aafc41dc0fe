//! Which senders a client may use, and which one its mail gets.

use super::document::{DocumentType, Facts};
use super::{ApplicationFrom, ReplyTo, SenderPattern, Tenant, User};
use crate::smtp::address::{Address, AddressError};

impl SenderPattern {
    /// Checks a pattern: an address, or one whose local part or domain holds `*`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some((_, domain)) = text.rsplit_once('@')
            && let Some(label) = domain
                .split('.')
                .find(|label| !label.is_ascii() && label.contains(['*', '?']))
        {
            return Err(format!(
                "{} mixes letters beyond ASCII with a wildcard, which no domain can be compared with; write that part of the domain in full, or only *",
                label.escape_debug()
            ));
        }
        let advise = |error: &dyn std::fmt::Display| {
            format!("{error}; write an address, or a pattern such as *@shop.acme.example")
        };
        let probe = text.replace("*.", "x.").replace('*', "x");
        Address::parse(&probe).map_err(|error| advise(&error))?;
        // As the addresses of mail are compared: only letters of ASCII have no case, for the Kelvin
        // sign is no k.
        let text = text.to_ascii_lowercase();
        let pattern = match text.rsplit_once('@') {
            Some((local, domain)) if !domain.is_ascii() && domain.contains('*') => {
                let labels: Option<Vec<String>> = domain.split('.').map(a_label).collect();
                let labels = labels.ok_or_else(|| advise(&AddressError::Domain))?;
                format!("{local}@{}", labels.join("."))
            }
            _ => text,
        };
        Ok(Self(pattern))
    }

    /// Whether it allows every address of every domain.
    pub fn is_everybody(&self) -> bool {
        self.0.chars().all(|c| matches!(c, '*' | '@' | '.'))
    }

    /// The address, if it is a single one.
    pub fn address(&self) -> Option<Address> {
        let single = !self.0.contains(['*', '?']);
        single.then(|| Address::parse(&self.0).ok()).flatten()
    }

    /// Whether an address falls under it. Domains are compared as A-labels.
    pub fn matches(&self, address: &Address) -> bool {
        let Some((local, domain)) = self.0.rsplit_once('@') else {
            return false;
        };
        let domain = if domain.is_ascii() {
            domain.to_owned()
        } else {
            crate::smtp::address::ascii_domain(domain).unwrap_or_else(|| domain.to_owned())
        };
        glob(local, &address.local().to_ascii_lowercase()) && glob(&domain, &address.ascii_domain())
    }
}

/// One label of a pattern's domain as it is compared; `None`: it is none.
fn a_label(label: &str) -> Option<String> {
    if label.is_ascii() {
        Some(label.to_owned())
    } else {
        crate::smtp::address::ascii_domain(label)
    }
}

/// Matches `*` (any run) and `?` (one character); linear in practice, never exponential.
pub fn glob(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while t < text.len() {
        if p < pattern.len() && pattern[p] == '*' {
            star = Some((p, t));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == '?' || pattern[p] == text[t]) {
            p += 1;
            t += 1;
        } else if let Some((star_p, star_t)) = star {
            p = star_p + 1;
            t = star_t + 1;
            star = Some((star_p, star_t + 1));
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

impl User {
    /// Whether this login may send as that address: its own, one of its `senders`, or of its
    /// groups'.
    pub fn may_use(&self, address: &Address) -> bool {
        let groups = self.groups.iter().flat_map(|group| &group.senders);
        self.email
            .as_ref()
            .is_some_and(|own| own.same_permission(address))
            || self
                .senders
                .iter()
                .chain(groups)
                .any(|pattern| pattern.matches(address))
    }
}

/// The sender that a message gets on the tenant's own route, and what goes with it.
#[derive(Debug)]
pub struct Choice<'a> {
    /// From address.
    pub address: &'a Address,
    /// Sender name.
    pub name: &'a str,
    /// Where answers go.
    pub reply_to: &'a ReplyTo,
    /// Where answers go if neither the tenant nor the application says so.
    pub reply_else: &'a Address,
    /// The application's own From stays: its user may use it, and the tenant allows that.
    pub keeps_from: bool,
    /// The document type.
    pub document: Option<&'a DocumentType>,
    /// The user whose own sender it is.
    pub own: Option<&'a User>,
    /// Why, for `preview --explain`.
    pub why: &'static str,
}

/// A document type's address that the user may not use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "document type {document} sends as {address}, which {user} may not use: add it to the senders of the user or of one of its groups"
)]
pub struct MissingGrant {
    /// The type.
    pub document: String,
    /// Its address.
    pub address: String,
    /// The login.
    pub user: String,
}

impl Tenant {
    /// Every address that the tenant's file names: what a client without login may use.
    pub fn names_address(&self, address: &Address) -> bool {
        let own = [
            Some(&self.email),
            Some(&self.sender.address),
            self.sender.return_path.as_ref(),
            self.support_address.as_ref(),
        ];
        let copies = self.documents.iter().flat_map(|d| &d.bcc);
        let others = copies.chain(&self.copies.bcc).chain(&self.notices);
        let documents = self.documents.iter().map(|d| d.address.as_ref());
        let replies = self.documents.iter().filter_map(|d| d.reply_to.as_ref());
        let answers = replies.chain([&self.sender.reply_to]).map(|to| match to {
            ReplyTo::Fixed(address) => Some(address),
            ReplyTo::Application | ReplyTo::OriginalFrom => None,
        });
        own.into_iter()
            .chain(documents)
            .chain(answers)
            .chain(others.map(Some))
            .flatten()
            .any(|known| known.same_permission(address))
            || self.users.iter().any(|user| user.may_use(address))
            || self
                .groups
                .iter()
                .flat_map(|group| &group.senders)
                .any(|pattern| pattern.matches(address))
    }

    /// Every address that its mail may leave with, each once, the usual one first; patterns name
    /// nobody.
    pub fn all_senders(&self) -> Vec<Address> {
        let users = self.users.iter();
        let patterns = users
            .clone()
            .flat_map(|user| &user.senders)
            .chain(self.groups.iter().flat_map(|group| &group.senders));
        let fixed = patterns.filter_map(SenderPattern::address);
        let named = [
            Some(self.sender.address.clone()),
            self.sender.return_path.clone(),
        ];
        let documents = self.documents.iter().filter_map(|d| d.address.clone());
        let own = users.filter_map(|user| user.email.clone());
        let mut all: Vec<Address> = Vec::new();
        for address in named
            .into_iter()
            .flatten()
            .chain(documents)
            .chain(own)
            .chain(fixed)
        {
            if !all.iter().any(|known| known.same_permission(&address)) {
                all.push(address);
            }
        }
        all
    }

    /// Whether all its mail has the same sender, whatever it says.
    pub fn has_one_sender(&self) -> bool {
        self.sender.application_from == ApplicationFrom::Replace
            && self.documents.is_empty()
            && !self.users.iter().any(|user| user.use_own_sender)
    }

    /// The document type of a message: the first that matches.
    pub fn document(&self, facts: &Facts<'_>) -> Option<&DocumentType> {
        self.documents.iter().find(|d| d.rule.matches(facts))
    }

    /// Whose sender a message gets: the application's where it may stay, else the document type's,
    /// else the user's own, else `[sender]`. `application_from`: the one address of its From.
    pub fn choose_sender<'a>(
        &'a self,
        user: Option<&'a User>,
        facts: &Facts<'_>,
        application_from: Option<&Address>,
    ) -> Result<Choice<'a>, MissingGrant> {
        // A login that is gone has lost its rights.
        let unknown = facts.login.is_some() && user.is_none();
        let keeps_from = self.sender.application_from != ApplicationFrom::Replace
            && !unknown
            && application_from.is_some_and(|address| self.may_use(user, address));
        let mut choice = self.sender_of(user, self.document(facts), keeps_from)?;
        if keeps_from {
            // The application has chosen: it is the user's own mail if that is the user's address.
            let is_own = |user: &&User| {
                user.email
                    .as_ref()
                    .zip(application_from)
                    .is_some_and(|(own, from)| own.same_permission(from))
            };
            choice.own = user.filter(|user| user.use_own_sender).filter(is_own);
            choice.why = "the application's own From";
        }
        Ok(choice)
    }

    /// The same for a message of this type.
    pub fn sender_of<'a>(
        &'a self,
        user: Option<&'a User>,
        document: Option<&'a DocumentType>,
        keeps_from: bool,
    ) -> Result<Choice<'a>, MissingGrant> {
        let rules = &self.sender;
        let own = user
            .filter(|user| user.use_own_sender)
            .and_then(|user| user.email.as_ref().map(|email| (user, email)));
        let mut choice = Choice {
            address: &rules.address,
            name: &rules.name,
            reply_to: &rules.reply_to,
            reply_else: &self.email,
            keeps_from,
            document,
            own: None,
            why: "[sender]",
        };
        match (document.and_then(|d| d.address.as_ref()), own) {
            (Some(address), _) => {
                if let (Some(user), false) = (user, keeps_from)
                    && !user.may_use(address)
                {
                    return Err(MissingGrant {
                        document: document.map(|d| d.name.clone()).unwrap_or_default(),
                        address: address.to_string(),
                        user: user.login.clone(),
                    });
                }
                choice.address = address;
                choice.why = "document type";
            }
            (None, Some((user, email))) => {
                choice.address = email;
                choice.name = user.name.as_deref().unwrap_or(&rules.name);
                choice.reply_else = email;
                choice.own = Some(user);
                choice.why = "the user's own (use_own_sender)";
            }
            (None, None) => {}
        }
        if let Some(name) = document.and_then(|d| d.sender_name.as_deref()) {
            choice.name = name;
        }
        if let Some(reply_to) = document.and_then(|d| d.reply_to.as_ref()) {
            choice.reply_to = reply_to;
        }
        Ok(choice)
    }

    /// Whether a client may send as that address. `user` is its login, `None` without one.
    pub fn may_use(&self, user: Option<&User>, address: &Address) -> bool {
        match user {
            Some(user) => user.may_use(address),
            None => self.names_address(address),
        }
    }

    /// A user by login.
    pub fn user(&self, login: &str) -> Option<&User> {
        self.users
            .iter()
            .find(|u| u.login == login)
            .map(AsRef::as_ref)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns() {
        for (pattern, address, expected) in [
            ("kasse@acme.example", "Kasse@ACME.example", true),
            ("kasse@acme.example", "kasse@acme.example.evil", false),
            ("*@shop.acme.example", "x@shop.acme.example", true),
            ("*@shop.acme.example", "x@acme.example", false),
            ("*@*.acme.example", "x@a.b.acme.example", true),
            ("kasse*@acme.example", "kasse12@acme.example", true),
            ("*@müller.example", "a@xn--mller-kva.example", true),
            ("*@paypal.example", "a@pаypal.example", false), // Cyrillic а
            ("*@*.müller.example", "a@x.müller.example", true),
            ("*@*.müller.example", "a@x.xn--mller-kva.example", true),
            ("*@*.MÜLLER.example", "a@x.Müller.example", true),
            ("*@*.xn--mller-kva.example", "a@x.müller.example", true),
            ("*@*.müller.example", "a@müller.example", false),
            ("*@*.müller.example", "a@x.muller.example", false),
            ("*@kasse-*.müller.example", "a@Kasse-1.müller.example", true),
            ("kasse@acme.example", "\u{212A}asse@acme.example", false), // the Kelvin sign
            ("\u{212A}asse@acme.example", "kasse@acme.example", false),
            (
                "\u{212A}asse@acme.example",
                "\u{212A}ASSE@acme.example",
                true,
            ),
            ("büro@acme.example", "BüRO@acme.example", true),
        ] {
            let pattern = SenderPattern::parse(pattern).expect(pattern);
            let address = Address::parse(address).expect(address);
            assert_eq!(pattern.matches(&address), expected, "{pattern:?} {address}");
        }
        for bad in ["", "acme.example", "*", "a b@c", "a@b.?xample"] {
            assert!(SenderPattern::parse(bad).is_err(), "{bad}");
        }
        for bad in ["*@mü*.example", "a@*ü.example", "a@x.m?ü.example"] {
            let error = SenderPattern::parse(bad).expect_err(bad);
            assert!(error.contains("beyond ASCII"), "{error}");
        }
        let single = SenderPattern::parse("Kasse@Müller.example").expect("an address");
        let address = single.address().map(|address| address.to_string());
        assert_eq!(address.as_deref(), Some("kasse@müller.example"));
        assert!(!glob(&"*a".repeat(50), &"a".repeat(40)));
    }
}
