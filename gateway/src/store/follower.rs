//! The thread that brings the view behind the ledger: reads frames up to where the ledger is durable, applies them in
//! chunks, and tells whoever waits. It alone writes to the view; it never writes to the ledger.
//!
//! A view that does not open, panics or does not agree with the ledger is moved aside and built again from the ledger,
//! while facts are taken all the same.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use super::dedup::DedupKey;
use super::ledger::reader::{Item, Locus, Walk, read_frame};
use super::ledger::recover::Tail;
use super::ledger::seal::unseal;
use super::opening::stamp;
use super::position::{Chunk, Open, Retired};
use super::shared::{Lacking, Shared, Work};
use super::view::apply::Rules;
use super::view::engine::{self, Engine, ViewError, history_dir};
use super::view::keys;
use super::view::rows::{self, Applied, PlatformEntry, Platforms};
use super::view::staging::Staging;
use super::{Tuning, owed};
use crate::punch::{Fact, Gap, GapKind, Seq};

/// The view is made durable after this much rest; until then a crash costs a little replay and nothing else.
const SYNC_AFTER: Duration = Duration::from_secs(1);
/// Of the follower's thread.
const NICE: i32 = 5;
const BACK_OFF_MIN: Duration = Duration::from_millis(250);
const BACK_OFF_MAX: Duration = Duration::from_secs(10);
/// How long queries may go on to read from a database whose place another has taken.
const RETIRE_PAUSE: Duration = Duration::from_millis(50);
const RETIRE_LOOKS: usize = 100;
/// How many of the newest punches are compared with the ledger at an opening.
const SPOT_CHECKS: usize = 8;

pub struct Follower {
    shared: Arc<Shared>,
    rules: Rules,
    tuning: Tuning,
    /// Where the ledger ended at the opening.
    tail: Tail,
    view: Option<Open>,
    /// Facts up to this one are old news to subscribers.
    live_after: Seq,
    /// The last fact that the view showed when it was opened first.
    showed: Option<Seq>,
    caught_up: bool,
}

impl Follower {
    pub fn new(shared: Arc<Shared>, platforms: Platforms, tail: Tail, tuning: Tuning) -> Follower {
        let live_after = shared.durable().1;
        Follower {
            rules: Rules { platforms, keyring: shared.keyring.clone() },
            shared,
            tuning,
            tail,
            view: None,
            live_after,
            showed: None,
            caught_up: false,
        }
    }

    /// Opens the view, or makes a new one when it cannot be used.
    pub fn open(&mut self) {
        if let Err(error) = guarded(|| self.attach()) {
            self.give_up(&error);
            if let Err(error) = guarded(|| self.attach()) {
                tracing::error!(%error, "the view does not open");
                self.go_without();
            }
        }
        let near = self.behind().is_some_and(|behind| behind <= self.tuning.catch_up_at_open);
        if near && let Err(error) = guarded(|| self.catch_up()) {
            tracing::error!(%error, "the view cannot follow the ledger");
            self.give_up(&error);
            self.go_without();
        }
    }

    /// Facts are taken without a view too: what the ledger has is kept in mind instead.
    fn go_without(&self) {
        match self.lacking(&Applied::nothing()) {
            Ok(lacking) => self.shared.publish(None, lacking, true, self.tuning.pending_room),
            Err(error) => tracing::error!(%error, "the ledger cannot be read to know what comes again"),
        }
    }

    /// The last fact that the view showed when it was opened: everything up to it was durable.
    pub fn showed(&self) -> Seq {
        self.showed.unwrap_or_default()
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
        self.shared.withdraw();
    }

