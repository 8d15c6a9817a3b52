//! After an unknown outcome: ask the platform what it has before anything is sent again.
//!
//! A batch of workers, entries or exits is asked for by its team, anything else by itself, attendance by team and day
//! ([`super::scanning`]). Only a list that was read to its end says that something is not there. An answer that is no such
//! list settles nothing: the question is asked again later, and after several times people are told. A registration whose
//! list the platform does not give at all is sent again, and "already exists" settles it.

use std::collections::BTreeMap;

use super::jobs::{Doubt, Job, Phase, Then};
use super::listing::{Listing, Progress, Reply};
use super::registry::Standing;
use super::restoring::method_of;
use super::settling::doubled;
use super::{ASK_FIRST, ASK_LONGEST, Courier, IN_VAIN, Now, Order, Outcome, Purpose};
use crate::punch::{JobId, Step, Subject};
use crate::upload::profiles::{Answer, Method, MoveKind, MoveRow, Request, Whom};

/// A registration of unknown outcome, while the platform is asked for it.
#[derive(Debug)]
pub(super) struct Question {
    job: JobId,
    /// Of a batch, one; the list has those of the whole job.
    about: Subject,
    listing: Listing,
}

/// A registration as a list has it.
struct Found {
    /// The team's number, for teams and workers.
    number: Option<String>,
}

impl Courier {
    /// What the platform cannot be told may have been put right there by a person: it is asked once a day, and then a person
    /// is asked here.
    pub(super) fn ask_before_holding(&mut self, now: Now, subject: Subject, reason: String) {
        let today = self.date_of(now.wall);
        if !self.registry.is_to_be_asked(&subject, today) {
            return self.hold_for_repair(now, &subject, reason);
        }
        let id = self.new_job();
        self.registry.set(&subject, Standing::InJob(id));
        let phase = Phase::Unknown(Doubt::new(now.instant, Then::Hold { reason }));
        let (method, subjects) = (method_of(&subject), vec![subject]);
        let team_number = self.team_number_of(&subjects);
        self.jobs.insert(id, Job { method, subjects, size: 1, team_number, phase });
    }

    /// The next page of the list that is being read for a registration, or the first one for the next registration.
    pub(super) fn order_question(&mut self, now: Now, query: Method) -> Option<Order> {
        let question = match self.questions.remove(&query) {
            Some(question) if !self.concerned(&question).is_empty() => question,
            Some(_) | None => self.next_question(now, query)?,
        };
        let request = self.request_for(question.job, &question.about, question.listing.page()).ok()?;
        self.questions.insert(query, question);
        Some(self.call(request, Purpose::Ask, None))
    }

    fn next_question(&mut self, now: Now, query: Method) -> Option<Question> {
        for job in self.jobs.to_ask(query, now.instant) {
            let subjects = self.jobs.get(job).map(|job| job.subjects.clone()).unwrap_or_default();
            let mut obstacle = "nothing of it is known here".to_owned();
            for about in subjects {
                match self.request_for(job, &about, 0) {
                    Ok(_) => return Some(Question { job, about, listing: Listing::default() }),
                    Err(reason) => obstacle = reason,
                }
            }
            self.ask_later(now, job, obstacle);
        }
        None
    }

    /// What the list can tell of, as far as it is still in doubt.
    fn concerned(&self, question: &Question) -> Vec<Subject> {
        let Some(job) = self.jobs.get(question.job).filter(|_| self.jobs.doubt(question.job).is_some()) else {
            return Vec::new();
        };
        job.subjects.iter().filter(|subject| is_batch(job) || **subject == question.about).cloned().collect()
    }

