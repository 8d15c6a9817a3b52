//! Terminals as clients of an external broker, through rumqttc.
//!
//! One connection for all terminals: their publications are sorted into lanes by serial and taken one at a time per
//! lane, lanes side by side. A publication of QoS 1 is acknowledged to the broker after the commit. Commands are never
//! kept over a broken connection: a gate that opens a minute late is worse than one that does not.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectionError, EventLoop, Incoming, MqttOptions, Publish, QoS, SubscribeFilter, Transport,
};
use rumqttc::{Event as MqttEvent, SubscribeReasonCode};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::face::codec::{Message, readable};
use super::face::desk::{Desk, Link, LinkNo, Taken};
use super::face::session::Transmit;
use super::topics::{Topic, is_serial};
use crate::config::Secret;
use crate::ops::Ops;
use crate::ops::alarms::{Kind, Severity};

/// Requests to the client library that may wait.
const REQUESTS: usize = 128;
/// Messages for all terminals that may wait.
const OUTBOUND: usize = 512;
/// Events between the connection and the lanes.
const EVENTS: usize = 32;
/// Publications of QoS 0 that wait in one lane; a terminal has one record in flight, so more is noise.
const LANE: usize = 8;
/// Bytes in all lanes; above it nothing more is read from the broker.
const LANES_BYTES: usize = 48 * 1024 * 1024;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// How often, and after which pause, a publication of QoS 1 is offered to a store that refuses it.
const STORE_ATTEMPTS: u32 = 60;
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Shared topics carry short messages.
const MAX_SHARED: usize = 16 * 1024;
/// Certificates that a `mqtts://` broker is checked against; `SSL_CERT_FILE` names another bundle.
const CA_BUNDLE: &str = "/etc/ssl/certs/ca-certificates.crt";

/// How to reach the broker.
pub struct Access<'a> {
    pub url: &'a str,
    pub client_id: &'a str,
    pub username: Option<&'a str>,
    pub password: Option<&'a Secret>,
    pub max_packet: usize,
}

/// The broker client, prepared but not yet connecting.
pub struct Broker {
    options: MqttOptions,
    url: String,
    desk: Arc<Desk>,
    ops: Ops,
}

impl Broker {
    /// Prepares the client; reads the certificate bundle for `mqtts`.
    pub fn new(access: &Access<'_>, desk: Arc<Desk>, ops: Ops) -> io::Result<Broker> {
        let (secure, host, port) = parse_url(access.url)?;
        let mut options = MqttOptions::new(access.client_id, host, port);
        options
            .set_keep_alive(KEEP_ALIVE)
            .set_clean_session(false)
            .set_manual_acks(true)
            .set_max_packet_size(access.max_packet, access.max_packet);
        if let Some(username) = access.username {
            options.set_credentials(username, access.password.map_or("", |password| &password.0));
        }
        if secure {
            options.set_transport(tls()?);
        }
        Ok(Broker { options, url: access.url.to_owned(), desk, ops })
    }

    /// Serves the terminals until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) {
        let (client, connection) = AsyncClient::new(self.options, REQUESTS);
        let (events_in, events) = mpsc::channel(EVENTS);
        let (chores_in, chores) = mpsc::channel(OUTBOUND);
        let (outbound_in, outbound) = mpsc::channel(OUTBOUND);
        let up = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        tasks.spawn(poll(connection, events_in, up.clone()));
        tasks.spawn(pump(client.clone(), chores, outbound, up));
        let lanes = Lanes {
            desk: self.desk,
            ops: self.ops,
            url: self.url,
            chores: chores_in,
            outbound: outbound_in,
            epoch: Arc::new(AtomicU64::new(0)),
            links: HashMap::new(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            running: JoinSet::new(),
            running_serials: HashMap::new(),
        };
        lanes.run(events, &shutdown).await;
        // The broker keeps the session; whatever it was not acknowledged comes again after the next start.
        let _ = client.try_disconnect();
        tasks.shutdown().await;
    }
}

fn parse_url(url: &str) -> io::Result<(bool, &str, u16)> {
    let wrong = || io::Error::new(io::ErrorKind::InvalidInput, "a broker is mqtt://host:port or mqtts://host:port");
    let (secure, rest) = match url.split_once("://").ok_or_else(wrong)? {
        ("mqtt", rest) => (false, rest),
        ("mqtts", rest) => (true, rest),
        _ => return Err(wrong()),
    };
    let rest = rest.trim_end_matches('/');
    let usual_port = if secure { 8883 } else { 1883 };
    let (host, port) = match rest.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().map_err(|_| wrong())?),
        _ => (rest, usual_port),
    };
    if host.is_empty() { Err(wrong()) } else { Ok((secure, host, port)) }
}

fn tls() -> io::Result<Transport> {
    // Whoever comes first installs the process's provider; another one is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let bundle = std::env::var_os("SSL_CERT_FILE").unwrap_or_else(|| CA_BUNDLE.into());
    Ok(Transport::tls(std::fs::read(bundle)?, None, None))
}

