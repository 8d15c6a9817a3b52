//! Web pages, JSON API and live events on the console address.

use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::config::{Config, Secret};
use crate::ops::Ops;
use crate::store::Store;
use crate::terminals::hub::Hub;

/// What the console shows and steers.
#[derive(Clone)]
pub struct Context {
    pub config: Config,
    pub store: Store,
    pub hub: Arc<Hub>,
    pub clock: Clock,
    pub ops: Ops,
    /// Bearer token of `/api/v1`.
    pub token: Secret,
}

#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}", path = path.display())]
pub struct TokenError {
    pub path: std::path::PathBuf,
    pub source: std::io::Error,
}

/// Reads the API token, or creates it (32 random bytes as hex, mode 0600) when the file is missing.
pub fn load_token(_file: &Path) -> Result<Secret, TokenError> {
    todo!()
}

/// Serves the console until `shutdown`.
pub async fn serve(
    _listener: tokio::net::TcpListener,
    _context: Context,
    _shutdown: CancellationToken,
) -> Result<(), std::io::Error> {
    todo!()
}
