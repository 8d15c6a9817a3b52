//! Images on trial: each is put on a disk, judged and removed again; those that fail are kept, to be judged again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use gateway::clock::Clock;
use serde::{Deserialize, Serialize};

use super::image::Image;
use super::judge::{Verdict, Wrong};
use super::panel::Panel;

/// Failing images that are kept of one campaign.
const MOST_KEPT: usize = 6;
const MOST_REBUILT_KEPT: usize = 2;
/// Lines about what is wrong with one image.
const MOST_SAID: usize = 4;

/// Where to work and whom to ask.
pub struct Trials {
    panel: Panel,
    /// Everything here is temporary.
    pub scratch: PathBuf,
    keep: PathBuf,
    pub clock: Clock,
    number: usize,
}

/// One image, and what it must hold.
pub struct Trial<'t> {
    pub image: &'t Image,
    pub digest: [u8; 32],
    /// File of the expectation, of which so many promises had been made.
    pub expected: &'t Path,
    pub promised: usize,
    /// How it came about.
    pub story: String,
}

/// What a campaign has found.
pub struct Tally {
    pub name: String,
    /// Of a negative control nothing is kept or said.
    is_control: bool,
    pub runs: usize,
    pub distinct: usize,
    pub failed: usize,
    /// Images with each kind of fault.
    pub wrong: BTreeMap<Wrong, usize>,
    /// Images whose view had to be built again, and panics in sled that the store has caught.
    pub rebuilt: usize,
    pub caught: usize,
    /// The slowest opening, in milliseconds.
    pub slowest: u64,
    began: Instant,
    pub took: Duration,
    kept: usize,
    rebuilt_kept: usize,
    seen: BTreeSet<[u8; 32]>,
}

/// What is needed to judge a kept image again.
#[derive(Serialize, Deserialize)]
struct Kept {
    promised: usize,
    story: String,
}

impl Trials {
    pub fn new(scratch: &Path, keep: &Path) -> Trials {
        let (scratch, keep) = (scratch.to_owned(), keep.to_owned());
        Trials { panel: Panel::default(), scratch, keep, clock: Clock::system(), number: 0 }
    }

    pub fn tally(&self, name: &str) -> Tally {
        Tally {
            name: name.to_owned(),
            is_control: false,
            runs: 0,
            distinct: 0,
            failed: 0,
            wrong: BTreeMap::new(),
            rebuilt: 0,
            caught: 0,
            slowest: 0,
            began: self.clock.instant(),
            took: Duration::ZERO,
            kept: 0,
            rebuilt_kept: 0,
            seen: BTreeSet::new(),
        }
    }

    /// A tally of images that must fail.
    pub fn control(&self, name: &str) -> Tally {
        Tally { is_control: true, ..self.tally(name) }
    }

    /// Puts an image on trial.
    pub fn try_image(&mut self, tally: &mut Tally, trial: &Trial) -> io::Result<Verdict> {
        self.number += 1;
        let dir = self.scratch.join(format!("image-{}", self.number));
        trial.image.write(&dir)?;
        let verdict = self.panel.judge(&dir, trial.expected, trial.promised)?;
        fs::remove_dir_all(&dir)?;
        if !tally.is_control {
            self.look_closer(tally, trial, &verdict)?;
        }
        tally.count(trial.digest, &verdict, self.clock.instant());
        Ok(verdict)
    }

    /// What is wrong is said and kept; a few images whose view had to be built again are kept too.
    fn look_closer(&self, tally: &mut Tally, trial: &Trial, verdict: &Verdict) -> io::Result<()> {
        let is_wrong = !verdict.faults.is_empty();
        let room = if is_wrong { MOST_KEPT } else { MOST_REBUILT_KEPT };
        let kept = if is_wrong { &mut tally.kept } else { &mut tally.rebuilt_kept };
        if (is_wrong || verdict.view_rebuilt) && *kept < room {
            *kept += 1;
            let place = self.keep(tally, trial)?;
            println!("{}: {}", tally.name, trial.story);
            say(verdict);
            println!("  judge it again: powerfail again {}", place.display());
        }
        Ok(())
    }

