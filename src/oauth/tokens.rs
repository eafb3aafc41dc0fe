//! Access tokens for those who send: kept in memory, renewed ahead of their end, one renewal at a
//! time for each account.
//!
//! A refresh token that rotates is sealed into `DATA_DIR/oauth/ACCOUNT.token` and synced before the
//! access token that came with it is given out. A crash in between leaves the old one, which
//! providers accept again.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::grant::{self, Ask};
use super::{Consent, Grant, Settings, TokenError, vault_name};
use crate::explain::Cause;
use crate::http::Client;
use crate::vault::{Secret, Secrets, VaultError};

/// Access tokens are renewed so long before their end, those of short life by a tenth of it.
const MARGIN: Duration = Duration::from_secs(300);
/// After a failed renewal ahead of time, the token in hand serves so long before the next try.
const AGAIN_AFTER: Duration = Duration::from_secs(30);
/// A refresh token that was not used for a day is used: Microsoft's dies after 90 days without use,
/// Google's after six months, and one that was revoked is noticed before there is mail.
const IDLE_LIMIT: Duration = Duration::from_secs(86_400);
/// How often its last use is put on record where nothing else changes.
const NOTED_EVERY: Duration = Duration::from_secs(43_200);

/// The tokens of all accounts. Cheap to clone.
#[derive(Clone)]
pub struct Tokens {
    inner: Arc<Inner>,
}

struct Inner {
    http: Client,
    secrets: Secrets,
    directory: PathBuf,
    accounts: Mutex<HashMap<String, Arc<Account>>>,
    serial: AtomicU64,
}

#[derive(Default)]
struct Account {
    /// Held while a token is asked for.
    gate: tokio::sync::Mutex<()>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    settings: Option<Arc<Settings>>,
    access: Option<Access>,
    /// How many renewals have ended, and how the last one failed.
    rounds: u64,
    failed: Option<TokenError>,
    not_before: Option<Instant>,
    /// A rotated token that could not be stored: the one it replaced may be dead.
    unsaved: Option<Kept>,
}

/// An access token.
#[derive(Debug, Clone)]
pub struct Access {
    /// The token itself.
    pub token: Secret,
    /// Which one it is: who finds it refused says so.
    pub serial: u64,
    due: Instant,
    ends: Instant,
}

/// A refresh token as it is kept beside the vault.
#[derive(Clone, Serialize, Deserialize)]
struct Kept {
    /// Of which consent or configured token it is a descendant: a new one begins anew.
    origin: String,
    refresh_token: String,
    refreshed: Timestamp,
    #[serde(default)]
    ends: Option<Timestamp>,
}

/// How an account stands, for people.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// There is a consent or token.
    pub connected: bool,
    /// When a person consented.
    pub granted: Option<Timestamp>,
    /// When its refresh token was last used.
    pub refreshed: Option<Timestamp>,
    /// When it ends, whatever is done.
    pub ends: Option<Timestamp>,
    /// What it is good for.
    pub scope: Option<String>,
    /// Who consented.
    pub identity: Option<String>,
    /// What is wrong with it.
    pub problem: Option<String>,
}

/// What an account has in hand.
enum Found {
    Fresh(Access),
    /// Still good, but it should be renewed.
    Due(Access),
    Nothing,
}

impl Tokens {
    /// Tokens whose files are in `data_dir`.
    pub fn new(http: Client, secrets: Secrets, data_dir: &Path) -> Self {
        Self {
            inner: Arc::new(Inner {
                http,
                secrets,
                directory: data_dir.join("oauth"),
                accounts: Mutex::default(),
                serial: AtomicU64::new(1),
            }),
        }
    }

