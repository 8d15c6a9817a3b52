//! After an unknown outcome: ask the platform what it has before anything is sent again.
//!
//! Attendance is asked for by team and day, page by page; a list that changes while it is read is read again from its
//! beginning. Teams are asked for because their number is needed, workers because they can be. What cannot be asked for
//! (employers, entries) is sent again, and "already exists" settles it.

use std::collections::HashSet;

use jiff::civil::Date;

use super::jobs::Phase;
use super::{Courier, Now, Order, Outcome, Purpose};
use crate::punch::{JobId, Subject};
use crate::upload::profiles::{Answer, Attendance, Ending, Method, PunchKey, Request, Rows};

/// Pages after which a listing is taken for one that never ends.
const PAGES: u32 = 400;

/// A team's day as the platform lists it, while it is read.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) team_number: String,
    date: Date,
    page: u32,
    seen: u64,
    total: Option<u64>,
    found: HashSet<PunchKey>,
    /// The jobs that are settled by it.
    jobs: Vec<JobId>,
}

impl Scan {
    fn begin_again(&mut self) {
        self.page = 0;
        self.seen = 0;
        self.total = None;
        self.found.clear();
    }
}

impl Courier {
    /// Lost requests that cannot be asked for, once their time is over.
    pub(super) fn resend_unaskable(&mut self, now: Now) {
        for method in [Method::AddEmployer, Method::AddMoves] {
            for id in self.jobs.to_ask(method, now.instant) {
                self.release_all(now, id, "sent again: the platform cannot be asked");
            }
        }
    }

    fn release_all(&mut self, now: Now, id: JobId, text: &str) {
        let Some(job) = self.jobs.get(id) else { return };
        let Phase::Unknown { then, .. } = &job.phase else { return };
        let (then, subjects) = (then.clone(), job.subjects.clone());
        self.release(now, id, subjects, &then, text.to_owned());
    }

    pub(super) fn order_team_query(&mut self, now: Now) -> Option<Order> {
        let id = *self.jobs.to_ask(Method::AddTeam, now.instant).first()?;
        let Some(Subject::Team(team)) = self.jobs.get(id)?.subjects.first().cloned() else { return None };
        let employer = self.registry.employer(&team.employer)?.clone();
        let page = self.team_pages.get(&id).copied().unwrap_or(0);
        Some(self.call(Request::QueryTeams { employer, team, page }, Purpose::AskTeam(id), None))
    }

    pub(super) fn handle_teams(&mut self, now: Now, id: JobId, outcome: Outcome) {
        let Outcome::Answered { answer, .. } = outcome else { return };
        let rows = match answer {
            Answer::Teams(rows) => rows,
            Answer::Ended(Ending::Unclear { .. })
            | Answer::Garbled { .. }
            | Answer::TryLater { .. }
            | Answer::Stop { .. } => return,
            _ => return self.release_all(now, id, "the platform does not list teams"),
        };
        let Some(Subject::Team(team)) = self.jobs.get(id).and_then(|job| job.subjects.first()).cloned() else {
            return;
        };
        let credit_code = self.registry.employer(&team.employer).map(|employer| employer.credit_code.clone());
        let found = rows
            .rows
            .iter()
            .find(|row| row.name == team.name && (row.corp_code.is_none() || row.corp_code == credit_code));
        if let Some(row) = found {
            let note = Some("found by query".to_owned());
            return self.confirm(now, id, vec![Subject::Team(team)], Some(row.number.clone()), note);
        }
        let page = self.team_pages.entry(id).or_insert(0);
        *page += 1;
        if rows.count == 0 || rows.total.is_none_or(|total| u64::from(*page) * rows.count >= total) || *page >= PAGES {
            self.team_pages.remove(&id);
            self.release_all(now, id, "the platform does not list the team");
        }
    }

    pub(super) fn order_worker_query(&mut self, now: Now) -> Option<Order> {
        let id = *self.jobs.to_ask(Method::AddWorkers, now.instant).first()?;
        let subject = self.jobs.get(id)?.subjects.first()?.clone();
        let Subject::Worker(worker_id) = &subject else { return None };
        let worker = self.registry.worker(worker_id)?;
        let place = self.registry.place_of(worker)?;
        let request = Request::QueryWorkers { place, id_number: worker.id_number.clone(), page: 0 };
        Some(self.call(request, Purpose::AskWorker(id, subject), None))
    }

