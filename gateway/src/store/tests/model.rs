//! Random facts, and what the view must say of them according to a model that keeps everything in plain lists.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use super::samples::{judgement, punch, step, worker};
use super::{MORNING, SMALL, append, copy_dir, national, open_tuned};
use crate::punch::*;
use crate::store::view::query::View;
use crate::store::{Depth, Outgoing, Presence, PunchFilter, PunchRow, Store, StoreOptions, Totals, Tuning, UploadRow};

/// Wants punches from the eleventh second on.
fn provincial() -> PlatformName {
    PlatformName::from("provincial")
}

fn platforms() -> Vec<(PlatformName, Option<UnixMs>)> {
    vec![(national(), None), (provincial(), Some(MORNING.plus_ms(10_000)))]
}

/// Most punches are in runs of the history.
const TINY: Tuning = Tuning { window: 3, run_length: 3, ..SMALL };

#[derive(Default)]
struct Model {
    punches: Vec<(Seq, Punch)>,
    judgements: BTreeMap<PunchId, Vec<Judgement>>,
    workers: BTreeMap<WorkerId, Worker>,
    roster_version: Seq,
    uploads: BTreeMap<(PlatformName, Subject), UploadRow>,
    outboxes: BTreeMap<(PlatformName, Seq), Outgoing>,
    /// Steps that were told of a punch.
    steps: BTreeMap<PunchId, Vec<Seq>>,
    last_job: BTreeMap<PlatformName, u64>,
    gaps: Vec<(Seq, Gap)>,
}

impl Model {
    fn apply(&mut self, seq: Seq, fact: &Fact) {
        match fact {
            Fact::Punch(punch) => self.punches.push((seq, punch.clone())),
            Fact::Judgement(judgement) => self.judge(judgement),
            Fact::Upload(step) => self.upload(seq, step),
            Fact::Worker(worker) => {
                self.workers.insert(worker.worker_id.clone(), worker.clone());
                self.roster_version = seq;
            }
            Fact::Gap(gap) => self.gaps.push((seq, gap.clone())),
            Fact::Quarantine(_)
            | Fact::Stranger(_)
            | Fact::Adoption(_)
            | Fact::Epoch(_)
            | Fact::DayHead(_)
            | Fact::Restoration(_)
            | Fact::Removal(_) => {}
        }
    }

    fn judge(&mut self, judgement: &Judgement) {
        self.judgements.entry(judgement.punch).or_default().push(judgement.clone());
        let Some(row) = self.row(judgement.punch) else { return };
        for (platform, first) in platforms() {
            let wanted = first.is_none_or(|first| row.time >= first);
            let subject = (platform.clone(), Subject::Punch(row.id));
            let at_rest = self.uploads.get(&subject).is_none_or(|row| is_at_rest(row.state));
            match self.outgoing(row.id) {
                Some(outgoing) if at_rest && wanted => {
                    self.outboxes.insert((platform, row.seq), outgoing);
                    self.uploads.entry(subject).or_insert(queued(judgement.at));
                }
                None if at_rest => {
                    self.outboxes.remove(&(platform, row.seq));
                    self.uploads.remove(&subject);
                }
                Some(_) | None => {}
            }
        }
    }

    fn upload(&mut self, seq: Seq, step: &UploadStep) {
        let last = self.last_job.entry(step.platform.clone()).or_default();
        *last = (*last).max(step.job.0);
        for subject in &step.subjects {
            let key = (step.platform.clone(), subject.clone());
            let before = self.uploads.get(&key).cloned().unwrap_or(queued(MORNING));
            let after = after_step(before, step);
            let state = after.state;
            let Subject::Punch(id) = subject else {
                self.uploads.insert(key, after);
                continue;
            };
            let Some(row) = self.row(*id) else { continue };
            self.steps.entry(*id).or_default().push(seq);
            self.uploads.insert(key.clone(), after);
            let place = (step.platform.clone(), row.seq);
            match self.outgoing(*id) {
                _ if state.is_settled() => {
                    self.outboxes.remove(&place);
                }
                Some(outgoing) if is_at_rest(state) => {
                    self.outboxes.insert(place, outgoing);
                }
                Some(outgoing) => {
                    self.outboxes.entry(place).or_insert(outgoing);
                }
                None if is_at_rest(state) => {
                    self.outboxes.remove(&place);
                    self.uploads.remove(&key);
                }
                None => {}
            }
        }
    }

