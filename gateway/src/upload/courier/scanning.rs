//! Attendance of unknown outcome is asked for by team and day, page by page, for all the jobs that the day concerns.

use std::collections::HashSet;

use jiff::civil::Date;

use super::listing::{Listing, Progress, Reply};
use super::{Courier, Now, Order, Outcome, Purpose};
use crate::punch::{JobId, Subject};
use crate::upload::profiles::{Answer, Attendance, Method, PunchKey, Request};

/// A team's day as the platform lists it, while it is read.
#[derive(Debug)]
pub(super) struct Scan {
    pub(super) team_number: String,
    date: Date,
    listing: Listing,
    found: HashSet<PunchKey>,
    /// The jobs that are settled by it.
    jobs: Vec<JobId>,
}

impl Courier {
    /// The next page of the team's day that is being read, or of the next one to read.
    pub(super) fn order_scan(&mut self, now: Now) -> Option<Order> {
        if self.scan.is_none() {
            self.scan = self.next_scan(now);
        }
        let scan = self.scan.as_ref()?;
        let (team_number, date, page) = (scan.team_number.clone(), scan.date, scan.listing.page());
        Some(self.call(Request::QueryAttendance { team_number, date, page }, Purpose::Scan, None))
    }

    fn next_scan(&mut self, now: Now) -> Option<Scan> {
        let due = self.jobs.to_ask(Method::QueryAttendance, now.instant);
        for id in &due {
            let Some((team_number, date)) = self.team_day(*id) else {
                self.ask_later(now, *id, "the team or the day of it is not known here".to_owned());
                continue;
            };
            let is_concerned = |id: &&JobId| self.is_of(**id, &team_number, date);
            let jobs = due.iter().filter(is_concerned).copied().collect();
            return Some(Scan { team_number, date, listing: Listing::default(), found: HashSet::new(), jobs });
        }
        None
    }

    /// The first day of a job's punches, and their team's number.
    fn team_day(&self, id: JobId) -> Option<(String, Date)> {
        let job = self.jobs.get(id)?;
        Some((job.team_number.clone()?, job.subjects.iter().find_map(|subject| self.day_of(subject))?))
    }

    fn is_of(&self, id: JobId, team_number: &str, date: Date) -> bool {
        self.jobs.get(id).is_some_and(|job| {
            job.team_number.as_deref() == Some(team_number)
                && job.subjects.iter().any(|subject| self.day_of(subject) == Some(date))
        })
    }

    fn day_of(&self, subject: &Subject) -> Option<Date> {
        let Subject::Punch(punch) = subject else { return None };
        Some(self.date_of(self.window.get(*punch)?.out.time))
    }

    pub(super) fn handle_scanned(&mut self, now: Now, outcome: Outcome) {
        let Some(mut scan) = self.scan.take() else { return };
        let useless = match Reply::of(outcome) {
            Reply::Page(answer, page) => {
                if let Answer::Attendance(rows) = &answer {
                    scan.found.extend(rows.rows.iter().cloned());
                }
                match scan.listing.take(answer, page) {
                    Progress::More => None,
                    Progress::Again => {
                        scan.found.clear();
                        None
                    }
                    Progress::Whole => {
                        self.settle_there(now, &scan);
                        return self.settle_rest(now, &scan);
                    }
                    Progress::Useless(text) => Some(text),
                }
            }
            Reply::Refused(text) | Reply::Useless(text) => Some(text),
            Reply::Unheard => None,
        };
        match useless {
            Some(text) if !scan.listing.has_another_try() => {
                self.settle_there(now, &scan);
                scan.jobs.iter().for_each(|id| self.ask_later(now, *id, text.clone()));
            }
            Some(_) | None => self.scan = Some(scan),
        }
    }

    /// What the platform lists is settled.
    fn settle_there(&mut self, now: Now, scan: &Scan) {
        for id in &scan.jobs {
            let mut there = self.that_day(*id, scan);
            there.retain(|subject| self.key_of(subject).is_some_and(|key| scan.found.contains(&key)));
            if !there.is_empty() {
                self.confirm(now, *id, there, None, Some("found by query".to_owned()));
            }
        }
    }

    /// What the platform does not list is sent again.
    fn settle_rest(&mut self, now: Now, scan: &Scan) {
        for id in &scan.jobs {
            let Some(then) = self.jobs.doubt(*id).map(|doubt| doubt.then.clone()) else { continue };
            let absent = self.that_day(*id, scan);
            if !absent.is_empty() {
                self.release(now, *id, absent, &then, "the platform does not have it".to_owned());
            }
        }
    }

    /// The day's punches of a job whose outcome is not known.
    fn that_day(&self, id: JobId, scan: &Scan) -> Vec<Subject> {
        let Some(job) = self.jobs.get(id).filter(|_| self.jobs.doubt(id).is_some()) else { return Vec::new() };
        job.subjects.iter().filter(|subject| self.day_of(subject) == Some(scan.date)).cloned().collect()
    }

    fn key_of(&self, subject: &Subject) -> Option<PunchKey> {
        let Subject::Punch(punch) = subject else { return None };
        let out = self.window.get(*punch)?.out.clone();
        let id_number = self.registry.worker(&out.worker)?.id_number.clone();
        Some(self.profile.punch_key(&Attendance { out, id_number }))
    }
}
