//! Which senders a client may use.

use super::{SenderPattern, Tenant, User};
use crate::smtp::address::Address;

impl SenderPattern {
    /// Checks a pattern: an address, or one whose local part or domain holds `*`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let probe = text.replace("*.", "x.").replace('*', "x");
        match Address::parse(&probe) {
            Ok(_) => Ok(Self(text.to_lowercase())),
            Err(error) => Err(format!(
                "{error}; write an address, or a pattern such as *@shop.acme.example"
            )),
        }
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
        glob(local, &address.local().to_lowercase()) && glob(&domain, &address.ascii_domain())
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
    /// Whether this login may send as that address: its own, or one of its `senders`.
    pub fn may_use(&self, address: &Address) -> bool {
        self.email
            .as_ref()
            .is_some_and(|own| own.same_permission(address))
            || self.senders.iter().any(|pattern| pattern.matches(address))
    }
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
        own.into_iter()
            .flatten()
            .any(|known| known.same_permission(address))
            || matches!(&self.sender.reply_to, super::ReplyTo::Fixed(known) if known.same_permission(address))
            || self.users.iter().any(|user| user.may_use(address))
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
        ] {
            let pattern = SenderPattern::parse(pattern).expect(pattern);
            let address = Address::parse(address).expect(address);
            assert_eq!(pattern.matches(&address), expected, "{pattern:?} {address}");
        }
        for bad in ["", "acme.example", "*", "a b@c"] {
            assert!(SenderPattern::parse(bad).is_err(), "{bad}");
        }
        assert!(!glob(&"*a".repeat(50), &"a".repeat(40)));
    }
}
