//! Anxin Gateway: between the gate of a construction site and the wage-payment monitoring platform.
//!
//! A punch comes in through [`terminals`], is made durable by [`store`], acknowledged, judged by [`verify`], and
//! forwarded by [`upload`] until each platform has answered for it. [`console`] shows all of it. The two halves,
//! `terminals` and `upload`, meet only at the store. Cores take `now` as an argument and do no I/O; shells move bytes.
//!
//! What always holds: nothing is acknowledged before it is durable; a fact is never edited; the same punch has one
//! identity wherever it comes from; a punch leaves an outbox only by a receipt; loss is recorded as a gap.

pub mod clock;
pub mod config;
pub mod console;
pub mod mask;
pub mod ops;
pub mod photo;
pub mod punch;
pub mod roster;
pub mod store;
pub mod terminals;
pub mod upload;
pub mod verify;

use std::future::Future;
use std::sync::Arc;

use jiff::ToSpan;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Config;
use crate::ops::Ops;
use crate::punch::{Epoch, Fact, UnixMs};
use crate::store::{Store, StoreOptions};
use crate::terminals::hub::{Hub, Terminal};

/// Why the gateway stopped other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Store(#[from] store::OpenError),
    #[error("cannot listen on {address}: {source}")]
    Listen { address: String, source: std::io::Error },
    #[error("cannot read or create the API token: {0}")]
    Token(#[from] console::TokenError),
    #[error("{task} ended by itself: {cause}")]
    Task { task: String, cause: String },
}

/// Runs the gateway until `shutdown` or until a task fails. `ready` is called once intake is open.
pub async fn run(config: Config, shutdown: CancellationToken, ready: impl FnOnce()) -> Result<(), RunError> {
    let clock = Clock::system();
    let ops = Ops::new(clock.clone());
    let console_listener = listen(&config.console.listen.to_string()).await?;
    let store = open_store(&config, &clock).await?;
    let hub = Arc::new(Hub::new(known_terminals(&config, &store).await));
    let token = console::load_token(&config.data_dir.join(&config.console.token_file))?;

    let mut tasks = Tasks { set: JoinSet::new(), shutdown: shutdown.child_token() };
    let context = terminals::Context {
        store: store.clone(),
        hub: hub.clone(),
        clock: clock.clone(),
        ops: ops.clone(),
        utc_offset: config.site.utc_offset,
    };
    tasks.start("vigil", |stop| {
        let kept_until = config.store.keep_until.map(|last| day_start(last.saturating_add(1.day()), &config));
        ops::vigil::run(config.data_dir.clone(), kept_until, store.clone(), clock.clone(), ops.clone(), stop)
    });
    tasks.start("days", |stop| store::days::run(store.clone(), clock.clone(), config.site.utc_offset, stop));
    tasks.start("verification", |stop| {
        verify::judge::run(config.verify.clone(), store.clone(), clock.clone(), ops.clone(), stop)
    });
    for platform in &config.platforms {
        tasks.start(&format!("platform {}", platform.name), |stop| {
            let task = upload::Task {
                platform: platform.clone(),
                employers: config.employers.clone(),
                utc_offset: upload::BEIJING,
                store: store.clone(),
                clock: clock.clone(),
                ops: ops.clone(),
            };
            upload::run(task, stop)
        });
    }
    for line in &config.lines {
        tasks.start(&format!("line {}", line.path.display()), |stop| {
            terminals::line::run(line.clone(), context.clone(), stop)
        });
    }
    let intake = terminals::mqtt::bind(&config.mqtt, context.clone()).await?;
    tasks.start("mqtt", |stop| intake.run(stop));
    tasks.start("console", |stop| {
        let context = console::Context {
            config: config.clone(),
            store: store.clone(),
            hub: hub.clone(),
            clock: clock.clone(),
            ops: ops.clone(),
            token,
        };
        console::serve(console_listener, context, stop)
    });
    record_epoch(&config, &store, &clock).await;
    ops.board.set_intake_open(true);
    ready();

    let outcome = tasks.wait(&shutdown).await;
    ops.board.set_intake_open(false);
    store.close().await;
    outcome
}

