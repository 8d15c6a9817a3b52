//! How far a reader's journal is durable here: punches and losses into facts, and the watermark back.
//!
//! The watermark moves only in [`Cursor::commit`], which the owner calls after the facts are durable. Gaps stand in the
//! same batch before the punches that follow them, so that the commit of one is the commit of both. A reader is told
//! only of numbers that were collected in the present session: a journal that was exchanged in between may give the
//! same numbers to other punches. What was durable before is collected once more and collapses in the store.

use protocol::{BootId, MAX_PUNCHES, Punch, Request, Seq, Status};

use super::dating::{Dated, Dating, Moment};
use super::origin::{Origin, Swipe};
use crate::punch::{self, Badge, Credential, Fact, Gap, GapKind, TimeSource, UnixMs};

/// Punches read this soon after the swipe are live.
const LIVE_MS: i64 = 10_000;

/// The watermark of one reader.
pub(super) struct Cursor {
    origin: Origin,
    boot: BootId,
    /// Durable through here; zero until something was committed in this session or the reader told its own watermark.
    durable: Seq,
    lost_recorded: u32,
    /// The reader's last answer agreed with both.
    agrees: bool,
    /// The highest number and count of drops ever collected from this journal.
    known: (Seq, u32),
    session: u64,
    storing: Option<Storing>,
    batches: u64,
    /// Gaps that wait for the next batch.
    gaps: Vec<Gap>,
}

/// What is with the store.
struct Storing {
    batch: u64,
    session: u64,
    through: Seq,
    lost: u32,
    gaps: usize,
}

/// The reader's answer to a collect.
pub(super) struct Collected<'a> {
    pub released: Seq,
    pub first: Seq,
    pub lost: u32,
    pub lost_seen: u32,
    pub punches: &'a [Punch],
}

/// Facts to be made durable, all or none.
pub(super) struct Batch {
    pub number: u64,
    pub facts: Vec<Fact>,
    /// Live punches among them, with their numbers in the reader.
    pub live: Vec<(punch::PunchId, Seq)>,
}

