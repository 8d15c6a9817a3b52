use proptest::prelude::*;

use super::*;
use crate::verify::fixtures::*;

/// A site that remembers everything in plain lists: obviously right, and slow.
#[derive(Default)]
struct Model {
    workers: Vec<Worker>,
    /// Every punch with its latest judgement, in ledger order.
    book: Vec<(Punch, Option<Judgement>)>,
}

impl Known for Model {
    fn holder(&self, claim: &Claim) -> Option<Worker> {
        let holds = |worker: &&Worker| match claim {
            Claim::WorkerId(id) => worker.worker_id == *id,
            Claim::IdNumber(number) => worker.id_number == *number,
            Claim::Badge(badge) => worker.badge == Some(BadgeOnRoster::Full(*badge)),
            Claim::Badge24(_) => false,
        };
        self.workers.iter().find(holds).cloned()
    }

    fn verified(&self, worker: &WorkerId, from: UnixMs, to: UnixMs) -> Vec<Presence> {
        let mut all = self.verified_of(worker);
        all.retain(|presence| (from..=to).contains(&presence.time));
        all
    }

    fn last_before(&self, worker: &WorkerId, time: UnixMs) -> Option<Presence> {
        self.verified_of(worker).into_iter().rfind(|presence| presence.time < time)
    }
}

impl Model {
    fn verified_of(&self, worker: &WorkerId) -> Vec<Presence> {
        let counts =
            |judgement: &Judgement| judgement.verdict == Verdict::Verified && judgement.worker.as_ref() == Some(worker);
        let mut all: Vec<Presence> = self
            .book
            .iter()
            .filter_map(|(punch, judgement)| Some((punch, judgement.as_ref().filter(|judgement| counts(judgement))?)))
            .map(|(punch, judgement)| presence(punch, worker.as_str(), judgement.direction))
            .collect();
        all.sort_by_key(|presence| presence.time);
        all
    }

    fn punch(&mut self, punch: Punch) {
        self.book.push((punch, None));
    }

    /// Judges all that `wants` picks, `page` at a time.
    fn judge(&mut self, page: usize, wants: impl Fn(&Option<Judgement>) -> bool) {
        let picked: Vec<usize> = (0..self.book.len()).filter(|at| wants(&self.book[*at].1)).collect();
        for places in picked.chunks(page) {
            let punches: Vec<Punch> = places.iter().map(|at| self.book[*at].0.clone()).collect();
            let judgements = judge_in_order(self, &punches, &rules(), MORNING.plus_ms(DAY));
            for (at, judgement) in places.iter().zip(judgements) {
                self.book[*at].1 = Some(judgement);
            }
        }
    }

    fn judge_new(&mut self, page: usize) {
        self.judge(page, Option::is_none);
    }

    fn judge_held(&mut self, page: usize) {
        let held = |judgement: &Option<Judgement>| {
            judgement.as_ref().is_some_and(|judgement| matches!(judgement.verdict, Verdict::Held(_)))
        };
        self.judge(page, held);
    }

    fn verdicts(&self) -> Vec<Option<Verdict>> {
        self.book.iter().map(|(_, judgement)| judgement.as_ref().map(|judgement| judgement.verdict)).collect()
    }
}

const VERIFIED: Option<Verdict> = Some(Verdict::Verified);
const DUPLICATE: Option<Verdict> = Some(Verdict::Rejected(RejectedReason::Duplicate));
const UNKNOWN: Option<Verdict> = Some(Verdict::Held(HeldReason::UnknownWorker));

#[test]
fn two_punches_of_one_page_see_each_other() {
    let mut site = Model { workers: vec![worker("W0001", 7)], ..Model::default() };
    site.punch(punch(1, 7, Direction::In, MORNING));
    site.punch(punch(2, 7, Direction::In, MORNING.plus_ms(10 * SECOND)));
    site.punch(punch(3, 7, Direction::Out, MORNING.plus_ms(20 * SECOND)));
    site.judge_new(100);
    assert_eq!(site.verdicts(), [VERIFIED, DUPLICATE, VERIFIED]);
    assert_eq!(site.book[1].1.as_ref().unwrap().duplicate_of, Some(site.book[0].0.id));
}

#[test]
fn what_a_terminal_delivers_late_is_a_duplicate_of_what_came_first() {
    let mut site = Model { workers: vec![worker("W0001", 7)], ..Model::default() };
    site.punch(punch(2, 7, Direction::In, MORNING));
    site.judge_new(100);
    site.punch(punch(1, 7, Direction::In, MORNING.plus_ms(-30 * SECOND)));
    site.judge_new(100);
    assert_eq!(site.verdicts(), [VERIFIED, DUPLICATE]);
}

