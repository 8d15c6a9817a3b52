//! Swipes of the last seconds: whether their worker may still stand there, and whether that worker has seen anything yet.
//!
//! With a gateway the green lamp comes within a tenth of a second, and nothing else is shown. Without one the worker
//! must not stand there and wonder: a swipe that is in the journal and not confirmed is shown as kept, once, at once
//! when the gateway is known to be away, and after [`UNCONFIRMED_MS`] when it has only just gone or its disk is full.

use heapless::Deque;
use protocol::{Seq, UptimeMs};

/// Whoever swiped is gone after this: no signal then.
pub const SIGNAL_LIFE_MS: u64 = 10_000;
/// A gateway that has asked nothing for this long is away; after the same time it calls a reader silent.
pub const AWAY_MS: u64 = 3_000;
/// A swipe that is not confirmed by then is shown as kept. Ten times what a confirmation may take.
pub const UNCONFIRMED_MS: u64 = 1_000;

/// Swipes whose worker may still be waiting for a signal.
pub(crate) const RECENT: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Swipe {
    seq: Seq,
    at: UptimeMs,
    /// Nothing was shown yet.
    unseen: bool,
}

/// Who may stand at the reader.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    swipes: Deque<Swipe, RECENT>,
    /// When the gateway asked something last.
    heard_at: Option<UptimeMs>,
}

impl Waiting {
    /// The gateway has asked something.
    pub(crate) fn heard(&mut self, now: UptimeMs) {
        self.heard_at = Some(now);
    }

    /// A swipe is in the journal.
    pub(crate) fn swiped(&mut self, seq: Seq, now: UptimeMs) {
        if self.swipes.is_full() {
            self.swipes.pop_front();
        }
        // There is room now.
        let _ = self.swipes.push_back(Swipe { seq, at: now, unseen: true });
    }

    /// A signal for this swipe; says whether somebody is there to see it.
    pub(crate) fn signalled(&mut self, seq: Seq, now: UptimeMs) -> bool {
        let swipe = self.swipes.iter_mut().find(|swipe| swipe.seq == seq);
        let Some(swipe) = swipe.filter(|swipe| now.0.saturating_sub(swipe.at.0) < SIGNAL_LIFE_MS) else { return false };
        swipe.unseen = false;
        true
    }

    /// Whether the gateway has been away since the start or for long enough that the reader decides.
    pub(crate) fn is_alone(&self, now: UptimeMs) -> bool {
        now.0.saturating_sub(self.heard_at.map_or(0, |at| at.0)) >= AWAY_MS
    }

    /// Whether somebody is now to be told that the swipe is kept and no more. Each swipe is told about once.
    pub(crate) fn poll_kept(&mut self, now: UptimeMs) -> bool {
        let away = self.heard_at.is_none_or(|at| now.0.saturating_sub(at.0) >= AWAY_MS);
        let patience = if away { 0 } else { UNCONFIRMED_MS };
        let mut any = false;
        for swipe in self.swipes.iter_mut() {
            let due = swipe.unseen && now.0.saturating_sub(swipe.at.0) >= patience;
            swipe.unseen &= !due;
            any |= due;
        }
        any
    }
}
