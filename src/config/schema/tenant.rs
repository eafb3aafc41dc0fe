//! A tenant's file.

use super::{Field, Kind, count, f};
use crate::config::document::names;

/// A tenant's file.
pub static TENANT: &[Field] = &[
    f(
        "name",
        Kind::Text,
        "\"ACME GmbH\"",
        "The tenant's name, default sender name.",
    ),
    f(
        "email",
        Kind::Address,
        "\"office@acme.example\"",
        "Default From, Reply-To and return path.",
    ),
    f(
        "language",
        Kind::Choice(names::<crate::config::Language>),
        "\"de\"",
        "Language of notices to this tenant.",
    ),
    f(
        "networks",
        Kind::List("networks such as \"10.8.0.0/16\""),
        "[\"10.8.0.0/16\"]",
        "Clients without login from here are this tenant's.",
    ),
    f(
        "support_address",
        Kind::Address,
        "\"it@acme.example\"",
        "The tenant's own support address.",
    ),
    f(
        "upstream",
        Kind::Table(UPSTREAM),
        "",
        "The tenant's own server; without it the system relay, if allowed.",
    ),
    f(
        "sender",
        Kind::Table(SENDER),
        "",
        "The sender of the tenant's mail.",
    ),
    f("user", Kind::Tables(USER), "", "SMTP logins."),
    f(
        "group",
        Kind::Tables(GROUP),
        "",
        "Senders that several users share.",
    ),
    f(
        "document",
        Kind::Tables(DOCUMENT),
        "",
        "Document types with senders of their own; the first that matches wins.",
    ),
    f("copies", Kind::Table(COPIES), "", "Who gets a copy."),
    f(
        "series",
        Kind::Table(SERIES),
        "",
        "Serial mail in portions with pauses.",
    ),
    f("dkim", Kind::Tables(DKIM), "", "DKIM signatures."),
    f("notices", Kind::Table(NOTICES), "", "Who hears of trouble."),
];

pub(super) static UPSTREAM: &[Field] = &[
    f(
        "kind",
        Kind::Choice(names::<crate::transport::KindName>),
        "\"smtp\"",
        "How mail leaves; graph: Microsoft Graph, gmail: Gmail API, capture: .eml files (a dry run).",
    ),
    f(
        "host",
        Kind::Text,
        "\"smtp.acme.example\"",
        "The server's name.",
    ),
    f(
        "encryption",
        Kind::Choice(names::<crate::transport::smtp::Encryption>),
        "\"starttls\"",
        "Never weaker than said.",
    ),
    f(
        "port",
        count(1, 65_535),
        "587",
        "Default by encryption: 25, 587, 465.",
    ),
    f(
        "authentication",
        Kind::Choice(names::<crate::transport::smtp::Authentication>),
        "\"auto\"",
        "How to log in.",
    ),
    f(
        "username",
        Kind::Text,
        "\"office@acme.example\"",
        "The login.",
    ),
    f(
        "password",
        Kind::Secret,
        "{ vault = \"acme-smtp\" }",
        "Its password.",
    ),
    f(
        "certificate",
        Kind::Choice(names::<crate::transport::smtp::CertificateName>),
        "\"verify\"",
        "How the server's certificate is checked.",
    ),
    f(
        "pins",
        Kind::List("pins such as \"sha256/…\""),
        "[\"sha256/…\"]",
        "For pinned: SHA-256 of the SubjectPublicKeyInfo, base64.",
    ),
    f(
        "ca_file",
        Kind::Path,
        "\"certs/acme-ca.pem\"",
        "A certificate authority that is trusted as well.",
    ),
    f(
        "client_certificate",
        Kind::Path,
        "\"certs/client.pem\"",
        "Our certificate for mutual TLS.",
    ),
    f(
        "client_key",
        Kind::Secret,
        "{ vault = \"client-key\" }",
        "Its key in PEM.",
    ),
    f(
        "insecure_password",
        Kind::Bool,
        "false",
        "Allows a password without encryption to another host.",
    ),
    f(
        "helo",
        Kind::Text,
        "\"kasse.acme.example\"",
        "Our name in EHLO; default: server.hostname.",
    ),
    f(
        "utf8_headers",
        Kind::Choice(names::<crate::transport::smtp::Utf8Headers>),
        "\"auto\"",
        "Whether headers may be raw UTF-8 (RFC 6532).",
    ),
    f("connections", count(1, 1000), "2", "Connections at once."),
    f(
        "messages_per_connection",
        count(1, 100_000),
        "100",
        "Then a new connection.",
    ),
    f(
        "oauth",
        Kind::Table(OAUTH),
        "",
        "For graph, gmail, and authentication xoauth2 or oauthbearer.",
    ),
];

