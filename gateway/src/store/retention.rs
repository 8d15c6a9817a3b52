//! Photos go when they have served: so many days after the punch's last receipt, or earlier, the oldest first, when space
//! runs short. Facts stay.
//!
//! One walk along the ledger finds them. Each receipt and each verdict is looked at once, when its time has come; a photo
//! goes when nobody waits for its punch any more and no newer fact speaks of it, otherwise that fact comes by later.
//! What went is itself a fact, which says how far the walk has come.

use std::cell::LazyCell;
use std::collections::{BTreeSet, HashSet};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::appending::Appender;
use super::ledger::day::segment_of;
use super::ledger::reader::{Item, Locus, Walk};
use super::ledger::seal::unseal;
use super::ledger::segment::sync_dir;
use super::photos;
use super::shared::Shared;
use super::view::query::View;
use crate::punch::{Fact, PhotoHash, Removal, Seq, Step, Subject, UnixMs};

const DAY_MS: i64 = 86_400_000;
/// How often the space is looked at.
const SPACE_EVERY: Duration = Duration::from_secs(2);
/// How often photos are looked for whose days are over.
const RULE_EVERY: Duration = Duration::from_secs(3_600);
/// Of the keeper's thread: everybody else comes first.
const NICE: i32 = 10;
/// One walk removes no more than this before it looks up.
const BATCH: u32 = 1_000;

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Days that a punch's photo stays after the last platform has answered; without it photos stay.
    pub photo_days: Option<u32>,
    /// Bytes that the data directory may take; without it the disk is the limit.
    pub budget: Option<u64>,
    /// Whether photos of settled punches go before their days are over when space runs short.
    pub photos_make_room: bool,
}

impl Default for Retention {
    fn default() -> Self {
        Retention { photo_days: Some(180), budget: None, photos_make_room: true }
    }
}

/// Why photos go.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cause {
    /// They were settled at this time or before.
    Days(UnixMs),
    Space,
}

/// The thread that looks after the space.
pub struct Keeper {
    shared: Arc<Shared>,
    view: View,
    appender: Appender,
    rules: Retention,
    /// Facts up to this one were looked at, and where the next one stands.
    through: Seq,
    next: Option<Locus>,
    /// Removed, and not in the ledger yet.
    untold: Option<Removal>,
}

/// What one walk has removed.
#[derive(Default)]
struct Removed {
    photos: u32,
    shelves: BTreeSet<PathBuf>,
}

impl Keeper {
    pub fn new(shared: Arc<Shared>, appender: Appender, rules: Retention) -> Keeper {
        let view = View::new(shared.clone());
        Keeper { shared, view, appender, rules, through: Seq(0), next: None, untold: None }
    }

    /// Works until the store is closed.
    pub fn run(mut self) {
        // On Linux this is about the calling thread.
        if let Err(error) = rustix::process::setpriority_process(None, NICE) {
            tracing::debug!(%error, "the keeper runs as everybody else");
        }
        if let Err(error) = self.shared.space.count_photos() {
            tracing::warn!(%error, "the photos cannot be counted");
        }
        if !self.shared.wait_caught_up() {
            return;
        }
        self.through = self.view.removed_through();
        let mut next_time = self.shared.clock.instant();
        loop {
            let is_time = self.shared.clock.instant() >= next_time;
            if is_time {
                next_time = self.shared.clock.instant() + RULE_EVERY;
            }
            if let Err(error) = self.look(is_time) {
                tracing::warn!(%error, "photos whose time has come could not be removed");
            }
            if self.shared.wait_for_room_to_make(SPACE_EVERY) {
                return;
            }
        }
    }

    fn look(&mut self, is_time: bool) -> io::Result<()> {
        self.shared.space.count_others()?;
        // Without photos, nothing leads to one, however long the ledger is.
        let has_photos = is_time && photos::any(&self.shared.paths.photos)?;
        if let Some(days) = self.rules.photo_days.filter(|_| has_photos) {
            let before = self.shared.clock.now().plus_ms(-i64::from(days) * DAY_MS);
            // A clock that is not set says nothing about days.
            while self.shared.clock.is_trustworthy() && self.remove(Cause::Days(before))? {}
        }
        while self.rules.photos_make_room && self.shared.space.room()?.is_short() && self.remove(Cause::Space)? {}
        self.tell();
        Ok(())
    }

    /// Says in the ledger what went; on a full disk later, when there is room for it.
    fn tell(&mut self) {
        if let Some(removal) = self.untold.take()
            && self.appender.insist(&Fact::Removal(removal)).is_err()
        {
            self.untold = Some(removal);
        }
    }

