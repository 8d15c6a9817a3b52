//! Commands to one terminal: one outstanding at a time, 20 s for the answer, one repetition.
//!
//! An errand may take several commands (set the time, read it back; read the configuration, change it, read it back).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use jiff::tz::Offset;
use serde_json::value::RawValue;

use super::Now;
use super::codec::{Answer, Down};
use super::record::{wall_text, wall_time};
use crate::punch::UnixMs;

const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// A terminal whose clock is read back within this is right.
const TIME_TOLERANCE_MS: i64 = 2_000;
/// Spellings of the time in `SetSysTime` that firmware understands, the usual one first.
const TIME_FORMS: [(&str, char); 6] =
    [("SysTime", 'T'), ("SysTime", ' '), ("sysTime", 'T'), ("sysTime", ' '), ("time", 'T'), ("time", ' ')];
/// Orders and errands that may wait; more is a caller's mistake.
const MAX_WAITING: usize = 16;

/// Names an order from the console until it is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct OrderNo(pub u64);

/// Something to be done at a terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Errand {
    /// Set the clock and read it back.
    SetTime,
    /// See to it that records are kept and pushed again.
    SwitchOnResume,
    /// Open the gate.
    Open { text: String },
    /// Have the records of a span pushed again.
    Replay { from: UnixMs, to: UnixMs },
}

/// Why an errand failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    NoAnswer,
    Refused(String),
    Offline,
}

/// How an errand ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Done {
    Time(Result<(), Failure>),
    /// The heartbeat interval, when the configuration told.
    Resume(Result<Option<Duration>, Failure>),
    Opened(Result<(), Failure>),
    Replay(Result<(), Failure>),
}

enum Step {
    SetTime { tried: usize },
    CheckTime { tried: usize },
    ReadConfig,
    WriteConfig { fields: Vec<(String, Box<RawValue>)> },
    CheckConfig,
    Open { text: String },
    Replay { from: UnixMs, to: UnixMs },
}

struct Underway {
    step: Step,
    order: Option<OrderNo>,
    /// `None`: the command has not been sent.
    sent: Option<Sent>,
    repeated: bool,
}

struct Sent {
    operator: &'static str,
    message_id: String,
    deadline: Instant,
}

/// The errands of one terminal.
pub struct Errands {
    offset: Offset,
    waiting: VecDeque<(Errand, Option<OrderNo>)>,
    underway: Option<Underway>,
    done: VecDeque<(Done, Option<OrderNo>)>,
    last_message: u64,
    /// Which of [`TIME_FORMS`] this terminal understands.
    time_form: usize,
}

impl Errands {
    pub fn new(offset: Offset) -> Errands {
        Errands {
            offset,
            waiting: VecDeque::new(),
            underway: None,
            done: VecDeque::new(),
            last_message: 0,
            time_form: 0,
        }
    }

    /// Adds an errand, unless the same one waits already without an order.
    pub fn request(&mut self, errand: Errand, order: Option<OrderNo>) {
        let waits = order.is_none() && self.waiting.iter().any(|(waiting, _)| *waiting == errand);
        if waits {
            return;
        }
        if self.waiting.len() >= MAX_WAITING {
            self.done.push_back((failed(&errand, Failure::Refused("too many errands wait".to_owned())), order));
            return;
        }
        self.waiting.push_back((errand, order));
    }

    /// The link is gone: nothing that was asked will be answered.
    pub fn drop_link(&mut self) {
        if let Some(underway) = self.underway.take() {
            self.done.push_back((underway.step.failed(Failure::Offline), underway.order));
        }
        for (errand, order) in self.waiting.drain(..) {
            self.done.push_back((failed(&errand, Failure::Offline), order));
        }
    }

