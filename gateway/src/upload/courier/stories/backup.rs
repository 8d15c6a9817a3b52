//! A box is made from a backup while its forerunner has gone on uploading.

use super::*;

/// Punches of a team every minute for so long.
fn punches(world: &mut World, minutes: i64) {
    for minute in 0..minutes {
        let number = [1, 7, 13, 19][minute as usize % 4];
        world.punch(number, world.now().wall);
        world.run(MINUTE);
    }
}

#[test]
fn what_the_forerunner_sent_after_the_backup_is_not_sent_again_and_the_rest_is_sent() {
    for seed in 1..9 {
        let mut world = World::new(seed, settings());
        for number in [1, 7, 13, 19, 25] {
            world.import(worker(number));
        }
        punches(&mut world, 12);
        // Some of these are in a job when the backup is made, others not yet.
        for turn in 0..20 {
            world.punch([1, 7, 13, 19][turn % 4], NOON.plus_ms(turn as i64 * 1_000 - 60_000));
            world.run(Duration::from_millis(50 * seed));
        }
        let backup = world.ledger.clone();
        assert!(backup.open() > 4);
        world.run_dry(HOUR);
        let before = world.platform.book.len();

        world.restore(backup);
        world.punch(25, NOON.plus_ms(-DAY_MS / 24));
        world.run_dry(HOUR);
        assert_eq!((world.platform.book.len(), world.platform.copies()), (before + 1, 0), "seed {seed}");
        assert_eq!(world.platform.violations, Vec::<String>::new());
    }
}

#[test]
fn what_the_forerunner_never_sent_is_sent_and_punches_after_the_restoration_are_not_asked_for() {
    let mut world = World::new(5, settings());
    for number in [1, 7, 13, 19] {
        world.import(worker(number));
    }
    world.run(2 * MINUTE);
    let mut backup = world.ledger.clone();
    for number in [1, 7, 13, 19] {
        let punch = world.punch(number, world.now().wall);
        let place = world.ledger.places[&punch];
        backup.places.insert(punch, place);
        backup.punches.insert(place, world.ledger.punches[&place].clone());
    }
    world.restore(backup);
    world.run_dry(HOUR);
    assert_eq!((world.platform.book.len(), world.platform.copies()), (4, 0));
    let asked = world.platform.received[&Method::QueryAttendance];
    assert!(asked >= 1);
    world.run(2 * MINUTE);
    punches(&mut world, 20);
    world.run_dry(HOUR);
    assert_eq!((world.platform.book.len(), world.platform.copies()), (24, 0));
    assert_eq!(world.platform.received[&Method::QueryAttendance], asked, "new punches need no question");
}
