//! The command line: one file a command. Data goes to stdout, talk to stderr.

/// Prints a line of data; a reader that has gone away ends the program quietly.
macro_rules! outln {
    ($($argument:tt)*) => {{
        use std::io::Write as _;
        if writeln!(std::io::stdout(), $($argument)*).is_err() {
            std::process::exit(0);
        }
    }};
}

mod check;
mod dkim;
mod doctor;
mod notices;
mod oauth;
mod preview;
mod queue;
mod run;
mod sendmail;
mod tenant;
mod test;
mod vault;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::app::Failure;
use crate::config::{self, Config, Severity};
use crate::explain::Language;
use crate::message::TenantId;
use crate::tenant::Tenant;

/// Exit codes of sysexits.h.
pub mod exit {
    /// It did not succeed.
    pub const FAILED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 64;
    /// Bad input data.
    pub const DATA: u8 = 65;
    /// Not reachable.
    pub const UNAVAILABLE: u8 = 69;
    /// Cannot create.
    pub const CANNOT_CREATE: u8 = 73;
    /// Temporary, try again.
    pub const TEMPORARY: u8 = 75;
    /// Not permitted.
    pub const NOT_PERMITTED: u8 = 77;
    /// Configuration.
    pub const CONFIG: u8 = 78;
}

/// Local SMTP submission proxy: takes mail on localhost and relays it through each tenant's own
/// mail server.
#[derive(Parser)]
#[command(name = "postbote", version, max_term_width = 100)]
struct Arguments {
    /// The operator's file [default: /etc/postbote/postbote.toml, else ./config/postbote.toml]
    #[arg(long, global = true, env = "POSTBOTE_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Serve in the foreground: listeners, delivery, admin address
    Run(run::Arguments),
    /// Read the configuration as `run` would and print every problem at once
    Check {
        /// Print the JSON Schema of the operator's or a tenant's file instead
        #[arg(long, value_name = "operator|tenant")]
        schema: Option<check::Schema>,
        /// Print problems as JSON
        #[arg(long)]
        json: bool,
    },
    /// Send a test mail through the tenant's real route and follow it
    Test(test::Arguments),
    /// Look at the tenant's route, sender, SPF, DKIM and DMARC; send nothing
    Doctor(doctor::Arguments),
    /// Print a message from standard input exactly as it would leave; send nothing
    Preview(preview::Arguments),
    /// List, show, add or reset tenants
    #[command(subcommand)]
    Tenant(tenant::Command),
    /// Make DKIM keys, print their DNS records, compare them with DNS
    #[command(subcommand)]
    Dkim(dkim::Command),
    /// Authorise at Microsoft, Google or another provider
    #[command(subcommand)]
    Oauth(oauth::Command),
    /// Keep secrets, encrypted at rest
    #[command(subcommand)]
    Vault(vault::Command),
    /// What the people behind a tenant were told, or are to be told
    Notices(notices::Arguments),
    /// See and change what waits
    #[command(subcommand)]
    Queue(queue::Command),
    /// Hand in a message as /usr/sbin/sendmail does
    Sendmail {
        /// As for sendmail: -t -i -oi -f ADDR -F NAME -bs --tenant T -- RECIPIENT…
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Print shell completions
    Completions {
        /// bash, zsh, fish, elvish or powershell
        shell: clap_complete::Shell,
    },
    /// Print manual pages
    Man {
        /// Write one page a command into this directory instead
        #[arg(long, value_name = "DIR")]
        out: Option<PathBuf>,
    },
}

/// The same with `run` alone: a server that stays for months does not have to build, and keep in
/// memory, what describes all the other commands.
#[derive(Parser)]
#[command(name = "postbote", version)]
struct Serving {
    #[arg(long, global = true, env = "POSTBOTE_CONFIG")]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: Serve,
}

#[derive(Subcommand)]
enum Serve {
    Run(run::Arguments),
}

/// The program.
pub fn main() -> ExitCode {
    // The one place where the process gets its cryptography, before anything uses it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut arguments: Vec<OsString> = std::env::args_os().collect();
    let name = arguments
        .first()
        .map(|a| PathBuf::from(a).file_name().unwrap_or_default().to_owned())
        .unwrap_or_default();
    // sendmail's arguments are its own, `--` included: they never go through our parser.
    let rest = if name == "sendmail" {
        Some((None, arguments.split_off(1)))
    } else {
        sendmail_arguments(&arguments)
    };
    if let Some((config, rest)) = rest {
        let config = config.or_else(|| std::env::var_os("POSTBOTE_CONFIG").map(PathBuf::from));
        return finish(sendmail::run(config, rest));
    }
    if arguments.iter().any(|a| a == "run")
        && let Ok(serving) = Serving::try_parse_from(&arguments)
    {
        let Serve::Run(arguments) = serving.command;
        return finish(find(serving.config).and_then(|file| run::run(&file, &arguments)));
    }
    // Help and whatever is wrong are told by the whole.
    let parsed = match Arguments::try_parse_from(arguments) {
        Ok(parsed) => parsed,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { 0 });
        }
    };
    finish(dispatch(parsed))
}

