use super::*;
use crate::clock::Clock;

fn start() -> Instant {
    Clock::manual(UnixMs(0)).instant()
}

fn numbers(now: Instant, seen: &[u64]) -> Numbers {
    let mut numbers = Numbers::default();
    for &number in seen {
        numbers.handle_record(now, number, UnixMs(number as i64 * 60_000));
    }
    numbers
}

#[test]
fn a_hole_that_closes_by_itself_is_nobodys_business() {
    let now = start();
    let mut numbers = numbers(now, &[1, 2, 5, 4, 3, 6]);
    assert_eq!(numbers.poll_timeout(), None);
    assert_eq!(numbers.poll_action(now + PATIENCE * 2, true), None);
}

#[test]
fn a_hole_is_asked_for_once_and_then_it_is_a_gap() {
    let now = start();
    let mut numbers = numbers(now, &[1, 2, 6]);
    assert_eq!(numbers.poll_action(now, true), None);
    let late = now + PATIENCE;
    assert_eq!(numbers.poll_action(late, false), None, "an absent terminal is not asked");
    let ask = Action::Ask { from: UnixMs(120_000 - MARGIN_MS), to: UnixMs(360_000 + MARGIN_MS) };
    assert_eq!(numbers.poll_action(late, true), Some(ask));
    assert_eq!(numbers.poll_action(late, true), None, "one request at a time");
    numbers.handle_asked(late, true);
    numbers.handle_record(late, 4, UnixMs(240_000));
    let reason = "not pushed again on request";
    let later = late + PATIENCE;
    assert_eq!(numbers.poll_action(later, true), Some(Action::GiveUp { first: 3, last: 3, reason }));
    assert_eq!(numbers.poll_action(later, true), Some(Action::GiveUp { first: 5, last: 5, reason }));
    assert_eq!(numbers.poll_action(later, true), None);
}

#[test]
fn a_terminal_that_never_answers_is_given_up_after_three_requests() {
    let mut now = start();
    let mut numbers = numbers(now, &[1, 3]);
    for _ in 0..3 {
        now += PATIENCE;
        assert!(matches!(numbers.poll_action(now, true), Some(Action::Ask { .. })));
        numbers.handle_asked(now, false);
    }
    now += PATIENCE;
    let reason = "requests not answered";
    assert_eq!(numbers.poll_action(now, true), Some(Action::GiveUp { first: 2, last: 2, reason }));
}

#[test]
fn a_factory_reset_starts_the_numbers_again() {
    let now = start();
    let mut numbers = numbers(now, &[100, 102]);
    numbers.handle_record(now, 1, UnixMs(200 * 60_000));
    let reason = "the terminal counts from the beginning again";
    assert_eq!(numbers.poll_action(now, true), Some(Action::GiveUp { first: 101, last: 101, reason }));
    numbers.handle_record(now, 2, UnixMs(201 * 60_000));
    assert_eq!(numbers.poll_timeout(), None);
}

#[test]
fn an_old_record_sent_again_changes_nothing() {
    let now = start();
    let mut numbers = numbers(now, &[5, 6, 7, 6, 5, 7, 8]);
    assert_eq!(numbers.poll_timeout(), None);
    assert_eq!(numbers.poll_action(now + PATIENCE, true), None);
}

#[test]
fn a_gap_names_its_records() {
    let text = format!("{}: not pushed again on request", gap_text("1306612", 391, 402));
    assert_eq!(named_in(&text, "1306612"), Some(391..=402));
    assert_eq!(named_in(&gap_text("1306612", 7, 7), "1306612"), Some(7..=7));
    for (text, serial) in [(text.as_str(), "130661"), (text.as_str(), "306612"), ("swipes had to be dropped", "")] {
        assert_eq!(named_in(text, serial), None, "{text} of {serial}");
    }
}

fn minute(number: u64) -> (u64, UnixMs) {
    (number, UnixMs(number as i64 * 60_000))
}

fn past(numbers: impl IntoIterator<Item = u64>) -> Past {
    Past { records: numbers.into_iter().map(minute).collect(), ..Past::default() }
}

/// After a restart, with what was stored before it and what comes after.
fn restarted(now: Instant, past: &Past, then: &[u64]) -> Numbers {
    let mut numbers = Numbers::expecting_a_past();
    let (early, late) = then.split_at(then.len() / 2);
    early.iter().copied().map(minute).for_each(|(number, time)| numbers.handle_record(now, number, time));
    assert_eq!(numbers.poll_action(now + PATIENCE, true), None, "nothing is known yet");
    numbers.recall(now, past);
    late.iter().copied().map(minute).for_each(|(number, time)| numbers.handle_record(now, number, time));
    numbers
}

