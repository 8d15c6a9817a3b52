//! The shell of a line with a reader that only sends.

use std::io;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio_serial::SerialStream;
use tokio_util::sync::CancellationToken;

use super::report::Report;
use super::swipes::Swipes;
use super::{moment, port, sleep_until};
use crate::punch::Fact;
use crate::terminals::Context;

/// After the store refused facts.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// At the end the last swipes are given this long to become durable.
const LAST_STORE: Duration = Duration::from_secs(1);

/// A reader that only sends, over many openings of its port.
pub(super) struct Listening {
    swipes: Swipes,
    context: Context,
    report: Report,
    noise: u64,
}

impl Listening {
    pub(super) fn new(swipes: Swipes, context: Context, report: Report) -> Listening {
        Listening { swipes, context, report, noise: 0 }
    }

    /// Serves the open port until it fails or `shutdown`.
    pub(super) async fn serve(&mut self, mut port: SerialStream, shutdown: &CancellationToken) -> io::Result<()> {
        self.swipes.reset();
        self.report.online(self.swipes.origin(), true);
        let outcome = self.listen(&mut port, shutdown).await;
        self.report.online(self.swipes.origin(), false);
        outcome
    }

    async fn listen(&mut self, port: &mut SerialStream, shutdown: &CancellationToken) -> io::Result<()> {
        let mut buffer = [0; 512];
        let mut store_at = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                read = port.read(&mut buffer) => {
                    self.swipes.handle_bytes(port::arrived(&buffer, read)?, moment(&self.context.clock));
                }
                () = sleep_until(self.swipes.poll_timeout()) => self.swipes.handle_timeout(moment(&self.context.clock)),
                () = sleep_until(store_at) => {}
            }
            let stored = tokio::select! {
                // What was being stored is stored or tried again by `finish`.
                () = shutdown.cancelled() => return Ok(()),
                stored = self.store() => stored,
            };
            store_at = (!stored).then(|| self.context.clock.instant() + STORE_RETRY);
            self.count_noise();
        }
    }

    /// Makes everything durable that waits; says whether that worked. The port's own buffer holds what comes meanwhile.
    async fn store(&mut self) -> bool {
        loop {
            let facts = self.swipes.batch(moment(&self.context.clock));
            if facts.is_empty() {
                return true;
            }
            match self.context.store.append(facts.clone()).await {
                Ok(appended) => {
                    self.swipes.commit(&facts);
                    self.report.stored(self.swipes.origin(), &facts, &appended);
                }
                Err(error) => {
                    tracing::debug!(%error, terminal = %self.swipes.origin().terminal, "swipes wait for the store");
                    return false;
                }
            }
        }
    }

    /// The last chance of swipes that the store has not taken: the reader has no copy.
    pub(super) async fn finish(&mut self) {
        let _ = tokio::time::timeout(LAST_STORE, self.store()).await;
        let left = self.swipes.batch(moment(&self.context.clock));
        if left.iter().any(|fact| matches!(fact, Fact::Punch(_))) {
            tracing::error!(terminal = %self.swipes.origin().terminal, "swipes are lost: the store did not take them");
        }
    }

    fn count_noise(&mut self) {
        let noise = self.swipes.noise();
        self.report.damage("noise", noise - self.noise);
        self.noise = noise;
    }
}
