//! Pages of punches and uploads. A page walks over a bounded number of rows; when that does not fill it, it is short
//! and says where to go on.

use std::sync::Arc;

use super::engine::ViewError;
use super::history::Runs;
use super::history::walk::{Met, Wanted, walk};
use super::keys::{self, Key, SubjectKey};
use super::live::Live;
use super::merged::Merged;
use super::query::Answer;
use super::rows::UploadEntry;
use crate::punch::*;
use crate::store::{Page, PunchFilter, PunchRow, UploadRow};

/// Rows that one page looks at, at most.
const WALK: usize = 20_000;
/// What it costs to look into a run, in rows.
const RUN_WALK: usize = 32;
/// Live punches of a time window that one page sorts, at most; a longer window is walked in order of sequence.
const WINDOW: usize = 100_000;

/// Live punches, in order of sequence.
type Seqs = Box<dyn Iterator<Item = Seq>>;

/// Punches after `after` that pass the filter, in order of sequence.
pub fn punches(view: &Merged, filter: &PunchFilter, after: Seq, limit: usize) -> Answer<Page<PunchRow>> {
    let (live, wanted) = candidates(view, filter, after)?;
    let nowhere = Runs::default();
    let (runs, wanted) = match wanted {
        Some(wanted) => (&*view.runs, wanted),
        None => (&nowhere, Wanted::default()),
    };
    let mut page = Page::default();
    let mut entries = view.entries();
    let (mut last, mut walked) = (after, 0);
    for met in walk(runs, live, after, wanted) {
        if page.items.len() >= limit || walked >= WALK {
            page.next = Some(last.to_string());
            break;
        }
        match met? {
            Met::Run(before) => {
                walked += RUN_WALK;
                last = before;
            }
            Met::Punch(seq, archived) => {
                walked += 1;
                last = seq;
                let entry = match archived {
                    Some(archived) => Some(view.newer(seq)?.unwrap_or_else(|| Arc::new(archived.entry))),
                    None => entries.get(seq)?,
                };
                page.items.extend(entry.filter(|entry| passes(filter, &entry.row)).map(|entry| entry.row.clone()));
            }
        }
    }
    Ok(page)
}

/// The live punches that an index names for the filter, and which of the archived are wanted: none when that index
/// names them all.
fn candidates(view: &Merged, filter: &PunchFilter, after: Seq) -> Answer<(Seqs, Option<Wanted>)> {
    let from = filter.from.unwrap_or(UnixMs(i64::MIN));
    let to = filter.to.map_or(UnixMs(i64::MAX), |to| to.plus_ms(-1));
    let is_timed = filter.from.is_some() || filter.to.is_some();
    let wanted = Wanted { times: is_timed.then_some((from, to)), worker: filter.worker.clone(), platform: None };
    let indexed = if let Some(worker) = &filter.worker {
        let mut seqs = view.live.by_worker(worker, from, to);
        seqs.sort_unstable();
        Some(seqs)
    } else if filter.verdict_kind.as_deref() == Some("held")
        && let Some(held) = held(&view.live, after)?
    {
        return Ok((Box::new(held.into_iter()), None));
    } else if is_timed {
        view.live.by_time(from, to, WINDOW)
    } else {
        None
    };
    let live: Seqs = match indexed {
        Some(seqs) => Box::new(seqs.into_iter().filter(move |seq| *seq > after)),
        None => Box::new(view.live_seqs(Seq(after.0.saturating_add(1)))),
    };
    Ok((live, Some(wanted)))
}

/// All held punches after `after`; `None` when they are very many.
fn held(live: &Live, after: Seq) -> Answer<Option<Vec<Seq>>> {
    let rows = live.range(keys::held(Seq(after.0.saturating_add(1))), &keys::after(b"h")).take(WALK + 1);
    let seqs: Vec<Seq> = rows.map(|row| keys::trailing_seq(&row?.0).ok_or(ViewError::Row)).collect::<Answer<_>>()?;
    Ok((seqs.len() <= WALK).then_some(seqs))
}

fn passes(filter: &PunchFilter, row: &PunchRow) -> bool {
    let judgement = row.judgement.as_ref();
    filter.from.is_none_or(|from| row.time >= from)
        && filter.to.is_none_or(|to| row.time < to)
        && filter.terminal.as_ref().is_none_or(|terminal| row.terminal == *terminal)
        && filter.worker.as_ref().is_none_or(|worker| judgement.and_then(|j| j.worker.as_ref()) == Some(worker))
        && filter.verdict_kind.as_ref().is_none_or(|kind| judgement.is_some_and(|j| j.verdict.kind() == kind))
}

/// All subjects of a platform in a state that has an index, by key.
pub fn in_state(
    view: &Merged,
    platform: &PlatformName,
    state: UploadState,
) -> Answer<Vec<(SubjectKey, (Subject, UploadRow))>> {
    let mut found = Vec::new();
    for subject in subjects(view, platform, Some(state), None) {
        let (key, upload) = subject?;
        found.extend(upload.filter(|(_, row)| row.state == state).map(|upload| (key, upload)));
    }
    Ok(found)
}

