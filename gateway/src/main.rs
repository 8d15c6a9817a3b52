//! Arguments, config, tracing, signals, exit codes.
//!
//! Says what is wrong on standard error and by an exit code of sysexits; everything else is in the library.

mod cli;

use std::io::{ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand, ValueEnum};
use gateway::config::{Config, Problem};
use gateway::store::ledger::export::Format;
use tracing_subscriber::EnvFilter;

use crate::cli::exit::{Exit, Failure};
use crate::cli::reader::pair::Words;
use crate::cli::reader::sign::Board;

/// The system's own keeps most of what a rush has freed: 195 MiB after a million punches in minutes, where this keeps 65.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// 安薪网关: between the gate of a construction site and the wage-payment monitoring platform.
#[derive(Parser)]
#[command(name = "anxin-gateway", version, about)]
struct Arguments {
    /// How log lines look on standard error; RUST_LOG chooses which.
    #[arg(long, value_enum, default_value = "text", global = true)]
    log_format: LogFormat,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

#[derive(Subcommand)]
enum Command {
    /// Run the gateway until SIGTERM or SIGINT.
    Run(ConfigFile),
    /// Check a configuration and name everything that is wrong with it.
    Check(ConfigFile),
    /// The site's workers.
    #[command(subcommand)]
    Roster(RosterCommand),
    /// Write everything that must not be lost into one encrypted file. The gateway may be running.
    Backup {
        #[command(flatten)]
        config: ConfigFile,
        /// Holds the passphrase of the backup, 12 characters or more.
        #[arg(long, value_name = "FILE")]
        passphrase_file: PathBuf,
        /// A new file.
        output: PathBuf,
    },
    /// Make the data directory from a backup, on a new box or an empty disk.
    Restore {
        #[command(flatten)]
        config: ConfigFile,
        #[arg(long, value_name = "FILE")]
        passphrase_file: PathBuf,
        backup: PathBuf,
    },
    /// Delete everything that the gateway has stored, years after wages were settled. The gateway must stand still.
    Erase(ConfigFile),
    /// The keys that seal the data. The gateway must stand still.
    #[command(subcommand)]
    Key(KeyCommand),
    /// Every fact, hash-chained. Reads only; the gateway may be running.
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Our own badge readers: the bench, and a new program.
    #[command(subcommand)]
    Reader(ReaderCommand),
}

#[derive(Subcommand)]
enum ReaderCommand {
    /// Give a new reader its address, key and speed, alone at a port on the bench.
    Pair(Words),
    /// Hand a new program to a reader through the running gateway, and wait until it runs.
    Update {
        #[command(flatten)]
        config: ConfigFile,
        /// The reader's id in the configuration.
        terminal: String,
        /// As the maker has signed it.
        file: PathBuf,
    },
    /// Sign programs for an update. For the maker of the firmware.
    Sign {
        /// The maker's secret key: 64 hexadecimal digits.
        #[arg(long, value_name = "FILE")]
        key_file: PathBuf,
        #[arg(long, value_enum)]
        board: Board,
        /// Higher than that of every earlier update.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
        version: u32,
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
        /// Linked for slot 1 and for slot 2.
        #[arg(required = true, num_args = 1..=2)]
        programs: Vec<PathBuf>,
    },
}

#[derive(Subcommand)]
enum RosterCommand {
    /// Give a roster file to the running gateway: all its rows are taken, or none.
    Import {
        #[command(flatten)]
        config: ConfigFile,
        /// CSV in UTF-8, with a header.
        file: PathBuf,
    },
}

#[derive(Subcommand)]
enum KeyCommand {
    /// Seal what is stored from now on with a new data key.
    Rotate(ConfigFile),
    /// Seal the keyring with another key file or passphrase.
    Change {
        #[command(flatten)]
        config: ConfigFile,
        /// 64 hexadecimal digits or a passphrase, for nobody else to read; made when missing.
        #[arg(long, value_name = "FILE")]
        new_key_file: PathBuf,
    },
}

#[derive(Subcommand)]
enum LedgerCommand {
    /// Prove that nothing was changed, removed, added or moved.
    Verify {
        /// The gateway's data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The key that was written down: days signed with another one are not believed.
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
    },
    /// Write what proves one punch and its verdicts to somebody who has no ledger.
    Prove {
        /// The gateway's data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The key that the data is sealed with. Default: as the gateway finds it without a configuration.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// A new file; standard output when missing.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// The punch's id.
        punch: String,
    },
    /// Check such a proof and show what it proves. Needs no ledger and no gateway.
    CheckProof {
        /// The key that was written down on the site.
        #[arg(long, value_name = "HEX")]
        public_key: Option<String>,
        proof: PathBuf,
    },
    /// Write every fact as text, personal data included.
    Export {
        /// The gateway's data directory.
        #[arg(long, value_name = "DIR")]
        data: PathBuf,
        /// The key that the data is sealed with. Default: as the gateway finds it without a configuration.
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
        /// A new file; standard output when missing.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        #[arg(long, value_enum, default_value = "jsonl")]
        format: ExportFormat,
    },
}

#[derive(Clone, Copy, ValueEnum)]
enum ExportFormat {
    Jsonl,
    Csv,
}

impl From<ExportFormat> for Format {
    fn from(format: ExportFormat) -> Format {
        match format {
            ExportFormat::Jsonl => Format::Jsonl,
            ExportFormat::Csv => Format::Csv,
        }
    }
}

#[derive(Args)]
struct ConfigFile {
    /// Default: gateway.toml here, else /etc/anxin/gateway.toml, else built-in defaults.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a closed standard error.
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    match execute(arguments) {
        Ok(()) => Exit::Ok.into(),
        Err(error) => {
            eprintln!("anxin-gateway: {error:#}");
            error.downcast_ref::<Failure>().map_or(Exit::Software, |failure| failure.exit).into()
        }
    }
}

fn execute(arguments: Arguments) -> anyhow::Result<()> {
    prepare_process()?;
    match arguments.command {
        Command::Run(file) => {
            start_tracing(arguments.log_format)?;
            Ok(cli::serve::run(load(&file)?)?)
        }
        Command::Check(file) => say(&cli::summary::of(&load(&file)?)),
        Command::Roster(RosterCommand::Import { config, file }) => say(&cli::import::run(&load(&config)?, &file)?),
        Command::Backup { config, passphrase_file, output } => {
            say(&cli::backup::write(&load(&config)?, &output, &passphrase_file)?)
        }
        Command::Restore { config, passphrase_file, backup } => {
            say(&cli::backup::restore(&load(&config)?, &backup, &passphrase_file)?)
        }
        Command::Erase(file) => say(&cli::erase::run(&load(&file)?)?),
        Command::Key(KeyCommand::Rotate(file)) => say(&cli::key::rotate(&load(&file)?)?),
        Command::Key(KeyCommand::Change { config, new_key_file }) => {
            say(&cli::key::change(&load(&config)?, &new_key_file)?)
        }
        Command::Reader(ReaderCommand::Pair(words)) => say(&cli::reader::pair::run(&words)?),
        Command::Reader(ReaderCommand::Update { config, terminal, file }) => {
            say(&cli::reader::update::run(&load(&config)?, &terminal, &file)?)
        }
        Command::Reader(ReaderCommand::Sign { key_file, board, version, output, programs }) => {
            say(&cli::reader::sign::run(&key_file, board, version, &programs, &output)?)
        }
        Command::Ledger(LedgerCommand::Verify { data, public_key }) => {
            say(&cli::ledger::verify(&data, public_key.as_deref())?)
        }
        Command::Ledger(LedgerCommand::Prove { data, key_file, output, punch }) => {
            let written = cli::proof::prove(&data, key_file.as_deref(), output.as_deref(), &punch)?;
            eprintln!("{written}");
            Ok(())
        }
        Command::Ledger(LedgerCommand::CheckProof { public_key, proof }) => {
            say(&cli::proof::check(&proof, public_key.as_deref())?)
        }
        Command::Ledger(LedgerCommand::Export { data, key_file, output, format }) => {
            let key_file = key_file.as_deref();
            eprintln!("{}", cli::ledger::export(&data, key_file, output.as_deref(), format.into())?);
            Ok(())
        }
    }
}

/// Prints an outcome. Who closes standard output does not want it.
fn say(text: &str) -> anyhow::Result<()> {
    match writeln!(std::io::stdout(), "{}", text.trim_end()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written.context("standard output cannot be written")?),
    }
}

