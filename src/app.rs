//! Wiring: from a configuration to a running server, its reloads, and its end.

use std::collections::BTreeMap;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use notify::{RecursiveMode, Watcher as _};
use tokio::runtime::Handle;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::admin::{self, Health, Phase};
use crate::config::{self, Config, Sending};
use crate::control::{self, Control};
use crate::delivery::attempt::{self, Tools};
use crate::delivery::{Scheduler, scheduler};
use crate::message::TenantId;
use crate::net::Net;
use crate::net::transcript::Transcript;
use crate::oauth::Tokens;
use crate::observe::metrics::Metrics;
use crate::spool::{Limits, Spool, StoreError};
use crate::submission::admit;
use crate::submission::auth::Authenticator;
use crate::submission::connection::Services;
use crate::submission::listener::{Listeners, Passed};
use crate::submission::session::random_text;
use crate::transport::graph::Drafts;
use crate::transport::{Context, Timeouts};
use crate::vault::{Secrets, Vault, write_durably};

/// Why a server does not start or goes down, with the exit code of sysexits.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// Exit code.
    pub code: u8,
    /// For people.
    pub message: String,
}

impl Failure {
    /// A failure.
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Locked(..) | StoreError::Full | StoreError::Failed(_) => 75,
            StoreError::Newer(_) => 78,
            StoreError::Directory(..) => 73,
        };
        Self::new(code, error.to_string())
    }
}

/// How long file changes are collected before they are read.
const SETTLE: Duration = Duration::from_millis(300);

/// Makes the data directory, for nobody else to look into.
pub fn make_data_dir(path: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|e| Failure::new(73, format!("the data directory {} cannot be made: {e}; change server.data_dir or its owner", path.display())))
}

/// Opens the vault of a configuration.
pub fn open_secrets(config: &Config) -> Result<Secrets, Failure> {
    make_data_dir(&config.server.data_dir)?;
    let vault = Vault::open(&config.server.data_dir, &config.vault_key)
        .map_err(|e| Failure::new(78, e.to_string()))?;
    Ok(Secrets::new(Arc::new(vault)))
}

/// Admission as a configuration wants it.
pub fn admit_now(config: &Config) -> admit::Now {
    admit::Now {
        directory: Arc::clone(&config.directory),
        hostname: config.server.hostname.clone(),
        max_message_size: config.server.max_message_size,
        max_recipients: config.server.max_recipients,
        sending_off: config.server.sending == Sending::Off,
        sending_hold: config.server.sending == Sending::Hold,
    }
}

/// Delivery as a configuration wants it.
pub fn delivery_now(config: &Config) -> attempt::Now {
    attempt::Now {
        directory: Arc::clone(&config.directory),
        retry: config.retry,
        hostname: config.server.hostname.clone(),
        sending: config.server.sending == Sending::On,
        language: config.server.language,
    }
}

/// The spool's limits.
pub fn limits(config: &Config) -> Limits {
    Limits {
        bytes: config.server.spool_limit,
        duplicates: config.duplicates,
    }
}

/// What conversations with servers need.
pub fn transport_context(
    config: &Config,
    secrets: Secrets,
    instance: String,
    timeouts: Timeouts,
    transcript: Transcript,
) -> Context {
    let net = Net {
        transcript,
        ..Net::default()
    };
    let http = crate::http::Client::new(net.clone(), secrets.clone(), timeouts.patience());
    let data_dir = &config.server.data_dir;
    Context {
        tokens: Tokens::new(http, secrets.clone(), data_dir),
        drafts: Drafts::new(data_dir),
        net,
        secrets,
        hostname: config.server.hostname.clone(),
        instance,
        timeouts,
    }
}

/// Where self-signed certificates go: the directory `certs` beside the configuration's directory
/// or in it, if there is one, else the data directory.
fn self_signed_directory(config: &Config) -> PathBuf {
    let base = config.path.parent().map(Path::to_owned).unwrap_or_default();
    let places = [base.join("../certs"), base.join("certs")];
    places
        .into_iter()
        .find(|p| p.is_dir())
        .unwrap_or_else(|| config.server.data_dir.join("certs"))
}

