//! A reader's life at its journal, told from a seed, with a power cut at a chosen step and three more; and a judge who
//! remembers only what was said aloud.

use std::collections::BTreeMap;
use std::marker::PhantomData;

use firmware::FlashRing;
use firmware::journal::{Batch, Journal, Recovered};
use firmware::ring::rules::Rules;
use protocol::{Badge, BootId, Punch, Seq, UptimeMs};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use crate::chip::{Chip, Torn};

/// Cuts after the first one.
const MORE_CUTS: usize = 3;

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Places where the power was cut.
    pub steps: usize,
    /// Times that the power was cut.
    pub cuts: usize,
    /// The first promise that was broken.
    pub broken: Option<String>,
}

impl Outcome {
    pub fn plus(&self, other: &Outcome) -> Outcome {
        let broken = self.broken.clone().or_else(|| other.broken.clone());
        Outcome { steps: self.steps + other.steps, cuts: self.cuts + other.cuts, broken }
    }
}

/// Tells the same life again and again, each time with the power cut one step later, in every way it can tear.
pub fn cut_everywhere<const PAGE: usize, const PAGES: usize, R: Rules>(seed: u64, acts: usize) -> Outcome {
    let mut outcome = Outcome::default();
    let mut whole = Life::<PAGE, PAGES, R>::new(seed);
    whole.looks = true;
    let steps = match whole.live(acts) {
        Ok(life) => life.chip.steps(),
        Err(broken) => return Outcome { broken: Some(format!("without a cut: {broken}")), ..outcome },
    };
    outcome.steps = steps;
    for step in 0..steps {
        for torn in Torn::ALL {
            let mut life = Life::<PAGE, PAGES, R>::new(seed);
            life.chip.cut_after(step, torn);
            let lived = life.live(acts).and_then(|life| life.live_on(seed ^ step as u64));
            outcome.cuts += 1 + MORE_CUTS;
            if let Err(broken) = lived {
                outcome.broken = Some(format!("seed {seed}, cut at step {step} {torn:?}: {broken}"));
                return outcome;
            }
        }
    }
    outcome
}

/// A chip, its chances, and what the judge remembers.
struct Life<const PAGE: usize, const PAGES: usize, R> {
    chip: Chip<PAGE>,
    rng: StdRng,
    judge: Judge,
    next_badge: u32,
    /// Before the first cut all lives are the same: looking ahead once is enough.
    looks: bool,
    rules: PhantomData<R>,
}

type Verdict<T> = Result<T, String>;
type Ring<'a, const PAGE: usize, const PAGES: usize, R> = FlashRing<&'a mut Chip<PAGE>, PAGES, R>;

impl<const PAGE: usize, const PAGES: usize, R: Rules> Life<PAGE, PAGES, R> {
    fn new(seed: u64) -> Self {
        let (chip, rng) = (Chip::new(PAGES, seed), StdRng::seed_from_u64(seed));
        Life { chip, rng, judge: Judge::default(), next_badge: 1, looks: false, rules: PhantomData }
    }

    /// Acts until the power goes or the acts are over; sometimes starts again without a cut.
    fn live(mut self, acts: usize) -> Verdict<Self> {
        let power = self.chip.power();
        let mut left = acts;
        while left > 0 && !power.get() {
            let now = left.min(self.rng.random_range(20..80));
            left -= now;
            if self.looks {
                self.look_ahead()?;
            }
            self.one_boot(now)?;
        }
        Ok(self)
    }

    /// Three more cuts, then a last look.
    fn live_on(mut self, seed: u64) -> Verdict<Self> {
        let mut rng = StdRng::seed_from_u64(seed);
        self.looks = true;
        for _ in 0..MORE_CUTS {
            self.chip.power_up();
            let torn = Torn::ALL[rng.random_range(0..Torn::ALL.len())];
            // Half of the further cuts fall into the first steps after the start.
            let within = if rng.random_bool(0.5) { 12 } else { 150 };
            self.chip.cut_after(rng.random_range(0..within), torn);
            self = self.live(40)?;
        }
        self.chip.power_up();
        self.look_ahead()?;
        Ok(self)
    }

