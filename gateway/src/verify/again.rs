//! Rejections that the roster may have caused: they are judged again when their worker's entry changes.
//!
//! A verified punch is never among them: it may have been uploaded, and what is uploaded cannot be unsent.

use crate::punch::*;
use crate::store::{PunchFilter, PunchRow, View};

/// A page of them, oldest first.
pub struct Rejections {
    pub punches: Vec<Punch>,
    /// Where to go on; `None` when there are no more.
    pub next: Option<String>,
}

/// A page of a worker's rejections with punch times from `since` on.
pub fn rejections(
    view: &View,
    worker: &WorkerId,
    since: Option<UnixMs>,
    cursor: Option<&str>,
    limit: usize,
) -> Rejections {
    let filter = PunchFilter {
        from: since,
        worker: Some(worker.clone()),
        verdict_kind: Some("rejected".to_owned()),
        ..PunchFilter::default()
    };
    let page = view.punches(&filter, cursor, limit);
    let due = page.items.iter().filter(|row| is_due(view, row));
    let punches = due.filter_map(|row| view.story(row.id)).map(|story| story.punch).collect();
    Rejections { punches, next: page.next }
}

/// Whether another roster entry could give another verdict.
fn is_due(view: &View, row: &PunchRow) -> bool {
    let Some(judgement) = &row.judgement else { return false };
    match judgement.verdict {
        Verdict::Rejected(RejectedReason::Left) => true,
        Verdict::Rejected(RejectedReason::Duplicate) => !judgement.duplicate_of.is_some_and(|kept| counts(view, kept)),
        Verdict::Rejected(
            RejectedReason::RefusedByTerminal | RejectedReason::NotEnrolled | RejectedReason::LowSimilarity,
        )
        | Verdict::Verified
        | Verdict::Held(_) => false,
    }
}

fn counts(view: &View, punch: PunchId) -> bool {
    let judgement = view.punch(punch).and_then(|row| row.judgement);
    judgement.is_some_and(|judgement| judgement.verdict == Verdict::Verified)
}
