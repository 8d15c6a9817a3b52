//! What a line tells the people: board, alarms, metrics, and a log line when something changes.

use std::collections::BTreeMap;

use protocol::{BootId, StartCause, Status};

use super::listing::Listed;
use super::origin::Origin;
use super::update::Progress;
use crate::clock::Clock;
use crate::ops::Ops;
use crate::ops::alarms::{Kind, Severity};
use crate::ops::board::TerminalStatus;
use crate::ops::metrics::{LineLabel, TerminalLabel};
use crate::punch::Fact;
use crate::store::Appended;

/// The reporter of one line.
#[derive(Clone)]
pub(super) struct Report {
    pub ops: Ops,
    pub clock: Clock,
    /// The line's path as configured.
    pub line: String,
    pub protocol: &'static str,
}

impl Report {
    /// Puts a terminal on the board before it is heard.
    pub(super) fn expected(&self, origin: &Origin) {
        self.ops.board.set_terminal(TerminalStatus {
            id: origin.terminal.clone(),
            serial: origin.serial.clone(),
            protocol: self.protocol.to_owned(),
            direction: origin.direction.as_str().to_owned(),
            via: self.line.clone(),
            online: false,
            pending: false,
            last_seen: None,
            last_punch: None,
            skew_ms: None,
            health: BTreeMap::new(),
        });
    }

    pub(super) fn line_up(&self) {
        tracing::info!(line = %self.line, "line open");
        self.ops.alarms.clear(Kind::LineDown, &self.line);
    }

    pub(super) fn line_down(&self, cause: &str) {
        let text = format!("{}: {cause}; check the cable and the path; tried again by itself", self.line);
        self.ops.alarms.raise(Severity::Critical, Kind::LineDown, &self.line, text);
        self.damage("reopened", 1);
    }

    /// Says as long as the gateway runs that this reader is believed without proof.
    pub(super) fn unkeyed(&self, origin: &Origin) {
        let text = format!(
            "reader {} has no key: anyone on line {} can forge its punches; give it a key_file",
            origin.terminal, self.line
        );
        self.ops.alarms.raise(Severity::Warning, Kind::LineUnkeyed, origin.terminal.as_str(), text);
    }

    /// A reader that cannot be talked to as it is configured.
    pub(super) fn not_served(&self, origin: &Origin, reason: &str) {
        let text = format!("reader {} on line {} is not asked: {reason}", origin.terminal, self.line);
        self.ops.alarms.raise(Severity::Critical, Kind::ReaderSilent, origin.terminal.as_str(), text);
    }

    pub(super) fn online(&self, origin: &Origin, online: bool) {
        let now = self.clock.now();
        self.ops.board.edit_terminal(&origin.serial, |status| {
            status.online = online;
            status.last_seen = if online { Some(now) } else { status.last_seen };
        });
    }

    pub(super) fn greeted(&self, origin: &Origin, boot: BootId) {
        tracing::debug!(terminal = %origin.terminal, boot = boot.0, "session with reader");
        self.heard(origin);
        self.ops.board.edit_terminal(&origin.serial, |status| {
            status.health.insert("boot".to_owned(), boot.0.to_string());
        });
    }

    pub(super) fn heard(&self, origin: &Origin) {
        self.ops.alarms.clear(Kind::ReaderSilent, origin.terminal.as_str());
        self.online(origin, true);
    }

    pub(super) fn silent(&self, origin: &Origin) {
        let text = format!(
            "reader {} does not answer on line {}; check its power, address and key; it keeps its punches",
            origin.terminal, self.line
        );
        self.ops.alarms.raise(Severity::Warning, Kind::ReaderSilent, origin.terminal.as_str(), text);
        self.online(origin, false);
    }

    pub(super) fn status(&self, origin: &Origin, status: &Status) {
        let subject = origin.terminal.as_str();
        if status.tamper {
            let text = format!("the housing of reader {subject} is open");
            self.ops.alarms.raise(Severity::Warning, Kind::ReaderTamper, subject, text);
        } else {
            self.ops.alarms.clear(Kind::ReaderTamper, subject);
        }
        self.online(origin, true);
        self.ops.board.edit_terminal(&origin.serial, |board| board.health.extend(health(status)));
    }

    /// A watchdog that fired is an alarm until the reader starts for another reason: the program hung.
    pub(super) fn started(&self, origin: &Origin, cause: StartCause) {
        let subject = origin.terminal.as_str();
        if cause == StartCause::Watchdog {
            let text = format!(
                "reader {subject} hung and was started again by its watchdog; it has lost nothing; when that repeats, exchange it"
            );
            self.ops.alarms.raise(Severity::Warning, Kind::ReaderHung, subject, text);
        } else {
            self.ops.alarms.clear(Kind::ReaderHung, subject);
        }
        let cause = match cause {
            StartCause::Unknown => "unknown",
            StartCause::PowerOn => "power on",
            StartCause::BrownOut => "brown-out",
            StartCause::Watchdog => "watchdog",
            StartCause::Pin => "reset pin",
            StartCause::Software => "software",
        };
        self.ops.board.edit_terminal(&origin.serial, |status| {
            status.health.insert("started by".to_owned(), cause.to_owned());
        });
    }

