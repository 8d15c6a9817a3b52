//! Publications sorted by terminal: one lane per serial, one publication at a time in each, lanes side by side.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rumqttc::{Publish, QoS};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::super::face::codec::{Message, readable};
use super::super::face::desk::{Desk, Link, LinkNo, Taken};
use super::super::face::session::Transmit;
use super::super::topics::{Topic, is_serial};
use super::{Chore, Event, Publication};
use crate::ops::Ops;
use crate::ops::alarms::{Kind, Severity};

/// Publications of QoS 0 that wait in one lane; a terminal has one record in flight, so more is noise.
const LANE: usize = 8;
/// Bytes in all lanes; above it nothing more is read from the broker.
const LANES_BYTES: usize = 48 * 1024 * 1024;
/// Pause before a publication of QoS 1 is offered again to a store that refuses it.
const STORE_PAUSE: Duration = Duration::from_secs(1);
/// Shared topics carry short messages.
const MAX_SHARED: usize = 16 * 1024;

/// Publications sorted by terminal.
pub struct Lanes {
    desk: Arc<Desk>,
    ops: Ops,
    url: String,
    chores: mpsc::Sender<Chore>,
    outbound: mpsc::Sender<Transmit>,
    links: HashMap<String, LinkNo>,
    waiting: HashMap<String, VecDeque<Publication>>,
    waiting_bytes: usize,
    running: JoinSet<()>,
    running_serials: HashMap<tokio::task::Id, (String, usize)>,
}

impl Lanes {
    pub fn new(
        desk: Arc<Desk>,
        ops: Ops,
        url: String,
        chores: mpsc::Sender<Chore>,
        outbound: mpsc::Sender<Transmit>,
    ) -> Lanes {
        Lanes {
            desk,
            ops,
            url,
            chores,
            outbound,
            links: HashMap::new(),
            waiting: HashMap::new(),
            waiting_bytes: 0,
            running: JoinSet::new(),
            running_serials: HashMap::new(),
        }
    }

    /// Serves the connection's events until `shutdown`.
    pub async fn run(mut self, mut events: mpsc::Receiver<Event>, shutdown: &CancellationToken) {
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
                tracing::info!(broker = self.url, session_present, "broker connected");
                self.ops.alarms.clear(Kind::BrokerDown, &self.url);
                // Also when the broker remembers us: the topics may be others than last time.
                self.chore(Chore::Subscribe(self.desk.topics().filters()));
            }
            Event::Down(cause) => {
                let text = format!("no connection to the MQTT broker: {cause}; terminals keep their punches");
                self.ops.alarms.raise(Severity::Critical, Kind::BrokerDown, &self.url, text);
                self.disconnect_all();
            }
            Event::SubscriptionRefused => {
                let text = "the MQTT broker refuses our subscriptions; give the gateway's login read access";
                self.ops.alarms.raise(Severity::Critical, Kind::BrokerDown, &self.url, text);
            }
            Event::Publication(publication) => self.sort(publication),
        }
    }

    /// Into the lane of the terminal that published it.
    fn sort(&mut self, publication: Publication) {
        let publish = &publication.publish;
        let Some(serial) = serial_of(&self.desk, publish) else {
            tracing::debug!(topic = publish.topic, "publication names no terminal");
            self.acknowledge(publication);
            return;
        };
        let lane = self.waiting.entry(serial.clone()).or_default();
        let idle = !self.running_serials.values().any(|(running, _)| *running == serial);
        if publish.qos == QoS::AtMostOnce && lane.len() >= LANE {
            tracing::debug!(serial, "too many publications wait; one is dropped, the terminal repeats it");
            return;
        }
        self.waiting_bytes += publish.payload.len();
        lane.push_back(publication);
        if idle {
            self.start_next(serial);
        }
    }

    fn start_next(&mut self, serial: String) {
        let Some(lane) = self.waiting.get_mut(&serial) else { return };
        let Some(publication) = lane.pop_front() else {
            self.waiting.remove(&serial);
            return;
        };
        let bytes = publication.publish.payload.len();
        let Some(number) = self.link(&serial) else {
            self.waiting_bytes -= bytes;
            self.acknowledge(publication);
            return self.start_next(serial);
        };
        let (desk, chores) = (self.desk.clone(), self.chores.clone());
        let work = Work { desk, serial: serial.clone(), number, publication, chores };
        let task = self.running.spawn(work.run());
        self.running_serials.insert(task.id(), (serial, bytes));
    }

    fn handle_ended(&mut self, ended: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
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

    fn acknowledge(&self, publication: Publication) {
        if publication.publish.qos != QoS::AtMostOnce {
            self.chore(Chore::Ack(publication));
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
    publication: Publication,
    chores: mpsc::Sender<Chore>,
}

impl Work {
    /// To the store; a publication of QoS 1 until the store takes it, because the broker holds the rest back for it.
    async fn run(self) {
        let publish = &self.publication.publish;
        let Some(topic) = self.desk.topics().parse(&publish.topic) else { return };
        let once = publish.qos == QoS::AtMostOnce;
        loop {
            match self.desk.take(&self.serial, self.number, topic, &publish.payload).await {
                // A terminal that the desk has no room for: what it repeats is looked at again.
                Taken::Settled | Taken::Gone => break,
                // The broker has answered the terminal long ago, and holds everybody's records back for those that
                // nobody acknowledges: an unknown terminal could stop the others.
                Taken::LeftWithSender => break,
                Taken::Refused if once => break,
                Taken::Refused => tokio::time::sleep(STORE_PAUSE).await,
            }
        }
        if !once && self.chores.send(Chore::Ack(self.publication)).await.is_err() {
            tracing::debug!("the MQTT client has ended");
        }
    }
}
