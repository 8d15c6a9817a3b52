//! The rules by which facts become rows. Pure but for reads of the tree: the same facts in the same order always give
//! the same rows.

use std::sync::Arc;

use super::engine::ViewError;
use super::keys::{self, SubjectKey};
use super::outboxes::{apply_job, apply_punch_step, apply_registration, enqueue_for, withdraw};
use super::rows::{self, LastSeen, Noted, PunchEntry, WorkerEntry};
use super::staging::Staging;
use crate::punch::*;
use crate::store::dedup::DedupKey;
use crate::store::keyring::Keyring;
use crate::store::ledger::reader::Locus;
use crate::store::{Forerunner, Presence, PunchRow, Totals};

/// The rules of one opening.
pub struct Rules {
    /// Platforms with an outbox, each with the first punch time it wants.
    pub platforms: rows::Platforms,
    pub keyring: Arc<Keyring>,
}

/// A fact with its place.
pub struct Placed<'f> {
    pub seq: Seq,
    pub at: Locus,
    pub fact: &'f Fact,
    /// The view certainly has no fact that is the same.
    pub is_new: bool,
}

impl Rules {
    /// Applies a whole fact other than an upload step, which is applied subject by subject.
    pub fn apply(&self, staging: &mut Staging, placed: &Placed) -> Result<(), ViewError> {
        let Placed { seq, at, fact, is_new } = *placed;
        match fact {
            Fact::Punch(_) if !is_new && is_known(staging, fact)? => Ok(()),
            Fact::Punch(punch) => apply_punch(staging, seq, at, punch),
            Fact::Judgement(judgement) => self.apply_judgement(staging, seq, at, judgement),
            Fact::Upload(step) => (0..step.subjects.len())
                .try_for_each(|index| self.apply_subject(staging, placed, step, index))
                .and_then(|()| apply_job(staging, step)),
            Fact::Worker(worker) => self.apply_worker(staging, seq, at, worker),
            Fact::Gap(gap) => apply_gap(staging, seq, gap),
            Fact::Quarantine(_) | Fact::Stranger(_) if !is_new && is_known(staging, fact)? => Ok(()),
            Fact::Quarantine(_) => apply_record(staging, seq, fact, |totals| totals.quarantined += 1),
            Fact::Stranger(_) => apply_record(staging, seq, fact, |totals| totals.strangers += 1),
            Fact::Adoption(adoption) => {
                staging.put(keys::adoption(&adoption.serial), adoption);
                Ok(())
            }
            Fact::Epoch(_) => Ok(()),
            Fact::Restoration(restoration) => {
                staging.put(keys::RESTORATION.to_vec(), &Forerunner { seq, at: restoration.at });
                Ok(())
            }
            Fact::Removal(removal) => {
                staging.put(keys::REMOVED_THROUGH.to_vec(), &removal.through);
                Ok(())
            }
            Fact::DayHead(head) => {
                staging.put(keys::day_head(head.last), &Noted { seq, at });
                Ok(())
            }
        }
    }

    fn apply_worker(&self, staging: &mut Staging, seq: Seq, at: Locus, worker: &Worker) -> Result<(), ViewError> {
        let key = keys::worker(&worker.worker_id);
        let before = staging.get::<WorkerEntry>(&key)?.and_then(|before| before.worker(&self.keyring));
        for stale in before.iter().flat_map(|before| self.index_keys(before)) {
            staging.delete(stale);
        }
        for index in self.index_keys(worker) {
            staging.put(index, &worker.worker_id);
        }
        let mut entry = WorkerEntry::new(&self.keyring, seq, at, worker);
        if rows::encode(&entry).len() > rows::MAX_VALUE {
            entry.sealed = None;
        }
        staging.put(key, &entry);
        staging.put(keys::ROSTER_VERSION.to_vec(), &seq);
        Ok(())
    }

    /// Under which keys a worker is found by a number.
    fn index_keys(&self, worker: &Worker) -> impl Iterator<Item = keys::Key> {
        let badge = worker.badge.map(|badge| keys::by_badge(&self.keyring, low24(badge), &worker.worker_id));
        [keys::by_id_number(&self.keyring, &worker.id_number, &worker.worker_id)].into_iter().chain(badge)
    }