    /// A token to send with. `refused`: the one that the server has just refused; another is had
    /// then, however fresh it looks.
    pub async fn access(
        &self,
        settings: &Arc<Settings>,
        refused: Option<u64>,
    ) -> Result<Access, TokenError> {
        let account = self.account(&settings.account);
        let (found, rounds) = account.look(settings, refused);
        match found {
            Found::Fresh(access) => return Ok(access),
            Found::Due(access) => {
                let Ok(guard) = account.gate.try_lock() else {
                    return Ok(access); // somebody is at it
                };
                if let (Found::Fresh(newer), _) = account.look(settings, refused) {
                    return Ok(newer);
                }
                let renewed = self.renew(&account, settings).await;
                drop(guard);
                return match renewed {
                    Ok(access) => Ok(access),
                    Err(error) => {
                        tracing::warn!(event = "token-not-renewed", account = %settings.account, reason = %error, "the token in hand serves until its end");
                        Ok(access)
                    }
                };
            }
            Found::Nothing => {}
        }
        let _guard = account.gate.lock().await;
        // Whoever had the gate before us may have got what we want, or have failed for us all.
        let (found, rounds_now) = account.look(settings, refused);
        if let Found::Fresh(access) | Found::Due(access) = found {
            return Ok(access);
        }
        if rounds_now != rounds
            && let Some(error) = account.failed()
        {
            return Err(error);
        }
        self.renew(&account, settings).await
    }

    /// Forgets the access tokens of accounts whose settings or consents have changed.
    pub fn forget(&self, concerned: impl Fn(&str) -> bool) {
        let mut accounts = self
            .inner
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|name, _| !concerned(name));
    }

    /// When each access token in hand ends, in seconds from now; negative: it has ended.
    pub fn expiries(&self) -> Vec<(String, f64)> {
        let accounts = self
            .inner
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let mut all: Vec<(String, f64)> = accounts
            .iter()
            .filter_map(|(name, account)| {
                let ends = account.lock().access.as_ref()?.ends;
                let left = ends.saturating_duration_since(now).as_secs_f64()
                    - now.saturating_duration_since(ends).as_secs_f64();
                Some((name.clone(), left))
            })
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// Uses a refresh token that has not been used for long, so that it stays alive. Gives whether
    /// it had to.
    pub async fn keep_alive(&self, settings: &Arc<Settings>) -> Result<bool, TokenError> {
        if !settings.grant.has_refresh_token() {
            return Ok(false);
        }
        let standing = self.standing(settings);
        let idle = |at: Timestamp| {
            Duration::try_from(Timestamp::now().duration_since(at)).is_ok_and(|d| d > IDLE_LIMIT)
        };
        let due = standing.refreshed.or(standing.granted).is_none_or(idle);
        if !standing.connected || !due {
            return Ok(false);
        }
        let account = self.account(&settings.account);
        let _guard = account.gate.lock().await;
        self.renew(&account, settings).await.map(|_| true)
    }

    /// How an account stands.
    pub fn standing(&self, settings: &Settings) -> Standing {
        let mut standing = Standing {
            connected: !settings.grant.has_refresh_token(),
            ..Standing::default()
        };
        if !settings.grant.has_refresh_token() {
            return standing;
        }
        match Consent::load(&self.inner.secrets, settings) {
            Ok(Some(consent)) if settings.grant.needs_consent() => {
                standing.granted = Some(consent.granted);
                standing.ends = consent.ends;
                standing.scope.clone_from(&consent.scope);
                standing.identity.clone_from(&consent.identity);
            }
            Ok(_) => {}
            Err(error) => standing.problem = Some(error.to_string()),
        }
        match self.inner.seed(settings) {
            Ok(seed) => {
                standing.connected = true;
                match self.inner.kept(settings) {
                    Ok(Some(kept)) if kept.origin == origin(&seed) => {
                        standing.refreshed = Some(kept.refreshed);
                        standing.ends = kept.ends.or(standing.ends);
                    }
                    Ok(_) => {}
                    Err(error) => standing.problem = Some(error),
                }
            }
            Err(error) if standing.problem.is_none() => standing.problem = Some(error),
            Err(_) => {}
        }
        standing
    }

    /// Removes the consent and all tokens of an account; `false` if there was nothing.
    pub fn remove(&self, account: &str) -> Result<bool, String> {
        let consent = self
            .inner
            .secrets
            .vault()
            .remove(&vault_name(account))
            .map_err(|e| e.to_string())?;
        let kept = match std::fs::remove_file(self.inner.path(account)) {
            Ok(()) => true,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => false,
            Err(error) => return Err(error.to_string()),
        };
        self.forget(|name| name == account);
        Ok(consent || kept)
    }

    /// The client that requests go by.
    pub fn http(&self) -> &Client {
        &self.inner.http
    }

    fn account(&self, name: &str) -> Arc<Account> {
        let mut accounts = self
            .inner
            .accounts
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        Arc::clone(accounts.entry(name.to_owned()).or_default())
    }

    /// Asks for a new token. On a task of its own: an attempt that is cancelled meanwhile must not
    /// cost a refresh token that has just rotated.
    async fn renew(
        &self,
        account: &Arc<Account>,
        settings: &Arc<Settings>,
    ) -> Result<Access, TokenError> {
        let (inner, owned) = (Arc::clone(&self.inner), Arc::clone(settings));
        let whose = Arc::clone(account);
        let outcome = tokio::spawn(async move { inner.ask(&whose, &owned).await })
            .await
            .unwrap_or_else(|e| {
                Err(TokenError::of_cause(
                    Cause::TokenNotStored,
                    e.to_string(),
                    &settings.token_url.authority(),
                ))
            });
        let mut state = account.lock();
        state.rounds += 1;
        match outcome {
            Ok(access) => {
                tracing::debug!(event = "token", account = %settings.account);
                state.settings = Some(Arc::clone(settings));
                state.access = Some(access.clone());
                state.failed = None;
                state.not_before = None;
                Ok(access)
            }
            Err(error) => {
                state.failed = Some(error.clone());
                state.not_before = Some(Instant::now() + AGAIN_AFTER);
                Err(error)
            }
        }
    }
}

