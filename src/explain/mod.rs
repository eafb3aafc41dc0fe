//! What a failure means and what helps, in plain German and English.
//!
//! This is the one place that turns a reply of an upstream SMTP server ([`reply`]) or a failure
//! without a reply ([`Cause`]) into a class, a cause and a remedy for the administrator, and the
//! one place that knows the mail providers ([`providers`]). Everything here is data; nothing does
//! input or output.

pub mod apis;
pub mod causes;
pub mod providers;
pub mod replies;

pub use causes::Cause;
pub use replies::{Row, reply};

use std::fmt;
use std::str::FromStr;

/// A language in which Postbote explains itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    /// German.
    De,
    /// English.
    En,
}

impl Language {
    /// The code as it stands in the configuration: `de` or `en`.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::De => "de",
            Self::En => "en",
        }
    }
}

impl fmt::Display for Language {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.code())
    }
}

/// The language asked for is neither `de` nor `en`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownLanguage;

impl fmt::Display for UnknownLanguage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown language, expected \"de\" or \"en\"")
    }
}

impl std::error::Error for UnknownLanguage {}

impl FromStr for Language {
    type Err = UnknownLanguage;

    fn from_str(code: &str) -> Result<Self, Self::Err> {
        if code.eq_ignore_ascii_case("de") {
            Ok(Self::De)
        } else if code.eq_ignore_ascii_case("en") {
            Ok(Self::En)
        } else {
            Err(UnknownLanguage)
        }
    }
}

/// A text in both languages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    /// German.
    pub de: &'static str,
    /// English.
    pub en: &'static str,
}

impl Text {
    /// The text in one language.
    #[must_use]
    pub const fn get(self, language: Language) -> &'static str {
        match language {
            Language::De => self.de,
            Language::En => self.en,
        }
    }
}

/// Why it happened and what to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explanation {
    /// What happened and why.
    pub cause: Text,
    /// What the administrator can do, with the key of the tenant file where one helps.
    pub remedy: Text,
}

/// A [`Text`] in short, for the tables of this module.
const fn text(de: &'static str, en: &'static str) -> Text {
    Text { de, en }
}

/// Enough of any text of a server; nothing beyond is looked at.
const LONGEST: usize = 4096;

/// Lower case, every run of white space one blank.
fn fold(text: &str) -> String {
    let mut folded = String::with_capacity(text.len().min(LONGEST));
    for word in text.split_whitespace() {
        if folded.len() >= LONGEST {
            break;
        }
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().take(LONGEST).flat_map(char::to_lowercase));
    }
    folded
}

/// So many reply codes or statuses, from the first on.
const fn codes<const N: usize>(first: u16) -> [u16; N] {
    let mut codes = [first; N];
    let mut at = 0;
    let mut code = first;
    while at < codes.len() {
        codes[at] = code;
        code += 1;
        at += 1;
    }
    codes
}

#[cfg(test)]
pub(crate) mod testing {
    //! What the tests of the tables share.

    use super::{Explanation, Language, Text};

    /// A text that can be shown: there in both languages, different, whole sentences, one space.
    pub(crate) fn check_text(owner: &str, text: Text) {
        for language in [Language::De, Language::En] {
            let words = text.get(language);
            assert!(!words.trim().is_empty(), "{owner}: no text in {language}");
            assert_eq!(words, words.trim(), "{owner}: blank at an end");
            assert!(!words.contains("  "), "{owner}: two blanks in {words:?}");
            assert!(!words.contains('\n'), "{owner}: line break in {words:?}");
            assert!(
                words.ends_with(['.', '?', ':']),
                "{owner}: no sentence: {words:?}"
            );
        }
        assert_ne!(text.de, text.en, "{owner}: not translated");
    }

    /// Both halves of an explanation.
    pub(crate) fn check_explanation(owner: &str, meaning: &Explanation) {
        check_text(owner, meaning.cause);
        check_text(owner, meaning.remedy);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn languages_round_trip() {
        assert_eq!("de".parse(), Ok(Language::De));
        assert_eq!("EN".parse(), Ok(Language::En));
        assert_eq!("fr".parse::<Language>(), Err(UnknownLanguage));
        assert_eq!("".parse::<Language>(), Err(UnknownLanguage));
        assert_eq!(Language::De.to_string(), "de");
        assert_eq!(Language::En.to_string(), "en");
    }

    #[test]
    fn text_gives_its_language() {
        let both = text("ja", "yes");
        assert_eq!(both.get(Language::De), "ja");
        assert_eq!(both.get(Language::En), "yes");
    }
}