/// The configuration, or all its problems, one per line.
fn load(file: &ConfigFile) -> Result<Config, Failure> {
    let config = match &file.config {
        Some(path) => Config::load(path),
        None => match ["gateway.toml", "/etc/anxin/gateway.toml"].map(Path::new).into_iter().find(|path| path.exists())
        {
            Some(path) => Config::load(path),
            None => Ok(Config::builtin()),
        },
    };
    config.map_err(|problems| Failure::new(Exit::Config, described(&problems)))
}

fn described(problems: &[Problem]) -> String {
    let count = match problems.len() {
        1 => "one problem".to_owned(),
        many => format!("{many} problems"),
    };
    problems.iter().fold(format!("the configuration has {count}"), |text, problem| format!("{text}\n{problem}"))
}

fn start_tracing(format: LogFormat) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().with_default_directive(tracing::Level::INFO.into()).from_env_lossy();
    let logs = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match format {
        LogFormat::Text => logs.try_init(),
        LogFormat::Json => logs.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error)).context("logging cannot be started")
}

/// What holds for the whole process: files for nobody else, and one source of TLS.
fn prepare_process() -> anyhow::Result<()> {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    let installed = rustls::crypto::ring::default_provider().install_default();
    installed.map_err(|_| anyhow::anyhow!("another TLS provider is installed already"))
}
