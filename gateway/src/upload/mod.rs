//! The platform half: verified punches to receipts. Does not know that terminals exist.

pub mod courier;
pub mod profiles;

use std::convert::Infallible;

use jiff::tz::Offset;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Employer, Platform};
use crate::ops::Ops;
use crate::store::Store;

/// What the courier of one platform needs.
pub struct Task {
    pub platform: Platform,
    pub employers: Vec<Employer>,
    pub utc_offset: Offset,
    pub store: Store,
    pub clock: Clock,
    pub ops: Ops,
}

/// Serves one platform until `shutdown`. A platform that does not answer is an alarm and no end.
pub async fn run(_task: Task, _shutdown: CancellationToken) -> Result<(), Infallible> {
    todo!()
}
