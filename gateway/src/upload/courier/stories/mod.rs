//! What the courier does in good and bad days, in virtual time.

use std::time::Duration;

use jiff::civil::date;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::model::{DAY_MS, NOON, Trouble, World, settings, worker};
use super::*;
use crate::punch::{PunchId, UploadState};

mod asked;
mod backup;
mod roster;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

/// A site with so many workers, each with so many punches in the last hours.
fn site(seed: u64, workers: u32, punches: u32) -> World {
    let mut world = World::new(seed, settings());
    for number in 1..=workers {
        world.import(worker(number));
    }
    for turn in 0..punches {
        for number in 1..=workers {
            world.punch(number, NOON.plus_ms(-7_200_000 + i64::from(turn * 60_000 + number * 100)));
        }
    }
    world
}

fn state_of(world: &World, punch: PunchId) -> UploadState {
    world.ledger.row(punch).state
}

fn id_number(number: u32) -> String {
    worker(number).id_number
}

/// Each worker's accepted punches are in order of time.
fn assert_in_order(world: &World) {
    let mut last: BTreeMap<&str, &str> = BTreeMap::new();
    for (key, _) in &world.platform.book {
        let before = last.insert(&key.id_number, &key.date);
        assert!(before.is_none_or(|before| before <= key.date.as_str()), "{key:?} came after {before:?}");
    }
}

#[test]
fn registrations_come_first_and_every_punch_gets_its_receipt() {
    let mut world = site(1, 12, 8);
    world.run_dry(HOUR);
    assert_eq!(world.platform.book.len(), 96);
    assert_eq!(world.platform.copies(), 0);
    assert_eq!(world.platform.violations, Vec::<String>::new());
    assert_eq!(world.platform.employers.len(), 1, "the general contractor is not registered again");
    assert!(world.ledger.rows.values().all(|row| row.state == UploadState::Confirmed));
    assert_in_order(&world);
}

