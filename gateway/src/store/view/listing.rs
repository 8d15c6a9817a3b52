//! Pages of punches and uploads. A page walks over a bounded number of rows; when that does not fill it, it is short
//! and says where to go on.

use super::engine::ViewError;
use super::history::Runs;
use super::history::walk::{Met, Wanted, walk};
use super::keys::{self, Key, SubjectKey};
use super::merged::Merged;
use super::query::{Answer, decode};
use super::rows::UploadEntry;
use crate::punch::*;
use crate::store::{Page, PunchFilter, PunchRow, UploadRow};

/// Rows that one page looks at, at most.
const WALK: usize = 20_000;
/// What it costs to look into a run, in rows.
const RUN_WALK: usize = 32;
/// Keys of a time window that one page sorts, at most; a longer window is walked in order of sequence.
const WINDOW: usize = 100_000;

/// Punches that sled names, in order of sequence.
type Live = Box<dyn Iterator<Item = Answer<Seq>>>;

/// Punches after `after` that pass the filter, in order of sequence.
pub fn punches(view: &Merged, filter: &PunchFilter, after: Seq, limit: usize) -> Answer<Page<PunchRow>> {
    let (live, wanted) = candidates(&view.tree, filter, after)?;
    let nowhere = Runs::default();
    let (runs, wanted) = match wanted {
        Some(wanted) => (&*view.runs, wanted),
        None => (&nowhere, Wanted::default()),
    };
    let mut page = Page::default();
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
                let newer = view.newer(seq)?;
                let row = match newer.or(archived.map(|archived| archived.entry)) {
                    Some(entry) => Some(entry.row),
                    None => view.entry(seq)?.map(|entry| entry.row),
                };
                page.items.extend(row.filter(|row| passes(filter, row)));
            }
        }
    }
    Ok(page)
}

/// The punches of sled that an index names for the filter, and which of the runs are wanted: none when that index
/// names them all.
fn candidates(tree: &sled::Tree, filter: &PunchFilter, after: Seq) -> Answer<(Live, Option<Wanted>)> {
    let from = filter.from.unwrap_or(UnixMs(i64::MIN));
    let to = filter.to.map_or(UnixMs(i64::MAX), |to| to.plus_ms(-1));
    let is_timed = filter.from.is_some() || filter.to.is_some();
    let wanted = Wanted { times: is_timed.then_some((from, to)), worker: filter.worker.clone(), platform: None };
    let next = Seq(after.0.saturating_add(1));
    let last = Seq(u64::MAX);
    let indexed = if let Some(worker) = &filter.worker {
        collect(tree, keys::by_worker(worker, from, Seq(0)), keys::by_worker(worker, to, last), usize::MAX)?
    } else if filter.verdict_kind.as_deref() == Some("held") {
        match collect(tree, keys::held(next), keys::held(last), WALK)? {
            Some(held) => return Ok((Box::new(held.into_iter().map(Ok)), None)),
            None => None,
        }
    } else if filter.from.is_some() {
        collect(tree, keys::by_time(from, Seq(0)), keys::by_time(to, last), WINDOW)?
    } else {
        None
    };
    let live: Live = match indexed {
        Some(seqs) => Box::new(seqs.into_iter().filter(move |seq| *seq > after).map(Ok)),
        None => {
            let rows = tree.range(keys::row(next)..keys::after(&keys::rows()));
            Box::new(rows.keys().map(|key| keys::trailing_seq(&key?).ok_or(ViewError::Row)))
        }
    };
    Ok((live, Some(wanted)))
}

