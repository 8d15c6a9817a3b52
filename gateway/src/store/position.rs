//! The open view and where it stands in the ledger: applies facts in chunks that keep the rules of the engine, each
//! with its place in the same batch.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::dedup::DedupKey;
use super::ledger::reader::{Locus, PlacedFrame, Walk};
use super::ledger::seal::unseal;
use super::shared::Shared;
use super::view::apply::{Placed, Rules};
use super::view::engine::{CHUNK, Engine, ViewError};
use super::view::history::History;
use super::view::history::archivist::{self, Archivist};
use super::view::history::walk::{Met, Wanted, walk};
use super::view::live::Live;
use super::view::merged::{Merged, Sources};
use super::view::rows::{self, Applied, PlatformEntry, Platforms};
use super::view::staging::Staging;
use super::view::{keys, outboxes};
use super::{Recorded, Tuning};
use crate::punch::{Fact, PlatformName, Seq, UnixMs, UploadStep};

/// A chunk is committed when it holds this much; the rest up to [`CHUNK`] is room for the last fact.
const CHUNK_FULL: usize = CHUNK * 3 / 4;
/// A chunk holds no more facts than this: sled's readers wait while a batch is applied, and nothing that the batch
/// replaced is freed before its end. After a burst of 100 000 punches 165 MB were resident with 350 facts in a chunk,
/// and 92 MB with 64 (95 MB with 16).
const CHUNK_FACTS: usize = 64;
/// What a live punch may take in sled's file, with all that belongs to it, before the file counts as too large.
const ROOM_PER_PUNCH: u64 = 4 << 10;

/// The open view and the place in the ledger that belongs to it.
pub struct Open {
    pub engine: Engine,
    pub sources: Sources,
    archivist: Archivist,
    pub walk: Walk,
    pub applied: Applied,
    /// The limit up to which the walk has gone.
    pub seen: Locus,
}

/// A database whose place another has taken.
pub struct Retired {
    engine: Engine,
    live: Arc<Live>,
}

impl Retired {
    /// Whether nobody reads from it any more.
    pub fn is_free(&self) -> bool {
        Arc::strong_count(&self.live) == 1
    }

    pub fn remove(self) {
        let Retired { engine, live } = self;
        drop(live);
        if let Err(error) = engine.retire() {
            tracing::warn!(%error, "the view's old database stays until the next start");
        }
    }
}

/// Rows of one chunk, and who is told of them.
pub struct Chunk {
    staging: Staging,
    events: Vec<Arc<Recorded>>,
    known: Vec<(DedupKey, Seq)>,
    facts: usize,
}

impl Chunk {
    pub fn new(base: Merged) -> Chunk {
        Chunk { staging: Staging::new(base), events: Vec::new(), known: Vec::new(), facts: 0 }
    }

    /// Whether it should be committed.
    pub fn is_full(&self) -> bool {
        self.staging.bytes() >= CHUNK_FULL || self.facts >= CHUNK_FACTS
    }
}

impl Open {
    /// Takes up an engine and the history in `dir`.
    pub fn load(engine: Engine, dir: &Path, tuning: &Tuning) -> Result<Open, ViewError> {
        let start = Applied::nothing().next;
        let applied = match engine.tree().get(keys::APPLIED)? {
            Some(bytes) => rows::decode(&bytes).ok_or(ViewError::Row)?,
            None => Applied::nothing(),
        };
        let walk = Walk::new(Path::new("."), start, Some(start));
        let live = Live::load(engine.tree().clone())?;
        let history = History::open(dir, &archivist::named(&live)?)?;
        let sources = Sources { live: Arc::new(live), history: Arc::new(history) };
        let mut archivist = Archivist::new(tuning.window, tuning.run_length);
        archivist.resume(&sources.merged())?;
        Ok(Open { engine, sources, archivist, walk, applied, seen: start })
    }

    /// An empty view: what follows fills the outboxes of these platforms by itself.
    pub fn begin(&mut self, platforms: &Platforms) -> Result<(), ViewError> {
        let mut staging = Staging::new(self.sources.merged());
        staging.put(keys::PLATFORMS.to_vec(), platforms);
        self.sources.live.commit(&mut self.engine, staging)?;
        Ok(())
    }

    pub fn apply(
        &mut self,
        rules: &Rules,
        shared: &Shared,
        chunk: &mut Chunk,
        frame: &PlacedFrame,
        live_after: Seq,
    ) -> Result<(), ViewError> {
        let seq = Seq(frame.header.seq);
        match unseal(&frame.payload, &rules.keyring) {
            Ok(fact) => {
                let key = DedupKey::of(&fact);
                let is_new = key.as_ref().and_then(DedupKey::digest).is_some_and(|digest| shared.excludes(digest));
                let placed = Placed { seq, at: frame.at, fact: &fact, is_new };
                match &fact {
                    Fact::Upload(step) => self.apply_step(rules, shared, chunk, &placed, step)?,
                    Fact::Punch(_)
                    | Fact::Judgement(_)
                    | Fact::Worker(_)
                    | Fact::Gap(_)
                    | Fact::Quarantine(_)
                    | Fact::Stranger(_)
                    | Fact::Adoption(_)
                    | Fact::Epoch(_)
                    | Fact::DayHead(_)
                    | Fact::Restoration(_)
                    | Fact::Removal(_) => rules.apply(&mut chunk.staging, &placed)?,
                }
                chunk.known.extend(key.map(|key| (key, seq)));
                if seq > live_after {
                    chunk.events.push(Arc::new(Recorded { seq, fact }));
                }
            }
            Err(error) => tracing::warn!(%seq, %error, "a fact cannot be read and is left out of the view"),
        }
        chunk.facts += 1;
        self.applied.seq = seq;
        self.applied.last = Some((frame.at, frame.crc));
        self.applied.next = frame.end();
        self.applied.partial = 0;
        Ok(())
    }