#[test]
fn nothing_is_lost_doubled_or_stuck_on_a_bad_platform_with_crashes() {
    let first = std::env::var("ANXIN_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    let mut crashed = 0;
    for seed in first..first + 12 {
        println!("ANXIN_SEED={seed}");
        let mut world = site(seed, 10, 6);
        world.platform.trouble = Trouble {
            lost: 0.1,
            stumble: 0.1,
            too_fast: 0.08,
            job_stumble: 0.05,
            job_fails: 0.05,
            hollow: 0.05,
            empty_lists: 0.1,
        };
        world.platform.names_items_twice = true;
        world.crashes = 0.03;
        world.run_dry(2 * DAY);
        crashed += world.crashed;
        let refused: usize = world.ledger.rows.values().filter(|row| row.state == UploadState::Refused).count();
        assert_eq!(world.platform.book.len() + refused, 60, "seed {seed}");
        assert_eq!(world.platform.copies(), 0, "seed {seed}: a punch was sent twice");
        assert_eq!(world.platform.violations, Vec::<String>::new(), "seed {seed}");
    }
    assert!(crashed > 12, "only {crashed} crashes in 12 runs");
}

#[test]
fn a_courier_killed_at_every_step_in_turn_sends_nothing_twice() {
    for after in 1..60 {
        let mut world = site(after, 4, 3);
        while world.ledger.steps.len() < after as usize && world.ledger.open() > 0 {
            world.run(Duration::from_millis(200));
        }
        world.restart();
        world.run_dry(DAY);
        assert_eq!((world.platform.book.len(), world.platform.copies()), (12, 0), "killed after step {after}");
        assert_eq!(world.platform.violations, Vec::<String>::new(), "killed after step {after}");
    }
}

#[test]
fn a_lost_answer_is_asked_for_before_anything_is_sent_again() {
    let mut world = site(3, 6, 0);
    world.run(2 * MINUTE);
    world.platform.trouble.lost = 1.0;
    for number in 1..=6 {
        world.punch(number, NOON);
    }
    world.run(40 * Duration::from_secs(1));
    let unknown = world.ledger.rows.values().filter(|row| row.state == UploadState::Unknown).count();
    assert!(unknown > 0, "no answer came, so the outcome is unknown");
    world.platform.trouble.lost = 0.0;
    world.run_dry(HOUR);
    assert_eq!((world.platform.book.len(), world.platform.copies()), (6, 0));
}

#[test]
fn an_error_of_the_key_stops_everything_and_burns_no_tries() {
    let mut world = site(4, 6, 4);
    world.platform.bad_key = true;
    world.run(4 * MINUTE);
    assert!(world.courier.report().stopped.is_some());
    assert!(world.platform.requests <= 3, "{} requests with a bad key", world.platform.requests);
    world.run(2 * HOUR);
    assert!(world.platform.requests <= 30, "{} requests with a bad key", world.platform.requests);
    assert!(world.ledger.rows.values().all(|row| row.state != UploadState::Refused));

    world.platform.bad_key = false;
    world.run_dry(HOUR);
    assert_eq!(world.courier.report().stopped, None);
    assert_eq!((world.platform.book.len(), world.platform.copies()), (24, 0));
}

#[test]
fn an_order_from_the_console_ends_the_stop_at_once() {
    let mut world = site(4, 2, 1);
    world.platform.bad_key = true;
    world.run(MINUTE);
    world.platform.bad_key = false;
    world.retry(&[]);
    world.run_dry(MINUTE);
}

#[test]
fn a_platform_that_is_away_for_hours_is_found_again() {
    let mut world = site(5, 6, 2);
    world.run_dry(HOUR);
    world.platform.down = true;
    for number in 1..=6 {
        world.punch(number, world.now().wall);
    }
    let before = world.platform.requests;
    world.run(3 * HOUR);
    assert!(world.courier.report().down.is_some());
    assert_eq!(world.platform.requests, before);
    world.platform.down = false;
    world.run_dry(20 * MINUTE);
    assert_eq!(world.platform.copies(), 0);
}

#[test]
fn a_worker_without_a_required_field_waits_and_names_it() {
    let mut world = World::new(6, settings());
    let mut incomplete = worker(1);
    incomplete.phone = None;
    world.import(incomplete);
    let punch = world.punch(1, NOON);
    world.run(5 * MINUTE);
    let row = &world.ledger.rows[&Subject::Worker("W0001".into())];
    assert_eq!(row.state, UploadState::Waiting);
    assert!(row.reason.as_ref().unwrap().contains("phone"), "{row:?}");
    assert_eq!(state_of(&world, punch), UploadState::Waiting);
    assert!(world.ledger.row(punch).reason.unwrap().contains("phone"));
    let steps = world.ledger.steps.len();
    world.run(HOUR);
    assert_eq!(world.ledger.steps.len(), steps, "waiting is written once");

    world.import(worker(1));
    world.run_dry(5 * MINUTE);
    assert_eq!(world.platform.book.len(), 1);
}

#[test]
fn incomplete_workers_are_sent_when_the_site_says_so() {
    let mut settings = settings();
    settings.platform.missing_worker_fields = MissingWorkerFields::Send;
    let mut world = World::new(6, settings);
    let mut incomplete = worker(1);
    incomplete.phone = None;
    world.import(incomplete);
    world.punch(1, NOON);
    world.run_dry(5 * MINUTE);
}

#[test]
fn a_team_that_exists_already_is_asked_for_its_number() {
    let mut world = World::new(7, settings());
    let team = worker(1).team;
    world.platform.teams.insert(("C009".to_owned(), team.name.clone()), "42".to_owned());
    world.import(worker(1));
    world.punch(1, NOON);
    world.run_dry(10 * MINUTE);
    assert_eq!(world.platform.book[0].1, "42");
    assert_eq!(world.ledger.rows[&Subject::Team(team)].external.as_deref(), Some("42"));
}

#[test]
fn a_worker_who_exists_already_is_registered() {
    let mut world = World::new(8, settings());
    for number in [1, 7, 13] {
        world.import(worker(number));
    }
    let number = "1700000001".to_owned();
    world.platform.workers.insert(id_number(7), number);
    for number in [1, 7, 13] {
        world.punch(number, NOON);
    }
    world.run_dry(20 * MINUTE);
    assert_eq!(world.platform.workers.len(), 3);
    assert_eq!(world.platform.violations, Vec::<String>::new());
}

#[test]
fn a_bad_item_is_refused_and_the_rest_of_its_batch_arrives() {
    let mut world = site(9, 12, 0);
    world.run(2 * MINUTE);
    world.platform.refuses.insert(id_number(6), "[dataList][{i}][date]不能大于当天!".to_owned());
    let punches: Vec<PunchId> = (1..=12).map(|number| world.punch(number, NOON)).collect();
    world.run_dry(HOUR);
    assert_eq!(state_of(&world, punches[5]), UploadState::Refused);
    assert!(world.ledger.row(punches[5]).reason.unwrap().contains("[date]"));
    assert_eq!((world.platform.book.len(), world.platform.copies()), (11, 0));
    assert_eq!(world.courier.report().refused, 1);
}

#[test]
fn a_platform_that_takes_a_batch_up_to_its_bad_item_gets_no_copies() {
    let mut world = site(9, 12, 0);
    world.run(2 * MINUTE);
    world.platform.takes_parts = true;
    for number in [9, 12] {
        world.platform.refuses.insert(id_number(number), "[dataList][{i}][date]值无效!".to_owned());
    }
    for number in 1..=12 {
        world.punch(number, NOON);
    }
    world.run_dry(HOUR);
    assert_eq!((world.platform.book.len(), world.platform.copies()), (10, 0));
}

#[test]
fn a_batch_refused_without_an_index_is_halved_down_to_the_culprit() {
    let mut world = site(10, 12, 0);
    world.run(2 * MINUTE);
    world.platform.refuses.insert(id_number(6), "人员信息异常".to_owned());
    let punches: Vec<PunchId> = (1..=12).map(|number| world.punch(number, NOON)).collect();
    world.run_dry(HOUR);
    let row = world.ledger.row(punches[5]);
    assert_eq!(row.state, UploadState::Refused);
    let alone =
        |step: &&UploadStep| step.subjects == [Subject::Punch(punches[5])] && matches!(step.step, Step::Sending { .. });
    assert_eq!(world.ledger.steps.iter().filter(alone).count(), 5, "tried item_attempts times alone");
    assert_eq!((world.platform.book.len(), world.platform.copies()), (11, 0));
}

#[test]
fn a_refused_worker_holds_the_punches_until_the_row_is_repaired() {
    let mut world = World::new(11, settings());
    world.platform.refuses.insert(id_number(1), "[workerList][{i}][headImage]大小超过限制50KB!".to_owned());
    world.import(worker(1));
    world.import(worker(7));
    let (held, free) = (world.punch(1, NOON), world.punch(7, NOON));
    world.run(10 * MINUTE);
    assert_eq!(state_of(&world, free), UploadState::Confirmed);
    assert_eq!(world.ledger.rows[&Subject::Worker("W0001".into())].state, UploadState::Refused);
    assert_eq!(state_of(&world, held), UploadState::Waiting);
    assert!(world.ledger.row(held).reason.unwrap().contains("headImage"));

    world.platform.refuses.clear();
    world.import(worker(1));
    world.run_dry(10 * MINUTE);
    assert_eq!(world.courier.report().refused, 0);
}

#[test]
fn a_refused_punch_is_sent_again_when_somebody_orders_it() {
    let mut world = site(12, 2, 0);
    world.run(MINUTE);
    world.platform.refuses.insert(id_number(1), "[dataList][{i}][idCardNumber]无效".to_owned());
    let punch = world.punch(1, NOON);
    world.run_dry(10 * MINUTE);
    assert_eq!(state_of(&world, punch), UploadState::Refused);

    world.platform.refuses.clear();
    world.retry(&[Subject::Punch(punch)]);
    world.run_dry(10 * MINUTE);
    assert_eq!(state_of(&world, punch), UploadState::Confirmed);
    assert_eq!(world.courier.report().refused, 0);
}

#[test]
fn a_worker_who_left_is_reported_after_the_last_receipt() {
    let mut world = World::new(13, settings());
    let mut leaver = worker(1);
    leaver.left_on = Some(date(2026, 3, 2));
    world.import(leaver);
    world.punch(1, NOON.plus_ms(-3_600_000));
    world.run(5 * HOUR);
    assert!(world.platform.exits.is_empty(), "the day is not over");
    world.punch(1, world.now().wall);
    world.run(DAY);
    assert_eq!(world.platform.exits, [(id_number(1), 2)], "after both punches");
    world.run(2 * DAY);
    assert_eq!(world.platform.exits.len(), 1);
}

#[test]
fn a_worker_who_left_long_ago_without_punches_is_not_registered() {
    let mut world = World::new(13, settings());
    let mut leaver = worker(1);
    leaver.left_on = Some(date(2026, 2, 1));
    world.import(leaver);
    world.run(HOUR);
    assert_eq!(world.platform.requests, 0);
}

#[test]
fn punches_of_today_do_not_wait_for_a_long_backfill() {
    let mut world = World::new(14, settings());
    for number in 1..=40 {
        world.import(worker(number));
    }
    for turn in 0..400 {
        for number in 1..=40 {
            world.punch(number, NOON.plus_ms(-5 * DAY_MS + i64::from(turn * 60_000 + number)));
        }
    }
    world.import(worker(41));
    world.run(10 * MINUTE);
    assert!(world.ledger.open() > 4_000, "{} open", world.ledger.open());
    let live = world.punch(41, world.now().wall);
    world.run(MINUTE);
    assert_eq!(state_of(&world, live), UploadState::Confirmed);
    assert!(world.largest_window < 8_000);
    assert_in_order(&world);
}

#[test]
fn a_backlog_drains_at_the_rate_that_the_platform_allows() {
    let mut world = site(15, 48, 50);
    let punches = 2_400;
    let start = world.now().wall;
    world.run_dry(HOUR);
    let seconds = world.now().wall.since(start) / 1_000;
    let least = punches / 20;
    assert!(seconds <= least * 13 / 10 + 40, "{punches} punches took {seconds} s; {least} s are the least");
    assert_in_order(&world);
}

#[test]
fn a_hundred_thousand_punches_do_not_come_into_memory_at_once() {
    let mut world = World::new(16, settings());
    for number in 1..=100 {
        let mut one = worker(number);
        one.phone = None;
        world.import(one);
    }
    world.import(worker(101));
    for turn in 0..1_000 {
        for number in 1..=100 {
            world.punch(number, NOON.plus_ms(-9 * DAY_MS + i64::from(turn * 60_000 + number)));
        }
    }
    let last = world.punch(101, NOON);
    world.run(10 * MINUTE);
    assert_eq!(state_of(&world, last), UploadState::Confirmed);
    assert!(world.largest_window < 8_000, "{} in memory", world.largest_window);
    assert_eq!(world.ledger.open(), 100_000);
}

#[test]
fn a_job_that_never_ends_is_asked_for_and_sent_again() {
    let mut settings = settings();
    settings.platform.job_timeout = Duration::from_secs(600);
    let mut world = World::new(17, settings);
    world.import(worker(1));
    world.run(MINUTE);
    world.platform.trouble.job_stumble = 1.0;
    let mut rng = StdRng::seed_from_u64(17);
    for _ in 0..4 {
        world.punch(1, NOON.plus_ms(rng.random_range(-1_000_000..0)));
    }
    world.run(20 * Duration::from_secs(1));
    world.platform.trouble.job_stumble = 0.0;
    world.run_dry(HOUR);
    assert_eq!((world.platform.book.len(), world.platform.copies()), (4, 0));
}