async fn listen(address: &str) -> Result<tokio::net::TcpListener, RunError> {
    tokio::net::TcpListener::bind(address)
        .await
        .map_err(|source| RunError::Listen { address: address.to_owned(), source })
}

async fn open_store(config: &Config, clock: &Clock) -> Result<Store, RunError> {
    let platforms = config
        .platforms
        .iter()
        .map(|platform| (platform.name.clone(), platform.upload_from.map(|day| day_start(day, config))))
        .collect();
    let config::Store { key, retention, keep_until: _ } = config.store.clone();
    let options = StoreOptions { key, retention, ..StoreOptions::new(config.data_dir.clone(), platforms) };
    let clock = clock.clone();
    let opened = tokio::task::spawn_blocking(move || Store::open(options, clock)).await;
    match opened {
        Ok(store) => Ok(store?),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

fn day_start(day: jiff::civil::Date, config: &Config) -> UnixMs {
    let midnight = config.site.utc_offset.to_timestamp(day.at(0, 0, 0, 0));
    UnixMs(midnight.map(|at| at.as_millisecond()).unwrap_or(0))
}

/// Configured terminals, and those approved on the console.
async fn known_terminals(config: &Config, store: &Store) -> Vec<Terminal> {
    let configured = config.terminals.iter().map(|terminal| Terminal {
        id: terminal.id.clone(),
        protocol: terminal.protocol.as_str().to_owned(),
        serial: terminal.serial.clone(),
        direction: terminal.direction,
        password: terminal.password.clone(),
    });
    let adopted = store.read(|view| view.adoptions()).await;
    let adopted = adopted.into_iter().filter_map(|adoption| {
        Some(Terminal {
            id: adoption.terminal,
            protocol: adoption.protocol,
            serial: adoption.serial,
            direction: config::DirectionRule::from_name(&adoption.direction)?,
            password: None,
        })
    });
    adopted.chain(configured).collect()
}

/// Says in the ledger under which settings the following facts are made. Intake does not depend on it.
async fn record_epoch(config: &Config, store: &Store, clock: &Clock) {
    let epoch = Epoch {
        at: clock.now(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        config_hash: config.hash,
        utc_offset_s: config.site.utc_offset.seconds(),
        rule_version: verify::RULE_VERSION,
    };
    if let Err(error) = store.append(vec![Fact::Epoch(epoch)]).await {
        tracing::warn!(%error, "the settings of this start could not be recorded");
    }
}

/// All tasks of the gateway; started in `run` and nowhere else, and all of them joined.
struct Tasks {
    set: JoinSet<(String, Result<(), String>)>,
    shutdown: CancellationToken,
}

impl Tasks {
    fn start<F, E>(&mut self, name: &str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let name = name.to_owned();
        let task = task(self.shutdown.clone());
        self.set.spawn(async move {
            let outcome = task.await.map_err(|error| error.to_string());
            (name, outcome)
        });
    }

    /// Waits for the order to stop or for the first task that ends by itself; then stops and joins the rest.
    async fn wait(mut self, shutdown: &CancellationToken) -> Result<(), RunError> {
        let first = tokio::select! {
            () = shutdown.cancelled() => None,
            ended = self.set.join_next() => ended,
        };
        self.shutdown.cancel();
        let is_clean = |ended: &_| matches!(ended, Ok((_, Ok(()))));
        let mut outcome = match first {
            // The end of a task that was told to stop may be seen before the order itself.
            Some(ended) if shutdown.is_cancelled() && is_clean(&ended) => Ok(()),
            Some(ended) => Err(Self::ended_early(ended)),
            None => Ok(()),
        };
        while let Some(ended) = self.set.join_next().await {
            if !is_clean(&ended) && outcome.is_ok() {
                outcome = Err(Self::ended_early(ended));
            }
        }
        outcome
    }

    fn ended_early(ended: Result<(String, Result<(), String>), tokio::task::JoinError>) -> RunError {
        match ended {
            Ok((task, Ok(()))) => RunError::Task { task, cause: "without an error".to_owned() },
            Ok((task, Err(cause))) => RunError::Task { task, cause },
            Err(error) => RunError::Task { task: "a task".to_owned(), cause: error.to_string() },
        }
    }
}