impl Cursor {
    pub(super) fn new(origin: Origin) -> Cursor {
        let known = (Seq(0), 0);
        let (boot, durable, lost_recorded, agrees) = (BootId(0), Seq(0), 0, false);
        let (session, batches, gaps) = (0, 0, Vec::new());
        Cursor { origin, boot, durable, lost_recorded, agrees, known, session, storing: None, batches, gaps }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    pub(super) fn is_storing(&self) -> bool {
        self.storing.is_some()
    }

    /// The question that tells the watermark.
    pub(super) fn request(&self) -> Request {
        Request::Collect { committed: self.durable, lost_seen: self.lost_recorded, limit: MAX_PUNCHES as u8 }
    }

    /// Whether the reader need not be told the watermark, and no gap waits here for its answer.
    pub(super) fn is_told(&self) -> bool {
        self.agrees && self.gaps.is_empty()
    }

    /// A session begins. A clock that was set back within a boot (`rewound`) and numbers that go backwards say that the
    /// journal is another one; tells whether it is.
    pub(super) fn greeted(&mut self, boot: BootId, status: &Status, rewound: bool, at: UnixMs) -> bool {
        let before = std::mem::replace(&mut self.boot, boot);
        self.session += 1;
        (self.durable, self.lost_recorded, self.agrees) = (Seq(0), 0, false);
        let (seq, lost) = self.known;
        if !rewound && boot >= before && status.next > seq && status.lost >= lost {
            return false;
        }
        let detail = format!(
            "after boot {}, number {} and {lost} drops came boot {} with next number {} and {} drops",
            before.0, seq.0, boot.0, status.next.0, status.lost
        );
        self.gaps.push(self.gap(GapKind::JournalLost, None, at, detail));
        self.known = (Seq(0), 0);
        true
    }

    /// Facts from an answer, if there are any and none are with the store.
    pub(super) fn collect(&mut self, collected: &Collected<'_>, dating: &Dating, now: Moment) -> Option<Batch> {
        self.agrees = collected.released >= self.durable && collected.lost_seen >= self.lost_recorded;
        if self.storing.is_some() {
            return None;
        }
        // A reader that cannot release what is durable sends it again; only its losses are news.
        let repeats = collected.released < self.durable;
        let punches = if repeats { &[] } else { collected.punches };
        self.durable = self.durable.max(collected.released);
        let mut gaps = self.gaps.clone();
        gaps.extend(if repeats { None } else { self.hole(collected, now.wall) });
        gaps.extend(self.dropped(collected, now.wall));
        if gaps.is_empty() && punches.is_empty() {
            return None;
        }
        self.batches += 1;
        let last = collected.first.0.saturating_add(punches.len() as u32).saturating_sub(1);
        let through = if repeats { self.durable } else { self.durable.max(Seq(last)) };
        let (number, session, lost) = (self.batches, self.session, collected.lost);
        self.storing = Some(Storing { batch: number, session, through, lost, gaps: self.gaps.len() });
        self.known = (self.known.0.max(through), self.known.1.max(lost));

        let mut batch = Batch { number, facts: gaps.into_iter().map(Fact::Gap).collect(), live: Vec::new() };
        for (seq, punch) in (collected.first.0..).map(Seq).zip(punches) {
            let fact = self.punch(seq, punch, dating, now);
            batch.live.extend((fact.live == Some(true)).then_some((fact.id, seq)));
            batch.facts.push(Fact::Punch(fact));
        }
        Some(batch)
    }

    fn hole(&self, collected: &Collected<'_>, at: UnixMs) -> Option<Gap> {
        let expected = collected.released.0.saturating_add(1);
        let missing = collected.first.0.checked_sub(expected).filter(|missing| *missing > 0)?;
        let detail = format!(
            "numbers {expected} to {} are damaged in the reader's journal, boot {}",
            collected.first.0 - 1,
            self.boot.0
        );
        Some(self.gap(GapKind::RecordNumbers, Some(missing), at, detail))
    }

    fn dropped(&self, collected: &Collected<'_>, at: UnixMs) -> Option<Gap> {
        let recorded = collected.lost_seen.max(self.lost_recorded);
        let missing = collected.lost.checked_sub(recorded).filter(|missing| *missing > 0)?;
        let detail = format!(
            "drops {} to {}, boot {}: the reader's journal was full",
            recorded + 1,
            collected.lost,
            self.boot.0
        );
        Some(self.gap(GapKind::JournalFull, Some(missing), at, detail))
    }

    fn gap(&self, kind: GapKind, count: Option<u32>, at: UnixMs, detail: String) -> Gap {
        Gap { terminal: Some(self.origin.terminal.clone()), at, count: count.map(u64::from), kind, detail }
    }

    fn punch(&self, seq: Seq, punch: &Punch, dating: &Dating, now: Moment) -> punch::Punch {
        let Dated { time, uncertainty_ms } = dating.date(punch, now);
        let uptime = punch.at.0.to_string();
        self.origin.punch(Swipe {
            record: Some(format!("{}:{}", punch.boot.0, seq.0)),
            identity_time: uptime.clone(),
            time_text: uptime,
            time,
            time_source: TimeSource::Uptime { uncertainty_ms },
            received_at: now.wall,
            live: self.boot == punch.boot && now.wall.since(time) < LIVE_MS,
            credential: match punch.badge {
                protocol::Badge::Full(number) => Credential::Badge(Badge(number)),
                protocol::Badge::Low24(low) => Credential::Badge24(low),
            },
            raw: postcard::to_stdvec(punch).expect("a punch of fixed size always encodes"),
        })
    }

    /// The batch is durable; says whether the reader is to be told.
    pub(super) fn commit(&mut self, batch: u64) -> bool {
        let Some(storing) = self.storing.take_if(|storing| storing.batch == batch) else { return false };
        self.gaps.drain(..storing.gaps.min(self.gaps.len()));
        if storing.session != self.session {
            return false;
        }
        self.durable = self.durable.max(storing.through);
        self.lost_recorded = self.lost_recorded.max(storing.lost);
        self.agrees = false;
        true
    }

    /// The batch was not stored; the reader still has what it stands for.
    pub(super) fn abandon(&mut self, batch: u64) -> bool {
        self.storing.take_if(|storing| storing.batch == batch).is_some()
    }
}
