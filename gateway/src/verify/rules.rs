//! What a punch counts for.
//!
//! The first row that applies is the verdict:
//!
//! | # | if | verdict |
//! |---|---|---|
//! | 1 | the terminal refused the person | rejected `refused-by-terminal` |
//! | 2 | the terminal does not know the person | rejected `not-enrolled` |
//! | 3 | the match score is below `min_similarity` | rejected `low-similarity` |
//! | 4 | no credential names a worker of the roster | held `unknown-worker` |
//! | 5 | the time cannot be trusted | held `clock-suspect` |
//! | 6 | the day is after `left_on` | rejected `left` |
//! | 7 | the day is before `entered_on` | held `before-entry` |
//! | 8 | it is not known which way the worker went | held `direction-unknown` |
//! | 9 | the same worker went the same way within `duplicate_window` | rejected `duplicate` |
//! | 10 | otherwise | verified |
//!
//! A suspect time comes before the days, because a rejection waits for nobody and is looked at again only when its
//! worker's roster entry changes: a terminal whose clock stands at 2099 must not make workers "left". Days are calendar
//! days of the site, first and last included. A punch is a duplicate of one that counts already, on whatever terminal,
//! earlier or later; what was judged first is kept.
//!
//! At a terminal that alternates, the worker's last punch of the same work-day (from 04:00) decides: none or `out` makes
//! `in`, `in` makes `out`. A second touch within `duplicate_window` goes the same way as the first and is its duplicate.

use jiff::Timestamp;
use jiff::civil::{Date, DateTime};
use jiff::tz::Offset;

use super::RULE_VERSION;
use crate::clock::EARLIEST_TRUSTED;
use crate::config::Verify;
use crate::punch::*;
use crate::roster::id_number::IdNumber;
use crate::store::Presence;

/// 2020-01-01T00:00:00Z: a terminal that says an earlier time has lost its clock.
const EARLIEST_PLAUSIBLE: UnixMs = UnixMs(1_577_836_800_000);
/// A punch from further ahead was not made at that time.
const LARGEST_LEAD_MS: i64 = 10 * 60 * 1000;
/// Work-days begin at this hour.
const DAY_CUT_HOUR: i8 = 4;

/// By what a punch may name a worker of the roster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Claim {
    WorkerId(WorkerId),
    /// 18 characters, right.
    IdNumber(String),
    Badge(Badge),
    Badge24(u32),
}

/// What to look up for a punch, in this order: `customId` as worker id, `customId` as identity number, identity card,
/// badge. The first that finds a worker counts.
pub fn claims(punch: &Punch) -> Vec<Claim> {
    let id_number = |text: &str| Some(Claim::IdNumber(IdNumber::recognise(text).ok()?.as_str().to_owned()));
    let mut ranked = Vec::new();
    for credential in &punch.credentials {
        match credential {
            Credential::CustomId(text) => {
                ranked.push((1, Claim::WorkerId(WorkerId(text.clone()))));
                ranked.extend(id_number(text).map(|claim| (2, claim)));
            }
            Credential::IdNumber(text) => ranked.extend(id_number(text).map(|claim| (3, claim))),
            Credential::Badge(badge) => ranked.push((4, Claim::Badge(*badge))),
            Credential::Badge24(low) => ranked.push((4, Claim::Badge24(*low))),
            Credential::TerminalPerson(_) | Credential::Text(_) => {}
        }
    }
    ranked.sort_by_key(|(rank, _)| *rank);
    ranked.into_iter().map(|(_, claim)| claim).collect()
}

/// The worker whom a punch names, and the punches of this worker that count already.
#[derive(Clone, Debug)]
pub struct Matched {
    pub worker: Worker,
    /// Verified, within the duplicate window before and after the punch, oldest first.
    pub near: Vec<Presence>,
    /// The last verified one before the punch.
    pub previous: Option<Presence>,
}

/// Judges one punch at `now`.
pub fn judge(punch: &Punch, matched: Option<&Matched>, rules: &Verify, now: UnixMs) -> Judgement {
    let (direction, direction_inferred) = direction(punch, matched, rules);
    let first = matched.and_then(|matched| kept_before(punch, matched, direction));
    let verdict = verdict(punch, matched, direction, first, rules, now);
    let is_duplicate = verdict == Verdict::Rejected(RejectedReason::Duplicate);
    Judgement {
        punch: punch.id,
        at: now,
        verdict,
        rule_version: RULE_VERSION,
        worker: matched.map(|matched| matched.worker.worker_id.clone()),
        direction,
        direction_inferred,
        duplicate_of: first.filter(|_| is_duplicate).map(|first| first.punch),
    }
}

