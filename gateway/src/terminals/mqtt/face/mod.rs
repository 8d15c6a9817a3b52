//! The `mqtt-face` family: face terminals whose messages carry `facesluiceId`.
//!
//! Cores here (`session` and what it is made of) do no I/O and know neither the endpoint nor the broker; `desk` is their
//! shell. A record is acknowledged to its terminal only after the store has it, and a terminal that is not known gets
//! nothing at all.

pub mod codec;
pub mod desk;
mod errands;
pub mod lenient;
mod numbers;
mod presence;
pub mod record;
pub mod session;
mod skew;

use std::time::Instant;

use crate::clock::Clock;
use crate::punch::UnixMs;

/// One moment, as a core needs it.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// For intervals and timeouts.
    pub instant: Instant,
    /// For dates.
    pub wall: UnixMs,
    /// Whether the date can be trusted: only then is a terminal's clock measured against it or set from it.
    pub trusted: bool,
}

impl Now {
    /// This moment on the clock.
    pub fn of(clock: &Clock) -> Now {
        Now { instant: clock.instant(), wall: clock.now(), trusted: clock.is_trustworthy() }
    }
}

#[cfg(test)]
mod tests;