    /// The question for a registration, or why it cannot be asked.
    fn request_for(&self, id: JobId, about: &Subject, page: u32) -> Result<Request, String> {
        let team_number = || {
            let number = self.jobs.get(id).and_then(|job| job.team_number.clone());
            number.or_else(|| self.number_wanted(id, about)).ok_or("the team's number is not known here")
        };
        let employer = |name: &str| {
            let known = self.registry.employer(name).cloned();
            known.ok_or_else(|| format!("employer {name} is not configured"))
        };
        let id_number = |worker| {
            let known = self.registry.worker(worker).map(|worker| worker.id_number.clone());
            known.ok_or_else(|| "the worker is not on the roster".to_owned())
        };
        Ok(match about {
            Subject::Employer(name) => Request::QueryEmployers { employer: employer(name)?, page },
            Subject::Team(team) => {
                Request::QueryTeams { employer: employer(&team.employer)?, team: team.clone(), page }
            }
            Subject::Worker(_) if self.jobs.get(id).is_some_and(is_batch) => {
                Request::QueryWorkers { whom: Whom::Team(team_number()?), page }
            }
            Subject::Worker(id) => Request::QueryWorkers { whom: Whom::Worker(id_number(id)?), page },
            Subject::Entry(..) | Subject::Exit(..) => Request::QueryMoves { team_number: team_number()?, page },
            Subject::Punch(_) => return Err("a punch is asked for with its day".to_owned()),
        })
    }

    pub(super) fn handle_asked(&mut self, now: Now, query: Method, outcome: Outcome) {
        let Some(mut question) = self.questions.remove(&query) else { return };
        let id = question.job;
        let useless = match Reply::of(outcome) {
            Reply::Page(answer, page) => {
                self.settle_listed(now, &question, &answer);
                match question.listing.take(answer, page) {
                    Progress::More | Progress::Again => None,
                    Progress::Whole => return self.settle_absent(now, id, self.concerned(&question)),
                    Progress::Useless(text) => Some(text),
                }
            }
            Reply::Refused(text) => return self.settle_unasked(now, id, text),
            Reply::Useless(text) => Some(text),
            Reply::Unheard => None,
        };
        if self.concerned(&question).is_empty() {
            return;
        }
        match useless {
            Some(text) if !question.listing.has_another_try() => self.ask_later(now, id, text),
            Some(_) | None => {
                self.questions.insert(query, question);
            }
        }
    }

    /// The registration in a page of its list.
    fn found(&self, about: &Subject, answer: &Answer) -> Option<Found> {
        let id_number = |id| self.registry.worker(id).map(|worker| worker.id_number.to_uppercase());
        let is_there = |there: bool| there.then_some(Found { number: None });
        match (about, answer) {
            (Subject::Employer(name), Answer::Employers(rows)) => {
                let code = &self.registry.employer(name)?.credit_code;
                is_there(rows.rows.iter().any(|row| row.corp_code == *code))
            }
            (Subject::Team(team), Answer::Teams(rows)) => {
                let code = self.registry.employer(&team.employer).map(|employer| employer.credit_code.clone());
                let is_it = |code_there: &Option<String>| code_there.is_none() || *code_there == code;
                let row = rows.rows.iter().find(|row| row.name == team.name && is_it(&row.corp_code))?;
                Some(Found { number: Some(row.number.clone()) })
            }
            (Subject::Worker(id), Answer::Workers(rows)) => {
                let row = rows.rows.iter().find(|row| Some(&row.id_number) == id_number(id).as_ref())?;
                Some(Found { number: row.team_number.clone() })
            }
            (Subject::Entry(id, date) | Subject::Exit(id, date), Answer::Moves(rows)) => {
                let kind = if matches!(about, Subject::Entry(..)) { MoveKind::Entry } else { MoveKind::Exit };
                is_there(rows.rows.contains(&MoveRow { id_number: id_number(id)?, date: *date, kind }))
            }
            _ => None,
        }
    }

