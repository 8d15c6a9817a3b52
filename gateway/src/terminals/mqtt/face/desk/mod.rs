//! The shell of the face sessions, shared by both transports: it holds one session per terminal, carries publications to
//! it and facts to the store, and tells board, alarms and metrics.
//!
//! A session's lock is held for one call and never across a wait. What a slow terminal does not take is not kept for it.

mod recalling;
mod storing;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::storing::StoreRequest;
use super::super::topics::{Topic, Topics};
use super::Now;
use super::session::{Disposal, Event, OrderNo, Session, Transmit};
use crate::ops::alarms::Kind;
use crate::terminals::Context;
use crate::terminals::hub::{Order, OrderError, OrderSlip, Terminal};

/// The protocol's name in the configuration.
pub const PROTOCOL: &str = "mqtt-face";
/// Unknown terminals that are remembered at once; with more, the one silent for longest is forgotten.
const MAX_PENDING: usize = 32;
/// A connected unknown terminal that has been silent this long may be forgotten too.
const PENDING_KEPT: Duration = Duration::from_secs(600);
/// Messages that wait for a terminal's link.
pub const OUTBOUND: usize = 64;
/// How exactly the sessions' timeouts are kept.
const TICK: Duration = Duration::from_millis(500);
/// Orders on their way from the console.
const ORDERS: usize = 64;

/// Whose serial it is.
#[derive(Clone, Debug)]
pub enum Standing {
    Known(Terminal),
    Unknown,
    /// A terminal of another protocol, on a serial line for example.
    OtherProtocol,
}

/// Names one connection of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkNo(u64);

/// A connection to a terminal, as its transport hands it over.
pub struct Link {
    pub outbound: mpsc::Sender<Transmit>,
    /// Cancelled when another connection takes its place or when it does not read what it is sent.
    pub cut: CancellationToken,
    /// Where it comes from, for people.
    pub via: String,
    /// Whether anything vouches for it being this terminal.
    pub vouched: bool,
}

/// Whether a publication has been dealt with for good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// Stored, or nothing worth storing.
    Settled,
    /// The store did not take it: acknowledge nothing.
    Refused,
    /// It is not kept here: its sender has the only copy.
    LeftWithSender,
    /// The terminal has another link by now, or none: nothing was done.
    Gone,
}

/// Too many unknown terminals.
#[derive(Debug)]
pub struct Crowded;

struct Entry {
    serial: String,
    state: Mutex<State>,
}

struct State {
    session: Session,
    link: Option<(LinkNo, Link)>,
    orders: HashMap<OrderNo, oneshot::Sender<Result<(), OrderError>>>,
    touched: Instant,
    /// To be stored by whoever comes by next.
    requests: VecDeque<StoreRequest>,
}

/// All sessions.
pub struct Desk {
    context: Context,
    topics: Topics,
    entries: Mutex<HashMap<String, Arc<Entry>>>,
    slips: mpsc::Sender<OrderSlip>,
    last_number: AtomicU64,
}

/// Orders from the console, to be served by [`Desk::run`].
pub struct Orders(mpsc::Receiver<OrderSlip>);

impl Desk {
    /// With a session for each known terminal, so that one that never shows up is noticed.
    pub fn new(context: Context, topics: Topics) -> (Arc<Desk>, Orders) {
        let (slips, orders) = mpsc::channel(ORDERS);
        let desk = Desk { context, topics, entries: Mutex::default(), slips, last_number: AtomicU64::new(0) };
        for terminal in desk.context.hub.terminals() {
            if terminal.protocol == PROTOCOL
                && let Ok(entry) = desk.entry(&terminal.serial)
            {
                let mut state = entry.lock();
                state.session.expect_past();
                desk.settle(&entry, &mut state);
            }
        }
        (Arc::new(desk), Orders(orders))
    }

    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Whose serial this is.
    pub fn standing(&self, serial: &str) -> Standing {
        match self.context.hub.lookup(serial) {
            Some(terminal) if terminal.protocol == PROTOCOL => Standing::Known(terminal),
            Some(_) => Standing::OtherProtocol,
            None => Standing::Unknown,
        }
    }

