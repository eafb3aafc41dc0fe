//! `postbote queue`: over the control socket of a running server, or straight on the spool of a
//! stopped one.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::Value;

use super::{block_on, exit};
use crate::app::{self, Failure};
use crate::config::Config;
use crate::control::{self, Request};
use crate::spool::operate::{Action, Filter, Report};
use crate::spool::{STATES, State};

/// The spool.
#[derive(Subcommand)]
pub enum Command {
    /// Messages that wait or have failed
    List {
        #[command(flatten)]
        which: Which,
        /// As a JSON array
        #[arg(long)]
        json: bool,
    },
    /// One message's story, settled ones too
    Show {
        /// Its id
        id: String,
        /// As JSON
        #[arg(long)]
        json: bool,
    },
    /// Try at once, failed ones too
    Retry {
        #[command(flatten)]
        which: Which,
    },
    /// Keep until released
    Hold {
        #[command(flatten)]
        which: Which,
    },
    /// Let held messages go
    Release {
        #[command(flatten)]
        which: Which,
    },
    /// Delete without telling anybody
    Remove {
        #[command(flatten)]
        which: Which,
    },
    /// Give up now: a bounce to the return path
    Bounce {
        #[command(flatten)]
        which: Which,
    },
}

/// Which messages.
#[derive(Args)]
pub struct Which {
    /// Ids
    ids: Vec<String>,
    /// Only this tenant's
    #[arg(long)]
    tenant: Option<String>,
    /// Only in this state: queued, deferred, suspended, uncertain, held, failed
    #[arg(long)]
    state: Option<String>,
}

impl Which {
    fn filter(self) -> Result<Filter, Failure> {
        if let Some(state) = &self.state
            && State::from_word(state).is_none_or(|s| s == State::Done)
        {
            let known: Vec<&str> = STATES
                .iter()
                .map(|(_, word)| *word)
                .filter(|w| *w != "done")
                .collect();
            return Err(Failure::new(
                exit::USAGE,
                format!("--state: found {state:?}; allowed: {}", known.join(", ")),
            ));
        }
        Ok(Filter {
            ids: self.ids,
            tenant: self.tenant,
            state: self.state,
        })
    }

    fn filter_for_change(self, what: &str) -> Result<Filter, Failure> {
        let filter = self.filter()?;
        if filter == Filter::default() {
            return Err(Failure::new(
                exit::USAGE,
                format!(
                    "queue {what} needs ids, --tenant or --state, so that nothing is changed by accident"
                ),
            ));
        }
        Ok(filter)
    }
}

pub(super) fn run(config: &Config, command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::List { which, json } => list(config, which.filter()?, json),
        Command::Show { id, json } => show(config, &id, json),
        Command::Retry { which } => {
            operate(config, Action::Retry, which.filter_for_change("retry")?)
        }
        Command::Hold { which } => operate(config, Action::Hold, which.filter_for_change("hold")?),
        Command::Release { which } => {
            operate(config, Action::Release, which.filter_for_change("release")?)
        }
        Command::Remove { which } => {
            operate(config, Action::Remove, which.filter_for_change("remove")?)
        }
        Command::Bounce { which } => {
            operate(config, Action::Bounce, which.filter_for_change("bounce")?)
        }
    }
}

/// Asks the running server; `None`: none is running.
pub(super) fn ask(config: &Config, request: &Request) -> Result<Option<Value>, Failure> {
    let answer = control::ask(&config.server.data_dir, request).map_err(|e| {
        let code = if e.kind() == std::io::ErrorKind::PermissionDenied {
            exit::NOT_PERMITTED
        } else {
            exit::UNAVAILABLE
        };
        Failure::new(
            code,
            format!(
                "the server cannot be asked over {}: {e}; run as the server's user",
                control::path(&config.server.data_dir).display()
            ),
        )
    })?;
    match answer {
        None => Ok(None),
        Some(mut value) => match value.get("error").and_then(Value::as_str) {
            Some(error) => Err(Failure::new(exit::TEMPORARY, error.to_owned())),
            None => Ok(Some(value["ok"].take())),
        },
    }
}

