//! The description of both configuration files: every key with its kind, default and meaning.
//! Unknown keys are found by it, messages name the allowed values from it, and `check --schema`
//! prints it as JSON Schema, so the three cannot drift apart.

mod tenant;

use serde_json::{Map, Value, json};

pub use tenant::TENANT;
use tenant::{DKIM, UPSTREAM};

use super::document::names;
use crate::smtp::data::BareNewline;

/// What a key holds.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Text on one line.
    Text,
    /// Text on several lines.
    Lines,
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Integer {
        /// Least.
        minimum: u32,
        /// Most.
        maximum: u32,
    },
    /// `"50MiB"`.
    Size,
    /// `"30s"`.
    Duration,
    /// One of some names.
    Choice(fn() -> Vec<&'static str>),
    /// A mail address.
    Address,
    /// A path.
    Path,
    /// A secret: a reference, or plain text.
    Secret,
    /// A list of texts; what each is.
    List(&'static str),
    /// `[key]`.
    Table(&'static [Field]),
    /// `[[key]]`.
    Tables(&'static [Field]),
    /// `[key.NAME]`.
    Named(&'static [Field]),
}

/// One key.
pub struct Field {
    /// Its name.
    pub key: &'static str,
    /// What it holds.
    pub kind: Kind,
    /// An example or the default, as written in TOML.
    pub sample: &'static str,
    /// What it is for.
    pub doc: &'static str,
}

impl Field {
    /// A key.
    pub const fn new(
        key: &'static str,
        kind: Kind,
        sample: &'static str,
        doc: &'static str,
    ) -> Self {
        Self {
            key,
            kind,
            sample,
            doc,
        }
    }

    /// A line that would be right.
    pub fn example(&self) -> String {
        if self.sample.is_empty() {
            String::new()
        } else {
            format!("for example {} = {}", self.key, self.sample)
        }
    }
}

impl Kind {
    /// The allowed values in words.
    pub fn allowed(&self) -> String {
        match self {
            Kind::Text => "text in quotes".to_owned(),
            Kind::Lines => "text in quotes, on several lines in three".to_owned(),
            Kind::Bool => "true, false".to_owned(),
            Kind::Integer { minimum, maximum } => format!("a whole number from {minimum} to {maximum}"),
            Kind::Size => "a size with its unit: \"64KiB\", \"50MiB\", \"2GiB\"".to_owned(),
            Kind::Duration => "a time with its unit: \"500ms\", \"30s\", \"10m\", \"4h\", \"5d\"".to_owned(),
            Kind::Choice(names) => names().join(", "),
            Kind::Address => "a mail address such as \"office@acme.example\"".to_owned(),
            Kind::Path => "a path in quotes".to_owned(),
            Kind::Secret => "{ vault = \"name\" }, { file = \"path\" }, { env = \"VAR\" }, { credential = \"name\" } or text in quotes".to_owned(),
            Kind::List(what) => format!("a list of {what}: [\"…\", \"…\"]"),
            Kind::Table(_) | Kind::Named(_) => "a table".to_owned(),
            Kind::Tables(_) => "a list of tables: [[…]]".to_owned(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Kind::Text | Kind::Lines | Kind::Path => json!({"type": "string"}),
            Kind::Bool => json!({"type": "boolean"}),
            Kind::Integer { minimum, maximum } => {
                json!({"type": "integer", "minimum": minimum, "maximum": maximum})
            }
            Kind::Size => {
                json!({"type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|TiB|kB|KB|MB|GB)$"})
            }
            Kind::Duration => json!({"type": "string", "pattern": "^[0-9]+ *(ms|s|m|min|h|d)$"}),
            Kind::Choice(names) => json!({"type": "string", "enum": names()}),
            Kind::Address => json!({"type": "string", "format": "idn-email"}),
            Kind::Secret => {
                let one = |key: &str| json!({"type": "object", "properties": {key: {"type": "string", "minLength": 1}}, "required": [key], "additionalProperties": false});
                json!({"oneOf": [{"type": "string"}, one("vault"), one("file"), one("env"), one("credential")]})
            }
            Kind::List(_) => json!({"type": "array", "items": {"type": "string"}}),
            Kind::Table(fields) => table_json(fields),
            Kind::Tables(fields) => json!({"type": "array", "items": table_json(fields)}),
            Kind::Named(fields) => {
                json!({"type": "object", "patternProperties": {"^[a-z0-9-]{1,63}$": table_json(fields)}, "additionalProperties": false})
            }
        }
    }
}

fn table_json(fields: &[Field]) -> Value {
    let mut properties = Map::new();
    for field in fields {
        let mut value = field.kind.json();
        if let Value::Object(object) = &mut value {
            object.insert("description".to_owned(), json!(field.doc));
        }
        properties.insert(field.key.to_owned(), value);
    }
    json!({"type": "object", "properties": properties, "additionalProperties": false})
}

/// JSON Schema of the operator's file.
pub fn operator_json() -> Value {
    document_json("postbote.toml", OPERATOR, &[])
}

/// JSON Schema of a tenant's file.
pub fn tenant_json() -> Value {
    document_json("tenants/ID.toml", TENANT, &["name", "email"])
}

fn document_json(title: &str, fields: &[Field], required: &[&str]) -> Value {
    let mut value = table_json(fields);
    if let Value::Object(object) = &mut value {
        object.insert(
            "$schema".to_owned(),
            json!("https://json-schema.org/draft/2020-12/schema"),
        );
        object.insert("title".to_owned(), json!(title));
        object.insert("required".to_owned(), json!(required));
    }
    value
}

/// The known key that was probably meant: at most two letters away.
pub fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    known
        .iter()
        .map(|k| (distance(key, k), *k))
        .filter(|(d, k)| *d <= 2 && *d < k.len())
        .min()
        .map(|(_, k)| k)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().take(64).enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let change = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

const fn f(key: &'static str, kind: Kind, sample: &'static str, doc: &'static str) -> Field {
    Field::new(key, kind, sample, doc)
}

const fn count(minimum: u32, maximum: u32) -> Kind {
    Kind::Integer { minimum, maximum }
}

/// The operator's file.
pub static OPERATOR: &[Field] = &[
    f(
        "server",
        Kind::Table(SERVER),
        "",
        "What holds for the whole installation.",
    ),
    f(
        "listener",
        Kind::Tables(LISTENER),
        "",
        "Where applications hand in mail.",
    ),
    f(
        "admin",
        Kind::Table(ADMIN),
        "",
        "The admin address: health, metrics.",
    ),
    f(
        "system",
        Kind::Table(SYSTEM),
        "",
        "The system relay, used for tenants as the operator allows.",
    ),
    f(
        "tenant_defaults",
        Kind::Table(POLICY),
        "",
        "What the operator allows every tenant.",
    ),
    f(
        "tenants",
        Kind::Named(POLICY),
        "",
        "What the operator allows one tenant.",
    ),
    f(
        "support",
        Kind::Table(SUPPORT),
        "",
        "Mail to the alias goes to support.",
    ),
    f(
        "retry",
        Kind::Table(RETRY),
        "",
        "When and how long delivery is tried.",
    ),
    f(
        "duplicates",
        Kind::Table(DUPLICATES),
        "",
        "The guard against mail handed in twice.",
    ),
    f(
        "history",
        Kind::Table(HISTORY),
        "",
        "What became of each message.",
    ),
    f("spool", Kind::Table(SPOOL), "", "Where mail waits."),
    f(
        "vault",
        Kind::Table(VAULT),
        "",
        "The encrypted store of secrets.",
    ),
];

static SERVER: &[Field] = &[
    f(
        "hostname",
        Kind::Text,
        "\"kasse.example.net\"",
        "Our name in EHLO, Received and Message-ID; default: the machine's name.",
    ),
    f(
        "data_dir",
        Kind::Path,
        "\"/var/lib/postbote\"",
        "Spool, vault, captured mail, self-signed certificate.",
    ),
    f(
        "tenants_dir",
        Kind::Path,
        "\"tenants\"",
        "The tenants' files, relative to this file.",
    ),
    f(
        "language",
        Kind::Choice(names::<super::Language>),
        "\"de\"",
        "Language of notices and explanations.",
    ),
    f(
        "sending",
        Kind::Choice(names::<super::Sending>),
        "\"on\"",
        "The master switch: on, hold (accept and keep), off (refuse).",
    ),
    f(
        "max_message_size",
        Kind::Size,
        "\"50MiB\"",
        "Largest message.",
    ),
    f(
        "max_recipients",
        count(1, 100_000),
        "500",
        "Most recipients of one message.",
    ),
    f(
        "spool_limit",
        Kind::Size,
        "\"2GiB\"",
        "Most octets of waiting mail; beyond it 452 4.3.1.",
    ),
    f(
        "drain",
        Kind::Duration,
        "\"30s\"",
        "How long a shutdown waits for running deliveries.",
    ),
];

static LISTENER: &[Field] = &[
    f(
        "name",
        Kind::Text,
        "\"kassen\"",
        "Its name in logs; default: the address.",
    ),
    f(
        "address",
        Kind::Text,
        "\"127.0.0.1:2525\"",
        "IP:port, unix:PATH or systemd:NAME.",
    ),
    f(
        "tls",
        Kind::Choice(names::<crate::submission::TlsMode>),
        "\"starttls\"",
        "Encryption towards applications.",
    ),
    f(
        "certificate",
        Kind::Path,
        "\"certs/server.pem\"",
        "Certificate chain in PEM; without it a self-signed one is made.",
    ),
    f(
        "key",
        Kind::Path,
        "\"certs/server.key\"",
        "Its private key in PEM.",
    ),
    f(
        "auth",
        Kind::Choice(names::<crate::submission::AuthMode>),
        "\"optional\"",
        "Whether applications log in.",
    ),
    f(
        "plaintext_auth",
        Kind::Choice(names::<crate::submission::PlaintextAuth>),
        "\"loopback\"",
        "Where a login may go unencrypted.",
    ),
    f(
        "tenant",
        Kind::Text,
        "\"acme\"",
        "Mail without login here belongs to this tenant.",
    ),
    f(
        "networks",
        Kind::List("networks such as \"10.0.0.0/8\""),
        "[\"127.0.0.0/8\", \"::1/128\"]",
        "Who may connect.",
    ),
    f(
        "bare_newline",
        Kind::Choice(names::<BareNewline>),
        "\"normalize\"",
        "What becomes of bare line ends.",
    ),
    f(
        "answer",
        Kind::Choice(names::<crate::submission::Answer>),
        "\"queued\"",
        "250 once durable, or after the upstream's verdict.",
    ),
    f(
        "answer_within",
        Kind::Duration,
        "\"20s\"",
        "How long `relayed` waits for the verdict.",
    ),
    f(
        "legacy_auth_line",
        Kind::Bool,
        "false",
        "EHLO also says AUTH=LOGIN PLAIN.",
    ),
    f(
        "max_connections",
        count(1, 100_000),
        "200",
        "Most connections at once.",
    ),
];

static ADMIN: &[Field] = &[
    f(
        "address",
        Kind::Text,
        "\"127.0.0.1:8025\"",
        "IP:port of the admin address.",
    ),
    f(
        "token",
        Kind::Secret,
        "{ file = \"/run/secrets/admin\" }",
        "Bearer token; without it one is made in the data directory.",
    ),
];

static SYSTEM: &[Field] = &[
    f(
        "email",
        Kind::Address,
        "\"noreply@provider.example\"",
        "The system's own address: From and return path.",
    ),
    f(
        "name",
        Kind::Text,
        "\"Provider\"",
        "The system's sender name.",
    ),
    f(
        "sender",
        Kind::Choice(names::<crate::tenant::SystemSender>),
        "\"system\"",
        "From becomes the system's, or stays the tenant's.",
    ),
    f(
        "required",
        Kind::Bool,
        "false",
        "Without a working system relay no tenant may send.",
    ),
    f(
        "upstream",
        Kind::Table(UPSTREAM),
        "",
        "The system relay's server.",
    ),
    f(
        "dkim",
        Kind::Tables(DKIM),
        "",
        "Signatures for the system's domain.",
    ),
];

static POLICY: &[Field] = &[
    f(
        "own_upstream",
        Kind::Bool,
        "true",
        "Whether a tenant may use its own upstream.",
    ),
    f(
        "system_relay",
        Kind::Choice(names::<crate::tenant::SystemRelay>),
        "\"never\"",
        "When the system relay may be used.",
    ),
    f(
        "fallback_after",
        Kind::Duration,
        "\"10m\"",
        "How long the own upstream must have failed before on-failure.",
    ),
];

static SUPPORT: &[Field] = &[
    f(
        "alias",
        Kind::Address,
        "\"support@postbote.local\"",
        "A recipient that every tenant may use.",
    ),
    f(
        "address",
        Kind::Address,
        "\"support@provider.example\"",
        "Where its mail goes.",
    ),
    f(
        "tenant_address",
        Kind::Bool,
        "true",
        "A tenant may name its own: support_address.",
    ),
    f(
        "attach_system_information",
        Kind::Bool,
        "true",
        "Version, tenant, route and its last error as a text attachment.",
    ),
];

static RETRY: &[Field] = &[
    f(
        "first",
        Kind::Duration,
        "\"1m\"",
        "Time to the first retry.",
    ),
    f(
        "maximum",
        Kind::Duration,
        "\"1h\"",
        "Longest time between retries.",
    ),
    f("give_up_after", Kind::Duration, "\"5d\"", "Then a bounce."),
    f(
        "warn_after",
        Kind::Duration,
        "\"4h\"",
        "Then a delay notice to the return path; \"0s\": none.",
    ),
    f(
        "uncertain",
        Kind::Choice(names::<crate::delivery::Uncertain>),
        "\"retry\"",
        "What becomes of mail whose final answer was lost.",
    ),
];

static DUPLICATES: &[Field] = &[f(
    "window",
    Kind::Duration,
    "\"10m\"",
    "How long a repeat after a lost answer is recognised; \"0s\": off.",
)];

static HISTORY: &[Field] = &[f(
    "keep",
    Kind::Duration,
    "\"30d\"",
    "How long the history is kept.",
)];

static SPOOL: &[Field] = &[f(
    "store",
    Kind::Choice(names::<super::Store>),
    "\"embedded\"",
    "Where mail waits.",
)];

static VAULT: &[Field] = &[f(
    "key",
    Kind::Secret,
    "{ credential = \"vault-key\" }",
    "The vault's key; without it one is made in the data directory.",
)];
