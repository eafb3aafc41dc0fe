//! `postbote dkim`

use std::process::ExitCode;

use clap::{Subcommand, ValueEnum};

use super::{doctor, exit, tenant_of};
use crate::app::{self, Failure};
use crate::config::Config;
use crate::dns::dkim::record_name;
use crate::prepare::dkim::{Key, generate_ed25519, generate_rsa};
use crate::smtp::address::ascii_domain;
use crate::tenant::Tenant;
use crate::vault::Secret;

/// DKIM keys.
#[derive(Subcommand)]
pub enum Command {
    /// Make keys, store them in the vault, print the DNS records and the lines for the tenant file
    New {
        /// The tenant's id
        tenant: String,
        /// The domain of From
        #[arg(long)]
        domain: String,
        /// A name for the key, for example pb1
        #[arg(long)]
        selector: String,
        /// Which kind
        #[arg(long, value_enum, default_value = "both")]
        algorithm: Algorithm,
    },
    /// Print the DNS records of the tenant's keys, whole and split at 255
    Record {
        /// The tenant's id
        tenant: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Compare the tenant's keys with what DNS has
    Check {
        /// The tenant's id
        tenant: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
}

/// Which keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Algorithm {
    /// RSA of 2048 bits, understood everywhere
    Rsa2048,
    /// Ed25519, short
    Ed25519,
    /// Both, with the selectors NAME and NAMEe
    Both,
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::New {
            tenant,
            domain,
            selector,
            algorithm,
        } => new(config, &tenant, &domain, &selector, algorithm),
        Command::Record { tenant, json } => record(config, with_keys(config, &tenant)?, json),
        Command::Check { tenant, json } => {
            doctor::check_keys(config, with_keys(config, &tenant)?, json)
        }
    }
}

fn new(
    config: &Config,
    tenant: &str,
    domain: &str,
    selector: &str,
    algorithm: Algorithm,
) -> Result<ExitCode, Failure> {
    let tenant = tenant_of(config, tenant)?;
    let domain = ascii_domain(domain)
        .filter(|d| d.contains('.'))
        .ok_or_else(|| {
            Failure::new(
                exit::DATA,
                format!("{domain:?} is not a domain such as acme.example"),
            )
        })?;
    let selector = ascii_domain(selector).ok_or_else(|| {
        Failure::new(
            exit::DATA,
            format!("{selector:?} is not a selector: letters, digits, - and ."),
        )
    })?;
    let secrets = app::open_secrets(config)?;
    let plan: Vec<(String, Algorithm)> = match algorithm {
        Algorithm::Both => vec![
            (selector.clone(), Algorithm::Rsa2048),
            (format!("{selector}e"), Algorithm::Ed25519),
        ],
        one => vec![(selector.clone(), one)],
    };
    let mut made: Vec<(String, String, Secret)> = Vec::new();
    for (selector, kind) in plan {
        let name = format!("{}-dkim-{selector}", tenant.id);
        let exists = secrets
            .vault()
            .get(&name)
            .map_err(|e| Failure::new(exit::CANNOT_CREATE, e.to_string()))?
            .is_some();
        if exists {
            return Err(Failure::new(
                exit::CANNOT_CREATE,
                format!(
                    "the vault already has a key {name}; choose another selector, an old key is never overwritten"
                ),
            ));
        }
        let key = match kind {
            Algorithm::Rsa2048 | Algorithm::Both => generate_rsa(),
            Algorithm::Ed25519 => generate_ed25519(),
        };
        made.push((
            selector,
            name,
            key.map_err(|e| Failure::new(exit::FAILED, e))?,
        ));
    }
    for (_, name, key) in &made {
        secrets
            .vault()
            .set(name, key)
            .map_err(|e| Failure::new(exit::CANNOT_CREATE, e.to_string()))?;
    }
    eprintln!(
        "1. Publish these DNS records. 2. Add the lines below them to {}/{}.toml.\n",
        config.server.tenants_dir.display(),
        tenant.id
    );
    for (selector, _, key) in &made {
        let key = Key::parse(key.expose()).map_err(|e| Failure::new(exit::FAILED, e))?;
        print_record(&domain, selector, &key);
    }
    for (selector, name, _) in &made {
        outln!(
            "[[dkim]]\ndomain = \"{domain}\"\nselector = \"{selector}\"\nkey = {{ vault = \"{name}\" }}\n"
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn print_record(domain: &str, selector: &str, key: &Key) {
    let record = key.record();
    outln!(
        "; name\n{}\n; type TXT, value whole (most web panels split it themselves)\n{record}",
        record_name(selector, domain)
    );
    if record.len() > 255 {
        outln!(
            "; value split at 255, for a zone file\n( {} )",
            split(&record)
                .iter()
                .map(|part| format!("\"{part}\""))
                .collect::<Vec<_>>()
                .join(" ")
        );
    }
    outln!("");
}

/// TXT strings hold at most 255 octets; readers join them without a blank.
fn split(record: &str) -> Vec<&str> {
    record
        .as_bytes()
        .chunks(255)
        .filter_map(|chunk| std::str::from_utf8(chunk).ok())
        .collect()
}

/// A tenant that has keys.
fn with_keys<'c>(config: &'c Config, tenant: &str) -> Result<&'c Tenant, Failure> {
    let tenant = tenant_of(config, tenant)?;
    if tenant.dkim.is_empty() {
        return Err(Failure::new(
            exit::FAILED,
            format!(
                "tenant {0} has no [[dkim]]; make keys: postbote dkim new {0} --domain {1} --selector pb1",
                tenant.id,
                tenant.email.ascii_domain()
            ),
        ));
    }
    Ok(tenant)
}

fn record(config: &Config, tenant: &Tenant, json: bool) -> Result<ExitCode, Failure> {
    let secrets = app::open_secrets(config)?;
    let mut list = Vec::new();
    for entry in &tenant.dkim {
        let key = entry
            .key(&secrets)
            .map_err(|e| Failure::new(exit::CONFIG, e.to_string()))?;
        if json {
            let record = key.record();
            list.push(serde_json::json!({"name": record_name(&entry.selector, &entry.domain), "type": "TXT", "value": record, "split": split(&record)}));
        } else {
            print_record(&entry.domain, &entry.selector, key);
        }
    }
    if json {
        outln!("{}", serde_json::Value::Array(list));
    }
    Ok(ExitCode::SUCCESS)
}