    /// One turn; `false` at the end of the store.
    fn step(&mut self) -> Result<bool, ViewError> {
        if self.view.is_none() {
            self.attach()?;
        }
        if !self.caught_up {
            self.catch_up()?;
            return Ok(!self.shared.is_closing());
        }
        let Some(view) = &mut self.view else { return Err(ViewError::NotOpen) };
        let patience = match (view.is_archiving(), view.engine.is_dirty()) {
            (true, _) => Duration::ZERO,
            (false, true) => SYNC_AFTER,
            (false, false) => self.tuning.write_after,
        };
        match self.shared.wait_for_work(view.seen, patience) {
            Work::Follow(limit) => self.follow(limit)?,
            Work::Idle if view.is_archiving() => view.archive(&self.shared)?,
            Work::Idle if view.engine.is_dirty() => view.engine.sync()?,
            Work::Idle => {
                view.sync(&self.shared)?;
                view.archive(&self.shared)?;
                if !view.is_archiving()
                    && let Some(old) = view.renew(&self.shared, self.tuning.slack_bytes)?
                {
                    self.retire(old);
                }
            }
            Work::Suspect(error) => return Err(error),
            Work::Close => {
                view.sync(&self.shared)?;
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Waits a little for those who still read from a database whose place another has taken, and removes it.
    fn retire(&self, old: Retired) {
        for _ in 0..RETIRE_LOOKS {
            if old.is_free() {
                old.remove();
                return;
            }
            if self.shared.pause(RETIRE_PAUSE) {
                return;
            }
        }
        tracing::info!("somebody still reads from the view's old database; it stays until the next start");
    }

    /// Opens the view and shows it to everybody, together with what it lacks.
    fn attach(&mut self) -> Result<(), ViewError> {
        let dir = &self.shared.paths.view;
        let mut view = Open::load(Engine::open(dir)?, &history_dir(dir), &self.tuning)?;
        self.spot_check(&view)?;
        self.showed.get_or_insert(view.applied.seq);
        let is_new = view.applied.is_nothing();
        if is_new {
            view.begin(&self.rules.platforms)?;
        }
        view.walk = Walk::new(&self.shared.paths.ledger, view.applied.next, Some(view.applied.next));
        let lacking = self.lacking(&view.applied)?;
        self.shared.publish(Some(view.sources.clone()), lacking, is_new, self.tuning.pending_room);
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
        for seq in view.sources.live.latest(SPOT_CHECKS) {
            let Some(entry) = view.sources.live.punch(seq)? else { continue };
            let frame = read_frame(&self.shared.paths.ledger, entry.at)?;
            match frame.and_then(|frame| unseal(&frame.payload, &self.shared.keyring).ok()) {
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
            self.shared.caught_up();
        }
        Ok(())
    }

    /// What can come twice among the facts that the view lacks, so that a redelivered punch is known as such.
    fn lacking(&self, applied: &Applied) -> Result<Lacking, ViewError> {
        let (limit, _) = self.shared.durable();
        let mut walk = Walk::new(&self.shared.paths.ledger, applied.next, Some(limit));
        let mut lacking = Lacking { after: applied.seq, ..Lacking::default() };
        while let Some(item) = walk.next_item()? {
            let Item::Fact(frame) = item else { continue };
            let Ok(fact) = unseal(&frame.payload, &self.shared.keyring) else { continue };
            if let Some(key) = DedupKey::of(&fact) {
                lacking.keys.insert(key, Seq(frame.header.seq));
            }
            if lacking.keys.len() > self.tuning.exact_keys {
                lacking.keep_by_filter(Seq(frame.header.seq));
            }
            if let Fact::Adoption(adoption) = fact {
                lacking.adoptions.push(adoption);
            }
        }
        Ok(lacking)
    }

    fn follow(&mut self, limit: Locus) -> Result<(), ViewError> {
        let Some(view) = &mut self.view else { return Err(ViewError::NotOpen) };
        view.walk.set_limit(limit);
        let mut chunk = Chunk::new(view.sources.merged());
        while let Some(item) = view.walk.next_item()? {
            let Item::Fact(frame) = item else { continue };
            if frame.header.seq <= view.applied.seq.0 {
                continue;
            }
            view.apply(&self.rules, &self.shared, &mut chunk, &frame, self.live_after)?;
            if chunk.is_full() {
                view.commit(&self.shared, chunk)?;
                view.archive(&self.shared)?;
                chunk = Chunk::new(view.sources.merged());
                if self.shared.is_closing() && !self.caught_up {
                    return Ok(());
                }
            }
        }
        view.seen = limit;
        view.commit(&self.shared, chunk)?;
        view.archive(&self.shared)
    }

    /// Gives platforms that are new in the configuration the verified punches of before.
    fn fill_outboxes(&mut self) -> Result<(), ViewError> {
        let Some(view) = &mut self.view else { return Err(ViewError::NotOpen) };
        let mut staging = Staging::new(view.sources.merged());
        let before: Platforms = staging.get(keys::PLATFORMS)?.unwrap_or_default();
        for platform in self.rules.platforms.iter().filter(|platform| !before.contains(platform)) {
            let key = keys::platform(&platform.0);
            let counts = staging.get(&key)?.unwrap_or_else(|| PlatformEntry::new(&platform.0));
            staging.put(key, &PlatformEntry { filled_through: Some(Seq(0)), ..counts });
        }
        if before != self.rules.platforms {
            staging.put(keys::PLATFORMS.to_vec(), &self.rules.platforms);
        }
        view.write(&self.shared, staging)?;
        for (platform, first) in &self.rules.platforms {
            while view.fill_some(&self.shared, platform, *first)? {
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
        self.shared.withdraw();
        let view = self.view.take();
        if catch_unwind(AssertUnwindSafe(|| drop(view))).is_err() {
            tracing::warn!("sled panicked while it was closed");
        }
        let dir = &self.shared.paths.view;
        if error.is_disk() || !dir.exists() {
            return;
        }
        if let ViewError::Ahead { applied } = error
            && let Err(error) = self.note_lost_tail(*applied)
        {
            tracing::error!(%error, "facts after {} are lost; the view that knew them stays until that is noted", self.tail.last_seq);
            return;
        }
        match engine::move_aside(dir, &stamp(&self.shared.clock)) {
            Ok(aside) => tracing::warn!(%error, aside = %aside.display(), "the view is built again from the ledger"),
            Err(cause) => tracing::error!(%error, %cause, "the view cannot be moved aside"),
        }
    }

    /// The view knew more than the ledger holds: acknowledged facts at its end are gone. Once the view is gone too, only
    /// this note says so.
    fn note_lost_tail(&self, applied: Seq) -> io::Result<()> {
        let Tail { last_segment, last_seq, torn, .. } = self.tail;
        let cut = match torn {
            Some(torn) => format!("; {} bytes at offset {} were cut", torn.length, torn.at.offset),
            None => String::new(),
        };
        let first = last_seq + 1;
        let gap = Gap {
            terminal: None,
            at: self.shared.clock.now(),
            count: Some(applied.0 - last_seq),
            kind: GapKind::StoreDamage,
            detail: format!(
                "segment {last_segment}: facts {first} to {applied} were in the ledger and are not any more{cut}"
            ),
        };
        owed::note(&self.shared.paths.owed, &format!("facts-{first}-{applied}"), &gap)
    }
}

/// Runs what may panic inside sled.
fn guarded<T>(work: impl FnOnce() -> Result<T, ViewError>) -> Result<T, ViewError> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(outcome) => outcome,
        Err(panic) => Err(ViewError::panicked(&*panic)),
    }
}
