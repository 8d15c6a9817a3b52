//! The oracle: opens a data directory with the gateway's own code and says what is wrong with it.
//!
//! Every promise is kept, nothing is altered or doubled, the chain verifies, more can be stored, a second opening agrees
//! with the first, and a third one that has lost its view agrees with the second.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gateway::clock::Clock;
use gateway::punch::{Fact, GapKind, PhotoHash, Seq};
use gateway::store::ledger::check::{Finding, Wrong as Finds};
use gateway::store::{Appended, Store, View, verify};
use serde::{Deserialize, Serialize};

use super::expected::{Expected, Line, lines};
use super::facts::{self, TRIAL};
use super::portrait::{Portrait, difference, portrait};
use super::workload::{append, begins};

/// Kinds of what can be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Wrong {
    NotOpened,
    /// A promise is broken.
    Lost,
    /// A fact says something else than it did.
    Altered,
    /// A punch is there twice.
    Doubled,
    /// New facts are not taken.
    Refused,
    /// The chain does not verify.
    Unsound,
    /// Two openings do not agree.
    Disagrees,
    /// Damage is not named.
    Unnamed,
    Panicked,
    /// No verdict in time.
    TimedOut,
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wrong::NotOpened => "not opened",
            Wrong::Lost => "lost",
            Wrong::Altered => "altered",
            Wrong::Doubled => "doubled",
            Wrong::Refused => "refused",
            Wrong::Unsound => "unsound",
            Wrong::Disagrees => "disagrees",
            Wrong::Unnamed => "unnamed",
            Wrong::Panicked => "panicked",
            Wrong::TimedOut => "timed out",
        })
    }
}

/// What was found. No faults: the store has kept its word.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Verdict {
    pub faults: Vec<(Wrong, String)>,
    /// The view was moved aside and built again.
    pub view_rebuilt: bool,
    /// Panics inside sled, which the store has caught.
    pub caught: Vec<String>,
    /// What the store has logged, from warnings on.
    pub log: String,
    /// The slowest opening, in milliseconds.
    pub opening_ms: u64,
}

/// Facts in one append of a redelivery.
const AT_ONCE: usize = 64;
/// New punches with which a directory is tried.
const NEW: u32 = 5;
/// No punch was on its way that is further from the last one promised.
const IN_FLIGHT: u32 = 48;
/// How long damage may take to be named: a report that is refused is given again after 5 s.
const NAMING: Duration = Duration::from_secs(12);
const NAMING_PAUSE: Duration = Duration::from_millis(20);

/// Judges a directory. It is changed by this.
pub fn judge(dir: &Path, expected: &Expected) -> Verdict {
    let mut judge = Judge { dir: dir.to_owned(), expected, verdict: Verdict::default() };
    let aside = judge.views_aside();
    let outcome = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(judge.hear()),
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        judge.wrong(Wrong::NotOpened, error);
    }
    judge.verdict.view_rebuilt = judge.views_aside() > aside;
    judge.verdict
}

struct Judge<'e> {
    dir: PathBuf,
    expected: &'e Expected,
    verdict: Verdict,
}

