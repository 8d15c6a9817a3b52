//! The reader's real image in an emulator, joined to the real gateway and the reference platform. Skipped where there is
//! no emulator or no library for the chip.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the answer")]

mod alone;
mod answers;
mod cuts;
mod earlier_boots;
mod first_swipe;
mod pairing;
mod site;
mod size;
mod updates;

/// The image that the emulator runs; a skip is printed when it cannot run here.
fn emulated_image() -> Option<harness::emulator::Image> {
    emulated_image_with("l475,emulator")
}

fn emulated_image_with(features: &str) -> Option<harness::emulator::Image> {
    let found = match harness::emulator::missing() {
        Some(reason) => Err(reason),
        None => harness::emulator::find(features),
    };
    found.inspect_err(|reason| println!("SKIP: {reason}")).ok()
}
