//! Punch, roster and rules to a verdict.
//!
//! `rules` is pure and versioned: one punch, the worker it names and the worker's neighbouring punches give one
//! judgement. `page` judges several punches that follow each other, `again` finds rejections that a roster entry may have
//! caused. `judge` is the task that feeds them and stores what they say. Knows nothing about terminals' protocols or platforms; never changes a punch.

pub mod again;
#[cfg(test)]
mod fixtures;
pub mod judge;
pub mod page;
pub mod rules;

/// Goes up whenever the same punch could get another verdict.
pub const RULE_VERSION: u16 = 2;
