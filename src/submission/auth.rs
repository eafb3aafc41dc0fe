//! Logins of applications: Argon2id hashes, or secrets for CRAM-MD5 and SCRAM. A login that was
//! just verified costs nothing; a wrong one costs the same whether or not it exists.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::PasswordVerifier as _;
use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, Params};
use aws_lc_rs::hmac;
use tokio::sync::Semaphore;

use crate::smtp::sasl::{self, Credentials};
use crate::tenant::User;
use crate::tenant::directory::Directory;
use crate::vault::{Secret, Secrets};

/// Argon2 computations at once: each takes 19 MiB and a core.
const WORKERS: usize = 2;
/// Logins that wait for one; more are told to come again.
const WAITING_LIMIT: usize = 50;
/// Wrong tries of one source within [`WINDOW`].
const FAILURES_LIMIT: usize = 10;
/// Their window.
const WINDOW: Duration = Duration::from_secs(60);
/// How long a verified login is remembered.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// Most remembered logins and watched sources.
const TABLE_LIMIT: usize = 20_000;
/// A hash of nothing that anybody knows, to spend the same time on unknown logins.
const DUMMY: &str = "$argon2id$v=19$m=19456,t=2,p=1$cG9zdGJvdGVkdW1teXNhbHQ$4l0Yb0zWn0jYfUqYk1m3Yw2nC4c0m2dKcQm8Xz3m2bE";

/// The outcome of a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Right.
    Right,
    /// Wrong.
    Wrong,
    /// Not now.
    Busy,
}

/// Checks logins.
pub struct Authenticator {
    secrets: Secrets,
    workers: Arc<Semaphore>,
    waiting: std::sync::atomic::AtomicUsize,
    key: hmac::Key,
    verified: Mutex<HashMap<String, (Vec<u8>, Instant)>>,
    failures: Mutex<HashMap<IpAddr, Vec<Instant>>>,
}

impl Authenticator {
    /// With an empty memory.
    pub fn new(secrets: Secrets) -> Self {
        let mut key = [0u8; 32];
        // Without randomness the memory is still bound to this process's life.
        let _ = aws_lc_rs::rand::fill(&mut key);
        Self {
            secrets,
            workers: Arc::new(Semaphore::new(WORKERS)),
            waiting: std::sync::atomic::AtomicUsize::new(0),
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            verified: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    fn stored(&self, user: &User) -> Option<Secret> {
        let reference = user.password.as_ref()?;
        match self.secrets.resolve(reference) {
            Ok(secret) => Some(secret),
            Err(error) => {
                tracing::error!(event = "login-secret-unreadable", login = %user.login, reason = %error);
                None
            }
        }
    }

    /// The password of a login where a challenge mechanism needs it itself.
    pub fn plain_secret(&self, directory: &Directory, login: &str) -> Option<Secret> {
        let (_, user) = directory.login(login)?;
        self.stored(user)
            .filter(|s| !s.expose().starts_with("$argon2"))
    }

    /// Whether a source has failed too often lately.
    pub fn is_throttled(&self, source: Option<IpAddr>) -> bool {
        let Some(source) = source else { return false };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get_mut(&source) {
            Some(times) => {
                times.retain(|t| t.elapsed() < WINDOW);
                times.len() >= FAILURES_LIMIT
            }
            None => false,
        }
    }

    /// Counts a wrong try.
    pub fn failed(&self, source: Option<IpAddr>) {
        let Some(source) = source else { return };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= TABLE_LIMIT {
            failures.retain(|_, times| times.last().is_some_and(|t| t.elapsed() < WINDOW));
        }
        let times = failures.entry(source).or_default();
        if times.len() <= FAILURES_LIMIT {
            times.push(Instant::now());
        }
    }

    /// Checks a user name and password.
    pub async fn password(
        &self,
        directory: &Directory,
        credentials: &Credentials,
        source: Option<IpAddr>,
    ) -> Verdict {
        let stored = directory
            .login(&credentials.login)
            .and_then(|(_, user)| self.stored(user));
        let tag = stored.as_ref().map(|secret| self.tag(secret, credentials));
        if let Some(tag) = &tag {
            let verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if verified.get(&credentials.login).is_some_and(|(known, at)| {
                at.elapsed() < REMEMBERED && sasl::constant_time_eq(known, tag)
            }) {
                return Verdict::Right;
            }
        }
        if self.is_throttled(source) {
            return Verdict::Busy;
        }
        let right = match stored {
            Some(secret) if secret.expose().starts_with("$argon2") => {
                match self.argon2(secret.expose().to_owned(), credentials).await {
                    Some(right) => right,
                    None => return Verdict::Busy,
                }
            }
            Some(secret)
                if sasl::constant_time_eq(
                    secret.expose().as_bytes(),
                    credentials.password.as_bytes(),
                ) =>
            {
                true
            }
            Some(_) | None => {
                if self.argon2(DUMMY.to_owned(), credentials).await.is_none() {
                    return Verdict::Busy;
                }
                false
            }
        };
        if !right {
            self.failed(source);
            return Verdict::Wrong;
        }
        if let Some(tag) = tag {
            let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            if verified.len() >= TABLE_LIMIT {
                verified.retain(|_, (_, at)| at.elapsed() < REMEMBERED);
            }
            if verified.len() < TABLE_LIMIT {
                verified.insert(credentials.login.clone(), (tag, Instant::now()));
            }
        }
        Verdict::Right
    }

    /// What is remembered of a verified login: bound to the stored secret, so a changed one counts
    /// at once, and worthless outside this process.
    fn tag(&self, stored: &Secret, credentials: &Credentials) -> Vec<u8> {
        let mut context = hmac::Context::with_key(&self.key);
        for part in [
            stored.expose(),
            &credentials.login,
            credentials.password.as_str(),
        ] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        context.sign().as_ref().to_vec()
    }

    async fn argon2(&self, hash: String, credentials: &Credentials) -> Option<bool> {
        use std::sync::atomic::Ordering;
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_LIMIT {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let permit = Arc::clone(&self.workers).acquire_owned().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let _permit = permit.ok()?;
        let password = credentials.password.clone();
        tokio::task::spawn_blocking(move || verify_hash(&hash, password.as_bytes()))
            .await
            .ok()
    }
}

fn verify_hash(hash: &str, password: &[u8]) -> bool {
    match PasswordHash::new(hash) {
        Ok(parsed) => Argon2::default().verify_password(password, &parsed).is_ok(),
        Err(_) => false,
    }
}

/// Whether a configured hash can be checked at a bearable cost.
pub fn is_usable_hash(hash: &str) -> bool {
    let Ok(parsed) = PasswordHash::new(hash) else {
        return false;
    };
    let Ok(params) = Params::try_from(&parsed) else {
        return false;
    };
    params.m_cost() <= 256 * 1024 && params.t_cost() <= 10 && params.p_cost() <= 16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dummy_costs_what_a_real_hash_does() {
        assert!(is_usable_hash(DUMMY));
        assert!(!verify_hash(DUMMY, b"anything"));
        assert!(!is_usable_hash(
            "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHRzYWx0$4l0Yb0zWn0jYfUqYk1m3Yw2nC4c0m2dKcQm8Xz3m2bE"
        ));
        assert!(!is_usable_hash("$argon2id$nonsense"));
    }
}
