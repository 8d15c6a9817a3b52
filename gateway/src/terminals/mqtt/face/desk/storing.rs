//! Facts of the sessions to the store, and the outcome back.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::super::Now;
use super::super::session::StoreToken;
use super::{Desk, Entry, Taken};
use crate::ops::metrics::TerminalLabel;
use crate::punch::Fact;
use crate::store::AppendError;

/// A store that does not answer within this is treated as refusing; the terminal sends again.
const STORE_TIMEOUT: Duration = Duration::from_secs(30);

/// Something that a session wants stored.
pub struct StoreRequest {
    pub token: StoreToken,
    pub fact: Box<Fact>,
    pub photo: Option<Bytes>,
}

/// Store requests under way. However their task ends, the session hears of each.
struct Unfinished<'a> {
    desk: &'a Desk,
    entry: &'a Entry,
    requests: VecDeque<StoreRequest>,
    writing: Option<StoreToken>,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        let tokens = self.writing.take().into_iter().chain(self.requests.drain(..).map(|request| request.token));
        let tokens: Vec<StoreToken> = tokens.collect();
        if tokens.is_empty() {
            return;
        }
        let now = Now::of(&self.desk.context.clock);
        let mut state = self.entry.lock();
        for token in tokens {
            state.session.handle_not_stored(now, token);
        }
        self.desk.settle(self.entry, &mut state);
    }
}

impl Desk {
    /// Makes these durable, one after the other, and tells the session of each.
    pub(super) async fn store(&self, entry: &Entry, requests: VecDeque<StoreRequest>, received: Instant) -> Taken {
        let mut taken = Taken::Settled;
        let mut unfinished = Unfinished { desk: self, entry, requests, writing: None };
        while let Some(StoreRequest { token, fact, photo }) = unfinished.requests.pop_front() {
            unfinished.writing = Some(token);
            let label = label_of(&fact);
            let written = tokio::time::timeout(STORE_TIMEOUT, self.write(*fact, photo)).await;
            let Some(token) = unfinished.writing.take() else { continue };
            let now = Now::of(&self.context.clock);
            let mut state = entry.lock();
            match written {
                Ok(Ok(new)) => {
                    state.session.handle_stored(now, token);
                    self.count(label, new, now.instant.saturating_duration_since(received));
                }
                Ok(Err(error)) => {
                    tracing::debug!(serial = entry.serial, %error, "not stored, not acknowledged");
                    state.session.handle_not_stored(now, token);
                    taken = Taken::Refused;
                }
                Err(_) => {
                    tracing::warn!(serial = entry.serial, "the store does not answer; not acknowledged");
                    state.session.handle_not_stored(now, token);
                    taken = Taken::Refused;
                }
            }
            self.settle(entry, &mut state);
        }
        taken
    }

    /// True when the fact is new.
    async fn write(&self, fact: Fact, photo: Option<Bytes>) -> Result<bool, AppendError> {
        if let Some(photo) = photo {
            return Ok(self.context.store.append_with_photo(fact, photo).await?.new);
        }
        let appended = self.context.store.append(vec![fact]).await?;
        Ok(appended.first().is_none_or(|appended| appended.new))
    }

    fn count(&self, label: Option<(Counted, TerminalLabel)>, new: bool, took: Duration) {
        let metrics = &self.context.ops.metrics;
        let Some((counted, label)) = label else { return };
        match counted {
            Counted::Punch if new => metrics.punches.get_or_create(&label).inc(),
            Counted::Punch => metrics.redelivered.get_or_create(&label).inc(),
            Counted::Quarantine => metrics.quarantined.get_or_create(&label).inc(),
        };
        metrics.acknowledge_seconds.observe(took.as_secs_f64());
    }
}

#[derive(Clone, Copy)]
enum Counted {
    Punch,
    Quarantine,
}

fn label_of(fact: &Fact) -> Option<(Counted, TerminalLabel)> {
    let (counted, terminal) = match fact {
        Fact::Punch(punch) => (Counted::Punch, punch.terminal.0.clone()),
        Fact::Quarantine(kept) => {
            (Counted::Quarantine, kept.terminal.as_ref().map_or_else(|| kept.serial.clone(), |id| id.0.clone()))
        }
        _ => return None,
    };
    Some((counted, TerminalLabel { terminal }))
}
