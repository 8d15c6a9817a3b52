//! What is wrong now. An alarm is raised once, stays while the condition lasts, and is logged when it starts and ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;
use tokio::sync::watch;

use crate::clock::Clock;
use crate::punch::UnixMs;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Wrong, but nothing is lost.
    Warning,
    /// A punch may be lost, or the gateway does not take or forward punches.
    Critical,
}

/// What kind of thing is wrong; with the subject it names one alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    StoreFailing,
    StoreFull,
    StoreShort,
    StoreDamaged,
    RetentionOver,
    LineDown,
    LineUnkeyed,
    ReaderSilent,
    ReaderForged,
    ReaderTamper,
    ReaderUpdate,
    ReaderHung,
    PunchesLost,
    BrokerDown,
    TerminalOffline,
    TerminalClock,
    TerminalCloned,
    TerminalPending,
    LoginRefused,
    RecordUnreadable,
    PlatformDown,
    PlatformStopped,
    PlatformRefuses,
    PlatformUnclear,
    ClockUntrusted,
}

/// One alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alarm {
    pub kind: Kind,
    /// The terminal, line, platform or file concerned.
    pub subject: String,
    pub severity: Severity,
    pub since: UnixMs,
    /// What is wrong and what to do.
    pub text: String,
}

/// The alarms that stand.
pub struct Alarms {
    clock: Clock,
    standing: Mutex<BTreeMap<(Kind, String), Alarm>>,
    changed: watch::Sender<u64>,
}

impl Alarms {
    /// No alarm.
    pub fn new(clock: Clock) -> Alarms {
        Alarms { clock, standing: Mutex::default(), changed: watch::channel(0).0 }
    }

    /// Raises an alarm; when it stands already, only its text is renewed.
    pub fn raise(&self, severity: Severity, kind: Kind, subject: &str, text: impl Into<String>) {
        let text = text.into();
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(alarm) = standing.get_mut(&(kind, subject.to_owned())) {
            alarm.text = text;
            return;
        }
        match severity {
            Severity::Critical => tracing::error!(?kind, subject, "alarm: {text}"),
            Severity::Warning => tracing::warn!(?kind, subject, "alarm: {text}"),
        }
        let alarm = Alarm { kind, subject: subject.to_owned(), severity, since: self.clock.now(), text };
        standing.insert((kind, subject.to_owned()), alarm);
        drop(standing);
        self.changed.send_modify(|n| *n += 1);
    }

    /// Ends an alarm, if it stands.
    pub fn clear(&self, kind: Kind, subject: &str) {
        let mut standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(alarm) = standing.remove(&(kind, subject.to_owned())) else { return };
        drop(standing);
        tracing::info!(?kind, subject, since = alarm.since.0, "alarm ended");
        self.changed.send_modify(|n| *n += 1);
    }

    /// The alarms that stand, the worst first, then the oldest.
    pub fn list(&self) -> Vec<Alarm> {
        let standing = self.standing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut list: Vec<Alarm> = standing.values().cloned().collect();
        list.sort_by_key(|alarm| (std::cmp::Reverse(alarm.severity), alarm.since));
        list
    }

    /// Changes whenever an alarm begins or ends.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }
}
