//! The campaign of damage: bits flip, files are cut short or deleted, and the store opens, says what is gone and goes on.

use std::fs;
use std::io;

use harness::faults::Faults;

use super::damage;
use super::powercut::live;
use super::trials::{Tally, Trial, Trials};

const LIVES: u32 = 3;

/// Damages a directory in `count` ways, one thing at a time.
pub fn campaign(trials: &mut Trials, count: usize, punches: u32, faults: &mut Faults) -> io::Result<Tally> {
    let place = trials.scratch.join("flips");
    fs::create_dir_all(&place)?;
    let (whole, sound) = live(LIVES, punches, &place.join("data"), &place.join("marks"))?;
    let mut tally = trials.tally("damage");
    for number in 0..count {
        // A judge knows expectations by their files.
        let file = place.join(format!("expected-{number}.json"));
        let (mut image, mut expected) = (whole.clone(), sound.clone());
        let story = damage::random(&mut image, faults);
        damage::lose(&mut expected, &whole, &image);
        expected.save(&file)?;
        let story = format!("{story}: {} facts and {} photos lost", expected.lost.len(), expected.lost_photos.len());
        let (digest, promised) = (image.digest(), expected.promised.len());
        trials.try_image(&mut tally, &Trial { image: &image, digest, expected: &file, promised, story })?;
        fs::remove_file(&file)?;
    }
    Ok(tally)
}