    /// A step may carry more subjects than fit in one chunk.
    fn apply_step(
        &mut self,
        rules: &Rules,
        shared: &Shared,
        chunk: &mut Chunk,
        placed: &Placed,
        step: &UploadStep,
    ) -> Result<(), ViewError> {
        let done = self.applied.partial as usize;
        for index in done..step.subjects.len() {
            if chunk.staging.bytes() >= CHUNK_FULL {
                self.applied.partial = index as u32;
                self.commit(shared, std::mem::replace(chunk, Chunk::new(self.sources.merged())))?;
                self.archive(shared)?;
                *chunk = Chunk::new(self.sources.merged());
            }
            rules.apply_subject(&mut chunk.staging, placed, step, index)?;
        }
        outboxes::apply_job(&mut chunk.staging, step)
    }

    pub fn commit(&mut self, shared: &Shared, chunk: Chunk) -> Result<(), ViewError> {
        let Chunk { mut staging, events, known, facts: _ } = chunk;
        if staging.get(keys::APPLIED)? == Some(self.applied) && staging.is_empty() {
            return Ok(());
        }
        staging.put(keys::APPLIED.to_vec(), &self.applied);
        self.write(shared, staging)?;
        shared.applied(self.applied.seq, &known);
        for event in events {
            // Nobody listens: nobody is missed.
            let _receivers = shared.events.send(event);
        }
        Ok(())
    }

    pub fn write(&mut self, shared: &Shared, staging: Staging) -> Result<(), ViewError> {
        if staging.is_empty() {
            return Ok(());
        }
        let written = self.sources.live.commit(&mut self.engine, staging)?;
        shared.counters.view_bytes.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    /// Makes durable what is shown. Until then a crash costs a little replay and nothing else.
    pub fn sync(&mut self, shared: &Shared) -> Result<(), ViewError> {
        let written = self.sources.live.write_out(&mut self.engine)?;
        shared.counters.view_bytes.fetch_add(written, Ordering::Relaxed);
        self.engine.sync()
    }

    /// Moves the rows to a fresh database when the file of this one is much larger than they are. Gives what readers may
    /// hold of the old one.
    pub fn renew(&mut self, shared: &Shared, slack: u64) -> Result<Option<Retired>, ViewError> {
        if !self.engine.is_bloated(slack + ROOM_PER_PUNCH * self.sources.live.count() as u64) {
            return Ok(None);
        }
        self.sync(shared)?;
        let engine = match self.engine.renewed() {
            Ok(engine) => engine,
            Err(error) => {
                tracing::warn!(%error, "the view's database stays as large as it is");
                self.engine.bear();
                return Ok(None);
            }
        };
        let live = Arc::new(Live::load(engine.tree().clone())?);
        let sources = Sources { live, history: self.sources.history.clone() };
        let old = Retired {
            engine: std::mem::replace(&mut self.engine, engine),
            live: std::mem::replace(&mut self.sources, sources).live,
        };
        shared.replace(self.sources.clone());
        Ok(Some(old))
    }

    /// Archives a little of what is no longer recent, and more when that is much.
    pub fn archive(&mut self, shared: &Shared) -> Result<(), ViewError> {
        loop {
            let written = self.archivist.turn(&mut self.engine, &self.sources)?;
            shared.counters.view_bytes.fetch_add(written, Ordering::Relaxed);
            if !self.archivist.is_busy() || !self.archivist.is_crowded(&self.sources.live) {
                return Ok(());
            }
        }
    }

    pub fn is_archiving(&self) -> bool {
        self.archivist.is_busy()
    }

    /// Looks at some older punches for one platform; `false` when there are no more.
    pub fn fill_some(
        &mut self,
        shared: &Shared,
        platform: &PlatformName,
        first: Option<UnixMs>,
    ) -> Result<bool, ViewError> {
        let view = self.sources.merged();
        let mut staging = Staging::new(view.clone());
        let key = keys::platform(platform);
        let Some(counts) = staging.get::<PlatformEntry>(&key)? else { return Ok(false) };
        let Some(mut through) = counts.filled_through else { return Ok(false) };
        let mut more = false;
        let live = view.live_seqs(Seq(through.0 + 1));
        for met in walk(&view.runs, live, through, Wanted::default()) {
            let Met::Punch(seq, archived) = met? else { continue };
            if staging.bytes() >= CHUNK_FULL {
                more = true;
                break;
            }
            through = seq;
            let newer = view.newer(seq)?.map(Arc::unwrap_or_clone);
            let entry = newer.or(archived.map(|archived| archived.entry));
            let Some(mut entry) = entry.filter(|entry| first.is_none_or(|first| entry.row.time >= first)) else {
                continue;
            };
            let before = entry.uploads.len();
            outboxes::enqueue_for(&mut staging, platform, &mut entry)?;
            if entry.uploads.len() > before {
                staging.put_punch(entry)?;
            }
        }
        let counts = staging.get(&key)?.unwrap_or_else(|| PlatformEntry::new(platform));
        staging.put(key, &PlatformEntry { filled_through: more.then_some(through), ..counts });
        self.write(shared, staging)?;
        self.archive(shared)?;
        Ok(more)
    }
}
