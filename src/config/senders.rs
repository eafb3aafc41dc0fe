//! Whose sender a tenant's mail has, as the file says it: groups, document types, copies, series;
//! and the operator's support alias.

use std::sync::Arc;
use std::time::Duration;

use super::document::Section;
use crate::smtp::address::Address;
use crate::tenant::document::{DocumentType, Rule};
use crate::tenant::{Copies, Group, ReplyTo, SenderPattern, Series, Support, User};

/// Longest name of a document type: it stands in replies.
const TYPE_LIMIT: usize = 60;

/// Header fields that carry a message: none of them tells a type or a case worker, and none is
/// removed for it.
const PROTECTED: [&str; 16] = [
    "from",
    "sender",
    "to",
    "cc",
    "bcc",
    "reply-to",
    "date",
    "subject",
    "message-id",
    "received",
    "return-path",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    "content-disposition",
    "dkim-signature",
];

/// Addresses of copies. One that needs SMTPUTF8 would make everybody's message need it.
fn addresses(section: &Section<'_>, key: &str) -> Vec<Address> {
    section.list(key, |text| match Address::parse(text.trim()) {
        Ok(address) if address.needs_smtputf8() => {
            Err("write a mailbox in ASCII: not every server takes others".to_owned())
        }
        Ok(address) => Ok(address),
        Err(error) => Err(error.to_string()),
    })
}

/// The name of a header field, in lower case.
fn field_name(section: &Section<'_>, key: &str) -> Option<String> {
    let text = section.text(key)?;
    let name = text.trim().to_ascii_lowercase();
    let is_name = !name.is_empty()
        && name.len() <= 76
        && name.bytes().all(|b| (33..=126).contains(&b) && b != b':');
    if !is_name {
        section.reject(
            key,
            "the name of a header field: letters, digits and -",
            "for example \"X-Document-Type\"",
        );
        return None;
    }
    Some(name)
}

/// `[[group]]`.
pub(super) fn groups(root: &Section<'_>) -> Vec<Arc<Group>> {
    let mut groups: Vec<Arc<Group>> = Vec::new();
    for section in root.sections("group") {
        let name = section.required_text("name").unwrap_or_default();
        if groups.iter().any(|g| g.name == name) {
            section.reject(
                "name",
                "a name that no other group of this tenant has",
                "put the senders of both into one group",
            );
            continue;
        }
        let senders = section.list("senders", SenderPattern::parse);
        if senders.is_empty() {
            section.warn("senders", "it grants nothing to anybody");
        }
        warn_of_wide(&section, &senders);
        groups.push(Arc::new(Group { name, senders }));
    }
    groups
}

/// A pattern that allows every address allows the addresses of others as well.
pub(super) fn warn_of_wide(section: &Section<'_>, senders: &[SenderPattern]) {
    if senders.iter().any(SenderPattern::is_everybody) {
        section.warn(
            "senders",
            "a pattern allows every address of every domain; write *@your-domain.example",
        );
    }
}

/// Groups that no user names grant nothing but to clients without login.
pub(super) fn warn_of_unused(root: &Section<'_>, groups: &[Arc<Group>], users: &[Arc<User>]) {
    for group in groups {
        let named = users
            .iter()
            .any(|user| user.groups.iter().any(|g| Arc::ptr_eq(g, group)));
        if !named && !users.is_empty() {
            root.warn(
                "group",
                format!("no user names the group {:?} in its groups", group.name),
            );
        }
    }
}

/// The groups that a user names.
pub(super) fn groups_of(user: &Section<'_>, groups: &[Arc<Group>]) -> Vec<Arc<Group>> {
    user.list("groups", |name| {
        groups
            .iter()
            .find(|g| g.name == name)
            .map(Arc::clone)
            .ok_or_else(|| {
                let known: Vec<&str> = groups.iter().map(|g| g.name.as_str()).collect();
                if known.is_empty() {
                    "there is no [[group]] in this file; add it, or remove the name".to_owned()
                } else {
                    format!(
                        "there is no such [[group]]; there are: {}",
                        known.join(", ")
                    )
                }
            })
    })
}

