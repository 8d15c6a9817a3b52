//! Face terminals that do nothing but push: each has one record in flight, as real ones do, and pushes the next as soon as
//! the gateway has acknowledged it. No faults and no photos: what is measured is the gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use gateway::clock::Clock;
use gateway::punch::UnixMs;
use harness::face::{Face, FaceTerminal, Timings};
use harness::workers::InventedWorker;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// A terminal that hears nothing for this long ends the bench.
const SILENCE: Duration = Duration::from_secs(60);
/// Punches of one worker are this far apart, so that none is a duplicate of another.
const BETWEEN_PUNCHES_MS: i64 = 61_000;

/// Which punches to push, and where to.
#[derive(Clone)]
pub struct Load {
    pub to: Receiver,
    pub address: SocketAddr,
    /// Serial numbers of the terminals.
    pub serials: Vec<String>,
    pub workers: Arc<[InventedWorker]>,
    pub records_per_terminal: usize,
    /// The workers punch in turn, over all terminals; the first round is this many rounds before now.
    pub rounds_before_now: usize,
    /// Each terminal pushes one record in this time, all at the same moment or one after the other; without it the next as
    /// soon as it may.
    pub pace: Option<Pace>,
}

/// Who takes the records, and what counts as the acknowledgement.
#[derive(Clone, Copy)]
pub enum Receiver {
    /// The gateway: its PushAck, after the commit.
    Gateway,
    /// A broker that keeps nothing, as the peer that is as fast as MQTT can be: its PUBACK.
    Broker,
}

/// When a terminal pushes its next record.
#[derive(Clone, Copy)]
pub struct Pace {
    pub every: Duration,
    pub at_once: bool,
}

/// How it went.
pub struct Pushed {
    /// Until the last acknowledgement.
    pub took: Duration,
    pub punches: usize,
    /// From push to acknowledgement, sorted.
    pub latencies: Vec<Duration>,
}

impl Pushed {
    pub fn per_second(&self) -> f64 {
        self.punches as f64 / self.took.as_secs_f64()
    }
}

/// Names of `count` terminals.
pub fn serials(count: usize) -> Vec<String> {
    (0..count).map(|index| (2_000_000 + index).to_string()).collect()
}

impl Load {
    /// Pushes everything and waits for every acknowledgement. Connecting is not timed.
    pub async fn push(self) -> Pushed {
        let clock = Clock::system();
        let start = Arc::new(Barrier::new(self.serials.len() + 1));
        let mut terminals = JoinSet::new();
        for index in 0..self.serials.len() {
            let (load, start, clock) = (self.clone(), start.clone(), clock.clone());
            terminals.spawn(async move {
                let mut terminal = Terminal::connect(&load, index, clock).await;
                start.wait().await;
                let pace = load.pace.map(|pace| {
                    let share = pace.every * index as u32 / load.serials.len() as u32;
                    (pace.every, if pace.at_once { Duration::ZERO } else { share })
                });
                match load.to {
                    Receiver::Gateway => terminal.push_all(pace).await,
                    Receiver::Broker => terminal.publish_all(load.records_per_terminal, pace).await,
                }
            });
        }
        start.wait().await;
        let began = clock.instant();
        let mut latencies: Vec<Duration> = terminals.join_all().await.into_iter().flatten().collect();
        let took = clock.instant() - began;
        latencies.sort_unstable();
        Pushed { took, punches: latencies.len(), latencies }
    }

    /// A terminal with all its records already in its store.
    fn terminal(&self, index: usize, now: UnixMs) -> FaceTerminal {
        let mut terminal = FaceTerminal::new(&self.serials[index], Timings::REAL);
        for record in 0..self.records_per_terminal {
            let turn = record * self.serials.len() + index;
            let worker = &self.workers[turn % self.workers.len()];
            terminal.punch(self.time_of(turn, now), Face::of(&worker.worker_id));
        }
        terminal
    }

    fn time_of(&self, turn: usize, now: UnixMs) -> UnixMs {
        let rounds_ago = self.rounds_before_now as i64 - (turn / self.workers.len()) as i64;
        now.plus_ms(-rounds_ago * BETWEEN_PUNCHES_MS)
    }
}

