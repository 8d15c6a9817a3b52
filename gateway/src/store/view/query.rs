//! The questions that can be asked of the view. Each costs a few page reads, whatever the length of the history.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::engine::ViewError;
use super::keys::{self, Key, SubjectKey};
use super::rows::{self, LastSeen, LaterFact, PlatformEntry, PunchEntry, UploadEntry, VerdictKind};
use super::{apply, listing};
use crate::punch::*;
use crate::store::ledger::reader::{Locus, PlacedFrame, read_frame};
use crate::store::ledger::seal::unseal;
use crate::store::shared::Shared;
use crate::store::{Depth, Outgoing, Page, Place, Presence, PunchFilter, PunchRow, Story, Totals, UploadRow};

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
    pub(super) fn glance<T: Default>(&self, query: impl Fn(&sled::Tree) -> Answer<T>) -> T {
        self.ask(query).unwrap_or_default()
    }

    /// The whole truth, if need be later: what follows from it may be a deed, so nothing is no answer. Only a store that
    /// is being closed says nothing.
    pub(super) fn settled<T: Default>(&self, query: impl Fn(&sled::Tree) -> Answer<T>) -> T {
        while self.shared.wait_caught_up() {
            if let Some(answer) = self.ask(&query) {
                return answer;
            }
        }
        T::default()
    }

    fn ask<T>(&self, query: impl Fn(&sled::Tree) -> Answer<T>) -> Option<T> {
        let tree = self.shared.tree()?;
        let error = match catch_unwind(AssertUnwindSafe(|| query(&tree))) {
            Ok(Ok(answer)) => return Some(answer),
            Ok(Err(error)) => error,
            Err(panic) => ViewError::panicked(&*panic),
        };
        tracing::error!(%error, "the view could not be read");
        self.shared.suspect(error);
        None
    }

    pub fn punch(&self, id: PunchId) -> Option<PunchRow> {
        self.glance(|tree| Ok(entry_of(tree, id)?.map(|entry| entry.row)))
    }

    /// A listing in order of ledger sequence.
    ///
    /// A page may hold fewer than `limit` punches and still have a next one: no page costs more than a bounded walk.
    pub fn punches(&self, filter: &PunchFilter, cursor: Option<&str>, limit: usize) -> Page<PunchRow> {
        let after = Seq(cursor.and_then(|cursor| cursor.parse().ok()).unwrap_or(0));
        self.glance(|tree| listing::punches(tree, filter, after, limit))
    }

    /// The most recent punches, newest first.
    pub fn latest(&self, limit: usize) -> Vec<PunchRow> {
        self.glance(|tree| {
            let rows = tree.scan_prefix(keys::rows()).rev().take(limit);
            rows.map(|entry| Ok(decode::<PunchEntry>(&entry?.1)?.row)).collect()
        })
    }

    pub fn story(&self, id: PunchId) -> Option<Story> {
        self.glance(|tree| {
            let Some(entry) = entry_of(tree, id)? else { return Ok(None) };
            let Some((frame, Fact::Punch(punch))) = self.fact(entry.at)? else { return Ok(None) };
            let place = place(&frame);
            let mut story = Story { row: entry.row, punch, place, judgements: Vec::new(), uploads: Vec::new() };
            for later in tree.scan_prefix(keys::later_facts(story.row.seq)) {
                let (key, bytes) = later?;
                let LaterFact { at } = decode(&bytes)?;
                let seq = keys::trailing_seq(&key).ok_or(ViewError::Row)?;
                match self.fact(at)? {
                    Some((_, Fact::Judgement(judgement))) => story.judgements.push((seq, judgement)),
                    Some((_, Fact::Upload(step))) => story.uploads.push((seq, step)),
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
        let punches = self.settled(|tree| self.whole(tree, keys::unjudged(Seq(0)), b"u", limit));
        punches.into_iter().map(|(_, punch)| punch).collect()
    }

    /// Held punches after `after`, oldest first, whole.
    pub fn held(&self, after: Seq, limit: usize) -> Vec<(Seq, Punch)> {
        self.settled(|tree| self.whole(tree, keys::held(Seq(after.0.saturating_add(1))), b"h", limit))
    }

    /// The punches that an index names from `from` on, from the ledger.
    fn whole(&self, tree: &sled::Tree, from: Key, index: &[u8], limit: usize) -> Answer<Vec<(Seq, Punch)>> {
        let mut punches = Vec::new();
        for key in tree.range(from..keys::after(index)).keys() {
            if punches.len() >= limit {
                break;
            }
            let Some(seq) = keys::trailing_seq(&key?) else { continue };
            let Some(entry) = get::<PunchEntry>(tree, &keys::row(seq))? else { continue };
            if let Some((_, Fact::Punch(punch))) = self.fact(entry.at)? {
                punches.push((seq, punch));
            }
        }
        Ok(punches)
    }

    /// Verified punches of a worker with punch times in `from..=to`, oldest first.
    pub fn verified_of(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> Vec<Presence> {
        self.settled(|tree| {
            let range = keys::by_worker(worker, from, Seq(0))..=keys::by_worker(worker, to, Seq(u64::MAX));
            verified(tree, range).collect()
        })
    }

    /// The worker's latest verified punch before `time`.
    pub fn last_verified_before(&self, worker: &WorkerId, time: UnixMs) -> Option<Presence> {
        self.settled(|tree| {
            let range = keys::of_worker(worker)..=keys::by_worker(worker, time.plus_ms(-1), Seq(u64::MAX));
            verified(tree, range).next_back().transpose()
        })
    }

    /// Every worker's last verified punch (by punch time) at or after `since`.
    pub fn presences(&self, since: UnixMs) -> Vec<Presence> {
        self.settled(|tree| {
            let mut presences = Vec::new();
            for entry in tree.scan_prefix(keys::presences()) {
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
        self.settled(|tree| {
            let from = keys::outgoing(platform, Seq(after.0.saturating_add(1)));
            let mut outbox = Vec::new();
            for entry in tree.range(from..keys::after(&keys::outbox(platform))).take(limit) {
                let outgoing: Outgoing = decode(&entry?.1)?;
                let key = keys::upload(platform, &SubjectKey::punch(outgoing.seq));
                // A receipt may have come between the two reads.
                let Some(entry) = get::<UploadEntry>(tree, &key)? else { continue };
                if !entry.row.state.is_settled() {
                    outbox.push((outgoing, entry.row));
                }
            }
            Ok(outbox)
        })
    }

    pub fn upload(&self, platform: &PlatformName, subject: &Subject) -> Option<UploadRow> {
        self.settled(|tree| {
            let key = match subject {
                Subject::Punch(id) => get::<Seq>(tree, &keys::punch(*id))?.map(SubjectKey::punch),
                Subject::Employer(_)
                | Subject::Team(_)
                | Subject::Worker(_)
                | Subject::Entry(..)
                | Subject::Exit(..) => SubjectKey::registration(subject),
            };
            let Some(key) = key else { return Ok(None) };
            Ok(get::<UploadEntry>(tree, &keys::upload(platform, &key))?.map(|entry| entry.row))
        })
    }

    /// Subjects of this platform that are `Sending`, `Accepted` or `Unknown`: what a restarted courier must settle.
    pub fn uploads_in_flight(&self, platform: &PlatformName) -> Vec<(Subject, UploadRow)> {
        self.settled(|tree| {
            let mut found = BTreeMap::new();
            for state in [UploadState::Sending, UploadState::Accepted, UploadState::Unknown] {
                found.extend(listing::in_state(tree, platform, state)?);
            }
            Ok(found.into_values().map(|entry| (entry.subject, entry.row)).collect())
        })
    }

    /// Subjects of this platform other than punches (registrations), with their state.
    pub fn registrations(&self, platform: &PlatformName) -> Vec<(Subject, UploadRow)> {
        self.settled(|tree| {
            let entries = tree.range(keys::uploads(platform)..keys::punch_uploads(platform));
            entries.map(|entry| decode::<UploadEntry>(&entry?.1).map(|entry| (entry.subject, entry.row))).collect()
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
        self.glance(|tree| listing::uploads(tree, platform, state, after.as_ref(), limit))
    }

    /// Punches before this one may have been uploaded without the ledger knowing: it was restored from a backup then.
    pub fn unsure_before(&self) -> Option<Seq> {
        let recorded = self.settled(|tree| get(tree, keys::RESTORATION));
        recorded.max(self.shared.restored)
    }

    pub fn depth(&self, platform: &PlatformName) -> Depth {
        self.glance(|tree| {
            let counts: PlatformEntry = get(tree, &keys::platform(platform))?.unwrap_or_default();
            let first = tree.scan_prefix(keys::outbox(platform)).next().transpose()?;
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
        JobId(self.settled(|tree| {
            let counts: PlatformEntry = get(tree, &keys::platform(platform))?.unwrap_or_default();
            Ok(counts.last_job)
        }))
    }

    /// The terminals taken over, each with its latest approval; also while the view is being built again.
    pub fn adoptions(&self) -> Vec<Adoption> {
        let not_applied = self.shared.adoptions().unwrap_or_default();
        let mut adoptions: BTreeMap<String, Adoption> = self
            .glance(|tree| {
                tree.scan_prefix(keys::adoptions()).map(|entry| decode(&entry?.1)).collect::<Answer<Vec<Adoption>>>()
            })
            .into_iter()
            .map(|adoption| (adoption.serial.clone(), adoption))
            .collect();
        adoptions.extend(not_applied.into_iter().map(|adoption| (adoption.serial.clone(), adoption)));
        adoptions.into_values().collect()
    }

    /// The latest gaps, newest first.
    pub fn gaps(&self, limit: usize) -> Vec<(Seq, Gap)> {
        self.glance(|tree| {
            let mut gaps = Vec::new();
            for entry in tree.scan_prefix(keys::gaps()).rev().take(limit) {
                let (key, bytes) = entry?;
                gaps.push((keys::trailing_seq(&key).ok_or(ViewError::Row)?, decode(&bytes)?));
            }
            Ok(gaps)
        })
    }

    /// Punches in the ledger, and how many of them are in which verdict kind (`unjudged` among them).
    pub fn totals(&self) -> Totals {
        self.glance(|tree| Ok(get(tree, keys::TOTALS)?.unwrap_or_default()))
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

fn verified(
    tree: &sled::Tree,
    range: impl std::ops::RangeBounds<Key>,
) -> impl DoubleEndedIterator<Item = Answer<Presence>> {
    let judged = tree.range(range);
    judged.filter_map(|entry| {
        let (key, kind) = match entry {
            Ok(entry) => entry,
            Err(error) => return Some(Err(error.into())),
        };
        if *kind != [VerdictKind::Verified.byte()] {
            return None;
        }
        let seq = keys::trailing_seq(&key)?;
        let row = get::<PunchEntry>(tree, &keys::row(seq));
        row.map(|entry| entry.and_then(|entry| apply::presence(&entry.row))).transpose()
    })
}

fn entry_of(tree: &sled::Tree, id: PunchId) -> Answer<Option<PunchEntry>> {
    match get::<Seq>(tree, &keys::punch(id))? {
        Some(seq) => get(tree, &keys::row(seq)),
        None => Ok(None),
    }
}

/// A row by its key.
pub fn get<T: serde::de::DeserializeOwned>(tree: &sled::Tree, key: &[u8]) -> Answer<Option<T>> {
    tree.get(key)?.map(|bytes| decode(&bytes)).transpose()
}

/// A row from its bytes.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Answer<T> {
    rows::decode(bytes).ok_or(ViewError::Row)
}
