//! Lamps, buzzer and relay: what the worker sees and hears, over any four output pins. Active high.

use embedded_hal::digital::OutputPin;
use protocol::{Seq, Signal, UptimeMs};

/// Something to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Show {
    /// What became of a punch of this boot.
    Punch {
        /// Which.
        seq: Seq,
        /// What.
        signal: Signal,
    },
    /// The swipe is in the journal, and the gateway has not confirmed it: it is away, or its disk does not take punches.
    Kept,
    /// The swipe was not kept: the journal is full or broken.
    NotKept,
    /// Close the relay for this long.
    Open {
        /// Milliseconds.
        pulse_ms: u16,
    },
}

/// A pin does not obey.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PinFailed;

/// On and off some times, then off.
#[derive(Clone, Copy, Debug, Default)]
struct Pulses {
    since: UptimeMs,
    on_ms: u32,
    off_ms: u32,
    times: u32,
}

impl Pulses {
    fn new(since: UptimeMs, on_ms: u32, off_ms: u32, times: u32) -> Pulses {
        Pulses { since, on_ms, off_ms, times }
    }

    fn is_on(&self, now: UptimeMs) -> bool {
        // Nothing lasts 49 days.
        let passed = u32::try_from(now.0.saturating_sub(self.since.0)).unwrap_or(u32::MAX);
        let period = self.on_ms + self.off_ms;
        match (passed.checked_div(period), passed.checked_rem(period)) {
            (Some(round), Some(within)) => round < self.times && within < self.on_ms,
            (None, _) | (_, None) => false,
        }
    }
}

/// The four outputs. The latest signal replaces an earlier one; the relay runs on its own.
pub struct Panel<G, R, B, K> {
    green: (G, Pulses),
    red: (R, Pulses),
    buzzer: (B, Pulses),
    relay: (K, Pulses),
}

impl<G: OutputPin, R: OutputPin, B: OutputPin, K: OutputPin> Panel<G, R, B, K> {
    /// Takes the pins; the first [`Panel::poll`] switches all of them off.
    pub fn new(green: G, red: R, buzzer: B, relay: K) -> Panel<G, R, B, K> {
        let off = Pulses::default();
        Panel { green: (green, off), red: (red, off), buzzer: (buzzer, off), relay: (relay, off) }
    }

    /// Begins to show.
    pub fn show(&mut self, show: Show, now: UptimeMs) {
        let pulses = |on, off, times| Pulses::new(now, on, off, times);
        let none = Pulses::default();
        let (green, red, buzzer) = match show {
            Show::Open { pulse_ms } => {
                self.relay.1 = pulses(u32::from(pulse_ms), 0, 1);
                return;
            }
            Show::Punch { signal: Signal::Stored, .. } => (pulses(600, 0, 1), none, pulses(80, 0, 1)),
            Show::Punch { signal: Signal::Refused, .. } => (none, pulses(1_500, 0, 1), pulses(120, 120, 3)),
            Show::Punch { signal: Signal::Unknown, .. } => (none, pulses(200, 200, 4), pulses(120, 120, 2)),
            // Never green alone: that is the gateway's word.
            Show::Kept => (pulses(200, 200, 3), pulses(200, 200, 3), pulses(40, 60, 4)),
            Show::NotKept => (none, pulses(3_000, 0, 1), pulses(1_000, 0, 1)),
        };
        (self.green.1, self.red.1, self.buzzer.1) = (green, red, buzzer);
    }

    /// Sets the pins as they should be now. To be called at least every 20 ms.
    pub fn poll(&mut self, now: UptimeMs) -> Result<(), PinFailed> {
        let outcomes = [
            drive(&mut self.green, now),
            drive(&mut self.red, now),
            drive(&mut self.buzzer, now),
            drive(&mut self.relay, now),
        ];
        outcomes.into_iter().collect()
    }
}

fn drive<P: OutputPin>((pin, pulses): &mut (P, Pulses), now: UptimeMs) -> Result<(), PinFailed> {
    pin.set_state(pulses.is_on(now).into()).map_err(|_| PinFailed)
}
