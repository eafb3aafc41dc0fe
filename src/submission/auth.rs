//! Logins of applications: Argon2id hashes, or secrets for CRAM-MD5 and SCRAM. A login that was
//! just verified costs nothing; a wrong one costs the same whether or not it exists.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Block, Params, Version};
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
/// Blocks (KiB) that are asked for at least. glibc takes so much straight from the kernel and gives
/// it straight back; less would stay with the process. What is not used is never touched.
const BLOCKS_LEAST: usize = 33 * 1024;

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
    /// Sources from which a login was right lately: other programs there do not lock it out.
    welcome: Mutex<HashMap<(String, IpAddr), Welcome>>,
    failures: Mutex<HashMap<IpAddr, Vec<Instant>>>,
    /// The dearest hash that was seen: unknown logins cost as much.
    dearest: Mutex<Cost>,
    /// The directory whose hashes were looked through last.
    seen: Mutex<usize>,
}

/// A source from which a login was right.
struct Welcome {
    at: Instant,
    /// When it was wrong from there, lately.
    failures: Vec<Instant>,
}

/// Drops what is over; whether there were too many wrong tries within [`WINDOW`].
fn too_many(failures: &mut Vec<Instant>) -> bool {
    failures.retain(|t| t.elapsed() < WINDOW);
    failures.len() >= FAILURES_LIMIT
}

/// What an Argon2 hash costs: KiB times passes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cost {
    memory: u32,
    passes: u32,
}

impl Cost {
    const DEFAULT: Self = Self {
        memory: Params::DEFAULT_M_COST,
        passes: Params::DEFAULT_T_COST,
    };

    fn of(hash: &str) -> Option<Self> {
        let parsed = PasswordHash::new(hash).ok()?;
        let params = Params::try_from(&parsed).ok()?;
        Some(Self {
            memory: params.m_cost(),
            passes: params.t_cost(),
        })
    }

    fn work(self) -> u64 {
        u64::from(self.memory) * u64::from(self.passes)
    }

    /// What is missing to another cost, as a computation of its own; `None`: hardly anything.
    fn missing_to(self, other: Self) -> Option<Self> {
        let missing = other.work().saturating_sub(self.work());
        (missing * 10 > other.work()).then(|| Self {
            memory: u32::try_from(missing / u64::from(other.passes.max(1)))
                .unwrap_or(u32::MAX)
                .max(Params::MIN_M_COST),
            passes: other.passes,
        })
    }
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
            welcome: Mutex::default(),
            failures: Mutex::default(),
            dearest: Mutex::new(Cost::DEFAULT),
            seen: Mutex::new(0),
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

    /// A mark of a login's present secret: another one after it was changed, worthless outside
    /// this process. `None`: there is no such login or secret.
    pub fn mark(&self, directory: &Directory, login: &str) -> Option<Vec<u8>> {
        let (_, user) = directory.login(login)?;
        let secret = self.stored(user)?;
        Some(
            hmac::sign(&self.key, secret.expose().as_bytes())
                .as_ref()
                .to_vec(),
        )
    }

    fn dearest(&self, directory: &Directory) -> Cost {
        // Looked through once for every directory, not for every wrong try.
        let this = std::ptr::from_ref(directory).addr();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let mut dearest = self.dearest.lock().unwrap_or_else(PoisonError::into_inner);
        if *seen != this {
            *seen = this;
            for hash in directory.plain_hashes() {
                if let Some(cost) = Cost::of(hash).filter(|c| c.work() > dearest.work()) {
                    *dearest = cost;
                }
            }
        }
        *dearest
    }

    /// The password of a login where a challenge mechanism needs it itself.
    pub fn plain_secret(&self, directory: &Directory, login: &str) -> Option<Secret> {
        let (_, user) = directory.login(login)?;
        self.stored(user)
            .filter(|s| !s.expose().starts_with("$argon2"))
    }

    /// Whether a source has failed too often lately to try this login. One that was right from
    /// there lately has tries of its own.
    pub fn is_throttled(&self, login: &str, source: Option<IpAddr>) -> bool {
        self.has_failed_often(source) && self.is_welcome(login, source) != Some(true)
    }