    /// A terminal is connected from now on; an earlier connection of it is cut.
    pub fn connect(&self, serial: &str, link: Link) -> Result<LinkNo, Crowded> {
        let entry = self.entry(serial)?;
        let now = Now::of(&self.context.clock);
        let number = LinkNo(self.next_number());
        let via = link.via.clone();
        let mut state = entry.lock();
        let replaced = state.link.replace((number, link));
        if let Some((_, old)) = &replaced {
            old.cut.cancel();
        }
        state.session.handle_link(now, &via, replaced.is_some());
        self.adopt(now, &mut state, serial);
        self.settle(&entry, &mut state);
        self.context.hub.attach(serial, self.slips.clone());
        Ok(number)
    }

    /// The connection that the terminal has, or this one.
    pub fn ensure(&self, serial: &str, link: impl FnOnce() -> Link) -> Result<LinkNo, Crowded> {
        let held = self.existing(serial).and_then(|entry| entry.lock().link.as_ref().map(|(number, _)| *number));
        held.map_or_else(|| self.connect(serial, link()), Ok)
    }

    /// This connection is gone; nothing happens when another has taken its place.
    pub fn disconnect(&self, serial: &str, number: LinkNo) {
        let Some(entry) = self.existing(serial) else { return };
        let now = Now::of(&self.context.clock);
        let mut state = entry.lock();
        if state.link.as_ref().is_none_or(|(current, _)| *current != number) {
            return;
        }
        state.link = None;
        self.context.hub.detach(serial, &self.slips);
        state.session.handle_link_lost(now);
        self.settle(&entry, &mut state);
    }

    /// Carries a publication to its session and what follows to the store. Returns after the commit.
    pub async fn take(&self, serial: &str, number: LinkNo, topic: Topic<'_>, payload: &[u8]) -> Taken {
        let Some(entry) = self.existing(serial) else { return Taken::Gone };
        let (disposal, taken) = self
            .attend(&entry, |state, now| {
                state.link.as_ref().filter(|(current, _)| *current == number)?;
                state.touched = now.instant;
                Some(state.session.handle_publication(now, topic, payload))
            })
            .await;
        match disposal {
            None => Taken::Gone,
            Some(Disposal::LeftWithSender) if taken == Taken::Settled => Taken::LeftWithSender,
            Some(Disposal::Done | Disposal::LeftWithSender) => taken,
        }
    }

    /// Keeps the sessions' timeouts and serves the console's orders, until `shutdown`. Intake does not wait for the past.
    pub async fn run(&self, orders: Orders, shutdown: CancellationToken) {
        tokio::join!(self.serve(orders, &shutdown), shutdown.run_until_cancelled(self.recall()));
    }

