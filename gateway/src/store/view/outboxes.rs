//! The rules of uploads: which punch waits in which outbox, and where each subject stands with each platform.

use super::apply::presence;
use super::engine::ViewError;
use super::keys::{self, SubjectKey};
use super::rows::{self, Noted, PlatformEntry, PunchEntry, PunchUpload, UploadEntry};
use super::staging::Staging;
use crate::punch::*;
use crate::store::{Outgoing, Presence, PunchRow, UploadRow};

/// Puts a verified punch into one outbox. A punch that this platform has had is left alone, but while it waits there
/// it leaves as it was judged last.
pub fn enqueue_for(staging: &mut Staging, platform: &PlatformName, entry: &mut PunchEntry) -> Result<(), ViewError> {
    let Some(outgoing) = outgoing(&entry.row) else { return Ok(()) };
    let before = entry.upload(platform);
    if before.is_some_and(|upload| !is_at_rest(upload.row.state)) {
        return Ok(());
    }
    staging.put(keys::outgoing(platform, entry.row.seq), &outgoing);
    if before.is_none() {
        let judgement = entry.row.judgement.as_ref();
        let queued = UploadRow::queued(judgement.map_or(entry.row.received_at, |judgement| judgement.at));
        entry.uploads.push(PunchUpload { platform: platform.clone(), row: queued, steps: Vec::new() });
        count_platform(staging, platform, |counts| counts.open += 1)?;
    }
    Ok(())
}

fn outgoing(row: &PunchRow) -> Option<Outgoing> {
    let Presence { worker, punch, terminal, time, direction } = presence(row)?;
    Some(Outgoing { seq: row.seq, punch, worker, terminal, time, direction, method: row.method, photo: row.photo })
}

/// In the outbox and not on its way.
pub fn is_at_rest(state: UploadState) -> bool {
    match state {
        UploadState::Queued | UploadState::Waiting => true,
        UploadState::Sending
        | UploadState::Accepted
        | UploadState::Confirmed
        | UploadState::Refused
        | UploadState::Unknown
        | UploadState::Withdrawn => false,
    }
}

/// Applies an upload step to one of its punches.
pub fn apply_punch_step(
    staging: &mut Staging,
    step: &UploadStep,
    fact: Noted,
    entry: &mut PunchEntry,
) -> Result<(), ViewError> {
    let punch = entry.row.seq;
    let at = entry.uploads.iter().position(|upload| upload.platform == step.platform);
    let (before, mut steps) = match at.map(|at| entry.uploads.swap_remove(at)) {
        Some(before) => (Some(before.row), before.steps),
        None => (None, Vec::new()),
    };
    staging.note(punch, &mut steps, fact);
    let row = advance(before.as_ref(), step);
    let (old, new) = (before.map(|row| row.state), row.state);
    entry.uploads.push(PunchUpload { platform: step.platform.clone(), row, steps });
    index_state(staging, &step.platform, &SubjectKey::punch(punch), old, new);
    count_receipt(staging, &step.platform, old, new)?;
    if new.is_settled() {
        return leave_outbox(staging, &step.platform, punch);
    }
    match outgoing(&entry.row) {
        Some(outgoing) => enter_outbox(staging, &step.platform, &outgoing, new),
        // It was judged again while it was on its way, and came back.
        None => withdraw(staging, &step.platform, entry),
    }
}

/// Takes a punch that does not count out of one outbox, unless it has left already.
pub fn withdraw(staging: &mut Staging, platform: &PlatformName, entry: &mut PunchEntry) -> Result<(), ViewError> {
    let is_meant = |upload: &PunchUpload| upload.platform == *platform && is_at_rest(upload.row.state);
    let Some(at) = entry.uploads.iter().position(is_meant) else { return Ok(()) };
    let punch = entry.row.seq;
    let upload = entry.uploads.swap_remove(at);
    // The platform is forgotten, and the story keeps the steps.
    staging.put_notes(punch, &upload.steps);
    if is_indexed(upload.row.state) {
        staging.delete(keys::in_state(platform, upload.row.state, &SubjectKey::punch(punch)));
    }
    leave_outbox(staging, platform, punch)
}

