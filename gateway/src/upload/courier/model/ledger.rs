//! Every step that was stored, and the view of it.

use std::collections::BTreeMap;

use crate::punch::{PunchId, Seq, Step, Subject, UnixMs, UploadState, UploadStep, Worker, WorkerId};
use crate::store::{Forerunner, Outgoing, UploadRow};
use crate::upload::courier::Restored;

/// Every step that was stored, and the view of it.
#[derive(Clone, Default)]
pub struct Ledger {
    pub steps: Vec<UploadStep>,
    pub rows: BTreeMap<Subject, UploadRow>,
    pub workers: BTreeMap<WorkerId, Worker>,
    pub punches: BTreeMap<Seq, Outgoing>,
    pub places: BTreeMap<PunchId, Seq>,
    /// The box that it comes from, if it was another.
    pub forerunner: Option<Forerunner>,
    last_job: u64,
}

impl Ledger {
    pub fn store(&mut self, step: UploadStep) {
        self.last_job = self.last_job.max(step.job.0);
        for subject in &step.subjects {
            let row = self.rows.entry(subject.clone()).or_insert_with(|| UploadRow::queued(UnixMs(0)));
            row.changed_at = step.at;
            row.serial = None;
            (row.state, row.reason) = match &step.step {
                Step::Waiting { reason } => (UploadState::Waiting, Some(reason.clone())),
                Step::Sending { .. } => {
                    row.attempts += 1;
                    row.job = Some((step.job, step.method.clone()));
                    (UploadState::Sending, None)
                }
                Step::Accepted { serial } => {
                    row.serial = Some(serial.clone());
                    (UploadState::Accepted, None)
                }
                Step::Confirmed { external, .. } => {
                    row.external = external.clone().or(row.external.take());
                    (UploadState::Confirmed, None)
                }
                Step::Refused { reason } => (UploadState::Refused, Some(reason.clone())),
                Step::Requeued { reason } => (UploadState::Queued, Some(reason.clone())),
                Step::Unknown { reason } => (UploadState::Unknown, Some(reason.clone())),
                Step::Withdrawn { reason } => (UploadState::Withdrawn, Some(reason.clone())),
            };
        }
        self.steps.push(step);
    }

    pub fn row(&self, punch: PunchId) -> UploadRow {
        self.rows.get(&Subject::Punch(punch)).cloned().unwrap_or(UploadRow::queued(UnixMs(0)))
    }

    pub fn outbox(&self, after: Seq, limit: usize) -> Vec<(Outgoing, UploadRow)> {
        let open = self.punches.range(Seq(after.0 + 1)..).map(|(_, out)| (out.clone(), self.row(out.punch)));
        open.filter(|(_, row)| !row.state.is_settled()).take(limit).collect()
    }

    pub fn open(&self) -> usize {
        self.outbox(Seq(0), usize::MAX).len()
    }

    pub fn restored(&self) -> Restored {
        let registrations = self.rows.iter().filter(|(subject, _)| !matches!(subject, Subject::Punch(_)));
        let in_flight = self.outbox(Seq(0), usize::MAX).into_iter().filter(|(_, row)| {
            matches!(row.state, UploadState::Sending | UploadState::Accepted | UploadState::Unknown)
        });
        Restored {
            workers: self.workers.values().cloned().collect(),
            registrations: registrations.map(|(subject, row)| (subject.clone(), row.clone())).collect(),
            in_flight: in_flight.collect(),
            last_job: self.last_job,
            refused_punches: 0,
            forerunner: self.forerunner,
        }
    }
}
