//! Is somebody else on the wire? One forged frame may be noise that passed its CRC; several within minutes are not.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use protocol::Damage;

use super::reader::Event;

/// Frames within [`WINDOW`] that make an alarm.
const FRAMES: usize = 3;
const WINDOW: Duration = Duration::from_secs(600);

/// Forged and replayed frames in both directions: what we dropped, and what the reader says it dropped.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// Counters already taken into account.
    ours: u32,
    theirs: u32,
    seen: VecDeque<Instant>,
    total: u64,
    raised: bool,
}

impl Suspicion {
    /// A session begins: what the reader dropped before may have been our own questions to its last boot.
    pub(super) fn baseline(&mut self, theirs: Damage) {
        self.theirs = suspicious(theirs);
    }

    /// The reader's counters.
    pub(super) fn told(&mut self, theirs: Damage, now: Instant) {
        let theirs = suspicious(theirs);
        self.note(theirs.saturating_sub(self.theirs), now);
        self.theirs = theirs;
    }

    /// Our counters; says when an alarm begins, goes on with more frames, or ends.
    pub(super) fn poll(&mut self, ours: Damage, now: Instant) -> Option<Event> {
        let ours = suspicious(ours);
        let new = ours.saturating_sub(self.ours);
        self.ours = ours;
        self.note(new, now);
        self.seen.retain(|at| now.saturating_duration_since(*at) < WINDOW);
        let raised = self.seen.len() >= FRAMES || (self.raised && !self.seen.is_empty());
        let before = std::mem::replace(&mut self.raised, raised);
        match (before, self.raised) {
            (false, true) => Some(Event::Attacked { frames: self.total }),
            (true, true) if new > 0 => Some(Event::Attacked { frames: self.total }),
            (true, false) => Some(Event::Calm),
            (true, true) | (false, false) => None,
        }
    }

    fn note(&mut self, frames: u32, now: Instant) {
        self.total += u64::from(frames);
        for _ in 0..(frames as usize).min(FRAMES) {
            if self.seen.len() == FRAMES {
                self.seen.pop_front();
            }
            self.seen.push_back(now);
        }
    }
}

fn suspicious(damage: Damage) -> u32 {
    damage.forged.saturating_add(damage.stale)
}
