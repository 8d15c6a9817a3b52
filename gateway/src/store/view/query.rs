//! The questions that can be asked of the view. Each costs a few page reads, whatever the length of the history.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::engine::ViewError;
use super::keys::{self, Key, SubjectKey};
use super::merged::Merged;
use super::rows::{self, LastSeen, PlatformEntry, UploadEntry};
use super::{apply, listing};
use crate::punch::*;
use crate::store::ledger::reader::{Locus, PlacedFrame, read_frame};
use crate::store::ledger::seal::unseal;
use crate::store::shared::Shared;
use crate::store::{
    Depth, Forerunner, Outgoing, Page, Place, Presence, PunchFilter, PunchRow, Story, Totals, UploadRow,
};

/// The read side of the store: what the follower has applied.
///
/// While the view is being built again, questions whose answer leads to a deed (outboxes, what is to be judged, the
/// roster) wait until it is whole; listings show what is there so far.
#[derive(Clone)]
pub struct View {
    pub(super) shared: Arc<Shared>,
}

pub type Answer<T> = Result<T, ViewError>;

impl View {
    pub(crate) fn new(shared: Arc<Shared>) -> View {
        View { shared }
    }

    /// What is there now.
    pub(super) fn glance<T: Default>(&self, query: impl Fn(&Merged) -> Answer<T>) -> T {
        self.ask(query).unwrap_or_default()
    }

    /// The whole truth, if need be later: what follows from it may be a deed, so nothing is no answer. Only a store that
    /// is being closed says nothing.
    pub(super) fn settled<T: Default>(&self, query: impl Fn(&Merged) -> Answer<T>) -> T {
        while self.shared.wait_caught_up() {
            if let Some(answer) = self.ask(&query) {
                return answer;
            }
        }
        T::default()
    }

    fn ask<T>(&self, query: impl Fn(&Merged) -> Answer<T>) -> Option<T> {
        let sources = self.shared.sources()?;
        let outcome = loop {
            let merged = sources.merged();
            let outcome = catch_unwind(AssertUnwindSafe(|| query(&merged)));
            // Rows may have gone from sled into a run that was not looked into.
            if sources.is_current(&merged) {
                break outcome;
            }
        };
        let error = match outcome {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error,
            Err(panic) => ViewError::panicked(&*panic),
        };
        tracing::error!(%error, "the view could not be read");
        self.shared.suspect(error);
        None
    }

    pub fn punch(&self, id: PunchId) -> Option<PunchRow> {
        self.glance(|view| Ok(view.entry_of(id)?.map(|entry| entry.row.clone())))
    }

    /// A listing in order of ledger sequence.
    ///
    /// A page may hold fewer than `limit` punches and still have a next one: no page costs more than a bounded walk.
    pub fn punches(&self, filter: &PunchFilter, cursor: Option<&str>, limit: usize) -> Page<PunchRow> {
        let after = Seq(cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(0));
        self.glance(|view| listing::punches(view, filter, after, limit))
    }

    /// The most recent punches, newest first.
    pub fn latest(&self, limit: usize) -> Vec<PunchRow> {
        self.glance(|view| {
            let mut rows = BTreeMap::new();
            for seq in view.live.latest(limit) {
                rows.extend(view.newer(seq)?.map(|entry| (seq, entry.row.clone())));
            }
            if rows.len() < limit || rows.first_key_value().is_some_and(|(seq, _)| *seq <= view.runs.through()) {
                for archived in view.runs.latest(limit)? {
                    rows.entry(archived.seq()).or_insert(archived.entry.row);
                }
            }
            Ok(rows.into_values().rev().take(limit).collect())
        })
    }

    pub fn story(&self, id: PunchId) -> Option<Story> {
        self.glance(|view| {
            let Some(entry) = view.entry_of(id)? else { return Ok(None) };
            let Some((frame, Fact::Punch(punch))) = self.fact(entry.at)? else { return Ok(None) };
            let facts = view.facts_of(&entry)?;
            let place = place(&frame);
            let mut story = Story { row: entry.row.clone(), punch, place, judgements: Vec::new(), uploads: Vec::new() };
            for noted in facts {
                match self.fact(noted.at)? {
                    Some((_, Fact::Judgement(judgement))) => story.judgements.push((noted.seq, judgement)),
                    Some((_, Fact::Upload(step))) => story.uploads.push((noted.seq, step)),
                    // Damaged since, or nothing that is told of a punch.
                    Some(_) | None => {}
                }
            }
            Ok(Some(story))
        })
    }

    pub(super) fn fact(&self, at: Locus) -> Answer<Option<(PlacedFrame, Fact)>> {
        let frame = read_frame(&self.shared.paths.ledger, at)?;
        Ok(frame.and_then(|frame| unseal(&frame.payload, &self.shared.keyring).ok().map(|fact| (frame, fact))))
    }

