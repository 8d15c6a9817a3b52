//! Moves facts, rows and bytes between the store, one platform and its courier. Decides nothing.
//!
//! What the courier says is stored before anything else leaves; a request's `Sending` is stored before its first byte.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Task;
use super::call::{Call, append};
use super::courier::{CallId, Courier, Now, Order, Outcome, Read, Restored, Settings};
use super::link::Link;
use super::profiles::Profile;
use super::status::Status;
use crate::clock::Clock;
use crate::config::Platform;
use crate::punch::{Fact, PlatformName, PunchId, Seq, Step, Subject, UploadStep, Verdict};
use crate::store::{Outgoing, Recorded, Store, UploadRow, View};

/// At the end, answers that are on their way are waited for this long.
const LAST_ANSWERS: Duration = Duration::from_millis(1_500);
/// At the end, the store is given this long for the last steps.
const LAST_STEPS: Duration = Duration::from_millis(500);

/// One platform's courier with its hands and ears.
pub struct Shell {
    store: Store,
    clock: Clock,
    platform: Arc<Platform>,
    utc_offset: jiff::tz::Offset,
    link: Link,
    courier: Courier,
    profile: Arc<Profile>,
    calls: JoinSet<(CallId, Outcome)>,
    facts: broadcast::Receiver<Arc<Recorded>>,
    /// The last change of the roster that is known here.
    roster: Seq,
    /// Places of our own `Requeued` steps that have not come back by subscription.
    own: BTreeSet<Seq>,
    last_stored: Seq,
    status: Status,
    stop: CancellationToken,
}

impl Shell {
    /// Reads where the last courier of this platform was.
    pub async fn open(task: Task, profile: Profile, link: Link, stop: CancellationToken) -> Shell {
        let Task { platform, employers, utc_offset, store, clock, ops } = task;
        let facts = store.subscribe();
        let name = platform.name.clone();
        let (roster, restored) = store.read(move |view| (view.roster_version(), restored(view, &name))).await;
        let status = Status::new(platform.name.clone(), profile.name(), ops);
        let seed = u64::from_be_bytes(rand::random());
        let settings = Settings { platform: platform.clone(), employers, utc_offset, seed };
        let profile = Arc::new(profile);
        let courier = Courier::new(now(&clock), settings, profile.clone(), restored);
        Shell {
            store,
            clock,
            platform: Arc::new(platform),
            utc_offset,
            link,
            courier,
            profile,
            calls: JoinSet::new(),
            facts,
            roster,
            own: BTreeSet::new(),
            last_stored: Seq(0),
            status,
            stop,
        }
    }

    /// Until the order to stop.
    pub async fn run(mut self) {
        while let Some(wake) = self.turn().await
            && self.wait(wake).await.is_some()
        {}
        self.finish().await;
    }

    /// Until `wake`, or until something happened that the courier cares about. `None` when that is the order to stop.
    async fn wait(&mut self, wake: Instant) -> Option<()> {
        loop {
            let time_left = wake.saturating_duration_since(self.clock.instant());
            tokio::select! {
                () = self.stop.cancelled() => return None,
                Some(done) = self.calls.join_next() => {
                    self.take_outcome(done);
                    return Some(());
                }
                fact = self.facts.recv() => if self.take_facts(fact).await {
                    return Some(());
                },
                () = tokio::time::sleep(time_left) => return Some(()),
            }
        }
    }

    /// Does everything that the courier wants now, and gives the time of the next turn. `None` when it was interrupted by
    /// the order to stop.
    async fn turn(&mut self) -> Option<Instant> {
        // What becomes due during the turn may be overlooked in it, so the next turn is reckoned from the beginning of this.
        let began = self.now();
        self.store_steps().await?;
        while let Some(read) = self.courier.poll_read(self.now()) {
            let rows = self.read_rows(&read).await?;
            self.courier.handle_rows(self.now(), &read, rows);
            self.store_steps().await?;
        }
        // A wrong clock would make every signature wrong.
        let mut orders = Vec::new();
        while self.clock.is_trustworthy() {
            let Some(order) = self.courier.poll_transmit(self.now()) else { break };
            orders.push(order);
        }
        self.store_steps().await?;
        for order in orders {
            self.send(order);
        }
        self.status.show(&self.courier.report(), self.clock.is_trustworthy());
        Some(self.courier.poll_timeout(began))
    }

