//! Which terminals are known, and the way of an order from the console to the task that holds the terminal's link.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use super::firmware::UpdateFile;
use crate::config::{DirectionRule, Secret};
use crate::punch::TerminalId;

/// A terminal that may deliver punches.
#[derive(Clone, Debug)]
pub struct Terminal {
    pub id: TerminalId,
    /// The protocol's name in the configuration.
    pub protocol: String,
    pub serial: String,
    pub direction: DirectionRule,
    pub password: Option<Secret>,
}

/// Something that the console wants of one terminal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Open the gate once, with a text for the terminal's screen.
    Open { text: String },
    /// Set the terminal's clock now.
    SetTime,
    /// The terminal has just been approved: greet it, so that it delivers what it has kept.
    Adopted,
    /// Begin to hand over a new program. Carried out when it has begun; how far it is stands on the board.
    Update(Arc<UpdateFile>),
}

/// Why an order was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    #[error("terminal {0} is not connected")]
    Offline(String),
    #[error("terminal {0} did not answer in time")]
    NoAnswer(String),
    #[error("terminal {terminal} refused: {reason}")]
    Refused { terminal: String, reason: String },
    #[error("terminal {0} cannot do this")]
    Unsupported(String),
}

/// An order on its way to a link's task, which answers through `done`.
#[derive(Debug)]
pub struct OrderSlip {
    pub serial: String,
    pub order: Order,
    pub done: oneshot::Sender<Result<(), OrderError>>,
}

/// Every external wait has an end: a terminal answers an order within this time or not at all.
const ORDER_TIMEOUT: Duration = Duration::from_secs(20);

/// The directory of terminals. Serial numbers are unique over all protocols.
#[derive(Default)]
pub struct Hub {
    known: RwLock<BTreeMap<String, Terminal>>,
    links: Mutex<HashMap<String, mpsc::Sender<OrderSlip>>>,
}

impl Hub {
    /// The directory with these terminals in it.
    pub fn new(terminals: impl IntoIterator<Item = Terminal>) -> Hub {
        let known = terminals.into_iter().map(|terminal| (terminal.serial.clone(), terminal)).collect();
        Hub { known: RwLock::new(known), links: Mutex::default() }
    }

    /// The terminal with this serial, if it may deliver punches.
    pub fn lookup(&self, serial: &str) -> Option<Terminal> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(serial).cloned()
    }

    /// The terminal with this id.
    pub fn by_id(&self, id: &TerminalId) -> Option<Terminal> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().find(|t| t.id == *id).cloned()
    }

    /// All terminals, by serial.
    pub fn terminals(&self) -> Vec<Terminal> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Adds an approved terminal.
    pub fn adopt(&self, terminal: Terminal) {
        self.known.write().unwrap_or_else(PoisonError::into_inner).insert(terminal.serial.clone(), terminal);
    }

    /// Says that orders for `serial` are taken by this task from now on.
    pub fn attach(&self, serial: &str, link: mpsc::Sender<OrderSlip>) {
        self.links.lock().unwrap_or_else(PoisonError::into_inner).insert(serial.to_owned(), link);
    }

    /// Says that the link of `serial` is gone, unless another task holds it by now.
    pub fn detach(&self, serial: &str, link: &mpsc::Sender<OrderSlip>) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        if links.get(serial).is_some_and(|held| held.same_channel(link)) {
            links.remove(serial);
        }
    }

    /// Gives an order and waits for its outcome.
    pub async fn order(&self, serial: &str, order: Order) -> Result<(), OrderError> {
        let link = self.links.lock().unwrap_or_else(PoisonError::into_inner).get(serial).cloned();
        let Some(link) = link else { return Err(OrderError::Offline(serial.to_owned())) };
        let (done, outcome) = oneshot::channel();
        let slip = OrderSlip { serial: serial.to_owned(), order, done };
        link.try_send(slip).map_err(|_| OrderError::Offline(serial.to_owned()))?;
        match tokio::time::timeout(ORDER_TIMEOUT, outcome).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(OrderError::Offline(serial.to_owned())),
            Err(_) => Err(OrderError::NoAnswer(serial.to_owned())),
        }
    }
}