fn make_admin_token(config: &Config) -> Result<(), Failure> {
    let path = config.server.data_dir.join("admin-token");
    if config.admin.token.is_some() || path.exists() {
        return Ok(());
    }
    write_durably(&path, format!("{}\n", random_text()).as_bytes())
        .map_err(|e| Failure::new(73, format!("{}: {e}", path.display())))
}

/// A server while it runs.
struct Server {
    path: PathBuf,
    config: Config,
    vault_text: Vec<u8>,
    /// What stands in the vault, by name.
    secrets: BTreeMap<String, u64>,
    tokens: Tokens,
    /// The state of the files that was refused last: not read again until it changes.
    refused: Option<u64>,
    spool: Spool,
    admit: Arc<ArcSwap<admit::Now>>,
    listeners: Listeners,
    scheduler: Scheduler,
}

/// Runs a server until it is told to stop: submission here, delivery on `deliveries`.
pub async fn run(path: &Path, config: Config, deliveries: &Handle) -> Result<(), Failure> {
    // Nobody but us reads what we write, and no core file holds a password.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // A file size limit is an error of the write that meets it, not the end of the process.
    let _file_too_large = signal(SignalKind::from_raw(rustix::process::Signal::XFSZ.as_raw()));
    let secrets = open_secrets(&config)?;
    make_admin_token(&config)?;
    let metrics = Arc::new(Metrics::default());
    let spool = Spool::open(&config.server.data_dir, limits(&config))?;
    spool.begin_service().await?;
    let observed = Arc::clone(&metrics);
    spool
        .store()
        .observe_commits(Box::new(move |took| observed.commit_took(took)));
    let instance = random_text()[..8].to_owned();
    // Two ends: no new mail from `stop` on; the operator is answered until `end`.
    let stop = CancellationToken::new();
    let end = CancellationToken::new();
    let context = transport_context(
        &config,
        secrets.clone(),
        instance.clone(),
        Timeouts::DELIVERY,
        Transcript::default(),
    );
    let tokens = context.tokens.clone();
    let tools = Tools::new(spool.clone(), context, Arc::clone(&metrics));
    let scheduler = Scheduler::new(tools, delivery_now(&config))?;
    let health = Arc::new(Health::new(
        spool.clone(),
        Arc::clone(&metrics),
        Box::new(scheduler.clone()),
        tokens.clone(),
    ));
    let admit = Arc::new(ArcSwap::from_pointee(admit_now(&config)));
    let services = Services {
        spool: spool.clone(),
        now: Arc::clone(&admit),
        runs: Arc::default(),
        auth: Arc::new(Authenticator::new(secrets.clone())),
        metrics,
        instance,
        stop: stop.clone(),
        abandon: CancellationToken::new(),
    };
    let listeners = Listeners::new(services.clone(), Passed::from_environment());
    let control = control::bind(&config.server.data_dir).map_err(|e| Failure::new(73, e))?;
    let admin = match admin::bind(config.admin.address).await {
        Ok(admin) => Some(admin),
        Err(error) if config.admin.wanted => return Err(Failure::new(69, error)),
        Err(error) => {
            tracing::warn!(event = "no-admin-address", reason = %error, "running without health and metrics");
            None
        }
    };
    if let Some(address) = admin.as_ref().and_then(|a| a.local_addr().ok()) {
        tracing::info!(event = "listening", listener = "admin", address = %address);
    }
    listeners
        .configure(
            &config.listeners,
            &self_signed_directory(&config),
            &config.server.hostname,
        )
        .map_err(|e| Failure::new(69, e))?;
    let control_state = Arc::new(Control {
        scheduler: scheduler.clone(),
        services: services.clone(),
    });
    tokio::spawn(control::serve(control, control_state, end.clone()));
    if let Some(admin) = admin {
        tokio::spawn(admin::serve(admin, Arc::clone(&health), end.clone()));
    }
    if config.server.sending == Sending::On {
        spool.release_switch().await?;
    }
    let delivery = scheduler.clone();
    let delivering = deliveries.spawn(async move { delivery.run().await });
    spool.wake();
    let vault_text = std::fs::read(secrets.vault().path()).unwrap_or_default();
    let drain = config.server.drain;
    let mut server = Server {
        path: path.to_owned(),
        config,
        secrets: secrets.vault().fingerprints().unwrap_or_default(),
        vault_text,
        tokens,
        refused: None,
        spool: spool.clone(),
        admit,
        listeners,
        scheduler,
    };
    let outcome = server.watch(&secrets, &health).await;

    health.enter(Phase::Draining);
    let _ = sd_notify::notify(&[sd_notify::NotifyState::Stopping]);
    tracing::info!(event = "draining", within = drain.as_secs());
    stop.cancel();
    let deadline = tokio::time::Instant::now() + server.config.server.drain;
    server.listeners.drain(server.config.server.drain).await;
    server
        .scheduler
        .drain(
            deadline
                .saturating_duration_since(tokio::time::Instant::now())
                .max(Duration::from_millis(100)),
        )
        .await;
    let _ = delivering.await;
    end.cancel();
    let _ = std::fs::remove_file(control::path(&server.config.server.data_dir));
    server.spool.end_service().await;
    tracing::info!(event = "stopped");
    outcome
}