#[test]
fn turns_are_taken_within_a_page() {
    let mut site = Model { workers: vec![worker("W0001", 7)], ..Model::default() };
    for record in 0..4 {
        let mut punch = punch(record, 7, Direction::Unknown, MORNING.plus_ms(i64::from(record) * HOUR));
        punch.direction_source = DirectionSource::Alternate;
        site.punch(punch);
    }
    site.judge_new(100);
    let directions: Vec<_> = site.book.iter().map(|(_, judgement)| judgement.as_ref().unwrap().direction).collect();
    assert_eq!(directions, [Direction::In, Direction::Out, Direction::In, Direction::Out]);
}

#[test]
fn without_a_window_nothing_is_a_duplicate() {
    let site = Model { workers: vec![worker("W0001", 7)], ..Model::default() };
    let off = Verify { duplicate_window: std::time::Duration::ZERO, ..rules() };
    let twice = [punch(1, 7, Direction::In, MORNING), punch(2, 7, Direction::In, MORNING)];
    let verdicts: Vec<_> = judge_in_order(&site, &twice, &off, MORNING).iter().map(|j| j.verdict).collect();
    assert_eq!(verdicts, [Verdict::Verified, Verdict::Verified]);
}

#[test]
fn held_punches_count_once_their_worker_is_on_the_roster() {
    let mut site = Model::default();
    site.punch(punch(1, 7, Direction::In, MORNING));
    site.punch(punch(2, 7, Direction::In, MORNING.plus_ms(5 * SECOND)));
    site.punch(punch(3, 8, Direction::In, MORNING));
    site.judge_new(2);
    assert_eq!(site.verdicts(), [UNKNOWN, UNKNOWN, UNKNOWN]);
    site.workers.push(worker("W0001", 7));
    site.judge_held(2);
    assert_eq!(site.verdicts(), [VERIFIED, DUPLICATE, UNKNOWN]);
    site.judge_held(2);
    assert_eq!(site.verdicts(), [VERIFIED, DUPLICATE, UNKNOWN], "judging again changes nothing");
}

/// What happens at a site, in any order.
#[derive(Clone, Debug)]
enum Turn {
    /// A badge, seconds after the morning, and whether it goes in.
    Punch(u32, i64, bool),
    /// The holder of this badge comes onto the roster.
    Register(u32),
    JudgeNew,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        6 => (0u32..4, 0i64..400, any::<bool>()).prop_map(|(badge, after, inward)| Turn::Punch(badge, after, inward)),
        1 => (0u32..4).prop_map(Turn::Register),
        2 => Just(Turn::JudgeNew),
    ];
    proptest::collection::vec(turn, 0..60)
}

proptest! {
    /// However punches, judging and registrations mix: in the end each punch of a registered worker counts, or points to
    /// one that does; no two that count are within the window; what belongs to nobody is held.
    #[test]
    fn in_the_end_each_punch_counts_once_or_has_a_reason(turns in turns(), page in 1usize..5) {
        let mut site = Model::default();
        for (record, turn) in (0..).zip(&turns) {
            match turn {
                Turn::Punch(badge, after, inward) => {
                    let direction = if *inward { Direction::In } else { Direction::Out };
                    site.punch(punch(record, *badge, direction, MORNING.plus_ms(after * SECOND)));
                }
                Turn::Register(badge) if site.workers.iter().all(|w| w.badge != Some(BadgeOnRoster::Full(Badge(*badge)))) => {
                    site.workers.push(worker(&format!("W{badge}"), *badge));
                    site.judge_held(page);
                }
                Turn::Register(_) => {}
                Turn::JudgeNew => site.judge_new(page),
            }
        }
        site.judge_new(page);
        site.judge_held(page);
        check(&site)?;
    }
}

fn check(site: &Model) -> Result<(), TestCaseError> {
    let window = rules().duplicate_window.as_millis() as i64;
    let judged: Vec<(&Punch, &Judgement)> =
        site.book.iter().map(|(punch, judgement)| (punch, judgement.as_ref().expect("all are judged"))).collect();
    let counting = || judged.iter().filter(|(_, judgement)| judgement.verdict == Verdict::Verified);
    let is_close = |a: &(&Punch, &Judgement), b: &(&Punch, &Judgement)| {
        a.1.worker == b.1.worker && a.1.direction == b.1.direction && a.0.time.since(b.0.time).abs() <= window
    };
    for one in &judged {
        let registered = one.0.credentials.iter().any(|credential| match credential {
            Credential::Badge(badge) => site.holder(&Claim::Badge(*badge)).is_some(),
            _ => false,
        });
        match one.1.verdict {
            Verdict::Verified => {
                prop_assert!(registered);
                let twins = counting().filter(|other| other.0.id != one.0.id && is_close(one, other)).count();
                prop_assert_eq!(twins, 0, "two that count are within the window");
            }
            Verdict::Rejected(RejectedReason::Duplicate) => {
                let kept = counting().find(|other| Some(other.0.id) == one.1.duplicate_of);
                prop_assert!(kept.is_some_and(|kept| is_close(one, kept)), "a duplicate points to one that counts");
            }
            Verdict::Held(HeldReason::UnknownWorker) => prop_assert!(!registered),
            other => prop_assert!(false, "nothing else is wrong here: {other:?}"),
        }
    }
    Ok(())
}
