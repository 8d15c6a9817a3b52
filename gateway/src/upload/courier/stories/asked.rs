//! What becomes of uploads of unknown outcome when the platform answers badly to the question for them.

use super::*;
use crate::punch::Worker;
use crate::upload::courier::model::Lists;

const BAD_LISTS: [Lists; 4] = [Lists::Missing, Lists::Empty, Lists::FirstPageOnly, Lists::Unreadable];

/// A team of four with so many punches of theirs on the platform already, and then eight whose answer is lost.
fn in_doubt(seed: u64, before: u32) -> World {
    let mut world = World::new(seed, settings());
    for number in [1, 7, 13, 19] {
        world.import(worker(number));
    }
    for turn in 0..before {
        world.punch(1, NOON.plus_ms(-7_200_000 + i64::from(turn) * 1_000));
    }
    world.run_dry(HOUR);
    world.platform.loses.insert(Method::AddAttendance);
    for turn in 0..2 {
        for number in [1, 7, 13, 19] {
            world.punch(number, NOON.plus_ms(turn * 1_000 + i64::from(number)));
        }
    }
    world.run(50 * Duration::from_secs(1));
    world.platform.loses.clear();
    assert!(world.ledger.rows.values().any(|row| row.state == UploadState::Unknown));
    world
}

#[test]
fn a_list_that_is_missing_or_cut_off_does_not_say_that_a_punch_is_not_there() {
    for lists in BAD_LISTS {
        for seed in 1..5 {
            let mut world = in_doubt(seed, 60);
            world.platform.lists = lists;
            world.run(20 * MINUTE);
            assert_eq!(world.platform.copies(), 0, "{lists:?}, seed {seed}: sent again without knowing");
            let asked = world.platform.received[&Method::QueryAttendance];
            assert!((3..40).contains(&asked), "{lists:?}: asked {asked} times in 20 minutes");

            world.platform.lists = Lists::Whole;
            world.run_dry(HOUR);
            assert_eq!((world.platform.book.len(), world.platform.copies()), (68, 0), "{lists:?}, seed {seed}");
        }
    }
}

/// Registrations of a subcontractor's worker who changes teams, one after the other.
const REGISTRATIONS: [Method; 5] =
    [Method::AddEmployer, Method::AddTeam, Method::AddWorkers, Method::AddMoves, Method::UpdateWorker];

/// The answers to this registration are lost after the platform has taken it.
fn registered_in_doubt(lost: Method) -> World {
    let mut world = World::new(5, settings());
    world.platform.takes_lost = 1.0;
    world.import(worker(4));
    if lost == Method::UpdateWorker {
        world.import(worker(2));
        world.run(2 * MINUTE);
    }
    world.platform.loses.insert(lost);
    world.import(Worker { team: worker(4).team, ..worker(2) });
    world
}

#[test]
fn a_registration_in_doubt_is_asked_for_and_not_sent_again() {
    for lost in REGISTRATIONS {
        let mut world = registered_in_doubt(lost);
        world.run(50 * Duration::from_secs(1));
        let sent = world.platform.received[&lost];
        world.punch(2, world.now().wall);
        world.run_dry(HOUR);
        assert_eq!(world.platform.received[&lost], sent, "{lost:?}: sent again without asking");
        assert_eq!(world.platform.violations, Vec::<String>::new());
    }
}

#[test]
fn a_registration_that_never_arrives_burns_no_tries() {
    for lost in REGISTRATIONS {
        let mut world = registered_in_doubt(lost);
        world.platform.takes_lost = 0.0;
        world.run(HOUR);
        assert!(world.platform.received[&lost] > 5, "{lost:?}: {:?}", world.platform.received);
        world.platform.loses.clear();
        world.punch(2, world.now().wall);
        world.run_dry(HOUR);
        assert_eq!(world.courier.report(), Report::default(), "{lost:?}");
        assert_eq!(world.platform.workers[&id_number(2)], world.platform.workers[&id_number(4)], "{lost:?}");
    }
}