impl Judge<'_> {
    fn wrong(&mut self, wrong: Wrong, detail: impl fmt::Display) {
        self.verdict.faults.push((wrong, detail.to_string()));
    }

    fn views_aside(&self) -> usize {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("view.bad-")).count()
    }

    fn open(&mut self) -> io::Result<Store> {
        let watch = Clock::system();
        let began = watch.instant();
        let clock = Clock::manual(begins(self.expected.lives));
        let opened = Store::open(facts::options(&self.dir), clock).map_err(io::Error::other);
        let took = (watch.instant() - began).as_millis() as u64;
        self.verdict.opening_ms = self.verdict.opening_ms.max(took);
        opened
    }

    async fn hear(&mut self) -> io::Result<()> {
        let store = self.open()?;
        self.redeliver(&store).await;
        let first = store.read(portrait).await;
        self.compare_punches(&store).await;
        self.compare_photos(&store).await;
        store.close().await;
        self.compare_ledger()?;

        let aside = self.views_aside();
        let store = self.open()?;
        let second = store.read(portrait).await;
        // A view may remember what damage has taken from the ledger; one that is built again cannot.
        if self.expected.lost.is_empty() || self.views_aside() == aside {
            self.agree("the second opening", &first, &second);
        }
        self.store_more(&store).await;
        self.wait_until_named(&store).await;
        let second = store.read(portrait).await;
        store.close().await;
        self.check_chain()?;
        self.find_doubled(&lines(&self.dir)?);

        fs::remove_dir_all(self.dir.join("view"))?;
        let store = self.open()?;
        let third = store.read(portrait).await;
        if self.expected.lost.is_empty() {
            self.agree("a view built again", &second, &third);
        }
        self.compare_punches(&store).await;
        store.close().await;
        Ok(())
    }

    fn agree(&mut self, who: &str, before: &Portrait, after: &Portrait) {
        if let Some(difference) = difference(before, after) {
            self.wrong(Wrong::Disagrees, format!("{who}: {difference}"));
        }
    }

    /// The terminals have not heard the acknowledgement: every punch comes once more.
    async fn redeliver(&mut self, store: &Store) {
        let punches: Vec<(u32, u64)> = self.expected.punches().into_iter().collect();
        for chunk in punches.chunks(AT_ONCE) {
            let facts = chunk.iter().map(|(n, _)| Fact::Punch(facts::punch(*n))).collect();
            match append(store, facts).await {
                Err(error) => self.wrong(Wrong::Refused, error),
                Ok(places) => chunk.iter().zip(places).for_each(|(promised, place)| self.same_place(*promised, place)),
            }
        }
    }

    fn same_place(&mut self, (n, seq): (u32, u64), place: Appended) {
        if place.new {
            self.wrong(Wrong::Lost, format!("punch {n}, fact {seq}, is not known when it comes again"));
        } else if place.seq != Seq(seq) {
            self.wrong(Wrong::Altered, format!("punch {n} was fact {seq} and is fact {}", place.seq));
        }
    }

    /// Every promised punch is told as it was sent.
    async fn compare_punches(&mut self, store: &Store) {
        let punches = self.expected.punches();
        let wrong = store.read(move |view| {
            let judged = punches.into_iter().filter_map(|(n, seq)| {
                let sent = facts::punch(n);
                match view.story(sent.id) {
                    None => Some((Wrong::Lost, format!("punch {n}, fact {seq}"))),
                    Some(story) if story.punch != sent || story.row.seq != Seq(seq) => {
                        Some((Wrong::Altered, format!("punch {n}, fact {seq}: {story:?}")))
                    }
                    Some(_) => None,
                }
            });
            judged.collect::<Vec<_>>()
        });
        self.verdict.faults.extend(wrong.await);
    }

    async fn compare_photos(&mut self, store: &Store) {
        for n in self.expected.photos() {
            let sent = facts::photo(n);
            match store.photo(PhotoHash::of(&sent)).await {
                Ok(Some(bytes)) if bytes == sent => {}
                Ok(Some(_)) => self.wrong(Wrong::Altered, format!("the photo of punch {n}")),
                Ok(None) => self.wrong(Wrong::Lost, format!("the photo of punch {n}")),
                Err(error) => self.wrong(Wrong::Lost, format!("the photo of punch {n}: {error}")),
            }
        }
        for n in self.expected.lost_photos.clone() {
            let sent = facts::photo(n);
            if let Ok(Some(bytes)) = store.photo(PhotoHash::of(&sent)).await
                && bytes != sent
            {
                self.wrong(Wrong::Unnamed, format!("the photo of punch {n} is damaged and is given out"));
            }
        }
    }

    /// The ledger says of every fact what it said before, and none is missing.
    fn compare_ledger(&mut self) -> io::Result<()> {
        self.check_chain()?;
        let found = lines(&self.dir)?;
        for seq in self.expected.facts().iter().filter(|seq| !found.contains_key(seq)) {
            self.wrong(Wrong::Lost, format!("fact {seq}"));
        }
        for (seq, line) in found.iter().filter(|(_, line)| line.kind != "gap") {
            match self.expected.lines.get(seq) {
                Some(before) if before == line => {}
                Some(before) => self.wrong(Wrong::Altered, format!("fact {seq} is {line:?} and was {before:?}")),
                None => self.wrong(Wrong::Altered, format!("fact {seq} is {line:?} and was never stored")),
            }
        }
        self.find_doubled(&found);
        Ok(())
    }

    fn find_doubled(&mut self, found: &BTreeMap<u64, Line>) {
        let mut punches = BTreeMap::new();
        for (seq, id) in found.iter().filter_map(|(seq, line)| Some((seq, line.punch.as_deref()?))) {
            if let Some(before) = punches.insert(id, seq) {
                self.wrong(Wrong::Doubled, format!("punch {id} is fact {before} and fact {seq}"));
            }
        }
    }

    /// The chain verifies, except for what was damaged.
    fn check_chain(&mut self) -> io::Result<()> {
        let report = verify(&self.dir.join("ledger"))?;
        let promised = self.expected.facts();
        let is_known = |finding: &Finding| {
            let mut facts = finding.first..=finding.last;
            match finding.wrong {
                Finds::Interrupted => !facts.any(|seq| promised.contains(&seq)),
                Finds::Damaged | Finds::Removed => {
                    self.expected.is_damaged && facts.all(|seq| self.expected.lost.contains(&seq))
                }
                Finds::SegmentHead => self.expected.is_damaged,
                Finds::Changed | Finds::Added | Finds::Moved | Finds::HeadForged | Finds::HeadBroken => false,
            }
        };
        let surprising: Vec<String> =
            report.findings.iter().filter(|finding| !is_known(finding)).map(|finding| finding.to_string()).collect();
        if !surprising.is_empty() {
            self.wrong(Wrong::Unsound, surprising.join("; "));
        }
        if let Some(end) = report.open_end {
            self.wrong(Wrong::Unsound, format!("a closed store ends with {end:?}"));
        }
        Ok(())
    }

    /// What was on its way when the power went comes again, and new punches come.
    async fn store_more(&mut self, store: &Store) {
        let known = self.expected.punches();
        let next = known.last_key_value().map_or(0, |(n, _)| n + 1);
        let on_their_way = (next.saturating_sub(IN_FLIGHT)..next + IN_FLIGHT).filter(|n| !known.contains_key(n));
        let numbers: Vec<u32> = on_their_way.chain(TRIAL..TRIAL + NEW).collect();
        let facts = numbers.iter().flat_map(|n| [Fact::Punch(facts::punch(*n)), facts::judgement(*n)]).collect();
        match append(store, facts).await {
            Ok(places) => store.applied(places.iter().map(|place| place.seq).max().unwrap_or_default()).await,
            Err(error) => return self.wrong(Wrong::Refused, error),
        }
        if let Err(error) = store.put_photo(facts::photo(TRIAL).into()).await {
            self.wrong(Wrong::Refused, error);
        }
        let absent = move |view: &View| -> Vec<u32> {
            numbers.into_iter().filter(|n| view.punch(facts::punch(*n).id).is_none()).collect()
        };
        let missing = store.read(absent).await;
        if !missing.is_empty() {
            self.wrong(Wrong::Refused, format!("punches {missing:?} were taken and are not shown"));
        }
    }

    async fn wait_until_named(&mut self, store: &Store) {
        let lost = &self.expected.lost;
        let must_be_named: BTreeSet<u64> = lost.difference(&self.expected.unwitnessed).copied().collect();
        let look = || store.read(|view| named(&view.gaps(usize::MAX)));
        let found = tokio::time::timeout(NAMING, async {
            while !look().await.is_superset(&must_be_named) {
                tokio::time::sleep(NAMING_PAUSE).await;
            }
        });
        let in_time = found.await.is_ok();
        let named = look().await;
        if !in_time || !named.is_subset(lost) {
            let (missing, too_many): (Vec<_>, Vec<_>) =
                (must_be_named.difference(&named).collect(), named.difference(lost).collect());
            self.wrong(Wrong::Unnamed, format!("lost and not named: {missing:?}; named and not lost: {too_many:?}"));
        }
    }
}

