//! The image: one board's pins and ports around the reader. The feature says which board.
//!
//! Registers and `unsafe` are below this directory and nowhere else. What the reader does is in the library, what the
//! loop does is in [`node`]; a board only moves bytes and levels.

#![no_std]
#![no_main]
#![warn(missing_docs)]

mod bytes;
mod cortex;
#[cfg(feature = "l475")]
mod l475;
mod node;
#[cfg(feature = "nrf52840")]
mod nrf52840;
mod pulses;
mod register;

use core::panic::PanicInfo;

#[cfg(feature = "l475")]
use l475 as chip;
#[cfg(feature = "nrf52840")]
use nrf52840 as chip;

#[cortex_m_rt::entry]
fn main() -> ! {
    node::run::<{ chip::JOURNAL_PAGES }, _>(chip::Chip::start())
}

/// Nothing here panics on purpose; if it does, a start is the way out, and the journal is as it was.
#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    cortex::reset()
}