    /// What is on the page, the platform has.
    fn settle_listed(&mut self, now: Now, question: &Question, answer: &Answer) {
        let mut there: BTreeMap<Option<String>, Vec<Subject>> = BTreeMap::new();
        for subject in self.concerned(question) {
            if let Some(found) = self.found(&subject, answer) {
                there.entry(found.number).or_default().push(subject);
            }
        }
        for (number, subjects) in there {
            match self.moved_from(&subjects) {
                Some(before) => self.settle_moved(now, question.job, subjects, &before, number),
                None => self.confirm(now, question.job, subjects, number, Some("found by query".to_owned())),
            }
        }
    }

    /// The number of the team that a worker leaves.
    fn moved_from(&self, subjects: &[Subject]) -> Option<String> {
        let [Subject::Worker(worker)] = subjects else { return None };
        self.registry.number_of(worker).map(str::to_owned)
    }

    /// A worker who was to change teams: has the platform done it?
    fn settle_moved(&mut self, now: Now, id: JobId, about: Vec<Subject>, before: &str, number: Option<String>) {
        let Some(worker) = about.first().cloned() else { return };
        match number {
            Some(there) if Some(&there) != self.number_wanted(id, &worker).as_ref() => {
                if there != before {
                    self.correct_number(now, id, &worker, there.clone());
                }
                let failure = format!("the platform keeps the worker in the team with the number {there}");
                let then = match self.jobs.doubt(id).map(|doubt| &doubt.then) {
                    Some(Then::Resend) => Then::Resend,
                    _ => Then::Split { text: failure.clone() },
                };
                self.release(now, id, about, &then, failure);
            }
            number => self.confirm(now, id, about, number, Some("found by query".to_owned())),
        }
    }

    /// The platform does not have it: what the doubt says is done.
    fn settle_absent(&mut self, now: Now, id: JobId, absent: Vec<Subject>) {
        let Some(then) = self.jobs.doubt(id).map(|doubt| doubt.then.clone()).filter(|_| !absent.is_empty()) else {
            return;
        };
        self.release(now, id, absent, &then, "the platform does not list it".to_owned());
    }

    /// The platform does not give the list.
    fn settle_unasked(&mut self, now: Now, id: JobId, text: String) {
        let Some(Doubt { then, .. }) = self.jobs.doubt(id).cloned() else { return };
        let subjects = self.jobs.get(id).map(|job| job.subjects.clone()).unwrap_or_default();
        match then {
            Then::Trust { .. } => {
                let note = format!("its list is not given: {text}");
                self.confirm(now, id, subjects, None, Some(note));
            }
            Then::Resend | Then::Split { .. } | Then::Hold { .. } => {
                let text = format!("sent again, its list is not given: {text}");
                self.release(now, id, subjects, &then, text);
            }
        }
    }

    /// Nothing of use was said: the question is asked again, each time later, and people are told.
    pub(super) fn ask_later(&mut self, now: Now, id: JobId, text: String) {
        let Some(doubt) = self.jobs.doubt_mut(id) else { return };
        doubt.in_vain += 1;
        doubt.ask_at = now.instant + doubled(ASK_FIRST, doubt.in_vain, ASK_LONGEST);
        doubt.said.clone_from(&text);
        if doubt.in_vain == IN_VAIN
            && let Some((method, subjects)) = self.jobs.get(id).map(|job| (job.method, job.subjects.clone()))
        {
            let reason = format!("the platform does not say what became of it: {text}");
            subjects.iter().for_each(|subject| self.registry.told(subject, None));
            self.push(now, id, method, subjects, Step::Unknown { reason });
        }
    }
}

/// Whether a request carried several of one team, for whom the team's list is asked.
fn is_batch(job: &Job) -> bool {
    match job.method {
        Method::AddMoves => true,
        Method::AddWorkers => job.size > 1,
        Method::AddEmployer
        | Method::AddTeam
        | Method::UpdateWorker
        | Method::AddAttendance
        | Method::QueryJob
        | Method::QueryEmployers
        | Method::QueryTeams
        | Method::QueryWorkers
        | Method::QueryMoves
        | Method::QueryAttendance => false,
    }
}