static OAUTH: &[Field] = &[
    f(
        "provider",
        Kind::Choice(names::<crate::oauth::Provider>),
        "\"microsoft\"",
        "Whose mailbox it is.",
    ),
    f(
        "grant",
        Kind::Choice(names::<crate::oauth::Grant>),
        "\"client-credentials\"",
        "How tokens are had; default: a person consents in the browser.",
    ),
    f(
        "directory_id",
        Kind::Text,
        "\"contoso.onmicrosoft.com\"",
        "Microsoft: the directory (tenant) id.",
    ),
    f(
        "client_id",
        Kind::Text,
        "\"11111111-2222-3333-4444-555555555555\"",
        "The application (client) id.",
    ),
    f(
        "client_secret",
        Kind::Secret,
        "{ vault = \"acme-graph\" }",
        "The application's secret (its value, not its id).",
    ),
    f(
        "client_certificate",
        Kind::Path,
        "\"certs/graph.pem\"",
        "Instead of a secret: the application's certificate.",
    ),
    f(
        "client_key",
        Kind::Secret,
        "{ file = \"certs/graph.key\" }",
        "Its key in PEM.",
    ),
    f(
        "service_account",
        Kind::Secret,
        "{ file = \"service-account.json\" }",
        "Google: the key file of a service account.",
    ),
    f(
        "refresh_token",
        Kind::Secret,
        "{ vault = \"acme-refresh\" }",
        "For grant refresh-token.",
    ),
    f(
        "mailbox",
        Kind::Text,
        "\"office@acme.example\"",
        "Whose mailbox sends; default: username, else email.",
    ),
    f(
        "scopes",
        Kind::List("scopes"),
        "[\"https://outlook.office.com/SMTP.Send\"]",
        "What is asked for; default by provider and kind.",
    ),
    f(
        "authorize_url",
        Kind::Text,
        "\"https://login.example/authorize\"",
        "Where a person consents; default by provider.",
    ),
    f(
        "token_url",
        Kind::Text,
        "\"https://login.example/token\"",
        "Where tokens come from; default by provider.",
    ),
    f(
        "device_url",
        Kind::Text,
        "\"https://login.example/device\"",
        "Where device codes come from; default by provider.",
    ),
    f(
        "api_url",
        Kind::Text,
        "\"https://graph.microsoft.us\"",
        "The root of Graph or the Gmail API without version; default: worldwide.",
    ),
];

static SENDER: &[Field] = &[
    f(
        "address",
        Kind::Address,
        "\"rechnung@acme.example\"",
        "From; default: email.",
    ),
    f(
        "name",
        Kind::Text,
        "\"ACME Buchhaltung\"",
        "Sender name; default: name.",
    ),
    f(
        "reply_to",
        Kind::Text,
        "\"office@acme.example\"",
        "Always this Reply-To; \"original\": the application's From.",
    ),
    f(
        "return_path",
        Kind::Address,
        "\"bounces@acme.example\"",
        "MAIL FROM; default: the From address.",
    ),
    f(
        "application_from",
        Kind::Choice(names::<crate::tenant::ApplicationFrom>),
        "\"replace\"",
        "What becomes of the application's From.",
    ),
];

