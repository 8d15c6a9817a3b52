//! The gateway as a process: signals, the service manager, and an end to every wait.

use std::future::pending;
use std::time::Duration;

use gateway::RunError;
use gateway::config::Config;
use sd_notify::NotifyState;
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::exit::{Exit, Failure, of_io};
use super::key::exit_of;

/// How long the tasks may take to stop. What is acknowledged is on the disk, so leaving earlier loses nothing.
const GRACE: Duration = Duration::from_millis(2_500);
/// For blocking work that is still running when everything else has stopped.
const LAST_WAIT: Duration = Duration::from_millis(200);

/// Runs until SIGTERM, SIGINT or an error.
pub fn run(config: Config) -> Result<(), Failure> {
    let runtime =
        Runtime::new().map_err(|error| Failure::new(Exit::Io, format!("no threads can be started: {error}")))?;
    let outcome = runtime.block_on(serve(config));
    runtime.shutdown_timeout(LAST_WAIT);
    outcome
}

async fn serve(config: Config) -> Result<(), Failure> {
    let mut signals = Signals::new().map_err(|error| Failure::new(Exit::Io, format!("no signals: {error}")))?;
    let mut watchdog = Watchdog::new();
    let shutdown = CancellationToken::new();
    let mut gateway = Box::pin(gateway::run(config, shutdown.clone(), ready));
    let name = tokio::select! {
        outcome = &mut gateway => return outcome.map_err(failure),
        name = signals.next() => name,
        never = watchdog.feed() => match never {},
    };
    tracing::info!(signal = name, "stopping");
    tell(NotifyState::Stopping);
    shutdown.cancel();
    tokio::select! {
        outcome = &mut gateway => outcome.map_err(failure),
        name = signals.next() => Err(Failure::new(Exit::TemporaryFailure, format!("{name} again: stopped at once"))),
        () = tokio::time::sleep(GRACE) => {
            Err(Failure::new(Exit::Software, format!("some task did not stop within {GRACE:?}; nothing that was acknowledged is lost")))
        }
    }
}

fn ready() {
    tracing::info!("ready");
    tell(NotifyState::Ready);
}

/// Without a service manager nobody listens, which is no error.
fn tell(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// The orders to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Signals> {
        Ok(Signals { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}

/// Tells the service manager that this process still turns, twice as often as it asks for.
struct Watchdog(Option<tokio::time::Interval>);

impl Watchdog {
    fn new() -> Watchdog {
        let limit = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        Watchdog(limit.map(|limit| {
            let mut interval = tokio::time::interval(limit / 2);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        }))
    }

    async fn feed(&mut self) -> std::convert::Infallible {
        let Some(interval) = &mut self.0 else { return pending().await };
        loop {
            interval.tick().await;
            // Repeated, so not worth a warning each time: READY has said it already.
            if let Err(error) = sd_notify::notify(&[NotifyState::Watchdog]) {
                tracing::debug!(%error, "the watchdog cannot be fed");
            }
        }
    }
}

fn failure(error: RunError) -> Failure {
    let exit = match &error {
        RunError::Store(error) => exit_of(error),
        RunError::Listen { source, .. } => of_io(source, Exit::Unavailable),
        RunError::Token(_) => Exit::Io,
        RunError::Task { .. } => Exit::Software,
    };
    Failure::new(exit, error.to_string())
}
