//! What the worker at the reader should see after the green lamp: nothing more, unknown, or refused.
//!
//! Best effort: a worker who has gone gets no signal, and no punch depends on one.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use protocol::{Seq, Signal};

use crate::punch::{HeldReason, Judgement, PunchId, RejectedReason, Verdict};

/// After this the worker has gone.
const LIFE: Duration = Duration::from_secs(8);
const RECENT: usize = 64;

/// Punches just swiped at one reader, and signals on their way to it.
#[derive(Default)]
pub(super) struct Feedback {
    recent: VecDeque<(PunchId, Seq, Instant)>,
    signals: VecDeque<(Seq, Signal, Instant)>,
    /// What the reader has released, and so has shown its own green for.
    released: Seq,
}

impl Feedback {
    pub(super) fn swiped(&mut self, punch: PunchId, seq: Seq, now: Instant) {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back((punch, seq, now));
    }

    pub(super) fn released(&mut self, through: Seq) {
        self.released = through;
    }

    pub(super) fn handle_judgement(&mut self, judgement: &Judgement, now: Instant) {
        let Some(signal) = signal(judgement.verdict) else { return };
        let swiped = self.recent.iter().find(|(punch, ..)| *punch == judgement.punch);
        let Some((_, seq, at)) = swiped.filter(|(_, _, at)| is_there(*at, now)).copied() else { return };
        if self.signals.len() < RECENT {
            self.signals.push_back((seq, signal, at));
        }
    }

    /// The oldest signal whose punch the reader has shown as stored: red comes after green.
    pub(super) fn next(&self) -> Option<(Seq, Signal)> {
        let shown = self.signals.iter().find(|(seq, ..)| *seq <= self.released);
        shown.map(|(seq, signal, _)| (*seq, *signal))
    }

    /// The reader has taken this signal.
    pub(super) fn shown(&mut self, seq: Seq) {
        if let Some(index) = self.signals.iter().position(|(known, ..)| *known == seq) {
            self.signals.remove(index);
        }
    }

    pub(super) fn expire(&mut self, now: Instant) {
        self.signals.retain(|(.., at)| is_there(*at, now));
    }

    pub(super) fn clear(&mut self) {
        *self = Feedback::default();
    }
}

fn is_there(swiped: Instant, now: Instant) -> bool {
    now.saturating_duration_since(swiped) < LIFE
}

/// A duplicate counts once, and that is all right; what the office has to sort out is no concern of the gate.
fn signal(verdict: Verdict) -> Option<Signal> {
    match verdict {
        Verdict::Verified
        | Verdict::Held(HeldReason::DirectionUnknown | HeldReason::ClockSuspect)
        | Verdict::Rejected(RejectedReason::Duplicate) => None,
        Verdict::Held(HeldReason::UnknownWorker | HeldReason::BeforeEntry) => Some(Signal::Unknown),
        Verdict::Rejected(
            RejectedReason::Left
            | RejectedReason::RefusedByTerminal
            | RejectedReason::NotEnrolled
            | RejectedReason::LowSimilarity,
        ) => Some(Signal::Refused),
    }
}
