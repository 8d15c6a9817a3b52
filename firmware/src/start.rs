//! Why the reader has started, from what a chip tells after a reset.

use protocol::StartCause;

/// What the chip says of the last reset. Several may be true at once: a watchdog pulls the reset pin too.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// A watchdog fired.
    pub watchdog: bool,
    /// The program asked for it.
    pub software: bool,
    /// The supply was below what the chip needs: at power-up, or when it sagged.
    pub supply: bool,
    /// The reset pin was low.
    pub pin: bool,
    /// Memory that loses its contents without power still had them.
    pub remembers: bool,
}

/// The most particular cause that fits.
pub fn cause(evidence: Evidence) -> StartCause {
    let Evidence { watchdog, software, supply, pin, remembers } = evidence;
    match (watchdog, software, supply, pin) {
        (true, ..) => StartCause::Watchdog,
        (false, true, ..) => StartCause::Software,
        // Too short without power to forget: the supply sagged.
        (false, false, true, _) if remembers => StartCause::BrownOut,
        (false, false, true, _) => StartCause::PowerOn,
        (false, false, false, true) => StartCause::Pin,
        (false, false, false, false) => StartCause::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_particular_cause_wins() {
        let none = Evidence::default();
        let of = |watchdog, software, supply, pin| Evidence { watchdog, software, supply, pin, ..none };
        assert_eq!(cause(none), StartCause::Unknown);
        assert_eq!(cause(of(false, false, true, true)), StartCause::PowerOn);
        assert_eq!(cause(of(false, false, false, true)), StartCause::Pin);
        assert_eq!(cause(of(false, true, false, true)), StartCause::Software);
        assert_eq!(cause(of(true, false, false, true)), StartCause::Watchdog);
        assert_eq!(cause(of(true, true, true, true)), StartCause::Watchdog);
    }

    #[test]
    fn memory_that_remembers_tells_a_sag_from_a_switch() {
        let sagged = Evidence { supply: true, pin: true, remembers: true, ..Evidence::default() };
        assert_eq!(cause(sagged), StartCause::BrownOut);
        assert_eq!(cause(Evidence { software: true, ..sagged }), StartCause::Software);
        assert_eq!(cause(Evidence { supply: false, ..sagged }), StartCause::Pin);
    }
}