    /// Whether a login that was right from a source lately has tries left; `None`: it was not.
    fn is_welcome(&self, login: &str, source: Option<IpAddr>) -> Option<bool> {
        let mut welcome = self.welcome.lock().unwrap_or_else(PoisonError::into_inner);
        let known = welcome.get_mut(&(login.to_owned(), source?))?;
        (known.at.elapsed() < REMEMBERED).then(|| !too_many(&mut known.failures))
    }

    /// Remembers that a login was right, and from where.
    pub fn succeeded(&self, login: &str, source: Option<IpAddr>) {
        let Some(source) = source else { return };
        let mut welcome = self.welcome.lock().unwrap_or_else(PoisonError::into_inner);
        if welcome.len() >= TABLE_LIMIT {
            welcome.retain(|_, known| known.at.elapsed() < REMEMBERED);
        }
        let (key, at) = ((login.to_owned(), source), Instant::now());
        if let Some(known) = welcome.get_mut(&key) {
            known.at = at;
        } else if welcome.len() < TABLE_LIMIT {
            let failures = Vec::new();
            welcome.insert(key, Welcome { at, failures });
        }
    }

    fn has_failed_often(&self, source: Option<IpAddr>) -> bool {
        let Some(source) = source else { return false };
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        match failures.get_mut(&source) {
            Some(times) => too_many(times),
            None => false,
        }
    }