    /// Punches without any judgement, oldest first, whole.
    pub fn unjudged(&self, limit: usize) -> Vec<Punch> {
        let punches = self.settled(|view| self.whole(view, keys::unjudged(Seq(0)), b"u", limit));
        punches.into_iter().map(|(_, punch)| punch).collect()
    }

    /// Held punches after `after`, oldest first, whole.
    pub fn held(&self, after: Seq, limit: usize) -> Vec<(Seq, Punch)> {
        self.settled(|view| self.whole(view, keys::held(Seq(after.0.saturating_add(1))), b"h", limit))
    }

    /// The punches that an index names from `from` on, from the ledger.
    fn whole(&self, view: &Merged, from: Key, index: &[u8], limit: usize) -> Answer<Vec<(Seq, Punch)>> {
        let mut punches = Vec::new();
        let mut entries = view.entries();
        for row in view.live.range(from, &keys::after(index)) {
            if punches.len() >= limit {
                break;
            }
            let Some(seq) = keys::trailing_seq(&row?.0) else { continue };
            let Some(entry) = entries.get(seq)? else { continue };
            if let Some((_, Fact::Punch(punch))) = self.fact(entry.at)? {
                punches.push((seq, punch));
            }
        }
        Ok(punches)
    }

    /// Verified punches of a worker with punch times in `from..=to`, oldest first.
    pub fn verified_of(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> Vec<Presence> {
        self.settled(|view| {
            let mut found = Vec::new();
            for seq in view.live.by_worker(worker, from, to) {
                found.extend(view.newer(seq)?.filter(|entry| entry.is_verified(worker)));
            }
            found.extend(view.runs.verified_of(worker, from, to, |seq| view.newer(seq))?);
            found.sort_by_key(|punch| punch.place_in_time());
            found.dedup_by_key(|entry| entry.row.seq);
            Ok(found.iter().filter_map(|entry| apply::presence(&entry.row)).collect())
        })
    }

    /// The worker's latest verified punch before `time`.
    pub fn last_verified_before(&self, worker: &WorkerId, time: UnixMs) -> Option<Presence> {
        self.settled(|view| {
            // Most are asked for the time after their last punch.
            match view.live.get::<LastSeen>(&keys::presence(worker))? {
                Some(last) if last.presence.time >= time => {}
                last => return Ok(last.map(|last| last.presence)),
            }
            let to = time.plus_ms(-1);
            let mut last = None;
            for seq in view.live.by_worker(worker, UnixMs(i64::MIN), to).into_iter().rev() {
                last = view.newer(seq)?.filter(|entry| entry.is_verified(worker));
                if last.is_some() {
                    break;
                }
            }
            let archived = view.runs.last_verified(worker, to, |seq| view.newer(seq))?;
            let last = last.into_iter().chain(archived).max_by_key(|punch| punch.place_in_time());
            Ok(last.and_then(|entry| apply::presence(&entry.row)))
        })
    }

    /// Every worker's last verified punch (by punch time) at or after `since`.
    pub fn presences(&self, since: UnixMs) -> Vec<Presence> {
        self.settled(|Merged { live, .. }| {
            let mut presences = Vec::new();
            for entry in live.prefix(keys::presences()) {
                let LastSeen { seq: _, presence } = decode(&entry?.1)?;
                if presence.time >= since {
                    presences.push(presence);
                }
            }
            Ok(presences)
        })
    }

    /// Verified punches without a receipt of this platform, in ledger order, after `after`.
    pub fn outbox(&self, platform: &PlatformName, after: Seq, limit: usize) -> Vec<(Outgoing, UploadRow)> {
        self.settled(|view| {
            let from = keys::outgoing(platform, Seq(after.0.saturating_add(1)));
            let mut entries = view.entries();
            let mut outbox = Vec::new();
            for row in view.live.range(from, &keys::after(&keys::outbox(platform))).take(limit) {
                let outgoing: Outgoing = decode(&row?.1)?;
                let Some(entry) = entries.get(outgoing.seq)? else { continue };
                // A receipt may have come between the two reads.
                if let Some(upload) = entry.upload(platform).filter(|upload| !upload.row.state.is_settled()) {
                    outbox.push((outgoing, upload.row.clone()));
                }
            }
            Ok(outbox)
        })
    }

    pub fn upload(&self, platform: &PlatformName, subject: &Subject) -> Option<UploadRow> {
        self.settled(|view| {
            if let Subject::Punch(id) = subject {
                let entry = view.entry_of(*id)?;
                return Ok(entry.and_then(|entry| entry.upload(platform).map(|upload| upload.row.clone())));
            }
            let Some(key) = SubjectKey::registration(subject) else { return Ok(None) };
            let entry: Option<UploadEntry> = view.live.get(&keys::upload(platform, &key))?;
            Ok(entry.map(|entry| entry.row))
        })
    }

    /// Subjects of this platform that are `Sending`, `Accepted` or `Unknown`: what a restarted courier must settle.
    pub fn uploads_in_flight(&self, platform: &PlatformName) -> Vec<(Subject, UploadRow)> {
        self.settled(|view| {
            let mut found = BTreeMap::new();
            for state in [UploadState::Sending, UploadState::Accepted, UploadState::Unknown] {
                found.extend(listing::in_state(view, platform, state)?);
            }
            Ok(found.into_values().collect())
        })
    }

    /// Subjects of this platform other than punches (registrations), with their state.
    pub fn registrations(&self, platform: &PlatformName) -> Vec<(Subject, UploadRow)> {
        self.settled(|Merged { live, .. }| {
            let rows = live.prefix(keys::uploads(platform));
            rows.map(|row| decode::<UploadEntry>(&row?.1).map(|entry| (entry.subject, entry.row))).collect()
        })
    }

    /// For the API: all uploads of a platform, optionally in one state; registrations first, then punches in ledger
    /// order. A page may hold fewer than `limit` and still have a next one.
    pub fn uploads(
        &self,
        platform: &PlatformName,
        state: Option<UploadState>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Page<(Subject, UploadRow)> {
        let after = cursor.and_then(|cursor| hex::decode(cursor).ok()).map(SubjectKey);
        self.glance(|view| listing::uploads(view, platform, state, after.as_ref(), limit))
    }

    /// The box whose backup the data was last restored from.
    pub fn forerunner(&self) -> Option<Forerunner> {
        self.shared.forerunner.or_else(|| self.settled(|Merged { live, .. }| live.get(keys::RESTORATION)))
    }

    /// The last fact that was looked at when photos were removed.
    pub(in crate::store) fn removed_through(&self) -> Seq {
        self.settled(|Merged { live, .. }| Ok(live.get(keys::REMOVED_THROUGH)?.unwrap_or_default()))
    }

    /// A punch's photo, and when the punch was settled; `None` while it is not, and without a photo.
    pub(in crate::store) fn settled_photo(&self, id: PunchId) -> Option<(PhotoHash, UnixMs)> {
        self.settled(|view| Ok(view.entry_of(id)?.and_then(|entry| Some((entry.row.photo?, entry.settled_at()?)))))
    }

    pub fn depth(&self, platform: &PlatformName) -> Depth {
        self.glance(|Merged { live, .. }| {
            let counts = live.get(&keys::platform(platform))?.unwrap_or_else(|| PlatformEntry::new(platform));
            let first = live.prefix(keys::outbox(platform)).next().transpose()?;
            let oldest = first.map(|(_, bytes)| decode::<Outgoing>(&bytes)).transpose()?;
            Ok(Depth {
                open: counts.open,
                oldest: oldest.map(|outgoing| outgoing.time),
                confirmed: counts.confirmed,
                refused: counts.refused,
            })
        })
    }

    /// The highest job number of this platform in the ledger; 0 when there is none.
    pub fn last_job(&self, platform: &PlatformName) -> JobId {
        JobId(self.settled(|Merged { live, .. }| {
            let counts: Option<PlatformEntry> = live.get(&keys::platform(platform))?;
            Ok(counts.map_or(0, |counts| counts.last_job))
        }))
    }

    /// The terminals taken over, each with its latest approval; also while the view is being built again.
    pub fn adoptions(&self) -> Vec<Adoption> {
        let not_applied = self.shared.adoptions().unwrap_or_default();
        let mut adoptions: BTreeMap<String, Adoption> = self
            .glance(|Merged { live, .. }| {
                live.prefix(keys::adoptions()).map(|entry| decode(&entry?.1)).collect::<Answer<Vec<Adoption>>>()
            })
            .into_iter()
            .map(|adoption| (adoption.serial.clone(), adoption))
            .collect();
        adoptions.extend(not_applied.into_iter().map(|adoption| (adoption.serial.clone(), adoption)));
        adoptions.into_values().collect()
    }

    /// The latest gaps, newest first.
    pub fn gaps(&self, limit: usize) -> Vec<(Seq, Gap)> {
        self.glance(|Merged { live, .. }| {
            let mut gaps = Vec::new();
            for entry in live.range_back(keys::gaps(), &keys::after(&keys::gaps())).take(limit) {
                let (key, bytes) = entry?;
                gaps.push((keys::trailing_seq(&key).ok_or(ViewError::Row)?, decode(&bytes)?));
            }
            Ok(gaps)
        })
    }

    /// Punches in the ledger, and how many of them are in which verdict kind (`unjudged` among them).
    pub fn totals(&self) -> Totals {
        self.glance(|Merged { live, .. }| Ok(live.get(keys::TOTALS)?.unwrap_or_default()))
    }
}

fn place(frame: &PlacedFrame) -> Place {
    Place {
        seq: Seq(frame.header.seq),
        segment: frame.at.segment,
        offset: frame.at.offset,
        hash: frame.hash(),
        previous_hash: frame.header.previous,
    }
}

/// A row from its bytes.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    rows::decode(bytes).ok_or(ViewError::Row)
}
