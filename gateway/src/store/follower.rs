//! The thread that brings the view behind the ledger: reads frames up to where the ledger is durable, applies them in
//! chunks, and tells whoever waits. It alone writes to the view; it never writes to the ledger.
//!
//! A view that does not open, panics or does not agree with the ledger is moved aside and built again from the ledger,
//! while facts are taken all the same.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::dedup::{DedupKey, Pending};
use super::ledger::reader::{Item, Locus, PlacedFrame, Walk, read_frame};
use super::ledger::seal::unseal;
use super::shared::{Shared, Work};
use super::view::apply::{self, Placed, Rules};
use super::view::engine::{self, CHUNK, Engine, ViewError};
use super::view::keys;
use super::view::rows::{self, Applied, PlatformEntry, Platforms, PunchEntry};
use super::view::staging::Staging;
use super::{Recorded, Tuning};
use crate::punch::{Adoption, Fact, PlatformName, Seq, UploadStep};

/// A chunk is committed when it holds this much; the rest up to [`CHUNK`] is room for the last fact.
const CHUNK_FULL: usize = CHUNK * 3 / 4;
/// A chunk holds no more facts than this, so that events do not come in floods.
const CHUNK_FACTS: usize = 500;
/// The view is made durable after this much rest; until then a crash costs a little replay and nothing else.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// Of the follower's thread.
const NICE: i32 = 5;
const IDLE: Duration = Duration::from_secs(30);
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// How many of the newest punches are compared with the ledger at an opening.
const SPOT_CHECKS: usize = 8;

pub struct Follower {
    shared: Arc<Shared>,
    rules: Rules,
    tuning: Tuning,
    view: Option<Open>,
    /// Facts up to this one are old news to subscribers.
    live_after: Seq,
    caught_up: bool,
}

/// The open view and the place in the ledger that belongs to it.
struct Open {
    engine: Engine,
    walk: Walk,
    applied: Applied,
    /// The limit up to which the walk has gone.
    seen: Locus,
}

/// Rows of one chunk, and who is told of them.
struct Chunk<'t> {
    staging: Staging<'t>,
    events: Vec<Arc<Recorded>>,
    known: Vec<(DedupKey, Seq)>,
}

impl<'t> Chunk<'t> {
    fn new(tree: &'t sled::Tree) -> Chunk<'t> {
        Chunk { staging: Staging::new(tree), events: Vec::new(), known: Vec::new() }
    }

    fn is_full(&self) -> bool {
        self.staging.bytes() >= CHUNK_FULL || self.events.len() >= CHUNK_FACTS
    }
}

impl Follower {
    pub fn new(shared: Arc<Shared>, platforms: Platforms, tuning: Tuning) -> Follower {
        let live_after = shared.durable().1;
        Follower { shared, rules: Rules { platforms }, tuning, view: None, live_after, caught_up: false }
    }

    /// Opens the view, or makes a new one when it cannot be used. Returns why, if so.
    pub fn open(&mut self) -> Option<ViewError> {
        let trouble = match guarded(|| self.attach()) {
            Ok(()) => None,
            Err(error) => {
                self.give_up(&error);
                if let Err(error) = guarded(|| self.attach()) {
                    tracing::error!(%error, "the view does not open");
                }
                Some(error)
            }
        };
        let near = self.behind().is_some_and(|behind| behind <= self.tuning.catch_up_at_open);
        let caught_up = near && self.try_catch_up();
        if !caught_up && let Err(error) = self.prime() {
            tracing::error!(%error, "the ledger cannot be read to find what the view lacks");
        }
        trouble
    }

    /// Works until the store is closed.
    pub fn run(mut self) {
        // On Linux this is about the calling thread: whoever waits for an acknowledgement comes first.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "the follower runs as everybody else");
        }
        let mut back_off = BACK_OFF_MIN;
        loop {
            match guarded(|| self.step()) {
                Ok(true) => back_off = BACK_OFF_MIN,
                Ok(false) => break,
                Err(error) => {
                    tracing::error!(%error, "the view cannot be used; facts are safe in the ledger");
                    self.give_up(&error);
                    if self.shared.pause(back_off) {
                        break;
                    }
                    back_off = (back_off * 2).min(BACK_OFF_MAX);
                }
            }
        }
        self.shared.set_tree(None);
    }

