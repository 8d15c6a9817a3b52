//! The embedded MQTT endpoint: terminals connect to the gateway itself, no broker between.
//!
//! One task per connection. A publication is answered after the commit; the next one of the same client is read after
//! that, so a client that pushes faster than the disk slows down itself and nobody else. What is not kept gets no PUBACK:
//! what the store refuses, the records of a terminal that waits for approval, noise beyond what is kept of it.

mod connection;
mod gate;
mod packets;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::connection::{Connection, Event};
pub use self::gate::Gate;
use self::packets::{Login, Publication, Refusal};
use super::face::desk::{Desk, Link, LinkNo, OUTBOUND, Standing, Taken};
use super::face::session::Transmit;
use super::topics::Topic;
use crate::clock::Clock;
use crate::ops::Ops;
use crate::ops::alarms::{Kind, Severity};

/// Connections at once; a site has tens of terminals.
const MAX_CONNECTIONS: usize = 512;
/// Connections at once from one address of the network, so that one mad host leaves room for the terminals.
const MAX_PER_ADDRESS: usize = 32;
/// A client that does not read what it is sent within this is cut.
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);
const READ_BUFFER: usize = 16 * 1024;
/// Pause after the system refused to accept, out of file descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// The endpoint, listening but not yet serving.
pub struct Endpoint {
    pub listener: TcpListener,
    pub shared: Arc<Shared>,
}

/// What every connection needs.
pub struct Shared {
    pub desk: Arc<Desk>,
    pub gate: Gate,
    pub clock: Clock,
    pub ops: Ops,
    /// Largest packet taken from a client, in bytes.
    pub max_packet: u32,
}

impl Endpoint {
    /// Accepts clients until `shutdown`, then waits for their tasks.
    pub async fn run(self, shutdown: CancellationToken) {
        let mut clients = Clients::default();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                Some(ended) = clients.tasks.join_next_with_id() => clients.forget(ended),
                accepted = self.listener.accept() => match accepted {
                    Ok((_, peer)) if clients.are_enough(peer.ip()) => {
                        tracing::warn!(%peer, "too many MQTT connections; one is turned away");
                    }
                    Ok((socket, peer)) => {
                        let client = serve(socket, peer, self.shared.clone(), shutdown.clone());
                        clients.addresses.insert(clients.tasks.spawn(client).id(), peer.ip());
                    }
                    Err(error) => {
                        tracing::warn!(%error, "MQTT connection not accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        while let Some(ended) = clients.tasks.join_next_with_id().await {
            clients.forget(ended);
        }
    }
}

/// The connections' tasks.
#[derive(Default)]
struct Clients {
    tasks: JoinSet<()>,
    addresses: HashMap<tokio::task::Id, IpAddr>,
}

impl Clients {
    fn are_enough(&self, address: IpAddr) -> bool {
        let same = || self.addresses.values().filter(|other| **other == address).count();
        self.addresses.len() >= MAX_CONNECTIONS || (!address.is_loopback() && same() >= MAX_PER_ADDRESS)
    }

    /// No client can stop the gateway: even a fault in its task ends with that task.
    fn forget(&mut self, ended: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let id = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(id, ())| *id);
        self.addresses.remove(&id);
        if let Err(error) = ended {
            tracing::error!(%error, "the task of an MQTT connection failed");
        }
    }
}

async fn serve(socket: TcpStream, peer: SocketAddr, shared: Arc<Shared>, shutdown: CancellationToken) {
    // Acknowledgements are small and urgent; a socket that refuses the option still works.
    let _ = socket.set_nodelay(true);
    shared.ops.metrics.mqtt_clients.inc();
    let core = Connection::new(shared.clock.instant(), shared.desk.topics().clone(), shared.max_packet);
    let (sender, outbound) = mpsc::channel(OUTBOUND);
    let mut client = Client { socket, peer, core, seat: None, sender, outbound, cut: CancellationToken::new(), shared };
    let why = tokio::select! {
        why = client.converse() => why,
        () = shutdown.cancelled() => "the gateway stops",
    };
    tracing::debug!(%peer, serial = client.serial(), why, "MQTT connection closed");
    if !shutdown.is_cancelled() {
        client.execute_will().await;
    }
}

/// One client and its socket.
struct Client {
    socket: TcpStream,
    peer: SocketAddr,
    core: Connection,
    seat: Option<Seat>,
    sender: mpsc::Sender<Transmit>,
    outbound: mpsc::Receiver<Transmit>,
    cut: CancellationToken,
    shared: Arc<Shared>,
}

/// A terminal's place at the desk, given up however the connection ends.
struct Seat {
    desk: Arc<Desk>,
    serial: String,
    number: LinkNo,
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.desk.disconnect(&self.serial, self.number);
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.ops.metrics.mqtt_clients.dec();
    }
}