/// Uploads after `after`, by key.
pub fn uploads(
    view: &Merged,
    platform: &PlatformName,
    state: Option<UploadState>,
    after: Option<&SubjectKey>,
    limit: usize,
) -> Answer<Page<(Subject, UploadRow)>> {
    let mut page = Page::default();
    let mut last = after.cloned();
    for (walked, found) in subjects(view, platform, state, after).enumerate() {
        if page.items.len() >= limit || walked >= WALK {
            page.next = last.map(|key| hex::encode(key.0));
            break;
        }
        let (subject, upload) = found?;
        last = Some(subject);
        page.items.extend(upload.filter(|(_, row)| state.is_none_or(|state| row.state == state)));
    }
    Ok(page)
}

type Found = (SubjectKey, Option<(Subject, UploadRow)>);
type Subjects<'v> = Box<dyn Iterator<Item = Answer<Found>> + 'v>;

/// The subjects that may be in a state, by key, after one of them.
fn subjects<'v>(
    view: &'v Merged,
    platform: &'v PlatformName,
    state: Option<UploadState>,
    after: Option<&SubjectKey>,
) -> Subjects<'v> {
    let registrations = || {
        let all = keys::uploads(platform);
        let end = keys::after(&all);
        under(&view.live, all, after, end, b"")
    };
    match state {
        None | Some(UploadState::Confirmed) => {
            let after = after.and_then(SubjectKey::as_punch).unwrap_or_default();
            Box::new(look_up(view, platform, registrations()).chain(punches_of(view, platform, after)))
        }
        Some(UploadState::Queued) => {
            let outbox = keys::outbox(platform);
            let end = keys::after(&outbox);
            let after = after.and_then(|key| key.0.strip_prefix(b"p")).map(|seq| SubjectKey(seq.to_vec()));
            let waiting = under(&view.live, outbox, after.as_ref(), end, b"p");
            Box::new(look_up(view, platform, registrations().chain(waiting)))
        }
        Some(
            state @ (UploadState::Waiting
            | UploadState::Sending
            | UploadState::Accepted
            | UploadState::Refused
            | UploadState::Unknown
            | UploadState::Withdrawn),
        ) => {
            let indexed = keys::all_in_state(platform, state);
            let end = keys::after(&indexed);
            Box::new(look_up(view, platform, under(&view.live, indexed, after, end, b"")))
        }
    }
}

/// Subjects with their rows.
fn look_up<'v>(
    view: &'v Merged,
    platform: &'v PlatformName,
    subjects: impl Iterator<Item = Answer<SubjectKey>> + 'v,
) -> impl Iterator<Item = Answer<Found>> + 'v {
    let mut entries = view.entries();
    subjects.map(move |subject| {
        let subject = subject?;
        let upload = match subject.as_punch() {
            Some(seq) => entries.get(seq)?.and_then(|entry| {
                let upload = entry.upload(platform)?;
                Some((Subject::Punch(entry.row.id), upload.row.clone()))
            }),
            None => {
                let entry: Option<UploadEntry> = view.live.get(&keys::upload(platform, &subject))?;
                entry.map(|entry| (entry.subject, entry.row))
            }
        };
        Ok((subject, upload))
    })
}

/// Punches after `after`, with their rows when they were meant for this platform.
fn punches_of<'v>(view: &'v Merged, platform: &'v PlatformName, after: Seq) -> Subjects<'v> {
    let live = view.live_seqs(Seq(after.0.saturating_add(1)));
    let wanted = Wanted { platform: Some(platform.clone()), ..Wanted::default() };
    Box::new(walk(&view.runs, live, after, wanted).map(move |met| {
        let (seq, archived) = match met? {
            Met::Run(before) => return Ok((SubjectKey::punch(before), None)),
            Met::Punch(seq, archived) => (seq, archived),
        };
        let entry = view.newer(seq)?.or(archived.map(|archived| Arc::new(archived.entry)));
        let upload = entry.and_then(|entry| {
            let upload = entry.upload(platform)?;
            Some((Subject::Punch(entry.row.id), upload.row.clone()))
        });
        Ok((SubjectKey::punch(seq), upload))
    }))
}

/// What follows `prefix` in the keys after `after` and before `end`, behind `mark`.
fn under(
    live: &Live,
    prefix: Key,
    after: Option<&SubjectKey>,
    end: Key,
    mark: &'static [u8],
) -> impl Iterator<Item = Answer<SubjectKey>> + use<> {
    let mut from = prefix.clone();
    if let Some(after) = after {
        from.extend_from_slice(&after.0);
        // The first key that is larger.
        from.push(0);
    }
    live.range(from, &end).map(move |row| {
        let (key, _) = row?;
        let mut subject = mark.to_vec();
        subject.extend_from_slice(&key[prefix.len()..]);
        Ok(SubjectKey(subject))
    })
}
