//! When workers came and went: what the platform was told, and what the roster says now.
//!
//! A platform takes entries and exits in the order of their dates and takes none back. Where the roster was corrected
//! afterwards, what can still be said is said; what cannot waits for a person, with the reason.

use jiff::civil::Date;

use super::{Registration, Registry, Standing};
use crate::punch::{Subject, Worker, WorkerId};

/// What the platform knows of a worker's coming and going.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stay {
    /// Nothing yet.
    Never,
    /// On site since this day.
    Since(Date),
    /// Gone: the last entry and the exit that ended it.
    Ended { entry: Date, exit: Date },
}

impl Registry {
    /// From what the platform has confirmed.
    pub fn stay(&self, id: &WorkerId) -> Stay {
        let last = |range| {
            let confirmed = self.registrations.range(range).filter(|(_, one)| one.standing == Standing::Confirmed);
            confirmed.filter_map(|(subject, _)| date_of(subject)).next_back()
        };
        let Some(entry) = last(entries_of(id)) else { return Stay::Never };
        match last(exits_of(id)) {
            Some(exit) if exit >= entry => Stay::Ended { entry, exit },
            Some(_) | None => Stay::Since(entry),
        }
    }

    /// The day of the entry that the platform would have to be told to agree with the roster; `None` when it agrees.
    pub(super) fn entry_wanted(&self, worker: &Worker) -> Option<Date> {
        let entered_on = worker.entered_on;
        match self.stay(&worker.worker_id) {
            Stay::Never => entered_on,
            Stay::Since(entry) => entered_on.filter(|date| *date != entry),
            Stay::Ended { exit, .. } if entered_on.is_some_and(|date| date > exit) => entered_on,
            Stay::Ended { exit, .. } if stays_beyond(worker, exit) => exit.tomorrow().ok(),
            Stay::Ended { entry, .. } => entered_on.filter(|date| *date != entry),
        }
    }

    /// The entry without which the worker's punches cannot be sent.
    pub(super) fn entry_needed(&self, worker: &Worker) -> Option<Subject> {
        let entry = || Some(Subject::Entry(worker.worker_id.clone(), self.entry_wanted(worker)?));
        match self.stay(&worker.worker_id) {
            Stay::Never => entry(),
            Stay::Since(_) => None,
            // Gone, and the roster agrees: the punches lie before the exit.
            Stay::Ended { exit, .. } => entry().filter(|_| stays_beyond(worker, exit)),
        }
    }

    /// The exit that the roster speaks of and the platform has not been told, once its day is over.
    pub fn exit_wanted(&self, worker: &Worker, today: Date) -> Option<Subject> {
        let left_on = worker.left_on.filter(|left_on| *left_on < today)?;
        let is_new = match self.stay(&worker.worker_id) {
            Stay::Never => false,
            Stay::Since(entry) => entry <= left_on,
            Stay::Ended { entry, exit } => entry <= left_on && exit != left_on,
        };
        let exit = Subject::Exit(worker.worker_id.clone(), left_on);
        (is_new && !self.registrations.contains_key(&exit)).then_some(exit)
    }

    /// Why the platform cannot be told of this entry or exit: it has been told something else.
    pub fn contradiction(&self, id: &WorkerId, subject: &Subject) -> Option<String> {
        let is_entry = matches!(subject, Subject::Entry(..));
        let date = date_of(subject)?;
        match self.stay(id) {
            Stay::Never => None,
            Stay::Since(entry) if is_entry && entry != date => Some(format!(
                "the platform has the entry of {entry} and takes none back: correct the day there, or entered_on here"
            )),
            Stay::Since(_) => None,
            Stay::Ended { exit, .. } if is_entry && date > exit => {
                let entered_on = self.worker(id).and_then(|worker| worker.entered_on);
                (entered_on != Some(date)).then(|| {
                    format!(
                        "the platform was told that the worker left on {exit} and takes no exit back: enter the day of \
                         the return, after {exit}, as entered_on"
                    )
                })
            }
            Stay::Ended { entry, exit } if is_entry => Some(format!(
                "the platform has the worker from {entry} to {exit} and takes no earlier entry: correct the day there, \
                 or entered_on here"
            )),
            Stay::Ended { exit, .. } if exit != date => Some(format!(
                "the platform has the exit of {exit} and takes none back: correct the day there, or left_on here"
            )),
            Stay::Ended { .. } => None,
        }
    }

    /// Whether an entry or exit that cannot be sent is to be asked for today; it counts as asked for then.
    pub fn is_to_be_asked(&mut self, subject: &Subject, today: Date) -> bool {
        if date_of(subject).is_none() {
            return false;
        }
        let registration = self.registrations.get_mut(subject);
        registration.is_some_and(|registration| registration.asked_on.replace(today) != Some(today))
    }

    /// Entries and exits of a worker, however they stand.
    pub(super) fn moves_of(&self, id: &WorkerId) -> Vec<(&Subject, &Registration)> {
        self.registrations.range(entries_of(id)).chain(self.registrations.range(exits_of(id))).collect()
    }
}

/// Whether the roster has the worker on site after this day.
fn stays_beyond(worker: &Worker, exit: Date) -> bool {
    worker.left_on.is_none_or(|left_on| left_on > exit)
}

fn entries_of(id: &WorkerId) -> std::ops::RangeInclusive<Subject> {
    Subject::Entry(id.clone(), Date::MIN)..=Subject::Entry(id.clone(), Date::MAX)
}

fn exits_of(id: &WorkerId) -> std::ops::RangeInclusive<Subject> {
    Subject::Exit(id.clone(), Date::MIN)..=Subject::Exit(id.clone(), Date::MAX)
}

fn date_of(subject: &Subject) -> Option<Date> {
    match subject {
        Subject::Entry(_, date) | Subject::Exit(_, date) => Some(*date),
        Subject::Employer(_) | Subject::Team(_) | Subject::Worker(_) | Subject::Punch(_) => None,
    }
}