enum Event {
    Up { session_present: bool },
    Down(String),
    Publication(Publish),
    SubscriptionRefused,
}

/// Keeps the connection: nothing here waits for anything but the broker and the room to hand an event over.
async fn poll(mut connection: EventLoop, events: mpsc::Sender<Event>, up: Arc<AtomicBool>) {
    connection.network_options.set_tcp_nodelay(true);
    let mut pause = FIRST_PAUSE;
    loop {
        let event = match connection.poll().await {
            Ok(MqttEvent::Incoming(Incoming::ConnAck(ack))) => {
                pause = FIRST_PAUSE;
                up.store(true, Ordering::Release);
                Event::Up { session_present: ack.session_present }
            }
            Ok(MqttEvent::Incoming(Incoming::Publish(publish))) => Event::Publication(publish),
            Ok(MqttEvent::Incoming(Incoming::SubAck(ack)))
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) =>
            {
                Event::SubscriptionRefused
            }
            Ok(_) => continue,
            Err(error) => {
                up.store(false, Ordering::Release);
                if events.send(Event::Down(describe(&error))).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
        };
        if events.send(event).await.is_err() {
            return;
        }
    }
}

fn describe(error: &ConnectionError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        if !text.contains(&cause.to_string()) {
            text = format!("{text}: {cause}");
        }
        source = cause.source();
    }
    text
}

enum Chore {
    Subscribe(Vec<String>),
    Ack(Publish),
}

/// Hands requests to the client library, which may wait; the connection's task never does.
async fn pump(
    client: AsyncClient,
    mut chores: mpsc::Receiver<Chore>,
    mut outbound: mpsc::Receiver<Transmit>,
    up: Arc<AtomicBool>,
) {
    loop {
        let sent = tokio::select! {
            biased;
            Some(chore) = chores.recv() => match chore {
                Chore::Subscribe(filters) => {
                    let filters = filters.into_iter().map(|path| SubscribeFilter { path, qos: QoS::AtLeastOnce });
                    client.subscribe_many(filters).await
                }
                Chore::Ack(publish) => client.ack(&publish).await,
            },
            Some(transmit) = outbound.recv() => {
                if !up.load(Ordering::Acquire) {
                    continue;
                }
                client.publish_bytes(transmit.topic, QoS::AtMostOnce, false, transmit.payload).await
            }
            else => return,
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "MQTT request not accepted");
        }
    }
}

/// Publications sorted by terminal.
struct Lanes {
    desk: Arc<Desk>,
    ops: Ops,
    url: String,
    chores: mpsc::Sender<Chore>,
    outbound: mpsc::Sender<Transmit>,
    /// Counts connections: a packet id means something within one only.
    epoch: Arc<AtomicU64>,
    links: HashMap<String, LinkNo>,
    waiting: HashMap<String, VecDeque<Publish>>,
    waiting_bytes: usize,
    running: JoinSet<usize>,
    running_serials: HashMap<tokio::task::Id, (String, usize)>,
}

