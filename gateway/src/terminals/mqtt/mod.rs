//! MQTT terminals: through the embedded endpoint, or as clients of an external broker.

pub mod endpoint;
pub mod face;
pub mod topics;

use tokio_util::sync::CancellationToken;

use super::Context;
use crate::RunError;
use crate::config::Mqtt;

/// MQTT intake, bound but not yet serving.
pub struct Intake {}

/// Binds the endpoint's socket, or prepares the broker client.
pub async fn bind(_config: &Mqtt, _context: Context) -> Result<Intake, RunError> {
    todo!()
}

impl Intake {
    /// Serves terminals until `shutdown`.
    pub async fn run(self, _shutdown: CancellationToken) -> Result<(), std::convert::Infallible> {
        todo!()
    }
}
