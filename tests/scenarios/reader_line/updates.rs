//! New programs for readers: over a bad wire, over power cuts and restarts of the gateway, while people swipe.

use std::sync::Arc;

use firmware::journal::RamStorage;
use gateway::punch::{Badge, BadgeOnRoster};
use gateway::terminals::firmware::UpdateFile;
use gateway::terminals::line::reader::{Declined, List, Progress};
use protocol::Key;

use super::program::{BOARD, maker};
use super::site::{Flight, Site};

fn file(version: u32) -> Arc<UpdateFile> {
    signed_by(&maker(), BOARD, version)
}

fn signed_by(key: &ed25519_dalek::SigningKey, board: u8, version: u32) -> Arc<UpdateFile> {
    let programs = [(1, vec![version as u8; 3_000]), (2, vec![!version as u8; 3_000])];
    Arc::new(UpdateFile::sign(key, board, version, &programs))
}

fn order(site: &mut Site, file: &Arc<UpdateFile>) -> Result<(), Declined> {
    let now = site.now().instant;
    site.controller.update(0, file.clone(), now)
}

/// Runs until the update has ended.
fn ended(site: &mut Site) -> Progress {
    for _ in 0..600_000 {
        site.step();
        if let Some(end) = site.progress.iter().find(|p| matches!(p, Progress::Done { .. } | Progress::Failed(_))) {
            let end = end.clone();
            site.progress.clear();
            return end;
        }
    }
    panic!("the update has no end: {:?}", site.progress.last());
}

fn why(progress: Progress) -> String {
    let Progress::Failed(reason) = progress else { panic!("{progress:?}") };
    reason
}

#[test]
fn a_new_program_arrives_runs_and_is_followed_by_the_next() {
    let mut site = Site::new(1, 2, true);
    site.run(300);
    for version in 1..=3 {
        assert_eq!(order(&mut site, &file(version)), Ok(()));
        assert_eq!(order(&mut site, &file(version)), Err(Declined::Busy));
        assert_eq!(ended(&mut site), Progress::Done { version });
        assert_eq!(site.gates[0].program.version(), version);
    }
    assert_eq!(site.gates[1].program.version(), 0);
    // What runs already is done at once.
    assert_eq!(order(&mut site, &file(3)), Ok(()));
    assert_eq!(ended(&mut site), Progress::Done { version: 3 });
    assert_eq!(site.attacks, 0);
}

#[test]
fn swipes_cuts_restarts_and_a_bad_wire_neither_stop_an_update_nor_cost_a_punch() {
    let mut arrived = 0;
    for seed in 1..5 {
        let mut site = Site::new(seed, 2, true);
        (site.wire.damaged, site.wire.lost) = (0.1, 0.1);
        site.run(500);
        let (mut version, mut restarts) = (1, 0);
        let _ = order(&mut site, &file(version));
        for _ in 0..120_000 {
            restarts += u32::from(site.rough_step(1));
            if site.gates[0].program.version() == version {
                version += 1;
            }
            // Whoever ordered it orders it again when nothing is on its way.
            if site.ms.is_multiple_of(1_000) {
                let _ = order(&mut site, &file(version));
            }
        }
        assert!(version > 2 && restarts > 10, "seed {seed}: version {version}, {restarts} restarts");
        arrived += version - 1;
        let refused = site.progress.iter().find(|progress| matches!(progress, Progress::Failed(_)));
        assert_eq!(refused, None, "seed {seed}");
        site.calm_down();
        site.check();
    }
    assert!(arrived >= 16, "{arrived} programs in eight minutes");
}

#[test]
fn an_update_goes_on_where_it_was_when_the_reader_had_no_power() {
    let mut site = Site::new(3, 1, true);
    site.run(300);
    order(&mut site, &file(1)).unwrap();
    let far = |site: &Site| site.progress.contains(&Progress::Sending { done: 20, of: 24 });
    while !far(&site) {
        site.step();
    }
    site.progress.clear();
    site.reset(0);
    assert_eq!(
        {
            while site.progress.is_empty() {
                site.step();
            }
            site.run(300);
            let first = site.progress.iter().find_map(|progress| match progress {
                Progress::Sending { done, .. } if *done > 0 => Some(*done),
                _ => None,
            });
            first.unwrap_or(0)
        },
        16,
        "a page of 16 pieces was done"
    );
    assert_eq!(ended(&mut site), Progress::Done { version: 1 });
}

