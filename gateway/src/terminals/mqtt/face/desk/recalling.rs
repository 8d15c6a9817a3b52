//! After a start: what the store has of each known terminal's record numbers, so that a hole is noticed though the gateway
//! was restarted in the middle of it.
//!
//! Looks back a bounded way: a terminal that has not delivered within it begins anew.

use std::collections::{HashMap, VecDeque};

use super::super::numbers::{Past, named_in};
use super::{Desk, PROTOCOL};
use crate::punch::{PunchId, TerminalId, UnixMs};
use crate::store::{PunchFilter, PunchRow, View};
use crate::terminals::hub::Terminal;

/// Facts looked back at once: the last hour of a large site.
const STEP: u64 = 8_192;
/// Facts looked back in all: its last week.
const FARTHEST: u64 = 65_536;
/// Punches read at once.
const PAGE: usize = 1_000;
/// The latest gaps, which are not told again.
const GAPS: usize = 1_000;

impl Desk {
    /// Tells each session that expects it what the store has.
    pub(super) async fn recall(&self) {
        let known = self.context.hub.terminals().into_iter().filter(|terminal| terminal.protocol == PROTOCOL);
        let known: Vec<Terminal> = known.collect();
        let pasts = self.context.store.read(move |view| pasts(view, known)).await;
        for (serial, past) in pasts {
            if let Some(entry) = self.existing(&serial) {
                self.attend(&entry, |state, now| state.session.handle_past(now, &past)).await;
            }
        }
    }
}

/// A stored record.
struct Record {
    punch: PunchId,
    number: u64,
    time: UnixMs,
}

/// The past of each of these terminals, by serial.
fn pasts(view: &View, terminals: Vec<Terminal>) -> HashMap<String, Past> {
    // A question about the roster waits until the view is whole; a listing does not.
    view.roster_version();
    let (mut records, since) = look_back(view, &terminals);
    let gaps = view.gaps(GAPS);
    let past_of = |terminal: Terminal| {
        let records = records.remove(&terminal.id).unwrap_or_default();
        let gaps = gaps.iter().filter(|(_, gap)| gap.terminal.as_ref() == Some(&terminal.id));
        let past = Past {
            records: of_serial(view, &terminal.serial, records),
            since,
            gaps: gaps.filter_map(|(_, gap)| named_in(&gap.detail, &terminal.serial)).collect(),
        };
        (terminal.serial, past)
    };
    terminals.into_iter().map(past_of).collect()
}

/// The last records of these terminals in the order of the ledger, from as far back as it takes to find one of each, and
/// when the oldest punch looked at was received, unless it is the first.
fn look_back(view: &View, terminals: &[Terminal]) -> (HashMap<TerminalId, VecDeque<Record>>, Option<UnixMs>) {
    let mut found: HashMap<TerminalId, VecDeque<Record>> = HashMap::new();
    let mut since = None;
    let mut end = view.latest(1).first().map_or(0, |row| row.seq.0);
    let floor = end.saturating_sub(FARTHEST);
    while end > floor && terminals.iter().any(|terminal| !found.contains_key(&terminal.id)) {
        let start = end.saturating_sub(STEP);
        let rows = between(view, start, end);
        since = rows.first().map(|row| row.received_at).or(since);
        for row in rows.into_iter().rev() {
            let is_wanted = terminals.iter().any(|terminal| terminal.id == row.terminal);
            let number = row.record.as_deref().and_then(|record| record.parse().ok());
            if let Some(number) = number.filter(|_| is_wanted) {
                let record = Record { punch: row.id, number, time: row.time };
                found.entry(row.terminal).or_default().push_front(record);
            }
        }
        end = start;
    }
    (found, since.filter(|_| end > 0))
}

/// The punches after `start` and up to `end`, in the order of the ledger.
fn between(view: &View, start: u64, end: u64) -> Vec<PunchRow> {
    let mut rows = Vec::new();
    let mut cursor = Some(start.to_string());
    while let Some(from) = cursor {
        let page = view.punches(&PunchFilter::default(), Some(&from), PAGE);
        let all = page.items.len();
        rows.extend(page.items.into_iter().filter(|row| row.seq.0 <= end));
        cursor = page.next.filter(|next| next.parse().is_ok_and(|next: u64| next < end) && all > 0);
    }
    rows
}

/// Those of the terminal with this serial: another may have had the same id before it.
fn of_serial(view: &View, serial: &str, records: VecDeque<Record>) -> Vec<(u64, UnixMs)> {
    let records = Vec::from(records);
    let is_anothers = |record: &Record| view.story(record.punch).is_none_or(|story| story.punch.serial != serial);
    let first = records.partition_point(is_anothers);
    records[first..].iter().map(|record| (record.number, record.time)).collect()
}
