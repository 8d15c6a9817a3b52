//! What the controller knows of one reader: its session, what is owed to it, and when it is to be asked next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::{Accepted, Answer, BootId, Frame, GatewayEnd, Request, Seq, Status, Wire};

use super::commands::{Commands, Ended, set_time};
use super::cursor::{Batch, Collected, Cursor};
use super::dating::{Dating, Moment};
use super::feedback::Feedback;
use super::listing::{List, Listing};
use super::origin::Origin;
use super::reader::{Command, Declined, Event, Stationed};
use super::suspicion::Suspicion;
use super::update::{Progress, Update};
use crate::punch::Judgement;
use crate::terminals::firmware::UpdateFile;

/// From one question to the next when nothing waits.
const POLL_INTERVAL: Duration = Duration::from_millis(25);
const STATUS_INTERVAL: Duration = Duration::from_secs(10);
const TIME_INTERVAL: Duration = Duration::from_secs(3_600);
/// After the store refused facts; the reader keeps its punches.
const STORE_RETRY: Duration = Duration::from_secs(1);
/// Unanswered questions in a row after which the reader may have started again.
const TRIES: u32 = 3;
/// A reader that does not answer is greeted again after this, doubled up to the maximum: it must not slow the others.
const BACK_OFF: Duration = Duration::from_millis(50);
const MAX_BACK_OFF: Duration = Duration::from_secs(5);
/// No answer for this long makes a reader silent.
const SILENT_AFTER: Duration = Duration::from_secs(3);

/// One reader.
pub(super) struct Station {
    end: GatewayEnd,
    cursor: Cursor,
    dating: Dating,
    feedback: Feedback,
    commands: Commands,
    suspicion: Suspicion,
    update: Option<Update>,
    listing: Listing,
    asking: Asking,
    boot: Option<BootId>,
    /// A commit that the reader has not heard of yet.
    commit_due: bool,
    hello_at: Instant,
    collect_at: Instant,
    status_at: Instant,
    time_at: Instant,
    /// Why the reader has started is not known yet.
    start_due: bool,
    /// Does not know [`Request::Next`].
    is_older: bool,
    heard_at: Instant,
    failures: u32,
    silent: bool,
}

/// The last question.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asking {
    Hello,
    Collect,
    Next,
    Status,
    Start,
    Time,
    Signal(Seq),
    Command,
    Update,
    List,
}

impl Station {
    pub(super) fn new(stationed: Stationed, nonce: u64, now: Instant) -> Station {
        let Stationed { origin, address, key } = stationed;
        let end = match key {
            Some(key) => GatewayEnd::keyed(address, key, nonce),
            None => GatewayEnd::unkeyed(address, nonce),
        };
        Station {
            end,
            cursor: Cursor::new(origin),
            dating: Dating::default(),
            feedback: Feedback::default(),
            commands: Commands::default(),
            suspicion: Suspicion::default(),
            update: None,
            listing: Listing::default(),
            asking: Asking::Hello,
            boot: None,
            commit_due: false,
            hello_at: now,
            collect_at: now,
            status_at: now,
            time_at: now,
            start_due: true,
            is_older: false,
            heard_at: now,
            failures: 0,
            silent: false,
        }
    }

    pub(super) fn origin(&self) -> &Origin {
        self.cursor.origin()
    }

    pub(super) fn end(&self) -> &GatewayEnd {
        &self.end
    }

    /// Whether the reader has not answered for a while.
    pub(super) fn is_silent(&self) -> bool {
        self.silent
    }

    /// When this reader is to be asked next.
    pub(super) fn due(&self) -> Instant {
        if self.end.boot().is_none() {
            return self.hello_at;
        }
        let at_once = self.is_urgent().then_some(self.heard_at);
        let collect = (!self.cursor.is_storing()).then_some(self.collect_at);
        let spare = self.update.as_ref().map(Update::due).into_iter().chain(self.listing.due());
        at_once.into_iter().chain(collect).chain(spare).fold(self.status_at, Instant::min)
    }