#[test]
fn forged_older_and_foreign_images_are_refused_with_the_reason() {
    let mut site = Site::new(4, 1, true);
    site.run(300);
    order(&mut site, &file(5)).unwrap();
    assert_eq!(ended(&mut site), Progress::Done { version: 5 });
    let stranger = ed25519_dalek::SigningKey::from_bytes(&[7; 32]);
    for (file, reason) in [
        (signed_by(&stranger, BOARD, 6), "not signed"),
        (file(4), "not newer"),
        (signed_by(&maker(), BOARD + 1, 6), "nothing for slot"),
    ] {
        order(&mut site, &file).unwrap();
        let said = why(ended(&mut site));
        assert!(said.contains(reason), "{said}");
    }
    site.run(2_000);
    assert_eq!(site.gates[0].program.version(), 5);
}

#[test]
fn a_program_that_does_not_work_gives_way_and_is_reported() {
    let mut site = Site::new(5, 1, true);
    site.run(300);
    order(&mut site, &file(1)).unwrap();
    assert_eq!(ended(&mut site), Progress::Done { version: 1 });
    site.gates[0].program.works = false;
    order(&mut site, &file(2)).unwrap();
    let said = why(ended(&mut site));
    assert!(said.contains("version 1 runs again"), "{said}");
    let badge = site.swipe(0);
    site.calm_down();
    site.check();
    assert!(site.gates[0].kept.contains_key(&badge));
}

#[test]
fn a_silent_reader_is_told_of_at_once_and_one_that_stays_away_in_the_end() {
    let mut site = Site::new(6, 1, true);
    site.run(300);
    order(&mut site, &file(1)).unwrap();
    site.run(100);
    site.gates[0].powered = false;
    assert!(why(ended(&mut site)).contains("did not go on"));
    assert_eq!(order(&mut site, &file(1)), Err(Declined::Silent));
    site.gates[0].powered = true;
    site.run(10_000);
    order(&mut site, &file(1)).unwrap();
    assert_eq!(ended(&mut site), Progress::Done { version: 1 });
}

/// Somebody with the wire, with a key of his own, and with an update that the maker has signed.
#[test]
fn recorded_and_forged_updates_and_lists_are_refused_and_counted() {
    let mut site = Site::new(7, 1, true);
    let mut forger = Site::new(8, 1, true);
    forger.gates[0].key = Some(Key([0xEE; 16]));
    forger.gates[0].reader = Some(forger.gates[0].start(RamStorage::new()));
    forger.controller = forger.new_controller();
    let listed = |site: &mut Site, badge: u32| {
        let list = List::new(&[BadgeOnRoster::Full(Badge(badge))], site.gates[0].key);
        let now = site.now().instant;
        site.controller.want_list(0, Arc::new(list), now);
    };
    for (desk, version, badge) in [(&mut site, 1, 5), (&mut forger, 2, 6)] {
        desk.run(300);
        listed(desk, badge);
        order(desk, &file(version)).unwrap();
        assert_eq!(ended(desk), Progress::Done { version });
        desk.run(2_000);
    }
    order(&mut site, &file(2)).unwrap();
    assert_eq!(ended(&mut site), Progress::Done { version: 2 });
    listed(&mut site, 7);
    site.run(2_000);

    let before = site.gates[0].damage();
    let recorded: Vec<Vec<u8>> = site.recorded.iter().chain(&forger.recorded).cloned().collect();
    for bytes in recorded {
        site.flights.push_back(Flight { at: site.ms, to_gateway: false, bytes: bytes.clone() });
        site.flights.push_back(Flight { at: site.ms, to_gateway: true, bytes });
        site.run(3);
    }
    site.run(5_000);
    assert_eq!(site.gates[0].program.version(), 2);
    let after = site.gates[0].damage();
    let counted = (after.forged - before.forged, after.stale - before.stale);
    assert!(counted.0 > 100 && counted.1 > 100 && site.attacks > 0, "{counted:?}");
    site.wire.lost = 1.0;
    site.run(3_500);
    let gate = &mut site.gates[0];
    let heard = [5, 6, 7].map(|badge| gate.program.list.has(protocol::Badge::Full(badge)));
    assert_eq!(heard, [Some(false), Some(false), Some(true)]);
}