/// A subject's row after a step.
pub fn advance(before: Option<&UploadRow>, step: &UploadStep) -> UploadRow {
    let (state, serial, external, reason) = match &step.step {
        Step::Waiting { reason } => (UploadState::Waiting, None, None, Some(reason)),
        Step::Sending { request_hash: _ } => (UploadState::Sending, None, None, None),
        Step::Accepted { serial } => (UploadState::Accepted, Some(serial), None, None),
        Step::Confirmed { external, note } => (UploadState::Confirmed, None, external.as_ref(), note.as_ref()),
        Step::Refused { reason } => (UploadState::Refused, None, None, Some(reason)),
        Step::Requeued { reason } => (UploadState::Queued, None, None, Some(reason)),
        Step::Unknown { reason } => (UploadState::Unknown, None, None, Some(reason)),
        Step::Withdrawn { reason } => (UploadState::Withdrawn, None, None, Some(reason)),
    };
    let carried = state != UploadState::Waiting;
    let job = (step.job, step.method.clone());
    UploadRow {
        state,
        attempts: before.map_or(0, |row| row.attempts) + u32::from(state == UploadState::Sending),
        job: if carried { Some(job) } else { before.and_then(|row| row.job.clone()) },
        serial: serial.map(|text| rows::short(text)),
        external: external.map(|text| rows::short(text)).or_else(|| before.and_then(|row| row.external.clone())),
        reason: reason.map(|text| rows::short(text)),
        changed_at: step.at,
    }
}

/// States that have an index of their own: queued punches are in the outbox, and confirmed ones are the history.
fn is_indexed(state: UploadState) -> bool {
    match state {
        UploadState::Queued | UploadState::Confirmed => false,
        UploadState::Waiting
        | UploadState::Sending
        | UploadState::Accepted
        | UploadState::Refused
        | UploadState::Unknown
        | UploadState::Withdrawn => true,
    }
}

/// Applies an upload step to a registration.
pub fn apply_registration(
    staging: &mut Staging,
    step: &UploadStep,
    subject: &Subject,
    key: &SubjectKey,
) -> Result<(), ViewError> {
    let at = keys::upload(&step.platform, key);
    let before = staging.get::<UploadEntry>(&at)?.map(|entry| entry.row);
    let row = advance(before.as_ref(), step);
    index_state(staging, &step.platform, key, before.map(|row| row.state), row.state);
    staging.put(at, &UploadEntry { subject: subject.clone(), row });
    Ok(())
}

/// Keeps the index of states right.
fn index_state(
    staging: &mut Staging,
    platform: &PlatformName,
    key: &SubjectKey,
    before: Option<UploadState>,
    now: UploadState,
) {
    if before == Some(now) {
        return;
    }
    if let Some(before) = before.filter(|before| is_indexed(*before)) {
        staging.delete(keys::in_state(platform, before, key));
    }
    if is_indexed(now) {
        staging.put_bytes(keys::in_state(platform, now, key), Vec::new());
    }
}

/// While it is on its way it stays as it was sent; at rest it waits as it was judged last.
fn enter_outbox(
    staging: &mut Staging,
    platform: &PlatformName,
    outgoing: &Outgoing,
    state: UploadState,
) -> Result<(), ViewError> {
    let key = keys::outgoing(platform, outgoing.seq);
    let is_there = staging.contains(&key)?;
    if !is_there || is_at_rest(state) {
        staging.put(key, outgoing);
    }
    if !is_there {
        count_platform(staging, platform, |counts| counts.open += 1)?;
    }
    Ok(())
}

fn leave_outbox(staging: &mut Staging, platform: &PlatformName, punch: Seq) -> Result<(), ViewError> {
    let key = keys::outgoing(platform, punch);
    if staging.contains(&key)? {
        staging.delete(key);
        count_platform(staging, platform, |counts| counts.open = counts.open.saturating_sub(1))?;
    }
    Ok(())
}

fn count_receipt(
    staging: &mut Staging,
    platform: &PlatformName,
    before: Option<UploadState>,
    now: UploadState,
) -> Result<(), ViewError> {
    fn counter(counts: &mut PlatformEntry, state: UploadState) -> Option<&mut u64> {
        match state {
            UploadState::Confirmed => Some(&mut counts.confirmed),
            UploadState::Refused => Some(&mut counts.refused),
            UploadState::Queued
            | UploadState::Waiting
            | UploadState::Sending
            | UploadState::Accepted
            | UploadState::Unknown
            | UploadState::Withdrawn => None,
        }
    }
    if before == Some(now) {
        return Ok(());
    }
    count_platform(staging, platform, |counts| {
        if let Some(left) = before.and_then(|state| counter(counts, state)) {
            *left = left.saturating_sub(1);
        }
        if let Some(entered) = counter(counts, now) {
            *entered += 1;
        }
    })
}

fn count_platform(
    staging: &mut Staging,
    platform: &PlatformName,
    change: impl FnOnce(&mut PlatformEntry),
) -> Result<(), ViewError> {
    let key = keys::platform(platform);
    let mut counts = staging.get(&key)?.unwrap_or_else(|| PlatformEntry::new(platform));
    change(&mut counts);
    staging.put(key, &counts);
    Ok(())
}

/// Remembers the highest job number of the step's platform.
pub fn apply_job(staging: &mut Staging, step: &UploadStep) -> Result<(), ViewError> {
    count_platform(staging, &step.platform, |counts| counts.last_job = counts.last_job.max(step.job.0))
}