    fn apply_judgement(
        &self,
        staging: &mut Staging,
        seq: Seq,
        at: Locus,
        judgement: &Judgement,
    ) -> Result<(), ViewError> {
        let Some(punch) = staging.seq_of(judgement.punch)? else { return Ok(()) };
        let Some(mut entry) = staging.take_punch(punch)? else { return Ok(()) };
        staging.note(punch, &mut entry.judged, Noted { seq, at });
        let before = entry.row.judgement.replace(judgement.clone());
        if judgement.verdict == Verdict::Verified {
            self.enqueue(staging, &mut entry)?;
        } else {
            for (platform, _) in &self.platforms {
                withdraw(staging, platform, &mut entry)?;
            }
        }
        let row = entry.row.clone();
        staging.put_punch(entry)?;

        count_verdict(staging, before.as_ref(), judgement)?;
        index_verdict(staging, punch, before.as_ref(), judgement);
        if let Some(before) = &before {
            forget_presence(staging, &row, before)?;
        }
        see_presence(staging, &row, judgement)
    }

    /// Puts a verified punch into every outbox that wants it and has not had it yet.
    fn enqueue(&self, staging: &mut Staging, entry: &mut PunchEntry) -> Result<(), ViewError> {
        for (platform, first) in &self.platforms {
            if first.is_none_or(|first| entry.row.time >= first) {
                enqueue_for(staging, platform, entry)?;
            }
        }
        Ok(())
    }

    /// Applies an upload step to one of its subjects.
    pub fn apply_subject(
        &self,
        staging: &mut Staging,
        placed: &Placed,
        step: &UploadStep,
        index: usize,
    ) -> Result<(), ViewError> {
        let Some(subject) = step.subjects.get(index) else { return Ok(()) };
        let Subject::Punch(id) = subject else {
            let Some(key) = SubjectKey::registration(subject) else { return Ok(()) };
            return apply_registration(staging, step, subject, &key);
        };
        let Some(punch) = staging.seq_of(*id)? else { return Ok(()) };
        let Some(mut entry) = staging.take_punch(punch)? else { return Ok(()) };
        apply_punch_step(staging, step, Noted { seq: placed.seq, at: placed.at }, &mut entry)?;
        staging.put_punch(entry)
    }
}

/// Whether the view has the same fact already: the ledger has it twice.
fn is_known(staging: &Staging, fact: &Fact) -> Result<bool, ViewError> {
    Ok(match DedupKey::of(fact) {
        Some(DedupKey::Punch(id)) => staging.seq_of(id)?.is_some(),
        Some(DedupKey::Record(digest)) => {
            staging.contains(&keys::record(digest))? || staging.base().runs.find(&digest)?.is_some()
        }
        Some(DedupKey::Worker(..)) | None => false,
    })
}

fn apply_punch(staging: &mut Staging, seq: Seq, at: Locus, punch: &Punch) -> Result<(), ViewError> {
    let row = PunchRow {
        id: punch.id,
        seq,
        terminal: punch.terminal.clone(),
        record: punch.record.as_deref().map(rows::short),
        time: punch.time,
        received_at: punch.received_at,
        direction: punch.direction,
        method: punch.method,
        photo: punch.photo,
        judgement: None,
    };
    staging.put_bytes(keys::unjudged(seq), Vec::new());
    staging.put_punch(PunchEntry { at, row, judged: Vec::new(), uploads: Vec::new() })?;
    count(staging, |totals| {
        totals.punches += 1;
        totals.unjudged += 1;
    })
}

fn count(staging: &mut Staging, change: impl FnOnce(&mut Totals)) -> Result<(), ViewError> {
    let mut totals = staging.get::<Totals>(keys::TOTALS)?.unwrap_or_default();
    change(&mut totals);
    staging.put(keys::TOTALS.to_vec(), &totals);
    Ok(())
}

