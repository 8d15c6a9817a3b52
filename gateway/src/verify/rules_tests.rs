use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::verify::fixtures::*;

/// A punch with its worker, and a way to spoil it.
struct Case {
    punch: Punch,
    matched: Option<Matched>,
}

impl Case {
    fn good() -> Case {
        let matched = Matched { worker: worker("W0001", 7), near: Vec::new(), previous: None };
        Case { punch: punch(1, 7, Direction::In, MORNING), matched: Some(matched) }
    }

    fn with(spoil: impl FnOnce(&mut Case)) -> Case {
        let mut case = Case::good();
        spoil(&mut case);
        case
    }

    fn worker(&mut self) -> &mut Worker {
        &mut self.matched.as_mut().unwrap().worker
    }

    fn near(&mut self, record: u32, after: i64, direction: Direction) -> PunchId {
        let other = punch(record, 7, direction, MORNING.plus_ms(after));
        self.matched.as_mut().unwrap().near.push(presence(&other, "W0001", direction));
        other.id
    }

    fn judge(&self) -> Judgement {
        judge(&self.punch, self.matched.as_ref(), &rules(), self.punch.received_at.plus_ms(SECOND))
    }
}

/// What spoils a punch, in the order of precedence, with the verdict it leads to.
type Spoil = (fn(&mut Case), Verdict);

const PRECEDENCE: [Spoil; 9] = [
    (
        |case| case.punch.says = TerminalSays::Refused("2".to_owned()),
        Verdict::Rejected(RejectedReason::RefusedByTerminal),
    ),
    (|case| case.punch.says = TerminalSays::NotEnrolled, Verdict::Rejected(RejectedReason::NotEnrolled)),
    (|case| case.punch.similarity = Some(79.9), Verdict::Rejected(RejectedReason::LowSimilarity)),
    (|case| case.matched = None, Verdict::Held(HeldReason::UnknownWorker)),
    (|case| case.punch.skew_ms = Some(-61 * SECOND), Verdict::Held(HeldReason::ClockSuspect)),
    (
        |case| {
            case.worker().entered_on = None;
            case.worker().left_on = Some(date(2026, 3, 1));
        },
        Verdict::Rejected(RejectedReason::Left),
    ),
    (|case| case.worker().entered_on = Some(date(2026, 3, 3)), Verdict::Held(HeldReason::BeforeEntry)),
    (|case| case.punch.direction = Direction::Unknown, Verdict::Held(HeldReason::DirectionUnknown)),
    (
        |case| {
            let direction = case.punch.direction;
            case.near(9, -30 * SECOND, direction);
        },
        Verdict::Rejected(RejectedReason::Duplicate),
    ),
];

#[test]
fn each_reason_gives_its_verdict_and_nothing_wrong_is_verified() {
    assert_eq!(Case::good().judge().verdict, Verdict::Verified);
    for (spoil, verdict) in PRECEDENCE {
        assert_eq!(Case::with(spoil).judge().verdict, verdict);
    }
}

#[test]
fn of_two_reasons_the_one_that_stands_first_in_the_table_counts() {
    // Both refusals are one field of the punch, and dates before entry and after leaving exclude each other.
    let exclusive = [(0, 1), (5, 6)];
    for (first, (stronger, verdict)) in PRECEDENCE.iter().enumerate() {
        for (second, (weaker, _)) in PRECEDENCE.iter().enumerate().skip(first + 1) {
            if exclusive.contains(&(first, second)) {
                continue;
            }
            let case = Case::with(|case| {
                // The weaker first: it needs the worker that `unknown-worker` takes away.
                weaker(case);
                stronger(case);
            });
            assert_eq!(case.judge().verdict, *verdict, "{first} before {second}");
        }
    }
}

