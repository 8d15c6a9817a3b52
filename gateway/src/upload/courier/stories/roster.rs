//! What becomes of registrations and punches when the roster changes while they are on their way or done.

use jiff::civil::Date;

use super::*;
use crate::punch::{TeamKey, Worker};
use crate::upload::profiles::MoveKind;

const SECOND: Duration = Duration::from_secs(1);

fn subject(number: u32) -> Subject {
    Subject::Worker(worker(number).worker_id)
}

fn entry(number: u32, date: Date) -> Subject {
    Subject::Entry(worker(number).worker_id, date)
}

fn exit(number: u32, date: Date) -> Subject {
    Subject::Exit(worker(number).worker_id, date)
}

fn state(world: &World, subject: &Subject) -> Option<UploadState> {
    world.ledger.rows.get(subject).map(|row| row.state)
}

fn reason(world: &World, subject: &Subject) -> String {
    world.ledger.rows[subject].reason.clone().unwrap_or_default()
}

/// The number that the platform gave to a team.
fn number_of(world: &World, team: &TeamKey) -> String {
    let code = if team.employer == "总包" { "C009" } else { "C006" };
    world.platform.teams[&(code.to_owned(), team.name.clone())].clone()
}

/// Two teams of the general contractor with a worker each, registered.
fn two_teams(seed: u64) -> World {
    let mut world = World::new(seed, settings());
    world.import(worker(1));
    world.import(worker(3));
    world.run(2 * MINUTE);
    assert_ne!(worker(1).team, worker(3).team);
    assert_eq!(world.platform.workers.len(), 2);
    world
}

/// The worker, in the team of another.
fn moved(number: u32, to: u32) -> Worker {
    Worker { team: worker(to).team, ..worker(number) }
}

fn assert_clean(world: &World) {
    assert_eq!(world.platform.violations, Vec::<String>::new());
    assert_eq!(world.platform.copies(), 0);
}

#[test]
fn a_team_that_changes_while_the_registration_is_on_its_way_is_changed_at_the_platform_too() {
    for after in 0..60 {
        for dies in [false, true] {
            let mut world = World::new(after, settings());
            world.import(worker(3));
            world.run(MINUTE);
            world.import(worker(1));
            world.run(Duration::from_millis(300 * after));
            world.import(moved(1, 3));
            if dies {
                world.restart();
            }
            for minute in 0..4 {
                world.punch(1, NOON.plus_ms(minute * 60_000));
                world.run(SECOND);
            }
            world.run_dry(HOUR);
            world.run(10 * MINUTE);
            assert_clean(&world);
            assert_eq!(world.platform.workers[&id_number(1)], number_of(&world, &worker(3).team), "after {after}");
            assert_eq!(world.platform.book.len(), 4);
        }
    }
}

#[test]
fn a_registered_worker_changes_teams_when_none_of_the_punches_is_on_its_way() {
    let mut in_both = 0;
    for after in 1..30 {
        for dies in [false, true] {
            let mut world = two_teams(after);
            for turn in 0..6 {
                world.punch(1, NOON.plus_ms(turn * 1_000));
                world.run(Duration::from_millis(100 * after));
                if turn == 2 {
                    world.import(moved(1, 3));
                }
            }
            if dies {
                world.restart();
            }
            world.run_dry(HOUR);
            world.run(2 * MINUTE);
            world.punch(1, world.now().wall);
            world.run_dry(HOUR);
            assert_clean(&world);
            let (before, now) = (number_of(&world, &worker(1).team), number_of(&world, &worker(3).team));
            assert_eq!(world.platform.workers[&id_number(1)], now);
            let teams: Vec<&str> = world.platform.book.iter().map(|(_, team)| team.as_str()).collect();
            assert_eq!((teams.len(), teams[6]), (7, now.as_str()));
            in_both += usize::from(teams[0] == before);
            assert_eq!(state(&world, &subject(1)), Some(UploadState::Confirmed));
        }
    }
    assert!(in_both > 10, "only {in_both} times were punches on their way under the number that ended");
}

#[test]
fn a_platform_that_changes_no_teams_goes_on_getting_the_punches_under_the_team_that_it_has() {
    let mut world = two_teams(1);
    world.platform.keeps_teams = true;
    world.import(moved(1, 3));
    world.run(10 * MINUTE);
    assert_eq!(state(&world, &subject(1)), Some(UploadState::Refused));
    let there = number_of(&world, &worker(1).team);
    assert!(reason(&world, &subject(1)).contains(&there), "{}", reason(&world, &subject(1)));
    assert_eq!(world.courier.report().refused, 1);
    world.punch(1, world.now().wall);
    world.run_dry(MINUTE);
    assert_eq!(world.platform.book[0].1, there);

    world.restart();
    world.punch(1, world.now().wall);
    world.run_dry(MINUTE);
    world.import(worker(1));
    world.run(MINUTE);
    assert_eq!(state(&world, &subject(1)), Some(UploadState::Confirmed));
    assert_eq!(world.courier.report().refused, 0);
    assert_clean(&world);
}

