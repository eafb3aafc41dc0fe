//! Texts of others that may repeat a secret of ours: some servers echo a login, some error
//! messages quote a token.

use zeroize::Zeroizing;

/// Shorter secrets are words that texts hold anyway.
const LEAST: usize = 6;

/// Secrets that no text shown may repeat.
#[derive(Default, Clone)]
pub struct Confidential(Vec<Zeroizing<String>>);

impl Confidential {
    /// Nothing is secret yet.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One more secret, also as a form or a link writes it.
    pub fn add(&mut self, secret: &str) {
        if secret.len() < LEAST {
            return;
        }
        let encoded = url_encoded(secret);
        if encoded != secret {
            self.0.push(comparable(&encoded));
            // As a form writes it: blanks as `+`, which comparing leaves out.
            self.0
                .push(comparable(&url_encoded(&secret.replace(' ', ""))));
        }
        self.0.push(comparable(secret));
    }

    /// Whether a text holds a secret, however it is broken into lines or escaped; if the text was
    /// `cut` off at its end, also the beginning of one.
    pub fn is_in(&self, text: &str, cut: bool) -> bool {
        let text = comparable(text);
        self.0.iter().any(|secret| {
            let mut beginnings = (LEAST..secret.len()).filter(|n| secret.is_char_boundary(*n));
            text.contains(secret.as_str())
                || (cut && beginnings.any(|n| text.ends_with(&secret[..n])))
        })
    }

    /// The text if it may be shown, else words that say why it is not. Control characters become
    /// blanks, and no more than `limit` characters are kept.
    pub fn clean(&self, text: &str, limit: usize) -> String {
        if self.is_in(text, false) {
            return "(text not shown: it repeats a secret)".to_owned();
        }
        let folded: Vec<&str> = text
            .split(|c: char| c.is_control() || c == ' ')
            .filter(|w| !w.is_empty())
            .collect();
        let folded = folded.join(" ");
        if folded.chars().count() <= limit {
            return folded;
        }
        let mut short: String = folded.chars().take(limit).collect();
        short.push('…');
        short
    }
}

impl std::fmt::Debug for Confidential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secrets]")
    }
}

/// A text without what servers change when they repeat it: blanks, `+` for them, letter case.
fn comparable(text: &str) -> Zeroizing<String> {
    Zeroizing::new(
        text.chars()
            .filter(|c| !c.is_whitespace() && *c != '+')
            .flat_map(char::to_lowercase)
            .collect(),
    )
}

/// The form in which some servers put a login into a link.
fn url_encoded(text: &str) -> String {
    text.bytes()
        .map(|b| {
            if b.is_ascii_alphanumeric() || b"-._~".contains(&b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn found_in_any_dress() {
        let mut secrets = Confidential::default();
        secrets.add("Pa55 w&rd!");
        for text in [
            "x Pa55 w&rd! y",
            "pa55w&rd!",
            "Pa55 w&\r\n rd!",
            "p=Pa55+w%26rd%21",
            "?p=Pa55%20w%26rd%21",
        ] {
            assert!(secrets.is_in(text, false), "{text:?}");
        }
        assert!(!secrets.is_in("Pa55 w&", false));
        assert!(secrets.is_in("… Pa55 w&", true));
        assert_eq!(secrets.clean("a\r\nb\u{1b}c", 10), "a b c");
        assert_eq!(secrets.clean("abcdef", 3), "abc…");
        assert!(secrets.clean("Pa55 w&rd!", 99).contains("not shown"));
    }
}