/// The holes that are asked for or given up, when nothing comes of it.
fn missing(numbers: &mut Numbers, mut now: Instant) -> Vec<RangeInclusive<u64>> {
    let mut missing = Vec::new();
    for _ in 0..20 {
        now += PATIENCE;
        while let Some(action) = numbers.poll_action(now, true) {
            match action {
                Action::Ask { .. } => numbers.handle_asked(now, true),
                Action::GiveUp { first, last, .. } => missing.push(first..=last),
            }
        }
    }
    missing
}

#[test]
fn a_hole_across_a_restart_is_noticed_whatever_comes_before_the_past_is_known() {
    let now = start();
    for then in [&[8][..], &[8, 9], &[8, 9, 10, 11]] {
        let mut numbers = restarted(now, &past(1..=5), then);
        assert_eq!(missing(&mut numbers, now), [6..=7], "{then:?}");
    }
    let mut numbers = restarted(now, &past(1..=5), &[6, 7, 8]);
    assert_eq!(missing(&mut numbers, now), []);
    let mut numbers = restarted(now, &Past::default(), &[8, 9]);
    assert_eq!(missing(&mut numbers, now), [], "nothing is known of those before the first");
}

#[test]
fn what_is_sent_again_after_a_restart_opens_no_hole() {
    let now = start();
    for then in [&[500][..], &[450, 501], &[300, 301, 302, 501], &[499, 500, 450, 501, 502]] {
        let mut numbers = restarted(now, &past(400..=500), then);
        assert_eq!(missing(&mut numbers, now), [], "{then:?}");
    }
    let mut out_of_order = restarted(now, &past([400, 401, 404, 402, 403, 405]), &[406]);
    assert_eq!(missing(&mut out_of_order, now), []);
}

#[test]
fn numbers_that_began_anew_while_the_gateway_was_off_open_no_hole() {
    let now = start();
    let mut numbers = Numbers::expecting_a_past();
    numbers.recall(now, &past(400..=500));
    numbers.handle_record(now, 1, UnixMs(600 * 60_000));
    numbers.handle_record(now, 3, UnixMs(602 * 60_000));
    assert_eq!(missing(&mut numbers, now), [2..=2]);

    let mut before = past(400..=500);
    before.records.extend([(1, UnixMs(600 * 60_000)), (2, UnixMs(601 * 60_000))]);
    let mut numbers = Numbers::expecting_a_past();
    numbers.recall(now, &before);
    numbers.handle_record(now, 3, UnixMs(602 * 60_000));
    assert_eq!(missing(&mut numbers, now), []);
}

#[test]
fn a_hole_that_was_open_at_the_restart_is_followed_on_and_a_gap_is_not_told_twice() {
    let now = start();
    let mut before = past([1, 2, 5, 6, 9, 13]);
    before.gaps = vec![7..=8];
    assert_eq!(missing(&mut restarted(now, &before, &[14]), now), [3..=4, 10..=12]);
    before.records.push(minute(11));
    before.gaps = vec![3..=4, 7..=8, 10..=12];
    assert_eq!(missing(&mut restarted(now, &before, &[14]), now), []);
}

#[test]
fn what_may_have_been_stored_before_the_oldest_that_is_known_is_not_missing() {
    let now = start();
    let since = |number: u64| Some(minute(number).1);
    let mut late_first = past([120, 500]);
    late_first.since = since(499);
    assert_eq!(missing(&mut restarted(now, &late_first, &[501, 503]), now), [502..=502]);
    let mut nothing_but_late = past([120]);
    nothing_but_late.since = since(499);
    assert_eq!(missing(&mut restarted(now, &nothing_but_late, &[501, 503]), now), [502..=502]);
}

#[test]
fn a_past_that_does_not_come_costs_bounded_memory() {
    let now = start();
    let mut numbers = Numbers::expecting_a_past();
    for number in 0..2 * MAX_EARLY as u64 {
        numbers.handle_record(now, number, minute(number).1);
    }
    numbers.handle_record(now, 2 * MAX_EARLY as u64 + 1, minute(2 * MAX_EARLY as u64 + 1).1);
    numbers.recall(now, &past(1..=5));
    assert_eq!(missing(&mut numbers, now), [2 * MAX_EARLY as u64..=2 * MAX_EARLY as u64]);
}
