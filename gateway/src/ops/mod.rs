//! Operation: what is wrong now (alarms), how the parts stand (board), and numbers over time (metrics).
//!
//! Both halves of the gateway write here and the console reads; nothing here decides anything.

pub mod alarms;
pub mod board;
pub mod metrics;
pub mod vigil;
pub mod wear;

use std::sync::Arc;

/// The three together, shared by every task.
#[derive(Clone)]
pub struct Ops {
    pub alarms: Arc<alarms::Alarms>,
    pub board: Arc<board::Board>,
    pub metrics: Arc<metrics::Metrics>,
}

impl Ops {
    /// Nothing wrong, nothing known, nothing counted.
    pub fn new(clock: crate::clock::Clock) -> Ops {
        Ops {
            alarms: Arc::new(alarms::Alarms::new(clock)),
            board: Arc::new(board::Board::new()),
            metrics: Arc::new(metrics::Metrics::new()),
        }
    }
}