impl Account {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self, settings: &Arc<Settings>, refused: Option<u64>) -> (Found, u64) {
        let state = self.lock();
        let same = state
            .settings
            .as_ref()
            .is_some_and(|known| Arc::ptr_eq(known, settings) || known == settings);
        let now = Instant::now();
        let found = match &state.access {
            Some(access) if same && Some(access.serial) != refused && access.ends > now => {
                if access.due > now || state.not_before.is_some_and(|at| at > now) {
                    Found::Fresh(access.clone())
                } else {
                    Found::Due(access.clone())
                }
            }
            _ => Found::Nothing,
        };
        (found, state.rounds)
    }

    fn failed(&self) -> Option<TokenError> {
        self.lock().failed.clone()
    }
}

impl Inner {
    fn path(&self, account: &str) -> PathBuf {
        self.directory.join(format!("{account}.token"))
    }

    /// The token on record. A file that cannot be read now is an error; one that can never be read
    /// again is none, and that is said.
    fn kept(&self, settings: &Settings) -> Result<Option<Kept>, String> {
        let path = self.path(&settings.account);
        let name = format!("oauth-token/{}", settings.account);
        let damaged = || {
            tracing::error!(event = "token-damaged", account = %settings.account, file = %path.display(), "the token of the consent is used instead");
        };
        match self.secrets.vault().read_apart(&path, &name) {
            Ok(None) => Ok(None),
            Ok(Some(text)) => match serde_json::from_str(text.expose()) {
                Ok(kept) => Ok(Some(kept)),
                Err(_) => {
                    damaged();
                    Ok(None)
                }
            },
            Err(VaultError::Damaged(_)) => {
                damaged();
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Puts a token on record; its directory came with the account's lock.
    fn keep(&self, settings: &Settings, kept: &Kept) -> Result<(), String> {
        let text = serde_json::to_string(kept).map_err(|e| e.to_string())?;
        let name = format!("oauth-token/{}", settings.account);
        self.secrets
            .vault()
            .write_apart(&self.path(&settings.account), &name, &Secret::new(text))
            .map_err(|e| e.to_string())
    }

    /// The token that all others descend from: a person's consent, or a configured one.
    fn seed(&self, settings: &Settings) -> Result<Secret, String> {
        if settings.grant == Grant::RefreshToken {
            let reference = settings
                .refresh_token
                .as_ref()
                .ok_or("no refresh_token is configured")?;
            return self.secrets.resolve(reference).map_err(|e| e.to_string());
        }
        match Consent::load(&self.secrets, settings) {
            Ok(Some(consent)) if !consent.fits(settings) => {
                Err("the consent was given for another provider, application or mailbox".to_owned())
            }
            Ok(Some(consent)) => Ok(consent.refresh_token()),
            Ok(None) => Err("nobody has consented yet".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    async fn ask(
        self: Arc<Self>,
        account: &Account,
        settings: &Arc<Settings>,
    ) -> Result<Access, TokenError> {
        let granted = if settings.grant.has_refresh_token() {
            // Another process of ours may be at it: `postbote test` beside the server.
            let lock = {
                let (inner, settings) = (Arc::clone(&self), Arc::clone(settings));
                tokio::task::spawn_blocking(move || inner.lock_account(&settings)).await
            };
            let _lock = lock
                .map_err(|e| e.to_string())
                .and_then(|lock| lock)
                .map_err(|why| self.stuck(settings, why))?;
            let unsaved = account.lock().unsaved.clone();
            let (granted, kept) = self.refresh(settings, unsaved).await?;
            if let Some(kept) = kept {
                account.lock().unsaved = Some(kept.clone());
                let (inner, owned) = (Arc::clone(&self), Arc::clone(settings));
                tokio::task::spawn_blocking(move || inner.keep(&owned, &kept))
                    .await
                    .map_err(|e| e.to_string())
                    .and_then(|done| done)
                    .map_err(|why| {
                        self.stuck(
                            settings,
                            format!("the new refresh token cannot be stored: {why}"),
                        )
                    })?;
                account.lock().unsaved = None;
            }
            granted
        } else {
            grant::ask(&self.http, &self.secrets, settings, Ask::Itself).await?
        };
        let now = Instant::now();
        let margin = if granted.lifetime > 2 * MARGIN {
            MARGIN
        } else {
            granted.lifetime / 10
        };
        Ok(Access {
            token: granted.access,
            serial: self.serial.fetch_add(1, Ordering::Relaxed),
            due: now + (granted.lifetime - margin),
            ends: now + granted.lifetime,
        })
    }

    /// Uses the refresh token in force; gives what is to be put on record.
    async fn refresh(
        &self,
        settings: &Settings,
        unsaved: Option<Kept>,
    ) -> Result<(super::Granted, Option<Kept>), TokenError> {
        let missing = |why: String| {
            TokenError::of_cause(Cause::ConsentMissing, why, &settings.token_url.authority())
        };
        let seed = self.seed(settings).map_err(missing)?;
        let origin = origin(&seed);
        let was_unsaved = unsaved.as_ref().is_some_and(|kept| kept.origin == origin);
        let kept = match unsaved.filter(|kept| kept.origin == origin) {
            Some(unsaved) => Some(unsaved),
            None => self
                .kept(settings)
                .map_err(|why| self.stuck(settings, why))?
                .filter(|kept| kept.origin == origin),
        };
        let current = kept
            .as_ref()
            .map_or(seed, |kept| Secret::new(kept.refresh_token.clone()));
        let granted =
            grant::ask(&self.http, &self.secrets, settings, Ask::Refresh(&current)).await?;
        let now = Timestamp::now();
        let noted = kept.as_ref().is_some_and(|kept| {
            Duration::try_from(now.duration_since(kept.refreshed)).is_ok_and(|d| d < NOTED_EVERY)
        });
        let rotated = granted.refresh.as_ref().filter(|new| **new != current);
        if rotated.is_none() && noted && !was_unsaved {
            return Ok((granted, None));
        }
        let ends = granted
            .refresh_lifetime
            .and_then(|life| now.checked_add(life).ok())
            .or_else(|| kept.as_ref().and_then(|kept| kept.ends));
        let record = Kept {
            origin,
            refresh_token: rotated.unwrap_or(&current).expose().to_owned(),
            refreshed: now,
            ends,
        };
        Ok((granted, Some(record)))
    }

    fn lock_account(&self, settings: &Settings) -> Result<std::fs::File, String> {
        use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.directory)
            .map_err(|e| format!("{}: {e}", self.directory.display()))?;
        let path = self.directory.join(format!("{}.lock", settings.account));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(file)
    }

    fn stuck(&self, settings: &Settings, why: String) -> TokenError {
        TokenError::of_cause(Cause::TokenNotStored, why, &settings.token_url.authority())
    }
}

/// A name for a token that tells nothing of it.
fn origin(seed: &Secret) -> String {
    let hash = digest::digest(&digest::SHA256, seed.expose().as_bytes());
    hash.as_ref()[..12]
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}