/// The facts that reports of damage name: `fact 9 …` or `facts 9 to 12 …`.
fn named(gaps: &[(Seq, gateway::punch::Gap)]) -> BTreeSet<u64> {
    let details = gaps.iter().filter(|(_, gap)| gap.kind == GapKind::StoreDamage && gap.count.is_some());
    details.flat_map(|(_, gap)| facts_in(&gap.detail)).collect()
}

fn facts_in(detail: &str) -> BTreeSet<u64> {
    let mut words = detail.split(' ').skip_while(|word| !["fact", "facts"].contains(word)).skip(1);
    let first = words.next().and_then(|word| word.parse::<u64>().ok());
    let last = words.next().filter(|word| *word == "to").and_then(|_| words.next()).and_then(|word| word.parse().ok());
    let range = first.map(|first| first..=last.unwrap_or(first));
    range.into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_facts_that_a_report_names_are_read_from_it() {
        let named = |detail| facts_in(detail).into_iter().collect::<Vec<u64>>();
        assert_eq!(named("segment 3, offset 96: fact 9 damaged"), [9]);
        assert_eq!(named("segment 3, offset 96: facts 9 to 11 removed"), [9, 10, 11]);
        assert_eq!(named("segment 3: facts 7 to 8 were in the ledger and are not any more"), [7, 8]);
        assert_eq!(named("segment 3, offset 0: the head of the segment is damaged"), [0; 0]);
    }
}
