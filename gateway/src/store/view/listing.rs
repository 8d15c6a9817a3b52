//! Pages of punches and uploads. A page walks over a bounded number of rows; when that does not fill it, it is short
//! and says where to go on.

use super::engine::ViewError;
use super::keys::{self, Key, SubjectKey};
use super::query::{decode, get};
use super::rows::{PunchEntry, UploadEntry};
use crate::punch::*;
use crate::store::{Page, PunchFilter, PunchRow, UploadRow};

/// Rows that one page looks at, at most.
const WALK: usize = 20_000;
/// Keys of a time window that one page sorts, at most; a longer window is walked in order of sequence.
const WINDOW: usize = 100_000;

/// Punches after `after` that pass the filter, in order of sequence.
pub fn punches(tree: &sled::Tree, filter: &PunchFilter, after: Seq, limit: usize) -> Result<Page<PunchRow>, ViewError> {
    let rows: Box<dyn Iterator<Item = Result<PunchEntry, ViewError>>> = match candidates(tree, filter, after)? {
        Some(seqs) => Box::new(seqs.into_iter().filter_map(|seq| get(tree, &keys::row(seq)).transpose())),
        None => {
            let range = keys::row(Seq(after.0.saturating_add(1)))..keys::after(&keys::rows());
            Box::new(tree.range(range).map(|entry| decode(&entry?.1)))
        }
    };
    let mut page = Page::default();
    let mut last = after;
    for (walked, entry) in rows.enumerate() {
        if page.items.len() >= limit || walked >= WALK {
            page.next = Some(last.to_string());
            break;
        }
        let row = entry?.row;
        last = row.seq;
        if passes(filter, &row) {
            page.items.push(row);
        }
    }
    Ok(page)
}

/// The sequences that an index names for the filter; `None` when every row has to be looked at.
fn candidates(tree: &sled::Tree, filter: &PunchFilter, after: Seq) -> Result<Option<Vec<Seq>>, ViewError> {
    let from = filter.from.unwrap_or(UnixMs(i64::MIN));
    let to = filter.to.map_or(UnixMs(i64::MAX), |to| to.plus_ms(-1));
    let last = Seq(u64::MAX);
    let (range, most) = if let Some(worker) = &filter.worker {
        (keys::by_worker(worker, from, Seq(0))..=keys::by_worker(worker, to, last), usize::MAX)
    } else if filter.verdict_kind.as_deref() == Some("held") {
        (keys::held(Seq(after.0.saturating_add(1)))..=keys::held(last), WALK)
    } else if filter.from.is_some() {
        (keys::by_time(from, Seq(0))..=keys::by_time(to, last), WINDOW)
    } else {
        return Ok(None);
    };
    if range.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let mut seqs = Vec::new();
    for (walked, key) in tree.range(range).keys().enumerate() {
        if walked >= most {
            return Ok(None);
        }
        seqs.extend(keys::trailing_seq(&key?).filter(|seq| *seq > after));
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
pub fn in_state(
    tree: &sled::Tree,
    platform: &PlatformName,
    state: UploadState,
) -> Result<Vec<(Key, UploadEntry)>, ViewError> {
    let prefix = keys::all_in_state(platform, state);
    let mut found = Vec::new();
    for key in tree.scan_prefix(&prefix).keys() {
        let subject = SubjectKey(key?[prefix.len()..].to_vec());
        if let Some(entry) = get::<UploadEntry>(tree, &keys::upload(platform, &subject))?
            && entry.row.state == state
        {
            found.push((subject.0, entry));
        }
    }
    Ok(found)
}

/// Uploads after `after`, by key.
pub fn uploads(
    tree: &sled::Tree,
    platform: &PlatformName,
    state: Option<UploadState>,
    after: Option<&SubjectKey>,
    limit: usize,
) -> Result<Page<(Subject, UploadRow)>, ViewError> {
    let mut page = Page::default();
    let mut last = after.cloned();
    for (walked, subject) in subjects(tree, platform, state, after).enumerate() {
        if page.items.len() >= limit || walked >= WALK {
            page.next = last.map(|key| hex::encode(key.0));
            break;
        }
        let subject = subject?;
        let entry = get::<UploadEntry>(tree, &keys::upload(platform, &subject))?;
        last = Some(subject);
        if let Some(entry) = entry.filter(|entry| state.is_none_or(|state| entry.row.state == state)) {
            page.items.push((entry.subject, entry.row));
        }
    }
    Ok(page)
}

type Subjects<'t> = Box<dyn Iterator<Item = Result<SubjectKey, ViewError>> + 't>;

/// The subjects that may be in a state, by key, after one of them.
fn subjects<'t>(
    tree: &'t sled::Tree,
    platform: &PlatformName,
    state: Option<UploadState>,
    after: Option<&SubjectKey>,
) -> Subjects<'t> {
    let all = keys::uploads(platform);
    match state {
        None | Some(UploadState::Confirmed) => under(tree, all.clone(), after, keys::after(&all), b""),
        Some(UploadState::Queued) => {
            let registrations = under(tree, all, after, keys::punch_uploads(platform), b"");
            let outbox = keys::outbox(platform);
            let after = after.and_then(|key| key.0.strip_prefix(b"p")).map(|seq| SubjectKey(seq.to_vec()));
            let punches = under(tree, outbox.clone(), after.as_ref(), keys::after(&outbox), b"p");
            Box::new(registrations.chain(punches))
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
            under(tree, indexed.clone(), after, keys::after(&indexed), b"")
        }
    }
}

/// What follows `prefix` in the keys after `after` and before `end`, behind `mark`.
fn under<'t>(
    tree: &'t sled::Tree,
    prefix: Key,
    after: Option<&SubjectKey>,
    end: Key,
    mark: &'static [u8],
) -> Subjects<'t> {
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
