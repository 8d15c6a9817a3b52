//! How a courier stands, as board, alarms and metrics show it.

use super::courier::{Outcome, Report};
use super::profiles::{Answer, Ending};
use crate::ops::Ops;
use crate::ops::alarms::{Kind, Severity};
use crate::ops::board::{CourierState, PlatformStatus};
use crate::ops::metrics::{PlatformLabel, RequestLabel};
use crate::punch::{PlatformName, Step, Subject, UnixMs, UploadStep};

/// The last status shown, and where to show the next.
pub struct Status {
    shown: PlatformStatus,
    refused: u64,
    unclear: usize,
    ops: Ops,
}

impl Status {
    /// On the board at once, as running.
    pub fn new(name: PlatformName, profile: &str, ops: Ops) -> Status {
        let shown = PlatformStatus {
            name,
            profile: profile.to_owned(),
            state: CourierState::Running,
            note: None,
            last_answer: None,
        };
        ops.board.set_platform(shown.clone());
        Status { shown, refused: 0, unclear: 0, ops }
    }

    /// A request is over.
    pub fn heard(&mut self, outcome: &Outcome, at: UnixMs) {
        if matches!(outcome, Outcome::Answered { .. }) {
            self.shown.last_answer = Some(at);
            self.ops.board.set_platform(self.shown.clone());
        }
        let outcome = match outcome {
            Outcome::Answered { answer, .. } => match answer {
                Answer::TryLater { .. } => "later",
                Answer::Stop { .. } => "stop",
                Answer::Garbled { .. } | Answer::NoList { .. } | Answer::Ended(Ending::Unclear { .. }) => "unclear",
                Answer::Ended(Ending::Done { .. } | Ending::Exists { .. }) => "ok",
                Answer::Ended(Ending::Items(_) | Ending::Failed { .. } | Ending::Depends { .. }) => "refused",
                Answer::Accepted { .. }
                | Answer::JobPending
                | Answer::JobEnded(_)
                | Answer::Employers(_)
                | Answer::Teams(_)
                | Answer::Workers(_)
                | Answer::Moves(_)
                | Answer::Attendance(_) => "ok",
            },
            Outcome::NotSent { .. } => "not-sent",
            Outcome::Lost { .. } => "lost",
            Outcome::BadPictures(_) | Outcome::UnreadPictures { .. } => return,
        };
        let label = RequestLabel { platform: self.shown.name.to_string(), outcome: outcome.to_owned() };
        self.ops.metrics.requests.get_or_create(&label).inc();
    }

    /// Counts receipts.
    pub fn count(&self, step: &UploadStep) {
        if matches!(step.step, Step::Confirmed { .. } | Step::Refused { .. }) {
            let punches = step.subjects.iter().filter(|subject| matches!(subject, Subject::Punch(_))).count();
            let label = PlatformLabel { platform: self.shown.name.to_string() };
            self.ops.metrics.receipts.get_or_create(&label).inc_by(punches as u64);
        }
    }

    /// Shows what is new since the last time.
    pub fn show(&mut self, report: &Report, clock_is_good: bool) {
        let (state, note) = match (&report.stopped, &report.down) {
            (Some(text), _) => (CourierState::Stopped, Some(text.clone())),
            (None, Some(text)) => (CourierState::Unreachable, Some(text.clone())),
            (None, None) if !clock_is_good => {
                (CourierState::Running, Some("nothing is sent until the clock is set".to_owned()))
            }
            (None, None) => (CourierState::Running, None),
        };
        if (state, &note) != (self.shown.state, &self.shown.note) {
            self.raise(state, note.as_deref().unwrap_or_default());
            (self.shown.state, self.shown.note) = (state, note);
            self.ops.board.set_platform(self.shown.clone());
        }
        if report.refused != self.refused {
            self.refused = report.refused;
            self.raise_refusals(report);
        }
        if report.unclear != self.unclear {
            self.unclear = report.unclear;
            self.raise_unclear(report);
        }
    }

    fn raise(&self, state: CourierState, note: &str) {
        let (alarms, name) = (&self.ops.alarms, self.shown.name.as_str());
        match state {
            CourierState::Stopped => {
                let text = format!(
                    "the platform refuses key, permission or address: {note}. Check appid, secret, project code and the \
                     site's public address with the platform, then restart or order a retry"
                );
                alarms.raise(Severity::Critical, Kind::PlatformStopped, name, text);
                alarms.clear(Kind::PlatformDown, name);
            }
            CourierState::Unreachable => {
                let text = format!("no sensible answer: {note}. Punches are kept and sent when it is back");
                alarms.raise(Severity::Warning, Kind::PlatformDown, name, text);
                alarms.clear(Kind::PlatformStopped, name);
            }
            CourierState::Running => {
                alarms.clear(Kind::PlatformStopped, name);
                alarms.clear(Kind::PlatformDown, name);
            }
        }
    }

    fn raise_refusals(&self, report: &Report) {
        let (alarms, name) = (&self.ops.alarms, self.shown.name.as_str());
        if report.refused == 0 {
            return alarms.clear(Kind::PlatformRefuses, name);
        }
        let last = report.last_refusal.as_deref().unwrap_or("before this start");
        let text = format!("{} refused, the last: {last}. Repair the roster or order a retry", report.refused);
        alarms.raise(Severity::Warning, Kind::PlatformRefuses, name, text);
    }

    fn raise_unclear(&self, report: &Report) {
        let (alarms, name) = (&self.ops.alarms, self.shown.name.as_str());
        let Some(said) = report.last_unclear.as_deref().filter(|_| report.unclear > 0) else {
            return alarms.clear(Kind::PlatformUnclear, name);
        };
        let text = format!(
            "the platform does not say what became of {} uploads: {said}. They are not sent again before it does; ask its \
             operator for their lists",
            report.unclear
        );
        alarms.raise(Severity::Warning, Kind::PlatformUnclear, name, text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn uploads_that_the_platform_does_not_tell_of_are_an_alarm_until_it_does() {
        let ops = Ops::new(Clock::manual(UnixMs(0)));
        let mut status = Status::new("national".into(), "mohurd", ops.clone());
        let unclear =
            Report { unclear: 20, last_unclear: Some("code 0 without a list".to_owned()), ..Report::default() };
        status.show(&unclear, true);
        let [alarm] = &ops.alarms.list()[..] else { panic!("{:?}", ops.alarms.list()) };
        assert_eq!((alarm.kind, alarm.subject.as_str()), (Kind::PlatformUnclear, "national"));
        assert!(alarm.text.contains("20") && alarm.text.contains("without a list"), "{}", alarm.text);
        status.show(&Report::default(), true);
        assert_eq!(ops.alarms.list(), []);
    }
}
