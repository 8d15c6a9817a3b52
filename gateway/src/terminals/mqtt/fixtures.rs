//! A desk with a real store and one known terminal, for the tests of what stands around it.

use std::path::Path;
use std::sync::Arc;

use super::face::desk::{Desk, Link};
use super::face::session::Transmit;
use super::topics::{OwnKind, Topic, Topics};
use crate::clock::Clock;
use crate::config::DirectionRule;
use crate::ops::Ops;
use crate::store::{Store, StoreOptions};
use crate::terminals::Context;
use crate::terminals::hub::{Hub, Terminal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

pub const SERIAL: &str = "1306612";
pub const PREFIX: &str = "mqtt/face";
/// Where the terminal's records are published.
pub const RECORDS: &str = "mqtt/face/1306612/Rec";

/// The same as it is read.
pub fn records() -> Topic<'static> {
    Topic::Own { prefix: PREFIX, id: SERIAL, kind: OwnKind::Rec }
}

pub struct Site {
    pub desk: Arc<Desk>,
    pub store: Store,
    pub ops: Ops,
}

impl Site {
    pub async fn new(dir: &Path) -> Site {
        let clock = Clock::system();
        let options = StoreOptions { dir: dir.to_owned(), platforms: Vec::new() };
        let opening = clock.clone();
        let store = tokio::task::spawn_blocking(move || Store::open(options, opening)).await.unwrap().unwrap();
        let terminal = Terminal {
            id: "north-in".into(),
            protocol: "mqtt-face".to_owned(),
            serial: SERIAL.to_owned(),
            direction: DirectionRule::In,
            password: None,
        };
        let ops = Ops::new(clock.clone());
        let hub = Arc::new(Hub::new([terminal]));
        let context = Context { store: store.clone(), hub, clock, ops: ops.clone(), utc_offset: jiff::tz::offset(8) };
        let (desk, _) = Desk::new(context, Topics::new(&[PREFIX.to_owned()]));
        Site { desk, store, ops }
    }
}

/// A link and where what is sent on it arrives.
pub fn link() -> (Link, mpsc::Receiver<Transmit>) {
    let (outbound, arrived) = mpsc::channel(64);
    let cut = CancellationToken::new();
    (Link { outbound, cut, via: "127.0.0.1:40000".to_owned(), vouched: true }, arrived)
}

/// What the terminal publishes as its record of this number.
pub fn record(number: u64) -> String {
    format!(
        r#"{{"operator":"RecPush","info":{{"facesluiceId":"{SERIAL}","RecordID":"{number}","VerifyStatus":"1","customId":"W0001","time":"2026-05-06 06:58:01"}}}}"#
    )
}
