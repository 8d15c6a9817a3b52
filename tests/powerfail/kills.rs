//! The campaign of kills: a gateway's store is killed under load, while it opens, and while it salvages; then it is judged
//! and lives on.

use std::fs;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::mpsc;
use std::time::Duration;

use harness::faults::Faults;

use super::damage;
use super::expected::{Expected, lines};
use super::image::Image;
use super::marks;
use super::powercut::program;
use super::trials::{Tally, Trial, Trials};
use super::workload::Kind;

/// Lives of one directory before a fresh one is taken.
const LIVES: u32 = 9;
/// Every so many lives something is damaged before the start.
const DAMAGED_EVERY: u32 = 3;
/// More punches than are stored before the kill.
const PUNCHES: u32 = 5_000;
/// The kill comes within this time after the start; every second time while the store is opening.
const LONGEST_MS: u64 = 160;
const OPENING_MS: u64 = 40;

/// Kills `count` lives.
pub fn campaign(trials: &mut Trials, count: usize, faults: &mut Faults) -> io::Result<Tally> {
    let mut tally = trials.tally("kills");
    let place = trials.scratch.join("kills");
    let mut site = Site::default();
    let mut life = 0;
    for kill in 0..count {
        if life == 0 {
            site = Site::default();
            fs::create_dir_all(place.join("data"))?;
        }
        let story = site.live_and_die(&place, life, kill, faults)?;
        let image = Image::read(&place.join("data"))?;
        // A judge knows expectations by their files.
        let file = place.join(format!("expected-{kill}.json"));
        site.expected.save(&file)?;
        let (digest, promised) = (image.digest(), site.expected.promised.len());
        let verdict =
            trials.try_image(&mut tally, &Trial { image: &image, digest, expected: &file, promised, story })?;
        life += 1;
        // What is wrong once stays wrong.
        if life == LIVES || !verdict.faults.is_empty() {
            life = 0;
            fs::remove_dir_all(&place)?;
        }
    }
    Ok(tally)
}

/// One directory and what was promised about it.
#[derive(Default)]
struct Site {
    expected: Expected,
}

impl Site {
    fn live_and_die(&mut self, place: &Path, life: u32, kill: usize, faults: &mut Faults) -> io::Result<String> {
        let (data, marks) = (place.join("data"), place.join("marks"));
        let mut story = String::new();
        if life % DAMAGED_EVERY == DAMAGED_EVERY - 1 {
            let whole = Image::read(&data)?;
            let mut damaged = whole.clone();
            story = format!("{} and ", damage::random(&mut damaged, faults));
            damage::lose(&mut self.expected, &whole, &damaged);
            self.expected.unwitnessed.extend(damage::unwitnessed(&whole, &damaged));
            fs::remove_dir_all(&data)?;
            damaged.write(&data)?;
        }
        let kind = if kill.is_multiple_of(2) { Kind::Steady } else { Kind::Churn };
        let longest = if faults.happens(0.5) { OPENING_MS } else { LONGEST_MS };
        let after = Duration::from_millis(faults.pick(0..longest));
        let mut child = program(kind, &data, &marks, (life, 1), PUNCHES)?.stderr(Stdio::null()).spawn()?;
        let (_never, pause) = mpsc::channel::<()>();
        let _elapsed = pause.recv_timeout(after);
        child.kill()?;
        child.wait()?;
        self.note(&data, &marks, life)?;
        Ok(format!("{story}{} killed after {after:?} in life {life}", kind.name()))
    }

    /// What the store has promised until it was killed, and what the facts say that it then had.
    fn note(&mut self, data: &Path, marks: &Path, life: u32) -> io::Result<()> {
        let new = match fs::read(marks) {
            Ok(text) => marks::parse(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(error),
        };
        let settled = self.expected.promised.iter().filter_map(|mark| mark.seq()).max().unwrap_or_default();
        self.expected.promised.extend(new);
        self.expected.lives = life + 1;
        if marks.exists() {
            fs::remove_file(marks)?;
        }
        if data.join("ledger").exists() {
            self.expected.lines.retain(|seq, _| *seq <= settled);
            for (seq, line) in lines(data)? {
                self.expected.lines.entry(seq).or_insert(line);
            }
        }
        Ok(())
    }
}
