//! Feeds punches to the rules and stores what they say.
//!
//! Nothing is remembered here: what has no judgement is judged, in ledger order and in pages; what is held is judged again
//! when the roster changes, and a rejection that a roster entry caused when that entry changes; both are stored when the
//! outcome is another one. All is done once at the start, so a crash between a punch and its judgement costs nothing. New
//! punches go before held ones, and these before rejected ones. What is verified stays so.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio_util::sync::CancellationToken;

use super::again::{Rejections, rejections};
use super::page::judge_in_order;
use crate::clock::Clock;
use crate::config::Verify;
use crate::ops::Ops;
use crate::ops::metrics::VerdictLabel;
use crate::punch::*;
use crate::store::{AppendError, Recorded, Store, View};

/// How many punches are read, judged and appended at a time.
const PAGE: usize = 200;
/// Pauses between tries while the store takes nothing, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How often a clock that cannot be trusted is looked at; punches held for its sake are judged again once it is right.
const CLOCK_PAUSE: Duration = Duration::from_secs(30);
/// At the start the rejections of this time are judged again, because nobody knows which entries changed last; a quarter
/// is what wages are still computed from. A change that is seen has no such limit.
const SUSPECT_MS: i64 = 93 * 24 * 3600 * 1000;

/// Judges new punches as they come and held ones when the roster changes, until `shutdown`.
pub async fn run(
    rules: Verify,
    store: Store,
    clock: Clock,
    ops: Ops,
    shutdown: CancellationToken,
) -> Result<(), Infallible> {
    let mut judge = Judge::new(rules, store, clock, ops).await;
    // May be dropped anywhere: an append in flight is stored or not, and what is not is judged at the next start.
    let _ = shutdown.run_until_cancelled(judge.work()).await;
    Ok(())
}

struct Judge {
    rules: Verify,
    store: Store,
    clock: Clock,
    ops: Ops,
    facts: Receiver<Arc<Recorded>>,
    /// The last change of the roster that is known here.
    roster: Seq,
    /// There may be punches without a judgement.
    new: bool,
    /// Held punches after this place are to be judged again.
    held: Option<Seq>,
    /// The roster changed meanwhile: all of them once more.
    held_again: bool,
    /// Any worker's entry may have changed.
    any_changed: bool,
    /// Workers whose rejections are to be judged again.
    changed: BTreeMap<WorkerId, Reach>,
    clock_was_right: bool,
    /// The first punch of the page before, to notice a view that does not take judgements.
    last: Option<PunchId>,
}

/// How far a worker's rejections are judged again.
#[derive(Clone, Default)]
struct Reach {
    /// Punch times from here on.
    since: Option<UnixMs>,
    /// Where the next page begins.
    cursor: Option<String>,
}

impl Judge {
    /// With everything to be looked at once.
    async fn new(rules: Verify, store: Store, clock: Clock, ops: Ops) -> Judge {
        let facts = store.subscribe();
        let roster = store.read(|view| view.roster_version()).await;
        let clock_was_right = clock.is_trustworthy();
        Judge {
            rules,
            store,
            clock,
            ops,
            facts,
            roster,
            new: true,
            held: Some(Seq(0)),
            held_again: false,
            any_changed: true,
            changed: BTreeMap::new(),
            clock_was_right,
            last: None,
        }
    }

