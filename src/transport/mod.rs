//! The ways out: an SMTP server, Microsoft Graph, the Gmail API, or files for a dry run. A transport knows what is prepared and
//! how to hand it over; it knows no tenant and no spool.

mod api;
pub mod capture;
pub mod failure;
pub mod gmail;
pub mod graph;
pub mod smtp;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use failure::Failure;

use crate::net::Net;
use crate::oauth::Tokens;
use crate::smtp::capabilities::Capabilities;
use crate::vault::Secrets;

/// What every conversation needs besides its settings.
#[derive(Clone)]
pub struct Context {
    /// Authorities and transcript.
    pub net: Net,
    /// Where passwords are.
    pub secrets: Secrets,
    /// Our name in EHLO.
    pub hostname: String,
    /// What our own greeting says, to recognise ourselves.
    pub instance: String,
    /// Patience.
    pub timeouts: Timeouts,
    /// OAuth tokens.
    pub tokens: Tokens,
    /// Drafts on their way.
    pub drafts: graph::Drafts,
}

/// Time-outs of one conversation, each named (RFC 5321 section 4.5.3.2).
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Name look-up.
    pub resolve: Duration,
    /// TCP connection, each address.
    pub connect: Duration,
    /// TLS handshake.
    pub handshake: Duration,
    /// Greeting.
    pub greeting: Duration,
    /// Any command's whole reply.
    pub command: Duration,
    /// The reply to DATA.
    pub data: Duration,
    /// Progress while sending content.
    pub transfer: Duration,
    /// The reply to the final dot.
    pub final_dot: Duration,
}

impl Timeouts {
    /// Those of the way to a server.
    pub fn patience(self) -> crate::net::Patience {
        crate::net::Patience {
            resolve: self.resolve,
            connect: self.connect,
            handshake: self.handshake,
        }
    }

    /// For delivery: patient, as the standard asks.
    pub const DELIVERY: Self = Self {
        resolve: Duration::from_secs(30),
        connect: Duration::from_secs(30),
        handshake: Duration::from_secs(30),
        greeting: Duration::from_secs(300),
        command: Duration::from_secs(300),
        data: Duration::from_secs(120),
        transfer: Duration::from_secs(180),
        final_dot: Duration::from_secs(600),
    };
    /// For `test`, where somebody is waiting.
    pub const TEST: Self = Self {
        resolve: Duration::from_secs(10),
        connect: Duration::from_secs(10),
        handshake: Duration::from_secs(15),
        greeting: Duration::from_secs(30),
        command: Duration::from_secs(60),
        data: Duration::from_secs(60),
        transfer: Duration::from_secs(60),
        final_dot: Duration::from_secs(120),
    };
}

/// A configured way out.
#[derive(Debug)]
pub enum Upstream {
    /// An SMTP server.
    Smtp(smtp::Settings),
    /// Microsoft Graph.
    Graph(graph::Settings),
    /// The Gmail API.
    Gmail(gmail::Settings),
    /// `.eml` files below this directory.
    Capture(PathBuf),
}

/// The `kind` of an upstream, as written in configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindName {
    /// SMTP.
    Smtp,
    /// Microsoft Graph.
    Graph,
    /// The Gmail API.
    Gmail,
    /// Files.
    Capture,
}

impl Upstream {
    /// The server itself, the same for all who use it.
    pub fn endpoint(&self) -> String {
        match self {
            Upstream::Capture(_) => "capture".to_owned(),
            Upstream::Smtp(settings) => format!("{}:{}", settings.host, settings.port),
            Upstream::Graph(settings) => settings.api_url.authority(),
            Upstream::Gmail(settings) => settings.api_url.authority(),
        }
    }

    /// Its tokens, where it takes any.
    pub fn oauth(&self) -> Option<&Arc<crate::oauth::Settings>> {
        match self {
            Upstream::Smtp(settings) => settings.oauth.as_ref(),
            Upstream::Graph(settings) => Some(&settings.oauth),
            Upstream::Gmail(settings) => Some(&settings.oauth),
            Upstream::Capture(_) => None,
        }
    }

    /// The name that mail is sent under: the login, or the mailbox of a token.
    pub fn login(&self) -> Option<&str> {
        match self {
            Upstream::Smtp(settings) => settings.username.as_deref(),
            Upstream::Graph(_) | Upstream::Gmail(_) => self.oauth().map(|o| o.mailbox.as_str()),
            Upstream::Capture(_) => None,
        }
    }

