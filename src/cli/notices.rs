//! `postbote notices`: what the people behind a tenant were told, or are to be told.

use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::queue::ask;
use super::{say, tenant_of};
use crate::app::{self, Failure};
use crate::config::Config;
use crate::control::Request;

/// Whose notices.
#[derive(Args)]
pub struct Arguments {
    /// Only this tenant's
    tenant: Option<String>,
    /// As a JSON array
    #[arg(long)]
    json: bool,
}

pub(super) fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Failure> {
    let tenant = match &arguments.tenant {
        Some(name) => Some(tenant_of(config, name)?.id.to_string()),
        None => None,
    };
    let request = Request::Notices {
        tenant: tenant.clone(),
    };
    let list = match ask(config, &request)? {
        Some(value) => value.as_array().cloned().unwrap_or_default(),
        None => {
            let tools = app::open_stopped(config)?;
            let noted = tools.spool.notices(tenant.as_deref())?;
            match serde_json::to_value(noted) {
                Ok(Value::Array(list)) => list,
                _ => Vec::new(),
            }
        }
    };
    if arguments.json {
        outln!("{}", Value::Array(list));
        return Ok(ExitCode::SUCCESS);
    }
    let language = config.server.language;
    let text = |notice: &Value, key: &str| notice[key].as_str().unwrap_or_default().to_owned();
    for notice in &list {
        outln!(
            "{}  {:<12}  {}",
            text(notice, "at"),
            text(notice, "tenant"),
            text(notice, "event")
        );
        for line in text(notice, "text").lines() {
            outln!("    {line}");
        }
        let remedy = text(notice, "remedy");
        if !remedy.is_empty() {
            let label = say(language, "Abhilfe", "Remedy");
            outln!("    {label}: {}", remedy.replace('\n', "\n      "));
        }
        match notice["told"].as_str() {
            Some(at) => outln!("    {}: {at}", say(language, "gemailt", "mailed")),
            None => outln!(
                "    {}",
                say(language, "noch nicht gemailt", "not mailed yet")
            ),
        }
    }
    if list.is_empty() {
        eprintln!("{}", say(language, "Keine Hinweise.", "No notices."));
    }
    Ok(ExitCode::SUCCESS)
}