    /// The next command to send, with its message id.
    pub fn poll_command(&mut self, now: Now) -> Option<(Down, String)> {
        if self.underway.is_none() {
            let (errand, order) = self.waiting.pop_front()?;
            self.underway = Some(Underway { step: Step::first(errand), order, sent: None, repeated: false });
        }
        let underway = self.underway.as_mut()?;
        if underway.sent.is_some() {
            return None;
        }
        let command = underway.step.command(now, self.time_form, self.offset);
        self.last_message += 1;
        let message_id = format!("gw-{}", self.last_message);
        underway.sent = Some(Sent {
            operator: command.operator(),
            message_id: message_id.clone(),
            deadline: now.instant + ANSWER_TIMEOUT,
        });
        Some((command, message_id))
    }

    pub fn poll_done(&mut self) -> Option<(Done, Option<OrderNo>)> {
        self.done.pop_front()
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        Some(self.underway.as_ref()?.sent.as_ref()?.deadline)
    }

    pub fn handle_timeout(&mut self, now: Now) {
        let Some(underway) = self.underway.as_mut() else { return };
        if underway.sent.as_ref().is_none_or(|sent| sent.deadline > now.instant) {
            return;
        }
        if !underway.repeated {
            underway.repeated = true;
            underway.sent = None;
            return;
        }
        let Some(underway) = self.underway.take() else { return };
        // The set time cannot be read back on this firmware: the terminal's word for it must do.
        let done = match underway.step {
            Step::CheckTime { .. } => Done::Time(Ok(())),
            step => step.failed(Failure::NoAnswer),
        };
        self.done.push_back((done, underway.order));
    }

    /// Takes an answer; one that nothing outstanding asked for is ignored.
    pub fn handle_answer(&mut self, now: Now, answer: &Answer<'_>) {
        let Some(sent) = self.underway.as_ref().and_then(|underway| underway.sent.as_ref()) else { return };
        let same_id = answer.message_id.as_ref().is_none_or(|id| *id == sent.message_id);
        if answer.command != sent.operator || !same_id {
            return;
        }
        let Some(underway) = self.underway.take() else { return };
        match underway.step.advance(now, answer, &mut self.time_form, self.offset) {
            Ok(step) => self.underway = Some(Underway { step, order: underway.order, sent: None, repeated: false }),
            Err(done) => self.done.push_back((done, underway.order)),
        }
    }
}

fn failed(errand: &Errand, failure: Failure) -> Done {
    Step::first(errand.clone()).failed(failure)
}

impl Step {
    fn first(errand: Errand) -> Step {
        match errand {
            Errand::SetTime => Step::SetTime { tried: 0 },
            Errand::SwitchOnResume => Step::ReadConfig,
            Errand::Open { text } => Step::Open { text },
            Errand::Replay { from, to } => Step::Replay { from, to },
        }
    }

    fn failed(self, failure: Failure) -> Done {
        match self {
            Step::SetTime { .. } | Step::CheckTime { .. } => Done::Time(Err(failure)),
            Step::ReadConfig | Step::WriteConfig { .. } | Step::CheckConfig => Done::Resume(Err(failure)),
            Step::Open { .. } => Done::Opened(Err(failure)),
            Step::Replay { .. } => Done::Replay(Err(failure)),
        }
    }

    fn command(&self, now: Now, time_form: usize, offset: Offset) -> Down {
        match self {
            Step::SetTime { .. } => {
                let (key, separator) = TIME_FORMS[time_form];
                let nearest_second = now.wall.plus_ms(500);
                Down::SetSysTime { key, time: wall_text(nearest_second, offset, separator) }
            }
            Step::CheckTime { .. } => Down::GetSysTime,
            Step::ReadConfig | Step::CheckConfig => Down::GetMqttConfig,
            Step::WriteConfig { fields } => Down::UpMqttConfig { fields: fields.clone() },
            Step::Open { text } => Down::Unlock { text: text.clone() },
            Step::Replay { from, to } => {
                Down::ManualPushRecords { from: wall_text(*from, offset, 'T'), to: wall_text(*to, offset, 'T') }
            }
        }
    }