impl Lanes {
    async fn run(mut self, mut events: mpsc::Receiver<Event>, shutdown: &CancellationToken) {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = self.running.join_next_with_id() => self.handle_ended(ended),
                event = events.recv(), if self.waiting_bytes < LANES_BYTES => match event {
                    Some(event) => self.handle_event(event),
                    None => break,
                },
            }
        }
        self.disconnect_all();
        self.running.shutdown().await;
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Up { session_present } => {
                self.epoch.fetch_add(1, Ordering::AcqRel);
                tracing::info!(broker = self.url, session_present, "broker connected");
                self.ops.alarms.clear(Kind::BrokerDown, &self.url);
                // Also when the broker remembers us: the topics may be others than last time.
                self.chore(Chore::Subscribe(self.desk.topics().filters()));
            }
            Event::Down(cause) => {
                self.epoch.fetch_add(1, Ordering::AcqRel);
                let text = format!("no connection to the MQTT broker: {cause}; terminals keep their punches");
                self.ops.alarms.raise(Severity::Critical, Kind::BrokerDown, &self.url, text);
                self.disconnect_all();
            }
            Event::SubscriptionRefused => {
                let text = "the MQTT broker refuses our subscriptions; give the gateway's login read access";
                self.ops.alarms.raise(Severity::Critical, Kind::BrokerDown, &self.url, text);
            }
            Event::Publication(publish) => self.sort(publish),
        }
    }

    /// Into the lane of the terminal that published it.
    fn sort(&mut self, publish: Publish) {
        let Some(serial) = serial_of(&self.desk, &publish) else {
            tracing::debug!(topic = publish.topic, "publication names no terminal");
            self.acknowledge(publish);
            return;
        };
        let lane = self.waiting.entry(serial.clone()).or_default();
        let idle = !self.running_serials.values().any(|(running, _)| *running == serial);
        if publish.qos == QoS::AtMostOnce && lane.len() >= LANE {
            tracing::debug!(serial, "too many publications wait; one is dropped, the terminal repeats it");
            return;
        }
        self.waiting_bytes += publish.payload.len();
        lane.push_back(publish);
        if idle {
            self.start_next(serial);
        }
    }

    fn start_next(&mut self, serial: String) {
        let Some(lane) = self.waiting.get_mut(&serial) else { return };
        let Some(publish) = lane.pop_front() else {
            self.waiting.remove(&serial);
            return;
        };
        let bytes = publish.payload.len();
        let Some(number) = self.link(&serial) else {
            self.waiting_bytes -= bytes;
            self.acknowledge(publish);
            return self.start_next(serial);
        };
        let work = Work {
            desk: self.desk.clone(),
            serial: serial.clone(),
            number,
            publish,
            chores: self.chores.clone(),
            born: self.epoch.load(Ordering::Acquire),
            epoch: self.epoch.clone(),
        };
        let task = self.running.spawn(work.run());
        self.running_serials.insert(task.id(), (serial, bytes));
    }

    fn handle_ended(&mut self, ended: Result<(tokio::task::Id, usize), tokio::task::JoinError>) {
        let id = match &ended {
            Ok((id, _)) => *id,
            Err(error) => {
                tracing::error!(%error, "a publication could not be handled");
                error.id()
            }
        };
        let Some((serial, bytes)) = self.running_serials.remove(&id) else { return };
        self.waiting_bytes -= bytes;
        self.start_next(serial);
    }

    /// The terminal's place at the desk, taken when it is first heard of.
    fn link(&mut self, serial: &str) -> Option<LinkNo> {
        let link = || Link {
            outbound: self.outbound.clone(),
            cut: CancellationToken::new(),
            via: self.url.clone(),
            vouched: true,
        };
        let number = self.desk.ensure(serial, link).ok()?;
        self.links.insert(serial.to_owned(), number);
        Some(number)
    }

    fn disconnect_all(&mut self) {
        for (serial, number) in self.links.drain() {
            self.desk.disconnect(&serial, number);
        }
    }

    fn acknowledge(&self, publish: Publish) {
        if publish.qos != QoS::AtMostOnce {
            self.chore(Chore::Ack(publish));
        }
    }

    fn chore(&self, chore: Chore) {
        if self.chores.try_send(chore).is_err() {
            tracing::warn!("the MQTT client is busy; the broker will send again");
        }
    }
}

/// The terminal that a publication is from.
fn serial_of(desk: &Desk, publish: &Publish) -> Option<String> {
    match desk.topics().parse(&publish.topic)? {
        Topic::Own { id, .. } => Some(id.to_owned()),
        Topic::Shared { .. } if publish.payload.len() > MAX_SHARED => None,
        Topic::Shared { .. } => {
            let text = readable(&publish.payload);
            Message::decode(&text).ok()?.terminal().filter(|serial| is_serial(serial))
        }
    }
}

/// One publication on its way to the store.
struct Work {
    desk: Arc<Desk>,
    serial: String,
    number: LinkNo,
    publish: Publish,
    chores: mpsc::Sender<Chore>,
    born: u64,
    epoch: Arc<AtomicU64>,
}

impl Work {
    async fn run(self) -> usize {
        let Some(topic) = self.desk.topics().parse(&self.publish.topic) else { return 0 };
        let once = self.publish.qos == QoS::AtMostOnce;
        let attempts = if once { 1 } else { STORE_ATTEMPTS };
        for attempt in 0..attempts {
            if attempt > 0 {
                tokio::time::sleep(STORE_PAUSE).await;
            }
            // A packet id of an earlier connection may name another publication by now.
            if !self.is_current() {
                return 0;
            }
            let taken = self.desk.take(&self.serial, self.number, topic, &self.publish.payload).await;
            if taken == Taken::Settled && !once && self.is_current() {
                let _ = self.chores.send(Chore::Ack(self.publish)).await;
                return 1;
            }
            if taken == Taken::Settled {
                return 1;
            }
        }
        0
    }

    fn is_current(&self) -> bool {
        self.epoch.load(Ordering::Acquire) == self.born
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broker_addresses_have_the_usual_ports() {
        assert_eq!(parse_url("mqtt://127.0.0.1:1884").unwrap(), (false, "127.0.0.1", 1884));
        assert_eq!(parse_url("mqtt://broker.site/").unwrap(), (false, "broker.site", 1883));
        assert_eq!(parse_url("mqtts://broker.site").unwrap(), (true, "broker.site", 8883));
        assert_eq!(parse_url("mqtts://[::1]:99").unwrap(), (true, "[::1]", 99));
        assert_eq!(parse_url("mqtt://[::1]").unwrap(), (false, "[::1]", 1883));
        for wrong in ["", "127.0.0.1:1883", "http://a:1", "mqtt://", "mqtt://a:port", "mqtt://:1883"] {
            assert!(parse_url(wrong).is_err(), "{wrong}");
        }
    }
}
