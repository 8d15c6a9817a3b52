//! Orders of people on their way to one reader: open the gate, set the time.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use protocol::{BootId, Request, UptimeMs};

use super::dating::{Dating, Moment};
use super::reader::{Command, Declined};

/// A command that the reader has not confirmed by then is given up.
const LIFE: Duration = Duration::from_secs(8);
/// Whoever ordered a gate open stands in front of it this long.
const OPEN_LIFE_MS: u64 = 3_000;
const OPEN_PULSE_MS: u16 = 500;

/// Commands in the order given; one is asked at a time.
#[derive(Default)]
pub(super) struct Commands {
    waiting: VecDeque<Waiting>,
    last_order: u64,
}

struct Waiting {
    ticket: u64,
    command: Command,
    /// Order number and latest uptime of an opening, once it has been sent.
    sent: Option<(u64, UptimeMs)>,
    until: Instant,
}

/// How a command has ended.
pub(super) struct Ended {
    pub ticket: u64,
    pub outcome: Result<(), Declined>,
}

impl Commands {
    pub(super) fn push(&mut self, ticket: u64, command: Command, now: Instant) {
        self.waiting.push_back(Waiting { ticket, command, sent: None, until: now + LIFE });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When [`Commands::expire`] will have something to say.
    pub(super) fn expires_at(&self) -> Option<Instant> {
        self.waiting.iter().map(|waiting| waiting.until).min()
    }

    /// The question for the oldest command.
    pub(super) fn request(&mut self, boot: BootId, dating: &Dating, now: Moment) -> Option<Request> {
        match self.waiting.front()?.command {
            Command::SetTime => set_time(boot, dating, now),
            Command::Open => self.open(boot, dating, now.instant),
        }
    }

    /// The order number is the time of the first attempt on the reader's clock: it rises over restarts of the gateway,
    /// and stays when the question is repeated, so that a lost answer does not open the gate twice.
    fn open(&mut self, boot: BootId, dating: &Dating, now: Instant) -> Option<Request> {
        let uptime = dating.uptime(boot, now)?.0;
        let waiting = self.waiting.front_mut()?;
        let next = uptime.max(self.last_order).saturating_add(1);
        let not_after = UptimeMs(uptime.saturating_add(OPEN_LIFE_MS));
        let (order, not_after) = *waiting.sent.get_or_insert((next, not_after));
        self.last_order = self.last_order.max(order);
        Some(Request::Open { order, pulse_ms: OPEN_PULSE_MS, not_after })
    }

    /// The reader has answered the oldest command.
    pub(super) fn answered(&mut self, outcome: Result<(), Declined>) -> Option<Ended> {
        let Waiting { ticket, .. } = self.waiting.pop_front()?;
        Some(Ended { ticket, outcome })
    }

    /// The reader has started again: nobody knows whether an opening that was sent has been carried out, and sending it
    /// again could open the gate a second time.
    pub(super) fn rebooted(&mut self) -> Vec<Ended> {
        self.last_order = 0;
        self.give_up(|waiting| waiting.sent.is_some())
    }

    /// Gives up what the reader has not confirmed in time.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Ended> {
        self.give_up(|waiting| waiting.until <= now)
    }

    fn give_up(&mut self, over: impl Fn(&Waiting) -> bool) -> Vec<Ended> {
        let ended = |waiting: &Waiting| Ended { ticket: waiting.ticket, outcome: Err(Declined::NoAnswer) };
        let list = self.waiting.iter().filter(|waiting| over(waiting)).map(ended).collect();
        self.waiting.retain(|waiting| !over(waiting));
        list
    }
}

/// Tells the reader a moment of its past on both clocks; only when the wall clock can be believed.
pub(super) fn set_time(boot: BootId, dating: &Dating, now: Moment) -> Option<Request> {
    let (at, wall) = dating.mapping(boot, now).filter(|_| now.trusted)?;
    Some(Request::SetTime { unix_ms: u64::try_from(wall.0).ok()?, at })
}