    /// The next step after a good answer, or the end.
    fn advance(self, now: Now, answer: &Answer<'_>, time_form: &mut usize, offset: Offset) -> Result<Step, Done> {
        let refused = || Failure::Refused(answer.reason.clone());
        match self {
            Step::SetTime { tried } if answer.ok => Ok(Step::CheckTime { tried }),
            Step::SetTime { tried } => next_form(tried, time_form, refused()),
            // A terminal that cannot be asked for its time has at least taken it.
            Step::CheckTime { .. } if !answer.ok => Err(Done::Time(Ok(()))),
            Step::CheckTime { tried } => match read_time(answer, offset) {
                Some(shown) if shown.since(now.wall).abs() > TIME_TOLERANCE_MS => {
                    let seen = Failure::Refused(format!("shows {}", wall_text(shown, offset, ' ')));
                    next_form(tried, time_form, seen)
                }
                Some(_) | None => Err(Done::Time(Ok(()))),
            },
            Step::ReadConfig if answer.ok => match switched_on(answer) {
                None => Err(Done::Resume(Ok(beat_interval(answer)))),
                Some(fields) => Ok(Step::WriteConfig { fields }),
            },
            Step::WriteConfig { .. } if answer.ok => Ok(Step::CheckConfig),
            Step::CheckConfig if answer.ok && answer.info.number(RESUME) == Some(1) => {
                Err(Done::Resume(Ok(beat_interval(answer))))
            }
            Step::CheckConfig if answer.ok => Err(Done::Resume(Err(Failure::Refused("stays off".to_owned())))),
            Step::Open { .. } if answer.ok => Err(Done::Opened(Ok(()))),
            Step::Replay { .. } if answer.ok => Err(Done::Replay(Ok(()))),
            step => Err(step.failed(refused())),
        }
    }
}

/// Tries the next spelling, until each has had its turn.
fn next_form(tried: usize, time_form: &mut usize, failure: Failure) -> Result<Step, Done> {
    *time_form = (*time_form + 1) % TIME_FORMS.len();
    match tried + 1 {
        tried if tried < TIME_FORMS.len() => Ok(Step::SetTime { tried }),
        _ => Err(Done::Time(Err(failure))),
    }
}

fn read_time(answer: &Answer<'_>, offset: Offset) -> Option<UnixMs> {
    let text = TIME_FORMS.iter().find_map(|(key, _)| answer.info.text(key))?;
    wall_time(&text, offset)
}

const RESUME: &str = "ResumefromBreakpoint";

/// The configuration with records kept and pushed; `None` when it is so already.
fn switched_on(answer: &Answer<'_>) -> Option<Vec<(String, Box<RawValue>)>> {
    let wanted = [RESUME, "RecordUploadType"];
    let missing = answer.info.text(RESUME).is_none();
    let off = wanted.iter().any(|key| answer.info.number(key).is_some_and(|value| value != 1));
    if !missing && !off {
        return None;
    }
    let answered = ["facesluiceId", "result", "detail"];
    let mut fields: Vec<(String, Box<RawValue>)> = answer
        .info
        .iter()
        .filter(|(key, _)| !answered.contains(key))
        .map(|(key, value)| (key.to_owned(), if wanted.contains(&key) { one_like(value) } else { value.to_owned() }))
        .collect();
    if !fields.iter().any(|(key, _)| key == RESUME) {
        fields.push((RESUME.to_owned(), raw("1")));
    }
    Some(fields)
}

/// 1 in the type that the terminal uses.
fn one_like(value: &RawValue) -> Box<RawValue> {
    raw(if value.get().starts_with('"') { "\"1\"" } else { "1" })
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("a JSON literal")
}

fn beat_interval(answer: &Answer<'_>) -> Option<Duration> {
    let seconds = answer.info.number("KeepAliveInterval")?;
    u64::try_from(seconds).ok().filter(|seconds| (1..=3600).contains(seconds)).map(Duration::from_secs)
}
