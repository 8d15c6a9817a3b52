//! The field half: bytes from terminals to stored punches, and acknowledgements back after the commit.
//!
//! Does not know that a platform exists.

pub mod firmware;
pub mod hub;
pub mod line;
pub mod mqtt;

use jiff::tz::Offset;

use crate::clock::Clock;
use crate::ops::Ops;
use crate::store::Store;

/// What every terminal task needs.
#[derive(Clone)]
pub struct Context {
    pub store: Store,
    pub hub: std::sync::Arc<hub::Hub>,
    pub clock: Clock,
    pub ops: Ops,
    /// What the terminals' wall-clock times are relative to UTC.
    pub utc_offset: Offset,
}