    fn row(&self, id: PunchId) -> Option<PunchRow> {
        let (seq, punch) = self.punches.iter().find(|(_, punch)| punch.id == id)?;
        Some(PunchRow {
            id,
            seq: *seq,
            terminal: punch.terminal.clone(),
            record: punch.record.clone(),
            time: punch.time,
            received_at: punch.received_at,
            direction: punch.direction,
            method: punch.method,
            photo: punch.photo,
            judgement: self.judgements.get(&id).and_then(|all| all.last().cloned()),
        })
    }

    fn rows(&self) -> Vec<PunchRow> {
        self.punches.iter().filter_map(|(_, punch)| self.row(punch.id)).collect()
    }

    fn presence(&self, row: &PunchRow) -> Option<Presence> {
        let judgement = row.judgement.as_ref().filter(|judgement| judgement.verdict == Verdict::Verified)?;
        Some(Presence {
            worker: judgement.worker.clone()?,
            punch: row.id,
            terminal: row.terminal.clone(),
            time: row.time,
            direction: judgement.direction,
        })
    }

    fn outgoing(&self, id: PunchId) -> Option<Outgoing> {
        let row = self.row(id)?;
        let Presence { worker, punch, terminal, time, direction } = self.presence(&row)?;
        Some(Outgoing { seq: row.seq, punch, worker, terminal, time, direction, method: row.method, photo: row.photo })
    }

    /// Verified punches of a worker by time.
    fn verified_of(&self, worker: &WorkerId) -> Vec<Presence> {
        let mut rows = self.rows();
        rows.sort_by_key(|row| (row.time, row.seq));
        let presences = rows.iter().filter_map(|row| self.presence(row));
        presences.filter(|presence| presence.worker == *worker).collect()
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals { gaps: self.gaps.len() as u64, ..Totals::default() };
        for row in self.rows() {
            totals.punches += 1;
            match row.judgement.map(|judgement| judgement.verdict) {
                None => totals.unjudged += 1,
                Some(Verdict::Verified) => totals.verified += 1,
                Some(Verdict::Held(_)) => totals.held += 1,
                Some(Verdict::Rejected(_)) => totals.rejected += 1,
            }
        }
        totals
    }

    fn depth(&self, platform: &PlatformName) -> Depth {
        let outbox: Vec<&Outgoing> =
            self.outboxes.iter().filter(|((of, _), _)| of == platform).map(|(_, outgoing)| outgoing).collect();
        let settled = |state: UploadState| {
            let rows = self.uploads.iter().filter(|((of, subject), row)| {
                of == platform && matches!(subject, Subject::Punch(_)) && row.state == state
            });
            rows.count() as u64
        };
        Depth {
            open: outbox.len() as u64,
            oldest: outbox.first().map(|outgoing| outgoing.time),
            confirmed: settled(UploadState::Confirmed),
            refused: settled(UploadState::Refused),
        }
    }
}

fn queued(changed_at: UnixMs) -> UploadRow {
    UploadRow {
        state: UploadState::Queued,
        attempts: 0,
        job: None,
        serial: None,
        external: None,
        reason: None,
        changed_at,
    }
}

fn is_at_rest(state: UploadState) -> bool {
    matches!(state, UploadState::Queued | UploadState::Waiting)
}

fn after_step(mut row: UploadRow, step: &UploadStep) -> UploadRow {
    (row.serial, row.reason, row.changed_at) = (None, None, step.at);
    if !matches!(step.step, Step::Waiting { .. }) {
        row.job = Some((step.job, step.method.clone()));
    }
    match step.step.clone() {
        Step::Waiting { reason } => (row.state, row.reason) = (UploadState::Waiting, Some(reason)),
        Step::Sending { .. } => (row.state, row.attempts) = (UploadState::Sending, row.attempts + 1),
        Step::Accepted { serial } => (row.state, row.serial) = (UploadState::Accepted, Some(serial)),
        Step::Confirmed { external, note } => {
            (row.state, row.reason) = (UploadState::Confirmed, note);
            row.external = external.or(row.external);
        }
        Step::Refused { reason } => (row.state, row.reason) = (UploadState::Refused, Some(reason)),
        Step::Requeued { reason } => (row.state, row.reason) = (UploadState::Queued, Some(reason)),
        Step::Unknown { reason } => (row.state, row.reason) = (UploadState::Unknown, Some(reason)),
        Step::Withdrawn { reason } => (row.state, row.reason) = (UploadState::Withdrawn, Some(reason)),
    }
    row
}

