//! What sled and the history say together. For what both know, sled's word counts: the history has a punch as it was
//! when its run was made.

use std::sync::Arc;

use super::history::run::Archived;
use super::history::{History, Runs};
use super::keys::{self, SubjectKey};
use super::query::{Answer, decode, get};
use super::rows::{Noted, PlatformEntry, PunchEntry, UploadEntry};
use crate::punch::*;

/// An open view, to read from.
#[derive(Clone)]
pub struct Sources {
    pub tree: sled::Tree,
    pub history: Arc<History>,
}

impl Sources {
    pub fn merged(&self) -> Merged {
        Merged { tree: self.tree.clone(), runs: self.history.runs() }
    }

    /// Whether no run has come since. Rows are taken out of sled only after the run that holds them counts.
    pub fn is_current(&self, merged: &Merged) -> bool {
        Arc::ptr_eq(&merged.runs, &self.history.runs())
    }
}

/// Sled, and the runs of one moment.
#[derive(Clone)]
pub struct Merged {
    pub tree: sled::Tree,
    pub runs: Arc<Runs>,
}

impl Merged {
    pub fn seq_of(&self, id: PunchId) -> Answer<Option<Seq>> {
        match get(&self.tree, &keys::punch(id))? {
            Some(seq) => Ok(Some(seq)),
            None => self.runs.find(&id.0),
        }
    }

    pub fn entry(&self, seq: Seq) -> Answer<Option<PunchEntry>> {
        match self.newer(seq)? {
            Some(entry) => Ok(Some(entry)),
            None => Ok(self.runs.row(seq)?.map(|archived| archived.entry)),
        }
    }

    pub fn entry_of(&self, id: PunchId) -> Answer<Option<PunchEntry>> {
        match self.seq_of(id)? {
            Some(seq) => self.entry(seq),
            None => Ok(None),
        }
    }

    /// The row of a punch in sled, which counts more than that of a run.
    pub fn newer(&self, seq: Seq) -> Answer<Option<PunchEntry>> {
        get(&self.tree, &keys::row(seq))
    }

    pub fn upload(&self, platform: &PlatformName, subject: &SubjectKey) -> Answer<Option<UploadEntry>> {
        match self.tree.get(keys::upload(platform, subject))? {
            Some(bytes) if bytes.is_empty() => Ok(None),
            Some(bytes) => decode(&bytes).map(Some),
            None => self.archived_upload(platform, subject),
        }
    }

    /// What the history says of an upload.
    pub fn archived_upload(&self, platform: &PlatformName, subject: &SubjectKey) -> Answer<Option<UploadEntry>> {
        let Some(seq) = subject.as_punch() else { return Ok(None) };
        let archived = self.runs.row(seq)?;
        Ok(archived.and_then(|archived| archived.upload(platform).cloned()))
    }

    /// Everything that is known of a punch, but for uploads that are not settled.
    pub fn archived(&self, seq: Seq, before: Option<Archived>, platforms: &[PlatformName]) -> Answer<Option<Archived>> {
        let newer = self.newer(seq)?;
        let (old_entry, mut earlier, old_uploads) = match before {
            Some(Archived { entry, earlier, uploads }) => (Some(entry), earlier, uploads),
            None => (None, Vec::new(), Vec::new()),
        };
        let Some(entry) = newer.or(old_entry) else { return Ok(None) };
        earlier.extend(self.noted(seq)?);
        let mut uploads = Vec::new();
        for platform in platforms {
            let upload = match self.tree.get(keys::upload(platform, &SubjectKey::punch(seq)))? {
                Some(bytes) if bytes.is_empty() => None,
                Some(bytes) => Some(decode::<UploadEntry>(&bytes)?),
                None => old_uploads.iter().find(|(of, _)| of == platform).map(|(_, upload)| upload.clone()),
            };
            uploads
                .extend(upload.filter(|upload| upload.row.state.is_settled()).map(|upload| (platform.clone(), upload)));
        }
        Ok(Some(Archived { entry, earlier, uploads }))
    }

    /// Facts told of a punch, in order.
    pub fn facts_of(&self, entry: &PunchEntry) -> Answer<Vec<Noted>> {
        let seq = entry.row.seq;
        let mut facts = entry.judged.clone();
        facts.extend(self.noted(seq)?);
        let archived = self.runs.row(seq)?;
        facts.extend(archived.iter().flat_map(|archived| &archived.earlier));
        for platform in self.platforms()? {
            let upload = self.upload(&platform, &SubjectKey::punch(seq))?;
            facts.extend(upload.into_iter().flat_map(|upload| upload.steps));
        }
        facts.sort_unstable_by_key(|fact| fact.seq);
        facts.dedup();
        Ok(facts)
    }

    /// Facts told of a punch that sled keeps outside of the rows they belong to.
    pub fn noted(&self, seq: Seq) -> Answer<Vec<Noted>> {
        let mut noted = Vec::new();
        for entry in self.tree.scan_prefix(keys::notes(seq)) {
            noted.extend(decode::<Vec<Noted>>(&entry?.1)?);
        }
        Ok(noted)
    }

    /// Every platform that was ever told of.
    pub fn platforms(&self) -> Answer<Vec<PlatformName>> {
        let entries = self.tree.scan_prefix(keys::platforms());
        entries.map(|entry| Ok(decode::<PlatformEntry>(&entry?.1)?.name)).collect()
    }
}