fn finish(result: Result<ExitCode, Failure>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("postbote: {}", failure.message);
            ExitCode::from(failure.code)
        }
    }
}

/// The arguments behind `postbote [--config FILE] sendmail`, except where help is asked for.
fn sendmail_arguments(arguments: &[OsString]) -> Option<(Option<PathBuf>, Vec<OsString>)> {
    let mut config = None;
    let mut at = 1;
    loop {
        let word = arguments.get(at)?.to_str()?;
        if word == "sendmail" {
            let rest = arguments[at + 1..].to_vec();
            let help = rest.first().is_some_and(|a| a == "--help" || a == "help");
            return (!help).then_some((config, rest));
        } else if word == "--config" {
            config = Some(PathBuf::from(arguments.get(at + 1)?));
            at += 2;
        } else if let Some(path) = word.strip_prefix("--config=") {
            config = Some(PathBuf::from(path));
            at += 1;
        } else {
            return None;
        }
    }
}

fn dispatch(arguments: Arguments) -> Result<ExitCode, Failure> {
    let file = arguments.config;
    match arguments.command {
        Command::Run(arguments) => run::run(&find(file)?, &arguments),
        Command::Check {
            schema: Some(schema),
            ..
        } => check::schema(schema),
        Command::Check { schema: None, json } => check::check(&find(file)?, json),
        Command::Test(arguments) => test::run(&load(file)?, &arguments),
        Command::Doctor(arguments) => doctor::run(&load(file)?, &arguments),
        Command::Preview(arguments) => preview::run(&load(file)?, &arguments),
        Command::Tenant(command) => tenant::run(&find(file)?, command),
        Command::Dkim(command) => dkim::run(&load(file)?, command),
        Command::Notices(arguments) => notices::run(&load(file)?, &arguments),
        Command::Oauth(command) => oauth::run(&load(file)?, command),
        Command::Vault(command) => vault::run(&find(file)?, command),
        Command::Queue(command) => queue::run(&load(file)?, command),
        Command::Sendmail { arguments } => sendmail::run(file, arguments),
        Command::Completions { shell } => {
            clap_complete::generate(
                shell,
                &mut self::Arguments::command(),
                "postbote",
                &mut std::io::stdout(),
            );
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { out } => man(out),
    }
}

fn man(out: Option<PathBuf>) -> Result<ExitCode, Failure> {
    let command = Arguments::command();
    let failed = |e: std::io::Error| {
        Failure::new(
            exit::CANNOT_CREATE,
            format!("the manual pages cannot be written: {e}"),
        )
    };
    match out {
        Some(directory) => {
            std::fs::create_dir_all(&directory).map_err(failed)?;
            clap_mangen::generate_to(command, &directory).map_err(failed)?;
        }
        None => clap_mangen::Man::new(command)
            .render(&mut std::io::stdout())
            .map_err(failed)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn find(named: Option<PathBuf>) -> Result<PathBuf, Failure> {
    config::find(named.as_deref()).map_err(|e| Failure::new(exit::CONFIG, e))
}

/// The configuration, or all its errors.
fn load(named: Option<PathBuf>) -> Result<Config, Failure> {
    let path = find(named)?;
    let outcome = config::load(&path);
    for problem in outcome
        .problems
        .iter()
        .filter(|p| p.severity == Severity::Error)
    {
        eprintln!("{problem}");
    }
    outcome
        .config
        .ok_or_else(|| Failure::new(exit::CONFIG, format!("{} has errors", path.display())))
}

/// A tenant by the id that a person typed.
fn tenant_of<'c>(config: &'c Config, id: &str) -> Result<&'c std::sync::Arc<Tenant>, Failure> {
    TenantId::parse(id)
        .and_then(|parsed| config.directory.tenant(&parsed))
        .ok_or_else(|| {
            let known: Vec<&str> = config
                .directory
                .tenants()
                .map(|t| t.id.as_str())
                .take(20)
                .collect();
            let known = if known.is_empty() {
                "there is none yet; add one: postbote tenant add ID --email ADDR".to_owned()
            } else {
                format!("known: {}", known.join(", "))
            };
            Failure::new(exit::DATA, format!("there is no tenant {id:?}; {known}"))
        })
}

/// Runs async work of a command.
fn block_on<T>(work: impl Future<Output = T>) -> Result<T, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| Failure::new(71, e.to_string()))?;
    let done = runtime.block_on(work);
    // A read of the terminal that nobody answers must not hold up the end.
    runtime.shutdown_background();
    Ok(done)
}

/// German or English, in a word.
fn say(language: Language, de: &str, en: &str) -> String {
    match language {
        Language::De => de.to_owned(),
        Language::En => en.to_owned(),
    }
}
