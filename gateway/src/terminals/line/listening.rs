//! The shell of a line with a reader that only sends.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::time::Duration;

use tokio::io::AsyncReadExt;
use tokio_serial::SerialStream;
use tokio_util::sync::CancellationToken;

use super::report::Report;
use super::swipes::Swipes;
use super::{moment, port, sleep_until};
use crate::punch::Fact;
use crate::store::{AppendError, Appended, Store};
use crate::terminals::Context;

/// At the end the last swipes are given this long to become durable.
const LAST_STORE: Duration = Duration::from_secs(1);

/// A reader that only sends, over many openings of its port.
pub(super) struct Listening {
    swipes: Swipes,
    context: Context,
    report: Report,
    /// Under way to the store, whatever becomes of the port meanwhile.
    storing: Option<Storing>,
    noise: u64,
}

type Storing = Pin<Box<dyn Future<Output = Stored> + Send>>;

/// What the store said.
struct Stored {
    facts: Vec<Fact>,
    outcome: Result<Vec<Appended>, AppendError>,
}

impl Listening {
    pub(super) fn new(swipes: Swipes, context: Context, report: Report) -> Listening {
        Listening { swipes, context, report, storing: None, noise: 0 }
    }

    /// Serves the open port until it fails or `shutdown`.
    pub(super) async fn serve(&mut self, mut port: SerialStream, shutdown: &CancellationToken) -> io::Result<()> {
        self.report.online(self.swipes.origin(), true);
        let outcome = self.listen(&mut port, shutdown).await;
        self.report.online(self.swipes.origin(), false);
        self.swipes.reset();
        outcome
    }

    async fn listen(&mut self, port: &mut SerialStream, shutdown: &CancellationToken) -> io::Result<()> {
        let mut buffer = [0; 512];
        loop {
            self.offer();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                read = port.read(&mut buffer) => {
                    self.swipes.handle_bytes(port::arrived(&buffer, read)?, moment(&self.context.clock));
                }
                () = sleep_until(self.swipes.poll_timeout()) => self.swipes.handle_timeout(moment(&self.context.clock)),
                stored = answer(&mut self.storing) => self.handle_stored(stored),
            }
            self.count_noise();
        }
    }

    /// While the port is gone: what the store has not taken is offered to it, for ever.
    pub(super) async fn keep_offering(&mut self) {
        loop {
            self.offer();
            tokio::select! {
                () = sleep_until(self.swipes.poll_timeout()) => self.swipes.handle_timeout(moment(&self.context.clock)),
                stored = answer(&mut self.storing) => self.handle_stored(stored),
            }
        }
    }

    /// Gives the store what waits, unless it is still at work on what it was given before.
    fn offer(&mut self) {
        if self.storing.is_none()
            && let Some(facts) = self.swipes.poll_batch(moment(&self.context.clock))
        {
            self.storing = Some(Box::pin(store(self.context.store.clone(), facts)));
        }
    }

    fn handle_stored(&mut self, Stored { facts, outcome }: Stored) {
        match outcome {
            Ok(appended) => {
                self.swipes.commit(&facts);
                self.report.stored(self.swipes.origin(), &facts, &appended);
            }
            Err(error) => {
                tracing::debug!(%error, terminal = %self.swipes.origin().terminal, "swipes wait for the store");
                self.swipes.handle_refused(self.context.clock.instant());
            }
        }
    }

    /// The last chance of swipes that the store has not taken: the reader has no copy.
    pub(super) async fn finish(&mut self) {
        let _ = tokio::time::timeout(LAST_STORE, self.store_rest()).await;
        if self.rest().iter().any(|fact| matches!(fact, Fact::Punch(_))) {
            tracing::error!(terminal = %self.swipes.origin().terminal, "swipes are lost: the store did not take them");
        }
    }

    /// Until everything is stored or the store refuses.
    async fn store_rest(&mut self) {
        let mut refused = false;
        while !refused && !self.rest().is_empty() {
            if self.storing.is_none() {
                self.storing = Some(Box::pin(store(self.context.store.clone(), self.rest())));
            }
            let stored = answer(&mut self.storing).await;
            refused = stored.outcome.is_err();
            self.handle_stored(stored);
        }
    }

    fn rest(&self) -> Vec<Fact> {
        self.swipes.batch(moment(&self.context.clock))
    }

    fn count_noise(&mut self) {
        let noise = self.swipes.noise();
        self.report.damage("noise", noise - self.noise);
        self.noise = noise;
    }
}

async fn store(store: Store, facts: Vec<Fact>) -> Stored {
    let outcome = store.append(facts.clone()).await;
    Stored { facts, outcome }
}

/// The store's answer to what is under way; none comes when nothing is. May be dropped and called again.
async fn answer(storing: &mut Option<Storing>) -> Stored {
    let Some(under_way) = storing else { return std::future::pending().await };
    let stored = under_way.await;
    *storing = None;
    stored
}