    /// Walks on and removes what it finds; `true` when there may be more.
    fn remove(&mut self, cause: Cause) -> io::Result<bool> {
        let mut removed = Removed::default();
        let outcome = self.walk(cause, &mut removed);
        for shelf in &removed.shelves {
            sync_dir(shelf)?;
        }
        if removed.photos > 0 {
            let for_space = cause == Cause::Space;
            tracing::info!(photos = removed.photos, for_space, "photos were removed");
            let before = self.untold.take();
            self.untold = Some(Removal {
                at: self.shared.clock.now(),
                photos: removed.photos + before.map_or(0, |before| before.photos),
                through: self.through,
                for_space: for_space || before.is_some_and(|before| before.for_space),
            });
        }
        outcome
    }

    fn walk(&mut self, cause: Cause, removed: &mut Removed) -> io::Result<bool> {
        // What the view does not show yet may be about to change.
        let shown = *self.shared.applied.borrow();
        let from = match self.next {
            Some(next) => next,
            None => segment_of(&self.shared.paths.ledger, self.through.0 + 1)?,
        };
        // Most walks find nothing, and a roster has to be unsealed.
        let in_use = LazyCell::new(|| -> HashSet<PhotoHash> {
            self.view.workers().iter().filter_map(|worker| worker.photo).collect()
        });
        let mut walk = Walk::new(&self.shared.paths.ledger, from, Some(self.shared.durable().0));
        while let Some(item) = walk.next_item()? {
            let Item::Fact(frame) = item else { continue };
            if frame.header.seq > shown.0 || self.shared.is_closing() {
                return Ok(false);
            }
            if frame.header.seq <= self.through.0 {
                continue;
            }
            if let Ok(fact) = unseal(&frame.payload, &self.shared.keyring) {
                if let (Cause::Days(before), Some(at)) = (cause, time_of(&fact))
                    && self.is_too_young(at, before)
                {
                    return Ok(false);
                }
                for photo in self.spent(&fact, cause).into_iter().filter(|photo| !in_use.contains(photo)) {
                    self.take_away(photo, removed)?;
                }
            }
            self.through = Seq(frame.header.seq);
            self.next = Some(frame.end());
            if removed.photos >= BATCH || (cause == Cause::Space && self.shared.space.room()?.is_ample()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A time in the future was told by a wrong clock and holds nothing up.
    fn is_too_young(&self, at: UnixMs, before: UnixMs) -> bool {
        at > before && at <= self.shared.clock.now().plus_ms(DAY_MS)
    }

    /// Photos that are needed no more, as far as this fact leads to them.
    fn spent(&self, fact: &Fact, cause: Cause) -> Vec<PhotoHash> {
        let punches = match fact {
            Fact::Stranger(stranger) => return stranger.photo.into_iter().collect(),
            Fact::Judgement(judgement) => vec![judgement.punch],
            Fact::Upload(step) if matches!(step.step, Step::Confirmed { .. } | Step::Refused { .. }) => {
                let punch = |subject: &Subject| match subject {
                    Subject::Punch(punch) => Some(*punch),
                    Subject::Employer(_)
                    | Subject::Team(_)
                    | Subject::Worker(_)
                    | Subject::Entry(..)
                    | Subject::Exit(..) => None,
                };
                step.subjects.iter().filter_map(punch).collect()
            }
            _ => return Vec::new(),
        };
        let settled = punches.into_iter().filter_map(|punch| self.view.settled_photo(punch));
        let is_due = |(_, since): &(PhotoHash, UnixMs)| match cause {
            Cause::Space => true,
            Cause::Days(before) => !self.is_too_young(*since, before),
        };
        settled.filter(is_due).map(|(photo, _)| photo).collect()
    }

    fn take_away(&self, photo: PhotoHash, removed: &mut Removed) -> io::Result<()> {
        if let Some((shelf, bytes)) = photos::remove(&self.shared.paths.photos, photo)? {
            self.shared.space.photo_went(bytes);
            removed.photos += 1;
            removed.shelves.insert(shelf);
        }
        Ok(())
    }
}

/// The time of a fact that can lead to a photo.
fn time_of(fact: &Fact) -> Option<UnixMs> {
    match fact {
        Fact::Stranger(stranger) => Some(stranger.received_at),
        Fact::Judgement(judgement) => Some(judgement.at),
        Fact::Upload(step) => Some(step.at),
        _ => None,
    }
}
