//! The shell of a line with our own readers: moves bytes, facts, orders and judgements to and from the controller.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use protocol::{Damage, Key};
use tokio::io::AsyncReadExt;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, mpsc, oneshot};
use tokio_serial::SerialStream;
use tokio_util::sync::CancellationToken;

use super::reader::{Command, Controller, Declined, Event};
use super::registered::{self, Found, Seen};
use super::report::Report;
use super::{moment, port, sleep_until};
use crate::punch::Fact;
use crate::store::{AppendError, Appended, Recorded, Store};
use crate::terminals::Context;
use crate::terminals::hub::{Order, OrderError, OrderSlip};

/// The latest gaps, among which one that was recorded before its commit got lost is looked for.
const KNOWN_GAPS: usize = 256;

/// A batch that the store has answered for.
struct Stored {
    since: Instant,
    station: usize,
    batch: u64,
    facts: Vec<Fact>,
    outcome: Result<Vec<Appended>, AppendError>,
}

/// A line's readers, over many openings of its port.
pub(super) struct Polling {
    controller: Controller,
    context: Context,
    report: Report,
    orders: mpsc::Receiver<OrderSlip>,
    judgements: Option<broadcast::Receiver<Arc<Recorded>>>,
    /// At most one batch per reader.
    storing: FuturesUnordered<BoxFuture<'static, Stored>>,
    /// The readers' keys, by station.
    keys: Arc<[Option<Key>]>,
    /// One look at the roster.
    looking: FuturesUnordered<BoxFuture<'static, Found>>,
    tickets: HashMap<u64, oneshot::Sender<Result<(), OrderError>>>,
    next_ticket: u64,
    damage: Damage,
    timeouts: u64,
}

impl Polling {
    pub(super) fn new(
        controller: Controller,
        keys: Arc<[Option<Key>]>,
        context: Context,
        report: Report,
        orders: mpsc::Receiver<OrderSlip>,
    ) -> Polling {
        let judgements = Some(context.store.subscribe());
        let mut polling = Polling {
            keys,
            looking: FuturesUnordered::new(),
            controller,
            context,
            report,
            orders,
            judgements,
            storing: FuturesUnordered::new(),
            tickets: HashMap::new(),
            next_ticket: 0,
            damage: Damage::default(),
            timeouts: 0,
        };
        polling.look(None);
        polling
    }

    /// Has the roster looked at, when it is time.
    fn look(&mut self, seen: Seen) {
        let clock = &self.context.clock;
        let day = || {
            let now = jiff::Timestamp::from_millisecond(clock.now().0).ok()?;
            Some(self.context.utc_offset.to_datetime(now).date())
        };
        let today = clock.is_trustworthy().then(day).flatten();
        self.looking.push(Box::pin(registered::look(self.context.store.clone(), seen, today, self.keys.clone())));
    }

    fn handle_found(&mut self, found: Found) {
        let now = self.context.clock.instant();
        for (station, list) in found.lists.into_iter().flatten().enumerate() {
            self.controller.want_list(station, list, now);
        }
        self.look(found.seen);
    }

