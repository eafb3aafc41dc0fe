//! Document types (Belegarten): what tells an invoice from an offer, and what is different for it.

use super::ReplyTo;
use super::sender::glob;
use crate::message::header::Header;
use crate::message::rfc2047;
use crate::smtp::address::Address;

/// `[[document]]`.
#[derive(Debug)]
pub struct DocumentType {
    /// Its name, such as `invoice`.
    pub name: String,
    /// What tells it.
    pub rule: Rule,
    /// Its From, if it has one of its own.
    pub address: Option<Address>,
    /// Its sender name.
    pub sender_name: Option<String>,
    /// Where answers to it go.
    pub reply_to: Option<ReplyTo>,
    /// Who gets a copy of it.
    pub bcc: Vec<Address>,
    /// The header field that told it does not leave.
    pub removes_header: bool,
}

/// What tells a document type: everything that is set must match. Globs are in lower case, and case
/// does not matter.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// A header field, and the glob for what it says; `None`: anything.
    pub header: Option<(String, Option<String>)>,
    /// The SMTP login.
    pub login: Option<String>,
    /// The listener's name.
    pub listener: Option<String>,
    /// MAIL FROM as the application gave it.
    pub mail_from: Option<String>,
    /// The subject as a reader sees it.
    pub subject: Option<String>,
}

/// What a rule looks at.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The login, `None` without one.
    pub login: Option<&'a str>,
    /// The listener's name.
    pub listener: &'a str,
    /// MAIL FROM; `None` is the null return path.
    pub mail_from: Option<&'a Address>,
    /// The message, or at least its header section.
    pub message: &'a [u8],
    /// Its header.
    pub header: &'a Header,
}

impl Rule {
    /// Whether a message is of this type.
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        let says = |glob_text: &Option<String>, text: Option<&str>| match (glob_text, text) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(pattern), Some(text)) => glob(pattern, &text.to_lowercase()),
        };
        says(&self.login, facts.login)
            && says(&self.listener, Some(facts.listener))
            && says(
                &self.mail_from,
                Some(facts.mail_from.map_or("", Address::as_str)),
            )
            && self.header.as_ref().is_none_or(|(name, value)| {
                field_text(facts, name).is_some_and(|text| says(value, Some(&text)))
            })
            && (self.subject.is_none()
                || says(
                    &self.subject,
                    Some(&field_text(facts, "Subject").unwrap_or_default()),
                ))
    }
}

/// What a field says, as a reader sees it.
fn field_text(facts: &Facts<'_>, name: &str) -> Option<String> {
    facts
        .header
        .first(facts.message, name)
        .map(|text| rfc2047::decode_words(&text).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_condition_must_match() {
        let message =
            b"Subject: =?utf-8?Q?Rechnung_f=C3=BCr_Mai?=\r\nX-Document-Type:  Invoice \r\n\r\n";
        let header = Header::parse(message).expect("header");
        let sender = Address::parse("Faktura@erp.example").expect("address");
        let facts = Facts {
            login: Some("Pos1@acme"),
            listener: "kassen",
            mail_from: Some(&sender),
            message,
            header: &header,
        };
        let some = |text: &str| Some(text.to_owned());
        let field =
            |value: Option<&str>| Some(("x-document-type".to_owned(), value.map(str::to_owned)));
        for (rule, expected) in [
            (
                Rule {
                    header: field(Some("invoice")),
                    ..Rule::default()
                },
                true,
            ),
            (
                Rule {
                    header: field(Some("inv*")),
                    ..Rule::default()
                },
                true,
            ),
            (
                Rule {
                    header: field(None),
                    ..Rule::default()
                },
                true,
            ),
            (
                Rule {
                    header: field(Some("quote")),
                    ..Rule::default()
                },
                false,
            ),
            (
                Rule {
                    header: Some(("x-other".to_owned(), None)),
                    ..Rule::default()
                },
                false,
            ),
            (
                Rule {
                    subject: some("rechnung für*"),
                    ..Rule::default()
                },
                true,
            ),
            (
                Rule {
                    subject: some("mahnung*"),
                    ..Rule::default()
                },
                false,
            ),
            (
                Rule {
                    login: some("pos?@acme"),
                    listener: some("kassen"),
                    ..Rule::default()
                },
                true,
            ),
            (
                Rule {
                    login: some("pos?@acme"),
                    listener: some("buero"),
                    ..Rule::default()
                },
                false,
            ),
            (
                Rule {
                    mail_from: some("faktura@*"),
                    header: field(Some("invoice")),
                    ..Rule::default()
                },
                true,
            ),
        ] {
            assert_eq!(rule.matches(&facts), expected, "{rule:?}");
        }
        let nobody = Facts {
            login: None,
            mail_from: None,
            ..facts
        };
        assert!(
            !Rule {
                login: some("*"),
                ..Rule::default()
            }
            .matches(&nobody)
        );
        assert!(
            Rule {
                mail_from: some(""),
                ..Rule::default()
            }
            .matches(&nobody)
        );
    }
}