    fn now(&self) -> Now {
        now(&self.clock)
    }

    /// Stores what the courier has said so far.
    async fn store_steps(&mut self) -> Option<()> {
        let mut steps = Vec::new();
        while let Some(step) = self.courier.poll_step() {
            self.status.count(&step);
            steps.push(step);
        }
        if steps.is_empty() {
            return Some(());
        }
        let requeued: Vec<bool> = steps.iter().map(|step| matches!(step.step, Step::Requeued { .. })).collect();
        let facts: Vec<Fact> = steps.into_iter().map(Fact::Upload).collect();
        let stored = append(&self.store, facts, &self.stop).await?;
        self.own.extend(stored.iter().zip(requeued).filter_map(|(seq, requeued)| requeued.then_some(*seq)));
        self.last_stored = stored.into_iter().max().unwrap_or(self.last_stored);
        Some(())
    }

    /// Reads what the courier wants, from a view that has everything we stored.
    async fn read_rows(&self, read: &Read) -> Option<Vec<(Outgoing, UploadRow)>> {
        tokio::select! {
            () = self.store.applied(self.last_stored) => {}
            () = self.stop.cancelled() => return None,
        }
        let (read, name) = (read.clone(), self.platform.name.clone());
        let (from, offset) = (self.platform.upload_from, self.utc_offset);
        let rows = self.store.read(move |view| match read {
            Read::Outbox { after, limit, .. } => view.outbox(&name, after, limit),
            Read::Punches(punches) => {
                let mut rows: Vec<_> = punches.into_iter().filter_map(|punch| row_of(view, &name, punch)).collect();
                rows.retain(|(out, _)| from.is_none_or(|from| super::date_at(out.time, offset) >= from));
                rows
            }
        });
        Some(rows.await)
    }

    fn send(&mut self, order: Order) {
        let call = Call {
            store: self.store.clone(),
            clock: self.clock.clone(),
            link: self.link.clone(),
            profile: self.profile.clone(),
            image_limit_kib: self.platform.image_limit_kib,
            pictures_must_be_good: !self.courier.sends_incomplete_workers(),
            stop: self.stop.clone(),
        };
        self.calls.spawn(call.make(order));
    }

