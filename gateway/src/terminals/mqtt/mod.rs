//! MQTT terminals: through the embedded endpoint, or as clients of an external broker.
//!
//! Both carry publications to the same face sessions, which decide everything.

mod broker;
mod endpoint;
pub mod face;
pub mod topics;

use std::convert::Infallible;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::broker::{Access, Broker};
use self::endpoint::{Endpoint, Gate, Shared};
use self::face::desk::{Desk, Orders};
use self::topics::Topics;
use super::Context;
use crate::RunError;
use crate::config::{Mqtt, MqttTransport};

/// MQTT intake, bound but not yet serving.
pub struct Intake {
    transport: Transport,
    desk: Arc<Desk>,
    orders: Orders,
}

enum Transport {
    Endpoint(Endpoint),
    Broker(Box<Broker>),
}

/// Binds the endpoint's socket, or prepares the broker client.
pub async fn bind(config: &Mqtt, context: Context) -> Result<Intake, RunError> {
    let topics = Topics::new(&config.topic_prefixes);
    let max_packet = config.max_packet_kib.saturating_mul(1024);
    let (clock, ops) = (context.clock.clone(), context.ops.clone());
    let transport = match &config.transport {
        MqttTransport::Embedded { listen, trust_client_id, password } => {
            let failed = |source| RunError::Listen { address: listen.to_string(), source };
            let listener = TcpListener::bind(listen).await.map_err(failed)?;
            let gate = Gate { trust_client_id: *trust_client_id, shared: password.clone() };
            let (desk, orders) = Desk::new(context, topics);
            let shared = Shared { desk: desk.clone(), gate, clock, ops, max_packet };
            let endpoint = Endpoint { listener, shared: Arc::new(shared) };
            Intake { transport: Transport::Endpoint(endpoint), desk, orders }
        }
        MqttTransport::Broker { url, client_id, username, password } => {
            let access = Access {
                url,
                client_id,
                username: username.as_deref(),
                password: password.as_ref(),
                max_packet: max_packet as usize,
            };
            let (desk, orders) = Desk::new(context, topics);
            let failed = |source| RunError::Listen { address: url.clone(), source };
            let broker = Broker::new(&access, desk.clone(), ops).map_err(failed)?;
            Intake { transport: Transport::Broker(Box::new(broker)), desk, orders }
        }
    };
    Ok(transport)
}

impl Intake {
    /// Where the embedded endpoint listens; `None` with an external broker.
    pub fn local_addr(&self) -> Option<std::net::SocketAddr> {
        match &self.transport {
            Transport::Endpoint(endpoint) => endpoint.listener.local_addr().ok(),
            Transport::Broker(_) => None,
        }
    }

    /// Serves terminals until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let Intake { transport, desk, orders } = self;
        let mut parts = JoinSet::new();
        let stop = shutdown.clone();
        parts.spawn(async move { desk.run(orders, stop).await });
        match transport {
            Transport::Endpoint(endpoint) => parts.spawn(endpoint.run(shutdown)),
            Transport::Broker(broker) => parts.spawn(broker.run(shutdown)),
        };
        while let Some(ended) = parts.join_next().await {
            if let Err(panic) = ended {
                std::panic::resume_unwind(panic.into_panic());
            }
        }
        Ok(())
    }
}