    fn keep(&self, tally: &Tally, trial: &Trial) -> io::Result<PathBuf> {
        let name = format!("{}-{}", tally.name, self.number);
        // An earlier campaign may have kept one of the same name, and somebody may still want it.
        let mut place = self.keep.join(&name);
        for further in 2.. {
            if !place.try_exists()? {
                break;
            }
            place = self.keep.join(format!("{name}-{further}"));
        }
        trial.image.write(&place.join("data"))?;
        fs::copy(trial.expected, place.join("expected.json"))?;
        let kept = Kept { promised: trial.promised, story: trial.story.clone() };
        fs::write(place.join("kept.json"), serde_json::to_vec(&kept)?)?;
        Ok(place)
    }

    /// Judges a copy of an image that was kept.
    pub fn again(&mut self, place: &Path) -> io::Result<Verdict> {
        let kept: Kept = serde_json::from_slice(&fs::read(place.join("kept.json"))?)?;
        println!("{}", kept.story);
        let dir = self.scratch.join("again");
        Image::read(&place.join("data"))?.write(&dir)?;
        let verdict = self.panel.judge(&dir, &place.join("expected.json"), kept.promised)?;
        say(&verdict);
        Ok(verdict)
    }
}

fn say(verdict: &Verdict) {
    for (wrong, detail) in verdict.faults.iter().take(MOST_SAID) {
        println!("  {wrong}: {}", detail.chars().take(600).collect::<String>());
    }
    if let Some(more) = verdict.faults.len().checked_sub(MOST_SAID + 1) {
        println!("  and {} more", more + 1);
    }
    if verdict.view_rebuilt {
        let reason = verdict.log.lines().find(|line| line.contains("view is built again"));
        println!("  {}", reason.unwrap_or("the view was built again").trim_start());
    }
}

impl Tally {
    fn count(&mut self, digest: [u8; 32], verdict: &Verdict, now: Instant) {
        self.runs += 1;
        self.seen.insert(digest);
        self.distinct = self.seen.len();
        self.failed += usize::from(!verdict.faults.is_empty());
        let kinds: BTreeSet<Wrong> = verdict.faults.iter().map(|(wrong, _)| *wrong).collect();
        for wrong in kinds {
            *self.wrong.entry(wrong).or_default() += 1;
        }
        self.rebuilt += usize::from(verdict.view_rebuilt);
        self.caught += verdict.caught.len();
        self.slowest = self.slowest.max(verdict.opening_ms);
        self.took = now - self.began;
    }

    /// Whether it ended as it must.
    pub fn is_good(&self) -> bool {
        self.runs > 0 && (self.failed > 0) == self.is_control
    }

    /// The head of the table.
    pub fn head() -> String {
        let columns = "images distinct lost altered doubled unopened refused unsound disagrees unnamed panics timeouts rebuilt caught";
        let columns: String = columns.split(' ').map(|column| format!("{column:>10}")).collect();
        format!("{:<28}{columns}{:>12}{:>9}", "", "slowest", "time")
    }

    pub fn row(&self) -> String {
        let kinds = [
            Wrong::Lost,
            Wrong::Altered,
            Wrong::Doubled,
            Wrong::NotOpened,
            Wrong::Refused,
            Wrong::Unsound,
            Wrong::Disagrees,
            Wrong::Unnamed,
            Wrong::Panicked,
            Wrong::TimedOut,
        ];
        let wrong = kinds.iter().map(|wrong| self.wrong.get(wrong).copied().unwrap_or_default());
        let counts = [self.runs, self.distinct].into_iter().chain(wrong).chain([self.rebuilt, self.caught]);
        let counts: String = counts.map(|count| format!("{count:>10}")).collect();
        let end = match (self.is_good(), self.is_control) {
            (true, false) => String::new(),
            (true, true) => format!("  {} red, as they must be", self.failed),
            (false, true) => "  NOT RED".to_owned(),
            (false, false) => format!("  {} FAILED", self.failed),
        };
        format!("{:<28}{counts}{:>9} ms{:>7} s{end}", self.name, self.slowest, self.took.as_secs())
    }
}