/// The sequences at the end of the keys in `from..=to`, in order; `None` when there are more than `most`.
fn collect(tree: &sled::Tree, from: Key, to: Key, most: usize) -> Answer<Option<Vec<Seq>>> {
    let mut seqs = Vec::new();
    if from > to {
        return Ok(Some(seqs));
    }
    for (walked, key) in tree.range(from..=to).keys().enumerate() {
        if walked >= most {
            return Ok(None);
        }
        seqs.extend(keys::trailing_seq(&key?));
    }
    seqs.sort_unstable();
    Ok(Some(seqs))
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
pub fn in_state(view: &Merged, platform: &PlatformName, state: UploadState) -> Answer<Vec<(Key, UploadEntry)>> {
    let prefix = keys::all_in_state(platform, state);
    let mut found = Vec::new();
    for key in view.tree.scan_prefix(&prefix).keys() {
        let subject = SubjectKey(key?[prefix.len()..].to_vec());
        if let Some(entry) = view.upload(platform, &subject)?
            && entry.row.state == state
        {
            found.push((subject.0, entry));
        }
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
        let (subject, entry) = found?;
        last = Some(subject);
        if let Some(entry) = entry.filter(|entry| state.is_none_or(|state| entry.row.state == state)) {
            page.items.push((entry.subject, entry.row));
        }
    }
    Ok(page)
}

type Found = (SubjectKey, Option<UploadEntry>);
type Subjects<'v> = Box<dyn Iterator<Item = Answer<Found>> + 'v>;

/// The subjects that may be in a state, by key, after one of them.
fn subjects<'v>(
    view: &'v Merged,
    platform: &'v PlatformName,
    state: Option<UploadState>,
    after: Option<&SubjectKey>,
) -> Subjects<'v> {
    let all = keys::uploads(platform);
    let punches = keys::punch_uploads(platform);
    let look_up = |subject: Answer<SubjectKey>| {
        let subject = subject?;
        let entry = view.upload(platform, &subject)?;
        Ok((subject, entry))
    };
    match state {
        None | Some(UploadState::Confirmed) => {
            let registrations = under(&view.tree, all, after, punches, b"").map(look_up);
            let after = after.and_then(SubjectKey::as_punch).unwrap_or_default();
            Box::new(registrations.chain(settled_punches(view, platform, after)))
        }
        Some(UploadState::Queued) => {
            let registrations = under(&view.tree, all, after, punches, b"");
            let outbox = keys::outbox(platform);
            let after = after.and_then(|key| key.0.strip_prefix(b"p")).map(|seq| SubjectKey(seq.to_vec()));
            let waiting = under(&view.tree, outbox.clone(), after.as_ref(), keys::after(&outbox), b"p");
            Box::new(registrations.chain(waiting).map(look_up))
        }
        Some(
            state @ (UploadState::Waiting
            | UploadState::Sending
            | UploadState::Accepted
            | UploadState::Refused
            | UploadState::Unknown),
        ) => {
            let indexed = keys::all_in_state(platform, state);
            Box::new(under(&view.tree, indexed.clone(), after, keys::after(&indexed), b"").map(look_up))
        }
    }
}

/// Punches after `after` that this platform has rows of, in sled or in the runs.
fn settled_punches<'v>(view: &'v Merged, platform: &'v PlatformName, after: Seq) -> Subjects<'v> {
    let (prefix, from) = (keys::punch_uploads(platform), SubjectKey::punch(Seq(after.0.saturating_add(1))));
    let live = view.tree.range(keys::upload(platform, &from)..keys::after(&prefix)).keys();
    let live = live.map(|key| keys::trailing_seq(&key?).ok_or(ViewError::Row));
    let wanted = Wanted { platform: Some(platform.clone()), ..Wanted::default() };
    Box::new(walk(&view.runs, live, after, wanted).map(move |met| {
        let (seq, archived) = match met? {
            Met::Run(before) => return Ok((SubjectKey::punch(before), None)),
            Met::Punch(seq, archived) => (seq, archived),
        };
        let subject = SubjectKey::punch(seq);
        let entry = match view.tree.get(keys::upload(platform, &subject))? {
            Some(bytes) if bytes.is_empty() => None,
            Some(bytes) => Some(decode(&bytes)?),
            None => archived.and_then(|archived| archived.upload(platform).cloned()),
        };
        Ok((subject, entry))
    }))
}

/// What follows `prefix` in the keys after `after` and before `end`, behind `mark`.
fn under(
    tree: &sled::Tree,
    prefix: Key,
    after: Option<&SubjectKey>,
    end: Key,
    mark: &'static [u8],
) -> Box<dyn Iterator<Item = Answer<SubjectKey>>> {
    let mut from = prefix.clone();
    if let Some(after) = after {
        from.extend_from_slice(&after.0);
        // The first key that is larger.
        from.push(0);
    }
    if from >= end {
        return Box::new(std::iter::empty());
    }
    Box::new(tree.range(from..end).keys().map(move |key| {
        let key = key?;
        let mut subject = mark.to_vec();
        subject.extend_from_slice(&key[prefix.len()..]);
        Ok(SubjectKey(subject))
    }))
}
