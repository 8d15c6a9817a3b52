//! `GET events`: what happens, as it happens, as JSON over server-sent events.
//!
//! Nothing is repeated: a reader that was away, or was too slow and is told `missed`, lists what it needs again.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, watch};

use super::super::auth::Access;
use super::super::pages::stream::{self, Source, Ticket};
use super::super::problem::Problem;
use super::super::{Console, Here};
use super::punches::uploads_of;
use super::shape;
use crate::punch::*;
use crate::store::Recorded;

/// Opens the stream; each reader has its own place in the store's facts and nothing else is kept for it.
pub async fn stream(State(console): Here, access: Access) -> Result<Response, Problem> {
    let ticket = Ticket::take(&console, access)?;
    let mut reader = Reader::new(console);
    reader.look_at_board();
    reader.look_at_alarms();
    Ok(stream::answer(ticket, reader))
}

/// One client's view of what has happened so far.
struct Reader {
    console: Arc<Console>,
    facts: broadcast::Receiver<Arc<Recorded>>,
    board: watch::Receiver<u64>,
    alarms: watch::Receiver<u64>,
    /// What was last said of each terminal, platform and alarm; only differences are sent.
    said: BTreeMap<(&'static str, String), Value>,
    /// Received, and not yet put into a frame.
    received: Option<Arc<Recorded>>,
    waiting: VecDeque<Bytes>,
}

impl Reader {
    fn new(console: Arc<Console>) -> Reader {
        let context = &console.context;
        Reader {
            facts: context.store.subscribe(),
            board: context.ops.board.watch(),
            alarms: context.ops.alarms.watch(),
            said: BTreeMap::new(),
            received: None,
            waiting: VecDeque::new(),
            console,
        }
    }

    fn say(&mut self, event: &str, seq: Option<Seq>, data: &Value) {
        self.waiting.push_back(stream::frame(event, seq.map(|seq| seq.0), data));
    }

    async fn look_at_fact(&mut self, recorded: Arc<Recorded>) {
        let seq = Some(recorded.seq);
        match &recorded.fact {
            Fact::Punch(punch) => {
                if let Some(punch) = self.shape(punch.id).await {
                    self.say("punch", seq, &punch);
                }
            }
            Fact::Judgement(judgement) => {
                if let Some(punch) = self.shape(judgement.punch).await {
                    self.say("verdict", seq, &punch);
                }
            }
            Fact::Upload(step) => self.say_receipts(recorded.seq, step),
            Fact::Worker(_)
            | Fact::Gap(_)
            | Fact::Quarantine(_)
            | Fact::Stranger(_)
            | Fact::Adoption(_)
            | Fact::Epoch(_)
            | Fact::DayHead(_)
            | Fact::Restoration(_)
            | Fact::Removal(_) => {}
        }
    }

    async fn shape(&self, id: PunchId) -> Option<Value> {
        let platforms = self.console.platforms();
        let context = &self.console.context;
        let found = context.store.read(move |view| {
            let row = view.punch(id)?;
            let uploads = uploads_of(view, &row, &platforms);
            Some((row, uploads))
        });
        let (row, uploads) = found.await?;
        let shape = shape::Punch::of(&row, &uploads, context.config.site.utc_offset);
        Some(serde_json::to_value(shape).expect("a punch has only text and numbers"))
    }

    /// One `receipt` for each punch whose platform has answered.
    fn say_receipts(&mut self, seq: Seq, step: &UploadStep) {
        let (state, reason) = match &step.step {
            Step::Confirmed { .. } => (UploadState::Confirmed, None),
            Step::Refused { reason } => (UploadState::Refused, Some(reason)),
            Step::Waiting { .. }
            | Step::Sending { .. }
            | Step::Accepted { .. }
            | Step::Requeued { .. }
            | Step::Unknown { .. }
            | Step::Withdrawn { .. } => return,
        };
        let at = shape::time(step.at, self.console.context.config.site.utc_offset);
        for subject in &step.subjects {
            let data = json!({
                "platform": step.platform.0, "subject": shape::subject(subject), "at": at,
                "state": state.as_str(), "reason": reason,
            });
            self.say("receipt", Some(seq), &data);
        }
    }

    fn look_at_board(&mut self) {
        self.board.mark_unchanged();
        let site = self.console.context.config.site.utc_offset;
        let board = self.console.context.ops.board.clone();
        let terminals = board.terminals();
        let terminals = terminals.iter().map(|status| (status.serial.clone(), shape::terminal(status, site)));
        self.say_differences("terminal", terminals.collect());
        let platforms = board.platforms();
        let platforms = platforms
            .iter()
            .map(|status| (status.name.0.clone(), shape::platform(&status.name, &status.profile, Some(status), site)));
        self.say_differences("platform", platforms.collect());
    }

    fn look_at_alarms(&mut self) {
        self.alarms.mark_unchanged();
        let site = self.console.context.config.site.utc_offset;
        let alarms = self.console.context.ops.alarms.list();
        let alarms = alarms.iter().map(|alarm| {
            let mut shape = shape::alarm(alarm, site);
            shape["standing"] = json!(true);
            (format!("{} {}", shape["kind"], alarm.subject), shape)
        });
        self.say_differences("alarm", alarms.collect());
    }

    /// Sends what is new or different since it was last said, and that something has gone.
    fn say_differences(&mut self, event: &'static str, now: BTreeMap<String, Value>) {
        let gone: Vec<String> = self
            .said
            .keys()
            .filter(|(kind, name)| *kind == event && !now.contains_key(name))
            .map(|(_, name)| name.clone())
            .collect();
        for name in gone {
            if let Some(mut last) = self.said.remove(&(event, name)) {
                last["standing"] = json!(false);
                self.say(event, None, &last);
            }
        }
        for (name, value) in now {
            if self.said.get(&(event, name.clone())) != Some(&value) {
                self.say(event, None, &value);
                self.said.insert((event, name), value);
            }
        }
    }
}

impl Source for Reader {
    /// What is received is kept until its frame is made, so that an interruption loses nothing.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(frame) = self.waiting.pop_front() {
                return Some(frame);
            }
            if let Some(recorded) = self.received.clone() {
                self.look_at_fact(recorded).await;
                self.received = None;
                continue;
            }
            tokio::select! {
                fact = self.facts.recv() => match fact {
                    Ok(recorded) => self.received = Some(recorded),
                    Err(RecvError::Lagged(missed)) => self.say("missed", None, &json!({"missed": missed})),
                    Err(RecvError::Closed) => return None,
                },
                changed = self.board.changed() => match changed {
                    Ok(()) => self.look_at_board(),
                    Err(_) => return None,
                },
                changed = self.alarms.changed() => match changed {
                    Ok(()) => self.look_at_alarms(),
                    Err(_) => return None,
                },
            }
        }
    }
}
