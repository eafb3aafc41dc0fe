//! `postbote check`

use std::path::Path;
use std::process::ExitCode;

use crate::app::Failure;
use crate::config::{self, Config, Severity, schema};
use crate::prepare::dkim;
use crate::vault::{KeySource, SecretRef, Secrets, Vault};

/// Which schema.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Schema {
    /// postbote.toml
    Operator,
    /// tenants/ID.toml
    Tenant,
}

pub(super) fn schema(which: Schema) -> Result<ExitCode, Failure> {
    let value = match which {
        Schema::Operator => schema::operator_json(),
        Schema::Tenant => schema::tenant_json(),
    };
    outln!(
        "{}",
        serde_json::to_string_pretty(&value).map_err(|e| Failure::new(1, e.to_string()))?
    );
    Ok(ExitCode::SUCCESS)
}

pub(super) fn check(path: &Path, json: bool) -> Result<ExitCode, Failure> {
    let outcome = config::load(path);
    let missing = outcome
        .config
        .as_ref()
        .map(missing_secrets)
        .unwrap_or_default();
    let failed = outcome.has_errors();
    if json {
        let mut list: Vec<serde_json::Value> = outcome
            .problems
            .iter()
            .map(config::Problem::to_json)
            .collect();
        list.extend(missing.iter().map(|text| serde_json::json!({"severity": "warning", "file": path.display().to_string(), "line": 0, "key": "", "found": text, "allowed": "", "hint": ""})));
        outln!("{}", serde_json::Value::Array(list));
    } else {
        for problem in &outcome.problems {
            outln!("{problem}");
        }
        for text in &missing {
            outln!("{}: warning: {text}", path.display());
        }
        let errors = outcome
            .problems
            .iter()
            .filter(|p| p.severity == Severity::Error)
            .count();
        let warnings = outcome.problems.len() - errors + missing.len();
        match &outcome.config {
            Some(config) => eprintln!(
                "{}: good, {} tenants, {warnings} warnings",
                path.display(),
                config.directory.len()
            ),
            None => eprintln!("{}: {errors} errors, {warnings} warnings", path.display()),
        }
    }
    Ok(if failed {
        ExitCode::from(super::exit::CONFIG)
    } else {
        ExitCode::SUCCESS
    })
}

/// Secrets that cannot be read now. Only looks: makes no key and no file.
fn missing_secrets(config: &Config) -> Vec<String> {
    let uses_vault = config
        .secrets
        .iter()
        .any(|(_, secret)| matches!(secret, SecretRef::Vault(_)));
    let has_key = !matches!(config.vault_key, KeySource::DataDirectory)
        || config.server.data_dir.join("vault.key").exists();
    let vault = if uses_vault && has_key {
        Vault::open(&config.server.data_dir, &config.vault_key)
            .map(|v| Secrets::new(v.into()))
            .map_err(|e| e.to_string())
    } else {
        Err("there is no vault yet".to_owned())
    };
    let mut found = Vec::new();
    for (place, secret) in &config.secrets {
        let problem = match (secret, &vault) {
            (SecretRef::Vault(name), Err(reason)) => {
                Some(format!("{reason}; set it: postbote vault set {name}"))
            }
            (SecretRef::Vault(_), Ok(secrets)) => {
                secrets.resolve(secret).err().map(|e| e.to_string())
            }
            (other, _) => other.read_outside_vault().err().map(|e| e.to_string()),
        };
        found.extend(problem.map(|p| format!("{place}: {p}")));
    }
    for tenant in config.directory.tenants() {
        for key in &tenant.dkim {
            let secret = match (&key.secret, &vault) {
                (SecretRef::Vault(_), Ok(secrets)) => secrets.resolve(&key.secret).ok(),
                (SecretRef::Vault(_), Err(_)) => None,
                (other, _) => other.read_outside_vault().ok(),
            };
            if let Some(Err(reason)) = secret.map(|s| dkim::Key::parse(s.expose())) {
                found.push(format!(
                    "{}: the DKIM key of {} (selector {}) is not usable: {reason}; mail of this tenant would wait",
                    tenant.id, key.domain, key.selector
                ));
            }
        }
    }
    found
}
