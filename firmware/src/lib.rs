//! The badge reader as a library: what it does with badges and line bytes, without a board.
//!
//! A swipe is written to the [`journal`] before the worker sees anything, stays there until the gateway says that it is
//! durable, and only then the green lamp lights alone; without a gateway both lamps blink: kept. A full journal refuses the swipe with the red lamp and counts it; it
//! never overwrites what the gateway does not have. Time comes in as `now`; nothing here waits, allocates, panics or
//! touches a register. A board owns the pins, the ports, the clock and the flash, and calls:
//!
//! ```text
//! badge port ─> wiegand::Decoder | em4100::Decoder | near_field::Module ─> Reader::handle_badge
//! line port  ─> Reader::handle_line_byte       Reader::poll_transmit ─> line port
//! clock ──────> Reader::handle_time            Reader::poll_show ─> Panel::show, Panel::poll ─> pins
//!               Reader::poll_upkeep ─> Updater::answer ─> Reader::answer_upkeep
//! ```
//!
//! Before it has an address and a key it is a [`pairing::Unpaired`] instead; before either, [`update::boot`] chooses the
//! program that runs.

#![no_std]
#![forbid(unsafe_code)]
#![warn(missing_docs)]

mod allow;
pub mod backup_clock;
pub mod flash;
pub mod journal;
pub mod near_field;
pub mod pairing;
pub mod panel;
mod reader;
pub mod ring;
pub mod settings;
pub mod start;
pub mod update;
pub mod waiting;
pub mod wiegand;

pub use allow::AllowList;
pub use panel::{Panel, Show};
pub use protocol::em4100;
pub use reader::{Reader, Upkeep};
pub use ring::FlashRing;
pub use update::Updater;