#[test]
fn a_worker_whom_the_platform_has_in_another_team_is_asked_for_and_moved() {
    let mut world = two_teams(2);
    let elsewhere = number_of(&world, &worker(1).team);
    // Somebody has registered worker 9 there; by the roster the worker belongs to the other team.
    world.platform.workers.insert(id_number(9), elsewhere);
    world.import(worker(9));
    world.punch(9, world.now().wall);
    world.run_dry(HOUR);
    world.run(2 * MINUTE);
    assert_clean(&world);
    assert_eq!(world.platform.workers[&id_number(9)], number_of(&world, &worker(9).team));
}

#[test]
fn a_day_that_was_corrected_before_the_entry_left_is_the_only_one_sent() {
    let mut world = World::new(3, settings());
    world.import(Worker { entered_on: Some(date(2026, 3, 4)), ..worker(1) });
    world.run(HOUR);
    world.import(worker(1));
    world.punch(1, NOON);
    world.run_dry(HOUR);
    world.run(4 * DAY);
    assert_eq!(world.platform.moves[&id_number(1)], [(date(2026, 1, 1), MoveKind::Entry)]);
    assert_clean(&world);
}

#[test]
fn a_refused_entry_whose_day_is_corrected_is_withdrawn() {
    let mut world = World::new(4, settings());
    world.import(worker(1));
    world.run(Duration::from_secs(15));
    world.platform.refuses_days.insert(date(2026, 1, 1));
    world.punch(1, NOON);
    world.run(5 * MINUTE);
    assert_eq!(state(&world, &entry(1, date(2026, 1, 1))), Some(UploadState::Refused));
    world.import(Worker { entered_on: Some(date(2026, 1, 2)), ..worker(1) });
    world.run_dry(5 * MINUTE);
    assert_eq!(state(&world, &entry(1, date(2026, 1, 1))), Some(UploadState::Withdrawn));
    assert_eq!(world.courier.report().refused, 0);
    world.restart();
    world.run(HOUR);
    assert_eq!(world.platform.moves[&id_number(1)], [(date(2026, 1, 2), MoveKind::Entry)]);
    assert_clean(&world);
}

#[test]
fn a_day_that_was_corrected_after_the_entry_waits_for_a_person_and_holds_no_punch() {
    let mut world = World::new(5, settings());
    world.import(worker(1));
    world.run(2 * MINUTE);
    let corrected = entry(1, date(2026, 2, 1));
    world.import(Worker { entered_on: Some(date(2026, 2, 1)), ..worker(1) });
    world.punch(1, NOON);
    world.run_dry(5 * MINUTE);
    assert_eq!(state(&world, &corrected), Some(UploadState::Waiting));
    assert!(reason(&world, &corrected).contains("2026-01-01"), "{}", reason(&world, &corrected));
    world.restart();
    world.run(HOUR);
    let waits = world.ledger.steps.iter().filter(|step| step.subjects.contains(&corrected)).count();
    assert_eq!(waits, 1, "waiting is written once");

    world.import(worker(1));
    world.run(MINUTE);
    assert_eq!(state(&world, &corrected), Some(UploadState::Withdrawn));
    assert_eq!(world.platform.moves[&id_number(1)].len(), 1);
    assert_clean(&world);
}

#[test]
fn a_day_that_a_person_has_corrected_at_the_platform_waits_for_nobody() {
    let mut world = World::new(5, settings());
    world.import(worker(1));
    world.run(2 * MINUTE);
    let corrected = entry(1, date(2026, 2, 1));
    world.import(Worker { entered_on: Some(date(2026, 2, 1)), ..worker(1) });
    world.run(2 * DAY);
    assert_eq!(state(&world, &corrected), Some(UploadState::Waiting));
    let asked = world.platform.received[&Method::QueryMoves];
    assert!((2..4).contains(&asked), "asked {asked} times in two days");
    world.platform.moves.insert(id_number(1), vec![(date(2026, 2, 1), MoveKind::Entry)]);
    world.run(DAY);
    assert_eq!(state(&world, &corrected), Some(UploadState::Confirmed));
    world.restart();
    world.punch(1, world.now().wall);
    world.run_dry(HOUR);
    assert_clean(&world);
}

#[test]
fn an_exit_that_was_withdrawn_before_it_left_is_not_sent() {
    let mut world = World::new(6, settings());
    world.import(Worker { left_on: Some(date(2026, 3, 2)), ..worker(1) });
    world.punch(1, NOON);
    world.run(11 * HOUR);
    world.platform.down = true;
    world.run(2 * HOUR);
    world.import(worker(1));
    world.platform.down = false;
    world.run(2 * DAY);
    assert_eq!(world.platform.exits, []);
    assert_clean(&world);
}

