//! Verified punches of a worker among the runs, each as its newest row says.

use std::sync::Arc;

use super::Runs;
use super::run::Run;
use crate::punch::*;
use crate::store::view::query::Answer;
use crate::store::view::rows::PunchEntry;

impl Runs {
    /// Verified punches of a worker with punch times in `from..=to`, in no order.
    pub fn verified_of(
        &self,
        worker: &WorkerId,
        from: UnixMs,
        to: UnixMs,
        newer: impl Fn(Seq) -> Answer<Option<Arc<PunchEntry>>>,
    ) -> Answer<Vec<Arc<PunchEntry>>> {
        let mut found = Vec::new();
        for run in self.overlapping(from, to) {
            found.extend(verified_in(run, worker, from, to, &newer)?);
        }
        Ok(found)
    }

    /// The latest verified punch of a worker up to `to`. A worker who is in no run costs a read for each of them.
    pub fn last_verified(
        &self,
        worker: &WorkerId,
        to: UnixMs,
        newer: impl Fn(Seq) -> Answer<Option<Arc<PunchEntry>>>,
    ) -> Answer<Option<Arc<PunchEntry>>> {
        let mut last: Option<Arc<PunchEntry>> = None;
        for listed in self.0.iter().rev() {
            let from = last.as_ref().map_or(UnixMs(i64::MIN), |last| last.row.time);
            if listed.overlaps(from, to) {
                let found = verified_in(&listed.run, worker, from, to, &newer)?;
                last = last.into_iter().chain(found).max_by_key(|punch| punch.place_in_time());
            }
        }
        Ok(last)
    }
}

fn verified_in(
    run: &Run,
    worker: &WorkerId,
    from: UnixMs,
    to: UnixMs,
    newer: &impl Fn(Seq) -> Answer<Option<Arc<PunchEntry>>>,
) -> Answer<Vec<Arc<PunchEntry>>> {
    let mut reader = run.reader()?;
    let mut found = Vec::new();
    for seq in reader.by_worker(worker, from, to)? {
        let entry = match newer(seq)? {
            Some(entry) => Some(entry),
            None => reader.row(seq)?.map(|archived| Arc::new(archived.entry)),
        };
        found.extend(entry.filter(|entry| entry.is_verified(worker)));
    }
    Ok(found)
}
