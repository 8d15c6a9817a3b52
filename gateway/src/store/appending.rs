//! Facts that the store itself has to tell.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::AppendError;
use super::group::{Answer, Request};
use super::shared::Shared;
use crate::punch::Fact;

/// How long after a refusal a fact is offered again.
const AGAIN: Duration = Duration::from_secs(5);

/// Appends from one of the store's own threads; does not keep the store open.
#[derive(Clone)]
pub struct Appender {
    requests: mpsc::WeakSender<Request>,
    shared: Arc<Shared>,
}

impl Appender {
    pub fn new(requests: &mpsc::Sender<Request>, shared: Arc<Shared>) -> Appender {
        Appender { requests: requests.downgrade(), shared }
    }

    /// Appends a fact as soon as the store takes it; `false` when it is closed before that. Blocks.
    pub fn append(&self, fact: &Fact) -> bool {
        loop {
            match self.offer(fact) {
                Ok(()) => return true,
                Err(AppendError::Closed) => return false,
                Err(AppendError::Unavailable(_)) if self.shared.pause(AGAIN) => return false,
                Err(AppendError::Unavailable(_)) => {}
            }
        }
    }

    /// Appends a fact though the disk may be full. Blocks for one commit.
    pub fn insist(&self, fact: &Fact) -> Result<(), AppendError> {
        let (request, answer) = Request::new(std::slice::from_ref(fact), &self.shared.keyring)?;
        self.send(request.urgent(), answer)
    }

    fn offer(&self, fact: &Fact) -> Result<(), AppendError> {
        let (request, answer) = Request::new(std::slice::from_ref(fact), &self.shared.keyring)?;
        self.send(request, answer)
    }

    fn send(&self, request: Request, answer: oneshot::Receiver<Answer>) -> Result<(), AppendError> {
        let requests = self.requests.upgrade().ok_or(AppendError::Closed)?;
        requests.blocking_send(request).map_err(|_| AppendError::Closed)?;
        drop(requests);
        answer.blocking_recv().map_err(|_| AppendError::Closed)?.map(drop)
    }
}