#[test]
fn a_judgement_says_whom_when_and_by_which_rules() {
    let judgement = Case::good().judge();
    assert_eq!(judgement.punch, Case::good().punch.id);
    assert_eq!((judgement.worker, judgement.rule_version), (Some("W0001".into()), RULE_VERSION));
    assert_eq!(
        (judgement.direction, judgement.direction_inferred, judgement.duplicate_of),
        (Direction::In, false, None)
    );
    assert_eq!(judgement.at, MORNING.plus_ms(2 * SECOND));
    let refused = Case::with(|case| case.punch.says = TerminalSays::Refused("21".to_owned())).judge();
    assert_eq!(refused.worker, Some("W0001".into()), "who was refused is known");
}

#[test]
fn a_score_at_the_limit_is_enough_and_no_score_is_no_low_score() {
    let verdict = |score| Case::with(|case| case.punch.similarity = score).judge().verdict;
    assert_eq!(verdict(Some(80.0)), Verdict::Verified);
    assert_eq!(verdict(None), Verdict::Verified);
    assert_eq!(verdict(Some(f32::NAN)), Verdict::Rejected(RejectedReason::LowSimilarity));
}

#[test]
fn first_and_last_day_are_inclusive_and_days_are_those_of_the_site() {
    // 23:59:59 and 00:00:00 at +08:00 are 15:59:59 and 16:00:00 UTC.
    let midnight = UnixMs(1_772_409_600_000 - 8 * HOUR);
    let verdict = |time: UnixMs, entered, left| {
        let case = Case::with(|case| {
            case.punch.time = time;
            case.punch.received_at = time;
            case.worker().entered_on = entered;
            case.worker().left_on = left;
        });
        case.judge().verdict
    };
    let second = Some(date(2026, 3, 2));
    let last_moment = midnight.plus_ms(DAY - SECOND);
    assert_eq!(verdict(midnight, second, second), Verdict::Verified);
    assert_eq!(verdict(last_moment, second, second), Verdict::Verified);
    assert_eq!(verdict(midnight.plus_ms(-SECOND), second, None), Verdict::Held(HeldReason::BeforeEntry));
    assert_eq!(verdict(last_moment.plus_ms(SECOND), None, second), Verdict::Rejected(RejectedReason::Left));
    assert_eq!(verdict(midnight, None, None), Verdict::Verified, "without dates nothing is checked");
}

#[test]
fn the_same_way_within_the_window_is_a_duplicate_before_and_after() {
    for (after, expected) in [(-60_000, true), (60_000, true), (0, true)] {
        let mut case = Case::good();
        let kept = case.near(9, after, Direction::In);
        let judgement = case.judge();
        assert_eq!(judgement.verdict == Verdict::Rejected(RejectedReason::Duplicate), expected);
        assert_eq!(judgement.duplicate_of, Some(kept));
    }
    let mut other_way = Case::good();
    other_way.near(9, -5 * SECOND, Direction::Out);
    let other_way = other_way.judge();
    assert_eq!((other_way.verdict, other_way.duplicate_of), (Verdict::Verified, None));
}

#[test]
fn a_duplicate_points_to_the_first_of_those_that_count() {
    let mut case = Case::good();
    case.near(8, -50 * SECOND, Direction::Out);
    let first = case.near(9, -40 * SECOND, Direction::In);
    case.near(10, 40 * SECOND, Direction::In);
    assert_eq!(case.judge().duplicate_of, Some(first));
}

#[test]
fn a_punch_is_no_duplicate_of_itself() {
    let case = Case::with(|case| {
        let own = presence(&case.punch, "W0001", Direction::In);
        case.matched.as_mut().unwrap().near.push(own);
    });
    assert_eq!(case.judge().verdict, Verdict::Verified);
}