fn list(config: &Config, filter: Filter, json: bool) -> Result<ExitCode, Failure> {
    let list = match ask(
        config,
        &Request::List {
            filter: filter.clone(),
        },
    )? {
        Some(value) => value.as_array().cloned().unwrap_or_default(),
        None => {
            let tools = app::open_stopped(config)?;
            let overlay = app::overlay_stopped(&tools, config).map_err(Failure::from)?;
            tools.spool.list(&filter, &overlay).map_err(Failure::from)?
        }
    };
    if json {
        outln!("{}", Value::Array(list));
        return Ok(ExitCode::SUCCESS);
    }
    let text = |value: &Value, key: &str| value[key].as_str().unwrap_or("-").to_owned();
    for message in &list {
        let to: Vec<&str> = message["to"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|r| r["state"] != "sent")
            .filter_map(|r| r["address"].as_str())
            .collect();
        outln!(
            "{}  {:<9}  {:<12}  {}  {:>9}  {} -> {}",
            text(message, "id"),
            text(message, "state"),
            text(message, "tenant"),
            text(message, "accepted"),
            message["size"],
            text(message, "from"),
            to.join(" ")
        );
        let reason = text(message, "reason");
        if !reason.is_empty() {
            outln!(
                "                  {reason} (next: {}, attempts: {})",
                text(message, "next"),
                message["attempts"]
            );
        }
    }
    eprintln!("{} messages", list.len());
    Ok(ExitCode::SUCCESS)
}

fn show(config: &Config, id: &str, json: bool) -> Result<ExitCode, Failure> {
    let found = match ask(config, &Request::Show { id: id.to_owned() })? {
        Some(value) => value,
        None => {
            let tools = app::open_stopped(config)?;
            let overlay = app::overlay_stopped(&tools, config).map_err(Failure::from)?;
            tools
                .spool
                .show(id, &overlay)
                .map_err(Failure::from)?
                .unwrap_or(Value::Null)
        }
    };
    if found.is_null() {
        return Err(Failure::new(
            exit::DATA,
            format!("no message {id:?} waits, has failed or stands in the history"),
        ));
    }
    if json {
        outln!("{found}");
        return Ok(ExitCode::SUCCESS);
    }
    for key in [
        "id", "tenant", "kind", "state", "from", "accepted", "settled", "next", "attempts", "size",
        "reason",
    ] {
        if let Some(value) = found.get(key).filter(|v| !v.is_null()) {
            outln!(
                "{key:<9} {}",
                value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned)
            );
        }
    }
    for recipient in found["to"].as_array().into_iter().flatten() {
        outln!(
            "to        {} {} {}",
            recipient["address"].as_str().unwrap_or(""),
            recipient["state"].as_str().unwrap_or(""),
            recipient["reply"].as_str().unwrap_or("")
        );
    }
    Ok(ExitCode::SUCCESS)
}

fn operate(config: &Config, action: Action, filter: Filter) -> Result<ExitCode, Failure> {
    let report: Report = match ask(
        config,
        &Request::Operate {
            action,
            filter: filter.clone(),
        },
    )? {
        Some(value) => {
            serde_json::from_value(value).map_err(|e| Failure::new(exit::FAILED, e.to_string()))?
        }
        None => {
            let tools = app::open_stopped(config)?;
            block_on(app::operate_stopped(&tools, config, action, &filter))?
                .map_err(Failure::from)?
        }
    };
    for id in &report.done {
        outln!("{id}");
    }
    for (id, reason) in &report.refused {
        eprintln!("{id}: {reason}");
    }
    eprintln!("{} changed", report.done.len());
    Ok(if report.refused.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(exit::FAILED)
    })
}
