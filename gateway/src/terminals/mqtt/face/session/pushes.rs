//! What a terminal pushes: records and strangers to the store, and whatever cannot be read to quarantine.

use std::time::Duration;

use super::super::super::topics::{OwnKind, Topic};
use super::super::Now;
use super::super::codec::{self, Message, PushKind};
use super::super::lenient::EchoId;
use super::super::record::{self, Record, RecordContext, Snap};
use super::storing::Waiting;
use super::{Disposal, Event, Session};
use crate::ops::alarms::{Kind, Severity};
use crate::punch::{Fact, Quarantine};

/// Keys of one terminal that are reported as unknown before it is left alone.
const MAX_UNKNOWN_KEYS: usize = 64;
/// What cannot be acknowledged comes again and again: one is kept per this interval, so that a mad terminal does not
/// fill the disk. Nothing is lost: the terminal still has the others.
const KEEP_UNACKNOWLEDGED_EVERY: Duration = Duration::from_secs(10);

impl Session {
    pub(super) fn handle_record(&mut self, now: Now, message: &Message<'_>) -> Disposal {
        let Some(terminal) = self.terminal.clone() else { return Disposal::LeftWithSender };
        self.report_unknown_keys(message);
        let record = Record::of(message);
        if record.is_live() == Some(true) {
            self.measure(now, record.time.clone());
        }
        let skew_ms = self.skew.measured();
        let context = RecordContext { terminal: &terminal, offset: self.offset, now, skew_ms };
        let Some(id) = record.id.clone() else {
            return self.quarantine(now, message.evidence(), None, "no RecordID");
        };
        match record.to_punch(&context, message.evidence()) {
            Ok(punch) => {
                self.readable_again();
                let number = id.text().parse().ok().map(|number| (number, punch.time));
                let waiting = Waiting::Push { kind: PushKind::Record, id, number };
                self.last_punch = Some(now.wall);
                self.store(waiting, Fact::Punch(punch), record.photo);
                Disposal::Done
            }
            Err(reason) => self.quarantine(now, message.evidence(), Some((PushKind::Record, id)), &reason),
        }
    }

    pub(super) fn handle_snap(&mut self, now: Now, message: &Message<'_>) -> Disposal {
        let Some(terminal) = self.terminal.clone() else { return Disposal::LeftWithSender };
        let snap = Snap::of(message);
        let context = RecordContext { terminal: &terminal, offset: self.offset, now, skew_ms: None };
        let Some(id) = snap.id.clone() else {
            return self.quarantine(now, message.evidence(), None, "no SnapID");
        };
        match snap.to_stranger(&context, message.evidence()) {
            Ok(stranger) => {
                let waiting = Waiting::Push { kind: PushKind::Snap, id, number: None };
                self.store(waiting, Fact::Stranger(stranger), snap.photo);
                Disposal::Done
            }
            Err(reason) => self.quarantine(now, message.evidence(), Some((PushKind::Snap, id)), &reason),
        }
    }

    /// A payload that is no message. A record whose number can be made out is acknowledged, so that those behind it move.
    pub(super) fn handle_noise(&mut self, now: Now, topic: Topic<'_>, text: &str, reason: &str) -> Disposal {
        let change = self.presence.handle_sign(now.instant);
        self.report(change);
        let id = match topic {
            Topic::Own { kind: OwnKind::Rec, .. } => codec::scan_id(text, "RecordID").map(|id| (PushKind::Record, id)),
            Topic::Own { kind: OwnKind::Snap, .. } => codec::scan_id(text, "SnapID").map(|id| (PushKind::Snap, id)),
            Topic::Own { kind: OwnKind::Ack, .. } | Topic::Shared { .. } => {
                if self.terminal.is_some() {
                    tracing::warn!(serial = self.serial, reason, "unreadable message");
                }
                return Disposal::Done;
            }
            Topic::Own { .. } => None,
        };
        self.quarantine(now, codec::evidence_of_noise(text), id, reason)
    }

    /// Keeps what cannot be read, when its terminal is known.
    pub(super) fn quarantine(
        &mut self,
        now: Now,
        raw: Vec<u8>,
        id: Option<(PushKind, EchoId)>,
        reason: &str,
    ) -> Disposal {
        let Some(terminal) = self.terminal.as_ref().map(|terminal| terminal.id.clone()) else {
            return Disposal::LeftWithSender;
        };
        let known = if id.is_some() { "kept and acknowledged" } else { "kept, cannot be acknowledged" };
        self.unreadable = true;
        let text = format!("a record is unreadable ({reason}); {known}");
        self.alarm(Severity::Warning, Kind::RecordUnreadable, text);
        if id.is_none() && !self.may_keep_unacknowledged(now) {
            return Disposal::LeftWithSender;
        }
        let fact = Fact::Quarantine(Quarantine {
            terminal: Some(terminal),
            serial: self.serial.clone(),
            record: id.as_ref().map(|(_, id)| id.text().to_owned()),
            at: now.wall,
            reason: reason.to_owned(),
            raw,
        });
        let waiting = match id {
            Some((kind, id)) => Waiting::Push { kind, id, number: None },
            None => Waiting::Silent,
        };
        self.store(waiting, fact, None);
        Disposal::Done
    }

    fn may_keep_unacknowledged(&mut self, now: Now) -> bool {
        let recently = self.kept_unacknowledged.is_some_and(|at| now.instant < at + KEEP_UNACKNOWLEDGED_EVERY);
        if !recently {
            self.kept_unacknowledged = Some(now.instant);
        }
        !recently
    }

    fn readable_again(&mut self) {
        if std::mem::take(&mut self.unreadable) {
            self.events.push_back(Event::AlarmOver { kind: Kind::RecordUnreadable });
        }
    }

    fn report_unknown_keys(&mut self, message: &Message<'_>) {
        for key in record::unknown_keys(message) {
            if self.unknown_keys.len() < MAX_UNKNOWN_KEYS && self.unknown_keys.insert(key.clone()) {
                tracing::warn!(serial = self.serial, key, "record has a key that is not understood");
            }
        }
    }
}
