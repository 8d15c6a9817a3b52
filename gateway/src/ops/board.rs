//! How the parts stand at this moment: intake, terminals, platforms. Written by the parts, read by the console.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::punch::{PlatformName, TerminalId, UnixMs};

/// A terminal as last seen.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TerminalStatus {
    pub id: TerminalId,
    pub serial: String,
    /// The protocol's name in the configuration.
    pub protocol: String,
    /// The direction rule's name in the configuration.
    pub direction: String,
    /// The line's path, the MQTT peer, or empty.
    pub via: String,
    pub online: bool,
    /// Unknown and waiting for approval: nothing is taken from it.
    pub pending: bool,
    pub last_seen: Option<UnixMs>,
    pub last_punch: Option<UnixMs>,
    /// How far its clock is ahead of ours.
    pub skew_ms: Option<i64>,
    /// Firmware version, supply, journal fill …, in the terminal's own words.
    pub health: BTreeMap<String, String>,
}

/// What one platform's courier is doing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlatformStatus {
    pub name: PlatformName,
    pub profile: String,
    pub state: CourierState,
    /// In words: the last error, what it waits for, what to do.
    pub note: Option<String>,
    pub last_answer: Option<UnixMs>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum CourierState {
    /// Nothing to send, or sending.
    Running,
    /// No connection or no sensible answer; tried again with back-off.
    Unreachable,
    /// Key, permission or address refused: nothing is sent until somebody repairs it.
    Stopped,
}

#[derive(Default)]
struct State {
    intake_open: bool,
    terminals: BTreeMap<String, TerminalStatus>,
    platforms: BTreeMap<PlatformName, PlatformStatus>,
}

/// The board. Every write is short; `watch` changes after each.
pub struct Board {
    state: Mutex<State>,
    changed: watch::Sender<u64>,
}

impl Default for Board {
    fn default() -> Self {
        Board::new()
    }
}

impl Board {
    /// Nothing is known yet, and intake is closed.
    pub fn new() -> Board {
        Board { state: Mutex::default(), changed: watch::channel(0).0 }
    }

    fn change(&self, edit: impl FnOnce(&mut State)) {
        edit(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.send_modify(|n| *n += 1);
    }

    /// Says whether terminals are being served.
    pub fn set_intake_open(&self, open: bool) {
        self.change(|state| state.intake_open = open);
    }

    pub fn intake_open(&self) -> bool {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).intake_open
    }

    /// Puts a terminal on the board, or replaces what stood there for its serial.
    pub fn set_terminal(&self, status: TerminalStatus) {
        self.change(|state| {
            state.terminals.insert(status.serial.clone(), status);
        });
    }

    /// Edits a terminal's entry, if it stands.
    pub fn edit_terminal(&self, serial: &str, edit: impl FnOnce(&mut TerminalStatus)) {
        self.change(|state| {
            if let Some(status) = state.terminals.get_mut(serial) {
                edit(status);
            }
        });
    }

    /// Takes a pending terminal off the board.
    pub fn remove_terminal(&self, serial: &str) {
        self.change(|state| {
            state.terminals.remove(serial);
        });
    }

    /// All terminals, by id.
    pub fn terminals(&self) -> Vec<TerminalStatus> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<TerminalStatus> = state.terminals.values().cloned().collect();
        list.sort_by(|a, b| a.id.cmp(&b.id));
        list
    }

    /// Says how a platform's courier stands.
    pub fn set_platform(&self, status: PlatformStatus) {
        self.change(|state| {
            state.platforms.insert(status.name.clone(), status);
        });
    }

    /// All platforms, by name.
    pub fn platforms(&self) -> Vec<PlatformStatus> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).platforms.values().cloned().collect()
    }

    /// Changes after every write.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