static USER: &[Field] = &[
    f(
        "login",
        Kind::Text,
        "\"pos1@acme\"",
        "The login, unique over all tenants.",
    ),
    f(
        "password",
        Kind::Secret,
        "{ vault = \"pos1\" }",
        "An Argon2 hash, or a secret.",
    ),
    f("name", Kind::Text, "\"Kasse 1\"", "The user's name."),
    f(
        "email",
        Kind::Address,
        "\"kasse1@acme.example\"",
        "The user's own address, always allowed to it.",
    ),
    f(
        "senders",
        Kind::List("addresses or patterns such as \"*@shop.acme.example\""),
        "[\"kasse@acme.example\"]",
        "Further senders it may use.",
    ),
    f(
        "groups",
        Kind::List("names of [[group]]"),
        "[\"verkauf\"]",
        "Groups whose senders it may use as well.",
    ),
    f(
        "use_own_sender",
        Kind::Bool,
        "false",
        "Where no document type sets one, the sender is the user.",
    ),
    f(
        "signature",
        Kind::Lines,
        "\"Mit freundlichen Grüßen\"",
        "Added to text and HTML when use_own_sender applies.",
    ),
];

static GROUP: &[Field] = &[
    f("name", Kind::Text, "\"verkauf\"", "Its name."),
    f(
        "senders",
        Kind::List("addresses or patterns such as \"*@shop.acme.example\""),
        "[\"angebot@acme.example\"]",
        "What its users may send as.",
    ),
];

static DOCUMENT: &[Field] = &[
    f(
        "type",
        Kind::Text,
        "\"invoice\"",
        "quote, order, invoice, dunning, receipt, or a name of your own.",
    ),
    f(
        "match",
        Kind::Table(MATCH),
        "{ header = \"X-Document-Type\", value = \"invoice\" }",
        "What tells it; of several keys all must match.",
    ),
    f(
        "address",
        Kind::Address,
        "\"rechnung@acme.example\"",
        "Its From; must be granted to the user.",
    ),
    f(
        "name",
        Kind::Text,
        "\"ACME Rechnungen\"",
        "Its sender name.",
    ),
    f(
        "reply_to",
        Kind::Address,
        "\"buchhaltung@acme.example\"",
        "Where answers to it go.",
    ),
    f(
        "bcc",
        Kind::List("mail addresses"),
        "[\"belege@acme.example\"]",
        "Who gets a copy, in the envelope only.",
    ),
    f(
        "remove_header",
        Kind::Bool,
        "false",
        "Whether the header that told it leaves with the mail, or is removed.",
    ),
];

static MATCH: &[Field] = &[
    f(
        "header",
        Kind::Text,
        "\"X-Document-Type\"",
        "A header field that must be there.",
    ),
    f(
        "value",
        Kind::Text,
        "\"invoice\"",
        "What it must say (glob); without: anything.",
    ),
    f("login", Kind::Text, "\"pos*\"", "The SMTP login (glob)."),
    f(
        "listener",
        Kind::Text,
        "\"kassen\"",
        "The listener's name (glob).",
    ),
    f(
        "mail_from",
        Kind::Text,
        "\"faktura@*\"",
        "MAIL FROM as the application gave it (glob).",
    ),
    f(
        "subject",
        Kind::Text,
        "\"Rechnung*\"",
        "The subject as a reader sees it (glob).",
    ),
];

static COPIES: &[Field] = &[
    f(
        "bcc",
        Kind::List("mail addresses"),
        "[\"archiv@acme.example\"]",
        "Who gets a copy of every message, in the envelope only.",
    ),
    f(
        "case_worker_header",
        Kind::Text,
        "\"X-Case-Worker\"",
        "Its address is added as Cc; the header is removed.",
    ),
];

static SERIES: &[Field] = &[
    f(
        "messages",
        count(1, 1_000_000),
        "50",
        "Messages in a row, then a pause.",
    ),
    f(
        "pause_ms",
        count(0, 86_400_000),
        "2000",
        "The pause, milliseconds.",
    ),
];

pub(super) static DKIM: &[Field] = &[
    f("domain", Kind::Text, "\"acme.example\"", "d="),
    f("selector", Kind::Text, "\"pb1\"", "s="),
    f(
        "key",
        Kind::Secret,
        "{ vault = \"acme-dkim-pb1\" }",
        "PKCS#1, PKCS#8, or base64 of the raw Ed25519 seed.",
    ),
    f(
        "when",
        Kind::Choice(names::<crate::prepare::dkim::When>),
        "\"auto\"",
        "auto: not where the provider signs itself; always.",
    ),
];

static NOTICES: &[Field] = &[f(
    "to",
    Kind::List("mail addresses"),
    "[\"edv@acme.example\"]",
    "Default: email.",
)];
