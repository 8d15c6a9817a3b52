//! Connects a simulated terminal to a real endpoint or broker over TCP. Its store can be a file, so that a later process
//! goes on with the same record numbers.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use gateway::clock::Clock;
use gateway::punch::UnixMs;
use rumqttc::{AsyncClient, Event, Incoming, LastWill, MqttOptions, QoS};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use super::{Face, FaceTerminal};
use crate::kept;

const MAX_PACKET: usize = 16 * 1024 * 1024;
const CAPACITY: usize = 256;
/// Pause before the next attempt to connect.
const RECONNECT: Duration = Duration::from_millis(200);

/// Where and how a terminal logs in.
#[derive(Clone, Debug)]
pub struct Login {
    pub address: SocketAddr,
    pub password: Option<String>,
    /// What it publishes with: 0 on real terminals.
    pub qos: u8,
}

impl Login {
    /// By client id alone, as real terminals do in a closed network.
    pub fn at(address: SocketAddr) -> Login {
        Login { address, password: None, qos: 0 }
    }
}

enum Order {
    Cut,
    Nudge,
}

/// The terminal with its memory.
struct Unit {
    terminal: FaceTerminal,
    file: Option<PathBuf>,
    saved: u64,
}

impl Unit {
    /// What has changed is in the file before anybody hears of it. The file is small and nothing is synced: that is as
    /// quick as the rest of the terminal's work.
    fn edit<T>(&mut self, edit: impl FnOnce(&mut FaceTerminal) -> T) -> T {
        let outcome = edit(&mut self.terminal);
        if let Some(file) = self.file.as_ref().filter(|_| self.terminal.revision() != self.saved) {
            kept::save(file, &self.terminal.kept()).expect("a terminal without its memory cannot go on");
            self.saved = self.terminal.revision();
        }
        outcome
    }
}

/// A simulated terminal with a network connection.
pub struct FaceLink {
    unit: Arc<Mutex<Unit>>,
    orders: mpsc::Sender<Order>,
    changed: watch::Receiver<u64>,
    tasks: JoinSet<()>,
    clock: Clock,
}

impl FaceLink {
    /// Connects and keeps connecting.
    pub fn start(terminal: FaceTerminal, login: Login) -> FaceLink {
        FaceLink::of(Unit { saved: terminal.revision(), terminal, file: None }, login)
    }

    /// The same with a terminal whose store is this file: that of an earlier process goes on.
    pub fn start_kept(mut terminal: FaceTerminal, login: Login, file: PathBuf) -> io::Result<FaceLink> {
        if let Some(kept) = kept::load(&file)? {
            terminal.restore(kept);
        }
        Ok(FaceLink::of(Unit { saved: terminal.revision(), terminal, file: Some(file) }, login))
    }

    fn of(unit: Unit, login: Login) -> FaceLink {
        let unit = Arc::new(Mutex::new(unit));
        let (orders, orders_out) = mpsc::channel(CAPACITY);
        let (changes, changed) = watch::channel(0);
        let clock = Clock::system();
        let mut tasks = JoinSet::new();
        let shell = Shell { unit: unit.clone(), login, orders: orders_out, changes, clock: clock.clone() };
        tasks.spawn(shell.run());
        FaceLink { unit, orders, changed, tasks, clock }
    }

    /// Somebody is recognised now. Returns the record's number.
    pub fn punch(&self, face: Face) -> u64 {
        let now = self.now();
        let number = self.lock().edit(|terminal| terminal.punch(now, face));
        let _ = self.orders.try_send(Order::Nudge);
        number
    }

    /// The acknowledgement of the last record was lost: the terminal pushes it again.
    pub fn push_again(&self) {
        let now = self.now();
        self.lock().edit(|terminal| terminal.lose_last_acknowledgement(now));
        let _ = self.orders.try_send(Order::Nudge);
    }

    /// Breaks the connection without a farewell; the terminal reconnects by itself.
    pub async fn cut_link(&self) {
        let _ = self.orders.send(Order::Cut).await;
    }

    /// Numbers of the acknowledged records.
    pub fn acknowledged(&self) -> Vec<u64> {
        self.lock().terminal.acknowledged()
    }

    /// Looks at the terminal.
    pub fn with<T>(&self, look: impl FnOnce(&mut FaceTerminal) -> T) -> T {
        self.lock().edit(look)
    }