    pub(super) fn attacked(&self, origin: &Origin, frames: u64) {
        let text = format!(
            "{frames} forged or replayed frames in the name of reader {}: wrong key, or somebody on line {}; none was believed",
            origin.terminal, self.line
        );
        self.ops.alarms.raise(Severity::Warning, Kind::ReaderForged, origin.terminal.as_str(), text);
    }

    pub(super) fn calm(&self, origin: &Origin) {
        self.ops.alarms.clear(Kind::ReaderForged, origin.terminal.as_str());
    }

    /// Whether the reader knows the registered badges.
    pub(super) fn listed(&self, origin: &Origin, listed: Listed) {
        let text = match listed {
            Listed::Held(fingerprints) => format!("{fingerprints} fingerprints"),
            Listed::Refused(refusal) => {
                tracing::info!(terminal = %origin.terminal, ?refusal, "the reader takes no allow-list");
                "none: the reader does not take it".to_owned()
            }
        };
        self.ops.board.edit_terminal(&origin.serial, |status| {
            status.health.insert("allow list".to_owned(), text);
        });
    }

    /// How far a new program is on its way to the reader.
    pub(super) fn updating(&self, origin: &Origin, progress: &Progress) {
        let subject = origin.terminal.as_str();
        let text = match progress {
            Progress::Sending { done, of } => format!("{done} of {of}"),
            Progress::Checking => "checking".to_owned(),
            Progress::Done { version } => format!("done: version {version}"),
            Progress::Failed(reason) => format!("failed: {reason}"),
        };
        match progress {
            Progress::Sending { .. } | Progress::Checking => tracing::debug!(terminal = subject, %text, "update"),
            Progress::Done { version } => {
                tracing::info!(terminal = subject, version, "reader updated");
                self.ops.alarms.clear(Kind::ReaderUpdate, subject);
            }
            Progress::Failed(reason) => {
                let text = format!("reader {subject} was not updated: {reason}");
                self.ops.alarms.raise(Severity::Warning, Kind::ReaderUpdate, subject, text);
            }
        }
        self.ops.board.edit_terminal(&origin.serial, |status| {
            status.health.insert("update".to_owned(), text);
        });
    }

    /// Facts of this terminal are durable. `appended` answers for the facts that were given to the store: all of them,
    /// but for gaps that were known.
    pub(super) fn stored(&self, origin: &Origin, facts: &[Fact], appended: &[Appended]) {
        let label = TerminalLabel { terminal: origin.terminal.to_string() };
        let metrics = &self.ops.metrics;
        let punches = facts.iter().filter(|fact| matches!(fact, Fact::Punch(_))).count();
        // Punches stand at the end of a batch, after the gaps.
        for appended in appended.iter().rev().take(punches) {
            let counter = if appended.new { &metrics.punches } else { &metrics.redelivered };
            counter.get_or_create(&label).inc();
        }
        for fact in facts {
            match fact {
                Fact::Punch(punch) => self.punched(origin, punch.time),
                Fact::Gap(gap) => {
                    let text = format!("{}: {}", origin.terminal, gap.detail);
                    self.ops.alarms.raise(Severity::Critical, Kind::PunchesLost, origin.terminal.as_str(), text);
                }
                Fact::Quarantine(_) => {
                    metrics.quarantined.get_or_create(&label).inc();
                }
                _ => {}
            }
        }
    }

    fn punched(&self, origin: &Origin, time: crate::punch::UnixMs) {
        let now = self.clock.now();
        self.ops.board.edit_terminal(&origin.serial, |status| {
            status.last_punch = status.last_punch.max(Some(time));
            status.last_seen = Some(now);
        });
    }

    pub(super) fn damage(&self, kind: &str, count: u64) {
        if count > 0 {
            let label = LineLabel { line: self.line.clone(), kind: kind.to_owned() };
            self.ops.metrics.line_damage.get_or_create(&label).inc_by(count);
        }
    }
}

fn health(status: &Status) -> [(String, String); 7] {
    let [major, minor, patch] = status.firmware;
    let damage = &status.damage;
    let supply = if status.supply_mv == 0 { "not measured".to_owned() } else { format!("{} mV", status.supply_mv) };
    [
        ("firmware", format!("{major}.{minor}.{patch}")),
        ("supply", supply),
        ("tamper", status.tamper.to_string()),
        ("journal", format!("{} of {}", status.journal_fill, status.journal_capacity)),
        ("dropped", status.lost.to_string()),
        ("badge noise", status.badge_noise.to_string()),
        (
            "line damage",
            format!("{} noise, {} forged, {} stale", damage.crc + damage.cobs, damage.forged, damage.stale),
        ),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}
