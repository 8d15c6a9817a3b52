//! Who may pass today, as the readers of a line are to know it.

use std::sync::Arc;
use std::time::Duration;

use jiff::civil::Date;
use protocol::Key;

use super::listing::List;
use crate::punch::{BadgeOnRoster, Seq, Worker};
use crate::store::Store;

/// How often the roster is looked at. Most looks read one number.
const INTERVAL: Duration = Duration::from_secs(5);

/// The roster as it was last seen: its version, and for which day.
pub(super) type Seen = Option<(Seq, Date)>;

/// What a look has found.
pub(super) struct Found {
    pub seen: Seen,
    /// One per key, when the roster or the day is another one than before.
    pub lists: Option<Vec<Arc<List>>>,
}

/// Waits for the next look and takes it. Without a day that can be believed the lists stay as they are.
pub(super) async fn look(store: Store, seen: Seen, today: Option<Date>, keys: Arc<[Option<Key>]>) -> Found {
    // The first look is at once: readers that were paired today have no list.
    if seen.is_some() {
        tokio::time::sleep(INTERVAL).await;
    }
    let Some(day) = today else {
        tokio::time::sleep(INTERVAL).await;
        return Found { seen, lists: None };
    };
    store
        .read(move |view| {
            let version = view.roster_version();
            let now = Some((version, day));
            let workers = if now == seen { Vec::new() } else { view.workers() };
            if workers.is_empty() {
                return Found { seen: now, lists: None };
            }
            let badges: Vec<BadgeOnRoster> = workers.iter().filter_map(|worker| registered(worker, day)).collect();
            let lists = keys.iter().map(|key| Arc::new(List::new(&badges, *key))).collect();
            Found { seen: now, lists: Some(lists) }
        })
        .await
}

/// The worker's badge, if the worker belongs to the site on this day.
fn registered(worker: &Worker, day: Date) -> Option<BadgeOnRoster> {
    let has_left = worker.left_on.is_some_and(|left| day > left);
    let is_to_come = worker.entered_on.is_some_and(|entered| day < entered);
    worker.badge.filter(|_| !has_left && !is_to_come)
}