#[test]
fn a_time_that_cannot_be_right_is_suspect() {
    let suspect = |spoil: fn(&mut Case)| Case::with(spoil).judge().verdict == Verdict::Held(HeldReason::ClockSuspect);
    assert!(!suspect(|case| case.punch.skew_ms = Some(60 * SECOND)));
    assert!(!suspect(|case| case.punch.skew_ms = Some(-60 * SECOND)));
    assert!(!suspect(|case| case.punch.skew_ms = None));
    assert!(suspect(|case| case.punch.skew_ms = Some(60 * SECOND + 1)));
    assert!(suspect(|case| case.punch.skew_ms = Some(i64::MIN)));
    assert!(!suspect(|case| case.punch.received_at = MORNING.plus_ms(-10 * MINUTE)));
    assert!(suspect(|case| case.punch.received_at = MORNING.plus_ms(-10 * MINUTE - 1)));
    assert!(!suspect(|case| case.punch.received_at = MORNING.plus_ms(90 * DAY)), "kept by the terminal for months");
    for time in [0, EARLIEST_PLAUSIBLE.0 - 1, i64::MIN, i64::MAX] {
        let case = Case::with(|case| {
            case.worker().entered_on = None;
            case.punch.time = UnixMs(time);
        });
        assert_eq!(case.judge().verdict, Verdict::Held(HeldReason::ClockSuspect), "{time}");
    }
}

#[test]
fn a_terminal_far_in_the_future_does_not_make_workers_left() {
    let case = Case::with(|case| {
        case.worker().left_on = Some(date(2026, 12, 31));
        case.punch.time = MORNING.plus_ms(70 * 365 * DAY);
    });
    assert_eq!(case.judge().verdict, Verdict::Held(HeldReason::ClockSuspect));
}

#[test]
fn what_a_gateway_without_a_clock_received_is_judged_once_it_has_one() {
    let case = Case::with(|case| {
        case.punch.received_at = UnixMs(5 * MINUTE);
        case.punch.skew_ms = Some(56 * 365 * DAY);
    });
    let at = |now| judge(&case.punch, case.matched.as_ref(), &rules(), now).verdict;
    assert_eq!(at(UnixMs(6 * MINUTE)), Verdict::Held(HeldReason::ClockSuspect));
    assert_eq!(at(MORNING.plus_ms(HOUR)), Verdict::Verified, "the terminal's own clock was right");
    assert_eq!(at(MORNING.plus_ms(-HOUR)), Verdict::Held(HeldReason::ClockSuspect), "it was not");
    let dated_by_us = Case::with(|case| {
        case.punch.received_at = UnixMs(5 * MINUTE);
        case.punch.time_source = TimeSource::Gateway;
    });
    let verdict = judge(&dated_by_us.punch, dated_by_us.matched.as_ref(), &rules(), MORNING.plus_ms(HOUR)).verdict;
    assert_eq!(verdict, Verdict::Held(HeldReason::ClockSuspect), "nobody knows when it was");
}

#[test]
fn a_terminals_skew_says_nothing_about_a_time_that_the_gateway_gave() {
    for source in [TimeSource::Gateway, TimeSource::Uptime { uncertainty_ms: 500 }] {
        let case = Case::with(|case| {
            case.punch.time_source = source;
            case.punch.skew_ms = Some(HOUR);
        });
        assert_eq!(case.judge().verdict, Verdict::Verified);
    }
}

#[test]
fn a_punch_that_a_reader_cannot_date_closely_is_held_as_suspect() {
    let verdict = |uncertainty_ms| {
        Case::with(|case| case.punch.time_source = TimeSource::Uptime { uncertainty_ms }).judge().verdict
    };
    assert_eq!(verdict(60_000), Verdict::Verified);
    assert_eq!(verdict(60_001), Verdict::Held(HeldReason::ClockSuspect));
    assert_eq!(verdict(u32::MAX), Verdict::Held(HeldReason::ClockSuspect), "it cannot be dated at all");
}