/// Every question must be answered as the model answers it.
fn compare(view: &View, model: &Model) {
    let rows = model.rows();
    assert_eq!(view.totals(), model.totals());
    assert_eq!(everything(view, &PunchFilter::default()), rows);
    assert_eq!(view.latest(7), rows.iter().rev().take(7).cloned().collect::<Vec<_>>());
    for row in &rows {
        assert_eq!(view.punch(row.id).as_ref(), Some(row));
        let story = view.story(row.id).unwrap();
        let steps: Vec<Seq> = story.uploads.iter().map(|(seq, _)| *seq).collect();
        assert_eq!(Some(&steps).filter(|all| !all.is_empty()), model.steps.get(&row.id));
        let judgements: Vec<Judgement> = story.judgements.into_iter().map(|(_, judgement)| judgement).collect();
        assert_eq!(Some(&judgements).filter(|all| !all.is_empty()), model.judgements.get(&row.id));
        assert_eq!((&story.row, story.punch.id, story.place.seq), (row, row.id, row.seq));
    }
    compare_filters(view, &rows);
    let of = |wanted: fn(Option<Verdict>) -> bool| {
        let rows = rows.iter().filter(move |row| wanted(row.judgement.as_ref().map(|judgement| judgement.verdict)));
        rows.map(|row| row.id).collect::<Vec<_>>()
    };
    let held: Vec<PunchId> = view.held(Seq(0), 1000).into_iter().map(|(_, punch)| punch.id).collect();
    assert_eq!(held, of(|verdict| matches!(verdict, Some(Verdict::Held(_)))));
    let unjudged: Vec<PunchId> = view.unjudged(1000).into_iter().map(|punch| punch.id).collect();
    assert_eq!(unjudged, of(|verdict| verdict.is_none()));
    compare_presences(view, model);
    assert_eq!(view.workers(), model.workers.values().cloned().collect::<Vec<_>>());
    assert_eq!(view.roster_version(), model.roster_version);
    assert_eq!(view.gaps(1000), model.gaps.iter().rev().cloned().collect::<Vec<_>>());
    for (platform, _) in platforms() {
        compare_platform(view, model, &platform);
    }
}

/// All pages of a listing, three by three.
fn everything(view: &View, filter: &PunchFilter) -> Vec<PunchRow> {
    let mut rows = Vec::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = view.punches(filter, cursor.as_deref(), 3);
        assert!(page.items.len() <= 3);
        rows.extend(page.items);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return rows,
        }
    }
}

fn compare_filters(view: &View, rows: &[PunchRow]) {
    let (from, to) = (MORNING.plus_ms(4_000), MORNING.plus_ms(15_000));
    let by_time = PunchFilter { from: Some(from), to: Some(to), ..PunchFilter::default() };
    let until = PunchFilter { to: Some(to), ..PunchFilter::default() };
    let by_worker = PunchFilter { worker: Some(WorkerId::from("W0001")), from: Some(from), ..PunchFilter::default() };
    let held = PunchFilter { verdict_kind: Some("held".to_owned()), ..PunchFilter::default() };
    let gate = PunchFilter {
        terminal: Some(TerminalId::from("north-in")),
        verdict_kind: Some("verified".to_owned()),
        ..PunchFilter::default()
    };
    for filter in [by_time, until, by_worker, held, gate] {
        let passing = rows.iter().filter(|row| {
            let judgement = row.judgement.as_ref();
            let kind = judgement.map(|judgement| judgement.verdict.kind().to_owned());
            let worker = judgement.and_then(|judgement| judgement.worker.clone());
            filter.from.is_none_or(|from| from <= row.time)
                && filter.to.is_none_or(|to| row.time < to)
                && (filter.terminal.is_none() || filter.terminal.as_ref() == Some(&row.terminal))
                && (filter.verdict_kind.is_none() || filter.verdict_kind == kind)
                && (filter.worker.is_none() || filter.worker == worker)
        });
        assert_eq!(everything(view, &filter), passing.cloned().collect::<Vec<_>>(), "{filter:?}");
    }
}