impl Client {
    /// Moves bytes until the connection ends; says why it did.
    async fn converse(&mut self) -> &'static str {
        let mut buffer = vec![0; READ_BUFFER];
        let cut = self.cut.clone();
        loop {
            while let Some(event) = self.core.poll_event() {
                if let Event::Close(why) = event {
                    let _ = self.flush().await;
                    return why;
                }
                tokio::select! {
                    biased;
                    () = cut.cancelled() => return "cut",
                    () = self.handle(event) => {}
                }
                if self.flush().await.is_err() {
                    return "it does not read";
                }
            }
            if self.flush().await.is_err() {
                return "it does not read";
            }
            let now = self.shared.clock.instant();
            let pause = self.core.poll_timeout().saturating_duration_since(now);
            tokio::select! {
                read = self.socket.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => return "link lost",
                    Ok(n) => self.core.handle_bytes(self.shared.clock.instant(), &buffer[..n]),
                },
                Some(transmit) = self.outbound.recv() => self.publish(&transmit),
                () = tokio::time::sleep(pause) => self.core.handle_timeout(self.shared.clock.instant()),
                () = cut.cancelled() => return "cut",
            }
        }
    }

    async fn handle(&mut self, event: Event) {
        match event {
            Event::Login(login) => self.log_in(&login),
            Event::Publication(publication) => self.take(publication).await,
            Event::ForeignSubscription => {
                tracing::warn!(serial = self.serial(), "subscription beyond its own commands refused");
                self.shared.ops.metrics.mqtt_foreign_topics.inc();
            }
            Event::Close(_) => {}
        }
    }

    fn log_in(&mut self, login: &Login) {
        let now = self.shared.clock.instant();
        match self.seat(login) {
            Ok(seat) => {
                self.shared.ops.alarms.clear(Kind::LoginRefused, &login.client_id);
                self.shared.ops.alarms.clear(Kind::LoginRefused, &self.peer.ip().to_string());
                self.core.admit(now, &seat.serial);
                self.seat = Some(seat);
            }
            Err(refusal) => {
                self.shared.ops.metrics.mqtt_refused.inc();
                self.report_refusal(login, refusal);
                self.core.refuse(now, refusal);
            }
        }
    }

    fn seat(&self, login: &Login) -> Result<Seat, Refusal> {
        let desk = &self.shared.desk;
        let admission = self.shared.gate.judge(login, &desk.standing(&login.client_id))?;
        let link = Link {
            outbound: self.sender.clone(),
            cut: self.cut.clone(),
            via: self.peer.to_string(),
            vouched: admission.vouched,
        };
        let serial = login.client_id.clone();
        let number = desk.connect(&serial, link).map_err(|_| Refusal::Busy)?;
        Ok(Seat { desk: desk.clone(), serial, number })
    }

    /// The alarm names a known terminal by its serial and anybody else by the address, so that there cannot be many.
    fn report_refusal(&self, login: &Login, refusal: Refusal) {
        let known = matches!(self.shared.desk.standing(&login.client_id), Standing::Known(_));
        let address = self.peer.ip().to_string();
        let subject = if known { &login.client_id } else { &address };
        let text = match refusal {
            Refusal::ClientId => "an MQTT client's id is no terminal's serial".to_owned(),
            Refusal::Credentials => format!(
                "MQTT login from {address} refused: user name must be the serial, and the password that of the terminal"
            ),
            Refusal::Busy => "too many unknown MQTT clients".to_owned(),
        };
        self.shared.ops.alarms.raise(Severity::Warning, Kind::LoginRefused, subject, text);
    }

    async fn take(&mut self, publication: Publication) {
        let Publication { topic, payload, receipt } = publication;
        let taken = self.carry(&topic, payload.as_slice()).await;
        let now = self.shared.clock.instant();
        match taken {
            Taken::Settled => self.core.settle(now, receipt),
            Taken::Refused | Taken::LeftWithSender => self.core.give_up(now, receipt),
            // Cut, because another link has taken its place.
            Taken::Gone => {}
        }
        while let Ok(transmit) = self.outbound.try_recv() {
            self.publish(&transmit);
        }
    }

    /// To the desk, if the topic is this terminal's.
    async fn carry(&self, topic: &str, payload: &[u8]) -> Taken {
        let Some(seat) = &self.seat else { return Taken::Settled };
        match self.shared.desk.topics().parse(topic) {
            Some(Topic::Own { id, .. }) if id != seat.serial => {}
            Some(topic) => return seat.desk.take(&seat.serial, seat.number, topic, payload).await,
            None => {}
        }
        tracing::warn!(serial = seat.serial, topic, "publication on a topic that is not its own; dropped");
        self.shared.ops.metrics.mqtt_foreign_topics.inc();
        Taken::Settled
    }

    async fn execute_will(&mut self) {
        if let Some((topic, payload)) = self.core.take_will() {
            self.carry(&topic, &payload).await;
        }
    }

    fn publish(&mut self, transmit: &Transmit) {
        self.core.publish(self.shared.clock.instant(), &transmit.topic, &transmit.payload);
    }

    async fn flush(&mut self) -> std::io::Result<()> {
        while let Some(bytes) = self.core.poll_transmit() {
            tokio::time::timeout(WRITE_TIMEOUT, self.socket.write_all(&bytes)).await??;
        }
        Ok(())
    }

    fn serial(&self) -> &str {
        self.seat.as_ref().map_or("", |seat| &seat.serial)
    }
}

#[cfg(test)]
mod tests;