impl Server {
    /// Signals, file changes, housekeeping; returns when it is time to go.
    async fn watch(&mut self, secrets: &Secrets, health: &Health) -> Result<(), Failure> {
        let broken =
            |e: std::io::Error| Failure::new(71, format!("signals cannot be received: {e}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(broken)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(broken)?;
        let mut hangup = signal(SignalKind::hangup()).map_err(broken)?;
        let (changed, mut changes) = mpsc::channel::<()>(1);
        let mut watcher = self.watch_files(secrets, changed.clone());
        // Signals and changes are seen from here on, so now it may be said that we serve.
        health.enter(Phase::Ready);
        let _ = sd_notify::notify(&[sd_notify::NotifyState::Ready]);
        tracing::info!(event = "started", version = env!("CARGO_PKG_VERSION"), hostname = %self.config.server.hostname, tenants = self.config.directory.len(), waiting_bytes = self.spool.bytes());
        if self.changed_since_read(secrets) {
            self.reload(false, secrets).await;
        }
        // Not at once: a machine that starts may have a clock that is years ahead for a while.
        let period =
            (self.config.history / 4).clamp(Duration::from_secs(1), Duration::from_secs(600));
        let mut housekeeping =
            tokio::time::interval_at(tokio::time::Instant::now() + period, period);
        let mut heartbeat = tokio::time::interval(Duration::from_secs(1));
        loop {
            tokio::select! {
                _ = terminate.recv() => return Ok(()),
                _ = interrupt.recv() => return Ok(()),
                _ = hangup.recv() => self.reload(true, secrets).await,
                Some(()) = changes.recv() => {
                    // An editor writes several times; wait until it is done.
                    tokio::time::sleep(SETTLE).await;
                    while changes.try_recv().is_ok() {}
                    if self.changed_since_read(secrets) {
                        self.reload(false, secrets).await;
                        // Directories may have come and gone.
                        drop(watcher.take());
                        watcher = self.watch_files(secrets, changed.clone());
                        // What changed while nobody watched is looked at now.
                        if self.changed_since_read(secrets) {
                            let _ = changed.try_send(());
                        }
                    }
                }
                _ = housekeeping.tick() => {
                    if let Err(error) = self.spool.prune(self.config.history).await {
                        tracing::warn!(event = "prune-failed", reason = %error);
                    }
                }
                _ = heartbeat.tick() => {
                    if self.spool.store().has_failed() {
                        return Err(Failure::new(75, "the spool could not make a write durable; start again when the disk is well"));
                    }
                }
            }
        }
    }

    /// Lets mail that waited for a secret go, by the settings in force.
    fn apply(&self, changed: &SecretsChanged) {
        if changed.everybody || !changed.tenants.is_empty() {
            self.scheduler.reconfigure(
                delivery_now(&self.config),
                &|tenant| changed.everybody || changed.tenants.contains(tenant),
                changed.everybody,
            );
        }
    }

    /// What has changed in the vault since it was last looked at, and whom that concerns.
    fn look_at_secrets(&mut self, secrets: &Secrets) -> SecretsChanged {
        let mut changed = SecretsChanged::default();
        let text = std::fs::read(secrets.vault().path()).unwrap_or_default();
        if text == self.vault_text {
            return changed;
        }
        let now = secrets.vault().fingerprints().unwrap_or_default();
        for name in changed_names(&self.secrets, &now) {
            // A consent concerns its own account; who uses another secret is not known here.
            let account = name.strip_prefix("oauth/");
            if let Some(account) = account {
                self.tokens.forget(|known| known == account);
            }
            match account.and_then(TenantId::parse) {
                Some(tenant) => {
                    changed.tenants.insert(tenant);
                }
                None => changed.everybody = true,
            }
        }
        self.secrets = now;
        self.vault_text = text;
        changed
    }

    /// Whether a file was changed between being read and being watched.
    fn changed_since_read(&self, secrets: &Secrets) -> bool {
        let stamp = config::stamp(&self.config.path, &self.config.server.tenants_dir);
        let vault = std::fs::read(secrets.vault().path()).unwrap_or_default();
        (stamp != self.config.stamp && Some(stamp) != self.refused) || vault != self.vault_text
    }

    /// Watches directories, not files: editors replace files, and what stands there may be a link
    /// into another directory. Whether anything that matters has changed is looked up afterwards.
    fn watch_files(
        &self,
        secrets: &Secrets,
        changed: mpsc::Sender<()>,
    ) -> Option<notify::RecommendedWatcher> {
        let handler = move |event: notify::Result<notify::Event>| {
            if event.is_ok_and(|e| !matches!(e.kind, notify::EventKind::Access(_))) {
                let _ = changed.try_send(());
            }
        };
        let mut watcher = match notify::recommended_watcher(handler) {
            Ok(watcher) => watcher,
            Err(error) => {
                tracing::warn!(event = "watch-failed", reason = %error, "file changes are not seen; send SIGHUP after a change");
                return None;
            }
        };
        let tenants = &self.config.server.tenants_dir;
        let mut directories = std::collections::BTreeSet::new();
        for path in [
            self.config.path.as_path(),
            secrets.vault().path(),
            tenants.as_path(),
        ] {
            for form in [path.to_owned(), path.canonicalize().unwrap_or_default()] {
                let parent = form.parent().map(|p| {
                    if p.as_os_str().is_empty() {
                        PathBuf::from(".")
                    } else {
                        p.to_owned()
                    }
                });
                directories.extend(parent.and_then(|p| p.canonicalize().ok()));
            }
        }
        directories.extend(tenants.canonicalize().ok());
        for directory in directories {
            if let Err(error) = watcher.watch(&directory, RecursiveMode::NonRecursive) {
                tracing::warn!(event = "watch-failed", directory = %directory.display(), reason = %error, "changes there are not seen; send SIGHUP after a change");
            }
        }
        Some(watcher)
    }

    /// Reads everything anew; swaps it whole, or keeps the old on any error and says so.
    async fn reload(&mut self, all: bool, secrets: &Secrets) {
        // Secrets hold whatever is wrong with the files.
        let secrets_changed = self.look_at_secrets(secrets);
        self.refused = Some(config::stamp(
            &self.config.path,
            &self.config.server.tenants_dir,
        ));
        let path = self.path.clone();
        let Ok(outcome) = tokio::task::spawn_blocking(move || config::load(&path)).await else {
            return;
        };
        for problem in &outcome.problems {
            match problem.severity {
                config::Severity::Error => {
                    tracing::error!(event = "config-problem", problem = %problem)
                }
                config::Severity::Warning => {
                    tracing::warn!(event = "config-problem", problem = %problem)
                }
            }
        }
        let Some(config) = outcome.config else {
            tracing::error!(event = "reload-refused", file = %self.path.display(), "the new configuration has errors; the old one stays in force");
            self.apply(&secrets_changed);
            return;
        };
        if let Err(error) = self.listeners.configure(
            &config.listeners,
            &self_signed_directory(&config),
            &config.server.hostname,
        ) {
            tracing::error!(event = "reload-refused", reason = %error, "a listener cannot be opened; the old configuration stays in force");
            self.apply(&secrets_changed);
            return;
        }
        if config.server.data_dir != self.config.server.data_dir
            || config.admin.address != self.config.admin.address
        {
            tracing::warn!(
                event = "restart-needed",
                "server.data_dir and admin.address take effect at the next start"
            );
        }
        let everybody = all
            || secrets_changed.everybody
            || config.common_fingerprint != self.config.common_fingerprint;
        let mut concerned = changed_tenants(&self.config.fingerprints, &config.fingerprints);
        concerned.extend(secrets_changed.tenants);
        self.spool.set_limits(limits(&config));
        self.admit.store(Arc::new(admit_now(&config)));
        let release =
            config.server.sending == Sending::On && self.config.server.sending != Sending::On;
        self.scheduler.reconfigure(
            delivery_now(&config),
            &|tenant| everybody || concerned.contains(tenant),
            everybody,
        );
        if release && let Err(error) = self.spool.release_switch().await {
            tracing::error!(event = "release-failed", reason = %error);
        }
        let count = if everybody {
            config.directory.len()
        } else {
            concerned.len()
        };
        self.config = config;
        tracing::info!(
            event = "reloaded",
            tenants = self.config.directory.len(),
            concerned = count
        );
    }
}

/// Whom a change of the vault concerns.
#[derive(Default)]
struct SecretsChanged {
    everybody: bool,
    tenants: std::collections::HashSet<TenantId>,
}

/// Names that came, went or changed.
fn changed_names(old: &BTreeMap<String, u64>, new: &BTreeMap<String, u64>) -> Vec<String> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let changed = new
        .iter()
        .filter(|(name, hash)| old.get(*name) != Some(hash))
        .map(|(name, _)| name);
    gone.chain(changed).cloned().collect()
}

fn changed_tenants(
    old: &BTreeMap<TenantId, u64>,
    new: &BTreeMap<TenantId, u64>,
) -> std::collections::HashSet<TenantId> {
    let gone = old.keys().filter(|id| !new.contains_key(*id));
    let changed = new
        .iter()
        .filter(|(id, hash)| old.get(*id) != Some(hash))
        .map(|(id, _)| id);
    gone.chain(changed).cloned().collect()
}

/// A spool that no server has open, with what is needed to work on it.
pub fn open_stopped(config: &Config) -> Result<Tools, Failure> {
    let secrets = open_secrets(config)?;
    let spool = Spool::open(&config.server.data_dir, limits(config))?;
    let context = transport_context(
        config,
        secrets,
        String::new(),
        Timeouts::TEST,
        Transcript::default(),
    );
    Ok(Tools::new(spool, context, Arc::new(Metrics::default())))
}

/// How delivery would see the spool of a stopped server.
pub fn overlay_stopped(tools: &Tools, config: &Config) -> Result<Scheduler, StoreError> {
    Scheduler::new(tools.clone(), delivery_now(config))
}

/// What a person wants done with the spool of a stopped server.
pub async fn operate_stopped(
    tools: &Tools,
    config: &Config,
    action: crate::spool::operate::Action,
    filter: &crate::spool::operate::Filter,
) -> Result<crate::spool::operate::Report, StoreError> {
    let mut report = tools
        .spool
        .operate(action, filter, &overlay_stopped(tools, config)?)
        .await?;
    if action == crate::spool::operate::Action::Bounce {
        scheduler::bounce_by_hand(tools, &delivery_now(config), &mut report).await?;
    }
    Ok(report)
}
