//! What the image takes on its chip.

use std::time::Duration;

use harness::emulator::find;
use protocol::{Answer, Request, Seq, Signal, UptimeMs};

use crate::answers::Desk;
use crate::emulated_image;

/// 48 KiB, so that the smallest sensible chip has room for a second copy beside it.
const FLASH: u32 = 48 * 1024;
const RAM: u32 = 16 * 1024;

#[test]
fn the_image_for_the_field_keeps_its_budget() {
    for features in ["l475", "l475,near-field"] {
        let image = match find(features) {
            Ok(image) => image,
            Err(reason) => return println!("SKIP: {reason}"),
        };
        let size = image.size();
        println!(
            "reader image {features}: {} bytes of flash (at most {FLASH}), {} of static RAM (at most {RAM})",
            size.flash, size.ram
        );
        assert!(size.flash > 0 && size.flash <= FLASH && size.ram <= RAM);
    }
}

/// Memory is painted before the start and looked at after everything that a reader does: starts on a used journal, swipes
/// from both modules, every question.
#[test]
fn variables_and_stack_of_the_image_keep_their_budget_together() {
    let Some(image) = emulated_image() else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut desk = Desk::new(&image, dir.path());
    let variables = image.size().ram;
    let (mut deepest, mut committed) = (0, Seq(0));
    for boot in 1..=3_u32 {
        desk.power_up();
        desk.reader.swipe_all((0..100).map(|card| boot << 16 | card));
        let request = |committed| Request::Collect { committed, lost_seen: 0, limit: 6 };
        for round in 0..40_u32 {
            let Answer::Punches { first, punches, now, .. } = desk.ask(&request(committed)) else {
                panic!("no punches")
            };
            committed = Seq((first.0 + punches.len() as u32).saturating_sub(1));
            let questions = [
                Request::Status,
                Request::SetTime { unix_ms: 1_772_406_065_000, at: now },
                Request::Signal { seq: committed, signal: Signal::Unknown },
                Request::Open { order: u64::from(round) + 1, pulse_ms: 1, not_after: UptimeMs(u64::MAX) },
                Request::Start,
            ];
            for question in questions {
                desk.ask(&question);
            }
        }
        desk.reader.pulses([true; 34]);
        std::thread::park_timeout(Duration::from_millis(100));
        deepest = deepest.max(desk.reader.stack(variables));
        desk.reader.power_cut();
    }
    println!(
        "{deepest} bytes of stack beside {variables} of variables (together at most {RAM}); {} punches",
        committed.0
    );
    assert!(committed.0 >= 250, "the swipes came through");
    assert!(deepest > 0 && variables + deepest <= RAM);
}