    /// When something of this reader is over although nobody answers.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.commands.expires_at().into_iter().chain(self.update.as_ref().map(Update::expires_at)).min()
    }

    /// Whether somebody at the gate waits for the next question.
    pub(super) fn is_urgent(&self) -> bool {
        self.commit_due || self.feedback.next().is_some() || !self.commands.is_empty()
    }

    /// The next question to this reader; `keeps_house` lets it be about time, health or its start.
    pub(super) fn ask(&mut self, now: Moment, keeps_house: bool) -> Option<Wire> {
        let Some(boot) = self.end.boot() else {
            self.asking = Asking::Hello;
            return self.end.hello();
        };
        let (asking, request) = self.choose(boot, now, keeps_house);
        self.asking = asking;
        self.end.request(&request)
    }

    /// Commits first, because somebody waits for the green lamp.
    fn choose(&mut self, boot: BootId, now: Moment, keeps_house: bool) -> (Asking, Request) {
        if self.commit_due {
            return (Asking::Collect, self.cursor.request());
        }
        if let Some((seq, signal)) = self.feedback.next() {
            return (Asking::Signal(seq), Request::Signal { seq, signal });
        }
        if let Some(request) = self.commands.request(boot, &self.dating, now) {
            return (Asking::Command, request);
        }
        if keeps_house || self.cursor.is_storing() {
            let time_due = self.time_at <= now.instant;
            if let Some(request) = set_time(boot, &self.dating, now).filter(|_| time_due) {
                return (Asking::Time, request);
            }
            if keeps_house && self.start_due {
                return (Asking::Start, Request::Start);
            }
            if self.status_at <= now.instant || self.cursor.is_storing() {
                return (Asking::Status, Request::Status);
            }
        }
        self.choose_spare(now.instant).unwrap_or_else(|| self.choose_collect())
    }

    /// Long is the question for what comes next only when it says what was not said before.
    fn choose_collect(&self) -> (Asking, Request) {
        if self.is_older || !self.cursor.is_told() {
            return (Asking::Collect, self.cursor.request());
        }
        (Asking::Next, Request::Next)
    }

    /// What has every other turn, so that swipes do not wait for it.
    fn choose_spare(&mut self, now: Instant) -> Option<(Asking, Request)> {
        if matches!(self.asking, Asking::Update | Asking::List) {
            return None;
        }
        let update = self.update.as_mut().and_then(|update| update.request(now));
        let list = || self.listing.request(now).map(|request| (Asking::List, request));
        update.map(|request| (Asking::Update, request)).or_else(list)
    }

    /// Whether time, health or the cause of its start are due at a reader that answers.
    pub(super) fn is_house_due(&self, now: Instant) -> bool {
        let is_due = self.start_due || self.time_at.min(self.status_at) <= now;
        is_due && self.end.boot().is_some() && self.failures == 0
    }

    /// Takes a frame from this reader; `None` when it is not the answer to the open question.
    pub(super) fn handle_frame(&mut self, frame: &Frame<'_>, sent: Instant, now: Moment) -> Option<Vec<Event>> {
        let Accepted { boot, answer } = self.end.accept(frame)?;
        let mut events = Vec::new();
        self.failures = 0;
        self.heard_at = now.instant;
        if std::mem::take(&mut self.silent) {
            events.push(Event::Heard);
        }
        match answer {
            Answer::Welcome { status, .. } => {
                events.extend(self.greeted(boot, &status, now));
                self.suspicion.baseline(status.damage);
                self.handle_status(boot, status, sent, now, &mut events);
            }
            Answer::Punches { now: uptime, .. }
            | Answer::Nothing { now: uptime }
            | Answer::Status(Status { now: uptime, .. })
                if self.dating.is_rewound(boot, uptime, now.instant) =>
            {
                self.greet_again(now.instant);
            }
            Answer::Punches { now: uptime, released, first, lost, lost_seen, punches } => {
                self.dating.note(boot, uptime, sent, now.instant);
                let collected = Collected { released, first, lost, lost_seen, punches: &punches };
                events.extend(self.collected(&collected, now));
            }
            Answer::Nothing { now: uptime } => {
                self.dating.note(boot, uptime, sent, now.instant);
                self.collect_at = now.instant + POLL_INTERVAL;
            }
            Answer::Status(status) => {
                self.suspicion.told(status.damage, now.instant);
                self.handle_status(boot, status, sent, now, &mut events);
            }
            Answer::Done => events.extend(self.done(Ok(()), now.instant)),
            Answer::Refused(refusal) => events.extend(self.done(Err(Declined::Refused(refusal)), now.instant)),
            Answer::Image(image) => {
                let progress = self.update.as_mut().and_then(|update| update.handle_image(image, now.instant));
                events.extend(self.updating(progress));
            }
            Answer::AllowList { held } => {
                events.extend(self.listing.handle_held(held, None, now.instant).map(Event::Listed));
            }
            Answer::List { held, staging } => {
                events.extend(self.listing.handle_held(held, Some(staging), now.instant).map(Event::Listed));
            }
            Answer::Start(cause) => {
                self.start_due = false;
                events.push(Event::Started { cause });
            }
        }
        Some(events)
    }

    fn greeted(&mut self, boot: BootId, status: &Status, now: Moment) -> Vec<Event> {
        (self.hello_at, self.collect_at, self.time_at) = (now.instant, now.instant, now.instant);
        self.listing.begin(now.instant);
        let mut events = vec![Event::Greeted { boot }];
        if self.boot.replace(boot) != Some(boot) {
            (self.start_due, self.is_older) = (true, false);
            events.extend(self.commands.rebooted().into_iter().map(Event::from));
            self.update.iter_mut().for_each(|update| update.handle_start(now.instant));
        }
        let rewound = self.dating.is_rewound(boot, status.now, now.instant);
        self.commit_due = false;
        if self.cursor.greeted(boot, status, rewound, now.wall) {
            self.feedback.clear();
            self.dating.clear();
        }
        events
    }

    /// The session is not with the reader that it began with.
    fn greet_again(&mut self, now: Instant) {
        self.end.forget();
        self.hello_at = now;
    }

    fn handle_status(&mut self, boot: BootId, status: Status, sent: Instant, now: Moment, events: &mut Vec<Event>) {
        self.dating.note(boot, status.now, sent, now.instant);
        self.status_at = now.instant + STATUS_INTERVAL;
        events.push(Event::Status(status));
    }

    fn collected(&mut self, collected: &Collected<'_>, now: Moment) -> Option<Event> {
        self.commit_due = false;
        self.collect_at = now.instant + POLL_INTERVAL;
        self.feedback.released(collected.released);
        let Batch { number, facts, live } = self.cursor.collect(collected, &self.dating, now)?;
        for (punch, seq) in live {
            self.feedback.swiped(punch, seq, now.instant);
        }
        Some(Event::Facts { batch: number, facts })
    }

    fn done(&mut self, outcome: Result<(), Declined>, now: Instant) -> Option<Event> {
        match self.asking {
            Asking::Signal(seq) => self.feedback.shown(seq),
            Asking::Time => self.time_at = now + TIME_INTERVAL,
            // An older reader does not know the question.
            Asking::Start => self.start_due = false,
            Asking::Command => return self.commands.answered(outcome).map(Event::from),
            Asking::Next => self.is_older = true,
            // A reader that does not understand these cannot be served; the pace of asking stays.
            Asking::Collect => self.collect_at = now + STORE_RETRY,
            Asking::Status => self.status_at = now + STATUS_INTERVAL,
            Asking::Update => {
                let Err(Declined::Refused(refusal)) = outcome else { return None };
                let progress = self.update.as_mut().and_then(|update| update.handle_refusal(refusal, now));
                return self.updating(progress);
            }
            Asking::List => {
                let Err(Declined::Refused(refusal)) = outcome else { return None };
                return Some(Event::Listed(self.listing.handle_refusal(refusal)));
            }
            Asking::Hello => {}
        }
        None
    }

    /// An update that has ended, well or not, is over.
    fn updating(&mut self, progress: Option<Progress>) -> Option<Event> {
        match progress.as_ref()? {
            Progress::Done { .. } | Progress::Failed(_) => self.update = None,
            Progress::Sending { .. } | Progress::Checking => {}
        }
        progress.map(Event::Updating)
    }

    /// The reader is to go by this list when it is alone.
    pub(super) fn want_list(&mut self, list: Arc<List>, now: Instant) {
        self.listing.want(list, now);
    }

    /// Begins to hand this over; false while another update is on its way.
    pub(super) fn update(&mut self, file: Arc<UpdateFile>, now: Instant) -> bool {
        let is_free = self.update.is_none();
        if is_free {
            self.update = Some(Update::new(file, now));
        }
        is_free
    }

    /// The open question was not answered in time.
    pub(super) fn handle_no_answer(&mut self, now: Instant) -> Option<Event> {
        self.end.give_up();
        self.failures = self.failures.saturating_add(1);
        if self.failures >= TRIES {
            self.end.forget();
            let doublings = (self.failures - TRIES).min(16);
            self.hello_at = now + (BACK_OFF * (1 << doublings)).min(MAX_BACK_OFF);
        }
        let newly = !self.silent && now.saturating_duration_since(self.heard_at) >= SILENT_AFTER;
        self.silent |= newly;
        newly.then_some(Event::Silent)
    }

    /// The facts are durable: the reader may release what they stand for.
    pub(super) fn commit(&mut self, batch: u64) {
        self.commit_due |= self.cursor.commit(batch);
    }

    /// The facts were not stored; they are collected again.
    pub(super) fn abandon(&mut self, batch: u64, now: Instant) {
        if self.cursor.abandon(batch) {
            self.collect_at = now + STORE_RETRY;
        }
    }

    /// What verification said of a punch; shown when it was swiped at this reader just now.
    pub(super) fn handle_judgement(&mut self, judgement: &Judgement, now: Instant) {
        self.feedback.handle_judgement(judgement, now);
    }

    pub(super) fn order(&mut self, ticket: u64, command: Command, now: Instant) {
        self.commands.push(ticket, command, now);
    }

    /// What has come too late by now, and whether somebody else is on the wire.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Event> {
        self.feedback.expire(now);
        let over = self.update.as_ref().and_then(|update| update.expire(now));
        let given_up = self.updating(over);
        let ended = self.commands.expire(now).into_iter().map(Event::from);
        ended.chain(given_up).chain(self.suspicion.poll(self.end.damage(), now)).collect()
    }

    /// The port was opened anew: session and open question are gone. What is with the store stays there.
    pub(super) fn reset(&mut self, now: Instant) {
        self.end.forget();
        self.failures = 0;
        (self.hello_at, self.heard_at) = (now, now);
    }
}

impl From<Ended> for Event {
    fn from(Ended { ticket, outcome }: Ended) -> Event {
        Event::Ordered { ticket, outcome }
    }
}
