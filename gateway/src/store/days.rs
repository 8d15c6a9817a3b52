//! Closes the days of the ledger: after the site's midnight, everything since the last head is covered by a signed one.

use std::convert::Infallible;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::Offset;
use tokio_util::sync::CancellationToken;

use super::ledger::day;
use super::{AppendError, Store, blocking};
use crate::clock::Clock;
use crate::punch::{DayHead, Fact, UnixMs};

/// How often it is looked whether a day is over.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// Why a day stays open for now.
#[derive(Debug, thiserror::Error)]
pub enum CloseError {
    #[error("the ledger cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// Closes days until `shutdown`.
pub async fn run(store: Store, clock: Clock, offset: Offset, shutdown: CancellationToken) -> Result<(), Infallible> {
    let mut failing = false;
    loop {
        let outcome = look(&store, &clock, offset).await;
        if let Err(error) = &outcome
            && !failing
        {
            tracing::warn!(%error, "the day cannot be signed yet and is tried again");
        }
        failing = outcome.is_err();
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
    }
}

/// Closes the last day, when it is over.
pub(super) async fn look(store: &Store, clock: &Clock, offset: Offset) -> Result<Option<DayHead>, CloseError> {
    match over(store, clock, offset).await {
        Some(day) => store.close_day(day, clock.now()).await,
        None => Ok(None),
    }
}

/// The last day that is over, when it is not closed yet. A clock that is not set closes nothing.
async fn over(store: &Store, clock: &Clock, offset: Offset) -> Option<Date> {
    if !clock.is_trustworthy() {
        return None;
    }
    let last = store.read(|view| view.last_day_head()).await;
    let began = match last {
        Some(head) => head.at,
        None => store.began().await?,
    };
    let yesterday = date(clock.now(), offset)?.yesterday().ok()?;
    (date(began, offset)? <= yesterday).then_some(yesterday)
}

fn date(at: UnixMs, offset: Offset) -> Option<Date> {
    let at = jiff::Timestamp::from_millisecond(at.0).ok()?;
    Some(offset.to_datetime(at).date())
}

impl Store {
    /// Signs everything since the last head; `None` when there is nothing.
    pub async fn close_day(&self, day: Date, now: UnixMs) -> Result<Option<DayHead>, CloseError> {
        let view = self.view();
        let shared = self.handles.shared.clone();
        let head = blocking(move || -> std::io::Result<Option<DayHead>> {
            let first = view.last_day_head().map_or(1, |head| head.last.0 + 1);
            let (limit, last) = shared.durable();
            let root = day::read_root(&shared.paths.ledger, (first, last.0), Some(limit))?;
            Ok(root.map(|root| day::sign(&shared.keyring, day, now, (first, last.0), root)))
        });
        let Some(head) = head.await? else { return Ok(None) };
        let appended = self.append(vec![Fact::DayHead(head.clone())]).await?;
        // Whoever asks for the last head next must see this one.
        self.applied(appended[0].seq).await;
        tracing::info!(%day, first = %head.first, last = %head.last, "the day is closed and signed");
        Ok(Some(head))
    }

    /// When the ledger was begun; `None` while it is empty.
    async fn began(&self) -> Option<UnixMs> {
        let dir = self.handles.shared.paths.ledger.clone();
        blocking(move || super::ledger::segment::began(&dir)).await.ok().flatten()
    }
}
