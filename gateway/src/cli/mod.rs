//! The bodies of the commands.

pub mod api;
pub mod backup;
pub mod erase;
pub mod exit;
pub mod import;
pub mod key;
pub mod ledger;
pub mod proof;
pub mod reader;
pub mod serve;
pub mod summary;
