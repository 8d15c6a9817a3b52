//! The open view and where it stands in the ledger: applies facts in chunks that keep the rules of the engine, each
//! with its place in the same batch.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::Recorded;
use super::dedup::DedupKey;
use super::ledger::reader::{Locus, PlacedFrame, Walk};
use super::ledger::seal::unseal;
use super::shared::Shared;
use super::view::apply::{Placed, Rules};
use super::view::engine::{CHUNK, Engine, ViewError};
use super::view::rows::{self, Applied, PlatformEntry, Platforms, PunchEntry};
use super::view::staging::Staging;
use super::view::{keys, outboxes};
use crate::punch::{Fact, PlatformName, Seq, UnixMs, UploadStep};

/// A chunk is committed when it holds this much; the rest up to [`CHUNK`] is room for the last fact.
const CHUNK_FULL: usize = CHUNK * 3 / 4;
/// A chunk holds no more facts than this: sled's readers wait while a batch is applied, and nothing that the batch
/// replaced is freed before its end. After a burst of 100 000 punches 165 MB were resident with 350 facts in a chunk,
/// and 92 MB with 64 (95 MB with 16).
const CHUNK_FACTS: usize = 64;
/// The open view and the place in the ledger that belongs to it.
pub struct Open {
    pub engine: Engine,
    pub walk: Walk,
    pub applied: Applied,
    /// The limit up to which the walk has gone.
    pub seen: Locus,
}

/// Rows of one chunk, and who is told of them.
pub struct Chunk<'t> {
    staging: Staging<'t>,
    events: Vec<Arc<Recorded>>,
    known: Vec<(DedupKey, Seq)>,
    facts: usize,
}

impl<'t> Chunk<'t> {
    pub fn new(tree: &'t sled::Tree) -> Chunk<'t> {
        Chunk { staging: Staging::new(tree), events: Vec::new(), known: Vec::new(), facts: 0 }
    }

    /// Whether it should be committed.
    pub fn is_full(&self) -> bool {
        self.staging.bytes() >= CHUNK_FULL || self.facts >= CHUNK_FACTS
    }
}

impl Open {
    pub fn load(engine: Engine) -> Result<Open, ViewError> {
        let start = Applied::nothing().next;
        let applied = match engine.tree().get(keys::APPLIED)? {
            Some(bytes) => rows::decode(&bytes).ok_or(ViewError::Row)?,
            None => Applied::nothing(),
        };
        let walk = Walk::new(Path::new("."), start, Some(start));
        Ok(Open { engine, walk, applied, seen: start })
    }

    /// An empty view: what follows fills the outboxes of these platforms by itself.
    pub fn begin(&mut self, platforms: &Platforms) -> Result<(), ViewError> {
        let tree = self.engine.tree().clone();
        let mut staging = Staging::new(&tree);
        staging.put(keys::PLATFORMS.to_vec(), platforms);
        let (batch, bytes) = staging.into_batch();
        self.engine.commit(batch, bytes)
    }

    pub fn apply<'t>(
        &mut self,
        rules: &Rules,
        shared: &Shared,
        chunk: &mut Chunk<'t>,
        tree: &'t sled::Tree,
        frame: &PlacedFrame,
        live_after: Seq,
    ) -> Result<(), ViewError> {
        let seq = Seq(frame.header.seq);
        match unseal(&frame.payload, &rules.keyring) {
            Ok(fact) => {
                let placed = Placed { seq, at: frame.at, fact: &fact };
                match &fact {
                    Fact::Upload(step) => self.apply_step(rules, shared, chunk, tree, &placed, step)?,
                    Fact::Punch(_)
                    | Fact::Judgement(_)
                    | Fact::Worker(_)
                    | Fact::Gap(_)
                    | Fact::Quarantine(_)
                    | Fact::Stranger(_)
                    | Fact::Adoption(_)
                    | Fact::Epoch(_)
                    | Fact::DayHead(_)
                    | Fact::Restoration(_) => rules.apply(&mut chunk.staging, &placed)?,
                }
                chunk.known.extend(DedupKey::of(&fact).map(|key| (key, seq)));
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
    fn apply_step<'t>(
        &mut self,
        rules: &Rules,
        shared: &Shared,
        chunk: &mut Chunk<'t>,
        tree: &'t sled::Tree,
        placed: &Placed,
        step: &UploadStep,
    ) -> Result<(), ViewError> {
        let done = self.applied.partial as usize;
        for index in done..step.subjects.len() {
            if chunk.staging.bytes() >= CHUNK_FULL {
                self.applied.partial = index as u32;
                self.commit(shared, std::mem::replace(chunk, Chunk::new(tree)))?;
            }
            rules.apply_subject(&mut chunk.staging, placed, step, index)?;
        }
        outboxes::apply_job(&mut chunk.staging, step)
    }

    pub fn commit(&mut self, shared: &Shared, chunk: Chunk) -> Result<(), ViewError> {
        let Chunk { mut staging, events, known, facts: _ } = chunk;
        let shown = rows::encode(&self.applied);
        if self.engine.tree().get(keys::APPLIED)?.is_some_and(|bytes| bytes == shown) && staging.is_empty() {
            return Ok(());
        }
        staging.put_bytes(keys::APPLIED.to_vec(), shown);
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
        let (batch, bytes) = staging.into_batch();
        self.engine.commit(batch, bytes)?;
        shared.counters.view_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Looks at some older punches for one platform; `false` when there are no more.
    pub fn fill_some(
        &mut self,
        shared: &Shared,
        tree: &sled::Tree,
        platform: &PlatformName,
        first: Option<UnixMs>,
    ) -> Result<bool, ViewError> {
        let mut staging = Staging::new(tree);
        let key = keys::platform(platform);
        let Some(counts) = staging.get::<PlatformEntry>(&key)? else { return Ok(false) };
        let Some(mut through) = counts.filled_through else { return Ok(false) };
        let mut more = false;
        for entry in tree.range(keys::row(Seq(through.0 + 1))..keys::after(&keys::rows())) {
            let (_, bytes) = entry?;
            let entry: PunchEntry = rows::decode(&bytes).ok_or(ViewError::Row)?;
            if staging.bytes() >= CHUNK_FULL {
                more = true;
                break;
            }
            through = entry.row.seq;
            if first.is_none_or(|first| entry.row.time >= first) {
                outboxes::enqueue_for(&mut staging, platform, &entry.row)?;
            }
        }
        let counts = staging.get::<PlatformEntry>(&key)?.unwrap_or_default();
        staging.put(key, &PlatformEntry { filled_through: more.then_some(through), ..counts });
        self.write(shared, staging)?;
        Ok(more)
    }
}
