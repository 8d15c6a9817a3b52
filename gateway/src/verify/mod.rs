//! Punch, roster and rules to a verdict. `rules` is pure and versioned; `judge` is the task that feeds it.

pub mod judge;

/// Goes up whenever the same punch could get another verdict.
pub const RULE_VERSION: u16 = 1;