/// Previous punch as (time before this one, direction), and what an alternating terminal makes of it.
#[test]
fn an_alternating_terminal_takes_turns_within_the_work_day() {
    let by_turns = |previous: Option<(i64, Direction)>| {
        let case = Case::with(|case| {
            case.punch.direction_source = DirectionSource::Alternate;
            case.punch.direction = Direction::Unknown;
            let matched = case.matched.as_mut().unwrap();
            matched.previous = previous.map(|(before, direction)| {
                presence(&punch(9, 7, direction, MORNING.plus_ms(-before)), "W0001", direction)
            });
        });
        let judgement = case.judge();
        assert_eq!((judgement.verdict, judgement.direction_inferred), (Verdict::Verified, true));
        judgement.direction
    };
    assert_eq!(by_turns(None), Direction::In, "the first of the day");
    assert_eq!(by_turns(Some((2 * MINUTE, Direction::In))), Direction::Out);
    assert_eq!(by_turns(Some((2 * MINUTE, Direction::Out))), Direction::In);
    // It is 07:01:05; the work-day began at 04:00.
    assert_eq!(by_turns(Some((3 * HOUR + 65 * SECOND, Direction::In))), Direction::Out);
    assert_eq!(by_turns(Some((3 * HOUR + 66 * SECOND, Direction::In))), Direction::In, "yesterday's was not closed");
}

#[test]
fn after_midnight_an_alternating_terminal_still_counts_the_day_before() {
    let case = Case::with(|case| {
        let night = MORNING.plus_ms(-4 * HOUR);
        case.punch.time = night;
        case.punch.received_at = night;
        case.punch.direction_source = DirectionSource::Alternate;
        let evening = punch(9, 7, Direction::In, night.plus_ms(-8 * HOUR));
        case.matched.as_mut().unwrap().previous = Some(presence(&evening, "W0001", Direction::In));
    });
    assert_eq!(case.judge().direction, Direction::Out, "at 03:01 the shift that began at 19:01 ends");
}

#[test]
fn touching_an_alternating_terminal_twice_is_one_punch() {
    let mut case = Case::good();
    case.punch.direction_source = DirectionSource::Alternate;
    let kept = case.near(9, -3 * SECOND, Direction::In);
    case.matched.as_mut().unwrap().previous = case.matched.as_ref().unwrap().near.first().cloned();
    let judgement = case.judge();
    assert_eq!(judgement.verdict, Verdict::Rejected(RejectedReason::Duplicate));
    assert_eq!((judgement.direction, judgement.duplicate_of), (Direction::In, Some(kept)));
}

#[test]
fn an_alternating_terminal_says_nothing_about_an_unknown_worker() {
    let case = Case::with(|case| {
        case.matched = None;
        case.punch.direction = Direction::Unknown;
        case.punch.direction_source = DirectionSource::Alternate;
    });
    let judgement = case.judge();
    assert_eq!((judgement.direction, judgement.direction_inferred), (Direction::Unknown, false));
    assert_eq!(judgement.worker, None);
}

#[test]
fn a_worker_is_looked_up_by_the_roster_id_first_and_the_badge_last() {
    let mut punch = punch(1, 7, Direction::In, MORNING);
    punch.credentials = vec![
        Credential::Badge24(0x86CED),
        Credential::TerminalPerson("17".to_owned()),
        Credential::IdNumber("11010519491231002x".to_owned()),
        Credential::Badge(Badge(7)),
        Credential::Text("hello".to_owned()),
        Credential::CustomId("110105491231002".to_owned()),
    ];
    assert_eq!(
        claims(&punch),
        [
            Claim::WorkerId("110105491231002".into()),
            Claim::IdNumber("11010519491231002X".to_owned()),
            Claim::IdNumber("11010519491231002X".to_owned()),
            Claim::Badge24(0x86CED),
            Claim::Badge(Badge(7)),
        ]
    );
    punch.credentials =
        vec![Credential::IdNumber("110105********002X".to_owned()), Credential::CustomId("W1".to_owned())];
    assert_eq!(claims(&punch), [Claim::WorkerId("W1".into())], "a masked number names nobody");
}

proptest! {
    #[test]
    fn no_time_stops_the_rules(time in any::<i64>(), received in any::<i64>(), now in any::<i64>(), skew in any::<Option<i64>>()) {
        let case = Case::with(|case| {
            case.punch.time = UnixMs(time);
            case.punch.received_at = UnixMs(received);
            case.punch.skew_ms = skew;
            case.punch.direction_source = DirectionSource::Alternate;
        });
        judge(&case.punch, case.matched.as_ref(), &rules(), UnixMs(now));
    }
}
