//! A plain MQTT client, well behaved or not: whatever a terminal would not do by itself.

use std::net::SocketAddr;
use std::time::Duration;

use rumqttc::{
    AsyncClient, ConnectReturnCode, ConnectionError, Event, EventLoop, Incoming, MqttOptions, QoS, SubscribeReasonCode,
};

/// Long enough for a loaded machine; nothing waits for it when all is well.
const LIMIT: Duration = Duration::from_secs(60);
/// How long it takes to believe that nothing comes.
const NEVER: Duration = Duration::from_millis(700);
const MAX_PACKET: usize = 16 * 1024 * 1024;
const CAPACITY: usize = 100;

/// A client that connects when it is told to. Dropped, it is gone without a farewell.
pub struct Client {
    client: AsyncClient,
    connection: EventLoop,
}

impl Client {
    /// Not connected yet; `login` is user name and password.
    pub fn new(address: SocketAddr, client_id: &str, login: Option<(&str, &str)>) -> Client {
        let mut options = MqttOptions::new(client_id, address.ip().to_string(), address.port());
        options.set_keep_alive(Duration::from_secs(30)).set_max_packet_size(MAX_PACKET, MAX_PACKET);
        if let Some((name, password)) = login {
            options.set_credentials(name, password);
        }
        let (client, connection) = AsyncClient::new(options, CAPACITY);
        Client { client, connection }
    }

    /// Changes the options before the first connection.
    pub fn options(&mut self, change: impl FnOnce(&mut MqttOptions)) {
        change(&mut self.connection.mqtt_options);
    }

    /// Connects; the other end's answer when it refuses.
    pub async fn connect(&mut self) -> Result<(), ConnectReturnCode> {
        match tokio::time::timeout(LIMIT, self.connection.poll()).await.expect("an answer to CONNECT") {
            Ok(Event::Incoming(Incoming::ConnAck(_))) => Ok(()),
            Err(ConnectionError::ConnectionRefused(code)) => Err(code),
            other => panic!("{other:?}"),
        }
    }

    pub async fn subscribe(&mut self, filter: &str) -> SubscribeReasonCode {
        self.client.subscribe(filter, QoS::AtLeastOnce).await.expect("the client has room");
        match self.next(|packet| matches!(packet, Incoming::SubAck(_))).await {
            Some(Incoming::SubAck(ack)) => ack.return_codes[0],
            other => panic!("no SUBACK but {other:?}"),
        }
    }

    /// Publishes with QoS 1 and waits for the PUBACK; false when it does not come.
    pub async fn publish(&mut self, topic: &str, payload: &str) -> bool {
        self.send(topic, payload, QoS::AtLeastOnce).await;
        self.is_acknowledged().await
    }

    /// The same, to be kept by the other end for whoever subscribes later.
    pub async fn publish_retained(&mut self, topic: &str, payload: &str) -> bool {
        self.client.publish(topic, QoS::AtLeastOnce, true, payload).await.expect("the client has room");
        self.is_acknowledged().await
    }

    /// Hands a publication to the client; it is on its way once [`Client::next`] is called.
    pub async fn send(&self, topic: &str, payload: impl Into<Vec<u8>>, qos: QoS) {
        self.client.publish(topic, qos, false, payload).await.expect("the client has room");
    }

    /// Publishes with QoS 0 as fast as it can, until the connection ends.
    pub async fn flood(&mut self, topic: &str, payload: &[u8]) {
        loop {
            // A full client skips a turn.
            let _ = self.client.try_publish(topic, QoS::AtMostOnce, false, payload);
            if self.connection.poll().await.is_err() {
                return;
            }
        }
    }

    async fn is_acknowledged(&mut self) -> bool {
        self.next(|packet| matches!(packet, Incoming::PubAck(_))).await.is_some()
    }

    /// The next packet of this kind; `None` when none comes or the connection ends. After an end the next call connects
    /// anew and sends again what has not been acknowledged.
    pub async fn next(&mut self, wanted: impl Fn(&Incoming) -> bool) -> Option<Incoming> {
        let found = async {
            loop {
                match self.connection.poll().await {
                    Ok(Event::Incoming(packet)) if wanted(&packet) => return Some(packet),
                    Ok(_) => {}
                    Err(_) => return None,
                }
            }
        };
        tokio::time::timeout(NEVER, found).await.ok().flatten()
    }

    /// Waits until the connection ends.
    pub async fn ended(&mut self) {
        let ended = async { while self.connection.poll().await.is_ok() {} };
        tokio::time::timeout(LIMIT, ended).await.expect("the connection ends");
    }
}