    pub(super) fn handle_workers(&mut self, now: Now, id: JobId, subject: &Subject, outcome: Outcome) {
        let Outcome::Answered { answer, .. } = outcome else { return };
        let rows = match answer {
            Answer::Workers(rows) => rows,
            Answer::Ended(Ending::Unclear { .. })
            | Answer::Garbled { .. }
            | Answer::TryLater { .. }
            | Answer::Stop { .. } => return,
            _ => return self.release_all(now, id, "the platform does not list workers"),
        };
        let Subject::Worker(worker_id) = subject else { return };
        let id_number = self.registry.worker(worker_id).map(|worker| worker.id_number.to_uppercase());
        let row = rows.rows.into_iter().find(|row| Some(&row.id_number) == id_number.as_ref());
        if let Some(row) = row {
            let note = Some("found by query".to_owned());
            return self.confirm(now, id, vec![subject.clone()], row.team_number, note);
        }
        let Some(Phase::Unknown { then, .. }) = self.jobs.get(id).map(|job| job.phase.clone()) else { return };
        let text = "the platform does not list the worker".to_owned();
        self.release(now, id, vec![subject.clone()], &then, text);
    }

    /// The next page of the team's day that is being read, or of the next one to read.
    pub(super) fn order_scan(&mut self, now: Now) -> Option<Order> {
        if self.scan.is_none() {
            self.scan = self.next_scan(now);
        }
        let scan = self.scan.as_ref()?;
        let request =
            Request::QueryAttendance { team_number: scan.team_number.clone(), date: scan.date, page: scan.page };
        Some(self.call(request, Purpose::Scan, None))
    }

    fn next_scan(&self, now: Now) -> Option<Scan> {
        let due = self.jobs.to_ask(Method::AddAttendance, now.instant);
        let first = self.jobs.get(*due.first()?)?;
        let team_number = first.team_number.clone()?;
        let date = first.subjects.iter().find_map(|subject| self.day_of(subject))?;
        let concerned = due.into_iter().filter(|id| {
            self.jobs.get(*id).is_some_and(|job| {
                job.team_number.as_ref() == Some(&team_number)
                    && job.subjects.iter().any(|subject| self.day_of(subject) == Some(date))
            })
        });
        let jobs = concerned.collect();
        Some(Scan { team_number, date, page: 0, seen: 0, total: None, found: HashSet::new(), jobs })
    }

    fn day_of(&self, subject: &Subject) -> Option<Date> {
        let Subject::Punch(punch) = subject else { return None };
        Some(self.date_of(self.window.get(*punch)?.out.time))
    }

    pub(super) fn handle_scanned(&mut self, now: Now, outcome: Outcome) {
        let Outcome::Answered { answer: Answer::Attendance(rows), .. } = outcome else {
            // Begun again when the lane is free: half a list settles nothing.
            self.scan = None;
            return;
        };
        let Some(scan) = &mut self.scan else { return };
        if scan.total.is_some() && scan.total != rows.total {
            scan.begin_again();
            return;
        }
        if !take_page(scan, rows) {
            return;
        }
        if let Some(scan) = self.scan.take() {
            for id in &scan.jobs {
                self.settle_by(now, *id, &scan);
            }
        }
    }

    /// What the platform lists is settled, what it does not list is sent again.
    fn settle_by(&mut self, now: Now, id: JobId, scan: &Scan) {
        let Some(job) = self.jobs.get(id) else { return };
        let Phase::Unknown { then, .. } = job.phase.clone() else { return };
        let that_day = job.subjects.iter().filter(|subject| self.day_of(subject) == Some(scan.date));
        let (there, absent): (Vec<Subject>, Vec<Subject>) =
            that_day.cloned().partition(|subject| self.key_of(subject).is_some_and(|key| scan.found.contains(&key)));
        if !there.is_empty() {
            self.confirm(now, id, there, None, Some("found by query".to_owned()));
        }
        if !absent.is_empty() {
            self.release(now, id, absent, &then, "the platform does not have it".to_owned());
        }
    }

    fn key_of(&self, subject: &Subject) -> Option<PunchKey> {
        let Subject::Punch(punch) = subject else { return None };
        let out = self.window.get(*punch)?.out.clone();
        let id_number = self.registry.worker(&out.worker)?.id_number.clone();
        Some(self.profile.punch_key(&Attendance { out, id_number }))
    }
}

/// Adds a page; true when it was the last.
fn take_page(scan: &mut Scan, rows: Rows<PunchKey>) -> bool {
    let known = scan.found.len();
    scan.seen += rows.count;
    scan.total = rows.total;
    scan.page += 1;
    scan.found.extend(rows.rows);
    match rows.total {
        Some(total) => rows.count == 0 || scan.seen >= total,
        // Without a total the list ends with an empty page, or with the same page again.
        None => scan.found.len() == known,
    }
}
