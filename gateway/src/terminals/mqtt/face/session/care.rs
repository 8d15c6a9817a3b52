//! Bringing a terminal into shape and keeping it there: greeting, clock, resuming, missing records.

use std::time::Duration;

use super::super::Now;
use super::super::codec::Down;
use super::super::errands::{Done, Errand, Failure, OrderNo};
use super::super::numbers::gap_text;
use super::super::presence::Change;
use super::super::record::wall_time;
use super::storing::Waiting;
use super::{Event, Session};
use crate::ops::alarms::{Kind, Severity};
use crate::punch::{Fact, Gap, GapKind};
use crate::terminals::hub::OrderError;

/// A clock found wrong is corrected at most this often.
const CORRECT_TIME_EVERY: Duration = Duration::from_secs(600);
/// A clock that is off by more than this is an alarm.
const CLOCK_ALARM_MS: i64 = 60_000;
/// A greeting is not answered with another round of errands within this.
const GREET_AGAIN_AFTER: Duration = Duration::from_secs(10);

impl Session {
    /// `Online-Ack`, then the errands that bring the terminal into shape.
    pub(super) fn greet(&mut self, now: Now) {
        self.transmit(&Down::OnlineAck { message_id: self.last_greeting_id.clone() }, None);
        let again = self.greeted.is_some_and(|at| now.instant < at + GREET_AGAIN_AFTER);
        if again {
            return;
        }
        self.greeted = Some(now.instant);
        if now.trusted {
            self.request_time(now);
        }
        self.errands.request(Errand::SwitchOnResume, None);
    }

    /// The link is gone: what was to be done is begun anew after the next greeting.
    pub(super) fn drop_errands(&mut self) {
        self.errands.drop_link();
        self.greeted = None;
    }

    pub(super) fn request_time(&mut self, now: Now) {
        self.set_time_at = Some(now.instant);
        self.errands.request(Errand::SetTime, None);
    }

    /// Compares the terminal's clock with ours.
    pub(super) fn measure(&mut self, now: Now, time: Option<String>) {
        let Some(shown) = time.and_then(|time| wall_time(&time, self.offset)) else { return };
        if !now.trusted {
            return;
        }
        self.skew.add(shown.since(now.wall));
        let skew = self.skew.measured().unwrap_or(0);
        if skew.abs() <= CLOCK_ALARM_MS {
            self.events.push_back(Event::AlarmOver { kind: Kind::TerminalClock });
            return;
        }
        let text = format!("its clock is off by {} s; punches may be held until it is right", skew / 1000);
        self.alarm(Severity::Warning, Kind::TerminalClock, text);
        let recently = self.set_time_at.is_some_and(|at| now.instant < at + CORRECT_TIME_EVERY);
        if self.terminal.is_some() && !recently {
            self.request_time(now);
        }
    }

    pub(super) fn store_gap(&mut self, now: Now, first: u64, last: u64, reason: &str) {
        let count = last - first + 1;
        self.alarm(Severity::Critical, Kind::PunchesLost, format!("records {first} to {last} are missing: {reason}"));
        let fact = Fact::Gap(Gap {
            terminal: self.terminal.as_ref().map(|terminal| terminal.id.clone()),
            at: now.wall,
            count: Some(count),
            kind: GapKind::RecordNumbers,
            detail: format!("{}: {reason}", gap_text(&self.serial, first, last)),
        });
        self.store(Waiting::Gap { first, last }, fact, None);
    }

    pub(super) fn handle_done(&mut self, now: Now, done: Done, order: Option<OrderNo>) {
        let result = match done {
            Done::Time(result) => {
                self.handle_time_done(&result);
                result
            }
            Done::Resume(result) => {
                self.handle_resume_done(&result);
                result.map(|_| ())
            }
            Done::Replay(result) => {
                self.numbers.handle_asked(now.instant, result.is_ok());
                result
            }
            Done::Opened(result) => result,
        };
        if let Some(order) = order {
            let outcome = result.map_err(|failure| self.order_error(failure));
            self.events.push_back(Event::OrderDone { order, outcome });
        }
    }

    fn handle_time_done(&mut self, result: &Result<(), Failure>) {
        match result {
            Ok(()) => {
                self.skew.forget();
                self.events.push_back(Event::AlarmOver { kind: Kind::TerminalClock });
            }
            Err(Failure::Refused(reason)) => {
                let text = format!("it does not take the time ({reason}); set its clock by hand");
                self.alarm(Severity::Warning, Kind::TerminalClock, text);
            }
            Err(Failure::NoAnswer | Failure::Offline) => {}
        }
        self.events.push_back(Event::Status);
    }

    fn handle_resume_done(&mut self, result: &Result<Option<Duration>, Failure>) {
        let state = match result {
            Ok(beat) => {
                if let Some(beat) = *beat {
                    self.presence.set_beat(beat);
                }
                "on"
            }
            Err(Failure::Refused(_)) => "refused",
            Err(Failure::NoAnswer | Failure::Offline) => "unknown",
        };
        self.health.insert("resume".to_owned(), state.to_owned());
        if let Err(Failure::Refused(reason)) = result {
            let text = format!(
                "ResumefromBreakpoint cannot be switched on ({reason}): punches made while the link is down are lost; \
                 switch it on at the terminal"
            );
            self.alarm(Severity::Critical, Kind::PunchesLost, text);
        }
        self.events.push_back(Event::Status);
    }

    pub(super) fn report(&mut self, change: Option<Change>) {
        let Some(change) = change else { return };
        self.events.push_back(Event::Status);
        match change {
            Change::Online => self.events.push_back(Event::AlarmOver { kind: Kind::TerminalOffline }),
            Change::Offline if self.terminal.is_some() => {
                let text = "not heard of; look at its power and network".to_owned();
                self.alarm(Severity::Warning, Kind::TerminalOffline, text);
            }
            Change::Offline => {}
            Change::ClashBegan => {
                let text = "two terminals use this id and push each other off; give one another id".to_owned();
                self.alarm(Severity::Warning, Kind::TerminalCloned, text);
            }
            Change::ClashEnded => self.events.push_back(Event::AlarmOver { kind: Kind::TerminalCloned }),
        }
    }

    pub(super) fn say_pending(&mut self) {
        let text = "unknown terminal; approve it on the console, or ignore it when it is not yours".to_owned();
        self.alarm(Severity::Warning, Kind::TerminalPending, text);
    }

    fn order_error(&self, failure: Failure) -> OrderError {
        match failure {
            Failure::NoAnswer => OrderError::NoAnswer(self.name()),
            Failure::Offline => OrderError::Offline(self.name()),
            Failure::Refused(reason) => OrderError::Refused { terminal: self.name(), reason },
        }
    }
}
