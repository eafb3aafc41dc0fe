//! `postbote run`

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use tokio::runtime::Runtime;

use crate::app::{self, Failure};
use crate::config::{self, Severity};
use crate::observe::log::{self, Format};

/// How to serve.
#[derive(Args)]
pub struct Arguments {
    /// How log lines look: text or json
    #[arg(long, default_value = "text")]
    log_format: Format,
    /// error, warn, info, debug or trace
    #[arg(long, default_value = "info")]
    log_level: tracing::Level,
}

pub(super) fn run(path: &Path, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let guard = log::start(arguments.log_format, arguments.log_level);
    let outcome = config::load(path);
    for problem in &outcome.problems {
        match problem.severity {
            Severity::Error => tracing::error!(event = "config-problem", problem = %problem),
            Severity::Warning => tracing::warn!(event = "config-problem", problem = %problem),
        }
    }
    let Some(config) = outcome.config else {
        drop(guard);
        return Err(Failure::new(
            super::exit::CONFIG,
            format!("{} has errors; `postbote check` lists them", path.display()),
        ));
    };
    // Those who hand in mail do not wait for those who carry it away, and tasks that stay on their
    // thread are done with less work than tasks that wander.
    let submission = workers("submission")?;
    let delivery = workers("delivery")?;
    let result = submission.block_on(app::run(path, config, delivery.handle()));
    delivery.shutdown_timeout(std::time::Duration::from_secs(1));
    submission.shutdown_timeout(std::time::Duration::from_secs(1));
    if let Err(failure) = &result {
        tracing::error!(event = "stopped", reason = %failure.message);
    }
    drop(guard);
    result.map(|()| ExitCode::SUCCESS)
}

/// Threads for one half of the work: half of the processors.
fn workers(name: &str) -> Result<Runtime, Failure> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads((processors / 2).max(1))
        .thread_name(name)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(71, e.to_string()))
}
