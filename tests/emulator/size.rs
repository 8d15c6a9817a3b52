//! What the image takes on its chip.

use harness::emulator::find;

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
