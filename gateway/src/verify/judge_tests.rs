use std::path::Path;

use super::*;
use crate::store::StoreOptions;
use crate::verify::fixtures::*;

/// Long enough for a slow disk, short enough to fail.
const PATIENCE: Duration = Duration::from_secs(20);

const UNKNOWN: Verdict = Verdict::Held(HeldReason::UnknownWorker);
const LEFT: Verdict = Verdict::Rejected(RejectedReason::Left);

#[tokio::test(flavor = "multi_thread")]
async fn new_punches_are_judged_as_they_come() {
    let site = Site::new().await;
    site.append(vec![Fact::Worker(worker("W0001", 7))]).await;
    let task = site.start();
    let ids = site.punches([(1, 7), (2, 8)]).await;
    assert_eq!(site.wait_for(ids[0]).await, Verdict::Verified);
    assert_eq!(site.wait_for(ids[1]).await, UNKNOWN);
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_punches_count_after_their_worker_is_imported_without_a_restart() {
    let site = Site::new().await;
    let task = site.start();
    // More than a page, so that judging again has to turn pages.
    let many = PAGE as u32 + 50;
    let ids = site.punches((0..many).map(|record| (record, 1000 + record))).await;
    site.wait_until(|totals| totals.held == u64::from(many)).await;
    let roster = (0..many).filter(|record| record % 2 == 0).map(|record| numbered(record, 1000 + record));
    site.append(roster.map(Fact::Worker).collect()).await;
    site.wait_until(|totals| totals.verified == u64::from(many / 2)).await;
    assert_eq!(site.verdict(ids[0]).await, Some(Verdict::Verified));
    assert_eq!(site.verdict(ids[1]).await, Some(UNKNOWN));
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn judging_again_stores_only_what_changed() {
    let site = Site::new().await;
    let task = site.start();
    let ids = site.punches([(1, 7), (2, 8)]).await;
    site.wait_until(|totals| totals.held == 2).await;
    site.append(vec![Fact::Worker(worker("W0001", 7))]).await;
    site.wait_until(|totals| totals.verified == 1).await;
    task.stop().await;
    let stories = [site.judgements(ids[0]).await, site.judgements(ids[1]).await];
    assert_eq!(stories.map(|story| story.len()), [2, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_facts_that_went_by_unseen_only_a_change_of_the_roster_leads_back_to_what_was_judged() {
    let site = Site::new().await;
    let mut judge = Judge::new(rules(), site.store.clone(), site.clock.clone(), site.ops.clone()).await;
    // More than a subscriber may be behind.
    let many = 3_000;
    for (round, roster_changes) in [(0, false), (1, true), (2, false)] {
        (judge.new, judge.held, judge.any_changed) = (false, None, false);
        if roster_changes {
            site.append(vec![Fact::Worker(worker("W0001", 7))]).await;
        }
        site.punches((0..many).map(|record| (round * many + record, 7))).await;
        site.wait_until(|totals| totals.punches == u64::from((round + 1) * many)).await;
        judge.drain().await;
        assert!(judge.new);
        assert_eq!((judge.any_changed, judge.held.is_some()), (roster_changes, roster_changes), "{round}");
        assert!(judge.changed.is_empty(), "the change itself was not missed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_not_judged_before_a_crash_is_judged_at_the_start() {
    let site = Site::new().await;
    let first = site.punches([(1, 7)]).await[0];
    let task = site.start();
    assert_eq!(site.wait_for(first).await, UNKNOWN);
    task.stop().await;
    // The gateway dies between the roster's change and judging again, and between a punch and its judgement.
    site.append(vec![Fact::Worker(worker("W0001", 7))]).await;
    let second = site.punches([(2, 7)]).await[0];
    let site = site.reopen().await;
    let task = site.start();
    site.wait_until(|totals| totals.held == 0 && totals.unjudged == 0).await;
    let verdicts = [site.verdict(first).await, site.verdict(second).await];
    assert!(verdicts.contains(&Some(Verdict::Verified)), "{verdicts:?}");
    assert!(verdicts.contains(&Some(Verdict::Rejected(RejectedReason::Duplicate))), "{verdicts:?}");
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistyped_day_of_leaving_is_mended_with_the_roster() {
    let site = Site::new().await;
    let task = site.start();
    site.append(vec![Fact::Worker(left(1))]).await;
    // More than a page, each at another minute.
    let many = PAGE as u32 + 50;
    let ids = site.punches_of_minutes(0..many, 1001).await;
    site.wait_until(|totals| totals.rejected == u64::from(many)).await;
    assert_eq!(site.verdict(ids[0]).await, Some(LEFT));
    site.append(vec![Fact::Worker(numbered(1, 1001))]).await;
    site.wait_until(|totals| totals.verified == u64::from(many)).await;
    task.stop().await;
    let verdicts: Vec<Verdict> = site.judgements(ids[0]).await.iter().map(|judgement| judgement.verdict).collect();
    assert_eq!(verdicts, [LEFT, Verdict::Verified]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_a_crash_cut_off_is_taken_up_at_the_start() {
    let site = Site::new().await;
    site.append(vec![Fact::Worker(left(1))]).await;
    let task = site.start();
    let id = site.punches([(1, 1001)]).await[0];
    assert_eq!(site.wait_for(id).await, LEFT);
    task.stop().await;
    site.append(vec![Fact::Worker(numbered(1, 1001))]).await;
    let site = site.reopen().await;
    let task = site.start();
    site.wait_until(|totals| totals.verified == 1).await;
    task.stop().await;
}

/// What was uploaded cannot be unsent, and what a terminal or the window rejected is no matter of the roster.
#[tokio::test(flavor = "multi_thread")]
async fn a_changed_roster_entry_touches_nothing_but_what_it_may_have_rejected() {
    let site = Site::new().await;
    let task = site.start();
    site.append(vec![Fact::Worker(numbered(1, 1001)), Fact::Worker(left(2))]).await;
    let counted = site.punches_of_minutes(0..1, 1001).await[0];
    assert_eq!(site.wait_for(counted).await, Verdict::Verified);
    let refused = Punch { says: TerminalSays::NotEnrolled, ..punch(7, 1001, Direction::In, MORNING.plus_ms(HOUR)) };
    let twin = punch(8, 1001, Direction::In, MORNING.plus_ms(SECOND));
    let ids = [counted, refused.id, twin.id];
    site.append(vec![Fact::Punch(refused), Fact::Punch(twin)]).await;
    let others = site.punches_of_minutes(100..101, 1002).await[0];
    site.wait_until(|totals| totals.rejected == 3).await;

    // The first has left long ago, says the roster now; the second has not.
    site.append(vec![Fact::Worker(left(1)), Fact::Worker(numbered(2, 1002))]).await;
    assert!(site.becomes(others, Verdict::Verified).await);
    task.stop().await;
    for id in ids {
        assert_eq!(site.judgements(id).await.len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_duplicate_counts_when_the_punch_that_was_kept_does_not() {
    let site = Site::new().await;
    let task = site.start();
    site.append(vec![Fact::Worker(numbered(1, 1001))]).await;
    let ids = site.punches([(1, 1001), (2, 1001)]).await;
    site.wait_until(|totals| totals.verified == 1 && totals.rejected == 1).await;
    let (kept, twin) = match site.verdict(ids[0]).await {
        Some(Verdict::Verified) => (ids[0], ids[1]),
        _ => (ids[1], ids[0]),
    };
    let mut withdrawn = site.judgements(kept).await.remove(0);
    withdrawn.verdict = Verdict::Rejected(RejectedReason::LowSimilarity);
    site.append(vec![Fact::Judgement(withdrawn)]).await;
    site.append(vec![Fact::Worker(Worker { phone: Some("13800000000".to_owned()), ..numbered(1, 1001) })]).await;
    assert!(site.becomes(twin, Verdict::Verified).await);
    task.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_badge_that_was_handed_on_takes_no_rejection_with_it() {
    let site = Site::new().await;
    let task = site.start();
    site.append(vec![Fact::Worker(left(1)), Fact::Worker(left(2))]).await;
    let id = site.punches([(1, 1001)]).await[0];
    assert_eq!(site.wait_for(id).await, LEFT);
    let second = site.punches_of_minutes(100..101, 1002).await[0];
    assert_eq!(site.wait_for(second).await, LEFT);
    // Somebody else has the first one's badge; then both entries change.
    site.append(vec![Fact::Worker(numbered(3, 1001))]).await;
    let moved = Worker { phone: Some("13800000000".to_owned()), ..left(1) };
    site.append(vec![Fact::Worker(moved), Fact::Worker(numbered(2, 1002))]).await;
    assert!(site.becomes(second, Verdict::Verified).await);
    task.stop().await;
    assert_eq!(site.judgements(id).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_judgement_is_counted() {
    let site = Site::new().await;
    let task = site.start();
    site.punches([(1, 7), (2, 8), (3, 9)]).await;
    site.wait_until(|totals| totals.held == 3).await;
    task.stop().await;
    let metrics = site.ops.metrics.encode();
    let line = r#"anxin_judgements_total{verdict="held",reason="unknown-worker"} 3"#;
    assert!(metrics.contains(line), "{metrics}");
}

struct Site {
    dir: tempfile::TempDir,
    store: Store,
    clock: Clock,
    ops: Ops,
}

/// A running task, stopped and joined at the end of each test.
struct Running {
    stop: CancellationToken,
    set: tokio::task::JoinSet<Result<(), Infallible>>,
}

impl Running {
    async fn stop(mut self) {
        self.stop.cancel();
        let ended = tokio::time::timeout(PATIENCE, self.set.join_next()).await.expect("stops in time");
        ended.expect("one task").expect("no panic").expect("no error");
    }
}

impl Site {
    async fn new() -> Site {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::manual(MORNING.plus_ms(MINUTE));
        let store = open(dir.path(), &clock).await;
        Site { dir, store, ops: Ops::new(clock.clone()), clock }
    }

    async fn reopen(self) -> Site {
        self.store.close().await;
        let store = open(self.dir.path(), &self.clock).await;
        Site { store, ..self }
    }

    fn start(&self) -> Running {
        let stop = CancellationToken::new();
        let mut set = tokio::task::JoinSet::new();
        set.spawn(run(rules(), self.store.clone(), self.clock.clone(), self.ops.clone(), stop.clone()));
        Running { stop, set }
    }

    async fn append(&self, facts: Vec<Fact>) {
        self.store.append(facts).await.unwrap();
    }

    /// Punches by (record, badge), all at the same time.
    async fn punches(&self, list: impl IntoIterator<Item = (u32, u32)>) -> Vec<PunchId> {
        let punches: Vec<Punch> =
            list.into_iter().map(|(record, badge)| punch(record, badge, Direction::In, MORNING)).collect();
        let ids = punches.iter().map(|punch| punch.id).collect();
        self.append(punches.into_iter().map(Fact::Punch).collect()).await;
        ids
    }

    /// Punches with one badge, each in its own minute, numbered like the minutes.
    async fn punches_of_minutes(&self, minutes: std::ops::Range<u32>, badge: u32) -> Vec<PunchId> {
        let at = |minute: u32| MORNING.plus_ms(i64::from(minute) * 2 * MINUTE);
        let punches: Vec<Punch> = minutes.map(|minute| punch(minute, badge, Direction::In, at(minute))).collect();
        let ids = punches.iter().map(|punch| punch.id).collect();
        self.append(punches.into_iter().map(Fact::Punch).collect()).await;
        ids
    }

    async fn verdict(&self, id: PunchId) -> Option<Verdict> {
        self.store.read(move |view| Some(view.punch(id)?.judgement?.verdict)).await
    }

    async fn judgements(&self, id: PunchId) -> Vec<Judgement> {
        let story = self.store.read(move |view| view.story(id)).await.unwrap();
        story.judgements.into_iter().map(|(_, judgement)| judgement).collect()
    }

    /// Whether the latest verdict becomes this one in time.
    async fn becomes(&self, id: PunchId, verdict: Verdict) -> bool {
        let mut facts = self.store.subscribe();
        let waited = async {
            while self.verdict(id).await != Some(verdict) {
                let _ = facts.recv().await;
            }
        };
        tokio::time::timeout(PATIENCE, waited).await.is_ok()
    }

    async fn wait_for(&self, id: PunchId) -> Verdict {
        let mut facts = self.store.subscribe();
        let judged = async {
            loop {
                if let Some(verdict) = self.verdict(id).await {
                    return verdict;
                }
                // A missed fact makes this look again, as any other does.
                let _ = facts.recv().await;
            }
        };
        tokio::time::timeout(PATIENCE, judged).await.expect("it is judged in time")
    }

    async fn wait_until(&self, done: impl Fn(crate::store::Totals) -> bool) {
        let mut facts = self.store.subscribe();
        let waited = async {
            while !done(self.store.read(|view| view.totals()).await) {
                let _ = facts.recv().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, waited).await;
        assert!(in_time.is_ok(), "it does not come to that: {:?}", self.store.read(|view| view.totals()).await);
    }
}

async fn open(dir: &Path, clock: &Clock) -> Store {
    let (options, clock) = (StoreOptions::new(dir.to_owned(), Vec::new()), clock.clone());
    tokio::task::spawn_blocking(move || Store::open(options, clock)).await.unwrap().unwrap()
}

/// A worker with an identity number of his own.
fn numbered(number: u32, badge: u32) -> Worker {
    Worker { id_number: format!("110101{:08}0000", 19_000_101 + number), ..worker(&format!("W{number:04}"), badge) }
}

/// The same, gone on the day before the punches.
fn left(number: u32) -> Worker {
    Worker { left_on: Some(jiff::civil::date(2026, 3, 1)), ..numbered(number, 1000 + number) }
}