fn verdict(
    punch: &Punch,
    matched: Option<&Matched>,
    direction: Direction,
    first: Option<&Presence>,
    rules: &Verify,
    now: UnixMs,
) -> Verdict {
    match punch.says {
        TerminalSays::Refused(_) => return Verdict::Rejected(RejectedReason::RefusedByTerminal),
        TerminalSays::NotEnrolled => return Verdict::Rejected(RejectedReason::NotEnrolled),
        TerminalSays::Allowed | TerminalSays::Nothing => {}
    }
    if punch.similarity.is_some_and(|score| score.is_nan() || score < rules.min_similarity) {
        return Verdict::Rejected(RejectedReason::LowSimilarity);
    }
    let Some(matched) = matched else { return Verdict::Held(HeldReason::UnknownWorker) };
    let Some(day) = site_day(punch.time, rules.utc_offset).filter(|_| !is_clock_suspect(punch, rules, now)) else {
        return Verdict::Held(HeldReason::ClockSuspect);
    };
    if matched.worker.left_on.is_some_and(|left| day > left) {
        return Verdict::Rejected(RejectedReason::Left);
    }
    if matched.worker.entered_on.is_some_and(|entered| day < entered) {
        return Verdict::Held(HeldReason::BeforeEntry);
    }
    if direction == Direction::Unknown {
        return Verdict::Held(HeldReason::DirectionUnknown);
    }
    if first.is_some() {
        return Verdict::Rejected(RejectedReason::Duplicate);
    }
    Verdict::Verified
}

/// The direction that counts, and whether it was inferred.
fn direction(punch: &Punch, matched: Option<&Matched>, rules: &Verify) -> (Direction, bool) {
    match (punch.direction_source, matched) {
        (DirectionSource::Configured | DirectionSource::Terminal, _) => (punch.direction, false),
        (DirectionSource::Alternate, None) => (Direction::Unknown, false),
        (DirectionSource::Alternate, Some(matched)) => (by_turns(punch, matched, rules), true),
    }
}

fn by_turns(punch: &Punch, matched: &Matched, rules: &Verify) -> Direction {
    if let Some(touched) = matched.near.iter().find(|near| near.punch != punch.id) {
        return touched.direction;
    }
    let day_start = work_day_start(punch.time, rules.utc_offset);
    let today = |previous: &&Presence| day_start.is_some_and(|start| previous.time >= start);
    match matched.previous.as_ref().filter(today).map(|previous| previous.direction) {
        Some(Direction::In) => Direction::Out,
        Some(Direction::Out | Direction::Unknown) | None => Direction::In,
    }
}

/// The punch that counts already and of which this one is a duplicate.
fn kept_before<'m>(punch: &Punch, matched: &'m Matched, direction: Direction) -> Option<&'m Presence> {
    matched.near.iter().find(|near| near.direction == direction && near.punch != punch.id)
}

/// Whether the punch's time may be wrong by more than can be let pass. What was received while the gateway's own clock
/// stood in the past says nothing about the terminal's; then it is compared with `now`, once that is right.
fn is_clock_suspect(punch: &Punch, rules: &Verify, now: UnixMs) -> bool {
    let received_in_time = punch.received_at >= EARLIEST_TRUSTED;
    match punch.time_source {
        TimeSource::Terminal if received_in_time => {
            let limit = rules.clock_suspect.as_millis() as i64;
            punch.skew_ms.is_some_and(|skew| skew.saturating_abs() > limit)
                || is_implausible(punch.time, punch.received_at)
        }
        TimeSource::Terminal => now < EARLIEST_TRUSTED || is_implausible(punch.time, now),
        // A reader's earlier boot that nobody heard can be dated badly or not at all: a guess is no work-day.
        TimeSource::Uptime { uncertainty_ms } if u128::from(uncertainty_ms) > rules.clock_suspect.as_millis() => true,
        TimeSource::Uptime { .. } | TimeSource::Gateway => {
            !received_in_time || is_implausible(punch.time, punch.received_at)
        }
    }
}

fn is_implausible(time: UnixMs, reference: UnixMs) -> bool {
    time < EARLIEST_PLAUSIBLE || time > reference.plus_ms(LARGEST_LEAD_MS)
}

/// The calendar day of the site; `None` when the time lies outside every calendar.
fn site_day(time: UnixMs, offset: Offset) -> Option<Date> {
    site_time(time, offset).map(|time| time.date())
}

/// The last 04:00 at or before `time`.
fn work_day_start(time: UnixMs, offset: Offset) -> Option<UnixMs> {
    let local = site_time(time, offset)?;
    let day = if local.hour() < DAY_CUT_HOUR { local.date().yesterday().ok()? } else { local.date() };
    let start = offset.to_timestamp(day.at(DAY_CUT_HOUR, 0, 0, 0)).ok()?;
    Some(UnixMs(start.as_millisecond()))
}

fn site_time(time: UnixMs, offset: Offset) -> Option<DateTime> {
    Timestamp::from_millisecond(time.0).ok().map(|at| offset.to_datetime(at))
}

#[cfg(test)]
#[path = "rules_tests.rs"]
mod tests;
