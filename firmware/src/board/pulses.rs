//! Wiegand pulses between an interrupt and the loop.

use crate::bytes::ByteRing;
use crate::cortex;

/// Each takes five bytes, so there is room for three numbers of 34 bits.
const WAITING: usize = 512;

/// Pulses that the loop has not seen yet.
pub struct Pulses {
    bytes: ByteRing<WAITING>,
}

impl Pulses {
    /// None.
    pub const fn new() -> Pulses {
        Pulses { bytes: ByteRing::new() }
    }

    /// A pulse now, on D1 or D0; for the interrupt.
    pub fn note(&self, on_d1: bool) {
        self.bytes.push(u8::from(on_d1));
        cortex::micros().to_le_bytes().into_iter().for_each(|byte| self.bytes.push(byte));
    }

    /// The next pulse, and when it was, `now_ms` being now; for the loop. A pulse is noted whole before the loop goes on.
    pub fn next(&self, now_ms: u64) -> Option<(bool, u64)> {
        let on_d1 = self.bytes.pop()? != 0;
        let at = [self.bytes.pop()?, self.bytes.pop()?, self.bytes.pop()?, self.bytes.pop()?];
        let ago_us = cortex::micros().wrapping_sub(u32::from_le_bytes(at));
        Some((on_d1, (now_ms * 1_000).saturating_sub(u64::from(ago_us))))
    }

    /// Bytes that found no room.
    pub fn dropped(&self) -> u32 {
        self.bytes.dropped()
    }
}
