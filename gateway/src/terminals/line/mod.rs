//! Serial lines: the shell that opens, reads, writes and reopens a port, and the cores that speak its protocol.

pub mod ascii;
mod commands;
mod cursor;
pub mod dating;
mod feedback;
pub mod origin;
pub mod rdm6300;
pub mod reader;
mod station;
mod suspicion;

use std::convert::Infallible;

use tokio_util::sync::CancellationToken;

use super::Context;
use crate::config::Line;

/// Serves one line until `shutdown`. A port that is not there is an alarm, tried again with back-off, and no end.
pub async fn run(_line: Line, _context: Context, _shutdown: CancellationToken) -> Result<(), Infallible> {
    todo!()
}
