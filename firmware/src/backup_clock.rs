//! A clock that goes on while the reader has no power. It carries the time that the gateway told over a power cut, so
//! that the swipes of a boot in which no gateway was heard can be dated.
//!
//! It is believed only as long as its drift stays within the second that the gateway allows to a time that a reader was
//! told; a punch cannot say that its date is worse. After that the punches go without a date of their own, as before.

/// What a crystal at a gate may drift, in parts per million: 20 at 25 °C, 90 at -20 °C.
const DRIFT_PPM: u64 = 100;
/// How far it may be off.
const BOUND_MS: u64 = 1_000;
/// It is believed for this long: 2 hours and 46 minutes.
pub const BELIEVED_MS: u64 = BOUND_MS * 1_000_000 / DRIFT_PPM;

/// What was told, and how long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Told {
    /// Milliseconds since 1970.
    pub unix_ms: u64,
    /// Milliseconds since then.
    pub age_ms: u64,
}

impl Told {
    /// The time now, in milliseconds since 1970, if it can be believed.
    pub fn unix_now(self) -> Option<u64> {
        (self.age_ms <= BELIEVED_MS).then(|| self.unix_ms.saturating_add(self.age_ms))
    }
}

/// A clock with a battery of its own.
pub trait BackupClock {
    /// What it was told last; `None` when it has stopped since, or was never told.
    fn told(&mut self) -> Option<Told>;
    /// It is this many milliseconds since 1970.
    fn tell(&mut self, unix_ms: u64);
}

/// Milliseconds of the day in a calendar's digits: `00HHhhhh 0MMMmmmm 0SSSssss` in tens and ones (STM32 RTC_TR, RM0351,
/// 38.6.1); `None` when they are no time.
pub fn of_digits(digits: u32) -> Option<u64> {
    let pair = |shift: u32, below: u64| {
        let (tens, ones) = (u64::from(digits >> (shift + 4) & 0xF), u64::from(digits >> shift & 0xF));
        let value = 10 * tens + ones;
        (ones < 10 && value < below).then_some(value)
    };
    let seconds = (pair(16, 24)? * 60 + pair(8, 60)?) * 60 + pair(0, 60)?;
    (digits >> 24 == 0).then_some(seconds * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_milliseconds_of_the_day() {
        assert_eq!(of_digits(0), Some(0));
        assert_eq!(of_digits(0x0002_4559), Some((2 * 3_600 + 45 * 60 + 59) * 1_000));
        assert_eq!(of_digits(0x0023_5959), Some(86_399_000));
        for no_time in [0x0024_0000, 0x0000_6000, 0x0000_0060, 0x0000_000A, 0x0000_0A00, 0x0100_0000, u32::MAX] {
            assert_eq!(of_digits(no_time), None, "{no_time:x}");
        }
    }

    #[test]
    fn it_is_believed_until_it_may_be_a_second_off() {
        let told = |age_ms| Told { unix_ms: 5_000, age_ms };
        assert_eq!(told(10_000_000).unix_now(), Some(10_005_000));
        assert_eq!(told(10_000_001).unix_now(), None);
        assert_eq!(told(u64::MAX).unix_now(), None);
    }
}
