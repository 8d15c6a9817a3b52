//! Damage as numbers: noise is counted, it is not an error.

use serde::{Deserialize, Serialize};

/// Frames that one end dropped, since it was made, per reason. The counters stop at their maximum.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damage {
    /// The CRC does not fit: noise on the wire.
    pub crc: u32,
    /// Not COBS, or too short to be a frame: noise on the wire, or half a frame.
    pub cobs: u32,
    /// More bytes without a delimiter than a frame can have.
    pub too_long: u32,
    /// CRC right, but of another version or a message that is not known.
    pub malformed: u32,
    /// CRC right, tag wrong or missing: another key, or somebody else on the wire. One damaged frame in 65 536 passes
    /// its CRC by chance and lands here.
    pub forged: u32,
    /// Said before: a request id that was taken already, another boot, an answer that nobody waits for.
    pub stale: u32,
    /// Gateway only: an answer to a request that was given up before. Harmless, the timeout is too short.
    pub late: u32,
}

impl Damage {
    /// All reasons of two ends or layers together.
    pub fn plus(self, other: Damage) -> Damage {
        Damage {
            crc: self.crc.saturating_add(other.crc),
            cobs: self.cobs.saturating_add(other.cobs),
            too_long: self.too_long.saturating_add(other.too_long),
            malformed: self.malformed.saturating_add(other.malformed),
            forged: self.forged.saturating_add(other.forged),
            stale: self.stale.saturating_add(other.stale),
            late: self.late.saturating_add(other.late),
        }
    }
}

/// Counts one more.
pub(crate) fn count(counter: &mut u32) {
    *counter = counter.saturating_add(1);
}
