//! Whether a terminal is there: signs of life, farewells, and two terminals under one id.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Terminals beat about every 60 s, cameras every 30 s; their configuration may tell.
const USUAL_BEAT: Duration = Duration::from_secs(60);
const MISSED_BEATS: u32 = 3;
/// More greetings than this within a minute: two terminals push each other off the broker.
const GREETINGS_PER_MINUTE: usize = 5;
const MINUTE: Duration = Duration::from_secs(60);
/// How long it must be quiet before the clash is over.
const CLASH_OVER: Duration = Duration::from_secs(300);

/// Something that began or ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    Online,
    Offline,
    ClashBegan,
    ClashEnded,
}

/// The presence of one terminal.
pub struct Presence {
    beat: Duration,
    last_sign: Instant,
    /// Heard of since the last farewell or silence.
    online: bool,
    /// The silence has been reported.
    reported: bool,
    greetings: VecDeque<Instant>,
    /// The next greeting belongs to a connection that has been judged already.
    counted: bool,
    clash: Option<Instant>,
}

impl Presence {
    /// Not heard of yet; it has three beats to show up.
    pub fn new(now: Instant) -> Presence {
        Presence {
            beat: USUAL_BEAT,
            last_sign: now,
            online: false,
            reported: false,
            greetings: VecDeque::new(),
            counted: false,
            clash: None,
        }
    }

    pub fn is_online(&self) -> bool {
        self.online
    }

    /// The terminal's configuration says how often it beats.
    pub fn set_beat(&mut self, beat: Duration) {
        self.beat = beat;
    }

    /// Any message is a sign of life.
    pub fn handle_sign(&mut self, now: Instant) -> Option<Change> {
        self.last_sign = now;
        self.reported = false;
        let came = !self.online;
        self.online = true;
        came.then_some(Change::Online)
    }

    /// The terminal, or its last will, says farewell.
    pub fn handle_farewell(&mut self) -> Option<Change> {
        let left = self.online || !self.reported;
        self.online = false;
        self.reported = true;
        left.then_some(Change::Offline)
    }

    /// The connection broke. It often comes back at once, so silence decides; until then it is only not online.
    pub fn handle_link_lost(&mut self) {
        self.online = false;
    }

    /// A connection stands and its greeting follows. Whoever pushes another off `replaced` it; one that only came back
    /// did not.
    pub fn handle_link(&mut self, now: Instant, replaced: bool) -> Option<Change> {
        self.counted = true;
        if replaced { self.count(now) } else { None }
    }

    /// The terminal says that it is there.
    pub fn handle_greeting(&mut self, now: Instant) -> Option<Change> {
        if std::mem::take(&mut self.counted) {
            return None;
        }
        self.count(now)
    }

    fn count(&mut self, now: Instant) -> Option<Change> {
        self.greetings.push_back(now);
        while self.greetings.front().is_some_and(|first| now.saturating_duration_since(*first) > MINUTE) {
            self.greetings.pop_front();
        }
        if self.greetings.len() <= GREETINGS_PER_MINUTE {
            return None;
        }
        self.greetings.pop_front();
        let began = self.clash.is_none();
        self.clash = Some(now);
        began.then_some(Change::ClashBegan)
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let silence = (!self.reported).then(|| self.last_sign + self.beat * MISSED_BEATS);
        let calm = self.clash.map(|at| at + CLASH_OVER);
        silence.into_iter().chain(calm).min()
    }

    /// One change per call; call until there is none.
    pub fn handle_timeout(&mut self, now: Instant) -> Option<Change> {
        if !self.reported && now >= self.last_sign + self.beat * MISSED_BEATS {
            self.online = false;
            self.reported = true;
            return Some(Change::Offline);
        }
        if self.clash.is_some_and(|at| now >= at + CLASH_OVER) {
            self.clash = None;
            return Some(Change::ClashEnded);
        }
        None
    }
}
