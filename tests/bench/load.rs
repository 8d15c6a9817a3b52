//! Face terminals that do nothing but push: each has one record in flight, as real ones do, and pushes the next as soon as
//! the gateway has acknowledged it. No faults and no photos: what is measured is the gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use gateway::clock::Clock;
use harness::workers::InventedWorker;
use jiff::tz::Offset;
use rumqttc::{AsyncClient, Event, EventLoop, MqttOptions, Packet, QoS};
use serde_json::{Value, json};
use tokio::sync::Barrier;
use tokio::task::JoinSet;

/// A terminal that hears nothing for this long ends the bench.
const SILENCE: Duration = Duration::from_secs(60);
/// Punches of one worker are this far apart, so that none is a duplicate of another.
const BETWEEN_PUNCHES_MS: i64 = 61_000;
const SITE_OFFSET: Offset = Offset::constant(8);

/// Which punches to push, and where to.
#[derive(Clone)]
pub struct Load {
    pub address: SocketAddr,
    /// Serial numbers of the terminals.
    pub serials: Vec<String>,
    pub workers: Arc<[InventedWorker]>,
    pub records_per_terminal: usize,
}

/// How it went.
pub struct Pushed {
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
                terminal.push_all(&load).await
            });
        }
        start.wait().await;
        let began = clock.instant();
        let mut latencies: Vec<Duration> = terminals.join_all().await.into_iter().flatten().collect();
        let took = clock.instant() - began;
        latencies.sort_unstable();
        Pushed { took, punches: latencies.len(), latencies }
    }
}

struct Terminal {
    index: usize,
    serial: String,
    client: AsyncClient,
    connection: EventLoop,
    clock: Clock,
    started_ms: i64,
}

impl Terminal {
    async fn connect(load: &Load, index: usize, clock: Clock) -> Terminal {
        let serial = load.serials[index].clone();
        let mut options = MqttOptions::new(&serial, load.address.ip().to_string(), load.address.port());
        options.set_keep_alive(Duration::from_secs(60));
        let (client, connection) = AsyncClient::new(options, 16);
        let started_ms = clock.now().0;
        let commands = format!("mqtt/face/{serial}");
        client.subscribe(commands, QoS::AtLeastOnce).await.expect("room in the channel");
        let mut terminal = Terminal { index, serial, client, connection, clock, started_ms };
        let online = json!({ "operator": "Online", "info": {
            "facesluiceId": terminal.serial, "username": "admin", "time": terminal.local_time(terminal.clock.now().0),
            "ip": "127.0.0.1", "facesname": terminal.serial,
        }});
        terminal.publish("mqtt/face/basic", &online).await;
        terminal.heard("Online-Ack", |_| true).await;
        terminal
    }

    /// Gives the time from each push to its acknowledgement.
    async fn push_all(&mut self, load: &Load) -> Vec<Duration> {
        let topic = format!("mqtt/face/{}/Rec", self.serial);
        let mut latencies = Vec::with_capacity(load.records_per_terminal);
        for record in 1..=load.records_per_terminal {
            let punch = self.punch(load, record);
            let began: Instant = self.clock.instant();
            self.publish(&topic, &punch).await;
            let number = record.to_string();
            self.heard("PushAck", |info| info["SnapOrRecordID"].as_str() == Some(&number)).await;
            latencies.push(self.clock.instant() - began);
        }
        latencies
    }

    /// The workers punch in turn, over all terminals; the last round is about now.
    fn punch(&self, load: &Load, record: usize) -> Value {
        let turn = (record - 1) * load.serials.len() + self.index;
        let worker = &load.workers[turn % load.workers.len()];
        let rounds = (load.serials.len() * load.records_per_terminal).div_ceil(load.workers.len());
        let rounds_ago = rounds - turn / load.workers.len();
        let time = self.local_time(self.started_ms - rounds_ago as i64 * BETWEEN_PUNCHES_MS);
        json!({ "operator": "RecPush", "info": {
            "customId": worker.worker_id, "personId": record.to_string(), "RecordID": record.to_string(),
            "VerifyStatus": "1", "PersonType": "0", "similarity1": "91.400002", "similarity2": "0.000000",
            "Sendintime": 0, "direction": "entr", "otype": "1", "persionName": worker.name,
            "facesluiceId": self.serial, "facesluiceName": self.serial, "idCard": worker.id_number, "telnum": " ",
            "left": "263", "top": "481", "right": "626", "bottom": "831", "time": time, "PushType": "0",
            "OpendoorWay": "0", "cardNum2": "1", "RFIDCard": "0", "szQrCodeData": "", "isNoMask": "0",
            "dwFileIndex": "0", "dwFilePos": "32047104",
        }})
    }

    fn local_time(&self, unix_ms: i64) -> String {
        let at = jiff::Timestamp::from_millisecond(unix_ms).expect("a time of this century");
        SITE_OFFSET.to_datetime(at).strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    /// As real terminals do: quality of service 0, not retained.
    async fn publish(&mut self, topic: &str, message: &Value) {
        let sent = self.client.publish(topic, QoS::AtMostOnce, false, message.to_string()).await;
        sent.expect("the connection's other half is in the same struct");
    }

    /// Goes on until the gateway says `operator` with such an `info`; answers nothing else that it says.
    async fn heard(&mut self, operator: &str, wanted: impl Fn(&Value) -> bool) {
        loop {
            let message = match tokio::time::timeout(SILENCE, self.connection.poll()).await {
                Ok(Ok(Event::Incoming(Packet::Publish(message)))) => message,
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => panic!("terminal {}: {error}", self.serial),
                Err(_) => panic!("terminal {}: no {operator} in {SILENCE:?}", self.serial),
            };
            let message: Value = serde_json::from_slice(&message.payload).unwrap_or_default();
            if message["operator"] == operator && wanted(&message["info"]) {
                return;
            }
        }
    }
}