fn count_verdict(staging: &mut Staging, before: Option<&Judgement>, now: &Judgement) -> Result<(), ViewError> {
    fn counter(totals: &mut Totals, verdict: Option<Verdict>) -> &mut u64 {
        match verdict {
            None => &mut totals.unjudged,
            Some(Verdict::Verified) => &mut totals.verified,
            Some(Verdict::Held(_)) => &mut totals.held,
            Some(Verdict::Rejected(_)) => &mut totals.rejected,
        }
    }
    count(staging, |totals| {
        let left = counter(totals, before.map(|before| before.verdict));
        *left = left.saturating_sub(1);
        *counter(totals, Some(now.verdict)) += 1;
    })
}

fn index_verdict(staging: &mut Staging, punch: Seq, before: Option<&Judgement>, now: &Judgement) {
    match before.map(|before| before.verdict) {
        None => staging.delete(keys::unjudged(punch)),
        Some(Verdict::Held(_)) => staging.delete(keys::held(punch)),
        Some(Verdict::Verified | Verdict::Rejected(_)) => {}
    }
    if let Verdict::Held(_) = now.verdict {
        staging.put_bytes(keys::held(punch), Vec::new());
    }
}

/// When the punch was its worker's last verified one, the one before it takes its place.
fn forget_presence(staging: &mut Staging, row: &PunchRow, before: &Judgement) -> Result<(), ViewError> {
    let (Verdict::Verified, Some(worker)) = (before.verdict, &before.worker) else { return Ok(()) };
    let key = keys::presence(worker);
    if staging.get::<LastSeen>(&key)?.is_none_or(|last| last.seq != row.seq) {
        return Ok(());
    }
    let last = staging.last_verified(worker)?;
    match last.and_then(|entry| presence(&entry.row).map(|presence| LastSeen { seq: entry.row.seq, presence })) {
        Some(last) => staging.put(key, &last),
        None => staging.delete(key),
    }
    Ok(())
}

fn see_presence(staging: &mut Staging, row: &PunchRow, now: &Judgement) -> Result<(), ViewError> {
    let (Verdict::Verified, Some(worker), Some(presence)) = (now.verdict, &now.worker, presence(row)) else {
        return Ok(());
    };
    let key = keys::presence(worker);
    let last = staging.get::<LastSeen>(&key)?;
    if last.is_none_or(|last| (last.presence.time, last.seq) <= (row.time, row.seq)) {
        staging.put(key, &LastSeen { seq: row.seq, presence });
    }
    Ok(())
}

/// What a verified punch says of where its worker is.
pub fn presence(row: &PunchRow) -> Option<Presence> {
    let judgement = row.judgement.as_ref().filter(|judgement| judgement.verdict == Verdict::Verified)?;
    Some(Presence {
        worker: judgement.worker.clone()?,
        punch: row.id,
        terminal: row.terminal.clone(),
        time: row.time,
        direction: judgement.direction,
    })
}

/// The bits of a badge that a 24-bit reader sees.
pub fn low24(badge: BadgeOnRoster) -> u32 {
    match badge {
        BadgeOnRoster::Full(badge) => badge.0 & 0xFF_FFFF,
        BadgeOnRoster::Low24(low) => low & 0xFF_FFFF,
    }
}

fn apply_gap(staging: &mut Staging, seq: Seq, gap: &Gap) -> Result<(), ViewError> {
    let short = Gap { detail: rows::short(&gap.detail), ..gap.clone() };
    staging.put(keys::gap(seq), &short);
    count(staging, |totals| totals.gaps += 1)?;
    if let Some(DedupKey::Record(digest)) = DedupKey::of(&Fact::Gap(gap.clone())) {
        staging.put(keys::record(digest), &seq);
    }
    Ok(())
}

fn apply_record(
    staging: &mut Staging,
    seq: Seq,
    fact: &Fact,
    change: impl FnOnce(&mut Totals),
) -> Result<(), ViewError> {
    let Some(DedupKey::Record(digest)) = DedupKey::of(fact) else { return Ok(()) };
    staging.put(keys::record(digest), &seq);
    count(staging, change)
}
