//! The power-cut campaign: a workload is recorded, and every image that a cut could have left is put on trial.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use harness::faults::Faults;

use super::cuts::{self, Replay, STYLES, Style};
use super::damage;
use super::expected::{self, Expected};
use super::frames;
use super::image::{Content, Image};
use super::marks::{self, Mark};
use super::recorder::{self, Recording};
use super::strace;
use super::trials::{Tally, Trial, Trials};
use super::workload::Kind;

/// Images that are tried of one cut, and cuts in one way through a recording.
const OF_ONE_CUT: usize = 6;
const CUTS: usize = 150;
/// How often a recording is gone through for images that have not been seen, at most.
const ROUNDS: usize = 40;
/// Lives of a recorded workload, and of what is damaged before one.
const LIVES: u32 = 3;

/// A recorded workload, with what its images must hold.
pub struct Recorded {
    kind: Kind,
    story: String,
    recording: Recording,
    /// File of the expectation.
    expected: PathBuf,
    /// Promises that were made before the recording.
    before: usize,
}

/// The program that lives a workload.
pub fn program(kind: Kind, data: &Path, marks: &Path, lives: (u32, u32), punches: u32) -> io::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("workload").args(["--kind", kind.name()]);
    command.arg("--data").arg(data).arg("--marks").arg(marks);
    command.args(["--first-life", &lives.0.to_string(), "--lives", &lives.1.to_string()]);
    command.args(["--punches", &punches.to_string()]);
    Ok(command)
}

/// What a recorded workload begins with.
pub enum Before {
    Nothing,
    /// A directory that was lived in and damaged, in the way of this number.
    Damage(u32),
    /// What a cut of another recording has left.
    Cut(Box<(Image, Expected, String)>),
}

/// Records a workload in a directory of its own below `scratch`.
pub fn record(kind: Kind, before: Before, punches: u32, place: &Path, faults: &mut Faults) -> io::Result<Recorded> {
    let (data, marks, trace) = (place.join("data"), place.join("marks"), place.join("trace"));
    fs::create_dir_all(place)?;
    let (before, mut expected, story) = match before {
        Before::Nothing => (Image::default(), Expected::default(), String::new()),
        Before::Damage(plan) => damaged(plan, punches, &data, &marks, faults)?,
        Before::Cut(cut) => *cut,
    };
    before.write(&data)?;
    let lives = if expected.lives > 0 { 2 } else { LIVES };
    strace::run(&program(kind, &data, &marks, (expected.lives, lives), punches)?, &trace)?;
    let lines = BufReader::with_capacity(1 << 20, File::open(&trace)?);
    let recording = recorder::read(lines, &before, &data, &marks)?;
    check(&recording, &data)?;
    let promised_before = expected.promised.len();
    expected.promised.extend(recording.marks.iter().map(|(_, mark)| *mark));
    expected.lines = expected::lines(&data)?;
    expected.lives += lives;
    let file = place.join("expected.json");
    expected.save(&file)?;
    fs::remove_file(&trace)?;
    Ok(Recorded { kind, story, recording, expected: file, before: promised_before })
}

/// A directory that has been lived in, damaged.
fn damaged(
    plan: u32,
    punches: u32,
    data: &Path,
    marks: &Path,
    faults: &mut Faults,
) -> io::Result<(Image, Expected, String)> {
    let (whole, mut expected) = live(LIVES, punches, data, marks)?;
    let mut damaged = whole.clone();
    let story = damage::plan(plan, &mut damaged, faults);
    damage::lose(&mut expected, &whole, &damaged);
    fs::remove_dir_all(data)?;
    Ok((damaged, expected, story))
}

/// Lives steadily, unrecorded, and says what is there then and what was promised.
pub fn live(lives: u32, punches: u32, data: &Path, marks: &Path) -> io::Result<(Image, Expected)> {
    let output = program(Kind::Steady, data, marks, (0, lives), punches)?.output()?;
    if !output.status.success() {
        return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
    }
    let promised = marks::parse(&fs::read(marks)?)?;
    fs::remove_file(marks)?;
    let lines = expected::lines(data)?;
    Ok((Image::read(data)?, Expected { promised, lines, lives, ..Expected::default() }))
}

