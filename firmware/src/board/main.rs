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

use firmware::update;

#[cfg(feature = "l475")]
use l475 as chip;
#[cfg(feature = "nrf52840")]
use nrf52840 as chip;

use node::Board;

/// Which place in the flash this image was linked for: a slot, or zero for the factory's.
const PLACE: u8 = if cfg!(feature = "slot1") {
    1
} else if cfg!(feature = "slot2") {
    2
} else {
    0
};

/// The factory's image looks for a newer one first.
#[cortex_m_rt::entry]
fn main() -> ! {
    let mut chip = chip::Chip::wake();
    if PLACE == 0
        && let Some(slot) = update::boot(&mut chip.slots(), chip::Chip::SLOT_PAGES, chip::Chip::BOARD)
    {
        // An image that hangs is left by the watchdog.
        chip.start_watchdog();
        cortex::run_image(chip::Chip::vectors(slot));
    }
    chip.start();
    node::run::<{ chip::JOURNAL_PAGES }, _>(chip, PLACE)
}

/// Nothing here panics on purpose; if it does, a start is the way out, and the journal is as it was.
#[panic_handler]
fn panicked(_: &PanicInfo<'_>) -> ! {
    cortex::reset()
}
