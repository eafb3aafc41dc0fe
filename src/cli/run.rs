//! `postbote run`

use std::path::Path;
use std::process::ExitCode;

use crate::app::{self, Failure};
use crate::config::{self, Severity};
use crate::observe::log::{self, Format};

pub(super) fn run(path: &Path, format: Format, level: tracing::Level) -> Result<ExitCode, Failure> {
    let guard = log::start(format, level);
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
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|e| Failure::new(71, e.to_string()))?;
    let result = runtime.block_on(app::run(path, config));
    runtime.shutdown_timeout(std::time::Duration::from_secs(1));
    if let Err(failure) = &result {
        tracing::error!(event = "stopped", reason = %failure.message);
    }
    drop(guard);
    result.map(|()| ExitCode::SUCCESS)
}