/// The harness proves itself: the record, played to its end, is the real directory byte for byte.
fn check(recording: &Recording, data: &Path) -> io::Result<()> {
    let mut replay = Replay::new(recording);
    replay.advance(recording.length);
    match replay.now().difference(&Image::read(data)?) {
        None => Ok(()),
        Some(difference) => Err(io::Error::other(format!("the record is not what happened: {difference}"))),
    }
}

impl Recorded {
    pub fn describe(&self) -> String {
        let Recording { ops, marks, .. } = &self.recording;
        let syncs = ops.iter().filter(|op| matches!(op.effect, super::disk::Effect::Sync { .. })).count();
        let story = if self.story.is_empty() { String::new() } else { format!(" after {}", self.story) };
        let (name, ops, marks) = (self.kind.name(), ops.len(), marks.len());
        format!("{name}: {ops} operations, {syncs} of them syncs, {marks} promises{story}")
    }

    /// What one cut has left, to live on.
    pub fn cut_once(&self, faults: &mut Faults) -> io::Result<Before> {
        let place = faults.pick(0..self.recording.length as u64) as usize;
        let mut replay = Replay::new(&self.recording);
        replay.advance(place);
        let image = replay.image(Style::Reordered, faults);
        let mut expected = Expected::load(&self.expected)?;
        expected.promised.truncate(self.before + cuts::said_by(&self.recording.marks, place));
        Ok(Before::Cut(Box::new((image, expected, format!("a cut at line {place} of {}", self.kind.name())))))
    }

    /// Everything that a cut of this workload can leave.
    pub fn cuts(&self) -> Course<'_> {
        Course {
            recording: &self.recording,
            said: self.recording.marks.clone(),
            before: self.before,
            expected: self.expected.clone(),
            change: Some,
        }
    }

    /// The control of a store that acknowledges before it flushes.
    pub fn early_acknowledgements(&self) -> io::Result<Course<'_>> {
        let said = cuts::said_too_early(&self.recording);
        let mut expected = Expected::load(&self.expected)?;
        expected.promised.truncate(self.before);
        expected.promised.extend(said.iter().map(|(_, mark)| *mark));
        let file = self.expected.with_extension("early.json");
        expected.save(&file)?;
        Ok(Course { said, expected: file, ..self.cuts() })
    }

    /// The control of a store without checksums: what is torn counts as whole.
    pub fn forged(&self) -> Course<'_> {
        Course { change: forged, ..self.cuts() }
    }
}

/// The image with torn frames made whole; none when there is no torn frame in it.
fn forged(mut image: Image) -> Option<Image> {
    let mut is_forged = false;
    for (_, path, mut bytes) in frames::segments(&image) {
        if frames::forge_torn(&mut bytes) {
            is_forged = true;
            image.files.insert(path, Arc::new(Content::of(bytes)));
        }
    }
    is_forged.then_some(image)
}

/// A way through a recording, from cut to cut.
pub struct Course<'r> {
    recording: &'r Recording,
    /// What was promised when.
    said: Vec<(usize, Mark)>,
    /// Promises that were made before the recording.
    before: usize,
    /// File of the expectation.
    expected: PathBuf,
    /// What is done to each image before it is tried.
    change: fn(Image) -> Option<Image>,
}

impl Course<'_> {
    /// Tries images that have not been tried with these promises, until the tally is `enough`.
    pub fn run(
        &self,
        trials: &mut Trials,
        tally: &mut Tally,
        faults: &mut Faults,
        enough: impl Fn(&Tally) -> bool,
    ) -> io::Result<()> {
        let mut seen = BTreeSet::new();
        for _ in 0..ROUNDS {
            let mut replay = Replay::new(self.recording);
            for place in cuts::places(self.recording, CUTS, faults) {
                replay.advance(place);
                let promised = self.before + cuts::said_by(&self.said, place);
                for _ in 0..OF_ONE_CUT {
                    let style = STYLES[faults.pick(0..STYLES.len() as u64) as usize];
                    let image = (self.change)(replay.image(style, faults));
                    let Some(image) = image else { continue };
                    let digest = image.digest();
                    if !seen.insert((digest, promised)) {
                        continue;
                    }
                    let story = format!("cut at line {place}, {style:?}, {promised} promises");
                    let expected = &self.expected;
                    trials.try_image(tally, &Trial { image: &image, digest, expected, promised, story })?;
                    if enough(tally) {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }
}