    async fn serve(&self, mut orders: Orders, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(slip) = orders.0.recv() => self.order(slip).await,
                () = tokio::time::sleep(TICK) => self.tick().await,
            }
        }
    }

    async fn tick(&self) {
        let entries: Vec<Arc<Entry>> = self.lock_entries().values().cloned().collect();
        for entry in entries {
            let on_time = |state: &mut State, now: Now| {
                if state.session.poll_timeout().is_some_and(|at| at <= now.instant) {
                    state.session.handle_timeout(now);
                }
            };
            self.attend(&entry, on_time).await;
        }
    }

    async fn order(&self, slip: OrderSlip) {
        match self.existing(&slip.serial) {
            Some(entry) => {
                self.attend(&entry, |state, now| self.give(state, now, slip)).await;
            }
            None => drop(slip.done.send(Err(OrderError::Offline(slip.serial)))),
        }
    }

    fn give(&self, state: &mut State, now: Now, slip: OrderSlip) {
        let OrderSlip { serial, order, done } = slip;
        let unvouched = state.link.as_ref().is_some_and(|(_, link)| !link.vouched);
        if order == Order::Adopted && unvouched {
            let reason = "it logged in without a password: set [mqtt] password_file, or trust_client_id";
            let _ = done.send(Err(OrderError::Refused { terminal: serial, reason: reason.to_owned() }));
            return;
        }
        let number = OrderNo(self.next_number());
        state.orders.retain(|_, done| !done.is_closed());
        state.orders.insert(number, done);
        state.session.handle_order(now, number, order);
    }

    /// Something happens to a session, and what follows from it is carried out and stored.
    async fn attend<T>(&self, entry: &Entry, happen: impl FnOnce(&mut State, Now) -> T) -> (T, Taken) {
        let now = Now::of(&self.context.clock);
        let (outcome, requests) = {
            let mut state = entry.lock();
            self.adopt(now, &mut state, &entry.serial);
            let outcome = happen(&mut state, now);
            self.settle(entry, &mut state);
            // Under the same lock: what another task took away would look settled here.
            (outcome, std::mem::take(&mut state.requests))
        };
        let taken = self.store(entry, requests, now.instant).await;
        (outcome, taken)
    }

    /// Tells a session that its terminal has been approved, when it has.
    fn adopt(&self, now: Now, state: &mut State, serial: &str) {
        let vouched = state.link.as_ref().is_none_or(|(_, link)| link.vouched);
        if state.session.is_known() || !vouched {
            return;
        }
        if let Standing::Known(terminal) = self.standing(serial) {
            state.session.handle_adopted(now, terminal);
        }
    }

    /// Carries out what a session has decided; what it wants stored waits for [`Desk::store`].
    fn settle(&self, entry: &Entry, state: &mut State) {
        while let Some(transmit) = state.session.poll_transmit() {
            let Some((_, link)) = &state.link else { continue };
            if let Err(mpsc::error::TrySendError::Full(_)) = link.outbound.try_send(transmit) {
                tracing::warn!(serial = entry.serial, "terminal does not read; its connection is cut");
                link.cut.cancel();
            }
        }
        let mut changed = false;
        let alarms = &self.context.ops.alarms;
        while let Some(event) = state.session.poll_event() {
            match event {
                Event::Store { token, fact, photo } => state.requests.push_back(StoreRequest { token, fact, photo }),
                Event::Status => changed = true,
                Event::Alarm { severity, kind, text } => alarms.raise(severity, kind, &entry.serial, text),
                Event::AlarmOver { kind } => alarms.clear(kind, &entry.serial),
                Event::OrderDone { order, outcome } => {
                    if let Some(done) = state.orders.remove(&order) {
                        let _ = done.send(outcome);
                    }
                }
                Event::Foreign => {
                    tracing::warn!(serial = entry.serial, "it spoke for another terminal; dropped");
                    self.context.ops.metrics.mqtt_foreign_topics.inc();
                }
            }
        }
        if changed {
            self.context.ops.board.set_terminal(state.session.status());
        }
    }

    fn existing(&self, serial: &str) -> Option<Arc<Entry>> {
        self.lock_entries().get(serial).cloned()
    }

    fn entry(&self, serial: &str) -> Result<Arc<Entry>, Crowded> {
        let mut entries = self.lock_entries();
        if let Some(entry) = entries.get(serial) {
            return Ok(entry.clone());
        }
        let terminal = match self.standing(serial) {
            Standing::Known(terminal) => Some(terminal),
            Standing::Unknown | Standing::OtherProtocol => {
                self.make_room(&mut entries)?;
                None
            }
        };
        let now = Now::of(&self.context.clock);
        let session = Session::new(now, serial, self.topics.default_prefix(), terminal, self.context.utc_offset);
        let touched = now.instant;
        let state = State { session, link: None, orders: HashMap::new(), touched, requests: VecDeque::new() };
        let entry = Arc::new(Entry { serial: serial.to_owned(), state: Mutex::new(state) });
        entries.insert(serial.to_owned(), entry.clone());
        Ok(entry)
    }

    /// Forgets the longest silent unknown terminal when there are too many.
    fn make_room(&self, entries: &mut HashMap<String, Arc<Entry>>) -> Result<(), Crowded> {
        let now = self.context.clock.instant();
        let mut pending = 0;
        let mut silent: Option<(Instant, String)> = None;
        for entry in entries.values() {
            let state = entry.lock();
            if state.session.is_known() {
                continue;
            }
            pending += 1;
            let older = silent.as_ref().is_none_or(|(at, _)| state.touched < *at);
            let gone = state.link.is_none() || now >= state.touched + PENDING_KEPT;
            if gone && older {
                silent = Some((state.touched, entry.serial.clone()));
            }
        }
        if pending < MAX_PENDING {
            return Ok(());
        }
        let (_, serial) = silent.ok_or(Crowded)?;
        if let Some((_, link)) = entries.remove(&serial).and_then(|entry| entry.lock().link.take()) {
            link.cut.cancel();
            self.context.hub.detach(&serial, &self.slips);
        }
        self.context.ops.board.remove_terminal(&serial);
        for kind in [Kind::TerminalPending, Kind::TerminalCloned, Kind::TerminalClock] {
            self.context.ops.alarms.clear(kind, &serial);
        }
        Ok(())
    }

    fn lock_entries(&self) -> MutexGuard<'_, HashMap<String, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_number(&self) -> u64 {
        self.last_number.fetch_add(1, Ordering::Relaxed) + 1
    }
}

impl Entry {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