    /// Waits until the terminal is as wanted; false when that does not happen in time.
    pub async fn wait_until(&self, limit: Duration, wanted: impl Fn(&FaceTerminal) -> bool) -> bool {
        let mut changed = self.changed.clone();
        let reached = async {
            while !wanted(&self.lock().terminal) {
                if changed.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(limit, reached).await.unwrap_or(false)
    }

    /// Waits until every record is acknowledged.
    pub async fn wait_delivered(&self, limit: Duration) -> bool {
        self.wait_until(limit, |terminal| terminal.waiting() == 0).await
    }

    /// Switches the terminal off and gives it back with what it has in its store.
    pub async fn stop(mut self) -> FaceTerminal {
        self.tasks.shutdown().await;
        let mut terminal = FaceTerminal::new("", super::Timings::REAL);
        std::mem::swap(&mut terminal, &mut self.lock().terminal);
        terminal.handle_link_lost();
        terminal
    }

    fn now(&self) -> UnixMs {
        self.clock.now()
    }

    fn lock(&self) -> MutexGuard<'_, Unit> {
        self.unit.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Shell {
    unit: Arc<Mutex<Unit>>,
    login: Login,
    orders: mpsc::Receiver<Order>,
    changes: watch::Sender<u64>,
    clock: Clock,
}

impl Shell {
    async fn run(mut self) {
        loop {
            self.converse().await;
            self.edit(|terminal, _| terminal.handle_link_lost());
            tokio::time::sleep(RECONNECT).await;
        }
    }

    /// One connection, until it breaks or is cut.
    async fn converse(&mut self) {
        let (client, mut connection) = AsyncClient::new(self.options(), CAPACITY);
        let (packets_in, mut packets) = mpsc::channel(CAPACITY);
        // Dropping the set drops the socket without a farewell.
        let mut poll = JoinSet::new();
        poll.spawn(async move {
            while let Ok(event) = connection.poll().await {
                if let Event::Incoming(packet) = event
                    && packets_in.send(packet).await.is_err()
                {
                    return;
                }
            }
        });
        loop {
            self.transmit(&client);
            let pause = self.edit(|terminal, now| {
                terminal.poll_timeout().map_or(3_600_000, |at| at.since(now).clamp(0, 3_600_000)) as u64
            });
            tokio::select! {
                packet = packets.recv() => match packet {
                    Some(packet) => self.receive(packet, &client),
                    None => return,
                },
                order = self.orders.recv() => match order {
                    Some(Order::Nudge) => {}
                    Some(Order::Cut) | None => return,
                },
                () = tokio::time::sleep(Duration::from_millis(pause)) => self.edit(|terminal, now| {
                    terminal.handle_timeout(now);
                }),
            }
        }
    }

    fn receive(&mut self, packet: Incoming, client: &AsyncClient) {
        match packet {
            Incoming::ConnAck(_) => {
                let topic = self.edit(|terminal, _| terminal.command_topic());
                client.try_subscribe(topic, QoS::AtMostOnce).expect("the first request of a connection has room");
            }
            Incoming::SubAck(_) => self.edit(|terminal, now| terminal.handle_link_up(now)),
            Incoming::Publish(publish) => {
                let payload = String::from_utf8_lossy(&publish.payload).into_owned();
                self.edit(|terminal, now| terminal.handle_message(now, &payload));
            }
            _ => {}
        }
    }

    fn transmit(&mut self, client: &AsyncClient) {
        let qos = if self.login.qos == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce };
        while let Some(outgoing) = self.edit(|terminal, _| terminal.poll_transmit()) {
            // A full client loses the message as a bad network would; the terminal pushes again.
            let _ = client.try_publish(outgoing.topic, qos, false, outgoing.payload);
        }
    }

    fn options(&self) -> MqttOptions {
        let unit = self.unit.lock().unwrap_or_else(PoisonError::into_inner);
        let serial = unit.terminal.serial().to_owned();
        let will = unit.terminal.will();
        let mut options = MqttOptions::new(&serial, self.login.address.ip().to_string(), self.login.address.port());
        options.set_keep_alive(Duration::from_secs(30)).set_max_packet_size(MAX_PACKET, MAX_PACKET);
        options.set_last_will(LastWill::new(will.topic, will.payload, QoS::AtMostOnce, false));
        if let Some(password) = &self.login.password {
            options.set_credentials(serial, password);
        }
        options
    }

    fn edit<T>(&mut self, edit: impl FnOnce(&mut FaceTerminal, UnixMs) -> T) -> T {
        let now = self.clock.now();
        let mut unit = self.unit.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = unit.edit(|terminal| edit(terminal, now));
        drop(unit);
        self.changes.send_modify(|changes| *changes += 1);
        outcome
    }
}