    /// One turn; `false` at the end of the store.
    fn step(&mut self) -> Result<bool, ViewError> {
        if self.view.is_none() {
            self.attach()?;
            self.prime()?;
        }
        if !self.caught_up {
            self.catch_up()?;
            return Ok(!self.shared.is_closing());
        }
        let Some(view) = &mut self.view else { return Err(ViewError::NotOpen) };
        let patience = if view.engine.is_dirty() { SYNC_AFTER } else { IDLE };
        match self.shared.wait_for_work(view.seen, patience) {
            Work::Follow(limit) => self.follow(limit)?,
            Work::Idle => view.engine.sync()?,
            Work::Suspect(error) => return Err(error),
            Work::Close => {
                view.engine.sync()?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn attach(&mut self) -> Result<(), ViewError> {
        let engine = Engine::open(&self.shared.paths.view)?;
        let mut view = Open::load(engine)?;
        self.spot_check(&view)?;
        if view.applied.seq == Seq(0) && view.applied.partial == 0 {
            view.begin(&self.rules.platforms)?;
            self.shared.know_nothing_is_there();
        }
        view.walk = Walk::new(&self.shared.paths.ledger, view.applied.next, Some(view.applied.next));
        self.shared.set_tree(Some(view.engine.tree().clone()));
        self.view = Some(view);
        Ok(())
    }

    /// Compares the view's idea of the ledger with the ledger.
    fn spot_check(&self, view: &Open) -> Result<(), ViewError> {
        let applied = &view.applied;
        if applied.version != rows::VERSION {
            return Err(ViewError::Disagrees(format!("its rows are of version {}", applied.version)));
        }
        let (_, durable) = self.shared.durable();
        if applied.seq > durable {
            return Err(ViewError::Ahead { applied: applied.seq });
        }
        // A frame that cannot be read proves nothing: then it is the ledger that is damaged.
        let mut agreeing = 0;
        if let Some((at, crc)) = applied.last
            && let Some(frame) = read_frame(&self.shared.paths.ledger, at)?
        {
            if (frame.header.seq, frame.crc) != (applied.seq.0, crc) {
                return Err(ViewError::Disagrees(format!("fact {} is another one in the ledger", applied.seq)));
            }
            agreeing += 1;
        }
        for entry in view.engine.tree().scan_prefix(keys::rows()).rev().take(SPOT_CHECKS) {
            let (_, bytes) = entry?;
            let entry: PunchEntry = rows::decode(&bytes).ok_or(ViewError::Row)?;
            let frame = read_frame(&self.shared.paths.ledger, entry.at)?;
            match frame.and_then(|frame| unseal(&frame.payload).ok()) {
                Some(Fact::Punch(punch)) if punch.id == entry.row.id => agreeing += 1,
                Some(_) => {
                    return Err(ViewError::Disagrees(format!("punch {} is not where it should be", entry.row.seq)));
                }
                None => {}
            }
        }
        if applied.last.is_some() && agreeing == 0 {
            return Err(ViewError::Disagrees("nothing of it is found in the ledger".to_owned()));
        }
        Ok(())
    }

    fn behind(&self) -> Option<u64> {
        let view = self.view.as_ref()?;
        Some(self.shared.durable().1.0.saturating_sub(view.applied.seq.0))
    }

    fn try_catch_up(&mut self) -> bool {
        self.shared.prime(Pending::default(), Vec::new(), self.tuning.pending_room);
        match guarded(|| self.catch_up()) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(%error, "the view cannot follow the ledger");
                self.give_up(&error);
                false
            }
        }
    }

    /// Applies what was in the ledger at the opening, fills new outboxes, and lets the queries begin.
    fn catch_up(&mut self) -> Result<(), ViewError> {
        let (limit, _) = self.shared.durable();
        self.follow(limit)?;
        self.fill_outboxes()?;
        if let Some(view) = &self.view
            && !self.shared.is_closing()
        {
            self.shared.applied(view.applied.seq, &[]);
            self.caught_up = true;
            self.shared.set_caught_up(true);
        }
        Ok(())
    }

    /// Finds what can come twice among the facts that the view lacks, so that a redelivered punch is known as such.
    fn prime(&mut self) -> Result<(), ViewError> {
        let Some(view) = &self.view else { return Err(ViewError::NotOpen) };
        let (limit, _) = self.shared.durable();
        let mut walk = Walk::new(&self.shared.paths.ledger, view.applied.next, Some(limit));
        let mut pending = Pending::default();
        let mut adoptions: Vec<Adoption> = Vec::new();
        while let Some(item) = walk.next_item()? {
            let Item::Fact(frame) = item else { continue };
            let Ok(fact) = unseal(&frame.payload) else { continue };
            if let Some(key) = DedupKey::of(&fact) {
                pending.insert(key, Seq(frame.header.seq));
            }
            if let Fact::Adoption(adoption) = fact {
                adoptions.push(adoption);
            }
        }
        self.shared.prime(pending, adoptions, self.tuning.pending_room);
        Ok(())
    }

    fn follow(&mut self, limit: Locus) -> Result<(), ViewError> {
        let Some(view) = &mut self.view else { return Err(ViewError::NotOpen) };
        let tree = view.engine.tree().clone();
        view.walk.set_limit(limit);
        let mut chunk = Chunk::new(&tree);
        while let Some(item) = view.walk.next_item()? {
            let Item::Fact(frame) = item else { continue };
            if frame.header.seq <= view.applied.seq.0 {
                continue;
            }
            view.apply(&self.rules, &self.shared, &mut chunk, &tree, &frame, self.live_after)?;
            if chunk.is_full() {
                view.commit(&self.shared, std::mem::replace(&mut chunk, Chunk::new(&tree)))?;
                if self.shared.is_closing() && !self.caught_up {
                    return Ok(());
                }
            }
        }
        view.seen = limit;
        view.commit(&self.shared, chunk)
    }

    /// Gives platforms that are new in the configuration the verified punches of before.
    fn fill_outboxes(&mut self) -> Result<(), ViewError> {
        let Some(view) = &mut self.view else { return Err(ViewError::NotOpen) };
        let tree = view.engine.tree().clone();
        let mut staging = Staging::new(&tree);
        let before: Platforms = staging.get(keys::PLATFORMS)?.unwrap_or_default();
        for platform in self.rules.platforms.iter().filter(|platform| !before.contains(platform)) {
            let key = keys::platform(&platform.0);
            let counts = staging.get::<PlatformEntry>(&key)?.unwrap_or_default();
            staging.put(key, &PlatformEntry { filled_through: Some(Seq(0)), ..counts });
        }
        if before != self.rules.platforms {
            staging.put(keys::PLATFORMS.to_vec(), &self.rules.platforms);
        }
        view.write(&self.shared, staging)?;
        for (platform, first) in &self.rules.platforms {
            while view.fill_some(&self.shared, &tree, platform, *first)? {
                if self.shared.is_closing() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Lets go of a view that failed; moves it aside when its contents are to blame.
    fn give_up(&mut self, error: &ViewError) {
        self.caught_up = false;
        self.shared.set_caught_up(false);
        self.shared.set_tree(None);
        self.shared.know_nothing();
        let view = self.view.take();
        if catch_unwind(AssertUnwindSafe(|| drop(view))).is_err() {
            tracing::warn!("sled panicked while it was closed");
        }
        let dir = &self.shared.paths.view;
        if error.is_disk() || !dir.exists() {
            return;
        }
        let stamp = jiff::Timestamp::from_millisecond(self.shared.clock.now().0).unwrap_or_default();
        let stamp = stamp.strftime("%Y%m%dT%H%M%SZ").to_string();
        match engine::move_aside(dir, &stamp) {
            Ok(aside) => tracing::warn!(%error, aside = %aside.display(), "the view is built again from the ledger"),
            Err(cause) => tracing::error!(%error, %cause, "the view cannot be moved aside"),
        }
    }
}

impl Open {
    fn load(engine: Engine) -> Result<Open, ViewError> {
        let start = Locus { segment: 0, offset: 0 };
        let applied = match engine.tree().get(keys::APPLIED)? {
            Some(bytes) => rows::decode(&bytes).ok_or(ViewError::Row)?,
            None => Applied { version: rows::VERSION, seq: Seq(0), last: None, next: start, partial: 0 },
        };
        let walk = Walk::new(std::path::Path::new("."), start, Some(start));
        Ok(Open { engine, walk, applied, seen: start })
    }

    /// An empty view: what follows fills the outboxes of these platforms by itself.
    fn begin(&mut self, platforms: &Platforms) -> Result<(), ViewError> {
        let tree = self.engine.tree().clone();
        let mut staging = Staging::new(&tree);
        staging.put(keys::PLATFORMS.to_vec(), platforms);
        let (batch, bytes) = staging.into_batch();
        self.engine.commit(batch, bytes)
    }

    fn apply<'t>(
        &mut self,
        rules: &Rules,
        shared: &Shared,
        chunk: &mut Chunk<'t>,
        tree: &'t sled::Tree,
        frame: &PlacedFrame,
        live_after: Seq,
    ) -> Result<(), ViewError> {
        let seq = Seq(frame.header.seq);
        match unseal(&frame.payload) {
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
                    | Fact::Epoch(_) => rules.apply(&mut chunk.staging, &placed)?,
                }
                chunk.known.extend(DedupKey::of(&fact).map(|key| (key, seq)));
                if seq > live_after {
                    chunk.events.push(Arc::new(Recorded { seq, fact }));
                }
            }
            Err(error) => tracing::warn!(%seq, %error, "a fact cannot be read and is left out of the view"),
        }
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
        apply::apply_job(&mut chunk.staging, step)
    }

    fn commit(&mut self, shared: &Shared, chunk: Chunk) -> Result<(), ViewError> {
        let Chunk { mut staging, events, known } = chunk;
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

    fn write(&mut self, shared: &Shared, staging: Staging) -> Result<(), ViewError> {
        if staging.is_empty() {
            return Ok(());
        }
        let (batch, bytes) = staging.into_batch();
        self.engine.commit(batch, bytes)?;
        shared.counters.view_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(())
    }

    /// Looks at some older punches for one platform; `false` when there are no more.
    fn fill_some(
        &mut self,
        shared: &Shared,
        tree: &sled::Tree,
        platform: &PlatformName,
        first: Option<crate::punch::UnixMs>,
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
                apply::enqueue_for(&mut staging, platform, &entry.row)?;
            }
        }
        let counts = staging.get::<PlatformEntry>(&key)?.unwrap_or_default();
        staging.put(key, &PlatformEntry { filled_through: more.then_some(through), ..counts });
        self.write(shared, staging)?;
        Ok(more)
    }
}

/// Runs what may panic inside sled.
fn guarded<T>(work: impl FnOnce() -> Result<T, ViewError>) -> Result<T, ViewError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome,
        Err(panic) => Err(ViewError::panicked(&*panic)),
    }
}
