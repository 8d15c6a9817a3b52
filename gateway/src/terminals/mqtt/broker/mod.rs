//! Terminals as clients of an external broker, through rumqttc.
//!
//! One connection for all terminals: their publications are sorted into lanes by serial and taken one at a time per
//! lane, lanes side by side. A publication of QoS 1 is acknowledged to the broker after the commit. The terminal has had
//! the broker's own PUBACK before that, so only `PushAck` keeps its copy: a terminal behind a broker must have it switched
//! on before it is approved. Commands are never kept over a broken connection: a gate that opens a minute late is worse
//! than one that does not.

mod lanes;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rumqttc::{AsyncClient, ConnectionError, EventLoop, MqttOptions, Publish, QoS, SubscribeFilter, Transport};
use rumqttc::{Event as MqttEvent, Incoming, SubscribeReasonCode};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::lanes::Lanes;
use super::face::desk::Desk;
use super::face::session::Transmit;
use crate::config::Secret;
use crate::ops::Ops;

/// Requests to the client library that may wait.
const REQUESTS: usize = 128;
/// Messages for all terminals that may wait.
const OUTBOUND: usize = 512;
/// Events between the connection and the lanes.
const EVENTS: usize = 32;
const KEEP_ALIVE: Duration = Duration::from_secs(30);
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
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
        let current = Current::default();
        let mut tasks = JoinSet::new();
        tasks.spawn(poll(connection, events_in, current.clone()));
        tasks.spawn(pump(client.clone(), chores, outbound, current));
        let lanes = Lanes::new(self.desk, self.ops, self.url, chores_in, outbound_in);
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

/// The number of the connection that stands; 0 when none does.
type Current = Arc<AtomicU64>;

/// What the broker sent.
struct Publication {
    /// The connection that it came on: its packet id means something there only.
    born: u64,
    publish: Publish,
}

enum Event {
    Up { session_present: bool },
    Down(String),
    Publication(Publication),
    SubscriptionRefused,
}

/// Keeps the connection: nothing here waits for anything but the broker and the room to hand an event over.
async fn poll(mut connection: EventLoop, events: mpsc::Sender<Event>, current: Current) {
    connection.network_options.set_tcp_nodelay(true);
    let mut pause = FIRST_PAUSE;
    let mut number = 0;
    loop {
        let event = match connection.poll().await {
            Ok(MqttEvent::Incoming(Incoming::ConnAck(ack))) => {
                pause = FIRST_PAUSE;
                number += 1;
                current.store(number, Ordering::Release);
                Event::Up { session_present: ack.session_present }
            }
            Ok(MqttEvent::Incoming(Incoming::Publish(publish))) => {
                Event::Publication(Publication { born: number, publish })
            }
            Ok(MqttEvent::Incoming(Incoming::SubAck(ack)))
                if ack.return_codes.contains(&SubscribeReasonCode::Failure) =>
            {
                Event::SubscriptionRefused
            }
            Ok(_) => continue,
            Err(error) => {
                current.store(0, Ordering::Release);
                // Its last words would come up after the next CONNACK, as if they had come on that connection.
                connection.state.events.clear();
                if events.send(Event::Down(describe(&error))).await.is_err() {
                    return;
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                // And so would acknowledgements that were handed over while it broke.
                connection.clean();
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
    Ack(Publication),
}

/// Hands requests to the client library, which may wait; the connection's task never does.
async fn pump(
    client: AsyncClient,
    mut chores: mpsc::Receiver<Chore>,
    mut outbound: mpsc::Receiver<Transmit>,
    current: Current,
) {
    loop {
        let sent = tokio::select! {
            biased;
            Some(chore) = chores.recv() => match chore {
                Chore::Subscribe(filters) => {
                    let filters = filters.into_iter().map(|path| SubscribeFilter { path, qos: QoS::AtLeastOnce });
                    client.subscribe_many(filters).await
                }
                // By now its packet id may be that of another publication, which nobody has stored.
                Chore::Ack(publication) if publication.born != current.load(Ordering::Acquire) => continue,
                Chore::Ack(publication) => client.ack(&publication.publish).await,
            },
            Some(transmit) = outbound.recv() => {
                if current.load(Ordering::Acquire) == 0 {
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
