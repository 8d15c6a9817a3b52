//! A site in memory: simulated terminals that reuse the real firmware and codecs, the reference platform, faults from
//! a seed, and the real gateway as a process beside them.

pub mod broker;
pub mod client;
pub mod disk;
pub mod emulator;
pub mod face;
pub mod faults;
pub mod gateway;
pub mod kept;
pub mod platform;
pub mod pty;
pub mod reader;
pub mod site;
pub mod timed_line;
pub mod workers;