    fn one_boot(&mut self, acts: usize) -> Verdict<()> {
        let power = self.chip.power();
        let Life { chip, rng, judge, next_badge, .. } = self;
        let mut journal = match Journal::recover(Ring::<PAGE, PAGES, R>::new(chip)) {
            Ok(journal) => journal,
            Err(_) if power.get() => return Ok(()),
            Err(error) => return Err(format!("no start: {error:?}")),
        };
        judge.started(journal.standing())?;
        for _ in 0..acts {
            match rng.random_range(0..10) {
                0..=5 => {
                    let badge = *next_badge;
                    *next_badge += 1;
                    let kept = journal.append(&punch(badge));
                    match kept {
                        _ if power.get() => return Ok(()),
                        Ok(seq) => judge.kept(seq, badge)?,
                        Err(_) => judge.lost = journal.standing().lost,
                    }
                }
                6..=7 => {
                    let batch = journal.oldest(rng.random_range(1..7));
                    let count = batch.punches.len() as u32;
                    judge.shown(&batch)?;
                    if count > 0 && rng.random_bool(0.7) {
                        let through = Seq(batch.first.0 + rng.random_range(0..count));
                        judge.asked = through.0;
                        let released = !journal.commit(through).is_empty();
                        if !power.get() && released {
                            judge.released(through);
                        }
                    }
                }
                8 => journal.commit_lost(journal.standing().lost),
                _ => journal.tidy(),
            }
            if power.get() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// On a copy whose power stays: everything that was kept comes out, in order, and there is room again.
    fn look_ahead(&self) -> Verdict<()> {
        let mut chip = self.chip.copy();
        let mut judge = self.judge.clone();
        let mut journal =
            Journal::recover(Ring::<PAGE, PAGES, R>::new(&mut chip)).map_err(|error| format!("no start: {error:?}"))?;
        judge.started(journal.standing())?;
        loop {
            let batch = journal.oldest(6);
            judge.shown(&batch)?;
            let Some(last) = (batch.punches.len() as u32).checked_sub(1) else {
                // Numbers at the end whose place is torn: the gateway notes them as a gap and goes on behind them.
                journal.commit(Seq(batch.first.0 - 1));
                break;
            };
            let through = Seq(batch.first.0 + last);
            if journal.commit(through).is_empty() {
                return Err(format!("cannot release through {through:?}"));
            }
            judge.released(through);
        }
        if let Some((seq, _)) = judge.kept.first_key_value() {
            return Err(format!("punch {seq} was kept and does not come out"));
        }
        let seq = journal.append(&punch(0)).map_err(|error| format!("released, and no room: {error:?}"))?;
        judge.kept(seq, 0)
    }
}

fn punch(badge: u32) -> Punch {
    Punch { boot: BootId(1), at: UptimeMs(5), unix_ms: None, badge: Badge::Full(badge) }
}

/// Remembers what was said while the power was there.
#[derive(Clone, Debug, Default)]
struct Judge {
    /// Punches that were said to be kept and not released.
    kept: BTreeMap<u32, u32>,
    /// Every number that was given or shown, with its badge.
    known: BTreeMap<u32, u32>,
    /// The watermark lies between what was confirmed and what was asked for.
    confirmed: u32,
    asked: u32,
    boot: u32,
    lost: u32,
}

impl Judge {
    fn started(&mut self, found: Recovered) -> Verdict<()> {
        let Recovered { boot, released, next, lost, .. } = found;
        let highest = self.known.last_key_value().map_or(0, |(seq, _)| *seq);
        if boot.0 <= self.boot {
            return Err(format!("{boot:?} after boot {}", self.boot));
        }
        if released.0 < self.confirmed || released.0 > self.asked.max(self.confirmed) {
            return Err(format!("{released:?}, confirmed {}, asked {}", self.confirmed, self.asked));
        }
        if next.0 <= highest {
            return Err(format!("next is {next:?} after {highest}"));
        }
        if lost < self.lost {
            return Err(format!("{lost} lost after {}", self.lost));
        }
        (self.boot, self.lost) = (boot.0, lost);
        self.released(released);
        Ok(())
    }

    fn kept(&mut self, seq: Seq, badge: u32) -> Verdict<()> {
        if let Some(earlier) = self.known.insert(seq.0, badge) {
            return Err(format!("{seq:?} given to badge {badge} after {earlier}"));
        }
        self.kept.insert(seq.0, badge);
        Ok(())
    }

    fn shown(&mut self, batch: &Batch) -> Verdict<()> {
        let numbers = batch.first.0..;
        for (seq, punch) in numbers.zip(&batch.punches) {
            let Badge::Full(badge) = punch.badge else { return Err(format!("{seq} is {punch:?}")) };
            let known = *self.known.entry(seq).or_insert(badge);
            if known != badge {
                return Err(format!("{seq} is badge {badge}, was {known}"));
            }
        }
        match self.kept.range(..batch.first.0).next() {
            Some((missing, _)) => Err(format!("punch {missing} was kept; the oldest is {:?}", batch.first)),
            None => Ok(()),
        }
    }

    fn released(&mut self, through: Seq) {
        self.confirmed = self.confirmed.max(through.0);
        self.kept.retain(|seq, _| *seq > through.0);
    }
}
