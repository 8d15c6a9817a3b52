//! Feeds punches to the rules and stores what they say.

use std::convert::Infallible;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::Verify;
use crate::ops::Ops;
use crate::store::Store;

/// Judges new punches as they come and held ones when the roster changes, until `shutdown`.
pub async fn run(
    _rules: Verify,
    _store: Store,
    _clock: Clock,
    _ops: Ops,
    _shutdown: CancellationToken,
) -> Result<(), Infallible> {
    todo!()
}
