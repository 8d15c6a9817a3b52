//! Allow-lists for readers: over a bad wire, over power cuts and restarts of the gateway; and what a reader alone says.

use std::sync::Arc;

use gateway::punch::{Badge, BadgeOnRoster};
use gateway::terminals::line::reader::{List, Listed};
use protocol::{Refusal, UptimeMs};

use super::site::Site;

fn badges(numbers: impl IntoIterator<Item = u32>) -> Vec<BadgeOnRoster> {
    numbers.into_iter().map(|number| BadgeOnRoster::Full(Badge(number))).collect()
}

fn want(site: &mut Site, badges: &[BadgeOnRoster]) {
    let now = site.now().instant;
    for gate in 0..site.gates.len() {
        let list = Arc::new(List::new(badges, site.gates[gate].key));
        site.controller.want_list(gate, list, now);
    }
}

/// What the reader says to a badge that is swiped now.
fn says(site: &mut Site, gate: usize, badge: u32) -> Option<bool> {
    let gate = &mut site.gates[gate];
    let reader = gate.reader.as_ref().unwrap();
    gate.program.says(reader, badge, UptimeMs(site.ms - gate.started))
}

fn leave_alone(site: &mut Site) {
    site.wire.lost = 1.0;
    site.run(3_500);
}

#[test]
fn a_reader_alone_knows_who_is_registered_and_who_has_left() {
    let mut site = Site::new(1, 2, true);
    site.run(300);
    want(&mut site, &badges(1..=100));
    site.run(3_000);
    assert_eq!(site.listed, [(0, Listed::Held(200)), (1, Listed::Held(200))]);
    assert_eq!(says(&mut site, 0, 7), None, "the gateway is there: it judges");
    want(&mut site, &badges(8..=101));
    site.run(3_000);
    site.reset(0);
    leave_alone(&mut site);
    for gate in 0..2 {
        let heard = [7, 8, 101, 102].map(|badge| says(&mut site, gate, badge));
        assert_eq!(heard, [Some(false), Some(true), Some(true), Some(false)], "gate {gate}");
    }
    assert_eq!(site.attacks, 0);
}

#[test]
fn a_list_arrives_over_a_bad_wire_cuts_and_restarts_and_costs_no_punch() {
    for seed in 1..5 {
        let mut site = Site::new(seed, 2, true);
        (site.wire.damaged, site.wire.lost) = (0.15, 0.15);
        let mut first = 0;
        for _ in 0..60_000 {
            site.rough_step(2);
            if site.ms.is_multiple_of(10_000) {
                first += 50;
            }
            if site.ms.is_multiple_of(1_000) {
                want(&mut site, &badges(first..first + 200));
            }
        }
        assert!(site.listed.iter().all(|(_, listed)| *listed == Listed::Held(400)), "seed {seed}: {:?}", site.listed);
        site.calm_down();
        site.check();
        want(&mut site, &badges(first..first + 200));
        site.run(5_000);
        leave_alone(&mut site);
        for gate in 0..2 {
            let heard = [first - 1, first, first + 199, first + 200].map(|badge| says(&mut site, gate, badge));
            assert_eq!(heard, [Some(false), Some(true), Some(true), Some(false)], "seed {seed}, gate {gate}");
        }
    }
}

#[test]
fn a_reader_without_room_is_left_alone_and_goes_on_with_what_it_has() {
    let mut site = Site::new(3, 1, true);
    site.run(300);
    want(&mut site, &badges([5]));
    site.run(1_000);
    // Its place takes 1 024 fingerprints.
    want(&mut site, &badges(0..600));
    site.run(1_000);
    assert_eq!(site.listed, [(0, Listed::Held(2)), (0, Listed::Refused(Refusal::NoFlash))]);
    let badge = site.swipe(0);
    site.calm_down();
    site.check();
    assert!(site.gates[0].kept.contains_key(&badge));
    leave_alone(&mut site);
    assert_eq!((says(&mut site, 0, 5), says(&mut site, 0, 6)), (Some(true), Some(false)));
}
