//! `postbote vault`

use std::io::{IsTerminal as _, Read as _};
use std::path::Path;
use std::process::ExitCode;

use clap::Subcommand;

use super::exit;
use crate::app::{self, Failure};
use crate::config;
use crate::vault::{Secret, VaultError};

/// Longest secret in octets.
const LIMIT: u64 = 64 * 1024;

/// Secrets, encrypted at rest.
#[derive(Subcommand)]
pub enum Command {
    /// Store a secret, read from standard input or a hidden prompt
    Set {
        /// Its name, as in { vault = "NAME" }
        name: String,
    },
    /// Names of the stored secrets
    List {
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Remove a secret
    Remove {
        /// Its name
        name: String,
    },
}

pub(super) fn run(path: &Path, command: Command) -> Result<ExitCode, Failure> {
    // Errors elsewhere in the files must not keep anybody from mending a secret.
    let outcome = config::load(path);
    let usable = !outcome.operator_has_errors(path);
    let Some(config) = outcome.config.or(outcome.partial).filter(|_| usable) else {
        for problem in outcome.problems {
            eprintln!("{problem}");
        }
        return Err(Failure::new(
            exit::CONFIG,
            format!("{} has errors", path.display()),
        ));
    };
    let secrets = app::open_secrets(&config)?;
    let failed = |e: VaultError| match e {
        VaultError::Name(_) => Failure::new(exit::DATA, e.to_string()),
        _ => Failure::new(exit::CANNOT_CREATE, e.to_string()),
    };
    match command {
        Command::Set { name } => {
            let value = read_value(&name)?;
            if value.is_empty() {
                return Err(Failure::new(
                    exit::DATA,
                    "the secret is empty; nothing was stored",
                ));
            }
            secrets
                .vault()
                .set(&name, &Secret::new(value))
                .map_err(failed)?;
            eprintln!("stored: {{ vault = \"{name}\" }}");
        }
        Command::List { json } => {
            let list = secrets.vault().list().map_err(failed)?;
            if json {
                let items: Vec<_> = list
                    .iter()
                    .map(|(name, set)| serde_json::json!({"name": name, "set": set}))
                    .collect();
                outln!("{}", serde_json::Value::Array(items));
            } else {
                for (name, set) in list {
                    outln!("{name}\t{set}");
                }
            }
        }
        Command::Remove { name } => {
            if !secrets.vault().remove(&name).map_err(failed)? {
                return Err(Failure::new(
                    exit::DATA,
                    format!("there is no secret named {name}"),
                ));
            }
            eprintln!("removed: {name}");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn read_value(name: &str) -> Result<String, Failure> {
    let failed =
        |e: std::io::Error| Failure::new(exit::DATA, format!("the secret cannot be read: {e}"));
    if std::io::stdin().is_terminal() {
        return rpassword::prompt_password(format!("{name}: ")).map_err(failed);
    }
    let mut value = String::new();
    std::io::stdin()
        .take(LIMIT + 1)
        .read_to_string(&mut value)
        .map_err(failed)?;
    if value.len() as u64 > LIMIT {
        return Err(Failure::new(
            exit::DATA,
            format!("the secret is longer than {LIMIT} octets; nothing was stored"),
        ));
    }
    // One line end is the shell's; a PEM file keeps its others.
    Ok(value
        .strip_suffix('\n')
        .map_or(value.as_str(), |v| v.strip_suffix('\r').unwrap_or(v))
        .to_owned())
}