    fn take_outcome(&mut self, done: Result<(CallId, Outcome), tokio::task::JoinError>) {
        match done {
            Ok((call, outcome)) => {
                self.status.heard(&outcome, self.clock.now());
                self.courier.handle_outcome(self.now(), call, outcome);
            }
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(cancelled) => tracing::debug!(%cancelled, "a call was given up"),
            },
        }
    }

    /// Takes a fact and those that wait behind it. True when the courier cares about one of them.
    async fn take_facts(&mut self, first: Result<Arc<Recorded>, RecvError>) -> bool {
        let mut cares = false;
        let mut next = first;
        loop {
            match next {
                Ok(recorded) => cares |= self.hear(&recorded),
                Err(RecvError::Lagged(missed)) => {
                    tracing::debug!(missed, "facts came faster than they were read; reading the view again");
                    self.read_again().await;
                    cares = true;
                }
                Err(RecvError::Closed) => {
                    self.stop.cancelled().await;
                    return true;
                }
            }
            next = match self.facts.try_recv() {
                Ok(recorded) => Ok(recorded),
                Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                Err(TryRecvError::Empty | TryRecvError::Closed) => return cares,
            };
        }
    }

    /// The view shows a fact before anybody is told of it: a change of the roster that went by unseen is there.
    async fn read_again(&mut self) {
        let (name, known) = (self.platform.name.clone(), self.roster);
        let (roster, workers, registrations) = self
            .store
            .read(move |view| {
                let roster = view.roster_version();
                let workers = if roster > known { view.workers() } else { Vec::new() };
                (roster, workers, view.registrations(&name))
            })
            .await;
        self.roster = self.roster.max(roster);
        self.courier.handle_missed(self.now(), workers, &registrations);
    }

    /// True when the courier cares.
    fn hear(&mut self, recorded: &Recorded) -> bool {
        let is_own = self.own.contains(&recorded.seq);
        if self.own.first().is_some_and(|first| *first <= recorded.seq) {
            self.own = self.own.split_off(&Seq(recorded.seq.0 + 1));
        }
        match &recorded.fact {
            Fact::Judgement(judgement) if judgement.verdict == Verdict::Verified => {
                self.courier.handle_verified(judgement.punch);
                true
            }
            Fact::Worker(worker) => {
                self.roster = self.roster.max(recorded.seq);
                self.courier.handle_worker(self.now(), worker.clone());
                true
            }
            Fact::Upload(UploadStep { platform, subjects, step: Step::Requeued { .. }, .. })
                if *platform == self.platform.name && !is_own =>
            {
                self.courier.handle_requeued(self.now(), subjects);
                true
            }
            Fact::Punch(_)
            | Fact::Judgement(_)
            | Fact::Upload(_)
            | Fact::Gap(_)
            | Fact::Quarantine(_)
            | Fact::Stranger(_)
            | Fact::Adoption(_)
            | Fact::Epoch(_)
            | Fact::DayHead(_)
            | Fact::Restoration(_)
            | Fact::Removal(_) => false,
        }
    }

    /// Waits a little for answers that are on their way, so that the next start need not ask for them.
    async fn finish(mut self) {
        let last_answers = async {
            while let Some(done) = self.calls.join_next().await {
                if let Ok((call, outcome)) = done {
                    self.courier.handle_outcome(now(&self.clock), call, outcome);
                }
            }
        };
        let _ = tokio::time::timeout(LAST_ANSWERS, last_answers).await;
        let steps: Vec<Fact> = std::iter::from_fn(|| self.courier.poll_step()).map(Fact::Upload).collect();
        if !steps.is_empty() {
            let last_steps = tokio::time::timeout(LAST_STEPS, self.store.append(steps)).await;
            if !matches!(last_steps, Ok(Ok(_))) {
                tracing::info!("the last answers were not stored; they are asked for again at the next start");
            }
        }
        self.calls.shutdown().await;
    }
}

fn now(clock: &Clock) -> Now {
    Now { wall: clock.now(), instant: clock.instant() }
}

fn restored(view: &View, platform: &PlatformName) -> Restored {
    let in_flight = view.uploads_in_flight(platform).into_iter().filter_map(|(subject, _)| match subject {
        Subject::Punch(punch) => row_of(view, platform, punch),
        Subject::Employer(_) | Subject::Team(_) | Subject::Worker(_) | Subject::Entry(..) | Subject::Exit(..) => None,
    });
    Restored {
        workers: view.workers(),
        registrations: view.registrations(platform),
        in_flight: in_flight.collect(),
        last_job: view.last_job(platform).0,
        refused_punches: view.depth(platform).refused,
        forerunner: view.forerunner(),
    }
}

/// A verified punch as the outbox has it.
fn row_of(view: &View, platform: &PlatformName, punch: PunchId) -> Option<(Outgoing, UploadRow)> {
    let row = view.punch(punch)?;
    let judgement = row.judgement.filter(|judgement| judgement.verdict == Verdict::Verified)?;
    let out = Outgoing {
        seq: row.seq,
        punch,
        worker: judgement.worker?,
        terminal: row.terminal,
        time: row.time,
        direction: judgement.direction,
        method: row.method,
        photo: row.photo,
    };
    let upload = view.upload(platform, &Subject::Punch(punch)).unwrap_or(UploadRow::queued(row.received_at));
    Some((out, upload))
}
