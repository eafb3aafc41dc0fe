//! The ways out: an SMTP server, or files for a dry run. A transport knows what is prepared and
//! how to hand it over; it knows no tenant and no spool.

pub mod capture;
pub mod failure;
pub mod smtp;
pub mod transcript;

use std::path::PathBuf;

pub use failure::Failure;

/// A configured way out.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "one a tenant, always behind an Arc"
)]
pub enum Upstream {
    /// An SMTP server.
    Smtp(smtp::Settings),
    /// `.eml` files below this directory.
    Capture(PathBuf),
}

/// The `kind` of an upstream, as written in configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KindName {
    /// SMTP.
    Smtp,
    /// Files.
    Capture,
}

impl Upstream {
    /// The server itself, the same for all who use it.
    pub fn endpoint(&self) -> String {
        match self {
            Upstream::Capture(_) => "capture".to_owned(),
            Upstream::Smtp(settings) => format!("{}:{}", settings.host, settings.port),
        }
    }

    /// Connections at once.
    pub fn concurrency(&self) -> usize {
        match self {
            Upstream::Smtp(settings) => settings.connections,
            Upstream::Capture(_) => 4,
        }
    }

    /// Where it leads, for people: `smtp.acme.example:587`.
    pub fn describe(&self) -> String {
        match self {
            Upstream::Smtp(settings) => format!("{}:{}", settings.host, settings.port),
            Upstream::Capture(path) => format!("capture in {}", path.display()),
        }
    }

    /// Whether the provider behind it signs mail itself, so that our signature serves nothing.
    pub fn signs_itself(&self) -> bool {
        match self {
            Upstream::Smtp(settings) => {
                let host = settings.host.to_ascii_lowercase();
                [
                    "smtp.office365.com",
                    "smtp-legacy.office365.com",
                    "smtp-mail.outlook.com",
                    "smtp.gmail.com",
                    "smtp.googlemail.com",
                ]
                .contains(&host.trim_end_matches('.'))
            }
            Upstream::Capture(_) => false,
        }
    }
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