    /// Serves the open port until it fails or `shutdown`.
    pub(super) async fn serve(&mut self, mut port: SerialStream, shutdown: &CancellationToken) -> io::Result<()> {
        self.controller.reset(self.context.clock.instant());
        let mut buffer = [0; 1024];
        loop {
            self.controller.handle_timeout(moment(&self.context.clock));
            while let Some(wire) = self.controller.poll_transmit() {
                tracing::trace!(bytes = wire.len(), "asked");
                port::write(&mut port, &wire).await?;
            }
            while let Some((station, event)) = self.controller.poll_event() {
                self.handle_event(station, event);
            }
            self.count_damage();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                read = port.read(&mut buffer) => {
                    self.controller.handle_bytes(port::arrived(&buffer, read)?, moment(&self.context.clock));
                }
                () = sleep_until(self.controller.poll_timeout()) => {}
                Some(found) = self.looking.next() => self.handle_found(found),
                Some(stored) = self.storing.next() => self.handle_stored(stored),
                Some(slip) = self.orders.recv() => self.handle_order(slip),
                recorded = next(&mut self.judgements) => self.handle_recorded(&recorded),
            }
        }
    }

    /// While the port is gone: orders are declined, so that nobody waits for them.
    pub(super) async fn decline_orders(&mut self) {
        while let Some(slip) = self.orders.recv().await {
            let _ = slip.done.send(Err(OrderError::Offline(slip.serial)));
        }
    }

    /// The port is gone, and every reader with it.
    pub(super) fn port_lost(&self) {
        for station in 0..self.controller.len() {
            self.report.online(self.controller.origin(station), false);
        }
    }

    fn handle_event(&mut self, station: usize, event: Event) {
        match event {
            Event::Facts { batch, facts } => {
                let since = self.context.clock.instant();
                self.storing.push(Box::pin(store(self.context.store.clone(), since, station, batch, facts)));
            }
            Event::Ordered { ticket, outcome } => {
                let Some(done) = self.tickets.remove(&ticket) else { return };
                let terminal = &self.controller.origin(station).terminal;
                let _ = done.send(outcome.map_err(|declined| order_error(terminal.to_string(), declined)));
            }
            Event::Greeted { boot } => self.report.greeted(self.controller.origin(station), boot),
            Event::Silent => self.report.silent(self.controller.origin(station)),
            Event::Heard => self.report.heard(self.controller.origin(station)),
            Event::Status(status) => self.report.status(self.controller.origin(station), &status),
            Event::Started { cause } => self.report.started(self.controller.origin(station), cause),
            Event::Attacked { frames } => self.report.attacked(self.controller.origin(station), frames),
            Event::Listed(listed) => self.report.listed(self.controller.origin(station), listed),
            Event::Updating(progress) => self.report.updating(self.controller.origin(station), &progress),
            Event::Calm => self.report.calm(self.controller.origin(station)),
        }
    }

    fn handle_stored(&mut self, stored: Stored) {
        let Stored { since, station, batch, facts, outcome } = stored;
        match outcome {
            Ok(appended) => {
                self.controller.commit(station, batch);
                let passed = self.context.clock.instant().saturating_duration_since(since);
                self.context.ops.metrics.acknowledge_seconds.observe(passed.as_secs_f64());
                self.report.stored(self.controller.origin(station), &facts, &appended);
            }
            Err(error) => {
                tracing::debug!(%error, terminal = %self.controller.origin(station).terminal, "punches stay in the reader");
                self.controller.abandon(station, batch, self.context.clock.instant());
            }
        }
    }

    fn handle_order(&mut self, slip: OrderSlip) {
        let OrderSlip { serial, order, done } = slip;
        let Some(station) = self.controller.place(&serial) else {
            let _ = done.send(Err(OrderError::Offline(serial)));
            return;
        };
        let command = match order {
            // A reader has no screen for the text.
            Order::Open { text: _ } => Command::Open,
            Order::SetTime => Command::SetTime,
            Order::Adopted => {
                let _ = done.send(Err(OrderError::Unsupported(serial)));
                return;
            }
            Order::Update(file) => {
                let begun = self.controller.update(station, file, self.context.clock.instant());
                let terminal = self.controller.origin(station).terminal.to_string();
                let _ = done.send(begun.map_err(|declined| order_error(terminal, declined)));
                return;
            }
        };
        self.next_ticket += 1;
        self.tickets.insert(self.next_ticket, done);
        self.controller.order(station, self.next_ticket, command, moment(&self.context.clock));
    }

    fn handle_recorded(&mut self, recorded: &Recorded) {
        if let Fact::Judgement(judgement) = &recorded.fact {
            self.controller.handle_judgement(judgement, self.context.clock.instant());
        }
    }

    fn count_damage(&mut self) {
        let (before, now) = (self.damage, self.controller.damage());
        let counts = |damage: &Damage| {
            let Damage { crc, cobs, too_long, malformed, forged, stale, late } = *damage;
            [crc, cobs, too_long, malformed, forged, stale, late]
        };
        let kinds = ["crc", "cobs", "too-long", "malformed", "forged", "stale", "late"];
        for ((kind, before), now) in kinds.into_iter().zip(counts(&before)).zip(counts(&now)) {
            self.report.damage(kind, u64::from(now.saturating_sub(before)));
        }
        self.report.damage("timeout", self.controller.timeouts() - self.timeouts);
        (self.damage, self.timeouts) = (now, self.controller.timeouts());
    }
}

/// The next recorded fact. Feedback is best effort: facts that were missed are not asked for again.
async fn next(receiver: &mut Option<broadcast::Receiver<Arc<Recorded>>>) -> Arc<Recorded> {
    while let Some(open) = receiver {
        match open.recv().await {
            Ok(recorded) => return recorded,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => *receiver = None,
        }
    }
    std::future::pending().await
}

/// Makes a batch durable. A gap has no identity by which the store could collapse it, so one whose commit got lost is
/// recognised here by its words.
async fn store(store: Store, since: Instant, station: usize, batch: u64, facts: Vec<Fact>) -> Stored {
    let mut news = facts.clone();
    if facts.iter().any(|fact| matches!(fact, Fact::Gap(_))) {
        let known = store.read(|view| view.gaps(KNOWN_GAPS)).await;
        news.retain(|fact| match fact {
            Fact::Gap(gap) => {
                !known.iter().any(|(_, known)| known.terminal == gap.terminal && known.detail == gap.detail)
            }
            _ => true,
        });
    }
    let outcome = store.append(news).await;
    Stored { since, station, batch, facts, outcome }
}

fn order_error(terminal: String, declined: Declined) -> OrderError {
    let reason = match declined {
        Declined::Silent => return OrderError::Offline(terminal),
        Declined::NoAnswer => return OrderError::NoAnswer(terminal),
        Declined::Busy => "another update is on its way to it".to_owned(),
        Declined::ClockUntrusted => "the gateway's own clock is not set".to_owned(),
        Declined::Refused(refusal) => format!("{refusal:?}"),
    };
    OrderError::Refused { terminal, reason }
}