    /// Counts a wrong try at a login.
    pub fn failed(&self, login: &str, source: Option<IpAddr>) {
        let Some(source) = source else { return };
        let mut welcome = self.welcome.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = welcome.get_mut(&(login.to_owned(), source))
            && known.failures.len() <= FAILURES_LIMIT
        {
            known.failures.push(Instant::now());
        }
        drop(welcome);
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
        let is_throttled = self.is_throttled(&credentials.login, source);
        if is_throttled && self.is_welcome(&credentials.login, source).is_none() {
            return Verdict::Busy;
        }
        let tag = stored.as_ref().map(|secret| self.tag(secret, credentials));
        if let Some(tag) = &tag {
            let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
            let known = verified.get_mut(&credentials.login).filter(|(known, at)| {
                at.elapsed() < REMEMBERED && sasl::constant_time_eq(known, tag)
            });
            let is_known = known.is_some();
            if let Some((_, at)) = known {
                *at = Instant::now();
            }
            drop(verified);
            if is_known {
                self.succeeded(&credentials.login, source);
                return Verdict::Right;
            }
        }
        if is_throttled {
            return Verdict::Busy;
        }
        // Asked again when it is a try's turn: others of that source may have failed meanwhile.
        let may_go_on = || !self.is_throttled(&credentials.login, source);
        let hash = stored
            .as_ref()
            .map(Secret::expose)
            .filter(|text| text.starts_with("$argon2"));
        let own = match hash {
            Some(hash) if !is_usable_hash(hash) => {
                tracing::error!(event = "login-hash-unusable", login = %crate::observe::log::brief(&credentials.login), "the stored hash is malformed or asks for too much memory or time; make a new one");
                None
            }
            Some(hash) => Some((hash.to_owned(), Cost::of(hash).unwrap_or(Cost::DEFAULT))),
            None => None,
        };
        if let Some((_, cost)) = &own {
            let mut dearest = self.dearest.lock().unwrap_or_else(PoisonError::into_inner);
            if cost.work() > dearest.work() {
                *dearest = *cost;
            }
        }
        let mut spent = Cost {
            memory: 0,
            passes: 0,
        };
        let right = match (own, &stored) {
            (Some((hash, cost)), _) => {
                spent = cost;
                let password = credentials.password.clone();
                match self
                    .compute(may_go_on, move || verify_hash(&hash, password.as_bytes()))
                    .await
                {
                    Some(right) => right,
                    None => return Verdict::Busy,
                }
            }
            (None, Some(secret)) if hash.is_none() => {
                sasl::constant_time_eq(secret.expose().as_bytes(), credentials.password.as_bytes())
            }
            (None, _) => false,
        };
        // A wrong try costs the same whether or not there is such a login, and whatever its hash.
        if !right && let Some(missing) = spent.missing_to(self.dearest(directory)) {
            let password = credentials.password.clone();
            let wasted = self.compute(may_go_on, move || {
                derive(missing, b"nobody's salt...", password.as_bytes(), 32).is_some()
            });
            if wasted.await.is_none() {
                return Verdict::Busy;
            }
        }
        if !right {
            self.failed(&credentials.login, source);
            return Verdict::Wrong;
        }
        self.succeeded(&credentials.login, source);
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

    /// Computes on a thread of its own, few at once; `None`: too many wait already, or it may not
    /// go on once it is its turn.
    async fn compute(
        &self,
        may_go_on: impl Fn() -> bool,
        work: impl FnOnce() -> bool + Send + 'static,
    ) -> Option<bool> {
        use std::sync::atomic::Ordering;
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_LIMIT {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        let permit = Arc::clone(&self.workers).acquire_owned().await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        let _permit = permit.ok()?;
        if !may_go_on() {
            return None;
        }
        tokio::task::spawn_blocking(work).await.ok()
    }
}

fn verify_hash(hash: &str, password: &[u8]) -> bool {
    let Ok(parsed) = PasswordHash::new(hash) else {
        return false;
    };
    let (Ok(params), Some(salt), Some(known)) =
        (Params::try_from(&parsed), &parsed.salt, &parsed.hash)
    else {
        return false;
    };
    let algorithm = Algorithm::try_from(parsed.algorithm.as_str());
    let version = parsed
        .version
        .map_or(Ok(Version::default()), Version::try_from);
    let (Ok(algorithm), Ok(version)) = (algorithm, version) else {
        return false;
    };
    hash_into(
        algorithm,
        version,
        params,
        salt.as_ref(),
        password,
        known.len(),
    )
    .is_some_and(|out| sasl::constant_time_eq(&out, known.as_bytes()))
}

fn derive(cost: Cost, salt: &[u8], password: &[u8], length: usize) -> Option<Vec<u8>> {
    let params = Params::new(cost.memory, cost.passes, 1, None).ok()?;
    hash_into(
        Algorithm::Argon2id,
        Version::V0x13,
        params,
        salt,
        password,
        length,
    )
}

fn hash_into(
    algorithm: Algorithm,
    version: Version,
    params: Params,
    salt: &[u8],
    password: &[u8],
    length: usize,
) -> Option<Vec<u8>> {
    let mut blocks = Vec::with_capacity(params.block_count().max(BLOCKS_LEAST));
    blocks.resize(params.block_count(), Block::new());
    let mut out = vec![0; length];
    Argon2::new(algorithm, version, params)
        .hash_password_into_with_memory(password, salt, &mut out, &mut blocks[..])
        .ok()
        .map(|()| out)
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

    /// Of the password `tanstaaf`, by another program (argon2-cffi).
    const KNOWN: &str = "$argon2id$v=19$m=8192,t=2,p=1$c2FsdHNhbHRzYWx0$";

    #[test]
    fn hashes() {
        let cost = Cost {
            memory: 8192,
            passes: 2,
        };
        let out = derive(cost, b"saltsaltsalt", b"tanstaaf", 32).expect("hash");
        use base64::Engine as _;
        let hash = format!(
            "{KNOWN}{}",
            base64::engine::general_purpose::STANDARD_NO_PAD.encode(out)
        );
        assert!(verify_hash(&hash, b"tanstaaf"));
        assert!(!verify_hash(&hash, b"tanstaag"));
        assert!(is_usable_hash(&hash));
        assert_eq!(Cost::of(&hash), Some(cost));
        assert!(!is_usable_hash(
            "$argon2id$v=19$m=4194304,t=2,p=1$c2FsdHNhbHRzYWx0$4l0Yb0zWn0jYfUqYk1m3Yw2nC4c0m2dKcQm8Xz3m2bE"
        ));
        assert!(!is_usable_hash("$argon2id$nonsense"));
        assert!(!verify_hash("$argon2id$nonsense", b""));
    }

    #[test]
    fn wrong_tries_cost_the_same() {
        let dear = Cost {
            memory: 65_536,
            passes: 3,
        };
        let nothing = Cost {
            memory: 0,
            passes: 0,
        };
        for spent in [nothing, Cost::DEFAULT, dear] {
            let missing = spent.missing_to(dear).map_or(0, Cost::work);
            let total = (spent.work() + missing) as f64 / dear.work() as f64;
            assert!((0.9..1.1).contains(&total), "{spent:?}: {total}");
        }
    }
}
