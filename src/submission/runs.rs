//! Single mail and runs: a receipt that somebody waits for is not to stand behind 5,000 newsletters.
//!
//! A *run* is what one client (login, listener, address, MAIL FROM) hands in for one tenant with less
//! than [`QUIET`] between two messages. Its first [`SINGLES`] messages, and whatever comes after a
//! quiet time, is single mail; the rest is serial mail. Return paths that are made for each recipient
//! (VERP) count as one. Only tenants with `[series]` are looked at.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash as _, Hasher as _, RandomState};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::message::TenantId;
use crate::message::header::Header;
use crate::prepare::Origin;
use crate::smtp::address::Address;

/// So long nothing came: what comes next is no part of the run.
pub const QUIET: Duration = Duration::from_secs(1);
/// Messages of a run that pass as single mail.
pub const SINGLES: u32 = 5;
/// Clients that are remembered; more have to begin anew.
const CLIENTS_LIMIT: usize = 10_000;

/// The runs that go on.
#[derive(Debug, Default)]
pub struct Runs {
    hasher: RandomState,
    clients: Mutex<HashMap<u64, (Instant, u32)>>,
}

impl Runs {
    /// Whether a message that comes now is single mail.
    pub fn is_single(
        &self,
        tenant: &TenantId,
        origin: &Origin,
        mail_from: Option<&Address>,
    ) -> bool {
        let mut hasher = self.hasher.build_hasher();
        (tenant.as_str(), &origin.login, &origin.listener).hash(&mut hasher);
        (&origin.peer, mail_from.map(stem)).hash(&mut hasher);
        self.counts(hasher.finish(), Instant::now()) <= SINGLES
    }

    /// How many messages the client's run has with this one.
    fn counts(&self, client: u64, now: Instant) -> u32 {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        if clients.len() >= CLIENTS_LIMIT && !clients.contains_key(&client) {
            clients.retain(|_, (last, _)| now.saturating_duration_since(*last) < QUIET);
            if clients.len() >= CLIENTS_LIMIT {
                clients.clear();
            }
        }
        let (last, count) = clients.entry(client).or_insert((now, 0));
        if now.saturating_duration_since(*last) >= QUIET {
            *count = 0;
        }
        *last = now;
        *count = count.saturating_add(1);
        *count
    }
}

/// What return paths of one mailing have in common: `bounce-4711=max=else.example@news.example` is
/// made for one recipient, of which `bounce@news.example` is left.
fn stem(mail_from: &Address) -> (&str, &str) {
    let local = mail_from.local();
    let letters = local
        .find(|c: char| !c.is_alphabetic())
        .filter(|at| *at > 0);
    (&local[..letters.unwrap_or(local.len())], mail_from.domain())
}

/// Whether a message says of itself that it is serial mail.
pub fn names_itself_bulk(message: &[u8], header: &Header) -> bool {
    let precedence = header
        .first(message, "Precedence")
        .unwrap_or_default()
        .to_lowercase();
    matches!(precedence.as_str(), "bulk" | "list" | "junk")
        || ["List-Id", "List-Unsubscribe"]
            .iter()
            .any(|name| header.count(message, name) > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_ends_with_a_quiet_time() {
        let runs = Runs::default();
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let counts: Vec<u32> = [0, 10, 900, 1800, 2700, 3600, 4700, 4800]
            .iter()
            .map(|ms| runs.counts(1, at(*ms)))
            .collect();
        assert_eq!(counts, [1, 2, 3, 4, 5, 6, 1, 2]);
        assert_eq!(runs.counts(2, at(4800)), 1, "another client");
    }

    #[test]
    fn return_paths_of_one_mailing_are_one() {
        let stem_of = |text: &str| {
            let address = Address::parse(text).expect(text);
            let (local, domain) = stem(&address);
            format!("{local}@{domain}")
        };
        for (text, expected) in [
            (
                "bounce-4711=max=else.example@news.example",
                "bounce@news.example",
            ),
            ("news+17@news.example", "news@news.example"),
            ("office@acme.example", "office@acme.example"),
            ("4711@acme.example", "4711@acme.example"),
        ] {
            assert_eq!(stem_of(text), expected);
        }
    }

    #[test]
    fn bulk_says_so() {
        for (text, expected) in [
            ("Subject: x\r\n\r\n", false),
            ("Precedence: BULK\r\n\r\n", true),
            ("List-Id: <news.acme.example>\r\n\r\n", true),
        ] {
            let header = Header::parse(text.as_bytes()).expect("header");
            assert_eq!(
                names_itself_bulk(text.as_bytes(), &header),
                expected,
                "{text}"
            );
        }
    }
}