/// `[[document]]`.
pub(super) fn documents(root: &Section<'_>, users: &[Arc<User>]) -> Vec<DocumentType> {
    let mut documents = Vec::new();
    for section in root.sections("document") {
        let name = section.required_text("type").unwrap_or_default();
        if name.chars().count() > TYPE_LIMIT {
            section.reject(
                "type",
                format!("at most {TYPE_LIMIT} characters"),
                "write a short name such as \"invoice\"",
            );
        }
        let rule = rule(&section);
        let removes_header = section.bool("remove_header", false);
        let document = DocumentType {
            name,
            address: section.address("address"),
            sender_name: section.text("name"),
            reply_to: section.address("reply_to").map(ReplyTo::Fixed),
            bcc: addresses(&section, "bcc"),
            removes_header,
            rule,
        };
        if removes_header {
            match &document.rule.header {
                None => section.warn("remove_header", "no header is matched, so none is removed"),
                Some((field, _)) if PROTECTED.contains(&field.as_str()) => section.reject(
                    "remove_header",
                    "true only for a field that mail can do without",
                    format!("{field} is part of every mail: match a field of your own"),
                ),
                Some(_) => {}
            }
        }
        if let Some(address) = &document.address
            && !users.is_empty()
            && !users.iter().any(|user| user.may_use(address))
        {
            section.warn("address", format!("no user may use {address}: mail of type {} is refused to every login; add it to the senders of a user or of a [[group]]", document.name));
        }
        if documents
            .iter()
            .any(|other: &DocumentType| other.rule == document.rule)
        {
            section.warn(
                "match",
                "an earlier document type matches the same; this one never applies",
            );
        }
        documents.push(document);
    }
    documents
}

fn rule(document: &Section<'_>) -> Rule {
    let section = document.section("match");
    let glob = |key: &str| section.text(key).map(|text| text.trim().to_lowercase());
    let header = field_name(&section, "header");
    if section.has("value") && !section.has("header") {
        section.reject(
            "value",
            "a value only with header",
            "add header = \"…\": the field that says it",
        );
    }
    let rule = Rule {
        header: header.map(|name| (name, glob("value"))),
        login: glob("login"),
        listener: glob("listener"),
        mail_from: glob("mail_from"),
        subject: glob("subject"),
    };
    let keys = [
        "header",
        "value",
        "login",
        "listener",
        "mail_from",
        "subject",
    ];
    if !keys.iter().any(|key| section.has(key)) {
        document.reject(
            "match",
            "at least one of header, login, listener, mail_from, subject",
            "say what tells this type, for example { subject = \"Rechnung*\" }",
        );
    }
    rule
}

/// `[copies]`.
pub(super) fn copies(section: &Section<'_>) -> Copies {
    let case_worker_header = field_name(section, "case_worker_header");
    if case_worker_header
        .as_ref()
        .is_some_and(|name| PROTECTED.contains(&name.as_str()))
    {
        section.reject(
            "case_worker_header",
            "a field of your own: it is removed",
            "for example \"X-Case-Worker\"",
        );
    }
    Copies {
        bcc: addresses(section, "bcc"),
        case_worker_header,
    }
}

/// `[series]`.
pub(super) fn series(section: &Section<'_>) -> Option<Series> {
    let series = Series {
        messages: section.integer("messages", 50),
        pause: Duration::from_millis(u64::from(section.integer("pause_ms", 2000))),
    };
    if section.is_present() && series.pause.is_zero() {
        section.warn("pause_ms", "without a pause there are no series");
    }
    Some(series).filter(|s| section.is_present() && !s.pause.is_zero())
}

/// `[support]`.
pub(super) fn support(section: &Section<'_>) -> Option<Support> {
    if !section.is_present() {
        return None;
    }
    let alias = section.required_address("alias");
    let address = section.required_address("address");
    let support = Support {
        alias: alias?,
        address: address?,
        tenant_address: section.bool("tenant_address", true),
        attaches_information: section.bool("attach_system_information", true),
    };
    if support.alias.same_mailbox(&support.address) {
        section.warn("alias", "alias and address are the same");
    }
    Some(support)
}
