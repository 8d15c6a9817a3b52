//! The working view: what the ledger's facts come to. What is live or recent is in sled ([`live`]), what is older in
//! files ([`history`]). Can be lost and made again.

pub mod apply;
pub mod engine;
mod evidence;
pub mod history;
pub mod keys;
pub mod listing;
pub mod live;
pub mod merged;
pub mod outboxes;
pub mod query;
mod recent;
mod roster;
pub mod rows;
pub mod staging;