#[test]
fn an_exit_that_was_withdrawn_after_it_left_is_followed_by_the_entry_that_the_roster_names() {
    let mut world = World::new(7, settings());
    world.import(Worker { left_on: Some(date(2026, 3, 2)), ..worker(1) });
    world.punch(1, NOON);
    world.run(DAY);
    assert_eq!(world.platform.exits.len(), 1);

    world.import(worker(1));
    let punch = world.punch(1, world.now().wall);
    world.run(HOUR);
    let awaited = entry(1, date(2026, 3, 3));
    assert_eq!((state_of(&world, punch), state(&world, &awaited)), (UploadState::Waiting, Some(UploadState::Waiting)));
    let why = world.ledger.row(punch).reason.unwrap();
    assert!(why.contains("2026-03-02") && why.contains("entered_on"), "{why}");
    world.restart();
    world.run(HOUR);
    assert_eq!(state_of(&world, punch), UploadState::Waiting);

    world.import(Worker { entered_on: Some(date(2026, 3, 3)), ..worker(1) });
    world.run_dry(HOUR);
    let moves =
        [(date(2026, 1, 1), MoveKind::Entry), (date(2026, 3, 2), MoveKind::Exit), (date(2026, 3, 3), MoveKind::Entry)];
    assert_eq!(world.platform.moves[&id_number(1)], moves);
    assert_clean(&world);
}

#[test]
fn an_exit_whose_day_was_corrected_after_it_left_waits_for_a_person() {
    let mut world = World::new(8, settings());
    world.import(Worker { left_on: Some(date(2026, 3, 2)), ..worker(1) });
    world.punch(1, NOON);
    world.run(DAY);
    world.import(Worker { left_on: Some(date(2026, 3, 1)), ..worker(1) });
    world.run(HOUR);
    let corrected = exit(1, date(2026, 3, 1));
    assert_eq!(state(&world, &corrected), Some(UploadState::Waiting));
    assert!(reason(&world, &corrected).contains("2026-03-02"), "{}", reason(&world, &corrected));
    assert_eq!(world.platform.exits.len(), 1);
    assert_clean(&world);
}

#[test]
fn the_exit_of_a_worker_who_left_while_the_gateway_was_off_is_reported_at_the_next_start() {
    let mut world = World::new(9, settings());
    world.import(worker(1));
    world.punch(1, NOON);
    world.run_dry(HOUR);
    world.import(Worker { left_on: Some(date(2026, 3, 2)), ..worker(1) });
    world.off(3 * DAY);
    world.run(HOUR);
    assert_eq!(world.platform.exits, [(id_number(1), 1)]);
    assert_clean(&world);
}

#[test]
fn an_exit_is_reported_as_soon_as_a_long_outbox_is_read_through() {
    let mut world = World::new(10, settings());
    world.import(worker(1));
    for number in [3, 5] {
        world.import(worker(number));
    }
    world.run(2 * MINUTE);
    world.import(Worker { left_on: Some(date(2026, 3, 2)), ..worker(1) });
    world.off(DAY);
    for turn in 0..1_500 {
        world.punch(3, NOON.plus_ms(turn * 1_000));
    }
    world.restart();
    world.run(HOUR);
    assert_eq!(world.ledger.open(), 0);
    assert_eq!(world.platform.exits.len(), 1, "it need not wait for the next day");
}

#[test]
fn a_roster_that_changes_all_the_time_costs_no_punch_on_a_bad_platform_with_crashes() {
    let first = std::env::var("ANXIN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    for seed in first..first + 12 {
        println!("ANXIN_SEED={seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = site(seed, 10, 2);
        world.platform.trouble = Trouble {
            lost: 0.08,
            stumble: 0.08,
            too_fast: 0.05,
            job_stumble: 0.04,
            job_fails: 0.04,
            hollow: 0.06,
            empty_lists: 0.15,
        };
        world.crashes = 0.02;
        for turn in 0..40 {
            world.run(Duration::from_millis(rng.random_range(0..20_000)));
            let number = rng.random_range(1..=10);
            let mut row = world.ledger.workers[&worker(number).worker_id].clone();
            if rng.random_bool(0.7) {
                row.team = worker(rng.random_range(1..=10)).team;
            } else {
                row.entered_on = Some(date(2026, 1, rng.random_range(1..=3)));
            }
            world.import(row);
            for number in 1..=10 {
                world.punch(number, NOON.plus_ms(i64::from(turn * 1_000 + number)));
            }
        }
        world.run_dry(2 * DAY);
        world.platform.trouble = Trouble::default();
        world.crashes = 0.0;
        world.run(6 * HOUR);
        let refused = world
            .ledger
            .rows
            .iter()
            .filter(|(subject, row)| matches!(subject, Subject::Punch(_)) && row.state == UploadState::Refused);
        assert_eq!(world.platform.book.len() + refused.count(), 420, "seed {seed}");
        assert_clean(&world);
        for (id, row) in &world.ledger.workers {
            let registration = &world.ledger.rows[&Subject::Worker(id.clone())];
            if registration.state == UploadState::Confirmed {
                let there = &world.platform.workers[&row.id_number];
                assert_eq!(*there, number_of(&world, &row.team), "seed {seed}: {id}");
            }
        }
    }
}
