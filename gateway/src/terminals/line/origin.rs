//! From a card at a terminal to a punch. The only place on serial lines where a [`PunchId`] is derived.

use crate::config::DirectionRule;
use crate::punch::{
    BadgeOnRoster, Credential, Direction, DirectionSource, Method, Punch, PunchId, TerminalId, TerminalSays,
    TimeSource, UnixMs,
};

/// A terminal on a line, as its punches name it.
#[derive(Clone, Debug)]
pub struct Origin {
    pub terminal: TerminalId,
    pub serial: String,
    pub direction: DirectionRule,
}

/// One credential at one time, before it has an identity.
#[derive(Clone, Debug)]
pub struct Swipe {
    /// The terminal's own record number.
    pub record: Option<String>,
    /// What stands for the time in the identity: the terminal's own text, or the moment of reading.
    pub identity_time: String,
    /// The terminal's own time text; empty when it has none.
    pub time_text: String,
    pub time: UnixMs,
    pub time_source: TimeSource,
    pub received_at: UnixMs,
    pub live: bool,
    pub credential: Credential,
    pub raw: Vec<u8>,
}

impl Origin {
    /// The punch that this swipe is.
    pub fn punch(&self, swipe: Swipe) -> Punch {
        let record = swipe.record.as_deref().unwrap_or_default();
        let id = PunchId::derive(&self.serial, record, &swipe.identity_time, &person_key(&swipe.credential));
        let (direction, direction_source) = self.way();
        let method = match swipe.credential {
            Credential::Badge(_) | Credential::Badge24(_) => Method::Card,
            Credential::CustomId(_) | Credential::IdNumber(_) | Credential::TerminalPerson(_) | Credential::Text(_) => {
                Method::Other
            }
        };
        Punch {
            id,
            terminal: self.terminal.clone(),
            serial: self.serial.clone(),
            record: swipe.record,
            time: swipe.time,
            time_text: swipe.time_text,
            time_source: swipe.time_source,
            received_at: swipe.received_at,
            live: Some(swipe.live),
            skew_ms: None,
            direction,
            direction_source,
            method,
            credentials: vec![swipe.credential],
            says: TerminalSays::Nothing,
            similarity: None,
            photo: None,
            raw: swipe.raw,
        }
    }

    /// A badge reader says nothing about the way, so `terminal` leaves it unknown.
    fn way(&self) -> (Direction, DirectionSource) {
        match self.direction {
            DirectionRule::In => (Direction::In, DirectionSource::Configured),
            DirectionRule::Out => (Direction::Out, DirectionSource::Configured),
            DirectionRule::Terminal => (Direction::Unknown, DirectionSource::Terminal),
            DirectionRule::Alternate => (Direction::Unknown, DirectionSource::Alternate),
        }
    }
}

/// The credential as text, for the identity.
fn person_key(credential: &Credential) -> String {
    match credential {
        Credential::Badge(badge) => badge.to_string(),
        Credential::Badge24(low) => BadgeOnRoster::Low24(*low).to_string(),
        Credential::CustomId(text)
        | Credential::IdNumber(text)
        | Credential::TerminalPerson(text)
        | Credential::Text(text) => text.clone(),
    }
}
