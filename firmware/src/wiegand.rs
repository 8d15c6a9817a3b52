//! Wiegand pulses to badge numbers.
//!
//! Two wires, a pulse on D0 is a 0, one on D1 is a 1, some 1 to 2 ms apart; silence ends a number. A number that is
//! whole and right is ended by a shorter silence, measured against its own pace, so that the worker waits less.
//!
//! ```text
//! W26   even parity over the next 12 | 8 bits facility, 16 bits card | odd parity over the 12 before
//! W34   even parity over the next 16 | 32 bits                       | odd parity over the 16 before
//! ```

use protocol::Badge;

/// Silence that ends a number, in microseconds. Readers pause at most 20 ms between bits.
pub const GAP_US: u64 = 25_000;
/// Silence that ends a number whose length and parity are right, as a multiple of the longest pause within it.
pub const WHOLE_GAP_PAUSES: u64 = 3;
/// The same in microseconds, at least.
pub const WHOLE_GAP_US: u64 = 5_000;
/// Pulses closer than this are one pulse seen twice, or noise; readers leave at least 200 µs.
pub const GLITCH_US: u64 = 100;

/// Collects pulses into numbers. Drops and counts what has a wrong length, wrong parity or a glitch in it.
#[derive(Clone, Debug, Default)]
pub struct Decoder {
    bits: u64,
    count: u32,
    spoiled: bool,
    last_us: u64,
    longest_pause_us: u64,
    noise: u32,
}

impl Decoder {
    /// Before the first pulse.
    pub fn new() -> Decoder {
        Decoder::default()
    }

    /// A pulse on D1 (`true`) or D0, at this time; gives the number that ended before it.
    pub fn handle_pulse(&mut self, bit: bool, at_us: u64) -> Option<Badge> {
        let ended = self.poll(at_us);
        if self.count > 0 {
            let pause_us = at_us.saturating_sub(self.last_us);
            self.spoiled |= pause_us < GLITCH_US;
            self.longest_pause_us = self.longest_pause_us.max(pause_us);
        }
        self.bits = self.bits << 1 | u64::from(bit);
        self.count = self.count.saturating_add(1);
        self.last_us = at_us;
        ended
    }

    /// Gives the number that silence has ended.
    pub fn poll(&mut self, now_us: u64) -> Option<Badge> {
        if self.count == 0 {
            return None;
        }
        let silence_us = now_us.saturating_sub(self.last_us);
        let badge = if self.spoiled { None } else { number(self.bits, self.count) };
        let pace_us = (WHOLE_GAP_PAUSES * self.longest_pause_us).max(WHOLE_GAP_US);
        let is_over = silence_us >= GAP_US || badge.is_some() && silence_us >= pace_us;
        if !is_over {
            return None;
        }
        *self = Decoder { noise: self.noise, ..Decoder::default() };
        if badge.is_none() {
            self.noise = self.noise.saturating_add(1);
        }
        badge
    }

    /// When [`Decoder::poll`] should be called next, in microseconds, while a number is coming in.
    pub fn poll_timeout(&self) -> Option<u64> {
        (self.count > 0).then(|| self.last_us.saturating_add(GAP_US))
    }

    /// Numbers dropped so far.
    pub fn noise(&self) -> u32 {
        self.noise
    }
}

fn number(bits: u64, count: u32) -> Option<Badge> {
    match count {
        26 => Some(Badge::Low24(data(bits, 24)?)),
        34 => Some(Badge::Full(data(bits, 32)?)),
        _ => None,
    }
}

/// The data bits between the two parity bits, if both are right.
fn data(bits: u64, width: u32) -> Option<u32> {
    let half = width / 2;
    let mask = (1 << (half + 1)) - 1;
    let first = (bits >> (half + 1)) & mask;
    let second = bits & mask;
    let right = first.count_ones().is_multiple_of(2) && !second.count_ones().is_multiple_of(2);
    let data = (bits >> 1) & ((1 << width) - 1);
    right.then_some(data as u32)
}
