//! How far a terminal's clock is ahead of ours: the median of the last measurements, so that one late record does not
//! make a good clock look wrong.

use std::collections::VecDeque;

const KEPT: usize = 5;

/// The last measurements of one terminal.
#[derive(Default)]
pub struct Skew(VecDeque<i64>);

impl Skew {
    /// Adds a measurement in milliseconds.
    pub fn add(&mut self, ms: i64) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(ms);
    }

    /// The clock has been set: what was measured before no longer holds.
    pub fn forget(&mut self) {
        self.0.clear();
    }

    /// The median; `None` when nothing was measured.
    pub fn measured(&self) -> Option<i64> {
        let mut sorted: Vec<i64> = self.0.iter().copied().collect();
        sorted.sort_unstable();
        sorted.get(sorted.len().saturating_sub(1) / 2).copied()
    }
}