/// The simulated terminal on a connection that is as thin as can be.
struct Terminal {
    logic: FaceTerminal,
    client: AsyncClient,
    connection: EventLoop,
    clock: Clock,
}

impl Terminal {
    async fn connect(load: &Load, index: usize, clock: Clock) -> Terminal {
        let logic = load.terminal(index, clock.now());
        let mut options = MqttOptions::new(logic.serial(), load.address.ip().to_string(), load.address.port());
        options.set_keep_alive(Duration::from_secs(60));
        let (client, connection) = AsyncClient::new(options, 64);
        client.subscribe(logic.command_topic(), QoS::AtLeastOnce).await.expect("room in the channel");
        let mut terminal = Terminal { logic, client, connection, clock };
        while !matches!(terminal.next_packet().await, Packet::SubAck(_)) {}
        terminal
    }

    /// Gives the time from each push to its acknowledgement. `pace`: time between two pushes, and before the first.
    async fn push_all(&mut self, pace: Option<(Duration, Duration)>) -> Vec<Duration> {
        let mut latencies = Vec::with_capacity(self.logic.waiting());
        let mut next = self.clock.instant() + pace.map_or(Duration::ZERO, |(_, first)| first);
        tokio::time::sleep_until(next.into()).await;
        self.logic.handle_link_up(self.clock.now());
        let mut pushed_at = self.clock.instant();
        while self.logic.waiting() > 0 {
            if self.transmit().await {
                pushed_at = self.clock.instant();
            }
            let Packet::Publish(message) = self.next_packet().await else { continue };
            let waiting = self.logic.waiting();
            self.logic.handle_message(self.clock.now(), &String::from_utf8_lossy(&message.payload));
            if self.logic.waiting() < waiting {
                latencies.push(self.clock.instant() - pushed_at);
                if let Some((every, _)) = pace {
                    next += every;
                    tokio::time::sleep_until(next.into()).await;
                }
            }
        }
        latencies
    }

    /// The first record again and again. Gives the time from each publication to its PUBACK.
    async fn publish_all(&mut self, records: usize, pace: Option<(Duration, Duration)>) -> Vec<Duration> {
        let (every, first) = pace.unwrap_or_default();
        self.logic.handle_link_up(self.clock.now());
        let record =
            std::iter::from_fn(|| self.logic.poll_transmit()).find(|outgoing| outgoing.topic.ends_with("/Rec"));
        let record = record.expect("the terminal has records");
        let mut latencies = Vec::with_capacity(records);
        let mut next = self.clock.instant() + first;
        for _ in 0..records {
            tokio::time::sleep_until(next.into()).await;
            let (topic, payload) = (record.topic.clone(), record.payload.clone());
            let published = self.client.publish(topic, QoS::AtLeastOnce, false, payload).await;
            published.expect("the connection's other half is in the same struct");
            let pushed_at = self.clock.instant();
            while !matches!(self.next_packet().await, Packet::PubAck(_)) {}
            latencies.push(self.clock.instant() - pushed_at);
            next += every;
        }
        latencies
    }

    /// Says whether a record was among what was sent.
    async fn transmit(&mut self) -> bool {
        let mut is_record = false;
        while let Some(outgoing) = self.logic.poll_transmit() {
            is_record |= outgoing.topic.ends_with("/Rec");
            let sent = self.client.publish(outgoing.topic, QoS::AtMostOnce, false, outgoing.payload).await;
            sent.expect("the connection's other half is in the same struct");
        }
        is_record
    }

    async fn next_packet(&mut self) -> Packet {
        loop {
            match tokio::time::timeout(SILENCE, self.connection.poll()).await {
                Ok(Ok(Event::Incoming(packet))) => return packet,
                Ok(Ok(Event::Outgoing(_))) => {}
                Ok(Err(error)) => panic!("terminal {}: {error}", self.logic.serial()),
                Err(_) => panic!("terminal {}: nothing was heard for {SILENCE:?}", self.logic.serial()),
            }
        }
    }
}