fn compare_presences(view: &View, model: &Model) {
    let mut last = Vec::new();
    for n in 0..4 {
        let worker = WorkerId(format!("W{n:04}"));
        let verified = model.verified_of(&worker);
        let (from, to) = (MORNING.plus_ms(3_000), MORNING.plus_ms(12_000));
        let within = verified.iter().filter(|presence| (from..=to).contains(&presence.time));
        assert_eq!(view.verified_of(&worker, from, to), within.cloned().collect::<Vec<_>>());
        let before = verified.iter().rfind(|presence| presence.time < to);
        assert_eq!(view.last_verified_before(&worker, to).as_ref(), before);
        last.extend(verified.last().cloned());
    }
    assert_eq!(view.presences(UnixMs(0)), last);
}

fn compare_platform(view: &View, model: &Model, platform: &PlatformName) {
    let uploads: BTreeMap<Subject, UploadRow> = model
        .uploads
        .iter()
        .filter(|((of, _), _)| of == platform)
        .map(|((_, subject), row)| (subject.clone(), row.clone()))
        .collect();
    let outbox: Vec<(Outgoing, UploadRow)> = model
        .outboxes
        .iter()
        .filter(|((of, _), _)| of == platform)
        .map(|(_, outgoing)| (outgoing.clone(), uploads[&Subject::Punch(outgoing.punch)].clone()))
        .collect();
    assert_eq!(view.outbox(platform, Seq(0), 1000), outbox);
    assert_eq!(view.depth(platform), model.depth(platform));
    assert_eq!(view.last_job(platform).0, model.last_job.get(platform).copied().unwrap_or(0));
    for (subject, row) in &uploads {
        assert_eq!(view.upload(platform, subject).as_ref(), Some(row), "{subject:?}");
    }
    let is_flying =
        |row: &UploadRow| matches!(row.state, UploadState::Sending | UploadState::Accepted | UploadState::Unknown);
    let flying: BTreeSet<Subject> =
        uploads.iter().filter(|(_, row)| is_flying(row)).map(|(subject, _)| subject.clone()).collect();
    assert_eq!(
        view.uploads_in_flight(platform).into_iter().map(|(subject, _)| subject).collect::<BTreeSet<_>>(),
        flying
    );
    let registrations: BTreeMap<Subject, UploadRow> = view.registrations(platform).into_iter().collect();
    let expected = uploads.iter().filter(|(subject, _)| !matches!(subject, Subject::Punch(_)));
    assert_eq!(registrations, expected.map(|(subject, row)| (subject.clone(), row.clone())).collect());
    let states = [None].into_iter().chain(ALL_STATES.map(Some));
    for state in states {
        let expected = uploads.iter().filter(|(_, row)| state.is_none_or(|state| row.state == state));
        assert_eq!(all_uploads(view, platform, state), expected.map(|(s, row)| (s.clone(), row.clone())).collect());
    }
}

const ALL_STATES: [UploadState; 8] = [
    UploadState::Queued,
    UploadState::Waiting,
    UploadState::Sending,
    UploadState::Accepted,
    UploadState::Confirmed,
    UploadState::Refused,
    UploadState::Unknown,
    UploadState::Withdrawn,
];

fn all_uploads(view: &View, platform: &PlatformName, state: Option<UploadState>) -> BTreeMap<Subject, UploadRow> {
    let mut rows = BTreeMap::new();
    let mut cursor: Option<String> = None;
    loop {
        let page = view.uploads(platform, state, cursor.as_deref(), 2);
        for (subject, row) in page.items {
            assert!(rows.insert(subject, row).is_none(), "listed twice");
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => return rows,
        }
    }
}

fn any_punch() -> impl Strategy<Value = Punch> {
    (0..25u32, any::<bool>(), 0..20i64).prop_map(|(n, north, second)| Punch {
        terminal: TerminalId::from(if north { "north-in" } else { "south-out" }),
        time: MORNING.plus_ms(second * 1_000),
        ..punch(n)
    })
}

fn any_id() -> impl Strategy<Value = PunchId> {
    (0..25u32).prop_map(|n| punch(n).id)
}