#[test]
fn a_list_that_is_missing_or_cut_off_does_not_say_that_a_registration_is_not_there() {
    for lists in [Lists::Missing, Lists::Empty, Lists::Unreadable] {
        for lost in REGISTRATIONS {
            let mut world = registered_in_doubt(lost);
            world.platform.lists = lists;
            world.run(50 * Duration::from_secs(1));
            let sent = world.platform.received[&lost];
            world.run(20 * MINUTE);
            assert_eq!(world.platform.received[&lost], sent, "{lost:?}, {lists:?}: sent again without knowing");
            assert!(world.courier.report().unclear > 0, "{lost:?}, {lists:?}");

            world.platform.lists = Lists::Whole;
            world.punch(2, world.now().wall);
            world.run_dry(HOUR);
            assert_eq!(world.platform.received[&lost], sent, "{lost:?}, {lists:?}");
            assert_eq!(world.platform.violations, Vec::<String>::new());
        }
    }
}

#[test]
fn a_registration_whose_list_the_platform_does_not_give_is_sent_again_and_settled() {
    for lost in REGISTRATIONS {
        let mut world = registered_in_doubt(lost);
        world.platform.denies.extend([Method::QueryEmployers, Method::QueryWorkers, Method::QueryMoves]);
        world.run(50 * Duration::from_secs(1));
        world.platform.loses.clear();
        world.punch(2, world.now().wall);
        world.run_dry(HOUR);
        assert_eq!(world.courier.report(), Report::default(), "{lost:?}");
        assert_eq!(world.platform.violations, Vec::<String>::new());
    }
}

#[test]
fn attendance_whose_list_the_platform_does_not_give_is_shown_and_holds_up_nobody_else() {
    let mut world = in_doubt(1, 10);
    world.platform.denies.insert(Method::QueryAttendance);
    world.import(worker(3));
    let punch = world.punch(3, world.now().wall);
    world.run(10 * MINUTE);
    assert_eq!(state_of(&world, punch), UploadState::Confirmed);
    let report = world.courier.report();
    assert_eq!((report.unclear, report.stopped), (8, None));
    let unknown = world.ledger.rows.values().filter(|row| row.state == UploadState::Unknown);
    let reasons: Vec<&str> = unknown.filter_map(|row| row.reason.as_deref()).collect();
    assert!(reasons.iter().all(|reason| reason.contains("does not say")), "{reasons:?}");
    let steps = world.ledger.steps.len();
    world.run(HOUR);
    assert_eq!(world.ledger.steps.len(), steps, "it is written once");

    world.platform.denies.clear();
    world.run_dry(HOUR);
    assert_eq!((world.platform.copies(), world.courier.report().unclear), (0, 0));
}

#[test]
fn code_0_without_a_serial_code_is_asked_for_and_no_receipt() {
    let mut world = World::new(3, settings());
    for number in [1, 7, 13, 19] {
        world.import(worker(number));
    }
    world.run(2 * MINUTE);
    world.platform.trouble.hollow = 1.0;
    for number in [1, 7, 13, 19] {
        world.punch(number, NOON);
    }
    world.run(30 * Duration::from_secs(1));
    world.platform.trouble.hollow = 0.0;
    world.run_dry(HOUR);
    assert_eq!((world.platform.book.len(), world.platform.copies()), (4, 0));
}

#[test]
fn an_item_that_is_named_twice_has_one_receipt() {
    let mut world = site(9, 12, 0);
    world.run(2 * MINUTE);
    world.platform.names_items_twice = true;
    world.platform.refuses.insert(id_number(6), "[dataList][{i}][date]不能大于当天!".to_owned());
    for number in 1..=12 {
        world.punch(number, NOON);
    }
    world.run_dry(HOUR);
    let refusals = world.ledger.steps.iter().filter(|step| matches!(step.step, Step::Refused { .. })).count();
    assert_eq!((refusals, world.courier.report().refused), (1, 1));
    assert_eq!((world.platform.book.len(), world.platform.copies()), (11, 0));
}

#[test]
fn a_question_that_cannot_be_asked_does_not_hide_the_others() {
    let mut world = World::new(5, settings());
    world.platform.loses.extend([Method::AddTeam, Method::QueryTeams]);
    for number in [2, 1] {
        world.import(worker(number));
        world.run(MINUTE);
    }
    world.platform.loses.clear();
    // The employer of the team whose answer was lost first is no longer configured.
    world.settings.employers.retain(|employer| employer.corp_type == "009");
    world.restart();
    let punch = world.punch(1, NOON);
    world.run(10 * MINUTE);
    assert_eq!(state_of(&world, punch), UploadState::Confirmed);
}