    /// An explanation with this upstream's own ids in their places.
    pub fn fill(&self, text: &str) -> String {
        match self.oauth() {
            Some(oauth) => oauth.fill(text),
            None => text.to_owned(),
        }
    }

    /// Messages in any 60 seconds, where the provider sets a limit.
    pub fn per_minute(&self) -> Option<usize> {
        match self {
            Upstream::Smtp(settings) if is_one_of(&settings.host, &MICROSOFT) => {
                Some(graph::PER_MINUTE)
            }
            Upstream::Smtp(settings)
                if settings
                    .oauth
                    .as_ref()
                    .is_some_and(|o| o.provider == crate::oauth::Provider::Microsoft)
                    && !settings.is_loopback() =>
            {
                Some(graph::PER_MINUTE)
            }
            Upstream::Graph(_) => Some(graph::PER_MINUTE),
            Upstream::Gmail(_) => Some(gmail::PER_MINUTE),
            Upstream::Smtp(_) | Upstream::Capture(_) => None,
        }
    }

    /// Whether its recipients are those of the header: an API that knows no envelope.
    pub fn takes_recipients_from_header(&self) -> bool {
        match self {
            Upstream::Graph(_) | Upstream::Gmail(_) => true,
            Upstream::Smtp(_) | Upstream::Capture(_) => false,
        }
    }

    /// What it takes as far as is known before it is asked: an API never says.
    pub fn api_capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::unlimited();
        match self {
            Upstream::Graph(_) => capabilities.smtputf8 = false,
            Upstream::Gmail(_) => capabilities.size = Some(gmail::SIZE_LIMIT),
            Upstream::Smtp(_) | Upstream::Capture(_) => {}
        }
        capabilities
    }

    /// Connections at once.
    pub fn concurrency(&self) -> usize {
        match self {
            Upstream::Smtp(settings) => settings.connections,
            Upstream::Graph(settings) => settings.connections,
            Upstream::Gmail(settings) => settings.connections,
            Upstream::Capture(_) => 4,
        }
    }

    /// Where it leads, for people: `smtp.acme.example:587`.
    pub fn describe(&self) -> String {
        match self {
            Upstream::Smtp(settings) => format!("{}:{}", settings.host, settings.port),
            Upstream::Graph(settings) => {
                format!("Microsoft Graph at {}", settings.api_url.origin())
            }
            Upstream::Gmail(settings) => format!("Gmail API at {}", settings.api_url.origin()),
            Upstream::Capture(path) => format!("capture in {}", path.display()),
        }
    }

    /// Whether the provider behind it signs mail itself, so that our signature serves nothing.
    pub fn signs_itself(&self) -> bool {
        self.is_microsoft_or_google()
    }

    /// Whether its provider counts a message as its recipients.
    pub fn counts_recipients(&self) -> bool {
        self.is_microsoft_or_google()
    }

    fn is_microsoft_or_google(&self) -> bool {
        match self {
            Upstream::Smtp(settings) => {
                let by_name =
                    is_one_of(&settings.host, &MICROSOFT) || is_one_of(&settings.host, &GOOGLE);
                by_name
                    || settings
                        .oauth
                        .as_ref()
                        .is_some_and(|oauth| oauth.provider != crate::oauth::Provider::Custom)
            }
            Upstream::Graph(_) | Upstream::Gmail(_) => true,
            Upstream::Capture(_) => false,
        }
    }
}

/// Submission servers of Exchange Online.
const MICROSOFT: [&str; 4] = [
    "smtp.office365.com",
    "smtp-legacy.office365.com",
    "smtp-mail.outlook.com",
    "smtp.partner.outlook.cn",
];
/// Those of Google.
const GOOGLE: [&str; 2] = ["smtp.gmail.com", "smtp.googlemail.com"];

fn is_one_of(host: &str, names: &[&str]) -> bool {
    let host = host.trim_end_matches('.');
    names.iter().any(|name| host.eq_ignore_ascii_case(name))
}

/// What became of one recipient on a transport.
#[derive(Debug, Clone)]
pub struct RecipientResult {
    /// Its index in the stored envelope.
    pub index: usize,
    /// The server's words when it was taken, or why it was not.
    pub result: Result<Accepted, Failure>,
}

/// An upstream's yes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// The server that said it.
    pub relay: String,
    /// What it said.
    pub reply: String,
}