    async fn work(&mut self) -> Infallible {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.step().await {
                Ok(()) if pause > FIRST_PAUSE => {
                    tracing::info!("judgements are stored again");
                    pause = FIRST_PAUSE;
                }
                Ok(()) => {}
                Err(error) => {
                    if pause == FIRST_PAUSE {
                        tracing::warn!(%error, "judgements wait until the store takes them");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// One page of work, or a wait until there is some.
    async fn step(&mut self) -> Result<(), AppendError> {
        self.drain().await;
        if self.new {
            return self.judge_new().await;
        }
        if let Some(after) = self.held {
            return self.judge_held(after).await;
        }
        if std::mem::take(&mut self.any_changed) {
            self.suspect_rejections().await;
        }
        if let Some((worker, reach)) = self.changed.first_key_value() {
            return self.judge_rejected(worker.clone(), reach.clone()).await;
        }
        self.wait().await;
        Ok(())
    }

    async fn judge_new(&mut self) -> Result<(), AppendError> {
        let (rules, now) = (self.rules.clone(), self.clock.now());
        let judgements = self
            .store
            .read(move |view| {
                let punches = view.unjudged(PAGE);
                judge_in_order(view, &punches, &rules, now)
            })
            .await;
        self.new = !judgements.is_empty();
        if let Err(error) = self.append(&judgements).await {
            self.new = true;
            return Err(error);
        }
        let first = judgements.first().map(|judgement| judgement.punch);
        if first.is_some() && first == self.last {
            tracing::error!(punch = ?first, "a stored judgement does not arrive in the view");
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
        self.last = first;
        Ok(())
    }

    async fn judge_held(&mut self, after: Seq) -> Result<(), AppendError> {
        let (rules, now) = (self.rules.clone(), self.clock.now());
        let (last, changed) = self
            .store
            .read(move |view| {
                let held = view.held(after, PAGE);
                let last = held.last().map(|(seq, _)| *seq);
                let punches: Vec<Punch> = held.into_iter().map(|(_, punch)| punch).collect();
                (last, changed_judgements(view, &punches, &rules, now))
            })
            .await;
        self.append(&changed).await?;
        self.held = last;
        if self.held.is_none() && std::mem::take(&mut self.held_again) {
            self.held = Some(Seq(0));
        }
        Ok(())
    }

    /// A page of what a changed roster entry may have rejected. A credential that names another worker by now does not
    /// take old rejections along.
    async fn judge_rejected(&mut self, worker: WorkerId, reach: Reach) -> Result<(), AppendError> {
        let (rules, now, whose) = (self.rules.clone(), self.clock.now(), worker.clone());
        let (judgements, next) = self
            .store
            .read(move |view| {
                // Waits until the view is whole, as the listing does not.
                if view.worker(&whose).is_none() {
                    return (Vec::new(), None);
                }
                let Rejections { punches, next } = rejections(view, &whose, reach.since, reach.cursor.as_deref(), PAGE);
                let mut judgements = changed_judgements(view, &punches, &rules, now);
                judgements.retain(|judgement| judgement.worker.as_ref() == Some(&whose));
                (judgements, next)
            })
            .await;
        self.append(&judgements).await?;
        match next {
            Some(next) => self.changed.insert(worker, Reach { cursor: Some(next), ..reach }),
            None => self.changed.remove(&worker),
        };
        Ok(())
    }

    async fn suspect_rejections(&mut self) {
        let workers = self.store.read(|view| view.workers()).await;
        let since = Some(self.clock.now().plus_ms(-SUSPECT_MS));
        for worker in workers {
            self.changed.entry(worker.worker_id).or_insert(Reach { since, cursor: None });
        }
    }

    /// Stores judgements in one group and waits until the view shows them.
    async fn append(&self, judgements: &[Judgement]) -> Result<(), AppendError> {
        if judgements.is_empty() {
            return Ok(());
        }
        let placed = self.store.append(judgements.iter().cloned().map(Fact::Judgement).collect()).await?;
        for judgement in judgements {
            let verdict = judgement.verdict.kind().to_owned();
            let reason = judgement.verdict.reason().unwrap_or_default().to_owned();
            self.ops.metrics.judgements.get_or_create(&VerdictLabel { verdict, reason }).inc();
            tracing::debug!(punch = %judgement.punch, verdict = ?judgement.verdict, "judged");
        }
        if let Some(last) = placed.iter().map(|placed| placed.seq).max() {
            self.store.applied(last).await;
        }
        Ok(())
    }

    /// Sleeps until a fact may have made work.
    async fn wait(&mut self) {
        let clock_pause = async {
            match self.clock_was_right {
                true => std::future::pending().await,
                false => tokio::time::sleep(CLOCK_PAUSE).await,
            }
        };
        let fact = tokio::select! {
            fact = self.facts.recv() => fact,
            () = clock_pause => return self.look_at_clock(),
        };
        match fact {
            Ok(recorded) => self.notice(&recorded),
            Err(RecvError::Lagged(_)) => self.look_again().await,
            // The store is closing; the order to stop follows.
            Err(RecvError::Closed) => tokio::time::sleep(LONGEST_PAUSE).await,
        }
    }

    /// Takes what has been recorded meanwhile, without waiting.
    async fn drain(&mut self) {
        loop {
            match self.facts.try_recv() {
                Ok(recorded) => self.notice(&recorded),
                Err(TryRecvError::Lagged(_)) => self.look_again().await,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn notice(&mut self, recorded: &Recorded) {
        match &recorded.fact {
            Fact::Punch(_) => self.new = true,
            Fact::Worker(worker) => {
                self.roster = self.roster.max(recorded.seq);
                self.judge_all_held();
                self.changed.insert(worker.worker_id.clone(), Reach::default());
            }
            Fact::Judgement(_)
            | Fact::Upload(_)
            | Fact::Gap(_)
            | Fact::Quarantine(_)
            | Fact::Stranger(_)
            | Fact::Adoption(_)
            | Fact::Epoch(_)
            | Fact::DayHead(_)
            | Fact::Restoration(_)
            | Fact::Removal(_) => {}
        }
    }

    /// Some facts went by unseen; any of them may have been a punch, and whether one was a change of the roster the view
    /// tells, which shows a fact before anybody is told of it. Punches go by in their thousands, and to look through all
    /// rejections for each thousand would take longer than to judge them.
    async fn look_again(&mut self) {
        self.new = true;
        let roster = self.store.read(|view| view.roster_version()).await;
        if roster > self.roster {
            self.roster = roster;
            self.judge_all_held();
            self.any_changed = true;
        }
    }

    fn judge_all_held(&mut self) {
        match self.held {
            Some(after) => self.held_again |= after > Seq(0),
            None => self.held = Some(Seq(0)),
        }
    }

    fn look_at_clock(&mut self) {
        self.clock_was_right = self.clock.is_trustworthy();
        if self.clock_was_right {
            self.judge_all_held();
        }
    }
}

/// Judges again; only what comes out otherwise.
fn changed_judgements(view: &View, punches: &[Punch], rules: &Verify, now: UnixMs) -> Vec<Judgement> {
    let mut judgements = judge_in_order(view, punches, rules, now);
    judgements.retain(|new| {
        let old = view.punch(new.punch).and_then(|row| row.judgement);
        old.is_none_or(|old| !says_the_same(&old, new))
    });
    judgements
}

/// Whether a judgement would add nothing to the one that stands.
fn says_the_same(old: &Judgement, new: &Judgement) -> bool {
    old.verdict == new.verdict
        && old.worker == new.worker
        && old.direction == new.direction
        && old.duplicate_of == new.duplicate_of
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