fn any_judgement() -> impl Strategy<Value = Judgement> {
    let verdict = prop_oneof![
        3 => Just(Verdict::Verified),
        1 => Just(Verdict::Held(HeldReason::UnknownWorker)),
        1 => Just(Verdict::Rejected(RejectedReason::Duplicate)),
    ];
    (any_id(), verdict, 0..4u32, any::<bool>()).prop_map(|(id, verdict, worker, known)| {
        let mut judgement = judgement(id, verdict, &format!("W{worker:04}"));
        if !known && verdict != Verdict::Verified {
            judgement.worker = None;
        }
        judgement
    })
}

fn any_step() -> impl Strategy<Value = UploadStep> {
    let text = || "because".to_owned();
    let what = prop_oneof![
        Just(Step::Waiting { reason: text() }),
        Just(Step::Sending { request_hash: [7; 32] }),
        Just(Step::Accepted { serial: "S1".to_owned() }),
        Just(Step::Confirmed { external: Some("77".to_owned()), note: None }),
        Just(Step::Confirmed { external: None, note: Some(text()) }),
        Just(Step::Refused { reason: text() }),
        Just(Step::Requeued { reason: text() }),
        Just(Step::Unknown { reason: text() }),
        Just(Step::Withdrawn { reason: text() }),
    ];
    let subject = prop_oneof![
        6 => any_id().prop_map(Subject::Punch),
        1 => (0..4u32).prop_map(|n| Subject::Worker(worker(n).worker_id)),
        1 => Just(Subject::Team(worker(1).team)),
        1 => Just(Subject::Entry(worker(2).worker_id, jiff::civil::date(2026, 3, 1))),
    ];
    (any::<bool>(), 1..50u64, prop::collection::btree_set(subject, 1..6), what).prop_map(
        |(first, job, subjects, what)| UploadStep {
            platform: if first { national() } else { provincial() },
            ..step(job, subjects.into_iter().collect(), what)
        },
    )
}

fn any_fact() -> impl Strategy<Value = Fact> {
    prop_oneof![
        4 => any_punch().prop_map(Fact::Punch),
        4 => any_judgement().prop_map(Fact::Judgement),
        4 => any_step().prop_map(Fact::Upload),
        1 => (0..4u32, any::<bool>()).prop_map(|(n, leader)| Fact::Worker(Worker { leader, ..worker(n) })),
        1 => (0..99i64).prop_map(|at| Fact::Gap(Gap {
            terminal: Some(TerminalId::from("north-in")),
            at: UnixMs(at),
            count: Some(3),
            kind: GapKind::JournalFull,
            detail: "boot 3, from 17".to_owned(),
        })),
    ]
}

fn open(dir: &Path) -> Store {
    open_tuned(StoreOptions::new(dir.to_owned(), platforms()), TINY)
}

/// Appends facts and tells the model of those that are new; a judgement comes after its punch, as in life.
async fn feed(store: &Store, model: &mut Model, facts: &[Fact]) {
    for fact in facts {
        if let Fact::Judgement(judgement) = fact
            && model.row(judgement.punch).is_none()
        {
            continue;
        }
        let appended = append(store, vec![fact.clone()]).await[0];
        if appended.new {
            model.apply(appended.seq, fact);
        }
    }
}

async fn check_and_close(store: Store, model: Model) -> Model {
    let model = store
        .read(move |view| {
            compare(view, &model);
            model
        })
        .await;
    store.close().await;
    model
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Before and after reopening, with the view as it was half-way, and built again from nothing.
    #[test]
    fn the_view_says_what_the_facts_say(
        first in prop::collection::vec(any_fact(), 1..100),
        second in prop::collection::vec(any_fact(), 1..100),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let view = dir.path().join("view");
            let half_way = dir.path().join("view.half-way");
            let mut model = Model::default();
            let store = open(dir.path());
            feed(&store, &mut model, &first).await;
            let model = check_and_close(store, model).await;
            copy_dir(&view, &half_way);

            let store = open(dir.path());
            let mut model = check_and_close(store, model).await;
            let store = open(dir.path());
            feed(&store, &mut model, &second).await;
            let model = check_and_close(store, model).await;

            std::fs::remove_dir_all(&view).unwrap();
            std::fs::rename(&half_way, &view).unwrap();
            let model = check_and_close(open(dir.path()), model).await;

            std::fs::remove_dir_all(&view).unwrap();
            check_and_close(open(dir.path()), model).await;
        });
    }
}
